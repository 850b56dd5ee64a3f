//! The caller's audio on disk while the call still lasts: one thread, a bounded way to it, and an end that a crash leaves
//! at most some seconds short.
//!
//! A file is `<CallSid>.<part>.ulaw`: bare μ-law at 8 kHz, a part for each stream of the call, counted from 1 across
//! restarts. A part for each stream and not one file a call, since the streams of a call that was taken over write at the
//! same time for a moment: one file would mix them. There is no header and there are no frames: a file that ends anywhere
//! is sound, and its name alone says whose it is. Keys and gaps are in a file of their own beside it. Each file is brought
//! to the disk every [`SPOOL_SYNC_EVERY`](crate::limits::SPOOL_SYNC_EVERY) and at its end, by the same thread, which nobody
//! on the way of a frame ever waits for.

mod writer;

use std::{
    fmt,
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use self::writer::Writer;
use super::{
    marks::{Mark, Marked},
    open_streams::{OpenStream, OpenStreams},
};
use crate::{
    limits::{MARKS_PER_STREAM_MAX, SPOOL_CHUNK_BYTES, SPOOL_QUEUE_MAX},
    twilio::sid::{CallSid, StreamSid},
};

/// Why there is no spool.
#[derive(Debug)]
pub enum SpoolError {
    /// The directory cannot be made.
    Directory { path: PathBuf, source: io::Error },
    /// The thread cannot be started.
    Thread(io::Error),
}

impl fmt::Display for SpoolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Directory { path, .. } => write!(f, "cannot make the audio directory {}", path.display()),
            Self::Thread(_) => f.write_str("cannot start the thread that writes audio"),
        }
    }
}

impl std::error::Error for SpoolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Directory { source, .. } | Self::Thread(source) => Some(source),
        }
    }
}

/// How many bytes may still be spooled; shared with whoever looks after the folder and says it anew. What is written is
/// taken off at once, so that it is never exceeded between two looks.
#[derive(Debug, Clone)]
pub struct SpoolRoom(Arc<AtomicU64>);

impl SpoolRoom {
    /// Room for so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self(Arc::new(AtomicU64::new(bytes)))
    }

    /// The room over a number that others hold too.
    pub fn shared(bytes: Arc<AtomicU64>) -> Self {
        Self(bytes)
    }

    fn take(&self, bytes: u64) -> bool {
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |room| room.checked_sub(bytes)).is_ok()
    }
}

/// Bytes that were not kept since the start, by what was in their way.
#[derive(Debug, Default)]
pub struct SpoolLosses {
    /// The disk was too slow, and the queue to it full.
    pub queue: AtomicU64,
    /// The disk refused.
    pub disk: AtomicU64,
    /// There was no room left for audio.
    pub room: AtomicU64,
}

impl SpoolLosses {
    /// Of every kind.
    pub fn bytes(&self) -> u64 {
        [&self.queue, &self.disk, &self.room].map(|bytes| bytes.load(Ordering::Relaxed)).iter().sum()
    }
}

/// Starts the spool.
pub struct Spool;

impl Spool {
    /// Makes `directory` (readable by its owner alone) and the thread that writes into it. The thread ends, with every
    /// file closed and synced, when the last [`SpoolPort`] and [`SpoolFile`] are gone.
    pub fn start(directory: &Path, room: SpoolRoom) -> Result<(SpoolPort, JoinHandle<()>), SpoolError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| SpoolError::Directory { path: directory.to_owned(), source })?;
        let (sender, receiver) = sync_channel(SPOOL_QUEUE_MAX);
        let port = SpoolPort::over(sender);
        let writer = Writer::new(directory.to_owned(), room, port.losses.clone());
        let thread = thread::Builder::new()
            .name("spool".into())
            .spawn(move || writer.run(&receiver))
            .map_err(SpoolError::Thread)?;
        Ok((port, thread))
    }
}

/// The way to the spool; cheap to clone.
#[derive(Debug, Clone)]
pub struct SpoolPort {
    sender: SyncSender<Job>,
    losses: Arc<SpoolLosses>,
    streams: Arc<AtomicU64>,
    open: OpenStreams,
}

impl SpoolPort {
    fn over(sender: SyncSender<Job>) -> Self {
        Self { sender, losses: Arc::default(), streams: Arc::default(), open: OpenStreams::default() }
    }

