//! The housekeeper's task: looks after the audio folder, finds recordings that nobody knows, and has those deleted at
//! Twilio that are not needed any more.
//!
//! It decides nothing: [`shelf`], [`CatchUp`] and [`Deletions`] do. It runs beside the keeper, is told what
//! that knows, and never holds it up; it ends with it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::atomic::Ordering,
    time::Instant,
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{JoinSet, spawn_blocking},
    time::{sleep_until, timeout},
};

use super::{
    audio_folder::{AudioFolder, FoundFile},
    catch_up::{self, CatchUp, Mark},
    deletions::{self, Deleted, Deletions, deletable},
    house::{AudioView, HousekeepingOptions, Told},
    keeper::{AccountList, Command, Errand, Found},
    notes, recordings,
    shelf::{self, Shelved, Standing, Text, Verdict},
    store::Known,
    stored::{State, Stored},
    writer::StorePort,
};
use crate::{
    limits::{AUDIO_LOOK_EVERY, AUDIO_SECOND_LOOK, ERRAND_MAX, STORE_GROUP_MAX},
    system::clock::Clock,
    twilio::{
        recording_list::CallDetails,
        rest::{CallLookup, RestFailure, RestReply},
        sid::{CallSid, RecordingSid},
    },
};

/// What was waited for and has come.
enum Work {
    Time(Option<Timestamp>),
    Listed(AccountList),
    Called(Result<CallDetails, CallLookup>),
    Numbers(Option<Vec<String>>),
    Adopted(bool),
    Late(bool),
    Deleted { recording_sid: RecordingSid, deleted: Deleted },
}

/// What it works with.
pub(super) struct Housekeeper {
    pub options: HousekeepingOptions,
    /// The store's directory.
    pub directory: PathBuf,
    /// Without one a final record counts as synced.
    pub has_upstream: bool,
    pub clock: Clock,
    pub store: StorePort,
    pub errands: mpsc::Sender<Errand>,
    /// Weak: the keeper ends when its last port is gone.
    pub keeper: mpsc::WeakSender<Command>,
    pub told: mpsc::Receiver<Told>,
    pub view: watch::Sender<AudioView>,
}

/// What it knows while it runs.
struct Running {
    parts: Housekeeper,
    folder: Option<AudioFolder>,
    catch_up: CatchUp,
    deletions: Deletions,
    /// Twilio's clock, at an instant.
    time: Option<(Timestamp, Instant)>,
    /// Calls for which nothing will change any more.
    done: BTreeMap<CallSid, Standing>,
    look_at: Instant,
    /// Whether the folder was looked at before: the first look cannot tell what grows.
    has_looked: bool,
    work: JoinSet<Work>,
}

impl Housekeeper {
    /// Runs until the keeper is gone.
    pub async fn run(self) {
        let directory = self.directory.clone();
        let loaded = spawn_blocking(move || {
            let mark: Option<Mark> = notes::load(&directory, notes::MARK);
            let waiting: Vec<RecordingSid> = notes::load(&directory, notes::DELETIONS).unwrap_or_default();
            (mark, waiting)
        });
        let (mark, waiting) = loaded.await.unwrap_or_default();
        let now = self.clock.now();
        let running = Running {
            folder: Some(AudioFolder::new(self.directory.join(recordings::FOLDER))),
            catch_up: CatchUp::new(mark, now),
            deletions: Deletions::new(waiting),
            time: None,
            done: BTreeMap::new(),
            look_at: now,
            has_looked: false,
            work: JoinSet::new(),
            parts: self,
        };
        running.run().await;
    }
}

impl Running {
    async fn run(mut self) {
        loop {
            let due = self.next_deadline();
            tokio::select! {
                told = self.parts.told.recv() => match told {
                    Some(told) => self.handle_told(told),
                    None => return,
                },
                Some(done) = self.work.join_next() => match done {
                    Ok(work) => self.handle_work(work),
                    Err(error) => tracing::error!(%error, "a part of the housekeeper's work broke off"),
                },
                () = sleep_until(due.into()) => self.handle_timeout().await,
            }
            self.perform().await;
        }
    }

    fn next_deadline(&self) -> Instant {
        let machines = [self.catch_up.poll_timeout(), self.deletions.poll_timeout(self.look_at)];
        machines.into_iter().flatten().map(|(at, _)| at).fold(self.look_at, Instant::min)
    }

