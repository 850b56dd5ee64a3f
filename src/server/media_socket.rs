//! A media WebSocket: read promptly, never waited for when it does not read, and driven by its session.

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    sync::mpsc,
    time::{sleep_until, timeout},
};
use tokio_tungstenite::tungstenite::{
    Error, Message,
    error::ProtocolError,
    protocol::{CloseFrame, frame::coding::CloseCode},
};
use tracing::field::display;

use super::{
    desk_port::{DeskPort, SocketOrder},
    media_session::{CLOSE_POLICY, MediaCounts, MediaOptions, MediaOutput, MediaReport, MediaSession},
    media_wire::Wire,
    metrics::MediaMetrics,
};
use crate::{
    calls::{Event, Pulses, SocketEnd, SocketId},
    limits::WS_CLOSE_MAX,
    speech::{
        marks::Mark,
        spool::{SpoolFile, SpoolPort},
    },
};

/// Message too big (RFC 6455, 7.4.1).
const CLOSE_TOO_BIG: u16 = 1009;
/// A text that is not UTF-8 (RFC 6455, 7.4.1).
const CLOSE_NOT_TEXT: u16 = 1007;
/// Protocol error (RFC 6455, 7.4.1).
const CLOSE_PROTOCOL: u16 = 1002;

/// What the figures call a peer that left what was sent to it unread.
const NOT_READ: &str = "not read";
/// What they call a connection that ended without a close frame.
const BROKEN_OFF: &str = "broken off";

/// What every media connection is given.
#[derive(Debug, Clone)]
pub struct MediaContext {
    pub options: Arc<MediaOptions>,
    pub pulses: Pulses,
    /// `None`: audio is not kept.
    pub spool: Option<SpoolPort>,
    pub metrics: MediaMetrics,
}

/// Serves a connection from its 101 until it is closed. The desk hears of all that concerns it, and last that it is gone.
pub async fn run<C>(connection: C, desk: DeskPort, context: MediaContext)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let (socket, mut orders) = desk.open_socket().await;
    tracing::info!(event = "WS_CONNECTED", socket = socket.0);
    let mut media = MediaSocket {
        wire: Wire::new(connection).await,
        session: MediaSession::new(context.options, context.pulses, socket, now()),
        desk,
        spool: context.spool,
        audio: None,
        close_frame: None,
        end: None,
        ended_by: None,
        metrics: context.metrics,
        counted: MediaCounts::default(),
        connected_at: now(),
    };
    media.converse(&mut orders).await;
    media.leave(socket, orders).await;
}

struct MediaSocket<C> {
    wire: Wire<C>,
    session: MediaSession,
    desk: DeskPort,
    spool: Option<SpoolPort>,
    /// Opened with the stream's first audio.
    audio: Option<SpoolFile>,
    /// How the session wants the connection closed.
    close_frame: Option<CloseFrame>,
    /// How the accepted stream ended.
    end: Option<SocketEnd>,
    /// What ended the connection, as the figures name it.
    ended_by: Option<&'static str>,
    metrics: MediaMetrics,
    /// What the figures have already.
    counted: MediaCounts,
    connected_at: Instant,
}

impl<C: AsyncRead + AsyncWrite + Unpin> MediaSocket<C> {
    /// Until the session is over.
    async fn converse(&mut self, orders: &mut mpsc::Receiver<SocketOrder>) {
        while !self.session.is_over() {
            let write_due = self.wire.write_due();
            let due = self.session.poll_timeout().map(|(due, _)| due).into_iter().chain(write_due).min();
            tokio::select! {
                // The peer comes last: one that floods the box holds up neither the desk nor the clock.
                biased;
                // A desk that is gone closes everything.
                order = orders.recv() => self.session.handle_order(order.unwrap_or(SocketOrder::Close), now()),
                () = wait_until(due), if due.is_some() => self.handle_timeout(write_due),
                message = self.wire.next() => {
                    self.handle_read(message);
                    self.count();
                }
            }
            self.follow_session().await;
        }
    }

