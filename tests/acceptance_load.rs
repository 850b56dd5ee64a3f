//! A full box, and many calls that fail at once.

use std::{collections::BTreeSet, time::Duration};

use kolbox::limits::CALLS_MAX;
use process::{Finished, Office, Serve};
use serde_json::Value;

#[path = "support/process.rs"]
mod process;

/// The records that are left once the gateway has ended in peace.
fn records(office: &Office, serve: Serve, finished: &Finished, count: usize) -> Vec<Value> {
    assert_eq!(finished.code, Some(0), "{}", finished.out);
    serve.wait_for_transcripts(count);
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));
    let records = office.transcripts();
    let called: BTreeSet<_> = finished.calls().into_iter().map(|call| call.call_sid).collect();
    let kept: BTreeSet<_> = records.iter().map(|record| record["call_sid"].as_str().unwrap().to_owned()).collect();
    assert_eq!((called.len(), records.len(), &kept), (count, count, &called), "one record a call");
    records
}

#[test]
fn as_many_calls_as_there_are_places_stream_and_the_next_one_meets_the_recorder() {
    let office = Office::new(&[]);
    let serve = office.serve();
    let speech = office.speech(Duration::from_secs(6));
    let calls = CALLS_MAX + 1;
    let finished = office.call(&["--calls", &calls.to_string(), "--audio", &speech]).finish();
    let told = format!("{calls} calls: {CALLS_MAX} streamed, 1 recorded, 0 without message, 0 LOST");
    assert!(finished.out.contains(&told), "{}", finished.out);

    let records = records(&office, serve, &finished, calls);
    let refused: Vec<&Value> = records.iter().filter(|record| record["source"] == "recording").collect();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0]["fallback"]["reason"], "no_capacity");
    assert!(records.iter().all(|record| record == refused[0] || record["fallback"]["reason"].is_null()));
}

#[test]
fn thirty_calls_whose_streams_never_start_are_all_redirected_and_recorded() {
    let office = Office::new(&[("KOLBOX_WATCHDOG__START_TIMEOUT", "1s")]);
    let serve = office.serve();
    let speech = office.speech(Duration::from_secs(2));
    let finished = office.call(&["--calls", "30", "--fault", "no-stream", "--audio", &speech]).finish();
    let told = "30 calls: 0 streamed, 30 recorded, 0 without message, 0 LOST; 30 REST updates";
    assert!(finished.out.contains(told), "{}", finished.out);
    // How late they are is for people to judge: this machine may be busy with something else.
    println!("{}", finished.out.lines().find(|line| line.starts_with("redirect after the answer")).unwrap());

    let records = records(&office, serve, &finished, 30);
    assert!(records.iter().all(|record| record["fallback"]["reason"] == "no_stream_start"));
    assert!(records.iter().all(|record| record["recording_sid"].is_string()));
}
