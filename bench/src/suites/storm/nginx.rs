//! nginx as the other side of the handshake comparison.
//!
//! Contract: [`Nginx::start`] runs the installed program with a configuration of its own in a temporary
//! directory: one process on one core, TLS 1.3, stateless tickets, the certificate it is given, no log.
//! Ended and waited for when dropped. Fails when it is not installed or does not listen.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::engine::{self, Outcome};

/// From the start to listening.
const PATIENCE: Duration = Duration::from_secs(10);

/// See the module head.
pub(super) struct Nginx {
    child: Child,
    address: SocketAddr,
    _dir: TempDir,
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Whatever fails here, the process ends with this one's pipes.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What `nginx -v` says; `None` where there is none.
pub(super) fn version() -> Option<String> {
    let said = Command::new("nginx").arg("-v").stdin(Stdio::null()).output().ok()?;
    Some(String::from_utf8_lossy(&said.stderr).trim().trim_start_matches("nginx version: ").to_owned())
}

impl Nginx {
    /// With this certificate and key, on `core`.
    pub(super) fn start(cert: &Path, key: &Path, core: Option<usize>) -> Outcome<Nginx> {
        let dir = tempfile::tempdir()?;
        // Free a moment ago; should it be taken meanwhile, nginx says so.
        let address = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?;
        let config = dir.path().join("nginx.conf");
        std::fs::write(&config, render(dir.path(), cert, key, address))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(dir.path()).arg("-e").arg(dir.path().join("error.log")).arg("-c").arg(config);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let nginx = Nginx { child: engine::spawn_on(core, command)?, address, _dir: dir };
        let end = Instant::now() + PATIENCE;
        while TcpStream::connect(address).is_err() {
            if Instant::now() > end {
                let log = std::fs::read_to_string(nginx._dir.path().join("error.log"));
                return Err(format!("nginx does not listen: {}", log.unwrap_or_default()).into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(nginx)
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }
}

fn render(dir: &Path, cert: &Path, key: &Path, address: SocketAddr) -> String {
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {};\n", dir.join(name).display()))
        .collect();
    format!(
        "daemon off;\nmaster_process off;\npid {pid};\nerror_log {log} emerg;\n\
         events {{ worker_connections 8192; multi_accept on; use epoll; }}\n\
         http {{\naccess_log off;\n{temporary}server {{\nlisten {address} ssl backlog=4096;\n\
         ssl_certificate {cert};\nssl_certificate_key {key};\nssl_protocols TLSv1.3;\n\
         ssl_session_cache off;\nssl_session_tickets on;\nssl_ecdh_curve X25519;\nreturn 204;\n}}\n}}\n",
        pid = dir.join("nginx.pid").display(),
        log = dir.join("error.log").display(),
        cert = cert.display(),
        key = key.display(),
    )
}
