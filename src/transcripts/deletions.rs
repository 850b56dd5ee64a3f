//! Recordings that Twilio is to forget, since their text is acknowledged (`[fallback] delete_at_twilio`): one request at a
//! time, again after a growing pause, and remembered on the disk until it is done. Pure.
//!
//! What is lost here, by a crash between an acknowledgement and its note or because more wait than may, stays at Twilio
//! and nothing else: the hourly list finds it again while it is young.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::record::{Outcome, Record};
use crate::{limits::DELETIONS_MAX, twilio::sid::RecordingSid};

/// The first pause after Twilio did not answer; it doubles.
pub const PAUSE_MIN: Duration = Duration::from_secs(10);
/// The longest.
pub const PAUSE_MAX: Duration = Duration::from_secs(3_600);

/// What became of a request to delete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deleted {
    /// It is gone (204), or was before (404).
    Gone,
    /// Twilio will not: asking again does not help.
    Refused,
    /// No usable answer.
    Unreachable,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Delete it at Twilio; then [`Deletions::handle_deleted`].
    Delete { recording_sid: RecordingSid },
    /// These wait: to be kept on the disk.
    Save(Vec<RecordingSid>),
}

/// Those that wait.
#[derive(Debug, Default)]
pub struct Deletions {
    waiting: VecDeque<RecordingSid>,
    /// Whether the first one was sent out.
    is_out: bool,
    failures: u32,
    /// `None`: at once.
    due: Option<Instant>,
    is_changed: bool,
    outputs: VecDeque<Output>,
}

/// The recording that an acknowledged record lets go: none of a record without text, or whose text leaves something out,
/// for which it may be the only copy.
pub fn deletable(record: &Record) -> Option<RecordingSid> {
    record.recording_sid.filter(|_| record.outcome != Outcome::Untranscribed && record.is_complete())
}

impl Deletions {
    /// Goes on with what waited before.
    pub fn new(waiting: Vec<RecordingSid>) -> Self {
        Self { waiting: waiting.into_iter().take(DELETIONS_MAX).collect(), ..Self::default() }
    }

    /// How many wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// This one is to go. `false`: as many wait as may, and it stays at Twilio.
    pub fn handle_wanted(&mut self, recording_sid: RecordingSid, now: Instant) -> bool {
        if self.waiting.contains(&recording_sid) {
            return true;
        }
        if self.waiting.len() >= DELETIONS_MAX {
            return false;
        }
        self.waiting.push_back(recording_sid);
        self.is_changed = true;
        self.turn(now);
        true
    }

