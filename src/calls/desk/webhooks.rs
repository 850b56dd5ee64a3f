//! What each webhook about a call is answered, and which `start` is believed.

use std::time::Instant;

use super::Desk;
use crate::{
    calls::{
        Answer, CallFacts, CallKey, EndCause, Fallback, FallbackReason, Output, Refusal, Report, RequestId, StartClaim,
        StreamToken, Table,
    },
    twilio::{sid::RecordingSid, webhook::CallStatus},
};

impl Desk {
    pub(super) fn handle_voice(&mut self, request: RequestId, facts: CallFacts, token: StreamToken, now: Instant) {
        if let Some(status) = facts.status.filter(|status| status.is_final()) {
            self.end_by_sid(facts.call_sid, EndCause::Status(status), now);
            return self.answer(request, Answer::Nothing);
        }
        if let Some(key) = self.registry.find(facts.call_sid) {
            let draining = self.is_draining();
            self.step(Some(key), now, |call, context| {
                call.requested_at = context.now;
                match call.is_in_fallback() {
                    false if draining => call.give_recorder(request, FallbackReason::Draining, context),
                    false => call.answer_with_stream(request, context),
                    true => call.give_recorder(request, FallbackReason::NoStreamStart, context),
                }
            });
            return;
        }
        if self.was_ended(facts.call_sid).is_some() {
            return self.answer_record(request);
        }
        let refusal = match (self.is_draining(), self.can_keep) {
            (true, _) => Some(FallbackReason::Draining),
            (_, false) => Some(FallbackReason::Trouble),
            _ => None,
        };
        let reason = match refusal {
            Some(reason) => reason,
            None => match self.insert(Table::Streams, &facts, now) {
                Some(key) => return self.answer_new_call(key, request, token, now),
                None => FallbackReason::NoCapacity,
            },
        };
        self.record_unlisted(request, &facts, reason, now);
    }

    fn answer_new_call(&mut self, key: CallKey, request: RequestId, token: StreamToken, now: Instant) {
        self.step(Some(key), now, |call, context| {
            call.token = Some(token);
            call.answer_with_stream(request, context);
            context.outputs.push_back(Output::Report(Report::CallAnswered { call_sid: call.call_sid, with: "stream" }));
        });
    }

    /// Sends a call that no table holds to the recorder; if the second table is full too, without a place in it.
    fn record_unlisted(&mut self, request: RequestId, facts: &CallFacts, reason: FallbackReason, now: Instant) {
        let call_sid = facts.call_sid;
        match self.insert(Table::Recorders, facts, now) {
            Some(key) => {
                self.step(Some(key), now, |call, context| call.give_recorder(request, reason, context));
            }
            None => self.answer_record(request),
        }
        self.outputs.push_back(Output::Report(Report::CallAnswered { call_sid, with: reason.as_str() }));
    }

    pub(super) fn handle_connect_ended(&mut self, request: RequestId, facts: CallFacts, now: Instant) {
        if let Some(status) = facts.status.filter(|status| status.is_final()) {
            match self.registry.find(facts.call_sid) {
                Some(key) => self.end(key, EndCause::Status(status), None, now),
                None if self.was_ended(facts.call_sid).is_some() => {}
                None => self.end_unknown(&facts, status, None, now),
            }
            return self.answer(request, Answer::Nothing);
        }
        match self.registry.find(facts.call_sid) {
            Some(key) => {
                self.step(Some(key), now, |call, context| {
                    call.requested_at = context.now;
                    call.handle_connect_ended(request, context);
                });
            }
            None => self.handle_connect_ended_late(request, &facts, now),
        }
    }

    /// A call that is over, as far as we knew, or that we never knew, and is in progress all the same.
    fn handle_connect_ended_late(&mut self, request: RequestId, facts: &CallFacts, now: Instant) {
        match self.was_ended(facts.call_sid) {
            Some(EndCause::MaxDuration) => self.answer(request, Answer::Hangup),
            Some(_) => self.answer_record(request),
            None => self.record_unlisted(request, facts, FallbackReason::UnknownCall, now),
        }
    }

