//! What the simulated exchanges answer when nothing is wrong, seen over real TLS.

use std::time::Duration;

use crate::client::Client;
use serde_json::Value;
use tocsin_core::model::ListingType;
use tocsin_core::time::WallUs;
use tocsin_sim::{
    CachePolicy, Category, Draft, Framing, Kind, OddPageSize, Options, RateAnswer, RateLimit, SimExchange,
};

const CMS: &str = "/bapi/composite/v1/public/cms/article/list/query?type=1";
const UPBIT: &str = "/api/v1/announcements?os=web&page=1&per_page=20&category=all";
const BITHUMB: &str = "/v1/notices?count=20";

fn start(kind: Kind) -> (SimExchange, Client) {
    let sim = SimExchange::start(kind, Options::default()).unwrap();
    let client = Client::connect(&sim).unwrap();
    (sim, client)
}

fn articles(value: &Value) -> &Vec<Value> {
    value["data"]["catalogs"][0]["articles"].as_array().unwrap()
}

fn notices(value: &Value) -> &Vec<Value> {
    value["data"]["notices"].as_array().unwrap()
}

#[test]
fn binance_lists_one_catalogue_or_all_of_them() {
    let (sim, mut client) = start(Kind::Binance);
    let draft = Draft {
        published: Some(WallUs(4_000_000_000_123_456)),
        ..Draft::new(Category::Listing, "Binance Will List Varomi (VAROMI)")
    };
    let made = sim.publish(draft);
    let one = client.get(&format!("{CMS}&catalogId=48&pageNo=1&pageSize=5")).unwrap();
    assert_eq!(one.header("x-cache"), Some("Miss from cloudfront"));
    let one = one.json();
    assert_eq!((&one["code"], &one["success"]), (&"000000".into(), &true.into()));
    let first = &articles(&one)[0];
    assert_eq!(first["code"], made.notice_id.as_str());
    assert_eq!(first["releaseDate"], 4_000_000_000_123_i64);
    assert_eq!(made.published, WallUs(4_000_000_000_123_000));
    assert_eq!((made.notice_id.len(), first["type"].as_i64()), (32, Some(1)));
    assert!(articles(&one).len() <= 5 && first["id"].is_u64());

    let all = client
        .get(&format!("{}&pageNo=1&pageSize=50", CMS.replace("composite/v1/public", "apex/v1/public/apex")));
    let all = all.unwrap().json();
    let catalogs = all["data"]["catalogs"].as_array().unwrap();
    assert_eq!(catalogs.len(), 8);
    let listed: usize = catalogs.iter().map(|c| c["articles"].as_array().unwrap().len()).sum();
    assert_eq!(listed, Options::default().old_notices + 1);

    let flat = "/bapi/composite/v1/public/cms/article/catalog/list/query?catalogId=48&pageNo=1&pageSize=1";
    let flat = client.get(flat).unwrap().json();
    assert_eq!(flat["data"]["articles"][0]["code"], made.notice_id.as_str());
    assert!(flat["data"]["articles"][0]["publishDate"].is_null());

    let detail = "/bapi/composite/v1/public/cms/article/detail/query?articleCode=";
    let detail = client.get(&format!("{detail}{}", made.notice_id)).unwrap().json();
    assert_eq!(detail["data"]["firstCatalogId"], 48);
    assert!(serde_json::from_str::<Value>(detail["data"]["body"].as_str().unwrap()).unwrap().is_object());
}

#[test]
fn binance_pages_and_refuses_odd_sizes() {
    let sim = SimExchange::start(Kind::Binance, Options { old_notices: 200, ..Options::plain() }).unwrap();
    let mut client = Client::connect(&sim).unwrap();
    let mut page = |n, size| client.get(&format!("{CMS}&catalogId=48&pageNo={n}&pageSize={size}")).unwrap();
    let (first, second) = (page(1, 10).json(), page(2, 10).json());
    assert_eq!((articles(&first).len(), articles(&second).len()), (10, 10));
    assert!(articles(&first)[9]["releaseDate"].as_i64() > articles(&second)[0]["releaseDate"].as_i64());
    assert_eq!(page(1, 7).status, 400);
    assert_eq!(page(0, 10).status, 400);
    let options = Options { odd_page_size: OddPageSize::Twenty, old_notices: 200, ..Options::plain() };
    let sim = SimExchange::start(Kind::Binance, options).unwrap();
    let reply =
        Client::connect(&sim).unwrap().get(&format!("{CMS}&catalogId=48&pageNo=1&pageSize=7")).unwrap();
    assert_eq!(articles(&reply.json()).len(), 20);
}

