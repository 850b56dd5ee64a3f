//! The box's records in virtual time: the real books, over a disk that forgets what was not synced, and an upstream.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use kolbox::{
    calls::{EndedCall, RequestId},
    transcripts::{
        BoxIdentity, Record, Sequence, State, Stored, TranscriptId,
        books::{Asker, Books, Next, Output, Writing, Written},
        journal::JournalEntry,
        outbox::OutboxOptions,
    },
    twilio::sid::CallSid,
};

/// The retries of a box with the default configuration.
const RETRY_MIN: Duration = Duration::from_secs(1);
const RETRY_MAX: Duration = Duration::from_secs(300);
/// How long the store leaves a disk alone that refused.
const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// What is on the disk and survives pulling the plug.
#[derive(Debug, Clone, Default)]
pub struct Disk {
    pub records: BTreeMap<Sequence, (Record, State)>,
    pub drafts: BTreeMap<CallSid, Record>,
    pub live: BTreeMap<CallSid, JournalEntry>,
    /// Every call of which anything was ever durable.
    pub known: BTreeSet<CallSid>,
    /// Changes that it took.
    pub writes: u64,
    next: u64,
}

impl Disk {
    pub fn final_of(&self, call_sid: CallSid) -> Option<&Record> {
        self.records.values().map(|(record, _)| record).find(|record| record.call_sid == call_sid)
    }

    pub fn is_kept(&self, call_sid: CallSid) -> bool {
        self.drafts.contains_key(&call_sid) || self.final_of(call_sid).is_some()
    }

    pub fn unsynced(&self) -> usize {
        self.records.values().filter(|(_, state)| *state == State::Unsynced).count()
    }

    pub fn state_of(&self, id: TranscriptId) -> Option<State> {
        self.records.values().find(|(record, _)| record.id == id).map(|(_, state)| *state)
    }

    pub fn first_unsynced(&self) -> Option<Stored> {
        let found = self.records.iter().find(|(_, (_, state))| *state == State::Unsynced)?;
        let (sequence, (record, state)) = found;
        Some(Stored { sequence: Some(*sequence), state: *state, record: record.clone() })
    }

    pub fn drafts(&self) -> Vec<Stored> {
        let stored =
            |record: &Record| Stored { sequence: None, state: State::AwaitingRecording, record: record.clone() };
        self.drafts.values().map(stored).collect()
    }

    /// One change, as the store makes it.
    fn apply(&mut self, change: &Change) -> Written {
        self.writes += 1;
        match change {
            Change::PutLive(entry) => {
                if self.is_kept(entry.call_sid) {
                    return Written::Already;
                }
                self.known.insert(entry.call_sid);
                self.live.insert(entry.call_sid, (**entry).clone());
            }
            Change::Write(Writing::Draft(record), _) => {
                if self.is_kept(record.call_sid) {
                    return Written::Already;
                }
                self.known.insert(record.call_sid);
                self.live.remove(&record.call_sid);
                self.drafts.insert(record.call_sid, (**record).clone());
            }
            Change::Write(Writing::Final(record), _) => {
                let other = self.drafts.get(&record.call_sid).is_some_and(|draft| draft.id != record.id);
                if other || self.final_of(record.call_sid).is_some() {
                    return Written::Already;
                }
                self.known.insert(record.call_sid);
                self.live.remove(&record.call_sid);
                self.drafts.remove(&record.call_sid);
                self.next += 1;
                self.records.insert(Sequence(self.next), ((**record).clone(), State::Unsynced));
            }
            Change::Write(Writing::Synced { sequence, at, .. }, _) => {
                if let Some((_, state)) = self.records.get_mut(sequence) {
                    *state = State::Synced { at: *at };
                }
            }
            Change::Write(Writing::Parked { sequence, status, at, .. }, _) => {
                if let Some((_, state)) = self.records.get_mut(sequence) {
                    *state = State::Parked { status: *status, at: *at };
                }
            }
        }
        Written::Durable
    }
}

