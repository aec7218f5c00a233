//! What can go wrong when a simulated exchange or receiver is started, scripted or announced. Plain
//! data.

use std::io;
use std::path::PathBuf;

/// Why the simulator could not do what was asked.
#[derive(Debug)]
pub enum SimError {
    /// The listener could not be opened.
    Listen(io::Error),
    /// A certificate could not be made.
    Certificate(String),
    /// A thread could not be started.
    Thread(io::Error),
    /// No notice has this identifier.
    NoSuchNotice(String),
    /// No instrument has this number, or the exchange lists none of that kind.
    NoSuchInstrument(String),
    /// A simulated market holds as many instruments as it may.
    TooManyInstruments,
    /// A file could not be read or written.
    File(PathBuf, io::Error),
    /// A script or an event does not parse; the text says where.
    Script(String),
    /// A receiver's behaviour is unknown; the text says which.
    Behaviour(String),
    /// A webhook secret is none. Does not repeat it.
    Secret,
    /// Worlds broke a rule; the text says which and in which world.
    World(String),
}

impl std::fmt::Display for SimError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            SimError::Listen(e) => write!(f, "cannot listen: {e}"),
            SimError::Certificate(e) => write!(f, "cannot make a certificate: {e}"),
            SimError::Thread(e) => write!(f, "cannot start a thread: {e}"),
            SimError::NoSuchNotice(id) => write!(f, "no notice {id:?}"),
            SimError::NoSuchInstrument(what) => write!(f, "no instrument {what}"),
            SimError::TooManyInstruments => f.write_str("the market is full"),
            SimError::File(path, e) => write!(f, "{}: {e}", path.display()),
            SimError::Script(e) => write!(f, "script: {e}"),
            SimError::Behaviour(e) => write!(f, "{e}"),
            SimError::World(e) => f.write_str(e),
            SimError::Secret => f.write_str("a webhook secret is whsec_ followed by base64"),
        }
    }
}

impl std::error::Error for SimError {}
