//! The call in virtual time, against a small office that answers by the path it is asked.

use std::time::{Duration, Instant};

use super::*;
use crate::{
    simulator::{
        caller::Caller,
        faults::{Faults, StreamFault},
        forms::Parties,
        plan::{Number, Timing},
    },
    twilio::sid::{AccountSid, CallSid},
};

const STREAM: &str = r#"<Response><Play>/greeting.mp3</Play><Connect action="/ended"><Stream url="wss://box/media"
    statusCallback="/stream"><Parameter name="token" value="t"/></Stream></Connect></Response>"#;
const RECORD: &str = r#"<Response><Play>https://box/fallback.mp3</Play><Record action="https://box/recorded" timeout="4"
    maxLength="30" playBeep="false" recordingStatusCallback="https://box/recording"
    recordingStatusCallbackEvent="in-progress completed absent"/><Say>nothing</Say><Hangup/></Response>"#;
const HANGUP: &str = "<Response><Hangup/></Response>";

/// What happened, in order: `(milliseconds, what)`.
type Log = Vec<(u64, String)>;

/// A call and the world around it.
struct Bench {
    begin: Instant,
    now: Instant,
    call: PhoneCall,
    /// What each path answers; the last one is repeated. A path that is not there: 204.
    answers: Vec<(&'static str, WebhookReply)>,
    /// The socket that was opened last.
    socket: Option<Ticket>,
    log: Log,
    /// When each media frame was sent.
    frames: Vec<u64>,
    /// Whether sockets open, or fail with this code.
    opens: Result<(), u32>,
}

fn twiml(text: &str) -> WebhookReply {
    WebhookReply::Answered {
        status: 200,
        content_type: Some("text/xml; charset=utf-8".to_owned()),
        body: text.to_owned(),
    }
}

fn plan() -> Plan {
    Plan {
        parties: Parties {
            account_sid: AccountSid::from_number(1),
            call_sid: CallSid::from_number(2),
            from: "+972501234567".to_owned(),
            to: "+97231234567".to_owned(),
        },
        number: Number {
            voice_url: "https://box/voice".to_owned(),
            fallback_url: None,
            status_callback: Some("https://box/status".to_owned()),
            connect_action_after_hang_up: true,
            silent_record_calls_action: false,
        },
        caller: Caller {
            speech: vec![0u8; 3 * 8000].into(),
            leaves_after_saying: Some(Duration::from_secs(1)),
            leaves_after: Duration::from_secs(120),
            patience: Duration::from_secs(30),
        },
        faults: Faults::default(),
        timing: Timing::default(),
        placed_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

fn with_fault(stream: StreamFault) -> Plan {
    Plan { faults: Faults { stream, ..Faults::default() }, ..plan() }
}

impl Bench {
    fn new(plan: Plan, answers: &[(&'static str, &str)]) -> Self {
        let begin = Instant::now();
        let answers = answers.iter().map(|&(path, text)| (path, twiml(text))).collect();
        let call = PhoneCall::new(plan, begin);
        let (log, frames) = (Log::new(), Vec::new());
        Self { begin, now: begin, call, answers, socket: None, log, frames, opens: Ok(()) }
    }

    /// Lets the clock run to this second of the call.
    fn run_to(&mut self, seconds: f64) {
        let end = self.begin + Duration::from_millis((seconds * 1000.0) as u64);
        self.drain();
        while let Some((due, _)) = self.call.poll_timeout().filter(|(due, _)| *due <= end) {
            self.now = self.now.max(due);
            self.call.handle_timeout(self.now);
            self.drain();
        }
        self.now = end;
    }

    fn update(&mut self, update: Update) {
        self.call.handle_update(UpdateId(1), update, self.now);
        self.drain();
    }

    fn server_says(&mut self, event: &str, body: &str) {
        let Stage::Streaming { ticket, streaming } = &self.call.stage else { panic!("a stream is open") };
        let (ticket, stream_sid) = (*ticket, streaming.peer.stream_sid());
        let text = format!(r#"{{"event":"{event}","streamSid":"{stream_sid}"{body}}}"#);
        self.call.handle_socket_message(ticket, &text, self.now);
        self.drain();
    }

    fn server_closes(&mut self, code: Option<u16>) {
        self.call.handle_socket_closed(self.socket.unwrap(), code, self.now);
        self.drain();
    }

    fn drain(&mut self) {
        while let Some(output) = self.call.poll_output() {
            let at = self.now.duration_since(self.begin).as_millis() as u64;
            match output {
                Output::Request { ticket, url, form } => self.answer(ticket, &url, &form, at),
                Output::FetchPrompt { ticket, url } => {
                    self.log.push((at, format!("GET {url}")));
                    self.call.handle_prompt(ticket, Ok(Duration::from_secs(2)), self.now);
                }
                Output::OpenSocket { ticket, url } => {
                    self.log.push((at, format!("OPEN {url}")));
                    self.socket = Some(ticket);
                    match self.opens {
                        Ok(()) => self.call.handle_socket_opened(ticket, self.now),
                        Err(code) => self.call.handle_socket_failed(ticket, code, self.now),
                    }
                }
                Output::Send { text, .. } if text.contains(r#""payload""#) => self.frames.push(at),
                Output::Send { text, .. } => {
                    let json: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
                    let name = json["mark"]["name"].as_str().unwrap_or_default();
                    self.log
                        .push((at, format!("SEND {} {name}", json["event"].as_str().unwrap_or("?")).trim().to_owned()));
                }
                Output::CloseSocket { abort, .. } => self.log.push((at, format!("CLOSE abort={abort}"))),
                Output::AnswerUpdate { decision, .. } => {
                    let code = decision.map_or_else(|error| error.code, |_| 200);
                    self.log.push((at, format!("REST {code}")));
                }
                Output::NoteStatus(_) | Output::NoteRecording(_) => {}
                Output::Finish => self.log.push((at, "FINISH".to_owned())),
            }
        }
    }

    fn answer(&mut self, ticket: Ticket, url: &str, form: &Fields, at: u64) {
        let path = url.strip_prefix("https://box").unwrap_or(url);
        let word = |name: &str| form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        let words = ["CallStatus", "StreamEvent", "RecordingStatus", "Digits", "ErrorCode"];
        let said: Vec<&str> = words.into_iter().filter_map(word).collect();
        self.log.push((at, format!("POST {path} {}", said.join(" "))));
        let reply = match self.answers.iter().position(|(known, _)| *known == path) {
            Some(index) if self.answers.iter().filter(|(known, _)| *known == path).count() > 1 => {
                self.answers.remove(index).1
            }
            Some(index) => self.answers[index].1.clone(),
            None => WebhookReply::Answered { status: 204, content_type: None, body: String::new() },
        };
        self.call.handle_reply(ticket, reply, self.now);
    }

    fn lines(&self) -> Vec<&str> {
        self.log.iter().map(|(_, what)| what.as_str()).collect()
    }

    fn at(&self, what: &str) -> u64 {
        self.log.iter().find(|(_, line)| line == what).unwrap_or_else(|| panic!("{what}: {:?}", self.log)).0
    }

    fn outcome(&self) -> Outcome {
        self.call.report().outcome
    }
}

fn tone(milliseconds: usize) -> String {
    use base64::{Engine, prelude::BASE64_STANDARD};
    format!(r#","media":{{"payload":"{}"}}"#, BASE64_STANDARD.encode(vec![0u8; milliseconds * 8]))
}

#[test]
fn a_healthy_call_hears_the_greeting_and_is_heard_to_the_end_at_real_pace() {
    let mut bench = Bench::new(plan(), &[("/voice", STREAM)]);
    bench.run_to(2.0);
    bench.server_says("media", &tone(400));
    bench.server_says("mark", r#","mark":{"name":"tone"}"#);
    bench.run_to(60.0);
    assert_eq!(
        bench.lines(),
        [
            "POST /voice ringing",
            "GET https://box/greeting.mp3",
            "OPEN wss://box/media",
            "SEND connected",
            "SEND start",
            "POST /stream stream-started",
            "SEND mark tone",
            "SEND stop",
            "CLOSE abort=false",
            "POST /stream stream-stopped",
            "POST /ended completed",
            "POST /status completed",
            "FINISH",
        ]
    );
    assert_eq!(bench.at("SEND mark tone"), 2400);
    assert!(bench.frames.windows(2).all(|pair| pair[1] - pair[0] == 20));
    let report = bench.call.report();
    assert_eq!((report.outcome, report.ending), (Outcome::Streamed, Some(Ending::CallerLeft)));
    assert!(report.tone_heard && report.marks_echoed == 1 && report.rest_updates == 0);
    let met: Vec<Met> = report.spans.iter().map(|span| span.met).collect();
    assert_eq!(met, [Met::Prompt, Met::Silence, Met::Stream]);
    assert_eq!(report.longest_silence, Duration::from_millis(20));
}

#[test]
fn a_record_ends_by_silence_and_its_audio_comes_a_little_later() {
    let mut bench = Bench::new(plan(), &[("/voice", RECORD), ("/recorded", HANGUP)]);
    bench.run_to(60.0);
    assert_eq!(
        bench.lines(),
        [
            "POST /voice ringing",
            "GET https://box/fallback.mp3",
            "POST /recording in-progress",
            "POST /recorded in-progress",
            "POST /status completed",
            "POST /recording completed",
            "FINISH",
        ]
    );
    // Prompt, a breath, three seconds of speech, four of silence.
    assert!(bench.at("POST /recorded in-progress").abs_diff(2000 + 300 + 3000 + 4000) <= 20);
    assert_eq!(bench.at("POST /recording completed"), bench.at("POST /recorded in-progress") + 1500);
    assert!(matches!(bench.outcome(), Outcome::Recorded(_)));
}

#[test]
fn a_record_in_which_nothing_is_said_falls_through_to_the_next_verb() {
    let mut silent = plan();
    silent.caller.speech = Vec::new().into();
    let mut bench = Bench::new(silent, &[("/voice", RECORD)]);
    bench.run_to(60.0);
    assert_eq!(
        bench.lines()[2..],
        ["POST /recording in-progress", "POST /recording absent", "POST /status completed", "FINISH"]
    );
    assert_eq!(bench.outcome(), Outcome::NoMessage);
}

#[test]
fn a_silent_record_can_call_its_action_too() {
    let mut silent = plan();
    silent.caller.speech = Vec::new().into();
    silent.number.silent_record_calls_action = true;
    let mut bench = Bench::new(silent, &[("/voice", RECORD), ("/recorded", HANGUP)]);
    bench.run_to(60.0);
    assert!(bench.lines().contains(&"POST /recorded in-progress"));
    assert_eq!(bench.outcome(), Outcome::NoMessage);
}

#[test]
fn hanging_up_during_a_record_still_calls_its_action_and_keeps_the_recording() {
    let mut bench = Bench::new(plan(), &[("/voice", RECORD)]);
    bench.run_to(4.0);
    bench.call.handle_hang_up(bench.now);
    bench.run_to(60.0);
    assert_eq!(
        bench.lines()[3..],
        ["POST /recorded completed hangup", "POST /status completed", "POST /recording completed", "FINISH"]
    );
    assert!(matches!(bench.outcome(), Outcome::Recorded(_)));
}

#[test]
fn a_key_and_the_greatest_length_end_a_record() {
    let mut bench = Bench::new(plan(), &[("/voice", RECORD), ("/recorded", HANGUP)]);
    bench.run_to(4.0);
    bench.call.handle_key('5', bench.now);
    bench.drain();
    assert_eq!(bench.at("POST /recorded in-progress 5"), 4000);
    let mut talkative = plan();
    talkative.caller.speech = vec![0u8; 60 * 8000].into();
    let mut bench = Bench::new(talkative, &[("/voice", RECORD), ("/recorded", HANGUP)]);
    bench.run_to(60.0);
    assert_eq!(bench.at("POST /recorded in-progress"), 32_000);
}

#[test]
fn an_update_stops_the_stream_first_and_then_runs_the_new_document_without_the_connects_action() {
    let mut bench = Bench::new(with_fault(StreamFault::MediaStops), &[("/voice", STREAM), ("/recorded", HANGUP)]);
    bench.run_to(10.0);
    bench.update(Update::Twiml(RECORD.to_owned()));
    assert_eq!(
        bench.lines()[6..],
        ["SEND stop", "CLOSE abort=false", "POST /stream stream-stopped", "GET https://box/fallback.mp3", "REST 200"]
    );
    bench.run_to(60.0);
    assert!(!bench.lines().iter().any(|line| line.starts_with("POST /ended")));
    let report = bench.call.report();
    assert!(matches!(report.outcome, Outcome::Recorded(_)));
    assert_eq!(report.redirect_after_answer, Some(Duration::from_secs(10)));
    assert_eq!(report.redirect_after_fault, Some(Duration::from_secs(6)));
    assert_eq!(report.streamed, Duration::from_secs(2));
}

#[test]
fn updates_are_refused_with_twilios_codes_and_change_nothing() {
    let mut bench = Bench::new(plan(), &[("/voice", STREAM)]);
    bench.run_to(3.0);
    let long = format!("<Response><Say>{}</Say></Response>", "x".repeat(4000));
    for text in
        ["<Response>", r#"<Response><Record action="/recorded"/></Response>"#, "<Response><Record/></Response>", &long]
    {
        bench.update(Update::Twiml(text.to_owned()));
    }
    assert_eq!(bench.lines()[6..], ["REST 12100", "REST 15004", "REST 11100", "REST 32018"]);
    bench.run_to(60.0);
    assert_eq!(bench.outcome(), Outcome::Streamed);
    bench.update(Update::Twiml(RECORD.to_owned()));
    assert_eq!(bench.lines().last(), Some(&"REST 21220"));
    assert_eq!(bench.call.report().rest_refused, 5);
}

#[test]
fn a_planned_refusal_comes_before_anything_else() {
    let mut planned = with_fault(StreamFault::NeverConnects);
    planned.faults.rest_refusals = vec![(429, 20429), (500, 0)];
    let mut bench = Bench::new(planned, &[("/voice", STREAM)]);
    bench.run_to(3.0);
    (0..3).for_each(|_| bench.update(Update::Twiml(RECORD.to_owned())));
    let answers: Vec<_> = bench.lines().into_iter().filter(|line| line.starts_with("REST")).collect();
    assert_eq!(answers, ["REST 20429", "REST 0", "REST 200"]);
}

#[test]
fn a_slow_answer_comes_late_though_the_update_took_effect_at_once() {
    let mut slow = with_fault(StreamFault::NeverConnects);
    slow.faults.rest_delay = Duration::from_secs(10);
    let mut bench = Bench::new(slow, &[("/voice", STREAM), ("/recorded", HANGUP)]);
    bench.run_to(8.0);
    bench.update(Update::Twiml(RECORD.to_owned()));
    bench.run_to(60.0);
    assert_eq!(bench.at("GET https://box/fallback.mp3"), 8000);
    assert_eq!(bench.at("REST 200"), 18_000);
}

#[test]
fn a_stream_that_never_connects_says_nothing_until_the_caller_gives_up() {
    let mut bench = Bench::new(with_fault(StreamFault::NeverConnects), &[("/voice", STREAM)]);
    bench.run_to(60.0);
    assert_eq!(
        bench.lines(),
        ["POST /voice ringing", "GET https://box/greeting.mp3", "POST /status completed", "FINISH"]
    );
    assert_eq!((bench.outcome(), bench.at("FINISH")), (Outcome::Lost, 32_000));
}

#[test]
fn a_stream_without_media_starts_and_stays_mute() {
    let mut bench = Bench::new(with_fault(StreamFault::NoMedia), &[("/voice", STREAM)]);
    bench.run_to(20.0);
    assert!(bench.lines().contains(&"SEND start") && bench.frames.is_empty());
    assert_eq!(bench.call.report().streams_started, 1);
    let mut bench = Bench::new(with_fault(StreamFault::NoStart), &[("/voice", STREAM)]);
    bench.run_to(20.0);
    assert_eq!(bench.lines().last(), Some(&"OPEN wss://box/media"));
}

#[test]
fn media_that_stop_leave_the_socket_open() {
    let mut bench = Bench::new(with_fault(StreamFault::MediaStops), &[("/voice", STREAM)]);
    bench.run_to(20.0);
    assert_eq!((bench.frames.len(), bench.frames.last()), (100, Some(&4000)));
    assert_eq!(bench.lines().last(), Some(&"POST /stream stream-started"));
}

#[test]
fn bad_json_comes_in_the_middle_and_media_go_on() {
    let mut bench = Bench::new(with_fault(StreamFault::BadJson), &[("/voice", STREAM)]);
    bench.run_to(60.0);
    assert_eq!(bench.lines().iter().filter(|line| **line == "SEND ?").count(), 4);
    assert_eq!(bench.outcome(), Outcome::Streamed);
}

#[test]
fn a_lost_connection_is_noticed_later_and_leads_to_the_connects_action() {
    let noticed_after = Duration::from_secs(5);
    let mut bench = Bench::new(
        with_fault(StreamFault::Drops { noticed_after }),
        &[("/voice", STREAM), ("/ended", RECORD), ("/recorded", HANGUP)],
    );
    bench.run_to(60.0);
    assert_eq!((bench.at("CLOSE abort=true"), bench.at("POST /ended in-progress")), (4000, 9000));
    assert!(!bench.lines().contains(&"SEND stop"));
    assert_eq!(bench.at("POST /stream stream-error"), 9000);
    assert!(matches!(bench.outcome(), Outcome::Recorded(_)));
}

#[test]
fn a_server_that_closes_gets_the_connects_action_or_else_the_next_verb_runs() {
    let mut bench = Bench::new(plan(), &[("/voice", STREAM), ("/ended", HANGUP)]);
    bench.run_to(7.0);
    bench.server_closes(Some(1000));
    assert_eq!(
        bench.lines()[6..],
        ["POST /stream stream-stopped", "POST /ended in-progress", "POST /status completed", "FINISH"]
    );
    assert_eq!(bench.outcome(), Outcome::Streamed);

    let no_action =
        r#"<Response><Connect><Stream url="wss://box/media"/></Connect><Redirect>/next</Redirect></Response>"#;
    let mut bench = Bench::new(plan(), &[("/voice", no_action), ("/next", HANGUP)]);
    bench.run_to(2.0);
    bench.server_closes(None);
    assert!(bench.lines().contains(&"POST /next in-progress"));
    assert_eq!(bench.outcome(), Outcome::Lost, "the caller was cut off");
}

#[test]
fn a_refused_handshake_is_told_and_leads_to_the_action() {
    let mut bench = Bench::new(plan(), &[("/voice", STREAM), ("/ended", RECORD), ("/recorded", HANGUP)]);
    bench.opens = Err(31920);
    bench.run_to(60.0);
    assert_eq!(bench.lines()[3..5], ["POST /stream stream-error", "POST /ended in-progress"]);
    assert!(matches!(bench.outcome(), Outcome::Recorded(_)));
}

#[test]
fn a_stream_loses_the_query_of_its_address_and_must_be_wss() {
    let query = r#"<Response><Connect><Stream url="wss://box/media?token=1"/></Connect></Response>"#;
    let mut bench = Bench::new(plan(), &[("/voice", query)]);
    bench.drain();
    assert_eq!(bench.lines()[1], "OPEN wss://box/media");
    let plain = r#"<Response><Connect action="/ended"><Stream url="ws://box/media"/></Connect></Response>"#;
    let mut bench = Bench::new(plan(), &[("/voice", plain), ("/ended", HANGUP)]);
    bench.drain();
    assert_eq!(bench.lines()[1], "POST /ended in-progress");
}

#[test]
fn a_webhook_without_connection_is_asked_once_more_and_an_answer_without_twiml_ends_the_call() {
    let mut bench = Bench::new(plan(), &[]);
    bench.answers = vec![("/voice", WebhookReply::NoConnection), ("/voice", twiml(HANGUP))];
    bench.drain();
    assert_eq!(bench.lines()[..2], ["POST /voice ringing"; 2]);
    assert_eq!(bench.call.report().ending, Some(Ending::HungUp));

    let replies = [
        (WebhookReply::NoConnection, 11205),
        (WebhookReply::NoAnswer, 11205),
        (WebhookReply::Answered { status: 503, content_type: None, body: String::new() }, 11200),
        (
            WebhookReply::Answered { status: 200, content_type: Some("text/html".to_owned()), body: "x".to_owned() },
            12100,
        ),
        (WebhookReply::Answered { status: 200, content_type: None, body: HANGUP.to_owned() }, 12300),
    ];
    for (reply, code) in replies {
        let mut bench = Bench::new(plan(), &[]);
        bench.answers = vec![("/voice", reply)];
        bench.drain();
        assert_eq!(bench.call.report().ending, Some(Ending::ApplicationError(code)));
        assert_eq!(bench.outcome(), Outcome::Lost);
    }
}

#[test]
fn the_numbers_fallback_is_asked_when_the_webhook_fails() {
    let mut with_fallback = plan();
    with_fallback.number.fallback_url = Some("https://elsewhere/fallback".to_owned());
    let mut bench = Bench::new(with_fallback, &[("https://elsewhere/fallback", RECORD), ("/recorded", HANGUP)]);
    bench.answers.push(("/voice", WebhookReply::NoAnswer));
    bench.run_to(60.0);
    assert_eq!(bench.lines()[1], "POST https://elsewhere/fallback ringing 11205");
    assert!(matches!(bench.outcome(), Outcome::Recorded(_)));
}

#[test]
fn pause_reject_and_the_end_of_a_document_do_what_they_say() {
    let mut bench =
        Bench::new(plan(), &[("/voice", r#"<Response><Pause length="3"/><Redirect>/voice2</Redirect></Response>"#)]);
    bench.answers.push(("/voice2", twiml("<Response/>")));
    bench.run_to(10.0);
    assert_eq!((bench.at("POST /voice2 in-progress"), bench.call.report().ending), (3000, Some(Ending::HungUp)));
    let mut bench = Bench::new(plan(), &[("/voice", "<Response><Reject/></Response>")]);
    bench.run_to(10.0);
    assert_eq!(bench.lines(), ["POST /voice ringing", "POST /status busy", "FINISH"]);
}

#[test]
fn a_call_of_a_number_without_status_callback_may_end_without_a_word() {
    let mut quiet = plan();
    quiet.number.status_callback = None;
    quiet.number.connect_action_after_hang_up = false;
    let mut bench = Bench::new(quiet, &[("/voice", STREAM)]);
    bench.run_to(60.0);
    assert_eq!(bench.lines()[6..], ["SEND stop", "CLOSE abort=false", "POST /stream stream-stopped", "FINISH"]);
}

#[test]
fn callbacks_can_come_twice() {
    let mut twice = plan();
    twice.faults.callbacks_twice = true;
    let mut bench = Bench::new(twice, &[("/voice", RECORD), ("/recorded", HANGUP)]);
    bench.run_to(60.0);
    let completed = bench.lines().into_iter().filter(|line| *line == "POST /recording completed").count();
    assert_eq!(completed, 2);
}

#[test]
fn an_answer_to_a_question_that_nobody_waits_for_is_dropped() {
    let begin = Instant::now();
    let mut call = PhoneCall::new(plan(), begin);
    let asked = std::iter::from_fn(|| call.poll_output()).find_map(|output| match output {
        Output::Request { ticket, .. } => Some(ticket),
        _ => None,
    });
    call.handle_hang_up(begin);
    assert_eq!(call.status(), CallStatus::Completed);
    call.handle_reply(asked.unwrap(), twiml(STREAM), begin);
    let outputs: Vec<_> = std::iter::from_fn(|| call.poll_output()).collect();
    assert!(!outputs.iter().any(|output| matches!(output, Output::FetchPrompt { .. } | Output::OpenSocket { .. })));
}
