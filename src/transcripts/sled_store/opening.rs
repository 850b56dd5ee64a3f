//! Opening a store whatever became of its disk: full, read-only, somebody else's, damaged.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io,
    os::unix::fs::DirBuilderExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use rustix::fs::{Advice, fadvise};

use super::{
    DATA_FILE, FOLDER, SledStore, ballast,
    ledger::Ledger,
    quarantine::{self, rebuild},
    salvage,
};
use crate::{
    limits::{STORE_CACHE_BYTES, STORE_PANICS_MAX},
    transcripts::{
        rows::{LEDGER_KEY, OLD_LEDGER_KEY, rows},
        store::StoreError,
        stored::FORM_VERSION,
    },
};

/// How often a store that is in use is tried before it counts as another process's,
const LOCK_TRIES_MAX: u32 = 20;
/// and the pause between.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// How the name of a snapshot ends that sled has not finished.
const UNFINISHED_SNAPSHOT: &str = "generating";

/// Opens one directory's store again and again, and remembers what it has been through.
#[derive(Debug)]
pub struct Openings {
    directory: PathBuf,
    /// How often an open store turned out to be damaged since it was last made anew.
    damages: u32,
    /// It was closed by such a damage, and has not been open since.
    is_doubted: bool,
}

impl Openings {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory, damages: 0, is_doubted: false }
    }

    /// Opens the store, after it was closed by this error if there was one.
    pub fn open(&mut self, closed_by: Option<&StoreError>) -> Result<SledStore, StoreError> {
        if closed_by.is_some_and(StoreError::is_damage) && !std::mem::replace(&mut self.is_doubted, true) {
            self.damages += 1;
        }
        if matches!(closed_by, Some(StoreError::Sync(_) | StoreError::Engine(_))) {
            forget_unwritten(&self.directory);
        }
        // One more read of everything shows most of what sled stumbles over; what it does not show must not go on for ever.
        let store = if self.damages > STORE_PANICS_MAX {
            prepared(&self.directory)?;
            let store = rebuild(&self.directory, &[])?;
            self.damages = 0;
            store
        } else {
            open(&self.directory, self.is_doubted)?
        };
        self.is_doubted = false;
        Ok(store)
    }
}

impl SledStore {
    /// Opens the store below `directory`, or makes it. Drafts, unsynced and parked records are all read once: damaged
    /// ones are set aside. A store that sled cannot read, or that has lost something, is made anew from what can still be
    /// read, and the old one put into quarantine. A full disk is given the ballast.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        open(directory, false)
    }

    /// Opens the store below `directory` as it is, to look at it; nothing is made, moved or counted anew.
    pub fn open_existing(directory: &Path) -> Result<Self, StoreError> {
        if !directory.join(FOLDER).join(DATA_FILE).try_exists().map_err(|error| unusable(directory, error))? {
            return Err(StoreError::Missing(directory.to_owned()));
        }
        Self::open_folder(directory, FOLDER)
    }

    /// Opens, or makes, the folder of this name. Whatever sled does with damaged files comes as [`StoreError::Unreadable`].
    pub(super) fn open_folder(directory: &Path, folder: &str) -> Result<Self, StoreError> {
        let path = directory.join(folder);
        let config = sled::Config::new().path(&path).cache_capacity(STORE_CACHE_BYTES).flush_every_ms(Some(500));
        let tree = open_patiently(&config, directory, &path)?;
        let data = OpenOptions::new()
            .read(true)
            .write(true)
            .open(path.join(DATA_FILE))
            .map_err(|error| unusable(directory, error))?;
        let ledger = guarded(directory, || read_ledger(&tree, directory))?;
        Ok(Self { path: directory.to_owned(), tree, data, ledger, mark_fails: false })
    }
}

/// `doubted`: everything in it is read once, for it has broken down while it was open.
fn open(directory: &Path, doubted: bool) -> Result<SledStore, StoreError> {
    prepared(directory)?;
    // A store that is new has none, and one that cannot be read says so when it is opened.
    let last_segments = salvage::last_segments(&directory.join(FOLDER).join(DATA_FILE)).unwrap_or_default();
    let mut opened = attempt(directory, doubted);
    if opened.as_ref().is_err_and(StoreError::is_disk_full) && ballast::release(directory) {
        tracing::warn!("the disk is full: the store's ballast was given up to open it");
        opened = attempt(directory, doubted);
    }
    match opened {
        Err(error) if error.is_damage() => {
            tracing::error!(%error, "the store is made anew from what can be read of it");
            rebuild(directory, &last_segments)
        }
        opened => opened,
    }
}

/// The directory is there, and no rebuilding is left half done.
fn prepared(directory: &Path) -> Result<(), StoreError> {
    make_directory(directory)?;
    quarantine::finish(directory).map_err(|error| unusable(directory, error))
}

fn make_directory(directory: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| unusable(directory, error))
}

fn attempt(directory: &Path, doubted: bool) -> Result<SledStore, StoreError> {
    make_directory(&directory.join(FOLDER)).map_err(|error| match error {
        StoreError::Directory(_, error) => StoreError::Directory(directory.to_owned(), error),
        error => error,
    })?;
    let mut store = SledStore::open_folder(directory, FOLDER)?;
    guarded(directory, || {
        if doubted {
            store.read_everything()?;
        }
        store.move_old_rows()?;
        store.check()?;
        store.settle(FOLDER)
    })?;
    Ok(store)
}

