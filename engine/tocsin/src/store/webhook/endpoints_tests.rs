//! Endpoints: made, changed, rotated, deleted; what is secret is in no file.

use tocsin_core::model::ExchangeSet;
use tocsin_core::webhook::event::EventKind;
use tocsin_core::webhook::filter::EventKindSet;

use super::*;
use crate::store::Row as Change;
use crate::store::testing::{
    NOW, assert_in_no_file, endpoint_of, health, id_key, installation, new_account, queued, register, reopen,
    store,
};
use crate::store::webhook::HealthRow;
use crate::store::webhook::deliveries::{DeliveryState, WebhookRow};
use tocsin_core::webhook::endpoint::Mail;

fn invalid_field<T: core::fmt::Debug>(answer: Result<T, StoreError>) -> &'static str {
    match answer {
        Err(StoreError::Invalid { field, .. }) => field,
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_endpoint_is_kept_as_it_was_made_and_changed() {
    let (dir, mut store) = store();
    let key = store.master_key().unwrap();
    let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
    let filter = EventFilter::parse("new_listing,delisting", "binance,upbit").unwrap();
    let new = NewEndpoint { label: "bot é".to_owned(), filter, ..endpoint_of(account.id) };
    let (made, secret) = store.register_endpoint(&new, NOW, &key).unwrap();
    assert_eq!((made.account, made.filter, made.label.as_str()), (account.id, filter, "bot é"));
    assert_eq!((made.created_at, made.verified_at, made.previous.clone()), (NOW, None, None));
    assert_eq!(made.health, health(State::Pending));
    let mut store = reopen(&dir, store);
    assert_eq!(store.load_endpoints().unwrap(), std::slice::from_ref(&made));
    assert_eq!(store.master_key().unwrap().open(made.id, &made.secret).unwrap(), secret);

    let change = EndpointChange { filter: Some(EventFilter::default()), label: None };
    let changed = store.change_endpoint(made.id, &change).unwrap();
    assert_eq!((changed.filter, changed.label.as_str()), (EventFilter::default(), "bot é"));
    let change = EndpointChange { label: Some(String::new()), filter: None };
    assert_eq!(store.change_endpoint(made.id, &change).unwrap().label, "");

    for (state, verified) in [(State::Active, 5), (State::Suspended, 6), (State::Disabled(Disabled::Gone), 7)]
    {
        let saved = SavedHealth { state, since: WallUs(verified), failures: 2, slow: true };
        let record = store.save_health(made.id, &saved, Some(WallUs(verified))).unwrap();
        assert_eq!((record.health, record.verified_at), (saved, Some(WallUs(5))), "the first time counts");
    }
    let reader = store.reader().unwrap();
    assert_eq!(reader.endpoints(Some(account.id)).unwrap(), reader.endpoints(None).unwrap());
    assert!(reader.endpoints(Some(AccountId(9))).unwrap().is_empty());
    let absent = EndpointId(9);
    let change = EndpointChange::default();
    assert_eq!(store.change_endpoint(absent, &change).unwrap_err().code(), "no_such_endpoint");
    assert_eq!(store.delete_endpoint(absent).unwrap_err().code(), "no_such_endpoint");
    assert_eq!(reader.endpoint(absent).unwrap_err().code(), "no_such_endpoint");
    assert_eq!(store.redeliver(absent, &[1]).unwrap_err().code(), "no_such_endpoint");
    let rotated = store.rotate_endpoint_secret(absent, Duration::ZERO, NOW, &key);
    assert_eq!(rotated.unwrap_err().code(), "no_such_endpoint");
}

#[test]
fn bounds_are_named_and_five_are_enough() {
    let (_dir, mut store) = store();
    let key = store.master_key().unwrap();
    let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
    let mut make = |change: &dyn Fn(&mut NewEndpoint)| {
        let mut new = endpoint_of(account.id);
        change(&mut new);
        store.register_endpoint(&new, NOW, &key)
    };
    for label in ["a\nb", &"x".repeat(limits::ENDPOINT_LABEL_BYTES + 1)] {
        assert_eq!(invalid_field(make(&|new| new.label = label.to_owned())), "label");
    }
    let long = "x".repeat(limits::ENDPOINT_URL_BYTES + 1);
    assert_eq!(invalid_field(make(&|new| new.url.clone_from(&long))), "url");
    assert_eq!(invalid_field(make(&|new| new.filter.kinds = EventKindSet::EMPTY)), "events");
    let ping = EventKindSet::EMPTY.with(EventKind::Ping);
    assert_eq!(invalid_field(make(&|new| new.filter.kinds = ping)), "events");
    assert_eq!(invalid_field(make(&|new| new.filter.exchanges = ExchangeSet::EMPTY)), "exchanges");
    assert_eq!(make(&|new| new.account = AccountId(9)).unwrap_err().code(), "no_such_account");
    let ids: Vec<_> = (0..5).map(|_| make(&|_| ()).unwrap().0.id).collect();
    assert_eq!(make(&|_| ()).unwrap_err().code(), "too_many_endpoints");
    store.delete_endpoint(ids[4]).unwrap();
    let (again, _secret) = store.register_endpoint(&endpoint_of(account.id), NOW, &key).unwrap();
    assert!(again.id > ids[4], "a number is never given twice");
    store.delete_endpoint(again.id).unwrap();

    let refused =
        store.create_endpoint(&endpoint_of(account.id), NOW, &mut |_| Err(StoreError::NoRandomness));
    assert_eq!(refused.unwrap_err().code(), "no_randomness");
    assert_eq!(store.load_endpoints().unwrap().len(), 4, "nothing of a failed one stays");
}

#[test]
fn a_rotated_secret_goes_on_signing_for_its_grace() {
    let (_dir, mut store) = store();
    let key = store.master_key().unwrap();
    let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
    let (made, first) = store.register_endpoint(&endpoint_of(account.id), NOW, &key).unwrap();
    let day = Duration::from_secs(86_400);
    let until = WallUs(NOW.0 + 86_400_000_000);
    let (record, second, previous) = store.rotate_endpoint_secret(made.id, day, NOW, &key).unwrap();
    assert_eq!(previous, Some((first.clone(), until)));
    assert_ne!(first, second);
    let (sealed, end) = record.previous.clone().unwrap();
    assert_eq!((key.open(made.id, &sealed).unwrap(), end), (first, until));
    assert_eq!(key.open(made.id, &record.secret).unwrap(), second);

    let (record, third, previous) = store.rotate_endpoint_secret(made.id, day, NOW, &key).unwrap();
    assert_eq!(previous, Some((second, until)), "the first is forgotten");
    let (record, _, previous) = {
        assert!(record.previous.is_some());
        store.rotate_endpoint_secret(made.id, Duration::ZERO, NOW, &key).unwrap()
    };
    assert_eq!((previous, record.previous.clone()), (None, None));
    assert_ne!(key.open(made.id, &record.secret).unwrap(), third);
    let long = store.rotate_endpoint_secret(made.id, limits::WEBHOOK_GRACE + day, NOW, &key);
    assert_eq!(invalid_field(long), "grace");
}

#[test]
fn a_secret_is_in_no_file_and_in_no_message() {
    let (dir, mut store) = store();
    let key = store.master_key().unwrap();
    let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
    let (made, secret) = store.register_endpoint(&endpoint_of(account.id), NOW, &key).unwrap();
    let (record, next, _) =
        store.rotate_endpoint_secret(made.id, Duration::from_secs(60), NOW, &key).unwrap();
    for text in [secret.reveal(), next.reveal()] {
        assert_in_no_file(&dir, text);
        assert_in_no_file(&dir, text.strip_prefix("whsec_").unwrap());
        assert!(!format!("{record:?} {secret:?} {key:?} {store:?}").contains(text));
    }
}

#[test]
fn a_deleted_endpoint_takes_what_waits_for_it_along() {
    let (dir, mut store, [gone, other]) = installation();
    let events: Vec<_> = (1..=3).map(queued).collect();
    let recipients = &[gone, other];
    let offered = |event| Change::Webhook(WebhookRow::Event { event, recipients });
    let rows: Vec<_> = events.iter().map(offered).collect();
    store.commit(&rows).unwrap();
    store.redeliver(gone, &[2]).unwrap();
    store.delete_endpoint(gone).unwrap();
    let reader = store.reader().unwrap();
    for event in 1..=3 {
        assert_eq!(reader.delivery(gone, event).unwrap(), Some(DeliveryState::Concluded));
        assert_eq!(reader.delivery(other, event).unwrap(), Some(DeliveryState::Waiting));
    }
    // On its way when it was deleted: an event that names it, an answer, a health, a replay.
    let late = queued(4);
    let health = HealthRow {
        endpoint: gone,
        health: health(State::Active),
        verified: true,
        mail: Some((Mail::Gone, "")),
        at: NOW,
    };
    store
        .commit(&[
            offered(&late),
            Change::Webhook(WebhookRow::Asked { event: 1, endpoint: gone }),
            Change::Health(health),
        ])
        .unwrap();
    let start = reopen(&dir, store).start_webhooks(&id_key()).unwrap();
    let waiting: Vec<_> = start.pending.iter().map(|p| (p.endpoint, p.event)).collect();
    assert_eq!(waiting, [(other, 1), (other, 2), (other, 3), (other, 4)]);
    assert!(start.asked.is_empty() && reader.due_mail(NOW, 9).unwrap().is_empty());
}

#[test]
fn endpoints_of_many_accounts_are_told_apart() {
    let (_dir, mut store, [first, second]) = installation();
    let (account, _token) = store.create_account(&new_account(), NOW).unwrap();
    let third = register(&mut store, &endpoint_of(account.id));
    let reader = store.reader().unwrap();
    let ids = |account| reader.endpoints(account).unwrap().iter().map(|e| e.id).collect::<Vec<_>>();
    assert_eq!(ids(None), [first, second, third]);
    assert_eq!(ids(Some(account.id)), [third]);
}
