//! What requests and answers hold, as types: the OpenAPI document is made from them.
//!
//! Contract: request types refuse fields they do not have; their values are checked by the handlers,
//! which name the field at fault. Answer types always have all their fields, null where there is
//! nothing, but for [`Refusal`]. Neither keys, tokens, secrets nor hashes are in any type but those
//! that show them once. Plain data: nothing here fails.

use serde::{Deserialize, Deserializer, Serialize};
use tocsin_core::feed::key::Tier;
use tocsin_core::limits;
use tocsin_core::market::MarketEvent;
use tocsin_core::model::{Exchange, ListingType};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::attempt::FailureClass;
use tocsin_core::webhook::endpoint::{Disabled, Ping, State};
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::lane::Purpose;
use utoipa::ToSchema;
use utoipa::openapi::schema::{Array, ArrayBuilder, Object, ObjectBuilder, SchemaType, Type};

use super::reply::rfc3339;
use super::snapshot::{MarketRequestSnapshot, NotReady};
use crate::rings::EndpointReport;
use crate::store::market::MarketEventText;
use crate::store::webhook::accounts::AccountRecord;
use crate::store::webhook::deliveries::AttemptRecord;
use crate::store::webhook::endpoints::EndpointRecord;

/// A field that is there and null is told from one that is not there.
fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

// ---- Names in schemas: from the lists the code itself uses ---------------------------------------

fn one_of<'a>(description: &str, names: impl IntoIterator<Item = &'a str>) -> Object {
    let names: Vec<&str> = names.into_iter().collect();
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(description))
        .enum_values(Some(names))
        .build()
}

/// The same, or null.
fn one_of_or_null<'a>(description: &str, names: impl IntoIterator<Item = &'a str>) -> Object {
    let names: Vec<Option<&str>> = names.into_iter().map(Some).chain([None]).collect();
    ObjectBuilder::new()
        .schema_type(SchemaType::from_iter([Type::String, Type::Null]))
        .description(Some(description))
        .enum_values(Some(names))
        .build()
}

fn tiers() -> Object {
    one_of("Subscription tier.", [Tier::Basic, Tier::Premium, Tier::Enterprise].map(Tier::name))
}

fn exchanges() -> Object {
    one_of("Exchange that is said to publish it.", Exchange::ALL.map(Exchange::name))
}

fn listing_types() -> Object {
    let names = ListingType::ALL.map(ListingType::name);
    one_of_or_null("Listing type instead of the classifier's.", names)
}

fn event_kinds() -> Object {
    one_of("Kind of event.", EventKind::ALL.map(EventKind::name))
}

fn test_kinds() -> Object {
    one_of_or_null("Kind of event; `new_listing` when not given.", EventKind::ALL.map(EventKind::name))
}

fn list_of(description: &str, item: Object) -> Array {
    ArrayBuilder::new().items(item).description(Some(description)).build()
}

fn kinds_wanted() -> Array {
    let names = EventKind::ALL.map(EventKind::name).into_iter().filter(|name| *name != "ping");
    let item = one_of("Kind of event, or `*`.", names.chain(["*"]));
    list_of("Events it wants; `*` stands for all. Pings always come.", item)
}

fn exchanges_wanted() -> Array {
    let item = one_of("Exchange, or `*`.", Exchange::ALL.map(Exchange::name).into_iter().chain(["*"]));
    list_of("Exchanges it wants; `*` stands for all.", item)
}

fn states() -> Object {
    let disabled = [Disabled::Auto, Disabled::User, Disabled::Gone].map(State::Disabled);
    let states = [State::Pending, State::Active, State::Suspended].into_iter().chain(disabled);
    one_of("Whether it gets events.", states.map(State::name))
}

fn classes() -> Object {
    one_of_or_null("Why, more closely.", FailureClass::ALL.map(FailureClass::name))
}

fn stages() -> Object {
    let stages = ["dns", "address", "connect", "tls", "response", "timeout"];
    one_of_or_null("What failed; null when it is ok.", stages)
}

