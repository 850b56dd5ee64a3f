//! The store's own thread: takes what waits, does it in order, brings it to the disk with one fsync, then answers.
//!
//! When the disk refuses, the store is closed and opened again every so often, and what could not be kept is tried
//! again in its order: a full disk that was freed needs no restart. Meanwhile a new record is answered with the
//! failure at once, so that no webhook hangs, and joins those that are retried (at most [`STORE_QUEUE_MAX`]; what
//! comes beyond is refused, and its error says so). Notes about what the upstream said wait until they are durable:
//! nobody may forget an acknowledgement.
//!
//! The first opening is the thread's too: a box whose store cannot be opened starts without, sends its callers to the
//! recorder, and goes on by itself once it can. Only another kolbox's store and a newer one's end the thread.

use std::{
    collections::VecDeque,
    fmt,
    sync::{Arc, mpsc as std_mpsc},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    journal::JournalEntry,
    record::{Record, TranscriptId},
    store::{Counts, Known, Store, StoreError, Surroundings},
    stored::{Sequence, Stored},
};
use crate::{
    limits::{RECENT_CALLS_MAX, STORE_GROUP_MAX, STORE_LOOK_EVERY, STORE_QUEUE_MAX, STORE_RESERVE_BYTES},
    twilio::sid::CallSid,
};

use apply::{apply, guarded, report_stored};

mod apply;

/// How long the disk is left alone after it refused.
pub const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Opens the store, or opens it again after it was closed by this error.
pub type Opener = Box<dyn FnMut(Option<&StoreError>) -> Result<Box<dyn Store>, StoreError> + Send>;

/// What the run before left in the store.
#[derive(Debug, Default)]
pub struct Resumed {
    pub drafts: Vec<Stored>,
    pub recent: Vec<Stored>,
    pub live: Vec<JournalEntry>,
}

/// How the first opening went.
#[derive(Debug)]
pub enum Opened {
    /// What it holds stands in [`Starting::resumed`].
    Open,
    /// It is tried again, and what it holds told when that succeeds.
    NotYet(Arc<StoreError>),
    /// It is another's. The thread has ended.
    Refused(StoreError),
}

/// A store's thread that has just begun.
#[derive(Debug)]
pub struct Starting {
    pub port: StorePort,
    pub thread: JoinHandle<()>,
    /// One message: how the first opening went. It may take its time.
    pub first: std_mpsc::Receiver<Opened>,
    /// What the store holds, once it is open.
    pub resumed: oneshot::Receiver<Resumed>,
}

/// A change of the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    PutDraft(Box<Record>),
    PutFinal(Box<Record>),
    /// Of a live call: what was noted of it before is replaced.
    PutLive(Box<JournalEntry>),
    MarkSynced {
        sequence: Sequence,
        at: Timestamp,
    },
    Park {
        sequence: Sequence,
        status: u16,
        at: Timestamp,
    },
    Unpark(TranscriptId),
    MakeRoom {
        bytes_max: u64,
        synced_before: Timestamp,
    },
}

/// Whether a change changed anything; `Ok` only once it is durable.
pub type Done = Result<bool, NotKept>;
/// The next record to send.
pub type Next = Result<Option<Box<Stored>>, NotKept>;

/// What is known of some calls.
pub type Found = Result<Vec<Known>, NotKept>;

/// Why something is not (yet) durable.
#[derive(Debug, Clone)]
pub enum NotKept {
    /// The store failed; a record is tried again by itself.
    Later(Arc<StoreError>),
    /// The store failed for so long that nothing more can wait for it, or this record can never be kept.
    Never(Arc<StoreError>),
    /// The store has stopped.
    Stopped,
}

/// How the store is.
#[derive(Debug, Clone, Default)]
pub struct StoreHealth {
    pub counts: Counts,
    pub surroundings: Surroundings,
    /// Why the last attempt failed; `None`: it did not.
    pub failure: Option<Arc<StoreError>>,
}

/// The way to the store's thread; cheap to clone. The thread ends when the last one is gone.
#[derive(Debug, Clone)]
pub struct StorePort {
    operations: mpsc::Sender<Operation>,
    health: watch::Receiver<StoreHealth>,
}

