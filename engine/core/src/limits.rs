//! Every bound of the engine in one file, with relations between them asserted at compile time.
//!
//! A bound that the specification fixes cites its sentence; the others say why that number. A
//! limit an operator may change lives in the configuration, with its default here.

use core::time::Duration;

// ---- Announcements -------------------------------------------------------------------------

/// Longest title kept, in bytes of UTF-8; longer ones are cut at a character.
pub const TITLE_BYTES: usize = 1_024;
/// Longest ticker, in bytes of UTF-8.
pub const TICKER_BYTES: usize = 32;
/// Most tickers read out of one title.
pub const TICKERS_PER_ANNOUNCEMENT: usize = 32;
/// Most markets read out of one title: pairs, or every ticker with every quote.
pub const MARKETS_PER_ANNOUNCEMENT: usize = 96;
/// Longest notice address.
pub const URL_BYTES: usize = 512;
/// Longest source item identifier.
pub const NOTICE_ID_BYTES: usize = 96;
/// Longest name an exchange may have for an instrument (`MOODENG-USD_UM_XPERP-310815` has 27).
pub const SYMBOL_BYTES: usize = 64;

// ---- Feed: the specification's "Connection limits" and "Client message limits" ---------------

/// "Per-IP concurrent connections: 20".
pub const IP_CONNECTIONS: u32 = 20;
/// "Per-IP connection rate: 10 / minute, sliding window".
pub const IP_CONNECTS_PER_MINUTE: u32 = 10;
/// "Message rate: 3 / minute, per connection".
pub const CLIENT_MESSAGES_PER_MINUTE: usize = 3;
/// The minute of [`CLIENT_MESSAGES_PER_MINUTE`], sliding.
pub const CLIENT_MESSAGES_WINDOW: Duration = Duration::from_secs(60);
/// "Max frame size: 1 KB, per frame": a payload of exactly this many bytes is allowed.
pub const CLIENT_FRAME_BYTES: usize = 1_024;
/// "Test requests: 1 / minute per API key".
pub const TEST_REQUEST_PERIOD: Duration = Duration::from_secs(60);
/// "You fell 10+ messages behind (lagging consumer)".
pub const LAG_MESSAGES: u64 = 10;
/// "The server sends a JSON heartbeat message every 30 seconds."
pub const HEARTBEAT_PERIOD: Duration = Duration::from_secs(30);
/// A client's patience: "If you receive nothing for 35 seconds, assume the connection is dead".
pub const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(35);
/// "the server sends WebSocket PING frames every 15 seconds".
pub const PING_PERIOD: Duration = Duration::from_secs(15);
/// "If the server receives no PONG within 30 seconds, it closes your connection."
pub const PONG_TIMEOUT: Duration = Duration::from_secs(30);
/// "Invalid keys are cached server-side for 30 seconds".
pub const INVALID_KEY_MEMORY: Duration = Duration::from_secs(30);
/// Invalid keys remembered at most; the oldest is forgotten first.
pub const INVALID_KEYS_REMEMBERED: usize = 65_536;
/// Failed authentications a minute before an address is refused for the rest of it.
pub const AUTH_FAILURES_PER_MINUTE: u32 = 10;
/// Control frames a client may send in [`CONTROL_FRAMES_WINDOW`].
pub const CONTROL_FRAMES: usize = 30;
/// See [`CONTROL_FRAMES`].
pub const CONTROL_FRAMES_WINDOW: Duration = Duration::from_secs(10);
/// Most tickers in one `tickers=` filter.
pub const FILTER_TICKERS: usize = 64;
/// Longest per-key delay.
pub const KEY_DELAY: Duration = Duration::from_secs(600);
/// Announcements kept in memory for `?resume=` and `GET /v1/announcements`.
pub const HISTORY_IN_MEMORY: usize = 4_096;
/// Unfinished frames without payload in one message: they bring it no nearer to its end, so nothing
/// else would stop a peer from sending them for ever.
pub const EMPTY_FRAGMENTS: u8 = 64;
/// Bytes of the ring that holds framed announcements; the oldest are evicted first, and a subscriber
/// that still needs them is too slow.
pub const FRAME_LOG_BYTES: usize = 1_024 * 1_024;
/// Announcements in that ring at most.
pub const FRAME_LOG_ENTRIES: usize = 512;
/// Bytes waiting for one subscriber outside that ring (answers, greeting) at most; one that lets more
/// pile up is too slow.
pub const PRIVATE_QUEUE_BYTES: usize = 16 * 1_024;
/// Announcements one turn replays to one subscriber at most.
pub const REPLAY_SLICE: usize = 16;
/// Slots one turn visits at most for a revocation, a moved expiry or a source's state.
pub const SWEEP_SLOTS: usize = 256;
/// Slots one turn looks at most for who asks about subscribers: some microseconds.
pub const LOOK_SLOTS: u32 = 32;
/// Sweeps that wait for their turn at most; beyond it the oldest is finished at once.
pub const SWEEPS: usize = 256;
/// How long an announcement waits for one with a smaller sequence number. A source thread needs
/// microseconds from taking the number to the ring; on a machine that shares its cores the scheduler
/// may take it off one in between, for several slices of some milliseconds. A subscriber that was
/// told out of order and comes back to another writer would resume past what it has not got.
pub const ORDER_PATIENCE: Duration = Duration::from_millis(50);
/// Announcements that wait for a smaller sequence number at most; beyond it the gap is skipped.
pub const ORDER_BUFFER: usize = 64;
/// Sources whose state a feed writer remembers; reports of further ones are not passed on.
pub const SOURCES_REPORTED: usize = 64;
/// Announcements that leave together at most, each subscriber's in one write, when so many wait at
/// once. Fewer than [`LAG_MESSAGES`]: who had everything before is never too slow for such a write.
pub const BURST: usize = 8;
/// Bytes of such a write at most, and of any other that gathers frames, unless one frame is larger.
pub const GATHER_BYTES: usize = 16 * 1_024;
/// A closed connection's peer has this long to answer the close frame.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

