//! Turns the audio of calls into text: asks the engine as [`Transcription`] says, and gathers what it answers.
//!
//! A call is followed from its first stream on, so that most of its text is there when it ends; one that was not, or that
//! an engine was away for, is read when its text is wanted. The audio stays where it is, on the disk, and is read an
//! utterance at a time: an engine that is slow, away or broken costs memory for none of it, and nothing of a call.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::{Id, JoinHandle, JoinSet, spawn_blocking},
    time::sleep_until,
};

use super::{
    call_audio::{CallAudio, Cursor, End, Next, Spoken, ToCome},
    hearing::{Hearing, Reply},
    lazy_engine::{LazyEngine, Silence},
    marks::UNHEARD,
    open_streams::OpenStreams,
    recognizer::{Recognizer, Segment, Transcript},
    transcription::{Output, Transcription},
};
pub use super::{
    hearing::{CallText, LastWords},
    lazy_engine::MakeEngine,
};
use crate::{limits::AWAITING_TEXT_MAX, system::clock::Clock, twilio::sid::CallSid};

/// What it works with.
pub struct TranscriberOptions {
    pub make_engine: MakeEngine,
    /// How many questions may be with the engine at once.
    pub questions_max: usize,
    /// Where the spool writes,
    pub folder: PathBuf,
    /// and what it is writing.
    pub streams: OpenStreams,
    /// Numbers of six digits and more are masked.
    pub mask_digits: bool,
    pub clock: Clock,
}

impl fmt::Debug for TranscriberOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TranscriberOptions").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// How the engine does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct EngineView {
    /// Its name, once it is ready.
    pub name: Option<String>,
    /// Since when it does not answer; `None`: it does, as far as is known.
    pub silent_since: Option<Instant>,
    /// Why, and what to do about it.
    pub last_error: Option<String>,
}

/// The way to the transcriber; cheap to clone.
#[derive(Debug, Clone)]
pub struct TranscriberPort {
    wanted: mpsc::Sender<Wanted>,
}

#[derive(Debug)]
struct Wanted {
    call_sid: CallSid,
    recording: Option<PathBuf>,
    until: Instant,
    reply: oneshot::Sender<CallText>,
}

impl TranscriberPort {
    /// What this call's audio on the disk says, and that of its recording; the call is over. It comes when the engine
    /// has said all of it, and at `until` with what there is by then. Whoever lets go of what is returned does not want it
    /// any more.
    pub async fn transcribe(
        &self,
        call_sid: CallSid,
        recording: Option<PathBuf>,
        until: Instant,
    ) -> oneshot::Receiver<CallText> {
        let (reply, text) = oneshot::channel();
        let _ = self.wanted.send(Wanted { call_sid, recording, until, reply }).await;
        text
    }
}

/// The last words of the calls that go on.
pub type LiveWords = BTreeMap<CallSid, LastWords>;

/// A transcriber that runs. Its task ends when the last port is gone.
#[derive(Debug)]
pub struct Running {
    pub port: TranscriberPort,
    pub engine: watch::Receiver<EngineView>,
    pub words: watch::Receiver<LiveWords>,
    pub task: JoinHandle<()>,
}

/// Starts the transcriber.
pub fn start(options: TranscriberOptions) -> Running {
    let (wanted, receiver) = mpsc::channel(AWAITING_TEXT_MAX);
    let (view, engine) = watch::channel(EngineView::default());
    let (live, words) = watch::channel(LiveWords::new());
    let transcriber = Transcriber {
        folder: options.folder.into(),
        streams: options.streams,
        mask_digits: options.mask_digits,
        clock: options.clock,
        engine: LazyEngine::new(options.make_engine),
        machine: Transcription::new(options.questions_max),
        hearings: HashMap::new(),
        work: JoinSet::new(),
        asked: HashMap::new(),
        probe: None,
        not_ready_since: None,
        view,
        live,
    };
    Running { port: TranscriberPort { wanted }, engine, words, task: tokio::spawn(transcriber.run(receiver)) }
}

