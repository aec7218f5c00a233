//! Builds the market thread: what the configuration names, what the store remembers, its rings.

use std::sync::Arc;

use rtrb::{Consumer, Producer, RingBuffer};
use tocsin_core::market::register::Hearing;
use tocsin_core::market::rules::{BookRules, micros};
use tocsin_core::market::spike::SpikeRules;
use tocsin_core::market::watcher::{Watcher, WatcherRules};
use tocsin_core::market::{MarketSpec, exchange as markets};
use tocsin_core::model::{Announcement, Exchange, ListingType};
use tocsin_core::source::{exchange as sources, stream};
use tocsin_core::time::WallUs;
use tocsin_core::wire::EncodedAnnouncement;

use super::StartError;
use super::build::seed;
use crate::config::{Config, MarketExchange};
use crate::net::dns::ResolverClient;
use crate::net::tls::{ClientTls, ClientTrust};
use crate::net::url::BaseUrl;
use crate::os::clock;
use crate::rings::{MarketToFeed, MarketToJournal, MarketToWebhook};
use crate::store::Store;
use crate::threads::market::{MarketOutlets, MarketParts, MarketPeer, MarketStats, MarketThread, StoredBook};
use crate::threads::source::stats::SourceStats;
use crate::topology::{self, Plan};

/// Checks what every section names.
///
/// # Errors
/// What is wrong, with its key.
pub fn check(config: &Config) -> Result<(), String> {
    config.market.exchanges.iter().try_for_each(|(name, section)| peer(name, section).map(drop))
}

/// What each exchange that is watched is asked for, in the order of sources; empty when none is.
#[must_use]
pub fn watched(config: &Config) -> Vec<&'static MarketSpec> {
    let on = |spec: &&MarketSpec| {
        let section = config.market.exchanges.get(spec.exchange.name());
        config.market.enabled && section.is_some_and(|section| section.enabled)
    };
    // A second path to the same instruments stays off; an exchange of which there is nothing else does not.
    let else_unwatched = |spec: &&MarketSpec| markets::ALL.iter().all(|by| by.exchange != spec.exchange);
    let further = markets::OFF_BY_DEFAULT.into_iter().filter(else_unwatched);
    markets::ALL.into_iter().chain(further).filter(on).collect()
}

fn peer(name: &str, section: &MarketExchange) -> Result<MarketPeer, String> {
    let exchange = Exchange::parse(name).ok_or_else(|| format!("there is no exchange `{name}`"))?;
    let url = section.base_url.as_deref().map(BaseUrl::parse).transpose();
    let url = url.map_err(|e| format!("market.{name}.base_url: {e}"))?;
    let trust = ClientTrust { ca_file: section.ca_file.clone(), insecure: false };
    let tls = ClientTls::new(&trust).map_err(|e| format!("market.{name}.ca_file: {e}"))?;
    Ok(MarketPeer { exchange, url, tls })
}

/// The market thread's rings, their far ends waiting for their threads.
pub(super) struct Ends {
    /// One a source thread; none of them where nothing is watched.
    pub(super) of_sources: Vec<Option<Producer<Arc<EncodedAnnouncement>>>>,
    /// One a feed writer.
    pub(super) of_feeds: Vec<Option<Consumer<MarketToFeed>>>,
    pub(super) of_webhook: Option<Consumer<MarketToWebhook>>,
    pub(super) of_journal: Option<Consumer<MarketToJournal>>,
    own: Option<Own>,
}

/// The thread's own ends.
struct Own {
    announcements: Vec<Consumer<Arc<EncodedAnnouncement>>>,
    feeds: Vec<Producer<MarketToFeed>>,
    webhook: Producer<MarketToWebhook>,
    journal: Producer<MarketToJournal>,
}

impl Ends {
    pub(super) fn new(config: &Config, plan: &Plan) -> Ends {
        if !config.market.enabled {
            let of_sources = plan.sources.iter().map(|_| None).collect();
            let of_feeds = plan.feeds.iter().map(|_| None).collect();
            return Ends { of_sources, of_feeds, of_webhook: None, of_journal: None, own: None };
        }
        let (of_sources, announcements) = plan
            .sources
            .iter()
            .map(|_| RingBuffer::new(topology::SOURCE_TO_MARKET))
            .map(|(near, far)| (Some(near), far))
            .unzip();
        let (feeds, of_feeds) = plan
            .feeds
            .iter()
            .map(|_| RingBuffer::new(topology::MARKET_TO_FEED))
            .map(|(near, far)| (near, Some(far)))
            .unzip();
        let (webhook, of_webhook) = RingBuffer::new(topology::MARKET_TO_WEBHOOK);
        let (journal, of_journal) = RingBuffer::new(topology::MARKET_TO_JOURNAL);
        Ends {
            of_sources,
            of_feeds,
            of_webhook: Some(of_webhook),
            of_journal: Some(of_journal),
            own: Some(Own { announcements, feeds, webhook, journal }),
        }
    }

