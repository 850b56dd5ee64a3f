//! The engine on the box itself: whisper.cpp in this process, one question at a time, on a thread of its own.
//!
//! Its threads, its queue and its memory are bounded; the calls go first, to whose threads its own give way. It stops in the middle of a computation when the
//! question is dropped, when its deadline comes, and when the engine itself is.

use std::{
    error::Error,
    fmt, io,
    num::NonZero,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
};

use tokio::{
    sync::oneshot,
    time::{Instant, timeout_at},
};
use whisper_rs::{
    FullParams, SamplingStrategy, WhisperContext, WhisperContextParameters, WhisperError, WhisperState, get_lang_id,
    get_lang_str,
};

use super::{
    audio::{FRAME_SAMPLES, Level, level},
    model::file::Model,
    recognizer::{Pcm, Question, Recognizer, RecognizerError, Recognizing, Segment, Transcript, check_length},
    resample::wide_float,
};
use crate::{
    config,
    limits::{WHISPER_QUEUE_MAX, WHISPER_THREADS_MAX},
    system::{memory, priority},
};

/// How many beginnings of a sentence are followed at once; whisper.cpp's own choice.
const BEAMS: i32 = 5;
/// Whisper invents a sentence for silence, in the best of manners. What is nowhere as loud as this has nobody in it:
/// speech on a bad line has -45 dB, and the noise of G.711 alone -70.
const AUDIBLE: Level = Level::from_db(-55.0);
/// whisper.cpp takes no sound shorter than this, in samples of 16 kHz: shorter ones are filled up with silence.
const SAMPLES_MIN: usize = 16_000 + 1_600;

/// A model that is loaded, and the thread that works with it.
#[derive(Debug)]
pub struct Whisper {
    name: String,
    jobs: SyncSender<Job>,
    work: Work,
}

/// Why it cannot be loaded.
#[derive(Debug)]
pub enum WhisperSetupError {
    /// `speech.language` is none that any model knows.
    Language(String),
    /// So many bytes of memory are needed, and so many are there.
    Memory {
        needed: u64,
        free: u64,
    },
    Load(WhisperError),
    Thread(io::Error),
}

struct Job {
    sound: Pcm,
    samples: Vec<f32>,
    running: Running,
    answer: oneshot::Sender<Result<Transcript, RecognizerError>>,
}

/// A question as the one who may stop it sees it.
#[derive(Debug, Clone)]
struct Running {
    is_dropped: Arc<AtomicBool>,
    deadline: Instant,
}

/// What is worked on, and whether it still should be: asked by whisper.cpp between two steps of its computation.
#[derive(Debug, Clone, Default)]
struct Work {
    running: Arc<Mutex<Option<Running>>>,
    is_over: Arc<AtomicBool>,
}

/// Stops the question when nobody waits for it any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Whisper {
    /// Loads the model of a file that was [looked through](super::model::file); blocks for a second or several.
    pub fn load(speech: &config::Speech, path: &Path, model: &Model) -> Result<Self, WhisperSetupError> {
        whisper_rs::install_logging_hooks();
        let language = super::primary_language(&speech.language);
        if language != super::ANY_LANGUAGE && get_lang_id(&language).is_none() {
            return Err(WhisperSetupError::Language(language));
        }
        check_memory(model)?;
        let context = WhisperContext::new_with_params(path, WhisperContextParameters::default())
            .map_err(WhisperSetupError::Load)?;
        let state = context.create_state().map_err(WhisperSetupError::Load)?;
        let (jobs, queue) = sync_channel(WHISPER_QUEUE_MAX);
        let work = Work::default();
        let worker = Worker { state, work: work.clone(), language, hints: speech.hints.join(", ") };
        let thread = thread::Builder::new().name("whisper".to_owned());
        thread.spawn(move || worker.run(&queue)).map_err(WhisperSetupError::Thread)?;
        let file = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
        Ok(Self { name: format!("whisper {file}"), jobs, work })
    }

    async fn ask(&self, question: Question) -> Result<Transcript, RecognizerError> {
        let Question { sound, deadline } = question;
        check_length(&sound)?;
        if !is_audible(&sound, 0, u64::MAX) {
            return Ok(Transcript::default());
        }
        let mut samples = wide_float(&sound)?;
        samples.resize(samples.len().max(SAMPLES_MIN), 0.0);
        let running = Running { is_dropped: Arc::default(), deadline };
        let _stop = StopOnDrop(running.is_dropped.clone());
        let (answer, answered) = oneshot::channel();
        self.jobs.try_send(Job { sound, samples, running, answer }).map_err(|_| RecognizerError::Busy(None))?;
        match timeout_at(deadline, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(RecognizerError::Failed("its thread ended".to_owned())),
            Err(_) => Err(RecognizerError::TimedOut),
        }
    }
}

