//! Query parameters of the feed and of the history, read once, strictly where quiet guessing would
//! change what a subscriber gets.
//!
//! Contract: unknown parameters are passed over; unknown exchange names are kept for the welcome's
//! `ignoredCex`; any other value that is not understood is a [`BadParameter`] naming the parameter
//! and what it takes. An empty value counts as not given. Of a repeated list parameter all values
//! are joined, of any other the last one counts. Allocates the lists. Owner: the accept thread.

use crate::feed::subscription::{FieldSet, FrameKind};
use crate::http1::request::{QueryError, QueryPairs};
use crate::limits;
use crate::model::{Exchange, ExchangeSet, FeedPosition, ListingType, ListingTypeSet, Ticker};
use crate::wire::extra::Extras;

/// Why a query is refused: 400.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadParameter {
    /// The query itself cannot be read.
    Query(QueryError),
    /// A value is not among those a parameter takes.
    Value {
        /// The parameter.
        name: &'static str,
        /// What it takes.
        takes: &'static str,
    },
}

impl BadParameter {
    /// For the answer's `detail`. Repeats nothing that was sent.
    #[must_use]
    pub fn detail(self) -> String {
        match self {
            BadParameter::Query(error) => error.detail().to_owned(),
            BadParameter::Value { name, takes } => format!("{name} takes {takes}"),
        }
    }
}

impl From<QueryError> for BadParameter {
    fn from(error: QueryError) -> Self {
        BadParameter::Query(error)
    }
}

const TAKES_TYPES: &str =
    "a list of spot_listing, futures_listing, spot_delisting, futures_delisting, not_listing";
const TAKES_POSITION: &str = "EPOCH:SEQ, two decimal numbers";

/// What a connection asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedQuery {
    /// `api_key=`: "Not recommended", and only used without the header.
    pub api_key: Option<String>,
    /// `cex=`; all when not given.
    pub exchanges: ExchangeSet,
    /// Names in `cex=` that are no exchange: comma separated, at most
    /// [`limits::IGNORED_CEX_BYTES`].
    pub ignored_cex: String,
    /// `types=`; all when not given.
    pub types: ListingTypeSet,
    /// `tickers=`.
    pub tickers: Option<Box<[Ticker]>>,
    /// `frames=binary|text`.
    pub frames: FrameKind,
    /// `fields=basic|full`.
    pub fields: FieldSet,
    /// `sources=1`.
    pub sources: bool,
    /// `events=market` and `context=1`.
    pub extras: Extras,
    /// `resume=EPOCH:SEQ`.
    pub resume: Option<FeedPosition>,
}

impl FeedQuery {
    /// Reads the query of an upgrade request.
    ///
    /// # Errors
    /// The first thing that is not understood.
    pub fn parse(pairs: QueryPairs<'_>) -> Result<FeedQuery, BadParameter> {
        let mut cex = CexList::default();
        let (mut types, mut tickers) = (None, Vec::new());
        let mut query = FeedQuery {
            api_key: None,
            exchanges: ExchangeSet::ALL,
            ignored_cex: String::new(),
            types: ListingTypeSet::ALL,
            tickers: None,
            frames: FrameKind::Binary,
            fields: FieldSet::Basic,
            sources: false,
            extras: Extras::default(),
            resume: None,
        };
        for pair in pairs {
            let (name, value) = pair?;
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            match &*name {
                "api_key" => query.api_key = Some(value.to_owned()),
                "cex" => cex.add(value),
                "types" => add_types(&mut types, value, "types")?,
                "tickers" => add_tickers(&mut tickers, value)?,
                "frames" => query.frames = parse_frames(value)?,
                "fields" => query.fields = parse_fields(value)?,
                "sources" => query.sources = parse_switch("sources", value)?,
                "events" => query.extras.market |= parse_events(value)?,
                "context" => query.extras.context = parse_switch("context", value)?,
                "resume" => query.resume = Some(parse_position("resume", value)?),
                _ => {}
            }
        }
        query.exchanges = cex.set();
        query.ignored_cex = cex.ignored;
        query.types = types.unwrap_or(ListingTypeSet::ALL);
        query.tickers = (!tickers.is_empty()).then(|| tickers.into_boxed_slice());
        Ok(query)
    }
}

