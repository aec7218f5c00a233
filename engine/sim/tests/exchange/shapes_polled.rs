//! What the simulated exchanges beyond the first three answer, each with what is peculiar to it; and how
//! every one of them refuses and drifts.

use serde_json::{Value, json};
use tocsin_core::source::exchange;
use tocsin_core::time::WallUs;
use tocsin_sim::{CachePolicy, Category, Draft, Fault, Kind, Options, Published, SimExchange};

use crate::client::{Client, Reply};

/// 2096-10-02T07:06:40.123456Z: newer than whatever else is listed.
const AT: WallUs = WallUs(4_000_000_000_123_456);

struct Shop {
    sim: SimExchange,
    client: Client,
}

impl Shop {
    fn open(kind: Kind, options: Options) -> Shop {
        let sim = SimExchange::start(kind, options).unwrap();
        let client = Client::connect(&sim).unwrap();
        Shop { sim, client }
    }

    fn publish(&self, title: &str) -> Published {
        self.sim.publish(Draft { published: Some(AT), ..Draft::new(Category::Listing, title) })
    }

    /// A list of the engine's own source, asked as the engine asks.
    fn ask(&mut self, list: usize) -> Reply {
        let spec = exchange::by_config_name(self.sim.kind().name()).unwrap();
        self.client.get_with(spec.lists[list].target, spec.headers).unwrap()
    }

    /// The first row of the first list.
    fn first(&mut self, path: &str) -> Value {
        let page = self.ask(0).json();
        page.pointer(path).unwrap_or_else(|| panic!("{path} of {page}")).clone()
    }

    fn status(&mut self, target: &str) -> u16 {
        self.client.get(target).unwrap().status
    }
}

#[test]
fn okx_has_slugs_strings_and_regions() {
    for (region, prefix) in [(None, ""), (Some("en-us"), "/en-us")] {
        let mut shop = Shop::open(Kind::Okx, Options { region, ..Options::default() });
        let made = shop.publish("OKX to list Varomi (VAROMI) for spot trading");
        let row = shop.first("/data/0/details/0");
        assert_eq!(row["url"], format!("https://www.okx.com{prefix}/help/{}", made.notice_id));
        assert!(made.notice_id.starts_with("okx-to-list-varomi-varomi-for-spot-trading"));
        assert_eq!(
            (&row["pTime"], &row["businessPTime"]),
            (&json!("4000000000123"), &json!("3999999960000"))
        );
        assert_eq!(row["annType"], "announcements-new-listings");
        let all = shop.ask(2).json();
        assert_eq!(all["data"][0]["details"].as_array().unwrap().len(), 20);
        assert_eq!(all["data"][0]["totalPage"], "3");
        assert_eq!(shop.status("/api/v5/support/announcements?annType=news"), 400);
    }
}

#[test]
fn bybit_types_times_and_publishes_at_others() {
    let mut shop = Shop::open(Kind::Bybit, Options::default());
    let made: Vec<Published> = (0..3).map(|n| shop.publish(&format!("Bybit to List V{n} (V{n})"))).collect();
    let page = shop.ask(0).json();
    let rows = &page["result"]["list"].as_array().unwrap()[..3];
    assert!(page["time"].is_i64());
    for row in rows {
        assert!(made.iter().any(|m| row["url"].as_str().unwrap().ends_with(&format!("-{}/", m.notice_id))));
        assert_eq!(row["type"]["key"], "new_crypto");
        let typed = if row["publishTime"].is_null() { 4_000_000_000_123_i64 } else { 3_999_999_960_000 };
        assert_eq!(row["dateTimestamp"], typed);
        assert_ne!(row["startDateTimestamp"].is_null(), row["startDataTimestamp"].is_null(), "one spelling");
    }
    assert!(
        rows.iter().any(|r| r["publishTime"].is_null()) && rows.iter().any(|r| r["publishTime"].is_i64())
    );
    assert_eq!(shop.client.get("/v5/announcements/index").unwrap().json()["retCode"], 10001);
}

#[test]
fn bitget_wants_a_language_and_gives_ten_of_a_month() {
    let mut shop = Shop::open(Kind::Bitget, Options { old_notices: 200, ..Options::default() });
    let made = shop.publish("VAROMIUSDT now launched for futures trading and trading bots");
    let row = shop.first("/data/0");
    assert_eq!((&row["annId"], &row["cTime"]), (&json!(made.notice_id), &json!("4000000000123")));
    assert_eq!((&row["annType"], &row["annSubType"]), (&json!("coin_listings"), &json!("futures")));
    assert_eq!(shop.ask(0).json()["data"].as_array().unwrap().len(), 10);
    let old = shop.sim.publish(Draft {
        published: Some(WallUs(1_700_000_000_000_000)),
        ..Draft::new(Category::Delisting, "Old")
    });
    assert!(!String::from_utf8(shop.ask(1).body).unwrap().contains(&old.notice_id), "a month ago");
    assert_eq!(shop.status("/api/v2/public/annoucements?annType=coin_listings"), 400);
    assert_eq!(shop.status("/api/v2/public/annoucements?language=en_US&limit=11"), 400);
    assert_eq!(shop.status("/api/v2/public/announcements?language=en_US"), 404, "the path is misspelt");
}

