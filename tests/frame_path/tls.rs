//! The real listener, router and media socket behind a real socket with TLS, on one thread; and beside them the same
//! listener with a handler that only reads, so that what rustls takes for each of its records can be told apart.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming};
use hyper_util::rt::TokioIo;
use kolbox::{
    calls::Pulses,
    config::Config,
    server::{
        desk_port::DeskPort,
        handshake,
        listener::{Limits, Listener, Peer},
        media_socket::MediaContext,
        metrics::{MediaMetrics, RequestMetrics},
        prompts::Prompts,
        public_host::PublicHost,
        router::{self, Behind, Router},
        tls,
    },
    system::http_client::{Roots, tls_client_config},
    twilio::signature::sign,
};
use prometheus_client::metrics::counter::Counter;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};
use tokio::{
    io::AsyncReadExt,
    join,
    sync::{mpsc, oneshot},
    time::timeout,
};

use super::{ALLOCATIONS, COUNTED, FIRST, STREAM, accept, masked, media, options, start};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// Long enough never to matter: a test that waits for it has failed.
const LONG: Duration = Duration::from_secs(120);

#[test]
fn from_a_socket_to_the_stamp_nothing_is_allocated_but_what_tls_takes_for_its_records() {
    let (taken_by_box, taken_by_tls) = (allocations(Behaviour::Box), allocations(Behaviour::ReadsOnly));
    assert_eq!(taken_by_box, taken_by_tls);
    assert_eq!(taken_by_tls, COUNTED as u64, "rustls puts each record's text into a buffer of its own");
}

#[derive(Clone, Copy, PartialEq)]
enum Behaviour {
    /// All that the box does with a frame.
    Box,
    /// TLS, HTTP's upgrade, and no more.
    ReadsOnly,
}

/// What the server's thread allocates for the counted frames.
fn allocations(behaviour: Behaviour) -> u64 {
    let pulses = Pulses::new(Instant::now());
    let metrics = MediaMetrics::default();
    let heard = metrics.frames.clone();
    let media = MediaContext { options: options(), pulses: pulses.clone(), spool: None, metrics: metrics.clone() };
    let (desk, inbox) = DeskPort::new(8);
    let router = (behaviour == Behaviour::Box).then(|| Arc::new(router(desk, media)));
    let is_accepted = Arc::new(AtomicBool::new(behaviour == Behaviour::ReadsOnly));
    let (ask, asked) = mpsc::channel(1);

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let caller = runtime.block_on(async {
        let acceptor = tls::acceptor(&Config::default().public.tls, &[]).unwrap();
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), acceptor, Limits::new(2)).await.unwrap();
        let caller = Caller { address: listener.address().unwrap(), heard: heard.clone(), ask };
        let caller = thread::spawn({
            let is_accepted = is_accepted.clone();
            move || caller.call(&is_accepted)
        });
        let handler = move |request: Request<Incoming>, peer: Peer| {
            let (router, heard) = (router.clone(), heard.clone());
            async move {
                match router {
                    Some(router) => router.route(request, peer).await,
                    None => read_only(request, heard),
                }
            }
        };
        let served = async {
            match behaviour {
                Behaviour::Box => {
                    let believed = accept(inbox, || is_accepted.store(true, Ordering::Release));
                    join!(listener.serve(handler, tell_allocations(asked)), believed);
                }
                Behaviour::ReadsOnly => listener.serve(handler, tell_allocations(asked)).await,
            }
        };
        timeout(LONG, served).await.unwrap();
        caller
    });
    assert_eq!(metrics.frames.get(), (FIRST + COUNTED) as u64);
    assert_eq!(pulses.last_heard(STREAM).is_some(), behaviour == Behaviour::Box);
    caller.join().unwrap()
}

/// Says how much this thread has allocated, as often as it is asked, until nobody asks any more.
async fn tell_allocations(mut asked: mpsc::Receiver<oneshot::Sender<u64>>) {
    while let Some(reply) = asked.recv().await {
        let _ = reply.send(ALLOCATIONS.get());
    }
}

fn router(desk: DeskPort, media: MediaContext) -> Router {
    let mut config = Config::default();
    config.twilio.auth_token = TOKEN.into();
    let behind = Behind {
        desk,
        prompts: Arc::new(Prompts::load(&config.calls).unwrap()),
        public_host: Arc::new(PublicHost::new(None, Vec::new())),
        recordings: Arc::new(|_| Box::pin(async {})),
        media,
        metrics: RequestMetrics::default(),
    };
    Router::new(&config, behind, router::Limits::default())
}

/// Opens the WebSocket and reads what comes; so many bytes as a frame has are one frame.
fn read_only(request: Request<Incoming>, heard: Counter) -> Response<Full<Bytes>> {
    let (parts, _) = request.into_parts();
    let response = handshake::accept(&parts).unwrap();
    let upgrade = hyper::upgrade::on(Request::from_parts(parts, ()));
    tokio::spawn(async move {
        let mut connection = TokioIo::new(upgrade.await.unwrap());
        let (frame_bytes, mut bytes) = (masked(&media()).len(), 0);
        let mut buffer = [0; 4_096];
        while let Ok(read @ 1..) = connection.read(&mut buffer).await {
            bytes += read;
            heard.inc_by((bytes / frame_bytes) as u64 - heard.get());
        }
    });
    response
}

/// The other side, on a thread of its own, which is not counted.
struct Caller {
    address: SocketAddr,
    /// Frames that the server has had.
    heard: Counter,
    ask: mpsc::Sender<oneshot::Sender<u64>>,
}

impl Caller {
    /// Sends each frame when the one before was heard; returns what the server allocated for those that count.
    fn call(self, is_accepted: &AtomicBool) -> u64 {
        let mut connection = self.connect();
        if !is_accepted.load(Ordering::Acquire) {
            connection.write_all(&masked(&start())).unwrap();
            wait_until(|| is_accepted.load(Ordering::Acquire));
        }
        self.send_frames(&mut connection, FIRST);
        let before = self.allocations();
        self.send_frames(&mut connection, COUNTED);
        self.allocations() - before
    }

    fn connect(&self) -> StreamOwned<ClientConnection, TcpStream> {
        let config = Arc::new(tls_client_config(&Roots::Insecure).unwrap());
        let tls = ClientConnection::new(config, ServerName::IpAddress(self.address.ip().into())).unwrap();
        let tcp = TcpStream::connect(self.address).unwrap();
        tcp.set_nodelay(true).unwrap();
        let mut connection = StreamOwned::new(tls, tcp);
        let (address, path) = (self.address, "/ws/twilio-media");
        let signature = sign(TOKEN, &format!("wss://{address}{path}"), None);
        write!(
            connection,
            "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
             X-Twilio-Signature: {signature}\r\n\r\n"
        )
        .unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            connection.read_exact(&mut byte).unwrap();
            answer.push(byte[0]);
        }
        assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
        connection
    }

    fn send_frames(&self, connection: &mut impl Write, frames: usize) {
        let frame = masked(&media());
        for _ in 0..frames {
            let heard = self.heard.get();
            connection.write_all(&frame).unwrap();
            wait_until(|| self.heard.get() > heard);
        }
    }

    fn allocations(&self) -> u64 {
        let (reply, told) = oneshot::channel();
        self.ask.blocking_send(reply).unwrap();
        told.blocking_recv().unwrap()
    }
}

fn wait_until(is_so: impl Fn() -> bool) {
    while !is_so() {
        thread::yield_now();
    }
}
