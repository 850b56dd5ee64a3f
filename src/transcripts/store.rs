//! What a store of records must do, whatever engine is below: kept, ordered, counted, and durable when it says so.

use std::{fmt, io, path::PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{
    journal::JournalEntry,
    record::{Record, TranscriptId},
    stored::{Sequence, Stored, TooLong},
};
use crate::twilio::sid::CallSid;

/// A store of records, written by one thread.
///
/// Every change is atomic: after a crash it is there whole or not at all. **No change counts before
/// [`Self::make_durable`] has returned `Ok`**; many changes may share one such call. After any error the store is to be
/// dropped and opened again: what it then holds is what was durable, and perhaps some of what came after.
/// Every change may be made again without harm, so that one whose fate is unknown is simply repeated.
pub trait Store: Send {
    /// Keeps a draft, unless its call has a record already.
    fn put_draft(&mut self, record: &Record) -> Result<Kept, StoreError>;

    /// Keeps a final record as the next in the order, in place of its draft if there is one; unless its call has
    /// another record, or this one is final already.
    fn put_final(&mut self, record: &Record) -> Result<Kept, StoreError>;

    /// Notes that the upstream has acknowledged it. Nothing happens if it is not unsynced.
    fn mark_synced(&mut self, sequence: Sequence, at: Timestamp) -> Result<(), StoreError>;

    /// Takes it out of the queue, since the upstream refused it with this HTTP status. Nothing happens if it is not unsynced.
    fn park(&mut self, sequence: Sequence, status: u16, at: Timestamp) -> Result<(), StoreError>;

    /// Puts a parked record back in the queue, at its old place. `false`: no such record is parked.
    fn unpark(&mut self, id: TranscriptId) -> Result<bool, StoreError>;

    /// Deletes the oldest synced records while all together are larger than `bytes_max`, and those that were synced
    /// before `synced_before`; some at a time. Never anything else. Returns how many went.
    fn make_room(&mut self, bytes_max: u64, synced_before: Timestamp) -> Result<usize, StoreError>;

    /// Notes a live call, in place of what was noted of it before; unless it has its record already. A call's record,
    /// draft or final, takes it out again in the same change.
    fn put_live(&mut self, entry: &JournalEntry) -> Result<Kept, StoreError>;

    /// The live calls that have no record; damaged entries are left out.
    fn live(&mut self) -> Result<Vec<JournalEntry>, StoreError>;

    /// All changes so far would survive pulling the plug when this returns `Ok`.
    fn make_durable(&mut self) -> Result<(), StoreError>;

    /// The drafts, the oldest id first.
    fn drafts(&mut self) -> Result<Vec<Stored>, StoreError>;

    /// The next record to send.
    fn first_unsynced(&mut self) -> Result<Option<Stored>, StoreError>;

    /// The last final records, so many in all, and the last parked ones, so many of them; the newest first.
    fn recent(&mut self, count: usize) -> Result<Vec<Stored>, StoreError>;

    /// What is known of a call.
    fn find(&mut self, call_sid: CallSid) -> Result<Known, StoreError>;

    /// How many there are of each kind. Costs nothing.
    fn counts(&self) -> Counts;

    /// How it is around the store. Looks at the disk, and may make room on it for worse times.
    fn surroundings(&mut self) -> Surroundings {
        Surroundings::default()
    }
}

/// Whether a record was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    New,
    /// The call has its one record already.
    Already,
}

/// What a store knows of a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// Nothing; or it had a record that was synced so long ago that it is gone.
    Nothing,
    /// It stands in the journal: it lives, or its record is on its way.
    Live,
    /// Its one record.
    Record(Box<Stored>),
    /// It has a final record that cannot be found by its call: the entry is of the first form, or the record is damaged.
    Unfindable,
}

/// How it is around a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Surroundings {
    /// The disk has room for what calls bring. Without it the store goes on handing over what it holds.
    pub has_room: bool,
    /// Damaged stores that were set aside and wait for somebody to look at them.
    pub quarantined: usize,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self { has_room: true, quarantined: 0 }
    }
}

/// What a store holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Counts {
    /// Drafts that wait for their recording.
    pub awaiting_recording: u64,
    pub unsynced: u64,
    pub parked: u64,
    pub synced: u64,
    /// All of the above as they are stored; what the engine needs besides is not in it.
    pub bytes: u64,
    /// Records that were found damaged, since the store was made; they are set aside, never sent.
    pub damaged: u64,
    /// Records that were gone without trace when the store was opened, since the store was made.
    pub missing: u64,
}

impl Counts {
    /// Records of every kind.
    pub fn stored(&self) -> u64 {
        self.awaiting_recording + self.unsynced + self.parked + self.synced
    }
}

