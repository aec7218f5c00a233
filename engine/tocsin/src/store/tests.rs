//! Opening: what is refused, how it is told, and what an earlier life left behind.

use std::fs;

use tocsin_core::feed::admission::keys::key_hash;

use super::testing::{NOW, announcement, new_key, store};
use super::*;

fn refusal(data_dir: &Path) -> StoreError {
    Store::open_on(data_dir, data_dir).unwrap_err()
}

#[test]
fn epochs_rise_across_lives() {
    let (dir, mut first) = store();
    let install = first.install_id().unwrap();
    assert_eq!((first.next_epoch().unwrap(), first.next_epoch().unwrap()), (1, 2));
    drop(first);
    let mut second = Store::open_on(dir.path(), &dir.path().join("data")).unwrap();
    assert_eq!(second.next_epoch().unwrap(), 3);
    assert_eq!(second.install_id().unwrap(), install);
    let row = announcement(70, 1);
    second.commit(&[Row::Announcement { announcement: &row, dispatched: None }]).unwrap();
    assert_eq!(second.next_epoch().unwrap(), 71, "never one that history already has");
}

#[test]
fn a_second_owner_is_refused_and_a_reader_is_not() {
    let (dir, mut store) = store();
    let data = dir.path().join("data");
    assert_eq!(refusal(&data).code(), "store_locked");
    let (key, secret) = store.create_key(&new_key(), NOW).unwrap();
    let reader = store.reader().unwrap();
    assert_eq!(reader.keys().unwrap(), std::slice::from_ref(&key));
    assert_eq!(reader.key_by_hash(&key_hash(secret.reveal().as_bytes()).unwrap()).unwrap(), Some(key));
    assert!(reader.connection.execute("DELETE FROM keys", []).is_err());
}

#[test]
fn files_are_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, mut store) = store();
    store.create_key(&new_key(), NOW).unwrap();
    for entry in fs::read_dir(dir.path().join("data")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o077, 0, "{:?}", entry.path());
    }
}

#[test]
fn what_is_not_our_database_is_refused_and_left_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(FILE_NAME);

    fs::write(&path, "not a database at all, but long enough to look for a header in it".repeat(20)).unwrap();
    assert_eq!(refusal(dir.path()).code(), "store_not_a_database");

    fs::remove_file(&path).unwrap();
    let other = Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE t (x); PRAGMA application_id = 17").unwrap();
    drop(other);
    let before = fs::read(&path).unwrap();
    assert_eq!(refusal(dir.path()).code(), "store_foreign");
    assert_eq!(fs::read(&path).unwrap(), before);

    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    assert_eq!(refusal(dir.path()).code(), "store_not_a_database");
}

#[test]
fn a_store_of_the_version_before_webhooks_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let before = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    before.execute_batch(include_str!("schema/001_initial.sql")).unwrap();
    before.execute_batch("UPDATE meta SET value = 6; PRAGMA user_version = 1").unwrap();
    before.pragma_update(None, "application_id", 0x544F_4353).unwrap();
    drop(before);
    let mut store = Store::open_on(dir.path(), dir.path()).unwrap();
    assert_eq!(store.next_epoch().unwrap(), 7);
    assert!(
        store.load_endpoints().unwrap().is_empty() && store.reader().unwrap().accounts().unwrap().is_empty()
    );
}

#[test]
fn a_store_of_the_version_before_keys_had_owners_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let before = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    before.execute_batch(include_str!("schema/001_initial.sql")).unwrap();
    before.execute_batch(include_str!("schema/002_webhooks.sql")).unwrap();
    before
        .execute_batch(
            "INSERT INTO keys (hash, label, tier, max_connections, allowed, created_us, delay_ms, redact)
             VALUES (randomblob(32), 'desk', 'premium', 5, '*', 1, 0, 0);
             INSERT INTO accounts (name, email, plan, token_hash, created_us)
             VALUES ('Desk', '', 'phantom', randomblob(32), 1);
             PRAGMA user_version = 2",
        )
        .unwrap();
    before.pragma_update(None, "application_id", 0x544F_4353).unwrap();
    drop(before);
    let mut store = Store::open_on(dir.path(), dir.path()).unwrap();
    let keys = store.load_keys().unwrap();
    assert_eq!((keys.len(), keys[0].label.as_str(), keys[0].account), (1, "desk", None));
    let owned = NewKey { account: Some(1), ..new_key() };
    assert_eq!(store.create_key(&owned, NOW).unwrap().0.account, Some(1));
}

