//! `tocsin webhooks` on the store, while no service runs: what needs no network.
//!
//! Contract: as [`super`]; the next start of the service takes it from there. Owner: the command.
//! Blocks on the disk.

use serde_json::{Value, json};
use tocsin_core::time::WallUs;
use tocsin_core::webhook::address::AddressPolicy;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::{Disabled, SavedHealth, State};
use tocsin_core::webhook::filter::EventFilter;
use tocsin_core::webhook::test_budget::RegistrationRefusal;
use tocsin_core::webhook::url::EndpointUrl;

use super::{AddArgs, DeliveriesArgs, OneEndpoint, ReplayArgs, RotateArgs, WebhooksVerb};
use crate::cli::{CliError, refused};
use crate::config::Config;
use crate::control::replay::{Selected, Selection};
use crate::control::reply::{delivery_json, endpoint_json, rfc3339};
use crate::os::clock;
use crate::store::Store;
use crate::store::webhook::accounts::AccountId;
use crate::store::webhook::endpoints::{EndpointRecord, NewEndpoint};

/// Carries the verb out.
pub(super) fn answer(verb: &WebhooksVerb, store: Store, config: &Config) -> Result<Value, CliError> {
    let desk = Desk { store, config, now: clock::wall() };
    match verb {
        WebhooksVerb::Add(args) => desk.add(args),
        WebhooksVerb::List { account, .. } => desk.list(*account),
        WebhooksVerb::Show(OneEndpoint { id, .. }) => {
            desk.endpoint(*id).map(|endpoint| endpoint_json(&endpoint, desk.now))
        }
        WebhooksVerb::Verify(_) | WebhooksVerb::Test(_) => Err(CliError::failed(format!(
            "this needs the running service, which sends it: nobody listens on admin.socket = {}; start it \
             with `tocsin serve`",
            config.admin.socket.display()
        ))),
        WebhooksVerb::Enable(OneEndpoint { id, .. }) => desk.enable(*id),
        WebhooksVerb::Disable(OneEndpoint { id, .. }) => desk.disable(*id),
        WebhooksVerb::Rotate(args) => desk.rotate(args),
        WebhooksVerb::Remove(OneEndpoint { id, .. }) => desk.remove(*id),
        WebhooksVerb::Replay(args) => desk.replay(args),
        WebhooksVerb::Deliveries(args) => desk.deliveries(args),
    }
}

const NOT_VERIFIED: &str = "the endpoint has not been verified; the service does so when it starts";

/// What a verb works on.
struct Desk<'a> {
    store: Store,
    config: &'a Config,
    now: WallUs,
}

