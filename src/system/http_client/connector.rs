//! Connections as they are made: within their time, and marked once an answer has come over them.

use std::{
    error::Error as StdError,
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    Uri,
    http::Extensions,
    rt::{Read, ReadBufCursor, Write},
};
use hyper_util::client::legacy::connect::{Connect, Connected, Connection};

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// A connector that must be done within its limit, TLS included: hyper's own limit ends with TCP.
#[derive(Clone)]
pub(super) struct BoundedConnector<C> {
    pub inner: C,
    pub limit: Duration,
}

impl<C> tower_service::Service<Uri> for BoundedConnector<C>
where
    C: tower_service::Service<Uri> + Connect,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = Marked<<C as tower_service::Service<Uri>>::Response>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connecting = self.inner.call(uri);
        let limit = self.limit;
        Box::pin(async move {
            match tokio::time::timeout(limit, connecting).await {
                Ok(connected) => connected.map(Marked::new).map_err(Into::into),
                Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "no connection in time").into()),
            }
        })
    }
}

/// Whether an answer has already come over a connection: then the next request reuses it, and its silence or its end may
/// only mean that the peer, or a firewall on the way, has forgotten it.
#[derive(Debug, Clone, Default)]
pub(super) struct Mark(Arc<AtomicBool>);

impl Mark {
    /// The mark among what hyper tells about a connection.
    pub(super) fn of(connected: &Connected) -> Option<Self> {
        let mut extras = Extensions::new();
        connected.get_extras(&mut extras);
        extras.remove()
    }

    pub(super) fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn set(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A connection with its mark.
pub(super) struct Marked<S> {
    stream: S,
    mark: Mark,
}

impl<S> Marked<S> {
    fn new(stream: S) -> Self {
        Self { stream, mark: Mark::default() }
    }
}

impl<S: Connection> Connection for Marked<S> {
    fn connected(&self) -> Connected {
        self.stream.connected().extra(self.mark.clone())
    }
}

impl<S: Read + Unpin> Read for Marked<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: Write + Unpin> Write for Marked<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, pieces)
    }
}
