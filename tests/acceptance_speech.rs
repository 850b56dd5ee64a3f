//! From the caller's voice to the text at the upstream, over real sockets: with an engine that answers, one that is away,
//! talks nonsense or is not ready, with a box that dies in between, and with a recording.

use std::{
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use kolbox::simulator::upstream::Upstream;
use process::{Office, PATIENCE};
use serde_json::{Value, json};
use tokio::{io::BufReader, net::TcpListener, runtime::Runtime, sync::watch};

#[path = "support/openai_peer.rs"]
mod openai_peer;
#[path = "support/process.rs"]
mod process;

/// 7.4 s of somebody who speaks.
const VOICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/static/speech/caller_en.wav");
const VOICE_MS: u64 = 7_447;

/// How the engine is today.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mood {
    Answers,
    /// It closes every connection.
    Away,
    Nonsense,
}

/// An engine that speaks as OpenAI's does, and tells how much it was given to hear.
struct Engine {
    address: SocketAddr,
    mood: Arc<Mutex<Mood>>,
    /// Questions that it has met, answered or not.
    asked: watch::Receiver<usize>,
    runtime: Runtime,
}

impl Engine {
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let (address, mood) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Mood::Answers)));
        let (asking, asked) = watch::channel(0);
        let today = mood.clone();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                asking.send_modify(|count| *count += 1);
                let mood = *today.lock().unwrap();
                let answer = match mood {
                    Mood::Away => continue,
                    Mood::Nonsense => None,
                    Mood::Answers => Some(()),
                };
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let milliseconds = openai_peer::read(&mut stream).await.expect("a question").milliseconds();
                    let body = match answer {
                        None => "<html>a router's login page".to_owned(),
                        Some(()) => {
                            let end = milliseconds as f64 / 1_000.0;
                            let text = format!("heard {milliseconds} ms");
                            json!({"text": text, "segments": [{"start": 0.0, "end": end, "text": text}]}).to_string()
                        }
                    };
                    openai_peer::answer(&mut stream, "200 OK", &body).await;
                });
            }
        });
        Self { address, mood, asked, runtime }
    }

    fn is(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    /// Waits until it has met so many questions since it was started.
    fn wait_for_questions(&self, count: usize) {
        let mut asked = self.asked.clone();
        let met = async { asked.wait_for(|asked| *asked >= count).await.map(drop) };
        self.runtime.block_on(async { tokio::time::timeout(PATIENCE, met).await }).expect("questions").unwrap();
    }

    fn questions(&self) -> usize {
        *self.asked.borrow()
    }
}

/// A box with that engine, and the office's system.
fn office(engine: &Engine, more: &[(&str, &str)]) -> (Office, Upstream) {
    let upstream = engine.runtime.block_on(Upstream::serve(SocketAddr::from(([127, 0, 0, 1], 0)), "hunter2")).unwrap();
    let (url, engine_url) =
        (format!("http://{}/transcripts", upstream.address()), format!("http://{}", engine.address));
    let settings = [
        ("KOLBOX_SYNC__URL", &*url),
        ("KOLBOX_SYNC__TOKEN", "hunter2"),
        ("KOLBOX_SPEECH__ENGINE", "openai"),
        ("KOLBOX_SPEECH__MODEL", "whisper-1"),
        ("KOLBOX_SPEECH__URL", &engine_url),
        ("KOLBOX_SPEECH__LANGUAGE", "en"),
    ];
    (Office::new(&[&settings, more].concat()), upstream)
}

/// What the engine heard of a record, in milliseconds.
fn heard_ms(record: &Value) -> u64 {
    let text = record["text"].as_str().unwrap();
    text.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum()
}

#[test]
fn a_callers_words_to_the_last_stand_in_the_record_at_the_upstream() {
    let engine = Engine::start();
    let (office, upstream) = office(&engine, &[("KOLBOX_AUDIO__KEEP", "never")]);
    let serve = office.serve();
    let finished = office.call(&["--audio", VOICE]).finish();
    assert_eq!(finished.call().outcome, "streamed", "{}", finished.out);
    serve.wait_for_event("TRANSCRIPT_SYNCED");
    serve.terminate();
    let (code, log) = serve.end();
    assert_eq!((code, log.errors()), (Some(0), Vec::new()));

    let arrived = upstream.transcripts();
    assert_eq!((arrived.len(), upstream.repeated()), (1, 0));
    let record = &arrived[0].body;
    assert_eq!(
        (&record["outcome"], &record["source"], &record["engine"], &record["language"]),
        (&json!("transcribed"), &json!("stream"), &json!("openai whisper-1"), &json!("en"))
    );
    assert!((6_000..=VOICE_MS + 500).contains(&heard_ms(record)), "{record:#}");
    let segments = record["segments"].as_array().unwrap();
    let end = segments.last().unwrap()["end_ms"].as_u64().unwrap();
    assert!(segments[0]["start_ms"].as_u64().unwrap() < 1_500 && end > VOICE_MS - 500, "{record:#}");
    assert_eq!(office.transcripts(), std::slice::from_ref(record), "as it was sent");
    assert!(!log.messages().any(|message| message.contains("heard")), "no word in the log");
}

