//! Whisper in this process, with real weights where `SPEECH_TEST_MODEL` names a file of them; tests/support/speech_model.sh
//! prepares one.
#![cfg(feature = "whisper")]

use std::{
    env, fs,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use kolbox::{
    config::{Speech, SpeechEngine},
    limits::WHISPER_QUEUE_MAX,
    speech::{
        decode::decode_to_recognize,
        engine::{self, EngineError},
        model::file::{ModelError, examine},
        recognizer::{Pcm, Question, Recognizer, RecognizerError},
    },
};
use tokio::time::Instant;
use words::{words, wrong_words};

#[path = "support/words.rs"]
mod words;

/// For what must come; never waited for to its end.
const LONG: Duration = Duration::from_secs(600);

/// The one model of all tests: each of its own would take a processor's whole cache from the others.
fn engine() -> Option<Arc<dyn Recognizer>> {
    static ENGINE: OnceLock<Option<Arc<dyn Recognizer>>> = OnceLock::new();
    let load = || {
        let speech = speech(model_file()?);
        Some(engine::ready(&speech, "/nowhere".as_ref()).expect("the model can be loaded").into())
    };
    ENGINE.get_or_init(load).clone()
}

fn model_file() -> Option<PathBuf> {
    let file = env::var_os("SPEECH_TEST_MODEL").map(PathBuf::from);
    if file.is_none() {
        println!("SKIPPED whisper: SPEECH_TEST_MODEL names no model (tests/support/speech_model.sh makes one)");
    }
    file
}

fn speech(model: PathBuf) -> Speech {
    Speech {
        engine: SpeechEngine::Whisper,
        model: model.to_str().unwrap().to_owned(),
        language: "en".into(),
        ..Speech::default()
    }
}

fn caller() -> Pcm {
    decode_to_recognize(include_bytes!("../static/speech/caller_en.wav"), "wav").unwrap()
}

fn question(sound: Pcm, patience: Duration) -> Question {
    Question { sound, deadline: Instant::now() + patience }
}

#[tokio::test]
async fn a_computers_voice_through_the_telephone_is_understood() {
    let Some(engine) = engine() else { return };
    let sound = caller();
    assert_eq!(sound.rate_hz, 8_000);
    let transcript = engine.recognize(question(sound.clone(), LONG)).await.unwrap();
    let said = words(include_str!("../static/speech/caller_en.txt"));
    let wrong = wrong_words(&said, &words(&transcript.text));
    println!("{wrong} of {} words wrong: {}", said.len(), transcript.text);
    assert!(wrong * 3 <= said.len(), "{wrong} of {}: {}", said.len(), transcript.text);
    let end = sound.duration().as_millis() as u64 + 1;
    let mut last = 0;
    for segment in &transcript.segments {
        assert!(last <= segment.start_ms && segment.start_ms <= segment.end_ms && segment.end_ms <= end, "{segment:?}");
        last = segment.start_ms;
    }
}

/// The engine's thread must come free, or one endless question would be the last.
#[tokio::test]
async fn what_is_late_or_dropped_stops_and_the_next_question_is_answered() {
    let Some(engine) = engine() else { return };
    let long = Pcm { samples: caller().samples.iter().copied().cycle().take(8_000 * 600).collect(), rate_hz: 8_000 };
    let late = engine.recognize(question(long.clone(), Duration::from_millis(300))).await.unwrap_err();
    assert!(matches!(late, RecognizerError::TimedOut), "{late}");
    drop(tokio::time::timeout(Duration::from_millis(300), engine.recognize(question(long, LONG))).await);
    let next = engine.recognize(question(caller(), LONG)).await.unwrap();
    assert!(!next.text.is_empty());
}

#[tokio::test]
async fn more_questions_than_may_wait_are_told_that_it_is_busy_and_the_others_are_answered_in_turn() {
    let Some(engine) = engine() else { return };
    let asked: Vec<_> = (0..WHISPER_QUEUE_MAX + 4)
        .map(|_| {
            let engine = engine.clone();
            async move { engine.recognize(question(caller(), LONG)).await }
        })
        .collect();
    let answers = futures_util::future::join_all(asked).await;
    let busy = answers.iter().filter(|answer| matches!(answer, Err(RecognizerError::Busy(None)))).count();
    let texts: Vec<_> = answers.iter().flatten().map(|transcript| &transcript.text).collect();
    assert!(busy >= 2 && texts.len() >= WHISPER_QUEUE_MAX, "{busy} busy, {} texts", texts.len());
    assert_eq!(busy + texts.len(), answers.len());
    let said = words(include_str!("../static/speech/caller_en.txt"));
    for text in texts {
        // Where it is unsure it draws lots: the texts may differ.
        assert!(wrong_words(&said, &words(text)) * 3 <= said.len(), "{text}");
    }
}

#[tokio::test]
async fn silence_is_no_text() {
    let Some(engine) = engine() else { return };
    let silence = Pcm { samples: vec![0; 8_000 * 5].into(), rate_hz: 8_000 };
    let transcript = engine.recognize(question(silence, LONG)).await.unwrap();
    assert_eq!(transcript.text, "");
}

#[test]
fn half_a_model_never_reaches_the_engine() {
    let Some(model) = model_file() else { return };
    let whole = fs::read(&model).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let half = folder.path().join("half.bin");
    fs::write(&half, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(examine(&model).unwrap().languages, 99);
    let refused = engine::ready(&speech(half), "/nowhere".as_ref()).expect_err("half a model");
    assert!(matches!(refused, EngineError::Model(_, ModelError::Truncated)), "{refused}");
}
