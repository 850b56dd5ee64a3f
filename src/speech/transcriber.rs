//! Turns the audio of ended calls into text: asks the engine as [`Transcription`] says, and gathers what it answers.
//!
//! The audio stays where it is, on the disk, and is read an utterance at a time: an engine that is slow, away or broken
//! costs memory for none of it, and whoever waits for a text waits for as long as that takes.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::{Mutex, mpsc, oneshot, watch},
    task::{Id, JoinHandle, JoinSet, spawn_blocking},
    time::sleep_until,
};

use super::{
    audio::{SAMPLE_RATE_HZ, tone},
    call_audio::{CallAudio, Cursor, Next, Spoken},
    engine::EngineError,
    recognizer::{Pcm, Question, Recognizer, RecognizerError, Segment, Transcript},
    transcription::{Output, Transcription},
};
use crate::{
    limits::{AWAITING_TEXT_MAX, SPEECH_PATIENCE_MIN, SPEECH_PATIENCE_PER_SOUND, UTTERANCE_TEXT_BYTES_MAX},
    system::clock::Clock,
    twilio::sid::CallSid,
};

/// Stands in the text for what the engine could not be brought to write down.
pub const UNHEARD: &str = "[…]";

/// What an engine that failed is tried with.
const PROBE_HZ: f32 = 440.0;
const PROBE_LENGTH: Duration = Duration::from_secs(1);
const PROBE_AMPLITUDE: f32 = 0.1;

/// As the engine's name: none was needed.
const NOBODY: &str = "none";

/// Makes an engine ready, which may block: [`super::engine::ready`].
pub type MakeEngine = Box<dyn Fn() -> Result<Box<dyn Recognizer>, EngineError> + Send + Sync>;

/// What it works with.
pub struct TranscriberOptions {
    pub make_engine: MakeEngine,
    /// How many questions may be with the engine at once.
    pub questions_max: usize,
    /// Where the spool writes.
    pub folder: PathBuf,
    pub clock: Clock,
}

impl fmt::Debug for TranscriberOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TranscriberOptions").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// What a call's audio says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallText {
    /// Times are from the begin of the call's audio. `engine`: who wrote it down.
    Words { engine: String, segments: Vec<Segment> },
    /// All of it could be read, and nobody says anything. `engine`: who says so; `none` if the sound alone did.
    NoSpeech { engine: String },
    /// There is no audio, or none that the engine takes.
    Unusable,
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
    reply: oneshot::Sender<CallText>,
}

impl TranscriberPort {
    /// What this call's audio on the disk says, and that of its recording. It comes when the engine has said all of it;
    /// whoever lets go of what is returned does not want it any more.
    pub async fn transcribe(&self, call_sid: CallSid, recording: Option<PathBuf>) -> oneshot::Receiver<CallText> {
        let (reply, text) = oneshot::channel();
        let _ = self.wanted.send(Wanted { call_sid, recording, reply }).await;
        text
    }
}

/// Starts the transcriber. Its task ends when the last port is gone.
pub fn start(options: TranscriberOptions) -> (TranscriberPort, watch::Receiver<EngineView>, JoinHandle<()>) {
    let (wanted, receiver) = mpsc::channel(AWAITING_TEXT_MAX);
    let (view, seen) = watch::channel(EngineView::default());
    let transcriber = Transcriber {
        folder: options.folder.into(),
        clock: options.clock,
        engine: Arc::new(Engine { make: options.make_engine, ready: Mutex::default() }),
        machine: Transcription::new(options.questions_max),
        hearings: HashMap::new(),
        work: JoinSet::new(),
        asked: HashMap::new(),
        probe: None,
        not_ready_since: None,
        view,
    };
    (TranscriberPort { wanted }, seen, tokio::spawn(transcriber.run(receiver)))
}

/// The engine, made ready when it is needed: a model may come later than the box.
struct Engine {
    make: MakeEngine,
    ready: Mutex<Option<Arc<dyn Recognizer>>>,
}

impl Engine {
    async fn ready(self: &Arc<Self>) -> Result<Arc<dyn Recognizer>, Silence> {
        let mut ready = self.ready.lock().await;
        if let Some(engine) = &*ready {
            return Ok(engine.clone());
        }
        let this = self.clone();
        let made = spawn_blocking(move || (this.make)()).await;
        let made = made.map_err(|_| Silence::broken_off())?.map_err(|error| Silence::not_ready(&error))?;
        let engine: Arc<dyn Recognizer> = made.into();
        *ready = Some(engine.clone());
        Ok(engine)
    }
}

/// Why there is no text, for the circuit and for people.
#[derive(Debug)]
struct Silence {
    error: RecognizerError,
    told: String,
}