    fn handle_told(&mut self, told: Told) {
        let now = self.parts.clock.now();
        match told {
            Told::Answered { to } => self.catch_up.handle_answered(&to),
            Told::Announced { recording_sid, call_sid } => self.catch_up.handle_announced(recording_sid, call_sid, now),
            Told::Missing { recording_sid, call_sid } => self.catch_up.handle_missing(recording_sid, call_sid),
            Told::Final { recording_sid, call_sid } => self.catch_up.handle_known(recording_sid, call_sid),
            Told::Deletable { recording_sid } => self.want_deleted(recording_sid, now),
        }
    }

    fn handle_work(&mut self, work: Work) {
        let now = self.parts.clock.now();
        match work {
            Work::Time(time) => {
                self.note_time(time, now);
                self.catch_up.handle_time(time, now);
            }
            Work::Listed(list) => {
                self.note_time(list.time, now);
                self.catch_up.handle_page(list.page, now);
            }
            Work::Called(call) => self.catch_up.handle_call(call, now),
            Work::Numbers(numbers) => self.catch_up.handle_numbers(numbers, now),
            Work::Adopted(is_kept) => self.catch_up.handle_adopted(is_kept, now),
            Work::Late(is_settled) => self.catch_up.handle_late(is_settled, now),
            Work::Deleted { recording_sid, deleted } => self.deletions.handle_deleted(recording_sid, deleted, now),
        }
    }

    fn note_time(&mut self, time: Option<Timestamp>, now: Instant) {
        self.time = time.map(|time| (time, now)).or(self.time);
    }

    fn want_deleted(&mut self, recording_sid: RecordingSid, now: Instant) {
        if self.parts.options.delete_at_twilio && !self.deletions.handle_wanted(recording_sid, now) {
            tracing::warn!(%recording_sid, "too many recordings are to be deleted at Twilio; this one stays there");
        }
    }

    async fn handle_timeout(&mut self) {
        let now = self.parts.clock.now();
        self.catch_up.handle_timeout(now);
        self.deletions.handle_timeout(now);
        if self.look_at <= now {
            self.look_at = now + if self.has_looked { AUDIO_LOOK_EVERY } else { AUDIO_SECOND_LOOK };
            self.look_after_audio(now).await;
            self.has_looked = true;
        }
    }

    /// Does what the machines say.
    async fn perform(&mut self) {
        loop {
            if let Some(output) = self.catch_up.poll_output() {
                self.perform_catch_up(output).await;
            } else if let Some(output) = self.deletions.poll_output() {
                self.perform_deletion(output).await;
            } else {
                return;
            }
        }
    }

    async fn perform_catch_up(&mut self, output: catch_up::Output) {
        use catch_up::Output;
        match output {
            Output::AskTime => {
                // Any list will do: its answer's date is what counts.
                let since = self.parts.clock.wall(self.parts.clock.now());
                let list = self.asked(move |reply| Errand::ListAccount { since, next: None, reply });
                self.work.spawn(async move { Work::Time(list.await.and_then(|list: AccountList| list.time)) });
            }
            Output::List { since, next } => {
                let list = self.asked(move |reply| Errand::ListAccount { since, next, reply });
                self.work.spawn(async move { Work::Listed(list.await.unwrap_or_default()) });
            }
            Output::Find { call_sid } => {
                let found = self.parts.store.find(vec![call_sid]).await.await;
                let known = found.ok().and_then(Result::ok).and_then(|mut known| known.pop());
                self.catch_up.handle_standing(known.map(|known| standing(&known)), self.parts.clock.now());
            }
            Output::AskCall { call_sid } => {
                let call = self.asked(move |reply| Errand::FetchCall { call_sid, reply });
                self.work.spawn(async move { Work::Called(call.await.unwrap_or(Err(CallLookup::Unavailable))) });
            }
            Output::ListNumbers => {
                let numbers = self.asked(move |reply| Errand::ListNumbers { reply });
                self.work.spawn(async move { Work::Numbers(numbers.await.flatten()) });
            }
            Output::Adopt { recording_sid, call_sid, call, created_at } => {
                tracing::info!(%call_sid, %recording_sid, "a recording without a record was found at Twilio");
                let keeper = self.parts.keeper.clone();
                let found = Box::new(Found { call_sid, recording_sid, call, created_at });
                self.work.spawn(async move {
                    let (reply, kept) = oneshot::channel();
                    let sent = match keeper.upgrade() {
                        Some(keeper) => keeper.send(Command::Adopt { found, reply }).await.is_ok(),
                        None => false,
                    };
                    Work::Adopted(sent && matches!(kept.await, Ok(Ok(()))))
                });
            }
            Output::FetchLate { call_sid, recording_sid } => self.fetch_late(call_sid, recording_sid),
            Output::Deletable { recording_sid } => self.want_deleted(recording_sid, self.parts.clock.now()),
            Output::Save(mark) => self.save(notes::MARK, mark).await,
        }
    }

