//! How the records stand, for staff and for the lamps: counts, the last calls, and what went wrong last.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::{
    record::{Outcome, Record, Source, TranscriptId},
    stored::{State, Stored},
};
use crate::{
    calls::{FallbackReason, Party},
    limits::RECENT_CALLS_MAX,
    twilio::sid::CallSid,
};

/// What is known of the records at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeeperView {
    /// Records of every kind.
    pub stored: u64,
    /// Final, not acknowledged, and not parked.
    pub unsynced: u64,
    /// Refused by the upstream, and kept.
    pub parked: u64,
    /// Drafts whose call went to the recorder.
    pub awaiting_recording: u64,
    /// What the records take, in bytes as they are stored.
    pub bytes: u64,
    /// Records found damaged, and records gone without trace, since the store was made.
    pub damaged: u64,
    pub missing: u64,
    /// Whether a call that ends now would get its record. If not, new calls go to the recorder.
    pub can_keep: bool,
    /// Why the store refuses, for the person who looks after the box.
    pub store_error: Option<String>,
    /// When the upstream acknowledged something last.
    pub last_ok: Option<Timestamp>,
    pub last_error: Option<SyncError>,
    /// The upstream has failed for so long that staff are to be told.
    pub sync_trouble: bool,
    /// The last calls, the newest first; at most [`RECENT_CALLS_MAX`].
    pub recent: Vec<RecentCall>,
}

/// The last failure to hand over a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncError {
    pub at: Timestamp,
    /// Such as `HTTP 503` or `no connection`; no secrets, no words of a caller.
    pub message: String,
}

/// An ended call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentCall {
    pub id: TranscriptId,
    pub call_sid: CallSid,
    pub from: Party,
    pub started_at: Timestamp,
    pub duration_ms: u64,
    pub outcome: Outcome,
    pub source: Source,
    pub reason: Option<FallbackReason>,
    /// While it awaits its recording, outcome and source may still change.
    pub state: State,
    pub synced: bool,
}

impl RecentCall {
    fn new(record: &Record, state: State) -> Self {
        Self {
            id: record.id,
            call_sid: record.call_sid,
            from: record.from.clone(),
            started_at: record.started_at,
            duration_ms: record.duration_ms,
            outcome: record.outcome,
            source: record.source,
            reason: record.fallback.reason,
            state,
            synced: matches!(state, State::Synced { .. }),
        }
    }
}

/// The last calls, the newest first.
#[derive(Debug, Default)]
pub(super) struct RecentCalls(VecDeque<RecentCall>);

impl RecentCalls {
    /// Of all that is stored, the last ones.
    pub fn of(stored: &[Stored]) -> Self {
        let mut calls: Vec<_> = stored.iter().map(|stored| RecentCall::new(&stored.record, stored.state)).collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.id));
        calls.truncate(RECENT_CALLS_MAX);
        Self(calls.into())
    }

    /// A call's record is in this state now; one that is not known is the newest.
    pub fn note(&mut self, record: &Record, state: State) {
        let call = RecentCall::new(record, state);
        if let Some(known) = self.0.iter_mut().find(|known| known.id == call.id) {
            *known = call;
        } else if self.0.len() < RECENT_CALLS_MAX || self.0.back().is_some_and(|oldest| oldest.id < call.id) {
            self.0.push_front(call);
            self.0.truncate(RECENT_CALLS_MAX);
        }
    }

    /// A parked record was put back.
    pub fn unpark(&mut self, id: TranscriptId) {
        if let Some(call) = self.0.iter_mut().find(|call| call.id == id) {
            call.state = State::Unsynced;
        }
    }

    pub fn to_vec(&self) -> Vec<RecentCall> {
        self.0.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transcripts::record::samples::record;

    #[test]
    fn the_last_calls_are_bounded_and_change_in_their_place() {
        let mut recent = RecentCalls::default();
        for number in 1..=RECENT_CALLS_MAX as u128 + 5 {
            recent.note(&record(number), State::Unsynced);
        }
        recent.note(&record(10), State::Synced { at: Timestamp::UNIX_EPOCH });
        let calls = recent.to_vec();
        assert_eq!(calls.len(), RECENT_CALLS_MAX);
        assert_eq!(calls[0].call_sid, record(25).call_sid);
        let synced: Vec<_> = calls.iter().filter(|call| call.synced).map(|call| call.call_sid).collect();
        assert_eq!(synced, [record(10).call_sid]);
        // One from long ago, sent only now, is no recent call.
        recent.note(&record(1), State::Unsynced);
        assert_eq!(recent.to_vec(), calls);
    }

    #[test]
    fn after_a_restart_the_newest_stand_first() {
        let stored = |number, state| Stored { sequence: None, state, record: record(number) };
        let recent = RecentCalls::of(&[
            stored(1, State::Unsynced),
            stored(3, State::AwaitingRecording),
            stored(2, State::Unsynced),
        ]);
        let calls: Vec<_> = recent.to_vec().into_iter().map(|call| call.call_sid).collect();
        assert_eq!(calls, [record(3).call_sid, record(2).call_sid, record(1).call_sid]);
    }
}
