//! The keeper's task: joins the wait for recordings, the outbox, the store's thread, Twilio and the upstream.
//!
//! It decides nothing that can be decided without it: [`Pending`] and [`Outbox`] say what is to be done, this does it
//! and tells them what came of it. Everything it waits for is a small task in one set, so a slow disk, a slow Twilio
//! and a slow upstream never hold up each other.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep_until, timeout},
};

use super::{
    identity::random,
    keeper::{Command, Errand, KeepError, KeeperError, KeeperOptions},
    outbox::{self, Delivery, Loaded, Outbox, OutboxOptions},
    pending::{self, Fetched, Listed, Pending},
    record::{Record, TranscriptId},
    recordings,
    store::Store,
    stored::{Sequence, State},
    upstream::{Sent, Upstream},
    view::{KeeperView, RecentCalls, SyncError},
    writer::{Causes, Change, Done, Next, NotKept, Opener, StoreHealth, StorePort},
};
use crate::{
    calls::EndedCall,
    limits::{ERRAND_MAX, KEEPER_STOP_MAX, RECENT_CALLS_MAX, STORE_TIDY_EVERY},
    twilio::{
        rest::{CallLookup, ListedRecording, RestFailure, RestReply},
        sid::{CallSid, RecordingSid},
    },
};

type Reply = oneshot::Sender<Result<(), KeepError>>;

/// What was waited for and has come.
enum Work {
    Drafted { record: Box<Record>, done: Done, reply: Reply },
    Finalized { record: Box<Record>, done: Done, reply: Option<Reply> },
    Fetched { call_sid: CallSid, recording_sid: RecordingSid, fetched: Fetched },
    Listed { call_sid: CallSid, listed: Listed },
    Loaded(Next),
    Sent { sequence: Sequence, record: Box<Record>, sent: Sent },
    Noted { sequence: Sequence, record: Box<Record>, state: State, done: Done },
    Unparked { id: TranscriptId, done: Done, reply: oneshot::Sender<Done> },
    Tidied(Done),
}

pub(super) struct KeeperLoop {
    options: KeeperOptions,
    commands: mpsc::Receiver<Command>,
    errands: mpsc::Sender<Errand>,
    store: StorePort,
    store_thread: std::thread::JoinHandle<()>,
    health: watch::Receiver<StoreHealth>,
    /// `None` without `sync.url`: then records stay on the box.
    upstream: Option<(Outbox, Arc<Upstream>)>,
    /// The record that the outbox has in its hands.
    in_hand: Option<Box<Record>>,
    pending: Pending,
    work: JoinSet<Work>,
    /// How many of those must be waited for before the task may end.
    essential: usize,
    stop_at: Option<Instant>,
    tidy_at: Instant,
    recent: RecentCalls,
    last_ok: Option<Timestamp>,
    last_error: Option<SyncError>,
    view: watch::Sender<KeeperView>,
}

impl KeeperLoop {
    /// Resumes what waits in `store`, and hands it to its thread.
    pub fn new(
        options: KeeperOptions,
        errands: mpsc::Sender<Errand>,
        commands: mpsc::Receiver<Command>,
        upstream: Option<Upstream>,
        mut store: Box<dyn Store>,
        (reopen, pause): (Opener, Duration),
    ) -> Result<(Self, watch::Receiver<KeeperView>), KeeperError> {
        let now = options.clock.now();
        let drafts = store.drafts().map_err(KeeperError::Store)?;
        let mut last = store.recent(RECENT_CALLS_MAX).map_err(KeeperError::Store)?;
        last.extend_from_slice(&drafts);
        let recent = RecentCalls::of(&last);
        let mut pending = Pending::new();
        for draft in drafts {
            let ago = options.clock.wall(now).duration_since(draft.record.ended_at);
            pending.handle_resumed(draft.record, ago.try_into().unwrap_or_default(), now);
        }
        let (store, store_thread) = StorePort::start(store, reopen, pause).map_err(KeeperError::Thread)?;
        let sync = &options.sync;
        let outbox = OutboxOptions {
            retry_min: sync.retry_min,
            retry_max: sync.retry_max,
            seed: random().map_or(0, |random| random as u64),
        };
        let (view, view_receiver) = watch::channel(KeeperView::default());
        let health = store.health();
        let keeper = Self {
            commands,
            errands,
            health,
            store,
            store_thread,
            upstream: upstream.map(|upstream| (Outbox::new(outbox), Arc::new(upstream))),
            in_hand: None,
            pending,
            work: JoinSet::new(),
            essential: 0,
            stop_at: None,
            tidy_at: now,
            recent,
            last_ok: None,
            last_error: None,
            view,
            options,
        };
        keeper.publish();
        Ok((keeper, view_receiver))
    }

