//! One media connection's conversation, from its 101 to its end: claims its call, hears the caller, says goodbye. Pure.
//!
//! The route of a frame: [`MediaSession::handle_message`] parses it, borrowing from the text, decodes its audio into one
//! buffer that is used again for each frame, stamps the stream's pulse, and offers the audio at [`MediaSession::audio`].
//! Nothing on that way allocates, waits or logs.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    conversation::{Conversation, ConversationOptions, ConversationOutput},
    desk_port::SocketOrder,
};
use crate::{
    calls::{Pulses, Refusal, SocketEnd, SocketId, StartClaim, StreamKey, StreamToken},
    limits::{START_MAX, STOP_TO_CLOSE_MAX},
    speech::{audio::duration, marks::Mark, stream_clock::StreamClock},
    twilio::{
        media_stream::{self, Inbound, Media, Start, StreamHandle},
        sid::{AccountSid, CallSid, StreamSid},
    },
};

/// Normal closure (RFC 6455, 7.4.1).
const CLOSE_NORMAL: u16 = 1000;
/// Policy violation (RFC 6455, 7.4.1).
pub(super) const CLOSE_POLICY: u16 = 1008;

/// What all media connections have in common.
#[derive(Debug, Clone)]
pub struct MediaOptions {
    /// The account whose streams are believed; `None`: any.
    pub account_sid: Option<AccountSid>,
    pub conversation: Arc<ConversationOptions>,
    /// `speech.mask_digits`: which keys are pressed is nobody's business.
    pub mask_keys: bool,
}

/// What the connection is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaOutput {
    /// Ask the desk whether this `start` is believed.
    Claim(StartClaim),
    /// Send this text message.
    Send(String),
    /// Note this beside the accepted stream's audio, behind all of it so far.
    Mark(Mark),
    /// Tell the desk that the accepted stream said `stop`.
    Stopped(StreamKey),
    /// Tell the desk that the accepted stream is over. Exactly one for each accepted stream, and before the connection is
    /// closed: so the desk knows why before Twilio asks what comes next.
    Closed { stream: StreamKey, end: SocketEnd },
    /// Close the connection. Nothing is sent after it.
    CloseSocket { code: u16, reason: &'static str },
    /// A line for the log.
    Report(MediaReport),
}

/// What is worth a line in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MediaReport {
    /// The tone was played so long after it was sent.
    ToneHeard { after: Duration },
    /// Nobody spoke for so long.
    GoodbyeStarted { silent: Duration },
    /// The caller spoke during the goodbye.
    GoodbyeInterrupted,
    /// `WS_STOP`
    Stopped,
    /// `WS_BAD_JSON`: the first, and then each time the count has doubled.
    BadMessage { count: u64 },
    /// A further `start` on the same connection: the first, and then each time the count has doubled.
    StartIgnored { count: u64 },
}

/// One media connection.
#[derive(Debug)]
pub struct MediaSession {
    options: Arc<MediaOptions>,
    pulses: Pulses,
    socket: SocketId,
    state: State,
    /// What the first `start` said; also of one that was not believed.
    identity: Option<(CallSid, StreamSid)>,
    /// The audio of the message handled last, and how much is missing before it.
    audio: Vec<u8>,
    missing: Duration,
    clock: StreamClock,
    counts: MediaCounts,
    outputs: VecDeque<MediaOutput>,
}

/// What a connection has had so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MediaCounts {
    /// Media frames of the accepted stream.
    pub frames: u64,
    /// Messages that could not be read.
    pub bad_messages: u64,
    /// `start` messages behind the first.
    pub ignored_starts: u64,
}

#[derive(Debug)]
enum State {
    /// Until then a `start` must come that is believed.
    AwaitingStart {
        until: Instant,
    },
    Claimed {
        until: Instant,
        handle: StreamHandle,
        is_stopped: bool,
    },
    Live {
        stream: StreamKey,
        conversation: Conversation,
    },
    /// The peer said `stop`, and closes by then.
    Stopped {
        stream: StreamKey,
        until: Instant,
    },
    /// `late_end`: how the stream ended if the desk's acceptance arrives only now; `None` if one was accepted before.
    Over {
        late_end: Option<SocketEnd>,
    },
}

impl MediaSession {
    /// A connection that got its 101 just now.
    pub fn new(options: Arc<MediaOptions>, pulses: Pulses, socket: SocketId, now: Instant) -> Self {
        Self {
            options,
            pulses,
            socket,
            state: State::AwaitingStart { until: now + START_MAX },
            identity: None,
            audio: Vec::new(),
            missing: Duration::ZERO,
            clock: StreamClock::default(),
            counts: MediaCounts::default(),
            outputs: VecDeque::new(),
        }
    }