    /// A place for the audio of one stream of this call. Nothing is on disk before there is something to write.
    pub fn open(&self, call_sid: CallSid, stream_sid: StreamSid) -> SpoolFile {
        let number = self.streams.fetch_add(1, Ordering::Relaxed);
        SpoolFile {
            of: Of { number, call_sid, stream_sid },
            port: self.clone(),
            chunk: Vec::new(),
            marks: Vec::new(),
            marks_left: MARKS_PER_STREAM_MAX,
            more_missing: Duration::ZERO,
            lost: 0,
            state: Arc::new(FileState::of(self.open.open(call_sid))),
        }
    }

    /// Whose audio is still on its way to the disk.
    pub fn open_streams(&self) -> OpenStreams {
        self.open.clone()
    }

    /// What was not kept, of all streams.
    pub fn losses(&self) -> Arc<SpoolLosses> {
        self.losses.clone()
    }
}

/// Whose audio it is.
#[derive(Debug, Clone, Copy)]
struct Of {
    /// Tells the streams of one run apart.
    number: u64,
    call_sid: CallSid,
    stream_sid: StreamSid,
}

/// One stream's audio: appended without ever waiting, closed and synced when it is dropped.
#[derive(Debug)]
pub struct SpoolFile {
    of: Of,
    port: SpoolPort,
    chunk: Vec<u8>,
    /// By the bytes of the chunk before each.
    marks: Vec<Marked>,
    marks_left: usize,
    /// Gaps beyond those that have a mark.
    more_missing: Duration,
    /// Bytes that are missing before the chunk.
    lost: u64,
    state: Arc<FileState>,
}

impl SpoolFile {
    /// Appends μ-law bytes. They are copied; every half second a full buffer goes to the writer, and where the writer is
    /// too far behind it is dropped and counted: a gap in a file, never a stream that is not read.
    pub fn append(&mut self, mut ulaw: &[u8]) {
        while !ulaw.is_empty() {
            if self.chunk.capacity() == 0 {
                self.chunk.reserve_exact(SPOOL_CHUNK_BYTES);
            }
            let (now, later) = ulaw.split_at(ulaw.len().min(SPOOL_CHUNK_BYTES - self.chunk.len()));
            self.chunk.extend_from_slice(now);
            ulaw = later;
            if self.chunk.len() == SPOOL_CHUNK_BYTES {
                self.hand_over();
            }
        }
    }

    /// Notes a key or a gap behind what was appended so far; beyond [`MARKS_PER_STREAM_MAX`] only how much is missing in
    /// all, at the end.
    pub fn mark(&mut self, mark: Mark) {
        match (self.marks_left.checked_sub(1), mark) {
            (Some(left), mark) => {
                self.marks_left = left;
                self.marks.push(Marked { at: self.chunk.len() as u64, mark });
            }
            (None, Mark::Gap(length)) => self.more_missing = self.more_missing.saturating_add(length),
            (None, Mark::Key(_)) => {}
        }
    }

    /// The stream is over; the rest goes to the writer. Returns how many bytes of it are known to be lost.
    pub fn finish(self) -> u64 {
        let state = Arc::clone(&self.state);
        drop(self);
        state.lost_bytes.load(Ordering::Relaxed)
    }

    fn hand_over(&mut self) {
        let (bytes, marks) = (std::mem::take(&mut self.chunk), std::mem::take(&mut self.marks));
        self.state.handed_over.fetch_add(1, Ordering::Relaxed);
        let lost_before = std::mem::take(&mut self.lost);
        let chunk = Chunk { of: self.of, bytes, marks, lost_before, state: Arc::clone(&self.state) };
        if let Err(error) = self.port.sender.try_send(Job::Append(chunk)) {
            use std::sync::mpsc::TrySendError::{Disconnected, Full};
            if let Full(Job::Append(chunk)) | Disconnected(Job::Append(chunk)) = error {
                self.state.handed_over.fetch_sub(1, Ordering::Relaxed);
                chunk.count(&self.port.losses.queue);
                self.lost = lost_before + chunk.bytes.len() as u64;
                self.marks = chunk.marks.into_iter().map(|marked| Marked { at: 0, ..marked }).collect();
            }
        }
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if !self.more_missing.is_zero() {
            self.marks.push(Marked { at: self.chunk.len() as u64, mark: Mark::Gap(self.more_missing) });
        }
        if !self.chunk.is_empty() || !self.marks.is_empty() {
            self.hand_over();
        }
        self.state.is_over.store(true, Ordering::Release);
        // Where the queue is full there is no need to wake the writer: it looks again after what it has to do.
        let _ = self.port.sender.try_send(Job::Look);
    }
}

