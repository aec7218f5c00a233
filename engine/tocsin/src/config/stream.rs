//! `[streams.NAME]`: push sources.

use std::net::IpAddr;
use std::time::Duration;

use tocsin_core::source::stream::{self, ParameterOrder};

use super::read::Reader;
use super::{ConfigError, Stream};

/// A session is kept at least so long.
const SHORTEST: Duration = Duration::from_secs(1);

/// Reads one section. What an enabled source cannot do without must be there.
pub(super) fn read(read: &Reader<'_>, name: &str) -> Result<Stream, ConfigError> {
    let key = |field: &str| format!("streams.{name}.{field}");
    let schemes = ["wss://", "ws://", "https://", "http://"];
    let base_url = match read.text(&key("base_url"))? {
        "" => None,
        url if schemes.iter().any(|scheme| url.starts_with(scheme)) => Some(url.to_owned()),
        _ => {
            let problem = "takes wss://HOST[:PORT] or ws://HOST[:PORT], or an empty string";
            return Err(read.error(&key("base_url"), problem));
        }
    };
    let enabled = read.boolean(&key("enabled"))?;
    let spec = stream::by_config_name(name);
    let credentials_file = read.path(&key("credentials_file"))?;
    if enabled && credentials_file.is_none() && spec.is_some_and(|spec| spec.needs_credentials) {
        let problem = "is needed: a file with two lines, the key and the secret (docs/streams.md)";
        return Err(read.hidden_error(&key("credentials_file"), problem));
    }
    let rotate_after = read.duration(&key("rotate_after"))?;
    let longest = spec.and_then(|spec| spec.session_life);
    let too_long = longest.is_some_and(|life| rotate_after > life || rotate_after.is_zero());
    if too_long || !rotate_after.is_zero() && rotate_after < SHORTEST {
        let problem = match longest {
            Some(life) => format!("takes 1s to {}", humantime::format_duration(life)),
            None => "takes 0s (never), or 1s and more".to_owned(),
        };
        return Err(read.error(&key("rotate_after"), problem));
    }
    Ok(Stream {
        enabled,
        base_url,
        credentials_file,
        rotate_after: Some(rotate_after).filter(|after| !after.is_zero()),
        ca_file: read.path(&key("ca_file"))?,
        bind: read.list::<IpAddr>(&key("bind"), "a local IP address")?,
    })
}

/// A key of Binance's section alone.
pub(super) fn parameter_order(read: &Reader<'_>) -> Result<ParameterOrder, ConfigError> {
    let key = "streams.binance.parameter_order";
    ParameterOrder::parse(read.text(key)?)
        .ok_or_else(|| read.error(key, "takes \"alphabetical\" or \"topic_second\""))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::path::PathBuf;

    use crate::config::{Config, Layers};

    use super::*;

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Config::from_layers(&Layers::defaults().unwrap().with_file(file.path())?)
    }

    #[test]
    fn every_stream_has_a_section_that_is_off() {
        let config = from_text("").unwrap();
        assert_eq!(config.streams.len(), stream::ALL.len());
        for spec in stream::ALL {
            let section = &config.streams[spec.config_name];
            assert!(!section.enabled && section.base_url.is_none(), "{}", spec.name);
            let kept = spec.session_life.map(|life| life - tocsin_core::limits::STREAM_MARGIN);
            assert_eq!(section.rotate_after, kept, "{}", spec.name);
        }
    }

    #[test]
    fn what_is_missing_or_wrong_is_said() {
        let rows = [
            ("[streams.upbit]\nenabled = true", "`streams.upbit.credentials_file`: is needed"),
            ("[streams.binance]\nenabled = true", "`streams.binance.credentials_file`: is needed"),
            ("[streams.binance]\nbase_url = \"api.binance.com\"", "takes wss://HOST"),
            ("[streams.binance]\nparameter_order = \"random\"", "takes \"alphabetical\" or \"topic_second\""),
            ("[streams.binance]\nrotate_after = \"25h\"", "takes 1s to 1day"),
            ("[streams.binance]\nrotate_after = \"0s\"", "takes 1s to 1day"),
            ("[streams.gate]\nrotate_after = \"10ms\"", "takes 0s (never), or 1s and more"),
            ("[streams.gate]\nparameter_order = \"alphabetical\"", "there is no key"),
            ("[streams.bithumb]\nenabled = true", "there is no key"),
        ];
        for (text, says) in rows {
            let error = from_text(text).unwrap_err();
            assert!(error.problem.contains(says), "{text}: {error}");
        }
        let text = "[streams.binance]\nenabled = true\ncredentials_file = \"/etc/tocsin/binance.key\"\n\
                    parameter_order = \"topic_second\"\nrotate_after = \"2h\"\n[streams.gate]\nenabled = true\n";
        let config = from_text(text).unwrap();
        let binance = &config.streams["binance"];
        assert_eq!(binance.credentials_file, Some(PathBuf::from("/etc/tocsin/binance.key")));
        assert_eq!(config.binance_parameter_order, ParameterOrder::TopicSecond);
        assert_eq!(binance.rotate_after, Some(Duration::from_secs(7_200)));
        assert!(config.streams["gate"].enabled);
    }
}
