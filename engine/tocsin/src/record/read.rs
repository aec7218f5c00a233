//! Reads a recording back, line by line.
//!
//! Contract: files in the order of their numbers, lines in the order of each. A file that ends early (its
//! writer was killed, or writes it just now) is read as far as it goes and told to the visitor; anything
//! else that cannot be read ends with file and line. Bounds: [`LINE_BYTES`] for a line.

use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read as _};
use std::path::{Path, PathBuf};

use tocsin_core::limits;

use super::files::list;
use super::{Line, VERSION};

/// A body escaped at its worst, and what stands around it.
const LINE_BYTES: u64 = 6 * limits::RESPONSE_BODY_BYTES as u64 + 65_536;

/// A line's place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// The file.
    pub file: PathBuf,
    /// The line in it, once decompressed, from 1.
    pub line: u64,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} line {}", self.file.display(), self.line)
    }
}

/// Why a recording cannot be read on.
#[derive(Debug)]
pub enum ReadError {
    /// The directory, or a file of it.
    Io(PathBuf, io::Error),
    /// There is no file of a recording in it.
    Empty(PathBuf),
    /// A place that is damaged, or of another version.
    Damaged(Place, String),
    /// The visitor wants no more, and why.
    Visitor(Place, String),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ReadError::Io(path, error) => write!(f, "{}: {error}", path.display()),
            ReadError::Empty(dir) => {
                write!(f, "{}: no recording is there (files tocsin-NNNNNNNN.jsonl.zst)", dir.display())
            }
            ReadError::Damaged(place, what) | ReadError::Visitor(place, what) => write!(f, "{place}: {what}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// What a visitor is told.
#[derive(Debug)]
pub enum Visit {
    /// A line.
    Line(Line),
    /// The file ends here, in the middle.
    Cut,
}

/// Whether a directory holds a recording.
#[must_use]
pub fn is_recording(dir: &Path) -> bool {
    list(dir).is_ok_and(|files| !files.is_empty())
}

/// Reads all of it.
///
/// # Errors
/// See [`ReadError`]; the visitor's error ends it too.
pub fn read(dir: &Path, visit: &mut dyn FnMut(&Place, Visit) -> Result<(), String>) -> Result<(), ReadError> {
    let files = list(dir).map_err(|e| ReadError::Io(dir.to_owned(), e))?;
    if files.is_empty() {
        return Err(ReadError::Empty(dir.to_owned()));
    }
    for path in files {
        read_file(&path, visit)?;
    }
    Ok(())
}

fn read_file(
    path: &Path,
    visit: &mut dyn FnMut(&Place, Visit) -> Result<(), String>,
) -> Result<(), ReadError> {
    let io = |e| ReadError::Io(path.to_owned(), e);
    let decoder = zstd::Decoder::new(File::open(path).map_err(io)?).map_err(io)?;
    let mut lines = BufReader::new(decoder);
    let (mut place, mut text) = (Place { file: path.to_owned(), line: 1 }, Vec::new());
    loop {
        text.clear();
        let taken = (&mut lines).take(LINE_BYTES).read_until(b'\n', &mut text);
        let damaged = |what: String| ReadError::Damaged(place.clone(), what);
        let told = |place: &Place, visit: &mut dyn FnMut(&Place, Visit) -> Result<(), String>, what| {
            visit(place, what).map_err(|why| ReadError::Visitor(place.clone(), why))
        };
        match taken {
            Ok(0) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return told(&place, visit, Visit::Cut);
            }
            Err(error) => return Err(damaged(format!("cannot be decompressed: {error}"))),
            Ok(_) if !text.ends_with(b"\n") => {
                // A line without its end is the last of a file that was cut; or too long to be one.
                if text.len() as u64 >= LINE_BYTES {
                    return Err(damaged("a line too long to be one of ours".to_owned()));
                }
                return told(&place, visit, Visit::Cut);
            }
            Ok(_) => {}
        }
        let line: Line =
            serde_json::from_slice(&text).map_err(|e| damaged(format!("no line of a recording: {e}")))?;
        match (&line, place.line) {
            (Line::Head { version, .. }, 1) if *version != VERSION => {
                return Err(damaged(format!("version {version}; this program reads {VERSION}")));
            }
            (Line::Head { .. }, 1) => {}
            (_, 1) => return Err(damaged("a file begins with its head, and this is none".to_owned())),
            _ => {}
        }
        told(&place, visit, Visit::Line(line))?;
        place.line += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::super::{AnnouncementLine, Body, Files, Outcome, PollLine};
    use super::*;
    use crate::record::line::tests::announcement;

    fn poll(at_us: i64, body: Option<&str>) -> Line {
        Line::Poll(PollLine {
            source: "upbit.web".into(),
            list: "all".into(),
            at_us,
            elapsed_us: 900,
            status: 200,
            outcome: if body.is_some() { Outcome::Parsed } else { Outcome::Identical },
            body: body.map(|text| Body::new(text.as_bytes())),
        })
    }

    fn lines(dir: &Path) -> (Vec<Line>, usize) {
        let (mut lines, mut cuts) = (Vec::new(), 0);
        read(dir, &mut |_, visit| {
            match visit {
                Visit::Line(line) => lines.push(line),
                Visit::Cut => cuts += 1,
            }
            Ok(())
        })
        .unwrap();
        (lines, cuts)
    }

    fn damage(dir: &Path) -> String {
        read(dir, &mut |_, _| Ok(())).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_and_the_last_line_counts_it() {
        let dir = tempfile::tempdir().unwrap();
        assert!(!is_recording(dir.path()));
        assert!(damage(dir.path()).contains("no recording is there"));
        let mut files = Files::open(&dir.path().join("a"), 1 << 20, 7).unwrap();
        let written = [
            poll(1, Some("{\"a\":1}")),
            poll(2, None),
            Line::Announcement(Box::new(AnnouncementLine::new(&announcement("x"), None))),
            Line::Lost { at_us: 3, polls: 1, bodies: 2, announcements: 0 },
        ];
        for line in &written {
            files.write(line, 0).unwrap();
        }
        files.end(9).unwrap();
        let (read, cuts) = lines(&dir.path().join("a"));
        assert_eq!(cuts, 0);
        assert_eq!(read[0], Line::Head { version: VERSION, epoch: 7, at_us: 0 });
        assert_eq!(read[1..5], written);
        assert_eq!(read[5], Line::End { at_us: 9, polls: 2, bodies: 1, unchanged: 1, announcements: 1 });
        assert!(is_recording(&dir.path().join("a")) && files.bytes().unwrap() > 0);
    }

    #[test]
    fn a_file_that_was_not_ended_is_read_as_far_as_it_was_flushed() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path(), 1 << 20, 7).unwrap();
        files.write(&poll(1, Some("first")), 0).unwrap();
        files.flush().unwrap();
        files.write(&poll(2, Some("second")), 0).unwrap();
        // As kill -9 does: neither flushed nor ended.
        std::mem::forget(files);
        let (read, cuts) = lines(dir.path());
        assert_eq!((&read[1..], cuts), (&[poll(1, Some("first"))][..], 1));
        // The next life begins another file.
        let mut files = Files::open(dir.path(), 1 << 20, 8).unwrap();
        files.write(&poll(3, None), 5).unwrap();
        files.end(6).unwrap();
        let (read, cuts) = lines(dir.path());
        assert_eq!((read.len(), cuts), (5, 1));
    }

    #[test]
    fn all_files_stay_below_the_bound_and_the_oldest_go_first() {
        let dir = tempfile::tempdir().unwrap();
        let max = 1 << 20;
        let mut files = Files::open(dir.path(), max, 1).unwrap();
        let (mut state, mut written) = (1_u64, 0_u64);
        for at in 0..1_200 {
            // Nothing that could be compressed.
            let body: String = (0..8_000)
                .map(|_| {
                    state =
                        state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    char::from(b'0' + u8::try_from(state >> 58).unwrap())
                })
                .collect();
            written += body.len() as u64;
            files.write(&poll(at, Some(&body)), at).unwrap();
            assert!(files.bytes().unwrap() <= max, "after {at}");
        }
        files.end(0).unwrap();
        assert!(written > 4 * max && files.bytes().unwrap() > max / 2);
        let (read, _) = lines(dir.path());
        let first =
            read.iter().find_map(|line| if let Line::Poll(poll) = line { Some(poll.at_us) } else { None });
        assert!(first.unwrap() > 500);
        assert!(matches!(read.iter().rev().nth(1), Some(Line::Poll(poll)) if poll.at_us == 1_199));
    }

    #[test]
    fn damage_is_named_with_its_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut files = Files::open(dir.path(), 1 << 20, 7).unwrap();
        for at in 0..50 {
            files.write(&poll(at, Some(&format!("body {at}"))), 0).unwrap();
        }
        files.end(9).unwrap();
        let path = dir.path().join("tocsin-00000001.jsonl.zst");
        let good = std::fs::read(&path).unwrap();
        for at in [0, 4, good.len() / 2] {
            let mut bad = good.clone();
            bad[at] ^= 0xFF;
            std::fs::write(&path, &bad).unwrap();
            let said = damage(dir.path());
            assert!(said.contains("tocsin-00000001.jsonl.zst line "), "{at}: {said}");
        }
        let rows = [
            ("{\"type\":\"head\",\"version\":9,\"epoch\":1,\"at_us\":1}\n", "line 1: version 9"),
            (
                "{\"type\":\"lost\",\"at_us\":1,\"polls\":1,\"bodies\":1,\"announcements\":1}\n",
                "line 1: a file begins with its head",
            ),
            (
                "{\"type\":\"head\",\"version\":1,\"epoch\":1,\"at_us\":1}\nnonsense\n",
                "line 2: no line of a recording",
            ),
        ];
        for (text, expected) in rows {
            let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
            encoder.write_all(text.as_bytes()).unwrap();
            std::fs::write(&path, encoder.finish().unwrap()).unwrap();
            let said = damage(dir.path());
            assert!(said.contains(expected), "{said}");
        }
        // A visitor's own reason is told with the place as well.
        std::fs::write(&path, &good).unwrap();
        let said =
            read(dir.path(), &mut |place, _| if place.line == 3 { Err("enough".into()) } else { Ok(()) });
        assert!(said.unwrap_err().to_string().ends_with("line 3: enough"));
    }
}