impl Silence {
    fn of(error: RecognizerError) -> Self {
        let told = format!("{error}; {}", error.remedy());
        Self { error, told }
    }

    fn not_ready(error: &EngineError) -> Self {
        let told = format!("{error}; {}", error.remedy());
        Self { error: RecognizerError::Failed(error.to_string()), told }
    }

    fn broken_off() -> Self {
        Self::of(RecognizerError::Failed("it broke down".to_owned()))
    }
}

/// A call that is being transcribed.
struct Hearing {
    audio: CallAudio,
    /// Where its next utterance is.
    cursor: Cursor,
    /// The utterance that was asked for last and has no text: what stands for it if it is skipped, and what is behind it.
    failed: Option<(Segment, Cursor)>,
    segments: Vec<Segment>,
    is_anything_unheard: bool,
    engine: String,
    reply: oneshot::Sender<CallText>,
}

/// What came of an [`Output::Ask`].
enum Came {
    End {
        is_whole: bool,
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
    /// The engine was made ready, or not, before anybody needed it.
    Ready(Result<Arc<dyn Recognizer>, Silence>),
}

struct Transcriber {
    folder: Arc<Path>,
    clock: Clock,
    engine: Arc<Engine>,
    machine: Transcription,
    hearings: HashMap<CallSid, Hearing>,
    work: JoinSet<Came>,
    /// Whom it is done for; the engine is made ready for nobody.
    asked: HashMap<Id, CallSid>,
    probe: Option<Id>,
    not_ready_since: Option<Instant>,
    view: watch::Sender<EngineView>,
}

impl Transcriber {
    async fn run(mut self, mut wanted: mpsc::Receiver<Wanted>) {
        let engine = self.engine.clone();
        self.work.spawn(async move { Came::Ready(engine.ready().await) });
        loop {
            let due = self.machine.poll_timeout().map(|(at, _)| at);
            tokio::select! {
                wanted = wanted.recv() => match wanted {
                    Some(wanted) => self.handle_wanted(wanted),
                    None => return,
                },
                Some(done) = self.work.join_next_with_id() => match done {
                    Ok((id, came)) => self.handle_done(id, came),
                    Err(error) => {
                        tracing::error!(%error, "a part of the transcriber's work broke off");
                        self.handle_done(error.id(), Came::BrokenOff);
                    }
                },
                () = sleep_until(due.unwrap_or_else(Instant::now).into()), if due.is_some() => {
                    self.machine.handle_timeout(self.clock.now());
                }
            }
            self.perform();
            self.publish();
        }
    }

    fn handle_wanted(&mut self, Wanted { call_sid, recording, reply }: Wanted) {
        if self.hearings.len() >= AWAITING_TEXT_MAX {
            tracing::error!(%call_sid, "too many calls wait to be transcribed; this one's audio is kept");
            return;
        }
        let audio = CallAudio { folder: self.folder.clone(), call_sid, recording };
        let (segments, engine) = (Vec::new(), NOBODY.to_owned());
        let cursor = Cursor::begin();
        let hearing = Hearing { audio, cursor, failed: None, segments, is_anything_unheard: false, engine, reply };
        self.hearings.insert(call_sid, hearing);
        self.machine.handle_wanted(call_sid, self.clock.now());
    }