// ---- Handshake -------------------------------------------------------------------------------

/// From accept to the end of the request head, TLS included.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest request head.
pub const HANDSHAKE_HEAD_BYTES: usize = 8 * 1_024;
/// Most request headers.
pub const HANDSHAKE_HEADERS: usize = 64;
/// Handshakes in progress at most; beyond it the listener waits.
pub const HANDSHAKES_IN_PROGRESS: usize = 1_024;
/// Handshakes in progress of one address at most (exempt ones and trusted proxies are not counted);
/// further connections of it are dropped. More than it may hold sessions, so that nobody meets it
/// who behaves. As places become few it shrinks to a part of those left, so that some are left
/// however many places a few dozen addresses ask for.
pub const HANDSHAKES_PER_ADDRESS: u32 = 64;
/// One address gets no more handshakes than one in so many of the places left.
pub const HANDSHAKE_PLACES_PER_SHARE: usize = 15;
/// But always so many.
pub const HANDSHAKES_PER_ADDRESS_AT_LEAST: u32 = 2;
/// Bytes taken after a request head before the session is handed over; the writer reads the rest.
pub const EARLY_BYTES: usize = 4 * 1_024;
/// From a refusal or answer to its last byte taken by the socket.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// After an answer the peer has this long to close, so that a reset does not destroy it.
pub const LINGER_TIMEOUT: Duration = Duration::from_secs(1);
/// Bytes read and dropped after an answer.
pub const LINGER_BYTES: usize = 64 * 1_024;
/// Longest PROXY protocol header, extensions included.
pub const PROXY_HEADER_BYTES: usize = 1_024;
/// Addresses tracked for limits at most; beyond it idle ones are forgotten first.
pub const ADDRESSES_TRACKED: usize = 65_536;
/// Longest `ignoredCex` in a welcome; names beyond it are left out.
pub const IGNORED_CEX_BYTES: usize = 256;
/// Announcements in one answer of `GET /v1/announcements`, when not asked otherwise.
pub const HISTORY_QUERY_DEFAULT: usize = 100;
/// Most announcements in one answer.
pub const HISTORY_QUERY_LIMIT: usize = 500;
/// An answer ends at the announcement that passes this size; `next` says where to go on.
pub const HISTORY_BODY_BYTES: usize = 256 * 1_024;
/// History queries of one address a minute: the whole memory, twice.
pub const HISTORY_QUERIES_PER_MINUTE: u32 = 60;

// ---- Exchange responses ----------------------------------------------------------------------

