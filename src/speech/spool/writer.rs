//! The spool's thread: the only one on the way of a caller's audio that waits for the disk.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{ErrorKind, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, RecvTimeoutError},
    },
    thread,
    time::Instant,
};

use super::{FileState, Job, Of, SpoolLosses, SpoolRoom};
use crate::{
    limits::{SPOOL_GATHER, SPOOL_PARTS_PER_CALL_MAX, SPOOL_SYNC_EVERY},
    speech::{
        audio::duration,
        marks::{self, Mark, Marked, MarksFile},
    },
};

/// What the thread owns.
pub(super) struct Writer {
    directory: PathBuf,
    pub(super) room: SpoolRoom,
    losses: Arc<SpoolLosses>,
    pub(super) files: BTreeMap<u64, Open>,
}

pub(super) struct Open {
    pub(super) of: Of,
    file: Place,
    /// The part of its call that it is; 0 before it has a file.
    part: u32,
    /// Bytes in its file,
    written: u64,
    /// bytes that are missing behind them,
    lost: u64,
    /// and bytes whose loss is marked.
    told: u64,
    marks: MarksFile,
    state: Arc<FileState>,
    /// Chunks taken out of the queue.
    taken: u64,
    /// When the first byte was written that is not known to be on the disk.
    pub(super) unsynced_since: Option<Instant>,
}

enum Place {
    /// Nothing was written yet.
    NotYet,
    On(File),
    /// It could not be made or written; said once, and the rest of the stream is counted as lost.
    Nowhere,
}

impl Writer {
    pub(super) fn new(directory: PathBuf, room: SpoolRoom, losses: Arc<SpoolLosses>) -> Self {
        Self { directory, room, losses, files: BTreeMap::new() }
    }

