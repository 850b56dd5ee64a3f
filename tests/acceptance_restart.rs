//! The box goes away, by a power cut or in peace, and the office's upstream does: no call is lost, no record comes twice.

use std::{
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use kolbox::simulator::upstream::Upstream;
use line::Line;
use process::{Finished, Office, Placed};
use serde_json::Value;
use tokio::runtime::Runtime;

#[path = "support/line.rs"]
mod line;
#[path = "support/process.rs"]
mod process;

const SECOND: Duration = Duration::from_secs(1);

/// An office whose records go to an upstream of this process.
fn office_with_upstream(runtime: &Runtime) -> (Office, Upstream) {
    let upstream = runtime.block_on(Upstream::serve(SocketAddr::from(([127, 0, 0, 1], 0)), "hunter2")).unwrap();
    let url = format!("http://{}/transcripts", upstream.address());
    let office = Office::new(&[
        ("KOLBOX_SYNC__URL", &url),
        ("KOLBOX_SYNC__TOKEN", "hunter2"),
        ("KOLBOX_SYNC__RETRY_MIN", "100ms"),
        ("KOLBOX_SYNC__RETRY_MAX", "500ms"),
        ("KOLBOX_LOG__LEVEL", "info,kolbox::server::media_socket=debug"),
    ]);
    (office, upstream)
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// The only call of this one, which ended as it should.
#[track_caller]
fn ended(finished: &Finished, outcome: &str) -> Placed {
    let call = finished.call();
    assert_eq!((finished.code, call.outcome.as_str()), (Some(0), outcome), "{}", finished.out);
    call
}

fn call_sids<'a>(records: impl IntoIterator<Item = &'a Value>) -> Vec<String> {
    records.into_iter().map(|record| record["call_sid"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_power_cut_in_mid_call_ends_in_a_recording_and_what_was_kept_is_sent_once() {
    let runtime = runtime();
    let (office, upstream) = office_with_upstream(&runtime);
    let speech = office.speech(2 * SECOND);
    let serve = office.serve();
    let acknowledged = ended(&office.call(&["--audio", &speech]).finish(), "streamed");
    serve.wait_for_event("TRANSCRIPT_SYNCED");
    upstream.set_down(true);
    let kept = ended(&office.call(&["--audio", &speech]).finish(), "streamed");
    serve.wait_for("a try to send it", |line| line["event"] == "SYNC_FAILED" && line["call_sid"] == kept.call_sid[..]);

    let long = office.speech(10 * SECOND);
    let line = Line::to(office.public);
    let calling = office.call_at(line.address, &["--audio", &long]);
    let others = [acknowledged.call_sid.clone(), kept.call_sid.clone()];
    serve.wait_for_many("two seconds of a third call", 100, |line| {
        line["event"] == "WS_FRAME" && others.iter().all(|other| line["call_sid"] != other[..])
    });
    line.hold();
    serve.kill();
    // Twilio has not noticed yet, and the caller speaks into a dead stream.
    let serve = office.serve();
    serve.wait_for("the call to be sent to the recorder", |line| line["event"] == "WD_REDIRECTED");
    line.release();
    let interrupted = ended(&calling.finish(), "recorded");
    upstream.set_down(false);
    serve.wait_for_many("both records at the upstream", 2, |line| line["event"] == "TRANSCRIPT_SYNCED");
    serve.terminate();
    let (code, log) = serve.end();
    assert_eq!(code, Some(0));
    process::assert_in_order(
        &log.of_call(&interrupted.call_sid),
        &["WD_REDIRECTED", "handle_recording 200", "TRANSCRIPT_STORED", "TRANSCRIPT_SYNCED"],
    );

    let arrived: Vec<Value> = upstream.transcripts().into_iter().map(|transcript| transcript.body).collect();
    let expected = [acknowledged.call_sid, kept.call_sid, interrupted.call_sid];
    assert_eq!(call_sids(&arrived), expected);
    assert_eq!(upstream.repeated(), 0, "none twice after an acknowledgement");
    assert_eq!(arrived[2]["fallback"]["reason"], "socket_lost");
    assert!(arrived[2]["stream_sid"].is_string(), "what the run before knew of it");
    assert_eq!(arrived[2]["recording_sid"].as_str(), interrupted.recording_sid.as_deref());
    assert_eq!(office.transcripts(), arrived, "the same objects that were sent");
}

#[test]
fn an_upstream_that_was_down_gets_every_record_once_and_in_their_order() {
    let runtime = runtime();
    let (office, upstream) = office_with_upstream(&runtime);
    upstream.set_down(true);
    let serve = office.serve();
    let speech = office.speech(SECOND);
    let finished = office.call(&["--calls", "5", "--audio", &speech]).finish();
    assert_eq!(finished.code, Some(0), "{}", finished.out);
    serve.wait_for_transcripts(5);
    serve.wait_for_event("SYNC_FAILED");
    assert!(upstream.turned_away() > 0 && upstream.transcripts().is_empty());
    upstream.set_down(false);
    serve.wait_for_many("all records at the upstream", 5, |line| line["event"] == "TRANSCRIPT_SYNCED");
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));

    let arrived = upstream.transcripts();
    assert!(arrived.iter().all(|transcript| transcript.body["id"] == transcript.key[..]), "the key is the record's id");
    let bodies: Vec<Value> = arrived.into_iter().map(|transcript| transcript.body).collect();
    assert_eq!(office.transcripts(), bodies, "in the order in which they became final");
    assert_eq!((bodies.len(), upstream.repeated()), (5, 0));
}

#[test]
fn a_drain_sends_a_running_stream_to_the_recorder_and_ends_in_peace() {
    let office = Office::new(&[("KOLBOX_CALLS__DRAIN", "3s")]);
    let serve = office.serve();
    let speech = office.speech(12 * SECOND);
    let calling = office.call(&["--audio", &speech]);
    let call_sid = serve.wait_for_event("WS_START")["call_sid"].as_str().unwrap().to_owned();
    serve.terminate();
    serve.wait_for("the drain", |line| line["message"].as_str().is_some_and(|said| said.starts_with("draining")));
    let late = office.call(&["--print-twiml", "--status-callback", "none"]).finish();
    assert!(late.out.contains("<Record ") && !late.out.contains("<Connect"), "{}", late.out);
    assert!(late.out.contains("<Say ") && !late.out.contains("<Play>"), "nobody will be there to ask: {}", late.out);
    let (code, log) = serve.end();
    assert_eq!(code, Some(0));
    assert!(log.messages().any(|message| message == "drained"));
    let redirected = log.find(&call_sid, "WD_REDIRECTED").expect("the stream was sent to the recorder");
    assert_eq!(redirected["reason"], "draining");

    // As with systemd: the caller still speaks when the box is back. Until then nothing of it is needed.
    calling.wait_for("recording_status in-progress");
    let serve = office.serve();
    let recorded = ended(&calling.finish(), "recorded");
    assert_eq!(recorded.call_sid, call_sid);
    serve.wait_for_transcripts(1);
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));
    let records = office.transcripts();
    assert_eq!(call_sids(&records), [call_sid]);
    assert_eq!(records[0]["recording_sid"].as_str(), recorded.recording_sid.as_deref());
}

