//! `tocsin-sim receiver`: one simulated webhook receiver, until killed.
//!
//! The first line on standard output says where it is; then one line for each delivery. With `--json`
//! each line is a JSON object, the first the one that `--announce-to` writes to a file. What a sender
//! wrote is printed without its control characters.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::{Value, json};
use tocsin_sim::receiver::{behaviours, greetings};
use tocsin_sim::{
    AnnouncedReceiver, Greeting, Received, ReceiverOptions, SignatureVerdict, SimError, SimReceiver,
};

use super::{duration, end_with_stdin, say};

/// How often the file of secrets is read, and by how much `--for` may be overstayed.
const LOOK: Duration = Duration::from_millis(200);

/// Arguments of `tocsin-sim receiver`.
#[derive(Args)]
pub(crate) struct ReceiverArgs {
    /// Where to listen; port 0 takes a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A name or address the certificate is for; the first stands in the URL. May be given more than
    /// once. Without it, 127.0.0.1 and localhost.
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Where to write the certificate of the authority to trust: what `egress.ca_file` names.
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    ca_out: Option<PathBuf>,
    /// Write the address also to this file, at once and whole.
    #[arg(long, alias = "announce", value_name = "FILE")]
    announce_to: Option<PathBuf>,
    /// File of webhook secrets, one a line, to verify signatures with. It is read again and again and
    /// need not be there yet.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// Answer 401 where a signature is invalid.
    #[arg(long, requires = "secret_file")]
    strict: bool,
    /// How a path behaves: a behaviour, or several with commas between that take turns, the last for
    /// good. Any other path behaves as it is called ("/status/503"), or well.
    #[arg(long, value_name = "PATH=BEHAVIOUR", value_parser = script)]
    behave: Vec<(String, Vec<String>)>,
    /// How connections are met before any request.
    #[arg(long, value_name = "GREETING", default_value = "good", value_parser = greeting)]
    greet: Greeting,
    /// Print JSON, one object a line.
    #[arg(long)]
    json: bool,
    /// List the behaviours and the greetings, and stop.
    #[arg(long)]
    list: bool,
    /// Stop after this time.
    #[arg(long = "for", value_name = "TIME", value_parser = duration)]
    run_for: Option<Duration>,
    /// Stop when standard input ends: a receiver started by another program ends with it.
    #[arg(long)]
    until_stdin_ends: bool,
}

fn script(text: &str) -> Result<(String, Vec<String>), String> {
    match text.split_once('=') {
        Some((path, behaviours)) if path.starts_with('/') => {
            Ok((path.to_owned(), behaviours.split(',').map(str::to_owned).collect()))
        }
        _ => Err("is not /PATH=BEHAVIOUR".to_owned()),
    }
}

fn greeting(text: &str) -> Result<Greeting, String> {
    Greeting::parse(text).map_err(|e| format!("{e}; --list shows them"))
}

/// Runs it.
///
/// # Errors
/// What could not be started, read or written.
pub(crate) fn run(args: &ReceiverArgs) -> Result<(), SimError> {
    if args.list {
        // A reader that has seen enough may close the pipe.
        let _ = say(list().trim_end());
        return Ok(());
    }
    let receiver = start(args)?;
    let announced = AnnouncedReceiver::of(&receiver);
    if let Some(path) = &args.announce_to {
        announced.write_to(path)?;
    }
    if args.until_stdin_ends {
        end_with_stdin()?;
    }
    let first = if args.json { announced.to_json() } else { introduction(&receiver) };
    if say(&first).is_err() {
        return Ok(());
    }
    let end = args.run_for.map(|time| Instant::now() + time);
    while end.is_none_or(|end| Instant::now() < end) {
        let _ = receiver.wait_for(1, LOOK);
        if let Some(path) = &args.secret_file {
            // A file that is just being written is read whole the next time.
            let _ = know(&receiver, path);
        }
        for mut delivery in receiver.take() {
            // The secret may be younger than the delivery.
            if !delivery.signature.is_valid() {
                delivery.signature = receiver.verdict(&delivery);
            }
            let line = if args.json { as_json(&delivery).to_string() } else { as_text(&delivery) };
            if say(&line).is_err() {
                return Ok(());
            }
        }
    }
    Ok(())
}

