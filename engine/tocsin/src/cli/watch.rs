//! `tocsin watch`: a client of the feed that stays connected and prints what it hears.
//!
//! Contract: announcements go to standard output, one a line; the state of the connection goes to
//! standard error. Blocks. Ends with 0 after `--count` announcements or when the reader of its output
//! is gone, with 1 when trying again would change nothing, else never. The key comes from a file or
//! from `TOCSIN_KEY`, never from an argument.

pub mod line;

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use serde::Deserialize;
use tocsin_core::feed::reconnect::{Ending, Reconnect, Verdict};
use tocsin_core::limits;
use tocsin_core::model::FeedPosition;
use tocsin_core::time::WallUs;

use super::CliError;
use crate::net::tls::{ClientTls, ClientTrust};
use crate::net::url::UrlError;
use crate::net::ws_client::{ConnectError, Ended, WsClient, WsUrl};
use crate::os::clock;

/// Resolving, dialling, TLS and upgrade together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
/// Longest key file.
const KEY_BYTES: u64 = 4_096;

/// Arguments of `tocsin watch`.
#[derive(clap::Args, Debug)]
pub struct WatchArgs {
    /// Where the feed is: wss://host:9201, or ws:// without TLS
    #[arg(long, value_name = "URL", default_value = "wss://127.0.0.1:9201")]
    url: String,
    /// File that holds the API key; without it the environment variable TOCSIN_KEY is used
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// Only these exchanges, comma separated
    #[arg(long, value_name = "NAMES")]
    cex: Option<String>,
    /// Only these listing types, comma separated
    #[arg(long, value_name = "TYPES")]
    types: Option<String>,
    /// Only these tickers, comma separated
    #[arg(long, value_name = "TICKERS")]
    tickers: Option<String>,
    /// Ask for further kinds of events: market
    #[arg(long, value_name = "KINDS")]
    events: Option<String>,
    /// Ask for what is known of an announcement's assets, in a second message
    #[arg(long)]
    context: bool,
    /// Accept any certificate: whoever sits between can read the key
    #[arg(long, conflicts_with = "ca")]
    insecure: bool,
    /// PEM file of an authority, or of the server's own self-signed certificate, to trust
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Print every message as it came, one a line
    #[arg(long)]
    json: bool,
    /// End after this many announcements
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Ask for one test announcement once connected
    #[arg(long)]
    test: bool,
}

impl WatchArgs {
    /// A watch over TLS that trusts one certificate.
    pub(super) fn on(url: &str, key_file: &Path, ca: &Path) -> WatchArgs {
        WatchArgs {
            url: url.to_owned(),
            key_file: Some(key_file.to_owned()),
            cex: None,
            types: None,
            tickers: None,
            events: None,
            context: false,
            insecure: false,
            ca: Some(ca.to_owned()),
            json: false,
            count: None,
            test: false,
        }
    }

    /// Asks for further kinds of events.
    pub(super) fn with_events(mut self, kinds: &str) -> WatchArgs {
        self.events = Some(kinds.to_owned());
        self
    }

    /// How it prints, and when it ends.
    pub(super) fn printing(mut self, json: bool, count: Option<u64>) -> WatchArgs {
        self.json = json;
        self.count = count;
        self
    }
}

/// Runs the verb.
///
/// # Errors
/// Wrong usage (2): no key, a bad URL, an unreadable file. Given up (1): the key or the certificate
/// is refused, or the server takes no such request.
pub fn run(args: &WatchArgs) -> Result<ExitCode, CliError> {
    let url = WsUrl::parse(&args.url).map_err(|error| match error {
        UrlError::Scheme => CliError::usage("--url must start with wss:// or ws://"),
        error => CliError::usage(format!("--url {}: {error}", shown(&args.url))),
    })?;
    if url.query.split('&').any(|pair| pair.starts_with("api_key")) {
        return Err(CliError::usage("--url holds a key: put it into a file and give --key-file"));
    }
    let trust = ClientTrust { ca_file: args.ca.clone(), insecure: args.insecure };
    let tls = if url.server.tls { Some(ClientTls::new(&trust).map_err(CliError::usage)?) } else { None };
    let local = url.server.literal().map_or(&*url.server.host == "localhost", |ip| ip.is_loopback());
    if !url.server.tls && !local {
        say("without TLS the key can be read on the way");
    }
    let mut watch = Watch {
        key: read_key(args)?,
        url,
        tls,
        asking: Asking::new(args),
        count_left: args.count,
        json: args.json,
        colour: io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none(),
        ask_for_test: args.test,
        out: io::stdout(),
    };
    watch.run()
}

