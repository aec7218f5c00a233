//! Draws a [`Frame`]: sources, feed, webhooks, threads, announcements.
//!
//! Contract: pure; any size of screen from nothing on, nothing is drawn outside it. Less wide than
//! [`WIDE`], parts stand below one another and columns that matter least are left out.

use std::time::Duration;

use jiff::Timestamp;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Paragraph, Row, Table};

use super::{AnnouncementRow, Frame, Percentiles, SourceRow};

/// From here on parts stand side by side.
const WIDE: u16 = 72;
/// From here on every column is there.
const VERY_WIDE: u16 = 110;
/// Counts of a list that are shown.
const COUNTS: usize = 4;
/// Width of one thread.
const THREAD_WIDTH: u16 = 26;

/// What the head says.
#[derive(Clone, Debug, Default)]
pub struct Head {
    /// Where the service is.
    pub service: String,
    /// Why there is nothing newer, if there is not.
    pub trouble: Option<String>,
    /// Between samples.
    pub interval: Duration,
}

/// Draws everything.
pub fn draw(screen: &mut ratatui::Frame<'_>, head: &Head, frame: &Frame) {
    let area = screen.area();
    let wide = area.width >= WIDE;
    let per_line = usize::from((area.width / THREAD_WIDTH).max(1));
    let thread_lines = if wide { frame.threads.len().div_ceil(per_line) } else { frame.threads.len().min(4) };
    let lines = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
    let (sources, threads) = (lines(frame.sources.len()) + 2, lines(thread_lines) + 1);
    let middle = if wide { 6 } else { 11 };
    let parts = [
        Constraint::Length(1),
        Constraint::Length(sources),
        Constraint::Length(middle),
        Constraint::Length(threads),
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [top, source_area, middle, thread_area, announcements, foot] = Layout::vertical(parts).areas(area);
    screen.render_widget(Paragraph::new(head_line(head, frame)), top);
    screen.render_widget(sources_table(frame, area.width), source_area);
    let [feed, webhooks] = match wide {
        true => Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).spacing(2).areas(middle),
        false => Layout::vertical([Constraint::Length(6), Constraint::Length(5)]).areas(middle),
    };
    screen.render_widget(feed_lines(frame), feed);
    screen.render_widget(webhook_lines(frame), webhooks);
    screen.render_widget(thread_lines_of(frame, per_line, thread_area), thread_area);
    screen.render_widget(announcement_table(frame, area.width), announcements);
    let every = humantime::format_duration(head.interval);
    screen.render_widget(Paragraph::new(format!("q quits · every {every}")).style(dim()), foot);
}

fn dim() -> Style {
    Style::new().add_modifier(Modifier::DIM)
}

fn titled(title: &'static str) -> Block<'static> {
    let style = Style::new().add_modifier(Modifier::BOLD);
    Block::new().borders(Borders::TOP).border_style(dim()).title(Span::styled(title, style))
}

fn head_line(head: &Head, frame: &Frame) -> Line<'static> {
    let at = clock(frame.at_us);
    let mut spans = vec![
        Span::styled("tocsin", Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!(" {at} UTC  epoch {}  {}", frame.epoch, head.service)),
    ];
    if frame.draining {
        spans.insert(1, Span::styled(" draining", Style::new().fg(Color::Yellow)));
    }
    if let Some(trouble) = &head.trouble {
        let bad = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
        spans = vec![Span::styled(trouble.clone(), bad), Span::raw(format!("  (of {at})"))];
    }
    Line::from(spans)
}

