//! Whole conversations of one media connection, without a connection.

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
        let options =
            MediaOptions { account_sid: Some(account_sid()), conversation: Arc::new(conversation), mask_keys: false };
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
