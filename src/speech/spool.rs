//! The caller's audio on disk while the call still lasts: one file a stream, one thread, a bounded way to it.

use std::{
    collections::BTreeMap,
    fmt,
    fs::{DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use crate::{
    limits::{SPOOL_CHUNK_BYTES, SPOOL_QUEUE_MAX},
    twilio::sid::StreamSid,
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

/// Starts the spool.
pub struct Spool;

impl Spool {
    /// Makes `directory` (readable by its owner alone) and the thread that writes into it. The thread ends, with every
    /// file closed and synced, when the last [`SpoolPort`] and [`SpoolFile`] are gone.
    pub fn start(directory: &Path) -> Result<(SpoolPort, JoinHandle<()>), SpoolError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|source| SpoolError::Directory { path: directory.to_owned(), source })?;
        let (sender, receiver) = sync_channel(SPOOL_QUEUE_MAX);
        let writer = Writer { directory: directory.to_owned(), files: BTreeMap::new() };
        let thread = thread::Builder::new()
            .name("spool".into())
            .spawn(move || writer.run(&receiver))
            .map_err(SpoolError::Thread)?;
        Ok((SpoolPort { sender, dropped_bytes: Arc::default() }, thread))
    }
}

/// The way to the spool; cheap to clone.
#[derive(Debug, Clone)]
pub struct SpoolPort {
    sender: SyncSender<Job>,
    dropped_bytes: Arc<AtomicU64>,
}

impl SpoolPort {
    /// A place for this stream's audio. Nothing is on disk before there is something to write.
    pub fn open(&self, stream_sid: StreamSid) -> SpoolFile {
        SpoolFile {
            stream_sid,
            port: self.clone(),
            chunk: Vec::new(),
            shared: Arc::new(FileState { dropped_bytes: AtomicU64::new(0), is_over: AtomicBool::new(false) }),
        }
    }

    /// Bytes of all streams that were lost because the disk was too slow, or could not be written to.
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes.load(Ordering::Relaxed)
    }
}

/// One stream's audio: appended without ever waiting, synced when it is dropped.
#[derive(Debug)]
pub struct SpoolFile {
    stream_sid: StreamSid,
    port: SpoolPort,
    chunk: Vec<u8>,
    shared: Arc<FileState>,
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

    /// The stream is over; the rest goes to the writer. Returns how many bytes of it are known to be lost.
    pub fn finish(self) -> u64 {
        let shared = Arc::clone(&self.shared);
        drop(self);
        shared.dropped_bytes.load(Ordering::Relaxed)
    }

    fn hand_over(&mut self) {
        let bytes = std::mem::take(&mut self.chunk);
        let job = Job::Append(Chunk {
            stream_sid: self.stream_sid,
            bytes,
            file: Arc::clone(&self.shared),
            all_dropped_bytes: Arc::clone(&self.port.dropped_bytes),
        });
        if let Err(error) = self.port.sender.try_send(job) {
            use std::sync::mpsc::TrySendError::{Disconnected, Full};
            if let Full(Job::Append(chunk)) | Disconnected(Job::Append(chunk)) = error {
                chunk.count_as_dropped();
            }
        }
    }
}

impl Drop for SpoolFile {
    fn drop(&mut self) {
        if !self.chunk.is_empty() {
            self.hand_over();
        }
        self.shared.is_over.store(true, Ordering::Release);
        // Where the queue is full there is no need to wake the writer: it looks again after what it has to do.
        let _ = self.port.sender.try_send(Job::Look);
    }
}

#[derive(Debug)]
struct FileState {
    dropped_bytes: AtomicU64,
    /// Its stream is over: what is in the queue still belongs to it, nothing follows.
    is_over: AtomicBool,
}

#[derive(Debug)]
enum Job {
    Append(Chunk),
    /// Some file is over.
    Look,
}

#[derive(Debug)]
struct Chunk {
    stream_sid: StreamSid,
    bytes: Vec<u8>,
    file: Arc<FileState>,
    all_dropped_bytes: Arc<AtomicU64>,
}

