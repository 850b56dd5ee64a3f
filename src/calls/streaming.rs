//! A call's steps while it has, awaits or has lost a stream.

use std::time::{Duration, Instant};

use super::{
    Answer, FallbackReason, Output, Report, RequestId, SocketEnd, StartClaim, StreamKey,
    call::{Call, Context, Phase, Stream},
    canary::{Canary, sings},
    watchdog::{Look, Watch},
};
use crate::twilio::sid::StreamSid;

/// How long `stream_ended` waits for the socket's end before it is answered without.
const SOCKET_END_WAIT: Duration = Duration::from_secs(1);
/// A call nothing was heard of for this long after its stream, or after the answer that ends it, is asked for.
pub(super) const QUIET_MAX: Duration = Duration::from_secs(30);

impl Call {
    /// Answers `incoming_call` with the stream, the first time and again.
    pub(super) fn answer_with_stream(&mut self, request: RequestId, context: &mut Context<'_>) {
        let Some(token) = self.token.clone() else {
            return self.give_recorder(request, FallbackReason::Trouble, context);
        };
        self.reanswered_at = context.now;
        if self.open_socket().is_none() {
            self.await_stream(context);
        }
        context
            .outputs
            .push_back(Output::Answer { request, answer: Answer::Stream { call_sid: self.call_sid, token } });
    }

    fn await_stream(&mut self, context: &Context<'_>) {
        self.enter(Phase::Awaiting, context.now);
        self.stream_error_at = None;
        self.timers.ask_at = None;
        self.timers.watch = Some(context.options.watchdog.after_answer(self.reanswered_at));
    }

    /// Believes a `start`: its media count from now on, and an older stream's no longer.
    pub(super) fn accept_stream(&mut self, claim: &StartClaim, key: StreamKey, context: &mut Context<'_>) {
        self.earlier_media |= self.last_heard(context.pulses).is_some();
        if sings(Canary::TakeOverIgnored) && self.open_socket().is_some() {
            return context.outputs.push_back(Output::AcceptStream { socket: claim.socket, stream: key });
        }
        if let Some(older) = self.stream.take().filter(|stream| stream.open) {
            context.outputs.push_back(Output::CloseStream { socket: older.socket });
        }
        self.stream = Some(Stream {
            key,
            stream_sid: claim.stream_sid,
            socket: claim.socket,
            started_at: context.now,
            open: true,
            stopped: false,
            end: None,
        });
        self.requested_at = context.now;
        self.stream_error_at = None;
        context.outputs.push_back(Output::AcceptStream { socket: claim.socket, stream: key });
        context.outputs.push_back(Output::Report(Report::StreamStarted {
            call_sid: self.call_sid,
            stream_sid: claim.stream_sid,
            after: context.now.saturating_duration_since(self.reanswered_at),
        }));
        // A call on its way to the recorder is won back by media, not by a `start`.
        if !matches!(self.phase, Phase::FallingBack | Phase::Recording) {
            self.resume_streaming(context.now, context);
        }
    }

    /// The call streams (again): the watchdog looks `no_media_timeout` after `heard`.
    pub(super) fn resume_streaming(&mut self, heard: Instant, context: &Context<'_>) {
        self.enter(Phase::Streaming, context.now);
        self.redirect = None;
        self.timers.ask_at = None;
        self.timers.watch = Some(context.options.watchdog.after_media(heard));
    }

    /// The current stream said `stop`.
    pub(super) fn handle_stop(&mut self, context: &mut Context<'_>) {
        let had_media = self.last_heard(context.pulses).is_some();
        let Some(stream) = self.stream.as_mut().filter(|stream| !stream.stopped) else { return };
        stream.stopped = true;
        let started_at = stream.started_at;
        match self.phase {
            // Twilio left this stream for an answer that was given since: another one is to come.
            Phase::Streaming if self.reanswered_at > started_at => self.await_stream(context),
            Phase::Streaming => {
                let watch = context.options.watchdog.after_stop(context.now, had_media);
                self.stream_over(Some(watch), context.now);
            }
            Phase::FallingBack => self.note_stopped(context),
            _ => {}
        }
        self.answer_deferred(context);
    }

    /// The current stream's connection is over.
    pub(super) fn handle_closed(&mut self, end: SocketEnd, context: &mut Context<'_>) {
        let Some(stream) = self.stream.as_mut().filter(|stream| stream.open) else { return };
        stream.open = false;
        stream.end = Some(end);
        let started_at = stream.started_at;
        if self.phase == Phase::Streaming && self.reanswered_at > started_at {
            self.await_stream(context);
        } else if self.phase == Phase::Streaming {
            let watch = match end {
                SocketEnd::ConversationOver => None,
                SocketEnd::AfterStop | SocketEnd::Lost | SocketEnd::ClosedByBox => {
                    Some(context.options.watchdog.after_loss(context.now))
                }
            };
            self.stream_over(watch, context.now);
        }
        self.answer_deferred(context);
    }

