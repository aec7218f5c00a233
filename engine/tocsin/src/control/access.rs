//! What the control plane keeps of those who ask: sessions, sign-in codes, rates.
//!
//! Contract: the decisions are [`tocsin_core::access`]'s; here they meet the clock, the operating
//! system's random source and one lock, which is held for a look-up and never over an await. Sessions
//! end with the process: nothing of them is on disk.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use parking_lot::Mutex;
use ring::rand::{SecureRandom as _, SystemRandom};
use tocsin_core::access::Owner;
use tocsin_core::access::codes::Codes;
use tocsin_core::access::rate::{Buckets, Rate};
use tocsin_core::access::sessions::{Session, Sessions};
use tocsin_core::access::ticket::{Ticket, TicketHash};
use tocsin_core::limits;

use super::reply::ApiError;
use crate::config;
use crate::os::clock;

const MINUTE: Duration = Duration::from_secs(60);

/// What the configuration says of access over TCP.
#[derive(Clone, Debug)]
pub struct AccessRules {
    /// `admin.requests_per_second`.
    pub requests_per_second: u32,
    /// `admin.forwarded_for_from`.
    pub forwarded_for_from: Vec<IpNet>,
}

impl From<&config::Admin> for AccessRules {
    fn from(admin: &config::Admin) -> AccessRules {
        let config::Admin { requests_per_second, forwarded_for_from, .. } = admin;
        AccessRules {
            requests_per_second: *requests_per_second,
            forwarded_for_from: forwarded_for_from.clone(),
        }
    }
}

/// With what somebody asks, for rates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Credential {
    Owner(Owner),
    Key(i64),
}

/// A session that has just begun: what its browser is given.
pub(super) struct Begun {
    pub(super) id: Ticket,
    pub(super) session: Session,
    pub(super) csrf: String,
}

/// See the module head.
pub(super) struct Access {
    random: SystemRandom,
    tables: Mutex<Tables>,
    /// Proxies that are believed.
    pub(super) forwarded_for_from: Vec<IpNet>,
}

struct Tables {
    sessions: Sessions,
    codes: Codes,
    /// Requests of addresses.
    addresses: Buckets<IpAddr>,
    /// Files of the dashboard, of addresses.
    files: Buckets<IpAddr>,
    /// Requests of credentials.
    credentials: Buckets<Credential>,
    /// Wrong credentials of addresses.
    failures: Buckets<IpAddr>,
    /// Failed sign-ins of all.
    failed_sign_ins: Buckets<()>,
}

impl Access {
    /// No session, every rate untouched.
    ///
    /// # Errors
    /// The operating system gives no random bytes.
    pub(super) fn new(rules: AccessRules) -> io::Result<Access> {
        let random = SystemRandom::new();
        let rate = Rate {
            every: Duration::from_secs(1) / rules.requests_per_second.max(1),
            burst: rules.requests_per_second.saturating_mul(limits::API_BURST_SECS),
        };
        let files = Rate {
            every: Duration::from_secs(1) / limits::DASHBOARD_FILES_PER_SECOND,
            burst: limits::DASHBOARD_FILES_AT_ONCE,
        };
        let failures = |count| Rate::per(count, MINUTE);
        let tables = Tables {
            sessions: Sessions::new(&draw(&random)?),
            codes: Codes::default(),
            addresses: Buckets::new(rate, limits::API_RATES),
            files: Buckets::new(files, limits::API_RATES),
            credentials: Buckets::new(rate, limits::API_RATES),
            failures: Buckets::new(failures(limits::SIGN_IN_FAILURES_PER_MINUTE), limits::API_RATES),
            failed_sign_ins: Buckets::new(failures(limits::SIGN_IN_FAILURES_IN_ALL), 1),
        };
        let forwarded_for_from = rules.forwarded_for_from;
        Ok(Access { random, tables: Mutex::new(tables), forwarded_for_from })
    }

    // ---- Sessions --------------------------------------------------------------------------------

