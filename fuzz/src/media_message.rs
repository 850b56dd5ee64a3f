//! Media-stream messages: each line of the input is a message from Twilio, or an order that begins with `!`.
//!
//! The whole session is driven, with a clock that only `!wait` (until what is due) and `!later` (a second) move. A line
//! that is no UTF-8 is a binary message. The desk's orders come only when a desk would give them.

use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use kolbox::{
    calls::{Pulses, Refusal, SocketId, StreamKey},
    limits::STREAM_PARAMETERS_MAX,
    server::{
        conversation::ConversationOptions,
        desk_port::SocketOrder,
        media_session::{MediaOptions, MediaOutput, MediaReport, MediaSession},
    },
    speech::marks::Mark,
    twilio::{
        media_stream::{self, Inbound},
        media_stream_peer::parse_outbound,
        sid::AccountSid,
    },
};

/// Lines taken of one input.
const LINES_MAX: usize = 64;
/// What one message may make the session do: a goodbye with its parts, its mark, and what is said about it.
const OUTPUTS_MAX: usize = 8;
/// A second of audio in base64, and the JSON around it.
const SENT_BYTES_MAX: usize = 11_000;
const STREAM: StreamKey = StreamKey { slot: 3, generation: 9 };

/// The clock's zero: only differences count.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);
static OPTIONS: LazyLock<Arc<MediaOptions>> = LazyLock::new(|| {
    let conversation = ConversationOptions {
        caller_silence: Duration::from_millis(100),
        tone: [0x55; 160].into(),
        goodbye: Some([0x2a; 400].into()),
    };
    let (account_sid, conversation) = (Some(AccountSid::from_number(0xaa)), Arc::new(conversation));
    Arc::new(MediaOptions { account_sid, conversation, mask_keys: false })
});

pub fn run(data: &[u8]) {
    let mut peer = Peer::connected();
    for line in data.split(|byte| *byte == b'\n').take(LINES_MAX) {
        match line {
            b"!accept" => peer.accept(),
            b"!refuse" => peer.refuse(),
            b"!close" => peer.order(SocketOrder::Close),
            b"!gone" => peer.session.handle_gone(),
            b"!breach" => peer.session.handle_breach(1002, "breach"),
            b"!later" => peer.now += Duration::from_secs(1),
            b"!wait" => peer.wait(),
            line => match std::str::from_utf8(line) {
                Ok(text) => peer.say(text),
                Err(_) => peer.session.handle_bad_message(),
            },
        }
        peer.follow();
    }
    peer.session.handle_gone();
    peer.follow();
    assert_eq!(peer.closed, usize::from(peer.accepted), "an accepted stream ends exactly once");
}

/// A session, and what it did so far.
struct Peer {
    session: MediaSession,
    now: Instant,
    claimed: bool,
    answered: bool,
    accepted: bool,
    /// Accepted when the session had given up waiting for it: it is answered for all the same.
    late: bool,
    closed: usize,
    socket_closed: bool,
}

impl Peer {
    fn connected() -> Self {
        let session = MediaSession::new(OPTIONS.clone(), Pulses::new(*EPOCH), SocketId(1), *EPOCH);
        Self {
            session,
            now: *EPOCH,
            claimed: false,
            answered: false,
            accepted: false,
            late: false,
            closed: 0,
            socket_closed: false,
        }
    }

    fn say(&mut self, text: &str) {
        let readable = check_message(text);
        let was_over = self.session.is_over();
        let before = self.session.counts();
        self.session.handle_message(text, self.now);
        assert!(self.session.audio().len() <= text.len());
        if readable || was_over {
            return;
        }
        assert!(!self.session.is_over(), "a bad message ended the stream");
        let after = self.session.counts();
        assert_eq!((after.bad_messages, after.frames), (before.bad_messages + 1, before.frames));
        while let Some(output) = self.session.poll_output() {
            assert!(matches!(output, MediaOutput::Report(MediaReport::BadMessage { .. })), "{output:?}");
        }
    }

    fn accept(&mut self) {
        if self.claimed && !self.answered {
            (self.answered, self.accepted, self.late) = (true, true, self.socket_closed);
            self.order(SocketOrder::Accept(STREAM));
        }
    }

    fn refuse(&mut self) {
        if self.claimed && !self.answered {
            self.answered = true;
            self.order(SocketOrder::Refuse(Refusal::WrongToken));
        }
    }

    fn order(&mut self, order: SocketOrder) {
        self.session.handle_order(order, self.now);
    }

    /// Until what the session waits for, and not past it.
    fn wait(&mut self) {
        if let Some((due, _)) = self.session.poll_timeout() {
            self.now = self.now.max(due);
            self.session.handle_timeout(self.now);
        }
    }

    fn follow(&mut self) {
        let mut count = 0;
        while let Some(output) = self.session.poll_output() {
            count += 1;
            match output {
                MediaOutput::Claim(claim) => {
                    assert!(!self.claimed, "a second claim");
                    self.claimed = true;
                    assert_eq!(Some((claim.call_sid, claim.stream_sid)), self.session.identity());
                }
                MediaOutput::Send(message) => {
                    assert!(!self.socket_closed && self.accepted && message.len() <= SENT_BYTES_MAX);
                    let outbound = parse_outbound(&message).expect("Twilio drops what is not exactly as documented");
                    assert_eq!(Some(outbound.stream_sid()), self.session.identity().map(|(_, stream_sid)| stream_sid));
                }
                MediaOutput::Closed { stream, .. } => {
                    assert!(
                        stream == STREAM && self.socket_closed == self.late,
                        "told before the connection is closed"
                    );
                    self.closed += 1;
                }
                MediaOutput::CloseSocket { .. } => {
                    assert!(!self.socket_closed, "closed twice");
                    self.socket_closed = true;
                }
                MediaOutput::Mark(Mark::Key(key)) => assert!(self.accepted && "0123456789*#ABCD".contains(key)),
                MediaOutput::Mark(Mark::Gap(length)) => panic!("a gap of {length:?} is told with its audio"),
                MediaOutput::Stopped(stream) => assert_eq!(stream, STREAM),
                MediaOutput::Report(_) => {}
            }
        }
        assert!(count <= OUTPUTS_MAX, "{count} outputs at once");
    }
}

/// Whether a message can be read, its audio included.
fn check_message(text: &str) -> bool {
    match media_stream::parse(text) {
        Ok(Inbound::Media(media)) => {
            let mut ulaw = vec![1, 2, 3];
            let decoded = media.decode(&mut ulaw).is_ok();
            assert!(ulaw.len() <= media.payload_base64.len() / 4 * 3 && (decoded || ulaw.is_empty()));
            // Audio of a stream that is not ours, or not the caller's, is passed over before anybody decodes it.
            true
        }
        Ok(Inbound::Start(start)) => {
            assert!(start.parameters.len() <= STREAM_PARAMETERS_MAX);
            assert_eq!(start.handle().stream_sid(), start.stream_sid);
            true
        }
        Ok(_) => true,
        Err(_) => false,
    }
}
