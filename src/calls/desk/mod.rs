//! The desk: the only one that sees all calls. Events in, outputs out; one owner, no locks.
//!
//! Drive it so: `handle` or `handle_timeout`, then `poll_output` until `None`, then sleep until `poll_timeout`.

mod ended_calls;
mod webhooks;

use std::{collections::VecDeque, time::Instant};

use self::ended_calls::EndedCalls;
use super::{
    Answer, CallFacts, CallKey, CallView, DeskOptions, EndCause, EndedCall, Event, Fallback, FallbackReason, LiveCall,
    Output, PromptForm, Pulses, Report, RequestId, RestTrouble, Table,
    call::{Call, Context, Phase, Tally},
    canary::{Canary, sings},
    redirect::Redirect,
    registry::Registry,
};
use crate::{
    limits::{CALLS_MAX, DRAIN_REDIRECT_MAX},
    twilio::{
        sid::CallSid,
        webhook::{CallStatus, RecordingStatus, StreamEvent},
    },
};

/// How the desk stands, for the status page.
#[derive(Debug, Clone)]
pub struct DeskView {
    pub calls: Vec<CallView>,
    /// Calls that may stream, and how many there can be.
    pub active: usize,
    pub capacity: usize,
    /// Redirects that Twilio accepted, since the start.
    pub redirects: u64,
    /// Redirects that were given up, since the start.
    pub failed: u64,
    pub rest_trouble: Option<RestTrouble>,
    pub draining: bool,
    /// No call would be left in silence if the box stopped now.
    pub drained: bool,
}

/// How far the drain is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drain {
    NotAsked,
    /// Running streams go on; new calls meet the recorder.
    StreamsGoOn {
        until: Instant,
    },
    /// They are being redirected; streams that are still open by then are closed.
    Redirecting {
        until: Instant,
    },
    Leaving,
}

impl Drain {
    fn next_timeout(self) -> Option<Instant> {
        match self {
            Self::StreamsGoOn { until } | Self::Redirecting { until } => Some(until),
            Self::NotAsked | Self::Leaving => None,
        }
    }
}

/// The desk.
#[derive(Debug)]
pub struct Desk {
    options: DeskOptions,
    pulses: Pulses,
    registry: Registry,
    /// Calls that are over, the latest ones: a late webhook makes no second record.
    ended: EndedCalls,
    can_keep: bool,
    drain: Drain,
    tally: Tally,
    /// Drained by `poll_output` before the next event: bounded by what one event or one round of deadlines gives.
    outputs: VecDeque<Output>,
}

impl Desk {
    /// A desk with no calls.
    pub fn new(options: DeskOptions, pulses: Pulses) -> Self {
        Self {
            options,
            pulses,
            registry: Registry::default(),
            ended: EndedCalls::default(),
            can_keep: true,
            drain: Drain::NotAsked,
            tally: Tally::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The world told us something.
    pub fn handle(&mut self, event: Event, now: Instant) {
        match event {
            Event::VoiceRequested { request, facts, token } => self.handle_voice(request, facts, token, now),
            Event::ConnectEnded { request, facts } => self.handle_connect_ended(request, facts, now),
            Event::RecordEnded { request, facts, recording, duration_s, hung_up } => {
                self.handle_record_ended(request, facts, (recording, duration_s), hung_up, now);
            }
            Event::CallStatusReported { request, facts } => self.handle_call_status(request, &facts, now),
            Event::StreamStatusReported { facts, stream_sid, event } => self.with_call(&facts, now, |call, context| {
                if event == StreamEvent::Error {
                    call.handle_stream_error(stream_sid, context);
                }
            }),
            Event::RecordingStatusReported { facts, status, .. } => self.with_call(&facts, now, |call, context| {
                if matches!(status, RecordingStatus::InProgress | RecordingStatus::Completed) {
                    call.note_recording(context);
                }
            }),
            Event::StreamClaimed(claim) => self.handle_claim(&claim, now),
            Event::StreamStopped { stream } => {
                let key = self.registry.call_of_stream_mut(stream).map(|call| call.key);
                self.step(key, now, |call, context| call.handle_stop(context));
            }
            Event::StreamClosed { stream, end } => {
                let key = self.registry.call_of_stream_mut(stream).map(|call| call.key);
                self.step(key, now, |call, context| call.handle_closed(end, context));
            }
            Event::RedirectAnswered { attempt, outcome } => {
                let over = self.step(Some(attempt.call), now, |call, context| {
                    call.handle_redirect_outcome(attempt, outcome, context)
                });
                self.end_if(attempt.call, over.flatten(), now);
            }
            Event::CallLookedUp { attempt, outcome } => {
                let over =
                    self.step(Some(attempt.call), now, |call, context| call.handle_look_up(attempt, outcome, context));
                self.end_if(attempt.call, over.flatten(), now);
            }
            Event::CallRemembered(live) => self.handle_remembered(*live, now),
            Event::StoreChanged { can_keep } => self.can_keep = can_keep,
            Event::DrainStarted { until } => {
                self.drain = Drain::StreamsGoOn { until };
            }
        }
    }

    /// A deadline has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        let due: Vec<CallKey> =
            self.registry.calls().filter(|call| call.next_timeout().0 <= now).map(|call| call.key).collect();
        for key in due {
            self.handle_call_timeout(key, now);
        }
        match self.drain {
            Drain::StreamsGoOn { until } if until <= now => {
                self.drain = Drain::Redirecting { until: now + DRAIN_REDIRECT_MAX };
                self.drain_streams(now);
            }
            Drain::Redirecting { until } if until <= now => {
                self.drain = Drain::Leaving;
                self.close_streams();
            }
            _ => {}
        }
    }

    /// When to call `handle_timeout`, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let calls = self.registry.calls().map(Call::next_timeout);
        calls.chain(self.drain.next_timeout().map(|until| (until, "drain"))).min_by_key(|(at, _)| *at)
    }