    /// Begins a session of a new id.
    pub(super) fn begin(&self, owner: Owner) -> Result<Begun, ApiError> {
        let id = Ticket::new(draw(&self.random).map_err(|_| ApiError::no_randomness())?);
        let mut tables = self.tables.lock();
        let session = tables.sessions.begin(clock::mono(), &id, owner);
        let csrf = tables.sessions.csrf(&id);
        drop(tables);
        Ok(Begun { id, session, csrf })
    }

    /// The session of this id, used now.
    pub(super) fn use_now(&self, id: &Ticket) -> Option<Session> {
        self.tables.lock().sessions.use_now(clock::mono(), id)
    }

    /// Whether a session has not ended; does not keep it from ending.
    pub(super) fn holds(&self, key: &TicketHash) -> bool {
        self.tables.lock().sessions.holds(clock::mono(), key)
    }

    pub(super) fn csrf(&self, id: &Ticket) -> String {
        self.tables.lock().sessions.csrf(id)
    }

    pub(super) fn csrf_matches(&self, id: &Ticket, given: &str) -> bool {
        self.tables.lock().sessions.csrf_matches(id, given)
    }

    pub(super) fn end(&self, key: &TicketHash) {
        self.tables.lock().sessions.end(key);
    }

    /// Ends the sessions of an owner and his sign-in codes.
    pub(super) fn end_all_of(&self, owner: Owner) -> usize {
        let mut tables = self.tables.lock();
        tables.codes.end_all_of(owner);
        tables.sessions.end_all_of(owner)
    }

    // ---- Sign-in codes ---------------------------------------------------------------------------

    /// A new code.
    pub(super) fn issue(&self, owner: Owner) -> Result<Ticket, ApiError> {
        let code = Ticket::new(draw(&self.random).map_err(|_| ApiError::no_randomness())?);
        self.tables.lock().codes.issue(clock::mono(), &code, owner);
        Ok(code)
    }

    /// Uses a code up.
    pub(super) fn redeem(&self, code: &Ticket) -> Option<Owner> {
        self.tables.lock().codes.redeem(clock::mono(), code)
    }

    // ---- Rates -----------------------------------------------------------------------------------

    /// Counts a request, or a TLS handshake, of an address.
    pub(super) fn take_request(&self, address: IpAddr) -> Result<(), ApiError> {
        let taken = self.tables.lock().addresses.take(clock::mono(), address);
        taken.map_err(|after| ApiError::rate_limited("too many requests from this address", after))
    }

    /// Counts a file of the dashboard that an address asks for.
    pub(super) fn take_file(&self, address: IpAddr) -> Result<(), ApiError> {
        let taken = self.tables.lock().files.take(clock::mono(), address);
        taken.map_err(|after| ApiError::rate_limited("too many files for this address", after))
    }

    /// Counts a request of a credential.
    pub(super) fn take_of(&self, credential: Credential) -> Result<(), ApiError> {
        let taken = self.tables.lock().credentials.take(clock::mono(), credential);
        taken.map_err(|after| ApiError::rate_limited("too many requests with this credential", after))
    }

    /// Whether a credential of this address is looked at.
    pub(super) fn may_try(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        let Some(address) = address else { return Ok(()) };
        let may = self.tables.lock().failures.check(clock::mono(), address);
        may.map_err(|after| ApiError::rate_limited("too many wrong credentials from this address", after))
    }

    /// Whether a sign-in is looked at.
    pub(super) fn may_sign_in(&self, address: Option<IpAddr>) -> Result<(), ApiError> {
        self.may_try(address)?;
        let may = self.tables.lock().failed_sign_ins.check(clock::mono(), ());
        may.map_err(|after| ApiError::rate_limited("too many failed sign-ins", after))
    }

    /// Counts a wrong credential.
    pub(super) fn failed(&self, address: Option<IpAddr>) {
        if let Some(address) = address {
            self.tables.lock().failures.charge(clock::mono(), address);
        }
    }

    /// Counts a failed sign-in.
    pub(super) fn failed_sign_in(&self, address: Option<IpAddr>) {
        self.failed(address);
        if address.is_some() {
            self.tables.lock().failed_sign_ins.charge(clock::mono(), ());
        }
    }
}

fn draw(random: &SystemRandom) -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    random.fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
    Ok(bytes)
}
