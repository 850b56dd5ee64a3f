//! The public listener over real sockets and real TLS, with a desk that answers as each test says.

use std::{
    net::SocketAddr,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use futures_util::SinkExt;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, Response, body::Incoming};
use kolbox::{
    calls::{Answer, Event, PromptForm, Pulses, StreamToken},
    config::{self, Config, Tls, TlsMode},
    server::{
        conversation::ConversationOptions,
        desk_port::{DeskPort, ToDesk},
        listener::{self, Listener},
        media_session::MediaOptions,
        media_socket::MediaContext,
        metrics::{ConnectionMetrics, MediaMetrics, RequestMetrics},
        prompts::Prompts,
        public_host::PublicHost,
        rest_client::RestClient,
        router::{self, Behind, Router},
        tls,
        webhooks::Announcement,
    },
    system::http_client::{HttpClient, Reply, Roots, tls_client_config},
    twilio::{
        rest::{RestRequest, UpdateOutcome, read_update},
        sid::{AccountSid, CallSid, RecordingSid, StreamSid},
        signature,
        webhook::{Form, RecordingStatus},
    },
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::TcpStream,
    sync::{mpsc, oneshot},
    task::JoinHandle,
};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, protocol::Role},
};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Long enough never to matter: a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(30);
/// A limit that a test wants to run into.
const SHORT: Duration = Duration::from_millis(100);
const ROUTES: [&str; 6] =
    ["incoming_call", "stream_ended", "handle_recording", "call_status", "stream_status", "recording_status"];

/// Decoded once for all tests.
static PROMPTS: LazyLock<Arc<Prompts>> = LazyLock::new(|| Arc::new(Prompts::load(&Config::default().calls).unwrap()));

/// What the box in front of a test is made of.
struct Setup {
    config: Config,
    listener: listener::Limits,
    router: router::Limits,
    desk: Desk,
    /// Whether the keeper takes in what is announced to it.
    keeper_hears: bool,
}

/// How the desk behaves.
enum Desk {
    Answers(fn(&Event) -> Answer),
    /// Takes each question, and answers when the test says so.
    Holds,
    Gone,
}

impl Setup {
    fn new() -> Self {
        let mut config = Config::default();
        config.public.tls.mode = TlsMode::SelfSigned;
        config.twilio.account_sid = Some(AccountSid::from_number(1));
        config.twilio.auth_token = TOKEN.into();
        Self {
            config,
            listener: listener::Limits::new(64),
            router: router::Limits::default(),
            desk: Desk::Answers(usual_answer),
            keeper_hears: true,
        }
    }

    fn plain(mut self) -> Self {
        self.config.public.tls.mode = TlsMode::Off;
        self
    }

    fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    async fn start(self) -> Fixture {
        let Self { config, listener, router, desk, keeper_hears } = self;
        let (port, inbox) = DeskPort::new(8);
        let (told, events) = mpsc::unbounded_channel();
        let (held, questions) = mpsc::unbounded_channel();
        match desk {
            Desk::Answers(answer) => drop(tokio::spawn(run_desk(inbox, told, answer))),
            Desk::Holds => drop(tokio::spawn(hold_questions(inbox, held))),
            Desk::Gone => drop(inbox),
        }
        let (announced, announcements) = mpsc::unbounded_channel();
        let behind = Behind {
            desk: port,
            prompts: PROMPTS.clone(),
            public_host: Arc::new(PublicHost::new(
                config.public.host.as_deref(),
                config.public.trusted_proxies.clone(),
            )),
            recordings: Arc::new(move |announcement| {
                let _ = announced.send(announcement);
                if keeper_hears { Box::pin(async {}) } else { Box::pin(std::future::pending()) }
            }),
            media: media_context(),
            metrics: RequestMetrics::default(),
        };
        let acceptor = tls::acceptor(&config.public.tls, &[]).unwrap();
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), acceptor, listener).await.unwrap();
        let address = listener.address().unwrap();
        let counts = ConnectionMetrics::default();
        let listener = listener.counted_by(counts.clone());
        let router = Arc::new(Router::new(&config, behind, router));
        let (stop, stopped) = oneshot::channel::<()>();
        let handler = move |request, peer| {
            let router = router.clone();
            async move { router.route(request, peer).await }
        };
        let served = tokio::spawn(listener.serve(handler, async { drop(stopped.await) }));
        let client = HttpClient::new(&Roots::Insecure, LONG).unwrap();
        Fixture {
            base: format!("{scheme}://{address}"),
            address,
            events,
            questions,
            announcements,
            counts,
            stop,
            served,
            client,
        }
    }
}