impl StorePort {
    /// Starts the thread, which opens the store, and opens it again `pause` after each failure. With more than `bytes_max`
    /// of records that cannot go, and [`STORE_RESERVE_BYTES`] besides, it takes no further calls' records.
    pub fn start(open: Opener, bytes_max: u64, pause: Duration) -> std::io::Result<Starting> {
        let (operations, receiver) = mpsc::channel(STORE_QUEUE_MAX);
        let opening = Some(Arc::new(StoreError::Opening));
        let (health_sender, health) = watch::channel(StoreHealth { failure: opening, ..StoreHealth::default() });
        let (first_sender, first) = std_mpsc::sync_channel(1);
        let (resumed_sender, resumed) = oneshot::channel();
        let writer = Writer {
            store: None,
            open,
            bytes_max: bytes_max.saturating_add(STORE_RESERVE_BYTES),
            pause,
            receiver,
            retried: VecDeque::new(),
            health: health_sender,
            closed_by: None,
            first: Some(first_sender),
            resumed: Resuming::Asked(resumed_sender),
            looked_at: None,
        };
        let thread = thread::Builder::new().name("store".into()).spawn(|| writer.run())?;
        Ok(Starting { port: Self { operations, health }, thread, first, resumed })
    }

    /// Queues a change behind those queued before it; waits only for a place in the queue.
    pub async fn change(&self, change: Change) -> oneshot::Receiver<Done> {
        let (reply, answer) = oneshot::channel();
        let _ = self.operations.send(Operation::Change(Task { change, reply: Some(reply) })).await;
        answer
    }

    /// Queues the question for the next record to send. It never sees what is not durable.
    pub async fn first_unsynced(&self) -> oneshot::Receiver<Next> {
        let (reply, answer) = oneshot::channel();
        let _ = self.operations.send(Operation::FirstUnsynced(reply)).await;
        answer
    }

    /// Queues the question for what is known of these calls, in their order: at most [`STORE_GROUP_MAX`] of them.
    pub async fn find(&self, call_sids: Vec<CallSid>) -> oneshot::Receiver<Found> {
        let (reply, answer) = oneshot::channel();
        let _ = self.operations.send(Operation::Find(call_sids, reply)).await;
        answer
    }

    pub fn health(&self) -> watch::Receiver<StoreHealth> {
        self.health.clone()
    }
}

#[derive(Debug)]
enum Operation {
    Change(Task),
    FirstUnsynced(oneshot::Sender<Next>),
    Find(Vec<CallSid>, oneshot::Sender<Found>),
}

#[derive(Debug)]
struct Task {
    change: Change,
    /// `None`: whoever asked has been told of the failure.
    reply: Option<oneshot::Sender<Done>>,
}

/// What an operation came to, told only after the fsync.
enum Outcome {
    Changed(Done),
    Found(Option<Box<Stored>>),
    Known(Vec<Known>),
}

/// What the run before left in the store is told once.
enum Resuming {
    Asked(oneshot::Sender<Resumed>),
    Read(oneshot::Sender<Resumed>, Resumed),
    Told,
}

struct Writer {
    store: Option<Box<dyn Store>>,
    open: Opener,
    /// Of new calls' records nothing is taken beyond it.
    bytes_max: u64,
    pause: Duration,
    receiver: mpsc::Receiver<Operation>,
    /// Changes that failed, in their order.
    retried: VecDeque<Task>,
    health: watch::Sender<StoreHealth>,
    /// What closed the store, until it is open again.
    closed_by: Option<Arc<StoreError>>,
    first: Option<std_mpsc::SyncSender<Opened>>,
    resumed: Resuming,
    looked_at: Option<Instant>,
}

impl Writer {
    fn run(mut self) {
        if !self.open_first() {
            return;
        }
        while let Some(group) = self.gather() {
            let (outcomes, failure) = self.attempt(&group);
            match failure {
                None => self.answer(group, outcomes),
                Some(error) => self.put_off(group, outcomes, Arc::new(error)),
            }
            if self.store.is_none() && self.receiver.is_closed() && self.receiver.is_empty() {
                // Nobody waits any more, and stopping must not take for ever.
                if !self.retried.is_empty() {
                    tracing::error!(changes = self.retried.len(), "stopped with changes that the disk did not take");
                }
                return;
            }
        }
    }

