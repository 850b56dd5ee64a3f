//! One live call: what is known of it, where it stands, and when it wants to be looked at.
//!
//! ```text
//!             start                 stop, lost, closed
//! Awaiting ──────────▶ Streaming ─────────────────────▶ StreamOver
//!    │   ▲ answered       │  ▲ heard again                │    │
//!    │   └─ again ────────┼──┼─────────────────────────── ┘    │
//!    │ deadline           ▼  │                deadline         │ stream_ended: the conversation was had
//!    └──────────────▶ FallingBack ◀────────────────────────────┤
//!                         │ accepted, or a webhook gave <Record>│
//!                         ▼                                     ▼
//!                     Recording ───────────────────────────▶ Ending ──▶ over
//! ```
//!
//! From every phase a final status, a hang-up, REST's "not in progress" or `max_duration` leads straight to the end.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::{
    AttemptId, CallFacts, CallKey, CallState, CallView, DeskOptions, EndCause, EndedCall, Fallback, LiveCall, Memo,
    Output, Party, PromptForm, Pulses, RequestId, RestTrouble, SocketEnd, SocketId, StreamKey, StreamToken,
    redirect::Redirect, watchdog::Watch,
};
use crate::{
    limits::DEFERRED_ANSWERS_MAX,
    twilio::{
        sid::{CallSid, StreamSid},
        webhook::Direction,
    },
};

/// A prompt is played from the box only if its way in was seen to work this recently.
const WAY_IN_FRESH: Duration = Duration::from_secs(15);

/// Where a live call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Answered with a stream that has not started.
    Awaiting,
    /// A stream was accepted and its connection is open.
    Streaming,
    /// Its stream ended; Twilio will ask `stream_ended`, or the call ends, or the watchdog acts.
    StreamOver,
    /// It is being redirected to the recorder.
    FallingBack,
    /// Twilio was given the `<Record>`.
    Recording,
    /// It was answered with its end.
    Ending,
}

impl Phase {
    /// The column of the table at the head of [`super`].
    pub(super) fn column(self) -> &'static str {
        match self {
            Self::Awaiting => "Await",
            Self::Streaming => "Strm",
            Self::StreamOver => "Over",
            Self::FallingBack => "Fall",
            Self::Recording => "Rec",
            Self::Ending => "End",
        }
    }
}

/// The latest stream that was accepted for a call.
#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub key: StreamKey,
    pub stream_sid: StreamSid,
    pub socket: SocketId,
    pub started_at: Instant,
    /// Its connection has not been seen to end.
    pub open: bool,
    /// It said `stop`.
    pub stopped: bool,
    pub end: Option<SocketEnd>,
}

/// A live call. The registry owns it; the desk moves it.
#[derive(Debug)]
pub struct Call {
    pub(super) key: CallKey,
    pub(super) call_sid: CallSid,
    pub(super) from: Party,
    pub(super) to: Party,
    pub(super) direction: Direction,
    pub(super) token: Option<StreamToken>,
    pub(super) answered_at: Instant,
    /// The latest answer with a stream.
    pub(super) reanswered_at: Instant,
    /// The latest HTTPS request about this call: proof that the way in works.
    pub(super) requested_at: Instant,
    pub(super) phase: Phase,
    pub(super) since: Instant,
    pub(super) stream: Option<Stream>,
    /// A stream before the latest one had media.
    pub(super) earlier_media: bool,
    /// What the run before knew, if it ended while this call lived: its stream died with it.
    pub(super) remembered: Option<Memo>,
    /// What the journal has of this call.
    pub(super) journal: Option<Memo>,
    pub(super) stream_error_at: Option<Instant>,
    pub(super) fallback: Option<Fallback>,
    pub(super) redirect: Option<Redirect>,
    /// How often it was given the `<Record>`: by an accepted redirect or a webhook's answer.
    pub(super) recorders_given: u32,
    /// A webhook's answer was the `<Record>`, whatever became of redirects.
    pub(super) recorder_by_webhook: bool,
    /// A `stop` came while a try's answer is open: it was the redirect, or the caller hung up.
    pub(super) stop_unexplained: bool,
    /// The recorder was seen at work since the latest `<Record>`.
    pub(super) recording_seen: bool,
    /// A redirect was given up, which is counted once.
    pub(super) given_up: bool,
    /// A look-up that is under way, and when its result counts as lost.
    pub(super) look_up: Option<(AttemptId, Instant)>,
    pub(super) attempts: u32,
    /// Answers to `stream_ended` that wait for the socket's end.
    pub(super) deferred: heapless::Vec<RequestId, DEFERRED_ANSWERS_MAX>,
    pub(super) timers: Timers,
}

