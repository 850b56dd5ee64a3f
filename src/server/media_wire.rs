//! The WebSocket under a media socket. What is to be sent is put into its bounded buffer at once, and leaves while messages
//! are awaited: so reading never waits for writing, and two peers that wait for each other cannot happen.

use std::{future::poll_fn, pin::Pin, task::Poll, time::Instant};

use futures_util::{Sink, Stream};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{
        Error, Message,
        protocol::{CloseFrame, Role, WebSocketConfig},
    },
};

use crate::limits::{WS_BUFFER_BYTES, WS_MESSAGE_BYTES_MAX, WS_UNSENT_BYTES_MAX, WS_WRITE_MAX};

/// A connection after its 101.
pub(super) struct Wire<C> {
    socket: WebSocketStream<C>,
    /// Since when something has been waiting to leave.
    unsent_since: Option<Instant>,
}

impl<C: AsyncRead + AsyncWrite + Unpin> Wire<C> {
    pub(super) async fn new(connection: C) -> Self {
        let config = WebSocketConfig::default()
            .read_buffer_size(WS_BUFFER_BYTES)
            .write_buffer_size(WS_BUFFER_BYTES)
            .max_write_buffer_size(WS_UNSENT_BYTES_MAX)
            .max_message_size(Some(WS_MESSAGE_BYTES_MAX))
            .max_frame_size(Some(WS_MESSAGE_BYTES_MAX));
        let socket = WebSocketStream::from_raw_socket(connection, Role::Server, Some(config)).await;
        Self { socket, unsent_since: None }
    }

    /// When what waits must have left; `None`: nothing waits.
    pub(super) fn write_due(&self) -> Option<Instant> {
        self.unsent_since.map(|since| since + WS_WRITE_MAX)
    }

    /// An error when the buffer is full: the peer has not read for a long time.
    pub(super) fn send(&mut self, message: Message, now: Instant) -> Result<(), Error> {
        self.unsent_since.get_or_insert(now);
        Pin::new(&mut self.socket).start_send(message)
    }

    /// The next message, `None` at the end. May be dropped at any time: nothing is lost.
    pub(super) async fn next(&mut self) -> Option<Result<Message, Error>> {
        poll_fn(|context| {
            if self.unsent_since.is_some() {
                match Pin::new(&mut self.socket).poll_flush(context) {
                    Poll::Ready(Ok(())) => self.unsent_since = None,
                    Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                    Poll::Pending => {}
                }
            }
            Pin::new(&mut self.socket).poll_next(context)
        })
        .await
    }

    /// Sends the close frame (`None`: the peer's own is being answered, or nothing can be sent), and waits for the peer.
    pub(super) async fn close(&mut self, frame: Option<CloseFrame>, now: Instant) {
        let is_sent = frame.is_some_and(|frame| self.send(Message::Close(Some(frame)), now).is_ok());
        while let Some(Ok(_)) = self.next().await {}
        // After a breach nothing can be read as messages. Bytes that are left unread would reset the connection, and the
        // peer might never see the close frame.
        let _ = poll_fn(|context| Pin::new(&mut self.socket).poll_flush(context)).await;
        let connection = self.socket.get_mut();
        if is_sent && connection.shutdown().await.is_ok() {
            let mut rest = [0; 1_024];
            while connection.read(&mut rest).await.is_ok_and(|bytes| bytes > 0) {}
        }
    }
}
