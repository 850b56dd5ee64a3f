//! Twilio's webhooks as the desk's events: which route means what, and what of a form is believed.

use std::fmt;

use crate::{
    calls::{CallFacts, Event, Party, RequestId, StreamToken},
    twilio::{
        sid::{AccountSid, CallSid, RecordingSid},
        webhook::{self, Form, FormError, RecordingStatus, VoiceFacts},
    },
};

/// A route under `/webhook/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Webhook {
    /// The desk answers.
    Asks(Question),
    /// The desk is only told; the answer is 204.
    Tells(News),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// A call came in: what shall be done with it?
    IncomingCall,
    /// The action of `<Connect>`: the stream is over, what now?
    StreamEnded,
    /// The action of `<Record>`: the recording is over, what now?
    HandleRecording,
    /// The call's own status callback. It is answered with 204, but only once what it changes is kept.
    CallStatus,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum News {
    /// The stream's status callback.
    StreamStatus,
    /// The recording's status callback.
    RecordingStatus,
}

/// Why a form with a valid signature is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    /// It names no call: 400.
    Form(FormError),
    /// It is about another account's call: 403.
    ForeignAccount,
}

/// A recording that Twilio has, or says that there is none; each may be announced by both routes, and more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announcement {
    pub call_sid: CallSid,
    pub recording_sid: Option<RecordingSid>,
    pub status: RecordingStatus,
}

impl Webhook {
    /// The webhook at this path.
    pub fn at(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("/webhook/")? {
            "incoming_call" => Self::Asks(Question::IncomingCall),
            "stream_ended" => Self::Asks(Question::StreamEnded),
            "handle_recording" => Self::Asks(Question::HandleRecording),
            "call_status" => Self::Asks(Question::CallStatus),
            "stream_status" => Self::Tells(News::StreamStatus),
            "recording_status" => Self::Tells(News::RecordingStatus),
            _ => return None,
        })
    }

    /// Whether `GET`, with the form as its query, does as well as `POST`: where Twilio expects TwiML, and a number or
    /// a verb can be set to either.
    pub fn takes_get(self) -> bool {
        match self {
            Self::Asks(Question::IncomingCall | Question::StreamEnded | Question::HandleRecording) => true,
            Self::Asks(Question::CallStatus) | Self::Tells(_) => false,
        }
    }

    /// What the form announces about a recording, for those who collect recordings.
    pub fn announcement(self, call_sid: CallSid, form: &Form) -> Option<Announcement> {
        let (recording_sid, status) = match self {
            Self::Asks(Question::HandleRecording) => {
                let recording_sid = webhook::record_end(form).recording_sid.or_else(|| sid_of_url(form))?;
                (Some(recording_sid), RecordingStatus::Completed)
            }
            Self::Tells(News::RecordingStatus) => {
                let report = webhook::recording_report(form)?;
                (report.recording_sid.or_else(|| sid_of_url(form)), report.status)
            }
            _ => return None,
        };
        Some(Announcement { call_sid, recording_sid, status })
    }
}

impl Question {
    /// The event that asks the desk. `token` is fresh; only an incoming call uses it.
    pub fn event(self, request: RequestId, facts: CallFacts, form: &Form, token: StreamToken) -> Event {
        match self {
            Self::IncomingCall => Event::VoiceRequested { request, facts, token },
            Self::StreamEnded => Event::ConnectEnded { request, facts },
            Self::HandleRecording => {
                let end = webhook::record_end(form);
                Event::RecordEnded {
                    request,
                    facts,
                    recording: end.recording_sid.or_else(|| sid_of_url(form)),
                    duration_s: end.duration_s,
                    hung_up: end.hung_up,
                }
            }
            Self::CallStatus => Event::CallStatusReported { request, facts },
        }
    }
}

impl News {
    /// The event that tells the desk; `None` for a word that we do not know.
    pub fn event(self, facts: CallFacts, form: &Form) -> Option<Event> {
        Some(match self {
            Self::StreamStatus => {
                let report = webhook::stream_report(form)?;
                Event::StreamStatusReported { facts, stream_sid: report.stream_sid, event: report.event }
            }
            Self::RecordingStatus => {
                let report = webhook::recording_report(form)?;
                let recording = report.recording_sid.or_else(|| sid_of_url(form));
                Event::RecordingStatusReported { facts, recording, status: report.status }
            }
        })
    }
}

/// What a signed form says about its call. An account that is not named cannot be foreign: the signature was made with
/// our token.
pub fn facts(form: &Form, account: Option<&AccountSid>) -> Result<CallFacts, Refused> {
    let facts = webhook::facts(form).map_err(Refused::Form)?;
    let named = form.first("AccountSid");
    if let (Some(account), Some(named)) = (account, named)
        && named != account.as_str()
    {
        return Err(Refused::ForeignAccount);
    }
    let VoiceFacts { call_sid, from, to, direction, status, .. } = facts;
    Ok(CallFacts { call_sid, from: Party::new(from), to: Party::new(to), direction, status })
}

/// The identifier in `RecordingUrl`: Twilio's page of the action of `<Record>` lists no `RecordingSid`. Nothing is ever
/// fetched from the URL itself.
fn sid_of_url(form: &Form) -> Option<RecordingSid> {
    let last = form.first("RecordingUrl")?.rsplit('/').next()?;
    last.split(['.', '?']).next()?.parse().ok()
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Form(error) => error.fmt(f),
            Self::ForeignAccount => f.write_str("AccountSid is not the configured account"),
        }
    }
}