/// What `GET /v1/announcements` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryQuery {
    /// `api_key=`, as for the feed.
    pub api_key: Option<String>,
    /// `after=EPOCH:SEQ`; the newest ones when not given.
    pub after: Option<FeedPosition>,
    /// `cex=`; all when not given.
    pub exchanges: ExchangeSet,
    /// `type=`, a list; `types=` is understood too.
    pub types: ListingTypeSet,
    /// `limit=`, 1 to [`limits::HISTORY_QUERY_LIMIT`].
    pub limit: usize,
}

impl HistoryQuery {
    /// Reads the query of a history request.
    ///
    /// # Errors
    /// The first thing that is not understood.
    pub fn parse(pairs: QueryPairs<'_>) -> Result<HistoryQuery, BadParameter> {
        let mut cex = CexList::default();
        let mut types = None;
        let mut query = HistoryQuery {
            api_key: None,
            after: None,
            exchanges: ExchangeSet::ALL,
            types: ListingTypeSet::ALL,
            limit: limits::HISTORY_QUERY_DEFAULT,
        };
        for pair in pairs {
            let (name, value) = pair?;
            let value = value.trim();
            if value.is_empty() {
                continue;
            }
            match &*name {
                "api_key" => query.api_key = Some(value.to_owned()),
                "cex" => cex.add(value),
                "type" | "types" => add_types(&mut types, value, "type")?,
                "after" => query.after = Some(parse_position("after", value)?),
                "limit" => query.limit = parse_limit(value)?,
                _ => {}
            }
        }
        query.exchanges = cex.set();
        query.types = types.unwrap_or(ListingTypeSet::ALL);
        Ok(query)
    }
}

/// The values of `cex=`, joined.
#[derive(Debug, Default)]
struct CexList {
    /// `None` until a name was given.
    named: Option<ExchangeSet>,
    ignored: String,
}

impl CexList {
    fn add(&mut self, value: &str) {
        for name in value.split(',').map(str::trim).filter(|n| !n.is_empty()) {
            let named = self.named.unwrap_or(ExchangeSet::EMPTY);
            self.named = Some(match Exchange::parse(name) {
                Some(exchange) => named.with(exchange),
                None if name == "*" => ExchangeSet::ALL,
                None => {
                    self.ignore(name);
                    named
                }
            });
        }
    }

    /// Keeps an unknown name if there is room; a repeated one once. A control character would only
    /// come back escaped, six bytes for one, so such a name is left out.
    fn ignore(&mut self, name: &str) {
        let name = name.to_lowercase();
        let fits = self.ignored.len() + 1 + name.len() <= limits::IGNORED_CEX_BYTES;
        if fits && !name.contains(char::is_control) && !self.ignored.split(',').any(|known| known == name) {
            if !self.ignored.is_empty() {
                self.ignored.push(',');
            }
            self.ignored.push_str(&name);
        }
    }

    fn set(&self) -> ExchangeSet {
        self.named.unwrap_or(ExchangeSet::ALL)
    }
}

fn add_types(
    types: &mut Option<ListingTypeSet>,
    value: &str,
    parameter: &'static str,
) -> Result<(), BadParameter> {
    for name in value.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let bad = BadParameter::Value { name: parameter, takes: TAKES_TYPES };
        let listing_type = ListingType::parse(name).ok_or(bad)?;
        *types = Some(types.unwrap_or(ListingTypeSet::EMPTY).with(listing_type));
    }
    Ok(())
}