#[test]
fn words_are_written_down_while_the_call_goes_on() {
    let engine = Engine::start();
    let (office, upstream) = office(&engine, &[]);
    // Somebody who speaks, and then thinks for a while.
    let audio = office.folder().join("thinks.wav");
    let (mut voice, spec) = (hound::WavReader::open(VOICE).unwrap(), hound::WavReader::open(VOICE).unwrap().spec());
    let mut writer = hound::WavWriter::create(&audio, spec).unwrap();
    voice.samples::<i16>().for_each(|sample| writer.write_sample(sample.unwrap()).unwrap());
    (0..12 * spec.sample_rate).for_each(|_| writer.write_sample(0_i16).unwrap());
    writer.finalize().unwrap();
    let serve = office.serve();
    let call = office.call(&["--audio", audio.to_str().unwrap()]);
    engine.wait_for_questions(1);
    let status = office.wait_for_status(|_| true);
    let now = &status["calls"]["list"][0];
    assert_eq!((&now["state"], &now["last_words"]), (&json!("streaming"), &Value::Null), "staff alone see words");
    assert_eq!(call.finish().call().outcome, "streamed");
    serve.wait_for_event("TRANSCRIPT_SYNCED");
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));
    assert_eq!(engine.questions(), 1, "nothing is asked again at the end");
    assert!(heard_ms(&upstream.transcripts()[0].body) > 6_000);
}

#[test]
fn a_recordings_words_stand_in_the_record_too() {
    let engine = Engine::start();
    let (office, upstream) = office(&engine, &[("KOLBOX_WATCHDOG__START_TIMEOUT", "1s")]);
    let serve = office.serve();
    let finished = office.call(&["--audio", VOICE, "--fault", "no-stream"]).finish();
    let call = finished.call();
    assert_eq!(call.outcome, "recorded", "{}", finished.out);
    serve.wait_for_event("TRANSCRIPT_SYNCED");
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));
    let record = &upstream.transcripts()[0].body;
    assert_eq!((&record["outcome"], &record["source"]), (&json!("transcribed"), &json!("recording")), "{record:#}");
    assert_eq!(record["recording_sid"].as_str(), call.recording_sid.as_deref());
    assert!(heard_ms(record) > 2_000, "{record:#}");
}

#[test]
fn what_an_engine_did_not_hear_it_hears_when_it_is_back_once_and_in_order_though_the_box_died_in_between() {
    let engine = Engine::start();
    let (office, upstream) = office(&engine, &[]);
    let serve = office.serve();
    engine.is(Mood::Nonsense);
    let mut calls = vec![office.call(&["--audio", VOICE]).finish().call().call_sid];
    engine.wait_for_questions(1);
    engine.is(Mood::Away);
    calls.push(office.call(&["--audio", VOICE]).finish().call().call_sid);
    let status =
        office.wait_for_status(|now| now["speech"]["calls_waiting"] == 2 && !now["speech"]["silent_since"].is_null());
    assert_eq!(status["speech"]["engine"], "openai whisper-1");
    assert!(status["speech"]["waiting_since"].is_string() && status["speech"]["last_error"].is_string(), "{status:#}");
    assert_eq!(
        (&status["transcripts"]["awaiting_recording"], &status["transcripts"]["unsynced"]),
        (&json!(0), &json!(0))
    );
    let troubles: Vec<_> = status["trouble"].as_array().unwrap().iter().map(|trouble| &trouble["code"]).collect();
    assert!(troubles.contains(&&json!("speech_silent")), "{troubles:?}");
    serve.kill();

    let before = engine.questions();
    let serve = office.serve();
    engine.wait_for_questions(before + 1);
    office.wait_for_status(|now| now["speech"]["calls_waiting"] == 2);
    assert!(upstream.transcripts().is_empty(), "nothing is final yet");
    engine.is(Mood::Answers);
    serve.wait_for_many("both records at the upstream", 2, |line| line["event"] == "TRANSCRIPT_SYNCED");
    let well = office.wait_for_status(|now| now["speech"]["calls_waiting"] == 0);
    assert_eq!((&well["speech"]["silent_since"], &well["speech"]["last_error"]), (&Value::Null, &Value::Null));
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));

    let arrived = upstream.transcripts();
    let sids: Vec<_> = arrived.iter().map(|transcript| transcript.body["call_sid"].as_str().unwrap()).collect();
    assert_eq!((sids, upstream.repeated()), (calls.iter().map(String::as_str).collect(), 0));
    for transcript in &arrived {
        assert_eq!(transcript.body["outcome"], "transcribed");
        assert!((6_000..=VOICE_MS + 500).contains(&heard_ms(&transcript.body)), "{:#}", transcript.body);
    }
}

#[test]
fn an_engine_that_is_not_ready_keeps_no_box_from_its_calls_and_the_record_goes_without_text_when_its_wait_is_over() {
    let engine = Engine::start();
    let more =
        [("KOLBOX_SPEECH__ENGINE", "whisper"), ("KOLBOX_SPEECH__MODEL", "no-such"), ("KOLBOX_SPEECH__WAIT", "3s")];
    let (office, upstream) = office(&engine, &more);
    let serve = office.serve();
    let status = office.wait_for_status(|now| !now["speech"]["silent_since"].is_null());
    let error = status["speech"]["last_error"].as_str().unwrap();
    assert!(error.contains("no-such") || error.contains("--features whisper"), "it says what to do: {error}");
    let call = office.call(&["--audio", VOICE]).finish().call();
    serve.wait_for_event("TRANSCRIPT_SYNCED");
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));
    let record = &upstream.transcripts()[0].body;
    assert_eq!((&record["outcome"], &record["engine"]), (&json!("untranscribed"), &json!("none")), "{record:#}");
    let audio = office.folder().join("store/audio").join(format!("{}.1.ulaw", call.call_sid));
    assert!(Path::new(&audio).is_file(), "without text it is all there is");
}
