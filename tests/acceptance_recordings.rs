//! Recordings that were made while the box was off: they are found at Twilio when it is back, each becomes one record, and
//! those of other applications are left alone.

use std::{net::SocketAddr, time::Duration};

use jiff::Timestamp;
use kolbox::{
    simulator::{
        account::{CallNote, NumberSettings, Recording, RecordingState},
        rest,
        twilio::Twilio,
        upstream::Upstream,
    },
    system::http_client::Roots,
    twilio::{
        sid::{CallSid, RecordingSid},
        webhook::CallStatus,
    },
};
use process::{ACCOUNT_SID, AUTH_TOKEN, Office, Serve};

#[path = "support/process.rs"]
mod process;

const OURS: &str = "+97231234567";
const CALLER: &str = "+972501234567";

/// A call went to the TwiML Bin, and that recorded so much of it; nobody told the box.
fn recorded(twilio: &Twilio, number: u128, to: &str, length: Duration) {
    let (call_sid, recording_sid) = (CallSid::from_number(number), RecordingSid::from_number(number));
    let now = Timestamp::now();
    let mut account = twilio.account();
    account.note_call(call_sid, CallStatus::Completed);
    let note = CallNote { from: CALLER.into(), to: to.into(), started_at: now - length, ended_at: Some(now) };
    account.note_parties(call_sid, note);
    account.date_recording(recording_sid, now);
    let audio = vec![0x2a; length.as_millis() as usize * 8].into();
    account.note_recording(Recording { recording_sid, call_sid, state: RecordingState::Completed { audio, length } });
}

fn wait_for_message(serve: &Serve, message: &str) {
    serve.wait_for(message, |line| line["message"] == message);
}

#[test]
fn recordings_made_while_the_box_was_off_become_one_record_each_and_others_are_left_alone() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let upstream = runtime.block_on(Upstream::serve(SocketAddr::from(([127, 0, 0, 1], 0)), "hunter2")).unwrap();
    let url = format!("http://{}/transcripts", upstream.address());
    let office = Office::new(&[
        ("KOLBOX_SYNC__URL", &url),
        ("KOLBOX_SYNC__TOKEN", "hunter2"),
        ("PUBLIC_HOST", "gw.example.co.il"),
        ("KOLBOX_FALLBACK__DELETE_AT_TWILIO", "true"),
        ("KOLBOX_LOG__LEVEL", "info,kolbox::transcripts::housekeeper=debug"),
    ]);
    let twilio = Twilio::new(ACCOUNT_SID.parse().unwrap(), AUTH_TOKEN, &Roots::Insecure, None).unwrap();
    twilio.account().add_number(NumberSettings {
        phone_number: OURS.into(),
        voice_url: "https://gw.example.co.il/webhook/incoming_call".into(),
        ..NumberSettings::default()
    });
    let _rest = runtime.block_on(rest::serve(office.rest, twilio.clone())).unwrap();

    // What was there before the box is none of its.
    twilio.account().date_recording(RecordingSid::from_number(1), Timestamp::now() - Duration::from_secs(60));
    recorded(&twilio, 1, OURS, Duration::from_secs(2));
    let serve = office.serve();
    serve.wait_for("the mark on the disk", |line| line["note"] == "recordings-known");
    serve.kill();

    recorded(&twilio, 2, OURS, Duration::from_secs(2));
    recorded(&twilio, 3, "+97239999999", Duration::from_secs(2));
    recorded(&twilio, 4, OURS, Duration::ZERO);
    let serve = office.serve();
    serve.wait_for_many("both records at the upstream", 2, |line| line["event"] == "TRANSCRIPT_SYNCED");
    wait_for_message(&serve, "a recording was deleted at Twilio");
    serve.kill();

    recorded(&twilio, 5, OURS, Duration::from_secs(1));
    let serve = office.serve();
    // The list is read anew: what stands in it before and has its record is passed over.
    serve.wait_for_event("TRANSCRIPT_SYNCED");
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));

    let mut arrived: Vec<_> = upstream.transcripts().into_iter().map(|transcript| transcript.body).collect();
    arrived.sort_by_key(|record| record["call_sid"].as_str().unwrap().to_owned());
    let told: Vec<_> = arrived
        .iter()
        .map(|record| (record["recording_sid"].as_str().unwrap(), record["outcome"].as_str().unwrap()))
        .collect();
    let sids = [2, 4, 5].map(|number| RecordingSid::from_number(number).to_string());
    assert_eq!(told, [(&*sids[0], "untranscribed"), (&*sids[1], "no_speech"), (&*sids[2], "untranscribed")]);
    for record in &arrived {
        assert_eq!((&record["from"], &record["to"]), (&CALLER.into(), &OURS.into()));
        assert_eq!((&record["source"], &record["fallback"]["reason"]), (&"recording".into(), &"unknown_call".into()));
    }
    assert_eq!(arrived[0]["duration_ms"], 2_000);
    assert_eq!(upstream.repeated(), 0);
    assert_eq!(twilio.account().recordings_deleted(), 1, "only that of a record that needs no text");
    let audio = office.folder().join("store/audio");
    for number in [2, 5] {
        let (call, recording) = (CallSid::from_number(number), RecordingSid::from_number(number));
        assert!(audio.join(format!("{call}.{recording}.wav")).is_file(), "without text it is all there is");
    }
}
