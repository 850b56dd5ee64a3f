//! The keeper's task: joins the [`Books`], the store's thread, Twilio and the upstream.
//!
//! It decides nothing: the books says what is to be written, sent and asked, this does it and tells what came of it.
//! Everything it waits for is a small task in one set, so a slow disk, a slow Twilio and a slow upstream never hold up
//! each other.

use std::{collections::HashMap, sync::Arc, time::Instant};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
    time::{sleep_until, timeout},
};

use super::{
    books::{Asker, Books, Next, Output, Writing, Written},
    house::{AudioView, House, Told},
    identity::random,
    journal::JournalEntry,
    keeper::{Command, Errand, Found, KeepError, KeeperOptions, Left, TextWanted},
    outbox::{Delivery, OutboxOptions},
    pending::{Fetched, Listed},
    record::{Heard, Record, TranscriptId},
    recordings,
    stored::Sequence,
    upstream::{Sent, Upstream},
    view::{KeeperView, SyncError},
    writer::{self, Change, Done, NotKept, Resumed, StoreHealth, StorePort},
};
use crate::{
    calls::EndedCall,
    limits::{ERRAND_MAX, KEEPER_STOP_MAX, STORE_LOOK_EVERY, STORE_TIDY_EVERY},
    twilio::{
        sid::{CallSid, RecordingSid, StreamSid},
        webhook::RecordingStatus,
    },
};

use answers::{keep_recording, read_listing};

mod answers;
mod showing;

type Reply = oneshot::Sender<Result<(), KeepError>>;

/// What was waited for and has come.
enum Work {
    Written {
        writing: Writing,
        asker: Option<Asker>,
        done: Done,
    },
    Unparked {
        id: TranscriptId,
        done: Done,
        reply: oneshot::Sender<Done>,
    },
    Remembered {
        done: Done,
        reply: oneshot::Sender<()>,
    },
    Loaded(writer::Next),
    Sent {
        sequence: Sequence,
        record: Box<Record>,
        sent: Sent,
    },
    Fetched {
        call_sid: CallSid,
        recording_sid: RecordingSid,
        fetched: Fetched,
    },
    Listed {
        call_sid: CallSid,
        listed: Listed,
    },
    /// A call's text; `None`: nobody will tell.
    Heard {
        call_sid: CallSid,
        heard: Option<Heard>,
    },
    Tidied(Done),
    /// The store was opened later than the keeper started.
    Resumed {
        resumed: Resumed,
        left: oneshot::Sender<Left>,
    },
}

pub(super) struct KeeperLoop {
    options: KeeperOptions,
    commands: mpsc::Receiver<Command>,
    errands: mpsc::Sender<Errand>,
    store: StorePort,
    store_thread: std::thread::JoinHandle<()>,
    health: watch::Receiver<StoreHealth>,
    upstream: Option<Arc<Upstream>>,
    books: Books,
    /// Those who wait until a record is safe.
    askers: HashMap<Asker, Reply>,
    next_asker: u64,
    work: JoinSet<Work>,
    /// How many of those must be waited for before the task may end.
    essential: usize,
    stop_at: Option<Instant>,
    tidy_at: Instant,
    last_ok: Option<Timestamp>,
    last_error: Option<SyncError>,
    house: House,
    view: watch::Sender<KeeperView>,
}

impl KeeperLoop {
    /// Goes on with what was stored. `store` is the way to its thread, and that thread.
    pub fn new(
        options: KeeperOptions,
        errands: mpsc::Sender<Errand>,
        (commands, port): (mpsc::Receiver<Command>, mpsc::WeakSender<Command>),
        upstream: Option<Upstream>,
        (store, store_thread): (StorePort, std::thread::JoinHandle<()>),
        Resumed { drafts, recent, .. }: Resumed,
    ) -> (Self, watch::Receiver<KeeperView>, watch::Receiver<AudioView>) {
        let now = options.clock.now();
        let outbox = upstream.as_ref().map(|_| OutboxOptions {
            retry_min: options.sync.retry_min,
            retry_max: options.sync.retry_max,
            seed: random().map_or(0, |random| random as u64),
        });
        let texts = options.texts.as_ref().map(|texts| texts.options.clone());
        let (view, view_receiver) = watch::channel(KeeperView::default());
        let (audio, audio_seen) = watch::channel(AudioView::default());
        let house = House::start(&options, &store, &errands, port, upstream.is_some(), audio);
        for stored in recent.iter().chain(&drafts) {
            house.tell(Told::Answered { to: stored.record.to.whole().to_owned() });
        }
        let keeper = Self {
            commands,
            errands,
            health: store.health(),
            store,
            store_thread,
            upstream: upstream.map(Arc::new),
            books: Books::with_texts(texts, outbox, drafts, recent, options.clock.wall(now), now),
            askers: HashMap::new(),
            next_asker: 0,
            work: JoinSet::new(),
            essential: 0,
            stop_at: None,
            tidy_at: now,
            last_ok: None,
            last_error: None,
            house,
            view,
            options,
        };
        keeper.publish();
        (keeper, view_receiver, audio_seen)
    }

