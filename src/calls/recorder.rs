//! A call's steps toward the recorder, and the proof that it got there.

use std::time::{Duration, Instant};

use super::{
    Answer, AttemptId, EndCause, Fallback, FallbackReason, Memo, Output, Report, RequestId, RestTrouble,
    call::{Call, Context, Phase},
    canary::{Canary, sings},
    redirect::{ATTEMPT_MAX, Redirect, Verdict},
    streaming::QUIET_MAX,
};
use crate::twilio::{
    rest::{CallLookup, UpdateOutcome},
    webhook::CallStatus,
};

/// After Twilio took the recorder's document and its prompt was played: time for a sign of the recording.
const RECORDING_SIGN_WAIT: Duration = Duration::from_secs(10);
/// After the longest recording: time for its `handle_recording`.
const RECORDING_END_WAIT: Duration = Duration::from_secs(15);
/// Between questions that Twilio did not answer.
const ASK_AGAIN: Duration = Duration::from_secs(10);
/// How often one call is given the recorder, by REST or a webhook, before a redirect: the second only after Twilio was asked.
const RECORDERS_MAX: u32 = 2;

impl Call {
    /// Takes up a call that the run before left: its stream died with that run, and whether it is in the recorder, over,
    /// or in silence only Twilio knows.
    pub(super) fn resume(&mut self, answered_at: Instant, memo: Memo, context: &mut Context<'_>) {
        self.answered_at = answered_at;
        self.remembered = Some(memo);
        self.journal = Some(memo);
        self.fallback = memo.fallback;
        // Nobody counted its frames; a stream that came up had some.
        self.earlier_media = memo.stream_sid.is_some();
        if memo.fallback.is_some_and(|fallback| fallback.redirected_at.is_some()) {
            self.enter_recording(context);
        } else {
            self.enter(Phase::StreamOver, context.now);
            self.timers.ask_at = Some(context.now);
        }
    }

    /// Answers a webhook with the `<Record>`: no redirect is needed any more, and none is repeated.
    pub(super) fn give_recorder(&mut self, request: RequestId, reason: FallbackReason, context: &mut Context<'_>) {
        let fallback = self.fallback.get_or_insert(Fallback { reason, redirected_at: None });
        fallback.redirected_at.get_or_insert(context.now);
        if self.redirect.as_ref().is_some_and(|redirect| !redirect.may_be_applied()) {
            self.redirect = None;
        }
        self.recorder_by_webhook = true;
        // Twilio asked what follows the stream: no redirect had stopped it.
        self.stop_unexplained = false;
        self.enter_recording(context);
        let answer = Answer::Record(context.answer_form());
        context.outputs.push_back(Output::Answer { request, answer });
    }

    /// Sends the call to the recorder by REST.
    pub(super) fn fall_back(&mut self, reason: FallbackReason, context: &mut Context<'_>) {
        self.enter(Phase::FallingBack, context.now);
        self.fallback.get_or_insert(Fallback { reason, redirected_at: None });
        self.redirect = Some(Redirect::new(reason, context.now));
        self.timers.watch = None;
        self.timers.ask_at = None;
        self.handle_redirect_due(context);
    }

    /// A try is due, or an outstanding one's answer is lost. A call that has come to life meanwhile is left alone, unless
    /// the box that hears it is about to leave.
    pub(super) fn handle_redirect_due(&mut self, context: &mut Context<'_>) {
        let Some(redirect) = &self.redirect else { return };
        if let Some(attempt) = redirect.overdue(context.now) {
            self.handle_redirect_outcome(attempt, UpdateOutcome::TimedOut, context);
            return;
        }
        if !redirect.is_due(context.now) {
            return;
        }
        if !context.draining && self.is_heard_since(redirect.decided_at, context) {
            self.fallback = self.fallback.filter(|fallback| fallback.redirected_at.is_some());
            self.resume_streaming(context.now, context);
            return;
        }
        let attempt = self.next_attempt();
        let full = self.prompt_form(context);
        if let Some(redirect) = &mut self.redirect {
            let prompt = redirect.send(attempt, full, context.now);
            let redirect = Output::Redirect { attempt, call_sid: self.call_sid, prompt };
            if sings(Canary::RedirectTwice) {
                context.outputs.push_back(redirect.clone());
            }
            if sings(Canary::CloseWithoutRedirect) {
                context.outputs.extend(self.open_socket().map(|socket| Output::CloseStream { socket }));
            } else {
                context.outputs.push_back(redirect);
            }
        }
    }

