//! Binance's website content lists: `…/cms/article/list/query`, `…/cms/article/catalog/list/query`
//! and `…/cms/article/detail/query`, under `composite` and `apex`.

use serde::Serialize;
use serde_json::json;

use super::{Page, View, json};
use crate::catalogue::{Category, Notice};
use crate::http::{Request, Response};
use crate::options::OddPageSize;

/// Number and name of each catalogue, in the order the site gives them.
const CATALOGS: [(u32, &str); 8] = [
    (48, "New Cryptocurrency Listing"),
    (49, "Latest Binance News"),
    (93, "Latest Activities"),
    (50, "New Fiat Listings"),
    (161, "Delisting"),
    (157, "Maintenance Updates"),
    (51, "API Updates"),
    (128, "Crypto Airdrop"),
];

const PAGE_SIZES: [usize; 8] = [1, 2, 3, 5, 10, 15, 20, 50];

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<T> {
    code: &'static str,
    message: Option<()>,
    message_detail: Option<()>,
    data: T,
    success: bool,
}

#[derive(Serialize)]
struct Lists<'a> {
    catalogs: Vec<List<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    catalog_id: u32,
    parent_catalog_id: Option<u32>,
    icon: Option<&'static str>,
    catalog_name: &'static str,
    description: Option<&'static str>,
    catalog_type: u32,
    total: usize,
    articles: Vec<Article<'a>>,
    catalogs: [(); 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Article<'a> {
    id: u64,
    code: &'a str,
    title: &'a str,
    #[serde(rename = "type")]
    article_type: u32,
    release_date: i64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FlatArticle<'a> {
    id: u64,
    code: &'a str,
    title: &'a str,
    body: Option<()>,
    #[serde(rename = "type")]
    article_type: Option<()>,
    catalog_id: Option<()>,
    catalog_name: Option<()>,
    publish_date: Option<()>,
}

/// The catalogue an article of `category` stands in.
pub(crate) const fn catalog_id(category: Category) -> u32 {
    match category {
        Category::Listing => 48,
        Category::Delisting => 161,
        Category::Caution | Category::News | Category::Disclosure => 49,
        Category::Activity => 93,
        Category::Wallet | Category::Maintenance => 157,
        Category::Airdrop => 128,
        Category::Api => 51,
        Category::Fiat => 50,
    }
}

pub(super) fn answer(view: &View<'_>, request: &Request) -> Page {
    let path = request.path();
    let cms = path
        .strip_prefix("/bapi/composite/v1/public/cms/article/")
        .or_else(|| path.strip_prefix("/bapi/apex/v1/public/apex/cms/article/"));
    match cms {
        Some("list/query") => list(view, request),
        Some("catalog/list/query") => flat_list(view, request),
        Some("detail/query") => detail(view, request).into(),
        _ => Response::json(404, *b"{\"code\":\"404\",\"success\":false}").into(),
    }
}

struct Query {
    catalog: Option<u32>,
    page: usize,
    size: usize,
}

fn query(view: &View<'_>, request: &Request) -> Result<Query, Response> {
    let (Ok(catalog), Ok(page), Ok(size)) =
        (request.number("catalogId", 0), request.number("pageNo", 1), request.number("pageSize", 20))
    else {
        return Err(illegal());
    };
    let catalog = match request.query("catalogId") {
        None => None,
        Some(_) => Some(u32::try_from(catalog).map_err(|_| illegal())?),
    };
    let size = match (PAGE_SIZES.contains(&size), view.options.odd_page_size) {
        (true, _) => size,
        (false, OddPageSize::Twenty) => 20,
        (false, OddPageSize::Reject) => return Err(illegal()),
    };
    if page == 0 {
        return Err(illegal());
    }
    Ok(Query { catalog, page, size })
}

fn illegal() -> Response {
    let body = json!({
        "code": "000002", "message": "illegal parameter", "messageDetail": null, "data": null, "success": false
    });
    json(400, &body)
}

fn cache_key(request: &Request, query: &Query) -> String {
    let catalog = query.catalog.map_or_else(|| "all".to_owned(), |c| c.to_string());
    format!("{} {catalog} {} {}", request.path(), query.page, query.size)
}

fn list(view: &View<'_>, request: &Request) -> Page {
    if request.query("type").is_some_and(|t| t != "1") {
        return illegal().into();
    }
    let query = match query(view, request) {
        Ok(query) => query,
        Err(refusal) => return refusal.into(),
    };
    let catalogs = CATALOGS
        .into_iter()
        .filter(|(id, _)| query.catalog.is_none_or(|wanted| wanted == *id))
        .map(|(catalog_id, catalog_name)| List {
            catalog_id,
            parent_catalog_id: None,
            icon: None,
            catalog_name,
            description: None,
            catalog_type: 1,
            total: of_catalog(view, catalog_id).count(),
            articles: of_catalog(view, catalog_id)
                .skip((query.page - 1).saturating_mul(query.size))
                .take(query.size)
                .map(|n| Article {
                    id: n.id,
                    code: &n.code,
                    title: &n.title,
                    article_type: 1,
                    release_date: n.published.0 / 1_000,
                })
                .collect(),
            catalogs: [],
        })
        .collect();
    Page { response: json(200, &envelope(Lists { catalogs })), cache_key: Some(cache_key(request, &query)) }
}

fn flat_list(view: &View<'_>, request: &Request) -> Page {
    let query = match query(view, request) {
        Ok(query) => query,
        Err(refusal) => return refusal.into(),
    };
    let articles: Vec<FlatArticle<'_>> = of_catalog(view, query.catalog.unwrap_or(48))
        .skip((query.page - 1).saturating_mul(query.size))
        .take(query.size)
        .map(|n| FlatArticle {
            id: n.id,
            code: &n.code,
            title: &n.title,
            body: None,
            article_type: None,
            catalog_id: None,
            catalog_name: None,
            publish_date: None,
        })
        .collect();
    Page {
        response: json(200, &envelope(json!({ "articles": articles }))),
        cache_key: Some(cache_key(request, &query)),
    }
}

fn detail(view: &View<'_>, request: &Request) -> Response {
    let found = request.query("articleCode").and_then(|code| view.catalogue.by_notice_id(code));
    let Some(notice) = found else { return illegal() };
    let id = catalog_id(notice.category);
    let body = json!({
        "node": "root",
        "child": [{ "node": "element", "tag": "p", "child": [{ "node": "text", "text": notice.title }] }]
    });
    let data = json!({
        "code": notice.code, "title": notice.title, "publishDate": notice.published.0 / 1_000,
        "firstCatalogId": id, "firstCatalogName": catalog_name(id), "secondCatalogId": null,
        "thirdCatalogId": null, "body": body.to_string()
    });
    json(200, &envelope(data))
}

fn catalog_name(id: u32) -> &'static str {
    CATALOGS.into_iter().find(|(i, _)| *i == id).map_or("", |(_, name)| name)
}

fn of_catalog<'a>(view: &View<'a>, id: u32) -> impl Iterator<Item = &'a Notice> + use<'a> {
    view.catalogue.listed().filter(move |n| catalog_id(n.category) == id)
}

const fn envelope<T>(data: T) -> Envelope<T> {
    Envelope { code: "000000", message: None, message_detail: None, data, success: true }
}
