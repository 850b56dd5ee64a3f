//! The store on a disk: damage, loss, second openings, newer forms.

use std::{fs, path::Path};

use super::{opening::is_in_use, *};
use crate::transcripts::{journal::samples::entry, record::samples::record};
use crate::{
    limits::{STORE_PANICS_MAX, STORE_QUARANTINES_MAX, STORE_SEQUENCE_LEAP},
    transcripts::stored::FORM_VERSION,
};

fn damage(directory: &Path, place: &[u8]) {
    let tree = SledStore::open_existing(directory).unwrap().tree;
    let key = part_key(place, 0);
    let mut value = tree.get(&key).unwrap().unwrap().to_vec();
    let last = value.len() - 1;
    value[last] ^= 1;
    tree.insert(key, value).unwrap();
    tree.flush().unwrap();
}

#[test]
fn a_damaged_record_is_skipped_and_counted_and_the_others_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SledStore::open(directory.path()).unwrap();
    for number in 1..=3 {
        store.put_final(&record(number)).unwrap();
    }
    drop(store);
    damage(directory.path(), &place(Some(Sequence(1)), State::Unsynced, record(1).id));

    let mut store = SledStore::open(directory.path()).unwrap();
    assert_eq!(store.first_unsynced().unwrap().unwrap().record, record(2));
    assert_eq!((store.counts().unsynced, store.counts().damaged, store.counts().missing), (2, 1, 0));
    drop(store);
    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!((store.counts().unsynced, store.counts().damaged, store.counts().missing), (2, 1, 0));
}

fn filled(directory: &Path, records: u128) -> SledStore {
    let mut store = SledStore::open(directory).unwrap();
    for number in 1..=records {
        store.put_final(&record(number)).unwrap();
    }
    store.make_durable().unwrap();
    store
}

fn quarantined(directory: &Path) -> usize {
    quarantine::quarantined(directory).unwrap().len()
}

#[test]
fn a_record_that_vanished_is_found_again_in_the_bytes_of_the_file() {
    let directory = tempfile::tempdir().unwrap();
    let store = filled(directory.path(), 3);
    store.tree.remove(part_key(&place(Some(Sequence(3)), State::Unsynced, record(3).id), 0)).unwrap();
    drop(store);

    let mut store = SledStore::open(directory.path()).unwrap();
    assert_eq!((store.counts().unsynced, store.counts().missing, quarantined(directory.path())), (3, 0, 1));
    assert_eq!(store.recent(1).unwrap()[0].record, record(3));
    store.put_final(&record(4)).unwrap();
    assert!(store.recent(1).unwrap()[0].sequence > Some(Sequence(STORE_SEQUENCE_LEAP)), "no number is given twice");
}

#[test]
fn a_store_whose_files_are_no_store_is_set_aside_and_its_loss_counted_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path(), 5);
    store.mark_synced(Sequence(1), Timestamp::UNIX_EPOCH).unwrap();
    store.make_durable().unwrap();
    drop(store);
    let data = directory.path().join(FOLDER).join(DATA_FILE);
    let mut bytes = fs::read(&data).unwrap();
    bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_mul(7).wrapping_add(3));
    fs::write(&data, &bytes).unwrap();

    for _ in 0..2 {
        let mut store = SledStore::open(directory.path()).unwrap();
        let counts = store.counts();
        assert_eq!((counts.stored(), counts.missing, quarantined(directory.path())), (0, 5, 1));
        assert_eq!(store.surroundings().quarantined, 1);
    }
    let mut store = SledStore::open(directory.path()).unwrap();
    store.put_final(&record(9)).unwrap();
    assert_eq!(store.recent(1).unwrap()[0].sequence, Some(Sequence(6 + STORE_SEQUENCE_LEAP)));
}

