//! Endpoints: where an account's events go, with sealed secrets and the health that outlives the
//! process.

use tocsin_core::time::WallUs;
use tocsin_core::webhook::board::EndpointId;
use tocsin_core::webhook::endpoint::SavedHealth;
use tocsin_core::webhook::filter::EventFilter;

use super::accounts::AccountId;
use super::secrets::Sealed;
use crate::store::{Reader, Store, StoreError};

/// An endpoint as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EndpointRecord {
    /// Its number; never given twice.
    pub id: EndpointId,
    /// Whose it is.
    pub account: AccountId,
    /// A note of its owner.
    pub label: String,
    /// Where it is; passed [`tocsin_core::webhook::url::EndpointUrl::parse`] when it was registered.
    pub url: String,
    /// What it wants.
    pub filter: EventFilter,
    /// When it was registered.
    pub created_at: WallUs,
    /// When its verification ping was first answered with 2xx. It gets no event detected before.
    pub verified_at: Option<WallUs>,
    /// Its state and counters, as last saved.
    pub health: SavedHealth,
    /// The secret that signs.
    pub secret: Sealed,
    /// The secret before, and the end of its grace.
    pub previous: Option<(Sealed, WallUs)>,
}

/// What a registration stores: an endpoint in state `pending`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEndpoint {
    /// Whose it is.
    pub account: AccountId,
    /// At most [`tocsin_core::limits::ENDPOINT_LABEL_BYTES`], no control characters; may be empty.
    pub label: String,
    /// Checked by the caller.
    pub url: String,
    /// What it wants.
    pub filter: EventFilter,
}

/// What a change of an endpoint changes; `None` leaves it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EndpointChange {
    /// A note of its owner.
    pub label: Option<String>,
    /// What it wants.
    pub filter: Option<EventFilter>,
}

impl Store {
    /// Stores a new endpoint, pending, with the secret that `seal` makes of its number. At most
    /// [`tocsin_core::limits::WEBHOOK_ENDPOINTS_PER_ACCOUNT`] an account. Durable when it returns.
    ///
    /// # Errors
    /// No such account, too many endpoints, a bad label, or what `seal` or the disk says.
    pub fn create_endpoint(
        &mut self,
        _new: &NewEndpoint,
        _now: WallUs,
        _seal: &mut dyn FnMut(EndpointId) -> Result<Sealed, StoreError>,
    ) -> Result<EndpointRecord, StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Changes label or filter.
    ///
    /// # Errors
    /// No such endpoint, a bad label, or the disk's.
    pub fn change_endpoint(
        &mut self,
        _id: EndpointId,
        _change: &EndpointChange,
    ) -> Result<EndpointRecord, StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Puts `new` in the secret's place; the one that signed until now goes on until `grace_until`
    /// (`None`: it is forgotten at once). An older one still in its grace is forgotten.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn rotate_secret(
        &mut self,
        _id: EndpointId,
        _new: Sealed,
        _grace_until: Option<WallUs>,
    ) -> Result<EndpointRecord, StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Saves a health, and when it was verified if it is now for the first time.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn save_health(
        &mut self,
        _id: EndpointId,
        _health: &SavedHealth,
        _verified_at: Option<WallUs>,
    ) -> Result<EndpointRecord, StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Forgets an endpoint, what waits for it and its delivery log.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn delete_endpoint(&mut self, _id: EndpointId) -> Result<(), StoreError> {
        Err(StoreError::NoRandomness)
    }

    /// Every endpoint, by number: what the webhook thread starts with.
    ///
    /// # Errors
    /// The disk's.
    pub fn load_endpoints(&self) -> Result<Vec<EndpointRecord>, StoreError> {
        Ok(Vec::new())
    }
}

impl Reader {
    /// An account's endpoints, or all, by number.
    ///
    /// # Errors
    /// The disk's.
    pub fn endpoints(&self, _account: Option<AccountId>) -> Result<Vec<EndpointRecord>, StoreError> {
        Ok(Vec::new())
    }

    /// One endpoint.
    ///
    /// # Errors
    /// No such endpoint, or the disk's.
    pub fn endpoint(&self, _id: EndpointId) -> Result<EndpointRecord, StoreError> {
        Err(StoreError::NoRandomness)
    }
}