    /// `false`: the store is not ours, and nothing can be done here.
    fn open_first(&mut self) -> bool {
        let opened = guarded(|| self.reopened().map(drop));
        let tell = |first: Option<std_mpsc::SyncSender<Opened>>, opened| {
            if let Some(first) = first {
                let _ = first.send(opened);
            }
        };
        match opened {
            Ok(()) => self.answer(Vec::new(), Vec::new()),
            Err(error @ (StoreError::InUse(_) | StoreError::NewerVersion(..))) => {
                tell(self.first.take(), Opened::Refused(error));
                return false;
            }
            Err(error) => {
                let error = Arc::new(error);
                tell(self.first.take(), Opened::NotYet(error.clone()));
                self.put_off(Vec::new(), Vec::new(), error);
            }
        }
        true
    }

    /// What is to be done next: what failed before, then what waits. `None`: nobody is left who could ask.
    fn gather(&mut self) -> Option<Vec<Operation>> {
        let mut group = Vec::new();
        if self.store.is_none() {
            thread::sleep(self.pause);
        } else if self.retried.is_empty() {
            group.push(self.receiver.blocking_recv()?);
        }
        while group.len() < STORE_GROUP_MAX {
            let Some(task) = self.retried.pop_front() else { break };
            group.push(Operation::Change(task));
        }
        // What is new stays behind everything that is retried.
        while self.retried.is_empty() && group.len() < STORE_GROUP_MAX {
            let Ok(operation) = self.receiver.try_recv() else { break };
            group.push(operation);
        }
        // While the disk refuses, those behind the retried ones are not left without an answer either.
        if self.store.is_none() {
            while let Ok(operation) = self.receiver.try_recv() {
                group.push(operation);
            }
        }
        Some(group)
    }

    /// Does the operations in order, then brings them to the disk. With a failure, what comes after it was not done,
    /// and of what came before only refusals for good are certain.
    fn attempt(&mut self, group: &[Operation]) -> (Vec<Outcome>, Option<StoreError>) {
        let mut outcomes = Vec::with_capacity(group.len());
        let failure = guarded(|| {
            let bytes_max = self.bytes_max;
            let store = self.reopened()?;
            let mut changed = false;
            for operation in group {
                outcomes.push(match operation {
                    Operation::Change(task) => {
                        let done = apply(store, &task.change, bytes_max)?;
                        // That a record was kept before does not say that it was durable then.
                        changed |= !matches!((&task.change, &done), (Change::MakeRoom { .. }, Ok(false)));
                        Outcome::Changed(done)
                    }
                    Operation::FirstUnsynced(_) => Outcome::Found(store.first_unsynced()?.map(Box::new)),
                    Operation::Find(calls, _) => {
                        Outcome::Known(calls.iter().map(|call_sid| store.find(*call_sid)).collect::<Result<_, _>>()?)
                    }
                });
            }
            if changed { store.make_durable() } else { Ok(()) }
        });
        (outcomes, failure.err())
    }

    fn reopened(&mut self) -> Result<&mut dyn Store, StoreError> {
        if self.store.is_none() {
            let mut store = (self.open)(self.closed_by.as_deref())?;
            if let Resuming::Asked(_) = self.resumed {
                let read =
                    Resumed { drafts: store.drafts()?, recent: store.recent(RECENT_CALLS_MAX)?, live: store.live()? };
                if let Resuming::Asked(asker) = std::mem::replace(&mut self.resumed, Resuming::Told) {
                    self.resumed = Resuming::Read(asker, read);
                }
            }
            self.store = Some(store);
            (self.closed_by, self.looked_at) = (None, None);
        }
        match &mut self.store {
            Some(store) => Ok(store.as_mut()),
            None => Err(StoreError::Opening),
        }
    }

