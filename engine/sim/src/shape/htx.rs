//! HTX's support lists: `/-/x/support/public/getList/v2`.

use serde_json::{Value, json};

use super::{View, is_of_contracts, json, ms, page, refusal};
use crate::catalogue::{Category, Notice};
use crate::http::{Request, Response};
use crate::options::Kind;

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    // The edge refuses what names no language.
    if request.header("accept-language").is_none() {
        return refusal::of(Kind::Htx, refusal::Refusal::Region);
    }
    if request.path() != "/-/x/support/public/getList/v2" {
        return json(404, &json!({ "code": 404, "success": false }));
    }
    let (Ok(number @ 1..), Ok(limit @ 1..=50)) = (request.number("page", 1), request.number("limit", 20))
    else {
        return json(
            200,
            &json!({ "code": 400, "success": false, "message": "parameter error", "data": null }),
        );
    };
    let filed = |n: &Notice| match request.query("twoLevelId") {
        Some("360000039942") => n.category == Category::Listing,
        Some("64971881385864") => n.category == Category::Delisting,
        Some("360000061481") => is_of_contracts(n),
        _ => false,
    };
    // What is filed where, rows do not say.
    let row = |n: &Notice| json!({ "id": n.id, "title": n.title, "showTime": ms(n.published) });
    let rows: Vec<Value> = page(view, (number, limit), filed).into_iter().map(row).collect();
    let total = view.catalogue.listed().filter(|n| filed(n)).count();
    json(
        200,
        &json!({ "code": 200, "success": true, "message": "", "data": { "total": total, "list": rows } }),
    )
}