impl std::error::Error for Refused {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        limits::PARTY_BYTES_MAX,
        twilio::{
            sid::StreamSid,
            webhook::{CallStatus, Direction, StreamEvent},
        },
    };

    const REQUEST: RequestId = RequestId(7);

    fn form(more: &[(&str, &str)]) -> Form {
        let (call, account) = (CallSid::from_number(1), AccountSid::from_number(2));
        let usual =
            [("CallSid", call.as_str()), ("AccountSid", account.as_str()), ("From", "+972501234567"), ("To", "+97231")];
        Form::from_pairs(usual.iter().chain(more).copied())
    }

    fn call_facts(form: &Form) -> CallFacts {
        facts(form, Some(&AccountSid::from_number(2))).unwrap()
    }

    fn token() -> StreamToken {
        StreamToken("t".try_into().unwrap())
    }

    fn ask(path: &str, form: &Form) -> Event {
        let Some(Webhook::Asks(question)) = Webhook::at(path) else { panic!("{path}") };
        question.event(REQUEST, call_facts(form), form, token())
    }

    fn tell(path: &str, form: &Form) -> Option<Event> {
        let Some(Webhook::Tells(news)) = Webhook::at(path) else { panic!("{path}") };
        news.event(call_facts(form), form)
    }

    #[test]
    fn each_route_becomes_its_event() {
        let plain = form(&[("CallStatus", "in-progress"), ("Direction", "inbound")]);
        let facts = call_facts(&plain);
        assert_eq!((facts.status, facts.direction), (Some(CallStatus::InProgress), Direction::Inbound));
        assert_eq!(
            ask("/webhook/incoming_call", &plain),
            Event::VoiceRequested { request: REQUEST, facts: facts.clone(), token: token() }
        );
        assert_eq!(
            ask("/webhook/stream_ended", &plain),
            Event::ConnectEnded { request: REQUEST, facts: facts.clone() }
        );
        assert_eq!(ask("/webhook/call_status", &plain), Event::CallStatusReported { request: REQUEST, facts });
        assert_eq!(Webhook::at("/webhook/"), None);
        assert_eq!(Webhook::at("/webhook/incoming_call/"), None);
        assert_eq!(Webhook::at("/incoming_call"), None);
    }

    #[test]
    fn a_stream_report_keeps_its_stream_and_an_unknown_one_tells_nothing() {
        let stream_sid = StreamSid::from_number(3);
        let report = form(&[("StreamSid", stream_sid.as_str()), ("StreamEvent", "stream-error")]);
        let told = tell("/webhook/stream_status", &report);
        assert!(matches!(
            told,
            Some(Event::StreamStatusReported { stream_sid: Some(sid), event: StreamEvent::Error, .. }) if sid == stream_sid
        ));
        assert_eq!(tell("/webhook/stream_status", &form(&[("StreamEvent", "stream-paused")])), None);
    }

    #[test]
    fn a_recording_is_announced_by_both_routes_and_named_by_its_url_if_need_be() {
        let recording = RecordingSid::from_number(4);
        let url = format!("https://api.twilio.com/2010-04-01/Accounts/AC1/Recordings/{recording}.wav?x=/1");
        let action =
            form(&[("RecordingUrl", url.trim_end_matches("?x=/1")), ("RecordingDuration", "4"), ("Digits", "hangup")]);
        assert!(matches!(
            ask("/webhook/handle_recording", &action),
            Event::RecordEnded { recording: Some(sid), duration_s: Some(4), hung_up: true, .. } if sid == recording
        ));
        let call_sid = CallSid::from_number(1);
        let announced = |path, form: &Form| Webhook::at(path).unwrap().announcement(call_sid, form);
        let completed = Announcement { call_sid, recording_sid: Some(recording), status: RecordingStatus::Completed };
        assert_eq!(announced("/webhook/handle_recording", &action), Some(completed));
        let status = form(&[("RecordingSid", recording.as_str()), ("RecordingStatus", "completed")]);
        assert_eq!(announced("/webhook/recording_status", &status), Some(completed));
        let absent = form(&[("RecordingStatus", "absent")]);
        assert_eq!(
            announced("/webhook/recording_status", &absent),
            Some(Announcement { call_sid, recording_sid: None, status: RecordingStatus::Absent })
        );
        assert_eq!(announced("/webhook/handle_recording", &form(&[])), None, "nothing to collect");
        assert_eq!(announced("/webhook/call_status", &status), None);
    }

    #[test]
    fn a_form_without_a_call_or_of_another_account_is_refused() {
        let ours = AccountSid::from_number(2);
        let malformed = Form::from_pairs([("CallSid", "CA123")]);
        assert_eq!(facts(&malformed, Some(&ours)), Err(Refused::Form(FormError::CallSidMalformed)));
        assert_eq!(facts(&form(&[]), Some(&AccountSid::from_number(9))), Err(Refused::ForeignAccount));
        let odd = Form::from_pairs([("CallSid", CallSid::from_number(1).as_str()), ("AccountSid", "AC")]);
        assert_eq!(facts(&odd, Some(&ours)), Err(Refused::ForeignAccount));
        assert!(facts(&odd, None).is_ok(), "no account is configured");
        let unnamed = Form::from_pairs([("CallSid", CallSid::from_number(1).as_str())]);
        assert!(facts(&unnamed, Some(&ours)).is_ok());
    }

    #[test]
    fn a_long_party_is_cut_between_two_characters() {
        let long = "אב".repeat(100);
        let form = Form::from_pairs([("CallSid", CallSid::from_number(1).as_str()), ("From", &long)]);
        let facts = facts(&form, None).unwrap();
        assert_eq!(facts.from.whole().len(), PARTY_BYTES_MAX);
        assert!(long.starts_with(facts.from.whole()));
    }
}
