//! What a media socket may be: its messages, its `start`, and who is believed.

use std::{
    io,
    sync::{Arc, Mutex},
};

use futures_util::{SinkExt, StreamExt};
use kolbox::{
    limits::WS_MESSAGE_BYTES_MAX,
    simulator::media_client::{MediaSocket, OpenError},
    twilio::{sid::CallSid, signature},
};
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    front::{Front, LONG, SHORT, Setup, TOKEN, ask, form},
    other_call::Start,
};

/// The box's close frame: its code and its reason.
async fn closed(socket: &mut MediaSocket) -> (u16, String) {
    let close = async {
        while let Some(message) = socket.next().await {
            if let Ok(Message::Close(Some(frame))) = message {
                return (frame.code.into(), frame.reason.to_string());
            }
        }
        panic!("the connection ended without a close frame");
    };
    timeout(LONG, close).await.expect("the box leaves the socket open")
}

/// One frame as a client sends it, masked with zeros (RFC 6455 §5.2). `first`: FIN, the reserved bits and the opcode.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// A live stream of a further call.
async fn live(front: &Front, number: u64) -> MediaSocket {
    let call = CallSid::from_number(number.into());
    let token = front.answer(&mut front.secure().await, call).await;
    front.live(&Start::of(call, &token, number)).await
}

