//! SIGKILL of the whole program under load, again and again: no kept record is lost, none is sent again after its
//! acknowledgement was noted, and their order holds.
//!
//! `KOLBOX_KILLS=200 cargo test --release --locked --test acceptance_kill` for the long form.

use std::{
    collections::BTreeSet,
    env,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use fastrand::Rng;
use kolbox::{
    simulator::{
        caller::Caller,
        faults::Faults,
        forms::Parties,
        plan::{Number, Plan, Timing},
        rest,
        twilio::Twilio,
        upstream::Upstream,
    },
    system::http_client::Roots,
    twilio::sid::CallSid,
};
use process::{ACCOUNT_SID, AUTH_TOKEN, Log, Office, PATIENCE};
use serde_json::Value;

#[path = "support/process.rs"]
mod process;

const KILLS: u64 = 10;
const SEED: u64 = 5;
/// Calls that are placed in each life.
const CALLS: usize = 8;
/// The box dies just after one of these; each comes as often in every life as calls are placed.
const MOMENTS: [&str; 5] = ["CALL_ANSWERED", "WS_START", "CALL_ENDED", "TRANSCRIPT_STORED", "TRANSCRIPT_SYNCED"];

fn plan(office: &Office, number: u128, speech_ms: usize) -> Plan {
    let public = office.public;
    Plan {
        parties: Parties {
            account_sid: ACCOUNT_SID.parse().unwrap(),
            call_sid: CallSid::from_number(number),
            from: "+972501234567".into(),
            to: "+97235550100".into(),
        },
        number: Number {
            voice_url: format!("https://{public}/webhook/incoming_call"),
            fallback_url: None,
            status_callback: Some(format!("https://{public}/webhook/call_status")),
            connect_action_after_hang_up: true,
            silent_record_calls_action: false,
        },
        caller: Caller {
            speech: (0..8 * speech_ms).map(|nth| if nth % 16 < 8 { 0x10 } else { 0x90 }).collect(),
            leaves_after_saying: Some(Duration::from_millis(100)),
            leaves_after: Duration::from_secs(30),
            patience: Duration::from_secs(20),
        },
        faults: Faults::default(),
        timing: Timing { recording_late: Duration::from_millis(100), ..Timing::default() },
        placed_at: jiff::Timestamp::now(),
    }
}

/// What was seen of all lives.
#[derive(Default)]
struct Seen {
    /// Records that were reported as stored, in that order.
    stored: Vec<String>,
    /// Records whose acknowledgement was reported as noted.
    synced: BTreeSet<String>,
    /// Calls whose last status callback was answered with 204.
    acknowledged: BTreeSet<String>,
    /// How many requests the upstream had seen when a life was over, and what was noted by then.
    noted_then: Vec<(usize, BTreeSet<String>)>,
}

impl Seen {
    fn add(&mut self, log: &Log) {
        let ids = |event| log.events(event).map(|line| line["transcript_id"].as_str().unwrap().to_owned());
        self.stored.extend(ids("TRANSCRIPT_STORED"));
        self.synced.extend(ids("TRANSCRIPT_SYNCED"));
        for ended in log.events("CALL_ENDED") {
            let call_sid = ended["call_sid"].as_str().unwrap();
            if log
                .of_call(call_sid)
                .iter()
                .skip_while(|event| *event != "CALL_ENDED")
                .any(|event| event == "call_status 204")
            {
                self.acknowledged.insert(call_sid.to_owned());
            }
        }
    }
}

/// Waits until the box has neither a call nor a record that waits.
fn wait_for_rest(status: SocketAddr) {
    let mut stream = TcpStream::connect(status).unwrap();
    stream.set_read_timeout(Some(2 * PATIENCE)).unwrap();
    write!(stream, "GET /api/events HTTP/1.1\r\nHost: {status}\r\n\r\n").unwrap();
    let settled = |now: &Value| {
        let waiting = |key: &str| now["transcripts"][key] != 0;
        now["calls"]["list"].as_array().is_some_and(Vec::is_empty)
            && !waiting("unsynced")
            && !waiting("awaiting_recording")
    };
    for line in BufReader::new(stream).lines() {
        let line = line.expect("the box tells how it stands until nothing waits");
        if let Some(data) = line.strip_prefix("data:")
            && serde_json::from_str(data).is_ok_and(|now: Value| settled(&now))
        {
            return;
        }
    }
    panic!("the box stopped telling how it stands");
}

#[test]
fn nothing_kept_is_lost_nothing_noted_is_sent_again_and_the_order_holds() {
    let kills = env::var("KOLBOX_KILLS").map_or(KILLS, |text| text.parse().expect("KOLBOX_KILLS is a number"));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let upstream = runtime.block_on(Upstream::serve(SocketAddr::from(([127, 0, 0, 1], 0)), "hunter2")).unwrap();
    let office = Office::new(&[
        ("KOLBOX_SYNC__URL", &format!("http://{}/transcripts", upstream.address())),
        ("KOLBOX_SYNC__TOKEN", "hunter2"),
        ("KOLBOX_SYNC__RETRY_MAX", "1s"),
    ]);
    let twilio = Twilio::new(ACCOUNT_SID.parse().unwrap(), AUTH_TOKEN, &Roots::Insecure, None).unwrap();
    let _rest = runtime.block_on(rest::serve(office.rest, twilio.clone())).unwrap();

    let (mut rng, mut seen, mut calls) = (Rng::with_seed(SEED), Seen::default(), 0_u128);
    for life in 0..kills {
        let serve = office.serve();
        for _ in 0..CALLS {
            calls += 1;
            let (twilio, plan) = (twilio.clone(), plan(&office, calls, rng.usize(200..1_500)));
            runtime.spawn(async move { twilio.call(plan).await });
        }
        let (moment, nth) = (MOMENTS[rng.usize(..MOMENTS.len())], rng.usize(1..CALLS));
        serve.wait_for_many(&format!("{moment} number {nth} of life {life}"), nth, |line| line["event"] == moment);
        let log = serve.kill_and_read();
        seen.add(&log);
        seen.noted_then.push((upstream.arrivals().len(), seen.synced.clone()));
    }
    let serve = office.serve();
    wait_for_rest(office.status);
    serve.terminate();
    let (code, log) = serve.end();
    assert_eq!(code, Some(0));
    seen.add(&log);

    let arrivals = upstream.arrivals();
    for (from, noted) in &seen.noted_then {
        let again: Vec<_> = arrivals[*from..].iter().filter(|key| noted.contains(*key)).collect();
        assert!(again.is_empty(), "sent again after a noted acknowledgement: {again:?}");
    }
    let records = office.transcripts();
    let text = |record: &Value, key: &str| record[key].as_str().unwrap().to_owned();
    let first: Vec<String> = upstream.transcripts().into_iter().map(|transcript| transcript.key).collect();
    let kept: Vec<String> = records.iter().map(|record| text(record, "id")).collect();
    assert_eq!(first, kept, "every record arrived, in the order in which they became final");
    let reported: Vec<&String> = kept.iter().filter(|id| seen.stored.contains(id)).collect();
    assert_eq!(reported, seen.stored.iter().collect::<Vec<_>>(), "none that was reported as stored is lost");
    let with_record: BTreeSet<String> = records.iter().map(|record| text(record, "call_sid")).collect();
    assert_eq!(with_record.len(), records.len(), "one record a call");
    let lost: Vec<_> = seen.acknowledged.difference(&with_record).collect();
    assert!(lost.is_empty(), "Twilio was told that these are kept: {lost:?}");
    println!(
        "{kills} kills, {calls} calls: {} records, {} reported as stored before a kill or the end, {} ends acknowledged, \
         {} requests at the upstream",
        records.len(),
        seen.stored.len(),
        seen.acknowledged.len(),
        arrivals.len()
    );
}