    /// A call that we do not know has left a message: it was sent to the recorder before the box restarted.
    pub(super) fn handle_record_ended(
        &mut self,
        request: RequestId,
        facts: CallFacts,
        (recording, duration_s): (Option<RecordingSid>, Option<u32>),
        hung_up: bool,
        now: Instant,
    ) {
        let status = facts.status.filter(|status| status.is_final());
        let over = status.map(EndCause::Status).or(hung_up.then_some(EndCause::HungUpInRecord));
        let nothing_said = duration_s == Some(0) || (recording.is_none() && duration_s.is_none());
        let answer = match (&over, nothing_said) {
            (Some(_), _) => Answer::Nothing,
            (None, true) => Answer::NoMessage(self.answer_form()),
            (None, false) => Answer::Goodbye(self.answer_form()),
        };
        let key = match self.registry.find(facts.call_sid) {
            None if self.was_ended(facts.call_sid).is_some() => None,
            None => self.insert(Table::Recorders, &facts, now),
            known => known,
        };
        self.step(key, now, |call, context| {
            call.requested_at = context.now;
            let reason = FallbackReason::UnknownCall;
            call.fallback.get_or_insert(Fallback { reason, redirected_at: None });
            call.note_recording(context);
            call.enter_ending(context);
        });
        self.answer(request, answer);
        if let Some(key) = key {
            self.end_if(key, over, now);
        }
    }

    pub(super) fn handle_call_status(&mut self, request: RequestId, facts: &CallFacts, now: Instant) {
        let key = self.registry.find(facts.call_sid);
        match (facts.status.filter(|status| status.is_final()), key) {
            (Some(status), Some(key)) => self.end(key, EndCause::Status(status), Some(request), now),
            // Answered by something else, or by us before a restart: a recording of it may be waiting.
            (Some(CallStatus::Completed), None) if self.was_ended(facts.call_sid).is_none() => {
                self.end_unknown(facts, CallStatus::Completed, Some(request), now);
            }
            (Some(_), None) => {
                self.outputs.push_back(Output::AnswerOnceKept { request, call_sid: facts.call_sid });
            }
            (None, key) => {
                self.step(key, now, |call, context| call.requested_at = context.now);
                self.answer(request, Answer::NoContent);
            }
        }
    }

    /// The recorder for a call that holds no slot.
    fn answer_record(&mut self, request: RequestId) {
        self.answer(request, Answer::Record(self.answer_form()));
    }

    pub(super) fn handle_claim(&mut self, claim: &StartClaim, now: Instant) {
        match self.check_claim(claim) {
            Err(refusal) => self.outputs.push_back(Output::RefuseStream { socket: claim.socket, refusal }),
            Ok(key) => {
                let stream = self.registry.next_stream(key);
                self.step(Some(key), now, |call, context| {
                    if let Some(stream) = stream {
                        call.accept_stream(claim, stream, context);
                    }
                });
            }
        }
    }

    fn check_claim(&mut self, claim: &StartClaim) -> Result<CallKey, Refusal> {
        if !claim.account_is_ours {
            return Err(Refusal::WrongAccount);
        }
        if claim.call_sid_parameter != Some(claim.call_sid) {
            return Err(Refusal::WrongCall);
        }
        let key = self.registry.find(claim.call_sid).ok_or(Refusal::UnknownCall)?;
        let call = self.registry.call_mut(key).ok_or(Refusal::UnknownCall)?;
        match (&call.token, &claim.token) {
            (None, _) => Err(Refusal::UnknownCall),
            (Some(ours), Some(theirs)) if ours.matches(theirs) => Ok(key),
            _ => Err(Refusal::WrongToken),
        }
    }
}
