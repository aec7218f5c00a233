//! `tocsin classify`: what the classifier says of titles, one JSON line each.
//!
//! Contract: reads titles from the arguments, a file or standard input and writes to standard
//! output in the order read; blocks on both. Memory does not grow with the input: one line is held
//! at a time, at most [`LINE_BYTES`]. It needs no configuration and no running service.
//!
//! A line that is no JSON object with `exchange` and `title` yields no output, only an error that
//! names its number. A line of an exchange nobody knows yields both an error and an output line
//! (`rule` is `unknown_exchange`, `confidence` 0), so that output still pairs with input. Either
//! way the rest is read and the exit code is 1.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde::{Deserialize, Serialize};
use tocsin_core::classify::classify;
use tocsin_core::model::{CategoryHint, Exchange, ListingType, Ticker};

/// Longest input line in bytes; a longer one is an error, and skipped.
pub const LINE_BYTES: usize = 1 << 20;

/// Arguments of `tocsin classify`.
#[derive(clap::Args, Debug)]
pub struct ClassifyArgs {
    /// Exchange that published the title (binance, upbit, okx, ...)
    #[arg(long, value_name = "NAME", requires = "title", value_parser = exchange_named)]
    exchange: Option<Exchange>,
    /// The title as published
    #[arg(long, value_name = "TEXT", requires = "exchange", required_unless_present = "jsonl")]
    title: Option<String>,
    /// JSON objects with "exchange" and "title", one a line; - reads standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["exchange", "title"])]
    jsonl: Option<PathBuf>,
}

/// Runs the verb: 0 if every title was classified, 1 if a line could not be or output failed.
///
/// Errors go to standard error. A reader that closes the pipe early ends the run quietly.
#[must_use]
pub fn run(args: &ClassifyArgs) -> ExitCode {
    let outcome = match (&args.jsonl, args.exchange, &args.title) {
        (Some(path), ..) => file(path),
        (None, Some(exchange), Some(title)) => {
            write_line(&mut io::stdout().lock(), &answer(exchange, title)).map(|()| true)
        }
        // clap has refused every other combination.
        _ => Err(io::Error::new(io::ErrorKind::InvalidInput, "give --exchange and --title, or --jsonl")),
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("tocsin classify: {error}");
            ExitCode::FAILURE
        }
    }
}

/// One input object; other fields are ignored.
#[derive(Deserialize)]
struct Request {
    exchange: String,
    title: String,
}

/// One output line.
#[derive(Serialize)]
struct Answer<'a> {
    exchange: &'a str,
    title: &'a str,
    listing_type: &'static str,
    tickers: Vec<String>,
    rule: &'static str,
    confidence: f64,
}

fn answer(exchange: Exchange, title: &str) -> Answer<'_> {
    let said = classify(exchange, title, CategoryHint::None);
    Answer {
        exchange: exchange.name(),
        title,
        listing_type: said.listing_type.name(),
        tickers: said.tickers.iter().map(Ticker::to_string).collect(),
        rule: said.rule,
        confidence: f64::from(said.confidence) / 100.0,
    }
}

fn file(path: &Path) -> io::Result<bool> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
    let stdout = io::stdout();
    let stderr = io::stderr();
    if path.as_os_str() == "-" {
        let stdin = io::stdin();
        // Somebody may be feeding lines and waiting for each answer.
        return lines(stdin.lock(), &mut stdout.lock(), &mut stderr.lock(), true);
    }
    let input = File::open(path).map_err(named)?;
    // A FIFO or a terminal given by name is fed live too.
    let live = !input.metadata().map_err(named)?.is_file() || stdout.is_terminal();
    lines(BufReader::new(input), &mut BufWriter::new(stdout.lock()), &mut stderr.lock(), live)
}

/// Classifies every line of `input`; `Ok(false)` if any was refused.
///
/// # Errors
/// Those of reading and writing.
fn lines(
    mut input: impl BufRead,
    output: &mut impl Write,
    errors: &mut impl Write,
    flush_each: bool,
) -> io::Result<bool> {
    let mut all_well = true;
    let mut line = Vec::new();
    let mut number = 0_u64;
    while read_line(&mut input, &mut line)? {
        number += 1;
        if line.trim_ascii().is_empty() {
            continue;
        }
        if let Err(problem) = one_line(&line, output)? {
            all_well = false;
            writeln!(errors, "line {number}: {problem}")?;
        }
        if flush_each {
            output.flush()?;
        }
    }
    output.flush()?;
    Ok(all_well)
}

/// Reads one line into `line`, of an overlong one the first [`LINE_BYTES`] and one; false at the end.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    let most = LINE_BYTES as u64 + 1;
    if input.by_ref().take(most).read_until(b'\n', line)? == 0 {
        return Ok(false);
    }
    if line.len() > LINE_BYTES && line.last() != Some(&b'\n') {
        input.skip_until(b'\n')?;
    }
    Ok(true)
}

