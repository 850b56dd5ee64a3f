//! Records in sled, each change one atomic batch; durable by `flush` and an fsync of sled's file besides.
//!
//! sled's own `flush` calls `sync_file_range`, which leaves a drive's cache alone: of records that were acknowledged
//! after it alone, power cuts lost one in six. With `fsync` on a second handle to the same file they lost none.
//!
//! In the store's directory: `records` (sled's), `records.mark` (`ledger`), `ballast`, and `records.damaged-*`
//! (`quarantine`).

use std::{fs::File, path::PathBuf};

use jiff::Timestamp;
use sled::{Batch, IVec};

use self::ledger::{Ledger, read_mark, write_mark};
use super::{
    journal::JournalEntry,
    record::{Record, TranscriptId},
    rows::{
        CallEntry, DRAFTS, LEDGER_KEY, LIVE, OLD_LEDGER_KEY, OLD_LIVE, PARKED, Row, SYNCED, UNSYNCED, call_key,
        live_key, part_key, place, row_at, row_of, rows, rows_backwards,
    },
    store::{Counts, Kept, Known, Store, StoreError, Surroundings},
    stored::{Damage, Sequence, State, Stored, encode},
};
use crate::{
    calls::canary::{Canary, sings},
    limits::{STORE_DELETIONS_AT_ONCE_MAX, STORE_SURVEY_BYTES_MAX},
    twilio::sid::CallSid,
};

mod ballast;
mod ledger;
mod opening;
mod quarantine;
mod salvage;
#[cfg(test)]
mod tests;

pub use opening::{Openings, is_in_use};
pub(super) use opening::{give_back_to_owner, guarded};
pub use quarantine::quarantined;

/// The folder below the store's directory that is sled's.
const FOLDER: &str = "records";
/// The file in it that holds all data (values are kept small enough never to get files of their own).
const DATA_FILE: &str = "db";

/// One place in the store: its record, or why the bytes there are none.
pub type Found = Result<Stored, Damage>;

/// Records in `<store>/records`.
pub struct SledStore {
    path: PathBuf,
    tree: sled::Db,
    /// A second handle to sled's data file, to fsync.
    data: File,
    ledger: Ledger,
    /// The mark cannot be written, and that was told.
    mark_fails: bool,
}

impl SledStore {
    /// All records, final ones in their order and then the drafts. What is damaged comes as `Err` in its place.
    pub fn all(&self) -> impl Iterator<Item = Result<Found, StoreError>> + use<> {
        let by_sequence = |letter| rows(&self.tree, letter).map(|row| row.map(|row| row.read())).peekable();
        let mut states = [UNSYNCED, PARKED, SYNCED].map(by_sequence);
        let drafts = rows(&self.tree, DRAFTS).map(|row| row.map(|row| row.read()));
        let finals = std::iter::from_fn(move || {
            // What cannot be read has no place in the order: it comes at once.
            let earliest = states
                .iter_mut()
                .filter_map(|rows| {
                    let sequence = match rows.peek()? {
                        Ok(Ok(stored)) => stored.sequence,
                        _ => None,
                    };
                    Some((sequence, rows))
                })
                .min_by_key(|(sequence, _)| *sequence);
            earliest.and_then(|(_, rows)| rows.next())
        });
        finals.chain(drafts)
    }

    /// Compares what is there with what the ledger and the mark say. `Err` with damage: something has vanished.
    fn check(&mut self) -> Result<(), StoreError> {
        let before = self.ledger.counts;
        let (drafts, first) = self.survey(DRAFTS)?;
        let (unsynced, second) = self.survey(UNSYNCED)?;
        let (parked, third) = self.survey(PARKED)?;
        // What was handed over is counted too, unless that takes long.
        let synced = match before.bytes {
            ..=STORE_SURVEY_BYTES_MAX => self.survey(SYNCED)?.0,
            _ => before.synced,
        };
        let damaged = self.ledger.counts.damaged - before.damaged;
        let went_back = read_mark(&self.path).is_some_and(|mark| mark.is_ahead_of(&self.ledger));
        if before.stored() > drafts + unsynced + parked + synced + damaged || went_back {
            return Err(StoreError::Unreadable(self.path.clone()));
        }
        let mut ledger = self.ledger;
        // A sequence that was given is never given again, even if the ledger was lost.
        let highest = [first, second, third, self.highest_synced()?].into_iter().flatten().max();
        ledger.next_sequence =
            ledger.next_sequence.max(highest.map_or(Sequence(1), |Sequence(n)| Sequence(n.saturating_add(1))));
        let counts = &mut ledger.counts;
        (counts.awaiting_recording, counts.unsynced, counts.parked, counts.synced) = (drafts, unsynced, parked, synced);
        ledger.kept = ledger.kept.max(ledger.counts.stored());
        if ledger == self.ledger { Ok(()) } else { self.commit(Batch::default(), ledger) }
    }

