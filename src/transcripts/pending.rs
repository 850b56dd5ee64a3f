//! Ended calls whose record waits for its recording: whom to ask next, and when the wait is over. Pure.
//!
//! A call that went to the recorder ends before Twilio has finished its recording, or after; announcements come once,
//! twice or never, before the call's end or after it. However they come, a recording is fetched once and the record
//! becomes final once:
//!
//! - an announced recording is fetched; while it is not there yet (404, or no WAV), again after 1, 2, 4, 8, 16 and 30 s;
//! - one that ends before its time is fetched again three times, then its beginning is kept;
//! - 60 s after the end without an announcement, or 15 s after `absent`, Twilio is asked for the call's recordings;
//!   only if it has none does the record become final without;
//! - while Twilio cannot be reached the record waits on, and holds up no other;
//! - when more wait than may, the oldest becomes final as it stands.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::record::{Conclusion, Record};
use crate::{
    limits::{EARLY_RECORDINGS_MAX, ERRANDS_AT_ONCE_MAX, PENDING_RECORDS_MAX, RECORDINGS_PER_CALL_MAX},
    twilio::{
        sid::{CallSid, RecordingSid, StreamSid},
        webhook::RecordingStatus,
    },
};

/// From a call's end to the question for its recordings, if none was announced.
pub const UNANNOUNCED_MAX: Duration = Duration::from_secs(60);
/// From `absent` or `failed` to that question.
pub const ABSENT_MAX: Duration = Duration::from_secs(15);
/// From a listing with an unfinished recording to the next one.
pub const UNFINISHED_PAUSE: Duration = Duration::from_secs(15);
/// Listings that may show an unfinished recording: ten minutes, far more than one of 30 s takes.
pub const UNFINISHED_LISTINGS_MAX: u32 = 40;
/// Pauses before a recording that is not there yet is fetched again. After the last it is left at Twilio.
pub const NOT_THERE_PAUSES: [Duration; 6] = [
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
    Duration::from_secs(16),
    Duration::from_secs(30),
];
/// How often one that ends before its time is fetched again.
pub const CUT_TRIES_MAX: usize = 3;
/// The longest pause while Twilio cannot be reached; it begins with 1 s and doubles.
pub const UNREACHABLE_PAUSE_MAX: Duration = Duration::from_secs(60);

/// What became of fetching a recording.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fetched {
    /// Its audio is on the disk. `silent`: there is not one sample in it.
    Saved { silent: bool },
    /// Twilio knows it and has no audio yet (404), or what came is none.
    NotThere,
    /// Its beginning is on the disk: less came than its head says.
    Cut,
    /// No usable answer, or the disk did not take it: it will be tried again.
    Unreachable,
    /// It is not to be had: too large, deleted, or there is no room for it.
    Unusable,
}

/// What Twilio answered to the question for a call's recordings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listed {
    Recordings(Vec<(RecordingSid, RecordingStatus)>),
    /// No usable answer: it will be asked again.
    Unreachable,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Fetch the recording's audio and keep it; then [`Pending::handle_fetched`].
    Fetch { call_sid: CallSid, recording_sid: RecordingSid },
    /// Ask for the call's recordings; then [`Pending::handle_listed`].
    List { call_sid: CallSid },
    /// Twilio says that there is this recording, and does not give it: it is not waited for any longer.
    Missing { call_sid: CallSid, recording_sid: RecordingSid },
    /// The wait is over: keep this record as final.
    Finalize(Box<Record>),
}

/// The table of those that wait.
#[derive(Debug)]
pub struct Pending {
    /// In the order of their calls' end.
    waiting: VecDeque<Waiting>,
    /// Announcements for calls that have not ended, the oldest first.
    early: VecDeque<(CallSid, Announcement)>,
    errands: usize,
    outputs: VecDeque<Output>,
}

type Announcement = (Option<RecordingSid>, RecordingStatus);

#[derive(Debug)]
struct Waiting {
    record: Record,
    /// Completed recordings that were not looked at yet, in the order of their announcement.
    completed: heapless::Deque<RecordingSid, RECORDINGS_PER_CALL_MAX>,
    /// All that were ever announced as completed, so that none is fetched twice.
    known: heapless::Vec<RecordingSid, RECORDINGS_PER_CALL_MAX>,
    /// What stands if nothing better comes: a silent, failed or unreadable recording.
    found: Option<Conclusion>,
    next: Errand,
    due: Instant,
    /// The errand that was sent out and has not come back; the next one waits for it.
    out: Option<Errand>,
    /// Answers of one kind in a row, for the pause before the next try.
    not_there: usize,
    unreachable: u32,
    unfinished: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Errand {
    Fetch(RecordingSid),
    List,
}

impl Default for Pending {
    fn default() -> Self {
        Self::new()
    }
}

impl Pending {
    /// A table in which nothing waits.
    pub fn new() -> Self {
        Self { waiting: VecDeque::new(), early: VecDeque::new(), errands: 0, outputs: VecDeque::new() }
    }

