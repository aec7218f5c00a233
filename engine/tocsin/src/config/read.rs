//! From layers to types. One function a section; every error names key, value and origin.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use toml::Value;

use tocsin_core::limits;
use tocsin_core::webhook::signature::Brand;

use super::{
    Admin, Clock, Config, ConfigError, Detect, Egress, Feed, FeedLimits, Idle, Layers, Log, Record, Source,
    Topology, TopologyMode, Webhooks,
};

impl Config {
    /// Reads every key into its type and checks what can be checked without touching the machine.
    ///
    /// # Errors
    /// The first value that does not fit.
    pub fn from_layers(layers: &Layers) -> Result<Config, ConfigError> {
        let read = Reader(layers);
        let data_dir = PathBuf::from(read.text("data_dir")?);
        let names = layers.names_in("sources");
        let sources = names.into_iter().map(|name| Ok((name.clone(), source(&read, &name)?)));
        let names = layers.names_in("streams");
        let streams = names.into_iter().map(|name| Ok((name.clone(), super::stream::read(&read, &name)?)));
        Ok(Config {
            feed: feed(&read)?,
            admin: admin(&read, &data_dir)?,
            topology: topology(&read)?,
            detect: Detect { fresh_for: read.duration("detect.fresh_for")? },
            sources: sources.collect::<Result<BTreeMap<_, _>, ConfigError>>()?,
            streams: streams.collect::<Result<BTreeMap<_, _>, ConfigError>>()?,
            binance_parameter_order: super::stream::parameter_order(&read)?,
            market: super::market::read(&read)?,
            webhooks: webhooks(&read)?,
            egress: egress(&read)?,
            smtp: super::smtp::read(&read)?,
            clock: Clock { require_synchronised: read.boolean("clock.require_synchronised")? },
            record: record(&read)?,
            log: Log { level: read.text("log.level")?.to_owned(), json: read.boolean("log.json")? },
            data_dir,
        })
    }
}

fn feed(read: &Reader<'_>) -> Result<Feed, ConfigError> {
    let cert_file = read.path("feed.cert_file")?;
    let key_file = read.path("feed.key_file")?;
    if cert_file.is_some() != key_file.is_some() {
        return Err(read.error("feed.cert_file", "cert_file and key_file go together: set both or neither"));
    }
    Ok(Feed {
        listen: read.parse("feed.listen", "an address such as 0.0.0.0:9201")?,
        tls: read.boolean("feed.tls")?,
        cert_file,
        key_file,
        writers: read.integer("feed.writers", 1, 16)?,
        drain: read.duration("feed.drain")?,
        send_buffer_bytes: read.size("feed.send_buffer", 4 << 10, 4 << 20)?,
        max_connections: read.integer("feed.max_connections", 1, 1_000_000)?,
        proxy_protocol_from: read.list("feed.proxy_protocol_from", "a CIDR such as 10.0.0.0/8")?,
        forwarded_for_from: read.list("feed.forwarded_for_from", "a CIDR such as 10.0.0.0/8")?,
        limits: FeedLimits {
            ip_connections: read.integer("feed.limits.ip_connections", 1, 1_000_000)?,
            ip_connects_per_minute: read.integer("feed.limits.ip_connects_per_minute", 1, 1_000_000)?,
            exempt: read.list("feed.limits.exempt", "a CIDR such as 10.0.0.0/8")?,
        },
    })
}

fn record(read: &Reader<'_>) -> Result<Option<Record>, ConfigError> {
    let max_bytes = read.bytes("record.max_size", 16 << 20, 1 << 40)?;
    Ok(read.path("record.dir")?.map(|dir| Record { dir, max_bytes }))
}

