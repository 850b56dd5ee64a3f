//! The engine, made ready when it is needed: a model may come later than the box.

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::Mutex, task::spawn_blocking, time::Instant};

use super::{
    audio::{SAMPLE_RATE_HZ, tone},
    engine::EngineError,
    recognizer::{Pcm, Question, Recognizer, RecognizerError, Transcript},
};
use crate::limits::{SPEECH_PATIENCE_MIN, SPEECH_PATIENCE_PER_SOUND};

/// What an engine that failed is tried with.
const PROBE_HZ: f32 = 440.0;
const PROBE_LENGTH: Duration = Duration::from_secs(1);
const PROBE_AMPLITUDE: f32 = 0.1;

/// Makes an engine ready, which may block: [`super::engine::ready`].
pub type MakeEngine = Box<dyn Fn() -> Result<Box<dyn Recognizer>, EngineError> + Send + Sync>;

/// Cheap to clone.
#[derive(Clone)]
pub(super) struct LazyEngine(Arc<Shared>);

struct Shared {
    make: MakeEngine,
    ready: Mutex<Option<Arc<dyn Recognizer>>>,
}

impl fmt::Debug for LazyEngine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazyEngine").finish_non_exhaustive()
    }
}

/// Why there is no text, for the circuit and for people.
#[derive(Debug)]
pub(super) struct Silence {
    pub error: RecognizerError,
    pub told: String,
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

    pub(super) fn broken_off() -> Self {
        Self::of(RecognizerError::Failed("it broke down".to_owned()))
    }
}

impl LazyEngine {
    pub(super) fn new(make: MakeEngine) -> Self {
        Self(Arc::new(Shared { make, ready: Mutex::default() }))
    }

    /// Makes it ready unless it is.
    pub(super) async fn ready(&self) -> Result<Arc<dyn Recognizer>, Silence> {
        let mut ready = self.0.ready.lock().await;
        if let Some(engine) = &*ready {
            return Ok(engine.clone());
        }
        let shared = self.0.clone();
        let made = spawn_blocking(move || (shared.make)()).await;
        let made = made.map_err(|_| Silence::broken_off())?.map_err(|error| Silence::not_ready(&error))?;
        let engine: Arc<dyn Recognizer> = made.into();
        *ready = Some(engine.clone());
        Ok(engine)
    }

    /// What is said in this sound, and who says so.
    pub(super) async fn recognize(&self, sound: Pcm) -> Result<(String, Transcript), Silence> {
        let engine = self.ready().await?;
        let patience = SPEECH_PATIENCE_MIN + sound.duration() * SPEECH_PATIENCE_PER_SOUND;
        let question = Question { sound, deadline: Instant::now() + patience };
        let transcript = engine.recognize(question).await.map_err(Silence::of)?;
        Ok((engine.name().to_owned(), transcript))
    }

    /// Asks for a sound in which nobody speaks: whatever the answer, it is one.
    pub(super) async fn probe(&self) -> Result<(), Silence> {
        let engine = self.ready().await?;
        let sound = Pcm { samples: tone(PROBE_HZ, PROBE_LENGTH, PROBE_AMPLITUDE).into(), rate_hz: SAMPLE_RATE_HZ };
        let deadline = Instant::now() + SPEECH_PATIENCE_MIN;
        engine.recognize(Question { sound, deadline }).await.map(drop).map_err(Silence::of)
    }
}
