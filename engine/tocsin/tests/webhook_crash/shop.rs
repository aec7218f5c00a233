//! The receiver's endpoints, changed by the API while the engine may die, and what must hold of them.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use tocsin::os::clock;
use tocsin_sim::receiver::{Behaviour, Received, SimReceiver};

use crate::api::Api;
use crate::book::{Book, Expecting};
use crate::news::Random;

/// Endpoints registered for an account: as many as it may have, and half of what it may register an hour.
const REGISTRATIONS: usize = tocsin_core::limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT;
/// Endpoints that come and go, at most.
const PASSERS: usize = 3;
/// Answers scripted ahead; the last repeats.
const SCRIPT: usize = 60;

/// Endpoints that stay, and the only exchange each wants.
const STAYING: [(&str, Option<&str>); 8] = [
    ("/fast", None),
    ("/slow", None),
    ("/busy", None),
    ("/broken", None),
    ("/picky", None),
    ("/switched", None),
    ("/turned", None),
    ("/upbit", Some("upbit")),
];

pub(crate) fn now_us() -> i64 {
    clock::wall().0
}

/// A change that was asked for and not answered: done or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    No,
    Removal,
    Switch,
}

struct Endpoint {
    id: u64,
    path: String,
    only: Option<&'static str>,
    /// Registered, verified and answered.
    since: i64,
    /// The one secret that signs, and from when on; the instant is not known while the webhook thread
    /// may not have taken it yet.
    secret: Option<(String, Option<i64>)>,
    /// Switched off since.
    off: Option<i64>,
    /// When it was off before.
    was_off: Vec<(i64, i64)>,
    suspended: bool,
    /// Removal was answered; from when on nothing may come.
    removed: Option<Option<i64>>,
    doubt: Doubt,
}

/// See the module head.
pub(crate) struct Shop {
    pub(crate) receiver: SimReceiver,
    endpoints: Vec<Endpoint>,
    /// Its registration was not answered.
    adding: Option<String>,
    /// Number, registrations.
    accounts: Vec<(i64, usize)>,
    passers: u64,
    /// Answered changes, by kind.
    pub(crate) changes: BTreeMap<&'static str, u32>,
}

impl Shop {
    pub(crate) fn new(receiver: SimReceiver) -> Shop {
        Shop {
            receiver,
            endpoints: Vec::new(),
            adding: None,
            accounts: Vec::new(),
            passers: 0,
            changes: BTreeMap::new(),
        }
    }

    /// Registers those that stay.
    pub(crate) fn open(&mut self, api: &Api) {
        for (path, only) in STAYING {
            self.add(api, path.to_owned(), only);
        }
        assert!(self.endpoints.len() == STAYING.len() && self.adding.is_none());
        self.flush(api);
    }

    // ---- How receivers answer --------------------------------------------------------------------

    /// The answers of the next life. In the end all are content.
    pub(crate) fn script(&self, random: &mut Random, content: bool) {
        let ms = |random: &mut Random, most| Duration::from_millis(random.below(most));
        let mut behave = |path: &str, one: &mut dyn FnMut(&mut Random) -> Behaviour| {
            let mut script: Vec<_> = (0..SCRIPT).map(|_| one(random)).collect();
            script.push(Behaviour::ok());
            self.receiver.behave(path, script);
        };
        behave("/slow", &mut |random| Behaviour::late(ms(random, 200)));
        let failing = |random: &mut Random, behaviour: fn() -> Behaviour| {
            if !content && random.one_in(40) { behaviour() } else { Behaviour::ok() }
        };
        behave("/busy", &mut |random| failing(random, || Behaviour::status(503)));
        behave("/picky", &mut |random| failing(random, || Behaviour::status(404)));
        behave("/broken", &mut |random| match random.below(3) {
            0 => Behaviour::close(),
            1 => failing(random, Behaviour::hang_up),
            _ => failing(random, Behaviour::reset),
        });
        behave("/switched", &mut |_| Behaviour::ok());
    }

    // ---- Changes ---------------------------------------------------------------------------------

    /// One change. `None` to any request: the engine died, and it is in doubt.
    pub(crate) fn change(&mut self, api: &Api, random: &mut Random, book: &mut Book) {
        let passing = self.passing().count();
        match random.below(6) {
            0 | 1 if passing < PASSERS && self.adding.is_none() => {
                self.passers += 1;
                self.add(api, format!("/passer-{}", self.passers), None);
            }
            0..=2 if passing > 1 => {
                let oldest = self.passing().map(|endpoint| endpoint.id).min().unwrap();
                self.remove(api, oldest);
            }
            3 => self.turn(api),
            4 => self.switch(api),
            _ => self.resend(api, random, book),
        }
    }