/// When a call wants to be looked at, by why.
#[derive(Debug, Clone, Copy)]
pub(super) struct Timers {
    pub watch: Option<Watch>,
    /// Ask Twilio what became of the call.
    pub ask_at: Option<Instant>,
    /// Deferred answers wait no longer.
    pub answer_at: Option<Instant>,
    /// `calls.max_duration`
    pub expires_at: Instant,
}

/// What a call's steps need beside the call.
pub(super) struct Context<'a> {
    pub options: &'a DeskOptions,
    pub pulses: &'a Pulses,
    pub outputs: &'a mut VecDeque<Output>,
    pub tally: &'a mut Tally,
    /// The box is about to leave.
    pub draining: bool,
    pub now: Instant,
}

impl Context<'_> {
    /// The form of the prompts in a webhook's answer. The webhook itself has just come in; but from a box that drains
    /// nothing will be there to fetch, least of all what follows the recording.
    pub(super) fn answer_form(&self) -> PromptForm {
        if self.draining { PromptForm::Say } else { PromptForm::Play }
    }
}

/// What is counted over all calls.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub redirects: u64,
    pub failed: u64,
    pub rest_trouble: Option<RestTrouble>,
}

impl Call {
    /// A call that has just been heard of.
    pub(super) fn new(key: CallKey, facts: CallFacts, options: &DeskOptions, now: Instant) -> Self {
        Self {
            key,
            call_sid: facts.call_sid,
            from: facts.from,
            to: facts.to,
            direction: facts.direction,
            token: None,
            answered_at: now,
            reanswered_at: now,
            requested_at: now,
            phase: Phase::Awaiting,
            since: now,
            stream: None,
            earlier_media: false,
            remembered: None,
            journal: None,
            stream_error_at: None,
            fallback: None,
            redirect: None,
            recorders_given: 0,
            recorder_by_webhook: false,
            stop_unexplained: false,
            recording_seen: false,
            given_up: false,
            look_up: None,
            attempts: 0,
            deferred: heapless::Vec::new(),
            timers: Timers { watch: None, ask_at: None, answer_at: None, expires_at: now + options.max_duration },
        }
    }

    pub(super) fn enter(&mut self, phase: Phase, now: Instant) {
        if self.phase != phase {
            self.phase = phase;
            self.since = now;
            self.stop_unexplained = false;
            // What was asked about the phase before answers nothing about this one.
            self.look_up = None;
        }
    }

    /// When this call next wants to be looked at, and why.
    pub(super) fn next_timeout(&self) -> (Instant, &'static str) {
        let redirect = self.redirect.as_ref().filter(|_| self.phase == Phase::FallingBack);
        [
            self.timers.watch.map(|watch| (watch.at, "watchdog")),
            redirect.and_then(Redirect::due_at).map(|at| (at, "redirect")),
            // One question at a time: the next waits for its answer.
            self.timers.ask_at.filter(|_| self.look_up.is_none()).map(|at| (at, "look-up")),
            self.look_up.map(|(_, until)| (until, "look-up lost")),
            self.timers.answer_at.map(|at| (at, "deferred answer")),
        ]
        .into_iter()
        .flatten()
        .fold((self.timers.expires_at, "longest call"), |first, next| if next.0 < first.0 { next } else { first })
    }

