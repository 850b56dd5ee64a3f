//! From a caller's voice to the text at the upstream with the real speech engines, over real sockets: whisper in the box,
//! `wyoming-faster-whisper` and `faster-whisper-server` beside it, all with the same weights. Then each of the two on a
//! bad day: killed, standing still, talking nonsense, never answering.
//!
//! tests/support/speech_engines.sh prepares them; each that is not at hand is said to be skipped.

use std::{fs, net::SocketAddr, path::PathBuf};

use bad_line::{Answers, BadLine};
use engines::{Kind, Prepared, Server, named};
use kolbox::simulator::upstream::Upstream;
use process::{Office, PATIENCE, Serve, free_address, skipped};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use words::{words, wrong_words};

#[path = "support/bad_line.rs"]
mod bad_line;
#[allow(dead_code, reason = "the example measures more of it")]
#[path = "support/engines.rs"]
mod engines;
#[path = "support/process.rs"]
mod process;
#[path = "support/words.rs"]
mod words;

/// Of the clip's 22 words, after 8 kHz and μ-law.
const WRONG_WORDS_MAX: usize = 4;
const WORDS: usize = 22;

/// The clip of a real voice.
struct Clip {
    file: String,
    said: Vec<String>,
}

impl Clip {
    /// `Err`: why there is none.
    fn find() -> Result<Self, String> {
        let file = named("SPEECH_TEST_AUDIO", "folder of sounds")?.join("jfk_en.wav");
        if !file.exists() {
            return Err(format!("{} is not there", file.display()));
        }
        let said = words(&fs::read_to_string(file.with_extension("txt")).unwrap());
        assert_eq!(said.len(), WORDS);
        Ok(Self { file: file.to_str().unwrap().to_owned(), said })
    }
}

/// A box with an engine, and the office's system.
struct Site {
    office: Office,
    upstream: Upstream,
    clip: Clip,
    _runtime: Runtime,
}

impl Site {
    fn new(clip: Clip, engine: &str, url: &str, model: &str) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let upstream = runtime.block_on(Upstream::serve(SocketAddr::from(([127, 0, 0, 1], 0)), "hunter2")).unwrap();
        let office = Office::new(&[
            ("KOLBOX_SYNC__URL", &format!("http://{}/transcripts", upstream.address())),
            ("KOLBOX_SYNC__TOKEN", "hunter2"),
            ("KOLBOX_SPEECH__ENGINE", engine),
            ("KOLBOX_SPEECH__URL", url),
            ("KOLBOX_SPEECH__MODEL", model),
            ("KOLBOX_SPEECH__LANGUAGE", "en"),
            // The speaker takes his time: his pauses are not the end of what he has to say.
            ("KOLBOX_FALLBACK__TIMEOUT", "3s"),
            ("KOLBOX_WATCHDOG__START_TIMEOUT", "1s"),
        ]);
        Self { office, upstream, clip, _runtime: runtime }
    }

    /// Places a call and lets it end, whatever the engine does meanwhile; its CallSid.
    #[track_caller]
    fn call(&self, expected: &str, more: &[&str]) -> String {
        let finished = self.office.call(&[&["--audio", &*self.clip.file], more].concat()).finish();
        let call = finished.call();
        assert_eq!((finished.code, &*call.outcome), (Some(0), expected), "{}", finished.out);
        call.call_sid
    }

    /// Waits until so many records have arrived, and ends the box: these calls', in their order, each once, each with what
    /// was said.
    #[track_caller]
    fn finish(&self, serve: Serve, calls: &[(String, &str)]) {
        serve.wait_for_many("the records at the upstream", calls.len(), |line| line["event"] == "TRANSCRIPT_SYNCED");
        serve.terminate();
        assert_eq!(serve.end().0, Some(0));
        let arrived = self.upstream.transcripts();
        let sids: Vec<_> = arrived.iter().map(|transcript| transcript.body["call_sid"].as_str().unwrap()).collect();
        let expected: Vec<_> = calls.iter().map(|(call_sid, _)| &**call_sid).collect();
        assert_eq!((sids, self.upstream.repeated()), (expected, 0));
        for (transcript, (_, source)) in arrived.iter().zip(calls) {
            let record = &transcript.body;
            assert_eq!((&record["outcome"], &record["source"]), (&json!("transcribed"), &json!(source)), "{record:#}");
            let text = record["text"].as_str().unwrap();
            let wrong = wrong_words(&self.clip.said, &words(text));
            println!("{}, {source}: {wrong} of {WORDS} words wrong: {text}", record["engine"]);
            assert!(wrong <= WRONG_WORDS_MAX, "{wrong} of {WORDS} words wrong: {record:#}");
        }
    }

    /// Waits until the engine has failed, and so many calls wait for it; nothing of them is final.
    #[track_caller]
    fn wait_until_waited_for(&self, calls: usize) {
        let waits = |now: &Value| now["speech"]["last_error"].is_string() && now["speech"]["calls_waiting"] == calls;
        self.office.wait_for_status(waits);
        assert!(self.upstream.transcripts().is_empty());
    }
}