/// What came of an [`Output::Ask`].
enum Came {
    End(End),
    NotYet {
        cursor: Cursor,
        to_come: ToCome,
    },
    Text {
        engine: String,
        spoken: Spoken,
        transcript: Transcript,
    },
    Nothing {
        spoken: Spoken,
        silence: Silence,
    },
    /// The work itself broke off: nothing was learnt.
    BrokenOff,
    /// Of an [`Output::Probe`].
    Probed(Result<(), Silence>),
    /// Nobody waits any longer for the rest of a call's text.
    TimeOver(Box<Hearing>, End),
    /// The engine was made ready, or not, before anybody needed it.
    Ready(Result<Arc<dyn Recognizer>, Silence>),
}

struct Transcriber {
    folder: Arc<Path>,
    streams: OpenStreams,
    mask_digits: bool,
    clock: Clock,
    engine: LazyEngine,
    machine: Transcription,
    hearings: HashMap<CallSid, Hearing>,
    work: JoinSet<Came>,
    /// Whom it is done for; the engine is made ready for nobody.
    asked: HashMap<Id, CallSid>,
    probe: Option<Id>,
    not_ready_since: Option<Instant>,
    view: watch::Sender<EngineView>,
    live: watch::Sender<LiveWords>,
}

impl Transcriber {
    async fn run(mut self, mut wanted: mpsc::Receiver<Wanted>) {
        let engine = self.engine.clone();
        self.work.spawn(async move { Came::Ready(engine.ready().await) });
        let mut streams = self.streams.changes();
        self.follow();
        loop {
            let due = self.poll_timeout();
            tokio::select! {
                wanted = wanted.recv() => match wanted {
                    Some(wanted) => self.handle_wanted(wanted),
                    None => return,
                },
                // The sender is ours: it cannot be gone.
                _ = streams.changed() => self.follow(),
                Some(done) = self.work.join_next_with_id() => match done {
                    Ok((id, came)) => self.handle_done(id, came),
                    Err(error) => {
                        tracing::error!(%error, "a part of the transcriber's work broke off");
                        self.handle_done(error.id(), Came::BrokenOff);
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    self.handle_timeout(self.clock.now());
                }
            }
            self.perform();
            self.publish();
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let replies = self.hearings.values().filter_map(|hearing| hearing.reply.as_ref());
        let asked = self.machine.poll_timeout().map(|(at, _)| at);
        replies.map(|reply| reply.until).chain(asked).min()
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.machine.handle_timeout(now);
        let is_over = |_: &CallSid, hearing: &mut Hearing| hearing.reply.as_ref().is_some_and(|to| to.until <= now);
        for (_, hearing) in self.hearings.extract_if(is_over) {
            let audio = hearing.audio.clone();
            self.work.spawn(async move {
                let marks = spawn_blocking(move || audio.marks().0).await.unwrap_or_default();
                Came::TimeOver(Box::new(hearing), End { is_whole: false, marks })
            });
        }
    }

    fn handle_wanted(&mut self, Wanted { call_sid, recording, until, reply }: Wanted) {
        let reply = Some(Reply { to: reply, until });
        self.live.send_if_modified(|live| live.remove(&call_sid).is_some());
        if let Some(hearing) = self.hearings.get_mut(&call_sid) {
            (hearing.audio.recording, hearing.reply) = (recording, reply);
        } else if self.hearings.len() >= AWAITING_TEXT_MAX {
            tracing::error!(%call_sid, "too many calls wait to be transcribed; this one's audio is kept");
            return;
        } else {
            let audio = CallAudio { folder: self.folder.clone(), call_sid, recording };
            self.hearings.insert(call_sid, Hearing::new(audio, reply));
        }
        self.machine.handle_wanted(call_sid, self.clock.now());
    }

    /// Begins to follow the calls whose stream has begun.
    fn follow(&mut self) {
        for call_sid in self.streams.calls_open() {
            if self.hearings.len() < AWAITING_TEXT_MAX && !self.hearings.contains_key(&call_sid) {
                let audio = CallAudio { folder: self.folder.clone(), call_sid, recording: None };
                self.hearings.insert(call_sid, Hearing::new(audio, None));
                self.machine.handle_followed(call_sid, self.clock.now());
            }
        }
    }

    fn handle_done(&mut self, id: Id, came: Came) {
        let now = self.clock.now();
        match (self.asked.remove(&id), came) {
            (Some(call_sid), came) => self.handle_came(call_sid, came, now),
            (None, Came::TimeOver(hearing, end)) => hearing.tell(&end, self.mask_digits),
            (None, Came::Ready(ready)) => self.handle_ready(ready, now),
            (None, Came::Probed(Ok(()))) => {
                self.handle_well();
                self.machine.handle_probed(Ok(()), now);
            }
            (None, Came::Probed(Err(silence))) => {
                self.machine.handle_probed(Err(&silence.error), now);
                self.tell(silence.told);
            }
            (None, came) => {
                if self.probe.take_if(|probe| *probe == id).is_some() {
                    self.machine.handle_probed(Err(&Silence::broken_off().error), now);
                }
                drop(came);
            }
        }
    }

    fn handle_came(&mut self, call_sid: CallSid, came: Came, now: Instant) {
        let Some(hearing) = self.hearings.get_mut(&call_sid) else {
            return self.machine.handle_finished(call_sid, now);
        };
        match came {
            Came::End(end) => {
                self.machine.handle_finished(call_sid, now);
                if let Some(hearing) = self.hearings.remove(&call_sid) {
                    hearing.tell(&end, self.mask_digits);
                }
            }
            Came::NotYet { cursor, to_come } => {
                hearing.cursor = cursor;
                if hearing.is_forgotten(to_come, now) {
                    self.live.send_if_modified(|live| live.remove(&call_sid).is_some());
                    self.machine.handle_finished(call_sid, now);
                    self.hearings.remove(&call_sid);
                } else {
                    self.machine.handle_not_yet(call_sid, now);
                }
            }
            Came::Text { engine, spoken, transcript } => {
                hearing.take(&spoken, transcript);
                self.view.send_if_modified(|view| view.name.replace(engine.clone()).as_ref() != Some(&engine));
                (hearing.cursor, hearing.engine) = (spoken.then, engine);
                if let Some(words) = hearing.last_words(self.mask_digits) {
                    self.live.send_modify(|live| _ = live.insert(call_sid, words));
                }
                self.handle_well();
                self.machine.handle_answer(call_sid, now);
            }
            Came::Nothing { spoken, silence } => {
                let end_ms = spoken.begin_ms + millis(spoken.sound.duration());
                let unheard = Segment { start_ms: spoken.begin_ms, end_ms, text: UNHEARD.to_owned() };
                hearing.failed = Some((unheard, spoken.then));
                self.handle_silence(call_sid, silence, now);
            }
            Came::BrokenOff => self.handle_silence(call_sid, Silence::broken_off(), now),
            Came::Ready(_) | Came::Probed(_) | Came::TimeOver(..) => {}
        }
    }

    /// The engine has answered.
    fn handle_well(&mut self) {
        if self.machine.silent_since().is_some() {
            tracing::info!("the speech engine answers again");
        }
        self.not_ready_since = None;
        self.view.send_if_modified(|view| view.last_error.take().is_some());
    }

    fn handle_ready(&mut self, ready: Result<Arc<dyn Recognizer>, Silence>, now: Instant) {
        match ready {
            Ok(engine) => {
                tracing::info!(engine = engine.name(), "the speech engine is ready");
                self.view.send_modify(|view| view.name = Some(engine.name().to_owned()));
            }
            Err(silence) => {
                tracing::error!(error = silence.told, "the speech engine is not ready; calls wait for it");
                self.not_ready_since = Some(now);
                self.view.send_modify(|view| view.last_error = Some(silence.told));
            }
        }
    }

    fn handle_silence(&mut self, call_sid: CallSid, silence: Silence, now: Instant) {
        let was_silent = self.machine.silent_since().is_some();
        self.machine.handle_failure(call_sid, &silence.error, now);
        let error = silence.told;
        if self.machine.silent_since().is_some() && !was_silent {
            tracing::warn!(%call_sid, error, "the speech engine does not answer; calls wait for it");
        } else {
            tracing::debug!(%call_sid, error, "an utterance has no text");
        }
        self.tell(error);
    }

    fn tell(&self, error: String) {
        self.view.send_if_modified(|view| view.last_error.replace(error.clone()).is_none_or(|known| known != error));
    }

    /// Does what the machine says.
    fn perform(&mut self) {
        while let Some(output) = self.machine.poll_output() {
            match output {
                Output::Ask(call_sid) => self.ask(call_sid),
                Output::Probe => {
                    let engine = self.engine.clone();
                    let task = self.work.spawn(async move { Came::Probed(engine.probe().await) });
                    self.probe = Some(task.id());
                }
                Output::Skip(call_sid) => {
                    if let Some(hearing) = self.hearings.get_mut(&call_sid)
                        && let Some((unheard, behind)) = hearing.failed.take()
                    {
                        tracing::warn!(%call_sid, "a piece of a call stays without text");
                        hearing.is_anything_unheard = true;
                        hearing.segments.push(unheard);
                        hearing.cursor = behind;
                    }
                }
            }
        }
    }

    fn ask(&mut self, call_sid: CallSid) {
        // Whoever wanted it may have waited long enough.
        self.hearings.retain(|call, hearing| *call != call_sid || !hearing.is_given_up());
        let Some(hearing) = self.hearings.get(&call_sid) else {
            return self.machine.handle_finished(call_sid, self.clock.now());
        };
        // Before it is known whether one is open.
        let opened = self.streams.opened();
        let is_open = self.streams.is_open(call_sid);
        let to_come = match () {
            () if hearing.reply.is_some() => ToCome::Nothing,
            () if is_open => ToCome::Sound,
            () => ToCome::Streams,
        };
        let (audio, cursor, engine) = (hearing.audio.clone(), hearing.cursor.clone(), self.engine.clone());
        let streams = self.streams.clone();
        let task = self.work.spawn(async move {
            let (before, read) = (cursor.clone(), spawn_blocking(move || audio.next(cursor, to_come)).await);
            let next = match read {
                // A part that has begun meanwhile was read as if it were whole.
                Ok(_) if to_come == ToCome::Streams && streams.opened() != opened => Next::NotYet(before),
                Ok(next) => next,
                Err(_) => return Came::BrokenOff,
            };
            match next {
                Next::Utterance(spoken) => hear(spoken, &engine).await,
                Next::NotYet(cursor) => Came::NotYet { cursor, to_come },
                // One that is not on the disk by now is not waited for, and not called whole.
                Next::End(end) => Came::End(End { is_whole: end.is_whole && !is_open, ..end }),
            }
        });
        self.asked.insert(task.id(), call_sid);
    }

    fn publish(&self) {
        let silent_since = self.machine.silent_since().or(self.not_ready_since);
        self.view.send_if_modified(|view| std::mem::replace(&mut view.silent_since, silent_since) != silent_since);
    }
}

/// Has an utterance recognized.
async fn hear(spoken: Spoken, engine: &LazyEngine) -> Came {
    match engine.recognize(spoken.sound.clone()).await {
        Ok((engine, transcript)) => Came::Text { engine, spoken, transcript },
        Err(silence) => Came::Nothing { spoken, silence },
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "transcriber_tests.rs"]
mod tests;