/// Runs something that sled may answer with a panic, when its files are not what it wrote.
pub(in crate::transcripts) fn guarded<T>(
    directory: &Path,
    run: impl FnOnce() -> Result<T, StoreError>,
) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(StoreError::Unreadable(directory.to_owned())))
}

impl SledStore {
    /// Everything so far is durable, the names of its files too.
    pub(super) fn settle(&mut self, folder: &str) -> Result<(), StoreError> {
        use crate::transcripts::store::Store;

        self.make_durable()?;
        // The names of new files stand in their directories, which are files of their own to the disk.
        for directory in [&self.path.join(folder), &self.path] {
            File::open(directory).and_then(|directory| directory.sync_all()).map_err(StoreError::Sync)?;
        }
        Ok(())
    }

    fn read_everything(&self) -> Result<(), StoreError> {
        self.tree.iter().try_for_each(|pair| pair.map(drop).map_err(StoreError::from))
    }
}

fn read_ledger(tree: &sled::Db, directory: &Path) -> Result<Ledger, StoreError> {
    let bytes = match tree.get(LEDGER_KEY)? {
        None => tree.get(OLD_LEDGER_KEY)?,
        bytes => bytes,
    };
    let Some(bytes) = bytes else { return recount(tree) };
    match bytes.first() {
        Some(&form) if form > FORM_VERSION => Err(StoreError::NewerVersion(directory.to_owned(), form)),
        _ => Ledger::decode(&bytes).map_or_else(|| recount(tree), Ok),
    }
}

/// A ledger for a store that is new or has lost its own. The other states are counted anew by every opening.
fn recount(tree: &sled::Db) -> Result<Ledger, StoreError> {
    use crate::transcripts::rows::{DRAFTS, PARKED, SYNCED, UNSYNCED};

    let mut ledger = Ledger::EMPTY;
    for letter in [SYNCED, UNSYNCED, PARKED, DRAFTS] {
        for row in rows(tree, letter) {
            ledger.counts.bytes += row?.bytes();
            ledger.counts.synced += u64::from(letter == SYNCED);
        }
    }
    Ok(ledger)
}

/// After an fsync that failed, the system's cache may hold pages that the disk never took and that nothing will write
/// again: records would be found in it that a power cut loses. What is clean in the cache is dropped, so that the
/// disk's own content is read.
fn forget_unwritten(directory: &Path) {
    let dropped = File::open(directory.join(FOLDER).join(DATA_FILE))
        .and_then(|data| fadvise(&data, 0, None, Advice::DontNeed).map_err(io::Error::from));
    if let Err(error) = dropped {
        tracing::warn!(%error, "what the disk did not take may still be in the system's cache");
    }
}

/// While it is being opened sled writes what it has found to `snap.*.generating`, to be given its name when it is whole.
/// Where that was cut off, by a kill or a full disk, its next opening takes this piece for its newest snapshot and calls
/// the store corrupt, for ever. Nobody misses it: the log from which it was made is there.
fn remove_unfinished_snapshots(directory: &Path, folder: &Path) -> Result<(), StoreError> {
    let io = |error| unusable(directory, error);
    // Who has the lock may be writing one just now.
    let data = match File::open(folder.join(DATA_FILE)) {
        Ok(data) => data,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(io(error)),
    };
    match data.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(StoreError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => return Err(io(error)),
    }
    for entry in fs::read_dir(folder).map_err(io)? {
        let path = entry.map_err(io)?.path();
        if path.extension().is_some_and(|extension| extension == UNFINISHED_SNAPSHOT) {
            fs::remove_file(path).map_err(io)?;
        }
    }
    Ok(())
}

/// A store that this process has just closed is held by sled's own threads for a moment longer: so one that is in use
/// is tried again for a little while before that is believed. Blocks the thread.
fn open_patiently(config: &sled::Config, directory: &Path, folder: &Path) -> Result<sled::Db, StoreError> {
    let mut tries_left = LOCK_TRIES_MAX;
    loop {
        let opened = remove_unfinished_snapshots(directory, folder)
            .and_then(|()| guarded(directory, || config.open().map_err(|error| why_not_opened(directory, error))));
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

pub(super) fn unusable(directory: &Path, error: io::Error) -> StoreError {
    StoreError::Directory(directory.to_owned(), error)
}

fn why_not_opened(directory: &Path, error: sled::Error) -> StoreError {
    use io::ErrorKind::{InvalidData, NotADirectory, Other, PermissionDenied, ReadOnlyFilesystem, StorageFull};

    match error {
        // sled has no kind of its own for this.
        sled::Error::Io(error) if error.to_string().contains("could not acquire lock") => {
            StoreError::InUse(directory.to_owned())
        }
        sled::Error::Io(error)
            if matches!(error.kind(), PermissionDenied | NotADirectory | ReadOnlyFilesystem | StorageFull) =>
        {
            unusable(directory, error)
        }
        // What sled says of bytes that it did not write; a disk that cannot be read has other words.
        sled::Error::Io(error) if matches!(error.kind(), InvalidData | io::ErrorKind::UnexpectedEof | Other) => {
            StoreError::Unreadable(directory.to_owned())
        }
        sled::Error::Io(error) => StoreError::Engine(sled::Error::Io(error)),
        _ => StoreError::Unreadable(directory.to_owned()),
    }
}

/// Gives files in the store that this process made back to the directory's owner: root may look at a store, and
/// the service that runs as somebody else must still be able to open it.
pub(in crate::transcripts) fn give_back_to_owner(directory: &Path) -> io::Result<()> {
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
