//! Who writes down what the demo's callers say: the engine that is configured on this computer, or a model that lies in
//! its usual place, or nobody.

use std::{path::Path, time::Duration};

use crate::{
    config::{Speech, SpeechEngine, Store, world::World},
    speech::{
        engine::HAS_WHISPER,
        model::{self, PUBLISHED},
    },
};

/// A demo is not kept waiting for an engine that is away: its records go without text then.
const WAIT: Duration = Duration::from_secs(20);

/// As on the box that this computer is, or would be. A configuration with mistakes is none here: `kolbox check` has them.
pub fn find() -> Speech {
    let (speech, store) = World::find(None).speech().unwrap_or_else(|_| (Speech::default(), Store::default().path));
    chosen(speech, &store, HAS_WHISPER)
}

fn chosen(mut speech: Speech, store: &Path, has_whisper: bool) -> Speech {
    let lies_there = || PUBLISHED.iter().rev().map(|model| model::path(store, model.name)).find(|path| path.is_file());
    match speech.engine {
        // A path: the demo's own store has no models.
        SpeechEngine::Whisper => speech.model = model::path(store, &speech.model).display().to_string(),
        SpeechEngine::None if has_whisper && let Some(path) = lies_there() => {
            (speech.engine, speech.model) = (SpeechEngine::Whisper, path.display().to_string());
        }
        SpeechEngine::None | SpeechEngine::OpenAi | SpeechEngine::Wyoming => {}
    }
    Speech { wait: WAIT, ..speech }
}

/// One line about it.
pub fn told(speech: &Speech) -> String {
    match speech.engine {
        SpeechEngine::None => {
            "nobody writes down what is said; `kolbox model` tells how to get an engine for it".to_owned()
        }
        SpeechEngine::Whisper => format!("what is said is written down by whisper, {}", speech.model),
        SpeechEngine::OpenAi | SpeechEngine::Wyoming => format!("what is said is written down by {}", speech.url),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_engine_is_taken_else_the_best_model_in_its_place_else_none() {
        let store = tempfile::tempdir().unwrap();
        let none = chosen(Speech::default(), store.path(), true);
        assert!(none.engine == SpeechEngine::None && told(&none).contains("kolbox model"));
        std::fs::create_dir(model::directory(store.path())).unwrap();
        for name in ["base-q5_1", "small"] {
            std::fs::write(model::path(store.path(), name), "").unwrap();
        }
        let found = chosen(Speech::default(), store.path(), true);
        assert_eq!(found.engine, SpeechEngine::Whisper);
        assert!(found.model.ends_with("models/ggml-small.bin") && told(&found).contains(&found.model));
        assert_eq!(chosen(Speech::default(), store.path(), false).engine, SpeechEngine::None);
        let lan = Speech { engine: SpeechEngine::Wyoming, url: "tcp://pc:10300".into(), ..Speech::default() };
        let lan = chosen(lan, store.path(), true);
        assert_eq!((lan.engine, lan.wait), (SpeechEngine::Wyoming, WAIT));
        assert!(told(&lan).contains("tcp://pc:10300"));
        let named = Speech { engine: SpeechEngine::Whisper, model: "base-q5_1".into(), ..Speech::default() };
        assert!(chosen(named, store.path(), true).model.starts_with(store.path().to_str().unwrap()));
    }
}
