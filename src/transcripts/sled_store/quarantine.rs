//! A damaged store is made anew from what can be read of it, beside the old one; then they change places, and the old one
//! stays in quarantine for whoever wants to look.
//!
//! What can be read: the rows that sled still gives, if it opens, then what stands in the bytes of its file, and what stood
//! there before sled was let at it. The
//! new store begins its numbers far above the old one's, so that none is given twice.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use jiff::{Timestamp, tz::TimeZone};

use super::{
    DATA_FILE, FOLDER, SledStore, ballast,
    ledger::{Ledger, read_mark},
    opening::{guarded, unusable},
    salvage::{Salvage, records_among},
};
use crate::{
    limits::{STORE_QUARANTINES_MAX, STORE_SEQUENCE_LEAP},
    transcripts::{
        store::StoreError,
        stored::{Sequence, State, Stored},
    },
};

/// The folder of a store that is being made; whole only once it has the other's name.
const NEW_FOLDER: &str = "records.new";
/// What the folder of a damaged store is called, before the time when it was found so.
const QUARANTINE: &str = "records.damaged-";
/// That time in a name that sorts.
const TIME: &str = "%Y%m%dT%H%M%S.%3fZ";

/// Makes the store below `directory` anew. On a full disk the ballast is given up for it; where even that is not enough
/// the damaged store stays where it is, and this can be tried again.
/// `last_segments`: what stood in the end of its log before sled opened it.
pub(super) fn rebuild(directory: &Path, last_segments: &[u8]) -> Result<SledStore, StoreError> {
    let remade = remake(directory, last_segments);
    let remade = match remade {
        Err(error) if error.is_disk_full() && ballast::release(directory) => remake(directory, last_segments),
        remade => remade,
    };
    // Never the cause of another rebuilding: that would not end.
    remade.map_err(|error| match error {
        StoreError::Unreadable(path) => StoreError::Directory(path, io::ErrorKind::InvalidData.into()),
        error => error,
    })
}

fn remake(directory: &Path, last_segments: &[u8]) -> Result<SledStore, StoreError> {
    let fresh = directory.join(NEW_FOLDER);
    let io = |error| unusable(directory, error);
    remove_folder(&fresh).map_err(io)?;
    let made = fill(directory, last_segments);
    if made.is_err() {
        // What it took of a full disk is needed.
        let _ = remove_folder(&fresh);
    }
    made?;
    let folder = directory.join(quarantine_name());
    fs::rename(directory.join(FOLDER), &folder).map_err(io)?;
    finish(directory).map_err(io)?;
    trim(directory).map_err(io)?;
    let mut store = SledStore::open_folder(directory, FOLDER)?;
    guarded(directory, || store.settle(FOLDER))?;
    tracing::error!(
        quarantine = %folder.display(),
        records = store.ledger.counts.stored(),
        missing = store.ledger.counts.missing,
        "the store was damaged; what could be read of it goes on, and the damaged one was set aside"
    );
    Ok(store)
}

/// Makes the new store and brings it to the disk.
fn fill(directory: &Path, last_segments: &[u8]) -> Result<(), StoreError> {
    let mut fresh = SledStore::open_folder(directory, NEW_FOLDER)?;
    let known = rescue(directory, &mut fresh, last_segments)?;
    guarded(directory, || {
        let mut ledger = fresh.ledger;
        let Sequence(next) = ledger.next_sequence.max(known.next_sequence);
        ledger.next_sequence = Sequence(next.saturating_add(STORE_SEQUENCE_LEAP));
        ledger.kept = ledger.kept.max(known.kept);
        ledger.changes = ledger.changes.max(known.changes);
        let lost = known.counts.stored().saturating_sub(ledger.counts.stored());
        ledger.counts.damaged = known.counts.damaged;
        ledger.counts.missing = known.counts.missing + lost;
        fresh.commit(sled::Batch::default(), ledger)?;
        fresh.make_data_durable()?;
        File::open(directory.join(NEW_FOLDER)).and_then(|folder| folder.sync_all()).map_err(StoreError::Sync)
    })
}

/// Takes over what can be read; returns the last that was known of the damaged store.
fn rescue(directory: &Path, fresh: &mut SledStore, last_segments: &[u8]) -> Result<Ledger, StoreError> {
    let mut known = read_mark(directory).unwrap_or(Ledger::EMPTY);
    let mut stopped = Ok(());
    match SledStore::open_folder(directory, FOLDER) {
        Ok(old) => {
            if !known.is_ahead_of(&old.ledger) {
                known = old.ledger;
            }
            let read = guarded(directory, || {
                for found in old.all() {
                    if let Ok(stored) = found? {
                        stopped = fresh.adopt(&stored);
                        if stopped.is_err() {
                            break;
                        }
                    }
                }
                for entry in old.live_entries() {
                    fresh.adopt_live(&entry?)?;
                }
                Ok(())
            });
            if let Err(error) = read {
                tracing::warn!(%error, "sled does not give all of the damaged store");
            }
            // Closing it may fail in the same way.
            let _ = guarded(directory, || {
                drop(old);
                Ok(())
            });
        }
        Err(error @ (StoreError::InUse(_) | StoreError::NewerVersion(..))) => return Err(error),
        Err(error) => tracing::warn!(%error, "sled does not open the damaged store"),
    }
    stopped?;
    match Salvage::of(&directory.join(FOLDER).join(DATA_FILE)) {
        Ok(salvage) => guarded(directory, || salvage.records().try_for_each(|stored| fresh.adopt(&stored)))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, "the damaged store's file cannot be read to its end"),
    }
    guarded(directory, || records_among(last_segments).try_for_each(|stored| fresh.adopt(&stored)))?;
    Ok(known)
}

impl SledStore {
    /// Takes a record over as it stood in another store, unless its call has one already; a final one takes the place of
    /// its draft.
    fn adopt(&mut self, stored: &Stored) -> Result<(), StoreError> {
        match self.call_entry(&stored.record.call_sid)? {
            None => self.move_to(None, stored.sequence, stored.state, &stored.record),
            Some(entry) if !entry.is_final && entry.id == stored.record.id && stored.sequence.is_some() => {
                let draft = Stored { sequence: None, state: State::AwaitingRecording, record: stored.record.clone() };
                self.move_to(Some(&draft), stored.sequence, stored.state, &stored.record)
            }
            Some(_) => Ok(()),
        }
    }
}

/// Puts the new store in the place of the old one where that has gone; one that is not whole is removed.
pub(super) fn finish(directory: &Path) -> io::Result<()> {
    let (folder, fresh) = (directory.join(FOLDER), directory.join(NEW_FOLDER));
    if !fresh.try_exists()? {
        return Ok(());
    }
    if folder.try_exists()? {
        return remove_folder(&fresh);
    }
    fs::rename(&fresh, &folder)?;
    File::open(directory)?.sync_all()
}

/// The damaged stores that were set aside below `directory`, the oldest first.
pub fn quarantined(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_name().as_encoded_bytes().starts_with(QUARANTINE.as_bytes()) {
            found.push(entry.path());
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Only so many are kept: they are as large as a store.
fn trim(directory: &Path) -> io::Result<()> {
    let found = quarantined(directory)?;
    for oldest in &found[..found.len().saturating_sub(STORE_QUARANTINES_MAX)] {
        tracing::warn!(quarantine = %oldest.display(), "the oldest damaged store was removed: too many are kept");
        remove_folder(oldest)?;
    }
    Ok(())
}

fn quarantine_name() -> String {
    format!("{QUARANTINE}{}", Timestamp::now().to_zoned(TimeZone::UTC).strftime(TIME))
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}