    /// Goes on with what a store holds that opens only later, and tells `left` what the run before left.
    pub fn resume_late(&mut self, late: oneshot::Receiver<Resumed>, left: oneshot::Sender<Left>) {
        self.work.spawn(async move {
            match late.await {
                Ok(resumed) => Work::Resumed { resumed, left },
                // It will never come: the store's thread has ended.
                Err(_) => std::future::pending().await,
            }
        });
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
        self.house.end().await;
        drop(self.store);
        let thread = self.store_thread;
        let _ = tokio::task::spawn_blocking(move || thread.join()).await;
    }

    async fn handle_command(&mut self, command: Command) {
        let now = self.options.clock.now();
        match command {
            Command::Keep { ended, reply } => self.keep(&ended, reply),
            Command::Remember { live, host, reply } => {
                let clock = self.options.clock;
                let entry = JournalEntry::new(&live, host.map(|host| host.to_string()), |at| clock.wall(at));
                let done = self.store.change(Change::PutLive(Box::new(entry))).await;
                self.work.spawn(async move { Work::Remembered { done: settled(done).await, reply } });
            }
            Command::Adopt { found, reply } => self.adopt(&found, reply, now),
            Command::Announced { call_sid, recording_sid, status } => {
                if let (RecordingStatus::Completed, Some(recording_sid)) = (status, recording_sid) {
                    self.house.tell(Told::Announced { recording_sid, call_sid });
                }
                self.books.handle_announced(call_sid, recording_sid, status, now);
            }
            Command::Retry { id, reply } => {
                let done = self.store.change(Change::Unpark(id)).await;
                self.essential(async move { Work::Unparked { id, done: settled(done).await, reply } });
            }
            // Those that were sent before it are still received.
            Command::Stop => self.commands.close(),
        }
    }

    fn keep(&mut self, ended: &EndedCall, reply: Reply) {
        let clock = self.options.clock;
        let id =
            TranscriptId::new(clock.wall(ended.ended_at), random().unwrap_or_else(|_| random_from_sid(ended.call_sid)));
        let wall = |at| clock.wall(at);
        let record = Record::of_ended(id, ended, wall, &self.options.made_by, &self.options.language);
        self.house.tell(Told::Answered { to: ended.to.whole().to_owned() });
        let asker = self.asker(reply);
        self.books.handle_ended(Box::new(record), Some(asker));
    }

    /// A call that only Twilio knew gets its record, and that waits for its recording.
    fn adopt(&mut self, found: &Found, reply: Reply, now: Instant) {
        let Found { call_sid, recording_sid, call, created_at } = found;
        let id = TranscriptId::new(*created_at, random().unwrap_or_else(|_| random_from_sid(*call_sid)));
        let (made_by, language) = (&self.options.made_by, &self.options.language);
        let record = Record::of_found(id, *call_sid, call, *created_at, made_by, language);
        let asker = self.asker(reply);
        self.books.handle_ended(Box::new(record), Some(asker));
        self.books.handle_announced(*call_sid, Some(*recording_sid), RecordingStatus::Completed, now);
    }

    fn asker(&mut self, reply: Reply) -> Asker {
        self.next_asker += 1;
        let asker = Asker(self.next_asker);
        self.askers.insert(asker, reply);
        asker
    }

