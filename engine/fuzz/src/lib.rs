//! What targets share that read their input as a little program.

use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Ticker,
};
use tocsin_core::time::WallUs;

/// An input that is read from its front; behind its end are zeros.
pub struct Input<'a>(pub &'a [u8]);

impl<'a> Input<'a> {
    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    /// The next eight bytes as a number.
    pub fn number(&mut self) -> u64 {
        (0..8).fold(0, |number, _| number << 8 | u64::from(self.byte()))
    }

    /// At most `count` further bytes.
    pub fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }

    /// Whether all of it has been read.
    pub fn is_over(&self) -> bool {
        self.0.is_empty()
    }
}

/// An announcement of an asset that does not exist, told apart by its number.
pub fn announcement(seq: u64, epoch: u64, exchange: Exchange, listing_type: ListingType) -> Announcement {
    Announcement {
        id: format!("{}:{seq}", exchange.name()),
        position: FeedPosition { epoch, seq },
        exchange,
        title: format!("Will List Number {seq} (N{seq})"),
        classification: Classification {
            listing_type,
            tickers: Ticker::new(&format!("N{seq}")).into_iter().collect(),
            markets: Vec::new(),
            rule: "en.will_list",
            confidence: 98,
            lang: Lang::En,
        },
        action: Action::Created,
        late: false,
        url: String::new(),
        notice_id: seq.to_string(),
        source: format!("{}.test", exchange.name()),
        published: WallUs(1_800_000_000_000_000),
        received: WallUs(1_800_000_000_000_000),
        detected: WallUs(1_800_000_000_000_000),
        classified: WallUs(1_800_000_000_000_000),
        effective_at: None,
    }
}
