//! The speech engine in the running box: the keeper asks for a call's text, the transcriber reads its audio.

use std::path::{Path, PathBuf};

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::timeout,
};

use crate::{
    config::{Config, SpeechEngine},
    limits::{AWAITING_TEXT_MAX, SPEECH_QUESTIONS_MAX, SPOOL_CLOSE_MAX},
    speech::{
        engine,
        open_streams::OpenStreams,
        recognizer,
        transcriber::{self, CallText, EngineView, LiveWords, Running, TranscriberOptions, TranscriberPort},
    },
    system::clock::Clock,
    transcripts::{
        Heard, TextPort, TextWanted,
        record::{Segment, Words},
        recordings::{self, Kind},
        texts::TextOptions,
    },
    twilio::sid::{CallSid, RecordingSid},
};

/// The two ends of the keeper's way to the engine; `None` where none is configured.
pub(super) fn port(config: &Config) -> Option<(TextPort, mpsc::Receiver<TextWanted>)> {
    let engine = match config.speech.engine {
        SpeechEngine::None => return None,
        SpeechEngine::Whisper => "whisper",
        SpeechEngine::OpenAi => "openai",
        SpeechEngine::Wyoming => "wyoming",
    };
    let (wanted, receiver) = mpsc::channel(AWAITING_TEXT_MAX);
    let options = TextOptions { wait: config.speech.wait, engine: engine.to_owned() };
    Some((TextPort { options, wanted }, receiver))
}

/// What staff see of it.
pub(super) struct Transcribing {
    pub engine: watch::Receiver<EngineView>,
    pub words: watch::Receiver<LiveWords>,
}

/// Starts the transcriber, and answers the keeper for as long as it asks.
pub(super) fn start(
    config: &Config,
    clock: Clock,
    wanted: mpsc::Receiver<TextWanted>,
    streams: OpenStreams,
) -> (Transcribing, [JoinHandle<()>; 2]) {
    let (speech, store) = (config.speech.clone(), config.store.path.clone());
    let models = store.clone();
    let Running { port, engine, words, task } = transcriber::start(TranscriberOptions {
        make_engine: Box::new(move || engine::ready(&speech, &models)),
        questions_max: SPEECH_QUESTIONS_MAX,
        folder: store.join(recordings::FOLDER),
        streams: streams.clone(),
        mask_digits: config.speech.mask_digits,
        clock,
    });
    let tasks = [task, tokio::spawn(serve(wanted, port, streams, store))];
    (Transcribing { engine, words }, tasks)
}

async fn serve(mut wanted: mpsc::Receiver<TextWanted>, port: TranscriberPort, streams: OpenStreams, store: PathBuf) {
    while let Some(wanted) = wanted.recv().await {
        let recording = match wanted.recording_sid {
            Some(recording_sid) => recording_of(&store, wanted.call_sid, recording_sid).await,
            None => None,
        };
        if streams.is_open(wanted.call_sid) {
            // Its last words are still on their way. They hold up no other call.
            let (port, streams) = (port.clone(), streams.clone());
            tokio::spawn(async move {
                if timeout(SPOOL_CLOSE_MAX, streams.closed(wanted.call_sid)).await.is_err() {
                    tracing::warn!(call_sid = %wanted.call_sid, "a call is over and its stream is not");
                }
                hand_in(wanted, recording, &port).await;
            });
        } else {
            hand_in(wanted, recording, &port).await;
        }
    }
}

/// Returns once it is in the queue.
async fn hand_in(wanted: TextWanted, recording: Option<PathBuf>, port: &TranscriberPort) {
    let TextWanted { call_sid, until, mut reply, .. } = wanted;
    let text = port.transcribe(call_sid, recording, until).await;
    tokio::spawn(async move {
        tokio::select! {
            text = text => if let Ok(text) = text {
                let _ = reply.send(heard(text));
            },
            () = reply.closed() => {}
        }
    });
}

/// The recording as it lies on the disk: whole, or its beginning. One that is not there is named all the same, so that it
/// is missed.
async fn recording_of(store: &Path, call_sid: CallSid, recording_sid: RecordingSid) -> Option<PathBuf> {
    let place = |kind| recordings::path(store, call_sid, recording_sid, kind);
    for path in [place(Kind::Whole), place(Kind::Cut)] {
        if tokio::fs::try_exists(&path).await.unwrap_or(false) {
            return Some(path);
        }
    }
    Some(place(Kind::Whole))
}

fn heard(text: CallText) -> Heard {
    let segment = |recognizer::Segment { start_ms, end_ms, text }| Segment { start_ms, end_ms, text: Words(text) };
    match text {
        CallText::Words { engine, segments } => {
            Heard::Words { engine, segments: segments.into_iter().map(segment).collect() }
        }
        CallText::NoSpeech { engine } => Heard::NoSpeech { engine },
        CallText::Unusable => Heard::Unusable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        speech::{hearing::NOBODY, marks::UNHEARD},
        transcripts::record::samples::record,
    };

    /// Two rooms that may not know each other have a word for the same: the records' must be the text's.
    #[test]
    fn what_the_transcriber_leaves_out_and_whom_it_did_not_ask_a_record_knows() {
        let words = |text: &str| {
            let segments = vec![recognizer::Segment { start_ms: 0, end_ms: 9, text: text.to_owned() }];
            record(1).with_text(Some(heard(CallText::Words { engine: "whisper".into(), segments })))
        };
        assert!(words("hello").is_complete() && words("hello").names_engine());
        assert!(!words(UNHEARD).is_complete());
        let nobody = CallText::NoSpeech { engine: NOBODY.to_owned() };
        assert!(!record(1).with_text(Some(heard(nobody))).names_engine());
    }
}