fn admin(read: &Reader<'_>, data_dir: &std::path::Path) -> Result<Admin, ConfigError> {
    let listen = match read.text("admin.listen")? {
        "" => None,
        _ => Some(read.parse::<SocketAddr>("admin.listen", "an address such as 127.0.0.1:9202, or empty")?),
    };
    Ok(Admin {
        socket: read.path("admin.socket")?.unwrap_or_else(|| data_dir.join("admin.sock")),
        listen,
        tls: read.boolean("admin.tls")?,
        token_file: read.path("admin.token_file")?,
        requests_per_second: read.integer("admin.requests_per_second", 1, 1_000_000)?,
        forwarded_for_from: read.list("admin.forwarded_for_from", "a CIDR such as 10.0.0.0/8")?,
        metrics_token_file: read.path("admin.metrics_token_file")?,
    })
}

fn topology(read: &Reader<'_>) -> Result<Topology, ConfigError> {
    let source_cores: Vec<usize> = read.list("topology.source_cores", "a core number")?;
    let feed_cores: Vec<usize> = read.list("topology.feed_cores", "a core number")?;
    let mut all: Vec<usize> = source_cores.iter().chain(&feed_cores).copied().collect();
    all.sort_unstable();
    if all.windows(2).any(|pair| pair.first() == pair.last()) {
        return Err(read.error("topology.feed_cores", "source_cores and feed_cores name one core twice"));
    }
    let mode = match read.text("topology.mode")? {
        "auto" if source_cores.is_empty() || feed_cores.is_empty() => TopologyMode::Compact,
        "auto" => TopologyMode::Pinned,
        "pinned" => TopologyMode::Pinned,
        "compact" => TopologyMode::Compact,
        _ => return Err(read.error("topology.mode", "takes \"auto\", \"pinned\" or \"compact\"")),
    };
    if mode == TopologyMode::Pinned && (source_cores.is_empty() || feed_cores.is_empty()) {
        return Err(
            read.error("topology.mode", "\"pinned\" needs topology.source_cores and topology.feed_cores")
        );
    }
    let writers: usize = read.integer("feed.writers", 1, 16)?;
    if mode == TopologyMode::Pinned && feed_cores.len() != writers {
        let problem = format!("{} cores for feed.writers = {writers}: name one each", feed_cores.len());
        return Err(read.error("topology.feed_cores", problem));
    }
    let idle = match (read.text("topology.idle")?, mode) {
        ("spin", _) | ("", TopologyMode::Pinned) => Idle::Spin,
        ("adaptive", _) | ("", TopologyMode::Compact) => Idle::Adaptive,
        ("block", _) => Idle::Block,
        _ => {
            return Err(
                read.error("topology.idle", "takes \"spin\", \"adaptive\", \"block\" or an empty string")
            );
        }
    };
    Ok(Topology { mode, idle, source_cores, feed_cores })
}

fn source(read: &Reader<'_>, name: &str) -> Result<Source, ConfigError> {
    let key = |field: &str| format!("sources.{name}.{field}");
    let base_url = read.http_url(&key("base_url"))?;
    let requests_per_second = match read.float(&key("requests_per_second"))? {
        rate if rate > 0.0 && rate <= 1_000.0 => rate,
        _ => return Err(read.error(&key("requests_per_second"), "takes a number above 0, at most 1000")),
    };
    Ok(Source {
        enabled: read.boolean(&key("enabled"))?,
        base_url,
        connections: read.integer(&key("connections"), 1, 64)?,
        requests_per_second,
        flat: read.boolean(&key("flat"))?,
        ca_file: read.path(&key("ca_file"))?,
        credentials_file: read.path(&key("credentials_file"))?,
        bind: read.list::<IpAddr>(&key("bind"), "a local IP address")?,
    })
}

fn webhooks(read: &Reader<'_>) -> Result<Webhooks, ConfigError> {
    let names: Vec<String> = read.list("webhooks.brand", "a name")?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let rotation_grace = read.duration("webhooks.rotation_grace")?;
    if rotation_grace > limits::WEBHOOK_GRACE {
        return Err(read.error("webhooks.rotation_grace", "takes 0s to 7d"));
    }
    Ok(Webhooks {
        plans: read.list("webhooks.plans", "a name")?,
        brand: Brand::new(&names).map_err(|problem| read.error("webhooks.brand", problem))?,
        rotation_grace,
        self_healing: read.boolean("webhooks.self_healing")?,
        max_in_flight: read.integer("webhooks.max_in_flight", 16, 100_000)?,
    })
}