#[derive(Debug)]
struct FileState {
    lost_bytes: AtomicU64,
    /// Chunks that went into the queue.
    handed_over: AtomicU64,
    /// Its stream is over, and nothing more goes into the queue.
    is_over: AtomicBool,
    /// Ends with the last who holds this: the writer, once the file is closed.
    _open: OpenStream,
}

impl FileState {
    fn of(open: OpenStream) -> Self {
        Self {
            lost_bytes: AtomicU64::new(0),
            handed_over: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            _open: open,
        }
    }
}

#[derive(Debug)]
enum Job {
    Append(Chunk),
    /// Some file is over.
    Look,
}

#[derive(Debug)]
struct Chunk {
    of: Of,
    bytes: Vec<u8>,
    /// By the bytes of this chunk before each.
    marks: Vec<Marked>,
    /// Bytes that did not go into the queue before it.
    lost_before: u64,
    state: Arc<FileState>,
}

impl Chunk {
    /// Counts it as lost: it is not written.
    fn count(&self, loss: &AtomicU64) -> bool {
        let bytes = self.bytes.len() as u64;
        self.state.lost_bytes.fetch_add(bytes, Ordering::Relaxed);
        loss.fetch_add(bytes, Ordering::Relaxed);
        false
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::mpsc::Receiver, time::Instant};

    use super::*;
    use crate::{
        limits::SPOOL_SYNC_EVERY,
        speech::{audio::duration, marks},
    };

    const ROOM: u64 = 1 << 30;

    fn start(directory: &Path) -> (SpoolPort, JoinHandle<()>) {
        Spool::start(directory, SpoolRoom::new(ROOM)).unwrap()
    }

    fn open(port: &SpoolPort, call: u128, stream: u128) -> SpoolFile {
        port.open(CallSid::from_number(call), StreamSid::from_number(stream))
    }

    fn part(directory: &Path, call: u128, part: u32) -> PathBuf {
        directory.join(format!("{}.{part}.ulaw", CallSid::from_number(call)))
    }

    /// A port whose queue the test empties, and a writer that the test drives.
    fn by_hand(directory: &Path, queue: usize, room: u64) -> (SpoolPort, Receiver<Job>, Writer) {
        let (sender, receiver) = sync_channel(queue);
        let port = SpoolPort::over(sender);
        let writer = Writer::new(directory.to_owned(), SpoolRoom::new(room), port.losses.clone());
        (port, receiver, writer)
    }

    #[tokio::test]
    async fn a_calls_audio_is_told_to_be_whole_once_its_last_byte_is_in_its_file() {
        let store = tempfile::tempdir().unwrap();
        let (port, receiver, mut writer) = by_hand(store.path(), 8, ROOM);
        let (streams, call_sid) = (port.open_streams(), CallSid::from_number(1));
        let mut file = open(&port, 1, 1);
        file.append(&[1; 1_000]);
        drop(file);
        let mut closed = std::pin::pin!(streams.closed(call_sid));
        let mut is_closed =
            || closed.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready();
        assert!(!is_closed(), "it is in the queue");
        while let Ok(job) = receiver.try_recv() {
            writer.handle(job, Instant::now());
        }
        assert!(!is_closed());
        writer.close_those_over();
        assert!(is_closed());
        assert_eq!(std::fs::read(part(store.path(), 1, 1)).unwrap(), [1; 1_000]);
        drop(open(&port, 1, 2));
        streams.closed(call_sid).await;
    }