    /// When the current stream was last heard.
    pub(super) fn last_heard(&self, pulses: &Pulses) -> Option<Instant> {
        pulses.last_heard(self.stream.as_ref()?.key)
    }

    /// Whether its stream is open and a media frame came within `no_media_timeout` and since `instant`.
    pub(super) fn is_heard_since(&self, instant: Instant, context: &Context<'_>) -> bool {
        let fresh = context.now.checked_sub(context.options.watchdog.no_media_timeout).unwrap_or(instant);
        let open = self.stream.as_ref().is_some_and(|stream| stream.open && !stream.stopped);
        open && self.last_heard(context.pulses).is_some_and(|heard| heard >= instant.max(fresh))
    }

    /// An open connection that has not said `stop`.
    pub(super) fn open_socket(&self) -> Option<SocketId> {
        self.stream.as_ref().filter(|stream| stream.open && !stream.stopped).map(|stream| stream.socket)
    }

    pub(super) fn stream_sid(&self) -> Option<StreamSid> {
        let remembered = || self.remembered.and_then(|memo| memo.stream_sid);
        self.stream.as_ref().map(|stream| stream.stream_sid).or_else(remembered)
    }

    /// What the journal is to have of it; `None`: it has that already.
    pub(super) fn next_memo(&mut self) -> Option<LiveCall> {
        let memo = Memo { stream_sid: self.stream_sid(), fallback: self.fallback };
        if self.journal == Some(memo) {
            return None;
        }
        self.journal = Some(memo);
        Some(LiveCall {
            call_sid: self.call_sid,
            from: self.from.clone(),
            to: self.to.clone(),
            direction: self.direction,
            answered_at: self.answered_at,
            memo,
        })
    }

    pub(super) fn next_attempt(&mut self) -> AttemptId {
        self.attempts = self.attempts.wrapping_add(1);
        AttemptId { call: self.key, number: self.attempts }
    }

    /// The form that prompts can be relied on to reach the caller in: none is fetched from a box that is about to leave.
    pub(super) fn prompt_form(&self, context: &Context<'_>) -> PromptForm {
        let way_in_is_fresh = context.now.saturating_duration_since(self.requested_at) <= WAY_IN_FRESH;
        if way_in_is_fresh && !context.draining { PromptForm::Play } else { PromptForm::Say }
    }

    /// Whether it has been sent to the recorder, or is being sent.
    pub(super) fn is_in_fallback(&self) -> bool {
        matches!(self.phase, Phase::FallingBack | Phase::Recording) || self.fallback.is_some()
    }

    /// All that is known of it, now that it is over.
    pub(super) fn ended(&self, cause: EndCause, pulses: &Pulses, now: Instant) -> EndedCall {
        EndedCall {
            call_sid: self.call_sid,
            stream_sid: self.stream_sid(),
            from: self.from.clone(),
            to: self.to.clone(),
            direction: self.direction,
            answered_at: self.answered_at,
            ended_at: now,
            cause,
            fallback: self.fallback,
            had_media: self.earlier_media || self.last_heard(pulses).is_some(),
        }
    }

    pub(super) fn view(&self, pulses: &Pulses) -> CallView {
        let state = match self.phase {
            Phase::Awaiting | Phase::StreamOver => CallState::AwaitingStream,
            Phase::Streaming => CallState::Streaming,
            Phase::FallingBack => CallState::FallingBack,
            Phase::Recording => CallState::Recording,
            Phase::Ending => CallState::Ending,
        };
        CallView {
            key: self.key,
            call_sid: self.call_sid,
            from: self.from.clone(),
            state,
            since: self.since,
            last_media: self.last_heard(pulses),
        }
    }
}
