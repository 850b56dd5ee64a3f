//! The store as the books meet it: what was done and is not yet durable may be gone, all or its later part, when the box
//! dies or the disk refuses.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use kolbox::{
    transcripts::{Record, Sequence, State, Stored, TranscriptId},
    twilio::sid::CallSid,
};

/// A change of what is stored.
#[derive(Debug, Clone)]
pub enum Change {
    Draft(Arc<Record>),
    Final(Arc<Record>),
    Synced(u64, Timestamp),
    Parked(u64, u16, Timestamp),
    Unpark(TranscriptId),
}

#[derive(Debug, Clone, Default)]
pub struct Content {
    pub drafts: BTreeMap<TranscriptId, Arc<Record>>,
    pub finals: BTreeMap<u64, (Arc<Record>, State)>,
    pub unsynced: BTreeSet<u64>,
    pub parked: BTreeSet<u64>,
    /// Each call's one record, and whether it is final.
    calls: HashMap<CallSid, (TranscriptId, bool)>,
    last: u64,
}

/// A disk that forgets what was not brought to it.
#[derive(Debug, Default)]
pub struct Disk {
    pub live: Content,
    pub durable: Content,
    undone: Vec<Change>,
    news: Vec<Change>,
}

impl Disk {
    /// Whether it changed anything; what it did is not durable yet.
    pub fn apply(&mut self, change: Change) -> bool {
        let done = self.live.apply(&change);
        self.undone.push(change);
        done
    }

    pub fn make_durable(&mut self) {
        for change in self.undone.drain(..) {
            self.durable.apply(&change);
            self.news.push(change);
        }
    }

    /// What became durable since this was asked last.
    pub fn newly_durable(&mut self) -> Vec<Change> {
        std::mem::take(&mut self.news)
    }

    /// What is not durable is lost, but for its first part, as large as the disk liked.
    pub fn forget(&mut self, liked: impl FnOnce(usize) -> usize) {
        if self.undone.is_empty() {
            return;
        }
        let kept = liked(self.undone.len());
        self.undone.truncate(kept);
        self.make_durable();
        self.live = self.durable.clone();
    }

    pub fn first_unsynced(&self) -> Option<Box<Stored>> {
        let sequence = *self.live.unsynced.first()?;
        let (record, state) = &self.live.finals[&sequence];
        Some(Box::new(Stored { sequence: Some(Sequence(sequence)), state: *state, record: Record::clone(record) }))
    }
}

impl Content {
    fn apply(&mut self, change: &Change) -> bool {
        match change {
            Change::Draft(record) => {
                if self.calls.contains_key(&record.call_sid) {
                    return false;
                }
                self.calls.insert(record.call_sid, (record.id, false));
                self.drafts.insert(record.id, record.clone());
            }
            Change::Final(record) => {
                if self.calls.get(&record.call_sid).is_some_and(|&(id, is_final)| is_final || id != record.id) {
                    return false;
                }
                self.calls.insert(record.call_sid, (record.id, true));
                self.drafts.remove(&record.id);
                self.last += 1;
                self.finals.insert(self.last, (record.clone(), State::Unsynced));
                self.unsynced.insert(self.last);
            }
            &Change::Synced(sequence, at) => return self.settle(sequence, State::Synced { at }),
            &Change::Parked(sequence, status, at) => {
                let done = self.settle(sequence, State::Parked { status, at });
                self.parked.extend(done.then_some(sequence));
                return done;
            }
            Change::Unpark(id) => {
                let Some(sequence) = self.parked.iter().copied().find(|parked| self.finals[parked].0.id == *id) else {
                    return false;
                };
                self.parked.remove(&sequence);
                self.unsynced.insert(sequence);
                self.finals.entry(sequence).and_modify(|(_, state)| *state = State::Unsynced);
            }
        }
        true
    }

    fn settle(&mut self, sequence: u64, to: State) -> bool {
        if !self.unsynced.remove(&sequence) {
            return false;
        }
        self.finals.entry(sequence).and_modify(|(_, state)| *state = to);
        true
    }

    /// Records that wait for their recording, as a start finds them.
    pub fn stored_drafts(&self) -> Vec<Stored> {
        let draft = |record: &Arc<Record>| Stored {
            sequence: None,
            state: State::AwaitingRecording,
            record: Record::clone(record),
        };
        self.drafts.values().map(draft).collect()
    }
}
