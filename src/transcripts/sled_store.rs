//! Records in sled, each change one atomic batch; durable by `flush` and an fsync of sled's file besides.
//!
//! sled's own `flush` calls `sync_file_range`, which leaves a drive's cache alone: of records that were acknowledged
//! after it alone, power cuts lost one in six. With `fsync` on a second handle to the same file they lost none.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sled::Batch;

use super::{
    journal::JournalEntry,
    record::{Record, TranscriptId},
    rows::{
        CallEntry, DRAFTS, LEDGER_KEY, LIVE, PARKED, Row, SYNCED, UNSYNCED, call_key, live_key, part_key, place,
        row_at, row_of, rows, rows_backwards,
    },
    store::{Counts, Kept, Known, Store, StoreError},
    stored::{Damage, FORM_VERSION, Sequence, State, Stored, encode},
};
use crate::{
    limits::{STORE_CACHE_BYTES, STORE_DELETIONS_AT_ONCE_MAX},
    twilio::sid::CallSid,
};

/// The folder below the store's directory that is sled's.
const FOLDER: &str = "records";
/// The file in it that holds all data (values are kept small enough never to get files of their own).
const DATA_FILE: &str = "db";
/// How often a store that is in use is tried before it counts as another process's,
const LOCK_TRIES_MAX: u32 = 20;
/// and the pause between.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// One place in the store: its record, or why the bytes there are none.
pub type Found = Result<Stored, Damage>;

/// Records in `<store>/records`.
pub struct SledStore {
    path: PathBuf,
    tree: sled::Db,
    /// A second handle to sled's data file, to fsync.
    data: File,
    ledger: Ledger,
}

/// What must be known without reading everything. It changes in the same batch as what it counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Ledger {
    next_sequence: Sequence,
    counts: Counts,
}