    /// Runs until it is told to stop or nobody could tell it anything any more.
    pub async fn run(mut self) {
        self.perform().await;
        while !self.is_done() {
            let due = self.next_deadline();
            tokio::select! {
                command = self.commands.recv(), if self.stop_at.is_none() => match command {
                    Some(command) => self.handle_command(command).await,
                    None => self.stop(),
                },
                Some(done) = self.work.join_next() => match done {
                    Ok(work) => self.handle_work(work),
                    Err(error) => tracing::error!(%error, "a part of the keeper's work broke off"),
                },
                Ok(()) = self.health.changed() => self.handle_health(),
                () = sleep_until(due.into()) => self.handle_timeout().await,
            }
            self.perform().await;
            self.publish();
        }
        self.work.shutdown().await;
        drop(self.store);
        let thread = self.store_thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }

    async fn handle_command(&mut self, command: Command) {
        let now = self.options.clock.now();
        match command {
            Command::Keep { ended, reply } => self.keep(*ended, reply).await,
            Command::Announced { call_sid, recording_sid, status } => {
                self.pending.handle_announced(call_sid, recording_sid, status, now);
            }
            Command::Retry { id, reply } => {
                let done = self.store.change(Change::Unpark(id)).await;
                self.essential(async move { Work::Unparked { id, done: settled(done).await, reply } });
            }
            // Those that were sent before it are still received.
            Command::Stop => self.commands.close(),
        }
    }

    /// A call that went to the recorder, or was heard of from there, leaves a draft; any other one is final at once.
    async fn keep(&mut self, ended: EndedCall, reply: Reply) {
        let clock = self.options.clock;
        let id = TranscriptId::new(clock.wall(ended.ended_at), random().unwrap_or_else(|_| random_from_sid(&ended)));
        let wall = |at| clock.wall(at);
        let record = Record::of_ended(id, &ended, wall, &self.options.made_by, &self.options.language);
        let record = Box::new(record);
        // A redirect whose answer was lost may have been applied: only the recordings tell.
        if ended.fallback.is_some() || self.pending.is_announced(ended.call_sid) {
            let done = self.store.change(Change::PutDraft(record.clone())).await;
            self.essential(async move { Work::Drafted { record, done: settled(done).await, reply } });
        } else {
            self.finalize(record, Some(reply)).await;
        }
    }

    async fn finalize(&mut self, record: Box<Record>, reply: Option<Reply>) {
        let done = self.store.change(Change::PutFinal(record.clone())).await;
        self.essential(async move { Work::Finalized { record, done: settled(done).await, reply } });
    }

    fn handle_work(&mut self, work: Work) {
        let now = self.options.clock.now();
        match work {
            Work::Drafted { record, done, reply } => {
                self.essential -= 1;
                // Already there: somebody waits for it, or it is final.
                if !matches!(done, Ok(false)) {
                    self.recent.note(&record, State::AwaitingRecording);
                    self.pending.handle_ended(*record, now);
                }
                let _ = reply.send(done.map(|_| ()).map_err(KeepError::NotKept));
            }
            Work::Finalized { record, done, reply } => {
                self.essential -= 1;
                if !matches!(done, Ok(false)) {
                    self.recent.note(&record, State::Unsynced);
                    self.handle_unsynced();
                }
                if let Some(reply) = reply {
                    let _ = reply.send(done.map(|_| ()).map_err(KeepError::NotKept));
                }
            }
            Work::Fetched { call_sid, recording_sid, fetched } => {
                self.pending.handle_fetched(call_sid, recording_sid, fetched, now);
            }
            Work::Listed { call_sid, listed } => self.pending.handle_listed(call_sid, listed, now),
            Work::Loaded(next) => self.handle_loaded(next, now),
            Work::Sent { sequence, record, sent } => self.handle_sent(sequence, record, sent, now),
            Work::Noted { sequence, record, state, done } => {
                self.essential -= 1;
                if done.is_ok() {
                    self.recent.note(&record, state);
                    if let Some((outbox, _)) = &mut self.upstream {
                        outbox.handle_noted(sequence);
                    }
                }
            }
            Work::Unparked { id, done, reply } => {
                self.essential -= 1;
                if matches!(done, Ok(true)) {
                    self.recent.unpark(id);
                    self.handle_unsynced();
                }
                let _ = reply.send(done);
            }
            // There may be more to delete than went at once.
            Work::Tidied(Ok(true)) => self.tidy_at = now,
            Work::Tidied(_) => {}
        }
    }