    /// How many sound rows a state has, and the highest sequence among them; damaged rows are set aside.
    fn survey(&mut self, letter: u8) -> Result<(u64, Option<Sequence>), StoreError> {
        let (mut count, mut highest) = (0, None);
        for row in rows(&self.tree, letter) {
            if let Some(stored) = self.sound(row?)? {
                count += 1;
                highest = stored.sequence;
            }
        }
        Ok((count, highest))
    }

    fn highest_synced(&self) -> Result<Option<Sequence>, StoreError> {
        let last = rows_backwards(&self.tree, SYNCED).next().transpose()?;
        Ok(last.and_then(|row| row.read().ok()).and_then(|stored| stored.sequence))
    }

    /// The row's record; a damaged row is set aside and gives `None`. A newer kolbox's record is no damage: we stop.
    fn sound(&mut self, row: Row) -> Result<Option<Stored>, StoreError> {
        match row.read() {
            Ok(stored) => Ok(Some(stored)),
            Err(Damage::NewerVersion(form)) => Err(StoreError::NewerVersion(self.path.clone(), form)),
            Err(damage) => {
                tracing::error!(%damage, "a stored record is damaged and was set aside");
                let mut batch = Batch::default();
                row.keys().for_each(|key| batch.remove(key));
                row.set_aside().for_each(|(key, value)| batch.insert(key, value));
                let mut ledger = self.ledger;
                ledger.counts.damaged += 1;
                // Its state is the letter that it lay under, whatever its bytes say.
                let count = match row.keys().next().and_then(|key| key.first().copied()) {
                    Some(DRAFTS) => &mut ledger.counts.awaiting_recording,
                    Some(UNSYNCED) => &mut ledger.counts.unsynced,
                    Some(PARKED) => &mut ledger.counts.parked,
                    _ => &mut ledger.counts.synced,
                };
                *count = count.saturating_sub(1);
                self.commit(batch, ledger)?;
                Ok(None)
            }
        }
    }

    fn call_entry(&self, call_sid: &CallSid) -> Result<Option<CallEntry>, StoreError> {
        Ok(self.tree.get(call_key(call_sid))?.and_then(|bytes| CallEntry::decode(&bytes)))
    }