    async fn perform_deletion(&mut self, output: deletions::Output) {
        match output {
            deletions::Output::Delete { recording_sid } => {
                let answer = self.asked(move |reply| Errand::DeleteRecording { recording_sid, reply });
                self.work.spawn(async move {
                    let deleted = read_deletion(recording_sid, answer.await.unwrap_or(Err(RestFailure::TimedOut)));
                    Work::Deleted { recording_sid, deleted }
                });
            }
            deletions::Output::Save(waiting) => self.save(notes::DELETIONS, waiting).await,
        }
        let to_delete = self.deletions.len() as u64;
        self.parts.view.send_if_modified(|view| std::mem::replace(&mut view.to_delete, to_delete) != to_delete);
    }

    fn fetch_late(&mut self, call_sid: CallSid, recording_sid: RecordingSid) {
        let answer = self.asked(move |reply| Errand::FetchRecording { recording_sid, reply });
        let (directory, options) = (self.parts.directory.clone(), self.parts.options.clone());
        self.work.spawn(async move {
            let Some(answer) = answer.await else { return Work::Late(false) };
            let bytes = answer.as_ref().map_or(0, |answer: &RestReply| answer.body.len() as u64);
            if !options.take_room(bytes) {
                tracing::warn!(%call_sid, %recording_sid, "no room for a late recording; it stays at Twilio");
                return Work::Late(true);
            }
            let kept = spawn_blocking(move || recordings::keep_late(&directory, call_sid, recording_sid, answer));
            Work::Late(kept.await.unwrap_or(false))
        });
    }