fn add_tickers(tickers: &mut Vec<Ticker>, value: &str) -> Result<(), BadParameter> {
    const { assert!(limits::FILTER_TICKERS == 64 && limits::TICKER_BYTES == 32, "told below") };
    let bad =
        BadParameter::Value { name: "tickers", takes: "a list of at most 64 symbols of up to 32 bytes" };
    for name in value.split(',').map(str::trim).filter(|n| !n.is_empty()) {
        let ticker = Ticker::new(name).ok_or(bad)?;
        if !tickers.contains(&ticker) {
            if tickers.len() >= limits::FILTER_TICKERS {
                return Err(bad);
            }
            tickers.push(ticker);
        }
    }
    Ok(())
}

fn parse_frames(value: &str) -> Result<FrameKind, BadParameter> {
    match value {
        v if v.eq_ignore_ascii_case("binary") => Ok(FrameKind::Binary),
        v if v.eq_ignore_ascii_case("text") => Ok(FrameKind::Text),
        _ => Err(BadParameter::Value { name: "frames", takes: "binary or text" }),
    }
}

fn parse_fields(value: &str) -> Result<FieldSet, BadParameter> {
    match value {
        v if v.eq_ignore_ascii_case("basic") => Ok(FieldSet::Basic),
        v if v.eq_ignore_ascii_case("full") => Ok(FieldSet::Full),
        _ => Err(BadParameter::Value { name: "fields", takes: "basic or full" }),
    }
}

fn parse_events(value: &str) -> Result<bool, BadParameter> {
    Extras::parse_events(value).ok_or(BadParameter::Value { name: "events", takes: "market" })
}

fn parse_switch(name: &'static str, value: &str) -> Result<bool, BadParameter> {
    match value {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        _ => Err(BadParameter::Value { name, takes: "1 or 0" }),
    }
}

fn parse_position(name: &'static str, value: &str) -> Result<FeedPosition, BadParameter> {
    FeedPosition::parse(value).ok_or(BadParameter::Value { name, takes: TAKES_POSITION })
}

fn parse_limit(value: &str) -> Result<usize, BadParameter> {
    const { assert!(limits::HISTORY_QUERY_LIMIT == 500, "told below") };
    value
        .parse()
        .ok()
        .filter(|n| (1..=limits::HISTORY_QUERY_LIMIT).contains(n))
        .ok_or(BadParameter::Value { name: "limit", takes: "1 to 500" })
}

#[cfg(test)]
mod tests {
    use super::*;
    use Exchange::{Binance, CryptoCom, Upbit};

    fn feed(query: &str) -> Result<FeedQuery, String> {
        FeedQuery::parse(QueryPairs::new(query)).map_err(BadParameter::detail)
    }

    fn history(query: &str) -> Result<HistoryQuery, String> {
        HistoryQuery::parse(QueryPairs::new(query)).map_err(BadParameter::detail)
    }

    #[test]
    fn cex_is_decoded_trimmed_folded_joined_and_unknown_names_come_back() {
        let set = |list: &[Exchange]| list.iter().copied().collect::<ExchangeSet>();
        let rows = [
            ("", ExchangeSet::ALL, ""),
            ("cex=", ExchangeSet::ALL, ""),
            ("cex=,%20,", ExchangeSet::ALL, ""),
            ("cex=*", ExchangeSet::ALL, ""),
            ("cex=binance,*", ExchangeSet::ALL, ""),
            ("cex=*,binance", ExchangeSet::ALL, ""),
            ("cex=binance", set(&[Binance]), ""),
            ("cex=BINANCE%2C+upbit+,binance", set(&[Binance, Upbit]), ""),
            ("cex=binance&cex=upbit", set(&[Binance, Upbit]), ""),
            ("cex=crypto.com", set(&[CryptoCom]), ""),
            ("cex=Nope,upbit,nope,other", set(&[Upbit]), "nope,other"),
            ("cex=nope", ExchangeSet::EMPTY, "nope"),
            ("cex=a%00b", ExchangeSet::EMPTY, ""),
        ];
        for (query, exchanges, ignored) in rows {
            let read = feed(query).unwrap();
            assert_eq!((read.exchanges, read.ignored_cex.as_str()), (exchanges, ignored), "{query}");
        }
        let many: Vec<String> = (0..1_000).map(|n| format!("name{n}")).collect();
        let read = feed(&format!("cex={}", many.join(","))).unwrap();
        assert!(
            read.ignored_cex.len() <= limits::IGNORED_CEX_BYTES
                && read.ignored_cex.starts_with("name0,name1,")
        );
    }