/// The URL without its query, which may hold a secret.
fn shown(url: &str) -> &str {
    url.split('?').next().unwrap_or_default()
}

fn read_key(args: &WatchArgs) -> Result<String, CliError> {
    let text = match &args.key_file {
        Some(file) => {
            let failed = |e: io::Error| CliError::usage(format!("--key-file {}: {e}", file.display()));
            let mut text = String::new();
            let open = std::fs::File::open(file).map_err(failed)?;
            io::Read::read_to_string(&mut io::Read::take(open, KEY_BYTES), &mut text).map_err(failed)?;
            text
        }
        None => std::env::var("TOCSIN_KEY")
            .map_err(|_| CliError::usage("no key: give --key-file FILE, or set TOCSIN_KEY"))?,
    };
    match text.trim() {
        "" => Err(CliError::usage("the key is empty")),
        key => Ok(key.to_owned()),
    }
}

fn say(text: &str) {
    eprintln!("tocsin watch: {}", line::printable(text));
}

/// What the next handshake asks for beyond the URL.
#[derive(Clone, Debug)]
struct Asking {
    filters: Vec<(&'static str, String)>,
    /// `fields=full`: brings the position that a resume needs.
    full: bool,
    resume: bool,
    last: Option<FeedPosition>,
}

impl Asking {
    fn new(args: &WatchArgs) -> Asking {
        let context = args.context.then(|| "1".to_owned());
        let given = [
            ("cex", &args.cex),
            ("types", &args.types),
            ("tickers", &args.tickers),
            ("events", &args.events),
            ("context", &context),
        ];
        let filters = given.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
        Asking { filters, full: true, resume: true, last: None }
    }

    fn pairs(&self) -> Vec<(&'static str, String)> {
        let mut pairs = self.filters.clone();
        if self.full {
            pairs.push(("fields", "full".to_owned()));
        }
        if let (true, Some(last)) = (self.resume, self.last) {
            pairs.push(("resume", last.to_string()));
        }
        pairs
    }

    /// After a 400: asks for less, if it can. A server that knows only the specification may refuse
    /// what was added to it.
    fn ask_for_less(&mut self) -> bool {
        if self.resume && self.last.is_some() {
            self.resume = false;
        } else if self.full {
            self.full = false;
        } else {
            return false;
        }
        true
    }

    /// Moves the place to resume from.
    fn heard(&mut self, message: &Brief) {
        let (epoch, seq) = match message.kind.as_str() {
            "announcement" => (message.epoch, message.seq),
            "heartbeat" => (message.epoch, message.last_seq),
            _ => return,
        };
        if let (Some(epoch), Some(seq)) = (epoch, seq) {
            self.last = self.last.max(Some(FeedPosition { epoch, seq }));
        }
    }

    /// Whether it was printed before the connection was lost.
    fn is_repeat(&self, message: &Brief) -> bool {
        match (message.replayed, message.epoch, message.seq) {
            (true, Some(epoch), Some(seq)) => self.last >= Some(FeedPosition { epoch, seq }),
            _ => false,
        }
    }
}

/// What the loop itself needs of a message.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Brief {
    #[serde(rename = "type")]
    kind: String,
    epoch: Option<u64>,
    seq: Option<u64>,
    last_seq: Option<u64>,
    replayed: bool,
}

