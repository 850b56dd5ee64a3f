//! The engine of the configuration, made ready to be asked.

use std::{
    error::Error,
    fmt,
    path::{Path, PathBuf},
};

#[cfg(feature = "whisper")]
use super::whisper::{Whisper, WhisperSetupError};
use super::{
    model::{
        self,
        file::{Model, ModelError, examine},
    },
    openai::{OpenAi, OpenAiError},
    recognizer::Recognizer,
    wyoming::{NoAddress, Wyoming},
};
use crate::config::{self, SpeechEngine};

/// Whether this program has whisper.cpp in it.
pub const HAS_WHISPER: bool = cfg!(feature = "whisper");

/// Why there is no engine to ask.
#[derive(Debug)]
pub enum EngineError {
    /// `speech.engine` is `none`.
    NotConfigured,
    /// This program was built without it.
    NotBuiltIn,
    Model(PathBuf, ModelError),
    /// The model knows English alone, and the callers speak something else.
    EnglishOnly(PathBuf),
    #[cfg(feature = "whisper")]
    Whisper(WhisperSetupError),
    OpenAi(OpenAiError),
    Wyoming(NoAddress),
}

/// Makes it ready: loads a model, which blocks for a second or several, or prepares to call; nobody is called yet.
pub fn ready(speech: &config::Speech, store: &Path) -> Result<Box<dyn Recognizer>, EngineError> {
    match speech.engine {
        SpeechEngine::None => Err(EngineError::NotConfigured),
        SpeechEngine::Whisper => whisper(speech, &model::path(store, &speech.model)),
        SpeechEngine::OpenAi => Ok(Box::new(OpenAi::new(speech).map_err(EngineError::OpenAi)?)),
        SpeechEngine::Wyoming => Ok(Box::new(Wyoming::new(speech).map_err(EngineError::Wyoming)?)),
    }
}

fn whisper(speech: &config::Speech, path: &Path) -> Result<Box<dyn Recognizer>, EngineError> {
    if !HAS_WHISPER {
        return Err(EngineError::NotBuiltIn);
    }
    let model = examine(path).map_err(|error| EngineError::Model(path.to_owned(), error))?;
    if !knows_language(&model, speech) {
        return Err(EngineError::EnglishOnly(path.to_owned()));
    }
    load(speech, path, &model)
}

/// Whether a model was trained on what callers speak.
pub fn knows_language(model: &Model, speech: &config::Speech) -> bool {
    model.knows(&super::primary_language(&speech.language))
}

#[cfg(feature = "whisper")]
fn load(speech: &config::Speech, path: &Path, model: &Model) -> Result<Box<dyn Recognizer>, EngineError> {
    Ok(Box::new(Whisper::load(speech, path, model).map_err(EngineError::Whisper)?))
}

#[cfg(not(feature = "whisper"))]
fn load(_: &config::Speech, _: &Path, _: &Model) -> Result<Box<dyn Recognizer>, EngineError> {
    Err(EngineError::NotBuiltIn)
}

impl EngineError {
    /// Whether the configuration, or what it names, must change first.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::NotConfigured => {
                "set speech.engine to \"whisper\" (kolbox model tells how to get a model), \"openai\" or \"wyoming\""
            }
            Self::NotBuiltIn => {
                "build it with it: cargo build --release --features whisper (needs cmake and g++); or take an engine on \
                 the LAN"
            }
            Self::Model(..) => "kolbox model tells which files there are, and how to get one",
            Self::EnglishOnly(_) => "take a model whose name has no .en in it (kolbox model), or set speech.language",
            #[cfg(feature = "whisper")]
            Self::Whisper(error) => error.remedy(),
            Self::OpenAi(_) | Self::Wyoming(_) => "correct it in the configuration",
        }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotConfigured => f.write_str("no speech engine is configured"),
            Self::NotBuiltIn => f.write_str("this program was built without the speech engine \"whisper\""),
            Self::Model(path, error) => write!(f, "speech.model, {}: {error}", path.display()),
            Self::EnglishOnly(path) => write!(f, "speech.model, {}: it knows English only", path.display()),
            #[cfg(feature = "whisper")]
            Self::Whisper(error) => error.fmt(f),
            Self::OpenAi(error) => error.fmt(f),
            Self::Wyoming(error) => error.fmt(f),
        }
    }
}

impl Error for EngineError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::NotConfigured | Self::NotBuiltIn | Self::EnglishOnly(_) => None,
            Self::Model(_, error) => error.source(),
            #[cfg(feature = "whisper")]
            Self::Whisper(error) => error.source(),
            Self::OpenAi(error) => error.source(),
            Self::Wyoming(error) => error.source(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(speech: config::Speech) -> EngineError {
        ready(&speech, Path::new("/nowhere")).expect_err("no engine")
    }

    #[test]
    fn the_configured_engine_is_made_and_names_itself() {
        let speech = config::Speech {
            engine: SpeechEngine::OpenAi,
            model: "whisper-1".into(),
            url: "http://127.0.0.1:9".into(),
            ..config::Speech::default()
        };
        assert_eq!(ready(&speech, Path::new("/nowhere")).unwrap().name(), "openai whisper-1");
        let speech = config::Speech { engine: SpeechEngine::Wyoming, url: "tcp://h:1".into(), ..speech };
        assert_eq!(ready(&speech, Path::new("/nowhere")).unwrap().name(), "wyoming whisper-1");
    }

    #[test]
    fn whoever_has_none_is_told_how_to_get_one() {
        let none = refused(config::Speech::default());
        assert!(matches!(none, EngineError::NotConfigured) && none.remedy().contains("kolbox model"));
        let speech =
            config::Speech { engine: SpeechEngine::Whisper, model: "base".into(), ..config::Speech::default() };
        let error = refused(speech);
        if HAS_WHISPER {
            assert_eq!(error.to_string(), "speech.model, /nowhere/models/ggml-base.bin: there is no such file");
        } else {
            assert!(matches!(error, EngineError::NotBuiltIn) && error.remedy().contains("--features whisper"));
        }
    }
}