#[test]
fn each_binance_page_size_is_its_own_cache_entry() {
    let policy = CachePolicy { ttl: Duration::from_secs(3_600), refresh_hit: true };
    let sim = SimExchange::start(Kind::Binance, Options { cache: Some(policy), ..Options::plain() }).unwrap();
    let mut client = Client::connect(&sim).unwrap();
    let mut ask = |size| {
        let reply = client.get(&format!("{CMS}&catalogId=48&pageNo=1&pageSize={size}")).unwrap();
        (reply.header("x-cache").unwrap().to_owned(), articles(&reply.json())[0]["code"].clone())
    };
    let (how, old) = ask(5);
    assert_eq!(how, "Miss from cloudfront");
    let made = sim.publish(Draft::new(Category::Listing, "Binance Will List Kenoro (KENORO)"));
    assert_eq!(ask(5), ("Hit from cloudfront".to_owned(), old.clone()));
    assert_eq!(ask(10), ("Miss from cloudfront".to_owned(), made.notice_id.as_str().into()));
    sim.set_cache(Some(CachePolicy { ttl: Duration::ZERO, refresh_hit: true }));
    ask(5);
    let newer = sim.publish(Draft::new(Category::Listing, "Binance Will List Dumika (DUMIKA)"));
    assert_eq!(ask(5), ("RefreshHit from cloudfront".to_owned(), made.notice_id.as_str().into()));
    assert_eq!(ask(5).1, newer.notice_id.as_str());
}

#[test]
fn upbit_speaks_two_languages_and_sorts_by_the_last_edit() {
    let (sim, mut client) = start(Kind::Upbit);
    let draft = Draft {
        title_en: Some("Market Support for Noli(NOLI) (KRW Market)".to_owned()),
        ..Draft::new(Category::Listing, "노리(NOLI) 신규 거래지원 안내 (KRW 마켓)")
    };
    let made = sim.publish(draft);
    let korean = client.get_with(UPBIT, &[("Accept-Language", "ko-KR")]).unwrap().json();
    let english = client.get_with(UPBIT, &[("Accept-Language", "en-US,en;q=0.9")]).unwrap().json();
    let (ko, en) = (&notices(&korean)[0], &notices(&english)[0]);
    assert_eq!((&ko["category"], &en["category"]), (&"거래".into(), &"Trade".into()));
    assert_eq!(ko["id"], en["id"]);
    assert_eq!(ko["id"].to_string(), made.notice_id);
    assert_eq!(en["title"], "Market Support for Noli(NOLI) (KRW Market)");
    assert!(ko["first_listed_at"].as_str().unwrap().ends_with("+09:00") && ko["uuid"].is_string());
    assert_eq!(korean["data"]["total_count"], 41);
    assert_eq!(korean["data"]["total_pages"], 3);
    let fixed = korean["data"]["fixed_notices"].as_array().unwrap();
    assert!(fixed.iter().all(|f| f["id"].as_u64() < ko["id"].as_u64()));

    let old = notices(&korean)[15]["id"].to_string();
    let first_listed = notices(&korean)[15]["first_listed_at"].clone();
    sim.edit(&old, "시각 변경 안내").unwrap();
    let edited = client.get(UPBIT).unwrap().json();
    let top = &notices(&edited)[0];
    assert_eq!((top["id"].to_string(), &top["first_listed_at"]), (old, &first_listed));
    assert!(top["listed_at"].as_str() > first_listed.as_str());
    assert_eq!(top["need_update_badge"], true);

    sim.same_id_new_title(&made.notice_id, "다른 제목").unwrap();
    let again = client.get(UPBIT).unwrap().json();
    assert_eq!(notices(&again)[1]["title"], "다른 제목");
    assert_eq!(notices(&again)[1]["listed_at"], ko["listed_at"]);
}

