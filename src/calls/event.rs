//! The desk's vocabulary: what the world told it (past tense) and what it wants done (imperative).

use std::time::{Duration, Instant};

use super::{live_call::LiveCall, party::Party};
use crate::{
    limits::TOKEN_BYTES,
    twilio::{
        rest::{CallLookup, UpdateOutcome},
        sid::{CallSid, RecordingSid, StreamSid},
        webhook::{CallStatus, Direction, RecordingStatus, StreamEvent},
    },
};

/// A live call's place: which table, which slot, and which of the calls that slot has had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallKey {
    pub table: Table,
    pub slot: u16,
    pub generation: u32,
}

/// The two fixed tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Table {
    /// Calls that may stream.
    Streams,
    /// Calls that were sent straight to the recorder.
    Recorders,
}

/// A webhook that waits for its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

/// A media connection, from its 101 to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(pub u64);

/// A request to Twilio's REST API whose result is awaited: whose it is, and which of that call's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct AttemptId {
    pub call: CallKey,
    pub number: u32,
}

/// One stream of one call. An older stream's key never speaks for a newer one: the generation grows with each stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StreamKey {
    /// The call's slot in the registry.
    pub slot: u16,
    /// How many streams and calls this slot has had.
    pub generation: u32,
}

/// The secret that a stream's `start` must carry, made for one call alone.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamToken(pub heapless::String<TOKEN_BYTES>);

impl StreamToken {
    /// Whether both are the same, in a time that does not tell how much of them is.
    pub fn matches(&self, other: &Self) -> bool {
        let differences =
            self.0.bytes().zip(other.0.bytes()).fold(0, |differences, (ours, theirs)| differences | (ours ^ theirs));
        self.0.len() == other.0.len() && differences == 0
    }
}

impl std::fmt::Debug for StreamToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamToken(…)")
    }
}

/// What every signed webhook says about its call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallFacts {
    pub call_sid: CallSid,
    pub from: Party,
    pub to: Party,
    pub direction: Direction,
    /// Absent, or a word that we do not know: `None`.
    pub status: Option<CallStatus>,
}

/// What a stream's `start` claims; the desk decides whether it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartClaim {
    pub socket: SocketId,
    pub call_sid: CallSid,
    pub stream_sid: StreamSid,
    /// The `call_sid` parameter of the TwiML, as it came back.
    pub call_sid_parameter: Option<CallSid>,
    /// The `token` parameter of the TwiML, as it came back; longer ones than ours arrive as `None`.
    pub token: Option<StreamToken>,
    /// Whether `accountSid` is the configured account's.
    pub account_is_ours: bool,
}

/// How a stream's socket came to its end, where no `stop` came first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketEnd {
    /// Twilio said `stop` before; the connection only followed.
    AfterStop,
    /// The box ended the conversation itself: its goodbye was played.
    ConversationOver,
    /// The peer closed, reset or vanished without `stop`.
    Lost,
    /// The box closed it for another reason (take-over, protocol breach, slow reader, drain).
    ClosedByBox,
}

/// What the world told the desk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// `incoming_call`. The token is used if this call has none yet.
    VoiceRequested { request: RequestId, facts: CallFacts, token: StreamToken },
    /// `stream_ended`: the action of `<Connect>`.
    ConnectEnded { request: RequestId, facts: CallFacts },
    /// `handle_recording`: the action of `<Record>`.
    RecordEnded {
        request: RequestId,
        facts: CallFacts,
        recording: Option<RecordingSid>,
        duration_s: Option<u32>,
        hung_up: bool,
    },
    /// `call_status`.
    CallStatusReported { request: RequestId, facts: CallFacts },
    /// `stream_status`.
    StreamStatusReported { facts: CallFacts, stream_sid: Option<StreamSid>, event: StreamEvent },
    /// `recording_status`.
    RecordingStatusReported { facts: CallFacts, recording: Option<RecordingSid>, status: RecordingStatus },
    /// A media connection got its `start`.
    StreamClaimed(StartClaim),
    /// An accepted stream said `stop`.
    StreamStopped { stream: StreamKey },
    /// An accepted stream's connection is over.
    StreamClosed { stream: StreamKey, end: SocketEnd },
    /// A redirect was answered, or not.
    RedirectAnswered { attempt: AttemptId, outcome: UpdateOutcome },
    /// A question about a call was answered, or not.
    CallLookedUp { attempt: AttemptId, outcome: CallLookup },
    /// The journal of the run before names this call: that run ended while the call lived.
    CallRemembered(Box<LiveCall>),
    /// Whether records can be kept has changed.
    StoreChanged { can_keep: bool },
    /// No new streams from now on; running ones are sent to the recorder at `until`.
    DrainStarted { until: Instant },
}