#[test]
fn a_store_that_went_back_to_an_older_state_is_noticed_by_its_mark() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 3));
    let older = fs::read(directory.path().join(FOLDER).join(DATA_FILE)).unwrap();
    drop(filled(directory.path(), 8));
    fs::write(directory.path().join(FOLDER).join(DATA_FILE), older).unwrap();

    let mut store = SledStore::open(directory.path()).unwrap();
    assert_eq!((store.counts().unsynced, store.counts().missing, quarantined(directory.path())), (3, 5, 1));
    assert_eq!(store.first_unsynced().unwrap().unwrap().record, record(1));
}

#[test]
fn a_store_that_forgot_only_what_the_upstream_had_said_is_not_trusted_either() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 3));
    let older = fs::read(directory.path().join(FOLDER).join(DATA_FILE)).unwrap();
    let mut store = SledStore::open(directory.path()).unwrap();
    store.mark_synced(Sequence(1), Timestamp::UNIX_EPOCH).unwrap();
    store.make_durable().unwrap();
    drop(store);
    fs::write(directory.path().join(FOLDER).join(DATA_FILE), older).unwrap();

    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!((store.counts().stored(), store.counts().missing, quarantined(directory.path())), (3, 0, 1));
}

#[test]
fn only_the_last_damaged_stores_are_kept() {
    let directory = tempfile::tempdir().unwrap();
    for _ in 0..STORE_QUARANTINES_MAX + 2 {
        drop(filled(directory.path(), 2));
        fs::write(directory.path().join(FOLDER).join(DATA_FILE), [7; 5000]).unwrap();
        drop(SledStore::open(directory.path()).unwrap());
    }
    assert_eq!(quarantined(directory.path()), STORE_QUARANTINES_MAX);
}

#[test]
fn a_rebuilding_that_was_cut_off_is_ended_or_begun_anew() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 2));
    // Cut off between the two names: the new one is whole.
    fs::rename(directory.path().join(FOLDER), directory.path().join("records.new")).unwrap();
    assert_eq!(SledStore::open(directory.path()).unwrap().counts().unsynced, 2);
    // Cut off before: the old one is still there.
    fs::create_dir(directory.path().join("records.new")).unwrap();
    assert_eq!(SledStore::open(directory.path()).unwrap().counts().unsynced, 2);
    assert!(!directory.path().join("records.new").exists());
}

#[test]
fn a_store_that_breaks_down_while_it_is_open_is_made_anew_when_reading_it_does_not_help() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 3));
    let mut openings = Openings::new(directory.path().to_owned());
    let broken = StoreError::Unreadable(directory.path().to_owned());
    for breakdown in 1..=STORE_PANICS_MAX + 1 {
        let store = openings.open(Some(&broken)).unwrap();
        assert_eq!((store.counts().unsynced, store.counts().missing), (3, 0));
        drop(store);
        assert_eq!(quarantined(directory.path()), usize::from(breakdown > STORE_PANICS_MAX));
    }
    openings.open(Some(&broken)).unwrap();
    assert_eq!(quarantined(directory.path()), 1, "the count begins anew");
}

#[test]
fn a_directory_that_cannot_be_used_is_told_with_a_remedy() {
    use std::io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem, StorageFull};

    for (kind, remedy) in
        [(StorageFull, "free space"), (ReadOnlyFilesystem, "memory card"), (PermissionDenied, "chown")]
    {
        let text = StoreError::Directory("/there".into(), kind.into()).to_string();
        assert!(text.starts_with("/there: ") && text.contains(remedy), "{text}");
    }
}

#[test]
fn a_lost_ledger_is_made_anew_from_the_records() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = SledStore::open(directory.path()).unwrap();
    for number in 1..=3 {
        store.put_final(&record(number)).unwrap();
    }
    store.mark_synced(Sequence(3), Timestamp::UNIX_EPOCH).unwrap();
    store.put_draft(&record(9)).unwrap();
    let before = store.ledger.counts;
    store.tree.insert(LEDGER_KEY, b"\x01nonsense").unwrap();
    drop(store);
    assert_eq!(SledStore::open(directory.path()).unwrap().counts(), before);
}