fn media_context() -> MediaContext {
    let conversation = ConversationOptions { caller_silence: Duration::ZERO, tone: Arc::default(), goodbye: None };
    let options = MediaOptions { account_sid: None, conversation: Arc::new(conversation), mask_keys: false };
    MediaContext {
        options: Arc::new(options),
        pulses: Pulses::new(Instant::now()),
        spool: None,
        metrics: MediaMetrics::default(),
    }
}

fn usual_answer(event: &Event) -> Answer {
    match event {
        Event::VoiceRequested { facts, token, .. } => Answer::Stream { call_sid: facts.call_sid, token: token.clone() },
        Event::ConnectEnded { .. } => Answer::Record(PromptForm::Play),
        Event::RecordEnded { .. } => Answer::Goodbye(PromptForm::Play),
        _ => Answer::NoContent,
    }
}

async fn run_desk(mut inbox: mpsc::Receiver<ToDesk>, told: mpsc::UnboundedSender<Event>, answer: fn(&Event) -> Answer) {
    let mut sockets = Vec::new();
    while let Some(message) = inbox.recv().await {
        match message {
            ToDesk::Asked { event, reply, .. } => {
                let _ = reply.send(answer(&event));
                let _ = told.send(event);
            }
            ToDesk::Told(event) => drop(told.send(event)),
            ToDesk::SocketOpened { orders, .. } => sockets.push(orders),
            ToDesk::SocketGone { .. } => {}
            ToDesk::Pinged { reply } => drop(reply.send(())),
        }
    }
}

async fn hold_questions(mut inbox: mpsc::Receiver<ToDesk>, held: mpsc::UnboundedSender<oneshot::Sender<Answer>>) {
    while let Some(message) = inbox.recv().await {
        if let ToDesk::Asked { reply, .. } = message {
            let _ = held.send(reply);
        }
    }
}

/// A box in front of a test.
struct Fixture {
    base: String,
    address: SocketAddr,
    events: mpsc::UnboundedReceiver<Event>,
    questions: mpsc::UnboundedReceiver<oneshot::Sender<Answer>>,
    announcements: mpsc::UnboundedReceiver<Announcement>,
    counts: ConnectionMetrics,
    stop: oneshot::Sender<()>,
    served: JoinHandle<()>,
    client: HttpClient,
}

impl Fixture {
    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.base)
    }

    async fn send(&self, request: Request<Bytes>) -> Reply {
        self.client.send(request, LONG, 1 << 20).await.unwrap()
    }

    async fn get(&self, path: &str) -> Reply {
        self.send(Request::get(self.url(path)).body(Bytes::new()).unwrap()).await
    }

    /// A webhook as Twilio sends it.
    async fn post(&self, route: &str, form: &Form) -> Reply {
        self.send(self.signed(route, form)).await
    }

    fn signed(&self, route: &str, form: &Form) -> Request<Bytes> {
        let url = self.url(&format!("/webhook/{route}"));
        let signature = signature::sign(TOKEN, &url, Some(form));
        Request::post(url)
            .header("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
            .header("X-Twilio-Signature", signature)
            .body(form.encode().into())
            .unwrap()
    }

    async fn plain(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    async fn secure(&self) -> tokio_rustls::client::TlsStream<TcpStream> {
        let config = tls_client_config(&Roots::Insecure).unwrap();
        let name = self.address.ip().into();
        tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, self.plain().await).await.unwrap()
    }

    /// A WebSocket handshake with these header lines in place of Twilio's usual ones; its status.
    async fn upgrade(&self, path: &str, lines: &[&str]) -> u16 {
        let mut socket = self.secure().await;
        let head = format!("GET {path} HTTP/1.1\r\nHost: {}\r\n{}\r\n\r\n", self.address, lines.join("\r\n"));
        socket.write_all(head.as_bytes()).await.unwrap();
        status(&read_head(&mut socket).await)
    }

    fn heard_nothing(&mut self) -> bool {
        self.events.try_recv().is_err() && self.announcements.try_recv().is_err()
    }
}