/// How a prompt is to be given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PromptForm {
    /// `<Play>`: Twilio fetches the file from the box.
    Play,
    /// `<Say>` of the same text: needs no way in.
    Say,
    /// No prompts at all: the last try after Twilio refused the document.
    Bare,
}

/// What a webhook is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Greeting, then `<Connect><Stream>`.
    Stream { call_sid: CallSid, token: StreamToken },
    /// Fallback prompt, `<Record>`, no-message prompt, `<Hangup>`.
    Record(PromptForm),
    /// Goodbye and `<Hangup>`: a message was taken.
    Goodbye(PromptForm),
    /// No-message prompt and `<Hangup>`: nothing was said.
    NoMessage(PromptForm),
    /// `<Hangup>`: the conversation is over.
    Hangup,
    /// An empty `<Response>`: nobody listens any more.
    Nothing,
    /// 204: nothing is expected.
    NoContent,
}

/// Why a `start` was not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// No live call of that CallSid expects a stream.
    UnknownCall,
    /// The token is missing or another call's.
    WrongToken,
    /// The `call_sid` parameter is missing or differs from `callSid`.
    WrongCall,
    /// `accountSid` is not the configured account.
    WrongAccount,
}

/// What first sent a call to the recorder (`fallback.reason` of its record).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FallbackReason {
    NoStreamStart,
    NoMedia,
    StreamError,
    SocketLost,
    EndedWithoutMedia,
    UnknownCall,
    NoCapacity,
    Draining,
    Trouble,
}

impl FallbackReason {
    /// The word used upstream, in logs and in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoStreamStart => "no_stream_start",
            Self::NoMedia => "no_media",
            Self::StreamError => "stream_error",
            Self::SocketLost => "socket_lost",
            Self::EndedWithoutMedia => "ended_without_media",
            Self::UnknownCall => "unknown_call",
            Self::NoCapacity => "no_capacity",
            Self::Draining => "draining",
            Self::Trouble => "trouble",
        }
    }
}

/// What told the desk that a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// A final CallStatus in a signed webhook.
    Status(CallStatus),
    /// `Digits=hangup` at the end of a `<Record>`.
    HungUpInRecord,
    /// REST said that the call is not in progress (21220).
    RestCallOver,
    /// Twilio was asked and gave a final status.
    LookedUp(CallStatus),
    /// Twilio was asked and does not know the call.
    LookedUpUnknown,
    /// It was alive for longer than `calls.max_duration`.
    MaxDuration,
}

/// A call that is over: all that the desk knows of it, once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedCall {
    pub call_sid: CallSid,
    /// The last stream that was accepted.
    pub stream_sid: Option<StreamSid>,
    pub from: Party,
    pub to: Party,
    pub direction: Direction,
    pub answered_at: Instant,
    pub ended_at: Instant,
    pub cause: EndCause,
    pub fallback: Option<Fallback>,
    /// A media frame was heard on at least one stream.
    pub had_media: bool,
}

/// Why and when a call went to the recorder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fallback {
    pub reason: FallbackReason,
    /// When the box gave Twilio the `<Record>`: the answer of a webhook, or an accepted redirect. `None`: it never got there.
    pub redirected_at: Option<Instant>,
}

/// What the desk wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Answer this webhook now.
    Answer { request: RequestId, answer: Answer },
    /// Believe this `start`: its media count from now on.
    AcceptStream { socket: SocketId, stream: StreamKey },
    /// Close this connection with 1008.
    RefuseStream { socket: SocketId, refusal: Refusal },
    /// Close this connection with 1000 (taken over, or its call is in the recorder or over).
    CloseStream { socket: SocketId },
    /// Send the live call to the recorder by REST.
    Redirect { attempt: AttemptId, call_sid: CallSid, prompt: PromptForm },
    /// Ask Twilio for the call's status and, if `recordings`, whether it has a recording.
    LookUpCall { attempt: AttemptId, call_sid: CallSid, recordings: bool },
    /// Write the call into the journal: it lives, or what is known of it has changed. Its record takes it out again.
    RememberCall(Box<LiveCall>),
    /// Keep the record of an ended call; then answer the webhook with 204, if one waits for it.
    KeepRecord { ended: Box<EndedCall>, request: Option<RequestId> },
    /// Answer this webhook with 204 once the record that an earlier one is waiting for is kept; now, if none is.
    AnswerOnceKept { request: RequestId, call_sid: CallSid },
    /// A line for the log.
    Report(Report),
}