    fn handle_work(&mut self, work: Work) {
        let now = self.options.clock.now();
        match work {
            Work::Written { writing, asker, done } => self.handle_written(writing, asker, done, now),
            Work::Unparked { id, done, reply } => {
                self.essential -= 1;
                if matches!(done, Ok(true)) {
                    self.books.handle_unparked(id);
                }
                let _ = reply.send(done);
            }
            // Whether it is in the journal or not: nobody waits any longer.
            Work::Remembered { done, reply } => {
                if done.is_err() {
                    tracing::debug!("a live call is not in the journal");
                }
                let _ = reply.send(());
            }
            Work::Loaded(next) => {
                self.books.handle_loaded(next.map_or(Next::Unavailable, Next::Found), now);
            }
            Work::Sent { sequence, record, sent } => self.handle_sent(sequence, record, sent, now),
            Work::Fetched { call_sid, recording_sid, fetched } => {
                self.books.handle_fetched(call_sid, recording_sid, fetched, now);
            }
            Work::Listed { call_sid, listed } => self.books.handle_listed(call_sid, listed, now),
            Work::Heard { call_sid, heard: Some(heard) } => self.books.handle_heard(call_sid, heard),
            Work::Heard { call_sid, heard: None } => {
                tracing::warn!(%call_sid, "nobody transcribes this call; its record waits until its time is over");
            }
            // There may be more to delete than went at once.
            Work::Tidied(Ok(true)) => self.tidy_at = now,
            Work::Tidied(_) => {}
            Work::Resumed { resumed, left } => {
                let clock = self.options.clock;
                let _ = left.send(Left::of(&resumed.live, clock));
                if let Err(error) = recordings::prepare(&self.options.store.path) {
                    tracing::error!(%error, "the folder for recordings cannot be made");
                }
                for stored in resumed.recent.iter().chain(&resumed.drafts) {
                    self.house.tell(Told::Answered { to: stored.record.to.whole().to_owned() });
                }
                self.books.handle_resumed(resumed.drafts, &resumed.recent, clock.wall(now), now);
            }
        }
    }

    fn handle_written(&mut self, writing: Writing, asker: Option<Asker>, done: Done, now: Instant) {
        self.essential -= 1;
        let written = match done {
            Ok(true) => Written::Durable,
            Ok(false) => Written::Already,
            Err(_) => Written::NotYet,
        };
        if let Writing::Synced { record, .. } = &writing
            && written != Written::NotYet
        {
            tracing::info!(
                event = "TRANSCRIPT_SYNCED",
                call_sid = %record.call_sid,
                stream_sid = record.stream_sid.map(tracing::field::display),
                transcript_id = %record.id,
                "transcript taken by the upstream"
            );
        }
        self.house.tell_written(&writing, written);
        self.books.handle_written(writing, written, now);
        if let Some(reply) = asker.and_then(|asker| self.askers.remove(&asker)) {
            let _ = reply.send(done.map(|_| ()).map_err(KeepError::NotKept));
        }
    }

    fn handle_sent(&mut self, sequence: Sequence, record: Box<Record>, sent: Sent, now: Instant) {
        self.essential -= 1;
        let at = self.options.clock.wall(now);
        let (call_sid, stream_sid, id) = (record.call_sid, record.stream_sid, record.id);
        self.books.handle_sent(sequence, record, sent.delivery, at, now);
        if sent.delivery == Delivery::Acknowledged {
            self.last_ok = Some(at);
            return;
        }
        tracing::warn!(
            event = "SYNC_FAILED",
            %call_sid,
            stream_sid = stream_sid.map(tracing::field::display),
            transcript_id = %id,
            answer = sent.answer,
            parked = matches!(sent.delivery, Delivery::Refused { .. }),
            failures = self.books.failures(),
            "transcript not taken by the upstream"
        );
        self.last_error = Some(SyncError { at, message: sent.answer });
    }

    /// The store has changed. Records that it kept by itself, after it had refused them, are noticed here alone.
    fn handle_health(&mut self) {
        let health = self.health.borrow_and_update().clone();
        if health.failure.is_none() && health.counts.unsynced > 0 {
            self.books.handle_unsynced();
        }
        if !health.surroundings.has_room {
            self.tidy_at = self.tidy_at.min(self.options.clock.now() + STORE_LOOK_EVERY);
        }
    }

    async fn handle_timeout(&mut self) {
        let now = self.options.clock.now();
        self.books.handle_timeout(now);
        if self.tidy_at <= now {
            let has_room = self.health.borrow().surroundings.has_room;
            self.tidy_at = now + if has_room { STORE_TIDY_EVERY } else { STORE_LOOK_EVERY };
            let keep_synced = self.options.store.keep_synced;
            let synced_before = self.options.clock.wall(now).saturating_sub(keep_synced).unwrap_or(Timestamp::MIN);
            let bytes_max = self.options.store.max_bytes;
            let done = self.store.change(Change::MakeRoom { bytes_max, synced_before }).await;
            self.work.spawn(async move { Work::Tidied(settled(done).await) });
        }
    }