/// Answers one line; the inner error is what is wrong with the line itself.
fn one_line(line: &[u8], output: &mut impl Write) -> io::Result<Result<(), String>> {
    if line.len() > LINE_BYTES {
        return Ok(Err(format!("longer than {LINE_BYTES} bytes")));
    }
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    let request: Request = match serde_json::from_slice(line) {
        Ok(request) => request,
        Err(error) => return Ok(Err(format!("not an object with \"exchange\" and \"title\": {error}"))),
    };
    match exchange_named(request.exchange.trim()) {
        Ok(exchange) => {
            write_line(output, &answer(exchange, &request.title))?;
            Ok(Ok(()))
        }
        Err(problem) => {
            let unknown = Answer {
                exchange: &request.exchange,
                title: &request.title,
                listing_type: ListingType::NotListing.name(),
                tickers: Vec::new(),
                rule: "unknown_exchange",
                confidence: 0.0,
            };
            write_line(output, &unknown)?;
            Ok(Err(problem))
        }
    }
}

fn write_line(output: &mut impl Write, answer: &Answer<'_>) -> io::Result<()> {
    serde_json::to_writer(&mut *output, answer)?;
    output.write_all(b"\n")
}

/// The exchange called `name`; the error names those there are.
fn exchange_named(name: &str) -> Result<Exchange, String> {
    Exchange::parse(name).ok_or_else(|| {
        let known = Exchange::ALL.map(Exchange::name).join(", ");
        format!("unknown exchange \"{}\"; known: {known}", name.escape_debug())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classified(input: &[u8]) -> (bool, String, String) {
        let (mut output, mut errors) = (Vec::new(), Vec::new());
        let well = lines(input, &mut output, &mut errors, false).unwrap();
        (well, String::from_utf8(output).unwrap(), String::from_utf8(errors).unwrap())
    }

    #[test]
    fn exactly_these_keys_in_this_order() {
        let input = b"{\"title\":\"Binance Will List Some Coin (SOME)\",\"exchange\":\"Binance\",\"x\":1}\n";
        let (well, output, errors) = classified(input);
        assert_eq!(
            output,
            "{\"exchange\":\"binance\",\"title\":\"Binance Will List Some Coin (SOME)\",\
             \"listing_type\":\"spot_listing\",\"tickers\":[\"SOME\"],\"rule\":\"en.listing\",\"confidence\":0.96}\n"
        );
        assert_eq!((well, errors.as_str()), (true, ""));
    }

    #[test]
    fn a_bad_line_is_named_and_the_rest_is_read() {
        let input = "\u{feff}{\"exchange\":\"okx\",\"title\":\"x\"}\n\nnonsense\n{\"exchange\":\"nope\",\"title\":\"y\"}\n\
                     {\"exchange\":\"okx\"}\n{\"exchange\":\"upbit\",\"title\":\"z\"}";
        let (well, output, errors) = classified(input.as_bytes());
        assert!(!well);
        assert_eq!(output.lines().count(), 3, "{output}");
        let named: Vec<&str> = errors.lines().filter_map(|l| l.split(':').next()).collect();
        assert_eq!(named, ["line 3", "line 4", "line 5"], "{errors}");
        assert!(errors.contains("known: binance, upbit"), "{errors}");
        assert!(output.contains("\"rule\":\"unknown_exchange\",\"confidence\":0.0"), "{output}");
    }

    #[test]
    fn an_overlong_line_is_refused_without_being_held() {
        let mut input = vec![b'x'; LINE_BYTES * 3];
        input.extend_from_slice(b"\n{\"exchange\":\"okx\",\"title\":\"x\"}\n");
        let (well, output, errors) = classified(&input);
        assert!(!well);
        assert_eq!(output.lines().count(), 1);
        assert!(errors.starts_with("line 1: longer than"), "{errors}");
    }

    #[test]
    fn bytes_that_are_no_text_are_an_error_of_their_line() {
        let (well, output, errors) = classified(b"{\"exchange\":\"okx\",\"title\":\"\xff\"}\n");
        assert!(!well && output.is_empty() && errors.starts_with("line 1:"), "{errors}");
    }

    #[test]
    fn arguments_come_in_pairs() {
        use clap::{Args, FromArgMatches};
        let parse = |args: &[&str]| {
            let command = ClassifyArgs::augment_args(clap::Command::new("classify"));
            command.try_get_matches_from(args).and_then(|m| ClassifyArgs::from_arg_matches(&m))
        };
        assert!(parse(&["classify", "--exchange", "okx", "--title", "x"]).is_ok());
        assert!(parse(&["classify", "--jsonl", "-"]).is_ok());
        for wrong in [&["classify"][..], &["classify", "--title", "x"], &["classify", "--exchange", "okx"]] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
        let unknown = parse(&["classify", "--exchange", "nope", "--title", "x"]).unwrap_err().to_string();
        assert!(unknown.contains("known: binance"), "{unknown}");
    }
}
