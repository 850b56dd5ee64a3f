//! Twilio's REST API as values: requests to send, answers read. No sockets here.

use std::{fmt, time::Duration};

use serde::Deserialize;

use super::{
    sid::{AccountSid, CallSid, RecordingSid},
    webhook::{CallStatus, RecordingStatus},
};
use crate::limits::LISTED_RECORDINGS_MAX;

/// Error codes that decide what a watchdog does next (docs: Errors and warnings dictionary).
mod code {
    pub const UNAUTHORIZED: u32 = 20003;
    pub const NOT_FOUND: u32 = 20404;
    pub const TOO_MANY_REQUESTS: u32 = 20429;
    pub const CALL_NOT_IN_PROGRESS: u32 = 21220;
}

/// What became of a redirect (`POST Calls/{CallSid}.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// 2xx: Twilio runs the new document.
    Accepted,
    /// 21220: the call is not in progress any more.
    CallOver,
    /// 404 (20404): wrong account or region, or no such call.
    NotFound,
    /// 401 (20003), 403: credentials.
    Unauthorized,
    /// 429 (20429), with `Retry-After` if one was sent: not processed.
    Throttled { retry_after: Option<Duration> },
    /// Another 5xx, not JSON, or no connection: surely or probably not applied.
    Unavailable,
    /// No answer in time, 502 or 504: it may have been applied.
    TimedOut,
    /// Any other 4xx, with Twilio's error code (0 if none): repeating it will not help.
    Refused { code: u32 },
}

impl UpdateOutcome {
    /// Whether Twilio itself said that it did not carry the update out.
    pub fn is_refusal(self) -> bool {
        matches!(self, Self::NotFound | Self::Unauthorized | Self::Throttled { .. } | Self::Refused { .. })
    }
}

/// What Twilio knows of a call (`GET Calls/{CallSid}.json`, and its recordings if asked for).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallLookup {
    Found {
        status: CallStatus,
        has_recording: bool,
    },
    NotFound,
    Unauthorized,
    /// No usable answer: ask again.
    Unavailable,
}

/// What kind of body an answer has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Want {
    /// A small JSON object, or nothing.
    Json,
    /// A recording's audio.
    Audio,
}

/// A request to `{api_base}`, Basic auth to be added by whoever sends it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestRequest {
    pub method: &'static str,
    /// Path and query, from `/2010-04-01` on.
    pub path: String,
    /// Decoded fields of an `application/x-www-form-urlencoded` body.
    pub form: Option<Vec<(String, String)>>,
    pub want: Want,
}

impl RestRequest {
    /// A live call runs this document instead of what it runs now (docs: Call resource, "Update a Call").
    /// `twiml` has at most 4000 characters and absolute URLs only.
    pub fn redirect(account_sid: &AccountSid, call_sid: &CallSid, twiml: String) -> Self {
        Self::post(account_sid, format_args!("Calls/{call_sid}.json"), ("Twiml", twiml))
    }

    /// A queued, ringing or live call ends.
    pub fn end_call(account_sid: &AccountSid, call_sid: &CallSid) -> Self {
        Self::post(account_sid, format_args!("Calls/{call_sid}.json"), ("Status", "completed".to_owned()))
    }

    /// What Twilio knows of a call: [`read_call`].
    pub fn fetch_call(account_sid: &AccountSid, call_sid: &CallSid) -> Self {
        Self::get(account_sid, format_args!("Calls/{call_sid}.json"))
    }

    /// The recordings of a call, newest first: [`read_recordings`].
    pub fn list_call_recordings(account_sid: &AccountSid, call_sid: &CallSid) -> Self {
        Self::get(account_sid, format_args!("Calls/{call_sid}/Recordings.json?PageSize={LISTED_RECORDINGS_MAX}"))
    }

    /// What Twilio knows of a recording: [`read_recording`].
    pub fn fetch_recording(account_sid: &AccountSid, recording_sid: &RecordingSid) -> Self {
        Self::get(account_sid, format_args!("Recordings/{recording_sid}.json"))
    }

    /// A recording's audio: WAV, 8 kHz, 16 bit, mono; 404 until Twilio has finished it (docs: Recordings resource).
    /// The URL is built from the identifier and never taken from a webhook, so that credentials go nowhere else.
    pub fn recording_media(account_sid: &AccountSid, recording_sid: &RecordingSid) -> Self {
        Self { want: Want::Audio, ..Self::get(account_sid, format_args!("Recordings/{recording_sid}.wav")) }
    }

    /// Twilio forgets a recording's audio; 204.
    pub fn delete_recording(account_sid: &AccountSid, recording_sid: &RecordingSid) -> Self {
        Self { method: "DELETE", ..Self::fetch_recording(account_sid, recording_sid) }
    }

