//! How far the account's list is settled, and what of it is remembered by name; kept on the disk. Pure.

use std::collections::VecDeque;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{
    limits::{KNOWN_RECORDINGS_MAX, RECORDINGS_MISSING_MAX},
    transcripts::record::milliseconds,
    twilio::sid::{CallSid, RecordingSid},
};

/// How far the list is settled.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// When the box began to look: nothing older is ever its.
    #[serde(with = "milliseconds")]
    pub begun: Timestamp,
    /// The newest recording of the last list that was read to its end.
    #[serde(with = "milliseconds")]
    pub since: Timestamp,
    /// Recordings that are settled, in the order of becoming so, with their call if it has a record here.
    pub known: VecDeque<(RecordingSid, Option<CallSid>)>,
    /// Recordings that Twilio did not give in time for their call's record, to be asked for once more.
    #[serde(default)]
    pub missing: VecDeque<(RecordingSid, CallSid)>,
}

impl Mark {
    /// The mark of a box that begins to look at this time.
    pub fn at(time: Timestamp) -> Self {
        Self { begun: time, since: time, known: VecDeque::new(), missing: VecDeque::new() }
    }

    pub fn is_known(&self, recording_sid: RecordingSid) -> bool {
        self.known.iter().any(|(known, _)| *known == recording_sid)
    }

    pub fn is_missing(&self, recording_sid: RecordingSid) -> bool {
        self.missing.iter().any(|(missing, _)| *missing == recording_sid)
    }

    /// Whether this call has, or had, a record here.
    pub fn has_call(&self, call_sid: CallSid) -> bool {
        self.known.iter().any(|(_, known)| *known == Some(call_sid))
    }

    /// A recording is settled, and missing no more. `true`: the mark has changed.
    pub fn note_known(&mut self, recording_sid: RecordingSid, call_sid: Option<CallSid>) -> bool {
        let is_known = self.is_known(recording_sid);
        let missing = self.missing.len();
        self.missing.retain(|(missing, _)| *missing != recording_sid);
        if !is_known {
            if self.known.len() >= KNOWN_RECORDINGS_MAX {
                self.known.pop_front();
            }
            self.known.push_back((recording_sid, call_sid));
        }
        !is_known || self.missing.len() < missing
    }

    /// A recording is to be asked for once more. `true`: the mark has changed.
    pub fn note_missing(&mut self, recording_sid: RecordingSid, call_sid: CallSid) -> bool {
        let is_taken = self.missing.len() < RECORDINGS_MISSING_MAX && !self.is_missing(recording_sid);
        if is_taken {
            self.missing.push_back((recording_sid, call_sid));
        }
        is_taken
    }
}
