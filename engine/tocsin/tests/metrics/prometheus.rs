//! A Prometheus of the test's own, and promtool.

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::Value;
use tempfile::TempDir;

use crate::harness::wait_for;
use crate::http;

/// The repository's root.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

/// Where `scripts/setup-test-clients` put a program. Never skips: a test that was not run is no pass.
fn installed(program: &str) -> PathBuf {
    let cache = std::env::var_os("TOCSIN_CACHE").map_or_else(|| repository().join(".cache"), PathBuf::from);
    let path = cache.join("clients/prometheus").join(program);
    assert!(path.exists(), "{} is missing: run scripts/setup-test-clients", path.display());
    path
}

/// Runs promtool in the folder of the rules with `input`; what it printed on standard error. It must succeed.
pub(crate) fn promtool(arguments: &[&str], input: &str) -> String {
    let mut promtool = Command::new(installed("promtool"))
        .args(arguments)
        .current_dir(repository().join("scripts/prometheus"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let [out, err] = [output.stdout, output.stderr].map(|bytes| String::from_utf8(bytes).unwrap());
    assert!(output.status.success(), "promtool {arguments:?}: {out}{err}");
    err
}

/// A running Prometheus that scrapes one target and evaluates our rules; killed when dropped.
pub(crate) struct Prometheus {
    process: Child,
    address: SocketAddr,
    folder: TempDir,
}

impl Prometheus {
    /// Returns once it is ready.
    pub(crate) fn start(target: SocketAddr) -> Prometheus {
        let folder = tempfile::tempdir().unwrap();
        let rules = repository().join("scripts/prometheus/alerts.yml");
        let config = format!(
            "global: {{scrape_interval: 250ms, scrape_timeout: 250ms, evaluation_interval: 500ms}}\n\
             rule_files: [{rules:?}]\n\
             scrape_configs: [{{job_name: tocsin, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        std::fs::write(folder.path().join("prometheus.yml"), config).unwrap();
        // It cannot be told to choose a port and to say which; this one was free a moment ago.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let flag = |name: &str, value: &str| format!("--{name}={value}");
        let inside = |name: &str| folder.path().join(name).display().to_string();
        let process = Command::new(installed("prometheus"))
            .arg(flag("config.file", &inside("prometheus.yml")))
            .arg(flag("storage.tsdb.path", &inside("data")))
            .arg(flag("web.listen-address", &address.to_string()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let mut prometheus = Prometheus { process, address, folder };
        wait_for("Prometheus to be ready", || {
            assert!(prometheus.process.try_wait().unwrap().is_none(), "{}", prometheus.log());
            TcpStream::connect(address).is_ok()
                && http(address, "GET /-/ready HTTP/1.0\r\nHost: x\r\n\r\n").0 == 200
        });
        prometheus
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// The data of an answer of its HTTP API, which must be a success.
    pub(crate) fn api(&self, path: &str, parameters: &[(&str, &str)]) -> Value {
        let form: Vec<String> =
            parameters.iter().map(|(name, value)| format!("{name}={}", encoded(value))).collect();
        let query = form.join("&");
        let request = format!("GET /api/v1/{path}?{query} HTTP/1.0\r\nHost: x\r\n\r\n");
        let (_, body) = http(self.address, &request);
        let answer: Value = serde_json::from_str(&body).unwrap_or_else(|e| panic!("{path}: {e}: {body}"));
        assert_eq!(answer["status"], "success", "{parameters:?}: {answer}\n{}", self.log());
        answer["data"].clone()
    }

    /// Labels and value of each series that the query has now.
    pub(crate) fn query(&self, query: &str) -> Vec<(Value, f64)> {
        let data = self.api("query", &[("query", query)]);
        let series = data["result"].as_array().unwrap();
        series
            .iter()
            .map(|one| (one["metric"].clone(), one["value"][1].as_str().unwrap().parse().unwrap()))
            .collect()
    }

    /// Waits until every rule has been evaluated, and asserts that none has failed.
    pub(crate) fn rules_are_evaluated(&self) {
        wait_for("all rules to be evaluated", || {
            let data = self.api("rules", &[]);
            let rules = data["groups"][0]["rules"].as_array().unwrap();
            let failed: Vec<&Value> = rules.iter().filter(|rule| rule["health"] == "err").collect();
            assert!(rules.len() > 20 && failed.is_empty(), "{failed:?}");
            rules.iter().all(|rule| rule["health"] == "ok")
        });
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn encoded(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() {
            encoded.push(byte.into());
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}