    fn handle_done(&mut self, id: Id, came: Came) {
        let now = self.clock.now();
        match (self.asked.remove(&id), came) {
            (Some(call_sid), came) => self.handle_came(call_sid, came, now),
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
            Came::End { is_whole } => {
                self.machine.handle_finished(call_sid, now);
                if let Some(hearing) = self.hearings.remove(&call_sid) {
                    hearing.tell(is_whole);
                }
            }
            Came::Text { engine, spoken, transcript } => {
                hearing.take(&spoken, transcript);
                (hearing.cursor, hearing.engine) = (spoken.then, engine);
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
            Came::Ready(_) | Came::Probed(_) => {}
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
                    let task = self.work.spawn(async move { Came::Probed(probe(&engine).await) });
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
        self.hearings.retain(|call, hearing| *call != call_sid || !hearing.reply.is_closed());
        let Some(hearing) = self.hearings.get(&call_sid) else {
            return self.machine.handle_finished(call_sid, self.clock.now());
        };
        let (audio, cursor, engine) = (hearing.audio.clone(), hearing.cursor.clone(), self.engine.clone());
        let task = self.work.spawn(async move { hear(audio, cursor, &engine).await });
        self.asked.insert(task.id(), call_sid);
    }

    fn publish(&self) {
        let silent_since = self.machine.silent_since().or(self.not_ready_since);
        self.view.send_if_modified(|view| std::mem::replace(&mut view.silent_since, silent_since) != silent_since);
    }
}

/// Reads the next utterance and has it recognized.
async fn hear(audio: CallAudio, cursor: Cursor, engine: &Arc<Engine>) -> Came {
    let spoken = match spawn_blocking(move || audio.next(cursor)).await {
        Ok(Next::Utterance(spoken)) => spoken,
        Ok(Next::End { is_whole }) => return Came::End { is_whole },
        Err(_) => return Came::BrokenOff,
    };
    let engine = match engine.ready().await {
        Ok(engine) => engine,
        Err(silence) => return Came::Nothing { spoken, silence },
    };
    let patience = SPEECH_PATIENCE_MIN + spoken.sound.duration() * SPEECH_PATIENCE_PER_SOUND;
    let question = Question { sound: spoken.sound.clone(), deadline: tokio::time::Instant::now() + patience };
    match engine.recognize(question).await {
        Ok(transcript) => Came::Text { engine: engine.name().to_owned(), spoken, transcript },
        Err(error) => Came::Nothing { spoken, silence: Silence::of(error) },
    }
}

/// Asks for a sound in which nobody speaks: whatever the answer, it is one.
async fn probe(engine: &Arc<Engine>) -> Result<(), Silence> {
    let engine = engine.ready().await?;
    let sound = Pcm { samples: tone(PROBE_HZ, PROBE_LENGTH, PROBE_AMPLITUDE).into(), rate_hz: SAMPLE_RATE_HZ };
    let deadline = tokio::time::Instant::now() + SPEECH_PATIENCE_MIN;
    engine.recognize(Question { sound, deadline }).await.map(drop).map_err(Silence::of)
}

impl Hearing {
    /// An utterance's text, on the call's scale of time. What nobody can say in that time is left out.
    fn take(&mut self, spoken: &Spoken, transcript: Transcript) {
        self.failed = None;
        let mut bytes = 0;
        for mut segment in transcript.segments {
            bytes += segment.text.len();
            if bytes > UTTERANCE_TEXT_BYTES_MAX {
                segment.text = UNHEARD.to_owned();
                self.is_anything_unheard = true;
            }
            segment.start_ms += spoken.begin_ms;
            segment.end_ms += spoken.begin_ms;
            self.segments.push(segment);
            if bytes > UTTERANCE_TEXT_BYTES_MAX {
                break;
            }
        }
    }

    fn tell(mut self, is_whole: bool) {
        let has_words = self.segments.iter().any(|segment| segment.text != UNHEARD);
        let text = match (has_words, is_whole && !self.is_anything_unheard) {
            (true, _) => {
                if !is_whole {
                    let end_ms = self.segments.last().map_or(0, |last| last.end_ms);
                    self.segments.push(Segment { start_ms: end_ms, end_ms, text: UNHEARD.to_owned() });
                }
                CallText::Words { engine: self.engine, segments: self.segments }
            }
            (false, true) => CallText::NoSpeech { engine: self.engine },
            (false, false) => CallText::Unusable,
        };
        // Whoever does not want it any more has what it takes to do without.
        let _ = self.reply.send(text);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::{collections::VecDeque, fs, sync::Mutex as StdMutex};

    use tokio::sync::Notify;

    use super::*;
    use crate::speech::{
        audio::{duration, encode},
        recognizer::Recognizing,
    };

    /// Far beyond what anything here takes; only a failing test ever waits so long.
    const TOO_LONG: Duration = Duration::from_secs(60);

    #[derive(Debug, Clone)]
    enum Answer {
        Text(String),
        Fails,
        Panics,
        /// Once it is allowed to.
        Waits(Arc<Notify>),
    }

    /// Answers as it is told, then with `more`; and notes how long each sound was.
    #[derive(Debug, Clone, Default)]
    struct Scripted {
        answers: Arc<StdMutex<VecDeque<Answer>>>,
        heard: Arc<StdMutex<Vec<Duration>>>,
    }

    impl Recognizer for Scripted {
        fn name(&self) -> &str {
            "scripted"
        }

        fn recognize(&self, question: Question) -> Recognizing<'_> {
            let sound = question.sound;
            self.heard.lock().unwrap().push(duration(sound.samples.len()));
            let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Text("more".into()));
            Box::pin(async move {
                match answer {
                    Answer::Text(text) => Ok(Transcript::without_times(&text, &sound, None)),
                    Answer::Fails => Err(RecognizerError::Broken),
                    Answer::Panics => panic!("as the script says"),
                    Answer::Waits(allowed) => {
                        allowed.notified().await;
                        Ok(Transcript::without_times("at last", &sound, None))
                    }
                }
            })
        }
    }

    struct Office {
        folder: tempfile::TempDir,
        port: TranscriberPort,
        view: watch::Receiver<EngineView>,
        engine: Scripted,
    }

    impl Office {
        fn with(answers: impl IntoIterator<Item = Answer>) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let engine = Scripted::default();
            engine.answers.lock().unwrap().extend(answers);
            let made = engine.clone();
            let make_engine: MakeEngine = Box::new(move || Ok(Box::new(made.clone())));
            let options =
                TranscriberOptions { make_engine, questions_max: 1, folder: folder.path().to_owned(), clock: Clock };
            let (port, view, _task) = start(options);
            Self { folder, port, view, engine }
        }

        fn spoken(&self, call: u128, pcm: &[i16]) -> CallSid {
            let call_sid = CallSid::from_number(call);
            fs::write(self.folder.path().join(format!("{call_sid}.1.ulaw")), encode(pcm)).unwrap();
            call_sid
        }

        async fn text(&self, call_sid: CallSid) -> CallText {
            let text = self.port.transcribe(call_sid, None).await;
            tokio::time::timeout(TOO_LONG, text).await.expect("in time").expect("a text")
        }
    }