    /// What to do next; `None` when all is said.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// How it stands.
    pub fn view(&self) -> DeskView {
        DeskView {
            calls: self.registry.calls().map(|call| call.view(&self.pulses)).collect(),
            active: self.registry.held(Table::Streams),
            capacity: CALLS_MAX,
            redirects: self.tally.redirects,
            failed: self.tally.failed,
            rest_trouble: self.tally.rest_trouble,
            draining: self.is_draining(),
            drained: self.is_drained(),
        }
    }

    /// Where each call stands: the column of the table at the head of [`crate::calls`].
    pub fn columns(&self) -> impl Iterator<Item = (CallKey, CallSid, &'static str)> {
        self.registry.calls().map(|call| (call.key, call.call_sid, call.phase.column()))
    }

    /// Whether no call would be left in silence if the box stopped now.
    pub fn is_drained(&self) -> bool {
        self.registry.calls().all(|call| match call.phase {
            Phase::Recording if call.recorder_by_webhook => true,
            Phase::Recording | Phase::Ending => !call.redirect.as_ref().is_some_and(Redirect::is_outstanding),
            // Also where REST was given up: Twilio may yet ask what follows the stream.
            Phase::FallingBack => false,
            Phase::Awaiting | Phase::Streaming | Phase::StreamOver => call.conversation_is_over(),
        })
    }

    fn handle_call_timeout(&mut self, key: CallKey, now: Instant) {
        let over = self.step(Some(key), now, |call, context| {
            if call.timers.expires_at <= now {
                return Some(EndCause::MaxDuration);
            }
            if call.timers.answer_at.is_some_and(|at| at <= now) {
                call.handle_answer_due(context);
            }
            if let Some(watch) = call.timers.watch.filter(|watch| watch.at <= now) {
                call.handle_watch(watch, context);
            }
            if call.phase == Phase::FallingBack {
                call.handle_redirect_due(context);
            }
            if call.look_up.is_some_and(|(_, until)| until <= now) {
                call.handle_look_up_lost(context);
            }
            if call.look_up.is_none() && call.timers.ask_at.is_some_and(|at| at <= now) {
                call.handle_ask_due(context);
            }
            None
        });
        self.end_if(key, over.flatten(), now);
    }

    fn drain_streams(&mut self, now: Instant) {
        let streaming = |call: &&Call| {
            let phase = matches!(call.phase, Phase::Awaiting | Phase::Streaming | Phase::StreamOver);
            phase && !call.conversation_is_over()
        };
        let keys: Vec<CallKey> = self.registry.calls().filter(streaming).map(|call| call.key).collect();
        for key in keys {
            self.step(Some(key), now, |call, context| call.fall_back(FallbackReason::Draining, context));
        }
    }

    /// REST takes too long. Twilio notices the end of a stream and asks `stream_ended`, while somebody is still there to
    /// give it the recorder. A redirect that takes effect after all leads to the same recorder.
    fn close_streams(&mut self) {
        let falling_back = self.registry.calls().filter(|call| call.phase == Phase::FallingBack);
        self.outputs.extend(falling_back.filter_map(Call::open_socket).map(|socket| Output::CloseStream { socket }));
    }

    fn is_draining(&self) -> bool {
        self.drain != Drain::NotAsked
    }

    /// As [`Context::answer_form`].
    fn answer_form(&self) -> PromptForm {
        if self.is_draining() { PromptForm::Say } else { PromptForm::Play }
    }

