//! The lines of a recording: one JSON object each, told apart by `type`.
//!
//! Contract: pure. An [`Announcement`] goes into an [`AnnouncementLine`] and comes back the same.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use tocsin_core::model::{
    Action, Announcement, Classification, Exchange, FeedPosition, Lang, ListingType, Market, Ticker,
};
use tocsin_core::time::WallUs;

use crate::store::intern_name;

/// One line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Line {
    /// The first line of every file.
    Head {
        /// [`super::VERSION`].
        version: u32,
        /// Which start of the service.
        epoch: u64,
        /// When the file was begun.
        at_us: i64,
    },
    /// A request that was answered.
    Poll(PollLine),
    /// An announcement.
    Announcement(Box<AnnouncementLine>),
    /// What is missing here because the recorder was too slow or the disk too full; since the line
    /// before of this type.
    Lost {
        /// Until when.
        at_us: i64,
        /// Polls without a line.
        polls: u64,
        /// Polls whose line lacks the body.
        bodies: u64,
        /// Announcements without a line.
        announcements: u64,
    },
    /// The last line of a file that was ended properly: what it holds.
    End {
        /// When.
        at_us: i64,
        /// Poll lines.
        polls: u64,
        /// Of these, with a body.
        bodies: u64,
        /// Of these, that said nothing new.
        unchanged: u64,
        /// Announcement lines.
        announcements: u64,
    },
}

/// What became of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Outcome {
    /// Read in full.
    Parsed,
    /// Differs from one before in counters and badges only.
    OnlyNoise,
    /// Byte for byte known.
    Identical,
    /// 304.
    NotModified,
    /// Nothing that could be read.
    Unusable,
    /// A status that refuses: 403, 429, 5xx.
    Refused,
}

impl Outcome {
    /// Every outcome, in the order of its discriminant.
    pub const ALL: [Outcome; 6] = [
        Outcome::Parsed,
        Outcome::OnlyNoise,
        Outcome::Identical,
        Outcome::NotModified,
        Outcome::Unusable,
        Outcome::Refused,
    ];

    /// Whether the answer said that nothing has changed.
    #[must_use]
    pub const fn is_unchanged(self) -> bool {
        matches!(self, Outcome::Identical | Outcome::NotModified)
    }
}

/// A request that was answered.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PollLine {
    /// `upbit.web`.
    pub source: String,
    /// The list within it.
    pub list: String,
    /// When the answer was complete.
    pub at_us: i64,
    /// From the request's last byte handed to the kernel to then.
    pub elapsed_us: u32,
    /// HTTP status.
    pub status: u16,
    /// What became of it.
    pub outcome: Outcome,
    /// The body as it came, where it differs from the one before.
    #[serde(flatten)]
    pub body: Option<Body>,
}

/// A body: as text where it is UTF-8, which compresses better and can be read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// UTF-8.
    Text(String),
    /// Anything else.
    Base64(String),
}

impl Body {
    /// Of bytes.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Body {
        match std::str::from_utf8(bytes) {
            Ok(text) => Body::Text(text.to_owned()),
            Err(_) => Body::Base64(STANDARD.encode(bytes)),
        }
    }

    /// The bytes as they came; `None` when the text is no base64.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        match self {
            Body::Text(text) => Some(text.clone().into_bytes()),
            Body::Base64(text) => STANDARD.decode(text).ok(),
        }
    }
}

/// An announcement, every field of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "as `Announcement` has them")]
pub struct AnnouncementLine {
    pub id: String,
    pub epoch: u64,
    pub seq: u64,
    pub exchange: String,
    pub title: String,
    pub listing_type: String,
    pub tickers: Vec<String>,
    pub markets: Vec<(String, String)>,
    pub rule: String,
    pub confidence: u8,
    pub lang: String,
    pub action: String,
    pub late: bool,
    pub url: String,
    pub notice_id: String,
    pub source: String,
    pub published_us: i64,
    pub received_us: i64,
    pub detected_us: i64,
    pub classified_us: i64,
    pub effective_us: Option<i64>,
    /// When its fan-out started; null for a late one, and for one whose dispatch was not known in time.
    pub dispatched_us: Option<i64>,
}

/// A line of an announcement whose field holds what this version does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadLine {
    /// Which field.
    pub field: &'static str,
    /// What it holds.
    pub text: String,
}