    #[test]
    fn every_parameter_is_read_and_unknown_ones_passed_over() {
        let read = feed(
            "cex=upbit&frames=Text&fields=full&resume=3:12&types=spot_listing,NOT_LISTING&types=spot_delisting\
             &tickers=abc,%20DEF,abc&sources=1&events=Market,&context=1&api_key=dsk_x&utm=%20&v",
        )
        .unwrap();
        let types = [ListingType::SpotListing, ListingType::NotListing, ListingType::SpotDelisting];
        assert_eq!(
            read,
            FeedQuery {
                api_key: Some("dsk_x".to_owned()),
                exchanges: ExchangeSet::EMPTY.with(Upbit),
                ignored_cex: String::new(),
                types: types.into_iter().fold(ListingTypeSet::EMPTY, ListingTypeSet::with),
                tickers: Some([Ticker::new("ABC").unwrap(), Ticker::new("DEF").unwrap()].into()),
                frames: FrameKind::Text,
                fields: FieldSet::Full,
                sources: true,
                extras: Extras { market: true, context: true },
                resume: Some(FeedPosition { epoch: 3, seq: 12 }),
            }
        );
        let nothing = feed("").unwrap();
        assert_eq!(feed("frames=&fields=&resume=&types=&tickers=&sources=&api_key=&cex=").unwrap(), nothing);
        assert_eq!(feed("events=&events=,&context=0").unwrap(), nothing);
        assert_eq!(feed("types=,&tickers=,").unwrap(), nothing);
    }

    #[test]
    fn what_is_not_understood_names_the_parameter_and_what_it_takes() {
        let types = format!("types takes {TAKES_TYPES}");
        let rows = [
            ("frames=json", "frames takes binary or text"),
            ("fields=some", "fields takes basic or full"),
            ("sources=yes", "sources takes 1 or 0"),
            ("events=market,news", "events takes market"),
            ("context=full", "context takes 1 or 0"),
            ("resume=12", "resume takes EPOCH:SEQ, two decimal numbers"),
            ("types=spot_listing,spot", &types),
            ("tickers=A%0AB", "tickers takes a list of at most 64 symbols of up to 32 bytes"),
            ("cex=%zz", "bad percent escape in query"),
            ("cex=%ff", "query is not UTF-8"),
        ];
        for (query, detail) in rows {
            assert_eq!(feed(query).unwrap_err(), detail, "{query}");
        }
        let tickers = |n: usize| (0..n).map(|i| format!("T{i}")).collect::<Vec<_>>().join(",");
        assert!(feed(&format!("tickers={}", tickers(64))).is_ok());
        assert!(feed(&format!("tickers={}", tickers(65))).is_err());
    }

    #[test]
    fn history_parameters() {
        let read = history("after=2:7&cex=binance&type=spot_listing&limit=3").unwrap();
        assert_eq!(read.after, Some(FeedPosition { epoch: 2, seq: 7 }));
        assert_eq!(read.exchanges, ExchangeSet::EMPTY.with(Binance));
        assert_eq!(read.types, ListingTypeSet::EMPTY.with(ListingType::SpotListing));
        assert_eq!(read.limit, 3);
        assert_eq!(history("").unwrap().limit, limits::HISTORY_QUERY_DEFAULT);
        assert_eq!(
            history("types=not_listing").unwrap().types,
            ListingTypeSet::EMPTY.with(ListingType::NotListing)
        );
        for bad in ["limit=0", "limit=501", "limit=x", "limit=-1", "after=x", "type=x"] {
            assert!(history(bad).is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_query_makes_it_panic(query in "(cex|types|tickers|frames|resume|limit|api_key|events|context)?=?[ -~%&=+,é]{0,80}") {
            let _ = feed(&query);
            let _ = history(&query);
        }
    }
}
