//! The store's bytes rot: it opens all the same, nothing wrong ever comes back, and what is gone is counted and shown.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kolbox::transcripts::{Sequence, Store, sled_store::SledStore};

use super::{
    process::PATIENCE,
    records::{held, number, record},
    times,
};

const RECORDS: u64 = 400;
const DRAFTS: u64 = 20;
const SYNCED: u64 = 100;
const PARKED: u64 = 10;

#[derive(Debug, Clone, Copy)]
enum Damage {
    BitFlip,
    Truncation,
    ZeroedTail,
}

/// A sound store, to be copied.
fn sound_store(directory: &Path) {
    let mut store = SledStore::open(directory).unwrap();
    for number in 1..=RECORDS {
        store.put_final(&record(number)).unwrap();
        if number % 7 == 0 {
            store.make_durable().unwrap();
        }
    }
    for number in RECORDS + 1..=RECORDS + DRAFTS {
        store.put_draft(&record(number)).unwrap();
    }
    for sequence in 1..=SYNCED {
        store.mark_synced(Sequence(sequence), Timestamp::now()).unwrap();
    }
    for sequence in SYNCED + 1..=SYNCED + PARKED {
        store.park(Sequence(sequence), 422, Timestamp::now()).unwrap();
    }
    store.make_durable().unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

fn damage(data: &Path, damage: Damage, random: &mut fastrand::Rng) {
    let file = File::options().read(true).write(true).open(data).unwrap();
    let bytes = file.metadata().unwrap().len();
    match damage {
        Damage::BitFlip => {
            let at = random.u64(0..bytes);
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            file.write_all_at(&[byte[0] ^ 1 << random.u8(0..8)], at).unwrap();
        }
        Damage::Truncation => file.set_len(random.u64(0..bytes)).unwrap(),
        Damage::ZeroedTail => {
            let at = random.u64(0..bytes);
            file.write_all_at(&vec![0; usize::try_from(bytes - at).unwrap()], at).unwrap();
        }
    }
}

/// Opens it, in time.
fn open(directory: &Path, what: &str) -> (SledStore, Duration) {
    let (sender, opened) = mpsc::channel();
    let (path, began) = (directory.to_owned(), Instant::now());
    thread::spawn(move || drop(sender.send(SledStore::open(&path))));
    let store = opened.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("{what}: it does not open"));
    (store.unwrap_or_else(|error| panic!("{what}: {error}")), began.elapsed())
}

fn judge(kind: Damage, sound: &Path, count: u64) {
    let (mut longest, mut remade, mut lost_in_all, mut unharmed) = (Duration::ZERO, 0, 0, 0);
    for seed in 0..count {
        let what = format!("{kind:?}, seed {seed}");
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("store");
        copy(sound, &directory);
        damage(&directory.join("records/db"), kind, &mut fastrand::Rng::with_seed(seed));

        let (mut store, took) = open(&directory, &what);
        longest = longest.max(took);
        let (counts, around) = (store.counts(), store.surroundings());
        drop(store);
        // Every one is compared there with what it must be.
        let before: BTreeMap<_, _> = held(&directory);
        assert_eq!(before.len() as u64, counts.stored(), "{what}: {counts:?}");
        let lost = RECORDS + DRAFTS - before.len() as u64;
        assert_eq!(lost, counts.missing + counts.damaged, "{what}: {counts:?}");
        if counts.missing > 0 {
            assert_eq!(around.quarantined, 1, "{what}: a loss is shown for as long as the damaged store is there");
        }
        remade += around.quarantined;
        lost_in_all += lost;
        unharmed += u64::from(lost == 0);

        // It goes on, and does not stumble over the same thing again.
        let (mut store, _) = open(&directory, &what);
        assert_eq!((store.counts(), store.surroundings()), (counts, around), "{what}");
        let next = record(10_000 + seed);
        store.put_final(&next).unwrap();
        store.make_durable().unwrap();
        let last = store.recent(1).unwrap().remove(0);
        assert_eq!(number(&last.record), number(&next), "{what}: a number was given twice");
        drop(store);
        assert_eq!(held(&directory).len(), before.len() + 1, "{what}");
    }
    println!(
        "{kind:?}: {count} stores of {} records, opened within {longest:?}, {remade} made anew, {lost_in_all} records \
         lost and counted, {unharmed} stores without loss",
        RECORDS + DRAFTS
    );
}

#[test]
fn a_damaged_store_opens_counts_what_is_gone_and_gives_nothing_wrong() {
    let sound = tempfile::tempdir().unwrap();
    sound_store(sound.path());
    let count = times(5, 50);
    for kind in [Damage::BitFlip, Damage::Truncation, Damage::ZeroedTail] {
        judge(kind, sound.path(), count);
    }
}
