//! The store's own thread: takes what waits, does it in order, brings it to the disk with one fsync, then answers.
//!
//! When the disk refuses, the store is closed and opened again every so often, and what could not be kept is tried
//! again in its order: a full disk that was freed needs no restart. Meanwhile a new record is answered with the
//! failure at once, so that no webhook hangs, and joins those that are retried (at most [`STORE_QUEUE_MAX`]; what
//! comes beyond is refused, and its error says so). Notes about what the upstream said wait until they are durable:
//! nobody may forget an acknowledgement.

use std::{
    collections::VecDeque,
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    journal::JournalEntry,
    record::{Record, TranscriptId},
    store::{Counts, Kept, Known, Store, StoreError},
    stored::{Sequence, Stored},
};
use crate::{
    limits::{STORE_GROUP_MAX, STORE_QUEUE_MAX},
    twilio::sid::CallSid,
};

/// How long the disk is left alone after it refused.
pub const REOPEN_AFTER: Duration = Duration::from_secs(1);

/// Opens the store, or opens it again.
pub type Opener = Box<dyn FnMut() -> Result<Box<dyn Store>, StoreError> + Send>;

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
    /// Starts the thread with a store that is open; `reopen` opens it again after a failure.
    pub fn start(store: Box<dyn Store>, reopen: Opener, pause: Duration) -> std::io::Result<(Self, JoinHandle<()>)> {
        let (operations, receiver) = mpsc::channel(STORE_QUEUE_MAX);
        let (health_sender, health) = watch::channel(StoreHealth { counts: store.counts(), failure: None });
        let writer =
            Writer { store: Some(store), reopen, pause, receiver, retried: VecDeque::new(), health: health_sender };
        let thread = thread::Builder::new().name("store".into()).spawn(|| writer.run())?;
        Ok((Self { operations, health }, thread))
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

struct Writer {
    store: Option<Box<dyn Store>>,
    reopen: Opener,
    pause: Duration,
    receiver: mpsc::Receiver<Operation>,
    /// Changes that failed, in their order.
    retried: VecDeque<Task>,
    health: watch::Sender<StoreHealth>,
}

impl Writer {
    fn run(mut self) {
        while let Some(group) = self.gather() {
            let (outcomes, failure) = self.attempt(&group);
            match failure {
                None => self.answer(group, outcomes),
                Some(error) => self.put_off(group, outcomes, Arc::new(error)),
            }
            if self.store.is_none() && self.receiver.is_closed() && self.receiver.is_empty() {
                // Nobody waits any more, and stopping must not take for ever.
                tracing::error!(changes = self.retried.len(), "stopped with changes that the disk did not take");
                return;
            }
        }
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
        let attempt = catch_unwind(AssertUnwindSafe(|| {
            let store = self.reopened()?;
            let mut changed = false;
            for operation in group {
                outcomes.push(match operation {
                    Operation::Change(task) => {
                        let done = apply(store, &task.change)?;
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
        }));
        // A panic below is sled's way to say that its files are not what it wrote.
        let failure = attempt.unwrap_or_else(|_| Err(StoreError::Unreadable("records".into()))).err();
        (outcomes, failure)
    }

    fn reopened(&mut self) -> Result<&mut dyn Store, StoreError> {
        if self.store.is_none() {
            self.store = Some((self.reopen)()?);
        }
        match &mut self.store {
            Some(store) => Ok(store.as_mut()),
            None => Err(StoreError::Unreadable("records".into())),
        }
    }

    fn answer(&mut self, group: Vec<Operation>, outcomes: Vec<Outcome>) {
        let counts = self.store.as_ref().map_or_else(Counts::default, |store| store.counts());
        if self.health.borrow().failure.is_some() {
            tracing::info!("the store keeps records again");
        }
        self.health.send_if_modified(|health| {
            let differs = health.failure.is_some() || health.counts != counts;
            *health = StoreHealth { counts, failure: None };
            differs
        });
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

    /// Closes the store, tells those who must not wait, and keeps what must be tried again.
    fn put_off(&mut self, group: Vec<Operation>, outcomes: Vec<Outcome>, error: Arc<StoreError>) {
        if self.health.borrow().failure.is_none() {
            tracing::error!(error = %Causes(error.as_ref()), "the store cannot keep records");
        }
        self.store = None;
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

fn report_stored(record: &Record) {
    tracing::info!(
        event = "TRANSCRIPT_STORED",
        call_sid = %record.call_sid,
        stream_sid = record.stream_sid.map(tracing::field::display),
        transcript_id = %record.id,
        source = ?record.source,
        outcome = ?record.outcome,
        "transcript stored"
    );
}

/// `Err`: the store is to be opened again. A change that can never be done is no failure of the store.
fn apply(store: &mut dyn Store, change: &Change) -> Result<Done, StoreError> {
    let result = match change {
        Change::PutDraft(record) => store.put_draft(record).map(|kept| kept == Kept::New),
        Change::PutFinal(record) => store.put_final(record).map(|kept| kept == Kept::New),
        Change::PutLive(entry) => store.put_live(entry).map(|kept| kept == Kept::New),
        Change::MarkSynced { sequence, at } => store.mark_synced(*sequence, *at).map(|()| true),
        Change::Park { sequence, status, at } => store.park(*sequence, *status, *at).map(|()| true),
        Change::Unpark(id) => store.unpark(*id),
        Change::MakeRoom { bytes_max, synced_before } => {
            store.make_room(*bytes_max, *synced_before).map(|deleted| deleted > 0)
        }
    };
    match result {
        Err(error @ StoreError::TooLong(_)) => Ok(Err(NotKept::Never(Arc::new(error)))),
        result => result.map(Ok),
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
    use crate::transcripts::{memory_store_tests::MemoryStore, record::samples::record};

    fn start(memory: &MemoryStore) -> (StorePort, JoinHandle<()>) {
        let opened = memory.clone();
        let reopen: Opener = Box::new(move || Ok(Box::new(opened.clone())));
        StorePort::start(Box::new(memory.clone()), reopen, Duration::from_millis(1)).unwrap()
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
            store: Some(Box::new(memory.clone())),
            reopen: Box::new(move || Ok(Box::new(again.clone()))),
            pause: Duration::ZERO,
            receiver,
            retried: VecDeque::new(),
            health,
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
        let mut reopen: Opener =
            Box::new(move || Ok(Box::new(crate::transcripts::sled_store::SledStore::open(&path)?)));
        let (port, thread) = StorePort::start(reopen().unwrap(), reopen, Duration::from_millis(1)).unwrap();
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
}