fn egress(read: &Reader<'_>) -> Result<Egress, ConfigError> {
    Ok(Egress {
        allow_nets: read.list("egress.allow_nets", "a CIDR such as 10.0.0.0/8")?,
        ca_file: read.path("egress.ca_file")?,
        resolvers: read
            .list::<NameServer>("egress.resolvers", "an address such as 192.0.2.53 or 192.0.2.53:53")?
            .into_iter()
            .map(|NameServer(address)| address)
            .collect(),
    })
}

/// An address whose port is 53 where none is given.
struct NameServer(SocketAddr);

impl FromStr for NameServer {
    type Err = std::net::AddrParseError;

    fn from_str(text: &str) -> Result<NameServer, Self::Err> {
        let alone = text.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, 53));
        alone.or_else(|_| text.parse()).map(NameServer)
    }
}

/// Where systemd keeps the credentials of the running service: for verbs beside it, which may not read them
/// but need the other keys of the same file.
const CREDENTIALS: &str = "/run/credentials/tocsin.service";

/// Typed access to the layers.
pub(super) struct Reader<'a>(&'a Layers);

impl Reader<'_> {
    /// As [`Reader::error`], of a value that must not be shown.
    pub(super) fn hidden_error(&self, key: &str, problem: impl Display) -> ConfigError {
        match self.0.get(key) {
            Ok((_, origin)) => ConfigError { origin: origin.clone(), problem: format!("`{key}`: {problem}") },
            Err(missing) => missing,
        }
    }

    pub(super) fn error(&self, key: &str, problem: impl Display) -> ConfigError {
        match self.0.get(key) {
            Ok((value, origin)) => {
                ConfigError { origin: origin.clone(), problem: format!("`{key} = {value}`: {problem}") }
            }
            Err(missing) => missing,
        }
    }

    pub(super) fn text(&self, key: &str) -> Result<&str, ConfigError> {
        self.0.get(key)?.0.as_str().ok_or_else(|| self.error(key, "takes text"))
    }

    pub(super) fn boolean(&self, key: &str) -> Result<bool, ConfigError> {
        self.0.get(key)?.0.as_bool().ok_or_else(|| self.error(key, "takes true or false"))
    }

    /// The address of a server; `None` where it is empty.
    pub(super) fn http_url(&self, key: &str) -> Result<Option<String>, ConfigError> {
        match self.text(key)? {
            "" => Ok(None),
            url if url.starts_with("http://") || url.starts_with("https://") => Ok(Some(url.to_owned())),
            _ => Err(self.error(key, "takes http://HOST[:PORT] or https://HOST[:PORT], or an empty string")),
        }
    }

    pub(super) fn float(&self, key: &str) -> Result<f64, ConfigError> {
        self.0.get(key)?.0.as_float().ok_or_else(|| self.error(key, "takes a number"))
    }

    fn integer<T: TryFrom<i64>>(&self, key: &str, least: i64, most: i64) -> Result<T, ConfigError> {
        let value = self.0.get(key)?.0.as_integer().filter(|v| (least..=most).contains(v));
        value
            .and_then(|v| T::try_from(v).ok())
            .ok_or_else(|| self.error(key, format!("takes a whole number from {least} to {most}")))
    }

    fn parse<T: FromStr>(&self, key: &str, takes: &str) -> Result<T, ConfigError> {
        self.text(key)?.parse().map_err(|_| self.error(key, format!("takes {takes}")))
    }

    /// A file, or a credential of the service manager (`credential:NAME`); `None` where it is empty.
    pub(super) fn path(&self, key: &str) -> Result<Option<PathBuf>, ConfigError> {
        let text = self.text(key)?;
        let Some(name) = text.strip_prefix("credential:") else {
            return Ok(Some(text).filter(|t| !t.is_empty()).map(PathBuf::from));
        };
        if name.is_empty() || name.contains('/') || name.starts_with('.') {
            return Err(self.error(key, "takes credential:NAME, the name being one of LoadCredential="));
        }
        let dir = std::env::var_os("CREDENTIALS_DIRECTORY").unwrap_or_else(|| CREDENTIALS.into());
        Ok(Some(PathBuf::from(dir).join(name)))
    }

    pub(super) fn duration(&self, key: &str) -> Result<Duration, ConfigError> {
        humantime::parse_duration(self.text(key)?)
            .map_err(|e| self.error(key, format!("takes a duration such as \"5s\": {e}")))
    }

    fn bytes(&self, key: &str, least: u64, most: u64) -> Result<u64, ConfigError> {
        let size: bytesize::ByteSize = self.parse(key, "a size such as \"16KiB\"")?;
        Some(size.as_u64()).filter(|s| (least..=most).contains(s)).ok_or_else(|| {
            let (least, most) = (bytesize::ByteSize::b(least), bytesize::ByteSize::b(most));
            self.error(key, format!("takes a size from {least} to {most}"))
        })
    }

    fn size(&self, key: &str, least: u32, most: u32) -> Result<u32, ConfigError> {
        let bytes = self.bytes(key, least.into(), most.into())?;
        u32::try_from(bytes).map_err(|_| self.error(key, "is too large"))
    }

    /// A list of texts or numbers, each parsed.
    pub(super) fn list<T: FromStr>(&self, key: &str, item_takes: &str) -> Result<Vec<T>, ConfigError> {
        let items = self.0.get(key)?.0.as_array().ok_or_else(|| self.error(key, "takes a list"))?;
        items
            .iter()
            .map(|item| {
                let text = match item {
                    Value::String(s) => s.clone(),
                    other => other.to_string(),
                };
                text.parse().map_err(|_| self.error(key, format!("{item} is not {item_takes}")))
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;
    use std::io::Write;

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Config::from_layers(&Layers::defaults().unwrap().with_file(file.path())?)
    }

    fn problem(text: &str) -> String {
        from_text(text).unwrap_err().problem
    }

    #[test]
    fn defaults_are_those_the_design_fixes() {
        let config = Config::from_layers(&Layers::defaults().unwrap()).unwrap();
        assert_eq!(config.data_dir, PathBuf::from("/var/lib/tocsin"));
        assert_eq!(config.feed.listen.to_string(), "0.0.0.0:9201");
        assert!(config.feed.tls);
        assert_eq!(config.feed.limits.ip_connections, limits::IP_CONNECTIONS);
        assert_eq!(config.feed.limits.ip_connects_per_minute, limits::IP_CONNECTS_PER_MINUTE);
        assert_eq!(config.admin.socket, PathBuf::from("/var/lib/tocsin/admin.sock"));
        assert_eq!(config.admin.listen.map(|a| a.to_string()).as_deref(), Some("127.0.0.1:9202"));
        assert_eq!(config.topology.mode, TopologyMode::Compact);
        let enabled = config.sources.iter().filter(|(_, source)| source.enabled).map(|(name, _)| name);
        assert_eq!(enabled.collect::<Vec<_>>(), ["binance", "bithumb", "upbit"]);
        assert_eq!(config.sources.len(), tocsin_core::source::exchange::ALL.len());
        for spec in tocsin_core::source::exchange::ALL {
            let mean = config.sources[spec.config_name].requests_per_second;
            assert!((mean - spec.pacing.requests_per_second).abs() < f64::EPSILON, "{}", spec.name);
        }
    }

    #[test]
    fn a_misspelt_key_is_named_with_its_nearest_and_its_line() {
        let error = from_text("[feed]\ntls = true\nlisen = \"0.0.0.0:1\"\n").unwrap_err();
        assert_eq!(error.problem, "there is no key `feed.lisen`; the nearest is `feed.listen`");
        assert!(matches!(error.origin, Origin::File(_, 3)), "{:?}", error.origin);
        assert!(problem("[sources.upbitt]\nenabled = true").contains("`sources.upbit.enabled`"));
    }

    #[test]
    fn bad_values_say_what_the_key_takes() {
        let rows = [
            ("[feed]\nlisten = \"nowhere\"", "`feed.listen = \"nowhere\"`: takes an address"),
            ("[feed]\nlisten = 9201", "`feed.listen` takes a string such as"),
            ("[feed]\nwriters = 0", "takes a whole number from 1 to 16"),
            ("[feed]\ndrain = \"5\"", "takes a duration such as"),
            ("[feed]\nsend_buffer = \"1KiB\"", "takes a size from"),
            ("[record]\nmax_size = \"5KiB\"", "takes a size from 16.0 MiB to 1.0 TiB"),
            ("[feed]\ncert_file = \"a.pem\"", "cert_file and key_file go together"),
            ("[feed.limits]\nexempt = [\"10.0.0.0/33\"]", "\"10.0.0.0/33\" is not a CIDR"),
            ("[sources.upbit]\nbase_url = \"ftp://x\"", "takes http://HOST[:PORT]"),
            ("[sources.upbit]\nrequests_per_second = 0.0", "above 0"),
            ("[topology]\nmode = \"pinned\"", "needs topology.source_cores"),
            ("[topology]\nsource_cores = [1]\nfeed_cores = [1]", "name one core twice"),
            ("[topology]\nsource_cores = [1]\nfeed_cores = [2, 3]", "2 cores for feed.writers = 1"),
            ("[feed\n", "unclosed table"),
        ];
        for (text, expected) in rows {
            let got = problem(text);
            assert!(got.contains(expected), "{text:?}: {got:?} does not contain {expected:?}");
        }
    }

    #[test]
    fn whole_numbers_do_for_fractions() {
        let config = from_text("[sources.upbit]\nrequests_per_second = 2").unwrap();
        assert!((config.sources["upbit"].requests_per_second - 2.0).abs() < f64::EPSILON);
    }

    #[test]
    fn environment_beats_file_and_flag_beats_environment() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"[feed]\nlisten = \"127.0.0.1:1\"\ntls = false\n").unwrap();
        let environment = [
            ("TOCSIN_FEED__LISTEN", "127.0.0.1:2"),
            ("TOCSIN_TOPOLOGY__IDLE", "block"),
            ("TOCSIN_FEED__LIMITS__EXEMPT", "[\"127.0.0.0/8\"]"),
            ("TOCSIN_DATA_DIR", "/tmp/x"),
            ("TOCSIN_SAMPLES", "a folder of the tests, no key"),
        ];
        let layers = Layers::defaults()
            .unwrap()
            .with_file(file.path())
            .unwrap()
            .with_environment(environment.map(|(k, v)| (k.to_owned(), v.to_owned())).into_iter())
            .unwrap()
            .with_flag("--listen", "feed.listen", "127.0.0.1:3")
            .unwrap();
        let config = Config::from_layers(&layers).unwrap();
        assert_eq!(config.feed.listen.to_string(), "127.0.0.1:3");
        assert!(!config.feed.tls);
        assert_eq!(config.topology.idle, Idle::Block);
        assert_eq!(config.feed.limits.exempt.len(), 1);
        assert_eq!(config.data_dir, PathBuf::from("/tmp/x"));

        let unknown = [("TOCSIN_FEED__LISTENN".to_owned(), "x".to_owned())].into_iter();
        let error = Layers::defaults().unwrap().with_environment(unknown).unwrap_err();
        assert_eq!(error.origin, Origin::Environment("TOCSIN_FEED__LISTENN".to_owned()));
    }
}
