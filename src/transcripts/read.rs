//! Looking at the records of a gateway that is stopped, without changing them.

use std::path::{Path, PathBuf};

use super::{
    sled_store::{Found, SledStore, give_back_to_owner, guarded},
    store::StoreError,
    stored::{Damage, Stored},
};

/// All stored records: final ones in the order of sending, then the drafts. A record that is damaged comes as `Err` in
/// its place; when the engine itself fails, the rest is missing and the last item says so.
pub fn read(directory: &Path) -> Result<Records, StoreError> {
    let store = SledStore::open_existing(directory)?;
    Ok(Records { records: Some(Box::new(store.all())), store: Some(store), directory: directory.to_owned() })
}

/// The records of one store; it stays locked until this is dropped.
pub struct Records {
    records: Option<Box<dyn Iterator<Item = Result<Found, StoreError>>>>,
    store: Option<SledStore>,
    directory: PathBuf,
}

/// Why one record cannot be shown.
#[derive(Debug)]
pub enum ReadError {
    Damaged(Damage),
    Store(StoreError),
}

impl Iterator for Records {
    type Item = Result<Stored, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        let records = self.records.as_mut()?;
        // Damaged files can make the engine panic.
        let next = guarded(&self.directory, || Ok(records.next())).unwrap_or_else(|error| Some(Err(error)));
        match next? {
            Ok(record) => Some(record.map_err(ReadError::Damaged)),
            Err(error) => {
                self.records = None;
                Some(Err(ReadError::Store(error)))
            }
        }
    }
}

impl Drop for Records {
    fn drop(&mut self) {
        // Closed first: the engine may write a file even when it was only asked to read.
        self.records = None;
        self.store = None;
        if let Err(error) = give_back_to_owner(&self.directory) {
            tracing::warn!(%error, "files of the store may belong to the wrong user now");
        }
    }
}

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Damaged(_) => "a record is damaged",
            Self::Store(_) => "the store cannot be read any further",
        })
    }
}

impl std::error::Error for ReadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Damaged(damage) => Some(damage),
            Self::Store(error) => Some(error),
        }
    }
}
