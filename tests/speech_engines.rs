//! The speech engines on the other side of a socket, each on a bad day: what is made of every answer, and of none.

use std::{future::pending, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use kolbox::{
    config::{Speech, SpeechEngine},
    limits::{SPEECH_ANSWER_BYTES_MAX, WYOMING_DATA_BYTES_MAX, WYOMING_LINE_BYTES_MAX},
    speech::{
        audio::tone,
        engine,
        recognizer::{Pcm, Question, Recognizer, RecognizerError, Segment, Transcript},
        wyoming::{ModelThere, Wyoming},
    },
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::{Mutex, oneshot},
    time::Instant,
};

/// For what must come; never waited for to its end.
const LONG: Duration = Duration::from_secs(60);
/// For what never comes.
const SHORT: Duration = Duration::from_millis(200);

/// What an engine does once it has read a whole question.
#[derive(Debug, Clone)]
enum Act {
    /// It says this and closes.
    Says(Vec<u8>),
    /// It says this, and then nothing, with its connection open.
    Hangs(Vec<u8>),
    /// It says this again and again.
    Repeats(Vec<u8>),
    /// It closes before it has read anything.
    Closes,
}

/// Listens, plays the one act, and hands out the question that it read. The last receiver learns when the client closed.
async fn engine_that(act: Act, read: ReadQuestion) -> (SocketAddr, oneshot::Receiver<Heard>, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let ((heard, hears), (closed, closes)) = (oneshot::channel(), oneshot::channel());
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        if let Act::Closes = act {
            return;
        }
        let mut stream = BufReader::new(stream);
        let question = match read {
            ReadQuestion::Http => read_http(&mut stream).await,
            ReadQuestion::Wyoming => read_wyoming(&mut stream).await,
        };
        let _ = heard.send(question);
        match act {
            Act::Says(bytes) => drop(stream.write_all(&bytes).await),
            Act::Hangs(bytes) => {
                let _ = stream.write_all(&bytes).await;
                let _ = stream.read_to_end(&mut Vec::new()).await;
                let _ = closed.send(());
                pending::<()>().await;
            }
            Act::Repeats(bytes) => while stream.write_all(&bytes).await.is_ok() {},
            Act::Closes => {}
        }
    });
    (address, hears, closes)
}

#[derive(Clone, Copy)]
enum ReadQuestion {
    Http,
    Wyoming,
}

/// A question as it was read: its head, or its events without their bytes, and the bytes.
#[derive(Debug, Default)]
struct Heard {
    lines: Vec<String>,
    bytes: Vec<u8>,
}

async fn read_http(stream: &mut BufReader<TcpStream>) -> Heard {
    let mut heard = Heard::default();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await.unwrap();
        match line.trim_end() {
            "" => break,
            line => heard.lines.push(line.to_owned()),
        }
    }
    let length =
        heard.lines.iter().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    heard.bytes = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut heard.bytes).await.unwrap();
    heard
}

async fn read_wyoming(stream: &mut BufReader<TcpStream>) -> Heard {
    let mut heard = Heard::default();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await.unwrap() == 0 {
            return heard;
        }
        let event: Value = serde_json::from_str(&line).unwrap();
        let mut payload = vec![0; event["payload_length"].as_u64().unwrap_or(0) as usize];
        stream.read_exact(&mut payload).await.unwrap();
        heard.bytes.extend(payload);
        heard.lines.push(line);
        if matches!(event["type"].as_str(), Some("audio-stop" | "describe")) {
            return heard;
        }
    }
}

fn openai(address: SocketAddr) -> Box<dyn Recognizer> {
    let speech = Speech {
        engine: SpeechEngine::OpenAi,
        model: "whisper-1".into(),
        url: format!("http://{address}"),
        api_key: "hunter2".to_owned().into(),
        language: "en".into(),
        ..Speech::default()
    };
    engine::ready(&speech, Path::new("/nowhere")).unwrap()
}

fn lan(address: SocketAddr) -> Speech {
    Speech {
        engine: SpeechEngine::Wyoming,
        url: format!("tcp://{address}"),
        language: "en".into(),
        ..Speech::default()
    }
}

