//! The box from outside: what a signed webhook shows, both WebSocket paths, and what becomes of a call under each fault.

use std::{thread, time::Duration};

use bytes::Bytes;
use hyper::Request;
use kolbox::{
    simulator::document::Document,
    system::http_client::{HttpClient, Roots},
};
use process::{Office, assert_in_order};
use serde_json::Value;

#[path = "support/process.rs"]
mod process;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_signed_webhook_shows_connect_and_stream_with_absolute_urls() {
    let office = Office::new(&[]);
    let _serve = office.serve();
    let shown = office.call(&["--print-twiml"]).finish();
    assert_eq!(shown.code, Some(0), "{}", shown.out);
    let (status, document) = shown.out.split_once('\n').unwrap();
    assert_eq!(status, "200 text/xml");
    Document::parse(document).unwrap().check_without_base().expect("every address is absolute");
    let public = office.public;
    for part in [
        format!(r#"<Play>https://{public}/static/tts/prompt.wav</Play><Connect"#),
        format!(r#" action="https://{public}/webhook/stream_ended""#),
        format!(r#" url="wss://{public}/ws/twilio-media""#),
        format!(r#" statusCallback="https://{public}/webhook/stream_status""#),
        r#"<Parameter name="call_sid" value="CA"#.to_owned(),
        r#"<Parameter name="token" value=""#.to_owned(),
    ] {
        assert!(document.contains(&part), "{part} is missing in {document}");
    }
}

#[test]
fn who_does_not_sign_or_signs_wrongly_gets_403() {
    let office = Office::new(&[]);
    let serve = office.serve();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let client = HttpClient::new(&Roots::Insecure, SECOND).unwrap();
    let url = format!("https://{}/webhook/incoming_call", office.public);
    let form = format!("CallSid=CA{0:032}&AccountSid={1}&CallStatus=ringing", 1, process::ACCOUNT_SID);
    let unsigned = || Request::post(&url).header("content-type", "application/x-www-form-urlencoded");
    for request in [
        Request::get(format!("{url}?{form}")).body(Bytes::new()),
        unsigned().body(Bytes::from(form.clone())),
        unsigned().header("X-Twilio-Signature", "0/KCTR6DLpKmkAf8muzZqo1nDgQ=").body(Bytes::from(form)),
    ] {
        let reply = runtime.block_on(client.send(request.unwrap(), 30 * SECOND, 1024)).unwrap();
        assert_eq!(reply.status, 403);
    }
    let stranger = office.call(&["--print-twiml", "--auth-token", "another"]).finish();
    assert!(stranger.code == Some(1) && stranger.out.starts_with("403 "), "{}", stranger.out);

    serve.terminate();
    let (code, log) = serve.end();
    assert_eq!(code, Some(0));
    assert_eq!(log.errors(), Vec::<&Value>::new(), "from the start to the end");
    assert_eq!(office.transcripts(), Vec::<Value>::new(), "nothing happened");
}

#[test]
fn both_websocket_paths_open_with_101() {
    let office = Office::new(&[]);
    let _serve = office.serve();
    let tried = office.call(&["--handshake"]).finish();
    assert_eq!(tried.code, Some(0), "{}", tried.out);
    let public = office.public;
    let expected = ["", "/"].map(|end| format!("wss://{public}/ws/twilio-media{end} 101 Switching Protocols"));
    assert_eq!(tried.out.lines().collect::<Vec<_>>(), expected);
    let stranger = office.call(&["--handshake", "--auth-token", "another"]).finish();
    assert!(stranger.code == Some(1) && !stranger.out.contains("101"), "{}", stranger.out);
}

/// A call with a fault, and what is to be seen of it.
struct Case {
    fault: Option<&'static str>,
    settings: &'static [(&'static str, &'static str)],
    /// Of the log, in this order.
    events: &'static [&'static str],
    /// `None`: it streams to its end.
    recorded_for: Option<&'static str>,
}

/// As soon as the greeting's length allows: it and 3 s.
const START: (&str, &str) = ("KOLBOX_WATCHDOG__START_TIMEOUT", "1s");
const MEDIA: (&str, &str) = ("KOLBOX_WATCHDOG__NO_MEDIA_TIMEOUT", "1s");

const CASES: [Case; 7] = [
    Case {
        fault: None,
        settings: &[],
        events: &["CALL_ANSWERED", "WS_START", "CALL_ENDED", "TRANSCRIPT_STORED"],
        recorded_for: None,
    },
    Case {
        fault: Some("no-stream"),
        settings: &[START],
        events: &["WD_NO_STREAM_START", "WD_REDIRECTED", "handle_recording 200", "TRANSCRIPT_STORED"],
        recorded_for: Some("no_stream_start"),
    },
    Case {
        fault: Some("no-media"),
        settings: &[MEDIA],
        events: &["WS_START", "WD_NO_MEDIA", "WD_REDIRECTED", "handle_recording 200", "TRANSCRIPT_STORED"],
        recorded_for: Some("no_media"),
    },
    Case {
        fault: Some("media-stops"),
        settings: &[MEDIA],
        events: &["WS_START", "WD_NO_MEDIA", "WD_REDIRECTED", "handle_recording 200", "TRANSCRIPT_STORED"],
        recorded_for: Some("no_media"),
    },
    Case {
        fault: Some("bad-json"),
        settings: &[],
        events: &["WS_START", "WS_BAD_JSON", "CALL_ENDED", "TRANSCRIPT_STORED"],
        recorded_for: None,
    },
    Case {
        fault: Some("drop"),
        settings: &[],
        events: &["WS_START", "WS_CLOSED", "WD_NO_MEDIA", "WD_REDIRECTED", "handle_recording 200", "TRANSCRIPT_STORED"],
        recorded_for: Some("socket_lost"),
    },
    // Twilio's answer to the redirect comes too late to be heard: the recording shows that it was taken.
    Case {
        fault: Some("slow-rest"),
        settings: &[START],
        events: &["WD_NO_STREAM_START", "handle_recording 200", "TRANSCRIPT_STORED"],
        recorded_for: Some("no_stream_start"),
    },
];

#[test]
fn a_call_ends_in_a_stream_or_a_recording_under_each_fault_and_leaves_one_record() {
    thread::scope(|scope| {
        for case in &CASES {
            thread::Builder::new()
                .name(case.fault.unwrap_or("no fault").to_owned())
                .spawn_scoped(scope, || ring(case))
                .unwrap();
        }
    });
}

fn ring(case: &Case) {
    let office = Office::new(case.settings);
    let serve = office.serve();
    let speech = office.speech(3 * SECOND);
    let fault = case.fault.map_or(vec![], |fault| vec!["--fault", fault]);
    let finished = office.call(&[&["--audio", &speech], &fault[..]].concat()).finish();
    assert_eq!(finished.code, Some(0), "{}", finished.out);
    let call = finished.call();
    serve.wait_for_transcripts(1);
    serve.terminate();
    let (code, log) = serve.end();
    assert_eq!(code, Some(0));
    assert!(log.messages().any(|message| message == "drained"));
    assert_in_order(&log.of_call(&call.call_sid), case.events);

    let records = office.transcripts();
    assert_eq!(records.len(), 1, "{records:#?}");
    let record = &records[0];
    assert_eq!(record["call_sid"], call.call_sid.as_str());
    assert_eq!(record["fallback"]["reason"].as_str(), case.recorded_for, "{record:#}");
    assert_eq!(record["recording_sid"].as_str(), call.recording_sid.as_deref(), "{record:#}");
    match case.recorded_for {
        None => assert_eq!((call.outcome.as_str(), &record["source"]), ("streamed", &Value::from("stream"))),
        Some(_) => assert_eq!((call.outcome.as_str(), &record["source"]), ("recorded", &Value::from("recording"))),
    }
}