// ---- Requests ------------------------------------------------------------------------------------

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyCreate {
    /// A note for yourself.
    pub(super) label: Option<String>,
    /// Subscription tier.
    #[schema(schema_with = tiers)]
    pub(super) tier: String,
    /// Most simultaneous connections; 1 when not given.
    pub(super) max_connections: Option<i64>,
    /// Exchanges it may subscribe to, comma separated; `*` (all) when not given.
    pub(super) allowed_cex: Option<String>,
    /// Its end, in seconds from now; never when neither this nor `expires_at` is given.
    pub(super) expires_in_secs: Option<i64>,
    /// Its end (RFC 3339).
    pub(super) expires_at: Option<String>,
    /// Hold announcements back this long (basic tier only).
    pub(super) delay_ms: Option<i64>,
    /// Withhold title and ticker.
    pub(super) redact: Option<bool>,
    /// Number of the account it belongs to; nobody's when not given.
    pub(super) account: Option<i64>,
}

/// A key's new end: one of the two.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct KeyChange {
    /// In seconds from now; null: never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<i64>)]
    pub(super) expires_in_secs: Option<Option<i64>>,
    /// RFC 3339; null: never.
    #[serde(default, deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub(super) expires_at: Option<Option<String>>,
}

/// A manual alert.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnnouncementCreate {
    /// Exchange that is said to publish it.
    #[schema(schema_with = exchanges)]
    pub(super) exchange: String,
    /// Title, classified like any other.
    pub(super) title: String,
    /// Listing type instead of the classifier's.
    #[schema(schema_with = listing_types, required = false)]
    pub(super) listing_type: Option<String>,
    /// Tickers instead of the classifier's.
    pub(super) tickers: Option<Vec<String>>,
    /// When it was published, in microseconds since 1970; now when not given.
    pub(super) published_us: Option<i64>,
}

/// An account to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountCreate {
    /// For people; 1 to 256 bytes, no control characters.
    pub(super) name: String,
    /// Where its mail goes; nowhere when not given.
    pub(super) email: Option<String>,
    /// A plan's name, 1 to 32 of `[a-z0-9_-]`; `webhooks.plans` says which have webhooks.
    pub(super) plan: String,
}

/// A change of an account; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AccountChange {
    /// The new name.
    pub(super) name: Option<String>,
    /// Where its mail goes from now on; empty: nowhere.
    pub(super) email: Option<String>,
    /// The new plan. One without webhooks ends the account's sessions and switches its endpoints off.
    pub(super) plan: Option<String>,
}

/// A credential to sign in with: one of the two.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignIn {
    /// The administrator's token, or an account's.
    pub(super) token: Option<String>,
    /// The code of a sign-in link: what follows `#code=`.
    pub(super) code: Option<String>,
}

/// Whom a sign-in link is for.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SignInLinkCreate {
    /// Number of the account; the administrator when not given.
    pub(super) account: Option<i64>,
}

/// An endpoint to be registered.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointCreate {
    /// A public HTTPS URL, at most 2,048 bytes.
    #[schema(example = "https://bot.example.com/webhook/cxp")]
    pub(super) url: String,
    /// A note for yourself.
    pub(super) label: Option<String>,
    /// Events it wants; all when not given. Pings always come.
    #[schema(schema_with = kinds_wanted, required = false)]
    pub(super) events: Option<Vec<String>>,
    /// Exchanges it wants; all when not given.
    #[schema(schema_with = exchanges_wanted, required = false)]
    pub(super) exchanges: Option<Vec<String>>,
}

/// A change of an endpoint; what is not given stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct EndpointUpdate {
    /// A note for yourself.
    pub(super) label: Option<String>,
    /// Events it wants.
    #[schema(schema_with = kinds_wanted, required = false)]
    pub(super) events: Option<Vec<String>>,
    /// Exchanges it wants.
    #[schema(schema_with = exchanges_wanted, required = false)]
    pub(super) exchanges: Option<Vec<String>>,
}