    /// How many records wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The stream that the waiting record of this call names.
    pub fn stream_sid(&self, call_sid: CallSid) -> Option<StreamSid> {
        self.waiting.iter().find(|waiting| waiting.record.call_sid == call_sid)?.record.stream_sid
    }

    /// Whether a recording of this call, which has not ended, was announced: then its record waits for it, whatever
    /// the desk knows of the call's way to the recorder.
    pub fn is_announced(&self, call_sid: CallSid) -> bool {
        self.early.iter().any(|(call, (_, status))| {
            *call == call_sid && matches!(status, RecordingStatus::Completed | RecordingStatus::InProgress)
        })
    }

    /// A call that went to the recorder has ended, and its record waits from now on.
    pub fn handle_ended(&mut self, record: Record, now: Instant) {
        self.take_in(record, now + UNANNOUNCED_MAX, now);
    }

    /// A record waited already when the box stopped, and its call ended so long `ago`. What was announced meanwhile
    /// nobody heard, so Twilio is asked: at once, but not before it has had [`UNANNOUNCED_MAX`] since the call's end.
    pub fn handle_resumed(&mut self, record: Record, ago: Duration, now: Instant) {
        self.take_in(record, now + UNANNOUNCED_MAX.saturating_sub(ago), now);
    }

    /// A recording was announced, or its absence: by either route, at any time, however often.
    pub fn handle_announced(
        &mut self,
        call_sid: CallSid,
        recording_sid: Option<RecordingSid>,
        status: RecordingStatus,
        now: Instant,
    ) {
        let announcement = (recording_sid, status);
        if let Some(index) = self.position(call_sid) {
            self.waiting[index].announced(announcement, now);
        } else if !self.early.contains(&(call_sid, announcement)) {
            if self.early.len() >= EARLY_RECORDINGS_MAX {
                self.early.pop_front();
            }
            self.early.push_back((call_sid, announcement));
        }
        self.send_out(now);
    }

    /// A fetch came back.
    pub fn handle_fetched(&mut self, call_sid: CallSid, recording_sid: RecordingSid, fetched: Fetched, now: Instant) {
        if let Some(index) = self.came_back(call_sid, Errand::Fetch(recording_sid)) {
            let waiting = &mut self.waiting[index];
            if fetched == Fetched::NotThere && waiting.not_there >= NOT_THERE_PAUSES.len() {
                self.outputs.push_back(Output::Missing { call_sid, recording_sid });
            }
            if let Some(conclusion) = waiting.fetched(recording_sid, fetched, now) {
                self.finalize(index, conclusion);
            }
        }
        self.send_out(now);
    }

    /// A listing came back.
    pub fn handle_listed(&mut self, call_sid: CallSid, listed: Listed, now: Instant) {
        if let Some(index) = self.came_back(call_sid, Errand::List)
            && let Some(conclusion) = self.waiting[index].listed(listed, now)
        {
            self.finalize(index, conclusion);
        }
        self.send_out(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.send_out(now);
    }

    /// When an errand is due. `None` also while as many are out as may be: the next to come back wakes us.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.errands >= ERRANDS_AT_ONCE_MAX {
            return None;
        }
        let due = self.waiting.iter().filter(|waiting| waiting.out.is_none()).map(|waiting| waiting.due).min()?;
        Some((due, "a recording is to be asked for"))
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn take_in(&mut self, record: Record, due: Instant, now: Instant) {
        let call_sid = record.call_sid;
        if self.position(call_sid).is_some() {
            return;
        }
        if self.waiting.len() >= PENDING_RECORDS_MAX {
            let stands = self.waiting[0].stands();
            self.finalize(0, stands);
        }
        let mut waiting = Waiting::new(record, due);
        self.early.retain(|(call, announcement)| {
            if *call == call_sid {
                waiting.announced(*announcement, now);
            }
            *call != call_sid
        });
        self.waiting.push_back(waiting);
        self.send_out(now);
    }