#[test]
fn a_store_of_the_version_before_confirmations_is_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let before = Connection::open(dir.path().join(FILE_NAME)).unwrap();
    for sql in [
        include_str!("schema/001_initial.sql"),
        include_str!("schema/002_webhooks.sql"),
        include_str!("schema/003_key_owners.sql"),
        "INSERT INTO seen VALUES ('a.x', '5', 'Title', 7, 1); PRAGMA user_version = 3",
    ] {
        before.execute_batch(sql).unwrap();
    }
    before.pragma_update(None, "application_id", 0x544F_4353).unwrap();
    drop(before);
    let mut store = Store::open_on(dir.path(), dir.path()).unwrap();
    let record = store.load_seen("a.x").unwrap().remove(0);
    assert_eq!((&*record.notice_id, record.fingerprint), ("5", 7));
    assert!(store.load_confirmed("a.x").unwrap().is_empty());
    store.commit(&[Row::Confirmed { record: &record, notice: "9" }]).unwrap();
    assert_eq!(store.load_confirmed("a.x").unwrap().get("5").map(String::as_str), Some("9"));
}

#[test]
fn a_newer_schema_is_refused() {
    let (dir, store) = store();
    let version = schema::SCHEMA_VERSION + 1;
    store.connection.pragma_update(None, "user_version", version).unwrap();
    drop(store);
    let refused = Store::open_on(dir.path(), &dir.path().join("data")).unwrap_err();
    assert!(matches!(refused, StoreError::NewerSchema { found, .. } if found == version), "{refused}");
}

#[test]
fn a_damaged_database_is_refused_with_the_way_to_recover() {
    let (dir, mut store) = store();
    let data = dir.path().join("data");
    let list: Vec<_> = (1..=400).map(|seq| announcement(1, seq)).collect();
    let rows: Vec<_> = list.iter().map(|a| Row::Announcement { announcement: a, dispatched: None }).collect();
    store.commit(&rows).unwrap();
    drop(store);
    let path = data.join(FILE_NAME);
    let mut bytes = fs::read(&path).unwrap();
    let len = bytes.len();
    bytes[len / 2..len / 2 + 9_000].fill(0xA5);
    fs::write(&path, bytes).unwrap();
    let refused = Store::open_on(dir.path(), &data).unwrap_err();
    assert_eq!(refused.code(), "store_damaged");
    let text = refused.to_string();
    assert!(text.contains("A damaged store") && text.contains(&path.display().to_string()), "{text}");
}

#[test]
fn a_truncated_database_never_panics() {
    let (dir, mut store) = store();
    store.create_key(&new_key(), NOW).unwrap();
    drop(store);
    let data = dir.path().join("data");
    let path = data.join(FILE_NAME);
    let whole = fs::read(&path).unwrap();
    for keep in [1, 50, 100, 4_095, 4_096, 4_097, whole.len() - 4_096] {
        fs::write(&path, &whole[..keep]).unwrap();
        assert!(Store::open_on(dir.path(), &data).is_err(), "{keep} of {} bytes", whole.len());
    }
}

#[test]
fn a_full_disk_is_named_and_the_same_rows_succeed_later() {
    let (_dir, mut store) = store();
    store.set_free_pages(0);
    let list: Vec<_> = (1..=200).map(|seq| announcement(1, seq)).collect();
    let rows: Vec<_> = list.iter().map(|a| Row::Announcement { announcement: a, dispatched: None }).collect();
    let refused = store.commit(&rows).unwrap_err();
    assert!(refused.code() == "store_disk_full" && !refused.blames_row(), "{refused}");
    assert!(store.load_history(1).unwrap().is_empty(), "all or none");
    store.set_free_pages(1_000);
    store.commit(&rows).unwrap();
    assert_eq!(store.load_history(1_000).unwrap().len(), 200);
}

#[test]
fn what_shared_memory_holds_reaches_history_once() {
    let (dir, mut store) = store();
    let data = dir.path().join("data");
    let (mut writer, committer) = store.place().create(0).unwrap();
    let list: Vec<_> = (1..=3).map(|seq| announcement(1, seq)).collect();
    let ends: Vec<_> = list.iter().map(|a| writer.append_announcement(a).unwrap()).collect();
    // Committed but not released: the process died in between.
    store.commit(&[Row::Announcement { announcement: &list[0], dispatched: Some(NOW) }]).unwrap();
    committer.release(0);
    assert!(ends[0] > 0);
    drop((store, writer, committer));

    for _ in 0..2 {
        let store = Store::open_on(dir.path(), &data).unwrap();
        let history = store.load_history(10).unwrap();
        assert_eq!(history.iter().map(|s| s.announcement.clone()).collect::<Vec<_>>(), list);
        assert_eq!(history[0].dispatched, Some(NOW));
        assert_eq!(store.load_seen("binance.cms").unwrap().len(), 3);
        assert!(store.place().recover().is_empty());
    }
}

#[test]
fn a_directory_that_cannot_be_used_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let refused = Store::open_on(dir.path(), &file.join("data")).unwrap_err();
    assert!(refused.to_string().contains(&file.display().to_string()), "{refused}");
}