fn start(args: &ReceiverArgs) -> Result<SimReceiver, SimError> {
    let mut options = ReceiverOptions {
        listen: args.listen,
        ca_file: args.ca_out.clone(),
        greetings: vec![args.greet],
        refuses_unsigned: args.strict,
        ..ReceiverOptions::default()
    };
    if !args.host.is_empty() {
        options.hosts.clone_from(&args.host);
    }
    let receiver = SimReceiver::start(options)?;
    for (path, names) in &args.behave {
        let script = names.iter().map(|name| receiver.parse(name)).collect::<Result<_, _>>()?;
        receiver.behave(path, script);
    }
    if let Some(path) = &args.secret_file {
        know(&receiver, path)?;
    }
    Ok(receiver)
}

/// Reads the secrets, if their file is there.
fn know(receiver: &SimReceiver, path: &Path) -> Result<(), SimError> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
            receiver.know(&lines)
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(SimError::File(path.to_owned(), e)),
    }
}

fn list() -> String {
    let mut text = "Behaviours, by path or with --behave PATH=BEHAVIOUR:\n".to_owned();
    for entry in behaviours() {
        text.push_str(&format!("  {:<28} {}\n", entry.usage, entry.what));
    }
    text.push_str("\nGreetings, with --greet:\n");
    for entry in greetings() {
        text.push_str(&format!("  {:<28} {}\n", entry.usage, entry.what));
    }
    text
}

fn introduction(receiver: &SimReceiver) -> String {
    let ca_file = receiver.ca_file().unwrap_or(Path::new("")).display();
    format!("listening at {}, certificate signed by {ca_file}", receiver.base_url())
}

/// What the body says under a name, or what stands for nothing.
fn said(body: Option<&Value>, name: &str) -> String {
    match body.and_then(|body| body.get(name)) {
        Some(Value::String(text)) => text.clone(),
        None | Some(Value::Null) => "-".to_owned(),
        Some(other) => other.to_string(),
    }
}

/// Text of a stranger, fit for a terminal.
fn printable(text: &str) -> String {
    text.chars().take(200).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// `21:50:05.123456 new_listing Binance PEPE2USDT 312 µs, signature valid, attempt 1, /hooks`
fn as_text(delivery: &Received) -> String {
    let body = delivery.json();
    let of_day = delivery.at.0.rem_euclid(86_400_000_000);
    let (seconds, micros) = (of_day / 1_000_000, of_day % 1_000_000);
    let time = format!("{:02}:{:02}:{:02}.{micros:06}", seconds / 3_600, seconds / 60 % 60, seconds % 60);
    let latency = delivery.latency_us().map_or_else(|| "-".to_owned(), |us| us.to_string());
    let attempt = delivery.attempt().map_or_else(|| "-".to_owned(), |n| n.to_string());
    let event = delivery.event_type().unwrap_or_else(|| said(body.as_ref(), "type"));
    let (exchange, symbol) = (said(body.as_ref(), "exchange"), said(body.as_ref(), "symbol"));
    printable(&format!(
        "{time} {event} {exchange} {symbol} {latency} µs, signature {}, attempt {attempt}, {}",
        delivery.signature, delivery.target
    ))
}

fn as_json(delivery: &Received) -> Value {
    let fault = match &delivery.signature {
        SignatureVerdict::Invalid(fault) => Some(fault.to_string()),
        SignatureVerdict::Valid | SignatureVerdict::Unchecked => None,
    };
    let signature = match &delivery.signature {
        SignatureVerdict::Valid => "valid",
        SignatureVerdict::Invalid(_) => "invalid",
        SignatureVerdict::Unchecked => "unchecked",
    };
    json!({
        "at_us": delivery.at.0,
        "event": delivery.event_type(),
        "event_id": delivery.event_id(),
        "attempt": delivery.attempt(),
        "latency_us": delivery.latency_us(),
        "signature": signature,
        "signature_fault": fault,
        "method": delivery.method,
        "target": delivery.target,
        "behaviour": &*delivery.behaviour,
        "connection": delivery.connection,
        "request_of_connection": delivery.nth,
        "tls_resumed": delivery.resumed,
        "body": delivery.json(),
    })
}
