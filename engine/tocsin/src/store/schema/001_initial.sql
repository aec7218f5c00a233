-- Times are microseconds since the UNIX epoch. Text lists are space-separated (no name or ticker
-- holds white space); a market is base/quote as two words.

CREATE TABLE meta (
    name  TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO meta (name, value) VALUES ('epoch', 0);

CREATE TABLE install (
    id BLOB NOT NULL CHECK (length(id) = 16)
) STRICT;
INSERT INTO install (id) VALUES (randomblob(16));

-- AUTOINCREMENT: the number of a deleted key is never given again.
CREATE TABLE keys (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    hash            BLOB    NOT NULL UNIQUE CHECK (length(hash) = 32),
    label           TEXT    NOT NULL,
    tier            TEXT    NOT NULL,
    max_connections INTEGER NOT NULL,
    allowed         TEXT    NOT NULL,
    created_us      INTEGER NOT NULL,
    expires_us      INTEGER,
    revoked_us      INTEGER,
    delay_ms        INTEGER NOT NULL,
    redact          INTEGER NOT NULL
) STRICT;

CREATE TABLE announcements (
    epoch         INTEGER NOT NULL,
    seq           INTEGER NOT NULL,
    id            TEXT    NOT NULL,
    exchange      TEXT    NOT NULL,
    title         TEXT    NOT NULL,
    listing_type  TEXT    NOT NULL,
    tickers       TEXT    NOT NULL,
    markets       TEXT    NOT NULL,
    rule          TEXT    NOT NULL,
    confidence    INTEGER NOT NULL,
    lang          TEXT    NOT NULL,
    action        TEXT    NOT NULL,
    late          INTEGER NOT NULL,
    url           TEXT    NOT NULL,
    notice_id     TEXT    NOT NULL,
    source        TEXT    NOT NULL,
    published_us  INTEGER NOT NULL,
    received_us   INTEGER NOT NULL,
    detected_us   INTEGER NOT NULL,
    classified_us INTEGER NOT NULL,
    effective_us  INTEGER,
    dispatched_us INTEGER,
    PRIMARY KEY (epoch, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX announcements_by_exchange ON announcements (exchange, epoch, seq);
CREATE INDEX announcements_by_id ON announcements (id);

-- The rowid tells the order of arrival, by which old ones are forgotten.
CREATE TABLE seen (
    source       TEXT    NOT NULL,
    notice_id    TEXT    NOT NULL,
    title        TEXT    NOT NULL,
    fingerprint  INTEGER NOT NULL,
    published_us INTEGER NOT NULL,
    PRIMARY KEY (source, notice_id)
) STRICT;

CREATE TABLE source_lists (
    source         TEXT    NOT NULL,
    list           TEXT    NOT NULL,
    first_start_us INTEGER NOT NULL,
    baselined_us   INTEGER,
    PRIMARY KEY (source, list)
) STRICT, WITHOUT ROWID;