#[test]
fn a_drain_with_rest_hanging_still_leads_the_caller_to_the_recorder_and_ends_in_peace() {
    // Connections come about, and nobody ever reads them.
    let hanging = TcpListener::bind("127.0.0.1:0").unwrap();
    let api_base = format!("http://{}", hanging.local_addr().unwrap());
    let office = Office::new(&[("KOLBOX_CALLS__DRAIN", "1s"), ("KOLBOX_TWILIO__API_BASE", &api_base)]);
    let serve = office.serve();
    let speech = office.speech(12 * SECOND);
    let calling = office.call(&["--audio", &speech]);
    let call_sid = serve.wait_for_event("WS_START")["call_sid"].as_str().unwrap().to_owned();
    serve.terminate();
    let (code, log) = serve.end();
    assert_eq!(code, Some(0));
    assert!(log.messages().any(|message| message == "drained"), "before its time was over");
    process::assert_in_order(&log.of_call(&call_sid), &["WS_START", "stream_ended 200"]);
    assert!(log.find(&call_sid, "WD_REDIRECTED").is_none());

    calling.wait_for("recording_status in-progress");
    let serve = office.serve();
    assert_eq!(ended(&calling.finish(), "recorded").call_sid, call_sid);
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));
}

#[test]
fn a_second_signal_ends_a_drain_at_once_and_says_so_by_the_exit_code() {
    for (first, second) in [("TERM", "TERM"), ("INT", "INT")] {
        // Longer than anybody here is ready to wait.
        let office = Office::new(&[("KOLBOX_CALLS__DRAIN", "10m")]);
        let serve = office.serve();
        let speech = office.speech(60 * SECOND);
        let _calling = office.call(&["--audio", &speech]);
        serve.wait_for_event("WS_START");
        serve.signal(first);
        serve.wait_for("the drain", |line| line["message"].as_str().is_some_and(|said| said.starts_with("draining")));
        serve.signal(second);
        let (code, log) = serve.end();
        assert_eq!(code, Some(1), "{second}");
        assert!(log.messages().any(|message| message == "stopped at once by a second signal"));
    }
}

#[test]
fn a_box_without_calls_does_not_wait_for_its_drain() {
    let office = Office::new(&[("KOLBOX_CALLS__DRAIN", "10m")]);
    for signal in ["TERM", "INT"] {
        let serve = office.serve();
        serve.signal(signal);
        assert_eq!(serve.end().0, Some(0), "{signal}");
    }
}