    fn handle_unsynced(&mut self) {
        if let Some((outbox, _)) = &mut self.upstream {
            outbox.handle_unsynced();
        }
    }

    fn handle_loaded(&mut self, next: Next, now: Instant) {
        let Some((outbox, _)) = &mut self.upstream else { return };
        let loaded = match next {
            Ok(Some(stored)) => match stored.sequence {
                Some(sequence) => {
                    self.in_hand = Some(Box::new(stored.record));
                    Loaded::Record(sequence)
                }
                None => Loaded::Nothing,
            },
            Ok(None) => Loaded::Nothing,
            Err(_) => Loaded::Unavailable,
        };
        outbox.handle_loaded(loaded, now);
    }

    fn handle_sent(&mut self, sequence: Sequence, record: Box<Record>, sent: Sent, now: Instant) {
        self.essential -= 1;
        let Some((outbox, _)) = &mut self.upstream else { return };
        outbox.handle_delivery(sequence, sent.delivery, now);
        let at = self.options.clock.wall(now);
        if sent.delivery == Delivery::Acknowledged {
            self.last_ok = Some(at);
        } else {
            tracing::warn!(
                event = "SYNC_FAILED",
                call_sid = %record.call_sid,
                stream_sid = record.stream_sid.map(tracing::field::display),
                transcript_id = %record.id,
                answer = sent.answer,
                parked = matches!(sent.delivery, Delivery::Refused { .. }),
                failures = outbox.failures(),
                "transcript not taken by the upstream"
            );
            self.last_error = Some(SyncError { at, message: sent.answer });
        }
        self.in_hand = Some(record);
    }

    /// The store has changed. Records that it kept by itself, after it had refused them, are noticed here alone.
    fn handle_health(&mut self) {
        let health = self.health.borrow_and_update().clone();
        if health.failure.is_none() && health.counts.unsynced > 0 {
            self.handle_unsynced();
        }
    }

    async fn handle_timeout(&mut self) {
        let now = self.options.clock.now();
        self.pending.handle_timeout(now);
        if let Some((outbox, _)) = &mut self.upstream {
            outbox.handle_timeout(now);
        }
        if self.tidy_at <= now {
            self.tidy_at = now + STORE_TIDY_EVERY;
            let keep_synced = self.options.store.keep_synced;
            let synced_before = self.options.clock.wall(now).saturating_sub(keep_synced).unwrap_or(Timestamp::MIN);
            let bytes_max = self.options.store.max_bytes;
            let done = self.store.change(Change::MakeRoom { bytes_max, synced_before }).await;
            self.work.spawn(async move { Work::Tidied(settled(done).await) });
        }
    }

    /// Does what the deciding parts say. While stopping, only what must not be forgotten.
    async fn perform(&mut self) {
        while let Some(output) = self.pending.poll_output() {
            match output {
                pending::Output::Finalize(record) => self.finalize(record, None).await,
                pending::Output::Fetch { call_sid, recording_sid } => self.fetch(call_sid, recording_sid),
                pending::Output::List { call_sid } => self.list(call_sid),
            }
        }
        while let Some((outbox, upstream)) = &mut self.upstream
            && let Some(output) = outbox.poll_output()
        {
            let at = self.options.clock.wall(self.options.clock.now());
            match output {
                outbox::Output::Load | outbox::Output::Send { .. } if self.stop_at.is_some() => {}
                outbox::Output::Load => {
                    let next = self.store.first_unsynced().await;
                    self.work.spawn(async move { Work::Loaded(next.await.unwrap_or(Err(NotKept::Stopped))) });
                }
                outbox::Output::Send { sequence } => {
                    let Some(record) = self.in_hand.take() else { continue };
                    let upstream = upstream.clone();
                    self.essential(async move {
                        let sent = upstream.send(&record).await;
                        Work::Sent { sequence, record, sent }
                    });
                }
                outbox::Output::MarkSynced { sequence } => {
                    self.note(sequence, State::Synced { at }, Change::MarkSynced { sequence, at }).await;
                }
                outbox::Output::Park { sequence, status } => {
                    self.note(sequence, State::Parked { status, at }, Change::Park { sequence, status, at }).await;
                }
            }
        }
    }

    async fn note(&mut self, sequence: Sequence, state: State, change: Change) {
        let Some(record) = self.in_hand.take() else { return };
        let done = self.store.change(change).await;
        self.essential(async move {
            let done = settled(done).await;
            if done.is_ok() && matches!(state, State::Synced { .. }) {
                tracing::info!(
                    event = "TRANSCRIPT_SYNCED",
                    call_sid = %record.call_sid,
                    stream_sid = record.stream_sid.map(tracing::field::display),
                    transcript_id = %record.id,
                    "transcript taken by the upstream"
                );
            }
            Work::Noted { sequence, record, state, done }
        });
    }

