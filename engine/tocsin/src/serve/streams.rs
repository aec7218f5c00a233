//! Builds push sources: what the configuration names of each, and what the store remembers.

use std::sync::Arc;

use tocsin_core::classify::classify;
use tocsin_core::detect::ListHistory;
use tocsin_core::detect::stream::StreamDetector;
use tocsin_core::detect::told::Told;
use tocsin_core::limits;
use tocsin_core::model::CategoryHint;
use tocsin_core::source::stream::credentials::Credentials;
use tocsin_core::source::stream::{self, StreamSpec};

use super::StartError;
use crate::config::{Config, Stream as StreamConfig, credentials};
use crate::net::tls::{ClientTls, ClientTrust};
use crate::net::url::{BaseUrl, UrlError};
use crate::os::clock;
use crate::store::{Store, StoredAnnouncement};
use crate::threads::source::StreamParts;
use crate::threads::source::stats::SourceStats;

/// What a section `[streams.NAME]` names, read and found good.
struct Named {
    spec: &'static StreamSpec,
    url: BaseUrl,
    tls: ClientTls,
    credentials: Option<Credentials>,
}

/// Checks what every section names; the credentials of those that are switched on.
///
/// # Errors
/// What is wrong, with its key and the remedy.
pub fn check(config: &Config) -> Result<(), String> {
    config.streams.iter().try_for_each(|(name, stream)| named(name, stream).map(drop))
}

fn named(name: &str, stream: &StreamConfig) -> Result<Named, String> {
    let spec = stream::by_config_name(name).ok_or_else(|| format!("there is no push source `{name}`"))?;
    let url = address(spec, stream).map_err(|e| format!("streams.{name}.base_url: {e}"))?;
    let trust = ClientTrust { ca_file: stream.ca_file.clone(), insecure: false };
    let tls = ClientTls::new(&trust).map_err(|e| format!("streams.{name}.ca_file: {e}"))?;
    let file = stream.credentials_file.as_deref().filter(|_| stream.enabled && spec.needs_credentials);
    let read = file.map(credentials::read).transpose();
    let credentials = read.map_err(|e| format!("streams.{name}.credentials_file: {e}"))?;
    Ok(Named { spec, url, tls, credentials })
}

/// Where a push source is: its own address, or the configured one.
///
/// # Errors
/// What is wrong with the configured one.
pub fn address(spec: &StreamSpec, stream: &StreamConfig) -> Result<BaseUrl, UrlError> {
    let url = stream.base_url.as_deref().unwrap_or(spec.base_url);
    // A WebSocket's address is an HTTP server's under another scheme.
    let http = if url.starts_with("ws") { url.replacen("ws", "http", 1) } else { url.to_owned() };
    BaseUrl::parse(&http)
}

/// One push source with what the store remembers of it, and where its counts will be.
pub(super) fn build(
    config: &Config,
    name: &str,
    section: &StreamConfig,
    store: &mut Store,
) -> Result<(StreamParts, Arc<SourceStats>), StartError> {
    let Named { spec, url, tls, credentials } = named(name, section).map_err(StartError::Stream)?;
    let mut detector = StreamDetector::new(spec, config.detect.fresh_for);
    let first_starts = store.first_starts(spec.name, spec.channels.iter().copied(), clock::wall())?;
    for (index, (channel, first_start)) in spec.channels.iter().zip(first_starts).enumerate() {
        let baselined = store.is_baselined(spec.name, channel)?;
        detector.load_channel(index, ListHistory { first_start, baselined });
    }
    let mut told = Told::new();
    for record in store.load_seen(spec.name)? {
        detector.load_seen(&record);
        let said = classify(spec.exchange, &record.title, CategoryHint::None);
        told.note(&record.notice_id, true, said.listing_type, &said.tickers);
    }
    for StoredAnnouncement { announcement, .. } in store.load_history(limits::HISTORY_IN_MEMORY)? {
        if announcement.source == spec.name {
            detector.load_announced(&announcement.notice_id, &announcement.title, announcement.published);
            let said = &announcement.classification;
            told.note(&announcement.notice_id, true, said.listing_type, &said.tickers);
        }
    }
    let stats = Arc::new(SourceStats::new(spec.name));
    let parts = StreamParts {
        spec,
        url,
        tls,
        credentials,
        order: config.binance_parameter_order,
        rotate_after: section.rotate_after,
        fresh_for: config.detect.fresh_for,
        bind: section.bind.clone(),
        detector,
        told,
        stats: Arc::clone(&stats),
    };
    Ok((parts, stats))
}