    #[test]
    fn what_was_appended_is_in_the_streams_own_file_for_the_owner_alone() {
        let store = tempfile::tempdir().unwrap();
        let directory = store.path().join("audio");
        let (port, thread) = start(&directory);
        let mut files = [1, 2].map(|call| open(&port, call, call));
        for round in 0..100_u8 {
            files[0].append(&[round; 160]);
            files[1].append(&[!round; 1_600]);
        }
        drop((files, port));
        thread.join().unwrap();
        let read = |call| std::fs::read(part(&directory, call, 1)).unwrap();
        assert_eq!(read(1), (0..100_u8).flat_map(|round| [round; 160]).collect::<Vec<u8>>());
        assert_eq!(read(2), (0..100_u8).flat_map(|round| [!round; 1_600]).collect::<Vec<u8>>());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&part(&directory, 1, 1)), 0o600);
        assert_eq!(mode(&directory), 0o700);
    }

    #[test]
    fn the_streams_of_a_call_are_parts_of_it_in_their_order_also_after_a_restart() {
        let store = tempfile::tempdir().unwrap();
        let (port, thread) = start(store.path());
        let (mut taken_over, mut second) = (open(&port, 1, 1), open(&port, 1, 2));
        taken_over.append(&[1; SPOOL_CHUNK_BYTES]);
        second.append(&[2; SPOOL_CHUNK_BYTES]);
        taken_over.append(&[1; 9]);
        second.append(&[2; 9]);
        drop((taken_over, second, port));
        thread.join().unwrap();

        let (port, thread) = start(store.path());
        open(&port, 1, 3).append(&[3; 9]);
        drop(port);
        thread.join().unwrap();
        for (number, length) in [(1, SPOOL_CHUNK_BYTES + 9), (2, SPOOL_CHUNK_BYTES + 9), (3, 9)] {
            let audio = std::fs::read(part(store.path(), 1, number)).unwrap();
            assert_eq!(audio, vec![number as u8; length], "nothing of another stream is mixed in");
        }
    }

    #[test]
    fn a_stream_without_audio_leaves_no_file() {
        let store = tempfile::tempdir().unwrap();
        let (port, thread) = start(store.path());
        drop((open(&port, 1, 1), port));
        thread.join().unwrap();
        assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_writer_that_is_behind_costs_audio_and_is_counted_but_never_waited_for() {
        let store = tempfile::tempdir().unwrap();
        let (port, _receiver, _writer) = by_hand(store.path(), 2, ROOM);
        let mut file = open(&port, 1, 1);
        file.append(&[0xff; 5 * SPOOL_CHUNK_BYTES + 7]);
        assert_eq!(port.losses.queue.load(Ordering::Relaxed), 3 * SPOOL_CHUNK_BYTES as u64);
        assert_eq!(file.finish(), 3 * SPOOL_CHUNK_BYTES as u64 + 7);
        assert_eq!(port.losses().bytes(), 3 * SPOOL_CHUNK_BYTES as u64 + 7);
    }

    #[test]
    fn a_directory_that_vanished_costs_audio_and_nothing_else() {
        let store = tempfile::tempdir().unwrap();
        let directory = store.path().join("audio");
        let (port, thread) = start(&directory);
        std::fs::remove_dir(&directory).unwrap();
        open(&port, 1, 1).append(&[0xff; 100]);
        let losses = port.losses();
        drop(port);
        thread.join().unwrap();
        assert_eq!((losses.disk.load(Ordering::Relaxed), losses.bytes()), (100, 100));
    }

    #[test]
    fn without_room_new_audio_is_not_written_and_counted_as_such() {
        let store = tempfile::tempdir().unwrap();
        let (port, receiver, mut writer) = by_hand(store.path(), 8, 3 * SPOOL_CHUNK_BYTES as u64 / 2);
        let mut file = open(&port, 1, 1);
        file.append(&[1; 3 * SPOOL_CHUNK_BYTES]);
        receiver.try_iter().for_each(|job| writer.handle(job, Instant::now()));
        assert_eq!(std::fs::metadata(part(store.path(), 1, 1)).unwrap().len(), SPOOL_CHUNK_BYTES as u64);
        assert_eq!(port.losses.room.load(Ordering::Relaxed), 2 * SPOOL_CHUNK_BYTES as u64);
        // Room again: the same stream goes on.
        writer.room.0.store(ROOM, Ordering::Relaxed);
        file.append(&[1; SPOOL_CHUNK_BYTES]);
        receiver.try_iter().for_each(|job| writer.handle(job, Instant::now()));
        assert_eq!(std::fs::metadata(part(store.path(), 1, 1)).unwrap().len(), 2 * SPOOL_CHUNK_BYTES as u64);
    }

    #[test]
    fn a_file_is_brought_to_the_disk_every_few_seconds_the_longest_waiting_first() {
        let store = tempfile::tempdir().unwrap();
        let (port, receiver, mut writer) = by_hand(store.path(), 8, ROOM);
        let begin = Instant::now();
        let waiting = |writer: &Writer| -> Vec<bool> {
            writer.files.values().map(|open| open.unsynced_since.is_some()).collect()
        };
        let mut files = [1, 2].map(|call| open(&port, call, call));
        for (file, after) in files.iter_mut().zip([0, 1]) {
            file.append(&[1; SPOOL_CHUNK_BYTES]);
            receiver.try_iter().for_each(|job| writer.handle(job, begin + Duration::from_secs(after)));
        }
        writer.sync_one(begin + SPOOL_SYNC_EVERY - Duration::from_millis(1));
        assert_eq!(waiting(&writer), [true, true]);
        writer.sync_one(begin + SPOOL_SYNC_EVERY);
        assert_eq!(waiting(&writer), [false, true]);
        writer.sync_one(begin + SPOOL_SYNC_EVERY + Duration::from_secs(1));
        assert_eq!(waiting(&writer), [false, false]);
    }

    #[test]
    fn a_finished_streams_file_is_closed_once_nothing_of_it_waits_while_others_go_on() {
        let store = tempfile::tempdir().unwrap();
        let (port, receiver, mut writer) = by_hand(store.path(), 8, ROOM);
        let (mut first, mut second) = (open(&port, 1, 1), open(&port, 2, 2));
        first.append(&[1; 2 * SPOOL_CHUNK_BYTES]);
        second.append(&[2; SPOOL_CHUNK_BYTES]);
        drop(first);
        writer.handle(receiver.try_recv().unwrap(), Instant::now());
        writer.close_those_over();
        assert_eq!(writer.files.len(), 1, "a part of it is in the queue");
        receiver.try_iter().for_each(|job| writer.handle(job, Instant::now()));
        assert_eq!(writer.files.len(), 2);
        writer.close_those_over();
        assert_eq!(writer.files.values().map(|open| open.of.call_sid).collect::<Vec<_>>(), [CallSid::from_number(2)]);
    }

    #[test]
    fn keys_and_gaps_are_noted_where_they_were_and_lost_audio_is_a_gap() {
        let store = tempfile::tempdir().unwrap();
        let (port, receiver, mut writer) = by_hand(store.path(), 2, ROOM);
        let key = |name| Mark::key(name).unwrap();
        let mut drain = || {
            while let Ok(job) = receiver.try_recv() {
                writer.handle(job, Instant::now());
            }
            writer.close_those_over();
        };
        let mut file = open(&port, 1, 1);
        file.mark(key('1'));
        file.append(&[0xff; 160]);
        file.mark(Mark::Gap(Duration::from_millis(240)));
        file.mark(key('2'));
        // Two pieces find room in the queue, the third does not.
        file.append(&[0xff; 3 * SPOOL_CHUNK_BYTES - 160]);
        drain();
        file.append(&[0xff; 80]);
        file.mark(key('#'));
        file.append(&[0xff; SPOOL_CHUNK_BYTES - 80]);
        file.append(&[0xff; 2 * SPOOL_CHUNK_BYTES]);
        drop(file);
        drain();
        let chunk = SPOOL_CHUNK_BYTES as u64;
        let marked = |at, mark| Marked { at, mark };
        let lost = Mark::Gap(duration(SPOOL_CHUNK_BYTES));
        let expected = [
            marked(0, key('1')),
            marked(160, Mark::Gap(Duration::from_millis(240))),
            marked(160, key('2')),
            marked(2 * chunk, lost),
            marked(2 * chunk + 80, key('#')),
            marked(4 * chunk, lost),
        ];
        assert_eq!(marks::read(store.path(), CallSid::from_number(1), 1).unwrap(), expected);
        assert_eq!(std::fs::metadata(part(store.path(), 1, 1)).unwrap().len(), 4 * chunk);
    }

    #[test]
    fn a_stream_keeps_so_many_marks_and_no_more() {
        let store = tempfile::tempdir().unwrap();
        let (port, thread) = start(store.path());
        let mut file = open(&port, 1, 1);
        file.append(&[0xff; 160]);
        (0..3 * MARKS_PER_STREAM_MAX).for_each(|_| file.mark(Mark::Gap(Duration::from_secs(2))));
        drop((file, port));
        thread.join().unwrap();
        let marks = marks::read(store.path(), CallSid::from_number(1), 1).unwrap();
        assert_eq!(marks.len(), MARKS_PER_STREAM_MAX + 1);
        let rest = Duration::from_secs(2) * 2 * MARKS_PER_STREAM_MAX as u32;
        assert_eq!(marks.last().unwrap().mark, Mark::Gap(rest), "how much is missing in all");
    }
}