    /// Takes a record from where it lies (nowhere: new) to another state, in one batch with the ledger.
    fn move_to(
        &mut self,
        from: Option<&Stored>,
        sequence: Option<Sequence>,
        state: State,
        record: &Record,
    ) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let mut ledger = self.ledger;
        if let Some(from) = from {
            let row = row_at(&self.tree, &place(from.sequence, from.state, record.id))?;
            row.keys().for_each(|key| batch.remove(key));
            ledger.counts.take(from.state, row.bytes());
        }
        let place = place(sequence, state, record.id);
        let mut bytes = 0;
        for (part, value) in encode(sequence, state, record)?.into_iter().enumerate() {
            let key = part_key(&place, part);
            bytes += (key.len() + value.len()) as u64;
            batch.insert(key, value);
        }
        ledger.counts.add(state, bytes);
        ledger.kept += u64::from(from.is_none());
        // What is there already is not written again, nor what is not there removed: to sled both are changes.
        let entry = CallEntry { id: record.id, is_final: sequence.is_some(), sequence };
        if self.call_entry(&record.call_sid)? != Some(entry) {
            batch.insert(call_key(&record.call_sid), entry.encode());
        }
        let live_key = live_key(&record.call_sid);
        if self.tree.contains_key(&live_key)? {
            batch.remove(live_key);
        }
        if let Some(sequence) = sequence {
            ledger.next_sequence = ledger.next_sequence.max(Sequence(sequence.0.saturating_add(1)));
        }
        self.commit(batch, ledger)
    }

    fn unsynced_at(&mut self, sequence: Sequence) -> Result<Option<Stored>, StoreError> {
        // The id is no part of a final record's place.
        let nobody = TranscriptId::from_bytes([0; 16]);
        let row = row_at(&self.tree, &place(Some(sequence), State::Unsynced, nobody))?;
        if row.keys().next().is_none() { Ok(None) } else { self.sound(row) }
    }

    fn commit(&mut self, mut batch: Batch, mut ledger: Ledger) -> Result<(), StoreError> {
        ledger.changes += 1;
        batch.insert(LEDGER_KEY, ledger.encode());
        self.tree.apply_batch(batch)?;
        self.ledger = ledger;
        Ok(())
    }

    /// The journal, wherever it lies, under the keys that it has now.
    fn live_entries(&self) -> impl Iterator<Item = Result<(IVec, IVec), StoreError>> + use<> {
        let entries = [OLD_LIVE, LIVE].map(|letter| self.tree.scan_prefix([letter]));
        entries.into_iter().flatten().map(|pair| {
            let (mut key, value) = pair?;
            key[0] = LIVE;
            Ok((key, value))
        })
    }

    /// Takes the ledger and the journal from where they were once to where they are now, in one batch.
    fn move_old_rows(&mut self) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        let old_ledger = self.tree.contains_key(OLD_LEDGER_KEY)?;
        if old_ledger {
            batch.remove(OLD_LEDGER_KEY);
        }
        let mut moved = usize::from(old_ledger);
        for pair in self.tree.scan_prefix([OLD_LIVE]) {
            let (key, value) = pair?;
            let mut new_key = key.clone();
            new_key[0] = LIVE;
            batch.remove(key);
            batch.insert(new_key, value);
            moved += 1;
        }
        if moved > 0 { self.commit(batch, self.ledger) } else { Ok(()) }
    }

    /// Takes a live call's entry over as it stood in another store.
    fn adopt_live(&mut self, (key, value): &(IVec, IVec)) -> Result<(), StoreError> {
        self.tree.insert(key, value)?;
        Ok(())
    }

    /// All of it but the mark, which speaks for the store that has its name.
    fn make_data_durable(&mut self) -> Result<(), StoreError> {
        self.tree.flush()?;
        if sings(Canary::SyncLeftOut) {
            return Ok(());
        }
        self.data.sync_all().map_err(StoreError::Sync)
    }
}

impl Store for SledStore {
    fn put_draft(&mut self, record: &Record) -> Result<Kept, StoreError> {
        if self.call_entry(&record.call_sid)?.is_some() {
            return Ok(Kept::Already);
        }
        self.move_to(None, None, State::AwaitingRecording, record)?;
        Ok(Kept::New)
    }

    fn put_final(&mut self, record: &Record) -> Result<Kept, StoreError> {
        let entry = self.call_entry(&record.call_sid)?;
        if entry.is_some_and(|entry| entry.is_final || entry.id != record.id) {
            return Ok(Kept::Already);
        }
        let draft = Stored { sequence: None, state: State::AwaitingRecording, record: record.clone() };
        let from = entry.map(|_| &draft);
        self.move_to(from, Some(self.ledger.next_sequence), State::Unsynced, record)?;
        Ok(Kept::New)
    }

    fn mark_synced(&mut self, sequence: Sequence, at: Timestamp) -> Result<(), StoreError> {
        match self.unsynced_at(sequence)? {
            Some(stored) => self.move_to(Some(&stored), Some(sequence), State::Synced { at }, &stored.record),
            None => Ok(()),
        }
    }

    fn park(&mut self, sequence: Sequence, status: u16, at: Timestamp) -> Result<(), StoreError> {
        match self.unsynced_at(sequence)? {
            Some(stored) => self.move_to(Some(&stored), Some(sequence), State::Parked { status, at }, &stored.record),
            None => Ok(()),
        }
    }

