//! The words the rules know, as data: each phrase and the signal it raises.
//!
//! Contract: constants only. A phrase is written as [`super::normalise`] leaves it, ASCII letters
//! in lower case. ASCII phrases match whole words (a trailing `*` lets the word go on); others
//! match anywhere, because Korean and Chinese do not separate words. Adding a phrase is adding a
//! row; a signal nobody tests is a compile-time warning.

use super::signals::Set;

/// Declares the signals as one-bit sets, and the table of the phrases that raise them.
macro_rules! lexicon {
    ($($(#[$doc:meta])* $name:ident = [$($phrase:literal),+ $(,)?];)+) => {
        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "a list of names, numbered by the compiler")]
        #[repr(u8)]
        enum Number { $($name,)+ COUNT }
        $($(#[$doc])* pub(super) const $name: Set = 1 << (Number::$name as u32);)+
        /// How many signals there are.
        pub(super) const SIGNAL_COUNT: usize = Number::COUNT as usize;
        /// Every phrase with the number of its signal.
        pub(super) const PHRASES: &[(&str, u8)] = &[$($(($phrase, Number::$name as u8),)+)+];
    };
}

lexicon! {
    // ---- What only looks like words of trade --------------------------------------------------
    /// Names of assets. They stand first: where one is read, nothing else is.
    NAME = ["perpetual protocol", "perp protocol", "options protocol", "options token", "league of kingdoms",
        "staking token", "lending protocol", "loan protocol", "margin protocol"];

    // ---- What is done -------------------------------------------------------------------------
    /// A verb that lists.
    LIST = ["list", "lists", "listed", "enlists"];
    /// A listing as a whole statement: it may leave the assets unnamed.
    WILL_LIST = ["will list", "to list", "lists", "gets listed", "will be listed"];
    /// A list of things, or no listing at all.
    LIST_NOUN = ["list of", "the list", "watch list", "price list", "will not list", "not to list"];
    /// The noun, which needs company to mean a listing.
    LISTING = ["listing", "listings"];
    /// A listing by its full name.
    NEW_LISTING = ["new listing", "initial listing", "new spot listing", "new token listing", "listing of",
        "premiere listing", "upcoming listing", "new coin listing", "listing in the", "listing arrangement",
        "listing on kucoin"];
    /// Opens a market or a product.
    LAUNCH = ["launch", "launches", "launched", "launching"];
    /// Adds something to something.
    ADD = ["add", "adds", "added", "adding"];
    /// Binance itself adds, not one of its products.
    BINANCE_ADDS = ["binance will add", "binance adds"];
    /// Trading opens.
    OPEN_TRADING = ["open trading", "opens trading", "open trading for", "opening trading"];
    /// Trading begins on a day.
    GO_LIVE = ["go live", "goes live"];
    /// Coinbase's way to announce an asset.
    ADD_SUPPORT = ["add support for", "adds support for", "adding support for"];
    /// Upbit's English for a listing.
    MARKET_SUPPORT = ["market support for"];
    /// Something can be had.
    AVAILABLE = ["available", "live on"];
    /// Spot trading has begun.
    FOR_TRADING = ["available for trading", "available to trade", "trading starts", "trading is live", "now trading",
        "launching on coinbase", "now available on coinbase", "trading now available"];
    /// Trading of something named after these words.
    TRADING_FOR = ["trading for"];
    /// The beginning of it.
    STARTS = ["starts", "begins", "will start", "will begin"];
    /// Supports something; alone it says nothing.
    SUPPORTS = ["support", "supports", "supported", "supporting"];
    /// Gate's older way to announce an asset.
    COMMENCE = ["will commence", "commences", "commence trading"];
    /// An asset moves from a side market to the spot market.
    TO_SPOT = ["migration to bingx spot"];
    /// Takes off the market.
    DELIST = ["delist", "delists", "delisted", "delisting", "delistings"];
    /// Delisting as a whole statement.
    WILL_DELIST = ["will delist", "to be delisted"];
    /// A vote on listing or delisting; its result says what follows.
    VOTE = ["vote to delist", "vote to list"];
    /// The outcome of a vote.
    RESULT = ["results and will list", "results and will delist", "result and will list", "winner", "winners"];
    /// Takes away; alone it says nothing.
    REMOVE = ["remove", "removes", "removal", "removing"];
    /// Trading of an asset ends, in other words than delisting.
    END_TRADING = ["termination of trading", "trading support termination", "termination of market support",
        "will suspend trading", "cease trading", "ceases trading", "end of trading support", "end of market support"];
    /// A pause, not an end.
    PAUSE = ["temporar*", "maintenance", "resume*", "resumption"];
    /// About a delisting announced before, or about delistings at large.
    ABOUT_DELISTING = ["updates the delisting", "update the delisting", "updates on the delisting", "update on the delisting",
        "changes the delisting", "change the delisting", "changes to the delisting", "delist guidelines",
        "delisting guidelines", "delisting rules", "delisting policy"];

    // ---- What it is done to -------------------------------------------------------------------
    /// A perpetual contract.
    PERP = ["perpetual", "perpetuals", "perp", "perps"];
    /// Derivatives at large.
    FUTURES = ["futures"];
    /// A dated contract.
    DATED = ["quarterly", "bi-quarterly", "delivery contract", "delivery contracts"];
    /// A contract, of which kind the title leaves to its margin.
    CONTRACTS = ["contract", "contracts"];
    /// More than the title names.
    UNNAMED = ["multiple", "several", "selected", "certain", "some", "a batch of"];
    /// Contracts margined and settled in the coin itself, quoted in dollars.
    COIN_MARGINED = ["coin-m", "coin-margined", "coin-ⓜ", "coin margined", "coin-margin"];
    /// The spot market.
    SPOT = ["spot"];
    /// Contracts margined in a stablecoin.
    DOLLAR_MARGINED = ["usdⓈ-m", "usdⓈ-margined", "usds-m", "usdt-m", "usdt-margined", "usdc-margined", "busd-margined", "usdt margined", "usdc margined"];
    /// Named markets of one asset.
    PAIRS = ["trading pair", "trading pairs", "trading pair(s)", "spot pair", "spot pairs"];
    /// Pairs in short.
    PAIR_WORD = ["pair", "pairs"];
    /// Markets that the title does not name.
    NEW_PAIRS = ["new trading pairs", "new spot trading pairs", "new trading pair"];
    /// Binance's word of 2017.
    MARKETS = ["markets"];
    /// The pairs' bases follow.
    PAIRS_FOR = ["trading pairs for", "trading pair for", "pairs added for", "pair added for"];
    /// For spot trading, whatever else the notice does.
    FOR_SPOT = ["for spot trading", "spot trading"];
    /// Binance's side market, not its spot exchange.
    ALPHA = ["binance alpha"];
    /// Both of them at once.
    ALPHA_AND_FUTURES = ["binance alpha and binance futures", "binance alpha and futures"];

    // ---- What makes it something else ---------------------------------------------------------
    /// Put off, called off or moved.
    POSTPONE = ["postpon*", "delay", "delays", "delayed", "reschedul*", "cancel*", "in advance", "brought forward",
        "extension", "extend", "extends"];
    /// Borrowed-money trading. `USDT-Margined` is another word.
    MARGIN = ["margin"];
    /// Loans and what secures them.
    CREDIT = ["collateral*", "loan", "loans", "borrow", "borrowing", "vip loan"];
    /// Product pages of an exchange other than its order books.
    PRODUCT = ["on earn", "on simple earn", "on convert", "buy crypto", "on margin", "on cross margin",
        "on isolated margin", "on savings", "on staking", "on savings,", "on vip loan", "on buy crypto",
        "on bybit savings", "on bybit earn", "on bybit convert", "on bybit alpha", "on flexible*", "on dual investment", "on auto-invest"];
    /// Products named first: the actor of the sentence.
    PRODUCT_ACTS = ["earn will", "earn adds", "margin will", "options will", "options lists", "options launches",
        "convert adds", "convert will", "alpha will", "alpha to", "alpha lists", "alpha adds", "staking will", "savings will", "loans will", "loan will",
        "pool will", "bot will", "bots will", "nft will", "pay will", "p2p will", "card will", "wallet will",
        "web3 will", "earn to", "convert to", "convert lists", "liquid swap"];
    /// Interest, not trading.
    YIELD = ["locked products", "special offer", "staking", "savings", "apr", "apy", "soft staking"];
    /// Options.
    OPTIONS = ["options", "daily options"];
    /// Automatic trading, beside other news or alone.
    BOTS = ["trading bot", "trading bots"];
    /// Automatic trading and nothing else.
    BOTS_ONLY = ["spot bot", "grid trading", "spot grid", "dca bot", "futures bot", "futures grid"];
    /// Following other traders.
    COPY = ["copy trading", "copy trade"];
    /// A way to get tokens that ends in a listing.
    LAUNCHPOOL = ["launchpool", "launchpad", "megadrop", "hodler airdrops", "token sale"];
    /// What is farmed there follows.
    FARM = ["farm"];
    /// The first notice of such a listing.
    INTRODUCING = ["introducing", "introduces"];
    /// The platform itself is introduced.
    PLATFORM = ["introducing binance launch*", "introducing binance megadrop", "introducing binance hodler*",
        "introducing launch*", "introducing megadrop", "introducing hodler*"];
    /// Coinbase's list of candidates.
    ROADMAP = ["roadmap"];
    /// Several notices in one.
    DIGEST = ["this week", "weekly", "recap", "digest", "last week", "this month", "delisting list"];
    /// Contests and gifts.
    PROMO = ["competition*", "tournament*", "challenge*", "contest*", "campaign*", "carnival", "referral", "giveaway*",
        "voucher*", "league", "bounty", "quiz", "lucky draw", "billboard", "promo", "promotion", "promotions", "cashback",
        "learn and earn", "learn & earn", "trading fee discount*"];
    /// Turns one contract kind into another.
    CONVERSION = ["to standard perpetual*", "to standard futures", "to standard contract*", "convert pre-market",
        "conversion of pre-market"];
    /// Off-exchange trading before a listing.
    OTC = ["otc", "pre-market trading:", "pre-listing trading", "pre-market otc"];
    /// Equities beside the crypto exchange.
    STOCK_DESK = ["bybit tradfi", "stock trading services", "selected stocks"];
    /// After the fact.
    DONE = ["completes delisting", "completed delisting", "completed the delisting", "has completed", "completes the delisting"];
    /// Contract terms and limits.
    TERMS = ["tick size", "funding rate", "leverage tiers", "leverage and margin tiers", "margin tiers", "api updates",
        "minimum order", "price limit*", "index price", "risk limit*", "position limit*", "fee rate*"];
    /// Warnings about an asset that stays listed.
    TAG = ["monitoring tag", "seed tag to", "remove the seed tag", "removes the seed tag", "remove seed tag", "investment warning",
        "tag removal"];
    /// Deposits and withdrawals.
    WALLET = ["deposits and withdrawals", "wallet maintenance", "cease support for deposits", "network upgrade*",
        "hard fork", "token swap", "contract swap", "rebranding", "rebrand", "token merge", "redenomination", "token migration"];

    // ---- Korean -------------------------------------------------------------------------------
    /// Support for trading an asset: Upbit's word for listing.
    KO_SUPPORT = ["거래지원", "거래 지원"];
    /// New.
    KO_NEW = ["신규"];
    /// Market.
    KO_MARKET = ["마켓"];
    /// Addition.
    KO_ADD = ["추가"];
    /// A market addition in one phrase.
    KO_MARKET_ADD = ["마켓 추가", "마켓추가", "디지털 자산 추가", "디지털자산 추가", "가상자산 추가", "코인 추가",
        "마켓 오픈", "마켓오픈", "마켓 상장", "마켓 신규", "신규 상장", "신규상장"];
    /// Listed.
    KO_LIST = ["상장"];
    /// Opening.
    KO_OPEN = ["오픈"];
    /// The first notice of an end, which also speaks of withdrawals.
    KO_END_FIRST = ["거래지원 종료 안내", "[거래지원종료", "[거래지원 종료", "종료 및 출금"];
    /// Support taken up again.
    KO_AGAIN = ["재거래지원", "재상장"];
    /// End of support: Korean exchanges' word for delisting.
    KO_END = ["거래지원 종료", "거래지원종료", "거래 지원 종료", "상장 폐지", "상장폐지", "마켓 종료", "마켓 제거"];
    /// An event to celebrate something.
    KO_EVENT = ["이벤트"];
    /// In celebration of.
    KO_CELEBRATE = ["기념"];
    /// The bracketed tag of an event.
    KO_EVENT_TAG = ["[이벤트"];
    /// An event that only waives fees.
    KO_FEE_EVENT = ["수수료 무료 이벤트", "수수료 이벤트"];
    /// The bracketed tag of a listing that also waives fees.
    KO_ADD_TAG = ["[마켓 추가", "[마켓추가", "[신규 상장", "[신규상장", "[거래지원]"];
    /// A listing with an event in one notice.
    KO_LIST_AND_EVENT = ["상장 및", "추가 및"];
    /// Caution, warning.
    KO_CAUTION = ["유의", "주의", "경보", "촉구", "투자 경고"];
    /// Deposits and withdrawals.
    KO_WALLET = ["입출금", "출금", "입금"];
    /// Prizes, quizzes, gifts.
    KO_PROMO = ["에어드랍", "에어드롭", "상금", "퀴즈", "당첨", "리워드", "챌린지"];
    /// Swaps and other changes of the asset itself.
    KO_ASSET = ["스왑", "리브랜딩", "유통량", "명칭", "하드포크", "네트워크", "스테이킹", "이자받기", "대여"];
    /// A change of what was announced before.
    KO_CHANGE = ["변경", "시점", "연기", "기준 가격", "주문 타입"];
    /// Called off.
    KO_CANCEL = ["취소", "연기", "보류", "철회", "거래지원 종료일 변경", "거래지원 종료 일정 변경",
        "거래지원 종료에 대한"];
    /// Terms of service, privacy policy.
    KO_LEGAL = ["약관", "개인정보", "정책", "심사", "사칭", "절차", "업비트 nft"];

    // ---- Chinese ------------------------------------------------------------------------------
    /// Goes online.
    ZH_LIST = ["上线", "上架", "首发"];
    /// Goes offline.
    ZH_DELIST = ["下架", "下线", "移除"];
    /// Contracts.
    ZH_FUTURES = ["合约", "永续"];
    /// Spot.
    ZH_SPOT = ["现货"];
    /// Margin, earn and loans.
    ZH_PRODUCT = ["杠杆", "理财", "一键买币", "借币", "赚币", "闪兑,", "闪兑全新", "tradfi 全新"];
    /// Turned into a regular contract.
    ZH_CONVERT = ["转为正式", "转换盘前", "转换为标准", "由盘前交易转", "转为标准"];
    /// Postponed, votes, airdrops, activities.
    ZH_OTHER = ["推迟", "延期", "暂停", "空投", "投票", "奖励", "活动", "瓜分", "置换", "升级", "交割", "机器人"];
}
