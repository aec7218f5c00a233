//! An announcement as bytes: what a shared-memory record holds.
//!
//! Contract: [`encode`] then [`decode`] gives the same announcement. `encode` appends to a buffer
//! the caller reuses and allocates nothing while it has room (source thread, hot path); `decode`
//! allocates, runs at start, takes any bytes and never panics. Private to one machine and one
//! short life (the journal thread releases a record within milliseconds), so the layout is not
//! kept compatible: another [`VERSION`] is refused.

use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Market, Ticker,
};
use tocsin_core::time::WallUs;

use super::intern::intern;

/// Layout number, the first byte of every record.
pub const VERSION: u8 = 1;

/// An announcement that has a part too long for the layout (64 KiB of text, 255 tickers).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooLong;

/// Appends `announcement` to `out`.
///
/// # Errors
/// [`TooLong`]; `out` then holds an unfinished record.
pub fn encode(announcement: &Announcement, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let a = announcement;
    let c = &a.classification;
    let count = |n: usize| u8::try_from(n).map_err(|_| TooLong);
    out.extend_from_slice(&[
        VERSION,
        a.exchange as u8,
        c.listing_type as u8,
        match a.action {
            Action::Created => 0,
            Action::Updated => 1,
            Action::UpdatedWithNews => 2,
        },
        u8::from(a.late),
        c.lang as u8,
        c.confidence,
        u8::from(a.effective_at.is_some()),
        count(c.tickers.len())?,
        count(c.markets.len())?,
    ]);
    out.extend_from_slice(&a.position.epoch.to_le_bytes());
    out.extend_from_slice(&a.position.seq.to_le_bytes());
    let effective = a.effective_at.unwrap_or_default();
    for at in [a.published, a.received, a.detected, a.classified, effective] {
        out.extend_from_slice(&at.0.to_le_bytes());
    }
    let texts = [&a.id, &a.title, &a.url, &a.notice_id, &a.source];
    for text in texts.into_iter().map(String::as_str).chain([c.rule]) {
        put_text(text, out)?;
    }
    let markets = c.markets.iter().flat_map(|m| [&m.base, &m.quote]);
    for ticker in c.tickers.iter().chain(markets) {
        put_text(ticker.as_str(), out)?;
    }
    Ok(())
}

fn put_text(text: &str, out: &mut Vec<u8>) -> Result<(), TooLong> {
    let len = u16::try_from(text.len()).map_err(|_| TooLong)?;
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

/// Reads what [`encode`] wrote; `None` for anything else, trailing bytes included.
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<Announcement> {
    let mut r = Reader(bytes);
    let [version, exchange, listing_type, action, late, lang, confidence, effective, tickers, markets] =
        r.array()?;
    if version != VERSION {
        return None;
    }
    let position = FeedPosition { epoch: r.number()?, seq: r.number()? };
    let [published, received, detected, classified, effective_at] =
        [r.wall()?, r.wall()?, r.wall()?, r.wall()?, r.wall()?];
    let [id, title, url, notice_id, source] = [r.text()?, r.text()?, r.text()?, r.text()?, r.text()?];
    let rule = intern(r.text()?);
    let tickers = (0..tickers).map(|_| r.ticker()).collect::<Option<Vec<_>>>()?;
    let markets = (0..markets)
        .map(|_| Some(Market { base: r.ticker()?, quote: r.ticker()? }))
        .collect::<Option<Vec<_>>>()?;
    r.0.is_empty().then_some(())?;
    Some(Announcement {
        id: id.to_owned(),
        position,
        exchange: *Exchange::ALL.get(usize::from(exchange))?,
        title: title.to_owned(),
        classification: Classification {
            listing_type: *ListingType::ALL.get(usize::from(listing_type))?,
            tickers,
            markets,
            rule,
            confidence,
            lang: *Lang::ALL.get(usize::from(lang))?,
        },
        action: match action {
            0 => Action::Created,
            1 => Action::Updated,
            2 => Action::UpdatedWithNews,
            _ => return None,
        },
        late: flag(late)?,
        url: url.to_owned(),
        notice_id: notice_id.to_owned(),
        source: source.to_owned(),
        published,
        received,
        detected,
        classified,
        effective_at: flag(effective)?.then_some(effective_at),
    })
}

fn flag(byte: u8) -> Option<bool> {
    match byte {
        0 => Some(false),
        1 => Some(true),
        _ => None,
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }

    fn wall(&mut self) -> Option<WallUs> {
        self.array().map(i64::from_le_bytes).map(WallUs)
    }

    fn text(&mut self) -> Option<&'a str> {
        let len = self.array().map(u16::from_le_bytes)?;
        core::str::from_utf8(self.take(usize::from(len))?).ok()
    }

    fn ticker(&mut self) -> Option<Ticker> {
        Ticker::new(self.text()?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::store::testing::any_announcement;

    proptest! {
        #[test]
        fn round_trip(announcement in any_announcement()) {
            let mut bytes = Vec::new();
            encode(&announcement, &mut bytes).unwrap();
            prop_assert_eq!(decode(&bytes), Some(announcement));
            prop_assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
            bytes.push(0);
            prop_assert_eq!(decode(&bytes), None);
        }

        #[test]
        fn any_bytes_are_taken(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = decode(&bytes);
        }

        #[test]
        fn a_flipped_byte_never_panics(a in any_announcement(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
            let mut bytes = Vec::new();
            encode(&a, &mut bytes).unwrap();
            let at = at.index(bytes.len());
            bytes[at] = to;
            let _ = decode(&bytes);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let mut a = crate::store::testing::announcement(1, 1);
        a.title = "x".repeat(70_000);
        assert_eq!(encode(&a, &mut Vec::new()), Err(TooLong));
    }
}