impl Chunk {
    fn count_as_dropped(&self) {
        let bytes = self.bytes.len() as u64;
        self.file.dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
        self.all_dropped_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// What the thread owns.
struct Writer {
    directory: PathBuf,
    files: BTreeMap<StreamSid, Open>,
}

struct Open {
    /// `None`: it could not be made or written; said once, and the rest of the stream is counted as dropped.
    file: Option<File>,
    state: Arc<FileState>,
}

impl Writer {
    fn run(mut self, jobs: &Receiver<Job>) {
        while let Ok(job) = jobs.recv() {
            self.handle(job);
            // The queue first: what is over is closed when nothing of it waits. A straggler opens its file again, at its end.
            while let Ok(job) = jobs.try_recv() {
                self.handle(job);
            }
            self.close_those_over();
        }
    }

    fn handle(&mut self, job: Job) {
        let Job::Append(chunk) = job else { return };
        let open = self.files.entry(chunk.stream_sid).or_insert_with(|| Open {
            file: create(&self.directory, chunk.stream_sid),
            state: Arc::clone(&chunk.file),
        });
        let Some(file) = &mut open.file else { return chunk.count_as_dropped() };
        if let Err(error) = file.write_all(&chunk.bytes) {
            tracing::warn!(stream_sid = %chunk.stream_sid, %error, "audio cannot be written; the rest of this stream is not kept");
            chunk.count_as_dropped();
            open.file = None;
        }
    }

    fn close_those_over(&mut self) {
        self.files.retain(|stream_sid, open| {
            let is_over = open.state.is_over.load(Ordering::Acquire);
            if is_over && let Some(file) = &open.file {
                sync_all(*stream_sid, file);
            }
            !is_over
        });
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        for (stream_sid, open) in &self.files {
            if let Some(file) = &open.file {
                sync_all(*stream_sid, file);
            }
        }
    }
}

fn create(directory: &Path, stream_sid: StreamSid) -> Option<File> {
    let path = directory.join(format!("{stream_sid}.ulaw"));
    match OpenOptions::new().create(true).append(true).mode(0o600).open(path) {
        Ok(file) => {
            // The directory too: else the name may be missing after a power cut though the bytes are there.
            match File::open(directory) {
                Ok(directory) => sync_all(stream_sid, &directory),
                Err(error) => tracing::warn!(%stream_sid, %error, "the audio directory cannot be synced"),
            }
            Some(file)
        }
        Err(error) => {
            tracing::warn!(%stream_sid, %error, "no audio file can be made; this stream's audio is not kept");
            None
        }
    }
}

fn sync_all(stream_sid: StreamSid, file: &File) {
    if let Err(error) = file.sync_all() {
        tracing::warn!(%stream_sid, %error, "audio may not be safe on disk");
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_was_appended_is_in_the_streams_own_file_for_the_owner_alone() {
        let store = tempfile::tempdir().unwrap();
        let directory = store.path().join("audio");
        let (port, thread) = Spool::start(&directory).unwrap();
        let sids = [StreamSid::from_number(1), StreamSid::from_number(2)];
        let mut files = sids.map(|sid| port.open(sid));
        for round in 0..100_u8 {
            files[0].append(&[round; 160]);
            files[1].append(&[!round; 1_600]);
        }
        drop((files, port));
        thread.join().unwrap();
        let read = |sid: StreamSid| std::fs::read(directory.join(format!("{sid}.ulaw"))).unwrap();
        assert_eq!(read(sids[0]), (0..100_u8).flat_map(|round| [round; 160]).collect::<Vec<u8>>());
        assert_eq!(read(sids[1]), (0..100_u8).flat_map(|round| [!round; 1_600]).collect::<Vec<u8>>());
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&directory.join(format!("{}.ulaw", sids[0]))), 0o600);
        assert_eq!(mode(&directory), 0o700);
    }

    #[test]
    fn a_stream_without_audio_leaves_no_file() {
        let store = tempfile::tempdir().unwrap();
        let (port, thread) = Spool::start(store.path()).unwrap();
        drop((port.open(StreamSid::from_number(1)), port));
        thread.join().unwrap();
        assert_eq!(std::fs::read_dir(store.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_writer_that_is_behind_costs_audio_and_is_counted_but_never_waited_for() {
        let (sender, receiver) = sync_channel(2);
        let port = SpoolPort { sender, dropped_bytes: Arc::default() };
        let mut file = port.open(StreamSid::from_number(1));
        file.append(&[0xff; 5 * SPOOL_CHUNK_BYTES + 7]);
        assert_eq!(port.dropped_bytes(), 3 * SPOOL_CHUNK_BYTES as u64);
        assert_eq!(file.finish(), 3 * SPOOL_CHUNK_BYTES as u64 + 7);
        assert_eq!(port.dropped_bytes(), 3 * SPOOL_CHUNK_BYTES as u64 + 7);
        drop(receiver);
    }

    #[test]
    fn a_directory_that_vanished_costs_audio_and_nothing_else() {
        let store = tempfile::tempdir().unwrap();
        let directory = store.path().join("audio");
        let (port, thread) = Spool::start(&directory).unwrap();
        std::fs::remove_dir(&directory).unwrap();
        let mut file = port.open(StreamSid::from_number(1));
        file.append(&[0xff; 100]);
        drop(file);
        let dropped = Arc::clone(&port.dropped_bytes);
        drop(port);
        thread.join().unwrap();
        assert_eq!(dropped.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn a_finished_streams_file_is_closed_while_others_go_on() {
        let store = tempfile::tempdir().unwrap();
        let (sender, receiver) = sync_channel(8);
        let port = SpoolPort { sender, dropped_bytes: Arc::default() };
        let mut writer = Writer { directory: store.path().to_owned(), files: BTreeMap::new() };
        let (mut first, mut second) = (port.open(StreamSid::from_number(1)), port.open(StreamSid::from_number(2)));
        first.append(&[1; SPOOL_CHUNK_BYTES]);
        second.append(&[2; SPOOL_CHUNK_BYTES]);
        drop(first);
        while let Ok(job) = receiver.try_recv() {
            writer.handle(job);
        }
        assert_eq!(writer.files.len(), 2);
        writer.close_those_over();
        assert_eq!(writer.files.keys().collect::<Vec<_>>(), [&StreamSid::from_number(2)]);
    }
}