fn wyoming(address: SocketAddr) -> Box<dyn Recognizer> {
    engine::ready(&lan(address), Path::new("/nowhere")).unwrap()
}

fn sound() -> Pcm {
    Pcm { samples: tone(440.0, Duration::from_secs(2), 0.5).into(), rate_hz: 8_000 }
}

fn question(patience: Duration) -> Question {
    Question { sound: sound(), deadline: Instant::now() + patience }
}

async fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

fn http(status: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

/// What comes of one act: the error's cause by its name, and what it says.
async fn cause(act: Act, read: ReadQuestion, patience: Duration) -> (&'static str, String) {
    let (address, _hears, _closes) = engine_that(act, read).await;
    let engine = match read {
        ReadQuestion::Http => openai(address),
        ReadQuestion::Wyoming => wyoming(address),
    };
    let error = engine.recognize(question(patience)).await.expect_err("no text");
    let name = match error {
        RecognizerError::Unreachable(_) => "unreachable",
        RecognizerError::Credentials => "credentials",
        RecognizerError::Busy(_) => "busy",
        RecognizerError::Failed(_) => "failed",
        RecognizerError::NotTaken(_) => "not taken",
        RecognizerError::BadAnswer(_) => "bad answer",
        RecognizerError::Broken => "broken",
        RecognizerError::TimedOut => "timed out",
        RecognizerError::Length(_) => "length",
    };
    let said = error.to_string();
    assert!(!said.contains("hunter2") && !said.contains('\n'), "{said}");
    (name, said)
}

#[tokio::test]
async fn an_openai_server_gets_the_sound_and_its_answer_is_the_text() {
    let answer = json!({"text": " Hello there. ", "language": "english", "segments": [
        {"start": 0.0, "end": 0.8, "text": " Hello"}, {"start": 0.8, "end": 7.0, "text": " there."}]});
    let (address, heard, _closes) =
        engine_that(Act::Says(http("200 OK", &answer.to_string())), ReadQuestion::Http).await;
    let transcript = openai(address).recognize(question(LONG)).await.unwrap();
    let segment = |start_ms, end_ms, text: &str| Segment { start_ms, end_ms, text: text.into() };
    assert_eq!(
        transcript,
        Transcript {
            text: "Hello there.".into(),
            segments: vec![segment(0, 800, "Hello"), segment(800, 2_000, "there.")],
            language: Some("english".into())
        }
    );
    let heard = heard.await.unwrap();
    assert_eq!(heard.lines[0], "POST /v1/audio/transcriptions HTTP/1.1");
    assert!(heard.lines.iter().any(|line| line.eq_ignore_ascii_case("authorization: bearer hunter2")));
    let wav = heard.bytes.windows(4).position(|bytes| bytes == b"RIFF").unwrap();
    let wav = hound::WavReader::new(&heard.bytes[wav..]).unwrap();
    assert_eq!((wav.spec().sample_rate, wav.spec().bits_per_sample), (8_000, 16));
    assert!(wav.into_samples::<i16>().map(Result::unwrap).eq(sound().samples.iter().copied()));
}

#[tokio::test]
async fn an_openai_server_that_fails_is_told_by_its_cause() {
    let says = |status: &str, body: &str| Act::Says(http(status, body));
    let endless = b"HTTP/1.1 200 OK\r\nContent-Length: 999999999\r\n\r\n".to_vec();
    let chunk = [format!("{:x}\r\n", 65_536).into_bytes(), vec![b' '; 65_536], b"\r\n".to_vec()].concat();
    let chunked = [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec(),
        chunk.repeat(SPEECH_ANSWER_BYTES_MAX / 65_536 + 1),
    ]
    .concat();
    for (act, patience, expected, part) in [
        (says("401 No", r#"{"error":{"message":"Incorrect API key: hunter2"}}"#), LONG, "credentials", "our key"),
        (says("429 Slow\r\nRetry-After: 7", ""), LONG, "busy", "for 7 s"),
        (says("503 No", "loading"), LONG, "busy", "busy"),
        (says("500 No", r#"{"error":{"message":"CUDA out\nof memory"}}"#), LONG, "failed", "CUDA out of memory"),
        (says("404 No", r#"{"error":{"message":"no model x"}}"#), LONG, "not taken", "HTTP 404 no model x"),
        (says("302 Found\r\nLocation: http://127.0.0.1:1/", ""), LONG, "bad answer", "HTTP 302"),
        (says("200 OK", "<html>a router's login page"), LONG, "bad answer", "no JSON"),
        (Act::Says(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), LONG, "broken", "ended"),
        (Act::Says(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{\"text\":\"ha".to_vec()), LONG, "broken", "ended"),
        (Act::Closes, LONG, "broken", "ended"),
        (Act::Hangs(endless), LONG, "bad answer", "too long"),
        (Act::Hangs(chunked), LONG, "bad answer", "too long"),
        (Act::Hangs(Vec::new()), SHORT, "timed out", "in time"),
        (Act::Hangs(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{".to_vec()), SHORT, "timed out", "in time"),
    ] {
        let shown = format!("{act:?}").chars().take(120).collect::<String>();
        let (cause, said) = cause(act, ReadQuestion::Http, patience).await;
        assert!(cause == expected && said.contains(part), "{shown}\n{cause}: {said}");
    }
    let unreachable = openai(nobody().await).recognize(question(LONG)).await.unwrap_err();
    assert!(matches!(unreachable, RecognizerError::Unreachable(_)), "{unreachable}");
}

#[tokio::test]
async fn a_wyoming_server_gets_the_sound_at_16_khz_and_its_transcript_is_the_text() {
    let events = b"{\"type\":\"transcript-start\"}\n\
        {\"type\":\"transcript\",\"version\":\"1.8.0\",\"data_length\":42}\n{\"text\": \" Hello there.\", \"language\":\"en\"}";
    let events = Act::Says([&events[..], b"\n"].concat());
    let (address, heard, _closes) = engine_that(events, ReadQuestion::Wyoming).await;
    let transcript = wyoming(address).recognize(question(LONG)).await.unwrap();
    assert_eq!((&transcript.text[..], transcript.language.as_deref()), ("Hello there.", Some("en")));
    assert_eq!(transcript.segments, [Segment { start_ms: 0, end_ms: 2_000, text: "Hello there.".into() }]);
    let heard = heard.await.unwrap();
    let events: Vec<Value> = heard.lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let kinds: Vec<_> = events.iter().map(|event| event["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["transcribe", "audio-start", "audio-chunk", "audio-chunk", "audio-stop"]);
    assert_eq!(events[0]["data"], json!({"language": "en"}));
    for event in &events[1..4] {
        assert_eq!(event["data"], json!({"rate": 16_000, "width": 2, "channels": 1}));
    }
    assert_eq!(heard.bytes.len(), 2 * 2 * 16_000);
}

#[tokio::test]
async fn a_wyoming_server_that_fails_is_told_by_its_cause() {
    let says = |bytes: &[u8]| Act::Says(bytes.to_vec());
    for (act, patience, expected, part) in [
        (
            says(b"{\"type\":\"error\",\"data\":{\"text\":\"no model\\nof that name\"}}\n"),
            LONG,
            "failed",
            "no model of that name",
        ),
        (says(b"{\"type\":\"error\"}\n"), LONG, "failed", "does not say why"),
        (says(b"{\"type\":\"transcript\",\"data\":{}}\n"), LONG, "bad answer", "without a text"),
        (says(b"HTTP/1.1 400 Bad Request\r\n\r\n"), LONG, "bad answer", "no event"),
        (says(b"{\"type\":\"transcript\",\"data\":{\"text\":\"ha"), LONG, "broken", "ended"),
        (says(b"{\"type\":\"transcript\",\"data_length\":99}\n{"), LONG, "broken", "ended"),
        (says(b""), LONG, "broken", "ended"),
        (Act::Closes, LONG, "broken", "ended"),
        (Act::Hangs(vec![b'{'; WYOMING_LINE_BYTES_MAX]), LONG, "bad answer", "too long"),
        (
            Act::Hangs(format!("{{\"type\":\"info\",\"data_length\":{}}}\n", WYOMING_DATA_BYTES_MAX + 1).into_bytes()),
            LONG,
            "bad answer",
            "too long",
        ),
        (Act::Repeats(b"{\"type\":\"pong\"}\n".to_vec()), LONG, "bad answer", "none is a transcript"),
        (Act::Hangs(Vec::new()), SHORT, "timed out", "in time"),
        (Act::Hangs(b"{\"type\":".to_vec()), SHORT, "timed out", "in time"),
    ] {
        let shown = format!("{act:?}").chars().take(120).collect::<String>();
        let (cause, said) = cause(act, ReadQuestion::Wyoming, patience).await;
        assert!(cause == expected && said.contains(part), "{shown}\n{cause}: {said}");
    }
    let unreachable = wyoming(nobody().await).recognize(question(LONG)).await.unwrap_err();
    assert!(matches!(unreachable, RecognizerError::Unreachable(_)), "{unreachable}");
}

#[tokio::test]
async fn what_a_wyoming_server_has_is_read_from_its_description() {
    let info = json!({"type": "info", "data": {"asr": [{"models": [{"name": "base", "languages": ["en", "he"]}]}]}});
    let (address, heard, _closes) =
        engine_that(Act::Says(format!("{info}\n").into_bytes()), ReadQuestion::Wyoming).await;
    let models = Wyoming::new(&lan(address)).unwrap().models(Instant::now() + LONG).await.unwrap();
    assert_eq!(models, [ModelThere { name: "base".into(), languages: vec!["en".into(), "he".into()] }]);
    assert!(heard.await.unwrap().lines[0].contains("describe"));
}

/// The path drops a question when its call is over and nobody wants the text: the engine must not go on.
#[tokio::test]
async fn a_question_that_is_dropped_closes_its_connection() {
    for (read, make) in
        [(ReadQuestion::Http, openai as fn(SocketAddr) -> Box<dyn Recognizer>), (ReadQuestion::Wyoming, wyoming)]
    {
        let (address, heard, closed) = engine_that(Act::Hangs(Vec::new()), read).await;
        let engine = make(address);
        let asked = tokio::spawn(async move { engine.recognize(question(LONG)).await });
        heard.await.unwrap();
        asked.abort();
        closed.await.expect("the engine sees the end");
    }
}

#[tokio::test]
async fn no_sound_and_hours_of_it_ask_nobody() {
    let engines = [openai(nobody().await), wyoming(nobody().await)];
    for engine in engines {
        for samples in [0, 8_000 * 3_600] {
            let sound = Pcm { samples: vec![0; samples].into(), rate_hz: 8_000 };
            let error = engine.recognize(Question { sound, deadline: Instant::now() + LONG }).await.unwrap_err();
            assert!(matches!(error, RecognizerError::Length(_)), "{error}");
        }
    }
}

/// One engine is asked by many calls at once: each gets the answer to its own question.
#[tokio::test]
async fn answers_do_not_get_mixed_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let all = Arc::new(Mutex::new(Vec::new()));
    let waiting = all.clone();
    tokio::spawn(async move {
        // Answered in the opposite order, once all have asked.
        for _ in 0..8 {
            let mut stream = BufReader::new(listener.accept().await.unwrap().0);
            let heard = read_wyoming(&mut stream).await;
            waiting.lock().await.push((stream, heard.bytes.len()));
        }
        for (mut stream, bytes) in waiting.lock().await.drain(..).rev() {
            let said = json!({"type": "transcript", "data": {"text": format!("{bytes} bytes")}});
            stream.write_all(format!("{said}\n").as_bytes()).await.unwrap();
        }
    });
    let engine: Arc<dyn Recognizer> = wyoming(address).into();
    let asked: Vec<_> = (1..=8_usize)
        .map(|seconds| {
            let engine = engine.clone();
            tokio::spawn(async move {
                let sound = Pcm { samples: vec![0; 16_000 * seconds].into(), rate_hz: 16_000 };
                let answer = engine.recognize(Question { sound, deadline: Instant::now() + LONG }).await.unwrap();
                assert_eq!(answer.text, format!("{} bytes", 32_000 * seconds));
            })
        })
        .collect();
    for asked in asked {
        asked.await.unwrap();
    }
}
