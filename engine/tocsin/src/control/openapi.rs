//! The OpenAPI document, made from the handlers and types that serve it.
//!
//! Contract: [`document`] is the same text for the same code. `docs/openapi.json` is a copy of it, and
//! a test fails when they differ. The routes of webhooks are written down once, for the customer; the
//! administrator's are made of them. Allocates; fails never.

use utoipa::OpenApi;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{Components, Content, Ref, RefOr, Required, ResponseBuilder, SecurityRequirement};

use super::{
    accounts, api, deliveries, history, live, markets, metrics, service, session, subscribers, usage,
    webhooks,
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tocsin",
        description = "Accounts, webhooks, events, API keys and manual alerts. Customers send the token of their account; \
            the administrator's token, or the Unix socket, opens the routes under /admin. Every refusal is JSON with \
            a stable code in `error`, a text in `detail`, and the field at fault in `field` where one is."
    ),
    paths(
        session::sign_in,
        session::show_session,
        session::sign_out,
        session::create_link,
        accounts::own_account,
        accounts::list_accounts,
        accounts::create_account,
        accounts::show_account,
        accounts::change_account,
        accounts::remove_account,
        accounts::rotate_account_token,
        usage::list_own_keys,
        usage::show_usage,
        service::list_sources,
        markets::list_markets,
        markets::list_market_events,
        service::begin_drain,
        service::reload,
        subscribers::list_subscribers,
        webhooks::list_webhooks,
        webhooks::add_webhook,
        webhooks::show_webhook,
        webhooks::change_webhook,
        webhooks::remove_webhook,
        webhooks::verify_webhook,
        webhooks::enable_webhook,
        webhooks::disable_webhook,
        webhooks::rotate_webhook,
        webhooks::test_webhook,
        deliveries::list_deliveries,
        deliveries::resend_delivery,
        deliveries::replay_webhook,
        deliveries::list_events,
        history::list_announcements,
        live::administrators,
        live::customers,
        api::inject,
        api::list_keys,
        api::create_key,
        api::show_key,
        api::change_key,
        api::revoke_key,
        api::status,
        api::alive,
        api::live_too,
        api::ready,
        metrics::route::metrics,
        api::openapi,
    ),
    tags(
        (name = "session", description = "Signing in and out, for browsers"),
        (name = "account", description = "Your account"),
        (name = "webhooks", description = "Your endpoints"),
        (name = "deliveries", description = "What was sent, and sending it again"),
        (name = "announcements", description = "The feed's history"),
        (name = "accounts", description = "Accounts, for the administrator"),
        (name = "keys", description = "API keys of the feed, for the administrator"),
        (name = "service", description = "The service itself")
    )
)]
struct Document;

/// The document.
#[must_use]
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = Document::openapi();
    let mut components = document.components.take().unwrap_or_default();
    add_security(&mut components);
    answers_have_all_fields(&mut components);
    for (path, item) in &document.paths.paths.clone() {
        let Some(rest) = path.strip_prefix("/v1/webhooks") else { continue };
        let on_behalf = administrators(item, "admin_account_", true);
        document.paths.paths.insert(format!("/admin/v1/accounts/{{account}}/webhooks{rest}"), on_behalf);
        let mut over_all = administrators(item, "admin_", false);
        // An endpoint belongs to an account: it is added there.
        over_all.post = over_all.post.filter(|_| !rest.is_empty());
        document.paths.paths.insert(format!("/admin/v1/webhooks{rest}"), over_all);
    }
    for item in document.paths.paths.values_mut() {
        operations(item).for_each(|operation| {
            or_with_session(operation);
            complete(operation, &components);
        });
    }
    document.components = Some(components);
    document
}

/// The document as it is served and kept in docs/.
#[must_use]
pub fn text() -> String {
    // Cannot fail: the document is plain data.
    document().to_pretty_json().unwrap_or_default() + "\n"
}

fn add_security(components: &mut Components) {
    let bearer = |description: &str| {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description));
        SecurityScheme::Http(scheme.build())
    };
    components.add_security_scheme("account_token", bearer("The token of an account: act_..."));
    components.add_security_scheme(
        "admin_token",
        bearer("The administrator's token; not needed at the Unix socket."),
    );
    let cookie = ApiKey::Cookie(ApiKeyValue::with_description(
        super::client::COOKIE,
        "A session's cookie. Anything but GET and HEAD needs its CSRF token in X-CSRF-Token too.",
    ));
    components.add_security_scheme("session", SecurityScheme::ApiKey(cookie));
    components.add_security_scheme("metrics_token", bearer("The token in `admin.metrics_token_file`."));
    components.add_security_scheme(
        "api_key",
        SecurityScheme::ApiKey(ApiKey::Header(ApiKeyValue::new("X-API-Key"))),
    );
}