/// Longest response head accepted from an exchange.
pub const RESPONSE_HEAD_BYTES: usize = 16 * 1_024;
/// Most response headers accepted.
pub const RESPONSE_HEADERS: usize = 96;
/// Longest response body accepted from an exchange.
pub const RESPONSE_BODY_BYTES: usize = 2 * 1_024 * 1_024;
/// Parser buffers start at this size: several times a usual answer.
pub const USUAL_BODY_BYTES: usize = 32 * 1_024;
/// Most interim (1xx) responses before the final one.
pub const RESPONSE_INTERIM: u8 = 8;
/// Most bytes of chunk extensions and trailers in one response; both are skipped.
pub const RESPONSE_CHUNK_EXTRA_BYTES: usize = 8 * 1_024;
/// Longest entity tag kept; a longer one is not repeated to the server.
pub const ETAG_BYTES: usize = 256;
/// Longest request head Tocsin sends.
pub const REQUEST_HEAD_BYTES: usize = 8 * 1_024;
/// Longest `Retry-After` obeyed; a longer one is cut to this.
pub const RETRY_AFTER: Duration = Duration::from_secs(15 * 60);
/// The same with 418, which exchanges send to a banned address for up to days.
pub const RETRY_AFTER_BANNED: Duration = Duration::from_secs(24 * 3_600);
/// Addresses kept of one host name; more are ignored.
pub const DNS_ADDRESSES: usize = 16;
/// Questions one thread may have waiting at the resolver, and names it remembers; beyond, a question
/// is refused and asked again later.
pub const DNS_QUESTIONS: usize = 64;
/// A resolved name is answered from memory for so long.
pub const DNS_FRESH_FOR: Duration = Duration::from_secs(5);
/// A source asks for its host's addresses again after so long.
pub const DNS_REFRESH: Duration = Duration::from_secs(60);
/// Addresses raced by one dial.
pub const DIAL_CANDIDATES: usize = 6;
/// Head start of an address over the next.
pub const DIAL_STAGGER: Duration = Duration::from_millis(50);
/// From the first address tried to a connection.
pub const DIAL_TIMEOUT: Duration = Duration::from_secs(3);
/// From a TCP connection to the end of its TLS handshake.
pub const TLS_TIMEOUT: Duration = Duration::from_secs(3);
/// From a request sent to the last byte of its answer.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);
/// Longest silence within an answer that has begun.
pub const RESPONSE_STALL: Duration = Duration::from_secs(2);
/// A connection is given up so long before the idle limit its server names.
pub const IDLE_MARGIN: Duration = Duration::from_secs(2);
/// A connection to an exchange is replaced after so long, give or take a fifth.
pub const CONNECTION_AGE: Duration = Duration::from_secs(600);
/// A connection to an exchange is replaced after so many requests, give or take a fifth.
pub const CONNECTION_REQUESTS: u32 = 500;
/// Connections of one source, over all its local addresses.
pub const CONNECTIONS_PER_SOURCE: usize = 64;
/// Messages a source thread keeps waiting for room in one ring; further ones are dropped and counted.
pub const SOURCE_OUTBOX: usize = 8_192;
/// A source without a usable answer for so long, or for [`STALE_POLLS`] polls, is no longer live.
pub const STALE_AFTER: Duration = Duration::from_secs(15);
/// See [`STALE_AFTER`]; the longer of both counts.
pub const STALE_POLLS: u32 = 5;
/// However slow a source's budget, silence for so long is not live.
pub const STALE_AT_MOST: Duration = Duration::from_secs(600);
/// A source's state is reported to the feed at least this often.
pub const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// Most items read out of one response.
pub const ITEMS_PER_RESPONSE: usize = 512;
/// Longest answer accepted of an exchange's instruments or tickers: Binance's list of spot pairs has
/// more than 10 MB with the permission sets of each.
pub const MARKET_BODY_BYTES: usize = 32 * 1_024 * 1_024;
/// From a request for one of these to the last byte of its answer.
pub const MARKET_REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// Most rows read out of one such answer: several times the longest list there is. An answer with more
/// says nothing of what is absent from it.
pub const MARKET_ROWS: usize = 16_384;
/// Most questions one source of markets asks.
pub const REQUESTS_PER_MARKET: usize = 8;
/// Longest word an exchange may have for an instrument's state; a longer one is cut.
pub const STATE_WORD_BYTES: usize = 32;
/// Deepest nesting of arrays and objects accepted in a body.
pub const JSON_DEPTH: usize = 64;
/// Most lists of one source.
pub const LISTS_PER_SOURCE: usize = 8;
/// Earlier versions of an item remembered, so that a lagging cache cannot announce them again.
pub const VERSIONS_REMEMBERED: usize = 3;
/// Items a source remembers having seen; the longest unseen is forgotten first.
pub const SEEN_ITEMS: usize = 8_192;

// ---- Markets ----------------------------------------------------------------------------------