/// Why the store cannot do what was asked.
#[derive(Debug)]
pub enum StoreError {
    /// There is no store in this directory.
    Missing(PathBuf),
    /// Another process has it open.
    InUse(PathBuf),
    /// The directory cannot be made, entered, written or synced: somebody else's, read-only, on a full disk.
    Directory(PathBuf, io::Error),
    /// A newer kolbox wrote it, in this form.
    NewerVersion(PathBuf, u8),
    /// The files are damaged so badly that the engine gave up.
    Unreadable(PathBuf),
    /// The engine refused: most often the disk is full or broken.
    Engine(sled::Error),
    /// The last step to the disk failed.
    Sync(io::Error),
    /// The record is larger than any record may be.
    TooLong(TooLong),
    /// It is full of records that the upstream has not taken, its reserve too.
    Full,
    /// It is still being opened.
    Opening,
}

impl StoreError {
    /// Whether opening the store anew and trying again may help.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::NewerVersion(..) | Self::TooLong(_))
    }

    /// Whether the disk has no room.
    pub fn is_disk_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};

        self.io_kind().is_some_and(|kind| matches!(kind, StorageFull | QuotaExceeded))
    }

    /// Whether the directory may not be written to, by anybody or by this user.
    pub fn is_not_writable(&self) -> bool {
        use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};

        self.io_kind().is_some_and(|kind| matches!(kind, NotADirectory | PermissionDenied | ReadOnlyFilesystem))
    }

    /// Whether the engine found bytes that it did not write.
    pub fn is_damage(&self) -> bool {
        match self {
            Self::Unreadable(_) => true,
            // The engine has no kind of its own for a checksum that does not fit; what a disk says has other kinds.
            Self::Engine(sled::Error::Io(error)) => {
                matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof | io::ErrorKind::Other)
            }
            Self::Engine(sled::Error::Corruption { .. } | sled::Error::ReportableBug(_)) => true,
            _ => false,
        }
    }

    fn io_kind(&self) -> Option<io::ErrorKind> {
        match self {
            Self::Directory(_, error) | Self::Sync(error) | Self::Engine(sled::Error::Io(error)) => Some(error.kind()),
            _ => None,
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        use io::ErrorKind::{NotADirectory, PermissionDenied, ReadOnlyFilesystem};

        match self {
            Self::Missing(path) => write!(f, "{}: no records are kept here", path.display()),
            Self::InUse(path) => {
                write!(
                    f,
                    "{}: another kolbox has this store open; stop it first (systemctl stop kolbox)",
                    path.display()
                )
            }
            Self::Directory(path, error) => {
                write!(f, "{}: ", path.display())?;
                f.write_str(match error.kind() {
                    _ if self.is_disk_full() => "the disk is full; free space on it",
                    PermissionDenied => {
                        "it, or something in it, is not this user's; give it to the service's user (chown -R), run \
                         this as that user, or set store.path"
                    }
                    ReadOnlyFilesystem => {
                        "the disk can only be read, as a worn-out memory card can; replace it, or mount it writable"
                    }
                    NotADirectory => "something in this path is a file; it must be a directory: set store.path",
                    _ => "cannot be used as a store; it must be a directory we may write",
                })
            }
            Self::NewerVersion(path, form) => {
                write!(f, "{}: written by a newer kolbox (form {form}); install that version again", path.display())
            }
            Self::Unreadable(path) => write!(
                f,
                "{}: the store's files are damaged; `kolbox serve` goes on with what can be read of them, and keeps the rest",
                path.display()
            ),
            Self::Engine(_) | Self::Sync(_) if self.is_disk_full() => f.write_str("the disk is full; free space on it"),
            Self::Engine(_) => f.write_str("the store cannot be read or written; is the disk broken?"),
            Self::Sync(_) => f.write_str("the store cannot be brought to the disk; is it broken?"),
            Self::TooLong(_) => f.write_str("the record cannot be kept"),
            Self::Full => f.write_str("the store is full of records that the upstream has not taken"),
            Self::Opening => f.write_str("the store is still being opened"),
        }
    }
}

impl std::error::Error for StoreError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Missing(_)
            | Self::InUse(_)
            | Self::NewerVersion(..)
            | Self::Unreadable(_)
            | Self::Full
            | Self::Opening => None,
            Self::Directory(_, error) | Self::Sync(error) => Some(error),
            Self::Engine(error) => Some(error),
            Self::TooLong(error) => Some(error),
        }
    }
}

impl From<sled::Error> for StoreError {
    fn from(error: sled::Error) -> Self {
        Self::Engine(error)
    }
}

impl From<TooLong> for StoreError {
    fn from(error: TooLong) -> Self {
        Self::TooLong(error)
    }
}
