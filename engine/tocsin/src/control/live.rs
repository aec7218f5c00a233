//! Live events for dashboards: `GET /admin/v1/live` and `GET /v1/live`, as server-sent events.
//!
//! Contract: a stream brings `announcement` (as it went out), `delivery` (a line of the delivery log,
//! with its endpoint) and, for administrators, `status` each second and `host` every five. A customer's
//! stream brings what is the account's own. It begins with `hello`, ends by itself after
//! [`STREAM_LIFE`], and the browser comes again; it ends with its session, too.
//!
//! Owner: control thread. What it tells comes through a ring that the journal thread fills after the
//! commit and only while somebody looks ([`crate::threads::journal::LiveTap`]): no hot thread knows of
//! it. Bounds: [`limits::LIVE_STREAMS`] streams, beyond them 503; [`limits::LIVE_QUEUE`] events wait
//! for a slow reader, who then gets `lost` with how many it missed.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, RawQuery, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tocsin_core::limits;
use tocsin_core::webhook::board::EndpointId;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, broadcast};
use tokio::time::Instant;

use super::caller::{Caller, WithSession};
use super::fields::Query;
use super::reply::{Answer, ApiError, announcement_json};
use super::shapes::{DeliveryShown, Refusal};
use super::{Control, host};
use crate::os::clock;
use crate::rings::JournalToLive;
use crate::store::webhook::accounts::AccountId;
use crate::store::webhook::deliveries::AttemptRecord;
use crate::threads::journal::LiveInlet;

/// Shorter than a connection's life at the door, so that a stream ends between two events.
const STREAM_LIFE: Duration = Duration::from_secs(240);
/// The shortest life that may be asked for.
const ONE_SECOND: Duration = Duration::from_secs(1);
/// Between two looks at the ring, while somebody looks on.
const LOOK: Duration = Duration::from_millis(20);
/// Between two `status` events.
const STATUS_PERIOD: Duration = Duration::from_secs(1);
/// Between two `host` events.
const HOST_PERIOD: Duration = Duration::from_secs(5);
/// Between two looks whether the session of a quiet stream still holds.
const LOOK_AT_SESSION: Duration = Duration::from_secs(1);
/// A comment on a quiet stream, so that proxies and browsers keep it.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// Owners of endpoints that are remembered; then all are forgotten and asked for again.
const OWNERS: usize = 8_192;

/// For whom an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Audience {
    /// Administrators, and customers who may see announcements.
    Announcement,
    Administrators,
    /// One account, and administrators.
    Account(AccountId),
}

/// An event, written once for all streams.
#[derive(Debug)]
struct Told {
    name: &'static str,
    audience: Audience,
    data: String,
}

/// Who looks on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Viewer {
    Administrator,
    Customer { account: AccountId, announcements: bool },
}

impl Viewer {
    fn may_see(self, audience: Audience) -> bool {
        match (self, audience) {
            (Viewer::Administrator, _) => true,
            (Viewer::Customer { announcements, .. }, Audience::Announcement) => announcements,
            (Viewer::Customer { account, .. }, Audience::Account(whose)) => account == whose,
            (Viewer::Customer { .. }, Audience::Administrators) => false,
        }
    }

    fn role(self) -> &'static str {
        match self {
            Viewer::Administrator => "administrator",
            Viewer::Customer { .. } => "customer",
        }
    }
}

/// What streams and [`pump`] share.
pub(super) struct Live {
    inlet: Mutex<Option<LiveInlet>>,
    events: broadcast::Sender<Arc<Told>>,
    places: Arc<Semaphore>,
    opened: Notify,
}

impl Live {
    /// `inlet`: where committed rows are shown.
    pub(super) fn new(inlet: LiveInlet) -> Live {
        Live {
            inlet: Mutex::new(Some(inlet)),
            events: broadcast::channel(limits::LIVE_QUEUE).0,
            places: Arc::new(Semaphore::new(limits::LIVE_STREAMS)),
            opened: Notify::new(),
        }
    }

