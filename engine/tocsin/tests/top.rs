//! `tocsin top` in a real pseudo terminal against the real service: it draws, follows a new size, ends on
//! a key, and leaves the terminal as it was.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod harness;

use std::io::{Read, Write};
use std::num::NonZero;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use harness::{Engine, Mode};
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};

const PATIENCE: Duration = Duration::from_secs(20);
const SIZE: PtySize = PtySize { rows: 24, cols: 80, pixel_width: 0, pixel_height: 0 };

fn cells(count: u16) -> NonZero<u16> {
    NonZero::new(count).unwrap()
}

/// A program in a terminal of its own.
struct Terminal {
    master: Box<dyn MasterPty + Send>,
    child: Box<dyn Child + Send + Sync>,
    writer: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
}

impl Terminal {
    fn start(engine: &Engine, arguments: &[&str]) -> Terminal {
        let pair = native_pty_system().openpty(SIZE).unwrap();
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_tocsin"));
        command.args(["top", "--interval", "100ms", "--config"]);
        command.arg(engine.config());
        command.args(arguments);
        command.env("TERM", "xterm-256color");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (read, output) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4_096];
            while let Ok(count @ 1..) = reader.read(&mut buffer) {
                if read.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        let writer = pair.master.take_writer().unwrap();
        let screen = vt100::Parser::new(cells(SIZE.rows), cells(SIZE.cols), 0);
        Terminal { master: pair.master, child, writer, output, screen }
    }

    /// Reads until the screen is as wanted.
    fn until(&mut self, what: &str, done: impl Fn(&vt100::Screen) -> bool) {
        let from = Instant::now();
        while !done(self.screen.screen()) {
            assert!(from.elapsed() < PATIENCE, "no {what}:\n{}", self.screen.screen().contents());
            if let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(50)) {
                self.screen.process(&bytes);
            }
        }
    }

    fn shows(&mut self, part: &str) {
        self.until(part, |screen| screen.contents().contains(part));
    }

    fn resize(&mut self, rows: u16, cols: u16) {
        self.screen.screen_mut().set_size(cells(rows), cells(cols));
        self.master.resize(PtySize { rows, cols, ..SIZE }).unwrap();
    }

    /// Sends keys and asserts a proper end with the terminal as it was.
    fn ends_on(mut self, keys: &[u8]) {
        self.writer.write_all(keys).unwrap();
        self.writer.flush().unwrap();
        self.ended();
    }

    fn ended(&mut self) {
        let from = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(from.elapsed() < PATIENCE, "it does not end");
            std::thread::sleep(Duration::from_millis(5));
        };
        assert!(status.success(), "{status:?}");
        // Everything it wrote has been read once the other end is closed or silent.
        while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
            self.screen.process(&bytes);
        }
        let screen = self.screen.screen();
        assert!(!screen.alternate_screen(), "the alternate screen was left");
        assert!(!screen.hide_cursor(), "the cursor is there");
        assert!(edits_lines(&*self.master), "lines and echo are on again");
    }
}

/// Whether the terminal edits lines and echoes, as before: the two modes that raw mode turns off, asked
/// of the kernel by `stty`.
fn edits_lines(master: &(dyn MasterPty + Send)) -> bool {
    let name = master.tty_name().unwrap();
    let output = std::process::Command::new("stty").arg("-a").arg("-F").arg(name).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let on = |mode: &str| text.split_whitespace().any(|word| word.trim_end_matches(';') == mode);
    on("icanon") && on("echo")
}

#[test]
fn it_draws_follows_the_size_and_gives_the_terminal_back() {
    let engine = Engine::start(Mode::Plain, "");
    let key = engine.key();
    let _client = engine.connect(&key, "");
    let sent = engine.inject("upbit", "Example(EXMPL) 신규 거래지원 안내");

    let mut terminal = Terminal::start(&engine, &[]);
    terminal.shows("1 connections");
    terminal.shows("EXMPL");
    terminal.until("the alternate screen", vt100::Screen::alternate_screen);
    // A picture comes in pieces.
    for part in [
        "Sources",
        "Feed",
        "Webhooks and store",
        "source-0",
        "feed-0",
        "q quits",
        sent["listingType"].as_str().unwrap(),
    ] {
        terminal.shows(part);
    }
    // Narrow: the listing type has no room. Wide again: it has.
    let listing_type = sent["listingType"].as_str().unwrap().to_owned();
    terminal.resize(50, 40);
    terminal.until("a narrow screen", |s| {
        s.contents().contains("EXMPL") && !s.contents().contains(&listing_type)
    });
    terminal.resize(50, 200);
    terminal.until("a wide screen", |s| {
        s.contents().contains("most failures") && s.contents().contains(&listing_type)
    });
    // What happens meanwhile is seen.
    engine.inject("upbit", "Later(LATER) 신규 거래지원 안내");
    terminal.shows("LATER");
    terminal.ends_on(b"q");

    let mut interrupted = Terminal::start(&engine, &[]);
    interrupted.shows("Feed");
    interrupted.ends_on(b"\x03");
    let mut ended = Terminal::start(&engine, &[]);
    ended.shows("Feed");
    let pid = ended.child.process_id().unwrap();
    let killed = std::process::Command::new("kill").arg("-TERM").arg(pid.to_string()).status().unwrap();
    assert!(killed.success());
    ended.ended();
}

#[test]
fn a_service_that_goes_away_is_said_and_one_that_comes_back_is_seen() {
    let mut engine = Engine::start(Mode::Plain, "");
    let mut terminal = Terminal::start(&engine, &[]);
    terminal.shows("epoch 1");
    engine.stop();
    terminal.shows("no service is running");
    engine.start_again();
    terminal.shows("epoch 2");
    terminal.ends_on(b"q");
}

#[test]
fn without_a_terminal_one_frame_is_printed() {
    let engine = Engine::start(Mode::Plain, "");
    let none = engine.cli(&["top"]);
    assert_eq!(none.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&none.stderr).contains("--once"));
    let frame = engine.cli_json(&["top", "--interval", "100ms"]);
    assert_eq!(frame["epoch"], 1);
    assert!(frame["threads"].as_array().unwrap().iter().any(|t| t["name"] == "feed-0"), "{frame}");
    let text = engine.cli(&["top", "--once", "--interval", "100ms"]);
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("Sources") && text.contains("feed-0") && !text.contains('\u{1b}'), "{text}");
    let slow = engine.cli(&["top", "--once", "--interval", "1ms"]);
    assert!(String::from_utf8_lossy(&slow.stderr).contains("100ms to 60s"));
}