    fn unpark(&mut self, id: TranscriptId) -> Result<bool, StoreError> {
        for row in rows(&self.tree, PARKED) {
            if let Some(stored) = self.sound(row?)?.filter(|stored| stored.record.id == id) {
                self.move_to(Some(&stored), stored.sequence, State::Unsynced, &stored.record)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn make_room(&mut self, bytes_max: u64, synced_before: Timestamp) -> Result<usize, StoreError> {
        let mut deleted = 0;
        for row in rows(&self.tree, SYNCED).take(STORE_DELETIONS_AT_ONCE_MAX) {
            let row = row?;
            let bytes = row.bytes();
            let keys: Vec<_> = row.keys().cloned().collect();
            let Some(stored) = self.sound(row)? else { continue };
            let is_old = matches!(stored.state, State::Synced { at } if at < synced_before);
            if !is_old && self.ledger.counts.bytes <= bytes_max {
                break;
            }
            let mut batch = Batch::default();
            keys.into_iter().for_each(|key| batch.remove(key));
            batch.remove(call_key(&stored.record.call_sid));
            let mut ledger = self.ledger;
            ledger.counts.take(stored.state, bytes);
            self.commit(batch, ledger)?;
            deleted += 1;
        }
        Ok(deleted)
    }

    fn put_live(&mut self, entry: &JournalEntry) -> Result<Kept, StoreError> {
        if self.call_entry(&entry.call_sid)?.is_some() {
            return Ok(Kept::Already);
        }
        let mut batch = Batch::default();
        batch.insert(live_key(&entry.call_sid), entry.encode());
        self.commit(batch, self.ledger)?;
        Ok(Kept::New)
    }

    fn live(&mut self) -> Result<Vec<JournalEntry>, StoreError> {
        let mut live = Vec::new();
        for pair in self.live_entries() {
            let (key, value) = pair?;
            match JournalEntry::decode(&value) {
                Some(entry) => live.push(entry),
                None => {
                    tracing::error!("an entry of the journal of live calls is damaged");
                    self.tree.remove(key)?;
                }
            }
        }
        Ok(live)
    }

    fn make_durable(&mut self) -> Result<(), StoreError> {
        self.make_data_durable()?;
        // Without its mark a store is as durable as with it; only what damages it later is noticed less well.
        if let Err(error) = write_mark(&self.path, &self.ledger)
            && !std::mem::replace(&mut self.mark_fails, true)
        {
            tracing::warn!(%error, "the store's mark cannot be written");
        }
        Ok(())
    }

    fn drafts(&mut self) -> Result<Vec<Stored>, StoreError> {
        let mut drafts = Vec::new();
        for row in rows(&self.tree, DRAFTS) {
            drafts.extend(self.sound(row?)?);
        }
        Ok(drafts)
    }

    fn first_unsynced(&mut self) -> Result<Option<Stored>, StoreError> {
        for row in rows(&self.tree, UNSYNCED) {
            if let Some(stored) = self.sound(row?)? {
                return Ok(Some(stored));
            }
        }
        Ok(None)
    }

    fn recent(&mut self, count: usize) -> Result<Vec<Stored>, StoreError> {
        let mut recent = Vec::new();
        for letter in [UNSYNCED, PARKED, SYNCED] {
            for row in rows_backwards(&self.tree, letter).take(count) {
                recent.extend(self.sound(row?)?);
            }
        }
        recent.sort_by_key(|stored: &Stored| std::cmp::Reverse(stored.sequence));
        let mut last = 0;
        recent.retain(|stored| {
            last += 1;
            last <= count || matches!(stored.state, State::Parked { .. })
        });
        Ok(recent)
    }

    fn find(&mut self, call_sid: CallSid) -> Result<Known, StoreError> {
        let Some(entry) = self.call_entry(&call_sid)? else {
            return Ok(if self.tree.contains_key(live_key(&call_sid))? { Known::Live } else { Known::Nothing });
        };
        let Some(row) = row_of(&self.tree, entry)? else { return Ok(Known::Unfindable) };
        Ok(self.sound(row)?.map_or(Known::Unfindable, |stored| Known::Record(Box::new(stored))))
    }

    fn surroundings(&mut self) -> Surroundings {
        let none = Surroundings::default();
        Surroundings {
            // A disk that does not say how full it is says so when it is written to.
            has_room: ballast::has_room(&self.path).unwrap_or(none.has_room),
            quarantined: quarantine::quarantined(&self.path).map_or(none.quarantined, |found| found.len()),
        }
    }

    fn counts(&self) -> Counts {
        self.ledger.counts
    }
}

impl Counts {
    fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::AwaitingRecording => &mut self.awaiting_recording,
            State::Unsynced => &mut self.unsynced,
            State::Parked { .. } => &mut self.parked,
            State::Synced { .. } => &mut self.synced,
        }
    }

    pub(super) fn add(&mut self, state: State, bytes: u64) {
        *self.of(state) += 1;
        self.bytes += bytes;
    }

    pub(super) fn take(&mut self, state: State, bytes: u64) {
        let count = self.of(state);
        *count = count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}