/// Instruments a request's book knows, those that are gone included: several times the longest list. At
/// the bound one that is gone makes room; where none is, a new one is not taken and counted.
pub const MARKET_INSTRUMENTS: usize = 8_192;
/// Notices, previews and openings of one exchange remembered; the oldest is forgotten first.
pub const MARKET_SIGNS: usize = 2_048;
/// The store learns at most this late when a request was last answered.
pub const MARKET_CHECKPOINT: Duration = Duration::from_secs(600);
/// Instruments of one request whose volume is watched; further ones are not, and counted.
pub const MARKET_VOLUMES: usize = 4_096;
/// Assets of one exchange whose price in dollars is remembered; further ones are not.
pub const MARKET_QUOTES: usize = 64;
/// Assets whose volume over all exchanges is told: about twice as many as there are. Beyond it the least
/// traded are left out.
pub const MARKET_ASSETS: usize = 16_384;
/// The assets of one `context` message at most, in bytes of JSON; their last markets are left out.
pub const EXTRA_BYTES: usize = 8 * 1_024;
/// Messages beside announcements that wait in a feed writer at most; beyond it the oldest that is not being
/// sent is dropped.
pub const EXTRAS_WAITING: usize = 64;
/// Market events stay in the store for so long.
pub const MARKET_EVENTS_KEPT: Duration = Duration::from_secs(90 * 86_400);
/// Most market events read from the store at once.
pub const MARKET_EVENTS_PER_QUERY: usize = 1_000;
/// Newest market events that a start looks through for some that webhooks had not heard of.
pub const MARKET_EVENTS_MADE_GOOD: usize = 256;

/// Events of one exchange whose identities are remembered, so that two requests that show one instrument
/// do not tell it twice; the oldest is forgotten first.
pub const MARKET_TOLD: usize = 512;
/// Markets told of one asset beside an announcement; those with the least volume are left out.
pub const CONTEXT_MARKETS: usize = 16;
/// The same over all assets of one announcement: some 12 KB. Each asset has at least one.
pub const CONTEXT_MARKETS_IN_ALL: usize = 96;

// ---- Push sources ------------------------------------------------------------------------------

/// Longest message accepted from a push source: Binance sends whole articles, of up to about 100 KB.
pub const STREAM_MESSAGE_BYTES: usize = 1_024 * 1_024;
/// What is read of the body of a refused upgrade.
pub const STREAM_REFUSAL_BYTES: usize = 2 * 1_024;
/// From an accepted upgrade to a live session.
pub const STREAM_GREETING: Duration = Duration::from_secs(10);
/// For so long a session and its successor are both live.
pub const STREAM_OVERLAP: Duration = Duration::from_secs(5);
/// After our close frame a server has this long for its own.
pub const STREAM_LEAVE: Duration = Duration::from_secs(2);
/// A session that was live for so long makes up for the failures before it.
pub const STREAM_STABLE: Duration = Duration::from_secs(60);
/// A session that the exchange ends after a given time is replaced so much before.
pub const STREAM_MARGIN: Duration = Duration::from_secs(3_600);
/// Longest key and longest secret of an exchange.
pub const CREDENTIAL_BYTES: usize = 512;

// ---- Webhooks: addresses and bodies ------------------------------------------------------------

/// "at most 2048 bytes": longest address of an endpoint.
pub const ENDPOINT_URL_BYTES: usize = 2_048;
/// Longest host name and label, of RFC 1035 2.3.4 less the dot of the root.
pub const HOST_NAME_BYTES: usize = 253;
/// See [`HOST_NAME_BYTES`].
pub const HOST_LABEL_BYTES: usize = 63;
/// Longest symbol of an event: a base and a quote.
pub const WEBHOOK_SYMBOL_BYTES: usize = 2 * TICKER_BYTES;
/// "Payload size: Max 64 KB", KB of 1,024 bytes.
pub const WEBHOOK_BODY_BYTES: usize = 65_536;
/// Spellings of the signature header.
pub const WEBHOOK_BRANDS: usize = 4;
/// Longest of the names those headers are made of.
pub const WEBHOOK_BRAND_BYTES: usize = 32;

// ---- Store ------------------------------------------------------------------------------------