/// What an owner would want to read in the log, by its stable name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// `CALL_ANSWERED`
    CallAnswered { call_sid: CallSid, with: &'static str },
    /// `CALL_ENDED`
    CallEnded { call_sid: CallSid, stream_sid: Option<StreamSid>, cause: EndCause, lasted: Duration },
    /// `WS_START`: the stream was accepted, this long after the answer.
    StreamStarted { call_sid: CallSid, stream_sid: StreamSid, after: Duration },
    /// `WD_NO_STREAM_START`
    NoStreamStart { call_sid: CallSid, reason: FallbackReason, after: Duration },
    /// `WD_NO_MEDIA`
    NoMedia { call_sid: CallSid, stream_sid: Option<StreamSid>, reason: FallbackReason, silent: Duration },
    /// `WD_REDIRECTED`: Twilio took the redirect, this long after the deadline.
    Redirected { call_sid: CallSid, stream_sid: Option<StreamSid>, reason: FallbackReason, after: Duration },
    /// `WD_REDIRECT_FAILED`: one try.
    RedirectFailed { call_sid: CallSid, stream_sid: Option<StreamSid>, outcome: UpdateOutcome, given_up: bool },
}

/// A call as the status page shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallView {
    pub key: CallKey,
    pub call_sid: CallSid,
    pub from: Party,
    pub state: CallState,
    pub since: Instant,
    pub last_media: Option<Instant>,
}

/// Where a live call stands, as `/api/status` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CallState {
    /// Answered with a stream that has not come up, or whose stream has just ended.
    AwaitingStream,
    Streaming,
    /// A redirect to the recorder is on its way.
    FallingBack,
    /// Twilio was given the `<Record>`.
    Recording,
    /// It was answered with its end; Twilio has not yet said that it is over.
    Ending,
}

/// Why redirects or look-ups do not work, until one does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestTrouble {
    /// 401: the credentials, or the region.
    Unauthorized,
    /// 404: the account or the region.
    NotFound,
    /// Twilio refused the document, with this error code.
    Refused { code: u32 },
    /// No answer, or none that is Twilio's.
    Unreachable,
}

impl RestTrouble {
    pub(super) fn of(outcome: UpdateOutcome) -> Option<Self> {
        match outcome {
            UpdateOutcome::Unauthorized => Some(Self::Unauthorized),
            UpdateOutcome::NotFound => Some(Self::NotFound),
            UpdateOutcome::Refused { code } => Some(Self::Refused { code }),
            UpdateOutcome::Unavailable | UpdateOutcome::TimedOut => Some(Self::Unreachable),
            UpdateOutcome::Accepted | UpdateOutcome::CallOver | UpdateOutcome::Throttled { .. } => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_goes_to_the_desk_and_comes_from_it_prints_neither_numbers_nor_tokens() {
        let (from, to) = (Party::new("+972501234567"), Party::new("+97231234568"));
        let (direction, now) = (Direction::Inbound, Instant::now());
        let facts = CallFacts {
            call_sid: CallSid::from_number(1),
            from: from.clone(),
            to: to.clone(),
            direction,
            status: None,
        };
        let ended = EndedCall {
            call_sid: facts.call_sid,
            stream_sid: None,
            from,
            to,
            direction,
            answered_at: now,
            ended_at: now,
            cause: EndCause::MaxDuration,
            fallback: None,
            had_media: false,
        };
        let token = StreamToken("0123456789abcdefghijkl".try_into().unwrap());
        let event = Event::VoiceRequested { request: RequestId(1), facts, token: token.clone() };
        let answer = Answer::Stream { call_sid: ended.call_sid, token };
        let record = Output::KeepRecord { ended: Box::new(ended), request: None };
        let printed = format!("{event:?} {answer:?} {record:?}");
        assert!(printed.contains("…567") && printed.contains("…568"), "{printed}");
        for secret in ["1234567", "1234568", "0123456789abcdefghijkl"] {
            assert!(!printed.contains(secret), "{secret}: {printed}");
        }
    }
}