impl fmt::Display for BadLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` is {:?}, which this version does not know", self.field, self.text)
    }
}

impl std::error::Error for BadLine {}

/// Finer than the feed's spelling, which calls both kinds of edit `updated`.
const ACTIONS: [(Action, &str); 3] = [
    (Action::Created, "created"),
    (Action::Updated, "updated"),
    (Action::UpdatedWithNews, "updated_with_news"),
];

impl AnnouncementLine {
    /// Of an announcement, dispatched or not.
    #[must_use]
    pub fn new(a: &Announcement, dispatched: Option<WallUs>) -> AnnouncementLine {
        let c = &a.classification;
        let action =
            ACTIONS.iter().find(|(action, _)| *action == a.action).map_or("created", |(_, name)| name);
        AnnouncementLine {
            id: a.id.clone(),
            epoch: a.position.epoch,
            seq: a.position.seq,
            exchange: a.exchange.name().to_owned(),
            title: a.title.clone(),
            listing_type: c.listing_type.name().to_owned(),
            tickers: c.tickers.iter().map(ToString::to_string).collect(),
            markets: c.markets.iter().map(|m| (m.base.to_string(), m.quote.to_string())).collect(),
            rule: c.rule.to_owned(),
            confidence: c.confidence,
            lang: c.lang.name().to_owned(),
            action: action.to_owned(),
            late: a.late,
            url: a.url.clone(),
            notice_id: a.notice_id.clone(),
            source: a.source.clone(),
            published_us: a.published.0,
            received_us: a.received.0,
            detected_us: a.detected.0,
            classified_us: a.classified.0,
            effective_us: a.effective_at.map(|at| at.0),
            dispatched_us: dispatched.map(|at| at.0),
        }
    }

    /// When it went out, as far as that is known.
    #[must_use]
    pub fn went_out(&self) -> WallUs {
        WallUs(self.dispatched_us.unwrap_or(self.detected_us))
    }

    /// The announcement.
    ///
    /// # Errors
    /// A field this version cannot read.
    pub fn announcement(&self) -> Result<Announcement, BadLine> {
        let bad = |field, text: &str| BadLine { field, text: text.chars().take(80).collect() };
        let ticker = |field, text: &String| Ticker::new(text).ok_or_else(|| bad(field, text));
        let market = |(base, quote): &(String, String)| {
            Ok(Market { base: ticker("markets", base)?, quote: ticker("markets", quote)? })
        };
        let lang = Lang::parse(&self.lang);
        let action = ACTIONS.iter().find(|(_, name)| *name == self.action).map(|(action, _)| *action);
        Ok(Announcement {
            id: self.id.clone(),
            position: FeedPosition { epoch: self.epoch, seq: self.seq },
            exchange: Exchange::parse(&self.exchange).ok_or_else(|| bad("exchange", &self.exchange))?,
            title: self.title.clone(),
            classification: Classification {
                listing_type: ListingType::parse(&self.listing_type)
                    .ok_or_else(|| bad("listing_type", &self.listing_type))?,
                tickers: self.tickers.iter().map(|t| ticker("tickers", t)).collect::<Result<_, _>>()?,
                markets: self.markets.iter().map(market).collect::<Result<_, _>>()?,
                rule: intern_name(&self.rule),
                confidence: self.confidence,
                lang: lang.ok_or_else(|| bad("lang", &self.lang))?,
            },
            action: action.ok_or_else(|| bad("action", &self.action))?,
            late: self.late,
            url: self.url.clone(),
            notice_id: self.notice_id.clone(),
            source: self.source.clone(),
            published: WallUs(self.published_us),
            received: WallUs(self.received_us),
            detected: WallUs(self.detected_us),
            classified: WallUs(self.classified_us),
            effective_at: self.effective_us.map(WallUs),
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(crate) fn announcement(title: &str) -> Announcement {
        let ticker = |text| Ticker::new(text).unwrap();
        Announcement {
            id: "upbit:1".into(),
            position: FeedPosition { epoch: 3, seq: 9 },
            exchange: Exchange::Upbit,
            title: title.into(),
            classification: Classification {
                listing_type: ListingType::SpotListing,
                tickers: vec![ticker("ABC")],
                markets: vec![Market { base: ticker("ABC"), quote: ticker("KRW") }],
                rule: "ko.listing",
                confidence: 98,
                lang: Lang::Ko,
            },
            action: Action::UpdatedWithNews,
            late: true,
            url: "https://example.test/1".into(),
            notice_id: "1".into(),
            source: "upbit.web".into(),
            published: WallUs(1),
            received: WallUs(2),
            detected: WallUs(3),
            classified: WallUs(4),
            effective_at: Some(WallUs(5)),
        }
    }

    #[test]
    fn an_announcement_comes_back_as_it_was() {
        let was = announcement("신규 \"거래\"\n");
        let line = Line::Announcement(Box::new(AnnouncementLine::new(&was, Some(WallUs(7)))));
        let text = serde_json::to_string(&line).unwrap();
        assert!(
            !text.contains('\n') && text.starts_with(r#"{"type":"announcement","id":"upbit:1""#),
            "{text}"
        );
        let Line::Announcement(read) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        assert_eq!(read.announcement().unwrap(), was);
        assert_eq!(read.went_out(), WallUs(7));
        assert_eq!(AnnouncementLine::new(&was, None).went_out(), WallUs(3));
        let odd = AnnouncementLine { listing_type: "option_listing".into(), ..*read };
        assert!(odd.announcement().unwrap_err().to_string().contains("`listing_type` is \"option_listing\""));
    }

    #[test]
    fn bodies_are_text_where_they_can_be() {
        for bytes in [&b"{\"a\":1}"[..], b"", b"\xff\x00x"] {
            let line = Line::Poll(PollLine {
                source: "upbit.web".into(),
                list: "all".into(),
                at_us: 1,
                elapsed_us: 2,
                status: 200,
                outcome: Outcome::Parsed,
                body: Some(Body::new(bytes)),
            });
            let text = serde_json::to_string(&line).unwrap();
            assert_eq!(text.contains("\"text\""), std::str::from_utf8(bytes).is_ok(), "{text}");
            let Line::Poll(read) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
            assert_eq!(read.body.unwrap().bytes().unwrap(), bytes);
        }
        let none = r#"{"type":"poll","source":"a","list":"b","at_us":1,"elapsed_us":2,"status":304,"outcome":"not_modified"}"#;
        let Line::Poll(read) = serde_json::from_str(none).unwrap() else { panic!() };
        assert_eq!(read.body, None);
        assert_eq!(serde_json::to_string(&Line::Poll(read)).unwrap(), none);
        assert_eq!(Body::Base64("!".into()).bytes(), None);
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at);
        }
    }
}
