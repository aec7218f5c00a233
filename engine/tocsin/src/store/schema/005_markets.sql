-- What market watchers know, under the names that source and request have in docs/markets-exchanges.md; `record` and
-- `event` are JSON.
CREATE TABLE market_books (
    source  TEXT NOT NULL,
    request TEXT NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (source, request)
) STRICT, WITHOUT ROWID;

CREATE TABLE market_instruments (
    source  TEXT NOT NULL,
    request TEXT NOT NULL,
    symbol  TEXT NOT NULL,
    record  TEXT NOT NULL,
    PRIMARY KEY (source, request, symbol)
) STRICT, WITHOUT ROWID;

-- `id` is what makes an event this one and no other.
CREATE TABLE market_events (
    id          TEXT    NOT NULL PRIMARY KEY,
    received_us INTEGER NOT NULL,
    event       TEXT    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX market_events_by_time ON market_events (received_us);
