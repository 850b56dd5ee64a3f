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
        conversation.handle_audio(&self.audio, media.timestamp_ms, now);
        self.follow_conversation();
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
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};

    use super::*;
    use crate::twilio::media_stream::parse;

    const SECOND: Duration = Duration::from_secs(1);
    const SOCKET: SocketId = SocketId(7);
    const STREAM: StreamKey = StreamKey { slot: 3, generation: 9 };
    const TOKEN: &str = "AAAAAAAAAAAAAAAAAAAAAA";

    fn call_sid() -> CallSid {
        CallSid::from_number(1)
    }

    fn stream_sid() -> StreamSid {
        StreamSid::from_number(1)
    }

    fn account_sid() -> AccountSid {
        AccountSid::from_number(1)
    }

    /// A session and the world around it.
    struct Peer {
        session: MediaSession,
        pulses: Pulses,
        now: Instant,
    }

    impl Peer {
        fn connected() -> Self {
            Self::connected_with(ConversationOptions {
                caller_silence: 2 * SECOND,
                tone: [0x55; 160].into(),
                goodbye: Some([0x2a; 8_000].into()),
            })
        }

        fn connected_with(conversation: ConversationOptions) -> Self {
            let now = Instant::now();
            let pulses = Pulses::new(now);
            let options = MediaOptions { account_sid: Some(account_sid()), conversation: Arc::new(conversation) };
            let session = MediaSession::new(Arc::new(options), pulses.clone(), SOCKET, now);
            Self { session, pulses, now }
        }

        fn claimed() -> Self {
            let mut peer = Self::connected();
            assert_eq!(peer.says(&start()), [MediaOutput::Claim(claim())]);
            peer
        }

        fn live() -> Self {
            let mut peer = Self::claimed();
            let tone = [send(handle().media(&[0x55; 160])), send(handle().mark("tone"))];
            assert_eq!(peer.ordered(SocketOrder::Accept(STREAM)), tone);
            peer
        }

        fn says(&mut self, text: &str) -> Vec<MediaOutput> {
            self.session.handle_message(text, self.now);
            self.outputs()
        }

        fn ordered(&mut self, order: SocketOrder) -> Vec<MediaOutput> {
            self.session.handle_order(order, self.now);
            self.outputs()
        }

        fn leaves(&mut self) -> Vec<MediaOutput> {
            self.session.handle_gone();
            self.outputs()
        }

        /// Lets time pass up to what the session waits for, and no further.
        fn waits(&mut self) -> Vec<MediaOutput> {
            let (due, _) = self.session.poll_timeout().expect("waits for nothing");
            self.session.handle_timeout(due - Duration::from_millis(1));
            assert_eq!(self.outputs(), [], "too early");
            self.now = due;
            self.session.handle_timeout(due);
            self.outputs()
        }

        fn silence(&mut self, length: Duration) -> Vec<MediaOutput> {
            (0..length.as_millis() / 20).flat_map(|_| self.says(&media(&[0xff; 160]))).collect()
        }

        fn outputs(&mut self) -> Vec<MediaOutput> {
            std::iter::from_fn(|| self.session.poll_output()).collect()
        }
    }

    fn start_with(account_sid: AccountSid, parameters: &str) -> String {
        format!(
            r#"{{"event":"start","sequenceNumber":"1","streamSid":"{0}","start":{{"streamSid":"{0}","accountSid":"{1}",
            "callSid":"{2}","tracks":["inbound"],"customParameters":{parameters},
            "mediaFormat":{{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}}}}}}"#,
            stream_sid(),
            account_sid,
            call_sid(),
        )
    }

    fn start() -> String {
        start_with(account_sid(), &format!(r#"{{"call_sid":"{}","token":"{TOKEN}"}}"#, call_sid()))
    }

    fn claim() -> StartClaim {
        StartClaim {
            socket: SOCKET,
            call_sid: call_sid(),
            stream_sid: stream_sid(),
            call_sid_parameter: Some(call_sid()),
            token: Some(StreamToken(TOKEN.try_into().unwrap())),
            account_is_ours: true,
        }
    }

    fn handle() -> StreamHandle {
        match parse(&start()) {
            Ok(Inbound::Start(start)) => start.handle(),
            other => panic!("{other:?}"),
        }
    }

    fn media(ulaw: &[u8]) -> String {
        media_of(stream_sid(), "inbound", &STANDARD.encode(ulaw))
    }

    fn media_of(stream_sid: StreamSid, track: &str, payload: &str) -> String {
        format!(
            r#"{{"event":"media","sequenceNumber":"2","streamSid":"{stream_sid}",
            "media":{{"track":"{track}","chunk":"1","payload":"{payload}"}}}}"#
        )
    }

    fn mark(name: &str) -> String {
        format!(r#"{{"event":"mark","streamSid":"{}","mark":{{"name":"{name}"}}}}"#, stream_sid())
    }

    fn stop() -> String {
        format!(r#"{{"event":"stop","streamSid":"{}","stop":{{"callSid":"{}"}}}}"#, stream_sid(), call_sid())
    }

    fn send(message: String) -> MediaOutput {
        MediaOutput::Send(message)
    }

    fn closed(end: SocketEnd) -> MediaOutput {
        MediaOutput::Closed { stream: STREAM, end }
    }

    fn close_socket(code: u16, reason: &'static str) -> MediaOutput {
        MediaOutput::CloseSocket { code, reason }
    }

    #[test]
    fn a_connection_that_says_nothing_is_closed_after_ten_seconds_and_no_stream_ends() {
        let mut peer = Peer::connected();
        let begin = peer.now;
        assert_eq!(peer.says(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#), []);
        assert_eq!(peer.waits(), [close_socket(1008, "no start")]);
        assert_eq!(peer.now - begin, 10 * SECOND);
        assert!(peer.session.is_over());
        assert_eq!(peer.leaves(), []);
    }

    #[test]
    fn a_start_is_claimed_once_with_all_that_it_says() {
        let mut peer = Peer::claimed();
        assert_eq!(peer.session.identity(), Some((call_sid(), stream_sid())));
        let ignored = |count| [MediaOutput::Report(MediaReport::StartIgnored { count })];
        assert_eq!(peer.says(&start()), ignored(1));
        peer.ordered(SocketOrder::Accept(STREAM));
        assert_eq!(peer.says(&start()), ignored(2), "nor when the stream is live");
    }

    #[test]
    fn what_a_start_does_not_say_or_says_wrongly_is_left_to_the_desk() {
        let claimed = |start: String| match Peer::connected().says(&start).as_slice() {
            [MediaOutput::Claim(claim)] => claim.clone(),
            other => panic!("{other:?}"),
        };
        let bare = StartClaim { call_sid_parameter: None, token: None, ..claim() };
        assert_eq!(claimed(start_with(account_sid(), "{}")), bare);
        assert_eq!(claimed(start_with(account_sid(), &format!(r#"{{"token":"{TOKEN}A","call_sid":"CA"}}"#))), bare);
        let other_account = StartClaim { account_is_ours: false, ..bare };
        assert_eq!(claimed(start_with(AccountSid::from_number(2), "{}")), other_account);
    }

    #[test]
    fn audio_that_is_not_a_telephones_is_refused() {
        let mut peer = Peer::connected();
        let outputs = peer.says(&start().replace("audio/x-mulaw", "audio/l16"));
        assert_eq!(outputs, [close_socket(1008, "not audio/x-mulaw at 8000 Hz")]);
    }

    #[test]
    fn a_start_that_the_desk_does_not_believe_is_closed_with_1008_and_no_stream_ends() {
        let mut peer = Peer::claimed();
        assert_eq!(peer.ordered(SocketOrder::Refuse(Refusal::WrongToken)), [close_socket(1008, "wrong token")]);
        assert_eq!(peer.leaves(), []);
        assert_eq!(peer.says(&media(&[1; 160])), []);
    }

    #[test]
    fn a_desk_that_does_not_answer_is_not_waited_for_longer_than_the_start() {
        let mut peer = Peer::claimed();
        let begin = peer.now;
        assert_eq!(peer.waits(), [close_socket(1008, "start not confirmed")]);
        assert_eq!(peer.now - begin, 10 * SECOND);
        assert_eq!(peer.ordered(SocketOrder::Accept(STREAM)), [closed(SocketEnd::ClosedByBox)], "it answers too late");
        assert_eq!(peer.ordered(SocketOrder::Accept(STREAM)), [], "and one stream ends once");
    }

    #[test]
    fn media_count_as_life_only_from_the_accepted_stream_and_only_from_the_caller() {
        let mut peer = Peer::connected();
        let heard = |peer: &Peer| peer.pulses.last_heard(STREAM);
        peer.says(&media(&[1; 160]));
        peer.says(&start());
        peer.says(&media(&[1; 160]));
        peer.ordered(SocketOrder::Accept(STREAM));
        for message in [
            media_of(StreamSid::from_number(2), "inbound", "AQID"),
            media_of(stream_sid(), "outbound", "AQID"),
            media_of(stream_sid(), "inbound", ""),
            media_of(stream_sid(), "inbound", "no base64"),
            mark("tone"),
            format!(r#"{{"event":"dtmf","streamSid":"{}","dtmf":{{"digit":"5"}}}}"#, stream_sid()),
        ] {
            peer.says(&message);
            assert_eq!(peer.session.audio(), &[] as &[u8], "{message}");
        }
        assert_eq!((heard(&peer), peer.session.counts().frames), (None, 0));
        peer.now += SECOND;
        assert_eq!(peer.says(&media(&[1; 160])), []);
        assert_eq!((heard(&peer), peer.session.counts().frames), (Some(peer.now), 1));
        assert_eq!(peer.session.audio(), [1; 160]);
        peer.says(&media(&[2; 1_600]));
        assert_eq!(peer.session.audio(), [2; 1_600]);
        peer.says(&mark("x"));
        assert_eq!(peer.session.audio(), &[] as &[u8], "audio is offered once");
    }

    #[test]
    fn a_frame_after_stop_is_not_life() {
        let mut peer = Peer::live();
        peer.says(&stop());
        peer.says(&media(&[1; 160]));
        assert_eq!(peer.pulses.last_heard(STREAM), None);
    }

    #[test]
    fn bad_messages_are_skipped_counted_and_do_not_fill_the_log() {
        let mut peer = Peer::live();
        let reports: Vec<_> = (0..100).flat_map(|_| peer.says("{bad json")).collect();
        let bad = |count| MediaOutput::Report(MediaReport::BadMessage { count });
        assert_eq!(reports, [1, 2, 4, 8, 16, 32, 64].map(bad));
        assert_eq!(peer.session.counts().bad_messages, 100);
        assert_eq!(peer.says(&media(&[1; 160])), []);
        assert_eq!(peer.pulses.last_heard(STREAM), Some(peer.now), "the stream goes on");
    }

    #[test]
    fn a_stop_ends_the_stream_when_the_connection_follows() {
        let mut peer = Peer::live();
        let outputs = peer.says(&stop());
        assert_eq!(outputs, [MediaOutput::Stopped(STREAM), MediaOutput::Report(MediaReport::Stopped)]);
        assert_eq!(peer.says(&stop()), []);
        assert_eq!(peer.leaves(), [closed(SocketEnd::AfterStop)]);
        assert_eq!(peer.leaves(), []);
    }

    #[test]
    fn a_peer_that_does_not_close_after_stop_is_closed() {
        let mut peer = Peer::live();
        peer.says(&stop());
        assert_eq!(peer.waits(), [closed(SocketEnd::AfterStop), close_socket(1000, "stopped")]);
    }

    #[test]
    fn another_streams_stop_and_mark_are_nobodys() {
        let mut peer = Peer::live();
        let other = StreamSid::from_number(2).to_string();
        assert_eq!(peer.says(&stop().replace(stream_sid().as_str(), &other)), []);
        assert_eq!(peer.says(&mark("tone").replace(stream_sid().as_str(), &other)), []);
        assert_eq!(peer.leaves(), [closed(SocketEnd::Lost)]);
    }

    #[test]
    fn a_connection_that_ends_without_stop_is_lost() {
        let mut peer = Peer::live();
        assert_eq!(peer.leaves(), [closed(SocketEnd::Lost)]);
        assert_eq!(peer.leaves(), []);
        assert_eq!(peer.session.poll_timeout(), None);
    }

    #[test]
    fn a_stream_that_the_desk_accepts_too_late_still_ends_once() {
        let mut peer = Peer::claimed();
        assert_eq!(peer.leaves(), []);
        assert_eq!(peer.ordered(SocketOrder::Accept(STREAM)), [closed(SocketEnd::Lost)]);
        assert_eq!(peer.ordered(SocketOrder::Accept(STREAM)), []);
    }

    #[test]
    fn a_stop_that_comes_before_the_desks_answer_is_not_forgotten() {
        let mut peer = Peer::claimed();
        assert_eq!(peer.says(&stop()), []);
        let outputs = peer.ordered(SocketOrder::Accept(STREAM));
        assert_eq!(outputs, [MediaOutput::Stopped(STREAM), MediaOutput::Report(MediaReport::Stopped)]);
        assert_eq!(peer.leaves(), [closed(SocketEnd::AfterStop)]);

        let mut peer = Peer::claimed();
        peer.says(&stop());
        peer.leaves();
        assert_eq!(peer.ordered(SocketOrder::Accept(STREAM)), [closed(SocketEnd::AfterStop)]);
    }

    #[test]
    fn a_take_over_closes_with_1000_and_the_desk_hears_of_it_first() {
        let mut peer = Peer::live();
        let outputs = peer.ordered(SocketOrder::Close);
        assert_eq!(outputs, [closed(SocketEnd::ClosedByBox), close_socket(1000, "not needed any more")]);
        assert_eq!(peer.ordered(SocketOrder::Close), []);
        assert_eq!(peer.says(&stop()), []);
    }

    #[test]
    fn a_close_order_after_stop_is_still_an_end_after_stop() {
        let mut peer = Peer::live();
        peer.says(&stop());
        let outputs = peer.ordered(SocketOrder::Close);
        assert_eq!(outputs, [closed(SocketEnd::AfterStop), close_socket(1000, "not needed any more")]);
    }

    #[test]
    fn a_connection_without_stream_can_be_closed_too() {
        assert_eq!(Peer::connected().ordered(SocketOrder::Close), [close_socket(1000, "not needed any more")]);
        assert_eq!(Peer::claimed().ordered(SocketOrder::Close), [close_socket(1000, "not needed any more")]);
    }

    #[test]
    fn a_breach_of_the_protocol_is_closed_with_its_code() {
        let mut peer = Peer::live();
        peer.session.handle_breach(1009, "message too large");
        assert_eq!(peer.outputs(), [closed(SocketEnd::ClosedByBox), close_socket(1009, "message too large")]);
    }

    #[test]
    fn the_tone_is_proof_of_the_way_out() {
        let mut peer = Peer::live();
        peer.now += SECOND / 2;
        let heard = MediaOutput::Report(MediaReport::ToneHeard { after: SECOND / 2 });
        assert_eq!(peer.says(&mark("tone")), [heard]);
    }

    #[test]
    fn a_caller_who_says_nothing_hears_goodbye_before_the_conversation_is_over() {
        let mut peer = Peer::live();
        assert_eq!(
            peer.silence(2 * SECOND),
            [
                MediaOutput::Report(MediaReport::GoodbyeStarted { silent: 2 * SECOND }),
                send(handle().media(&[0x2a; 8_000])),
                send(handle().mark("goodbye-1")),
            ]
        );
        let over = [closed(SocketEnd::ConversationOver), close_socket(1000, "conversation over")];
        assert_eq!(peer.says(&mark("goodbye-1")), over);
        assert_eq!(peer.leaves(), []);

        let mut peer = Peer::live();
        peer.silence(2 * SECOND);
        let begin = peer.now;
        assert_eq!(peer.waits(), over, "a mark that never comes is not waited for");
        assert_eq!(peer.now - begin, 4 * SECOND);
    }

    #[test]
    fn a_goodbye_that_twilio_speaks_is_left_to_it() {
        let tone = [].into();
        let mut peer = Peer::connected_with(ConversationOptions { caller_silence: SECOND, tone, goodbye: None });
        peer.says(&start());
        assert_eq!(peer.ordered(SocketOrder::Accept(STREAM)), []);
        assert_eq!(
            peer.silence(SECOND),
            [
                MediaOutput::Report(MediaReport::GoodbyeStarted { silent: SECOND }),
                closed(SocketEnd::ConversationOver),
                close_socket(1000, "conversation over"),
            ]
        );
    }

    #[test]
    fn a_caller_who_hangs_up_during_the_goodbye_stopped() {
        let mut peer = Peer::live();
        peer.silence(2 * SECOND);
        peer.says(&stop());
        assert_eq!(peer.says(&mark("goodbye-1")), []);
        assert_eq!(peer.leaves(), [closed(SocketEnd::AfterStop)]);
    }

    proptest::proptest! {
        #[test]
        fn whatever_happens_an_accepted_stream_ends_exactly_once(steps in proptest::collection::vec(0..12_u8, 0..60)) {
            let mut peer = Peer::connected();
            let mut outputs = Vec::new();
            let mut accepted = false;
            for step in steps {
                outputs.extend(match step {
                    0 => peer.says(&start()),
                    1 => peer.says(&media(&[0xff; 1_600])),
                    2 => peer.says(&media(&[0xff; 16_000])),
                    3 => peer.says(&stop()),
                    4 => peer.says(&mark("goodbye-1")),
                    5 => peer.says("]"),
                    6 if !accepted && outputs.contains(&MediaOutput::Claim(claim())) => {
                        accepted = true;
                        peer.ordered(SocketOrder::Accept(STREAM))
                    }
                    7 => peer.ordered(SocketOrder::Close),
                    8 if !accepted => peer.ordered(SocketOrder::Refuse(Refusal::WrongCall)),
                    9 => peer.leaves(),
                    10 if peer.session.poll_timeout().is_some() => peer.waits(),
                    11 => { peer.session.handle_breach(1002, "breach"); peer.outputs() }
                    _ => Vec::new(),
                });
            }
            outputs.extend(peer.leaves());
            let count = |is: fn(&MediaOutput) -> bool| outputs.iter().filter(|output| is(output)).count();
            let closed = count(|output| matches!(output, MediaOutput::Closed { .. }));
            // Refused first and accepted then is nothing that a desk does.
            proptest::prop_assert!(closed == usize::from(accepted), "{outputs:?}");
            let closings = count(|output| matches!(output, MediaOutput::CloseSocket { .. }));
            proptest::prop_assert!(closings <= 1, "{outputs:?}");
            let last_send = outputs.iter().rposition(|output| matches!(output, MediaOutput::Send(_)));
            let close = outputs.iter().position(|output| matches!(output, MediaOutput::CloseSocket { .. }));
            let is_last = close.is_none_or(|close| last_send.is_none_or(|send| send < close));
            proptest::prop_assert!(is_last, "nothing is sent after the close: {outputs:?}");
        }
    }
}
