//! A transcriber with a scripted engine, and the spool that it reads.

use std::{collections::VecDeque, fs, sync::Mutex};

use tokio::sync::Notify;

use super::*;
use crate::limits::LAST_WORDS_CHARS_MAX;
use crate::{
    speech::{
        audio::{duration, encode, tone},
        marks::Mark,
        recognizer::{Question, RecognizerError, Recognizing},
        spool::{Spool, SpoolFile, SpoolPort, SpoolRoom},
    },
    twilio::sid::StreamSid,
};

/// Far beyond what anything here takes; only a failing test ever waits so long.
const TOO_LONG: Duration = Duration::from_secs(60);

#[derive(Debug, Clone)]
enum Answer {
    Text(String),
    Fails,
    Panics,
    /// Once it is allowed to.
    Waits(Arc<Notify>),
}

/// Answers as it is told, then with `more`; and notes how long each sound was.
#[derive(Debug, Clone, Default)]
struct Scripted {
    answers: Arc<Mutex<VecDeque<Answer>>>,
    heard: Arc<Mutex<Vec<Duration>>>,
    asked: Arc<Notify>,
}

impl Recognizer for Scripted {
    fn name(&self) -> &str {
        "scripted"
    }

    fn recognize(&self, question: Question) -> Recognizing<'_> {
        let sound = question.sound;
        self.heard.lock().unwrap().push(duration(sound.samples.len()));
        self.asked.notify_one();
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Answer::Text("more".into()));
        Box::pin(async move {
            match answer {
                Answer::Text(text) => Ok(Transcript::without_times(&text, &sound, None)),
                Answer::Fails => Err(RecognizerError::Broken),
                Answer::Panics => panic!("as the script says"),
                Answer::Waits(allowed) => {
                    allowed.notified().await;
                    Ok(Transcript::without_times("at last", &sound, None))
                }
            }
        })
    }
}

struct Office {
    folder: tempfile::TempDir,
    spool: SpoolPort,
    port: TranscriberPort,
    view: watch::Receiver<EngineView>,
    words: watch::Receiver<LiveWords>,
    engine: Scripted,
}

impl Office {
    fn with(answers: impl IntoIterator<Item = Answer>) -> Self {
        Self::masking(false, answers)
    }

    fn masking(mask_digits: bool, answers: impl IntoIterator<Item = Answer>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (spool, _thread) = Spool::start(folder.path(), SpoolRoom::new(1 << 30)).unwrap();
        let engine = Scripted::default();
        engine.answers.lock().unwrap().extend(answers);
        let made = engine.clone();
        let make_engine: MakeEngine = Box::new(move || Ok(Box::new(made.clone())));
        let Running { port, engine: view, words, .. } = start(TranscriberOptions {
            make_engine,
            questions_max: 1,
            folder: folder.path().to_owned(),
            streams: spool.open_streams(),
            mask_digits,
            clock: Clock,
        });
        Self { folder, spool, port, view, words, engine }
    }

    fn spoken(&self, call: u128, pcm: &[i16]) -> CallSid {
        let call_sid = CallSid::from_number(call);
        fs::write(self.folder.path().join(format!("{call_sid}.1.ulaw")), encode(pcm)).unwrap();
        call_sid
    }

    async fn text(&self, call_sid: CallSid) -> CallText {
        let text = self.port.transcribe(call_sid, None, Instant::now() + TOO_LONG).await;
        tokio::time::timeout(TOO_LONG, text).await.expect("in time").expect("a text")
    }
}

impl Office {
    fn stream(&self, call: u128) -> SpoolFile {
        self.spool.open(CallSid::from_number(call), StreamSid::from_number(call))
    }

    /// Waits until the engine was asked so often.
    async fn asked(&self, times: usize) {
        while self.engine.heard.lock().unwrap().len() < times {
            self.engine.asked.notified().await;
        }
    }
}

fn voice(seconds: u64) -> Vec<i16> {
    tone(300.0, Duration::from_secs(seconds), 0.3)
}

fn silence(seconds: usize) -> Vec<i16> {
    vec![0; 8_000 * seconds]
}

fn segment(start_ms: u64, end_ms: u64, text: &str) -> Segment {
    Segment { start_ms, end_ms, text: text.to_owned() }
}

#[tokio::test]
async fn what_is_said_has_its_time_in_the_call() {
    let this = Office::with([Answer::Text("hello".into()), Answer::Text("goodbye".into())]);
    let call = this.spoken(1, &[silence(1), voice(2), silence(5), voice(1)].concat());
    let segments = vec![segment(800, 3_480, "hello"), segment(7_800, 9_000, "goodbye")];
    assert_eq!(this.text(call).await, CallText::Words { engine: "scripted".into(), segments });
    assert_eq!(this.view.borrow().name.as_deref(), Some("scripted"));
}

