//! The service manager's side: what it is told, and how it starts the service.

use std::io::ErrorKind;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The service, started by a shell that runs `before` and then becomes it.
pub fn behind_shell(before: &str) -> Command {
    let mut command = Command::new("bash");
    let script = format!("set -eu; {before} exec \"$0\" \"$@\"");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_tocsin")]);
    command
}

/// The manager's end of `NOTIFY_SOCKET`.
pub struct Manager {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Manager {
    /// Listens at a path.
    pub fn listen(path: &Path) -> Manager {
        Manager { socket: UnixDatagram::bind(path).unwrap(), path: path.to_owned() }
    }

    /// What a shell exports for the service, the watchdog's period in microseconds.
    pub fn exports(&self, watchdog_us: u64) -> String {
        format!("export NOTIFY_SOCKET={} WATCHDOG_USEC={watchdog_us}", self.path.display())
    }

    /// The next message, within 10 s.
    pub fn message(&self) -> String {
        self.within(Duration::from_secs(10)).expect("the service says nothing")
    }

    /// The next message, if one comes in time.
    pub fn within(&self, patience: Duration) -> Option<String> {
        self.socket.set_read_timeout(Some(patience)).unwrap();
        let mut bytes = [0; 4_096];
        match self.socket.recv(&mut bytes) {
            Ok(length) => Some(String::from_utf8(bytes[..length].to_vec()).unwrap()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// The next message that is no watchdog's.
    pub fn other_message(&self) -> String {
        let from = Instant::now();
        loop {
            let message = self.message();
            if message != "WATCHDOG=1\n" {
                return message;
            }
            assert!(from.elapsed() < Duration::from_secs(10), "only the watchdog is fed");
        }
    }

    /// Everything that has come so far.
    pub fn take_all(&self) -> Vec<String> {
        std::iter::from_fn(|| self.within(Duration::from_millis(1))).collect()
    }
}