/// A new secret for an endpoint.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretRotate {
    /// How long the secret before goes on signing beside it, at most 604,800 (7 days);
    /// `webhooks.rotation_grace` when not given.
    pub(super) grace_secs: Option<i64>,
}

/// A test event.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestCreate {
    /// Its kind; `new_listing` when not given.
    #[serde(rename = "type")]
    #[schema(schema_with = test_kinds, required = false)]
    pub(super) kind: Option<String>,
}

/// Past events to be sent again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Replay {
    /// From this instant on: RFC 3339, or seconds since 1970.
    pub(super) since: String,
    /// Up to this instant; now when not given.
    pub(super) until: Option<String>,
    /// Of these kinds; those the endpoint wants when not given.
    #[schema(schema_with = kinds_wanted, required = false)]
    pub(super) types: Option<Vec<String>>,
}

// ---- Answers -------------------------------------------------------------------------------------

/// Why a request was refused.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Refusal {
    /// A stable code.
    #[schema(example = "invalid_value")]
    pub(super) error: &'static str,
    /// What is wrong, for people.
    pub(super) detail: String,
    /// The field or parameter at fault, where one is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) field: Option<String>,
    /// In how many seconds to try again, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) retry_after: Option<u64>,
}

/// A key: never its text.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyShown {
    pub(super) id: i64,
    pub(super) label: String,
    #[schema(schema_with = tiers)]
    pub(super) tier: &'static str,
    pub(super) max_connections: u32,
    /// Comma separated.
    pub(super) allowed_cex: String,
    /// `active`, `expired` or `revoked`.
    pub(super) state: &'static str,
    pub(super) created_at: String,
    pub(super) expires_at: Option<String>,
    pub(super) revoked_at: Option<String>,
    pub(super) delay_ms: u64,
    pub(super) redact: bool,
    /// Number of the account it belongs to.
    pub(super) account: Option<i64>,
}

/// Keys, by number.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Keys {
    pub(super) keys: Vec<KeyShown>,
    /// What to give as `after` for those that follow; null at the end.
    pub(super) next: Option<i64>,
}

/// A key of an account's own, and who is connected with it.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnKeyShown {
    #[serde(flatten)]
    pub(super) shown: KeyShown,
    /// Connections now; null when the accept thread is busy.
    pub(super) connections: Option<u32>,
}

/// An account's keys, by number.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct OwnKeys {
    pub(super) keys: Vec<OwnKeyShown>,
    /// What to give as `after` for those that follow; null at the end.
    pub(super) next: Option<i64>,
}

/// A key that has just been made.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct KeyCreated {
    #[serde(flatten)]
    pub(super) shown: KeyShown,
    /// Its text: shown this once.
    pub(super) key: String,
}

/// An account: never its token.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountShown {
    pub(super) id: i64,
    pub(super) name: String,
    /// Empty: it gets no mail.
    pub(super) email: String,
    pub(super) plan: String,
    /// Whether the plan has webhooks.
    pub(super) webhooks: bool,
    /// Most endpoints it may have.
    pub(super) endpoints_max: usize,
    /// Test events left today (UTC).
    pub(super) tests_left: u8,
    pub(super) created_at: String,
}

impl AccountShown {
    /// As it is shown where `plans` have webhooks.
    pub(super) fn of(account: &AccountRecord, plans: &[String], now: WallUs) -> AccountShown {
        let today = now.secs().div_euclid(86_400);
        let taken = if account.test_day == today { account.tests_taken } else { 0 };
        AccountShown {
            id: account.id.0,
            name: account.name.clone(),
            email: account.email.clone(),
            plan: account.plan.clone(),
            webhooks: plans.contains(&account.plan),
            endpoints_max: limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT,
            tests_left: limits::WEBHOOK_TESTS_PER_DAY.saturating_sub(taken),
            created_at: rfc3339(account.created_at),
        }
    }
}