    fn voice(seconds: u64) -> Vec<i16> {
        tone(300.0, Duration::from_secs(seconds), 0.3)
    }

    fn silence(seconds: usize) -> Vec<i16> {
        vec![0; 8_000 * seconds]
    }

    fn segment(start_ms: u64, end_ms: u64, text: &str) -> Segment {
        Segment { start_ms, end_ms, text: text.to_owned() }
    }

    #[tokio::test]
    async fn what_is_said_has_its_time_in_the_call() {
        let this = Office::with([Answer::Text("hello".into()), Answer::Text("goodbye".into())]);
        let call = this.spoken(1, &[silence(1), voice(2), silence(5), voice(1)].concat());
        let segments = vec![segment(800, 3_480, "hello"), segment(7_800, 9_000, "goodbye")];
        assert_eq!(this.text(call).await, CallText::Words { engine: "scripted".into(), segments });
        assert_eq!(this.view.borrow().name.as_deref(), Some("scripted"));
    }

    #[tokio::test]
    async fn silence_asks_nobody_and_a_call_without_audio_is_no_silence() {
        let this = Office::with([]);
        let silent = this.spoken(1, &silence(20));
        assert_eq!(this.text(silent).await, CallText::NoSpeech { engine: "none".into() });
        assert_eq!(this.text(CallSid::from_number(2)).await, CallText::Unusable);
        assert!(this.engine.heard.lock().unwrap().is_empty());
        let this = Office::with([Answer::Text(String::new())]);
        let cough = this.spoken(3, &voice(1));
        assert_eq!(this.text(cough).await, CallText::NoSpeech { engine: "scripted".into() });
    }

    #[tokio::test]
    async fn an_engine_that_breaks_down_is_asked_the_same_again() {
        let this = Office::with([Answer::Panics, Answer::Fails, Answer::Text("hello".into())]);
        let call = this.spoken(1, &voice(2));
        let segments = vec![segment(0, 2_000, "hello")];
        assert_eq!(this.text(call).await, CallText::Words { engine: "scripted".into(), segments });
        assert_eq!(*this.engine.heard.lock().unwrap(), [Duration::from_secs(2); 3]);
        assert_eq!((this.view.borrow().silent_since, this.view.borrow().last_error.clone()), (None, None));
    }

    #[tokio::test]
    async fn more_than_anybody_can_say_is_left_out_and_marked() {
        let this = Office::with([Answer::Text("la ".repeat(1_000_000))]);
        let call = this.spoken(1, &voice(2));
        assert_eq!(this.text(call).await, CallText::Unusable, "there is nothing else");
    }

    #[tokio::test]
    async fn whoever_does_not_want_a_text_any_more_is_not_worked_for() {
        let allowed = Arc::new(Notify::new());
        let this = Office::with([Answer::Waits(allowed.clone())]);
        let calls = [1, 2, 3].map(|call| this.spoken(call, &voice(call as u64)));
        let first = this.port.transcribe(calls[0], None).await;
        drop(this.port.transcribe(calls[1], None).await);
        let third = this.port.transcribe(calls[2], None).await;
        allowed.notify_one();
        for (text, said) in [(first, "at last"), (third, "more")] {
            let text = tokio::time::timeout(TOO_LONG, text).await.unwrap().unwrap();
            let CallText::Words { segments, .. } = text else { panic!("{text:?}") };
            assert_eq!(segments[0].text, said);
        }
        assert_eq!(*this.engine.heard.lock().unwrap(), [1, 3].map(Duration::from_secs));
    }
}
