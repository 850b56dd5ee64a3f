//! Webhook forms: bodies and queries to values, order and duplicates kept for the signature.

use std::{fmt, iter};

use super::sid::{AccountSid, CallSid, RecordingSid, StreamSid};
use crate::limits::FORM_PAIRS_MAX;

/// Declares an enum of words that Twilio writes, with both ways of reading one.
macro_rules! words {
    ($name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        impl $name {
            /// The value that Twilio's word names; `None` for a word that we do not know. Case counts.
            pub fn parse(word: &str) -> Option<Self> {
                match word {
                    $($word => Some(Self::$variant),)+
                    _ => None,
                }
            }

            /// The word as Twilio writes it.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)+
                }
            }
        }
    };
}

/// Where a call stands, as Twilio's `CallStatus` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CallStatus {
    Queued,
    Initiated,
    Ringing,
    InProgress,
    Completed,
    Busy,
    Failed,
    NoAnswer,
    Canceled,
}

words!(CallStatus {
    Queued = "queued",
    Initiated = "initiated",
    Ringing = "ringing",
    InProgress = "in-progress",
    Completed = "completed",
    Busy = "busy",
    Failed = "failed",
    NoAnswer = "no-answer",
    Canceled = "canceled",
});

impl CallStatus {
    /// Whether no further status can follow.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Busy | Self::Failed | Self::NoAnswer | Self::Canceled)
    }
}

/// Who placed the call, as Twilio's `Direction` says; anything unknown counts as inbound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    #[default]
    Inbound,
    OutboundApi,
    OutboundDial,
}

words!(Direction { Inbound = "inbound", OutboundApi = "outbound-api", OutboundDial = "outbound-dial" });

/// `StreamEvent` of a stream's status callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEvent {
    Started,
    Stopped,
    Error,
}

words!(StreamEvent { Started = "stream-started", Stopped = "stream-stopped", Error = "stream-error" });

/// `RecordingStatus` of a recording's status callback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordingStatus {
    InProgress,
    Completed,
    Absent,
    Failed,
}

words!(RecordingStatus { InProgress = "in-progress", Completed = "completed", Absent = "absent", Failed = "failed" });

/// The decoded fields of a body or query, in the order of arrival, duplicates kept: the signature needs them all.
///
/// `Debug` tells how many fields there are and nothing of them: they hold callers' numbers.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Form {
    /// All names and values, each name before its value: one buffer in place of two for each field.
    text: String,
    fields: Vec<Field>,
}

/// Where in the text a name and its value end; the name begins where the field before ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Field {
    name_end: usize,
    value_end: usize,
}

impl Form {
    /// Reads `application/x-www-form-urlencoded` bytes. Everything can be read: invalid UTF-8 becomes U+FFFD, a
    /// field without `=` has an empty value. Fields beyond [`FORM_PAIRS_MAX`] are dropped, so that a small body cannot
    /// grow into a large table; Twilio's signature of such a form then does not match.
    pub fn parse(bytes: &[u8]) -> Self {
        let mut form = Self { text: String::with_capacity(bytes.len()), fields: Vec::new() };
        for (name, value) in form_urlencoded::parse(bytes).take(FORM_PAIRS_MAX) {
            form.push(&name, &value);
        }
        form
    }

    /// A form of decoded fields, as a sender has them.
    pub fn from_pairs<N: Into<String>, V: Into<String>>(pairs: impl IntoIterator<Item = (N, V)>) -> Self {
        let mut form = Self { text: String::new(), fields: Vec::new() };
        for (name, value) in pairs {
            form.push(&name.into(), &value.into());
        }
        form
    }

    /// The value of the first field of this name.
    pub fn first(&self, name: &str) -> Option<&str> {
        self.pairs().find(|(key, _)| *key == name).map(|(_, value)| value)
    }

    /// All fields in the order of arrival.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        let begins = iter::once(0).chain(self.fields.iter().map(|field| field.value_end));
        begins
            .zip(&self.fields)
            .map(|(begin, field)| (&self.text[begin..field.name_end], &self.text[field.name_end..field.value_end]))
    }

    fn push(&mut self, name: &str, value: &str) {
        self.text.push_str(name);
        let name_end = self.text.len();
        self.text.push_str(value);
        self.fields.push(Field { name_end, value_end: self.text.len() });
    }

    /// The body or query that says the same.
    pub fn encode(&self) -> String {
        form_urlencoded::Serializer::new(String::new()).extend_pairs(self.pairs()).finish()
    }
}

impl fmt::Debug for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Form({} fields)", self.fields.len())
    }
}

/// Why a form says nothing about a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FormError {
    /// There is no `CallSid`.
    CallSidMissing,
    /// `CallSid` is not `CA` and 32 hexadecimal digits.
    CallSidMalformed,
}

