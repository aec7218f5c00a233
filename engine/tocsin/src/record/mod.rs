//! Recordings: files of what exchanges answered and of what was announced, written and read.
//!
//! Contract: [`Files`] writes lines into compressed files and keeps their sum below a bound, the oldest
//! going first; [`read()`] reads them back and names file and line of what is damaged. No ring and no
//! thread is known here: `threads/recorder.rs` feeds it, `cli/record.rs` and `cli/replay.rs` use it.
//! Everything here allocates and blocks on the disk.

mod files;
mod line;
mod read;

pub use files::{Files, FilesError};
pub use line::{AnnouncementLine, BadLine, Body, Line, Outcome, PollLine};
pub use read::{Place, ReadError, Visit, is_recording, read};

/// Version of the lines; a file that says another is refused.
pub const VERSION: u32 = 1;
