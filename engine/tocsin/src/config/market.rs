//! `[market]`: watching lists of instruments and volumes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tocsin_core::market::{exchange, spike};

use super::read::Reader;
use super::{ConfigError, Market, MarketExchange};

/// Answers do not come often enough for shorter ones.
const SHORTEST_SLOT: Duration = Duration::from_millis(100);

/// Names of the exchanges that have a market source, on or off by default, each once.
fn names() -> BTreeSet<&'static str> {
    exchange::ALL.into_iter().chain(exchange::OFF_BY_DEFAULT).map(|spec| spec.exchange.name()).collect()
}

/// Reads the section.
pub(super) fn read(read: &Reader<'_>) -> Result<Market, ConfigError> {
    let speed = match read.float("market.speed")? {
        speed if (0.1..=1_000.0).contains(&speed) => speed,
        _ => return Err(read.error("market.speed", "takes a number from 0.1 to 1000")),
    };
    let spike_slot = match read.duration("market.spike_slot")? {
        slot if (SHORTEST_SLOT..=spike::SLOT).contains(&slot) => slot,
        _ => return Err(read.error("market.spike_slot", "takes 100ms to 5m")),
    };
    let exchanges = names().into_iter().map(|name| {
        let key = |field: &str| format!("market.{name}.{field}");
        let exchange = MarketExchange {
            enabled: read.boolean(&key("enabled"))?,
            base_url: read.http_url(&key("base_url"))?,
            ca_file: read.path(&key("ca_file"))?,
        };
        Ok((name.to_owned(), exchange))
    });
    let exchanges = exchanges.collect::<Result<BTreeMap<_, _>, ConfigError>>()?;
    let market = Market {
        enabled: read.boolean("market.enabled")?,
        spikes: read.boolean("market.spikes")?,
        speed,
        spike_slot,
        exchanges,
    };
    let real = market.exchanges.iter().find(|(_, exchange)| exchange.enabled && exchange.base_url.is_none());
    match real {
        // What an exchange allows is no matter of taste.
        Some((name, _)) if market.enabled && speed > 1.0 => {
            let problem =
                format!("above 1 is for simulated exchanges, and `market.{name}.base_url` is empty");
            Err(read.error("market.speed", problem))
        }
        Some((name, _)) if market.enabled && spike_slot < spike::SLOT => {
            let problem =
                format!("below 5m is for simulated exchanges, and `market.{name}.base_url` is empty");
            Err(read.error("market.spike_slot", problem))
        }
        _ => Ok(market),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use crate::config::{Config, Layers};

    use super::*;

    fn from_text(text: &str) -> Result<Config, ConfigError> {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(text.as_bytes()).unwrap();
        Config::from_layers(&Layers::defaults().unwrap().with_file(file.path())?)
    }

    #[test]
    fn it_is_off_and_each_exchange_with_a_documented_list_is_ready() {
        let market = from_text("").unwrap().market;
        assert!(!market.enabled && market.spikes);
        let documented: BTreeSet<_> = exchange::ALL.iter().map(|spec| spec.exchange.name()).collect();
        for (name, section) in &market.exchanges {
            assert_eq!(section.enabled, documented.contains(name.as_str()), "{name}");
        }
        assert_eq!(market.exchanges.keys().map(String::as_str).collect::<BTreeSet<_>>(), names());
    }

    #[test]
    fn what_is_wrong_is_said() {
        let rows = [
            ("[market]\nspeed = 0.01", "takes a number from 0.1 to 1000"),
            ("[market]\nenabled = true\nspeed = 2", "above 1 is for simulated exchanges"),
            ("[market]\nspike_slot = \"50ms\"", "takes 100ms to 5m"),
            ("[market]\nspike_slot = \"6m\"", "takes 100ms to 5m"),
            ("[market]\nenabled = true\nspike_slot = \"1s\"", "below 5m is for simulated exchanges"),
            ("[market.okx]\nbase_url = \"okx.com\"", "takes http://HOST"),
            ("[market.coinone]\nenabled = true", "there is no key `market.coinone.enabled`"),
            ("[market]\nspikez = true", "the nearest is `market.spikes`"),
        ];
        for (text, says) in rows {
            let error = from_text(text).unwrap_err();
            assert!(error.problem.contains(says), "{text}: {error}");
        }
        let off: String = names().iter().map(|name| format!("[market.{name}]\nenabled = false\n")).collect();
        assert!(
            from_text(&format!("{off}[market]\nenabled = true\nspeed = 50\nspike_slot = \"300ms\"")).is_ok()
        );
    }
}
