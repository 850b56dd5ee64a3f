//! Eight calls at once over real sockets on an engine that can do one thing at a time: whose turn it is, that every word
//! arrives, that nothing piles up at the engine, and what staff see of the wait meanwhile.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    ops::Range,
    sync::{Arc, Mutex},
    thread,
    time::Instant,
};

use kolbox::{
    limits::{SPEECH_QUESTIONS_MAX, UTTERANCES_IN_A_ROW_MAX},
    simulator::upstream::Upstream,
    speech::audio::{decode, encode},
};
use openai_peer::Asked;
use process::{Office, PATIENCE};
use serde_json::{Value, json};
use tokio::{io::BufReader, net::TcpListener, runtime::Runtime, sync::watch};

#[path = "support/openai_peer.rs"]
mod openai_peer;
#[path = "support/process.rs"]
mod process;

const VOICE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/static/speech/caller_en.wav");
/// What is taken of it, in milliseconds: pieces with a voice from their first moment to their last.
const SAID: [Range<usize>; 3] = [300..1_000, 1_200..2_000, 3_500..4_100];
/// Between two of them: longer than any pause within an utterance.
const PAUSE_MS: usize = 3_300;
const CALLERS: usize = 8;
/// Samples by which a sound is known again.
const PRINT: usize = 240;
/// An utterance may begin a little before the end of the one before it.
const OVERLAP_MS: usize = 300;

/// Somebody who says three things, as loud as nobody else.
struct Caller {
    /// As it arrives: through μ-law.
    pcm: Vec<i16>,
    /// When there is a voice, in milliseconds.
    said: Vec<Range<usize>>,
}

impl Caller {
    fn new(number: usize) -> Self {
        let mut wav = hound::WavReader::open(VOICE).unwrap();
        let gain = 1.0 - 0.08 * number as f32;
        let voice: Vec<i16> = wav.samples::<i16>().map(|sample| (f32::from(sample.unwrap()) * gain) as i16).collect();
        let (mut sound, mut said) = (vec![0; 8 * 300], Vec::new());
        for piece in SAID {
            let begin = sound.len() / 8;
            said.push(begin..begin + piece.len());
            sound.extend_from_slice(&voice[8 * piece.start..8 * piece.end]);
            sound.resize(sound.len() + 8 * PAUSE_MS, 0);
        }
        sound.truncate(sound.len() - 8 * (PAUSE_MS - 100));
        let mut pcm = vec![0; sound.len()];
        decode(&encode(&sound), &mut pcm);
        Self { pcm, said }
    }

    fn write(&self, office: &Office, number: usize) -> String {
        let path = office.folder().join(format!("caller_{number}.wav"));
        let (channels, sample_rate) = (1, 8_000);
        let spec =
            hound::WavSpec { channels, sample_rate, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        self.pcm.iter().for_each(|sample| writer.write_sample(*sample).unwrap());
        writer.finalize().unwrap();
        path.to_str().unwrap().to_owned()
    }
}

/// Whose sound it is, and from when to when, in milliseconds.
fn recognize(callers: &[Caller], asked: &Asked) -> Option<(usize, Range<usize>)> {
    assert_eq!(asked.rate_hz, 8_000);
    let loudest = (0..asked.pcm.len()).max_by_key(|at| asked.pcm[*at].unsigned_abs())?;
    let from = loudest.min(asked.pcm.len().checked_sub(PRINT)?);
    let print = &asked.pcm[from..from + PRINT];
    let found = callers.iter().map(|caller| caller.pcm.windows(PRINT).position(|window| window == print));
    let (number, at) = found.enumerate().find_map(|(number, at)| Some((number, at?)))?;
    let begin = at.saturating_sub(from) / 8;
    Some((number, begin..begin + asked.milliseconds()))
}

/// An engine that does one thing at a time and refuses what comes beside it. While it is held it answers nothing.
struct Engine {
    address: SocketAddr,
    callers: Arc<Vec<Caller>>,
    held: watch::Sender<bool>,
    desk: Arc<Mutex<Desk>>,
    runtime: Runtime,
}

#[derive(Default)]
struct Desk {
    at_once: usize,
    at_once_most: usize,
    /// Whose voice it was asked for, in this order.
    asked: Vec<usize>,
    /// How many of these came while it was held.
    asked_while_held: usize,
}

impl Engine {
    /// It is held.
    fn start() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let (held, desk) = (watch::Sender::new(true), Arc::<Mutex<Desk>>::default());
        let callers = Arc::new((0..CALLERS).map(Caller::new).collect::<Vec<_>>());
        let (holding, noting, known) = (held.clone(), desk.clone(), callers.clone());
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(work(BufReader::new(stream), holding.subscribe(), noting.clone(), known.clone()));
            }
        });
        Self { address, callers, held, desk, runtime }
    }

    fn release(&self) {
        let mut desk = self.desk.lock().unwrap();
        desk.asked_while_held = desk.asked.len();
        self.held.send_replace(false);
    }
}