    /// The thread and where it counts, where markets are watched. `bell` wakes the webhook thread.
    pub(super) fn build(
        self,
        around: &Around<'_>,
        resolver: Option<ResolverClient>,
        bell: &Arc<mio::Waker>,
    ) -> Result<(Option<MarketThread>, Option<Arc<MarketStats>>), StartError> {
        let built = self.own.map(|own| build(own, around, resolver, Arc::clone(bell))).transpose()?;
        Ok(built.unzip())
    }
}

/// What the thread is built from, beside its rings.
pub(super) struct Around<'a> {
    pub(super) config: &'a Config,
    pub(super) store: &'a Store,
    pub(super) history: &'a [Arc<EncodedAnnouncement>],
    /// Of every source of announcements.
    pub(super) sources: &'a [Arc<SourceStats>],
}

fn build(
    own: Own,
    around: &Around<'_>,
    resolver: Option<ResolverClient>,
    bell: Arc<mio::Waker>,
) -> Result<(MarketThread, Arc<MarketStats>), StartError> {
    let Around { config, store, history, sources } = *around;
    let resolver = resolver.ok_or_else(|| StartError::Market("no end of the resolver is left".to_owned()))?;
    let hearing: Vec<_> =
        sources.iter().filter_map(|stats| Some((publisher(stats.source)?, stats))).collect();
    let heard = |exchange| match hearing.iter().any(|(of, _)| *of == exchange) {
        // Since when is not known: the first answer says.
        true => Hearing::Until(WallUs::default()),
        false => Hearing::Never,
    };
    let speed = config.market.speed;
    let book = BookRules::default().faster(speed);
    let spikes = SpikeRules { slot: config.market.spike_slot, ..SpikeRules::default() };
    let rules = WatcherRules { book, spikes: config.market.spikes.then_some(spikes), speed };
    let specs = watched(config);
    let watcher = Watcher::new(&rules, &specs, &heard);
    let mut books = Vec::new();
    for spec in &specs {
        for request in spec.requests {
            let (book, records) = store.load_market(spec.name, request.name)?;
            books.push(StoredBook { source: spec.name, request: request.name, book, records });
        }
    }
    let peers = config.market.exchanges.iter().filter(|(_, section)| section.enabled);
    let peers = peers.map(|(name, section)| peer(name, section)).collect::<Result<_, _>>();
    let now = clock::now();
    let stats = Arc::new(MarketStats::default());
    let parts = MarketParts {
        watcher,
        peers: peers.map_err(StartError::Market)?,
        notices: notices(history, WallUs(now.wall.0.saturating_sub(micros(rules.book.notice_before)))),
        books,
        told: store.market_events_since(WallUs(i64::MIN))?,
        announcements: own.announcements,
        hearing: hearing.into_iter().map(|(exchange, stats)| (exchange, Arc::clone(stats))).collect(),
        outlets: MarketOutlets { feeds: own.feeds, webhook: own.webhook, bell, journal: own.journal },
        resolver,
        stats: Arc::clone(&stats),
        speed,
        clock: clock::now,
        seed: seed(),
    };
    let thread = MarketThread::new(parts, now).map_err(|error| StartError::Market(error.to_string()))?;
    Ok((thread, stats))
}

/// Whose announcements a source brings.
fn publisher(source: &str) -> Option<Exchange> {
    let pushed = || stream::ALL.into_iter().find(|spec| spec.name == source).map(|spec| spec.exchange);
    sources::by_name(source).map(|spec| spec.exchange).or_else(pushed)
}

/// Listings and delistings detected since then.
fn notices(history: &[Arc<EncodedAnnouncement>], since: WallUs) -> Vec<Announcement> {
    let all = history.iter().map(|encoded| &encoded.announcement);
    let tells =
        |a: &&Announcement| a.detected >= since && a.classification.listing_type != ListingType::NotListing;
    all.filter(tells).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn config(flags: &[(&str, &str)]) -> Config {
        let layers = flags.iter().fold(Layers::defaults().unwrap(), |layers, (key, text)| {
            layers.with_flag("-", key, text).unwrap()
        });
        Config::from_layers(&layers).unwrap()
    }

    #[test]
    fn what_is_watched_follows_the_switches() {
        let names = |flags: &[(&str, &str)]| -> Vec<&str> {
            watched(&config(flags)).iter().map(|spec| spec.name).collect()
        };
        assert!(names(&[]).is_empty());
        let all: Vec<&str> = markets::ALL.iter().map(|spec| spec.name).collect();
        assert_eq!(names(&[("market.enabled", "true")]), all);
        let some = names(&[
            ("market.enabled", "true"),
            ("market.mexc.enabled", "true"),
            ("market.okx.enabled", "false"),
        ]);
        assert!(some.contains(&"mexc.calendar") && !some.contains(&"okx.instruments"));
        assert!(!some.contains(&"coinbase.exchange"), "a second path to the same instruments");
    }

    #[test]
    fn what_a_section_names_is_checked() {
        let error = check(&config(&[("market.okx.base_url", "http://")])).unwrap_err();
        assert!(error.starts_with("market.okx.base_url: "), "{error}");
        let error = check(&config(&[("market.htx.ca_file", "/nowhere/ca.pem")])).unwrap_err();
        assert!(error.starts_with("market.htx.ca_file: "), "{error}");
        check(&config(&[])).unwrap();
    }
}