impl Recognizer for Whisper {
    fn name(&self) -> &str {
        &self.name
    }

    fn recognize(&self, question: Question) -> Recognizing<'_> {
        Box::pin(self.ask(question))
    }
}

impl Drop for Whisper {
    fn drop(&mut self) {
        // The thread then sees that no further job can come, and ends.
        self.work.is_over.store(true, Ordering::Relaxed);
    }
}

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Running {
    fn should_stop(&self) -> bool {
        self.is_dropped.load(Ordering::Relaxed) || Instant::now() >= self.deadline
    }
}

impl Work {
    fn set(&self, running: Option<Running>) {
        *self.running.lock().unwrap_or_else(PoisonError::into_inner) = running;
    }

    fn should_stop(&self) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        self.is_over.load(Ordering::Relaxed) || running.as_ref().is_some_and(Running::should_stop)
    }
}

struct Worker {
    state: WhisperState,
    work: Work,
    language: String,
    hints: String,
}

impl Worker {
    fn run(mut self, queue: &Receiver<Job>) {
        // whisper.cpp's own threads are started from this one, anew for each question.
        if let Err(error) = priority::give_way() {
            tracing::warn!(%error, "the speech engine works at the calls' own priority");
        }
        let work = self.work.clone();
        let language = self.language.clone();
        let hints = self.hints.clone();
        // Made once: whisper-rs never frees the language, the prompt and the callback of parameters.
        let parameters = parameters(&language, &hints, &work);
        while let Ok(job) = queue.recv() {
            if work.is_over.load(Ordering::Relaxed) {
                break;
            }
            if job.running.should_stop() {
                continue;
            }
            work.set(Some(job.running.clone()));
            let outcome = self.recognize(parameters.clone(), &job);
            work.set(None);
            // Whoever asked may have gone.
            let _ = job.answer.send(outcome);
        }
    }

    fn recognize(&mut self, parameters: FullParams<'_, '_>, job: &Job) -> Result<Transcript, RecognizerError> {
        if let Err(error) = self.state.full(parameters, &job.samples) {
            let stopped = job.running.should_stop();
            return Err(if stopped { RecognizerError::TimedOut } else { RecognizerError::Failed(error.to_string()) });
        }
        let milliseconds = |centiseconds: i64| u64::try_from(centiseconds).unwrap_or(0).saturating_mul(10);
        let segments = self.state.as_iter().map(|segment| Segment {
            start_ms: milliseconds(segment.start_timestamp()),
            end_ms: milliseconds(segment.end_timestamp()),
            text: segment.to_str_lossy().unwrap_or_default().into_owned(),
        });
        let segments = segments.filter(|segment| is_audible(&job.sound, segment.start_ms, segment.end_ms));
        let detected = (self.language == super::ANY_LANGUAGE).then(|| self.state.full_lang_id_from_state());
        let language = detected.and_then(get_lang_str).map(str::to_owned);
        Ok(Transcript::of(segments, &job.sound, language))
    }
}

fn parameters<'a>(language: &'a str, hints: &str, work: &Work) -> FullParams<'a, 'static> {
    let mut parameters = FullParams::new(SamplingStrategy::BeamSearch { beam_size: BEAMS, patience: -1.0 });
    parameters.set_n_threads(threads());
    parameters.set_language(Some(language));
    // Each question stands for itself: what was misheard in one does not spoil the next.
    parameters.set_no_context(true);
    parameters.set_suppress_blank(true);
    parameters.set_suppress_nst(true);
    parameters.set_print_special(false);
    parameters.set_print_progress(false);
    parameters.set_print_realtime(false);
    parameters.set_print_timestamps(false);
    if !hints.is_empty() {
        parameters.set_initial_prompt(hints);
    }
    let work = work.clone();
    // whisper-rs 0.16 hands a pointer to a boxed closure to a function that reads a bare one: the two are the same only
    // if the closure is itself such a box. https://codeberg.org/tazz4843/whisper-rs, `set_abort_callback_safe`
    let abort: Box<dyn FnMut() -> bool> = Box::new(move || work.should_stop());
    parameters.set_abort_callback_safe::<_, Box<dyn FnMut() -> bool>>(abort);
    parameters
}