    /// Reads the result of a try; `Some` when it says that the call is over.
    pub(super) fn handle_redirect_outcome(
        &mut self,
        attempt: AttemptId,
        outcome: UpdateOutcome,
        context: &mut Context<'_>,
    ) -> Option<EndCause> {
        let redirect = self.redirect.as_mut()?;
        let decided_at = redirect.decided_at;
        let verdict = redirect.handle_outcome(attempt, outcome, context.now);
        match verdict {
            Verdict::Stale => return None,
            Verdict::CallOver => {
                context.tally.rest_trouble = None;
                // It was over before the deadline came: nothing sent it to the recorder, and a `stop` was its end.
                if redirect.is_first_try() && !self.recorder_by_webhook && !self.recording_seen {
                    self.fallback = None;
                }
                return Some(EndCause::RestCallOver);
            }
            Verdict::Accepted => {
                context.tally.rest_trouble = None;
                self.note_accepted(context);
                return None;
            }
            Verdict::TryAgain | Verdict::GivenUp => {}
        }
        context.tally.rest_trouble = RestTrouble::of(outcome).or(context.tally.rest_trouble);
        if self.phase == Phase::Recording && self.stop_unexplained {
            self.explain_stop(outcome, context);
        }
        // A webhook or a sign of the recorder came first: this try is not missed.
        if self.phase != Phase::FallingBack {
            self.redirect = None;
            return None;
        }
        // Redirect first, close after: a silent stream that REST does not end is ended by us, and Twilio asks
        // `stream_ended`, whose answer needs no REST.
        if let Some(socket) =
            self.open_socket().filter(|_| context.draining || !self.is_heard_since(decided_at, context))
        {
            context.outputs.push_back(Output::CloseStream { socket });
        }
        let given_up = verdict == Verdict::GivenUp;
        if given_up {
            context.tally.failed += u64::from(!std::mem::replace(&mut self.given_up, true));
        }
        // Also while tries go on: if none of their answers comes in time, none of them says that the call is over.
        self.timers.ask_at.get_or_insert(context.now + QUIET_MAX);
        context.outputs.push_back(Output::Report(Report::RedirectFailed {
            call_sid: self.call_sid,
            stream_sid: self.stream_sid(),
            outcome,
            given_up,
        }));
        None
    }

    /// A `stop` while a try's answer is open counts as its acceptance. Until that answer comes it may also have been the
    /// caller's hanging up, so that nothing is told and counted yet.
    pub(super) fn note_stopped(&mut self, context: &mut Context<'_>) {
        let Some(redirect) = self.redirect.as_ref().filter(|redirect| redirect.may_be_applied()) else { return };
        let is_outstanding = redirect.is_outstanding();
        self.enter_recording(context);
        if is_outstanding {
            self.stop_unexplained = true;
        } else {
            self.tell_redirected(context);
        }
    }

    /// The open try was answered, without a yes: what does that say about the `stop` that came before?
    fn explain_stop(&mut self, outcome: UpdateOutcome, context: &mut Context<'_>) {
        if outcome.is_refusal() {
            // Twilio has not redirected the call: it stopped the stream for another reason, and the next try is due.
            self.enter(Phase::FallingBack, context.now);
            self.recorders_given -= 1;
            self.timers.ask_at = None;
        } else {
            self.tell_redirected(context);
        }
    }

    /// A recording of this call was announced.
    pub(super) fn note_recording(&mut self, context: &mut Context<'_>) {
        // Only a running recorder explains it: it counts as acceptance of a try whose answer is open.
        if self.phase == Phase::FallingBack && self.redirect.as_ref().is_some_and(Redirect::may_be_applied) {
            self.tell_redirected(context);
            self.enter_recording(context);
        } else if self.stop_unexplained {
            self.tell_redirected(context);
        }
        // A redirect that was thought lost took effect late.
        if matches!(self.phase, Phase::Awaiting | Phase::StreamOver) && !self.conversation_is_over() {
            let reason = if self.stream.is_some() { FallbackReason::NoMedia } else { FallbackReason::NoStreamStart };
            self.fallback.get_or_insert(Fallback { reason, redirected_at: None });
            self.note_redirected(context.now);
            self.enter_recording(context);
        }
        if self.phase == Phase::Recording {
            self.recording_seen = true;
            self.timers.ask_at = Some(context.now + context.options.record_max_length + RECORDING_END_WAIT);
        }
    }

    fn note_accepted(&mut self, context: &mut Context<'_>) {
        self.tell_redirected(context);
        self.redirect = None;
        if self.phase == Phase::FallingBack {
            self.enter_recording(context);
        }
    }

    /// Tells and counts once that Twilio took the redirect: by its answer or by a sign. After a sign the try's own answer
    /// is still welcome: it may say that the call is over.
    fn tell_redirected(&mut self, context: &mut Context<'_>) {
        self.stop_unexplained = false;
        let Some(redirect) = self.redirect.as_mut().filter(|redirect| !redirect.told) else { return };
        redirect.told = true;
        context.tally.redirects += 1;
        context.outputs.push_back(Output::Report(Report::Redirected {
            call_sid: self.call_sid,
            stream_sid: self.stream.as_ref().map(|stream| stream.stream_sid),
            reason: redirect.reason,
            after: context.now.saturating_duration_since(redirect.decided_at),
        }));
        self.note_redirected(context.now);
    }