/// Requests may leave fields out, answers do not, but for what a refusal has nothing to say on. A
/// request refuses fields it does not have: that tells the two apart.
fn answers_have_all_fields(components: &mut Components) {
    for (name, schema) in &mut components.schemas {
        let RefOr::T(schema) = schema else { continue };
        let parts: Vec<&mut Schema> = match schema {
            Schema::AllOf(all) => all
                .items
                .iter_mut()
                .filter_map(|item| match item {
                    RefOr::T(part) => Some(part),
                    RefOr::Ref(_) => None,
                })
                .collect(),
            other => vec![other],
        };
        for part in parts {
            if let Schema::Object(object) = part
                && object.additional_properties.is_none()
                && name != "Refusal"
                && name != "EventShown"
            {
                object.required = object.properties.keys().cloned().collect();
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    [&mut item.get, &mut item.post, &mut item.patch, &mut item.delete].into_iter().flatten()
}

/// A customer's routes as the administrator has them.
fn administrators(item: &PathItem, prefix: &str, of_account: bool) -> PathItem {
    let mut item = item.clone();
    for operation in operations(&mut item) {
        operation.operation_id = operation.operation_id.take().map(|id| format!("{prefix}{id}"));
        operation.tags = Some(vec!["accounts".to_owned()]);
        operation.security = Some(vec![requirement("admin_token")]);
        if of_account {
            let account = ParameterBuilder::new()
                .name("account")
                .parameter_in(ParameterIn::Path)
                .required(Required::True)
                .description(Some("Number of the account"))
                .schema(Some(ObjectBuilder::new().schema_type(Type::Integer)))
                .build();
            operation.parameters.get_or_insert_default().insert(0, RefOr::T(account));
        }
    }
    item
}

fn requirement(scheme: &str) -> SecurityRequirement {
    SecurityRequirement::new(scheme, Vec::<String>::new())
}

/// Who may come with a token may come with a session.
fn or_with_session(operation: &mut Operation) {
    let session = requirement("session");
    if let Some(security) = &mut operation.security
        && !security.contains(&session)
    {
        security.push(session);
    }
}

/// Any answer that is not written down is a refusal; every answer has a description; a body is
/// required if one of its fields is.
fn complete(operation: &mut Operation, components: &Components) {
    if operation.security.is_some() {
        let body = Content::new(Some(Ref::from_schema_name("Refusal")));
        let refusal = ResponseBuilder::new().content("application/json", body).build();
        operation.responses.responses.insert("default".to_owned(), RefOr::T(refusal));
    }
    for (status, response) in &mut operation.responses.responses {
        if let RefOr::T(response) = response
            && response.description.is_empty()
        {
            response.description = description(status).to_owned();
        }
    }
    let required = |name: &str| match components.schemas.get(name) {
        Some(RefOr::T(Schema::Object(object))) => !object.required.is_empty(),
        _ => true,
    };
    if let Some(RefOr::T(body)) = &mut operation.request_body
        && let Some(RefOr::T(Content { schema: Some(RefOr::Ref(reference)), .. })) =
            body.content.get("application/json")
        && let Some(name) = reference.ref_location.rsplit('/').next()
        && !required(name)
    {
        body.required = Some(Required::False);
    }
}

fn description(status: &str) -> &'static str {
    match status {
        "200" => "Done",
        "201" => "Made",
        "202" => "Under way",
        "204" => "Gone",
        "400" => "A field or parameter is wrong; it is named",
        "401" => "No token, or one that is not known",
        "403" => "Not with this plan or key",
        "404" => "There is none of that number",
        "409" => "Not in its present state",
        "422" => "Its address may not be called",
        "429" => "Too often; `retry_after` says when again",
        "503" => "Not now",
        "507" => "The service takes no more of them",
        _ => "Refused",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_copy_in_docs_is_the_document() {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap();
        let copy = std::fs::read_to_string(root.join("docs/openapi.json")).unwrap_or_default();
        assert!(copy == text(), "make it anew: cargo run -p tocsin -- config openapi > docs/openapi.json");
    }

    #[test]
    fn it_is_openapi_3_1_and_its_references_lead_somewhere() {
        let json: serde_json::Value = serde_json::from_str(&text()).unwrap();
        assert_eq!(json["openapi"], "3.1.0");
        let text = text();
        let references: Vec<&str> =
            text.split("\"$ref\": \"#").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert!(references.len() > 50, "{}", references.len());
        for reference in references {
            assert!(json.pointer(reference).is_some(), "{reference}");
        }
        let ids: Vec<&str> =
            text.split("\"operationId\": \"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
        let unique: std::collections::BTreeSet<&&str> = ids.iter().collect();
        assert_eq!(unique.len(), ids.len());
    }

    #[test]
    fn what_is_written_down_says_what_is_required() {
        let json = serde_json::to_value(document()).unwrap();
        let required = |schema: &str| {
            let mut names: Vec<String> = serde_json::from_value(
                json.pointer(&format!("/components/schemas/{schema}/required")).cloned().unwrap(),
            )
            .unwrap();
            names.sort();
            names
        };
        assert_eq!(required("EndpointCreate"), ["url"]);
        assert_eq!(required("Refusal"), ["detail", "error"]);
        assert!(required("EndpointShown").contains(&"p95_ms".to_owned()));
        let add = &json["paths"]["/v1/webhooks"]["post"];
        assert_eq!(add["security"], serde_json::json!([{"account_token": []}, {"session": []}]));
        assert!(json["paths"]["/admin/v1/webhooks"]["post"].is_null());
        let admin = &json["paths"]["/admin/v1/accounts/{account}/webhooks/{id}/test"]["post"];
        assert_eq!(admin["security"], serde_json::json!([{"admin_token": []}, {"session": []}]));
        assert_eq!(admin["parameters"][0]["name"], "account");
    }
}