impl Desk<'_> {
    fn endpoint(&self, id: u64) -> Result<EndpointRecord, CliError> {
        self.store.reader().and_then(|reader| reader.endpoint(EndpointId(id))).map_err(refused)
    }

    /// Refuses what an account's plan does not have, as the service does.
    fn require_plan(&self, account: AccountId) -> Result<(), CliError> {
        let account = self.store.reader().and_then(|reader| reader.account(account)).map_err(refused)?;
        let plans = &self.config.webhooks.plans;
        if plans.contains(&account.plan) {
            return Ok(());
        }
        let plans = plans.join(", ");
        Err(CliError::failed(format!("plan {:?} has no webhooks; there is {plans}", account.plan)))
    }

    fn add(mut self, args: &AddArgs) -> Result<Value, CliError> {
        let account = AccountId(args.account);
        let (events, exchanges) = (args.events.join(","), args.exchanges.join(","));
        let filter = EventFilter::parse(&events, &exchanges).map_err(CliError::usage)?;
        let policy = AddressPolicy::new(self.config.egress.allow_nets.clone(), Vec::new());
        let url = EndpointUrl::parse(&args.url, &policy)
            .map_err(|error| CliError::usage(format!("--url: {error}")))?;
        self.require_plan(account)?;
        match self.store.take_registration(account, self.now).map_err(refused)? {
            Ok(()) => {}
            Err(RegistrationRefusal::Endpoints { limit }) => {
                let detail = format!("an account has at most {limit} endpoints; remove one first");
                return Err(CliError::failed(detail));
            }
            Err(RegistrationRefusal::TooOften { limit, retry_after }) => {
                let secs = retry_after.as_secs() + 1;
                let detail = format!("at most {limit} registrations an hour; the next in {secs} s");
                return Err(CliError::failed(detail));
            }
        }
        let new = NewEndpoint { account, label: args.label.clone(), url: url.to_string(), filter };
        let key = self.store.master_key().map_err(refused)?;
        let (endpoint, secret) = self.store.register_endpoint(&new, self.now, &key).map_err(refused)?;
        let mut shown = endpoint_json(&endpoint, self.now);
        if let Value::Object(fields) = &mut shown {
            fields.insert("secret".to_owned(), Value::from(secret.reveal()));
            let note = "It is stored, and will be verified when the service starts.";
            fields.insert("note".to_owned(), Value::from(note));
        }
        Ok(shown)
    }

    fn list(&self, account: Option<i64>) -> Result<Value, CliError> {
        let reader = self.store.reader().map_err(refused)?;
        let account = account.map(AccountId);
        if let Some(account) = account {
            reader.account(account).map_err(refused)?;
        }
        let endpoints = reader.endpoints(account).map_err(refused)?;
        let shown: Vec<Value> = endpoints.iter().map(|one| endpoint_json(one, self.now)).collect();
        Ok(json!({"webhooks": shown}))
    }

    /// The changes the dispatcher would make.
    fn enable(mut self, id: u64) -> Result<Value, CliError> {
        let endpoint = self.endpoint(id)?;
        self.require_plan(endpoint.account)?;
        match endpoint.health.state {
            State::Active => Ok(endpoint_json(&endpoint, self.now)),
            State::Pending => Err(CliError::failed(NOT_VERIFIED)),
            State::Suspended | State::Disabled(_) => {
                let health = SavedHealth { state: State::Active, since: self.now, failures: 0, slow: false };
                self.save(endpoint.id, &health)
            }
        }
    }

    fn disable(mut self, id: u64) -> Result<Value, CliError> {
        let endpoint = self.endpoint(id)?;
        match endpoint.health.state {
            State::Disabled(Disabled::User | Disabled::Gone) => Ok(endpoint_json(&endpoint, self.now)),
            State::Pending => Err(CliError::failed(NOT_VERIFIED)),
            State::Active | State::Suspended | State::Disabled(Disabled::Auto) => {
                let state = State::Disabled(Disabled::User);
                self.save(endpoint.id, &SavedHealth { state, since: self.now, ..endpoint.health })
            }
        }
    }

    fn save(&mut self, id: EndpointId, health: &SavedHealth) -> Result<Value, CliError> {
        let endpoint = self.store.save_health(id, health, None).map_err(refused)?;
        Ok(endpoint_json(&endpoint, self.now))
    }

    fn rotate(mut self, args: &RotateArgs) -> Result<Value, CliError> {
        let id = EndpointId(args.endpoint.id);
        let grace = args.grace.unwrap_or(self.config.webhooks.rotation_grace);
        let key = self.store.master_key().map_err(refused)?;
        let (endpoint, secret, _) =
            self.store.rotate_endpoint_secret(id, grace, self.now, &key).map_err(refused)?;
        let mut shown = endpoint_json(&endpoint, self.now);
        if let Value::Object(fields) = &mut shown {
            fields.insert("secret".to_owned(), Value::from(secret.reveal()));
        }
        Ok(shown)
    }

    fn remove(mut self, id: u64) -> Result<Value, CliError> {
        self.store.delete_endpoint(EndpointId(id)).map_err(refused)?;
        Ok(json!({"removed": id}))
    }

    fn replay(mut self, args: &ReplayArgs) -> Result<Value, CliError> {
        let endpoint = self.endpoint(args.endpoint.id)?;
        self.require_plan(endpoint.account)?;
        if !endpoint.health.state.takes_events() {
            return Err(CliError::failed("the endpoint has not been verified; verify it first"));
        }
        let kinds = args.types.as_ref().map_or_else(|| endpoint.filter.kinds_text(), |types| types.join(","));
        let filter =
            EventFilter::parse(&kinds, &endpoint.filter.exchanges_text()).map_err(CliError::usage)?;
        let selection = Selection { since: args.since, until: args.until, filter };
        // What a killed service left in shared memory comes first: applied later, an outcome of the time
        // before would conclude what is asked for here.
        let key = self.store.master_key().map_err(refused)?;
        self.store.start_webhooks(&key.id_key()).map_err(refused)?;
        let reader = self.store.reader().map_err(refused)?;
        let Selected { events, next_since } = selection.read(&reader).map_err(refused)?;
        let numbers: Vec<u64> = events.iter().map(|event| event.number).collect();
        let queued = self.store.redeliver(endpoint.id, &numbers).map_err(refused)?;
        Ok(json!({"queued": queued, "next_since": next_since.map(rfc3339)}))
    }

    fn deliveries(&self, args: &DeliveriesArgs) -> Result<Value, CliError> {
        let endpoint = self.endpoint(args.endpoint.id)?;
        let reader = self.store.reader().map_err(refused)?;
        let attempts = reader.attempts(endpoint.id, None, args.limit).map_err(refused)?;
        Ok(json!({"deliveries": attempts.iter().map(delivery_json).collect::<Vec<_>>()}))
    }
}