fn form(more: &[(&str, &str)]) -> Form {
    let (call, account) = (CallSid::from_number(7), AccountSid::from_number(1));
    let usual = [
        ("AccountSid", account.as_str()),
        ("CallSid", call.as_str()),
        ("From", "+972501234567"),
        ("To", "+97231234567"),
        ("CallStatus", "in-progress"),
        ("Direction", "inbound"),
        ("CallerName", "דני כהן"),
        ("FromCity", ""),
    ];
    Form::from_pairs(usual.iter().chain(more).copied())
}

fn handshake(address: SocketAddr, signature: &str) -> String {
    format!(
        "GET /ws/twilio-media HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nX-Twilio-Signature: {signature}\r\n\r\n"
    )
}

/// The head of an answer, or what came before the connection was closed.
async fn read_head(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match socket.read(&mut byte).await {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// One request by hand, to the connection's end.
async fn exchange(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    // Whoever refuses a request early may close before it was all written.
    let _ = socket.write_all(request).await;
    read_to_end(&mut socket).await
}

async fn read_to_end(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let _ = socket.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

fn status(answer: &str) -> u16 {
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
}

fn told<'a>(reply: &'a Reply, name: &str) -> &'a str {
    reply.headers.get(name).map_or("", |value| value.to_str().unwrap())
}

fn text(reply: &Reply) -> &str {
    std::str::from_utf8(&reply.body).unwrap()
}

#[tokio::test]
async fn a_signed_call_is_answered_with_a_stream_on_the_host_it_came_to() {
    let mut front = Setup::new().start().await;
    let reply = front.post("incoming_call", &form(&[])).await;
    assert_eq!((reply.status, told(&reply, "content-type")), (200, "text/xml"));
    let Some(Event::VoiceRequested { facts, token: StreamToken(token), .. }) = front.events.recv().await else {
        panic!("the desk was asked something else")
    };
    assert_eq!((facts.call_sid, facts.from.whole()), (CallSid::from_number(7), "+972501234567"));
    assert_eq!(token.len(), 22);
    let host = front.address;
    for part in [
        format!("<Play>https://{host}/static/tts/greeting_he.mp3</Play>"),
        format!(r#"<Stream url="wss://{host}/ws/twilio-media" "#),
        format!(r#"<Parameter name="token" value="{token}"/>"#),
    ] {
        assert!(text(&reply).contains(&part), "{part} in {}", text(&reply));
    }
}

#[tokio::test]
async fn two_calls_never_get_the_same_token() {
    let front = Setup::new().start().await;
    let (one, other) = (front.post("incoming_call", &form(&[])).await, front.post("incoming_call", &form(&[])).await);
    assert_ne!(one.body, other.body);
}

#[tokio::test]
async fn where_twilio_expects_twiml_a_signed_get_does_as_well() {
    let mut front = Setup::new().start().await;
    for route in ["incoming_call", "stream_ended", "handle_recording"] {
        let url = front.url(&format!("/webhook/{route}?{}", form(&[]).encode()));
        let request = Request::get(&url).header("X-Twilio-Signature", signature::sign(TOKEN, &url, None));
        let reply = front.send(request.body(Bytes::new()).unwrap()).await;
        assert_eq!((reply.status, told(&reply, "content-type")), (200, "text/xml"), "{route}");
        assert!(front.events.recv().await.is_some());
    }
}

#[tokio::test]
async fn callbacks_are_answered_with_204_and_reach_the_desk() {
    let mut front = Setup::new().start().await;
    let (stream, recording) = (StreamSid::from_number(3), RecordingSid::from_number(4));
    let callbacks = [
        ("call_status", form(&[("CallStatus", "completed")])),
        ("stream_status", form(&[("StreamSid", stream.as_str()), ("StreamEvent", "stream-started")])),
        ("recording_status", form(&[("RecordingSid", recording.as_str()), ("RecordingStatus", "completed")])),
    ];
    for (route, form) in callbacks {
        let reply = front.post(route, &form).await;
        assert_eq!((reply.status, reply.body.len()), (204, 0), "{route}");
        let event = front.events.recv().await.unwrap();
        let fits = match route {
            "call_status" => matches!(event, Event::CallStatusReported { .. }),
            "stream_status" => {
                matches!(event, Event::StreamStatusReported { stream_sid: Some(sid), .. } if sid == stream)
            }
            _ => matches!(event, Event::RecordingStatusReported { recording: Some(sid), .. } if sid == recording),
        };
        assert!(fits, "{route}: {event:?}");
    }
}

#[tokio::test]
async fn a_keeper_with_its_hands_full_does_not_keep_a_caller_waiting() {
    let mut front = Setup::new()
        .with(|setup| {
            setup.keeper_hears = false;
            setup.router.desk_answer_max = SHORT;
        })
        .start()
        .await;
    let recording = RecordingSid::from_number(4);
    let fields = [("RecordingSid", recording.as_str()), ("RecordingStatus", "completed")];
    assert_eq!(front.post("handle_recording", &form(&fields)).await.status, 200);
    assert!(front.events.recv().await.is_some());
}

#[tokio::test]
async fn a_recording_is_announced_through_both_of_its_routes() {
    let mut front = Setup::new().start().await;
    let recording = RecordingSid::from_number(4);
    let fields = [("RecordingSid", recording.as_str()), ("RecordingDuration", "3"), ("RecordingStatus", "completed")];
    let expected = Announcement {
        call_sid: CallSid::from_number(7),
        recording_sid: Some(recording),
        status: RecordingStatus::Completed,
    };
    for route in ["handle_recording", "recording_status"] {
        assert!(front.post(route, &form(&fields)).await.status < 300);
        assert_eq!(front.announcements.recv().await, Some(expected), "{route}");
    }
}

#[tokio::test]
async fn without_a_valid_signature_nothing_happens() {
    let mut front = Setup::new().start().await;
    for route in ROUTES {
        let mut unsigned = front.signed(route, &form(&[]));
        unsigned.headers_mut().remove("x-twilio-signature");
        assert_eq!(front.send(unsigned).await.status, 403, "{route}");
        let signed_for_another_form =
            front.signed(route, &form(&[])).map(|_| Bytes::from(form(&[("a", "1")]).encode()));
        assert_eq!(front.send(signed_for_another_form).await.status, 403, "{route}");
    }
    assert!(front.heard_nothing());
}

#[tokio::test]
async fn unsigned_requests_are_let_in_only_where_the_configuration_says_so() {
    let front = Setup::new().with(|setup| setup.config.twilio.validate_signatures = false).start().await;
    let mut unsigned = front.signed("incoming_call", &form(&[]));
    unsigned.headers_mut().remove("x-twilio-signature");
    assert_eq!(front.send(unsigned).await.status, 200);
}

#[tokio::test]
async fn a_form_that_names_no_call_or_another_account_is_refused() {
    let mut front = Setup::new().start().await;
    for (call_sid, expected) in [("CA1", 400), ("", 400), ("MZ00000000000000000000000000000007", 400)] {
        for route in ROUTES {
            assert_eq!(front.post(route, &Form::from_pairs([("CallSid", call_sid)])).await.status, expected, "{route}");
        }
    }
    let (call, account) = (CallSid::from_number(7), AccountSid::from_number(2));
    let foreign = Form::from_pairs([("CallSid", call.as_str()), ("AccountSid", account.as_str())]);
    assert_eq!(front.post("incoming_call", &foreign).await.status, 403);
    assert!(front.heard_nothing());
}

#[tokio::test]
async fn other_paths_are_404_and_other_methods_405_with_those_that_would_do() {
    let front = Setup::new().start().await;
    for path in ["/", "/webhook", "/webhook/", "/webhook/incoming_call/", "/static/tts/none.mp3", "/static/tts/..%2fx"]
    {
        assert_eq!(front.get(path).await.status, 404, "{path}");
    }
    for (method, path, allowed) in [
        (Method::GET, "/webhook/call_status", "POST"),
        (Method::GET, "/webhook/stream_status", "POST"),
        (Method::GET, "/webhook/recording_status", "POST"),
        (Method::PUT, "/webhook/incoming_call", "GET, POST"),
        (Method::HEAD, "/webhook/incoming_call", "GET, POST"),
        (Method::POST, "/ws/twilio-media", "GET"),
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::DELETE, "/static/tts/greeting_he.mp3", "GET, HEAD"),
    ] {
        let request = Request::builder().method(&method).uri(front.url(path)).body(Bytes::new()).unwrap();
        let reply = front.send(request).await;
        assert_eq!((reply.status, told(&reply, "allow")), (405, allowed), "{method} {path}");
    }
}

#[tokio::test]
async fn health_is_ok_and_nothing_else() {
    let reply = Setup::new().start().await.get("/healthz").await;
    assert_eq!((reply.status, text(&reply)), (200, "ok"));
}

#[tokio::test]
async fn a_prompt_is_served_whole_in_part_or_not_again() {
    let front = Setup::new().start().await;
    let path = "/static/tts/greeting_he.mp3";
    let whole = front.get(path).await;
    assert_eq!((whole.status, told(&whole, "content-type")), (200, "audio/mpeg"));
    assert!(!told(&whole, "cache-control").is_empty());
    let etag = told(&whole, "etag").to_owned();
    let with = |method: &Method, name: &str, value: &str| {
        Request::builder().method(method).uri(front.url(path)).header(name, value).body(Bytes::new()).unwrap()
    };
    let head = front.send(with(&Method::HEAD, "accept", "*/*")).await;
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(told(&head, "content-length"), whole.body.len().to_string());
    let part = front.send(with(&Method::GET, "range", "bytes=10-19")).await;
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..20]));
    let again = front.send(with(&Method::GET, "if-none-match", &etag)).await;
    assert_eq!((again.status, again.body.len()), (304, 0));
    let behind = front.send(with(&Method::GET, "range", "bytes=99999999-")).await;
    assert_eq!(behind.status, 416);
}

