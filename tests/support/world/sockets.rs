//! Media connections: messages keep their order in each direction; one may go deaf, or be opened anew, unseen by the box.

use std::time::{Duration, Instant};

use kolbox::{
    calls::{Event, SocketEnd, SocketId},
    limits::WS_CLOSE_MAX,
    server::{
        desk_port::SocketOrder,
        media_session::{MediaOutput, MediaSession},
    },
    simulator::phone_call::Ticket,
    twilio::sid::CallSid,
};

use super::{Arrival, Deaf, World, gateway::FIXED};

/// The messages that begin a stream: `connected` and `start`.
const FIRST_MESSAGES: usize = 2;

/// A connection, as the box has it.
pub(super) struct Socket {
    pub session: MediaSession,
    pub call: usize,
    pub ticket: Ticket,
    /// Who receives nothing over it any more.
    deaf_box: bool,
    deaf_twilio: bool,
    /// Another one has taken its place at Twilio.
    replaced: bool,
    /// Twilio has said its last word over it, which may still be on its way.
    ended: bool,
    first: Vec<String>,
    /// The last arrival in each direction.
    to_box: Instant,
    to_twilio: Instant,
}

impl Socket {
    fn new(session: MediaSession, call: usize, ticket: Ticket, now: Instant) -> Self {
        let (to_box, to_twilio) = (now, now);
        let (deaf_box, deaf_twilio, replaced, ended) = (false, false, false, false);
        Self { session, call, ticket, deaf_box, deaf_twilio, replaced, ended, first: Vec::new(), to_box, to_twilio }
    }
}

impl World {
    /// Twilio's handshake reaches the box.
    pub(super) fn open_socket(&mut self, call: usize, ticket: Ticket) {
        let refused = self.refused.contains(&self.call_sid(call));
        let Some(socket) = self.new_socket(call, ticket).filter(|_| !refused) else {
            return self.later(Arrival::SocketFailed { call, ticket });
        };
        let at = self.in_order_to_twilio(socket);
        self.at(at, Arrival::SocketAtTwilio { call, ticket });
    }

    fn new_socket(&mut self, call: usize, ticket: Ticket) -> Option<SocketId> {
        self.next += 1;
        let (socket, now) = (SocketId(self.next), self.now);
        let running = self.running.as_mut()?;
        let session = MediaSession::new(FIXED.media.clone(), running.pulses.clone(), socket, now);
        running.sockets.insert(socket, Socket::new(session, call, ticket, now));
        Some(socket)
    }