    fn get(account_sid: &AccountSid, resource: fmt::Arguments<'_>) -> Self {
        Self::of_path(format!("/2010-04-01/Accounts/{account_sid}/{resource}"))
    }

    pub(super) fn of_path(path: String) -> Self {
        Self { method: "GET", path, form: None, want: Want::Json }
    }

    fn post(account_sid: &AccountSid, resource: fmt::Arguments<'_>, (name, value): (&str, String)) -> Self {
        let form = Some(vec![(name.to_owned(), value)]);
        Self { method: "POST", form, ..Self::get(account_sid, resource) }
    }
}

/// An answer, whatever its status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestReply {
    pub status: u16,
    /// From the header `Retry-After`.
    pub retry_after: Option<Duration>,
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestFailure {
    /// No connection or no TLS: the request was never sent.
    Connect,
    /// No whole answer in time: it may have been carried out.
    TimedOut,
    /// The connection broke after the request was sent: it may have been carried out.
    Broken,
    /// The answer is longer than the limit: it may have been carried out.
    TooLarge,
}

impl fmt::Display for RestFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Connect => "no connection",
            Self::TimedOut => "no answer in time",
            Self::Broken => "the connection broke before the whole answer was there",
            Self::TooLarge => "the answer is too long",
        })
    }
}

impl std::error::Error for RestFailure {}

/// A recording as Twilio lists it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedRecording {
    pub recording_sid: RecordingSid,
    /// `InProgress` also while it is paused, stopped or processed: the audio is not there yet. `Absent` also when deleted.
    pub status: RecordingStatus,
    /// Unknown until the recording is finished.
    pub duration_s: Option<u32>,
}

/// What became of a redirect. Twilio's error code counts before the HTTP status: only the codes are documented.
pub fn read_update(answer: &Result<RestReply, RestFailure>) -> UpdateOutcome {
    let reply = match answer {
        Ok(reply) => reply,
        Err(RestFailure::Connect) => return UpdateOutcome::Unavailable,
        Err(RestFailure::TimedOut | RestFailure::Broken | RestFailure::TooLarge) => return UpdateOutcome::TimedOut,
    };
    if let 200..=299 = reply.status {
        // Twilio answers with the call; a page of a portal on the way is not Twilio's yes.
        return if reply.json::<AnyObject>().is_some() { UpdateOutcome::Accepted } else { UpdateOutcome::Unavailable };
    }
    let code = reply.error_code();
    match (code, reply.status) {
        (code::CALL_NOT_IN_PROGRESS, _) => UpdateOutcome::CallOver,
        (code::NOT_FOUND, _) => UpdateOutcome::NotFound,
        (code::UNAUTHORIZED, _) => UpdateOutcome::Unauthorized,
        (code::TOO_MANY_REQUESTS, _) | (_, 429) => UpdateOutcome::Throttled { retry_after: reply.retry_after },
        (_, 401 | 403) => UpdateOutcome::Unauthorized,
        (_, 404) => UpdateOutcome::NotFound,
        // A time-out on the way, not a judgement on the document.
        (_, 408) => UpdateOutcome::Unavailable,
        (code, 400..=499) => UpdateOutcome::Refused { code },
        // A gateway on the way gave up waiting, or lost the answer: it may have been applied.
        (_, 502 | 504) => UpdateOutcome::TimedOut,
        _ => UpdateOutcome::Unavailable,
    }
}

/// Where a call stands.
///
/// # Errors
/// Any [`CallLookup`] but `Found`; a status that we do not know is `Unavailable`.
pub fn read_call(answer: &Result<RestReply, RestFailure>) -> Result<CallStatus, CallLookup> {
    let call: CallBody<'_> = read(answer)?;
    CallStatus::parse(&call.status).ok_or(CallLookup::Unavailable)
}

/// The recordings of a call; those whose identifier or status we do not know are left out.
///
/// # Errors
/// Any [`CallLookup`] but `Found`.
pub fn read_recordings(answer: &Result<RestReply, RestFailure>) -> Result<Vec<ListedRecording>, CallLookup> {
    let list: RecordingsBody<'_> = read(answer)?;
    Ok(list.recordings.iter().filter_map(RecordingBody::read).take(LISTED_RECORDINGS_MAX).collect())
}

/// One recording.
///
/// # Errors
/// Any [`CallLookup`] but `Found`; here they are about the recording.
pub fn read_recording(answer: &Result<RestReply, RestFailure>) -> Result<ListedRecording, CallLookup> {
    let recording: RecordingBody<'_> = read(answer)?;
    recording.read().ok_or(CallLookup::Unavailable)
}

