//! `tocsin top`: a live view of the running service.

use std::io::IsTerminal as _;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use serde_json::Value;

use super::CliError;
use super::client::AdminClient;
use crate::config::Config;
use crate::os::clock;
use crate::supervise::Signals;
use crate::top::view::{self, Head};
use crate::top::{ANNOUNCEMENTS, Frame, Sample, screen};

/// Size of the one frame that is printed.
const PRINTED: (u16, u16) = (100, 30);
/// Shortest and longest time between samples.
const INTERVALS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(60));

/// Arguments of `tocsin top`.
#[derive(Args, Debug)]
pub struct TopArgs {
    /// Print one frame as text and end; its rates are over one interval.
    #[arg(long)]
    once: bool,
    /// Print one frame as a JSON object and end.
    #[arg(long)]
    json: bool,
    /// Between samples: 100ms to 60s.
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = parse_interval)]
    interval: Duration,
}

fn parse_interval(text: &str) -> Result<Duration, String> {
    let interval = humantime::parse_duration(text).map_err(|e| e.to_string())?;
    let (least, most) = INTERVALS;
    if interval < least || interval > most {
        return Err("takes 100ms to 60s".to_owned());
    }
    Ok(interval)
}

/// Runs it.
///
/// # Errors
/// No service runs, or standard output is no terminal and no single frame was asked for.
pub fn run(args: &TopArgs, config: &Config) -> Result<ExitCode, CliError> {
    let once = args.once || args.json;
    if !once && !std::io::stdout().is_terminal() {
        return Err(CliError::usage("standard output is no terminal: give --once or --json"));
    }
    let signals = Signals::install().map_err(|e| CliError::failed(format!("signal handlers: {e}")))?;
    // Once before the screen is taken: that no service runs is said on a line of its own.
    let first = ask(config)?;
    let service = config.admin.socket.display().to_string();
    let head = Head { service, trouble: None, interval: args.interval };
    if !once {
        let shown = screen::run(head, &signals, &mut || ask(config).map_err(|error| error.to_string()));
        return shown.map(|()| ExitCode::SUCCESS).map_err(|e| CliError::failed(format!("the terminal: {e}")));
    }
    std::thread::sleep(args.interval);
    let (sample, announcements) = ask(config)?;
    let frame = Frame::new(Some(&first.0), &sample, &announcements);
    super::print(&if args.json {
        format!("{}\n", serde_json::to_string(&frame).map_err(CliError::failed)?)
    } else {
        as_text(&head, &frame)?
    })
}

fn ask(config: &Config) -> Result<(Sample, Value), CliError> {
    let get = |target: &str| match AdminClient::connect(&config.admin.socket)? {
        Some(client) => client.request("GET", target, None),
        None => {
            let socket = config.admin.socket.display();
            Err(CliError::failed(format!("no service is running: nobody listens on {socket}")))
        }
    };
    let status = get("/admin/v1/status")?;
    let at = clock::wall();
    Ok((Sample { status, at }, get(&format!("/v1/announcements?limit={ANNOUNCEMENTS}"))?))
}

/// The frame as lines of text, without colours.
fn as_text(head: &Head, frame: &Frame) -> Result<String, CliError> {
    let (width, height) = PRINTED;
    let failed = |_| CliError::failed("the frame could not be drawn");
    let mut terminal = Terminal::new(TestBackend::new(width, height)).map_err(failed)?;
    terminal.draw(|screen| view::draw(screen, head, frame)).map_err(failed)?;
    let cells = terminal.backend().buffer().content();
    let lines = cells.chunks(usize::from(width)).take(usize::from(height) - 1).map(|row| {
        let line: String = row.iter().map(ratatui::buffer::Cell::symbol).collect();
        format!("{}\n", line.trim_end())
    });
    Ok(lines.collect())
}
