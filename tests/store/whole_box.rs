//! The whole program on a disk that is full, or read-only: callers go to the recorder, staff are told, and it goes on by
//! itself.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpStream,
    path::Path,
    time::{Duration, Instant},
};

use kolbox::transcripts::read::read;
use serde_json::Value;

use super::{
    disk::disk_or_skip,
    process::{Office, PATIENCE, Serve},
    times,
};

const DISK_MEGABYTES: u64 = 64;
/// An idle box looks at its disk once a minute.
const NOTICED_MAX: Duration = PATIENCE.saturating_mul(3);

/// Those of the store.
fn troubles(status: &Value) -> Vec<&str> {
    let codes = status["trouble"].as_array().unwrap().iter().map(|trouble| trouble["code"].as_str().unwrap());
    codes.filter(|code| code.starts_with("store_")).collect()
}

/// Follows what staff see until it has these troubles of the store, and no others.
#[track_caller]
fn wait_for_troubles(office: &Office, codes: &[&str]) {
    let mut connection = TcpStream::connect(office.status).unwrap();
    connection.set_read_timeout(Some(NOTICED_MAX)).unwrap();
    write!(connection, "GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", office.status).unwrap();
    let until = Instant::now() + NOTICED_MAX;
    let mut status = Value::Null;
    for line in BufReader::new(connection).lines().map_while(Result::ok) {
        if let Some(data) = line.strip_prefix("data:") {
            status = serde_json::from_str(data).unwrap();
            if troubles(&status) == codes {
                return;
            }
        }
        // What only keeps the connection alive comes for ever.
        assert!(Instant::now() < until, "waited in vain for {codes:?}: {status:#}");
    }
    panic!("the status went away while {codes:?} was waited for");
}

#[track_caller]
fn call(office: &Office, speech: &str, outcome: &str) -> String {
    let finished = office.call(&["--audio", speech]).finish();
    let call = finished.call();
    assert_eq!((finished.code, call.outcome.as_str()), (Some(0), outcome), "{}", finished.out);
    call.call_sid
}

/// A call that is streamed, and whose record is safe.
#[track_caller]
fn streamed(office: &Office, serve: &Serve, speech: &str) -> String {
    let call_sid = call(office, speech, "streamed");
    serve.wait_for("its record is kept", |line| {
        line["event"] == "TRANSCRIPT_STORED" && line["call_sid"] == call_sid.as_str()
    });
    call_sid
}

/// The calls that have a record: drafts too, whose recordings went away with the Twilio of their call.
fn kept(directory: &Path) -> Vec<String> {
    let mut kept: Vec<_> = read(directory).unwrap().map(|record| record.unwrap().record.call_sid.to_string()).collect();
    kept.sort();
    kept
}

#[test]
fn calls_go_on_while_the_disk_is_full_or_read_only_and_no_record_is_lost() {
    for _ in 0..times(1, 5) {
        let office = Office::new(&[]);
        let directory = office.folder().join("store");
        fs::create_dir(&directory).unwrap();
        let Some(disk) = disk_or_skip("fullbox", DISK_MEGABYTES, &directory) else { return };
        let speech = office.speech(Duration::from_secs(1));
        let mut calls = Vec::new();

        let serve = office.serve();
        calls.push(streamed(&office, &serve, &speech));
        disk.fill();
        wait_for_troubles(&office, &["store_disk_full"]);
        calls.push(call(&office, &speech, "recorded"));
        disk.free();
        wait_for_troubles(&office, &[]);
        calls.push(streamed(&office, &serve, &speech));
        serve.kill();

        // A start on a disk without a byte, and not even the ballast.
        disk.fill();
        let _ = fs::remove_file(directory.join("ballast"));
        disk.fill();
        let serve = office.serve();
        wait_for_troubles(&office, &["store_disk_full"]);
        calls.push(call(&office, &speech, "recorded"));
        disk.free();
        wait_for_troubles(&office, &[]);
        calls.push(streamed(&office, &serve, &speech));
        serve.kill();

        // A card that is worn out.
        disk.set_read_only(true);
        let serve = office.serve();
        wait_for_troubles(&office, &["store_not_writable"]);
        calls.push(call(&office, &speech, "recorded"));
        disk.set_read_only(false);
        wait_for_troubles(&office, &[]);
        calls.push(streamed(&office, &serve, &speech));
        serve.terminate();
        assert_eq!(serve.end().0, Some(0));

        calls.sort();
        assert_eq!(kept(&directory), calls, "one record a call");
    }
}