    /// A message on its way to the box, or (`None`) the connection's end.
    pub(super) fn send_to_box(&mut self, call: usize, ticket: Ticket, text: Option<String>) {
        let delay = self.delay();
        let Some(running) = &mut self.running else { return };
        let mut sockets = running.sockets.iter_mut().rev();
        let found = sockets.find(|(_, socket)| socket.call == call && socket.ticket == ticket && !socket.replaced);
        let Some((id, socket)) = found else { return };
        if let Some(text) = text.as_ref().filter(|_| socket.first.len() < FIRST_MESSAGES) {
            socket.first.push(text.clone());
        }
        socket.ended |= text.as_ref().is_none_or(|text| text.starts_with(r#"{"event":"stop""#));
        if socket.deaf_box {
            return;
        }
        socket.to_box = socket.to_box.max(self.now + delay);
        let (at, socket) = (socket.to_box, *id);
        self.at(
            at,
            match text {
                Some(text) => Arrival::TextAtBox { socket, text },
                None => Arrival::GoneAtBox { socket },
            },
        );
    }

    pub(super) fn text_at_box(&mut self, socket: SocketId, text: &str) {
        let now = self.now;
        let Some(open) = self.running.as_ref().and_then(|running| running.sockets.get(&socket)) else { return };
        if open.deaf_box {
            return;
        }
        let call_sid = self.call_sid(open.call);
        // What is cut off is no frame.
        if text.starts_with(r#"{"event":"media""#) && text.ends_with('}') {
            self.ledger.handle_media(call_sid, socket, now);
        }
        self.with_session(socket, |session| session.handle_message(text, now));
    }

    pub(super) fn gone_at_box(&mut self, socket: SocketId) {
        self.with_session(socket, MediaSession::handle_gone);
        if let Some(running) = &mut self.running {
            running.sockets.remove(&socket);
        }
    }

    pub(super) fn order_at_box(&mut self, socket: SocketId, order: SocketOrder) {
        let now = self.now;
        let Some(running) = &self.running else { return };
        let call = running.sockets.get(&socket).map(|open| open.call);
        match (order, call) {
            (SocketOrder::Accept(_), Some(call)) => {
                let call_sid = self.call_sid(call);
                self.ledger.handle_accepted(call_sid, socket);
            }
            // As the desk's loop does: a stream whose connection is gone by the time it is accepted was lost.
            (SocketOrder::Accept(stream), None) => {
                return self.tell(Event::StreamClosed { stream, end: SocketEnd::Lost });
            }
            _ => {}
        }
        self.with_session(socket, |session| session.handle_order(order, now));
    }

    pub(super) fn with_session(&mut self, socket: SocketId, act: impl FnOnce(&mut MediaSession)) {
        let Some(open) = self.running.as_mut().and_then(|running| running.sockets.get_mut(&socket)) else { return };
        act(&mut open.session);
        let (call, ticket) = (open.call, open.ticket);
        let call_sid = self.call_sid(call);
        let next = |world: &mut Self| {
            world.running.as_mut()?.sockets.get_mut(&socket).and_then(|open| open.session.poll_output())
        };
        while let Some(output) = next(self) {
            match output {
                MediaOutput::Claim(claim) => self.tell(Event::StreamClaimed(claim)),
                MediaOutput::Stopped(stream) => {
                    self.ledger.handle_stream_over(call_sid, socket);
                    self.tell(Event::StreamStopped { stream });
                }
                MediaOutput::Closed { stream, end } => {
                    self.ledger.handle_stream_over(call_sid, socket);
                    self.tell(Event::StreamClosed { stream, end });
                }
                MediaOutput::Send(text) => {
                    let at = self.in_order_to_twilio(socket);
                    if !self.is_twilio_deaf(socket) {
                        self.at(at, Arrival::TextAtTwilio { call, ticket, text });
                    }
                }
                MediaOutput::CloseSocket { code, .. } => self.close_at_twilio(call_sid, socket, code),
                // No file is written in this world.
                MediaOutput::Mark(_) | MediaOutput::Report(_) => {}
            }
        }
    }

    /// The box closes: Twilio answers the close, or is not waited for.
    fn close_at_twilio(&mut self, call_sid: CallSid, socket: SocketId, code: u16) {
        self.ledger.handle_stream_over(call_sid, socket);
        let at = self.in_order_to_twilio(socket);
        let open = self.running.as_ref().and_then(|running| running.sockets.get(&socket));
        let Some((call, ticket)) = open.map(|open| (open.call, open.ticket)) else { return };
        if !self.is_twilio_deaf(socket) {
            self.at(at, Arrival::ClosedAtTwilio { call, ticket, code: Some(code) });
        }
        self.at(self.now + WS_CLOSE_MAX, Arrival::GoneAtBox { socket });
    }

    fn is_twilio_deaf(&self, socket: SocketId) -> bool {
        let open = self.running.as_ref().and_then(|running| running.sockets.get(&socket));
        open.is_some_and(|open| open.deaf_twilio)
    }

    fn in_order_to_twilio(&mut self, socket: SocketId) -> Instant {
        let at = self.now + self.delay();
        let open = self.running.as_mut().and_then(|running| running.sockets.get_mut(&socket));
        open.map_or(at, |socket| {
            socket.to_twilio = socket.to_twilio.max(at);
            socket.to_twilio
        })
    }

    /// Both sides see their end.
    pub(super) fn reset_sockets(&mut self) {
        let Some(running) = &self.running else { return };
        let lost: Vec<_> = running.sockets.iter().map(|(id, it)| (*id, it.call, it.ticket, it.deaf_twilio)).collect();
        for (socket, call, ticket, deaf) in lost {
            self.at(self.now, Arrival::GoneAtBox { socket });
            if !deaf {
                self.later(Arrival::ClosedAtTwilio { call, ticket, code: None });
            }
        }
    }

    pub(super) fn deafen_sockets(&mut self, deaf: Deaf) {
        let Some(running) = &mut self.running else { return };
        for socket in running.sockets.values_mut() {
            socket.deaf_box |= deaf.to_box();
            socket.deaf_twilio |= deaf.to_twilio();
        }
    }

    /// Each stream that has begun goes on over a new connection; the box sees nothing of the old one's end.
    pub(super) fn reconnect_sockets(&mut self) {
        let Some(running) = &mut self.running else { return };
        let mut again = Vec::new();
        for socket in running.sockets.values_mut() {
            let has_begun = socket.first.len() == FIRST_MESSAGES && !socket.ended;
            if has_begun && !(socket.replaced || socket.deaf_box || socket.deaf_twilio || socket.session.is_over()) {
                (socket.replaced, socket.deaf_box, socket.deaf_twilio) = (true, true, true);
                again.push((socket.call, socket.ticket, socket.first.clone()));
            }
        }
        for (call, ticket, first) in again {
            let Some(socket) = self.new_socket(call, ticket) else { continue };
            let at = self.now + Duration::from_millis(1) + self.delay();
            if let Some(open) = self.running.as_mut().and_then(|running| running.sockets.get_mut(&socket)) {
                open.to_box = at;
                open.first.clone_from(&first);
            }
            for text in first {
                self.at(at, Arrival::TextAtBox { socket, text });
            }
        }
    }
}