    /// The peer sent a text message. What cannot be read is skipped and counted.
    pub fn handle_message(&mut self, text: &str, now: Instant) {
        self.audio.clear();
        if matches!(self.state, State::Over { .. }) {
            return;
        }
        match media_stream::parse(text) {
            Ok(Inbound::Media(media)) => self.handle_media(&media, now),
            Ok(Inbound::Start(start)) => self.handle_start(&start),
            Ok(Inbound::Mark { name, stream_sid }) => self.handle_mark(&name, stream_sid, now),
            Ok(Inbound::Stop { stream_sid }) => self.handle_stop(stream_sid, now),
            Ok(Inbound::Dtmf { digit }) => self.handle_key(digit),
            Ok(Inbound::Connected | Inbound::Unknown) => {}
            Err(_) => self.handle_bad_message(),
        }
    }

    /// The peer sent what is no media stream message: binary, or what [`Self::handle_message`] could not read.
    pub fn handle_bad_message(&mut self) {
        self.audio.clear();
        self.counts.bad_messages += 1;
        let count = self.counts.bad_messages;
        if count.is_power_of_two() {
            self.report(MediaReport::BadMessage { count });
        }
    }

    /// The desk decided.
    pub fn handle_order(&mut self, order: SocketOrder, now: Instant) {
        match order {
            SocketOrder::Accept(stream) => self.handle_accept(stream, now),
            SocketOrder::Refuse(refusal) => self.close(SocketEnd::ClosedByBox, CLOSE_POLICY, refusal_text(refusal)),
            SocketOrder::Close => self.close(SocketEnd::ClosedByBox, CLOSE_NORMAL, "not needed any more"),
        }
    }

    /// The peer is gone: its close frame, the end of the connection, a reset, or it does not read any more.
    pub fn handle_gone(&mut self) {
        self.end(SocketEnd::Lost);
    }

    /// The peer broke the WebSocket protocol or a limit: the connection is closed with this code.
    pub fn handle_breach(&mut self, code: u16, reason: &'static str) {
        self.close(SocketEnd::ClosedByBox, code, reason);
    }