/// A session.
#[derive(Serialize, ToSchema)]
pub(super) struct SessionShown {
    /// `administrator` or `customer`.
    pub(super) role: &'static str,
    /// Null for the administrator.
    pub(super) account: Option<AccountShown>,
    /// What anything but reading has to bring in `X-CSRF-Token`.
    pub(super) csrf: String,
    /// When it ends if it is used no more.
    pub(super) expires_in_secs: u64,
}

/// A link that signs in once.
#[derive(Serialize, ToSchema)]
pub(super) struct SignInLink {
    /// To be put behind the server's address: its code is good once.
    pub(super) path: String,
    /// Where the service itself listens; null without a TCP listener. Behind a proxy it is another.
    pub(super) base_url: Option<String>,
    /// For how long.
    pub(super) expires_in_secs: u64,
}

/// Nothing is asked.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// A drain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DrainRequest {
    /// In how many seconds the last subscriber is closed, at most 3,600; `feed.drain` when not given.
    #[schema(minimum = 0, maximum = 3600)]
    pub(super) over_secs: Option<i64>,
}

/// A drain that has begun.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Draining {
    /// Subscribers there are.
    pub(super) connections: u64,
    pub(super) over_secs: u64,
}

/// Sources, as in the status, each with its `budget`.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Sources {
    #[schema(value_type = Vec<Object>)]
    pub(super) sources: Vec<serde_json::Map<String, serde_json::Value>>,
}

/// What is asked of markets.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Markets {
    /// Whether any are watched.
    pub(super) enabled: bool,
    /// Every request, in the order of the sources.
    pub(super) requests: Vec<MarketRequestSnapshot>,
}

/// A market event.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MarketEventShown {
    /// What makes it this event and no other.
    pub(super) id: String,
    #[serde(flatten)]
    pub(super) event: MarketEventText,
}

impl MarketEventShown {
    pub(super) fn of(event: &MarketEvent) -> MarketEventShown {
        MarketEventShown { id: event.source_item(), event: MarketEventText::of(event) }
    }
}

/// Market events.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct MarketEvents {
    pub(super) events: Vec<MarketEventShown>,
}

/// What a subscriber receives.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SubscriberFilter {
    pub(super) exchanges: Vec<&'static str>,
    pub(super) types: Vec<&'static str>,
    /// How many tickers it names; null: all.
    pub(super) tickers: Option<usize>,
}

/// One connection to the feed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct SubscriberShown {
    /// Its number while it is connected.
    pub(super) id: u64,
    pub(super) key_id: i64,
    /// Of its key.
    pub(super) label: Option<String>,
    /// Of its key.
    pub(super) tier: Option<&'static str>,
    /// Number of the account its key belongs to.
    pub(super) account: Option<i64>,
    /// As its limits count it: an IPv6 one by its /64; null for one that is exempt.
    pub(super) address: Option<String>,
    pub(super) connected_at: String,
    pub(super) filter: SubscriberFilter,
    /// `live`, `blocked` (its socket is full), `history` (it is sent what it missed, or delayed) or
    /// `closing`.
    pub(super) state: &'static str,
    /// Announcements it is behind; with a delay, those held back included.
    pub(super) lag_messages: u64,
    /// Bytes that wait for it beside announcements.
    pub(super) waiting_bytes: usize,
    /// From its last answered ping to the pong; null before there was one.
    pub(super) rtt_us: Option<u32>,
    pub(super) delay_ms: u64,
}

/// Subscribers, by number.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Subscribers {
    pub(super) subscribers: Vec<SubscriberShown>,
    /// All there are.
    pub(super) total: u64,
    /// What to give as `after` for those that follow; null at the end.
    pub(super) next: Option<u64>,
}

/// So many of so many.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Budget {
    pub(super) used: usize,
    pub(super) left: usize,
    pub(super) limit: usize,
}

impl Budget {
    pub(super) fn of(used: usize, limit: usize) -> Budget {
        Budget { used, left: limit.saturating_sub(used), limit }
    }
}

