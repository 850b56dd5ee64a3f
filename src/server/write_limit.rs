//! A connection whose peer must read: what cannot be written within its time ends it.
//!
//! hyper has no such limit. Without one a peer that asks and never reads keeps its connection, and what waits for it,
//! for as long as it likes.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use prometheus_client::metrics::counter::Counter;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// How long a peer may keep the box from writing.
#[derive(Debug, Clone, Copy)]
pub struct WriteLimits {
    /// Without taking a single byte.
    pub stall_max: Duration,
    /// With some progress now and then, from the first byte that had to wait until all is written.
    pub unread_max: Duration,
}

/// A connection whose unread bytes can be thrown away.
pub(super) trait Sever {
    /// When it is dropped, what the peer has not taken is dropped too. Else the system would go on offering it to a peer
    /// that reads nothing, for minutes and in its own memory.
    fn sever(&self);
}

impl Sever for TcpStream {
    fn sever(&self) {
        // At worst the system keeps the bytes for a while.
        let _ = self.set_zero_linger();
    }
}

/// A connection under [`WriteLimits`]. Beneath TLS, so that its records count as well.
#[derive(Debug)]
pub(super) struct WriteLimited<S: Sever> {
    connection: S,
    limits: WriteLimits,
    /// Counts this connection once, if it is given up.
    given_up: Counter,
    /// Since when something has had to wait, until all is written.
    unwritten_since: Option<Instant>,
    /// The end of the current wait.
    due: Option<Pin<Box<Sleep>>>,
    is_given_up: bool,
}

impl<S: Sever> WriteLimited<S> {
    pub(super) fn new(connection: S, limits: WriteLimits, given_up: Counter) -> Self {
        Self { connection, limits, given_up, unwritten_since: None, due: None, is_given_up: false }
    }

    /// Some bytes were taken.
    fn progress(&mut self) {
        self.due = None;
    }

    /// The peer takes nothing just now: pending until it does, an error when its time is over.
    fn wait<T>(&mut self, context: &mut Context<'_>) -> Poll<io::Result<T>> {
        if self.is_given_up {
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        let now = Instant::now();
        let since = *self.unwritten_since.get_or_insert(now);
        let due = (now + self.limits.stall_max).min(since + self.limits.unread_max);
        let due = self.due.get_or_insert_with(|| Box::pin(sleep_until(due)));
        std::task::ready!(due.as_mut().poll(context));
        self.is_given_up = true;
        self.given_up.inc();
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncWrite + Sever + Unpin> WriteLimited<S> {
    fn written(&mut self, written: Poll<io::Result<usize>>, context: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match written {
            Poll::Pending => self.wait(context),
            Poll::Ready(result) => {
                self.progress();
                Poll::Ready(result)
            }
        }
    }
}

impl<S: AsyncRead + Sever + Unpin> AsyncRead for WriteLimited<S> {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().connection).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Sever + Unpin> AsyncWrite for WriteLimited<S> {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.connection).poll_write(context, bytes);
        this.written(written, context)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.connection).poll_write_vectored(context, bytes);
        this.written(written, context)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let Poll::Ready(flushed) = Pin::new(&mut this.connection).poll_flush(context) else {
            return this.wait(context);
        };
        this.progress();
        this.unwritten_since = None;
        Poll::Ready(flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.connection).poll_shutdown(context) {
            Poll::Ready(ended) => Poll::Ready(ended),
            Poll::Pending => this.wait(context),
        }
    }
}

impl<S: Sever> Drop for WriteLimited<S> {
    fn drop(&mut self) {
        if self.unwritten_since.is_some() {
            self.connection.sever();
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

    use super::*;

    impl Sever for DuplexStream {
        fn sever(&self) {}
    }

    const SECOND: Duration = Duration::from_secs(1);
    const LIMITS: WriteLimits = WriteLimits { stall_max: Duration::from_secs(10), unread_max: Duration::from_secs(60) };

    /// A connection that holds 16 bytes, its peer, and what counts its end.
    fn connection() -> (WriteLimited<DuplexStream>, DuplexStream, Counter) {
        let ((connection, peer), given_up) = (tokio::io::duplex(16), Counter::default());
        (WriteLimited::new(connection, LIMITS, given_up.clone()), peer, given_up)
    }

    /// Reads one byte every so often, for as long as there are any.
    async fn drip(mut peer: DuplexStream, every: Duration) -> u64 {
        let mut bytes = 0;
        while peer.read_u8().await.is_ok() {
            bytes += 1;
            tokio::time::sleep(every).await;
        }
        bytes
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_takes_nothing_is_given_up_after_its_time_and_counted_once() {
        let (mut connection, _peer, given_up) = connection();
        let began = Instant::now();
        assert_eq!(connection.write_all(&[0; 17]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), 10);
        assert_eq!(connection.write_all(&[0; 17]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!(given_up.get(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_peer_gets_all_of_it() {
        let (mut connection, peer, given_up) = connection();
        let reader = tokio::spawn(drip(peer, 9 * SECOND));
        connection.write_all(&[0; 20]).await.unwrap();
        connection.flush().await.unwrap();
        drop(connection);
        assert_eq!((reader.await.unwrap(), given_up.get()), (20, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_drips_is_given_up_when_the_whole_takes_too_long() {
        let (mut connection, peer, given_up) = connection();
        tokio::spawn(drip(peer, 9 * SECOND));
        let began = Instant::now();
        assert_eq!(connection.write_all(&[0; 1_000]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        assert_eq!((began.elapsed().as_secs(), given_up.get()), (60, 1));
    }

    #[tokio::test(start_paused = true)]
    async fn each_answer_has_the_whole_time_again() {
        let (mut connection, peer, given_up) = connection();
        let reader = tokio::spawn(drip(peer, SECOND));
        for _ in 0..4 {
            connection.write_all(&[0; 50]).await.unwrap();
            connection.flush().await.unwrap();
        }
        drop(connection);
        assert_eq!((reader.await.unwrap(), given_up.get()), (200, 0));
    }
}