    /// Lets a webhook that expects nothing speak about its call: a final status ends it.
    fn with_call(&mut self, facts: &CallFacts, now: Instant, step: impl FnOnce(&mut Call, &mut Context<'_>)) {
        let key = self.registry.find(facts.call_sid);
        self.step(key, now, |call, context| {
            call.requested_at = context.now;
            step(call, context);
        });
        if let (Some(key), Some(status)) = (key, facts.status.filter(|status| status.is_final())) {
            self.end(key, EndCause::Status(status), None, now);
        }
    }

    fn step<T>(
        &mut self,
        key: Option<CallKey>,
        now: Instant,
        step: impl FnOnce(&mut Call, &mut Context<'_>) -> T,
    ) -> Option<T> {
        let draining = self.is_draining();
        let call = self.registry.call_mut(key?)?;
        let begin = self.outputs.len();
        let context = &mut Context {
            options: &self.options,
            pulses: &self.pulses,
            outputs: &mut self.outputs,
            tally: &mut self.tally,
            draining,
            now,
        };
        let result = step(call, context);
        // Before all that it led to: a redirect goes out when the journal knows of it.
        if let Some(live) = call.next_memo().filter(|_| !sings(Canary::JournalNotWritten)) {
            self.outputs.insert(begin, Output::RememberCall(Box::new(live)));
        }
        Some(result)
    }

    /// A call of the run before: Twilio is asked what became of it, unless it says so itself before that. It takes a
    /// place among those that hold no stream, so that new calls find the others free.
    fn handle_remembered(&mut self, live: LiveCall, now: Instant) {
        let LiveCall { call_sid, from, to, direction, answered_at, memo } = live;
        if self.registry.find(call_sid).is_some() {
            return;
        }
        let facts = CallFacts { call_sid, from, to, direction, status: None };
        let key = [Table::Recorders, Table::Streams].into_iter().find_map(|table| self.insert(table, &facts, now));
        self.step(key, now, |call, context| call.resume(answered_at, memo, context));
    }

    fn insert(&mut self, table: Table, facts: &CallFacts, now: Instant) -> Option<CallKey> {
        let options = &self.options;
        self.registry.insert(table, facts.call_sid, |key| Call::new(key, facts.clone(), options, now))
    }

    fn end_by_sid(&mut self, call_sid: CallSid, cause: EndCause, now: Instant) {
        if let Some(key) = self.registry.find(call_sid) {
            self.end(key, cause, None, now);
        }
    }

    fn end_if(&mut self, key: CallKey, cause: Option<EndCause>, now: Instant) {
        if let Some(cause) = cause {
            self.end(key, cause, None, now);
        }
    }

    /// The one way a call ends: its slot is freed and its record is made, once.
    fn end(&mut self, key: CallKey, cause: EndCause, request: Option<RequestId>, now: Instant) {
        if sings(Canary::SlotNotFreed) {
            return;
        }
        let Some(mut call) = self.registry.remove(key) else { return };
        for request in std::mem::take(&mut call.deferred) {
            self.answer(request, Answer::Nothing);
        }
        if let Some(socket) = call.open_socket() {
            self.outputs.push_back(Output::CloseStream { socket });
        }
        self.keep(call.ended(cause, &self.pulses, now), request);
    }

    /// A call that stood in no table is over: the box, or its memory of the call, was away while it lived.
    fn end_unknown(&mut self, facts: &CallFacts, status: CallStatus, request: Option<RequestId>, now: Instant) {
        self.keep(
            EndedCall {
                call_sid: facts.call_sid,
                stream_sid: None,
                from: facts.from.clone(),
                to: facts.to.clone(),
                direction: facts.direction,
                answered_at: now,
                ended_at: now,
                cause: EndCause::Status(status),
                fallback: Some(Fallback { reason: FallbackReason::UnknownCall, redirected_at: None }),
                had_media: false,
            },
            request,
        );
    }

    fn keep(&mut self, ended: EndedCall, request: Option<RequestId>) {
        self.ended.note(ended.call_sid, ended.cause);
        self.outputs.push_back(Output::Report(Report::CallEnded {
            call_sid: ended.call_sid,
            stream_sid: ended.stream_sid,
            cause: ended.cause,
            lasted: ended.ended_at.saturating_duration_since(ended.answered_at),
        }));
        let request = request.filter(|request| {
            let answered = sings(Canary::AnsweredBeforeKept);
            if answered {
                self.outputs.push_back(Output::Answer { request: *request, answer: Answer::NoContent });
            }
            !answered
        });
        self.outputs.push_back(Output::KeepRecord { ended: Box::new(ended), request });
    }

    fn was_ended(&self, call_sid: CallSid) -> Option<EndCause> {
        self.ended.cause(call_sid)
    }

    fn answer(&mut self, request: RequestId, answer: Answer) {
        self.outputs.push_back(Output::Answer { request, answer });
    }
}

#[cfg(test)]
mod tests;