async fn work(
    mut stream: BufReader<tokio::net::TcpStream>,
    mut held: watch::Receiver<bool>,
    desk: Arc<Mutex<Desk>>,
    callers: Arc<Vec<Caller>>,
) {
    let Ok(question) = openai_peer::read(&mut stream).await else { return };
    let who = recognize(&callers, &question);
    let is_free = {
        let mut desk = desk.lock().unwrap();
        desk.at_once += 1;
        desk.at_once_most = desk.at_once_most.max(desk.at_once);
        let is_free = desk.at_once == 1;
        desk.asked.extend(who.as_ref().filter(|_| is_free).map(|(number, _)| *number));
        is_free
    };
    let text = match who {
        Some((number, when)) => format!("caller {number} from {} to {}.", when.start, when.end),
        None => String::new(),
    };
    let is_open = is_free && held.wait_for(|held| !held).await.is_ok();
    desk.lock().unwrap().at_once -= 1;
    match is_open {
        true => openai_peer::answer(&mut stream, "200 OK", &json!({ "text": text }).to_string()).await,
        false => openai_peer::answer(&mut stream, "503 Service Unavailable", "one at a time").await,
    }
}

/// What staff read at this path.
fn staff(office: &Office, path: &str) -> String {
    let mut stream = TcpStream::connect(office.status).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", office.status).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

/// What `/api/status` says of speech, once it is so.
#[track_caller]
fn speech_when(office: &Office, wanted: impl Fn(&Value) -> bool) -> Value {
    let begun = Instant::now();
    loop {
        let status: Value = serde_json::from_str(&staff(office, "/api/status")).unwrap();
        let speech = status["speech"].clone();
        if wanted(&speech) {
            return speech;
        }
        assert!(begun.elapsed() < PATIENCE, "{speech:#}");
        thread::yield_now();
    }
}

/// From when to when the engine heard a caller, as a record's text has it.
fn heard(record: &Value, number: usize) -> Vec<Range<usize>> {
    let text = record["text"].as_str().unwrap();
    let sentences = text.split_terminator('.').map(|sentence| {
        let words: Vec<_> = sentence.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let [caller, from, to] = words[..] else { panic!("{text}") };
        assert_eq!(caller, number, "somebody else's words: {text}");
        from..to
    });
    sentences.collect()
}

/// Who waits, and for whom, although somebody else had a turn already or takes a longer one than may be; all of them wait
/// from the begin on.
fn unfair(asked: &[usize]) -> Option<(usize, usize)> {
    (0..CALLERS).find_map(|waiting| {
        let last = asked.iter().rposition(|one| *one == waiting)?;
        asked[..last].split(|one| *one == waiting).find_map(|gap| {
            (0..CALLERS).map(|other| (waiting, other)).find(|(_, other)| {
                let turns: Vec<_> = gap.chunk_by(|a, b| a == b).filter(|turn| turn[0] == *other).collect();
                turns.len() > 1 || turns.iter().any(|turn| turn.len() > UTTERANCES_IN_A_ROW_MAX as usize)
            })
        })
    })
}

#[test]
fn eight_calls_share_an_engine_that_can_do_one_thing_at_a_time_and_every_word_arrives() {
    let engine = Engine::start();
    let upstream = engine.runtime.block_on(Upstream::serve(SocketAddr::from(([127, 0, 0, 1], 0)), "hunter2")).unwrap();
    let (url, engine_url) =
        (format!("http://{}/transcripts", upstream.address()), format!("http://{}", engine.address));
    let office = Office::new(&[
        ("KOLBOX_SYNC__URL", &url),
        ("KOLBOX_SYNC__TOKEN", "hunter2"),
        ("KOLBOX_SPEECH__ENGINE", "openai"),
        ("KOLBOX_SPEECH__MODEL", "whisper-1"),
        ("KOLBOX_SPEECH__URL", &engine_url),
        ("KOLBOX_SPEECH__LANGUAGE", "en"),
    ]);
    let serve = office.serve();
    let calling: Vec<_> =
        engine.callers.iter().enumerate().map(|(number, caller)| caller.write(&office, number)).collect();
    let calling: Vec<_> = calling.iter().map(|file| office.call_beside(&["--audio", file])).collect();
    let calls: Vec<_> = calling.into_iter().map(|calling| calling.finish().call()).collect();
    assert!(calls.iter().all(|call| call.outcome == "streamed"), "{calls:?}");

    // The engine is held: all of them wait, and staff see for how long.
    let waits = speech_when(&office, |speech| speech["calls_waiting"] == CALLERS);
    let longest = |speech: &Value| speech["longest_wait_s"].as_u64().expect("the longest wait");
    let before = longest(&waits);
    let later = speech_when(&office, |speech| longest(speech) > before);
    assert_eq!((&later["calls_waiting"], &later["waiting_since"]), (&json!(CALLERS), &waits["waiting_since"]));
    assert!(staff(&office, "/?lang=en").contains("8 calls wait for it"));
    let metrics = staff(&office, "/metrics");
    assert!(metrics.lines().any(|line| line == "kolbox_awaiting_text_transcripts 8"), "{metrics}");
    let age = metrics.lines().find_map(|line| line.strip_prefix("kolbox_oldest_awaiting_text_age_seconds "));
    assert!(age.unwrap().parse::<f64>().unwrap() > before as f64, "{metrics}");

    engine.release();
    serve.wait_for_many("all records at the upstream", CALLERS, |line| line["event"] == "TRANSCRIPT_SYNCED");
    let well = speech_when(&office, |speech| speech["calls_waiting"] == 0);
    assert_eq!((longest(&well), &well["waiting_since"]), (0, &Value::Null));
    serve.terminate();
    let (code, log) = serve.end();
    assert_eq!((code, log.errors()), (Some(0), Vec::new()));

    let arrived = upstream.transcripts();
    assert_eq!((arrived.len(), upstream.repeated()), (CALLERS, 0));
    for (number, (call, caller)) in calls.iter().zip(&engine.callers[..]).enumerate() {
        let record =
            &arrived.iter().find(|record| record.body["call_sid"] == call.call_sid[..]).expect("one each").body;
        assert_eq!(record["outcome"], "transcribed");
        let heard = heard(record, number);
        for said in &caller.said {
            let is_whole = heard.iter().any(|heard| heard.start <= said.start + 40 && said.end <= heard.end + 40);
            assert!(is_whole, "caller {number} says something at {said:?} ms, and the engine heard {heard:?}");
        }
        let is_once = heard.is_sorted_by(|before, after| before.end <= after.start + OVERLAP_MS);
        assert!(is_once, "caller {number} is heard twice: {heard:?}");
    }
    let desk = engine.desk.lock().unwrap();
    assert!(desk.at_once_most <= SPEECH_QUESTIONS_MAX, "{} questions are with the engine at once", desk.at_once_most);
    let Desk { asked, asked_while_held, .. } = &*desk;
    println!("asked, {asked_while_held} of them while it was held: {asked:?}");
    assert!(*asked_while_held <= SPEECH_QUESTIONS_MAX, "nothing piles up: {asked:?}");
    assert_eq!(unfair(&asked[asked_while_held.saturating_sub(1)..]), None, "{asked:?}");
}

#[test]
fn who_takes_two_turns_or_a_long_one_while_somebody_waits_is_unfair() {
    for fair in [&[0, 0, 0, 1, 1, 2, 3, 0][..], &[0, 1, 2, 0, 1, 2], &[]] {
        assert_eq!(unfair(fair), None, "{fair:?}");
    }
    assert_eq!(unfair(&[0, 1, 0, 1, 2]), Some((2, 0)));
    let long = [&[3; UTTERANCES_IN_A_ROW_MAX as usize + 1][..], &[7]].concat();
    assert_eq!(unfair(&long), Some((7, 3)));
}