/// Bytes of one source thread's shared-memory journal: over a thousand announcements of usual
/// length, hours of news, for a commit that takes milliseconds.
pub const SHM_JOURNAL_BYTES: usize = 1_024 * 1_024;
/// Longest encoded announcement the shared-memory journal takes.
pub const SHM_RECORD_BYTES: usize = 16 * 1_024;
/// Most source threads that have a shared-memory journal.
pub const SHM_JOURNALS: u16 = 64;
/// Seen items the store keeps per source; the oldest arrivals are forgotten first.
pub const SEEN_STORED: usize = 2 * SEEN_ITEMS;
/// API keys the store takes; admission keeps them all in memory.
pub const KEYS: usize = 100_000;
/// Longest note on a key, in bytes.
pub const KEY_LABEL_BYTES: usize = 256;
/// Most connections one key may be given.
pub const KEY_CONNECTIONS: u32 = 65_535;
/// Most announcements one history query answers.
pub const HISTORY_PER_QUERY: usize = 1_000;
/// Longest body the control plane takes.
pub const ADMIN_BODY_BYTES: usize = 16 * 1_024;
/// Rows of a list in one answer of the control plane.
pub const ADMIN_ROWS: usize = 1_000;
/// Subscribers listed in one answer at most.
pub const SUBSCRIBERS_LISTED: usize = 500;
/// Connections at one door of the control plane (socket, TCP); more wait.
pub const ADMIN_CONNECTIONS: usize = 64;
/// Sessions of browsers; beyond it the one that is idle longest ends.
pub const SESSIONS: usize = 4_096;
/// Sessions of the administrator, and of one account; beyond it the owner's idlest ends.
pub const SESSIONS_PER_OWNER: usize = 16;
/// A session that was not used for so long has ended.
pub const SESSION_IDLE: Duration = Duration::from_secs(3_600);
/// A session ends so long after it began, used or not.
pub const SESSION_LIFE: Duration = Duration::from_secs(12 * 3_600);
/// Sign-in codes that are good at a time; beyond it the oldest no longer is.
pub const SIGN_IN_CODES: usize = 256;
/// Of one owner.
pub const SIGN_IN_CODES_PER_OWNER: usize = 8;
/// A sign-in code is good for so long.
pub const SIGN_IN_CODE_LIFE: Duration = Duration::from_secs(600);
/// Wrong credentials one address may bring in a minute before it is asked to wait.
pub const SIGN_IN_FAILURES_PER_MINUTE: u32 = 10;
/// Failed sign-ins of all addresses in a minute before sign-in waits; tokens go on being taken.
pub const SIGN_IN_FAILURES_IN_ALL: u32 = 300;
/// Requests a second of one address, and of one account or the administrator, unless the operator says
/// otherwise (`admin.requests_per_second`).
pub const API_REQUESTS_PER_SECOND: u32 = 50;
/// So many seconds' worth of requests may come at once.
pub const API_BURST_SECS: u32 = 2;
/// Files of the dashboard a second for one address: several pages a second.
pub const DASHBOARD_FILES_PER_SECOND: u32 = 200;
/// So many of them at once: some thirty pages, of people behind one address.
pub const DASHBOARD_FILES_AT_ONCE: u32 = 1_000;
/// Addresses, and accounts, whose rate is remembered; beyond it those nearest to none give way.
pub const API_RATES: usize = 16_384;
/// Streams of live events at a time, over both doors; a further one is refused with 503.
pub const LIVE_STREAMS: usize = 24;
/// Live events that wait for a slow reader of a stream; older ones are lost to it, and it is told.
pub const LIVE_QUEUE: usize = 256;
/// Rows the journal thread commits in one transaction: a few milliseconds of disk.
pub const JOURNAL_ROWS_PER_COMMIT: usize = 1_024;
/// Rows the journal thread holds while the disk refuses them; beyond it they wait in the rings, and
/// announcements in shared memory.
pub const JOURNAL_BACKLOG: usize = 16_384;
/// Announcements committed before their dispatch was known, looked at again; the oldest is given
/// up first.
pub const JOURNAL_AWAITING_DISPATCH: usize = 1_024;
/// Distinct rule and source names read back from disk.
pub const INTERNED_NAMES: usize = 1_024;
/// Longest of them.
pub const INTERNED_NAME_BYTES: usize = 64;