/// Something on its way to the disk.
#[derive(Debug, Clone)]
pub enum Change {
    PutLive(Box<JournalEntry>),
    Write(Writing, Option<Asker>),
}

/// What a webhook that waits for a record is to be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub request: RequestId,
    pub call_sid: CallSid,
    pub safe: bool,
}

/// The running box's part.
#[derive(Debug)]
pub struct Office {
    pub books: Books,
    made_by: BoxIdentity,
    /// In the order in which it will be done.
    queue: VecDeque<(Instant, Change)>,
    /// What the disk refused, in order.
    retried: VecDeque<Change>,
    retry_at: Option<Instant>,
    askers: BTreeMap<Asker, (CallSid, Vec<RequestId>)>,
    next_asker: u64,
}

impl Office {
    pub fn new(disk: &Disk, seed: u64, wall: Timestamp, now: Instant) -> Self {
        let options = OutboxOptions { retry_min: RETRY_MIN, retry_max: RETRY_MAX, seed };
        Self {
            books: Books::new(Some(options), disk.drafts(), Vec::new(), wall, now),
            made_by: BoxIdentity { id: "the box".into(), version: "0".into() },
            queue: VecDeque::new(),
            retried: VecDeque::new(),
            retry_at: None,
            askers: BTreeMap::new(),
            next_asker: 0,
        }
    }

    pub fn poll_timeout(&self) -> Option<Instant> {
        let books = self.books.poll_timeout().map(|(at, _)| at);
        let queue = self.queue.front().map(|(at, _)| *at);
        books.into_iter().chain(queue).chain(self.retry_at).min()
    }

    /// Nothing is under way to the disk.
    pub fn is_idle(&self) -> bool {
        self.queue.is_empty() && self.retried.is_empty() && self.books.awaiting_recording() == 0
    }

    /// A call ended: its record is made, and whoever waits for it is noted.
    pub fn keep(
        &mut self,
        ended: &EndedCall,
        request: Option<RequestId>,
        random: u128,
        wall: impl Fn(Instant) -> Timestamp,
    ) {
        let id = TranscriptId::new(wall(ended.ended_at), random);
        let record = Record::of_ended(id, ended, wall, &self.made_by, "he");
        self.next_asker += 1;
        let asker = Asker(self.next_asker);
        self.askers.insert(asker, (ended.call_sid, request.into_iter().collect()));
        self.books.handle_ended(Box::new(record), Some(asker));
    }

    /// A webhook is answered together with the record that is on its way. `false`: none is.
    pub fn join(&mut self, call_sid: CallSid, request: RequestId) -> bool {
        let found = self.askers.values_mut().find(|(call, _)| *call == call_sid);
        found.map(|(_, requests)| requests.push(request)).is_some()
    }

    /// A change will reach the disk in so long, but not before those that were given earlier. Returns when.
    pub fn write(&mut self, change: Change, takes: Duration, now: Instant) -> Instant {
        let earliest = self.queue.back().map_or(now, |(at, _)| (*at).max(now));
        let at = earliest + takes;
        self.queue.push_back((at, change));
        at
    }