#[tokio::test]
async fn a_connection_serves_one_request_after_another() {
    let front = Setup::new().start().await;
    let mut socket = front.secure().await;
    for _ in 0..3 {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: {}\r\n\r\n", front.address);
        socket.write_all(request.as_bytes()).await.unwrap();
        assert_eq!(status(&read_head(&mut socket).await), 200);
        let mut body = [0; 2];
        socket.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"ok");
    }
}

#[tokio::test]
async fn both_media_paths_open_a_websocket_for_a_valid_signature_alone() {
    let front = Setup::new().start().await;
    for (path, signed) in [
        ("/ws/twilio-media", "/ws/twilio-media"),
        ("/ws/twilio-media", "/ws/twilio-media/"),
        ("/ws/twilio-media/", "/ws/twilio-media/"),
    ] {
        let signature = signature::sign(TOKEN, &format!("wss://{}{signed}", front.address), None);
        let signature = format!("X-Twilio-Signature: {signature}");
        let version = "Sec-WebSocket-Version: 13";
        let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        let (upgrade, connection) = ("Upgrade: websocket", "Connection: Upgrade");
        assert_eq!(front.upgrade(path, &[upgrade, connection, version, key, &signature]).await, 101, "{path} {signed}");
        assert_eq!(front.upgrade(path, &[upgrade, connection, version, key]).await, 403);
        assert_eq!(front.upgrade(path, &[upgrade, connection, version, key, "X-Twilio-Signature: x"]).await, 403);
        assert_eq!(front.upgrade(path, &[&signature]).await, 426);
        assert_eq!(front.upgrade(path, &[upgrade, connection, "Sec-WebSocket-Version: 8", key, &signature]).await, 426);
        assert_eq!(front.upgrade(path, &[upgrade, connection, version, &signature]).await, 400);
    }
}