/// Items of which a source remembers what they told; the one told longest ago is forgotten first.
pub const TOLD_ITEMS: usize = 8_192;
/// Pairs of listing type and ticker remembered of one item; further ones are not news.
pub const TOLD_PAIRS_PER_ITEM: usize = 2 * TICKERS_PER_ANNOUNCEMENT;
/// Sources and streams of one exchange that race; further ones are not started.
pub const RACE_PATHS: usize = 8;
/// Notices of one exchange that a race remembers. The one that came first is forgotten first:
/// a path that shows or edits it afterwards counts as the only one that has it.
pub const RACE_NOTICES: usize = 4_096;
/// Of these, at most so many from baselines when a race is loaded: announced ones go first.
pub const RACE_NOTICES_UNANNOUNCED: usize = RACE_NOTICES / 2;
/// Versions of one notice it remembers; an edit back to an older one is news again.
pub const RACE_VERSIONS: usize = 8;
/// Two paths that tell the same within so long mean the same notice.
pub const RACE_WINDOW: Duration = Duration::from_secs(600);
/// Two publish times so close are one: some paths cut them to seconds.
pub const RACE_SAME_MOMENT: Duration = Duration::from_secs(2);
/// Confirmations on weak evidence that one arrival may upset, one after another.
pub const RACE_UPSETS: usize = 4;

// ---- Webhooks: "Retry Policy", "Rate Limits", and the bounds of the dispatcher ------------------

/// "Retries: 6 per event": attempts, the first included.
pub const WEBHOOK_ATTEMPTS: u8 = 6;
/// "Timeout: 10 seconds", from the start of an attempt to the end of the response head.
pub const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest time added to a wait, so that the retries of one outage spread.
pub const WEBHOOK_JITTER: Duration = Duration::from_secs(60);
/// Longest `Retry-After` of a 429 obeyed.
pub const WEBHOOK_RETRY_AFTER: Duration = Duration::from_secs(12 * 3_600);
/// "Max endpoints: 5 per account".
pub const WEBHOOK_ENDPOINTS_PER_ACCOUNT: usize = 5;
/// Registrations of one account in any hour.
pub const WEBHOOK_REGISTRATIONS_PER_HOUR: usize = 10;
/// "Test events: 50 per day", per account, days in UTC.
pub const WEBHOOK_TESTS_PER_DAY: u8 = 50;
/// "Every 5 min to confirm endpoint is alive."
pub const WEBHOOK_PING_PERIOD: Duration = Duration::from_secs(300);
/// "3 consecutive endpoint failures" disable an endpoint.
pub const WEBHOOK_FAILURES: u8 = 3;
/// Timeouts in a row that suspend an endpoint.
pub const WEBHOOK_TIMEOUTS_IN_A_ROW: u8 = 5;
/// Attempts in the window of the timeout share before it can suspend.
pub const WEBHOOK_TIMEOUT_SHARE_ATTEMPTS: u32 = 10;
/// Attempts whose duration the P95 warning looks at.
pub const WEBHOOK_LATENCY_ATTEMPTS: usize = 100;
/// Fewest of them for a warning.
pub const WEBHOOK_LATENCY_ATTEMPTS_LEAST: usize = 20;
/// "P95 latency >5s triggers a dashboard warning."
pub const WEBHOOK_SLOW: Duration = Duration::from_secs(5);
/// The warning is over below this.
pub const WEBHOOK_NO_LONGER_SLOW: Duration = Duration::from_secs(4);
/// Attempts of one endpoint in flight.
pub const WEBHOOK_IN_FLIGHT: u16 = 8;
/// How many of them may be retries: the others are kept for first attempts.
pub const WEBHOOK_RETRIES_IN_FLIGHT: u16 = 6;
/// Idle connections kept to one endpoint.
pub const WEBHOOK_WARM_CONNECTIONS: u16 = 2;
/// First attempts an endpoint may always have in flight, whatever the others do.
pub const WEBHOOK_IN_FLIGHT_ASSURED: u16 = 2;
/// Deliveries in flight to an endpoint that gives no sign of life: each one more costs a connection and
/// a handshake that those who answer would pay for.
pub const WEBHOOK_IN_FLIGHT_SILENT: u16 = 2;
/// With deliveries in flight and none answered for so long, an endpoint is silent.
pub const WEBHOOK_SILENCE: Duration = Duration::from_millis(500);
/// Attempts of all endpoints in flight, unless the operator says otherwise.
pub const WEBHOOK_IN_FLIGHT_TOTAL: usize = 4_096;
/// Endpoints the dispatcher takes.
pub const WEBHOOK_ENDPOINTS: usize = 10_000;
/// Deliveries of one endpoint that wait or are in flight; beyond it its oldest waiting event gives
/// way, which the customer can replay.
pub const WEBHOOK_PENDING_PER_ENDPOINT: usize = 1_000_000;
/// The same over all endpoints; beyond it the endpoint with the longest queue gives way.
pub const WEBHOOK_PENDING: usize = 2_000_000;
/// A listing or delisting that has waited longer than this is no news: it expires unsent.
pub const WEBHOOK_LISTING_FRESH: Duration = Duration::from_secs(15 * 60);
/// The same for previews and volume spikes.
pub const WEBHOOK_PREVIEW_FRESH: Duration = Duration::from_secs(60);
/// A retry kept back for so long past its time, its endpoint being away, expires: the longest step.
pub const WEBHOOK_RETRY_OVERDUE: Duration = Duration::from_secs(6 * 3_600);
/// Retries overdue at the start leave over this long.
pub const WEBHOOK_RECOVERY_SPREAD: Duration = Duration::from_secs(60);

