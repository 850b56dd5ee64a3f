//! A call inside `<Connect><Stream>`: the caller's voice at its pace, and what goes wrong with it. Pure.

use std::time::{Duration, Instant};

use super::{
    caller::{Voice, silence},
    document::StreamNoun,
    faults::{Faults, StreamFault},
    peer_stream::PeerStream,
};

/// How long a caller waits for a sign to speak before they begin without one.
const SIGN_WAIT: Duration = Duration::from_millis(1500);
/// Frames that are sent late after a stall; beyond it the rest of the stall is skipped, as a jitter buffer would.
const LATE_FRAMES_MAX: u32 = 250;
/// What `bad-json` puts on the wire: cut off, no JSON at all, no object, an object without sense.
const BAD_JSON: [&str; 4] = [r#"{"event":"media","#, "nonsense", "[1,2,3]", r#"{"event":7,"media":null}"#];

/// What a `<Connect>` is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// Absolute by now.
    pub action: Option<String>,
    pub stream: StreamNoun,
}

/// What a stream wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StreamStep {
    /// A message for the server.
    Send(String),
    /// The connection is to be torn down without `stop` or close frame.
    Abort,
}

/// One open socket, from its 101 to its end.
#[derive(Debug)]
pub struct Streaming {
    pub connect: Connect,
    pub peer: PeerStream,
    fault: StreamFault,
    fault_after: Duration,
    frame: Duration,
    opened_at: Instant,
    /// When the next frame is due; `None`: no media flow.
    next_frame: Option<Instant>,
    sent: Duration,
    speaking: bool,
    said_all_at: Option<Instant>,
    fault_began: Option<Instant>,
    dropped: bool,
}

impl Streaming {
    /// A socket that just opened, and the messages that begin it.
    pub fn open(
        connect: Connect,
        peer: PeerStream,
        faults: &Faults,
        frame: Duration,
        now: Instant,
    ) -> (Self, Vec<String>) {
        let mut streaming = Self {
            connect,
            peer,
            fault: faults.stream,
            fault_after: faults.after,
            frame,
            opened_at: now,
            next_frame: Some(now + frame),
            sent: Duration::ZERO,
            speaking: false,
            said_all_at: None,
            fault_began: None,
            dropped: false,
        };
        let mut first = Vec::new();
        if matches!(faults.stream, StreamFault::NoStart | StreamFault::NoMedia) {
            streaming.next_frame = None;
            streaming.fault_began = Some(now);
        }
        if streaming.has_started() {
            first.push(streaming.peer.connected());
            first.push(streaming.peer.start(&streaming.connect.stream.parameters));
        }
        (streaming, first)
    }

    /// Whether `start` was sent: a stream that never began has neither callbacks nor a `stop`.
    pub fn has_started(&self) -> bool {
        self.fault != StreamFault::NoStart
    }

    /// Whether the caller's voice flows at this moment.
    pub fn is_live(&self) -> bool {
        self.next_frame.is_some() && !self.sent.is_zero()
    }

    /// Whether nothing can be sent any more.
    pub fn is_dropped(&self) -> bool {
        self.dropped
    }

    /// Media that were sent.
    pub fn sent(&self) -> Duration {
        self.sent
    }

    /// When the stream went wrong: its last sign of life.
    pub fn fault_began(&self) -> Option<Instant> {
        self.fault_began
    }

    /// When the caller had said all they had to say.
    pub fn said_all_at(&self) -> Option<Instant> {
        self.said_all_at
    }

    /// When Twilio notices a connection that was lost.
    pub fn loss_noticed_at(&self) -> Option<Instant> {
        match self.fault {
            StreamFault::Drops { noticed_after } if self.dropped => self.fault_began.map(|began| began + noticed_after),
            _ => None,
        }
    }

    /// Sends what is due: frames of the caller's voice, marks that were played, and the fault when its time has come.
    pub fn handle_timeout(&mut self, voice: &mut Voice, now: Instant) -> Vec<StreamStep> {
        let mut steps = Vec::new();
        while let Some(due) = self.next_frame.filter(|due| *due <= now) {
            let late = now.saturating_duration_since(due);
            self.next_frame = Some(if late > self.frame * LATE_FRAMES_MAX { now } else { due } + self.frame);
            let frame = self.listen(voice, due);
            steps.push(StreamStep::Send(self.peer.media(&frame)));
            self.sent += self.frame;
            self.break_if_due(now, &mut steps);
        }
        if !self.dropped {
            while let Some(mark) = self.peer.poll_mark(now) {
                steps.push(StreamStep::Send(mark));
            }
        }
        steps
    }

    /// When something is due next.
    pub fn poll_timeout(&self) -> Option<Instant> {
        let mark = if self.dropped { None } else { self.peer.poll_timeout() };
        [self.next_frame, mark, self.loss_noticed_at()].into_iter().flatten().min()
    }

    /// The next piece of what the line carries. The caller begins once they were given a sign, and it is over;
    /// without one after a polite while.
    fn listen(&mut self, voice: &mut Voice, now: Instant) -> Vec<u8> {
        let signed = self.peer.was_audible() && now >= self.peer.played_until();
        let waited = !self.peer.was_audible() && now >= self.opened_at + SIGN_WAIT;
        self.speaking |= signed || waited;
        if !self.speaking {
            return silence(self.frame);
        }
        let frame = voice.speak(self.frame);
        if voice.has_said_all() && self.said_all_at.is_none() {
            self.said_all_at = Some(now);
        }
        frame
    }

    fn break_if_due(&mut self, now: Instant, steps: &mut Vec<StreamStep>) {
        if self.fault_began.is_some() || self.sent < self.fault_after {
            return;
        }
        match self.fault {
            StreamFault::BadJson => steps.extend(BAD_JSON.map(|text| StreamStep::Send(text.to_owned()))),
            StreamFault::MediaStops => self.next_frame = None,
            StreamFault::Drops { .. } => {
                self.next_frame = None;
                self.dropped = true;
                steps.push(StreamStep::Abort);
            }
            _ => return,
        }
        self.fault_began = Some(now);
    }
}
