//! The public listener with a real desk behind it, and the ways of a stranger to it.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use kolbox::{
    calls::{Desk, DeskView, Output, Pulses},
    config::{Config, TlsMode},
    gateway,
    server::{
        desk_port::{DeskPort, SocketOrder, ToDesk},
        listener::{self, Listener},
        media_socket::MediaContext,
        metrics::{ConnectionMetrics, ServerMetrics},
        prompts::Prompts,
        public_host::PublicHost,
        router::{self, Behind, Router},
        tls,
    },
    system::http_client::{Roots, tls_client_config},
    twilio::{
        sid::{AccountSid, CallSid},
        signature,
        webhook::Form,
    },
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    sync::{mpsc, watch},
    time::{sleep_until, timeout},
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use crate::other_call::OtherCall;

pub const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Long enough never to matter: a test that waits for it has failed.
pub const LONG: Duration = Duration::from_secs(30);
/// A limit that a test runs into; the other call must stay within it on a busy machine.
pub const SHORT: Duration = Duration::from_secs(1);

/// Decoded once for all tests.
pub static PROMPTS: LazyLock<Arc<Prompts>> =
    LazyLock::new(|| Arc::new(Prompts::load(&Config::default().calls).unwrap()));

/// A stranger's connection.
pub type Secure = TlsStream<TcpStream>;

/// What the box in front of a test is made of.
pub struct Setup {
    pub config: Config,
    pub listener: listener::Limits,
    pub router: router::Limits,
    /// Events that may wait for the desk.
    pub desk_queue: usize,
}

impl Setup {
    pub fn new() -> Self {
        let mut config = Config::default();
        config.public.tls.mode = TlsMode::SelfSigned;
        config.twilio.account_sid = Some(AccountSid::from_number(1));
        config.twilio.auth_token = TOKEN.into();
        config.calls.caller_silence = Duration::ZERO;
        Self { config, listener: listener::Limits::new(64), router: router::Limits::default(), desk_queue: 64 }
    }

    pub fn with(mut self, change: impl FnOnce(&mut Self)) -> Self {
        change(&mut self);
        self
    }

    pub async fn start(self) -> Front {
        let Self { config, listener, router, desk_queue } = self;
        let metrics = ServerMetrics::default();
        let (port, inbox) = DeskPort::new(desk_queue);
        let pulses = Pulses::new(Instant::now());
        let desk = Desk::new(gateway::desk_options(&config, &PROMPTS), pulses.clone());
        let behind = Behind {
            desk: port,
            prompts: PROMPTS.clone(),
            public_host: Arc::new(PublicHost::new(None, config.public.trusted_proxies.clone())),
            recordings: Arc::new(|_| Box::pin(async {})),
            media: MediaContext {
                options: Arc::new(gateway::media_options(&config, &PROMPTS)),
                pulses,
                spool: None,
                metrics: metrics.media.clone(),
            },
            metrics: metrics.requests.clone(),
        };
        let acceptor = tls::acceptor(&config.public.tls, &[]).unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), acceptor, listener).await.unwrap();
        let connections = metrics.connections("public");
        let listener = listener.counted_by(connections.clone());
        let address = listener.address().unwrap();
        let router = Arc::new(Router::new(&config, behind, router));
        let handler = move |request, peer| {
            let router = router.clone();
            async move { router.route(request, peer).await }
        };
        tokio::spawn(listener.serve(handler, std::future::pending()));
        let (view, seen) = watch::channel(desk.view());
        let (desk_turns, turns) = watch::channel(true);
        let (gone, sockets_gone) = watch::channel(0);
        let redirects = Arc::new(AtomicU64::new(0));
        tokio::spawn(run_desk(desk, inbox, turns, Shown { view, gone, redirects: redirects.clone() }));
        let tls = Arc::new(tls_client_config(&Roots::Insecure).unwrap());
        Front { address, metrics, connections, desk_turns, view: seen, sockets_gone, redirects, tls }
    }
}

/// A box in front of a test.
pub struct Front {
    pub address: SocketAddr,
    pub metrics: ServerMetrics,
    pub connections: ConnectionMetrics,
    /// `false`: the desk takes nothing from its queue.
    pub desk_turns: watch::Sender<bool>,
    pub view: watch::Receiver<DeskView>,
    sockets_gone: watch::Receiver<u64>,
    redirects: Arc<AtomicU64>,
    pub tls: Arc<ClientConfig>,
}

impl Front {
    /// A connection that has not said anything yet.
    pub async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// A connection that is ready for a request.
    pub async fn secure(&self) -> Secure {
        self.over_tls(self.tcp().await).await
    }

    /// The same, of one whose system takes in little that it does not read.
    pub async fn secure_with_little_room(&self) -> Secure {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4 * 1024).unwrap();
        self.over_tls(socket.connect(self.address).await.unwrap()).await
    }

    async fn over_tls(&self, tcp: TcpStream) -> Secure {
        let connector = TlsConnector::from(self.tls.clone());
        connector.connect(self.address.ip().into(), tcp).await.unwrap()
    }

    /// A webhook as Twilio sends it, in bytes.
    pub fn webhook(&self, route: &str, form: &Form) -> Vec<u8> {
        let url = format!("https://{}/webhook/{route}", self.address);
        self.webhook_with(route, form, &signature::sign(TOKEN, &url, Some(form)))
    }

    pub fn webhook_with(&self, route: &str, form: &Form, signature: &str) -> Vec<u8> {
        let (address, body) = (self.address, form.encode());
        format!(
            "POST /webhook/{route} HTTP/1.1\r\nHost: {address}\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             X-Twilio-Signature: {signature}\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .into_bytes()
    }

    /// A call with its media, which is to go on whatever a test does.
    pub async fn other_call(&self) -> OtherCall {
        OtherCall::begin(self).await
    }

    /// Until so many media sockets are gone, and counted.
    pub async fn sockets_are_gone(&mut self, count: u64) {
        timeout(LONG, self.sockets_gone.wait_for(|gone| *gone >= count)).await.unwrap().unwrap();
    }

    /// Calls that the watchdog sent to the recorder.
    pub fn redirects(&self) -> u64 {
        self.redirects.load(Ordering::Relaxed)
    }
}