#[test]
fn upbit_tags_its_answers_and_refuses_an_origin() {
    let (sim, mut client) = start(Kind::Upbit);
    let first = client.get(UPBIT).unwrap();
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/\""));
    let unchanged = client.get_with(UPBIT, &[("If-None-Match", &tag)]).unwrap();
    assert_eq!((unchanged.status, unchanged.body.len()), (304, 0));
    sim.publish_invented(ListingType::SpotListing);
    let changed = client.get_with(UPBIT, &[("If-None-Match", &tag)]).unwrap();
    assert_eq!(changed.status, 200);
    sim.set_etag(false);
    assert_eq!(client.get(UPBIT).unwrap().header("etag"), None);
    assert_eq!(client.get_with(UPBIT, &[("Origin", "https://upbit.com")]).unwrap().status, 403);
    assert_eq!(client.get("/api/v1/announcements?page=1&per_page=20").unwrap().status, 400);
    assert_eq!(client.get(&UPBIT.replace("per_page=20", "per_page=31")).unwrap().status, 400);
    assert_eq!(sim.counters().not_modified, 1);
    let statuses: Vec<u16> = sim.requests().iter().map(|r| r.status).collect();
    assert_eq!(statuses, [200, 304, 200, 200, 403, 400, 400]);
    assert_eq!(sim.requests()[1].header("if-none-match"), Some(tag.as_str()));
}

#[test]
fn bithumb_gives_an_array_in_korean_time() {
    let (sim, mut client) = start(Kind::Bithumb);
    let at = WallUs(4_000_000_000_000_000);
    let made = sim.publish(Draft {
        published: Some(at),
        modified: Some(WallUs(at.0 - 3_600_000_000)),
        ..Draft::new(Category::Listing, "바로미(VAROMI) 원화 마켓 추가")
    });
    let list = client.get(BITHUMB).unwrap().json();
    let list = list.as_array().unwrap();
    assert_eq!(list.len(), 20);
    assert_eq!(list[0]["categories"], serde_json::json!(["마켓 추가"]));
    assert_eq!(list[0]["pc_url"], format!("https://feed.bithumb.com/notice/{}", made.notice_id));
    assert_eq!(list[0]["published_at"], "2096-10-02 16:06:40");
    assert_eq!(list[0]["modified_at"], "2096-10-02 15:06:40");
    for (query, status) in
        [("", 200), ("?count=1", 200), ("?count=0", 400), ("?count=21", 400), ("?count=x", 400)]
    {
        assert_eq!(client.get(&format!("/v1/notices{query}")).unwrap().status, status, "{query}");
    }
}

#[test]
fn an_enforced_rate_redirects_or_refuses() {
    // An hour-long window, so that no slow machine slides out of it.
    let per = Duration::from_secs(3_600);
    let limit = |answer| RateLimit { requests: 1, per, answer };
    let options = Options { rate_limit: Some(limit(RateAnswer::RedirectLoop)), ..Options::plain() };
    let sim = SimExchange::start(Kind::Bithumb, options).unwrap();
    let mut client = Client::connect(&sim).unwrap();
    assert_eq!(client.get(BITHUMB).unwrap().status, 200);
    let looped = client.get(BITHUMB).unwrap();
    assert_eq!((looped.status, looped.header("location")), (302, Some(BITHUMB)));
    sim.set_rate_limit(Some(limit(RateAnswer::TooMany(Some(7)))));
    let refused = client.get(BITHUMB).unwrap();
    assert_eq!((refused.status, refused.header("retry-after")), (429, Some("7")));
}

#[test]
fn a_recorded_body_is_served_byte_for_byte() {
    let (sim, mut client) = start(Kind::Upbit);
    let bytes: Vec<u8> = (0..=255).collect();
    sim.serve_bytes("/api/v1/announcements", bytes.clone());
    sim.set_framing(&[Framing::ContentLength, Framing::Chunked(100)]);
    for _ in 0..3 {
        assert_eq!(client.get(UPBIT).unwrap().body, bytes);
    }
    sim.stop_serving();
    assert_eq!(client.get(UPBIT).unwrap().json()["success"], true);
}

#[test]
fn what_the_lag_holds_back_is_not_seen_yet() {
    let (sim, mut client) = start(Kind::Bithumb);
    sim.cache_lag(Duration::from_secs(3_600));
    let made = sim.publish(Draft::new(Category::News, "안내"));
    assert!(made.visible.0 - made.published.0 >= 3_600_000_000);
    assert!(!String::from_utf8(client.get(BITHUMB).unwrap().body).unwrap().contains(&made.notice_id));
    assert!(sim.delete(&made.notice_id).is_ok());
    assert!(sim.delete("1").is_err());
}

#[test]
fn a_burst_is_seen_whole() {
    let (sim, mut client) = start(Kind::Bithumb);
    let made = sim.burst(5);
    let body = String::from_utf8(client.get(BITHUMB).unwrap().body).unwrap();
    assert!(made.iter().all(|m| body.contains(&m.notice_id)));
    assert!(sim.wait_for_requests(1, Duration::from_secs(20)));
}
