//! The English rules, in the order they are tried.
//!
//! Contract: constants only; see [`super::rule`]. What a title is *about* goes before what it
//! *does*: a postponed listing, a listing on Convert and a contest around a listing all use the
//! listing's words.

use super::lexicon::*;
use super::rule::{Rule, Take};
use crate::model::Exchange;
use crate::model::ListingType::{FuturesDelisting, FuturesListing, NotListing, SpotDelisting, SpotListing};

/// Contracts of any kind.
const CONTRACT: u128 = PERP | FUTURES | DATED;
/// Words that list in any market.
const OPENS: u128 = LIST | LISTING | LAUNCH | ADD_SUPPORT | OPEN_TRADING;
/// Words that list on the spot market.
const LISTS: u128 = LIST | NEW_LISTING | OPEN_TRADING;
/// A vote's outcome.
const WILL_LIST_OR_DELIST: u128 = WILL_DELIST | RESULT;
/// Subjects that are not trading on an order book.
const ASIDE: u128 = PRODUCT | PRODUCT_ACTS | CREDIT | YIELD | OPTIONS | COPY | PROMO | TAG;

/// Exchanges whose notices of perpetual contracts may say only "futures". Binance's never do, and
/// its "Futures Launches ..." without a contract is a feature or a contest.
const FUTURES_WITHOUT_PERPETUAL: &[Exchange] = &[
    Exchange::Okx,
    Exchange::Bybit,
    Exchange::Bitget,
    Exchange::Kucoin,
    Exchange::Gate,
    Exchange::CryptoCom,
    Exchange::Htx,
    Exchange::Bingx,
    Exchange::Mexc,
    Exchange::Coinbase,
    Exchange::Kraken,
    Exchange::Hyperliquid,
];