    /// The place of the call whose errand this was; an answer that nobody waits for any more has none.
    fn came_back(&mut self, call_sid: CallSid, errand: Errand) -> Option<usize> {
        let index = self.position(call_sid)?;
        let waiting = &mut self.waiting[index];
        if waiting.out != Some(errand) {
            return None;
        }
        waiting.out = None;
        self.errands -= 1;
        Some(index)
    }

    /// Sends out what is due, the longest due first, while more may be out.
    fn send_out(&mut self, now: Instant) {
        while self.errands < ERRANDS_AT_ONCE_MAX {
            let due = self.waiting.iter_mut().filter(|waiting| waiting.out.is_none() && waiting.due <= now);
            let Some(waiting) = due.min_by_key(|waiting| waiting.due) else { return };
            let call_sid = waiting.record.call_sid;
            waiting.out = Some(waiting.next);
            self.errands += 1;
            self.outputs.push_back(match waiting.next {
                Errand::Fetch(recording_sid) => Output::Fetch { call_sid, recording_sid },
                Errand::List => Output::List { call_sid },
            });
        }
    }

    fn finalize(&mut self, index: usize, conclusion: Conclusion) {
        let Some(waiting) = self.waiting.remove(index) else { return };
        if waiting.out.is_some() {
            self.errands -= 1;
        }
        self.outputs.push_back(Output::Finalize(Box::new(waiting.record.conclude(conclusion))));
    }

    fn position(&self, call_sid: CallSid) -> Option<usize> {
        self.waiting.iter().position(|waiting| waiting.record.call_sid == call_sid)
    }
}

impl Waiting {
    fn new(record: Record, due: Instant) -> Self {
        Self {
            record,
            completed: heapless::Deque::new(),
            known: heapless::Vec::new(),
            found: None,
            next: Errand::List,
            due,
            out: None,
            not_there: 0,
            unreachable: 0,
            unfinished: 0,
        }
    }

    fn announced(&mut self, (recording_sid, status): Announcement, now: Instant) {
        match (status, recording_sid) {
            (RecordingStatus::Completed, Some(recording_sid)) => self.completed(recording_sid, now),
            // It exists; that it is complete is still to be said, or found by listing.
            (RecordingStatus::InProgress, _) | (RecordingStatus::Completed, None) => {}
            (RecordingStatus::Absent, _) => self.absent(now),
            (RecordingStatus::Failed, recording_sid) => {
                if let Some(recording_sid) = recording_sid {
                    self.fall_back_on(Conclusion::Recorded { recording_sid, silent: false });
                }
                self.absent(now);
            }
        }
    }

    fn completed(&mut self, recording_sid: RecordingSid, now: Instant) {
        if self.known.contains(&recording_sid) || self.known.push(recording_sid).is_err() {
            return;
        }
        // As many places as in `known`: there is room.
        let _ = self.completed.push_back(recording_sid);
        if self.next == Errand::List {
            self.fetch_next(now);
        }
    }

    fn absent(&mut self, now: Instant) {
        if self.next == Errand::List {
            self.due = self.due.min(now + ABSENT_MAX);
        }
    }

    /// Begins with the next recording that was not looked at. `false`: there is none.
    fn fetch_next(&mut self, now: Instant) -> bool {
        let Some(recording_sid) = self.completed.pop_front() else { return false };
        self.next = Errand::Fetch(recording_sid);
        self.due = now;
        self.not_there = 0;
        self.unreachable = 0;
        true
    }

    /// `Some`: the wait is over.
    fn fetched(&mut self, recording_sid: RecordingSid, fetched: Fetched, now: Instant) -> Option<Conclusion> {
        match fetched {
            Fetched::Saved { silent: false } => return Some(Conclusion::Recorded { recording_sid, silent: false }),
            // A later one may hold the message.
            Fetched::Saved { silent: true } => self.fall_back_on(Conclusion::Recorded { recording_sid, silent: true }),
            Fetched::Unusable => self.fall_back_on(Conclusion::Recorded { recording_sid, silent: false }),
            Fetched::Unreachable => {
                self.due = now + self.unreachable_pause();
                return None;
            }
            Fetched::NotThere | Fetched::Cut => {
                let tries_max = if fetched == Fetched::Cut { CUT_TRIES_MAX } else { NOT_THERE_PAUSES.len() };
                if let Some(&pause) = NOT_THERE_PAUSES[..tries_max].get(self.not_there) {
                    self.not_there += 1;
                    self.unreachable = 0;
                    self.due = now + pause;
                    return None;
                }
                self.fall_back_on(Conclusion::Recorded { recording_sid, silent: false });
            }
        }
        if self.fetch_next(now) { None } else { Some(self.stands()) }
    }

