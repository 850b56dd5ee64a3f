//! The way to the desk: webhooks ask and wait for their answer, media sockets tell and take orders.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use tokio::sync::{mpsc, oneshot};

use crate::calls::{Answer, Event, Refusal, RequestId, SocketId, StreamKey};

/// What reaches the desk's task.
#[derive(Debug)]
pub enum ToDesk {
    /// A webhook and where its answer goes.
    Asked { event: Event, request: RequestId, reply: oneshot::Sender<Answer> },
    /// A media connection got its 101; orders for it go here.
    SocketOpened { socket: SocketId, orders: mpsc::Sender<SocketOrder> },
    /// A media connection is gone: nothing more can be ordered.
    SocketGone { socket: SocketId },
    /// Anything that expects no answer.
    Told(Event),
    /// Prove that the desk turns.
    Pinged { reply: oneshot::Sender<()> },
}

/// What the desk orders a media connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SocketOrder {
    /// The `start` is believed; stamp media with this key from now on.
    Accept(StreamKey),
    /// Close with 1008.
    Refuse(Refusal),
    /// Close with 1000.
    Close,
}

/// Why a webhook got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AskError {
    /// As many events wait as may wait: answer 503.
    Full,
    /// The desk has stopped, or could not do what the answer would promise: answer 503.
    Gone,
}

/// A handle on the desk; cheap to clone.
#[derive(Debug, Clone)]
pub struct DeskPort {
    sender: mpsc::Sender<ToDesk>,
    next: Arc<AtomicU64>,
}

impl DeskPort {
    /// A port and the end that the desk's task reads; at most `capacity` messages wait.
    pub fn new(capacity: usize) -> (Self, mpsc::Receiver<ToDesk>) {
        let (sender, receiver) = mpsc::channel(capacity);
        (Self { sender, next: Arc::new(AtomicU64::new(1)) }, receiver)
    }

    /// Hands a webhook to the desk and waits for its answer.
    pub async fn ask(&self, event: impl FnOnce(RequestId) -> Event) -> Result<Answer, AskError> {
        let request = RequestId(self.next.fetch_add(1, Ordering::Relaxed));
        let (reply, answer) = oneshot::channel();
        self.sender.try_send(ToDesk::Asked { event: event(request), request, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => AskError::Full,
            mpsc::error::TrySendError::Closed(_) => AskError::Gone,
        })?;
        answer.await.map_err(|_| AskError::Gone)
    }

    /// Tells the desk; waits while it is busy. A desk that is gone hears nothing, which ends nothing here.
    pub async fn tell(&self, event: Event) {
        let _ = self.sender.send(ToDesk::Told(event)).await;
    }

    /// Returns once the desk has got round to it; `false` if it is gone.
    pub async fn ping(&self) -> bool {
        let (reply, answer) = oneshot::channel();
        self.sender.send(ToDesk::Pinged { reply }).await.is_ok() && answer.await.is_ok()
    }

    /// Announces a media connection; the receiver gives the desk's orders for it, and ends when the desk is gone.
    pub async fn open_socket(&self) -> (SocketId, mpsc::Receiver<SocketOrder>) {
        let socket = SocketId(self.next.fetch_add(1, Ordering::Relaxed));
        let (orders, receiver) = mpsc::channel(4);
        let _ = self.sender.send(ToDesk::SocketOpened { socket, orders }).await;
        (socket, receiver)
    }

    /// Announces that a media connection is gone.
    pub async fn close_socket(&self, socket: SocketId) {
        let _ = self.sender.send(ToDesk::SocketGone { socket }).await;
    }
}
