//! One accepted connection: TLS, HTTP/1.1 within its limits, and why it was closed.

use std::{
    convert::Infallible,
    error::Error as StdError,
    future::Future,
    io,
    net::SocketAddr,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
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
    net::TcpStream,
    sync::watch,
    time::Instant,
};
use tokio_rustls::TlsAcceptor;

use super::{
    listener::{Limits, Peer},
    metrics::ConnectionMetrics,
    places::Notice,
    write_limit::WriteLimited,
};

/// What all connections of a listener have in common.
pub(super) struct Reception {
    acceptor: Option<TlsAcceptor>,
    http: http1::Builder,
    limits: Limits,
    metrics: ConnectionMetrics,
}

impl Reception {
    pub(super) fn new(acceptor: Option<TlsAcceptor>, limits: Limits, metrics: ConnectionMetrics) -> Self {
        Self { acceptor, http: http(&limits), limits, metrics }
    }

    /// Whether connections begin with TLS.
    pub(super) fn has_tls(&self) -> bool {
        self.acceptor.is_some()
    }

    /// Serves a connection to its end: its own, or because its place is needed.
    pub(super) async fn receive<H, F, B>(
        self: Arc<Self>,
        stream: TcpStream,
        peer: Peer,
        notice: Notice,
        handler: H,
        stopped: watch::Receiver<bool>,
    ) where
        H: Fn(Request<Incoming>, Peer) -> F + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Buf + Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let address = peer.address;
        tokio::select! {
            () = self.greet(stream, peer, handler, stopped) => {}
            () = notice.served() => tracing::debug!(%address, "without a valid signature for longest: closed to make room"),
        }
    }

    async fn greet<H, F, B>(&self, stream: TcpStream, peer: Peer, handler: H, stopped: watch::Receiver<bool>)
    where
        H: Fn(Request<Incoming>, Peer) -> F + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Buf + Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let deadline = Instant::now() + self.limits.header_read_max;
        // Answers and media frames are small and each is awaited: they must not wait to be joined.
        let _ = stream.set_nodelay(true);
        let stream = WriteLimited::new(stream, self.limits.write, self.metrics.closed_unread.clone());
        let Some(acceptor) = &self.acceptor else {
            return self.converse(stream, peer, handler, deadline, stopped).await;
        };
        let problem = match tokio::time::timeout_at(deadline, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => return self.converse(stream, peer, handler, deadline, stopped).await,
            Ok(Err(error)) => error,
            Err(_) => io::ErrorKind::TimedOut.into(),
        };
        self.metrics.handshakes_failed.inc();
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
                        self.metrics.closed_slow.inc();
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
            self.note_end(address, &error, asked.load(Ordering::Relaxed));
        }
    }

    /// hyper ended the connection. `asked`: after at least one whole header block.
    fn note_end(&self, address: SocketAddr, error: &hyper::Error, asked: bool) {
        if error.is_parse() {
            self.metrics.bad_requests.inc();
        } else if error.is_timeout() && asked {
            self.metrics.closed_idle.inc();
        } else if error.is_timeout() {
            self.metrics.closed_slow.inc();
        }
        tracing::debug!(%address, %error, "connection ended");
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http_body_util::Empty;
    use prometheus_client::metrics::counter::Counter;
    use tokio::io::AsyncWriteExt;

    use super::*;
    use crate::server::places::Places;

    const REQUEST: &[u8] = b"HEAD /healthz HTTP/1.1\r\nHost: gw\r\n\r\n";

    /// hyper reads no further request while an answer waits to be written; without that a flood of small requests would
    /// pile up answers in memory.
    #[tokio::test(start_paused = true)]
    async fn who_asks_on_and_on_without_reading_an_answer_is_not_heard_and_given_up() {
        let metrics = ConnectionMetrics::default();
        let reception = Reception::new(None, Limits::new(2), metrics.clone());
        let (seat, _notice) = Places::new(2, 2, metrics.clone()).take().unwrap();
        let peer = Peer { address: ([127, 0, 0, 1], 1).into(), tls: false, seat };
        let (mut client, server) = tokio::io::duplex(1_024);
        let answers: Counter = Counter::default();
        let (made, seen) = (answers.clone(), answers.clone());
        let handler = move |_, _| {
            made.inc();
            async { Response::new(Empty::<Bytes>::new()) }
        };
        let flood = async move { while client.write_all(REQUEST).await.is_ok() && seen.get() < 10_000 {} };
        let server = WriteLimited::new(server, reception.limits.write, metrics.closed_unread.clone());
        let (_stop, stopped) = watch::channel(false);
        let deadline = Instant::now() + reception.limits.header_read_max;
        tokio::join!(flood, reception.converse(server, peer, handler, deadline, stopped));
        assert_eq!(metrics.closed_unread.get(), 1);
        assert!(answers.get() < 100, "{} answers were made, and none was read", answers.get());
    }
}
