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

use base64::{Engine, engine::general_purpose::STANDARD};

use super::desk_port::SocketOrder;
use crate::{
    calls::{Pulses, Refusal, SocketEnd, SocketId, StartClaim, StreamKey, StreamToken},
    limits::{
        GOODBYE_INTERRUPT_MIN, GOODBYE_MARGIN, GOODBYES_INTERRUPTED_MAX, START_MAX, STOP_TO_CLOSE_MAX,
    },
    speech::{
        audio::{self, SAMPLE_RATE_HZ},
        silence::CallerSilence,
    },
    twilio::{
        media_stream::{self, Inbound, Media, Start, StreamHandle},
        sid::{AccountSid, CallSid, StreamSid},
    },
};

/// Normal closure (RFC 6455, 7.4.1).
const CLOSE_NORMAL: u16 = 1000;
/// Policy violation (RFC 6455, 7.4.1).
const CLOSE_POLICY: u16 = 1008;
/// The mark behind the tone. It comes back when the tone was played: proof of the way out.
const TONE_MARK: &str = "tone";
/// Audio goes out in messages of a second: the peer buffers it and plays it in order.
const OUTBOUND_BYTES: usize = SAMPLE_RATE_HZ as usize;

/// What all media connections have in common.
#[derive(Debug, Clone)]
pub struct MediaOptions {
    /// The account whose streams are believed; `None`: any.
    pub account_sid: Option<AccountSid>,
    /// Goodbye after this long without speech; zero: never.
    pub caller_silence: Duration,
    /// Played as soon as the stream is accepted: the caller's sign to speak. μ-law; empty: none.
    pub tone: Arc<[u8]>,
    /// Played at the end of a conversation. μ-law; `None`: the connection is closed without, and Twilio speaks.
    pub goodbye: Option<Arc<[u8]>>,
}

/// What the connection is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MediaOutput {
    /// Ask the desk whether this `start` is believed.
    Claim(StartClaim),
    /// Send this text message.
    Send(String),
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
    /// The audio of the message handled last.
    audio: Vec<u8>,
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
    AwaitingStart { until: Instant },
    Claimed { until: Instant, handle: StreamHandle },
    Live(Live),
    /// The peer said `stop`, and closes by then.
    Stopped { stream: StreamKey, until: Instant },
    /// `late_end`: how the stream ended if the desk's acceptance arrives only now; `None` if one was accepted before.
    Over { late_end: Option<SocketEnd> },
}

/// An accepted stream.
#[derive(Debug)]
struct Live {
    stream: StreamKey,
    handle: StreamHandle,
    silence: CallerSilence,
    tone_sent: Option<Instant>,
    goodbye: Option<Goodbye>,
    /// How many goodbyes were begun: each has a mark of its own.
    goodbyes: u32,
}