    pub(super) fn run(mut self, jobs: &Receiver<Job>) {
        loop {
            let due = self.files.values().filter_map(|open| open.unsynced_since).min().map(|at| at + SPOOL_SYNC_EVERY);
            let job = match due {
                Some(due) => jobs.recv_timeout(due.saturating_duration_since(Instant::now())),
                None => jobs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match job {
                Ok(job) => {
                    self.handle(job, Instant::now());
                    // Whoever hands over a piece while this thread sleeps need not wake it: that costs more than the piece.
                    thread::sleep(SPOOL_GATHER);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            // The queue first: an fsync may take its time, and there is one between two looks at the queue.
            while let Ok(job) = jobs.try_recv() {
                self.handle(job, Instant::now());
            }
            self.close_those_over();
            self.sync_one(Instant::now());
        }
    }

    pub(super) fn handle(&mut self, job: Job, now: Instant) {
        let Job::Append(chunk) = job else { return };
        let of = chunk.of;
        let open = self.files.entry(of.number).or_insert_with(|| Open {
            of,
            file: Place::NotYet,
            part: 0,
            written: 0,
            lost: 0,
            told: 0,
            marks: MarksFile::default(),
            state: Arc::clone(&chunk.state),
            taken: 0,
            unsynced_since: None,
        });
        open.taken += 1;
        open.lost += chunk.lost_before;
        let begin = open.written;
        let is_written = match self.room.take(chunk.bytes.len() as u64) {
            true => open.write(&self.directory, &chunk.bytes) || chunk.count(&self.losses.disk),
            false => chunk.count(&self.losses.room),
        };
        if is_written {
            open.unsynced_since.get_or_insert(now);
        } else {
            open.lost += chunk.bytes.len() as u64;
        }
        let loss = if is_written { open.take_loss(begin) } else { None };
        let place = |marked: &Marked| Marked { at: begin + if is_written { marked.at } else { 0 }, ..*marked };
        open.mark(&self.directory, loss.into_iter().chain(chunk.marks.iter().map(place)));
    }

    pub(super) fn close_those_over(&mut self) {
        self.files.retain(|_, open| {
            // In this order: once it is over, what was handed over changes no more.
            let is_over = open.state.is_over.load(Ordering::Acquire)
                && open.state.handed_over.load(Ordering::Relaxed) <= open.taken;
            if is_over {
                open.lost = open.state.lost_bytes.load(Ordering::Relaxed).saturating_sub(open.told);
                let loss = open.take_loss(open.written);
                open.mark(&self.directory, loss.into_iter());
                open.sync();
            }
            !is_over
        });
    }

    /// Brings the file to the disk that has waited longest, if it is due.
    pub(super) fn sync_one(&mut self, now: Instant) {
        let longest = self.files.values_mut().filter(|open| open.unsynced_since.is_some());
        if let Some(open) = longest.min_by_key(|open| open.unsynced_since)
            && open.unsynced_since.is_some_and(|since| since + SPOOL_SYNC_EVERY <= now)
        {
            open.sync();
        }
    }
}

impl Open {
    /// Whether they are in the file.
    fn write(&mut self, directory: &Path, bytes: &[u8]) -> bool {
        if matches!(self.file, Place::NotYet) {
            self.file = Place::Nowhere;
            if let Some((part, file)) = create(directory, self.of) {
                (self.part, self.file) = (part, Place::On(file));
            }
        }
        let Place::On(file) = &mut self.file else { return false };
        if let Err(error) = file.write_all(bytes) {
            let Of { call_sid, stream_sid, .. } = self.of;
            tracing::warn!(%call_sid, %stream_sid, %error, "audio cannot be written; the rest of this stream is not kept");
            self.file = Place::Nowhere;
            return false;
        }
        self.written += bytes.len() as u64;
        true
    }

    /// The mark of what was lost and has none.
    fn take_loss(&mut self, at: u64) -> Option<Marked> {
        let lost = std::mem::take(&mut self.lost);
        self.told += lost;
        let length = duration(usize::try_from(lost).unwrap_or(usize::MAX));
        (lost > 0).then_some(Marked { at, mark: Mark::Gap(length) })
    }

    /// Nearly always there are none, and then nothing is done.
    fn mark(&mut self, directory: &Path, marks: impl Iterator<Item = Marked>) {
        let mut marks = marks.peekable();
        let Of { call_sid, stream_sid, .. } = self.of;
        // What has no sound on the disk has no place for marks.
        if self.part > 0
            && marks.peek().is_some()
            && let Err(error) = self.marks.append(&marks::path(directory, call_sid, self.part), marks)
        {
            tracing::warn!(%call_sid, %stream_sid, %error, "keys and gaps of a stream are not kept");
        }
    }

    fn sync(&mut self) {
        if self.unsynced_since.take().is_some()
            && let Place::On(file) = &self.file
            && let Err(error) = file.sync_all()
        {
            let Of { call_sid, stream_sid, .. } = self.of;
            tracing::warn!(%call_sid, %stream_sid, %error, "audio may not be safe on disk");
        }
        if let Err(error) = self.marks.sync() {
            let Of { call_sid, stream_sid, .. } = self.of;
            tracing::warn!(%call_sid, %stream_sid, %error, "keys and gaps may not be safe on disk");
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.files.values_mut().for_each(Open::sync);
    }
}

/// The next part of its call, and which one that is.
fn create(directory: &Path, of: Of) -> Option<(u32, File)> {
    let Of { call_sid, stream_sid, .. } = of;
    let made = (1..=SPOOL_PARTS_PER_CALL_MAX).find_map(|part| {
        let path = directory.join(format!("{call_sid}.{part}.ulaw"));
        match OpenOptions::new().create_new(true).append(true).mode(0o600).open(path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => None,
            made => Some(made.map(|file| (part, file))),
        }
    });
    match made {
        Some(Ok((part, file))) => {
            // The directory too: else the name may be missing after a power cut though the bytes are there.
            if let Err(error) = File::open(directory).and_then(|directory| directory.sync_all()) {
                tracing::warn!(%call_sid, %stream_sid, %error, "the audio directory cannot be synced");
            }
            Some((part, file))
        }
        Some(Err(error)) => {
            tracing::warn!(%call_sid, %stream_sid, %error, "no audio file can be made; this stream's audio is not kept");
            None
        }
        None => {
            tracing::warn!(%call_sid, %stream_sid, "a call with more streams than are kept; this one's audio is not");
            None
        }
    }
}
