//! All of history, page by page: a line each for people, JSON Lines, CSV, or one JSON object.
//!
//! Contract: oldest first, from the running service or the store; each page is written before the next is
//! asked for, so memory does not grow with history (but for `--format json`, which is one object). A
//! reader that has gone (`| head`) ends it quietly.

use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use serde_json::{Value, json};
use tocsin_core::limits;
use tocsin_core::model::FeedPosition;
use tocsin_core::time::WallUs;

use super::super::CliError;
use super::super::client::{AdminClient, Reach};
use super::{Format, HistoryArgs, line_for_people, query, target};
use crate::config::Config;
use crate::control::reply::{history_json, rfc3339};

/// Columns of CSV: head, and the field of a full announcement.
pub(super) const COLUMNS: [&str; 22] = [
    "epoch",
    "seq",
    "detected",
    "publisher",
    "listingType",
    "ticker",
    "tickers",
    "title",
    "action",
    "url",
    "noticeId",
    "id",
    "source",
    "lang",
    "rule",
    "confidence",
    "publishTimestampUs",
    "receivedTimestampUs",
    "detectedTimestampUs",
    "classifiedTimestampUs",
    "dispatchTimestampUs",
    "effectiveAtUs",
];

/// Where pages come from.
enum Pages {
    Service(std::path::PathBuf),
    Store(Box<crate::store::Store>),
}

impl Pages {
    fn next(&self, args: &HistoryArgs) -> Result<Value, CliError> {
        match self {
            Pages::Service(socket) => match AdminClient::connect(socket)? {
                Some(client) => client.request("GET", &target(args), None),
                None => Err(CliError::failed("the service has gone away in the middle of the export")),
            },
            Pages::Store(store) => {
                let page = store.history_page(&query(args)).map_err(CliError::failed)?;
                serde_json::from_slice(&history_json(page, |_| false)).map_err(CliError::failed)
            }
        }
    }
}

/// Runs it.
///
/// # Errors
/// The store, the service, or standard output.
pub(super) fn run(args: &HistoryArgs, config: &Config) -> Result<ExitCode, CliError> {
    let pages = match Reach::find(config)? {
        Reach::Service(_) => Pages::Service(config.admin.socket.clone()),
        Reach::Store(store) => Pages::Store(store),
    };
    let mut out = Writer::new(args, BufWriter::new(io::stdout().lock()));
    let done = export(args, &pages, &mut out).and_then(|()| out.finish().map_err(Ended::Out));
    match done {
        Err(Ended::Out(error)) if error.kind() != io::ErrorKind::BrokenPipe => Err(CliError::failed(error)),
        Err(Ended::Failed(error)) => Err(error),
        _ => Ok(ExitCode::SUCCESS),
    }
}

enum Ended {
    Failed(CliError),
    Out(io::Error),
}

fn export<W: Write>(args: &HistoryArgs, pages: &Pages, out: &mut Writer<W>) -> Result<(), Ended> {
    let mut left = args.limit.unwrap_or(usize::MAX);
    let mut after = args.after.unwrap_or_default();
    loop {
        let page =
            HistoryArgs { after: Some(after), limit: Some(limits::HISTORY_QUERY_LIMIT), ..args.clone() };
        let page = pages.next(&page).map_err(Ended::Failed)?;
        let rows = page.get("announcements").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        for row in rows {
            let at = WallUs(row.get("detectedTimestampUs").and_then(Value::as_i64).unwrap_or_default());
            if args.since.is_some_and(|since| at < since) || args.until.is_some_and(|until| at >= until) {
                continue;
            }
            if left == 0 {
                return Ok(());
            }
            left -= 1;
            out.row(row, at).map_err(Ended::Out)?;
        }
        let next = page.get("next").and_then(Value::as_str).and_then(FeedPosition::parse);
        match next.filter(|next| *next > after && !rows.is_empty()) {
            Some(next) => after = next,
            None => return Ok(()),
        }
    }
}

/// Writes rows in one of the formats.
struct Writer<W: Write> {
    format: Format,
    out: W,
    /// The head of a CSV is out.
    headed: bool,
    /// For `json` alone.
    rows: Vec<Value>,
}

impl<W: Write> Writer<W> {
    fn new(args: &HistoryArgs, out: W) -> Writer<W> {
        let format = if args.wants(Format::Json) { Format::Json } else { args.format };
        Writer { format, out, headed: false, rows: Vec::new() }
    }

    fn row(&mut self, row: &Value, at: WallUs) -> io::Result<()> {
        match self.format {
            Format::Csv => {
                self.head()?;
                self.record(&COLUMNS.map(|column| cell(row, column, at)))
            }
            Format::Json => {
                self.rows.push(row.clone());
                Ok(())
            }
            Format::Jsonl => writeln!(self.out, "{row}"),
            Format::Text => self.out.write_all(line_for_people(row).as_bytes()),
        }
    }

    /// Once, also where no row follows.
    fn head(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.headed, true) {
            return Ok(());
        }
        self.record(&COLUMNS.map(str::to_owned))
    }

    fn record(&mut self, cells: &[String]) -> io::Result<()> {
        let mut csv = csv::Writer::from_writer(&mut self.out);
        csv.write_record(cells)?;
        csv.flush()
    }

    fn finish(&mut self) -> io::Result<()> {
        match self.format {
            Format::Csv => self.head()?,
            Format::Json => {
                let rows = std::mem::take(&mut self.rows);
                writeln!(self.out, "{}", json!({"announcements": rows, "next": null, "gap": null}))?;
            }
            Format::Jsonl | Format::Text => {}
        }
        self.out.flush()
    }
}

/// A field as a cell: lists are joined by a space, what is not there is empty.
fn cell(row: &Value, column: &str, detected: WallUs) -> String {
    match (column, row.get(column)) {
        ("detected", _) => rfc3339(detected),
        (_, None | Some(Value::Null)) => String::new(),
        (_, Some(Value::String(text))) => text.clone(),
        (_, Some(Value::Array(items))) => {
            items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(" ")
        }
        (_, Some(other)) => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_texts_numbers_and_joined_lists() {
        let row = json!({"title": "a, \"b\"", "tickers": ["A", "B"], "seq": 7, "effectiveAtUs": null});
        let cells =
            ["title", "tickers", "seq", "effectiveAtUs", "url", "detected"].map(|c| cell(&row, c, WallUs(0)));
        assert_eq!(cells, ["a, \"b\"", "A B", "7", "", "", "1970-01-01T00:00:00Z"]);
        let mut writer = Writer { format: Format::Csv, out: Vec::new(), headed: false, rows: Vec::new() };
        writer.row(&row, WallUs(0)).unwrap();
        writer.finish().unwrap();
        let text = String::from_utf8(writer.out).unwrap();
        let mut lines = text.lines();
        assert_eq!(lines.next().unwrap(), COLUMNS.join(","));
        assert!(lines.next().unwrap().contains(",\"a, \"\"b\"\"\","), "{text}");
    }
}