    fn note_redirected(&mut self, now: Instant) {
        if let Some(fallback) = &mut self.fallback {
            fallback.redirected_at.get_or_insert(now);
        }
    }

    fn enter_recording(&mut self, context: &mut Context<'_>) {
        if self.phase != Phase::Recording {
            self.recorders_given += 1;
        }
        self.enter(Phase::Recording, context.now);
        self.look_up = None;
        self.recording_seen = false;
        self.timers.watch = None;
        self.timers.ask_at = Some(context.now + context.options.fallback_prompt + RECORDING_SIGN_WAIT);
    }

    /// The recorder is done, and the webhook was answered with the call's end.
    pub(super) fn enter_ending(&mut self, context: &mut Context<'_>) {
        self.enter(Phase::Ending, context.now);
        self.redirect = None;
        self.recording_seen = true;
        self.timers.watch = None;
        self.timers.ask_at = Some(context.now + QUIET_MAX);
    }

    /// Nothing was heard of the call for too long: ask Twilio, unless its stream turns out to live.
    pub(super) fn handle_ask_due(&mut self, context: &mut Context<'_>) {
        self.timers.ask_at = None;
        if matches!(self.phase, Phase::Recording | Phase::FallingBack) && self.is_heard_since(self.since, context) {
            self.resume_streaming(context.now, context);
            return;
        }
        // Twilio closes the stream of a call that it redirects; one still open by now leads nowhere.
        if let Some(socket) = self.open_socket() {
            context.outputs.push_back(Output::CloseStream { socket });
        }
        let attempt = self.next_attempt();
        self.look_up = Some((attempt, context.now + ATTEMPT_MAX + ATTEMPT_MAX));
        let recordings = self.phase == Phase::Recording || self.remembered.is_some();
        context.outputs.push_back(Output::LookUpCall { attempt, call_sid: self.call_sid, recordings });
    }

    /// Reads what Twilio knows of the call; `Some` when it is over.
    pub(super) fn handle_look_up(
        &mut self,
        attempt: AttemptId,
        outcome: CallLookup,
        context: &mut Context<'_>,
    ) -> Option<EndCause> {
        if self.look_up.is_none_or(|(current, _)| current != attempt) {
            return None;
        }
        self.look_up = None;
        if matches!(outcome, CallLookup::Found { .. }) {
            context.tally.rest_trouble = None;
        }
        // A stream or a webhook has answered the question meanwhile.
        if matches!(self.phase, Phase::Awaiting | Phase::Streaming) {
            return None;
        }
        let wait = match outcome {
            CallLookup::Found { status, .. } if status.is_final() => return Some(EndCause::LookedUp(status)),
            CallLookup::NotFound if self.phase == Phase::Ending => return Some(EndCause::LookedUpUnknown),
            // Wrong account or region: no sign that the call is over.
            CallLookup::NotFound => {
                context.tally.rest_trouble = Some(RestTrouble::NotFound);
                QUIET_MAX
            }
            CallLookup::Found { has_recording: true, .. } => {
                self.recording_seen = true;
                QUIET_MAX
            }
            CallLookup::Found { status: CallStatus::InProgress, .. } if self.may_be_redirected_again() => {
                self.redirect_again(context);
                return None;
            }
            CallLookup::Found { .. } => QUIET_MAX,
            CallLookup::Unauthorized => {
                context.tally.rest_trouble = Some(RestTrouble::Unauthorized);
                QUIET_MAX
            }
            CallLookup::Unavailable => ASK_AGAIN,
        };
        self.timers.ask_at.get_or_insert(context.now + wait);
        None
    }

    /// A look-up's result is lost: ask again.
    pub(super) fn handle_look_up_lost(&mut self, context: &Context<'_>) {
        self.look_up = None;
        self.timers.ask_at.get_or_insert(context.now);
    }

    /// Not while tries go on. But after they were given up: REST works, if it could say that the call is in progress, and
    /// a caller is in silence.
    fn may_be_redirected_again(&self) -> bool {
        let goes_on = self.redirect.as_ref().is_some_and(|redirect| !redirect.is_given_up());
        let goes_on = goes_on && self.phase == Phase::FallingBack;
        !goes_on && !self.recording_seen && self.recorders_given < RECORDERS_MAX
    }

    /// Twilio says that the call is in progress, and it has neither stream nor recording.
    fn redirect_again(&mut self, context: &mut Context<'_>) {
        let reason = match (&self.stream, self.remembered) {
            (None, Some(memo)) => memo.reason(),
            (Some(_), _) => FallbackReason::NoMedia,
            (None, None) => FallbackReason::NoStreamStart,
        };
        self.fall_back(reason, context);
    }
}