    fn handle_timeout(&mut self, write_due: Option<Instant>) {
        let now = now();
        if write_due.is_some_and(|due| due <= now) {
            return self.lose(NOT_READ, "the peer does not read");
        }
        self.session.handle_timeout(now);
    }

    fn handle_read(&mut self, message: Option<Result<Message, Error>>) {
        match message {
            Some(Ok(Message::Text(text))) => self.handle_text(&text),
            Some(Ok(Message::Binary(_))) => self.session.handle_bad_message(),
            // Answered by tungstenite.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => {}
            Some(Ok(Message::Close(_))) | None => self.leave_it("closed by the peer"),
            Some(Err(error)) => self.handle_error(&error),
        }
    }

    fn handle_text(&mut self, text: &str) {
        self.session.handle_message(text, now());
        let ulaw = self.session.audio();
        if ulaw.is_empty() {
            return;
        }
        let Some((call_sid, stream_sid)) = self.session.identity() else { return };
        tracing::debug!(event = "WS_FRAME", %call_sid, %stream_sid, bytes = ulaw.len());
        if let Some(spool) = &self.spool {
            let audio = self.audio.get_or_insert_with(|| spool.open(call_sid, stream_sid));
            if !self.session.missing().is_zero() {
                audio.mark(Mark::Gap(self.session.missing()));
            }
            audio.append(ulaw);
        }
    }

    fn handle_error(&mut self, error: &Error) {
        let (code, reason) = match error {
            Error::Capacity(_) => (CLOSE_TOO_BIG, "message too big"),
            Error::Utf8(_) => (CLOSE_NOT_TEXT, "text is not UTF-8"),
            Error::Protocol(ProtocolError::ResetWithoutClosingHandshake) => return self.leave_it(BROKEN_OFF),
            Error::Protocol(_) => (CLOSE_PROTOCOL, "protocol error"),
            error => return self.lose(loss(error), error),
        };
        self.log_error(error);
        self.session.handle_breach(code, reason);
    }

    /// The connection is of no use any more.
    fn lose(&mut self, ended_by: &'static str, error: impl std::fmt::Display) {
        self.log_error(error);
        self.leave_it(ended_by);
    }

    fn leave_it(&mut self, ended_by: &'static str) {
        self.ended_by.get_or_insert(ended_by);
        self.session.handle_gone();
    }

    /// Adds to the figures what they have not yet.
    fn count(&mut self) {
        let counts = self.session.counts();
        // Shared by all connections: touched only for what is new.
        if counts.frames != self.counted.frames {
            self.metrics.frames.inc_by(counts.frames - self.counted.frames);
        }
        if counts.bad_messages != self.counted.bad_messages {
            self.metrics.bad_messages.inc_by(counts.bad_messages - self.counted.bad_messages);
        }
        self.counted = counts;
    }

