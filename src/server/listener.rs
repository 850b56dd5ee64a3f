//! The accept loop: a place for each connection, TLS, HTTP/1.1 within its limits, and an orderly end.

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Buf;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use crate::limits::{ACCEPT_PAUSE, FINISH_MAX, HEADER_BYTES_MAX, HEADER_READ_MAX, HEADERS_MAX};

/// What one listener takes. A test shortens it; everything else starts from [`Limits::new`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once, media sockets included; one more is closed as soon as it is accepted.
    pub connections_max: usize,
    /// From the accept to the end of the first header block, TLS handshake included; and from the end of an answer to
    /// the end of the next header block. Dripping extends nothing; the connection is closed.
    pub header_read_max: Duration,
    /// A header block with its request line, in bytes: beyond it 431. At least 8192.
    pub header_bytes_max: usize,
    /// Headers in a block: beyond it 431.
    pub headers_max: usize,
    /// What running requests are given to end after the listener was told to stop.
    pub finish_max: Duration,
}

impl Limits {
    /// The limits that the program was compiled with.
    pub fn new(connections_max: usize) -> Self {
        Self {
            connections_max,
            header_read_max: HEADER_READ_MAX,
            header_bytes_max: HEADER_BYTES_MAX,
            headers_max: HEADERS_MAX,
            finish_max: FINISH_MAX,
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub struct Peer {
    pub address: SocketAddr,
    /// Whether the box itself ended TLS.
    pub tls: bool,
    /// The connection's place. Whoever goes on with the connection after an upgrade keeps a clone to its end.
    pub seat: Seat,
}

/// One of the `connections_max` places; free again when the last clone is dropped.
#[derive(Debug, Clone)]
pub struct Seat {
    _permit: Arc<OwnedSemaphorePermit>,
}

/// What went wrong before any request was complete, since the start.
#[derive(Debug, Default)]
pub struct Counts {
    /// Connections over the maximum.
    pub refused: AtomicU64,
    /// TLS handshakes that failed or were not done in time.
    pub handshakes_failed: AtomicU64,
    /// Connections whose first header block was not complete in time.
    pub slow: AtomicU64,
    /// Requests that were no HTTP/1.1, or over a limit (answered 400, 414 or 431).
    pub bad_requests: AtomicU64,
}

/// A bound socket that is not served yet: the system already queues who comes.
pub struct Listener {
    socket: TcpListener,
    places: Arc<Semaphore>,
    shared: Arc<Shared>,
}

impl Listener {
    /// Binds; with `acceptor` every connection begins with TLS.
    pub async fn bind(address: SocketAddr, acceptor: Option<TlsAcceptor>, limits: Limits) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let places = Arc::new(Semaphore::new(limits.connections_max));
        let shared = Shared { acceptor, http: http(&limits), limits, counts: Arc::default() };
        Ok(Self { socket, places, shared: Arc::new(shared) })
    }

    /// Where it listens: with the port that the system chose, if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    pub fn counts(&self) -> Arc<Counts> {
        self.shared.counts.clone()
    }

    /// Serves until `stop` is ready; then takes no one in, lets running requests end for at most `finish_max`, and
    /// closes what is left. Connections that were upgraded belong to whoever took them, and go on.
    pub async fn serve<H, F, B>(self, handler: H, stop: impl Future<Output = ()>)
    where
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Buf + Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let Self { socket, places, shared } = self;
        let (stopping, stopped) = watch::channel(false);
        let mut connections = JoinSet::new();
        let mut stop = pin!(stop);
        loop {
            let accepted = tokio::select! {
                () = stop.as_mut() => break,
                Some(ended) = connections.join_next() => {
                    note_panic(ended);
                    continue;
                }
                accepted = socket.accept() => accepted,
            };
            match accepted {
                Ok((stream, address)) => {
                    let Ok(permit) = places.clone().try_acquire_owned() else {
                        shared.counts.refused.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%address, "connection over the maximum: closed");
                        continue;
                    };
                    let seat = Seat { _permit: Arc::new(permit) };
                    let peer = Peer { address, tls: shared.acceptor.is_some(), seat };
                    connections.spawn(shared.clone().greet(stream, peer, handler.clone(), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "no connection could be accepted");
                    // Out of file descriptors, most likely: let some close in place of turning on the spot.
                    tokio::select! {
                        () = stop.as_mut() => break,
                        () = tokio::time::sleep(ACCEPT_PAUSE) => {}
                    }
                }
            }
        }
        drop(socket);
        let _ = stopping.send(true);
        let all_ended = async {
            while let Some(ended) = connections.join_next().await {
                note_panic(ended);
            }
        };
        let _ = tokio::time::timeout(shared.limits.finish_max, all_ended).await;
    }
}

