//! What every store must do, run over each one: sled on a disk, and the one in memory that other tests use.

use std::path::Path;

use jiff::Timestamp;

use super::{
    journal::{JournalEntry, samples::entry},
    memory_store_tests::MemoryStore,
    record::samples::{at, noise, record},
    sled_store::SledStore,
    store::{Kept, Known, Store},
    stored::{Sequence, State},
};

/// Opens, or opens again, the store of one test.
type Open<'a> = dyn FnMut() -> Box<dyn Store> + 'a;

fn on_each_store(test: impl Fn(&mut Open<'_>)) {
    let directory = tempfile::tempdir().unwrap();
    test(&mut || Box::new(SledStore::open(directory.path()).unwrap()));
    let memory = MemoryStore::default();
    test(&mut || Box::new(memory.clone()));
}

fn numbers(store: &mut dyn Store) -> Vec<u64> {
    let mut numbers = Vec::new();
    while let Some(next) = store.first_unsynced().unwrap() {
        let sequence = next.sequence.unwrap();
        numbers.push(u64::from_str_radix(&next.record.call_sid.as_str()[2..], 16).unwrap());
        store.mark_synced(sequence, Timestamp::UNIX_EPOCH).unwrap();
    }
    numbers
}

#[test]
fn records_are_sent_in_the_order_of_becoming_final_also_after_a_restart() {
    on_each_store(|open| {
        let mut store = open();
        store.put_draft(&record(1)).unwrap();
        store.put_final(&record(2)).unwrap();
        store.put_final(&record(3)).unwrap();
        store.make_durable().unwrap();
        drop(store);

        let mut store = open();
        store.put_final(&record(1)).unwrap();
        store.put_final(&record(4)).unwrap();
        assert_eq!(numbers(store.as_mut()), [2, 3, 1, 4]);
    });
}

#[test]
fn what_was_marked_as_synced_stays_so_after_a_restart() {
    on_each_store(|open| {
        let mut store = open();
        let synced_at = at("2026-11-22T08:16:00.500Z");
        for number in 1..=3 {
            store.put_final(&record(number)).unwrap();
        }
        store.mark_synced(Sequence(1), synced_at).unwrap();
        store.make_durable().unwrap();
        drop(store);

        let mut store = open();
        let first = store.recent(3).unwrap().pop().unwrap();
        assert_eq!((first.state, first.record), (State::Synced { at: synced_at }, record(1)));
        assert_eq!(numbers(store.as_mut()), [2, 3]);
        assert_eq!((store.counts().synced, store.counts().unsynced, store.counts().stored()), (3, 0, 3));
    });
}

#[test]
fn a_draft_survives_a_restart_and_becomes_final_once() {
    on_each_store(|open| {
        let mut store = open();
        assert_eq!(store.put_draft(&record(1)).unwrap(), Kept::New);
        store.make_durable().unwrap();
        drop(store);

        let mut store = open();
        let drafts = store.drafts().unwrap();
        assert_eq!(drafts.len(), 1);
        assert_eq!((drafts[0].state, drafts[0].sequence), (State::AwaitingRecording, None));
        assert!(store.first_unsynced().unwrap().is_none());
        assert_eq!(store.put_final(&drafts[0].record).unwrap(), Kept::New);
        assert_eq!(store.put_final(&drafts[0].record).unwrap(), Kept::Already);
        assert!(store.drafts().unwrap().is_empty());
        assert_eq!((store.counts().awaiting_recording, store.counts().unsynced), (0, 1));
    });
}

#[test]
fn a_call_has_one_record_whatever_is_kept_again() {
    on_each_store(|open| {
        let mut store = open();
        let mut again = record(1);
        again.id = record(99).id;
        store.put_draft(&record(1)).unwrap();
        assert_eq!(store.put_draft(&record(1)).unwrap(), Kept::Already);
        assert_eq!(store.put_draft(&again).unwrap(), Kept::Already);
        assert_eq!(store.put_final(&again).unwrap(), Kept::Already);
        store.put_final(&record(1)).unwrap();
        assert_eq!(store.put_draft(&again).unwrap(), Kept::Already);
        assert_eq!(store.put_final(&again).unwrap(), Kept::Already);
        store.mark_synced(Sequence(1), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(store.put_final(&record(1)).unwrap(), Kept::Already);
        assert_eq!(store.counts().stored(), 1);
    });
}

#[test]
fn a_parked_record_lets_the_next_go_on_and_comes_back_at_its_old_place() {
    on_each_store(|open| {
        let mut store = open();
        for number in 1..=3 {
            store.put_final(&record(number)).unwrap();
        }
        let parked_at = at("2026-11-22T08:16:00.500Z");
        store.park(Sequence(1), 422, parked_at).unwrap();
        assert_eq!(store.counts().parked, 1);
        assert_eq!(store.first_unsynced().unwrap().unwrap().record, record(2));
        store.make_durable().unwrap();
        drop(store);

        let mut store = open();
        let first = store.recent(3).unwrap().pop().unwrap();
        assert_eq!(first.state, State::Parked { status: 422, at: parked_at });
        assert!(store.unpark(record(1).id).unwrap());
        assert!(!store.unpark(record(1).id).unwrap());
        assert!(!store.unpark(record(2).id).unwrap());
        assert_eq!(numbers(store.as_mut()), [1, 2, 3]);
    });
}

#[test]
fn only_what_is_unsynced_is_marked_or_parked() {
    on_each_store(|open| {
        let mut store = open();
        store.put_final(&record(1)).unwrap();
        store.mark_synced(Sequence(1), Timestamp::UNIX_EPOCH).unwrap();
        let before = store.counts();
        store.park(Sequence(1), 400, Timestamp::UNIX_EPOCH).unwrap();
        store.mark_synced(Sequence(1), Timestamp::MAX).unwrap();
        store.mark_synced(Sequence(77), Timestamp::MAX).unwrap();
        assert_eq!(store.counts(), before);
        assert_eq!(store.recent(9).unwrap()[0].state, State::Synced { at: Timestamp::UNIX_EPOCH });
    });
}

#[test]
fn room_is_made_by_the_oldest_synced_and_never_by_anything_else() {
    on_each_store(|open| {
        let mut store = open();
        for number in 1..=5 {
            store.put_final(&record(number)).unwrap();
        }
        store.put_draft(&record(6)).unwrap();
        let early = at("2026-11-20T00:00:00Z");
        let late = at("2026-11-22T00:00:00Z");
        store.mark_synced(Sequence(1), early).unwrap();
        store.mark_synced(Sequence(2), late).unwrap();
        store.park(Sequence(3), 400, early).unwrap();

        assert_eq!(store.make_room(u64::MAX, early).unwrap(), 0);
        assert_eq!(store.make_room(u64::MAX, late).unwrap(), 1);
        assert_eq!(store.counts().synced, 1);
        assert_eq!(store.make_room(0, early).unwrap(), 1);
        assert_eq!(store.make_room(0, Timestamp::MAX).unwrap(), 0);
        let counts = store.counts();
        assert_eq!((counts.synced, counts.parked, counts.unsynced, counts.awaiting_recording), (0, 1, 2, 1));
        assert!(counts.bytes > 0);
    });
}

#[test]
fn a_long_record_is_kept_whole_through_every_state() {
    on_each_store(|open| {
        let mut store = open();
        let mut long = record(1);
        long.text.0 = "הודעה ארוכה ".to_owned() + &noise(50_000);
        store.put_draft(&long).unwrap();
        store.put_final(&long).unwrap();
        store.put_final(&record(2)).unwrap();
        assert_eq!(store.first_unsynced().unwrap().unwrap().record, long);
        store.park(Sequence(1), 413, Timestamp::UNIX_EPOCH).unwrap();
        store.unpark(long.id).unwrap();
        store.mark_synced(Sequence(1), Timestamp::UNIX_EPOCH).unwrap();
        assert_eq!(store.recent(9).unwrap().pop().unwrap().record, long);
        let bytes = store.counts().bytes;
        store.make_room(0, Timestamp::MAX).unwrap();
        assert!(store.counts().bytes < bytes / 10);
    });
}

#[test]
fn the_last_ones_come_newest_first_whatever_their_state() {
    on_each_store(|open| {
        let mut store = open();
        for number in 1..=4 {
            store.put_final(&record(number)).unwrap();
        }
        store.mark_synced(Sequence(4), Timestamp::UNIX_EPOCH).unwrap();
        store.park(Sequence(3), 400, Timestamp::UNIX_EPOCH).unwrap();
        let recent: Vec<_> = store.recent(3).unwrap().into_iter().map(|stored| stored.record).collect();
        assert_eq!(recent, [record(4), record(3), record(2)]);
    });
}

#[test]
fn the_last_parked_ones_come_with_the_last_ones_however_old_they_are() {
    on_each_store(|open| {
        let mut store = open();
        for number in 1..=8 {
            store.put_final(&record(number)).unwrap();
        }
        for parked in [1, 2, 3] {
            store.park(Sequence(parked), 400, Timestamp::UNIX_EPOCH).unwrap();
        }
        let recent: Vec<_> = store.recent(2).unwrap().into_iter().map(|stored| stored.record).collect();
        assert_eq!(recent, [record(8), record(7), record(3), record(2)]);
    });
}

#[test]
fn all_records_are_read_in_their_order_with_the_drafts_last() {
    let directory = tempfile::tempdir().unwrap();
    fill(directory.path());
    let read: Vec<_> = super::read::read(directory.path()).unwrap().map(Result::unwrap).collect();
    let states: Vec<_> = read.iter().map(|stored| (stored.sequence, stored.state.as_str())).collect();
    assert_eq!(
        states,
        [
            (Some(Sequence(1)), "unsynced"),
            (Some(Sequence(2)), "synced"),
            (Some(Sequence(3)), "parked"),
            (Some(Sequence(4)), "unsynced"),
            (None, "awaiting_recording")
        ]
    );
}

fn fill(directory: &Path) {
    let mut store = SledStore::open(directory).unwrap();
    store.put_draft(&record(9)).unwrap();
    for number in 1..=4 {
        store.put_final(&record(number)).unwrap();
    }
    store.mark_synced(Sequence(2), Timestamp::UNIX_EPOCH).unwrap();
    store.park(Sequence(3), 400, Timestamp::UNIX_EPOCH).unwrap();
    store.make_durable().unwrap();
}

#[test]
fn the_journal_of_live_calls_survives_and_a_record_takes_its_call_out_in_the_same_change() {
    on_each_store(|open| {
        let mut store = open();
        for number in 1..=4 {
            assert_eq!(store.put_live(&entry(number)).unwrap(), Kept::New);
        }
        let told = JournalEntry { stream_sid: None, ..entry(4) };
        store.put_live(&told).unwrap();
        store.make_durable().unwrap();
        store.put_draft(&record(1)).unwrap();
        store.put_final(&record(2)).unwrap();
        store.make_durable().unwrap();
        drop(store);

        let mut store = open();
        assert_eq!(store.live().unwrap(), [entry(3), told]);
        assert_eq!(store.put_live(&entry(1)).unwrap(), Kept::Already, "its draft waits");
        assert_eq!(store.live().unwrap().len(), 2);
    });
}

#[test]
fn a_calls_record_is_found_by_its_call_in_every_state() {
    on_each_store(|open| {
        let mut store = open();
        let call_sid = record(1).call_sid;
        let state = |store: &mut dyn Store| match store.find(call_sid).unwrap() {
            Known::Record(stored) => Some((stored.sequence, stored.state)),
            _ => None,
        };
        assert_eq!(store.find(call_sid).unwrap(), Known::Nothing);
        store.put_live(&entry(1)).unwrap();
        assert_eq!(store.find(call_sid).unwrap(), Known::Live);
        store.put_draft(&record(1)).unwrap();
        assert_eq!(state(store.as_mut()), Some((None, State::AwaitingRecording)));
        store.put_final(&record(2)).unwrap();
        store.put_final(&record(1)).unwrap();
        let sequence = Sequence(2);
        assert_eq!(state(store.as_mut()), Some((Some(sequence), State::Unsynced)));
        let at = Timestamp::UNIX_EPOCH;
        store.park(sequence, 422, at).unwrap();
        assert_eq!(state(store.as_mut()), Some((Some(sequence), State::Parked { status: 422, at })));
        store.unpark(record(1).id).unwrap();
        store.mark_synced(sequence, at).unwrap();
        store.make_durable().unwrap();
        drop(store);
        let mut store = open();
        assert_eq!(state(store.as_mut()), Some((Some(sequence), State::Synced { at })));
        store.mark_synced(Sequence(1), at).unwrap();
        store.make_room(0, Timestamp::MIN).unwrap();
        assert_eq!(store.find(call_sid).unwrap(), Known::Nothing);
    });
}