fn read<'a, T: Deserialize<'a>>(answer: &'a Result<RestReply, RestFailure>) -> Result<T, CallLookup> {
    let reply = answer.as_ref().map_err(|_| CallLookup::Unavailable)?;
    if let 200..=299 = reply.status {
        return reply.json().ok_or(CallLookup::Unavailable);
    }
    Err(match (reply.error_code(), reply.status) {
        (code::NOT_FOUND, _) => CallLookup::NotFound,
        (code::UNAUTHORIZED, _) => CallLookup::Unauthorized,
        (code::TOO_MANY_REQUESTS, _) => CallLookup::Unavailable,
        (_, 401 | 403) => CallLookup::Unauthorized,
        (_, 404) => CallLookup::NotFound,
        _ => CallLookup::Unavailable,
    })
}

impl RestReply {
    /// Twilio's error code; 0 where there is none.
    pub fn error_code(&self) -> u32 {
        self.json::<ErrorBody>().map_or(0, |error| error.code)
    }

    /// The body as an object of this shape. (serde would also take an array for a struct, field by field.)
    pub(super) fn json<'a, T: Deserialize<'a>>(&'a self) -> Option<T> {
        let first = self.body.iter().find(|byte| !b" \t\n\r".contains(byte));
        (first == Some(&b'{')).then(|| serde_json::from_slice(&self.body).ok()).flatten()
    }
}

/// `{"code":21220,"message":"…","more_info":"…","status":400}`
#[derive(Deserialize)]
struct ErrorBody {
    #[serde(default)]
    code: u32,
}

#[derive(Deserialize)]
struct AnyObject {}

#[derive(Deserialize)]
struct CallBody<'a> {
    #[serde(borrow)]
    status: std::borrow::Cow<'a, str>,
}

#[derive(Deserialize)]
struct RecordingsBody<'a> {
    #[serde(borrow)]
    recordings: Vec<RecordingBody<'a>>,
}

#[derive(Deserialize)]
struct RecordingBody<'a> {
    #[serde(borrow)]
    sid: std::borrow::Cow<'a, str>,
    #[serde(borrow)]
    status: std::borrow::Cow<'a, str>,
    /// A string of whole seconds; `null` or `-1` while it is not known.
    duration: Option<serde_json::Value>,
}

/// A recording's `status` in a list, which has more words than a status callback.
pub(super) fn listed_status(word: &str) -> Option<RecordingStatus> {
    match word {
        "paused" | "stopped" | "processing" => Some(RecordingStatus::InProgress),
        "deleted" => Some(RecordingStatus::Absent),
        word => RecordingStatus::parse(word),
    }
}