/// Why the watch is over.
enum Over {
    /// Enough announcements, or nobody reads.
    Done,
    /// The connection ended.
    Ended(Ended),
    /// No heartbeat.
    Silent,
}

struct Watch<W> {
    url: WsUrl,
    key: String,
    tls: Option<ClientTls>,
    asking: Asking,
    count_left: Option<u64>,
    json: bool,
    colour: bool,
    ask_for_test: bool,
    out: W,
}

impl<W: Write> Watch<W> {
    fn run(&mut self) -> Result<ExitCode, CliError> {
        let mut reconnect = Reconnect::new();
        loop {
            let (what, verdict) = match self.connect() {
                Ok(mut client) => {
                    let since = clock::mono();
                    say("connected");
                    let over = self.listen(&mut client);
                    let open_for = clock::mono().since(since);
                    match over {
                        Over::Done => {
                            client.close();
                            return Ok(ExitCode::SUCCESS);
                        }
                        Over::Silent => (
                            format!("nothing heard for {} s", limits::HEARTBEAT_TIMEOUT.as_secs()),
                            reconnect.after(Ending::Lost, open_for),
                        ),
                        Over::Ended(ended) => {
                            (ended.to_string(), reconnect.after(ending_of(&ended), open_for))
                        }
                    }
                }
                Err(ConnectError::Refused { status: 400, body, .. }) if self.asking.ask_for_less() => (
                    format!("HTTP 400 {}; asking for less", body.trim()),
                    Verdict::RetryAfter(Duration::ZERO),
                ),
                Err(error) => (error.to_string(), reconnect.after(refusal_of(&error), Duration::ZERO)),
            };
            match verdict {
                Verdict::Stop => return Err(CliError::failed(line::printable(&what))),
                Verdict::RetryAfter(Duration::ZERO) => say(&format!("{what}; reconnecting")),
                Verdict::RetryAfter(wait) => {
                    say(&format!("{what}; reconnecting in {} s", wait.as_secs()));
                    std::thread::sleep(wait);
                }
            }
        }
    }

    fn connect(&self) -> Result<WsClient, ConnectError> {
        let pairs = self.asking.pairs();
        let pairs: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let headers =
            [("X-API-Key", self.key.as_str()), ("User-Agent", concat!("tocsin/", env!("CARGO_PKG_VERSION")))];
        let deadline = clock::mono() + CONNECT_TIMEOUT;
        WsClient::connect(&self.url, &self.url.target(&pairs), &headers, self.tls.as_ref(), deadline)
    }

    fn listen(&mut self, client: &mut WsClient) -> Over {
        if std::mem::take(&mut self.ask_for_test)
            && let Err(error) = client.send_text(r#"{"type":"test"}"#)
        {
            return Over::Ended(Ended::Lost(error));
        }
        loop {
            let mut done = false;
            let deadline = clock::mono() + limits::HEARTBEAT_TIMEOUT;
            let outcome = client.receive(deadline, &mut |message, at| {
                done = done || !self.message(message, at);
            });
            match outcome {
                _ if done => return Over::Done,
                Ok(true) => {}
                Ok(false) => return Over::Silent,
                Err(ended) => return Over::Ended(ended),
            }
        }
    }

    /// Prints one message; `false` when it was the last.
    fn message(&mut self, message: &[u8], at: WallUs) -> bool {
        let brief: Brief = serde_json::from_slice(message).unwrap_or_default();
        if self.asking.is_repeat(&brief) {
            return true;
        }
        self.asking.heard(&brief);
        let text = if self.json {
            Some(line::passed_through(message))
        } else {
            line::of_message(message, at, self.colour)
        };
        if let Some(text) = text
            && writeln!(self.out, "{text}").is_err()
        {
            return false;
        }
        if matches!(brief.kind.as_str(), "announcement" | "test_announcement")
            && let Some(left) = &mut self.count_left
        {
            *left = left.saturating_sub(1);
            return *left > 0;
        }
        true
    }
}

fn ending_of(ended: &Ended) -> Ending<'_> {
    match ended {
        Ended::Closed { reason, .. } => Ending::Closed { reason },
        Ended::Violation(_) | Ended::Lost(_) => Ending::Lost,
    }
}