    fn tell(&self, name: &'static str, audience: Audience, data: String) {
        // An error means that nobody listens any more.
        let _ = self.events.send(Arc::new(Told { name, audience, data }));
    }
}

impl Control {
    fn live_stream(
        self: &Arc<Self>,
        viewer: Viewer,
        session: WithSession,
        query: Option<&str>,
    ) -> Result<Response, ApiError> {
        let life = read_life(query)?;
        let live = &self.live;
        let place = Arc::clone(&live.places).try_acquire_owned().map_err(|_| {
            let most = limits::LIVE_STREAMS;
            let detail = format!("{most} live streams are open, which is the most; close one");
            ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_streams", detail)
        })?;
        let events = live.events.subscribe();
        live.opened.notify_one();
        let until = Instant::now() + life;
        let control = Arc::clone(self);
        let reader = Reader { control, session, viewer, events, until, greeted: false, _place: place };
        let stream = futures_util::stream::unfold(reader, Reader::next);
        let sse = Sse::new(stream).keep_alive(KeepAlive::new().interval(KEEP_ALIVE));
        // Proxies that gather answers would hold events back.
        Ok(([("x-accel-buffering", "no")], sse).into_response())
    }
}

/// `for_secs`: how long the stream is to last.
fn read_life(query: Option<&str>) -> Result<Duration, ApiError> {
    let query = Query::read(query, &["for_secs"])?;
    let Some(text) = query.text("for_secs") else { return Ok(STREAM_LIFE) };
    let life =
        text.parse().ok().map(Duration::from_secs).filter(|life| (ONE_SECOND..=STREAM_LIFE).contains(life));
    life.ok_or_else(|| ApiError::field("for_secs", format!("between 1 and {}", STREAM_LIFE.as_secs())))
}

/// One stream.
struct Reader {
    control: Arc<Control>,
    session: WithSession,
    viewer: Viewer,
    events: broadcast::Receiver<Arc<Told>>,
    until: Instant,
    greeted: bool,
    _place: OwnedSemaphorePermit,
}

impl Reader {
    async fn next(mut self) -> Option<(Result<Event, Infallible>, Reader)> {
        if !self.greeted {
            self.greeted = true;
            let hello = json!({
                "role": self.viewer.role(), "version": env!("CARGO_PKG_VERSION"), "now_us": clock::wall().0,
            });
            let event = Event::default().event("hello").retry(Duration::from_secs(1)).data(hello.to_string());
            return Some((Ok(event), self));
        }
        loop {
            let look = (Instant::now() + LOOK_AT_SESSION).min(self.until);
            let told = tokio::time::timeout_at(look, self.events.recv()).await;
            if Instant::now() >= self.until || !self.control.session_holds(self.session) {
                return None;
            }
            let Ok(told) = told else { continue };
            let event = match told {
                Ok(told) if !self.viewer.may_see(told.audience) => continue,
                Ok(told) => Event::default().event(told.name).data(&told.data),
                Err(broadcast::error::RecvError::Lagged(count)) => {
                    Event::default().event("lost").data(json!({ "events": count }).to_string())
                }
                Err(broadcast::error::RecvError::Closed) => return None,
            };
            return Some((Ok(event), self));
        }
    }
}