    async fn follow_session(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                MediaOutput::Claim(claim) => self.desk.tell(Event::StreamClaimed(claim)).await,
                MediaOutput::Stopped(stream) => self.desk.tell(Event::StreamStopped { stream }).await,
                MediaOutput::Closed { stream, end } => {
                    self.end = Some(end);
                    self.desk.tell(Event::StreamClosed { stream, end }).await;
                }
                MediaOutput::CloseSocket { code, reason } => {
                    self.ended_by.get_or_insert(reason);
                    if code == CLOSE_POLICY {
                        self.log_error(reason);
                    }
                    self.close_frame = Some(CloseFrame { code: CloseCode::from(code), reason: reason.into() });
                }
                MediaOutput::Send(text) => {
                    if let Err(error) = self.wire.send(Message::text(text), now()) {
                        self.lose(loss(&error), error);
                    }
                }
                MediaOutput::Mark(mark) => self.mark(mark),
                MediaOutput::Report(report) => self.log(report),
            }
        }
    }

    fn mark(&mut self, mark: Mark) {
        if let Some(spool) = &self.spool
            && let Some((call_sid, stream_sid)) = self.session.identity()
        {
            self.audio.get_or_insert_with(|| spool.open(call_sid, stream_sid)).mark(mark);
        }
    }

    /// Closes the connection, answers for a stream that was accepted too late, and says farewell to the desk.
    async fn leave(mut self, socket: SocketId, mut orders: mpsc::Receiver<SocketOrder>) {
        // Before the handshake of the close: the last audio is safe while the peer takes its time.
        let dropped_bytes = self.audio.take().map_or(0, |audio| audio.finish());
        let close_frame = self.close_frame.take();
        let code = close_frame.as_ref().map(|frame| u16::from(frame.code));
        // Whatever comes of it, the connection is dropped then.
        let _ = timeout(WS_CLOSE_MAX, self.wire.close(close_frame, now())).await;
        orders.close();
        while let Some(order) = orders.recv().await {
            self.session.handle_order(order, now());
            self.follow_session().await;
        }
        let reason = self.ended_by.unwrap_or(BROKEN_OFF);
        self.metrics.note_end(reason);
        self.desk.close_socket(socket).await;
        let counts = self.session.counts();
        tracing::info!(
            event = "WS_CLOSED",
            socket = socket.0,
            call_sid = self.call_sid(),
            stream_sid = self.stream_sid(),
            end = self.end.map(tracing::field::debug),
            code,
            reason,
            frames = counts.frames,
            bad_messages = counts.bad_messages,
            audio_dropped_bytes = dropped_bytes,
            duration_ms = milliseconds(now() - self.connected_at),
        );
    }

    fn log(&self, report: MediaReport) {
        let (call_sid, stream_sid) = (self.call_sid(), self.stream_sid());
        match report {
            MediaReport::Stopped => tracing::info!(event = "WS_STOP", call_sid, stream_sid),
            MediaReport::BadMessage { count } => {
                tracing::warn!(event = "WS_BAD_JSON", call_sid, stream_sid, count);
            }
            MediaReport::ToneHeard { after } => {
                tracing::debug!(call_sid, stream_sid, after_ms = milliseconds(after), "the tone was played");
            }
            MediaReport::GoodbyeStarted { silent } => {
                let silent_ms = milliseconds(silent);
                tracing::info!(call_sid, stream_sid, silent_ms, "the caller says nothing: the conversation ends");
            }
            MediaReport::GoodbyeInterrupted => {
                tracing::info!(call_sid, stream_sid, "the caller speaks: the goodbye is broken off");
            }
            MediaReport::StartIgnored { count } => {
                tracing::warn!(call_sid, stream_sid, count, "a further start on the same connection is ignored");
            }
        }
    }

    fn log_error(&self, error: impl std::fmt::Display) {
        let (call_sid, stream_sid) = (self.call_sid(), self.stream_sid());
        tracing::warn!(event = "WS_HANDLER_ERROR", call_sid, stream_sid, %error);
    }

    fn call_sid(&self) -> Option<impl tracing::Value + use<C>> {
        self.session.identity().map(|(call_sid, _)| display(call_sid))
    }

    fn stream_sid(&self) -> Option<impl tracing::Value + use<C>> {
        self.session.identity().map(|(_, stream_sid)| display(stream_sid))
    }
}

/// Returns then; never where nothing is due. Nothing is made of it before it is polled: a timer for each frame, whether
/// one is due or not, would cost two counts on what all threads share.
async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// What a connection's error means to the figures.
fn loss(error: &Error) -> &'static str {
    match error {
        Error::WriteBufferFull(_) => NOT_READ,
        Error::Io(error) if error.kind() == io::ErrorKind::TimedOut => NOT_READ,
        _ => BROKEN_OFF,
    }
}

/// tokio's clock, so that its tests may stop it.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
