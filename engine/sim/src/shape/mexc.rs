//! MEXC's help sections: `/help/announce/api/{language}/section/{section}/articles`.

use serde_json::{Value, json};

use super::{View, json, ms, page};
use crate::catalogue::{Category, Notice};
use crate::clock;
use crate::http::{Request, Response};

pub(super) fn answer(view: &View<'_>, request: &Request) -> Response {
    let section = request
        .path()
        .strip_prefix("/help/announce/api/en-US/section/")
        .and_then(|rest| rest.strip_suffix("/articles"));
    let (Ok(number @ 1..), Ok(size @ 1..)) = (request.number("page", 1), request.number("perPage", 20))
    else {
        return json(200, &json!({ "code": 400, "msg": "parameter error", "data": null }));
    };
    let filed = |n: &Notice| match section {
        Some("15425930840735") => n.category == Category::Listing,
        Some("360000254192") => true,
        _ => false,
    };
    let row = |n: &Notice| {
        json!({
            "id": n.id, "title": n.title, "routerUrl": format!("/support/articles/{}", n.id),
            "createdAt": clock::utc_millis(n.published)
        })
    };
    let rows: Vec<Value> = page(view, (number, size.min(50)), filed).into_iter().map(row).collect();
    let total = view.catalogue.listed().filter(|n| filed(n)).count();
    let mut data = json!({ "total": total, "page": number, "perPage": size });
    if let Some(fields) = data.as_object_mut() {
        let key = if view.options.other_form { "result" } else { "results" };
        fields.insert(key.to_owned(), Value::Array(rows));
    }
    json(200, &json!({ "code": 0, "msg": "success", "timestamp": ms(view.now), "data": data }))
}
