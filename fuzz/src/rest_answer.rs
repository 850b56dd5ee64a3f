//! Answers of Twilio's REST API: status, `Retry-After` and `Date` on a line each, then the body.

use std::{collections::BTreeMap, time::Duration};

use hyper::{
    HeaderMap,
    header::{DATE, HeaderName, HeaderValue, RETRY_AFTER},
};
use jiff::Timestamp;
use kolbox::{
    limits::LISTED_RECORDINGS_MAX,
    system::http_client,
    transcripts::outbox::Delivery,
    twilio::rest::{self, CallLookup, RestReply, UpdateOutcome},
};
use serde::de::IgnoredAny;

use super::text::first_line;

/// Our clock, where an answer has none: 22 November 2026.
const NOW_S: i64 = 1_795_334_400;

pub fn run(data: &[u8]) {
    let (status, rest) = first_line(data);
    let (retry_after, rest) = first_line(rest);
    let (date, body) = first_line(rest);
    let status = std::str::from_utf8(status).ok().and_then(|text| text.parse().ok()).unwrap_or(200);
    let retry_after = check_retry_after(retry_after, date);
    let reply = RestReply { status, retry_after, body: body.to_vec() };
    let is_object = serde_json::from_slice::<BTreeMap<String, IgnoredAny>>(body).is_ok();
    let code = reply.error_code();
    assert!(code == 0 || is_object, "a code in what is no object");
    let answer = Ok(reply);

    let update = rest::read_update(&answer);
    assert_eq!(update == UpdateOutcome::Accepted, is_success(status) && is_object);
    match update {
        UpdateOutcome::CallOver => assert!(code == 21220 && !is_success(status)),
        UpdateOutcome::Throttled { retry_after: told } => assert_eq!(told, retry_after),
        UpdateOutcome::Refused { code: told } => assert!(told == code && (400..500).contains(&status)),
        _ => {}
    }
    if let Ok(recordings) = rest::read_recordings(&answer) {
        assert!(is_success(status) && is_object && recordings.len() <= LISTED_RECORDINGS_MAX);
    }
    let (call, recording) = (rest::read_call(&answer), rest::read_recording(&answer));
    assert!(is_success(status) && is_object || call.is_err() && recording.is_err());
    assert!(!matches!(call, Err(CallLookup::Found { .. })) && !matches!(recording, Err(CallLookup::Found { .. })));

    let delivery = Delivery::of_status(status, retry_after);
    assert_eq!(matches!(delivery, Delivery::Acknowledged), is_success(status) || status == 409);
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Seconds are taken as they stand; of a date no more than it is away; of anything else nothing.
fn check_retry_after(retry_after: &[u8], date: &[u8]) -> Option<Duration> {
    let mut headers = HeaderMap::new();
    add(&mut headers, RETRY_AFTER, retry_after);
    add(&mut headers, DATE, date);
    let now = Timestamp::from_second(NOW_S).expect("a time");
    let asked = http_client::retry_after(&headers, || now);
    let text = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()).map(str::trim);
    match text.map(str::parse) {
        Some(Ok(seconds)) => assert_eq!(asked, Some(Duration::from_secs(seconds))),
        // From the year 1 to 9999: what a date can be away.
        Some(Err(_)) => assert!(asked.is_none_or(|asked| asked < Duration::from_secs(20_000 * 366 * 86_400))),
        None => assert_eq!(asked, None),
    }
    asked
}

fn add(headers: &mut HeaderMap, name: HeaderName, value: &[u8]) {
    if let Ok(value) = HeaderValue::from_bytes(value)
        && !value.is_empty()
    {
        headers.insert(name, value);
    }
}