fn state_style(state: &str) -> Style {
    match state {
        "live" => Style::new().fg(Color::Green),
        "stale" => Style::new().fg(Color::Yellow),
        _ => Style::new().fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

fn sources_table(frame: &Frame, width: u16) -> Table<'static> {
    type Column = (&'static str, u16, fn(&SourceRow) -> String);
    let columns: [Column; 8] = [
        ("source", 14, |s| s.name.clone()),
        ("state", 8, |s| s.state.clone()),
        ("last", 8, |s| s.last_poll_ms.map_or_else(|| "never".to_owned(), age)),
        ("failed", 7, |s| s.failures.to_string()),
        ("polls/s", 8, |s| format!("{:.2}", s.polls_per_second)),
        ("announced", 10, |s| s.announced.to_string()),
        ("conns", 6, |s| s.connections.to_string()),
        ("most failures", 16, |s| s.failed_most.clone().unwrap_or_else(|| "-".to_owned())),
    ];
    let shown = match width {
        0..WIDE => 4,
        WIDE..VERY_WIDE => 7,
        _ => 8,
    };
    let columns = columns.iter().take(shown);
    let rows = frame.sources.iter().map(|source| {
        Row::new(columns.clone().map(|(name, _, of)| {
            let style = if *name == "state" { state_style(&source.state) } else { Style::new() };
            Cell::new(of(source)).style(style)
        }))
    });
    Table::new(rows, columns.clone().map(|(_, width, _)| Constraint::Length(*width)))
        .header(Row::new(columns.clone().map(|(name, ..)| *name)).style(dim()))
        .block(titled("Sources"))
}

fn feed_lines(frame: &Frame) -> Paragraph<'static> {
    let feed = &frame.feed;
    let lines = [
        format!(
            "{} connections, {:.1} messages/s, {}/s",
            feed.connections,
            feed.messages_per_second,
            bytes(feed.bytes_per_second)
        ),
        format!("first  {}", micros(&feed.first)),
        format!("last   {}", micros(&feed.last)),
        format!("rtt    {}", micros(&feed.rtt)),
        format!("closed {}", counts(&feed.closed)),
    ];
    Paragraph::new(lines.map(Line::from).to_vec()).block(titled("Feed"))
}

fn webhook_lines(frame: &Frame) -> Paragraph<'static> {
    let webhooks = &frame.webhooks;
    let failing = if webhooks.failed.is_empty() { Style::new() } else { Style::new().fg(Color::Yellow) };
    let lost = if frame.lost == 0 { Style::new() } else { Style::new().fg(Color::Red) };
    let lines = vec![
        Line::from(format!(
            "{} endpoints, {} pending, {} in flight",
            webhooks.endpoints, webhooks.pending, webhooks.in_flight
        )),
        Line::from(format!(
            "{:.1} delivered/s, {} in all",
            webhooks.delivered_per_second, webhooks.delivered
        )),
        Line::from(format!("failed {}", counts(&webhooks.failed))).style(failing),
        Line::from(format!("first  {}", micros(&webhooks.first_write))),
        Line::from(format!("store {} waiting, {} lost in rings", frame.store_waiting, frame.lost))
            .style(lost),
    ];
    Paragraph::new(lines).block(titled("Webhooks and store"))
}

fn thread_lines_of(frame: &Frame, per_line: usize, area: Rect) -> Paragraph<'static> {
    let cell = |thread: &super::ThreadRow| {
        let gap = thread.longest_gap_us.map_or_else(|| "waits for input".to_owned(), |us| format!("{us} µs"));
        let width = usize::from(THREAD_WIDTH);
        format!("{:<width$}", format!("{:<10}{gap}", thread.name))
    };
    let mut lines: Vec<Line<'static>> = frame
        .threads
        .chunks(per_line)
        .map(|threads| Line::from(threads.iter().map(cell).collect::<String>()))
        .collect();
    // Hot threads come first in the plan's order of interest: those with a pulse.
    lines.truncate(usize::from(area.height.saturating_sub(1)));
    Paragraph::new(lines).block(titled("Threads: longest gap between turns"))
}

fn announcement_table(frame: &Frame, width: u16) -> Table<'static> {
    let narrow = width < WIDE;
    let row = |a: &AnnouncementRow| {
        let time = clock(a.detected_us);
        match narrow {
            true => Row::new([time, a.publisher.clone(), a.ticker.clone()]),
            false => Row::new([
                time,
                a.publisher.clone(),
                a.listing_type.clone(),
                a.ticker.clone(),
                a.title.clone(),
            ]),
        }
    };
    let widths: &[Constraint] = match narrow {
        true => &[Constraint::Length(12), Constraint::Length(10), Constraint::Fill(1)],
        false => &[
            Constraint::Length(12),
            Constraint::Length(10),
            Constraint::Length(17),
            Constraint::Length(10),
            Constraint::Fill(1),
        ],
    };
    Table::new(frame.announcements.iter().map(row), widths).block(titled("Announcements, newest first"))
}

/// Time of day, to the millisecond.
fn clock(at_us: i64) -> String {
    let at = Timestamp::from_microsecond(at_us).unwrap_or(Timestamp::UNIX_EPOCH);
    at.strftime("%H:%M:%S.%3f").to_string()
}

fn age(ms: i64) -> String {
    match ms {
        0..10_000 => format!("{ms} ms"),
        10_000..600_000 => format!("{} s", ms / 1_000),
        _ => format!("{} min", ms / 60_000),
    }
}

fn bytes(count: f64) -> String {
    match count {
        n if n < 10_000.0 => format!("{n:.0} B"),
        n if n < 10_000_000.0 => format!("{:.0} kB", n / 1e3),
        n => format!("{:.0} MB", n / 1e6),
    }
}

fn micros(of: &Percentiles) -> String {
    let one = |us: f64| match us {
        us if us < 10_000.0 => format!("{us:.0}"),
        us => format!("{:.0}k", us / 1e3),
    };
    format!("p50 {} p99 {} max {} µs", one(of.p50_us), one(of.p99_us), one(of.max_us))
}