#[test]
fn a_flipped_bit_costs_nothing_that_stood_behind_it() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 20));
    let data = directory.path().join(FOLDER).join(DATA_FILE);
    let mut bytes = fs::read(&data).unwrap();
    let part = encode(Some(Sequence(2)), State::Unsynced, &record(2)).unwrap().remove(0);
    let at = bytes.windows(part.len()).position(|window| window == part).unwrap();
    bytes[at + part.len() / 2] ^= 1;
    fs::write(&data, bytes).unwrap();

    let store = SledStore::open(directory.path()).unwrap();
    assert_eq!((store.counts().unsynced, quarantined(directory.path())), (20, 1), "another copy of it is there");
    assert_eq!(store.counts().missing, 0);
}

#[test]
fn a_snapshot_that_was_cut_off_does_not_make_a_store_damaged() {
    let directory = tempfile::tempdir().unwrap();
    drop(filled(directory.path(), 5));
    // As a kill or a full disk leaves it: newer than any, and not whole.
    let unfinished = directory.path().join(FOLDER).join("snap.00000000000FFFFF.generating");
    for begun in [&b""[..], b"half of it"] {
        fs::write(&unfinished, begun).unwrap();
        let store = SledStore::open(directory.path()).unwrap();
        assert_eq!((store.counts().unsynced, quarantined(directory.path())), (5, 0));
        drop(store);
        assert!(!unfinished.exists());
    }
}

#[test]
fn ledger_and_journal_are_taken_from_where_they_were_once() {
    let directory = tempfile::tempdir().unwrap();
    let mut store = filled(directory.path(), 2);
    let entry = entry(3);
    store.put_live(&entry).unwrap();
    let ledger = store.tree.remove(LEDGER_KEY).unwrap().unwrap();
    store.tree.insert(OLD_LEDGER_KEY, ledger).unwrap();
    let value = store.tree.remove(live_key(&entry.call_sid)).unwrap().unwrap();
    store.tree.insert([&[OLD_LIVE], entry.call_sid.as_str().as_bytes()].concat(), value).unwrap();
    let counts = store.counts();
    drop(store);

    assert_eq!(SledStore::open_existing(directory.path()).unwrap().counts(), counts, "read where it lies");
    for _ in 0..2 {
        let mut store = SledStore::open(directory.path()).unwrap();
        assert_eq!((store.counts(), quarantined(directory.path())), (counts, 0));
        assert_eq!(store.live().unwrap(), std::slice::from_ref(&entry));
        assert!(!store.tree.contains_key(OLD_LEDGER_KEY).unwrap());
        assert_eq!(store.tree.scan_prefix([OLD_LIVE]).count(), 0);
    }
    let mut store = SledStore::open(directory.path()).unwrap();
    store.put_final(&record(3)).unwrap();
    assert_eq!(store.live().unwrap(), []);
}

#[test]
fn a_second_opening_is_refused_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    assert!(!is_in_use(directory.path()).unwrap(), "there is none");
    let store = SledStore::open(directory.path()).unwrap();
    assert!(is_in_use(directory.path()).unwrap());
    let error = SledStore::open(directory.path()).err().unwrap();
    assert!(matches!(error, StoreError::InUse(_)));
    assert!(error.to_string().contains("another kolbox"), "{error}");
    drop(store);
}

#[test]
fn a_newer_kolboxs_store_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let store = SledStore::open(directory.path()).unwrap();
    store.tree.insert(LEDGER_KEY, &[FORM_VERSION + 1, 0, 0]).unwrap();
    drop(store);
    assert!(matches!(SledStore::open(directory.path()), Err(StoreError::NewerVersion(_, 2))));
}

#[test]
fn a_file_in_the_place_of_the_directory_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, b"").unwrap();
    assert!(matches!(SledStore::open(&file), Err(StoreError::Directory(..))));
    assert!(matches!(SledStore::open_existing(directory.path()), Err(StoreError::Missing(_))));
}
