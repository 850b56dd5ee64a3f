//! What must be known of a live call after the box has died: enough to ask Twilio about it, and for its record.

use std::time::Instant;

use super::{Fallback, FallbackReason, Party};
use crate::twilio::{
    sid::{CallSid, StreamSid},
    webhook::Direction,
};

/// A live call as the journal has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveCall {
    pub call_sid: CallSid,
    pub from: Party,
    pub to: Party,
    pub direction: Direction,
    pub answered_at: Instant,
    pub memo: Memo,
}

/// What changes while it lives, and is worth a write each time: a handful of times a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Memo {
    /// The last stream that was accepted.
    pub stream_sid: Option<StreamSid>,
    /// Why it was or is being sent to the recorder; with an instant: Twilio was given the `<Record>`.
    pub fallback: Option<Fallback>,
}

impl Memo {
    /// What sends a call to the recorder whose box has died: its stream died with it, or had not come up.
    pub fn reason(&self) -> FallbackReason {
        match (self.fallback, self.stream_sid) {
            (Some(fallback), _) => fallback.reason,
            (None, Some(_)) => FallbackReason::SocketLost,
            (None, None) => FallbackReason::NoStreamStart,
        }
    }
}
