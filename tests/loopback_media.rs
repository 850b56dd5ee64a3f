//! A media WebSocket over a real TCP connection: what the peer sees, and what the desk hears, in which order.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use futures_util::{SinkExt, Stream};
use kolbox::{
    calls::{Event, Pulses, Refusal, SocketEnd, StartClaim, StreamKey},
    limits::{DESK_QUEUE_MAX, WS_MESSAGE_BYTES_MAX, WS_UNSENT_BYTES_MAX},
    server::{
        conversation::ConversationOptions,
        desk_port::{DeskPort, SocketOrder, ToDesk},
        media_session::MediaOptions,
        media_socket::{self, MediaContext},
        metrics::MediaMetrics,
    },
    speech::{
        marks::{self, Mark, Marked},
        spool::{Spool, SpoolPort, SpoolRoom},
    },
    twilio::sid::{CallSid, StreamSid},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

const STREAM: StreamKey = StreamKey { slot: 1, generation: 1 };

/// A peer, the desk, and the box's task between them.
struct Loopback<C = TcpStream> {
    peer: WebSocketStream<C>,
    desk: mpsc::Receiver<ToDesk>,
    orders: mpsc::Sender<SocketOrder>,
    pulses: Pulses,
    epoch: Instant,
    metrics: MediaMetrics,
    task: JoinHandle<()>,
}

impl Loopback {
    async fn connected(conversation: ConversationOptions, spool: Option<SpoolPort>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        Self::over(client, server, conversation, spool).await
    }

    async fn live(conversation: ConversationOptions, spool: Option<SpoolPort>) -> Self {
        Self::connected(conversation, spool).await.accepted().await
    }
}

impl<C: AsyncRead + AsyncWrite + Unpin + Send + 'static> Loopback<C> {
    async fn over(client: C, server: C, conversation: ConversationOptions, spool: Option<SpoolPort>) -> Self {
        let epoch = Instant::now();
        let pulses = Pulses::new(epoch);
        let options = MediaOptions { account_sid: None, conversation: Arc::new(conversation), mask_keys: false };
        let (port, mut desk) = DeskPort::new(DESK_QUEUE_MAX);
        let metrics = MediaMetrics::default();
        let context =
            MediaContext { options: Arc::new(options), pulses: pulses.clone(), spool, metrics: metrics.clone() };
        let task = tokio::spawn(media_socket::run(server, port, context));
        let Some(ToDesk::SocketOpened { orders, .. }) = desk.recv().await else { panic!("not announced") };
        let peer = WebSocketStream::from_raw_socket(client, Role::Client, None).await;
        Self { peer, desk, orders, pulses, epoch, metrics, task }
    }

    /// Up to the desk's acceptance, and the tone that follows it.
    async fn accepted(self) -> Self {
        let mut loopback = self;
        loopback.says(r#"{"event":"connected","protocol":"Call","version":"1.0.0"}"#).await;
        loopback.says(&start()).await;
        let claim = loopback.claimed().await;
        assert_eq!((claim.call_sid, claim.stream_sid), (call_sid(), stream_sid()));
        loopback.orders.send(SocketOrder::Accept(STREAM)).await.unwrap();
        let (event, payload) = loopback.hears().await;
        assert_eq!((event.as_str(), payload.len()), ("media", 160));
        assert_eq!(loopback.hears().await.0, "mark");
        loopback
    }

    async fn says(&mut self, text: &str) {
        self.peer.send(Message::text(text)).await.unwrap();
    }

    async fn next(&mut self) -> Option<Message> {
        next(&mut self.peer).await
    }

    /// The event of the box's next message, and its audio.
    async fn hears(&mut self) -> (String, Vec<u8>) {
        let Some(Message::Text(text)) = self.next().await else { panic!("no text") };
        let message: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["streamSid"], stream_sid().as_str());
        let payload = message["media"]["payload"].as_str().unwrap_or_default();
        (message["event"].as_str().unwrap().to_owned(), STANDARD.decode(payload).unwrap())
    }

    async fn claimed(&mut self) -> StartClaim {
        match self.desk.recv().await {
            Some(ToDesk::Told(Event::StreamClaimed(claim))) => claim,
            other => panic!("{other:?}"),
        }
    }

    async fn desk_hears(&mut self, expected: Event) {
        match self.desk.recv().await {
            Some(ToDesk::Told(event)) => assert_eq!(event, expected),
            other => panic!("{other:?}"),
        }
    }

    /// The code of the box's close frame, what it had still to say before it aside.
    async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.next().await? {
                Message::Close(frame) => return frame.map(|frame| frame.code.into()),
                _ => continue,
            }
        }
    }

    /// Answers the close, and waits until the box's task is at its end.
    async fn ends(mut self) {
        while self.next().await.is_some() {}
        drop(self.peer);
        assert!(matches!(self.desk.recv().await, Some(ToDesk::SocketGone { .. })));
        self.task.await.unwrap();
        assert!(self.orders.is_closed());
    }
}