#[tokio::test]
async fn what_is_said_on_a_media_socket_reaches_the_desk() {
    let mut front = Setup::new().start().await;
    let mut socket = front.secure().await;
    let signature = signature::sign(TOKEN, &format!("wss://{}/ws/twilio-media", front.address), None);
    let start = format!(
        r#"{{"event":"start","sequenceNumber":"1","streamSid":"{stream}","start":{{"streamSid":"{stream}",
            "accountSid":"{}","callSid":"{}","tracks":["inbound"],
            "mediaFormat":{{"encoding":"audio/x-mulaw","sampleRate":8000,"channels":1}},"customParameters":{{}}}}}}"#,
        AccountSid::from_number(1),
        CallSid::from_number(7),
        stream = StreamSid::from_number(3),
    );
    socket.write_all(handshake(front.address, &signature).as_bytes()).await.unwrap();
    assert_eq!(status(&read_head(&mut socket).await), 101);
    let mut socket = WebSocketStream::from_raw_socket(socket, Role::Client, None).await;
    socket.send(Message::text(start)).await.unwrap();
    let Some(Event::StreamClaimed(claim)) = front.events.recv().await else { panic!("no claim") };
    assert_eq!((claim.call_sid, claim.stream_sid), (CallSid::from_number(7), StreamSid::from_number(3)));
}