#[tokio::test]
async fn silence_asks_nobody_and_a_call_without_audio_is_no_silence() {
    let this = Office::with([]);
    let silent = this.spoken(1, &silence(20));
    assert_eq!(this.text(silent).await, CallText::NoSpeech { engine: "none".into() });
    assert_eq!(this.text(CallSid::from_number(2)).await, CallText::Unusable);
    assert!(this.engine.heard.lock().unwrap().is_empty());
    let this = Office::with([Answer::Text(String::new())]);
    let cough = this.spoken(3, &voice(1));
    assert_eq!(this.text(cough).await, CallText::NoSpeech { engine: "scripted".into() });
}

#[tokio::test]
async fn an_engine_that_breaks_down_is_asked_the_same_again() {
    let this = Office::with([Answer::Panics, Answer::Fails, Answer::Text("hello".into())]);
    let call = this.spoken(1, &voice(2));
    let segments = vec![segment(0, 2_000, "hello")];
    assert_eq!(this.text(call).await, CallText::Words { engine: "scripted".into(), segments });
    assert_eq!(*this.engine.heard.lock().unwrap(), [Duration::from_secs(2); 3]);
    assert_eq!((this.view.borrow().silent_since, this.view.borrow().last_error.clone()), (None, None));
}

#[tokio::test]
async fn more_than_anybody_can_say_is_left_out_and_marked() {
    let this = Office::with([Answer::Text("la ".repeat(1_000_000))]);
    let call = this.spoken(1, &voice(2));
    assert_eq!(this.text(call).await, CallText::Unusable, "there is nothing else");
}

#[tokio::test]
async fn whoever_does_not_want_a_text_any_more_is_not_worked_for() {
    let allowed = Arc::new(Notify::new());
    let this = Office::with([Answer::Waits(allowed.clone())]);
    let until = Instant::now() + TOO_LONG;
    let calls = [1, 2, 3].map(|call| this.spoken(call, &voice(call as u64)));
    let first = this.port.transcribe(calls[0], None, until).await;
    drop(this.port.transcribe(calls[1], None, until).await);
    let third = this.port.transcribe(calls[2], None, until).await;
    allowed.notify_one();
    for (text, said) in [(first, "at last"), (third, "more")] {
        let text = tokio::time::timeout(TOO_LONG, text).await.unwrap().unwrap();
        let CallText::Words { segments, .. } = text else { panic!("{text:?}") };
        assert_eq!(segments[0].text, said);
    }
    assert_eq!(*this.engine.heard.lock().unwrap(), [1, 3].map(Duration::from_secs));
}

#[tokio::test]
async fn a_call_is_transcribed_while_it_lasts_and_its_last_words_when_it_ends() {
    let this = Office::with(["hello", "and", "goodbye"].map(|text| Answer::Text(text.into())));
    let mut stream = this.stream(1);
    stream.append(&encode(&[silence(1), voice(2), silence(5)].concat()));
    this.asked(1).await;
    stream.append(&encode(&[voice(3), silence(5)].concat()));
    this.asked(2).await;
    stream.append(&encode(&voice(1)));
    stream.finish();
    let call_sid = CallSid::from_number(1);
    this.spool.open_streams().closed(call_sid).await;
    let segments =
        vec![segment(800, 3_480, "hello"), segment(7_800, 11_480, "and"), segment(15_800, 17_000, "goodbye")];
    let text = this.text(call_sid).await;
    assert_eq!(text, CallText::Words { engine: "scripted".into(), segments });
    assert_eq!(this.engine.heard.lock().unwrap().len(), 3, "nothing was asked twice");
}

#[tokio::test]
async fn a_call_whose_stream_was_lost_goes_on_with_the_next_one_and_its_recording() {
    let this = Office::with(["one", "two", "three"].map(|text| Answer::Text(text.into())));
    let call_sid = CallSid::from_number(1);
    for times in [1, 2] {
        let mut stream = this.stream(1);
        stream.append(&encode(&[voice(1), silence(4)].concat()));
        stream.finish();
        this.asked(times).await;
    }
    let recording = this.folder.path().join("recording.wav");
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 8_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&recording, spec).unwrap();
    voice(1).iter().for_each(|sample| writer.write_sample(*sample).unwrap());
    writer.finalize().unwrap();
    let text = this.port.transcribe(call_sid, Some(recording), Instant::now() + TOO_LONG).await;
    let text = tokio::time::timeout(TOO_LONG, text).await.unwrap().unwrap();
    let segments = vec![segment(0, 1_480, "one"), segment(5_000, 6_480, "two"), segment(10_000, 11_000, "three")];
    assert_eq!(text, CallText::Words { engine: "scripted".into(), segments });
}