impl SledStore {
    /// Opens the store below `directory`, or makes it. Drafts, unsynced and parked records are all read once: damaged
    /// ones are set aside, and what the ledger knows and the tree has not is counted as missing.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let folder = directory.join(FOLDER);
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&folder)
            .map_err(|error| StoreError::Directory(directory.to_owned(), error))?;
        let mut store = Self::open_folder(directory)?;
        store.check()?;
        store.make_durable()?;
        // The names of new files stand in their directories, which are files of their own to the disk.
        for directory in [&folder, directory] {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(StoreError::Sync)?;
        }
        Ok(store)
    }

    /// Opens the store below `directory` as it is, to look at it; nothing is made, moved or counted anew.
    pub fn open_existing(directory: &Path) -> Result<Self, StoreError> {
        if !directory.join(FOLDER).join(DATA_FILE).is_file() {
            return Err(StoreError::Missing(directory.to_owned()));
        }
        Self::open_folder(directory)
    }

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

    fn open_folder(directory: &Path) -> Result<Self, StoreError> {
        let folder = directory.join(FOLDER);
        let config = sled::Config::new().path(&folder).cache_capacity(STORE_CACHE_BYTES).flush_every_ms(Some(500));
        let tree = open_patiently(&config, directory)?;
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .open(folder.join(DATA_FILE))
            .map_err(|error| StoreError::Directory(directory.to_owned(), error))?;
        let ledger = read_ledger(&tree, directory)?;
        Ok(Self { path: directory.to_owned(), tree, data, ledger })
    }

    /// Compares what is there with what the ledger says.
    fn check(&mut self) -> Result<(), StoreError> {
        let before = self.ledger.counts;
        let (drafts, first) = self.survey(DRAFTS)?;
        let (unsynced, second) = self.survey(UNSYNCED)?;
        let (parked, third) = self.survey(PARKED)?;
        let mut ledger = self.ledger;
        // A sequence that was given is never given again, even if the ledger was lost.
        let highest = [first, second, third, self.highest_synced()?].into_iter().flatten().max();
        ledger.next_sequence =
            ledger.next_sequence.max(highest.map_or(Sequence(1), |Sequence(n)| Sequence(n.saturating_add(1))));
        let counts = &mut ledger.counts;
        let damaged = self.ledger.counts.damaged - before.damaged;
        let known = before.awaiting_recording + before.unsynced + before.parked;
        counts.missing += known.saturating_sub(drafts + unsynced + parked + damaged);
        (counts.awaiting_recording, counts.unsynced, counts.parked) = (drafts, unsynced, parked);
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
        let entry = CallEntry { id: record.id, is_final: sequence.is_some(), sequence };
        batch.insert(call_key(&record.call_sid), entry.encode());
        batch.remove(live_key(&record.call_sid));
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

    fn commit(&mut self, mut batch: Batch, ledger: Ledger) -> Result<(), StoreError> {
        batch.insert(LEDGER_KEY, ledger.encode());
        self.tree.apply_batch(batch)?;
        self.ledger = ledger;
        Ok(())
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
        self.tree.insert(live_key(&entry.call_sid), entry.encode())?;
        Ok(Kept::New)
    }

    fn live(&mut self) -> Result<Vec<JournalEntry>, StoreError> {
        let mut live = Vec::new();
        for pair in self.tree.scan_prefix([LIVE]) {
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
        self.tree.flush()?;
        self.data.sync_all().map_err(StoreError::Sync)
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

impl Ledger {
    const EMPTY: Self = Self {
        next_sequence: Sequence(1),
        counts: Counts { awaiting_recording: 0, unsynced: 0, parked: 0, synced: 0, bytes: 0, damaged: 0, missing: 0 },
    };

    /// `version (1) | CRC-32 (4) | JSON`
    fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_vec(self).unwrap_or_default();
        [&[FORM_VERSION][..], &crc32fast::hash(&json).to_be_bytes(), &json].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (checksum, json) = bytes.get(1..)?.split_first_chunk::<4>()?;
        (crc32fast::hash(json) == u32::from_be_bytes(*checksum)).then(|| serde_json::from_slice(json).ok()).flatten()
    }
}

fn read_ledger(tree: &sled::Db, directory: &Path) -> Result<Ledger, StoreError> {
    let Some(bytes) = tree.get(LEDGER_KEY)? else { return recount(tree) };
    match bytes.first() {
        Some(&form) if form > FORM_VERSION => Err(StoreError::NewerVersion(directory.to_owned(), form)),
        _ => Ledger::decode(&bytes).map_or_else(|| recount(tree), Ok),
    }
}

/// A store that this process has just closed is held by sled's own threads for a moment longer: so one that is in use
/// is tried again for a little while before that is believed. Blocks the thread.
fn open_patiently(config: &sled::Config, directory: &Path) -> Result<sled::Db, StoreError> {
    let mut tries_left = LOCK_TRIES_MAX;
    loop {
        // Damaged files can make sled panic here; nothing of the unfinished store is used after that.
        let opened = match catch_unwind(AssertUnwindSafe(|| config.open())) {
            Ok(opened) => opened.map_err(|error| why_not_opened(directory, error)),
            Err(_) => Err(StoreError::Unreadable(directory.to_owned())),
        };
        tries_left -= 1;
        match opened {
            Err(StoreError::InUse(_)) if tries_left > 0 => thread::sleep(LOCK_PAUSE),
            opened => return opened,
        }
    }
}

/// Whether a process holds the store below `directory`, without opening it. sled holds a lock on its data file.
pub fn is_in_use(directory: &Path) -> io::Result<bool> {
    match File::open(directory.join(FOLDER).join(DATA_FILE)) {
        Ok(data) => Ok(matches!(data.try_lock_shared(), Err(TryLockError::WouldBlock))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// A ledger for a store that is new or has lost its own. The other states are counted anew by every opening.
fn recount(tree: &sled::Db) -> Result<Ledger, StoreError> {
    let mut ledger = Ledger::EMPTY;
    for letter in [SYNCED, UNSYNCED, PARKED, DRAFTS] {
        for row in rows(tree, letter) {
            ledger.counts.bytes += row?.bytes();
            ledger.counts.synced += u64::from(letter == SYNCED);
        }
    }
    Ok(ledger)
}

fn why_not_opened(directory: &Path, error: sled::Error) -> StoreError {
    match error {
        // sled has no kind of its own for this.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            StoreError::InUse(directory.to_owned())
        }
        sled::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::PermissionDenied | io::ErrorKind::NotADirectory | io::ErrorKind::ReadOnlyFilesystem
            ) =>
        {
            StoreError::Directory(directory.to_owned(), error)
        }
        sled::Error::Corruption { .. } | sled::Error::ReportableBug(_) => StoreError::Unreadable(directory.to_owned()),
        error => StoreError::Engine(error),
    }
}

/// Gives files in the store that this process made back to the directory's owner: root may look at a store, and
/// the service that runs as somebody else must still be able to open it.
pub(super) fn give_back_to_owner(directory: &Path) -> io::Result<()> {
    use std::os::unix::fs::{MetadataExt, chown};

    let owner = fs::metadata(directory)?;
    for entry in fs::read_dir(directory.join(FOLDER))? {
        let entry = entry?;
        if entry.metadata()?.uid() != owner.uid() {
            chown(entry.path(), Some(owner.uid()), Some(owner.gid()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcripts::record::samples::record;

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

    #[test]
    fn records_that_vanished_are_counted_and_their_numbers_not_given_again() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(directory.path()).unwrap();
        for number in 1..=3 {
            store.put_final(&record(number)).unwrap();
        }
        drop(store);
        let tree = SledStore::open_existing(directory.path()).unwrap().tree;
        tree.remove(part_key(&place(Some(Sequence(3)), State::Unsynced, record(3).id), 0)).unwrap();
        drop(tree);

        let mut store = SledStore::open(directory.path()).unwrap();
        assert_eq!((store.counts().unsynced, store.counts().missing), (2, 1));
        store.put_final(&record(4)).unwrap();
        assert_eq!(store.recent(1).unwrap()[0].sequence, Some(Sequence(4)));
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
        let before = store.ledger;
        store.tree.insert(LEDGER_KEY, b"\x01nonsense").unwrap();
        drop(store);
        assert_eq!(SledStore::open(directory.path()).unwrap().ledger, before);
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
        std::fs::write(&file, b"").unwrap();
        assert!(matches!(SledStore::open(&file), Err(StoreError::Directory(..))));
        assert!(matches!(SledStore::open_existing(directory.path()), Err(StoreError::Missing(_))));
    }
}
