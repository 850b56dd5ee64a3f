//! The account's recordings as Twilio's REST API lists them, and what it knows of the calls they belong to.
//!
//! `DateCreated>=` takes a day (GMT), no time of day: what is listed may be older than what is asked for. A page names
//! the next one by a path with a token, so that recordings that are made meanwhile shift nothing.

use std::{borrow::Cow, fmt};

use jiff::{Timestamp, fmt::rfc2822, tz::TimeZone};
use serde::Deserialize;

use super::{
    rest::{RestReply, RestRequest, listed_status},
    sid::{AccountSid, CallSid, RecordingSid},
    webhook::{CallStatus, Direction, RecordingStatus},
};
use crate::limits::RECORDINGS_PAGE;

/// A recording in the account's list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundRecording {
    pub recording_sid: RecordingSid,
    pub call_sid: CallSid,
    pub status: RecordingStatus,
    /// Whether a `<Record>` made it: not a conference, not a recorded `<Dial>`, not the API.
    pub is_message: bool,
    /// By Twilio's clock, in whole seconds.
    pub created_at: Timestamp,
}

/// Some of the account's recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordingsPage {
    /// Those whose identifiers, status or time we do not know are left out.
    pub recordings: Vec<FoundRecording>,
    /// Where the next ones are.
    pub next: Option<NextPage>,
}

/// Where the next page of a list is: a path below the list that the first one came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextPage(String);

/// What Twilio knows of a call that nobody here does.
#[derive(Clone, PartialEq, Eq)]
pub struct CallDetails {
    pub status: CallStatus,
    pub from: String,
    pub to: String,
    /// `None`: one that we do not know.
    pub direction: Option<Direction>,
    /// `None` while it rings, or where Twilio does not say.
    pub started_at: Option<Timestamp>,
    pub ended_at: Option<Timestamp>,
}

/// Without the numbers: they are for the record alone.
impl fmt::Debug for CallDetails {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallDetails").field("status", &self.status).finish_non_exhaustive()
    }
}

impl RestRequest {
    /// The account's recordings that were made on the day of `since` or later, the first of them: [`read_page`].
    pub fn list_recordings(account_sid: &AccountSid, since: Timestamp) -> Self {
        let day = since.to_zoned(TimeZone::UTC).date();
        Self::of_path(format!("{}PageSize={RECORDINGS_PAGE}&DateCreated%3E={day}", list_path(account_sid)))
    }

    /// The next ones.
    pub fn next_recordings(next: &NextPage) -> Self {
        Self::of_path(next.0.clone())
    }
}

fn list_path(account_sid: &AccountSid) -> String {
    format!("/2010-04-01/Accounts/{account_sid}/Recordings.json?")
}

/// The recordings in an answer; `None` where the answer is none of Twilio's.
pub fn read_page(account_sid: &AccountSid, reply: &RestReply) -> Option<RecordingsPage> {
    if !matches!(reply.status, 200..=299) {
        return None;
    }
    let page: PageBody<'_> = reply.json()?;
    let recordings = page.recordings.iter().filter_map(RecordingBody::read).collect();
    // Asked with our credentials, wherever it leads: so only to where the list is.
    let next = page.next_page_uri.filter(|uri| uri.starts_with(&list_path(account_sid)));
    Some(RecordingsPage { recordings, next: next.map(|uri| NextPage(uri.into_owned())) })
}

/// The call in an answer; likewise.
pub fn read_call_details(reply: &RestReply) -> Option<CallDetails> {
    if !matches!(reply.status, 200..=299) {
        return None;
    }
    let call: CallBody<'_> = reply.json()?;
    let text = |text: Option<Cow<'_, str>>| text.unwrap_or_default().into_owned();
    Some(CallDetails {
        status: CallStatus::parse(&call.status)?,
        from: text(call.from),
        to: text(call.to),
        direction: Direction::parse(&call.direction.unwrap_or_default()),
        started_at: call.start_time.as_deref().and_then(time),
        ended_at: call.end_time.as_deref().and_then(time),
    })
}

/// RFC 2822, as in `Sun, 22 Nov 2026 08:15:02 +0000`.
fn time(text: &str) -> Option<Timestamp> {
    rfc2822::DateTimeParser::new().parse_timestamp(text).ok()
}

#[derive(Deserialize)]
struct PageBody<'a> {
    #[serde(borrow)]
    recordings: Vec<RecordingBody<'a>>,
    #[serde(borrow, default)]
    next_page_uri: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct RecordingBody<'a> {
    #[serde(borrow)]
    sid: Cow<'a, str>,
    #[serde(borrow, default)]
    call_sid: Option<Cow<'a, str>>,
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    source: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    date_created: Option<Cow<'a, str>>,
}