/// A goodbye that is being played.
#[derive(Debug)]
struct Goodbye {
    mark: String,
    /// When it is over even if its mark never comes back.
    until: Instant,
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
            Ok(Inbound::Connected | Inbound::Dtmf { .. } | Inbound::Unknown) => {}
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
        match self.poll_timeout() {
            Some((due, _)) if due <= now => {}
            _ => return,
        }
        match self.state {
            State::AwaitingStart { .. } => self.close(SocketEnd::ClosedByBox, CLOSE_POLICY, "no start"),
            State::Claimed { .. } => self.close(SocketEnd::ClosedByBox, CLOSE_POLICY, "start not confirmed"),
            State::Live(_) => self.close(SocketEnd::ConversationOver, CLOSE_NORMAL, "conversation over"),
            State::Stopped { .. } => self.close(SocketEnd::AfterStop, CLOSE_NORMAL, "stopped"),
            State::Over { .. } => {}
        }
    }

    /// When to call [`Self::handle_timeout`], and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match &self.state {
            State::AwaitingStart { until } => Some((*until, "start")),
            State::Claimed { until, .. } => Some((*until, "the desk's answer to the start")),
            State::Live(live) => live.goodbye.as_ref().map(|goodbye| (goodbye.until, "the goodbye's mark")),
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
        if !start.is_telephone_audio {
            return self.close(SocketEnd::ClosedByBox, CLOSE_POLICY, "not audio/x-mulaw at 8000 Hz");
        }
        let account_is_ours = self.options.account_sid.is_none_or(|ours| start.account_sid == Some(ours));
        self.state = State::Claimed { until, handle: start.handle() };
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
            State::Claimed { handle, .. } => {
                let mut live = Live::new(stream, handle.clone());
                if !self.options.tone.is_empty() {
                    self.outputs.push_back(MediaOutput::Send(live.handle.media(&self.options.tone)));
                    self.outputs.push_back(MediaOutput::Send(live.handle.mark(TONE_MARK)));
                    live.tone_sent = Some(now);
                }
                self.state = State::Live(live);
            }
            // The connection ended while the desk was deciding: it learns that the stream it accepted is no more.
            State::Over { late_end } => {
                if let Some(end) = late_end.take() {
                    self.outputs.push_back(MediaOutput::Closed { stream, end });
                }
            }
            State::AwaitingStart { .. } | State::Live(_) | State::Stopped { .. } => {}
        }
    }

    fn handle_media(&mut self, media: &Media<'_>, now: Instant) {
        let State::Live(live) = &mut self.state else { return };
        if !media.is_inbound || media.stream_sid != Some(live.handle.stream_sid()) {
            return;
        }
        if STANDARD.decode_vec(media.payload_base64, &mut self.audio).is_err() {
            return self.handle_bad_message();
        }
        if self.audio.is_empty() {
            return;
        }
        self.pulses.stamp(live.stream, now);
        self.counts.frames += 1;
        if !self.options.caller_silence.is_zero() {
            live.silence.handle_audio(&self.audio, media.timestamp_ms);
            self.follow_conversation(now);
        }
    }

    /// Says goodbye to a caller who says nothing, and falls silent when the caller speaks after all.
    fn follow_conversation(&mut self, now: Instant) {
        let State::Live(live) = &mut self.state else { return };
        let silent = live.silence.silent();
        if live.goodbye.is_some() {
            let is_interrupted = live.silence.speaking() >= GOODBYE_INTERRUPT_MIN;
            if is_interrupted && live.goodbyes <= GOODBYES_INTERRUPTED_MAX {
                live.goodbye = None;
                self.outputs.push_back(MediaOutput::Send(live.handle.clear()));
                self.report(MediaReport::GoodbyeInterrupted);
            }
        } else if silent >= self.options.caller_silence {
            self.report(MediaReport::GoodbyeStarted { silent });
            self.say_goodbye(now);
        }
    }

    fn say_goodbye(&mut self, now: Instant) {
        let State::Live(live) = &mut self.state else { return };
        let Some(goodbye) = &self.options.goodbye else {
            return self.close(SocketEnd::ConversationOver, CLOSE_NORMAL, "conversation over");
        };
        live.goodbyes += 1;
        let mark = format!("goodbye-{}", live.goodbyes);
        for part in goodbye.chunks(OUTBOUND_BYTES) {
            self.outputs.push_back(MediaOutput::Send(live.handle.media(part)));
        }
        self.outputs.push_back(MediaOutput::Send(live.handle.mark(&mark)));
        live.goodbye = Some(Goodbye { mark, until: now + audio::duration(goodbye.len()) + GOODBYE_MARGIN });
    }

    fn handle_mark(&mut self, name: &str, stream_sid: Option<StreamSid>, now: Instant) {
        let State::Live(live) = &mut self.state else { return };
        if stream_sid != Some(live.handle.stream_sid()) {
            return;
        }
        if name == TONE_MARK {
            if let Some(sent) = live.tone_sent.take() {
                self.report(MediaReport::ToneHeard { after: now.saturating_duration_since(sent) });
            }
        } else if live.goodbye.as_ref().is_some_and(|goodbye| goodbye.mark == name) {
            // The mark of a goodbye that was cleared comes back too, and means nothing: it is not the one awaited.
            self.close(SocketEnd::ConversationOver, CLOSE_NORMAL, "conversation over");
        }
    }

    fn handle_stop(&mut self, stream_sid: Option<StreamSid>, now: Instant) {
        let State::Live(live) = &self.state else { return };
        if stream_sid != Some(live.handle.stream_sid()) {
            return;
        }
        let stream = live.stream;
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
            State::Claimed { .. } => Some(end),
            State::Live(live) => {
                self.outputs.push_back(MediaOutput::Closed { stream: live.stream, end });
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

impl Live {
    fn new(stream: StreamKey, handle: StreamHandle) -> Self {
        Self { stream, handle, silence: CallerSilence::new(), tone_sent: None, goodbye: None, goodbyes: 0 }
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