/// A handler that panicked costs its own connection only, and is told.
fn note_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a request's handling panicked");
    }
}

/// What all connections of a listener have in common.
struct Shared {
    acceptor: Option<TlsAcceptor>,
    http: http1::Builder,
    limits: Limits,
    counts: Arc<Counts>,
}

impl Shared {
    async fn greet<H, F, B>(self: Arc<Self>, stream: TcpStream, peer: Peer, handler: H, stopped: watch::Receiver<bool>)
    where
        H: Fn(Request<Incoming>, Peer) -> F + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Buf + Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let deadline = Instant::now() + self.limits.header_read_max;
        // Answers and media frames are small and each is awaited: they must not wait to be joined.
        let _ = stream.set_nodelay(true);
        let Some(acceptor) = &self.acceptor else {
            return self.converse(stream, peer, handler, deadline, stopped).await;
        };
        let problem = match tokio::time::timeout_at(deadline, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return self.converse(stream, peer, handler, deadline, stopped).await,
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        self.counts.handshakes_failed.fetch_add(1, Ordering::Relaxed);
        tracing::debug!(address = %peer.address, error = %problem, "TLS handshake failed");
    }

    async fn converse<S, H, F, B>(
        &self,
        stream: S,
        peer: Peer,
        handler: H,
        deadline: Instant,
        mut stopped: watch::Receiver<bool>,
    ) where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        H: Fn(Request<Incoming>, Peer) -> F + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Buf + Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let asked = Arc::new(AtomicBool::new(false));
        let address = peer.address;
        let service = service_fn({
            let asked = asked.clone();
            move |request| {
                asked.store(true, Ordering::Relaxed);
                let answer = handler(request, peer.clone());
                async move { Ok::<_, Infallible>(answer.await) }
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service).with_upgrades());
        // hyper's own time begins after the handshake and then holds for every header block; the first one's ends here.
        let mut first_block = pin!(tokio::time::sleep_until(deadline));
        let mut first_block_open = true;
        let mut stop_open = true;
        let ended = loop {
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = first_block.as_mut(), if first_block_open => {
                    first_block_open = false;
                    if !asked.load(Ordering::Relaxed) {
                        self.counts.slow.fetch_add(1, Ordering::Relaxed);
                        tracing::debug!(%address, "no whole request in time: closed");
                        return;
                    }
                }
                _ = stopped.changed(), if stop_open => {
                    stop_open = false;
                    connection.as_mut().graceful_shutdown();
                }
            }
        };
        if let Err(error) = ended {
            if error.is_parse() {
                self.counts.bad_requests.fetch_add(1, Ordering::Relaxed);
            } else if error.is_timeout() && !asked.load(Ordering::Relaxed) {
                self.counts.slow.fetch_add(1, Ordering::Relaxed);
            }
            tracing::debug!(%address, %error, "connection ended");
        }
    }
}

fn http(limits: &Limits) -> http1::Builder {
    let mut http = http1::Builder::new();
    // Without a timer hyper's header time-out does nothing.
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.header_read_max)
        .max_headers(limits.headers_max)
        .max_header_size(limits.header_bytes_max)
        .max_buf_size(2 * limits.header_bytes_max);
    http
}
