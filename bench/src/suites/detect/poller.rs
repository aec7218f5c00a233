//! A plain polling client in Rust, with reqwest, in a process of its own.
//!
//! Contract: `poll-client URL CA_FILE REQUESTS_PER_SECOND`, the same in every respect as
//! `bench/peers/detect_aiohttp.py`: even distances over one warm connection, `ready` after the first
//! answer, then one line for each new notice: address and instant of having it parsed, in microseconds.
//! Runs until it is killed. Fails with a sentence on standard error.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::Value;
use tocsin::os::clock;
use tokio::time::{Instant, MissedTickBehavior};

use crate::engine::Outcome;

pub(super) fn play() -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Into::into)
        .and_then(|runtime| runtime.block_on(poll()));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("poll client: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn poll() -> Outcome<()> {
    let mut args = std::env::args().skip(2);
    let mut next = || args.next().ok_or("too few arguments");
    let (url, ca_file, rate) = (next()?, next()?, next()?.parse::<f64>()?);
    // The library takes the process's choice; a second call finds it made.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let authority = reqwest::Certificate::from_pem(&std::fs::read(ca_file)?)?;
    let client = reqwest::Client::builder()
        .tls_certs_only([authority])
        .user_agent("bench-reqwest")
        .tcp_nodelay(true)
        .build()?;
    let mut ticks = tokio::time::interval_at(Instant::now(), Duration::try_from_secs_f64(1.0 / rate)?);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut known: Option<BTreeSet<String>> = None;
    loop {
        ticks.tick().await;
        let body = client.get(&url).send().await?.error_for_status()?.bytes().await?;
        let notices: Vec<Value> = serde_json::from_slice(&body)?;
        let at = clock::wall().0;
        let addresses = notices.iter().filter_map(|notice| notice.get("pc_url")?.as_str());
        match &mut known {
            None => {
                known = Some(addresses.map(str::to_owned).collect());
                println!("ready");
            }
            Some(known) => {
                for address in addresses {
                    if !known.contains(address) {
                        println!("{address} {at}");
                        known.insert(address.to_owned());
                    }
                }
            }
        }
    }
}