    /// Time has passed: acts on what was due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_none_or(|(due, _)| now < due) {
            return;
        }
        match &mut self.state {
            State::AwaitingStart { .. } => self.close(SocketEnd::ClosedByBox, CLOSE_POLICY, "no start"),
            State::Claimed { .. } => self.close(SocketEnd::ClosedByBox, CLOSE_POLICY, "start not confirmed"),
            State::Live { conversation, .. } => {
                conversation.handle_timeout(now);
                self.follow_conversation();
            }
            State::Stopped { .. } => self.close(SocketEnd::AfterStop, CLOSE_NORMAL, "stopped"),
            State::Over { .. } => {}
        }
    }

    /// When to call [`Self::handle_timeout`], and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::AwaitingStart { until } => Some((*until, "start")),
            State::Claimed { until, .. } => Some((*until, "the desk's answer to the start")),
            State::Live { conversation, .. } => conversation.poll_timeout(),
            State::Stopped { until, .. } => Some((*until, "the connection's end after stop")),
            State::Over { .. } => None,
        }
    }

    /// What to do next; to be drained before the next `handle_*`.
    pub fn poll_output(&mut self) -> Option<MediaOutput> {
        self.outputs.pop_front()
    }

    /// The caller's audio in the message handled last, in μ-law: empty but for media frames of the accepted stream.
    pub fn audio(&self) -> &[u8] {
        &self.audio
    }

    /// How much of the caller's audio is missing before it, by the stream's timestamps.
    pub fn missing(&self) -> Duration {
        self.missing
    }

    /// Call and stream as the first `start` named them.
    pub fn identity(&self) -> Option<(CallSid, StreamSid)> {
        self.identity
    }

    /// What this connection has had so far.
    pub fn counts(&self) -> MediaCounts {
        self.counts
    }

    /// Whether nothing more is wanted of the connection.
    pub fn is_over(&self) -> bool {
        matches!(self.state, State::Over { .. })
    }

    fn handle_start(&mut self, start: &Start<'_>) {
        let State::AwaitingStart { until } = self.state else {
            self.counts.ignored_starts += 1;
            let count = self.counts.ignored_starts;
            if count.is_power_of_two() {
                self.report(MediaReport::StartIgnored { count });
            }
            return;
        };
        self.identity = Some((start.call_sid, start.stream_sid));
        if !start.is_ulaw_8k_mono {
            return self.close(SocketEnd::ClosedByBox, CLOSE_POLICY, "not audio/x-mulaw at 8000 Hz");
        }
        let account_is_ours = self.options.account_sid.is_none_or(|ours| start.account_sid == Some(ours));
        self.state = State::Claimed { until, handle: start.handle(), is_stopped: false };
        self.outputs.push_back(MediaOutput::Claim(StartClaim {
            socket: self.socket,
            call_sid: start.call_sid,
            stream_sid: start.stream_sid,
            call_sid_parameter: start.parameter("call_sid").and_then(|text| text.parse().ok()),
            token: start.parameter("token").and_then(|text| text.try_into().ok()).map(StreamToken),
            account_is_ours,
        }));
    }

    fn handle_accept(&mut self, stream: StreamKey, now: Instant) {
        match &mut self.state {
            State::Claimed { is_stopped: true, .. } => self.stop(stream, now),
            State::Claimed { handle, .. } => {
                let conversation = Conversation::new(Arc::clone(&self.options.conversation), handle.clone(), now);
                self.state = State::Live { stream, conversation };
                self.follow_conversation();
            }
            // The connection ended while the desk was deciding: it learns that the stream it accepted is no more.
            State::Over { late_end } => {
                if let Some(end) = late_end.take() {
                    self.outputs.push_back(MediaOutput::Closed { stream, end });
                }
            }
            State::AwaitingStart { .. } | State::Live { .. } | State::Stopped { .. } => {}
        }
    }

    fn handle_media(&mut self, media: &Media<'_>, now: Instant) {
        let State::Live { stream, conversation } = &mut self.state else { return };
        if !media.track_inbound || media.stream_sid != Some(conversation.handle().stream_sid()) {
            return;
        }
        if media.decode(&mut self.audio).is_err() {
            return self.handle_bad_message();
        }
        if self.audio.is_empty() {
            return;
        }
        self.pulses.stamp(*stream, now);
        self.counts.frames += 1;
        self.missing = self.clock.handle_audio(media.timestamp_ms, duration(self.audio.len()));
        conversation.handle_audio(&self.audio, self.missing, now);
        self.follow_conversation();
    }

    fn handle_key(&mut self, name: char) {
        if let State::Live { .. } = self.state
            && let Some(key) = Mark::key(name)
        {
            self.outputs.push_back(MediaOutput::Mark(if self.options.mask_keys { key.masked() } else { key }));
        }
    }

    fn handle_mark(&mut self, name: &str, stream_sid: Option<StreamSid>, now: Instant) {
        let State::Live { conversation, .. } = &mut self.state else { return };
        if stream_sid == Some(conversation.handle().stream_sid()) {
            conversation.handle_mark(name, now);
            self.follow_conversation();
        }
    }

    /// Does what the conversation wants.
    fn follow_conversation(&mut self) {
        while let State::Live { conversation, .. } = &mut self.state
            && let Some(output) = conversation.poll_output()
        {
            match output {
                ConversationOutput::Send(message) => self.outputs.push_back(MediaOutput::Send(message)),
                ConversationOutput::ToneHeard { after } => self.report(MediaReport::ToneHeard { after }),
                ConversationOutput::GoodbyeStarted { silent } => self.report(MediaReport::GoodbyeStarted { silent }),
                ConversationOutput::GoodbyeInterrupted => self.report(MediaReport::GoodbyeInterrupted),
                ConversationOutput::Over => {
                    self.close(SocketEnd::ConversationOver, CLOSE_NORMAL, "conversation over");
                }
            }
        }
    }

    fn handle_stop(&mut self, stream_sid: Option<StreamSid>, now: Instant) {
        match &mut self.state {
            State::Live { stream, conversation } if stream_sid == Some(conversation.handle().stream_sid()) => {
                let stream = *stream;
                self.stop(stream, now);
            }
            State::Claimed { handle, is_stopped, .. } if stream_sid == Some(handle.stream_sid()) => *is_stopped = true,
            _ => {}
        }
    }

    fn stop(&mut self, stream: StreamKey, now: Instant) {
        self.state = State::Stopped { stream, until: now + STOP_TO_CLOSE_MAX };
        self.outputs.push_back(MediaOutput::Stopped(stream));
        self.report(MediaReport::Stopped);
    }

    fn close(&mut self, end: SocketEnd, code: u16, reason: &'static str) {
        if !self.is_over() {
            self.end(end);
            self.outputs.push_back(MediaOutput::CloseSocket { code, reason });
        }
    }

    /// The one way into [`State::Over`].
    fn end(&mut self, end: SocketEnd) {
        self.audio.clear();
        let late_end = match &self.state {
            State::Over { .. } => return,
            State::AwaitingStart { .. } => None,
            State::Claimed { is_stopped: true, .. } => Some(SocketEnd::AfterStop),
            State::Claimed { .. } => Some(end),
            State::Live { stream, .. } => {
                self.outputs.push_back(MediaOutput::Closed { stream: *stream, end });
                None
            }
            State::Stopped { stream, .. } => {
                self.outputs.push_back(MediaOutput::Closed { stream: *stream, end: SocketEnd::AfterStop });
                None
            }
        };
        self.state = State::Over { late_end };
    }

    fn report(&mut self, report: MediaReport) {
        self.outputs.push_back(MediaOutput::Report(report));
    }
}

fn refusal_text(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownCall => "unknown call",
        Refusal::WrongToken => "wrong token",
        Refusal::WrongCall => "wrong call",
        Refusal::WrongAccount => "wrong account",
    }
}

#[cfg(test)]
#[path = "media_session_tests.rs"]
mod tests;
