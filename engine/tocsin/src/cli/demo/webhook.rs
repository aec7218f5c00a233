//! The demo's webhook: a simulated receiver, registered like a customer's, and a line a delivery.
//!
//! The receiver is a process of its own (`tocsin-sim receiver`) that ends when its standard input does;
//! a thread reads what it says of each delivery and prints it. Nothing here can end the demo once the
//! endpoint is registered.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout};

use serde_json::{Value, json};

use super::{CliError, Sim};
use crate::cli::client::AdminClient;

/// A receiver that runs, not yet registered.
pub(super) struct Receiver {
    child: Child,
    /// Its end is the receiver's.
    hold: Option<ChildStdin>,
    says: Option<ChildStdout>,
    base_url: String,
    /// Whom to trust: `egress.ca_file`.
    pub(super) ca_file: PathBuf,
    secret_file: PathBuf,
}

/// The account that was made for it.
pub(super) struct Registered {
    /// The receiver's address.
    pub(super) url: String,
    /// A link that signs the account's owner in.
    pub(super) customer: String,
    /// The same for the administrator.
    pub(super) administrator: String,
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.hold.take());
        let _ = self.child.wait();
    }
}

impl Receiver {
    /// Starts one that keeps its files in `dir`.
    pub(super) fn start(dir: &Path) -> Result<Receiver, CliError> {
        let (ca_file, secret_file) = (dir.join("receiver-ca.pem"), dir.join("webhook-secret.txt"));
        let mut child = Sim::spawn(|command| {
            command.args(["receiver", "--json", "--until-stdin-ends"]);
            command.arg("--ca-out").arg(&ca_file).arg("--secret-file").arg(&secret_file);
            command.stdout(std::process::Stdio::piped());
        })?;
        let stdin = child.stdin.take();
        let mut says = child.stdout.take();
        // The first line says where it is.
        let mut line = String::new();
        let first = says.as_mut().map(|out| read_line(out, &mut line));
        let place: Value = serde_json::from_str(&line).unwrap_or_default();
        let base_url = place.pointer("/receiver/base_url").and_then(Value::as_str).map(str::to_owned);
        let receiver = Receiver {
            child,
            hold: stdin,
            says,
            base_url: base_url.clone().unwrap_or_default(),
            ca_file,
            secret_file,
        };
        match (first, base_url) {
            (Some(Ok(())), Some(_)) => Ok(receiver),
            _ => Err(CliError::failed("the simulated receiver did not start")),
        }
    }

    /// Makes an account and registers the receiver, as an administrator would over the API.
    pub(super) fn register(&self, socket: &Path) -> Result<Registered, CliError> {
        let ask = |target: &str, body: &Value| {
            let client = AdminClient::connect(socket)?;
            let client = client.ok_or_else(|| CliError::failed("the admin API does not answer"))?;
            client.request("POST", target, Some(body))
        };
        let account = ask("/admin/v1/accounts", &json!({"name": "demo", "plan": "phantom"}))?;
        let id = account.get("id").and_then(Value::as_i64).unwrap_or_default();
        let url = format!("{}/hooks/tocsin", self.base_url);
        let made = ask(&format!("/admin/v1/accounts/{id}/webhooks"), &json!({"url": url}))?;
        if made.get("state").and_then(Value::as_str) != Some("active") {
            return Err(CliError::failed(format!("the simulated receiver was not verified: {made}")));
        }
        // The receiver looks for it again and again, as a customer's deployment would be given it.
        let secret = made.get("secret").and_then(Value::as_str).unwrap_or_default();
        std::fs::write(&self.secret_file, secret)
            .map_err(|e| CliError::failed(format!("{}: {e}", self.secret_file.display())))?;
        let link = |account: Value| -> Result<String, CliError> {
            let made = ask("/admin/v1/sign-in-links", &json!({ "account": account }))?;
            let part = |name: &str| made.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
            Ok(part("base_url") + &part("path"))
        };
        Ok(Registered { url, customer: link(id.into())?, administrator: link(Value::Null)? })
    }

    /// Prints a line for each delivery from now on, on a thread that ends with the receiver.
    pub(super) fn print_deliveries(&mut self) {
        let Some(says) = self.says.take() else { return };
        std::thread::spawn(move || {
            for line in BufReader::new(says).lines().map_while(Result::ok) {
                let Ok(delivery) = serde_json::from_str::<Value>(&line) else { continue };
                if delivery.get("event").and_then(Value::as_str) != Some("ping") {
                    println!("{}", shown(&delivery));
                }
            }
        });
    }
}

/// Byte by byte: what follows the line belongs to whoever reads next.
fn read_line(from: &mut ChildStdout, line: &mut String) -> std::io::Result<()> {
    use std::io::Read as _;
    let mut byte = [0];
    while line.len() < 4_096 && from.read(&mut byte)? == 1 && byte != *b"\n" {
        line.push(char::from(byte[0]));
    }
    Ok(())
}

fn shown(delivery: &Value) -> String {
    let of = |path: &str| match delivery.pointer(path) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => "-".to_owned(),
    };
    let micros = delivery.get("latency_us").and_then(Value::as_f64).unwrap_or_default();
    format!(
        "  └ webhook {} {} {}: received {:.2} ms after it was sent, signature {}",
        of("/event"),
        of("/body/exchange"),
        of("/body/symbol"),
        micros / 1_000.0,
        of("/signature"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_says_what_arrived_and_whether_it_was_signed() {
        let delivery = json!({
            "event": "new_listing", "latency_us": 416, "signature": "valid",
            "body": {"exchange": "Upbit", "symbol": "NEWCKRW"},
        });
        assert_eq!(
            shown(&delivery),
            "  └ webhook new_listing Upbit NEWCKRW: received 0.42 ms after it was sent, signature valid"
        );
        assert!(shown(&json!({})).contains("signature -"));
    }
}