#[tokio::test]
async fn keys_and_gaps_are_in_the_text_and_numbers_are_masked_where_that_is_wanted() {
    for (is_masked, number, keys) in [(false, "call 052 1234567", "[DTMF 12]"), (true, "call ••• •••••••", "[DTMF ••]")]
    {
        let this = Office::masking(is_masked, [Answer::Text("call 052 1234567".into())]);
        let mut stream = this.stream(1);
        let mark = |key| if is_masked { Mark::key(key).unwrap().masked() } else { Mark::key(key).unwrap() };
        stream.append(&encode(&[voice(2), silence(1)].concat()));
        stream.mark(mark('1'));
        stream.mark(mark('2'));
        stream.mark(Mark::Gap(Duration::from_millis(1_500)));
        stream.append(&encode(&silence(4)));
        stream.finish();
        let call_sid = CallSid::from_number(1);
        this.spool.open_streams().closed(call_sid).await;
        let segments = vec![segment(0, 2_480, number), segment(3_000, 3_000, keys), segment(3_000, 4_500, UNHEARD)];
        assert_eq!(this.text(call_sid).await, CallText::Words { engine: "scripted".into(), segments });
    }
}

#[tokio::test]
async fn silence_with_a_gap_in_it_is_not_called_silence() {
    let this = Office::with([]);
    let mut stream = this.stream(1);
    stream.append(&encode(&silence(2)));
    stream.mark(Mark::Gap(Duration::from_secs(3)));
    stream.append(&encode(&silence(2)));
    stream.finish();
    let call_sid = CallSid::from_number(1);
    this.spool.open_streams().closed(call_sid).await;
    assert_eq!(this.text(call_sid).await, CallText::Unusable);
}

#[tokio::test]
async fn when_the_time_is_over_the_text_is_what_there_is_of_it() {
    let this = Office::with([Answer::Text("hello".into()), Answer::Waits(Arc::default())]);
    let mut stream = this.stream(1);
    stream.append(&encode(&[voice(1), silence(5), voice(1), silence(5)].concat()));
    stream.finish();
    this.asked(2).await;
    let text = this.port.transcribe(CallSid::from_number(1), None, Instant::now()).await;
    let segments = vec![segment(0, 1_480, "hello"), segment(1_480, 1_480, UNHEARD)];
    assert_eq!(text.await, Ok(CallText::Words { engine: "scripted".into(), segments }));
    let late = this.port.transcribe(this.spoken(2, &voice(1)), None, Instant::now()).await;
    assert_eq!(late.await, Ok(CallText::Unusable), "the engine is still busy with the other one");
}

#[tokio::test]
async fn what_was_said_last_can_be_seen_while_the_call_goes_on_and_masked_where_that_is_wanted() {
    let long = "la ".repeat(200);
    let this = Office::masking(true, ["it is 0521", "234567", &long].map(|text| Answer::Text(text.into())));
    let mut words = this.words.clone();
    let call_sid = CallSid::from_number(1);
    let mut stream = this.stream(1);
    let mut seen = Vec::new();
    for _ in 0..3 {
        stream.append(&encode(&[voice(1), silence(5)].concat()));
        tokio::time::timeout(TOO_LONG, words.changed()).await.unwrap().unwrap();
        seen.push(words.borrow_and_update()[&call_sid].0.clone());
    }
    assert_eq!(seen[..2], ["it is ••••", "it is •••• ••••••"]);
    assert!(seen[2].starts_with("… la la") && seen[2].chars().count() <= LAST_WORDS_CHARS_MAX + 2, "{}", seen[2]);
    stream.finish();
    this.spool.open_streams().closed(call_sid).await;
    this.text(call_sid).await;
    assert!(this.words.borrow().is_empty());
}

#[tokio::test]
async fn keys_make_no_text_of_a_call_that_nobody_could_write_down() {
    let this = Office::with([Answer::Waits(Arc::default())]);
    let mut stream = this.stream(1);
    stream.append(&encode(&[voice(1), silence(5)].concat()));
    stream.mark(Mark::key('5').unwrap());
    stream.finish();
    this.asked(1).await;
    let text = this.port.transcribe(CallSid::from_number(1), None, Instant::now()).await;
    assert_eq!(text.await, Ok(CallText::Unusable));

    let this = Office::with([]);
    let mut stream = this.stream(1);
    stream.append(&encode(&silence(2)));
    stream.mark(Mark::key('5').unwrap());
    stream.finish();
    this.spool.open_streams().closed(CallSid::from_number(1)).await;
    let segments = vec![segment(2_000, 2_000, "[DTMF 5]")];
    assert_eq!(this.text(CallSid::from_number(1)).await, CallText::Words { engine: "none".into(), segments });
}

#[tokio::test]
async fn a_stream_that_is_not_on_the_disk_when_its_call_is_over_is_not_called_whole() {
    let this = Office::with([Answer::Text("hello".into())]);
    let mut stream = this.stream(1);
    stream.append(&encode(&[voice(1), silence(5)].concat()));
    this.asked(1).await;
    let segments = vec![segment(0, 1_480, "hello"), segment(1_480, 1_480, UNHEARD)];
    assert_eq!(this.text(CallSid::from_number(1)).await, CallText::Words { engine: "scripted".into(), segments });
    drop(stream);
}