/// Attempts of the last 24 hours, as far as the delivery log reaches (200 lines an endpoint).
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliveryCounts {
    pub(super) delivered: u64,
    pub(super) failed: u64,
    /// The failed ones, by class.
    #[schema(value_type = Object)]
    pub(super) by_class: std::collections::BTreeMap<String, u64>,
}

/// What an account has and uses.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Usage {
    pub(super) plan: String,
    /// Whether the plan has webhooks.
    pub(super) webhooks: bool,
    /// Test events; the day is UTC's.
    pub(super) tests_today: Budget,
    pub(super) endpoints: Budget,
    /// Registrations in the last hour, failed ones included.
    pub(super) registrations_this_hour: Budget,
    pub(super) deliveries_24h: DeliveryCounts,
    /// The first 1,000 keys.
    pub(super) keys: Vec<OwnKeyShown>,
}

/// Accounts, by number.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Accounts {
    pub(super) accounts: Vec<AccountShown>,
    /// What to give as `after` for those that follow; null at the end.
    pub(super) next: Option<i64>,
}

/// An account with a token that has just been drawn.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountWithToken {
    #[serde(flatten)]
    pub(super) shown: AccountShown,
    /// Its token: shown this once.
    pub(super) token: String,
}

/// An account whose plan has changed.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AccountChanged {
    #[serde(flatten)]
    pub(super) shown: AccountShown,
    /// Endpoints that were switched off because the plan has no webhooks.
    pub(super) endpoints_disabled: usize,
}

/// An endpoint: never its secret.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointShown {
    pub(super) id: u64,
    /// Number of its account.
    pub(super) account: i64,
    pub(super) label: String,
    pub(super) url: String,
    /// Events it wants; `*`: all.
    #[schema(schema_with = kinds_wanted)]
    pub(super) events: Vec<String>,
    /// Exchanges it wants; `*`: all.
    #[schema(schema_with = exchanges_wanted)]
    pub(super) exchanges: Vec<String>,
    #[schema(schema_with = states)]
    pub(super) state: &'static str,
    /// Since when it is in this state.
    pub(super) since: String,
    /// Failures in a row; at 3 it is disabled.
    pub(super) failures: u8,
    /// The P95 is above 5 s.
    pub(super) slow: bool,
    /// Of the last 100 attempts, in milliseconds; null before there are 20, and while no service runs.
    pub(super) p95_ms: Option<u64>,
    /// Deliveries that wait or are under way; null while no service runs.
    pub(super) pending: Option<usize>,
    /// Warm connections; null while no service runs.
    pub(super) connections: Option<usize>,
    pub(super) created_at: String,
    /// When its verification ping was first answered.
    pub(super) verified_at: Option<String>,
    /// Until when the secret before the last rotation signs too.
    pub(super) previous_secret_until: Option<String>,
}

impl EndpointShown {
    /// As it is stored, with what the running service knows of it.
    pub(super) fn of(record: &EndpointRecord, live: Option<&EndpointReport>, now: WallUs) -> EndpointShown {
        let health = live.map_or(record.health, |live| live.health);
        let names = |text: String| text.split(',').map(str::to_owned).collect();
        let until = record.previous.as_ref().map(|(_, until)| *until).filter(|until| *until > now);
        EndpointShown {
            id: record.id.0,
            account: record.account.0,
            label: record.label.clone(),
            url: record.url.clone(),
            events: names(record.filter.kinds_text()),
            exchanges: names(record.filter.exchanges_text()),
            state: health.state.name(),
            since: rfc3339(health.since),
            failures: health.failures,
            slow: health.slow,
            p95_ms: live
                .and_then(|live| live.p95)
                .map(|p95| u64::try_from(p95.as_millis()).unwrap_or(u64::MAX)),
            pending: live.map(|live| live.pending),
            connections: live.map(|live| live.connections),
            created_at: rfc3339(record.created_at),
            verified_at: record.verified_at.map(rfc3339),
            previous_secret_until: until.map(rfc3339),
        }
    }
}