/// Between two looks at a receiver's warm connections and the addresses of its name, where these are
/// fresh longer: "Re-resolve every 5 to 60 s".
pub const WEBHOOK_RESOLVE_AGAIN: Duration = Duration::from_secs(60);
/// At a start warm connections are made one endpoint after another, so far apart.
pub const WEBHOOK_WARM_SPREAD: Duration = Duration::from_millis(5);
/// Longest response head accepted from a receiver.
pub const WEBHOOK_HEAD_BYTES: usize = 16 * 1_024;
/// Most response headers accepted from a receiver.
pub const WEBHOOK_HEADERS: usize = 64;
/// "then drain <= 64 KiB or 1 s for reuse, else close."
pub const WEBHOOK_DRAIN_BYTES: usize = 64 * 1_024;
/// See [`WEBHOOK_DRAIN_BYTES`].
pub const WEBHOOK_DRAIN_TIME: Duration = Duration::from_secs(1);
/// Messages for the journal thread that the webhook thread keeps while its ring is full; beyond it log
/// lines are dropped, then outcomes (which are in shared memory).
pub const WEBHOOK_OUTBOX: usize = 65_536;
/// Past events one request has sent again.
pub const WEBHOOK_REDELIVERIES: usize = WEBHOOK_EVENTS_PER_REQUEST;
/// Accounts the store takes.
pub const ACCOUNTS: usize = 100_000;
/// Longest name of an account, in bytes.
pub const ACCOUNT_NAME_BYTES: usize = 256;
/// Longest e-mail address (RFC 5321 4.5.3.1.3, less the brackets).
pub const EMAIL_BYTES: usize = 254;
/// Longest name of a plan.
pub const PLAN_NAME_BYTES: usize = 32;
/// Longest note on an endpoint, in bytes.
pub const ENDPOINT_LABEL_BYTES: usize = 256;
/// Lines of an endpoint's delivery log; the oldest is written over.
pub const WEBHOOK_LOG_LINES: u64 = 200;
/// Longest reason in a line of the delivery log, in bytes.
pub const WEBHOOK_LOG_DETAIL_BYTES: usize = 256;
/// Events of which it is remembered that they were told, so that none is told again under another id.
pub const WEBHOOK_IDENTITIES: usize = 16_384;
/// Events kept to be caught up with and replayed; the oldest are forgotten once concluded.
pub const WEBHOOK_EVENTS_STORED: usize = 100_000;
/// Events one request lists or replays.
pub const WEBHOOK_EVENTS_PER_REQUEST: usize = 1_000;
/// Lines of the delivery log one request lists.
pub const WEBHOOK_LINES_PER_REQUEST: usize = 200;
/// Longest grace of a rotated secret: "0 to 7 d".
pub const WEBHOOK_GRACE: Duration = Duration::from_secs(7 * 24 * 3_600);

/// A receiver's name is looked up within this, from asking to the answer.
pub const WEBHOOK_DNS_TIMEOUT: Duration = Duration::from_secs(2);
/// Name servers asked for receivers' names; more are refused.
pub const WEBHOOK_DNS_SERVERS: usize = 8;
/// A name server that has not answered for so long is joined by the next one.
pub const WEBHOOK_DNS_NEXT_SERVER: Duration = Duration::from_millis(400);
/// Lookups of receivers' names at once; further questions wait.
pub const WEBHOOK_DNS_IN_FLIGHT: usize = 256;
/// Questions about receivers' names without an answer yet; beyond it a question is refused and asked
/// again later.
pub const WEBHOOK_DNS_QUESTIONS: usize = 1_024;
/// Addresses of one receiver's name; more fail the lookup, for one left out could be a private one.
pub const WEBHOOK_DNS_ADDRESSES: usize = 64;
/// "Re-resolve every 5 to 60 s": shortest time an answer is used, whatever its records say.
pub const WEBHOOK_DNS_FRESH_AT_LEAST: Duration = Duration::from_secs(5);
/// The longest.
pub const WEBHOOK_DNS_FRESH_AT_MOST: Duration = Duration::from_secs(60);