impl RecordingBody<'_> {
    fn read(&self) -> Option<FoundRecording> {
        Some(FoundRecording {
            recording_sid: self.sid.parse().ok()?,
            call_sid: self.call_sid.as_deref()?.parse().ok()?,
            status: listed_status(&self.status)?,
            is_message: self.source.as_deref() == Some("RecordVerb"),
            created_at: time(self.date_created.as_deref()?)?,
        })
    }
}

#[derive(Deserialize)]
struct CallBody<'a> {
    #[serde(borrow)]
    status: Cow<'a, str>,
    #[serde(borrow, default)]
    from: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    to: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    direction: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    start_time: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    end_time: Option<Cow<'a, str>>,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn reply(status: u16, body: &str) -> RestReply {
        RestReply { status, retry_after: None, body: body.into() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn the_list_is_asked_for_from_a_day_on() {
        let account = AccountSid::from_number(1);
        let request = RestRequest::list_recordings(&account, at("2026-11-22T23:59:59Z"));
        let path = format!(
            "/2010-04-01/Accounts/{account}/Recordings.json?PageSize={RECORDINGS_PAGE}&DateCreated%3E=2026-11-22"
        );
        assert_eq!((request.method, request.path), ("GET", path));
    }

    #[test]
    fn a_page_is_read_with_what_can_be_used_and_leads_only_to_its_own_list() {
        let account = AccountSid::from_number(1);
        let (call, sid) = (CallSid::from_number(2), RecordingSid::from_number(3));
        let recording = |sid: &str, status: &str, source: &str, made: &str| {
            format!(
                r#"{{"sid":"{sid}","call_sid":"{call}","status":"{status}","source":"{source}","date_created":"{made}","duration":"4"}}"#
            )
        };
        let made = "Sun, 22 Nov 2026 08:15:02 +0000";
        let sid_text = sid.to_string();
        let list = [
            recording(&sid_text, "completed", "RecordVerb", made),
            recording(&sid_text, "processing", "DialVerb", made),
            recording("RE1", "completed", "RecordVerb", made),
            recording(&sid_text, "dreaming", "RecordVerb", made),
            recording(&sid_text, "completed", "RecordVerb", "yesterday"),
            format!(r#"{{"sid":"{sid_text}","call_sid":null,"status":"completed","source":"Conference"}}"#),
        ];
        let next = format!("/2010-04-01/Accounts/{account}/Recordings.json?PageSize=50&Page=1&PageToken=PARE3");
        let body = |next: &str| format!(r#"{{"page":0,"next_page_uri":"{next}","recordings":[{}]}}"#, list.join(","));
        let page = read_page(&account, &reply(200, &body(&next))).unwrap();
        let found = |status, is_message| FoundRecording {
            recording_sid: sid,
            call_sid: call,
            status,
            is_message,
            created_at: at("2026-11-22T08:15:02Z"),
        };
        assert_eq!(
            page.recordings,
            [found(RecordingStatus::Completed, true), found(RecordingStatus::InProgress, false)]
        );
        assert_eq!(RestRequest::next_recordings(&page.next.unwrap()).path, next);
        for elsewhere in ["https://elsewhere.example/", "/2010-04-01/Accounts/AC2/Recordings.json?Page=1"] {
            assert_eq!(read_page(&account, &reply(200, &body(elsewhere))).unwrap().next, None);
        }
        assert_eq!(read_page(&account, &reply(200, r#"{"recordings":[],"next_page_uri":null}"#)).unwrap().next, None);
        assert_eq!(read_page(&account, &reply(503, &body(&next))), None);
        assert_eq!(read_page(&account, &reply(200, "<html>")), None);
    }

    #[test]
    fn a_call_is_read_as_far_as_twilio_knows_it() {
        let body = r#"{"status":"completed","from":"+972501234567","to":"+97231234567","direction":"inbound",
            "start_time":"Sun, 22 Nov 2026 08:15:02 +0000","end_time":"Sun, 22 Nov 2026 08:15:43 +0000","price":"-0.0085"}"#;
        let facts = read_call_details(&reply(200, body)).unwrap();
        assert_eq!((facts.status, facts.direction), (CallStatus::Completed, Some(Direction::Inbound)));
        assert_eq!((facts.from.as_str(), facts.to.as_str()), ("+972501234567", "+97231234567"));
        assert_eq!(facts.ended_at, Some(at("2026-11-22T08:15:43Z")));
        let bare = read_call_details(&reply(200, r#"{"status":"ringing","start_time":null}"#)).unwrap();
        assert_eq!((bare.started_at, bare.to.as_str()), (None, ""));
        assert_eq!(read_call_details(&reply(404, body)), None);
        assert_eq!(read_call_details(&reply(200, r#"{"status":"dreaming"}"#)), None);
    }

    proptest! {
        #[test]
        fn any_answer_can_be_read(status in any::<u16>(), body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let answer = RestReply { status, retry_after: None, body };
            let _ = (read_page(&AccountSid::from_number(1), &answer), read_call_details(&answer));
        }
    }
}