#[test]
fn kucoin_files_one_article_under_several_types() {
    let mut shop = Shop::open(Kind::Kucoin, Options::default());
    let made = shop.publish("Varomi (VAROMI) Gets Listed on KuCoin!");
    let gone = shop.sim.publish(Draft::new(Category::Delisting, "KuCoin Will Delist Oldi (OLDI)"));
    let row = shop.first("/data/items/0");
    assert_eq!(row["annId"].to_string(), made.notice_id);
    assert_eq!(row["annType"], json!(["latest-announcements", "new-listings"]));
    let delistings = shop.ask(1).json();
    assert_eq!(delistings["data"]["items"][0]["annType"], json!(["latest-announcements ", "delistings "]));
    let all = String::from_utf8(shop.ask(2).body).unwrap();
    assert!([&made, &gone].iter().all(|m| all.contains(&m.notice_id)));

    let mut web = Shop::open(Kind::Kucoin, Options { other_form: true, ..Options::default() });
    web.publish("Varomi (VAROMI) Gets Listed on KuCoin!");
    let row = web.first("/items/0");
    assert_eq!(
        (&row["publish_ts"], &row["publish_at"]),
        (&json!(4_000_000_000_i64), &json!("2096-10-02 15:06:40"))
    );
}

#[test]
fn cryptocom_parts_by_category() {
    let mut shop = Shop::open(Kind::Cryptocom, Options::default());
    let made = shop.publish("Crypto.com Exchange Will List Varomi (VAROMI)");
    let row = shop.first("/result/data/0");
    assert_eq!((&row["id"], &row["category"]), (&json!(made.notice_id), &json!("list")));
    assert_eq!((&row["announced_at"], made.notice_id.len()), (&json!(4_000_000_000_123_i64), 24));
    assert_eq!(shop.status("/v1/public/get-announcements?category=general"), 400);
}

#[test]
fn htx_lists_do_not_say_what_they_hold() {
    let mut shop = Shop::open(Kind::Htx, Options::default());
    let made = shop.publish("HTX Will Support Varomi (VAROMI) Spot Trading");
    let row = shop.first("/data/list/0");
    assert_eq!(
        row,
        json!({"id": made.notice_id.parse::<u64>().unwrap(), "title": made.title, "showTime": 4_000_000_000_123_i64})
    );
    assert_eq!(made.notice_id.len(), 15);
    assert_eq!(shop.status(exchange::htx::WEB.lists[0].target), 403, "without a language");
}

#[test]
fn bingx_mexc_and_coinone_have_two_forms() {
    for (kind, other_form, path, want) in [
        (Kind::Bingx, false, "/data/0/releaseTime", json!("2096-10-02T15:06:40+08:00")),
        (Kind::Bingx, true, "/data/list/0/time", json!(4_000_000_000_000_i64)),
        (Kind::Mexc, false, "/data/results/0/createdAt", json!("2096-10-02T07:06:40.123Z")),
        (Kind::Mexc, true, "/data/result/0/createdAt", json!("2096-10-02T07:06:40.123Z")),
        (Kind::Coinone, false, "/results/0/created_at", json!("2096-10-02T16:06:40.123456+09:00")),
        (Kind::Coinone, true, "/result/0/updated_at", json!("2096-10-02T16:06:40.123490+09:00")),
    ] {
        let mut shop = Shop::open(kind, Options { other_form, ..Options::default() });
        shop.publish("Varomi (VAROMI)");
        assert_eq!(shop.first(path), want, "{kind:?} {other_form}");
    }
}

#[test]
fn an_edge_keeps_pages_of_okx_and_bybit() {
    let policy = CachePolicy { ttl: std::time::Duration::from_secs(3_600), refresh_hit: true };
    for kind in [Kind::Okx, Kind::Bybit] {
        let mut shop = Shop::open(kind, Options { cache: Some(policy), ..Options::default() });
        let before = shop.ask(0);
        shop.publish("Varomi (VAROMI)");
        let after = shop.ask(0);
        assert_eq!(
            (after.body, before.header("x-cache")),
            (before.body.clone(), Some("Miss from cloudfront"))
        );
        shop.sim.set_cache(None);
        assert!(String::from_utf8(shop.ask(0).body).unwrap().contains("VAROMI"));
    }
}

/// As the engine reads what every exchange answers with a fault.
#[test]
fn every_exchange_refuses_and_drifts() {
    for kind in Kind::ALL {
        let mut shop = Shop::open(kind, Options::plain());
        let spec = exchange::by_config_name(kind.name()).unwrap();
        let unusable = |reply: Reply| {
            assert_eq!(reply.status, 200);
            let mut body = reply.body;
            let read = (spec.parse)(&mut tocsin_core::source::Scratch::default(), &mut body, &mut |_| {});
            // Refused, or rows of which none can be read.
            read.map_or(true, |parsed| parsed.rows == 0 && parsed.skipped > 0)
        };
        assert!(!unusable(shop.ask(0)), "{kind:?}");
        for fault in [Fault::Refused, Fault::SchemaDrift, Fault::RowDrift] {
            shop.sim.set_fault(fault.clone());
            assert!(unusable(shop.ask(0)), "{kind:?} {fault:?}");
        }
        shop.sim.set_fault(Fault::TooFrequent);
        let status = shop.ask(0).status;
        assert_eq!(status, if kind == Kind::Bybit { 403 } else { 429 }, "{kind:?}");
        shop.sim.set_fault(Fault::RegionBlock);
        assert!([403, 451].contains(&shop.ask(0).status), "{kind:?}");
    }
}