    fn passing(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|e| e.path.starts_with("/passer") && e.removed.is_none())
    }

    fn counted(&mut self, what: &'static str) {
        *self.changes.entry(what).or_default() += 1;
    }

    fn account(&mut self, api: &Api) -> Option<i64> {
        let full = |(_, registrations): &&mut (i64, usize)| *registrations < REGISTRATIONS;
        if let Some((account, registrations)) = self.accounts.iter_mut().find(full) {
            *registrations += 1;
            return Some(*account);
        }
        let new = json!({"name": "Desk", "plan": "phantom"});
        let account = api.succeed("POST", "/admin/v1/accounts", Some(&new))?["id"].as_i64().unwrap();
        self.accounts.push((account, 1));
        Some(account)
    }

    fn add(&mut self, api: &Api, path: String, only: Option<&'static str>) {
        let Some(account) = self.account(api) else { return };
        let mut new = json!({"url": self.receiver.url(&path)});
        if let Some(only) = only {
            new["exchanges"] = json!([only]);
        }
        self.adding = Some(path.clone());
        let made = api.succeed("POST", &format!("/admin/v1/accounts/{account}/webhooks"), Some(&new));
        // Nothing came of a ping the engine could not wait for: as if it had not been answered.
        let Some(made) = made.filter(|made| made["state"] == "active") else {
            return self.counted("registration in doubt");
        };
        self.adding = None;
        self.endpoints.push(Endpoint {
            id: made["id"].as_u64().unwrap(),
            path,
            only,
            since: now_us(),
            secret: Some((made["secret"].as_str().unwrap().to_owned(), Some(now_us()))),
            off: None,
            was_off: Vec::new(),
            suspended: false,
            removed: None,
            doubt: Doubt::No,
        });
        self.counted("added");
    }

    fn find(&mut self, path: &str) -> &mut Endpoint {
        self.endpoints.iter_mut().find(|endpoint| endpoint.path == path).unwrap()
    }

    fn remove(&mut self, api: &Api, id: u64) {
        let answer = api.succeed("DELETE", &format!("/admin/v1/webhooks/{id}"), None);
        let endpoint = self.endpoints.iter_mut().find(|endpoint| endpoint.id == id).unwrap();
        match answer {
            Some(_) => endpoint.removed = Some(None),
            None => endpoint.doubt = Doubt::Removal,
        }
        self.counted(if answer.is_some() { "removed" } else { "removal in doubt" });
    }

    /// A new secret, without a grace: then the one before is worth nothing.
    fn turn(&mut self, api: &Api) {
        let endpoint = self.find("/turned");
        endpoint.secret = None;
        let path = format!("/admin/v1/webhooks/{}/rotate", endpoint.id);
        let answer = api.succeed("POST", &path, Some(&json!({"grace_secs": 0})));
        endpoint.secret = answer.as_ref().map(|a| (a["secret"].as_str().unwrap().to_owned(), None));
        self.counted(if answer.is_some() { "rotated" } else { "rotation in doubt" });
    }

    fn switch(&mut self, api: &Api) {
        let endpoint = self.find("/switched");
        let asked_at = now_us();
        let verb = match endpoint.off.take() {
            Some(since) => {
                endpoint.was_off.push((since, asked_at));
                "enable"
            }
            None => "disable",
        };
        let path = format!("/admin/v1/webhooks/{}/{verb}", endpoint.id);
        match api.succeed("POST", &path, None) {
            None => {
                endpoint.doubt = Doubt::Switch;
                return self.counted("switch in doubt");
            }
            Some(shown) if verb == "disable" => {
                assert_eq!(shown["state"], "disabled_user");
                endpoint.off = Some(now_us());
            }
            Some(shown) => assert_eq!(shown["state"], "active"),
        }
        self.counted("switched");
    }

    fn resend(&mut self, api: &Api, random: &mut Random, book: &mut Book) {
        let pick = usize::try_from(random.below(10_000)).unwrap();
        let Some(pair) = book.concluded_on("/slow", pick) else { return };
        let (id, event) = (self.find("/slow").id, &pair.0);
        let asked_at = now_us();
        let path = format!("/admin/v1/webhooks/{id}/deliveries/{event}/resend");
        let answered = api.succeed("POST", &path, None).is_some();
        book.ask(pair, asked_at, answered);
        self.counted(if answered { "asked again" } else { "asking again in doubt" });
    }

    /// All that can be back is back.
    pub(crate) fn everything_on(&mut self, api: &Api) {
        if self.find("/switched").off.is_some() {
            self.switch(api);
        }
        let resting: Vec<u64> = self.endpoints.iter().filter(|e| e.suspended).map(|e| e.id).collect();
        for id in resting {
            let shown = api.succeed("POST", &format!("/admin/v1/webhooks/{id}/enable"), None).unwrap();
            assert_eq!(shown["state"], "active");
        }
        self.endpoints.iter_mut().for_each(|endpoint| endpoint.suspended = false);
    }

    /// The engine is down: puts an endpoint to rest as repeated timeouts would.
    pub(crate) fn rest(&mut self, data_dir: &std::path::Path) {
        use tocsin_core::webhook::board::EndpointId;
        use tocsin_core::webhook::endpoint::State;
        let endpoint = self.find("/slow");
        let mut store = tocsin::store::Store::open(data_dir).unwrap();
        let id = EndpointId(endpoint.id);
        let health = store.load_endpoints().unwrap().into_iter().find(|e| e.id == id).unwrap().health;
        let resting = tocsin_core::webhook::endpoint::SavedHealth {
            state: State::Suspended,
            since: clock::wall(),
            ..health
        };
        store.save_health(id, &resting, None).unwrap();
        endpoint.suspended = true;
        self.counted("suspended");
    }

    // ---- What holds ------------------------------------------------------------------------------

    /// Asks the webhook thread something: what was sent to it before has been done by then.
    pub(crate) fn flush(&mut self, api: &Api) {
        if api.succeed("GET", "/admin/v1/webhooks", None).is_some() {
            self.took_effect(now_us());
        }
    }

    /// Every answered change is in effect from here on.
    pub(crate) fn took_effect(&mut self, at: i64) {
        for endpoint in &mut self.endpoints {
            if let Some((_, from @ None)) = &mut endpoint.secret {
                *from = Some(at);
            }
            if let Some(from @ None) = &mut endpoint.removed {
                *from = Some(at);
            }
        }
    }

    /// After a start: what was answered holds, and what was in doubt is known now.
    pub(crate) fn reconcile(&mut self, api: &Api) {
        let list = api.succeed("GET", "/admin/v1/webhooks", None).unwrap();
        let listed: BTreeMap<u64, &Value> =
            list["webhooks"].as_array().unwrap().iter().map(|e| (e["id"].as_u64().unwrap(), e)).collect();
        for endpoint in &mut self.endpoints {
            let Some(shown) = listed.get(&endpoint.id) else {
                let known = endpoint.removed.is_some() || endpoint.doubt == Doubt::Removal;
                assert!(known, "{} is gone", endpoint.path);
                endpoint.removed.get_or_insert(Some(now_us()));
                endpoint.doubt = Doubt::No;
                continue;
            };
            assert!(endpoint.removed.is_none(), "{} is back: {shown}", endpoint.path);
            let state = shown["state"].as_str().unwrap();
            if endpoint.doubt == Doubt::Switch {
                endpoint.off = (state == "disabled_user").then(now_us);
            }
            let expected = match (endpoint.off, endpoint.suspended) {
                (Some(_), _) => "disabled_user",
                (None, true) => "suspended",
                (None, false) => "active",
            };
            // A suspended one may have been probed, and be back.
            if (state, expected) == ("active", "suspended") {
                endpoint.suspended = false;
            } else {
                assert_eq!(state, expected, "{}: {shown}", endpoint.path);
            }
            endpoint.doubt = Doubt::No;
        }
        self.clear_up(api, &listed);
    }

    /// One whose registration was not answered has a secret that nobody knows: it goes.
    fn clear_up(&mut self, api: &Api, listed: &BTreeMap<u64, &Value>) {
        let Some(path) = &self.adding else { return };
        let url = self.receiver.url(path);
        let unknown = listed.iter().find(|(_, shown)| shown["url"] == url.as_str());
        if let Some((id, _)) = unknown
            && api.succeed("DELETE", &format!("/admin/v1/webhooks/{id}"), None).is_none()
        {
            return;
        }
        self.adding = None;
    }

    /// A request against what must hold of its endpoint.
    pub(crate) fn check(&self, request: &Received, book: &Book) -> Option<String> {
        let endpoint = self.endpoints.iter().find(|endpoint| endpoint.path == request.path())?;
        let sent_at = request.sent_at()?.0;
        let what = || format!("{} got {:?} at {sent_at}", endpoint.path, request.event_id());
        if let Some(Some(from)) = endpoint.removed
            && sent_at > from
        {
            return Some(format!("{}, removed at {from}", what()));
        }
        if let Some((secret, Some(from))) = &endpoint.secret
            && sent_at > *from
        {
            self.receiver.know_on(&endpoint.path, &[secret]).unwrap();
            let verdict = self.receiver.verdict(request);
            if !verdict.is_valid() {
                return Some(format!("{}, signed wrongly: {verdict}", what()));
            }
        }
        let created = book.created(&request.event_id()?)?;
        let off = endpoint.off.map(|since| (since, i64::MAX));
        let mut windows = endpoint.was_off.iter().copied().chain(off);
        let window = windows.find(|(from, to)| created > *from && (*from..*to).contains(&sent_at));
        window.map(|window| format!("{}, known at {created}, while it was off: {window:?}", what()))
    }

    /// Path of every endpoint by number, and whether it is there for sure.
    pub(crate) fn paths(&self) -> BTreeMap<u64, (String, bool)> {
        let there = |e: &Endpoint| e.removed.is_none() && e.doubt != Doubt::Removal;
        self.endpoints.iter().map(|e| (e.id, (e.path.clone(), there(e)))).collect()
    }

    /// Those that are there.
    pub(crate) fn expecting(&self) -> Vec<Expecting<'_>> {
        let there = self.endpoints.iter().filter(|e| e.removed.is_none());
        there.map(|e| Expecting { path: &e.path, since: e.since, only: e.only }).collect()
    }
}