    fn answer(&mut self, group: Vec<Operation>, outcomes: Vec<Outcome>) {
        let counts = self.store.as_ref().map_or_else(Counts::default, |store| store.counts());
        let surroundings = self.look(&group);
        let before = self.health.borrow().clone();
        match before.failure.as_deref() {
            None | Some(StoreError::Opening) => {}
            Some(_) => tracing::info!("the store keeps records again"),
        }
        if before.surroundings.has_room != surroundings.has_room {
            if surroundings.has_room {
                tracing::info!("the store's disk has room again");
            } else {
                tracing::error!("the store's disk is full: new calls go to the recorder; free space on it");
            }
        }
        self.health.send_if_modified(|health| {
            let differs = health.failure.is_some() || health.counts != counts || health.surroundings != surroundings;
            *health = StoreHealth { counts, surroundings, failure: None };
            differs
        });
        // Only now: whoever is told finds the store in health.
        if let Resuming::Read(asker, read) = std::mem::replace(&mut self.resumed, Resuming::Told) {
            let _ = asker.send(read);
        }
        if let Some(first) = self.first.take() {
            let _ = first.send(Opened::Open);
        }
        for (operation, outcome) in group.into_iter().zip(outcomes) {
            match (operation, outcome) {
                (Operation::Change(task), Outcome::Changed(done)) => {
                    if let (Change::PutFinal(record), Ok(true)) = (&task.change, &done) {
                        report_stored(record);
                    }
                    if let Some(reply) = task.reply {
                        let _ = reply.send(done);
                    }
                }
                (Operation::FirstUnsynced(reply), Outcome::Found(next)) => drop(reply.send(Ok(next))),
                (Operation::Find(_, reply), Outcome::Known(known)) => drop(reply.send(Ok(known))),
                _ => {}
            }
        }
    }

    /// How it is around the store: looked at every so often, and after every change. Compared with its fsync that costs
    /// nothing, and a fast disk fills up between two looks.
    fn look(&mut self, group: &[Operation]) -> Surroundings {
        let is_changed = group.iter().any(|operation| matches!(operation, Operation::Change(_)));
        let is_due = self.looked_at.is_none_or(|at| at.elapsed() >= STORE_LOOK_EVERY);
        let Some(store) = self.store.as_mut().filter(|_| is_changed || is_due) else {
            return self.health.borrow().surroundings;
        };
        self.looked_at = Some(Instant::now());
        store.surroundings()
    }

    /// Closes the store, tells those who must not wait, and keeps what must be tried again.
    fn put_off(&mut self, group: Vec<Operation>, outcomes: Vec<Outcome>, error: Arc<StoreError>) {
        if matches!(self.health.borrow().failure.as_deref(), None | Some(StoreError::Opening)) {
            tracing::error!(error = %Causes(error.as_ref()), "the store cannot keep records");
        }
        // An engine that broke down may do so again when it is closed.
        let store = self.store.take();
        let was_open = store.is_some();
        let _ = guarded(|| {
            drop(store);
            Ok(())
        });
        // What closed it, not why it does not open.
        if was_open || self.closed_by.is_none() {
            self.closed_by = Some(error.clone());
        }
        self.health.send_modify(|health| health.failure = Some(error.clone()));
        let mut outcomes = outcomes.into_iter();
        let mut again = VecDeque::new();
        for operation in group {
            match (operation, outcomes.next()) {
                (Operation::FirstUnsynced(reply), _) => drop(reply.send(Err(NotKept::Later(error.clone())))),
                (Operation::Find(_, reply), _) => drop(reply.send(Err(NotKept::Later(error.clone())))),
                (Operation::Change(task), Some(Outcome::Changed(Err(refused)))) => task.tell(refused),
                (Operation::Change(mut task), _) => match &task.change {
                    // A call may be over before the disk takes anything again; what is known of it then goes into its record.
                    Change::Unpark(_) | Change::MakeRoom { .. } | Change::PutLive(_) => {
                        task.tell(NotKept::Later(error.clone()));
                    }
                    Change::MarkSynced { .. } | Change::Park { .. } => again.push_back(task),
                    Change::PutDraft(record) | Change::PutFinal(record) => {
                        if again.len() + self.retried.len() >= STORE_QUEUE_MAX {
                            tracing::error!(call_sid = %record.call_sid, "a record could not be kept and is given up");
                            task.tell(NotKept::Never(error.clone()));
                        } else {
                            if let Some(reply) = task.reply.take() {
                                let _ = reply.send(Err(NotKept::Later(error.clone())));
                            }
                            again.push_back(task);
                        }
                    }
                },
            }
        }
        again.append(&mut self.retried);
        self.retried = again;
    }
}

impl Task {
    fn tell(self, why: NotKept) {
        if let Some(reply) = self.reply {
            let _ = reply.send(Err(why));
        }
    }
}