impl fmt::Display for FormError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::CallSidMissing => "CallSid is missing",
            Self::CallSidMalformed => "CallSid is not CA and 32 hexadecimal digits",
        })
    }
}

impl std::error::Error for FormError {}

/// What every voice webhook and callback says about its call (docs: TwiML for Programmable Voice, "Request parameters").
///
/// `Debug` leaves the parties out: numbers are not for logs.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct VoiceFacts<'a> {
    pub call_sid: CallSid,
    /// `None` when absent or malformed.
    pub account_sid: Option<AccountSid>,
    /// E.164, `client:name`, a SIP URI or a word such as `anonymous`; empty when absent (recording callbacks).
    pub from: &'a str,
    /// As `from`.
    pub to: &'a str,
    pub direction: Direction,
    /// `None` when absent, or a word that we do not know.
    pub status: Option<CallStatus>,
}

impl fmt::Debug for VoiceFacts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { call_sid, account_sid, direction, status, .. } = self;
        let mut shown = f.debug_struct("VoiceFacts");
        shown.field("call_sid", call_sid).field("account_sid", account_sid);
        shown.field("direction", direction).field("status", status).finish_non_exhaustive()
    }
}

/// Reads what a form says about its call.
///
/// # Errors
/// Only the `CallSid` must be there and well-formed: everything else is optional in one callback or another.
pub fn facts(form: &Form) -> Result<VoiceFacts<'_>, FormError> {
    let call_sid = form.first("CallSid").ok_or(FormError::CallSidMissing)?;
    Ok(VoiceFacts {
        call_sid: call_sid.parse().map_err(|_| FormError::CallSidMalformed)?,
        account_sid: sid(form, "AccountSid"),
        from: form.first("From").or_else(|| form.first("Caller")).unwrap_or_default(),
        to: form.first("To").or_else(|| form.first("Called")).unwrap_or_default(),
        direction: form.first("Direction").and_then(Direction::parse).unwrap_or_default(),
        status: form.first("CallStatus").and_then(CallStatus::parse),
    })
}

/// What a stream's status callback adds to the facts (docs: TwiML Voice: Stream, "statusCallback").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamReport<'a> {
    pub stream_sid: Option<StreamSid>,
    pub event: StreamEvent,
    /// Twilio's words for what went wrong, with `stream-error`.
    pub error: Option<&'a str>,
}

/// Reads a stream's status callback; `None` without a `StreamEvent` that we know.
pub fn stream_report(form: &Form) -> Option<StreamReport<'_>> {
    Some(StreamReport {
        stream_sid: sid(form, "StreamSid"),
        event: StreamEvent::parse(form.first("StreamEvent")?)?,
        error: form.first("StreamError").filter(|text| !text.is_empty()),
    })
}

/// What a recording's status callback adds to the facts (docs: TwiML Voice: Record, "recordingStatusCallback").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordingReport {
    pub recording_sid: Option<RecordingSid>,
    pub status: RecordingStatus,
    pub duration_s: Option<u32>,
}

/// Reads a recording's status callback; `None` without a `RecordingStatus` that we know.
pub fn recording_report(form: &Form) -> Option<RecordingReport> {
    Some(RecordingReport {
        recording_sid: sid(form, "RecordingSid"),
        status: RecordingStatus::parse(form.first("RecordingStatus")?)?,
        duration_s: recording_duration_s(form),
    })
}

/// What the action of `<Record>` adds to the facts (docs: TwiML Voice: Record, "action").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordEnd {
    pub recording_sid: Option<RecordingSid>,
    /// 0: nothing was said.
    pub duration_s: Option<u32>,
    /// `Digits=hangup`: nobody listens any more.
    pub hung_up: bool,
}

/// Reads the action of `<Record>`; every field of it is optional.
pub fn record_end(form: &Form) -> RecordEnd {
    RecordEnd {
        recording_sid: sid(form, "RecordingSid"),
        duration_s: recording_duration_s(form),
        hung_up: form.first("Digits") == Some("hangup"),
    }
}

fn recording_duration_s(form: &Form) -> Option<u32> {
    form.first("RecordingDuration")?.parse().ok()
}