    /// `Some`: the wait is over.
    fn listed(&mut self, listed: Listed, now: Instant) -> Option<Conclusion> {
        let Listed::Recordings(recordings) = listed else {
            if self.next == Errand::List {
                self.due = now + self.unreachable_pause();
            }
            return None;
        };
        let mut is_unfinished = false;
        for (recording_sid, status) in recordings {
            is_unfinished |= status == RecordingStatus::InProgress;
            self.announced((Some(recording_sid), status), now);
        }
        if self.next != Errand::List {
            return None;
        }
        self.unfinished += 1;
        if is_unfinished && self.unfinished < UNFINISHED_LISTINGS_MAX {
            self.unreachable = 0;
            self.due = now + UNFINISHED_PAUSE;
            return None;
        }
        Some(self.stands())
    }

    fn stands(&self) -> Conclusion {
        // One that is known and was not looked at may hold a message.
        let known = || self.known.first().map(|&recording_sid| Conclusion::Recorded { recording_sid, silent: false });
        self.found.or_else(known).unwrap_or(Conclusion::NothingRecorded)
    }

    /// One that may hold a message stands before a silent one; else the first.
    fn fall_back_on(&mut self, conclusion: Conclusion) {
        let holds_sound = |conclusion: &Conclusion| matches!(conclusion, Conclusion::Recorded { silent: false, .. });
        if self.found.is_none_or(|found| holds_sound(&conclusion) && !holds_sound(&found)) {
            self.found = Some(conclusion);
        }
    }

    fn unreachable_pause(&mut self) -> Duration {
        let pause = Duration::from_secs(1 << self.unreachable.min(6)).min(UNREACHABLE_PAUSE_MAX);
        self.unreachable = self.unreachable.saturating_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        calls::FallbackReason,
        transcripts::record::{
            Outcome, Source,
            samples::{ended_call, record_of},
        },
    };

    const MESSAGE: Fetched = Fetched::Saved { silent: false };

    fn waiting_record(number: u128) -> Record {
        record_of(&ended_call(number, Some(FallbackReason::NoStreamStart), false))
    }

    fn call(number: u128) -> CallSid {
        CallSid::from_number(number)
    }

    fn recording(number: u128) -> RecordingSid {
        RecordingSid::from_number(number)
    }

    fn drain(pending: &mut Pending) -> Vec<Output> {
        std::iter::from_fn(|| pending.poll_output()).collect()
    }

    fn fetch(of: u128, number: u128) -> Output {
        Output::Fetch { call_sid: call(of), recording_sid: recording(number) }
    }

    fn list(of: u128) -> Output {
        Output::List { call_sid: call(of) }
    }

    fn finalized(outputs: Vec<Output>) -> Vec<(Option<RecordingSid>, Source, Outcome)> {
        outputs
            .into_iter()
            .map(|output| match output {
                Output::Finalize(record) => (record.recording_sid, record.source, record.outcome),
                other => panic!("{other:?}"),
            })
            .collect()
    }

    /// Lets time pass until the next deadline, and says how long that took.
    fn wake(pending: &mut Pending, now: &mut Instant) -> Duration {
        let (due, _) = pending.poll_timeout().expect("something is waited for");
        let passed = due.saturating_duration_since(*now);
        *now = (*now).max(due);
        pending.handle_timeout(*now);
        passed
    }

    const RECORDED: (Source, Outcome) = (Source::Recording, Outcome::Untranscribed);

    #[test]
    fn a_recording_is_fetched_once_however_often_and_early_it_is_announced() {
        let orders: [&[RecordingStatus]; 4] = [
            &[RecordingStatus::Completed],
            &[RecordingStatus::Completed, RecordingStatus::Completed],
            &[RecordingStatus::InProgress, RecordingStatus::Completed, RecordingStatus::Completed],
            &[RecordingStatus::Completed, RecordingStatus::InProgress, RecordingStatus::Absent],
        ];
        for announcements in orders {
            for before_the_end in 0..=announcements.len() {
                let mut pending = Pending::new();
                let now = Instant::now();
                for &status in &announcements[..before_the_end] {
                    pending.handle_announced(call(1), Some(recording(7)), status, now);
                }
                assert_eq!(drain(&mut pending), [], "nothing is fetched before the call's end");
                assert_eq!(pending.is_announced(call(1)), before_the_end > 0);
                pending.handle_ended(waiting_record(1), now);
                for &status in &announcements[before_the_end..] {
                    pending.handle_announced(call(1), Some(recording(7)), status, now);
                }
                assert_eq!(drain(&mut pending), [fetch(1, 7)]);
                pending.handle_fetched(call(1), recording(7), MESSAGE, now);
                assert_eq!(finalized(drain(&mut pending)), [(Some(recording(7)), RECORDED.0, RECORDED.1)]);
                pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
                assert_eq!((drain(&mut pending), pending.poll_timeout()), (vec![], None));
            }
        }
    }