    /// A request came back.
    pub fn handle_deleted(&mut self, recording_sid: RecordingSid, deleted: Deleted, now: Instant) {
        if !self.is_out || self.waiting.front() != Some(&recording_sid) {
            return;
        }
        self.is_out = false;
        match deleted {
            Deleted::Gone | Deleted::Refused => {
                self.waiting.pop_front();
                self.is_changed = true;
                (self.failures, self.due) = (0, None);
            }
            Deleted::Unreachable => {
                let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
                self.failures = self.failures.saturating_add(1);
                self.due = Some(now + pause);
            }
        }
        self.turn(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.turn(now);
    }

    /// When to wake me, and why. What is due from the start is due at `now`.
    pub fn poll_timeout(&self, now: Instant) -> Option<(Instant, &'static str)> {
        let waits = !self.is_out && !self.waiting.is_empty();
        waits.then(|| (self.due.unwrap_or(now), "a recording is to be deleted at Twilio"))
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn turn(&mut self, now: Instant) {
        // Noted before it is asked for: nothing is asked for that the next run would not know of.
        if std::mem::take(&mut self.is_changed) {
            self.outputs.push_back(Output::Save(self.waiting.iter().copied().collect()));
        }
        if !self.is_out
            && self.due.is_none_or(|due| due <= now)
            && let Some(&recording_sid) = self.waiting.front()
        {
            self.is_out = true;
            self.outputs.push_back(Output::Delete { recording_sid });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        calls::FallbackReason,
        transcripts::record::{
            Conclusion,
            samples::{ended_call, record_of},
        },
        transcripts::record::{LEFT_OUT, Segment, Words},
    };

    fn sid(number: u128) -> RecordingSid {
        RecordingSid::from_number(number)
    }

    fn drain(deletions: &mut Deletions) -> Vec<Output> {
        std::iter::from_fn(|| deletions.poll_output()).collect()
    }

    #[test]
    fn each_is_noted_before_it_is_asked_for_and_gone_is_gone() {
        let (mut deletions, now) = (Deletions::default(), Instant::now());
        for _ in 0..2 {
            assert!(deletions.handle_wanted(sid(1), now));
        }
        assert!(deletions.handle_wanted(sid(2), now));
        let delete = |number| Output::Delete { recording_sid: sid(number) };
        assert_eq!(drain(&mut deletions), [Output::Save(vec![sid(1)]), delete(1), Output::Save(vec![sid(1), sid(2)])]);
        deletions.handle_deleted(sid(2), Deleted::Gone, now);
        assert_eq!(drain(&mut deletions), [], "nobody asked for that one");
        deletions.handle_deleted(sid(1), Deleted::Gone, now);
        assert_eq!(drain(&mut deletions), [Output::Save(vec![sid(2)]), delete(2)]);
        deletions.handle_deleted(sid(2), Deleted::Refused, now);
        assert_eq!(drain(&mut deletions), [Output::Save(vec![])]);
        assert_eq!(deletions.poll_timeout(now), None);
    }

    #[test]
    fn without_an_answer_it_is_asked_again_after_growing_pauses_also_by_the_next_run() {
        let mut now = Instant::now();
        let mut deletions = Deletions::new(vec![sid(1)]);
        assert_eq!(deletions.poll_timeout(now).map(|(at, _)| at), Some(now));
        let mut pauses = Vec::new();
        for _ in 0..12 {
            deletions.handle_timeout(now);
            assert_eq!(drain(&mut deletions), [Output::Delete { recording_sid: sid(1) }]);
            deletions.handle_deleted(sid(1), Deleted::Unreachable, now);
            let due = deletions.poll_timeout(now).unwrap().0;
            deletions.handle_timeout(due - Duration::from_millis(1));
            assert_eq!(drain(&mut deletions), []);
            pauses.push((due - now).as_secs());
            now = due;
        }
        assert_eq!((&pauses[..3], pauses.last()), (&[10, 20, 40][..], Some(&PAUSE_MAX.as_secs())));
    }

    #[test]
    fn more_than_may_wait_stay_at_twilio() {
        let (mut deletions, now) = (Deletions::default(), Instant::now());
        let wanted: Vec<bool> =
            (0..=DELETIONS_MAX as u128).map(|number| deletions.handle_wanted(sid(number), now)).collect();
        assert_eq!((wanted.iter().filter(|wanted| **wanted).count(), deletions.len()), (DELETIONS_MAX, DELETIONS_MAX));
    }

    #[test]
    fn never_the_recording_of_a_record_without_text() {
        let record = record_of(&ended_call(1, Some(FallbackReason::NoMedia), false));
        assert_eq!(deletable(&record), None, "there is none");
        let silent = record.clone().conclude(Conclusion::Recorded { recording_sid: sid(1), silent: true });
        assert_eq!(deletable(&silent), Some(sid(1)), "nothing was said");
        let mut record = record.conclude(Conclusion::Recorded { recording_sid: sid(1), silent: false });
        assert_eq!((record.outcome, deletable(&record)), (Outcome::Untranscribed, None));
        record.outcome = Outcome::Transcribed;
        assert_eq!(deletable(&record), Some(sid(1)));
        record.segments = vec![Segment { start_ms: 0, end_ms: 0, text: Words(LEFT_OUT.into()) }];
        assert_eq!(deletable(&record), None, "the rest may be heard in it");
    }
}