/// Mails in the outbox, sent ones included: those written last stay, the oldest give way.
pub const OUTBOX_MAILS: i64 = 10_000;
/// Longest details of a mail, in bytes.
pub const MAIL_DETAIL_BYTES: usize = 1_024;
/// A latency warning waits for so long, so that several of one account become one mail.
pub const MAIL_DIGEST: Duration = Duration::from_secs(5 * 60);
/// Endpoints in the list of those an event was offered to, deleted and later ones included.
pub const WEBHOOK_RECIPIENTS: usize = 65_536;
/// Requests that wait until the journal thread has committed what was under way when they came.
pub const JOURNAL_BARRIERS: usize = 256;

const _: () = assert!(STREAM_LEAVE.as_secs() < STREAM_OVERLAP.as_secs());
const _: () = assert!(SESSION_IDLE.as_secs() < SESSION_LIFE.as_secs());
const _: () = assert!(SESSIONS_PER_OWNER < SESSIONS && SIGN_IN_CODES_PER_OWNER < SIGN_IN_CODES);
const _: () = assert!(WEBHOOK_ENDPOINTS <= WEBHOOK_RECIPIENTS);
const _: () = assert!(
    SEEN_ITEMS > LISTS_PER_SOURCE * ITEMS_PER_RESPONSE,
    "full pages of every list must never evict one another"
);
const _: () = assert!(TICKER_BYTES < TITLE_BYTES);
const _: () = assert!(MARKET_BODY_BYTES > RESPONSE_BODY_BYTES && MARKET_ROWS > ITEMS_PER_RESPONSE);
const _: () =
    assert!(CONTEXT_MARKETS <= CONTEXT_MARKETS_IN_ALL && TICKERS_PER_ANNOUNCEMENT <= CONTEXT_MARKETS_IN_ALL);
const _: () = assert!(2 * TICKER_BYTES <= SYMBOL_BYTES, "the longest base and quote make a name");
const _: () = assert!(HANDSHAKES_PER_ADDRESS > IP_CONNECTIONS);
const _: () = assert!(HANDSHAKES_PER_ADDRESS_AT_LEAST <= HANDSHAKES_PER_ADDRESS);
const _: () = assert!(
    HANDSHAKES_IN_PROGRESS - HANDSHAKES_PER_ADDRESS as usize
        >= HANDSHAKES_PER_ADDRESS as usize * HANDSHAKE_PLACES_PER_SHARE,
    "an address alone gets its whole share"
);
const _: () = assert!(EARLY_BYTES > CLIENT_MESSAGES_PER_MINUTE * CLIENT_FRAME_BYTES);
const _: () = assert!(FRAME_LOG_ENTRIES as u64 > LAG_MESSAGES, "lag must show before eviction");
const _: () = assert!((BURST as u64) < LAG_MESSAGES);
const _: () = assert!(BURST <= u8::BITS as usize, "a bit each in `feed::burst`");
const _: () = assert!(ORDER_BUFFER < HISTORY_IN_MEMORY);
const _: () = assert!(HANDSHAKE_HEAD_BYTES < PRIVATE_QUEUE_BYTES);
const _: () = assert!(2 * EXTRA_BYTES <= PRIVATE_QUEUE_BYTES);
const _: () = assert!(
    EXTRA_BYTES / TICKERS_PER_ANNOUNCEMENT > 3 * TICKER_BYTES + 128,
    "an asset without its markets always fits"
);
const _: () = assert!(PING_PERIOD.as_secs() < PONG_TIMEOUT.as_secs() + 1);
const _: () = assert!(WEBHOOK_RETRIES_IN_FLIGHT + WEBHOOK_IN_FLIGHT_ASSURED <= WEBHOOK_IN_FLIGHT);
const _: () = assert!(WEBHOOK_PENDING_PER_ENDPOINT < WEBHOOK_PENDING);
const _: () = assert!(WEBHOOK_LATENCY_ATTEMPTS_LEAST <= WEBHOOK_LATENCY_ATTEMPTS);
const _: () = assert!(WEBHOOK_DNS_IN_FLIGHT <= WEBHOOK_DNS_QUESTIONS);
const _: () = assert!(WEBHOOK_DNS_TIMEOUT.as_secs() < WEBHOOK_TIMEOUT.as_secs());