    /// Does what the books says.
    async fn perform(&mut self) {
        while let Some(output) = self.books.poll_output() {
            match output {
                Output::Write { writing, asker } => {
                    let done = self.store.change(change_of(&writing)).await;
                    self.essential(async move { Work::Written { writing, asker, done: settled(done).await } });
                }
                Output::Load => {
                    let next = self.store.first_unsynced().await;
                    self.work.spawn(async move { Work::Loaded(next.await.unwrap_or(Err(NotKept::Stopped))) });
                }
                Output::Send { sequence, record } => {
                    let Some(upstream) = self.upstream.clone() else { continue };
                    self.essential(async move {
                        let sent = upstream.send(&record).await;
                        Work::Sent { sequence, record, sent }
                    });
                }
                Output::Fetch { call_sid, recording_sid, stream_sid } => {
                    self.fetch(call_sid, recording_sid, stream_sid);
                }
                Output::List { call_sid } => self.list(call_sid),
                Output::Transcribe { call_sid, recording_sid, until } => {
                    self.transcribe(call_sid, recording_sid, until);
                }
                Output::Missing { call_sid, recording_sid } => self.house.tell_missing(call_sid, recording_sid),
            }
        }
    }

    fn fetch(&mut self, call_sid: CallSid, recording_sid: RecordingSid, stream_sid: Option<StreamSid>) {
        let (reply, answer) = oneshot::channel();
        let _ = self.errands.try_send(Errand::FetchRecording { recording_sid, reply });
        let store = self.options.store.path.clone();
        let housekeeping = self.options.housekeeping.clone();
        self.work.spawn(async move {
            let Ok(Ok(answer)) = timeout(ERRAND_MAX, answer).await else {
                return Work::Fetched { call_sid, recording_sid, fetched: Fetched::Unreachable };
            };
            let bytes = answer.as_ref().map_or(0, |answer| answer.body.len());
            if housekeeping.is_some_and(|housekeeping| !housekeeping.take_room(bytes as u64)) {
                tracing::warn!(%call_sid, %recording_sid, bytes, "no room for a recording; it stays at Twilio");
                return Work::Fetched { call_sid, recording_sid, fetched: Fetched::Unusable };
            }
            let fetched = keep_recording(store, call_sid, recording_sid, answer).await;
            if matches!(fetched, Fetched::Saved { .. } | Fetched::Cut) {
                tracing::info!(
                    event = "RECORDING_RECEIVED",
                    %call_sid,
                    stream_sid = stream_sid.map(tracing::field::display),
                    %recording_sid,
                    bytes,
                    is_whole = fetched != Fetched::Cut,
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

    /// A text is worth no delay of the stop: the next run asks for it again.
    fn transcribe(&mut self, call_sid: CallSid, recording_sid: Option<RecordingSid>, until: Instant) {
        let Some(texts) = &self.options.texts else { return };
        let (reply, heard) = oneshot::channel();
        // A queue that is full drops it, and with it the reply.
        let _ = texts.wanted.try_send(TextWanted { call_sid, recording_sid, until, reply });
        self.work.spawn(async move { Work::Heard { call_sid, heard: heard.await.ok() } });
    }

    /// Work that must be waited for before the task may end.
    fn essential(&mut self, work: impl Future<Output = Work> + Send + 'static) {
        self.essential += 1;
        self.work.spawn(work);
    }

    fn stop(&mut self) {
        self.stop_at = Some(self.options.clock.now() + KEEPER_STOP_MAX);
        self.books.handle_stopping();
    }

    fn is_done(&self) -> bool {
        self.stop_at.is_some_and(|at| self.essential == 0 || at <= self.options.clock.now())
    }

    fn next_deadline(&self) -> Instant {
        let books = self.books.poll_timeout().map(|(at, _)| at);
        [books, self.stop_at].into_iter().flatten().fold(self.tidy_at, Instant::min)
    }
}

fn change_of(writing: &Writing) -> Change {
    match writing {
        Writing::Draft(record) => Change::PutDraft(record.clone()),
        Writing::Final(record) => Change::PutFinal(record.clone()),
        &Writing::Synced { sequence, at, .. } => Change::MarkSynced { sequence, at },
        &Writing::Parked { sequence, status, at, .. } => Change::Park { sequence, status, at },
    }
}

async fn settled(done: oneshot::Receiver<Done>) -> Done {
    done.await.unwrap_or(Err(NotKept::Stopped))
}

/// A CallSid is as good as random, should the operating system have nothing better.
fn random_from_sid(call_sid: CallSid) -> u128 {
    call_sid.as_str().get(2..).and_then(|digits| u128::from_str_radix(digits, 16).ok()).unwrap_or(0)
}