#[tokio::test]
async fn a_media_socket_keeps_its_place_among_the_connections() {
    let front = Setup::new().plain().with(|setup| setup.listener.connections_max = 1).start().await;
    let signature = signature::sign(TOKEN, &format!("ws://{}/ws/twilio-media", front.address), None);
    let mut socket = front.plain().await;
    socket.write_all(handshake(front.address, &signature).as_bytes()).await.unwrap();
    assert_eq!(status(&read_head(&mut socket).await), 101);
    assert_eq!(read_to_end(&mut front.plain().await).await, "", "closed at once");
    assert_eq!(front.counts.refused.get(), 1);
}

#[tokio::test]
async fn connections_over_the_maximum_are_closed_at_once_and_counted() {
    let front = Setup::new().plain().with(|setup| setup.listener.connections_max = 1).start().await;
    let mut first = front.plain().await;
    first.write_all(b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n").await.unwrap();
    assert_eq!(status(&read_head(&mut first).await), 200);
    assert_eq!(read_to_end(&mut front.plain().await).await, "");
    assert_eq!(front.counts.refused.get(), 1);
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_announced_or_not() {
    let mut front = Setup::new().plain().start().await;
    let announced = b"POST /webhook/incoming_call HTTP/1.1\r\nHost: gw\r\nContent-Length: 65537\r\n\r\n";
    assert_eq!(status(&exchange(front.plain().await, announced).await), 413);
    let mut chunked =
        b"POST /webhook/incoming_call HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    chunked.extend(b"10001\r\n");
    chunked.extend([b'a'; 0x10001]);
    assert_eq!(status(&exchange(front.plain().await, &chunked).await), 413);
    assert!(front.heard_nothing());
}

#[tokio::test]
async fn a_body_of_exactly_the_limit_is_still_read() {
    let front = Setup::new().start().await;
    let empty = form(&[("Filler", "")]).encode().len();
    let filler = "x".repeat(kolbox::limits::BODY_BYTES_MAX - empty);
    assert_eq!(front.post("incoming_call", &form(&[("Filler", &filler)])).await.status, 200);
}

#[tokio::test]
async fn a_body_that_does_not_come_is_408() {
    let front = Setup::new().plain().with(|setup| setup.router.body_read_max = SHORT).start().await;
    let half = b"POST /webhook/incoming_call HTTP/1.1\r\nHost: gw\r\nContent-Length: 100\r\n\r\nCallSid=";
    let answer = exchange(front.plain().await, half).await;
    assert_eq!(status(&answer), 408);
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_header_block_over_its_limits_is_431() {
    let front = Setup::new().plain().start().await;
    let long = format!("GET /healthz HTTP/1.1\r\nHost: gw\r\nX-Long: {}\r\n\r\n", "x".repeat(16 * 1024));
    assert_eq!(status(&exchange(front.plain().await, long.as_bytes()).await), 431);
    let many = format!("GET /healthz HTTP/1.1\r\nHost: gw\r\n{}\r\n", "X-Many: 1\r\n".repeat(64));
    assert_eq!(status(&exchange(front.plain().await, many.as_bytes()).await), 431);
    assert_eq!(front.counts.bad_requests.get(), 2);
}

#[tokio::test]
async fn a_header_block_that_does_not_end_closes_the_connection_also_inside_tls() {
    let short = |setup: &mut Setup| setup.listener.header_read_max = SHORT;
    let plain = Setup::new().plain().with(short).start().await;
    assert_eq!(exchange(plain.plain().await, b"GET /healthz HTTP/1.1\r\nHost: g").await, "");
    let secure = Setup::new().with(|setup| setup.listener.header_read_max = Duration::from_secs(2)).start().await;
    assert_eq!(exchange(secure.secure().await, b"GET /healthz HTTP/1.1\r\nHost: g").await, "");
    for front in [plain, secure] {
        assert_eq!(front.counts.closed_slow.get(), 1);
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_last_answer() {
    let front = Setup::new().plain().with(|setup| setup.listener.header_read_max = SHORT).start().await;
    let answer = exchange(front.plain().await, b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_or_is_no_tls_closes_the_connection_and_is_counted() {
    let front = Setup::new().with(|setup| setup.listener.header_read_max = SHORT).start().await;
    assert_eq!(read_to_end(&mut front.plain().await).await, "");
    let _ = exchange(front.plain().await, b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n").await;
    assert_eq!(front.counts.handshakes_failed.get(), 2);
}

#[tokio::test]
async fn a_request_names_one_host() {
    let front = Setup::new().plain().start().await;
    for request in [
        "GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\nConnection: close\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: a/b\r\nConnection: close\r\n\r\n",
    ] {
        assert_eq!(status(&exchange(front.plain().await, request.as_bytes()).await), 400, "{request}");
    }
    assert_eq!(status(&exchange(front.plain().await, b"GET /healthz HTTP/1.0\r\n\r\n").await), 200);
}

#[tokio::test]
async fn the_configured_host_stands_in_urls_and_no_other_validates() {
    let front = Setup::new().with(|setup| setup.config.public.host = Some("gw.example.co.il".into())).start().await;
    assert_eq!(front.post("incoming_call", &form(&[])).await.status, 403, "signed for the address");
    let mut request = front.signed("incoming_call", &form(&[]));
    let url = "https://gw.example.co.il/webhook/incoming_call";
    let signature = signature::sign(TOKEN, url, Some(&form(&[]))).parse().unwrap();
    request.headers_mut().insert("x-twilio-signature", signature);
    let reply = front.send(request).await;
    assert_eq!(reply.status, 200);
    assert!(text(&reply).contains(r#"url="wss://gw.example.co.il/ws/twilio-media""#), "{}", text(&reply));
}

#[tokio::test]
async fn a_trusted_proxy_names_the_host_and_a_stranger_does_not() {
    let url = "https://gw.example/webhook/incoming_call";
    let forwarded = |front: &Fixture| {
        let mut request = front.signed("incoming_call", &form(&[]));
        let headers = request.headers_mut();
        headers.insert("x-twilio-signature", signature::sign(TOKEN, url, Some(&form(&[]))).parse().unwrap());
        headers.insert("x-forwarded-host", "gw.example".parse().unwrap());
        headers.insert("x-forwarded-proto", "https".parse().unwrap());
        request
    };
    let trusting = Setup::new().plain().with(|setup| {
        setup.config.public.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    });
    let front = trusting.start().await;
    let reply = front.send(forwarded(&front)).await;
    assert_eq!(reply.status, 200);
    assert!(text(&reply).contains("wss://gw.example/ws/twilio-media"), "{}", text(&reply));
    let front = Setup::new().plain().start().await;
    assert_eq!(front.send(forwarded(&front)).await.status, 403);
}

#[tokio::test]
async fn a_desk_that_gives_no_answer_is_503() {
    let gone = Setup::new().with(|setup| setup.desk = Desk::Gone).start().await;
    assert_eq!(gone.post("incoming_call", &form(&[])).await.status, 503);
    let slow = Setup::new().with(|setup| {
        setup.desk = Desk::Holds;
        setup.router.desk_answer_max = SHORT;
    });
    assert_eq!(slow.start().await.post("incoming_call", &form(&[])).await.status, 503);
}

#[tokio::test]
async fn a_running_request_is_answered_after_the_listener_stopped_taking_new_ones() {
    let mut front = Setup::new().with(|setup| setup.desk = Desk::Holds).start().await;
    let request = front.signed("incoming_call", &form(&[]));
    let (client, (stop, served)) = (front.client.clone(), (front.stop, front.served));
    let running = tokio::spawn(async move { client.send(request, LONG, 1 << 20).await });
    let question = front.questions.recv().await.unwrap();
    stop.send(()).unwrap();
    while TcpStream::connect(front.address).await.is_ok() {
        tokio::task::yield_now().await;
    }
    question.send(Answer::Hangup).unwrap();
    let reply = running.await.unwrap().unwrap();
    assert!(text(&reply).contains("<Hangup/>"));
    served.await.unwrap();
}

#[tokio::test]
async fn a_request_that_never_ends_does_not_hold_up_the_listeners_end() {
    let short = |setup: &mut Setup| {
        setup.desk = Desk::Holds;
        setup.listener.finish_max = SHORT;
    };
    let mut front = Setup::new().with(short).start().await;
    let (client, request) = (front.client.clone(), front.signed("incoming_call", &form(&[])));
    let running = tokio::spawn(async move { client.send(request, LONG, 1 << 20).await });
    let _question = front.questions.recv().await.unwrap();
    front.stop.send(()).unwrap();
    front.served.await.unwrap();
    assert!(running.await.unwrap().is_err(), "cut off");
}

#[tokio::test]
async fn certificate_files_are_served() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.path().join("chain.pem"), folder.path().join("key.pem"));
    std::fs::write(&certificate, made.cert.pem()).unwrap();
    std::fs::write(&key, made.signing_key.serialize_pem()).unwrap();
    let files = Tls { mode: TlsMode::Files, certificate: certificate.clone(), key };
    let mut front = Setup::new().with(|setup| setup.config.public.tls = files).start().await;
    front.client = HttpClient::new(&Roots::PemFile(certificate), LONG).unwrap();
    assert_eq!(front.get("/healthz").await.status, 200);
    let public = HttpClient::new(&Roots::Public, LONG).unwrap();
    let request = Request::get(front.url("/healthz")).body(Bytes::new()).unwrap();
    assert!(public.send(request, LONG, 100).await.is_err(), "nobody vouches for it");
}

#[tokio::test]
async fn a_redirect_goes_out_as_a_signed_in_form_and_its_answer_comes_back() {
    let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None, listener::Limits::new(4)).await.unwrap();
    let (account, call) = (AccountSid::from_number(1), CallSid::from_number(7));
    let twilio = config::Twilio {
        account_sid: Some(account),
        auth_token: TOKEN.into(),
        api_base: format!("http://{}", listener.address().unwrap()),
        ..Default::default()
    };
    let (seen, mut requests) = mpsc::unbounded_channel();
    let handler = move |request: Request<Incoming>, _| {
        let seen = seen.clone();
        async move {
            let (parts, body) = request.into_parts();
            seen.send((parts, body.collect().await.unwrap().to_bytes())).unwrap();
            let busy = Response::builder().status(429).header("Retry-After", "2");
            busy.body(Full::<Bytes>::from(r#"{"code":20429}"#)).unwrap()
        }
    };
    tokio::spawn(listener.serve(handler, std::future::pending()));
    let client = RestClient::new(&twilio, HttpClient::new(&Roots::Public, LONG).unwrap());
    let answer = client.send(RestRequest::redirect(&account, &call, "<Response/>".into())).await;
    assert_eq!(read_update(&answer), UpdateOutcome::Throttled { retry_after: Some(Duration::from_secs(2)) });
    let (parts, body) = requests.recv().await.unwrap();
    assert_eq!(parts.uri.path(), format!("/2010-04-01/Accounts/{account}/Calls/{call}.json"));
    assert_eq!(parts.headers["authorization"], format!("Basic {}", STANDARD.encode(format!("{account}:{TOKEN}"))));
    assert_eq!(&body[..], b"Twiml=%3CResponse%2F%3E");
}