/// Endpoints, by number.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Endpoints {
    pub(super) webhooks: Vec<EndpointShown>,
    /// What to give as `after` for those that follow; null at the end.
    pub(super) next: Option<i64>,
}

/// An endpoint that has just been registered.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointCreated {
    #[serde(flatten)]
    pub(super) shown: EndpointShown,
    /// Its secret: shown this once.
    pub(super) secret: String,
    pub(super) verification: AttemptOutcome,
}

/// An endpoint whose verification ping has been sent again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointVerified {
    #[serde(flatten)]
    pub(super) shown: EndpointShown,
    pub(super) verification: AttemptOutcome,
}

/// An endpoint with a secret that has just been drawn.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct EndpointRotated {
    #[serde(flatten)]
    pub(super) shown: EndpointShown,
    /// Its new secret: shown this once.
    pub(super) secret: String,
}

/// Where an attempt's time went, in microseconds; null for a phase it did not have or did not reach.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct PhasesShown {
    /// From the event (a retry: from when it was due) to the start of the attempt.
    pub(super) queue_us: u32,
    pub(super) dns_us: Option<u32>,
    pub(super) tcp_us: Option<u32>,
    pub(super) tls_us: Option<u32>,
    /// Until the request had been handed over.
    pub(super) write_us: Option<u32>,
    /// From there to the first byte of the response.
    pub(super) first_byte_us: Option<u32>,
}

/// How an attempt ended.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct AttemptOutcome {
    /// It was answered with 2xx.
    pub(super) ok: bool,
    /// What failed; null when it is ok.
    #[schema(schema_with = stages)]
    pub(super) failed: Option<&'static str>,
    /// Why, more closely.
    #[schema(schema_with = classes)]
    pub(super) class: Option<&'static str>,
    /// The status, where a response came.
    pub(super) status: Option<u16>,
    /// What it was, for people.
    pub(super) detail: Option<String>,
    /// From its start to its end.
    pub(super) took_us: Option<u32>,
    /// The address it was sent to.
    pub(super) address: Option<String>,
    pub(super) phases: Option<PhasesShown>,
}

impl AttemptOutcome {
    /// As the delivery log has it.
    pub(super) fn of(attempt: &AttemptRecord) -> AttemptOutcome {
        let p = attempt.phases;
        AttemptOutcome {
            ok: attempt.class.is_none(),
            failed: attempt.class.map(|class| stage(class, attempt)),
            class: attempt.class.map(FailureClass::name),
            status: attempt.status,
            detail: attempt.detail.as_deref().map(str::to_owned),
            took_us: Some(attempt.took_us),
            address: attempt.address.map(|address| address.to_string()),
            phases: Some(PhasesShown {
                queue_us: p.queue_us,
                dns_us: p.dns_us,
                tcp_us: p.tcp_us,
                tls_us: p.tls_us,
                write_us: p.write_us,
                first_byte_us: p.first_byte_us,
            }),
        }
    }

    /// No result came while the request waited.
    pub(super) fn unknown() -> AttemptOutcome {
        AttemptOutcome {
            ok: false,
            failed: Some("timeout"),
            class: None,
            status: None,
            detail: Some("no result yet; the delivery log will show it".to_owned()),
            took_us: None,
            address: None,
            phases: None,
        }
    }
}

/// Which step of an attempt failed.
fn stage(class: FailureClass, attempt: &AttemptRecord) -> &'static str {
    match class {
        FailureClass::Dns => "dns",
        FailureClass::Address => "address",
        FailureClass::Connect => "connect",
        FailureClass::Tls | FailureClass::TlsExpired | FailureClass::TlsName | FailureClass::TlsUntrusted => {
            "tls"
        }
        FailureClass::Timeout => "timeout",
        // Reset in the handshake: TCP stood, TLS did not.
        FailureClass::Reset if attempt.phases.tcp_us.is_some() && attempt.phases.tls_us.is_none() => "tls",
        _ => "response",
    }
}