/// An error and what caused it, on one line.
pub(super) struct Causes<'a>(pub &'a dyn std::error::Error);

impl fmt::Display for Causes<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Later(_) => "not on the disk yet; it is tried again",
            Self::Never(_) => "it cannot be kept",
            Self::Stopped => "the store has stopped",
        })
    }
}

impl std::error::Error for NotKept {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Later(error) | Self::Never(error) => Some(error.as_ref()),
            Self::Stopped => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcripts::{
        journal::samples::entry,
        memory_store_tests::MemoryStore,
        record::samples::{noise, record},
        sled_store::SledStore,
    };

    fn start(memory: &MemoryStore) -> (StorePort, JoinHandle<()>) {
        let opened = memory.clone();
        let open: Opener = Box::new(move |_| Ok(Box::new(opened.clone())));
        let starting = StorePort::start(open, u64::MAX, Duration::from_millis(1)).unwrap();
        assert!(matches!(starting.first.recv().unwrap(), Opened::Open));
        (starting.port, starting.thread)
    }

    fn put(number: u128) -> Change {
        Change::PutFinal(Box::new(record(number)))
    }

    #[tokio::test]
    async fn whatever_was_answered_survives_a_power_cut() {
        let memory = MemoryStore::default();
        let (port, _thread) = start(&memory);
        assert!(port.change(put(1)).await.await.unwrap().unwrap());
        assert!(!port.change(put(1)).await.await.unwrap().unwrap());
        let mut left = memory.after_power_cut();
        assert_eq!(left.first_unsynced().unwrap().unwrap().record, record(1));
        assert_eq!(port.health().borrow().counts.unsynced, 1);
    }

    #[tokio::test]
    async fn changes_that_wait_together_share_one_sync() {
        let memory = MemoryStore::default();
        let (operations, receiver) = mpsc::channel(STORE_QUEUE_MAX);
        let (health, health_receiver) = watch::channel(StoreHealth::default());
        let port = StorePort { operations, health: health_receiver };
        let mut answers = Vec::new();
        for number in 0..100 {
            answers.push(port.change(put(number)).await);
        }
        drop(port);
        let again = memory.clone();
        let writer = Writer {
            store: None,
            open: Box::new(move |_| Ok(Box::new(again.clone()))),
            bytes_max: u64::MAX,
            pause: Duration::ZERO,
            receiver,
            retried: VecDeque::new(),
            health,
            closed_by: None,
            first: None,
            resumed: Resuming::Told,
            looked_at: None,
        };
        thread::spawn(|| writer.run()).join().unwrap();
        for answer in answers {
            assert!(answer.await.unwrap().unwrap());
        }
        assert_eq!(memory.durable_calls(), 1);
    }

    #[tokio::test]
    async fn a_disk_that_refuses_is_told_at_once_and_the_record_kept_when_it_takes_again() {
        let memory = MemoryStore::default();
        let (port, thread) = start(&memory);
        memory.set_failing(true);
        assert!(matches!(port.change(put(1)).await.await.unwrap(), Err(NotKept::Later(_))));
        assert!(matches!(port.change(put(2)).await.await.unwrap(), Err(NotKept::Later(_))));
        assert!(matches!(port.first_unsynced().await.await.unwrap(), Err(NotKept::Later(_))));
        let mut health = port.health();
        assert!(health.borrow_and_update().failure.is_some());

        memory.set_failing(false);
        health.wait_for(|health| health.failure.is_none() && health.counts.unsynced == 2).await.unwrap();
        let first = port.first_unsynced().await.await.unwrap().unwrap().unwrap();
        assert_eq!(first.record, record(1));
        drop(port);
        thread.join().unwrap();
        assert_eq!(memory.after_power_cut().counts().unsynced, 2);
    }

    #[tokio::test]
    async fn an_acknowledgement_waits_until_it_is_noted() {
        let memory = MemoryStore::default();
        let (port, _thread) = start(&memory);
        port.change(put(1)).await.await.unwrap().unwrap();
        memory.set_failing(true);
        let noted = Change::MarkSynced { sequence: Sequence(1), at: Timestamp::UNIX_EPOCH };
        let noted = port.change(noted).await;
        assert!(matches!(port.change(put(2)).await.await.unwrap(), Err(NotKept::Later(_))));
        memory.set_failing(false);
        assert!(noted.await.unwrap().unwrap());
        assert_eq!(memory.after_power_cut().counts().synced, 1);
    }