    #[test]
    fn without_any_announcement_twilio_is_asked_after_60_s_before_giving_up() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        assert_eq!(drain(&mut pending), []);
        assert_eq!(wake(&mut pending, &mut now), UNANNOUNCED_MAX);
        assert_eq!(drain(&mut pending), [list(1)]);
        pending.handle_listed(call(1), Listed::Recordings(vec![]), now);
        assert_eq!(finalized(drain(&mut pending)), [(None, Source::Stream, Outcome::NoSpeech)]);
        assert!(pending.is_empty());
    }

    #[test]
    fn an_unannounced_recording_is_found_by_the_listing() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        wake(&mut pending, &mut now);
        drain(&mut pending);
        pending.handle_listed(call(1), Listed::Recordings(vec![(recording(7), RecordingStatus::Completed)]), now);
        assert_eq!(drain(&mut pending), [fetch(1, 7)]);
    }

    #[test]
    fn after_absent_twilio_is_asked_in_15_s_and_never_later_than_without_it() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_announced(call(1), None, RecordingStatus::Absent, now);
        assert_eq!(wake(&mut pending, &mut now), ABSENT_MAX);
        assert_eq!(drain(&mut pending), [list(1)]);

        let mut pending = Pending::new();
        pending.handle_announced(call(2), None, RecordingStatus::Absent, now);
        assert!(!pending.is_announced(call(2)));
        pending.handle_ended(waiting_record(2), now);
        pending.handle_announced(call(2), None, RecordingStatus::Absent, now + Duration::from_secs(14));
        assert_eq!(wake(&mut pending, &mut now), ABSENT_MAX);
    }

    #[test]
    fn a_recording_that_comes_after_absent_is_still_taken() {
        let mut pending = Pending::new();
        let now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_announced(call(1), None, RecordingStatus::Absent, now);
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
        assert_eq!(drain(&mut pending), [fetch(1, 7)]);
    }

    #[test]
    fn what_is_not_there_yet_is_fetched_again_after_growing_pauses_then_left_at_twilio() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
        for pause in NOT_THERE_PAUSES {
            assert_eq!(drain(&mut pending), [fetch(1, 7)]);
            pending.handle_fetched(call(1), recording(7), Fetched::NotThere, now);
            assert_eq!(wake(&mut pending, &mut now), pause);
        }
        assert_eq!(drain(&mut pending), [fetch(1, 7)]);
        pending.handle_fetched(call(1), recording(7), Fetched::NotThere, now);
        let missing = Output::Missing { call_sid: call(1), recording_sid: recording(7) };
        assert_eq!(pending.poll_output(), Some(missing), "somebody else goes on looking for it");
        assert_eq!(finalized(drain(&mut pending)), [(Some(recording(7)), RECORDED.0, RECORDED.1)]);
    }

    #[test]
    fn one_that_ends_before_its_time_is_fetched_again_some_times_and_then_kept_as_it_is() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
        for pause in &NOT_THERE_PAUSES[..CUT_TRIES_MAX] {
            assert_eq!(drain(&mut pending), [fetch(1, 7)]);
            pending.handle_fetched(call(1), recording(7), Fetched::Cut, now);
            assert_eq!(wake(&mut pending, &mut now), *pause);
        }
        assert_eq!(drain(&mut pending), [fetch(1, 7)]);
        pending.handle_fetched(call(1), recording(7), Fetched::Cut, now);
        assert_eq!(finalized(drain(&mut pending)), [(Some(recording(7)), RECORDED.0, RECORDED.1)]);
    }

    #[test]
    fn what_a_stream_and_a_recording_brought_is_one_record_that_names_both() {
        let (mut pending, now) = (Pending::new(), Instant::now());
        let streamed = record_of(&ended_call(1, Some(FallbackReason::SocketLost), true));
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
        pending.handle_ended(streamed.clone(), now);
        drain(&mut pending);
        pending.handle_fetched(call(1), recording(7), MESSAGE, now);
        let outputs = drain(&mut pending);
        let [Output::Finalize(record)] = outputs.as_slice() else { panic!("{outputs:?}") };
        assert_eq!((record.stream_sid, record.recording_sid), (streamed.stream_sid, Some(recording(7))));
        assert_eq!(
            (record.id, record.source, record.outcome),
            (streamed.id, Source::Recording, Outcome::Untranscribed)
        );
    }

    #[test]
    fn while_twilio_cannot_be_reached_a_record_waits_on_and_holds_up_no_other() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_ended(waiting_record(2), now);
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
        let mut pauses = Vec::new();
        for _ in 0..5 {
            assert_eq!(drain(&mut pending), [fetch(1, 7)]);
            pending.handle_fetched(call(1), recording(7), Fetched::Unreachable, now);
            pauses.push(wake(&mut pending, &mut now).as_secs());
        }
        assert_eq!(pauses, [1, 2, 4, 8, 16]);
        drain(&mut pending);

        pending.handle_announced(call(2), Some(recording(8)), RecordingStatus::Completed, now);
        assert_eq!(drain(&mut pending), [fetch(2, 8)]);
        pending.handle_fetched(call(2), recording(8), MESSAGE, now);
        assert_eq!(finalized(drain(&mut pending)).len(), 1);
        assert_eq!(pending.len(), 1);

        for _ in 0..1_000 {
            pending.handle_fetched(call(1), recording(7), Fetched::Unreachable, now);
            assert!(wake(&mut pending, &mut now) <= UNREACHABLE_PAUSE_MAX);
        }
        pending.handle_fetched(call(1), recording(7), MESSAGE, now);
        assert_eq!(pending.len(), 0);
    }

    #[test]
    fn a_listing_that_cannot_be_had_is_asked_for_again() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        wake(&mut pending, &mut now);
        for pause in [1, 2, 4, 8, 16, 32, 60, 60] {
            assert_eq!(drain(&mut pending), [list(1)]);
            pending.handle_listed(call(1), Listed::Unreachable, now);
            assert_eq!(wake(&mut pending, &mut now), Duration::from_secs(pause));
        }
    }

    #[test]
    fn an_unfinished_recording_is_waited_for_but_not_for_ever() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::InProgress, now);
        assert_eq!(wake(&mut pending, &mut now), UNANNOUNCED_MAX);
        let unfinished = Listed::Recordings(vec![(recording(7), RecordingStatus::InProgress)]);
        for _ in 1..UNFINISHED_LISTINGS_MAX {
            assert_eq!(drain(&mut pending), [list(1)]);
            pending.handle_listed(call(1), unfinished.clone(), now);
            assert_eq!(wake(&mut pending, &mut now), UNFINISHED_PAUSE);
        }
        drain(&mut pending);
        pending.handle_listed(call(1), unfinished, now);
        assert_eq!(finalized(drain(&mut pending)).len(), 1);
    }

    #[test]
    fn a_failed_recording_is_named_since_somebody_may_have_spoken() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Failed, now);
        assert_eq!(wake(&mut pending, &mut now), ABSENT_MAX);
        drain(&mut pending);
        pending.handle_listed(call(1), Listed::Recordings(vec![(recording(7), RecordingStatus::Failed)]), now);
        assert_eq!(finalized(drain(&mut pending)), [(Some(recording(7)), RECORDED.0, RECORDED.1)]);
    }

    #[test]
    fn of_two_recordings_the_one_with_sound_is_taken() {
        let mut pending = Pending::new();
        let now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
        pending.handle_announced(call(1), Some(recording(8)), RecordingStatus::Completed, now);
        assert_eq!(drain(&mut pending), [fetch(1, 7)]);
        pending.handle_fetched(call(1), recording(7), Fetched::Saved { silent: true }, now);
        assert_eq!(drain(&mut pending), [fetch(1, 8)]);
        pending.handle_fetched(call(1), recording(8), MESSAGE, now);
        assert_eq!(finalized(drain(&mut pending)), [(Some(recording(8)), RECORDED.0, RECORDED.1)]);
    }

    #[test]
    fn an_empty_recording_means_that_nothing_was_said() {
        let mut pending = Pending::new();
        let now = Instant::now();
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
        pending.handle_ended(waiting_record(1), now);
        drain(&mut pending);
        pending.handle_fetched(call(1), recording(7), Fetched::Saved { silent: true }, now);
        assert_eq!(finalized(drain(&mut pending)), [(Some(recording(7)), Source::Recording, Outcome::NoSpeech)]);
    }

    #[test]
    fn a_recording_announced_while_the_listing_is_out_is_fetched_when_it_is_back() {
        let mut pending = Pending::new();
        let mut now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        wake(&mut pending, &mut now);
        assert_eq!(drain(&mut pending), [list(1)]);
        pending.handle_announced(call(1), Some(recording(7)), RecordingStatus::Completed, now);
        assert_eq!(drain(&mut pending), []);
        pending.handle_listed(call(1), Listed::Recordings(vec![]), now);
        assert_eq!(drain(&mut pending), [fetch(1, 7)]);
    }

    #[test]
    fn after_a_restart_twilio_is_asked_at_once() {
        let mut pending = Pending::new();
        pending.handle_resumed(waiting_record(1), UNANNOUNCED_MAX, Instant::now());
        assert_eq!(drain(&mut pending), [list(1)]);
    }

    #[test]
    fn only_so_many_errands_are_out_at_once_and_the_longest_due_go_first() {
        let mut pending = Pending::new();
        let now = Instant::now();
        let count = 3 * ERRANDS_AT_ONCE_MAX as u128;
        for number in 0..count {
            pending.handle_resumed(waiting_record(number), UNANNOUNCED_MAX, now + Duration::from_millis(number as u64));
        }
        let mut out: VecDeque<_> = drain(&mut pending).into();
        let mut served = Vec::new();
        while let Some(output) = out.pop_front() {
            assert!(out.len() < ERRANDS_AT_ONCE_MAX);
            let Output::List { call_sid } = output else { panic!("{output:?}") };
            served.push(call_sid);
            pending.handle_listed(call_sid, Listed::Recordings(vec![]), now + Duration::from_secs(1));
            out.extend(drain(&mut pending).into_iter().filter(|output| matches!(output, Output::List { .. })));
        }
        assert_eq!(served, (0..count).map(call).collect::<Vec<_>>());
    }

    #[test]
    fn when_more_wait_than_may_the_oldest_becomes_final_as_it_stands() {
        let mut pending = Pending::new();
        let now = Instant::now();
        for number in 0..=PENDING_RECORDS_MAX as u128 {
            pending.handle_ended(waiting_record(number), now);
        }
        assert_eq!(drain(&mut pending), [Output::Finalize(Box::new(waiting_record(0)))]);
        assert_eq!(pending.len(), PENDING_RECORDS_MAX);
    }

    #[test]
    fn one_that_becomes_final_early_names_the_recording_that_it_waited_for() {
        let mut pending = Pending::new();
        let now = Instant::now();
        pending.handle_ended(waiting_record(0), now);
        pending.handle_announced(call(0), Some(recording(7)), RecordingStatus::Completed, now);
        drain(&mut pending);
        for number in 1..=PENDING_RECORDS_MAX as u128 {
            pending.handle_ended(waiting_record(number), now);
        }
        assert_eq!(finalized(drain(&mut pending)), [(Some(recording(7)), RECORDED.0, RECORDED.1)]);
    }

    #[test]
    fn early_announcements_are_bounded_and_the_oldest_forgotten() {
        let mut pending = Pending::new();
        let now = Instant::now();
        for number in 0..=EARLY_RECORDINGS_MAX as u128 {
            pending.handle_announced(call(number), Some(recording(number)), RecordingStatus::Completed, now);
        }
        assert!(!pending.is_announced(call(0)) && pending.is_announced(call(1)));
        assert_eq!(pending.early.len(), EARLY_RECORDINGS_MAX);
    }

    #[test]
    fn answers_that_nobody_waits_for_change_nothing() {
        let mut pending = Pending::new();
        let now = Instant::now();
        pending.handle_listed(call(1), Listed::Recordings(vec![]), now);
        pending.handle_fetched(call(1), recording(7), MESSAGE, now);
        pending.handle_ended(waiting_record(1), now);
        pending.handle_fetched(call(1), recording(7), MESSAGE, now);
        pending.handle_listed(call(1), Listed::Recordings(vec![]), now);
        assert_eq!((drain(&mut pending), pending.len(), pending.errands), (vec![], 1, 0));
    }

    #[test]
    fn a_call_waits_only_once() {
        let mut pending = Pending::new();
        let now = Instant::now();
        pending.handle_ended(waiting_record(1), now);
        pending.handle_ended(waiting_record(1), now);
        assert_eq!(pending.len(), 1);
    }

    /// What Twilio has of a call, and how it answers: the table of a recording's fates.
    #[derive(Debug, Clone, Copy)]
    enum Fate {
        None,
        Message,
        Silent,
        /// Never more than its beginning.
        Cut,
        /// Never there, though it is announced and listed.
        NeverThere,
        TooLarge,
        /// Twilio could not make it.
        Failed,
    }

    fn answer(fate: Fate) -> Fetched {
        match fate {
            Fate::Message => MESSAGE,
            Fate::Silent => Fetched::Saved { silent: true },
            Fate::Cut => Fetched::Cut,
            Fate::TooLarge => Fetched::Unusable,
            Fate::None | Fate::NeverThere | Fate::Failed => Fetched::NotThere,
        }
    }

    fn truth(fate: Fate) -> Vec<(RecordingSid, RecordingStatus)> {
        match fate {
            Fate::None => vec![],
            Fate::Failed => vec![(recording(7), RecordingStatus::Failed)],
            _ => vec![(recording(7), RecordingStatus::Completed)],
        }
    }

    proptest::proptest! {
        /// However announcements come, in whatever order and however often, before the call's end and after it, with
        /// Twilio out of reach for a while: one final record, and what it says is what Twilio has.
        #[test]
        fn whatever_the_order_there_is_one_final_record(
            fate in proptest::sample::select(vec![
                Fate::None, Fate::Message, Fate::Silent, Fate::Cut, Fate::NeverThere, Fate::TooLarge, Fate::Failed,
            ]),
            // (which announcement, milliseconds after the one before)
            announcements in proptest::collection::vec((0_u8..4, 0_u64..40_000), 0..8),
            ended_after in 0_usize..8,
            // The first answers: 0 not there yet, 1 unreachable.
            hiccups in proptest::collection::vec(0_u8..2, 0..5),
        ) {
            let mut pending = Pending::new();
            let mut now = Instant::now();
            let (mut hiccups, mut finals) = (hiccups.into_iter(), Vec::new());
            let mut perform = |pending: &mut Pending, now: Instant, finals: &mut Vec<Record>| {
                while let Some(output) = pending.poll_output() {
                    match output {
                        Output::Finalize(record) => finals.push(*record),
                        Output::Missing { .. } => {}
                        Output::Fetch { call_sid, recording_sid } => {
                            let fetched = match hiccups.next() {
                                Some(0) => Fetched::NotThere,
                                Some(_) => Fetched::Unreachable,
                                None => answer(fate),
                            };
                            pending.handle_fetched(call_sid, recording_sid, fetched, now);
                        }
                        Output::List { call_sid } => {
                            let listed = match hiccups.next() {
                                Some(_) => Listed::Unreachable,
                                None => Listed::Recordings(truth(fate)),
                            };
                            pending.handle_listed(call_sid, listed, now);
                        }
                    }
                }
            };
            let ended_after = ended_after.min(announcements.len());
            for step in 0..=announcements.len() {
                if step == ended_after {
                    pending.handle_ended(waiting_record(1), now);
                    perform(&mut pending, now, &mut finals);
                }
                let Some(&(which, pause)) = announcements.get(step) else { break };
                let until = now + Duration::from_millis(pause);
                while let Some((due, _)) = pending.poll_timeout().filter(|(due, _)| *due <= until) {
                    now = now.max(due);
                    pending.handle_timeout(now);
                    perform(&mut pending, now, &mut finals);
                }
                now = until;
                // Twilio tells of what it has; `absent` and `in-progress` may come in any case, and then be wrong.
                let (sid, status) = match (which, fate) {
                    (0, Fate::None) | (1, _) => (None, RecordingStatus::Absent),
                    (0, Fate::Failed) => (Some(recording(7)), RecordingStatus::Failed),
                    (0 | 2, Fate::Message | Fate::Silent | Fate::Cut | Fate::NeverThere | Fate::TooLarge) => {
                        (Some(recording(7)), RecordingStatus::Completed)
                    }
                    _ => (None, RecordingStatus::InProgress),
                };
                pending.handle_announced(call(1), sid, status, now);
                perform(&mut pending, now, &mut finals);
            }
            for _ in 0..1_000 {
                let Some((due, _)) = pending.poll_timeout() else { break };
                now = now.max(due);
                pending.handle_timeout(now);
                perform(&mut pending, now, &mut finals);
            }
            let ends: Vec<_> = finals.iter().map(|record| (record.recording_sid, record.source, record.outcome)).collect();
            let expected = match fate {
                Fate::None => (None, Source::Stream, Outcome::NoSpeech),
                Fate::Silent => (Some(recording(7)), Source::Recording, Outcome::NoSpeech),
                _ => (Some(recording(7)), RECORDED.0, RECORDED.1),
            };
            proptest::prop_assert_eq!(ends, [expected]);
            proptest::prop_assert!(pending.is_empty() && pending.poll_timeout().is_none());
        }
    }
}
