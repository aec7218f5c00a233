-- Times are microseconds since the UNIX epoch.

-- Tells whether the key file is the one under which secrets here are sealed; at most one row.
CREATE TABLE webhook_key (
    mark BLOB NOT NULL CHECK (length(mark) = 16)
) STRICT;

-- AUTOINCREMENT here and below: the number of what is deleted is never given again.
-- registrations: the last ones, oldest first, 8 bytes each, little-endian.
CREATE TABLE accounts (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL,
    email         TEXT    NOT NULL,
    plan          TEXT    NOT NULL,
    token_hash    BLOB    NOT NULL UNIQUE CHECK (length(token_hash) = 32),
    created_us    INTEGER NOT NULL,
    test_day      INTEGER NOT NULL DEFAULT 0,
    tests_taken   INTEGER NOT NULL DEFAULT 0,
    registrations BLOB    NOT NULL DEFAULT x''
) STRICT;

-- Lists of names are separated by commas; * is all of them. Secrets are sealed.
CREATE TABLE endpoints (
    id                INTEGER PRIMARY KEY AUTOINCREMENT,
    account           INTEGER NOT NULL REFERENCES accounts (id),
    label             TEXT    NOT NULL,
    url               TEXT    NOT NULL,
    kinds             TEXT    NOT NULL,
    exchanges         TEXT    NOT NULL,
    created_us        INTEGER NOT NULL,
    verified_us       INTEGER,
    state             TEXT    NOT NULL,
    since_us          INTEGER NOT NULL,
    failures          INTEGER NOT NULL,
    slow              INTEGER NOT NULL,
    secret            BLOB    NOT NULL,
    previous_secret   BLOB,
    previous_until_us INTEGER
) STRICT;
CREATE INDEX endpoints_by_account ON endpoints (account, id);

-- recipients: to which endpoints the event was offered, as runs of numbers. concluded: a bit for each
-- of them, least significant first, set when nothing more is sent; empty when all are set.
-- open: how many are not. identity: what stays the same when an exchange moves the notice's time.
CREATE TABLE events (
    number     INTEGER PRIMARY KEY,
    id         TEXT    NOT NULL UNIQUE,
    identity   TEXT    NOT NULL,
    kind       TEXT    NOT NULL,
    exchange   TEXT,
    created_us INTEGER NOT NULL,
    late       INTEGER NOT NULL,
    open       INTEGER NOT NULL,
    recipients BLOB    NOT NULL,
    concluded  BLOB    NOT NULL,
    body       BLOB    NOT NULL
) STRICT;
CREATE INDEX events_by_identity ON events (identity);
CREATE INDEX events_open ON events (number) WHERE open > 0;

-- Deliveries that wait for a retry, or that their endpoint's owner asked for: the others are a bit in
-- events. By event first: the outcomes of one event come together. asked: 0 no, 1 while the service
-- ran, 2 while none ran.
CREATE TABLE deliveries (
    event    INTEGER NOT NULL,
    endpoint INTEGER NOT NULL,
    attempt  INTEGER NOT NULL,
    due_us   INTEGER,
    asked    INTEGER NOT NULL,
    PRIMARY KEY (event, endpoint)
) STRICT, WITHOUT ROWID;

-- The delivery log: a ring an endpoint. line only grows; a row lies at slot line % the ring's size.
CREATE TABLE attempts (
    endpoint      INTEGER NOT NULL,
    slot          INTEGER NOT NULL,
    line          INTEGER NOT NULL,
    event         TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    purpose       TEXT    NOT NULL,
    attempt       INTEGER NOT NULL,
    started_us    INTEGER NOT NULL,
    status        INTEGER,
    class         TEXT,
    took_us       INTEGER NOT NULL,
    queue_us      INTEGER NOT NULL,
    dns_us        INTEGER,
    tcp_us        INTEGER,
    tls_us        INTEGER,
    write_us      INTEGER,
    first_byte_us INTEGER,
    address       TEXT,
    detail        TEXT,
    next_us       INTEGER,
    PRIMARY KEY (endpoint, slot)
) STRICT, WITHOUT ROWID;

-- The URL is copied: the mail outlives its endpoint.
CREATE TABLE outbox (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    account       INTEGER NOT NULL REFERENCES accounts (id),
    endpoint      INTEGER NOT NULL,
    url           TEXT    NOT NULL,
    kind          TEXT    NOT NULL,
    detail        TEXT    NOT NULL,
    at_us         INTEGER NOT NULL,
    not_before_us INTEGER NOT NULL,
    tries         INTEGER NOT NULL DEFAULT 0,
    sent_us       INTEGER,
    given_up      INTEGER NOT NULL DEFAULT 0
) STRICT;
CREATE INDEX outbox_waiting ON outbox (not_before_us) WHERE sent_us IS NULL AND given_up = 0;
