//! A store in memory for the tests of this room: what is not made durable is lost when it is told to crash.

use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex},
};

use jiff::Timestamp;

use super::{
    journal::JournalEntry,
    record::{Record, TranscriptId},
    store::{Counts, Kept, Known, Store, StoreError},
    stored::{Sequence, State, Stored, encode},
};
use crate::twilio::sid::CallSid;

/// Clones share their content, as openings of one directory do.
#[derive(Clone, Default)]
pub struct MemoryStore {
    shared: Arc<Mutex<Shared>>,
}

#[derive(Default)]
struct Shared {
    live: Content,
    durable: Content,
    fails: bool,
    durable_calls: usize,
}

#[derive(Clone, Default)]
struct Content {
    drafts: BTreeMap<TranscriptId, Stored>,
    finals: BTreeMap<Sequence, Stored>,
    last: u64,
    live: BTreeMap<CallSid, JournalEntry>,
}

impl MemoryStore {
    /// From now on nothing can be made durable, as on a full disk; or it can again.
    pub fn set_failing(&self, fails: bool) {
        self.shared.lock().unwrap().fails = fails;
    }

    /// What a power cut would leave, as a store of its own.
    pub fn after_power_cut(&self) -> Self {
        let durable = self.shared.lock().unwrap().durable.clone();
        let shared = Shared { live: durable.clone(), durable, ..Shared::default() };
        Self { shared: Arc::new(Mutex::new(shared)) }
    }

    /// How often something was made durable.
    pub fn durable_calls(&self) -> usize {
        self.shared.lock().unwrap().durable_calls
    }

    fn with<T>(&self, change: impl FnOnce(&mut Content) -> T) -> T {
        change(&mut self.shared.lock().unwrap().live)
    }
}

impl Content {
    fn of_call(&self, call_sid: CallSid) -> Option<&Stored> {
        self.drafts.values().chain(self.finals.values()).find(|stored| stored.record.call_sid == call_sid)
    }

    fn unsynced(&mut self, sequence: Sequence) -> Option<&mut Stored> {
        self.finals.get_mut(&sequence).filter(|stored| stored.state == State::Unsynced)
    }
}

impl Store for MemoryStore {
    fn put_draft(&mut self, record: &Record) -> Result<Kept, StoreError> {
        self.with(|content| {
            if content.of_call(record.call_sid).is_some() {
                return Ok(Kept::Already);
            }
            let draft = Stored { sequence: None, state: State::AwaitingRecording, record: record.clone() };
            content.drafts.insert(record.id, draft);
            content.live.remove(&record.call_sid);
            Ok(Kept::New)
        })
    }

    fn put_final(&mut self, record: &Record) -> Result<Kept, StoreError> {
        self.with(|content| {
            if content
                .of_call(record.call_sid)
                .is_some_and(|known| known.sequence.is_some() || known.record.id != record.id)
            {
                return Ok(Kept::Already);
            }
            content.drafts.remove(&record.id);
            content.live.remove(&record.call_sid);
            content.last += 1;
            let sequence = Sequence(content.last);
            let stored = Stored { sequence: Some(sequence), state: State::Unsynced, record: record.clone() };
            content.finals.insert(sequence, stored);
            Ok(Kept::New)
        })
    }

    fn mark_synced(&mut self, sequence: Sequence, at: Timestamp) -> Result<(), StoreError> {
        self.with(|content| content.unsynced(sequence).map(|stored| stored.state = State::Synced { at }));
        Ok(())
    }

    fn park(&mut self, sequence: Sequence, status: u16, at: Timestamp) -> Result<(), StoreError> {
        self.with(|content| content.unsynced(sequence).map(|stored| stored.state = State::Parked { status, at }));
        Ok(())
    }

    fn unpark(&mut self, id: TranscriptId) -> Result<bool, StoreError> {
        Ok(self.with(|content| {
            let parked = |stored: &&mut Stored| stored.record.id == id && matches!(stored.state, State::Parked { .. });
            content.finals.values_mut().find(parked).map(|stored| stored.state = State::Unsynced).is_some()
        }))
    }

    fn make_room(&mut self, bytes_max: u64, synced_before: Timestamp) -> Result<usize, StoreError> {
        let mut deleted = 0;
        loop {
            let too_much = self.counts().bytes > bytes_max;
            let gone = self.with(|content| {
                let oldest = content.finals.iter().find_map(|(sequence, stored)| match stored.state {
                    State::Synced { at } => Some((*sequence, at)),
                    _ => None,
                });
                let (sequence, at) = oldest?;
                (too_much || at < synced_before).then(|| content.finals.remove(&sequence))
            });
            if gone.is_none() {
                return Ok(deleted);
            }
            deleted += 1;
        }
    }

    fn put_live(&mut self, entry: &JournalEntry) -> Result<Kept, StoreError> {
        Ok(self.with(|content| {
            if content.of_call(entry.call_sid).is_some() {
                return Kept::Already;
            }
            content.live.insert(entry.call_sid, entry.clone());
            Kept::New
        }))
    }

    fn live(&mut self) -> Result<Vec<JournalEntry>, StoreError> {
        Ok(self.with(|content| content.live.values().cloned().collect()))
    }

    fn make_durable(&mut self) -> Result<(), StoreError> {
        let mut shared = self.shared.lock().unwrap();
        if shared.fails {
            // As after opening it again: what was not durable is not there.
            shared.live = shared.durable.clone();
            return Err(StoreError::Sync(io::Error::from(io::ErrorKind::StorageFull)));
        }
        shared.durable = shared.live.clone();
        shared.durable_calls += 1;
        Ok(())
    }

    fn drafts(&mut self) -> Result<Vec<Stored>, StoreError> {
        Ok(self.with(|content| content.drafts.values().cloned().collect()))
    }

    fn first_unsynced(&mut self) -> Result<Option<Stored>, StoreError> {
        Ok(self.with(|content| content.finals.values().find(|stored| stored.state == State::Unsynced).cloned()))
    }

    fn recent(&mut self, count: usize) -> Result<Vec<Stored>, StoreError> {
        Ok(self.with(|content| {
            let newest = || content.finals.values().rev();
            let is_parked = |stored: &&Stored| matches!(stored.state, State::Parked { .. });
            let parked: Vec<_> = newest().filter(is_parked).take(count).map(|stored| stored.sequence).collect();
            let wanted = |(nth, stored): &(usize, &Stored)| *nth < count || parked.contains(&stored.sequence);
            newest().enumerate().filter(wanted).map(|(_, stored)| stored.clone()).collect()
        }))
    }

    fn find(&mut self, call_sid: CallSid) -> Result<Known, StoreError> {
        Ok(self.with(|content| match content.of_call(call_sid) {
            Some(stored) => Known::Record(Box::new(stored.clone())),
            None if content.live.contains_key(&call_sid) => Known::Live,
            None => Known::Nothing,
        }))
    }

    fn counts(&self) -> Counts {
        self.with(|content| {
            let mut counts = Counts::default();
            for stored in content.drafts.values().chain(content.finals.values()) {
                let parts = encode(stored.sequence, stored.state, &stored.record).unwrap();
                counts.add(stored.state, parts.iter().map(|part| part.len() as u64).sum());
            }
            counts
        })
    }
}