    fn stream_over(&mut self, watch: Option<Watch>, now: Instant) {
        self.enter(Phase::StreamOver, now);
        self.timers.watch = watch;
        self.timers.ask_at = Some(now + QUIET_MAX);
    }

    /// Twilio reported an error of this stream, or of one that it does not name.
    pub(super) fn handle_stream_error(&mut self, stream_sid: Option<StreamSid>, context: &Context<'_>) {
        let about_another = match (self.stream.as_ref().filter(|stream| stream.open), stream_sid) {
            (Some(stream), Some(named)) => stream.stream_sid != named,
            _ => false,
        };
        let watched = matches!(self.phase, Phase::Awaiting | Phase::Streaming | Phase::StreamOver);
        if about_another || !watched || self.conversation_is_over() {
            return;
        }
        self.stream_error_at = Some(context.now);
        self.timers.watch = Some(context.options.watchdog.after_stream_error(self.timers.watch, context.now));
    }

    /// The watchdog's deadline has come.
    pub(super) fn handle_watch(&mut self, watch: Watch, context: &mut Context<'_>) {
        self.timers.watch = None;
        if sings(Canary::WatchdogOff) {
            return;
        }
        let heard = self.last_heard(context.pulses);
        let stream = self.stream.as_ref().filter(|_| self.phase == Phase::Streaming);
        let (since, reason) = match stream {
            None => (self.since, watch.reason),
            Some(stream) => {
                let watchdog = &context.options.watchdog;
                match watchdog.look(stream.started_at, heard, self.stream_error_at, context.now) {
                    Look::Alive(watch) => {
                        self.timers.watch = (!sings(Canary::DeadlineNotRearmed)).then_some(watch);
                        return;
                    }
                    Look::Silent { since, reason } => (since, reason),
                }
            }
        };
        let silent = context.now.saturating_duration_since(since);
        let call_sid = self.call_sid;
        context.outputs.push_back(Output::Report(match self.stream_sid() {
            None => Report::NoStreamStart { call_sid, reason, after: silent },
            stream_sid => Report::NoMedia { call_sid, stream_sid, reason, silent },
        }));
        self.fall_back(reason, context);
    }

    /// `stream_ended`: hangs up only when the conversation was had; else the recorder. Waits for the socket's end.
    pub(super) fn handle_connect_ended(&mut self, request: RequestId, context: &mut Context<'_>) {
        if self.phase == Phase::Streaming && self.open_socket().is_some() && self.deferred.push(request).is_ok() {
            self.timers.answer_at.get_or_insert(context.now + SOCKET_END_WAIT);
            return;
        }
        self.answer_connect_ended(request, context);
    }

    /// The wait for the socket's end is over: a socket that is still open leads nowhere.
    pub(super) fn handle_answer_due(&mut self, context: &mut Context<'_>) {
        if let Some(socket) = self.open_socket() {
            context.outputs.push_back(Output::CloseStream { socket });
        }
        self.answer_deferred(context);
    }

    fn answer_deferred(&mut self, context: &mut Context<'_>) {
        self.timers.answer_at = None;
        for request in std::mem::take(&mut self.deferred) {
            self.answer_connect_ended(request, context);
        }
    }

    fn answer_connect_ended(&mut self, request: RequestId, context: &mut Context<'_>) {
        let had_media = self.last_heard(context.pulses).is_some();
        let stopped = self.stream.as_ref().is_some_and(|stream| stream.stopped);
        let was_had = self.conversation_is_over() || (stopped && had_media);
        if (was_had && !self.is_in_fallback()) || sings(Canary::StreamEndedHangsUp) {
            self.enter(Phase::Ending, context.now);
            self.timers.watch = None;
            self.timers.ask_at = Some(context.now + QUIET_MAX);
            // A goodbye that could not be played through the stream is spoken now.
            let unspoken = self.conversation_is_over() && !context.options.goodbye_in_stream;
            let answer = if unspoken { Answer::Goodbye(context.answer_form()) } else { Answer::Hangup };
            context.outputs.push_back(Output::Answer { request, answer });
            return;
        }
        let reason = match &self.stream {
            None if let Some(memo) = self.remembered => memo.reason(),
            None if self.stream_error_at.is_some() => FallbackReason::StreamError,
            None => FallbackReason::NoStreamStart,
            Some(_) if stopped => FallbackReason::EndedWithoutMedia,
            Some(_) => FallbackReason::SocketLost,
        };
        self.give_recorder(request, reason, context);
    }

    /// The box itself ended the conversation: its goodbye was played.
    pub(super) fn conversation_is_over(&self) -> bool {
        self.stream.as_ref().is_some_and(|stream| stream.end == Some(SocketEnd::ConversationOver))
    }
}