/// Whether anything can be heard between two times.
fn is_audible(sound: &Pcm, from_ms: u64, to_ms: u64) -> bool {
    let at = |ms: u64| usize::try_from(ms.saturating_mul(sound.rate_hz.into()) / 1_000).unwrap_or(usize::MAX);
    let end = at(to_ms).min(sound.samples.len());
    let mut frames = sound.samples[at(from_ms).min(end)..end].chunks(FRAME_SAMPLES);
    frames.any(|frame| level(frame) > AUDIBLE)
}

/// One core is left to the calls where there are several.
fn threads() -> i32 {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    cores.saturating_sub(1).clamp(1, WHISPER_THREADS_MAX) as i32
}

/// Refuses a model that would drive the box out of its memory, and the calls with it.
fn check_memory(model: &Model) -> Result<(), WhisperSetupError> {
    let needed = model.memory_bytes();
    match memory::free() {
        Some(free) if free < needed => Err(WhisperSetupError::Memory { needed, free }),
        _ => Ok(()),
    }
}

impl WhisperSetupError {
    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Language(_) => "set speech.language to a language as \"he\" or \"en\", or to \"auto\"",
            Self::Memory { .. } => {
                "take a smaller model (kolbox model), or raise the service's MemoryMax= where that is it"
            }
            Self::Load(_) => "look at the file with kolbox model check",
            Self::Thread(_) => "try again",
        }
    }
}

impl fmt::Display for WhisperSetupError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let size = |bytes: &u64| bytesize::ByteSize::b(*bytes).display().iec();
        match self {
            Self::Language(language) => write!(f, "no model of Whisper's knows a language {language:?}"),
            Self::Memory { needed, free } => {
                write!(f, "the model takes about {} of memory, and {} are free", size(needed), size(free))
            }
            Self::Load(_) => f.write_str("the model cannot be loaded"),
            Self::Thread(_) => f.write_str("no thread can be had for the speech engine"),
        }
    }
}

impl Error for WhisperSetupError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Language(_) | Self::Memory { .. } => None,
            Self::Load(error) => Some(error),
            Self::Thread(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::speech::audio::tone;

    #[test]
    fn a_language_that_no_model_knows_is_refused_before_anything_is_loaded() {
        let speech = config::Speech { language: "xx".into(), ..config::Speech::default() };
        let model = Model { bytes: 1, kind: "tiny".into(), weights: "f16", languages: 99 };
        let refused = Whisper::load(&speech, Path::new("/nowhere/model.bin"), &model).unwrap_err();
        assert!(matches!(refused, WhisperSetupError::Language(language) if language == "xx"));
    }

    #[test]
    fn a_time_is_audible_when_somebody_speaks_in_it() {
        let speech = tone(300.0, Duration::from_secs(1), 0.05);
        let noise: Vec<i16> = (0..8_000).map(|at| if at % 3 == 0 { 8 } else { -8 }).collect();
        let sound = Pcm { samples: [&noise[..], &speech].concat().into(), rate_hz: 8_000 };
        assert!(is_audible(&sound, 0, u64::MAX) && is_audible(&sound, 900, 1_200));
        assert!(!is_audible(&sound, 0, 1_000));
        for nothing in [(2_000, 3_000), (u64::MAX, u64::MAX), (500, 100)] {
            assert!(!is_audible(&sound, nothing.0, nothing.1), "{nothing:?}");
        }
    }

    #[test]
    fn what_is_worked_on_stops_when_it_is_dropped_or_late() {
        let work = Work::default();
        assert!(!work.should_stop());
        let running = Running { is_dropped: Arc::default(), deadline: Instant::now() + Duration::from_secs(60) };
        work.set(Some(running.clone()));
        assert!(!work.should_stop());
        drop(StopOnDrop(running.is_dropped.clone()));
        assert!(work.should_stop());
        work.set(Some(Running { is_dropped: Arc::default(), deadline: Instant::now() }));
        assert!(work.should_stop());
        work.set(None);
        assert!(!work.should_stop());
    }
}