impl RecordingBody<'_> {
    fn read(&self) -> Option<ListedRecording> {
        let status = listed_status(&self.status)?;
        let duration_s = self.duration.as_ref().and_then(|value| match value {
            serde_json::Value::String(text) => text.parse().ok(),
            number => number.as_u64().and_then(|seconds| u32::try_from(seconds).ok()),
        });
        Some(ListedRecording { recording_sid: self.sid.parse().ok()?, status, duration_s })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(status: u16, body: &str) -> Result<RestReply, RestFailure> {
        Ok(RestReply { status, retry_after: None, body: body.into() })
    }

    #[test]
    fn requests_have_the_documented_paths_and_fields() {
        let account = AccountSid::from_number(0xa);
        let call = CallSid::from_number(0xb);
        let recording = RecordingSid::from_number(0xc);
        let at = |rest: &str| format!("/2010-04-01/Accounts/{account}/{rest}");

        let redirect = RestRequest::redirect(&account, &call, "<Response/>".into());
        assert_eq!((redirect.method, redirect.want), ("POST", Want::Json));
        assert_eq!(redirect.path, at(&format!("Calls/{call}.json")));
        assert_eq!(redirect.form, Some(vec![("Twiml".into(), "<Response/>".into())]));

        let end = RestRequest::end_call(&account, &call);
        assert_eq!(end.form, Some(vec![("Status".into(), "completed".into())]));

        let fetch = RestRequest::fetch_call(&account, &call);
        assert_eq!((fetch.method, fetch.path, fetch.form), ("GET", redirect.path, None));

        let list = RestRequest::list_call_recordings(&account, &call);
        assert_eq!(list.path, at(&format!("Calls/{call}/Recordings.json?PageSize=20")));

        let metadata = RestRequest::fetch_recording(&account, &recording);
        let media = RestRequest::recording_media(&account, &recording);
        let delete = RestRequest::delete_recording(&account, &recording);
        assert_eq!(metadata.path, at(&format!("Recordings/{recording}.json")));
        assert_eq!((media.path, media.want), (at(&format!("Recordings/{recording}.wav")), Want::Audio));
        assert_eq!((delete.method, delete.path), ("DELETE", metadata.path));
    }

    #[test]
    fn an_update_is_judged_by_code_first_and_then_by_status() {
        use UpdateOutcome::*;
        let table = [
            (200, r#"{"sid":"CA1","status":"in-progress"}"#, Accepted),
            (200, " {}", Accepted),
            (200, "<html>log in to the guest network</html>", Unavailable),
            (200, "[]", Unavailable),
            (302, "", Unavailable),
            (400, r#"{"code":21220,"message":"Call is not in-progress. Cannot redirect.","status":400}"#, CallOver),
            (500, r#"{"code":21220}"#, CallOver),
            (400, r#"{"code":15004,"status":400}"#, Refused { code: 15004 }),
            (400, r#"{"code":32018}"#, Refused { code: 32018 }),
            (400, "", Refused { code: 0 }),
            (422, r#"{"code":null}"#, Refused { code: 0 }),
            (401, r#"{"code":20003}"#, Unauthorized),
            (403, r#"{"code":20006}"#, Unauthorized),
            (404, r#"{"code":20404}"#, NotFound),
            (404, "not here", NotFound),
            (408, "", Unavailable),
            (429, r#"{"code":20429}"#, Throttled { retry_after: None }),
            (429, "slow down", Throttled { retry_after: None }),
            (502, "<html>", TimedOut),
            (503, r#"{"code":20503}"#, Unavailable),
        ];
        for (status, body, expected) in table {
            assert_eq!(read_update(&reply(status, body)), expected, "{status} {body}");
        }
    }

    #[test]
    fn an_update_without_an_answer_may_have_been_applied_unless_it_was_never_sent() {
        assert_eq!(read_update(&Err(RestFailure::Connect)), UpdateOutcome::Unavailable);
        for failure in [RestFailure::TimedOut, RestFailure::Broken, RestFailure::TooLarge] {
            assert_eq!(read_update(&Err(failure)), UpdateOutcome::TimedOut);
        }
    }

    #[test]
    fn throttling_keeps_the_time_that_twilio_named() {
        let retry_after = Some(Duration::from_secs(7));
        let answer = Ok(RestReply { status: 429, retry_after, body: Vec::new() });
        assert_eq!(read_update(&answer), UpdateOutcome::Throttled { retry_after });
    }

    #[test]
    fn a_lookup_gives_the_status_or_says_why_not() {
        assert_eq!(read_call(&reply(200, r#"{"status":"no-answer","price":null}"#)), Ok(CallStatus::NoAnswer));
        assert_eq!(read_call(&reply(200, r#"{"status":"dreaming"}"#)), Err(CallLookup::Unavailable));
        assert_eq!(read_call(&reply(404, r#"{"code":20404}"#)), Err(CallLookup::NotFound));
        assert_eq!(read_call(&reply(401, "")), Err(CallLookup::Unauthorized));
        assert_eq!(read_call(&reply(429, "")), Err(CallLookup::Unavailable));
        assert_eq!(read_call(&Err(RestFailure::TimedOut)), Err(CallLookup::Unavailable));
    }

    #[test]
    fn listed_recordings_are_read_and_unusable_ones_left_out() {
        let sid = |number| RecordingSid::from_number(number);
        let body = format!(
            r#"{{"page":0,"recordings":[
                {{"sid":"{}","status":"completed","duration":"12"}},
                {{"sid":"{}","status":"processing","duration":null}},
                {{"sid":"{}","status":"deleted","duration":"-1"}},
                {{"sid":"{}","status":"levitating"}},
                {{"sid":"RE1","status":"completed"}}]}}"#,
            sid(1),
            sid(2),
            sid(3),
            sid(4),
        );
        let listed = |number, status, duration_s| ListedRecording { recording_sid: sid(number), status, duration_s };
        assert_eq!(
            read_recordings(&reply(200, &body)),
            Ok(vec![
                listed(1, RecordingStatus::Completed, Some(12)),
                listed(2, RecordingStatus::InProgress, None),
                listed(3, RecordingStatus::Absent, None),
            ])
        );
        assert_eq!(read_recordings(&reply(200, r#"{"recordings":[]}"#)), Ok(vec![]));
        assert_eq!(read_recordings(&reply(200, "{}")), Err(CallLookup::Unavailable));
    }

    #[test]
    fn one_recording_is_read_alone() {
        let body = format!(r#"{{"sid":"{}","status":"completed","duration":3}}"#, RecordingSid::from_number(9));
        let recording = read_recording(&reply(200, &body)).unwrap();
        assert_eq!((recording.status, recording.duration_s), (RecordingStatus::Completed, Some(3)));
    }

    proptest! {
        #[test]
        fn any_answer_can_be_read(status in any::<u16>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let answer = Ok(RestReply { status, retry_after: None, body });
            let _ = (read_update(&answer), read_call(&answer), read_recordings(&answer), read_recording(&answer));
        }
    }
}