#[tokio::test]
async fn who_breaks_the_protocol_or_a_limit_is_closed_with_the_code_that_says_so() {
    let mut front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let half = vec![b' '; WS_MESSAGE_BYTES_MAX / 2];
    let breaches = [
        ("a message too long", frame(0x81, &vec![b' '; WS_MESSAGE_BYTES_MAX + 1]), 1009, "message too big"),
        ("a frame that only says so", vec![0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0], 1009, "message too big"),
        (
            "fragments that are too long together",
            [frame(0x01, &half), frame(0x00, &half), frame(0x80, b" ")].concat(),
            1009,
            "message too big",
        ),
        ("text that is not UTF-8", frame(0x81, b"\xff\xfe"), 1007, "text is not UTF-8"),
        ("a frame without mask", vec![0x81, 2, b'{', b'}'], 1002, "protocol error"),
        ("a reserved bit", frame(0xc1, b"{}"), 1002, "protocol error"),
        ("an unknown opcode", frame(0x83, b"{}"), 1002, "protocol error"),
        ("a ping that is too long", frame(0x89, &[0; 126]), 1002, "protocol error"),
        ("a ping in fragments", frame(0x09, b"?"), 1002, "protocol error"),
        ("a continuation of nothing", frame(0x80, b"{}"), 1002, "protocol error"),
        ("a message inside another", [frame(0x01, b"{"), frame(0x81, b"{}")].concat(), 1002, "protocol error"),
    ];
    for (number, (what, bytes, code, reason)) in breaches.into_iter().enumerate() {
        let mut socket = live(&front, number as u64).await;
        let before = front.metrics.media.ended(reason);
        socket.get_mut().write_all(&bytes).await.unwrap();
        socket.get_mut().flush().await.unwrap();
        assert_eq!(closed(&mut socket).await, (code, reason.to_owned()), "{what}");
        drop(socket);
        front.sockets_are_gone(number as u64 + 1).await;
        assert_eq!(front.metrics.media.ended(reason), before + 1, "{what}");
    }
    other.goes_on(&front).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_skipped_and_counted_and_the_stream_goes_on() {
    let front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let mut socket = live(&front, 1).await;
    let unreadable = [
        Message::text("{bad json"),
        Message::text(""),
        Message::text("null"),
        Message::text("[".repeat(WS_MESSAGE_BYTES_MAX)),
        Message::binary(vec![0xff; 160]),
        Message::text(r#"{"event":"media","media":{"payload":7}}"#),
    ];
    let count = unreadable.len() as u64;
    for message in unreadable {
        socket.send(message).await.unwrap();
    }
    socket.send(Message::Ping("read?".into())).await.unwrap();
    while socket.next().await.unwrap().unwrap() != Message::Pong("read?".into()) {}
    assert_eq!(front.metrics.media.bad_messages.get(), count);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_flood_of_pings_is_answered_and_stops_nobody() {
    let front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let (mut sink, mut stream) = live(&front, 1).await.split();
    let flood = async {
        for _ in 0..5_000 {
            sink.feed(Message::Ping("!".into())).await.unwrap();
        }
        sink.send(Message::Ping("last".into())).await.unwrap();
    };
    let answers = async { while stream.next().await.unwrap().unwrap() != Message::Pong("last".into()) {} };
    tokio::join!(flood, answers, other.goes_on(&front));
    other.goes_on(&front).await;
}

#[tokio::test]
async fn who_pings_on_and_on_and_reads_nothing_is_given_up() {
    let mut front = Setup::new().with(|setup| setup.listener.write.stall_max = SHORT).start().await;
    let mut other = front.other_call().await;
    let mut stranger = front.secure_with_little_room().await;
    let signature = signature::sign(TOKEN, &format!("wss://{}/ws/twilio-media", front.address), None);
    let handshake = format!(
        "GET /ws/twilio-media HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Twilio-Signature: {signature}\r\n\r\n",
        front.address
    );
    assert_eq!(ask(&mut stranger, handshake.as_bytes()).await.unwrap().0, 101);
    let ping = frame(0x89, &[b'?'; 125]);
    while stranger.write_all(&ping).await.is_ok() {}
    front.sockets_are_gone(1).await;
    assert_eq!((front.metrics.media.ended("not read"), front.connections.closed_unread.get()), (1, 1));
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_media_socket_is_not_opened_without_a_valid_signature() {
    let front = Setup::new().with(|setup| setup.config.twilio.auth_token_secondary = "second".into()).start().await;
    let mut other = front.other_call().await;
    let url = format!("wss://{}/ws/twilio-media", front.address);
    for token in ["wrong", ""] {
        let opened = kolbox::simulator::media_client::open(front.tls.clone(), token, &url).await;
        assert!(matches!(opened, Err(OpenError::Handshake(Some(403), _))), "{token:?}");
    }
    assert_eq!(front.metrics.requests.refused("signature"), 2);
    other.goes_on(&front).await;
}

/// What the tests of this thread log, as text.
fn log() -> (Arc<Mutex<Vec<u8>>>, tracing::subscriber::DefaultGuard) {
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let lines = Arc::new(Mutex::new(Vec::new()));
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(move || Lines(writer.clone()))
        .finish();
    (lines, tracing::subscriber::set_default(subscriber))
}

#[tokio::test]
async fn a_start_that_is_not_believed_is_1008_and_one_line_in_the_log_and_takes_nothing_over() {
    let (lines, _guard) = log();
    let mut front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let theirs = other.start.clone();
    let guess = "A".repeat(22);
    let attempts = [
        ("wrong token", Start { token: guess.clone(), ..theirs.clone() }),
        ("wrong token", Start { token: String::new(), ..theirs.clone() }),
        ("wrong token", Start { token: "x".repeat(60_000), ..theirs.clone() }),
        ("wrong call", Start { call_sid: CallSid::from_number(901), ..theirs.clone() }),
        ("wrong account", Start { account: 2, ..theirs.clone() }),
        ("unknown call", Start::of(CallSid::from_number(901), &theirs.token, 0)),
    ];
    for (number, (reason, attempt)) in attempts.into_iter().enumerate() {
        let before = front.metrics.media.ended(reason);
        let mut socket = front.started(&Start { stream: 50 + number as u64, ..attempt }).await;
        assert_eq!(closed(&mut socket).await, (1008, reason.to_owned()));
        drop(socket);
        front.sockets_are_gone(number as u64 + 1).await;
        assert_eq!(front.metrics.media.ended(reason), before + 1);
        other.goes_on(&front).await;
    }
    let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
    let refusals: Vec<&str> = text.lines().filter(|line| line.contains("WS_HANDLER_ERROR")).collect();
    assert_eq!(refusals.len(), 6, "{refusals:#?}");
    for (count, reason) in [(3, "wrong token"), (1, "wrong call"), (1, "wrong account"), (1, "unknown call")] {
        assert_eq!(refusals.iter().filter(|line| line.contains(reason)).count(), count, "{reason}");
    }
    for secret in [&theirs.token, &guess, TOKEN] {
        assert!(!text.contains(secret), "a token is in the log");
    }
}

#[tokio::test]
async fn a_second_valid_start_takes_the_call_over_and_the_older_socket_is_closed_with_1000() {
    let mut front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let call = CallSid::from_number(1);
    let token = front.answer(&mut front.secure().await, call).await;
    let (first, second) = (Start::of(call, &token, 1), Start::of(call, &token, 2));
    let mut older = front.live(&first).await;
    let mut newer = front.live(&second).await;
    assert_eq!(closed(&mut older).await.0, 1000);
    drop(older);
    front.sockets_are_gone(1).await;
    assert_eq!(front.metrics.media.ended("not needed any more"), 1);

    newer.send(Message::text(second.writer().write_media(0, &[0xff; 160]))).await.unwrap();
    let view = front.view.borrow().calls.len();
    let mut webhooks = front.secure().await;
    assert_eq!(ask(&mut webhooks, &front.webhook("call_status", &form(call))).await.unwrap().0, 204);
    assert_eq!((view, front.redirects()), (2, 0), "still one call, and none in silence");
    other.goes_on(&front).await;
}
