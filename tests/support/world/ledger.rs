//! What must be true of the box at every step: kept beside it, from what it is told and what it says, never from what it
//! believes.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use kolbox::{
    calls::{AttemptId, SocketId},
    limits::CALLS_MAX,
    twilio::{
        rest::{CallLookup, UpdateOutcome},
        sid::CallSid,
        webhook::CallStatus,
    },
};

use super::World;

/// `no_media_timeout`, less what the stamp's milliseconds cut off: a call that was heard within it lives.
pub const HEARD_RECENTLY: Duration = Duration::from_millis(6_000 - 2);

/// One box's life, call by call.
#[derive(Debug, Default)]
pub struct Ledger {
    calls: BTreeMap<CallSid, Entry>,
    attempts: BTreeMap<AttemptId, CallSid>,
    /// Calls that were given a stream and are not over.
    holding: BTreeSet<CallSid>,
}

#[derive(Debug, Default)]
struct Entry {
    /// A redirect whose answer has not come.
    outstanding: Option<AttemptId>,
    /// A redirect was accepted, and Twilio was not asked since.
    accepted: bool,
    ended: bool,
    /// The socket whose media count.
    socket: Option<SocketId>,
    heard: Option<Instant>,
    error: Option<Instant>,
}

impl Ledger {
    fn entry(&mut self, call_sid: CallSid) -> &mut Entry {
        self.calls.entry(call_sid).or_default()
    }

    pub fn handle_stream_given(&mut self, call_sid: CallSid) {
        if !self.entry(call_sid).ended {
            self.holding.insert(call_sid);
        }
    }

    pub fn handle_accepted(&mut self, call_sid: CallSid, socket: SocketId) {
        let entry = self.entry(call_sid);
        entry.socket = Some(socket);
        entry.heard = None;
    }

    pub fn handle_media(&mut self, call_sid: CallSid, socket: SocketId, now: Instant) {
        let entry = self.entry(call_sid);
        if entry.socket == Some(socket) {
            entry.heard = Some(now);
        }
    }

    /// It stopped, broke, or was closed.
    pub fn handle_stream_over(&mut self, call_sid: CallSid, socket: SocketId) {
        let entry = self.entry(call_sid);
        if entry.socket == Some(socket) {
            (entry.socket, entry.heard) = (None, None);
        }
    }

    pub fn handle_stream_error(&mut self, call_sid: CallSid, now: Instant) {
        self.entry(call_sid).error = Some(now);
    }

    pub fn handle_redirect_answered(&mut self, attempt: AttemptId, outcome: UpdateOutcome) {
        let Some(call_sid) = self.attempts.get(&attempt).copied() else { return };
        let entry = self.entry(call_sid);
        if entry.outstanding == Some(attempt) {
            entry.outstanding = None;
        }
        entry.accepted |= outcome == UpdateOutcome::Accepted;
    }

    pub fn note_look_up(&mut self, attempt: AttemptId, call_sid: CallSid) {
        self.attempts.insert(attempt, call_sid);
    }

    pub fn handle_looked_up(&mut self, attempt: AttemptId, outcome: CallLookup) {
        let Some(call_sid) = self.attempts.get(&attempt).copied() else { return };
        if matches!(outcome, CallLookup::Found { status: CallStatus::InProgress, .. }) {
            self.entry(call_sid).accepted = false;
        }
    }

    fn breach_of_redirect(&mut self, attempt: AttemptId, call_sid: CallSid) -> Option<String> {
        self.attempts.insert(attempt, call_sid);
        let entry = self.entry(call_sid);
        if let Some(earlier) = entry.outstanding.replace(attempt) {
            return Some(format!("while the answer to {earlier:?} is awaited"));
        }
        entry.accepted.then(|| "one was accepted, and Twilio was not asked since".to_owned())
    }

    /// Whether media of its stream arrived within the time-out, and since the last error.
    fn is_heard(&self, call_sid: CallSid, now: Instant) -> bool {
        let Some(entry) = self.calls.get(&call_sid) else { return false };
        let counts = |heard: &Instant| entry.error.is_none_or(|error| *heard > error);
        entry.heard.filter(counts).is_some_and(|heard| now.saturating_duration_since(heard) < HEARD_RECENTLY)
    }

    /// Whether it ended already.
    fn note_ended(&mut self, call_sid: CallSid) -> bool {
        self.holding.remove(&call_sid);
        std::mem::replace(&mut self.entry(call_sid).ended, true)
    }
}

impl World {
    /// At most one redirect that the box knows to be accepted, a second only after asking, and never of a living call.
    pub(super) fn check_redirect(&mut self, attempt: AttemptId, call_sid: CallSid) {
        let (now, leaving) = (self.now, self.running.as_ref().is_some_and(|running| running.draining));
        if let Some(what) = self.ledger.breach_of_redirect(attempt, call_sid) {
            self.break_rule("redirected twice", Some(call_sid), || what);
        }
        if !leaving && self.ledger.is_heard(call_sid, now) {
            self.break_rule("a living call was redirected", Some(call_sid), || "media of its stream arrive".into());
        }
    }

    /// A call ends once in a life of the box.
    pub(super) fn check_ended(&mut self, call_sid: CallSid) {
        if self.ledger.note_ended(call_sid) {
            self.break_rule("ended twice", Some(call_sid), || "a second record in one life of the box".into());
        }
    }

    /// Calls that may stream are never more than there are slots.
    pub(super) fn check_capacity(&mut self, call_sid: CallSid) {
        self.ledger.handle_stream_given(call_sid);
        let held = self.ledger.holding.len();
        if held > CALLS_MAX {
            self.break_rule("over capacity", Some(call_sid), || format!("{held} calls were given a stream"));
        }
    }
}
