//! What the feed needs of a connection. The threads bring sockets, tests bring memory.

/// What became of bytes offered to a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offer {
    /// How many were taken; they must not be offered again.
    pub accepted: usize,
    /// Taken, but some still wait inside (sealed TLS records) for the connection to take them:
    /// nothing more may be offered until [`Socket::settle`] says so.
    pub held: bool,
}

impl Offer {
    /// Whether all of `len` bytes are on their way.
    #[must_use]
    pub const fn is_all(self, len: usize) -> bool {
        self.accepted == len && !self.held
    }
}

/// The connection is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broken;

/// One connection's sending side. Every call returns at once.
pub trait Socket {
    /// Takes as many bytes as there is room for. After an offer that was not
    /// [`Offer::is_all`] the owner waits for room.
    ///
    /// # Errors
    /// The connection is unusable.
    fn offer(&mut self, bytes: &[u8]) -> Result<Offer, Broken>;

    /// Sends what it holds inside. `true`: nothing is held any more.
    ///
    /// # Errors
    /// The connection is unusable.
    fn settle(&mut self) -> Result<bool, Broken>;

    /// Makes room for a close frame behind a full buffer, if it can.
    fn widen(&mut self);

    /// Says that nothing more will be sent.
    fn finish(&mut self);
}