async fn next<C: AsyncRead + AsyncWrite + Unpin>(peer: &mut WebSocketStream<C>) -> Option<Message> {
    std::future::poll_fn(|context| std::pin::Pin::new(&mut *peer).poll_next(context)).await?.ok()
}

fn call_sid() -> CallSid {
    CallSid::from_number(1)
}

fn stream_sid() -> StreamSid {
    StreamSid::from_number(1)
}

fn start() -> String {
    let (stream_sid, call_sid) = (stream_sid(), call_sid());
    format!(
        r#"{{"event":"start","streamSid":"{stream_sid}","start":{{"streamSid":"{stream_sid}","callSid":"{call_sid}"}}}}"#
    )
}

fn stop() -> String {
    format!(r#"{{"event":"stop","streamSid":"{}"}}"#, stream_sid())
}

fn media(ulaw: &[u8]) -> String {
    let payload = STANDARD.encode(ulaw);
    let stream_sid = stream_sid();
    format!(r#"{{"event":"media","streamSid":"{stream_sid}","media":{{"track":"inbound","payload":"{payload}"}}}}"#)
}

fn mark(name: &str) -> String {
    format!(r#"{{"event":"mark","streamSid":"{}","mark":{{"name":"{name}"}}}}"#, stream_sid())
}

/// Two seconds of patience, and a goodbye of this many seconds.
fn conversation(goodbye_seconds: usize) -> ConversationOptions {
    ConversationOptions {
        caller_silence: Duration::from_secs(2),
        tone: [0x55; 160].into(),
        goodbye: Some(vec![0x2a; goodbye_seconds * 8_000].into()),
    }
}

#[tokio::test]
async fn a_whole_call_is_heard_kept_and_told() {
    let store = tempfile::tempdir().unwrap();
    let (port, writer) = Spool::start(store.path(), SpoolRoom::new(1 << 30)).unwrap();
    let mut loopback = Loopback::live(conversation(1), Some(port)).await;
    for frame in 0..50 {
        loopback.says(&media(&[frame; 160])).await;
    }
    loopback.says(&mark("tone")).await;
    loopback.says(&stop()).await;
    loopback.desk_hears(Event::StreamStopped { stream: STREAM }).await;
    assert!(loopback.pulses.last_heard(STREAM).is_some_and(|heard| heard >= loopback.epoch));
    loopback.peer.close(None).await.unwrap();
    loopback.desk_hears(Event::StreamClosed { stream: STREAM, end: SocketEnd::AfterStop }).await;
    loopback.ends().await;
    writer.join().unwrap();
    let kept = std::fs::read(store.path().join(format!("{}.1.ulaw", call_sid()))).unwrap();
    assert_eq!(kept, (0..50).flat_map(|frame| [frame; 160]).collect::<Vec<u8>>());
}

#[tokio::test]
async fn keys_and_missing_frames_are_noted_beside_the_audio() {
    let store = tempfile::tempdir().unwrap();
    let (port, writer) = Spool::start(store.path(), SpoolRoom::new(1 << 30)).unwrap();
    let mut loopback = Loopback::live(conversation(1), Some(port)).await;
    let at =
        |timestamp: u32| media(&[0xff; 160]).replace(r#""track""#, &format!(r#""timestamp":"{timestamp}","track""#));
    let key = |digit: &str| {
        format!(
            r#"{{"event":"dtmf","streamSid":"{}","dtmf":{{"track":"inbound_track","digit":"{digit}"}}}}"#,
            stream_sid()
        )
    };
    // Fifty frames never came; and no telephone has a key Z.
    for message in [at(0), key("5"), at(20), key("#"), key("Z"), at(1_040), at(1_060), stop()] {
        loopback.says(&message).await;
    }
    loopback.desk_hears(Event::StreamStopped { stream: STREAM }).await;
    loopback.peer.close(None).await.unwrap();
    loopback.desk_hears(Event::StreamClosed { stream: STREAM, end: SocketEnd::AfterStop }).await;
    loopback.ends().await;
    writer.join().unwrap();
    let key = |at, name| Marked { at, mark: Mark::key(name).unwrap() };
    let gap = Marked { at: 320, mark: Mark::Gap(Duration::from_secs(1)) };
    assert_eq!(marks::read(store.path(), call_sid(), 1).unwrap(), [key(160, '5'), key(320, '#'), gap]);
    let kept = std::fs::metadata(store.path().join(format!("{}.1.ulaw", call_sid()))).unwrap();
    assert_eq!(kept.len(), 4 * 160);
}

#[tokio::test]
async fn a_start_that_is_not_believed_is_closed_with_1008() {
    let mut loopback = Loopback::connected(conversation(1), None).await;
    loopback.says(&start()).await;
    loopback.claimed().await;
    loopback.orders.send(SocketOrder::Refuse(Refusal::UnknownCall)).await.unwrap();
    assert_eq!(loopback.close_code().await, Some(1008));
    loopback.ends().await;
}

#[tokio::test]
async fn a_stream_that_is_taken_over_is_closed_with_1000() {
    let mut loopback = Loopback::live(conversation(1), None).await;
    loopback.orders.send(SocketOrder::Close).await.unwrap();
    loopback.desk_hears(Event::StreamClosed { stream: STREAM, end: SocketEnd::ClosedByBox }).await;
    assert_eq!(loopback.close_code().await, Some(1000));
    loopback.ends().await;
}

#[tokio::test]
async fn a_silent_caller_hears_goodbye_and_the_desk_knows_why_before_the_peer_knows_that() {
    let mut loopback = Loopback::live(conversation(2), None).await;
    for _ in 0..2 {
        loopback.says(&media(&[0xff; 8_000])).await;
    }
    assert_eq!(loopback.hears().await.1.len(), 8_000);
    assert_eq!(loopback.hears().await.1.len(), 8_000);
    assert_eq!(loopback.hears().await.0, "mark");
    loopback.says(&mark("goodbye-1")).await;
    assert_eq!(loopback.close_code().await, Some(1000));
    // The peer has the close frame: the desk must have its event already.
    match loopback.desk.try_recv() {
        Ok(ToDesk::Told(event)) => {
            assert_eq!(event, Event::StreamClosed { stream: STREAM, end: SocketEnd::ConversationOver });
        }
        other => panic!("{other:?}"),
    }
    loopback.ends().await;
}

#[tokio::test]
async fn bad_json_and_binary_messages_do_not_end_the_stream() {
    let mut loopback = Loopback::live(conversation(1), None).await;
    loopback.says("{bad json").await;
    loopback.peer.send(Message::binary(vec![0xff; 160])).await.unwrap();
    loopback.says(&media(&[0x11; 160])).await;
    loopback.says(&stop()).await;
    loopback.desk_hears(Event::StreamStopped { stream: STREAM }).await;
    assert!(loopback.pulses.last_heard(STREAM).is_some());
}

#[tokio::test]
async fn a_message_of_64_kib_is_taken_and_a_longer_one_closes_with_1009() {
    let mut loopback = Loopback::live(conversation(1), None).await;
    let mut longest = String::from(r#"{"event":"some new event"}"#);
    longest.push_str(&" ".repeat(WS_MESSAGE_BYTES_MAX - longest.len()));
    loopback.says(&longest).await;
    longest.push(' ');
    loopback.says(&longest).await;
    loopback.desk_hears(Event::StreamClosed { stream: STREAM, end: SocketEnd::ClosedByBox }).await;
    assert_eq!(loopback.close_code().await, Some(1009));
    loopback.ends().await;
}

#[tokio::test]
async fn a_ping_is_answered() {
    let mut loopback = Loopback::live(conversation(1), None).await;
    loopback.peer.send(Message::Ping("are you there".into())).await.unwrap();
    assert_eq!(loopback.next().await, Some(Message::Pong("are you there".into())));
}

#[tokio::test]
async fn a_connection_that_breaks_off_is_lost() {
    let Loopback { peer, mut desk, orders: _orders, task, .. } = Loopback::live(conversation(1), None).await;
    drop(peer);
    match desk.recv().await {
        Some(ToDesk::Told(event)) => {
            assert_eq!(event, Event::StreamClosed { stream: STREAM, end: SocketEnd::Lost });
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(desk.recv().await, Some(ToDesk::SocketGone { .. })));
    task.await.unwrap();
}

#[tokio::test]
async fn an_acceptance_that_comes_too_late_is_answered_with_the_streams_end() {
    let mut loopback = Loopback::connected(conversation(1), None).await;
    loopback.says(&start()).await;
    loopback.claimed().await;
    // Both at once, and the desk's order is read first only if it was there first: the end comes in either case.
    drop(loopback.peer);
    loopback.orders.send(SocketOrder::Accept(STREAM)).await.unwrap();
    match loopback.desk.recv().await {
        Some(ToDesk::Told(event)) => {
            assert_eq!(event, Event::StreamClosed { stream: STREAM, end: SocketEnd::Lost });
        }
        other => panic!("{other:?}"),
    }
    loopback.task.await.unwrap();
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_lost_but_was_read_to_the_end() {
    // Between them almost nothing fits, and the goodbye is more than the box holds back.
    let (client, server) = tokio::io::duplex(4 * 1_024);
    let goodbye_seconds = WS_UNSENT_BYTES_MAX / 8_000;
    let mut loopback = Loopback::over(client, server, conversation(goodbye_seconds), None).await.accepted().await;
    for _ in 0..2 {
        loopback.says(&media(&[0xff; 8_000])).await;
    }
    loopback.desk_hears(Event::StreamClosed { stream: STREAM, end: SocketEnd::Lost }).await;
    assert!(loopback.pulses.last_heard(STREAM).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_leaves_a_goodbye_unread_for_ten_seconds_is_lost() {
    // Almost nothing fits between them; the box could hold all of the goodbye back, and its mark is awaited for longer.
    let (client, server) = tokio::io::duplex(4 * 1_024);
    let mut loopback = Loopback::over(client, server, conversation(10), None).await.accepted().await;
    for _ in 0..2 {
        loopback.says(&media(&[0xff; 8_000])).await;
    }
    let began = tokio::time::Instant::now();
    loopback.desk_hears(Event::StreamClosed { stream: STREAM, end: SocketEnd::Lost }).await;
    assert_eq!(began.elapsed().as_secs(), 10);
    assert!(matches!(loopback.desk.recv().await, Some(ToDesk::SocketGone { .. })));
    assert_eq!(loopback.metrics.ended("not read"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_reads_slowly_hears_the_whole_goodbye() {
    let (client, server) = tokio::io::duplex(4 * 1_024);
    let mut loopback = Loopback::over(client, server, conversation(1), None).await.accepted().await;
    for _ in 0..2 {
        loopback.says(&media(&[0xff; 8_000])).await;
    }
    let mut pause = tokio::time::interval(Duration::from_secs(2));
    loop {
        pause.tick().await;
        if loopback.hears().await.0 == "mark" {
            break;
        }
    }
    loopback.says(&mark("goodbye-1")).await;
    assert_eq!(loopback.close_code().await, Some(1000));
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_says_nothing_is_closed_with_1008_after_ten_seconds() {
    let (client, server) = tokio::io::duplex(4 * 1_024);
    let mut loopback = Loopback::over(client, server, conversation(1), None).await;
    let began = tokio::time::Instant::now();
    assert_eq!(loopback.close_code().await, Some(1008));
    assert_eq!(began.elapsed().as_secs(), 10);
    let metrics = loopback.metrics.clone();
    loopback.ends().await;
    assert_eq!(metrics.ended("no start"), 1);
}

#[tokio::test]
async fn a_desk_that_is_gone_leaves_no_connection_behind() {
    let mut loopback = Loopback::connected(conversation(1), None).await;
    drop((loopback.orders, loopback.desk));
    let closed = next(&mut loopback.peer).await;
    assert!(matches!(closed, Some(Message::Close(Some(frame))) if u16::from(frame.code) == 1000));
    drop(loopback.peer);
    loopback.task.await.unwrap();
}