/// Takes what the journal thread shows, and the counters, to the streams. Never ends.
pub(super) async fn pump(control: Arc<Control>) {
    let live = &control.live;
    let Some(mut inlet) = live.inlet.lock().take() else { return };
    let mut owners = HashMap::new();
    loop {
        if live.events.receiver_count() == 0 {
            inlet.set_watched(false);
            live.opened.notified().await;
            continue;
        }
        inlet.set_watched(true);
        let (mut next_status, mut next_host) = (Instant::now(), Instant::now());
        while live.events.receiver_count() > 0 {
            show_rows(&control, &mut inlet, &mut owners).await;
            let now = Instant::now();
            if now >= next_status {
                next_status = now + STATUS_PERIOD;
                live.tell("status", Audience::Administrators, control.view.status().to_string());
            }
            if now >= next_host {
                next_host = now + HOST_PERIOD;
                live.tell("host", Audience::Administrators, host::snapshot(&control).await.to_string());
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}

async fn show_rows(control: &Control, inlet: &mut LiveInlet, owners: &mut HashMap<EndpointId, AccountId>) {
    let live = &control.live;
    while let Some(shown) = inlet.take() {
        match shown {
            JournalToLive::Announcement(announcement) => {
                // Our own text, which is UTF-8.
                let text = String::from_utf8(announcement_json(&announcement)).unwrap_or_default();
                live.tell("announcement", Audience::Announcement, text);
            }
            JournalToLive::Attempt(line) => {
                if let Some(account) = owner(control, owners, line.endpoint).await {
                    live.tell("delivery", Audience::Account(account), delivery(&line, account).to_string());
                }
            }
        }
    }
    let dropped = inlet.take_dropped();
    if dropped > 0 {
        // Nobody knows whose they were.
        live.tell("lost", Audience::Announcement, json!({ "events": dropped }).to_string());
    }
}

/// A line of the delivery log with where it belongs.
fn delivery(line: &AttemptRecord, account: AccountId) -> Value {
    let mut shown = serde_json::to_value(DeliveryShown::of(line)).unwrap_or_default();
    if let Some(fields) = shown.as_object_mut() {
        fields.insert("endpoint".to_owned(), line.endpoint.0.into());
        fields.insert("account".to_owned(), account.0.into());
    }
    shown
}

/// Whose an endpoint is: that never changes. `None` when it has been removed.
async fn owner(
    control: &Control,
    owners: &mut HashMap<EndpointId, AccountId>,
    endpoint: EndpointId,
) -> Option<AccountId> {
    if let Some(account) = owners.get(&endpoint) {
        return Some(*account);
    }
    let account = control.read(move |reader| reader.endpoint(endpoint)).await.ok()?.account;
    if owners.len() >= OWNERS {
        owners.clear();
    }
    owners.insert(endpoint, account);
    Some(account)
}

/// Live events, for the administrator.
///
/// Server-sent events: `hello`, `announcement`, `delivery`, `status`, `host`, `lost`. See docs/dashboard.md.
#[utoipa::path(get, path = "/admin/v1/live", tag = "service", security(("admin_token" = [])),
    params(("for_secs" = Option<u64>, Query, minimum = 1, maximum = 240, description = "How long it lasts; 240 when not given")),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 503, body = Refusal)))]
pub(super) async fn administrators(
    State(control): State<Arc<Control>>,
    session: Option<Extension<WithSession>>,
    RawQuery(query): RawQuery,
) -> Answer {
    // At the socket nobody has a session: its file's permissions stand for it.
    let session = session.map_or(WithSession(None), |Extension(session)| session);
    control.live_stream(Viewer::Administrator, session, query.as_deref())
}

/// Live events of the account.
///
/// Server-sent events: `hello`, `announcement`, `delivery` of your own endpoints, `lost`.
#[utoipa::path(get, path = "/v1/live", tag = "account", security(("account_token" = [])),
    params(("for_secs" = Option<u64>, Query, minimum = 1, maximum = 240, description = "How long it lasts; 240 when not given")),
    responses((status = 200, body = String, content_type = "text/event-stream"),
        (status = 503, body = Refusal)))]
pub(super) async fn customers(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Extension(session): Extension<WithSession>,
    RawQuery(query): RawQuery,
) -> Answer {
    let viewer = match caller {
        Caller::Admin => Viewer::Administrator,
        Caller::Account(account) => {
            Viewer::Customer { account: account.id, announcements: control.require_plan(&account).is_ok() }
        }
    };
    control.live_stream(viewer, session, query.as_deref())
}