    /// Sends an errand out. `None` comes of one that nobody answers.
    fn asked<T: Send + 'static, F: FnOnce(oneshot::Sender<T>) -> Errand>(
        &self,
        errand: F,
    ) -> impl Future<Output = Option<T>> + Send + use<T, F> {
        let (reply, answer) = oneshot::channel();
        // A queue that is full drops it, and with it the reply.
        let _ = self.parts.errands.try_send(errand(reply));
        async move { timeout(ERRAND_MAX, answer).await.ok().and_then(Result::ok) }
    }

    async fn save<T: serde::Serialize + Send + 'static>(&self, name: &'static str, value: T) {
        let directory = self.parts.directory.clone();
        match spawn_blocking(move || notes::save(&directory, name, &value)).await {
            Ok(Ok(())) => tracing::debug!(note = name, "noted on the disk"),
            // What it says is said again with the next change; until then a restart asks Twilio for more than it must.
            Ok(Err(error)) => tracing::warn!(note = name, %error, "the disk did not take a note"),
            Err(error) => tracing::error!(note = name, %error, "a note broke off"),
        }
    }

    async fn look_after_audio(&mut self, now: Instant) {
        let Some(mut folder) = self.folder.take() else { return };
        let time = self.time.and_then(|(time, at)| time.checked_add(now.saturating_duration_since(at)).ok());
        let looked = spawn_blocking(move || {
            let files = folder.look(time, now);
            let free_bytes = folder.free_bytes();
            (folder, files, free_bytes)
        });
        let Ok((folder, files, free_bytes)) = looked.await else { return };
        self.folder = Some(folder);
        let files = match files {
            Ok(files) => files,
            Err(error) => {
                tracing::error!(%error, "the audio folder cannot be read");
                return self.parts.options.room.store(0, Ordering::Relaxed);
            }
        };
        let shelved = self.with_standing(files).await;
        let verdict = shelf::judge(&self.parts.options.audio, &shelved, free_bytes);
        self.parts.options.room.store(verdict.room_bytes, Ordering::Relaxed);
        let view = AudioView {
            bytes: verdict.bytes,
            files: (shelved.len() - verdict.delete.len()) as u64,
            is_full: verdict.is_full() && self.has_looked,
            to_delete: self.deletions.len() as u64,
        };
        self.parts.view.send_if_modified(|known| std::mem::replace(known, view) != view);
        self.delete(verdict).await;
    }

    async fn delete(&mut self, verdict: Verdict) {
        if verdict.delete.is_empty() {
            return;
        }
        let Some(mut folder) = self.folder.take() else { return };
        let deleted = spawn_blocking(move || {
            let mut count = 0;
            for name in verdict.delete {
                match folder.delete(&name) {
                    Ok(()) => count += 1,
                    Err(error) => tracing::warn!(name, %error, "audio whose time is over cannot be deleted"),
                }
            }
            (folder, count)
        });
        if let Ok((folder, files)) = deleted.await {
            tracing::info!(files, "audio whose time is over was deleted");
            self.folder = Some(folder);
        }
    }

    /// The files, and where their calls' records stand. What the store does not tell now counts as live.
    async fn with_standing(&mut self, files: Vec<FoundFile>) -> Vec<Shelved> {
        let calls: BTreeSet<CallSid> =
            files.iter().filter_map(|file| shelf::read_name(&file.name)).map(|named| named.call_sid).collect();
        self.done.retain(|call_sid, _| calls.contains(call_sid));
        let mut standings = self.done.clone();
        let unknown: Vec<CallSid> = calls.into_iter().filter(|call_sid| !standings.contains_key(call_sid)).collect();
        for some in unknown.chunks(STORE_GROUP_MAX) {
            let Ok(Ok(known)) = self.parts.store.find(some.to_vec()).await.await else { break };
            standings.extend(some.iter().copied().zip(known.iter().map(|known| self.shelf_standing(known))));
        }
        let is_done = |(_, standing): &(&CallSid, &Standing)| matches!(standing, Standing::Done(_));
        self.done.extend(standings.iter().filter(is_done).map(|(call_sid, standing)| (*call_sid, *standing)));
        let shelve = |file: FoundFile| {
            let FoundFile { name, bytes, age, grows } = file;
            let standing = match shelf::read_name(&name) {
                _ if grows => Standing::Live,
                None => Standing::Unknown,
                Some(named) => match standings.get(&named.call_sid) {
                    None => Standing::Live,
                    // The record's text is not this one's.
                    Some(Standing::Done(_)) if named.is_late => Standing::Done(Text::None),
                    Some(Standing::Unsynced(_)) if named.is_late => Standing::Unsynced(Text::None),
                    Some(standing) => *standing,
                },
            };
            Shelved { name, bytes, age, standing }
        };
        files.into_iter().map(shelve).collect()
    }

    fn shelf_standing(&self, known: &Known) -> Standing {
        match known {
            Known::Nothing => Standing::Unknown,
            Known::Live => Standing::Live,
            // It may be unsynced: so its audio stays while the entry does.
            Known::Unfindable => Standing::Waiting,
            Known::Record(stored) => {
                let text = Text::of(&stored.record);
                match stored.state {
                    State::AwaitingRecording => Standing::Waiting,
                    State::Unsynced | State::Parked { .. } if self.parts.has_upstream => Standing::Unsynced(text),
                    State::Unsynced | State::Parked { .. } | State::Synced { .. } => Standing::Done(text),
                }
            }
        }
    }
}

/// The same for the search for recordings.
fn standing(known: &Known) -> catch_up::Standing {
    match known {
        Known::Nothing => catch_up::Standing::Nothing,
        Known::Live => catch_up::Standing::Owned,
        Known::Unfindable => catch_up::Standing::Unfindable,
        Known::Record(stored) => match &**stored {
            Stored { state: State::AwaitingRecording, .. } => catch_up::Standing::Owned,
            Stored { state, record, .. } => {
                let is_safe = matches!(state, State::Synced { .. }) && deletable(record).is_some();
                catch_up::Standing::Final { recording_sid: record.recording_sid, is_safe }
            }
        },
    }
}

fn read_deletion(recording_sid: RecordingSid, answer: Result<RestReply, RestFailure>) -> Deleted {
    match answer {
        Ok(RestReply { status: 200..=299 | 404 | 410, .. }) => {
            tracing::info!(%recording_sid, "a recording was deleted at Twilio");
            Deleted::Gone
        }
        Ok(RestReply { status: status @ (400 | 402 | 405..=407 | 409 | 411..=428), .. }) => {
            tracing::warn!(%recording_sid, status, "Twilio does not delete a recording");
            Deleted::Refused
        }
        // Credentials, throttling, their trouble or the network's.
        Ok(_) | Err(_) => Deleted::Unreachable,
    }
}