/// What a test sees of the desk.
struct Shown {
    view: watch::Sender<DeskView>,
    gone: watch::Sender<u64>,
    redirects: Arc<AtomicU64>,
}

async fn run_desk(mut desk: Desk, mut inbox: mpsc::Receiver<ToDesk>, mut turns: watch::Receiver<bool>, shown: Shown) {
    let (mut replies, mut sockets) = (HashMap::new(), HashMap::new());
    loop {
        if turns.wait_for(|turns| *turns).await.is_err() {
            return;
        }
        let due = desk.poll_timeout().map_or_else(|| Instant::now() + LONG, |(due, _)| due);
        let message = tokio::select! {
            biased;
            _ = turns.changed() => continue,
            () = sleep_until(due.into()) => None,
            message = inbox.recv() => Some(message),
        };
        match message {
            None => desk.handle_timeout(Instant::now()),
            Some(None) => return,
            Some(Some(ToDesk::Asked { event, request, reply })) => {
                replies.insert(request, reply);
                desk.handle(event, Instant::now());
            }
            Some(Some(ToDesk::Told(event))) => desk.handle(event, Instant::now()),
            Some(Some(ToDesk::SocketOpened { socket, orders })) => drop(sockets.insert(socket, orders)),
            Some(Some(ToDesk::SocketGone { socket })) => {
                sockets.remove(&socket);
                shown.gone.send_modify(|gone| *gone += 1);
            }
            Some(Some(ToDesk::Pinged { reply })) => drop(reply.send(())),
        }
        while let Some(output) = desk.poll_output() {
            let (socket, order) = match output {
                Output::Answer { request, answer } => {
                    replies.remove(&request).map(|reply| reply.send(answer));
                    continue;
                }
                Output::Redirect { .. } => {
                    shown.redirects.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Output::AcceptStream { socket, stream } => (socket, SocketOrder::Accept(stream)),
                Output::RefuseStream { socket, refusal } => (socket, SocketOrder::Refuse(refusal)),
                Output::CloseStream { socket } => (socket, SocketOrder::Close),
                // No call ends here.
                _ => continue,
            };
            sockets.get(&socket).map(|orders| orders.try_send(order));
        }
        shown.view.send_replace(desk.view());
    }
}

/// What Twilio says of a call that goes on.
pub fn form(call_sid: CallSid) -> Form {
    let account = AccountSid::from_number(1);
    Form::from_pairs([
        ("AccountSid", account.as_str()),
        ("CallSid", call_sid.as_str()),
        ("From", "+972501234567"),
        ("To", "+97231234567"),
        ("CallStatus", "in-progress"),
        ("Direction", "inbound"),
    ])
}

/// Sends a request and reads one answer: its status and body. `None`: the connection is closed.
pub async fn ask(socket: &mut Secure, request: &[u8]) -> Option<(u16, String)> {
    socket.write_all(request).await.ok()?;
    socket.flush().await.ok()?;
    hear(socket).await
}

/// Reads one answer: its status and body. `None`: the connection is closed.
pub async fn hear(socket: &mut Secure) -> Option<(u16, String)> {
    let answer = timeout(LONG, read_head(socket)).await.expect("neither an answer nor an end");
    let length = answer.lines().find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    socket.read_exact(&mut body).await.ok()?;
    Some((status(&answer)?, String::from_utf8(body).unwrap()))
}

async fn read_head(socket: &mut Secure) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") && matches!(socket.read(&mut byte).await, Ok(1)) {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// All that comes until the box ends the connection.
pub async fn read_to_end(socket: &mut (impl AsyncRead + Unpin)) -> String {
    let mut answer = Vec::new();
    let _ = timeout(LONG, socket.read_to_end(&mut answer)).await.expect("the box leaves the connection open");
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request, and all that comes until the box ends the connection.
pub async fn exchange(mut socket: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> String {
    // Whoever refuses a request early may close before it was all written.
    let _ = socket.write_all(request).await;
    let _ = socket.flush().await;
    read_to_end(&mut socket).await
}

/// Sends this, and then the same little piece again and again, until the box ends the connection: what it answered.
pub async fn drip(socket: impl AsyncRead + AsyncWrite + Unpin, first: &[u8], piece: &[u8]) -> String {
    let (mut reader, mut writer) = tokio::io::split(socket);
    writer.write_all(first).await.unwrap();
    let dripping = async {
        let mut beat = tokio::time::interval(Duration::from_millis(20));
        while writer.write_all(piece).await.is_ok() && writer.flush().await.is_ok() {
            beat.tick().await;
        }
        std::future::pending().await
    };
    tokio::select! {
        answer = read_to_end(&mut reader) => answer,
        () = dripping => unreachable!(),
    }
}

/// The status of the first answer.
pub fn status(answer: &str) -> Option<u16> {
    answer.split(' ').nth(1)?.parse().ok()
}