fn counts(of: &[(String, u64)]) -> String {
    if of.is_empty() {
        return "none".to_owned();
    }
    let shown = of.iter().take(COUNTS).map(|(name, count)| format!("{name} {count}"));
    shown.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::{FeedPart, ThreadRow, WebhooksPart};

    fn frame() -> Frame {
        let names = ["binance.cms", "bithumb.api", "upbit.web"];
        let sources = names.map(|name| SourceRow {
            name: name.into(),
            state: if name == "upbit.web" { "blocked" } else { "live" }.into(),
            last_poll_ms: Some(420),
            polls_per_second: 0.91,
            announced: 12,
            failures: 3,
            failed_most: Some("timeout".into()),
            connections: 2,
            budget_per_second: 2.0,
        });
        let threads = ["source-0", "feed-0", "accept", "journal", "webhook", "control"];
        let announcement = AnnouncementRow {
            detected_us: 1_700_000_000_123_456,
            publisher: "upbit".into(),
            listing_type: "spot_listing".into(),
            ticker: "EXMPL".into(),
            title: "이그잼플(EXMPL) 신규 거래지원 안내".into(),
        };
        Frame {
            at_us: 1_700_000_001_000_000,
            epoch: 4,
            sources: sources.to_vec(),
            feed: FeedPart {
                connections: 4_321,
                messages_per_second: 17.4,
                bytes_per_second: 23_456.0,
                last: Percentiles { p50_us: 120.0, p99_us: 900.0, max_us: 12_000.0 },
                closed: vec![("too_slow".into(), 3), ("restart".into(), 1)],
                ..FeedPart::default()
            },
            webhooks: WebhooksPart {
                endpoints: 9,
                pending: 2,
                failed: vec![("timeout".into(), 4)],
                ..WebhooksPart::default()
            },
            threads: threads
                .map(|name| ThreadRow {
                    name: name.into(),
                    longest_gap_us: (name != "control").then_some(87),
                    still_us: Some(1),
                })
                .to_vec(),
            announcements: vec![announcement; 30],
            ..Frame::default()
        }
    }

    fn drawn(width: u16, height: u16, head: &Head, frame: &Frame) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|screen| draw(screen, head, frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(row).map(|line| line.trim_end().to_owned()).collect()
    }

    fn head() -> Head {
        Head { service: "/run/a.sock".into(), trouble: None, interval: Duration::from_secs(1) }
    }

    fn has(lines: &[String], parts: &[&str]) {
        for part in parts {
            assert!(lines.iter().any(|line| line.contains(part)), "no {part:?} in\n{}", lines.join("\n"));
        }
    }

    #[test]
    fn at_80_by_24_every_part_is_there() {
        let lines = drawn(80, 24, &head(), &frame());
        has(
            &lines,
            &[
                "tocsin 22:13:21.000 UTC  epoch 4",
                "upbit.web      blocked  420 ms   3       0.91     12",
                "4321 connections, 17.4 messages/s",
                "last   p50 120 p99 900 max 12k µs",
                "closed too_slow 3, restart 1",
                "9 endpoints, 2 pending",
                "failed timeout 4",
                "feed-0    87 µs",
                "control   waits for input",
                "22:13:20.123 upbit      spot_listing      EXMPL",
                "q quits",
            ],
        );
        let feed = lines.iter().find(|line| line.contains("connections,")).unwrap();
        assert!(feed.contains("endpoints"), "side by side: {feed}");
    }

    #[test]
    fn at_200_by_50_titles_and_every_column() {
        let lines = drawn(200, 50, &head(), &frame());
        has(&lines, &["most failures", "timeout", "EXMPL", "신"]);
        assert!(lines.iter().filter(|line| line.contains("spot_listing")).count() >= 25);
        let threads = lines.iter().find(|line| line.contains("source-0")).unwrap();
        assert!(threads.contains("control"), "all in one line: {threads}");
    }

    #[test]
    fn at_40_columns_parts_are_below_one_another() {
        let lines = drawn(40, 40, &head(), &frame());
        has(
            &lines,
            &["upbit.web      blocked", "4321 connections", "9 endpoints", "22:13:20.123 upbit      EXMPL"],
        );
        assert!(!lines.iter().any(|line| line.contains("polls/s") || line.contains("spot_listing")));
        let feed = lines.iter().find(|line| line.contains("connections")).unwrap();
        assert!(!feed.contains("endpoints"), "{feed}");
    }

    #[test]
    fn trouble_is_said_and_no_size_does_harm() {
        let trouble = Head { trouble: Some("no answer".into()), ..head() };
        assert!(drawn(80, 24, &trouble, &frame())[0].contains("no answer"));
        for (width, height) in [(1, 1), (3, 2), (40, 5), (79, 9), (500, 3)] {
            drawn(width, height, &head(), &frame());
            drawn(width, height, &head(), &Frame::default());
        }
    }
}