/// Tried top down; the first that applies decides.
pub(super) const RULES: &[Rule] = &[
    // ---- About a listing, or about several, but none itself ------------------------------------
    Rule::new("en.postponed", NotListing, 92).when(POSTPONE),
    Rule::new("en.roadmap", NotListing, 50).when(ROADMAP),
    Rule::new("en.digest", NotListing, 50).when(DIGEST),
    Rule::new("en.list_noun", NotListing, 50).when(LIST_NOUN),
    Rule::new("en.vote", NotListing, 50).when(VOTE).unless(WILL_LIST_OR_DELIST),
    Rule::new("en.completed", NotListing, 80).when(DONE).unless(OPEN_TRADING),
    Rule::new("en.about_delisting", NotListing, 50).when(ABOUT_DELISTING),
    Rule::new("en.stock_desk", NotListing, 60).when(STOCK_DESK).unless(PERP),
    Rule::new("en.asset_tag", NotListing, 50).when(TAG).unless(LISTS),
    Rule::new("en.product", NotListing, 89).when(PRODUCT).unless(PERP | INTRODUCING),
    Rule::new("en.copy_trading", NotListing, 75).when(COPY).unless(LAUNCH | LIST),
    Rule::new("en.bots", NotListing, 83).when(BOTS_ONLY),
    // ---- Derivatives ---------------------------------------------------------------------------
    Rule::new("en.conversion", NotListing, 50).when(CONVERSION).unless(FOR_SPOT),
    Rule::new("en.spot_with_conversion", SpotListing, 75)
        .when(CONVERSION)
        .when(FOR_SPOT)
        .when(LISTS)
        .take(Take::After(LISTS)),
    Rule::new("en.contract_terms", NotListing, 75).when(TERMS),
    Rule::new("en.futures_delisting", FuturesDelisting, 87)
        .when(CONTRACT)
        .when(DELIST | END_TRADING)
        .unless(COPY | FOR_SPOT | PAUSE)
        .take(Take::ListAfter(DELIST | END_TRADING)),
    Rule::new("en.dated_contract", FuturesListing, 50)
        .when(DATED)
        .when(OPENS | ADD)
        .unless(OPTIONS | PROMO)
        .take(Take::After(LAUNCH | LIST | ADD))
        .named(),
    Rule::new("en.dated_roll", NotListing, 50).when(DATED),
    // Coinbase names the assets in words ("Harbor, PEBL and Lantern"): part of a list would mislead.
    Rule::new("en.perpetual", FuturesListing, 91)
        .only(&[Exchange::Coinbase])
        .when(PERP)
        .when(ADD_SUPPORT)
        .unless(PROMO)
        .take(Take::AtOnce(ADD_SUPPORT)),
    Rule::new("en.perpetual", FuturesListing, 91)
        .when(PERP)
        .when(OPENS | ADD | AVAILABLE)
        .unless(PROMO)
        .take(Take::After(LAUNCH | LIST | LISTING | ADD_SUPPORT | ADD)),
    Rule::new("en.perpetual_promoted", FuturesListing, 50)
        .when(PERP)
        .when(NEW_LISTING | LAUNCH | LIST)
        .take(Take::ListAfter(NEW_LISTING | LAUNCH | LIST))
        .named(),
    Rule::new("en.alpha_and_futures", FuturesListing, 50)
        .when(ALPHA_AND_FUTURES)
        .take(Take::After(0))
        .named(),
    Rule::new("en.margined_contract", FuturesListing, 50)
        .when(CONTRACTS)
        .when(DOLLAR_MARGINED | COIN_MARGINED)
        .when(LIST | LAUNCH | NEW_LISTING)
        .unless(PROMO | OPTIONS)
        .take(Take::After(LAUNCH | LIST | NEW_LISTING))
        .named(),
    Rule::new("en.futures", FuturesListing, 71)
        .only(FUTURES_WITHOUT_PERPETUAL)
        .when(FUTURES)
        .when(LIST | LISTING | LAUNCH | AVAILABLE)
        .unless(PROMO | OPTIONS | COPY | FOR_SPOT)
        .take(Take::After(LAUNCH | LIST | NEW_LISTING))
        .named(),
    Rule::new("en.futures_supported", FuturesListing, 50)
        .only(&[Exchange::Gate, Exchange::Htx])
        .when(FUTURES)
        .when(SUPPORTS)
        .unless(PROMO)
        .take(Take::After(SUPPORTS))
        .named(),
    // ---- Other products of the exchange --------------------------------------------------------
    Rule::new("en.bots", NotListing, 83).when(BOTS).unless(NEW_PAIRS),
    Rule::new("en.margin", NotListing, 97).when(MARGIN).unless(FOR_SPOT),
    Rule::new("en.margin_pairs", NotListing, 50).when(MARGIN).unless(LISTS),
    Rule::new("en.product_acts", NotListing, 58).when(PRODUCT_ACTS),
    Rule::new("en.otc", NotListing, 58).when(OTC),
    Rule::new("en.alpha", NotListing, 66).when(ALPHA).unless(LISTS),
    // ---- Spot delistings -----------------------------------------------------------------------
    Rule::new("en.spot_delisting_unnamed", SpotDelisting, 66)
        .when(DELIST)
        .when(UNNAMED)
        .when(PAIRS)
        .unless(CREDIT | COPY | OPTIONS)
        .take(Take::Pairs(0)),
    Rule::new("en.spot_delisting", SpotDelisting, 92)
        .when(DELIST)
        .unless(CREDIT | COPY | OPTIONS)
        .take(Take::ListAfter(DELIST)),
    Rule::new("en.end_of_trading", SpotDelisting, 50)
        .when(END_TRADING)
        .unless(PAUSE)
        .take(Take::After(END_TRADING)),
    Rule::new("en.pair_removal", SpotDelisting, 50)
        .when(REMOVE)
        .when(PAIRS)
        .unless(CREDIT)
        .take(Take::Pairs(REMOVE)),
    // ---- Spot listings -------------------------------------------------------------------------
    Rule::new("en.launchpool", SpotListing, 50)
        .when(INTRODUCING)
        .unless(PLATFORM)
        .when(LAUNCHPOOL)
        .when(FARM)
        .take(Take::ListAfter(FARM))
        .named(),
    Rule::new("en.launchpool", SpotListing, 50)
        .when(INTRODUCING)
        .unless(PLATFORM)
        .when(LAUNCHPOOL)
        .take(Take::After(INTRODUCING))
        .named(),
    Rule::new("en.market_support", SpotListing, 88)
        .when(MARKET_SUPPORT)
        .take(Take::WithMarkets(MARKET_SUPPORT)),
    Rule::new("en.spot_goes_live", SpotListing, 94).when(GO_LIVE).when(SPOT).take(Take::After(0)).named(),
    Rule::new("en.asset_support", SpotListing, 95)
        .only(&[Exchange::Coinbase, Exchange::Kraken, Exchange::CryptoCom])
        .when(ADD_SUPPORT)
        .take(Take::After(ADD_SUPPORT))
        .named(),
    Rule::new("en.listing", SpotListing, 96)
        .when(LIST | OPEN_TRADING)
        .unless(ASIDE)
        .take(Take::After(LIST | OPEN_TRADING))
        .named(),
    Rule::new("en.new_listing", SpotListing, 50)
        .when(NEW_LISTING)
        .unless(ASIDE)
        .take(Take::After(NEW_LISTING)),
    // A listing whose title also advertises something must name its asset.
    Rule::new("en.listing_promoted", SpotListing, 85)
        .when(LIST | OPEN_TRADING)
        .unless(PRODUCT | PRODUCT_ACTS | COPY | TAG | OPTIONS)
        .take(Take::ListAfter(LIST | OPEN_TRADING))
        .named(),
    Rule::new("en.new_listing_promoted", SpotListing, 50)
        .when(NEW_LISTING)
        .unless(PRODUCT | PRODUCT_ACTS | CREDIT | YIELD | OPTIONS | COPY | TAG)
        .take(Take::ListAfter(NEW_LISTING))
        .named(),
    Rule::new("en.listing_unnamed", SpotListing, 50).when(WILL_LIST).unless(ASIDE),
    Rule::new("en.new_pairs", SpotListing, 50).when(NEW_PAIRS).unless(PROMO).take(Take::Pairs(0)),
    Rule::new("en.pair_addition", SpotListing, 50)
        .when(ADD)
        .when(PAIRS)
        .unless(CREDIT | COPY | FUTURES)
        .take(Take::Pairs(PAIRS_FOR)),
    Rule::new("en.fork_markets", SpotListing, 66).when(ADD).when(MARKETS).take(Take::ListAfter(ADD)).named(),
    Rule::new("en.short_pair_addition", SpotListing, 50)
        .when(ADD)
        .when(PAIR_WORD)
        .unless(CREDIT | COPY | FUTURES)
        .take(Take::Pairs(0))
        .named(),
    Rule::new("en.bare_addition", SpotListing, 66).when(BINANCE_ADDS).take(Take::Rest(BINANCE_ADDS)).named(),
    Rule::new("en.available_for_trading", SpotListing, 66)
        .only(&[Exchange::Kraken, Exchange::CryptoCom, Exchange::Coinbase, Exchange::Bingx])
        .when(FOR_TRADING)
        .unless(ASIDE)
        .take(Take::After(0))
        .named(),
    Rule::new("en.available_for_trading", SpotListing, 66)
        .only(&[Exchange::Kraken, Exchange::CryptoCom])
        .when(TRADING_FOR)
        .when(STARTS)
        .unless(ASIDE)
        .take(Take::After(TRADING_FOR))
        .named(),
    Rule::new("en.spot_supported", SpotListing, 50)
        .only(&[Exchange::Htx, Exchange::Gate])
        .when(SUPPORTS)
        .when(FOR_SPOT)
        .unless(ASIDE | WALLET)
        .take(Take::After(SUPPORTS))
        .named(),
    Rule::new("en.commence_trading", SpotListing, 50)
        .only(&[Exchange::Gate])
        .when(COMMENCE)
        .unless(ASIDE)
        .take(Take::After(COMMENCE))
        .named(),
    Rule::new("en.side_market_to_spot", SpotListing, 50).when(TO_SPOT).take(Take::After(0)).named(),
];

/// What is left: no rule speaks of a listing.
pub(super) const OTHERWISE: Rule = Rule::new("en.other", NotListing, 94);
