//! Records that are told by their number, so that what comes back from a store can be compared with what went in.

use std::{collections::BTreeMap, path::Path};

use jiff::{SignedDuration, Timestamp};
use kolbox::{
    transcripts::{Record, State, TranscriptId, read::read},
    twilio::sid::CallSid,
};
use serde_json::json;

const WORDS: &str = "שלום, רציתי לבקש שיחזרו אליי בקשר לתור של יום רביעי. ";
/// Each so many records is one that takes several stored values.
const LONG_EVERY: u64 = 40;

/// The record of this number, always the same.
pub fn record(number: u64) -> Record {
    let at = Timestamp::from_second(1_767_225_600 + i64::try_from(number).unwrap()).unwrap();
    let ended = at + SignedDuration::from_secs(41);
    let call_sid = u128::from(number);
    let times = if number.is_multiple_of(LONG_EVERY) { 400 } else { number % 29 };
    serde_json::from_value(json!({
        "id": TranscriptId::new(at, call_sid).to_string(), "version": 1,
        "call_sid": CallSid::from_number(call_sid).to_string(), "stream_sid": null, "recording_sid": null,
        "from": "+972501234567", "to": "+97231234567", "direction": "inbound",
        "source": "stream", "outcome": "transcribed",
        "started_at": format!("{at:.3}"), "ended_at": format!("{ended:.3}"), "duration_ms": 41_000,
        "language": "he", "engine": "none", "text": WORDS.repeat(usize::try_from(times).unwrap()), "segments": [],
        "fallback": {"reason": null, "redirected_at": null},
        "box": {"id": "01JD0000000000000000000000", "version": "0.1.0"},
    }))
    .unwrap()
}

/// The number of a record.
pub fn number(record: &Record) -> u64 {
    u64::from_str_radix(&record.call_sid.as_str()[2..], 16).unwrap()
}

/// All that a store holds, by number; every one is compared with what it must be.
#[track_caller]
pub fn held(directory: &Path) -> BTreeMap<u64, State> {
    let mut held = BTreeMap::new();
    for found in read(directory).unwrap() {
        let stored = found.unwrap();
        let number = number(&stored.record);
        assert_eq!(stored.record, record(number), "another value came back than went in");
        assert_eq!(held.insert(number, stored.state), None, "a call has two records");
    }
    held
}