fn sid<S: std::str::FromStr>(form: &Form, name: &str) -> Option<S> {
    form.first(name)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn incoming_call() -> Form {
        let body = "AccountSid=AC000000000000000000000000000000aa&ApiVersion=2010-04-01\
            &CallSid=CA000000000000000000000000000000bb&CallStatus=ringing&Direction=inbound\
            &From=%2B972501234567&To=%2B97231234567&CallerName=%D7%93%D7%A0%D7%99+%D7%9B%D7%94%D7%9F&FromCity=";
        Form::parse(body.as_bytes())
    }

    #[test]
    fn an_incoming_call_is_read_with_decoded_values() {
        let form = incoming_call();
        let facts = facts(&form).unwrap();
        assert_eq!(facts.call_sid, CallSid::from_number(0xbb));
        assert_eq!(facts.account_sid, Some(AccountSid::from_number(0xaa)));
        assert_eq!((facts.from, facts.to), ("+972501234567", "+97231234567"));
        assert_eq!((facts.direction, facts.status), (Direction::Inbound, Some(CallStatus::Ringing)));
        assert_eq!(form.first("CallerName"), Some("דני כהן"));
        assert_eq!(form.first("FromCity"), Some(""));
    }

    #[test]
    fn only_the_call_sid_is_required_and_checked() {
        assert_eq!(facts(&Form::parse(b"From=%2B1")), Err(FormError::CallSidMissing));
        assert_eq!(facts(&Form::parse(b"CallSid=CA1")), Err(FormError::CallSidMalformed));
        let form = Form::from_pairs([
            ("CallSid", CallSid::from_number(1).as_str()),
            ("AccountSid", "AC1"),
            ("CallStatus", "on-holiday"),
            ("Direction", "sideways"),
            ("Caller", "client:dana"),
        ]);
        let facts = facts(&form).unwrap();
        assert_eq!((facts.account_sid, facts.status), (None, None));
        assert_eq!((facts.direction, facts.from, facts.to), (Direction::Inbound, "client:dana", ""));
    }

    #[test]
    fn order_and_duplicates_survive_reading_and_writing() {
        let form = Form::parse(b"b=2&a=1&b=2&b=1&lonely&=&&x=%zz");
        let pairs: Vec<_> = form.pairs().collect();
        assert_eq!(pairs, [("b", "2"), ("a", "1"), ("b", "2"), ("b", "1"), ("lonely", ""), ("", ""), ("x", "%zz")]);
        assert_eq!(Form::parse(form.encode().as_bytes()), form);
    }

    #[test]
    fn fields_beyond_the_limit_are_dropped() {
        let body = "a=1&".repeat(FORM_PAIRS_MAX + 5);
        assert_eq!(Form::parse(body.as_bytes()).pairs().count(), FORM_PAIRS_MAX);
    }

    #[test]
    fn a_stream_error_is_read_with_its_text() {
        let form = Form::parse(
            b"StreamSid=MZ00000000000000000000000000000001&StreamEvent=stream-error&StreamError=31921+closed",
        );
        let report = stream_report(&form).unwrap();
        assert_eq!(report.stream_sid, Some(StreamSid::from_number(1)));
        assert_eq!((report.event, report.error), (StreamEvent::Error, Some("31921 closed")));
        assert_eq!(stream_report(&Form::parse(b"StreamEvent=stream-paused")), None);
    }

    #[test]
    fn a_recording_is_read_from_both_of_its_routes() {
        let form = Form::parse(
            b"RecordingSid=RE00000000000000000000000000000007&RecordingStatus=completed&RecordingDuration=12&Digits=hangup",
        );
        let recording_sid = Some(RecordingSid::from_number(7));
        assert_eq!(record_end(&form), RecordEnd { recording_sid, duration_s: Some(12), hung_up: true });
        assert_eq!(
            recording_report(&form),
            Some(RecordingReport { recording_sid, status: RecordingStatus::Completed, duration_s: Some(12) })
        );
        let bare = Form::parse(b"RecordingDuration=-1&Digits=%23");
        assert_eq!(record_end(&bare), RecordEnd { recording_sid: None, duration_s: None, hung_up: false });
        assert_eq!(recording_report(&bare), None);
    }

    #[test]
    fn words_go_both_ways_and_agree_with_serde() {
        for status in ["queued", "in-progress", "no-answer", "canceled"] {
            let parsed = CallStatus::parse(status).unwrap();
            assert_eq!(parsed.as_str(), status);
            assert_eq!(serde_json::to_string(&parsed).unwrap(), format!("\"{status}\""));
        }
        assert_eq!(Direction::parse("outbound-dial"), Some(Direction::OutboundDial));
        assert_eq!(RecordingStatus::parse("absent"), Some(RecordingStatus::Absent));
        assert_eq!(CallStatus::parse("Ringing"), None);
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_read(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let form = Form::parse(&bytes);
            let _ = (facts(&form), stream_report(&form), recording_report(&form), record_end(&form));
        }

        #[test]
        fn whatever_is_encoded_is_read_back(pairs in proptest::collection::vec((".{0,12}", ".{0,12}"), 0..8)) {
            // An empty field is `=`, so that it does not vanish between two `&`.
            let form = Form::from_pairs(pairs);
            prop_assert_eq!(Form::parse(form.encode().as_bytes()), form);
        }
    }
}
