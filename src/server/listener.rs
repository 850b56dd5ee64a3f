//! The accept loop: a place for each connection, TLS, HTTP/1.1 within its limits, and an orderly end.

use std::{error::Error as StdError, future::Future, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use bytes::Buf;
use hyper::{
    Request, Response,
    body::{Body, Incoming},
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::watch,
    task::{JoinError, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::{connection::Reception, metrics::ConnectionMetrics, places::Places};
pub use super::{places::Seat, write_limit::WriteLimits};
use crate::limits::{
    ACCEPT_PAUSE, ACCEPT_QUEUE_MAX, ANSWER_UNREAD_MAX, CONNECTION_SEND_BYTES, FINISH_MAX, HEADER_BYTES_MAX,
    HEADER_READ_MAX, HEADERS_MAX, STATUS_CONNECTIONS_MAX, STATUS_UNSIGNED_MAX, WRITE_STALL_MAX,
};

/// What one listener takes. A test shortens it; everything else starts from [`Limits::new`].
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections at once, media sockets included; one more is closed as soon as it is accepted.
    pub connections_max: usize,
    /// Connections without a valid signature: of more, the oldest is closed. At least 1.
    pub unsigned_max: usize,
    /// From the accept to the end of the first header block, TLS handshake included; and from the end of an answer to
    /// the end of the next header block. Dripping extends nothing; the connection is closed.
    pub header_read_max: Duration,
    /// A header block with its request line, in bytes: beyond it 431. At least 8192.
    pub header_bytes_max: usize,
    /// Headers in a block: beyond it 431.
    pub headers_max: usize,
    /// A peer that does not read.
    pub write: WriteLimits,
    /// What running requests are given to end after the listener was told to stop.
    pub finish_max: Duration,
}

impl Limits {
    /// The public side's, as the program was compiled: at most half of the connections without a valid signature.
    pub fn new(connections_max: usize) -> Self {
        Self {
            connections_max,
            unsigned_max: (connections_max / 2).max(1),
            header_read_max: HEADER_READ_MAX,
            header_bytes_max: HEADER_BYTES_MAX,
            headers_max: HEADERS_MAX,
            write: WriteLimits { stall_max: WRITE_STALL_MAX, unread_max: ANSWER_UNREAD_MAX },
            finish_max: FINISH_MAX,
        }
    }

    /// The status side's: nobody signs there, and whoever looks at the page must get through.
    pub fn status() -> Self {
        Self { unsigned_max: STATUS_UNSIGNED_MAX, ..Self::new(STATUS_CONNECTIONS_MAX) }
    }

    /// Where nobody signs, and nobody is a stranger.
    pub fn among_friends(connections_max: usize) -> Self {
        Self { unsigned_max: connections_max, ..Self::new(connections_max) }
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

/// A bound socket that is not served yet: the system already queues who comes.
pub struct Listener {
    socket: TcpListener,
    acceptor: Option<TlsAcceptor>,
    limits: Limits,
    metrics: ConnectionMetrics,
}

impl Listener {
    /// Binds; with `acceptor` every connection begins with TLS. Needs a runtime, as every socket of tokio does.
    pub async fn bind(address: SocketAddr, acceptor: Option<TlsAcceptor>, limits: Limits) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        socket.set_reuseaddr(true)?;
        // Inherited by each connection: what a peer leaves unread must not fill the system's memory.
        socket.set_send_buffer_size(CONNECTION_SEND_BYTES)?;
        socket.bind(address)?;
        let metrics = ConnectionMetrics::default();
        Ok(Self { socket: socket.listen(ACCEPT_QUEUE_MAX)?, acceptor, limits, metrics })
    }

    /// Counts its connections here.
    pub fn counted_by(self, metrics: ConnectionMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// Where it listens: with the port that the system chose, if 0 was asked for.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until `stop` is ready; then takes no one in, lets running requests end for at most `finish_max`, and
    /// closes what is left. Connections that were upgraded belong to whoever took them, and go on.
    pub async fn serve<H, F, B>(self, handler: H, stop: impl Future<Output = ()>)
    where
        H: Fn(Request<Incoming>, Peer) -> F + Clone + Send + 'static,
        F: Future<Output = Response<B>> + Send + 'static,
        B: Body<Data: Buf + Send, Error: Into<Box<dyn StdError + Send + Sync>>> + Send + 'static,
    {
        let Self { socket, acceptor, limits, metrics } = self;
        let places = Places::new(limits.connections_max, limits.unsigned_max, metrics.clone());
        let finish_max = limits.finish_max;
        let reception = Arc::new(Reception::new(acceptor, limits, metrics));
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
                    let Some((seat, notice)) = places.take() else {
                        tracing::debug!(%address, "connection over the maximum: closed");
                        continue;
                    };
                    let peer = Peer { address, tls: reception.has_tls(), seat };
                    let reception = reception.clone();
                    connections.spawn(reception.receive(stream, peer, notice, handler.clone(), stopped.clone()));
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
        let _ = tokio::time::timeout(finish_max, all_ended).await;
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