    /// Does what is due at the disk; says which webhooks may be answered.
    pub fn handle_timeout(&mut self, disk: &mut Disk, refuses: bool, now: Instant) -> Vec<Told> {
        let mut told = Vec::new();
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = Some(now + REOPEN_AFTER);
            if !refuses {
                self.retry_at = None;
                self.retry(disk, now);
            }
        }
        while self.queue.front().is_some_and(|(at, _)| *at <= now) {
            let Some((_, change)) = self.queue.pop_front() else { break };
            if refuses || self.retry_at.is_some() {
                told.extend(self.put_off(change, now));
            } else {
                told.extend(self.done(change, disk, now));
            }
        }
        if self.books.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.books.handle_timeout(now);
        }
        told
    }

    /// Changes that are on their way to the disk.
    pub fn under_way(&self) -> usize {
        self.queue.len()
    }

    /// Whether the disk refused this call's record, and the store goes on trying.
    pub fn is_tried_again(&self, call_sid: CallSid) -> bool {
        self.retried.iter().any(|change| match change {
            Change::Write(Writing::Draft(record) | Writing::Final(record), _) => record.call_sid == call_sid,
            _ => false,
        })
    }

    /// The plug is pulled: so many of those that were on their way got there all the same.
    pub fn tear(&mut self, disk: &mut Disk, reached: usize) {
        if self.retry_at.is_none() {
            for (_, change) in self.queue.drain(..reached) {
                disk.apply(&change);
            }
        }
    }

    /// The box leaves in good order: what was given is brought to the disk, if it takes it.
    pub fn finish(&mut self, disk: &mut Disk, refuses: bool) -> Vec<Told> {
        let mut told = Vec::new();
        let changes: Vec<_> = self.retried.drain(..).chain(self.queue.drain(..).map(|(_, change)| change)).collect();
        for change in changes {
            if !refuses {
                disk.apply(&change);
            }
            if let Change::Write(_, asker) = change {
                told.extend(self.tell(asker, !refuses));
            }
        }
        told
    }

    fn done(&mut self, change: Change, disk: &mut Disk, now: Instant) -> Vec<Told> {
        let written = disk.apply(&change);
        let Change::Write(writing, asker) = change else { return Vec::new() };
        self.books.handle_written(writing, written, now);
        self.tell(asker, true)
    }

    /// What the disk refused is tried again by the store itself; only notes of the upstream's word are waited for.
    fn put_off(&mut self, change: Change, now: Instant) -> Vec<Told> {
        self.retry_at.get_or_insert(now + REOPEN_AFTER);
        match change {
            Change::PutLive(_) => Vec::new(),
            Change::Write(writing @ (Writing::Draft(_) | Writing::Final(_)), asker) => {
                self.retried.push_back(Change::Write(writing.clone(), None));
                self.books.handle_written(writing, Written::NotYet, now);
                self.tell(asker, false)
            }
            change => {
                self.retried.push_back(change);
                Vec::new()
            }
        }
    }

    fn retry(&mut self, disk: &mut Disk, now: Instant) {
        for change in std::mem::take(&mut self.retried) {
            let written = disk.apply(&change);
            if let Change::Write(writing @ (Writing::Synced { .. } | Writing::Parked { .. }), _) = change {
                self.books.handle_written(writing, written, now);
            }
        }
        self.books.handle_unsynced();
    }

    fn tell(&mut self, asker: Option<Asker>, safe: bool) -> Vec<Told> {
        let (call_sid, requests) = match asker.and_then(|asker| self.askers.remove(&asker)) {
            Some(asked) => asked,
            None => return Vec::new(),
        };
        requests.into_iter().map(|request| Told { request, call_sid, safe }).collect()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.books.poll_output()
    }

    pub fn loaded(&mut self, disk: &Disk, refuses: bool, now: Instant) {
        let next = match refuses || self.retry_at.is_some() {
            true => Next::Unavailable,
            false => Next::Found(disk.first_unsynced().map(Box::new)),
        };
        self.books.handle_loaded(next, now);
    }
}

/// The office's system.
#[derive(Debug, Default)]
pub struct Upstream {
    /// Each record that came, by its key, with how often, in the order of the first time.
    pub had: Vec<(TranscriptId, CallSid, u32)>,
    /// Those whose answer may not have reached the box.
    pub unanswered: BTreeSet<TranscriptId>,
}

impl Upstream {
    pub fn take(&mut self, record: &Record) {
        match self.had.iter_mut().find(|(id, _, _)| *id == record.id) {
            Some((_, _, times)) => *times += 1,
            None => self.had.push((record.id, record.call_sid, 1)),
        }
    }
}
