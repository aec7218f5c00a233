//! The terminal of `tocsin top`: raw mode and the alternate screen, and back again however it ends.
//!
//! Contract: [`run`] blocks until `q`, Esc, Ctrl-C, SIGTERM or SIGINT. The terminal is restored on every
//! way out: at the end, on an error, and by a hook when something panics. Samples are taken between
//! frames; a key is answered within [`LOOK`] unless the service keeps a sample waiting.

use std::io;
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use serde_json::Value;

use super::view::{self, Head};
use super::{Frame, Sample};
use crate::supervise::Signals;

/// Between two looks for a key.
const LOOK: Duration = Duration::from_millis(100);

/// A sample and the newest announcements, or why there is none.
pub type Answer = Result<(Sample, Value), String>;

/// Shows the service until somebody has seen enough. `ask` takes a sample.
///
/// # Errors
/// The terminal's.
pub fn run(head: Head, signals: &Signals, ask: &mut dyn FnMut() -> Answer) -> io::Result<()> {
    // Restores the terminal in a panic as well.
    let mut terminal = ratatui::try_init()?;
    let ended = show(&mut terminal, head, signals, ask);
    let restored = ratatui::try_restore();
    ended.and(restored)
}

fn show(
    terminal: &mut DefaultTerminal,
    mut head: Head,
    signals: &Signals,
    ask: &mut dyn FnMut() -> Answer,
) -> io::Result<()> {
    let (mut before, mut frame) = (None, Frame::default());
    let mut due = Instant::now();
    while !signals.terminate() {
        if Instant::now() >= due {
            due = Instant::now() + head.interval;
            match ask() {
                Ok((sample, announcements)) => {
                    frame = Frame::new(before.as_ref(), &sample, &announcements);
                    before = Some(sample);
                    head.trouble = None;
                }
                Err(trouble) => head.trouble = Some(trouble),
            }
            terminal.draw(|screen| view::draw(screen, &head, &frame))?;
        }
        let wait = due.saturating_duration_since(Instant::now()).min(LOOK);
        if !event::poll(wait)? {
            continue;
        }
        match event::read()? {
            Event::Key(key) if key.kind != KeyEventKind::Release => {
                let control_c =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if control_c || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(());
                }
            }
            Event::Resize(..) => {
                terminal.draw(|screen| view::draw(screen, &head, &frame))?;
            }
            _ => {}
        }
    }
    Ok(())
}
