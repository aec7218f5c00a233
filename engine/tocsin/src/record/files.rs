//! Writes a recording: compressed files of lines in one directory, bounded as a whole.
//!
//! Contract: files are named `tocsin-NNNNNNNN.jsonl.zst`, numbered on from what is there, mode 0600; a new
//! one is begun when one is full, and the oldest are removed so that all of them together stay below the
//! bound. What [`Files::flush`] has returned of can be read by others and survives `kill -9`, though not
//! a power cut. Owner: the recorder thread. Fails with what was done to which file; the file is then left
//! as it is and the next line begins another.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use zstd::stream::write::Encoder;

use super::{Line, VERSION};

/// Files are a part of the bound, so that removing one frees little at a time.
const FILES: u64 = 8;
/// But no longer than this.
const FILE_BYTES: u64 = 64 << 20;
/// Fast, and most of what can be won of bodies that resemble one another.
const LEVEL: i32 = 3;

/// What could not be done to which file.
#[derive(Debug)]
pub struct FilesError {
    what: &'static str,
    path: PathBuf,
    error: io::Error,
}

impl fmt::Display for FilesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}: {}", self.what, self.path.display(), self.error)
    }
}

impl std::error::Error for FilesError {}

/// For `map_err`.
fn doing(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FilesError {
    let path = path.to_owned();
    move |error| FilesError { what, path, error }
}

/// Counts what goes into the file.
struct Counting {
    file: File,
    bytes: u64,
}

impl Write for Counting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The file that is written.
struct Current {
    path: PathBuf,
    encoder: Encoder<'static, Counting>,
    /// Before compression, since the last flush: what the encoder may hold back.
    unflushed: u64,
    polls: u64,
    bodies: u64,
    unchanged: u64,
    announcements: u64,
}

/// See the module head.
pub struct Files {
    dir: PathBuf,
    max_bytes: u64,
    epoch: u64,
    next: u64,
    current: Option<Current>,
    /// A line on its way.
    line: Vec<u8>,
}

impl Files {
    /// Makes the directory if it is not there (mode 0700) and looks what is in it.
    ///
    /// # Errors
    /// It cannot be made or read.
    pub fn open(dir: &Path, max_bytes: u64, epoch: u64) -> Result<Files, FilesError> {
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(doing("making", dir))?;
        let there = list(dir).map_err(doing("reading", dir))?;
        let next = there.last().and_then(|path| number(path)).map_or(1, |last| last + 1);
        Ok(Files { dir: dir.to_owned(), max_bytes, epoch, next, current: None, line: Vec::new() })
    }

    /// Writes a line; begins a file where there is none.
    ///
    /// # Errors
    /// The disk's.
    pub fn write(&mut self, line: &Line, at_us: i64) -> Result<(), FilesError> {
        if self.current.is_none() {
            self.begin(at_us)?;
        }
        let written = self.put(line);
        if written.is_err() {
            self.current = None;
        }
        written?;
        if self
            .current
            .as_ref()
            .is_some_and(|c| c.encoder.get_ref().bytes + c.unflushed / 16 > self.file_bytes())
        {
            // What is held back is only known once it is out.
            self.flush()?;
            if self.current.as_ref().is_some_and(|c| c.encoder.get_ref().bytes >= self.file_bytes()) {
                self.end(at_us)?;
            }
        }
        Ok(())
    }

    /// What was written so far can be read from now on.
    ///
    /// # Errors
    /// The disk's.
    pub fn flush(&mut self) -> Result<(), FilesError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.unflushed = 0;
        let path = current.path.clone();
        let flushed = current.encoder.flush();
        if flushed.is_err() {
            self.current = None;
        }
        flushed.map_err(doing("writing", &path))
    }

    /// Ends the file that is written, with a line of what it holds.
    ///
    /// # Errors
    /// The disk's.
    pub fn end(&mut self, at_us: i64) -> Result<(), FilesError> {
        let Some(current) = &self.current else { return Ok(()) };
        let Current { polls, bodies, unchanged, announcements, .. } = *current;
        self.put(&Line::End { at_us, polls, bodies, unchanged, announcements })?;
        let Some(Current { encoder, path, .. }) = self.current.take() else { return Ok(()) };
        let file = encoder.finish().map_err(doing("writing", &path))?;
        file.file.sync_all().map_err(doing("syncing", &path))
    }

    /// Compressed bytes of all files, the one that is written included.
    ///
    /// # Errors
    /// The directory's.
    pub fn bytes(&self) -> Result<u64, FilesError> {
        let all = list(&self.dir).map_err(doing("reading", &self.dir))?;
        Ok(all.iter().filter_map(|path| path.metadata().ok()).map(|m| m.len()).sum())
    }

    fn file_bytes(&self) -> u64 {
        (self.max_bytes / FILES).min(FILE_BYTES)
    }

    fn begin(&mut self, at_us: i64) -> Result<(), FilesError> {
        self.make_room()?;
        // Somebody else may have begun one of that number.
        let there = list(&self.dir).map_err(doing("reading", &self.dir))?;
        self.next =
            there.last().and_then(|path| number(path)).map_or(self.next, |last| self.next.max(last + 1));
        let path = self.dir.join(format!("tocsin-{:08}.jsonl.zst", self.next));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(doing("making", &path))?;
        self.next += 1;
        let encoder = Encoder::new(Counting { file, bytes: 0 }, LEVEL).and_then(|mut encoder| {
            encoder.include_checksum(true)?;
            Ok(encoder)
        });
        let encoder = encoder.map_err(doing("writing", &path))?;
        let (unflushed, polls, bodies, unchanged, announcements) = (0, 0, 0, 0, 0);
        self.current = Some(Current { path, encoder, unflushed, polls, bodies, unchanged, announcements });
        self.put(&Line::Head { version: VERSION, epoch: self.epoch, at_us })
    }

    /// Removes the oldest files until one more fits.
    fn make_room(&self) -> Result<(), FilesError> {
        let files = list(&self.dir).map_err(doing("reading", &self.dir))?;
        let mut sizes: Vec<(PathBuf, u64)> =
            files.into_iter().filter_map(|path| Some((path.clone(), path.metadata().ok()?.len()))).collect();
        let mut all: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        // A file goes over its own bound by one line at most.
        let leave = self.max_bytes.saturating_sub(self.file_bytes() * 2);
        sizes.reverse();
        while all > leave {
            let Some((path, bytes)) = sizes.pop() else { break };
            std::fs::remove_file(&path).map_err(doing("removing", &path))?;
            all -= bytes;
        }
        Ok(())
    }

    fn put(&mut self, line: &Line) -> Result<(), FilesError> {
        let Some(current) = &mut self.current else { return Ok(()) };
        self.line.clear();
        // Numbers and texts only: what cannot be written as JSON is not in it.
        serde_json::to_writer(&mut self.line, line).map_err(|e| doing("writing", &current.path)(e.into()))?;
        self.line.push(b'\n');
        match line {
            Line::Poll(poll) => {
                current.polls += 1;
                current.bodies += u64::from(poll.body.is_some());
                current.unchanged += u64::from(poll.outcome.is_unchanged());
            }
            Line::Announcement(_) => current.announcements += 1,
            _ => {}
        }
        current.unflushed += self.line.len() as u64;
        current.encoder.write_all(&self.line).map_err(doing("writing", &current.path))
    }
}

/// Files of a recording in a directory, oldest first.
pub(super) fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if number(&path).is_some() {
            files.push(path);
        }
    }
    files.sort_by_key(|path| number(path));
    Ok(files)
}

/// The number in a file's name; `None` for a file that is none of ours.
fn number(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = name.strip_prefix("tocsin-")?.strip_suffix(".jsonl.zst")?;
    if digits.len() < 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok()
}