    fn fetch(&mut self, call_sid: CallSid, recording_sid: RecordingSid) {
        let (reply, answer) = oneshot::channel();
        let _ = self.errands.try_send(Errand::FetchRecording { recording_sid, reply });
        let store = self.options.store.path.clone();
        let stream_sid = self.pending.stream_sid(call_sid).map(tracing::field::display);
        self.work.spawn(async move {
            let Ok(Ok(answer)) = timeout(ERRAND_MAX, answer).await else {
                return Work::Fetched { call_sid, recording_sid, fetched: Fetched::Unreachable };
            };
            let bytes = answer.as_ref().map_or(0, |answer| answer.body.len());
            let fetched = keep_recording(store, recording_sid, answer).await;
            if matches!(fetched, Fetched::Saved { .. }) {
                tracing::info!(
                    event = "RECORDING_RECEIVED",
                    %call_sid,
                    stream_sid,
                    %recording_sid,
                    bytes,
                    "recording received"
                );
            }
            Work::Fetched { call_sid, recording_sid, fetched }
        });
    }

    fn list(&mut self, call_sid: CallSid) {
        let (reply, answer) = oneshot::channel();
        let _ = self.errands.try_send(Errand::ListRecordings { call_sid, reply });
        self.work.spawn(async move {
            let listed = match timeout(ERRAND_MAX, answer).await {
                Ok(Ok(answer)) => read_listing(answer),
                _ => Listed::Unreachable,
            };
            Work::Listed { call_sid, listed }
        });
    }

    /// Work that must be waited for before the task may end.
    fn essential(&mut self, work: impl Future<Output = Work> + Send + 'static) {
        self.essential += 1;
        self.work.spawn(work);
    }

    fn stop(&mut self) {
        self.stop_at = Some(self.options.clock.now() + KEEPER_STOP_MAX);
    }

    fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|at| self.essential == 0 || at <= self.options.clock.now())
    }

    fn next_deadline(&self) -> Instant {
        let recording = self.pending.poll_timeout().map(|(at, _)| at);
        let sync = self.upstream.as_ref().and_then(|(outbox, _)| outbox.poll_timeout()).map(|(at, _)| at);
        [recording, sync, self.stop_at].into_iter().flatten().fold(self.tidy_at, Instant::min)
    }

    fn publish(&self) {
        let health = self.health.borrow();
        let counts = health.counts;
        // Synced records make room for new ones; nothing else does.
        let is_full = counts.bytes > self.options.store.max_bytes && counts.synced == 0;
        let view = KeeperView {
            stored: counts.stored(),
            unsynced: counts.unsynced,
            parked: counts.parked,
            awaiting_recording: counts.awaiting_recording,
            bytes: counts.bytes,
            damaged: counts.damaged,
            missing: counts.missing,
            can_keep: health.failure.is_none() && !is_full,
            store_error: health.failure.as_ref().map(|error| Causes(error.as_ref()).to_string()),
            last_ok: self.last_ok,
            last_error: self.last_error.clone(),
            sync_trouble: self.upstream.as_ref().is_some_and(|(outbox, _)| outbox.is_in_trouble()),
            recent: self.recent.to_vec(),
        };
        self.view.send_if_modified(|known| {
            let differs = *known != view;
            *known = view;
            differs
        });
    }
}

async fn settled(done: oneshot::Receiver<Done>) -> Done {
    done.await.unwrap_or(Err(NotKept::Stopped))
}

async fn keep_recording(
    store: PathBuf,
    recording_sid: RecordingSid,
    answer: Result<RestReply, RestFailure>,
) -> Fetched {
    let kept = tokio::task::spawn_blocking(move || recordings::keep(&store, recording_sid, answer));
    kept.await.unwrap_or(Fetched::Unreachable)
}

fn read_listing(answer: Result<Vec<ListedRecording>, CallLookup>) -> Listed {
    match answer {
        // Twilio lists the newest first.
        Ok(recordings) => Listed::Recordings(
            recordings.into_iter().rev().map(|recording| (recording.recording_sid, recording.status)).collect(),
        ),
        // 404 is a wrong account or region: no sign that there is no recording.
        Err(_) => Listed::Unreachable,
    }
}

/// A CallSid is as good as random, should the operating system have nothing better.
fn random_from_sid(ended: &EndedCall) -> u128 {
    ended.call_sid.as_str().get(2..).and_then(|digits| u128::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
