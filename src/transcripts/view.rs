//! How the records stand, for staff and for the lamps: counts, the last calls, and what went wrong last.

use jiff::Timestamp;

use super::{
    record::{Outcome, Record, Source, TranscriptId},
    store::StoreError,
    stored::{State, Stored},
};
use crate::{
    calls::{FallbackReason, Party},
    limits::{PARKED_SHOWN_MAX, RECENT_CALLS_MAX},
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
    /// Drafts that wait for their text, and when the call of the first of them ended.
    pub awaiting_text: usize,
    pub oldest_awaiting_text: Option<Timestamp>,
    /// What the records take, in bytes as they are stored.
    pub bytes: u64,
    /// Records found damaged, and records gone without trace, since the store was made.
    pub damaged: u64,
    pub missing: u64,
    /// Whether a call that ends now would get its record. If not, new calls go to the recorder.
    pub can_keep: bool,
    /// What keeps it from that, in one word.
    pub store_trouble: Option<StoreTrouble>,
    /// Damaged stores that were set aside, and are still there.
    pub quarantined: usize,
    /// Why the store refuses, for the person who looks after the box.
    pub store_error: Option<String>,
    /// When the upstream acknowledged something last.
    pub last_ok: Option<Timestamp>,
    pub last_error: Option<SyncError>,
    /// The upstream has failed for so long that staff are to be told.
    pub sync_trouble: bool,
    /// Since when the first in the queue waits for the upstream, if anything does.
    pub oldest_unsynced: Option<Timestamp>,
    /// The last calls, the newest first: [`RECENT_CALLS_MAX`], and up to [`PARKED_SHOWN_MAX`] older ones that are parked.
    pub recent: Vec<RecentCall>,
}

/// Why nothing can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StoreTrouble {
    /// The store is being opened: a moment after the start.
    Opening,
    /// The disk has no room.
    DiskFull,
    /// The directory is read-only, or somebody else's.
    NotWritable,
    /// The disk, or the store on it, refuses for another reason.
    Failing,
    /// `store.max_bytes` is taken by records that the upstream has not taken.
    FullOfUnsynced,
}

impl StoreTrouble {
    /// What keeps a store from keeping more, if anything does: why it failed, whether its disk has room, whether it is full.
    pub(super) fn of(failure: Option<&StoreError>, has_room: bool, is_full: bool) -> Option<Self> {
        match failure {
            Some(StoreError::Opening) => Some(Self::Opening),
            Some(error) if error.is_disk_full() => Some(Self::DiskFull),
            Some(error) if error.is_not_writable() => Some(Self::NotWritable),
            Some(_) => Some(Self::Failing),
            None if !has_room => Some(Self::DiskFull),
            None if is_full => Some(Self::FullOfUnsynced),
            None => None,
        }
    }
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

    /// Whether the upstream refused its record, which waits to be tried again.
    pub fn is_parked(&self) -> bool {
        matches!(self.state, State::Parked { .. })
    }
}

/// The last calls and the parked ones before them, the newest first.
#[derive(Debug, Default)]
pub(super) struct RecentCalls(Vec<RecentCall>);

impl RecentCalls {
    /// Of all that is stored, the last ones.
    pub fn of(stored: &[Stored]) -> Self {
        let mut calls: Vec<_> = stored.iter().map(|stored| RecentCall::new(&stored.record, stored.state)).collect();
        calls.sort_by_key(|call| std::cmp::Reverse(call.id));
        let mut recent = Self(calls);
        recent.trim();
        recent
    }

    /// A call's record is in this state now.
    pub fn note(&mut self, record: &Record, state: State) {
        let call = RecentCall::new(record, state);
        match self.0.iter_mut().find(|known| known.id == call.id) {
            Some(known) => *known = call,
            None => self.0.insert(self.0.partition_point(|known| known.id > call.id), call),
        }
        self.trim();
    }

    /// A parked record was put back.
    pub fn unpark(&mut self, id: TranscriptId) {
        if let Some(call) = self.0.iter_mut().find(|call| call.id == id) {
            call.state = State::Unsynced;
        }
        self.trim();
    }

    /// Staff have to find every parked one, or the last of them, however old they are.
    fn trim(&mut self) {
        let (mut calls, mut parked) = (0, 0);
        self.0.retain(|call| {
            calls += 1;
            let is_recent = calls <= RECENT_CALLS_MAX;
            parked += usize::from(!is_recent && call.is_parked());
            is_recent || (call.is_parked() && parked <= PARKED_SHOWN_MAX)
        });
    }

    pub fn to_vec(&self) -> Vec<RecentCall> {
        self.0.clone()
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
    fn parked_ones_stay_in_sight_however_many_calls_come_after_them() {
        let mut recent = RecentCalls::default();
        let parked = State::Parked { status: 422, at: Timestamp::UNIX_EPOCH };
        recent.note(&record(1), parked);
        recent.note(&record(2), parked);
        for number in 10..10 + 2 * RECENT_CALLS_MAX as u128 {
            recent.note(&record(number), State::Unsynced);
        }
        let older = |recent: &RecentCalls| -> Vec<_> {
            recent.to_vec().split_off(RECENT_CALLS_MAX).into_iter().map(|call| call.call_sid).collect()
        };
        assert_eq!(older(&recent), [record(2).call_sid, record(1).call_sid]);
        // One that was refused only now, long after its call.
        recent.note(&record(3), parked);
        assert_eq!(older(&recent), [record(3), record(2), record(1)].map(|record| record.call_sid));
        recent.unpark(record(2).id);
        assert_eq!(older(&recent), [record(3), record(1)].map(|record| record.call_sid));
        for number in 1_000..1_000 + 2 * (RECENT_CALLS_MAX + PARKED_SHOWN_MAX) as u128 {
            recent.note(&record(number), parked);
        }
        assert_eq!(recent.to_vec().len(), RECENT_CALLS_MAX + PARKED_SHOWN_MAX);
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