fn refusal_of(error: &ConnectError) -> Ending<'static> {
    match error {
        ConnectError::Refused { status, retry_after, .. } => {
            Ending::Refused { status: *status, retry_after: *retry_after }
        }
        ConnectError::Untrusted(_) => Ending::Untrusted,
        // What cannot be sent now cannot be sent later.
        ConnectError::BadRequest => Ending::Refused { status: 400, retry_after: None },
        ConnectError::Resolve(_)
        | ConnectError::Dial(_)
        | ConnectError::Io(_)
        | ConnectError::TimedOut
        | ConnectError::Reply(_) => Ending::Lost,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use clap::Parser;
    use tocsin_core::http1::request::{HeadReader, RequestHead};
    use tocsin_core::ws::frame::{write_close, write_frame};
    use tocsin_core::ws::handshake::{check_upgrade, write_switching_protocols};
    use tocsin_core::ws::{CloseCode, Opcode};

    use super::*;

    #[derive(Parser)]
    struct Cli {
        #[command(flatten)]
        watch: WatchArgs,
    }

    fn args(words: &[&str]) -> WatchArgs {
        Cli::parse_from(std::iter::once(&"watch").chain(words)).watch
    }

    fn announced(seq: u64, replayed: bool) -> String {
        format!(
            r#"{{"type":"announcement","title":"N{seq}","ticker":"T","publisher":"upbit","listingType":"spot_listing","publishTimestampUs":1,"detectedTimestampUs":2,"dispatchTimestampUs":3,"epoch":7,"seq":{seq},"replayed":{replayed}}}"#
        )
    }

    /// What the server does with one connection: refuse it, or send messages and maybe close.
    enum Script {
        Refuse(&'static str),
        Send(Vec<String>, Option<&'static str>),
    }

    /// Plays one script a connection, returns the query and key of each.
    fn serve(listener: &TcpListener, scripts: Vec<Script>) -> Vec<(String, String)> {
        let mut asked = Vec::new();
        for script in scripts {
            let (mut stream, _) = listener.accept().unwrap();
            let (head, mut reader) = (&mut Vec::new(), HeadReader::new());
            while reader.poll(head).unwrap().is_none() {
                let mut byte = [0];
                io::Read::read_exact(&mut stream, &mut byte).unwrap();
                head.push(byte[0]);
            }
            let head = RequestHead::parse(head).unwrap();
            let key = head.value("X-API-Key").unwrap_or_default().to_owned();
            asked.push((head.query.unwrap_or_default().to_owned(), key));
            let mut out = Vec::new();
            match script {
                Script::Refuse(answer) => out.extend_from_slice(answer.as_bytes()),
                Script::Send(messages, close) => {
                    write_switching_protocols(&mut out, &check_upgrade(&head).unwrap());
                    for message in &messages {
                        write_frame(&mut out, Opcode::Binary, message.as_bytes(), None);
                    }
                    if let Some(reason) = close {
                        write_close(&mut out, Some(CloseCode::POLICY_VIOLATION), reason, None);
                    }
                }
            }
            stream.write_all(&out).unwrap();
            read_to_end(&mut stream);
        }
        asked
    }

    fn read_to_end(stream: &mut TcpStream) {
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let _ = io::Read::read_to_end(stream, &mut Vec::new());
    }

    /// Runs a watch against the scripts: how it ended, what it printed, what it asked for.
    fn watched(
        words: &[&str],
        scripts: Vec<Script>,
    ) -> (Result<ExitCode, CliError>, String, Vec<(String, String)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("ws://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || serve(&listener, scripts));
        let args = args(words);
        let mut watch = Watch {
            key: "dsk_00".to_owned(),
            url: WsUrl::parse(&url).unwrap(),
            tls: None,
            asking: Asking::new(&args),
            count_left: args.count,
            json: args.json,
            colour: false,
            ask_for_test: args.test,
            out: Vec::new(),
        };
        let outcome = watch.run();
        (outcome, String::from_utf8(watch.out).unwrap(), server.join().unwrap())
    }

    const BAD_REQUEST: &str = "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\n{}";

    #[test]
    fn resumes_without_loss_or_repeat_after_too_slow() {
        let first = Script::Send(vec![announced(1, false), announced(2, false)], Some("too_slow"));
        let heartbeat = r#"{"type":"heartbeat","epoch":7,"lastSeq":5}"#.to_owned();
        let second = Script::Send(
            vec![announced(2, true), announced(3, true), announced(4, false), heartbeat],
            Some("too_slow"),
        );
        let third = Script::Send(vec![announced(6, false), announced(7, false)], None);
        let words = ["--cex", "upbit,okx", "--tickers", "T&U", "--count", "5"];
        let (outcome, printed, asked) = watched(&words, vec![first, second, third]);
        assert!(outcome.is_ok());
        let titles: Vec<&str> = printed.lines().map(|l| l.split_whitespace().nth_back(6).unwrap()).collect();
        assert_eq!(titles, ["N1", "N2", "N3", "N4", "N6"], "{printed}");
        let filters = "cex=upbit,okx&tickers=T%26U&fields=full";
        assert_eq!(
            asked.iter().map(|(query, _)| query.as_str()).collect::<Vec<_>>(),
            [filters, &format!("{filters}&resume=7:2"), &format!("{filters}&resume=7:5")]
        );
        assert!(asked.iter().all(|(_, key)| key == "dsk_00"));
    }

    #[test]
    fn asks_for_less_where_additions_are_refused() {
        let first = Script::Send(vec![announced(1, false)], Some("too_slow"));
        let last = Script::Send(vec![announced(2, false)], None);
        let refuse = || Script::Refuse(BAD_REQUEST);
        let (outcome, printed, asked) =
            watched(&["--count", "2", "--json"], vec![first, refuse(), refuse(), last]);
        assert!(outcome.is_ok());
        assert_eq!(printed, format!("{}\n{}\n", announced(1, false), announced(2, false)));
        let queries: Vec<String> = asked.into_iter().map(|(query, _)| query).collect();
        assert_eq!(queries, ["fields=full", "fields=full&resume=7:1", "fields=full", ""]);
    }

    #[test]
    fn stops_where_trying_again_changes_nothing() {
        let forbidden = "HTTP/1.1 403 Forbidden\r\nContent-Length: 24\r\n\r\n{\"error\":\"key_expired\"}\n";
        let rows = [
            (vec![Script::Refuse(forbidden)], "HTTP 403 {\"error\":\"key_expired\"}"),
            (vec![Script::Send(vec![], Some("key_revoked"))], "closed: 1008 key_revoked"),
            (vec![Script::Refuse(BAD_REQUEST), Script::Refuse(BAD_REQUEST)], "HTTP 400 {}"),
        ];
        for (scripts, message) in rows {
            let (outcome, printed, _) = watched(&[], scripts);
            assert_eq!(outcome.unwrap_err().to_string(), message);
            assert_eq!(printed, "");
        }
    }

    #[test]
    fn keys_come_from_a_file_and_never_from_the_url() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        let name = file.to_str().unwrap();
        std::fs::write(&file, " dsk_00\n").unwrap();
        assert_eq!(read_key(&args(&["--key-file", name])).unwrap(), "dsk_00");
        std::fs::write(&file, "\n").unwrap();
        assert!(read_key(&args(&["--key-file", name])).is_err());
        assert!(read_key(&args(&["--key-file", "/nowhere/key"])).is_err());
        let error = run(&args(&["--url", "ws://h?api_key=dsk_00"])).unwrap_err().to_string();
        assert!(!error.contains("dsk_00"), "{error}");
        assert!(run(&args(&["--url", "https://h"])).unwrap_err().to_string().contains("wss://"));
    }
}