    #[tokio::test]
    async fn it_stops_even_if_the_disk_never_takes_anything_again() {
        let memory = MemoryStore::default();
        let (port, thread) = start(&memory);
        memory.set_failing(true);
        assert!(port.change(put(1)).await.await.unwrap().is_err());
        drop(port);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_record_beyond_every_bound_fails_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().to_owned();
        let open: Opener = Box::new(move |_| Ok(Box::new(SledStore::open(&path)?)));
        let Starting { port, thread, .. } = StorePort::start(open, u64::MAX, Duration::from_millis(1)).unwrap();
        let mut endless = record(1);
        endless.text.0 = "x".repeat(5 << 20);
        let refused = port.change(Change::PutFinal(Box::new(endless))).await;
        let kept = port.change(put(2)).await;
        assert!(matches!(refused.await.unwrap(), Err(NotKept::Never(_))));
        assert!(kept.await.unwrap().unwrap());
        assert!(port.health().borrow().failure.is_none());
        drop(port);
        thread.join().unwrap();
    }

    #[tokio::test]
    async fn a_store_that_does_not_open_yet_is_tried_again_and_then_tells_what_it_holds() {
        let memory = MemoryStore::default();
        let mut left = memory.clone();
        left.put_draft(&record(7)).unwrap();
        left.put_live(&entry(8)).unwrap();
        let full = || StoreError::Directory("/there".into(), std::io::ErrorKind::StorageFull.into());
        let opened = memory.clone();
        let (allow, allowed) = std_mpsc::channel();
        let open: Opener = Box::new(move |_| {
            allowed.try_recv().map_err(|_| full())?;
            Ok(Box::new(opened.clone()))
        });
        let Starting { port, thread, first, resumed } =
            StorePort::start(open, u64::MAX, Duration::from_millis(1)).unwrap();
        assert!(matches!(first.recv().unwrap(), Opened::NotYet(error) if error.is_disk_full()));
        assert!(matches!(port.change(put(1)).await.await.unwrap(), Err(NotKept::Later(_))));
        allow.send(()).unwrap();
        let resumed = resumed.await.unwrap();
        assert_eq!((resumed.drafts.len(), resumed.live), (1, vec![entry(8)]));
        port.health().wait_for(|health| health.failure.is_none() && health.counts.unsynced == 1).await.unwrap();
        drop(port);
        thread.join().unwrap();
    }

    #[test]
    fn anothers_store_is_refused_at_once() {
        for error in [StoreError::InUse("/there".into()), StoreError::NewerVersion("/there".into(), 2)] {
            let mut error = Some(error);
            let open: Opener = Box::new(move |_| Err(error.take().unwrap_or(StoreError::Full)));
            let Starting { thread, first, .. } = StorePort::start(open, u64::MAX, Duration::ZERO).unwrap();
            assert!(matches!(first.recv().unwrap(), Opened::Refused(_)));
            thread.join().unwrap();
        }
    }

    #[tokio::test]
    async fn beyond_the_reserve_no_new_call_is_taken_and_what_is_known_goes_on() {
        let mut memory = MemoryStore::default();
        memory.put_draft(&record(1)).unwrap();
        let opened = memory.clone();
        let open: Opener = Box::new(move |_| Ok(Box::new(opened.clone())));
        let Starting { port, .. } = StorePort::start(open, 0, Duration::from_millis(1)).unwrap();
        assert!(port.change(put(2)).await.await.unwrap().unwrap(), "the reserve");
        let mut memory = memory.clone();
        let mut large = record(100);
        large.text.0 = noise(3 << 20);
        for number in 100..=100 + STORE_RESERVE_BYTES / (3 << 20) {
            large.call_sid = record(number.into()).call_sid;
            large.id = record(number.into()).id;
            memory.put_final(&large).unwrap();
        }
        let refused = port.change(put(3)).await.await.unwrap();
        assert!(matches!(refused, Err(NotKept::Never(error)) if matches!(*error, StoreError::Full)));
        assert!(port.change(put(1)).await.await.unwrap().unwrap(), "its draft was taken before");
        assert!(port.health().borrow().failure.is_none(), "the store is well");
    }
}