/// A call whose stream comes, and one that goes to Twilio's recorder.
fn write_down_both(site: &Site) {
    let serve = site.office.serve();
    let streamed = site.call("streamed", &[]);
    let recorded = site.call("recorded", &["--fault", "no-stream"]);
    site.finish(serve, &[(streamed, "stream"), (recorded, "recording")]);
}

/// One of the servers and the clip, or a line that says what is missing.
fn prepared(kind: Kind) -> Option<(Prepared, Clip)> {
    let found = Prepared::find().and_then(|prepared| Ok((prepared, Clip::find()?)));
    found.map_err(|why| skipped(&format!("{}: {why}", kind.name()))).ok()
}

fn write_down_both_with(kind: Kind) {
    let Some((prepared, clip)) = prepared(kind) else { return };
    let server = Server::start(kind, &prepared, free_address(), "en");
    write_down_both(&Site::new(clip, kind.name(), &kind.url(server.address), "base"));
}

#[test]
fn whisper_in_the_box_writes_down_a_call_and_a_recording() {
    let model = |()| named("SPEECH_TEST_MODEL", "model");
    let built_in = if cfg!(feature = "whisper") { Ok(()) } else { Err("built without --features whisper".to_owned()) };
    match built_in.and_then(model).and_then(|model: PathBuf| Ok((model, Clip::find()?))) {
        Ok((model, clip)) => write_down_both(&Site::new(clip, "whisper", "", model.to_str().unwrap())),
        Err(why) => skipped(&format!("whisper: {why}")),
    }
}

#[test]
fn a_wyoming_server_writes_down_a_call_and_a_recording() {
    write_down_both_with(Kind::Wyoming);
}

#[test]
fn an_openai_server_writes_down_a_call_and_a_recording() {
    write_down_both_with(Kind::OpenAi);
}

#[test]
fn an_engine_that_is_killed_in_mid_call_and_started_again_writes_it_down_later_and_once() {
    let Some((prepared, clip)) = prepared(Kind::Wyoming) else { return };
    let server = Server::start(Kind::Wyoming, &prepared, free_address(), "en");
    let address = server.address;
    let site = Site::new(clip, "wyoming", &Kind::Wyoming.url(address), "");
    let serve = site.office.serve();
    let calling = site.office.call(&["--audio", &site.clip.file]);
    serve.wait_for_event("WS_START");
    server.kill();
    let call = calling.finish().call();
    assert_eq!(call.outcome, "streamed");
    site.office.wait_for_status(|now| !now["speech"]["silent_since"].is_null());
    site.wait_until_waited_for(1);
    let _again = Server::start(Kind::Wyoming, &prepared, address, "en");
    site.finish(serve, &[(call.call_sid, "stream")]);
}

/// A question is given up after half a minute and four times what it lasts: where a second one comes, the engine has
/// stood still for more than a minute.
#[test]
fn an_engine_that_stands_still_for_a_minute_in_mid_call_writes_it_down_later_and_once() {
    let Some((prepared, clip)) = prepared(Kind::OpenAi) else { return };
    let server = Server::start(Kind::OpenAi, &prepared, free_address(), "en");
    let line = BadLine::to(server.address);
    let site = Site::new(clip, "openai", &Kind::OpenAi.url(line.address), "base");
    let serve = site.office.serve();
    let calling = site.office.call(&["--audio", &site.clip.file]);
    serve.wait_for_event("WS_START");
    server.pause();
    line.set(Answers::Arrive);
    let first = calling.finish().call();
    assert_eq!(first.outcome, "streamed");
    let second = site.call("streamed", &[]);
    line.wait_for_questions(2, PATIENCE);
    site.wait_until_waited_for(2);
    server.resume();
    site.finish(serve, &[(first.call_sid, "stream"), (second, "stream")]);
}

#[test]
fn an_engine_whose_answers_are_garbage_for_a_while_writes_it_down_later_and_once() {
    write_down_after(Kind::Wyoming, Answers::Garbled);
}

#[test]
fn an_engine_whose_answers_never_come_for_a_while_writes_it_down_later_and_once() {
    write_down_after(Kind::OpenAi, Answers::Lost);
}

fn write_down_after(kind: Kind, trouble: Answers) {
    let Some((prepared, clip)) = prepared(kind) else { return };
    let server = Server::start(kind, &prepared, free_address(), "en");
    let line = BadLine::to(server.address);
    line.set(trouble);
    let site = Site::new(clip, kind.name(), &kind.url(line.address), "base");
    let serve = site.office.serve();
    let call = site.call("streamed", &[]);
    line.wait_for_questions(2, PATIENCE);
    site.wait_until_waited_for(1);
    line.set(Answers::Arrive);
    site.finish(serve, &[(call, "stream")]);
}
