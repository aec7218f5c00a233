//! Whatever a subscriber says, it is judged, and a change of filters stays within what its key allows.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tocsin_core::feed::client_message::{ClientMessage, parse};
use tocsin_core::feed::subscription::Filter;
use tocsin_core::limits;
use tocsin_core::model::{Exchange, ExchangeSet, ListingTypeSet};

fuzz_target!(|message: &[u8]| {
    let ClientMessage::Subscribe(change) = parse(message) else { return };
    assert!(message.len() <= limits::CLIENT_FRAME_BYTES);
    let allowed = ExchangeSet::EMPTY.with(Exchange::Upbit).with(Exchange::Binance);
    let mut filter = Filter { exchanges: allowed, types: ListingTypeSet::ALL, tickers: None };
    change.apply(&mut filter, allowed);
    assert_eq!(filter.exchanges.intersection(allowed), filter.exchanges);
    assert!(filter.tickers.is_none_or(|tickers| tickers.len() <= limits::FILTER_TICKERS));
});
