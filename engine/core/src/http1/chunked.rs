//! The chunked transfer coding (RFC 9112 7.1), decoded incrementally.
//!
//! Contract: fed any split of the bytes, gives the same data; allocation-free. Line ends are CRLF and
//! nothing else, extensions and trailers are skipped within bounds, a size that cannot fit the body
//! bound is refused as soon as its digits show.

use super::response::{BodySink, ResponseError};
use crate::limits;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the hexadecimal digits of a chunk size.
    Size { digits: u8 },
    /// In a chunk extension.
    Extension,
    /// After the CR of a size line.
    SizeLf,
    /// In chunk data.
    Data,
    /// After chunk data.
    DataCr,
    /// After the CR that follows chunk data.
    DataLf,
    /// In a trailer line that has this many bytes so far (0, 1 or more).
    Trailer { empty: bool },
    /// After the CR of a trailer line.
    TrailerLf { empty: bool },
    /// The final line was read.
    Done,
}

/// Decoder of one body.
#[derive(Clone, Debug)]
pub(super) struct Chunked {
    state: State,
    /// Size of the chunk being read, or what is left of it.
    remaining: u64,
    /// Bytes of extensions and trailers skipped so far.
    skipped: usize,
}

impl Chunked {
    pub(super) const fn new() -> Chunked {
        Chunked { state: State::Size { digits: 0 }, remaining: 0, skipped: 0 }
    }

    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes as much of `input` as belongs to the body and returns how much that was. `room` is what
    /// the body may still grow by.
    pub(super) fn feed(
        &mut self,
        input: &[u8],
        room: &mut u64,
        body: &mut impl BodySink,
    ) -> Result<usize, ResponseError> {
        let mut rest = input;
        while self.state != State::Done {
            if self.state == State::Data {
                let take = rest.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                let (data, after) = rest.split_at(take);
                body.push(data);
                rest = after;
                self.remaining -= take as u64;
                *room = room.saturating_sub(take as u64);
                if self.remaining > 0 {
                    break;
                }
                self.state = State::DataCr;
            }
            let Some((byte, after)) = rest.split_first() else { break };
            rest = after;
            self.state = self.step(*byte, *room)?;
        }
        Ok(input.len() - rest.len())
    }

    fn step(&mut self, byte: u8, room: u64) -> Result<State, ResponseError> {
        Ok(match (self.state, byte) {
            (_, 0) => return Err(ResponseError::Nul),
            (State::Size { digits }, _) if byte.is_ascii_hexdigit() => self.size_digit(byte, digits, room)?,
            (State::Size { digits: 0 }, _) => return Err(ResponseError::BadChunkSize),
            // RFC 9112 7.1.1: white space before the semicolon is bad but known; it is skipped.
            (State::Size { .. }, b';' | b' ' | b'\t') => {
                self.skip()?;
                State::Extension
            }
            (State::Size { .. } | State::Extension, b'\r') => State::SizeLf,
            (State::Size { .. } | State::Extension, b'\n') => return Err(ResponseError::BareLf),
            (State::Size { .. }, _) => return Err(ResponseError::BadChunkSize),
            (State::Extension, _) => {
                self.skip()?;
                State::Extension
            }
            (State::SizeLf, b'\n') if self.remaining == 0 => State::Trailer { empty: true },
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => {
                self.remaining = 0;
                State::Size { digits: 0 }
            }
            (State::Trailer { empty }, b'\r') => State::TrailerLf { empty },
            (State::Trailer { .. }, b'\n') => return Err(ResponseError::BareLf),
            (State::Trailer { .. }, _) => {
                self.skip()?;
                State::Trailer { empty: false }
            }
            (State::TrailerLf { empty: true }, b'\n') => State::Done,
            (State::TrailerLf { empty: false }, b'\n') => State::Trailer { empty: true },
            _ => return Err(ResponseError::BadChunkEnd),
        })
    }

    /// Leading zeros are legal, so the number of digits is bounded as well as the value.
    fn size_digit(&mut self, byte: u8, digits: u8, room: u64) -> Result<State, ResponseError> {
        let value = char::from(byte).to_digit(16).map_or(0, u64::from);
        let base = if digits == 0 { 0 } else { self.remaining };
        let size =
            base.checked_mul(16).and_then(|n| n.checked_add(value)).ok_or(ResponseError::BadChunkSize)?;
        if size > room {
            return Err(ResponseError::BodyTooLarge);
        }
        if digits >= 16 {
            return Err(ResponseError::BadChunkSize);
        }
        self.remaining = size;
        Ok(State::Size { digits: digits + 1 })
    }

    fn skip(&mut self) -> Result<(), ResponseError> {
        self.skipped += 1;
        if self.skipped > limits::RESPONSE_CHUNK_EXTRA_BYTES {
            return Err(ResponseError::ChunkExtrasTooLong);
        }
        Ok(())
    }
}
