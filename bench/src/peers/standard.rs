//! Peers that come as programs: node with a package, the NATS server, nginx with nchan.
//!
//! Contract: as the module above. Files go into a directory of each contender. Ports are the kernel's
//! choice; nginx cannot say which it got, so it is given ones that were free a moment before.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;

use serde_json::Value;

use super::process::Process;
use super::{Contender, Ground, Shape, line_target, plain_target};
use crate::load::{Greeting, Target, Trigger};

const LINE: &str = include_str!("../../peers/line.cjs");
const UWEBSOCKETS: &str = include_str!("../../peers/uwebsockets.cjs");
const WS: &str = include_str!("../../peers/ws.cjs");
const NGINX: &str = include_str!("../../peers/nginx.conf");
const NATS: &str = include_str!("../../peers/nats.conf");
/// How often nginx may lose a port to somebody else.
const PORT_TRIES: usize = 3;

/// A directory of the contender, with these files.
fn folder(ground: &Ground, name: &str, files: &[(&str, &str)]) -> Result<PathBuf, String> {
    let dir = ground.dir.join(name);
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    for (name, text) in files {
        std::fs::write(dir.join(name), text).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    Ok(dir)
}

/// `path` in the cache, if it is there.
fn installed(ground: &Ground, path: &str) -> Result<PathBuf, String> {
    let path = ground.cache.join(path);
    if path.exists() {
        Ok(path)
    } else {
        Err(format!("not installed ({} is not there); run scripts/setup-peers", path.display()))
    }
}

pub(super) fn node(
    ground: &Ground,
    contender: Contender,
    shape: &Shape,
    id: usize,
) -> Result<(Target, Process), String> {
    let program = if contender == Contender::UWebSockets {
        installed(ground, "node_modules/uwebsockets/uws.js")?;
        ("uwebsockets.cjs", UWEBSOCKETS)
    } else {
        installed(ground, "node_modules/ws/index.js")?;
        ("ws.cjs", WS)
    };
    let dir = folder(ground, &format!("node-{id}"), &[("line.cjs", LINE), program])?;
    let mut command = vec!["node".to_owned(), dir.join(program.0).display().to_string()];
    if shape.tls {
        command.extend(ground.certificate());
    }
    let mut process = ground.spawn(contender, id, shape, command)?;
    let line = process.first_line()?;
    Ok((line_target(&line, shape.tls)?, process))
}

pub(super) fn nats(ground: &Ground, shape: &Shape, id: usize) -> Result<(Target, Process), String> {
    let program = installed(ground, "python/bin/nats-server")?;
    let dir = folder(ground, &format!("nats-{id}"), &[])?;
    let tls = if shape.tls {
        let [cert, key] = ground.certificate();
        format!("tls {{ cert_file: {cert:?}, key_file: {key:?} }}")
    } else {
        "no_tls: true".to_owned()
    };
    let config = NATS.replace("@DIR@", &dir.display().to_string()).replace("@TLS@", &tls);
    std::fs::write(dir.join("nats.conf"), config).map_err(|e| e.to_string())?;
    let command =
        vec![program.display().to_string(), "-c".to_owned(), dir.join("nats.conf").display().to_string()];
    let mut process = ground.spawn(Contender::Nats, id, shape, command)?;
    let file = dir.join(format!("nats-server_{}.ports", process.id()));
    let ports: Value =
        process.wait_for(|| serde_json::from_str(&std::fs::read_to_string(&file).ok()?).ok())?;
    // "nats://127.0.0.1:PORT", "ws://127.0.0.1:PORT"
    let address = |name: &str| {
        let url = ports.pointer(&format!("/{name}/0")).and_then(Value::as_str).unwrap_or_default();
        let port = url.rsplit(':').next().and_then(|port| port.parse().ok());
        port.map(|port: u16| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
            .ok_or_else(|| format!("ports {ports}"))
    };
    let mut target = plain_target(address("websocket")?, shape.tls, Trigger::Nats(address("nats")?));
    target.greeting = Greeting::Nats;
    Ok((target, process))
}

pub(super) fn nchan(ground: &Ground, shape: &Shape, id: usize) -> Result<(Target, Process), String> {
    let mut failed = String::new();
    for _ in 0..PORT_TRIES {
        match nchan_once(ground, shape, id) {
            Err(error) if error.contains("Address already in use") => failed = error,
            other => return other,
        }
    }
    Err(failed)
}

fn nchan_once(ground: &Ground, shape: &Shape, id: usize) -> Result<(Target, Process), String> {
    let program = installed(ground, "nginx/usr/sbin/nginx")?;
    let module = installed(ground, "nginx/usr/lib/nginx/modules/ngx_nchan_module.so")?;
    let dir = folder(ground, &format!("nchan-{id}"), &[])?;
    let (feed, control) = (free_port()?, free_port()?);
    let [cert, key] = ground.certificate();
    let certificate =
        if shape.tls { format!("ssl_certificate {cert}; ssl_certificate_key {key};") } else { String::new() };
    let user = if rustix::process::geteuid().is_root() { "user root;" } else { "" };
    let config = NGINX
        .replace("@MODULE@", &module.display().to_string())
        .replace("@DIR@", &dir.display().to_string())
        .replace("@USER@", user)
        .replace("@PORT@", &feed.port().to_string())
        .replace("@CONTROL@", &control.port().to_string())
        .replace("@SSL@", if shape.tls { " ssl" } else { "" })
        .replace("@CERTIFICATE@", &certificate);
    std::fs::write(dir.join("nginx.conf"), config).map_err(|e| e.to_string())?;
    let path = |name: &str| dir.join(name).display().to_string();
    let command = ["-p", &path(""), "-c", &path("nginx.conf"), "-e", "stderr"].map(str::to_owned);
    let command = std::iter::once(program.display().to_string()).chain(command).collect();
    let mut process = ground.spawn(Contender::Nchan, id, shape, command)?;
    process.wait_for(|| TcpStream::connect(control).ok())?;
    Ok((plain_target(feed, shape.tls, Trigger::Post(control)), process))
}

fn free_port() -> Result<SocketAddr, String> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .and_then(|socket| socket.local_addr())
        .map_err(|e| e.to_string())
}