/// A line of the delivery log.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct DeliveryShown {
    /// `event_id`.
    pub(super) event_id: String,
    #[serde(rename = "type")]
    #[schema(schema_with = event_kinds)]
    pub(super) kind: &'static str,
    /// `event`, `test`, or what a ping was for: `verification`, `health`, `probe`, `confirm`.
    pub(super) purpose: &'static str,
    /// 1 to 6 for an event, else 1.
    pub(super) attempt: u8,
    /// When it started.
    pub(super) at: String,
    /// When it is tried again; null: it is not.
    pub(super) next_at: Option<String>,
    #[serde(flatten)]
    pub(super) outcome: AttemptOutcome,
}

impl DeliveryShown {
    /// As the delivery log has it.
    pub(super) fn of(attempt: &AttemptRecord) -> DeliveryShown {
        let (purpose, number) = match attempt.purpose {
            Purpose::Event { attempt } => ("event", attempt),
            Purpose::Test => ("test", 1),
            Purpose::Ping(Ping::Verification) => ("verification", 1),
            Purpose::Ping(Ping::Health) => ("health", 1),
            Purpose::Ping(Ping::Probe) => ("probe", 1),
            Purpose::Ping(Ping::Confirm) => ("confirm", 1),
        };
        DeliveryShown {
            event_id: attempt.event.to_string(),
            kind: attempt.kind.name(),
            purpose,
            attempt: number,
            at: rfc3339(attempt.started_at),
            next_at: attempt.next_at.map(rfc3339),
            outcome: AttemptOutcome::of(attempt),
        }
    }
}

/// The newest lines of an endpoint's delivery log, newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Deliveries {
    pub(super) deliveries: Vec<DeliveryShown>,
}

/// How a test event went.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct TestShown {
    /// `event_id`; null when no result came in time.
    pub(super) event_id: Option<String>,
    #[serde(flatten)]
    pub(super) outcome: AttemptOutcome,
    /// Test events left today (UTC), over all endpoints of the account.
    pub(super) tests_left: u8,
}

/// Past events that are on their way again.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Replayed {
    /// How many.
    pub(super) queued: usize,
    /// Where to go on with `since`: one request replays at most 1,000 events. Null: that was all.
    pub(super) next_since: Option<String>,
}

/// An event as it is sent.
#[derive(ToSchema)]
#[allow(dead_code, reason = "says what is served; the bytes are served as they were sent")]
pub(super) struct EventShown {
    event_id: String,
    #[schema(schema_with = event_kinds)]
    r#type: String,
    /// Seconds since 1970.
    timestamp: i64,
    exchange: String,
    symbol: String,
    /// `spot`, `futures`, `perp`, or `none`.
    listing_type: String,
    volume_24h: Option<f64>,
    ai_score: Option<u8>,
    latency_ms: u64,
}

/// Events, oldest first.
#[derive(ToSchema)]
#[allow(dead_code, reason = "says what is served; the bytes are served as they were sent")]
pub(super) struct Events {
    events: Vec<EventShown>,
    /// Where to go on with `after`; null: there are none yet.
    next: Option<u64>,
}

/// Announcements, oldest first, each as on the feed with all fields.
#[derive(ToSchema)]
#[allow(dead_code, reason = "says what is served; the bytes are written by hand")]
pub(super) struct Announcements {
    /// See docs/schemas/feed-server-messages.json.
    #[schema(value_type = Vec<Object>)]
    announcements: Vec<()>,
    /// `EPOCH:SEQ` to go on with `after`.
    next: Option<String>,
    /// Always null here.
    gap: Option<bool>,
}

/// Whether every thread moves.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Alive {
    pub(super) alive: bool,
}

/// Whether subscribers should be sent here.
#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Ready {
    pub(super) ready: bool,
    /// Why not; empty when ready.
    pub(super) reasons: Vec<NotReady>,
}
