//! The books of the records: joins the wait for recordings, the order to the office's system, and what is being written.
//! Pure: it says what is to be written, sent and asked, and is told what came of it.
//!
//! | what happened | what follows |
//! | --- | --- |
//! | a call ended that went to the recorder, or whose recording was announced | written as a draft; once it is, the wait for its recording begins |
//! | another call ended, and there is sound and an engine to transcribe it | written as a draft; once it is, the wait for its text begins |
//! | any other call ended | written as final |
//! | the wait for a recording is over | the wait for its text begins, or it is written as final |
//! | the wait for a text is over | written as final |
//! | a final record is durable | the outbox has something to send |
//! | the upstream took it, or refused it for good | that is written; only then comes the next |

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use jiff::Timestamp;

use super::{
    outbox::{self, Delivery, Loaded, Outbox, OutboxOptions},
    pending::{self, Fetched, Listed, Pending},
    record::{Heard, Outcome, Record, TranscriptId},
    stored::{Sequence, State, Stored},
    texts::{self, TextOptions, Texts},
    view::{RecentCall, RecentCalls},
};
use crate::twilio::{
    sid::{CallSid, RecordingSid, StreamSid},
    webhook::RecordingStatus,
};

/// Who waits until a record is safe; the driver's own number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Asker(pub u64);

/// Something that is to be durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writing {
    /// The record as it is before its recording.
    Draft(Box<Record>),
    /// The record as the office is to have it.
    Final(Box<Record>),
    /// The upstream has it.
    Synced { sequence: Sequence, record: Box<Record>, at: Timestamp },
    /// The upstream refused it for good, with this HTTP status.
    Parked { sequence: Sequence, record: Box<Record>, status: u16, at: Timestamp },
}

/// What became of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// It is durable.
    Durable,
    /// The call has its one record already, and that is durable.
    Already,
    /// It is not, or not yet; the store goes on trying by itself.
    NotYet,
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Make it durable; then [`Books::handle_written`], and the asker is told.
    Write { writing: Writing, asker: Option<Asker> },
    /// Ask the store for the first unsynced record; then [`Books::handle_loaded`].
    Load,
    /// Send it to the upstream; then [`Books::handle_sent`].
    Send { sequence: Sequence, record: Box<Record> },
    /// Fetch the recording's audio and keep it; then [`Books::handle_fetched`].
    Fetch { call_sid: CallSid, recording_sid: RecordingSid, stream_sid: Option<StreamSid> },
    /// Ask Twilio for the call's recordings; then [`Books::handle_listed`].
    List { call_sid: CallSid },
    /// Have the call's audio transcribed, that recording of it too; then [`Books::handle_heard`], at `until` with what there
    /// is by then.
    Transcribe { call_sid: CallSid, recording_sid: Option<RecordingSid>, until: Instant },
    /// Twilio does not give this recording, and its record goes on without; whoever looks for recordings is told.
    Missing { call_sid: CallSid, recording_sid: RecordingSid },
}

/// What the store answered to [`Output::Load`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The first unsynced record, or none.
    Found(Option<Box<Stored>>),
    /// The store cannot be asked now.
    Unavailable,
}

/// The books.
#[derive(Debug)]
pub struct Books {
    pending: Pending,
    /// `None` without an engine: then what was said stays in the audio alone.
    texts: Option<Texts>,
    /// The time of day at an instant of this run: how long ago calls of the run before ended.
    known_time: (Timestamp, Instant),
    /// `None` without an upstream: then records stay on the box.
    outbox: Option<Outbox>,
    /// The record that the outbox has in its hands.
    in_hand: Option<Box<Record>>,
    /// When the call of the first in the queue ended.
    oldest_unsynced: Option<Timestamp>,
    recent: RecentCalls,
    is_stopping: bool,
    outputs: VecDeque<Output>,
}

impl Books {
    /// Goes on with what is stored, without a speech engine: `drafts` wait for their recordings again, and `recent` are
    /// shown. `wall` is the time of day at `now`.
    pub fn new(
        outbox: Option<OutboxOptions>,
        drafts: Vec<Stored>,
        recent: Vec<Stored>,
        wall: Timestamp,
        now: Instant,
    ) -> Self {
        Self::with_texts(None, outbox, drafts, recent, wall, now)
    }

    /// The same with a speech engine, where there is one: `drafts` wait for their texts, too.
    pub fn with_texts(
        texts: Option<TextOptions>,
        outbox: Option<OutboxOptions>,
        drafts: Vec<Stored>,
        recent: Vec<Stored>,
        wall: Timestamp,
        now: Instant,
    ) -> Self {
        let mut books = Self {
            pending: Pending::new(),
            texts: texts.map(Texts::new),
            known_time: (wall, now),
            outbox: outbox.map(Outbox::new),
            in_hand: None,
            oldest_unsynced: None,
            recent: RecentCalls::of(&recent),
            is_stopping: false,
            outputs: VecDeque::new(),
        };
        books.handle_resumed(drafts, &[], wall, now);
        books
    }

    /// A store could be opened only now, and this is what waited in it.
    pub fn handle_resumed(&mut self, drafts: Vec<Stored>, recent: &[Stored], wall: Timestamp, now: Instant) {
        for stored in recent.iter().chain(&drafts) {
            self.recent.note(&stored.record, stored.state);
        }
        self.known_time = (wall, now);
        for draft in drafts {
            if draft.record.awaits_text() {
                self.await_text(Box::new(draft.record), now);
            } else {
                let ago = self.ago(&draft.record, now);
                self.pending.handle_resumed(draft.record, ago, now);
            }
        }
        self.turn(now);
    }

    /// A call has ended, and this is its record without a recording.
    pub fn handle_ended(&mut self, record: Box<Record>, asker: Option<Asker>) {
        // A redirect whose answer was lost may have been applied: only the recordings tell.
        let waits = record.fallback.reason.is_some() || self.pending.is_announced(record.call_sid);
        let writing = match &self.texts {
            _ if waits => Writing::Draft(record),
            Some(texts) if has_sound(&record) => Writing::Draft(Box::new(record.to_be_heard_by(texts.engine()))),
            _ => Writing::Final(record),
        };
        self.outputs.push_back(Output::Write { writing, asker });
    }

    /// A recording of a call was announced, or its absence.
    pub fn handle_announced(
        &mut self,
        call_sid: CallSid,
        recording_sid: Option<RecordingSid>,
        status: RecordingStatus,
        now: Instant,
    ) {
        self.pending.handle_announced(call_sid, recording_sid, status, now);
        self.turn(now);
    }

    /// Something is durable, or is not.
    pub fn handle_written(&mut self, writing: Writing, written: Written, now: Instant) {
        match writing {
            // Already there: somebody waits for its recording, or it is final.
            Writing::Draft(_) | Writing::Final(_) if written == Written::Already => {}
            Writing::Draft(record) => {
                self.recent.note(&record, State::AwaitingRecording);
                if record.awaits_text() {
                    self.await_text(record, now);
                } else {
                    self.pending.handle_ended(*record, now);
                }
            }
            Writing::Final(record) => {
                self.recent.note(&record, State::Unsynced);
                self.handle_unsynced();
            }
            Writing::Synced { .. } | Writing::Parked { .. } if written == Written::NotYet => {}
            Writing::Synced { sequence, record, at } => self.noted(sequence, &record, State::Synced { at }),
            Writing::Parked { sequence, record, status, at } => {
                self.noted(sequence, &record, State::Parked { status, at });
            }
        }
        self.turn(now);
    }

    /// What a call's audio says.
    pub fn handle_heard(&mut self, call_sid: CallSid, heard: Heard) {
        if let Some(texts) = &mut self.texts {
            texts.handle_heard(call_sid, heard);
        }
        self.turn_texts();
    }

    /// A parked record is back in the queue.
    pub fn handle_unparked(&mut self, id: TranscriptId) {
        self.recent.unpark(id);
        self.handle_unsynced();
    }

    /// The store may hold something to send that it was not told of: it kept it by itself, after it had refused it.
    pub fn handle_unsynced(&mut self) {
        if let Some(outbox) = &mut self.outbox {
            outbox.handle_unsynced();
        }
        self.turn_outbox(None);
    }

    /// The store answered.
    pub fn handle_loaded(&mut self, next: Next, now: Instant) {
        let Some(outbox) = &mut self.outbox else { return };
        match &next {
            Next::Found(found) => self.oldest_unsynced = found.as_ref().map(|stored| stored.record.ended_at),
            Next::Unavailable => {}
        }
        let loaded = match next {
            Next::Found(Some(stored)) if let Some(sequence) = stored.sequence => {
                self.in_hand = Some(Box::new(stored.record));
                Loaded::Record(sequence)
            }
            Next::Found(_) => Loaded::Nothing,
            Next::Unavailable => Loaded::Unavailable,
        };
        outbox.handle_loaded(loaded, now);
        self.turn_outbox(None);
    }

    /// The upstream answered, or did not. `wall` is the time of day at `now`.
    pub fn handle_sent(
        &mut self,
        sequence: Sequence,
        record: Box<Record>,
        delivery: Delivery,
        wall: Timestamp,
        now: Instant,
    ) {
        let Some(outbox) = &mut self.outbox else { return };
        self.in_hand = Some(record);
        outbox.handle_delivery(sequence, delivery, now);
        self.turn_outbox(Some(wall));
    }

    /// A fetch came back.
    pub fn handle_fetched(&mut self, call_sid: CallSid, recording_sid: RecordingSid, fetched: Fetched, now: Instant) {
        self.pending.handle_fetched(call_sid, recording_sid, fetched, now);
        self.turn(now);
    }

    /// A listing came back.
    pub fn handle_listed(&mut self, call_sid: CallSid, listed: Listed, now: Instant) {
        self.pending.handle_listed(call_sid, listed, now);
        self.turn(now);
    }

    /// The box is about to leave: nothing more is sent. What the upstream says of a record that it has is still noted.
    pub fn handle_stopping(&mut self) {
        self.is_stopping = true;
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.pending.handle_timeout(now);
        if let Some(texts) = &mut self.texts {
            texts.handle_timeout(now);
        }
        if let Some(outbox) = &mut self.outbox {
            outbox.handle_timeout(now);
        }
        self.turn(now);
    }

    /// When to wake me, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let outbox = self.outbox.as_ref().and_then(Outbox::poll_timeout);
        let texts = self.texts.as_ref().and_then(Texts::poll_timeout);
        self.pending.poll_timeout().into_iter().chain(texts).chain(outbox).min_by_key(|(at, _)| *at)
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The last calls, for staff.
    pub fn recent(&self) -> Vec<RecentCall> {
        self.recent.to_vec()
    }

    /// Whether staff are to be told that the upstream cannot be reached.
    pub fn is_in_trouble(&self) -> bool {
        self.outbox.as_ref().is_some_and(Outbox::is_in_trouble)
    }

    /// How often in a row the upstream has failed.
    pub fn failures(&self) -> u32 {
        self.outbox.as_ref().map_or(0, Outbox::failures)
    }

    /// Since when the first in the queue waits: the end of its call. `None`: nothing waits, or there is no upstream.
    pub fn oldest_unsynced(&self) -> Option<Timestamp> {
        self.oldest_unsynced
    }

    /// How many records wait for their recording.
    pub fn awaiting_recording(&self) -> usize {
        self.pending.len()
    }

    /// How many records wait for their text, and when the call of the first of them ended.
    pub fn awaiting_text(&self) -> (usize, Option<Timestamp>) {
        self.texts.as_ref().map_or((0, None), |texts| (texts.len(), texts.oldest()))
    }

    fn turn(&mut self, now: Instant) {
        while let Some(output) = self.pending.poll_output() {
            self.outputs.push_back(match output {
                pending::Output::Finalize(record) if has_sound(&record) => {
                    self.await_text(record, now);
                    continue;
                }
                pending::Output::Finalize(record) => Output::Write { writing: Writing::Final(record), asker: None },
                pending::Output::Fetch { call_sid, recording_sid } => {
                    Output::Fetch { call_sid, recording_sid, stream_sid: self.pending.stream_sid(call_sid) }
                }
                pending::Output::List { call_sid } => Output::List { call_sid },
                pending::Output::Missing { call_sid, recording_sid } => Output::Missing { call_sid, recording_sid },
            });
        }
        self.turn_texts();
        self.turn_outbox(None);
    }

    fn turn_texts(&mut self) {
        while let Some(output) = self.texts.as_mut().and_then(Texts::poll_output) {
            self.outputs.push_back(match output {
                texts::Output::Finalize(record) => Output::Write { writing: Writing::Final(record), asker: None },
                texts::Output::Transcribe { call_sid, recording_sid, until } => {
                    Output::Transcribe { call_sid, recording_sid, until }
                }
            });
        }
    }

    /// Nothing but its text is awaited for this record. Without an engine there will be none.
    fn await_text(&mut self, record: Box<Record>, now: Instant) {
        let ago = self.ago(&record, now);
        match &mut self.texts {
            Some(texts) => texts.handle_waiting(*record, ago, now),
            None => {
                let writing = Writing::Final(Box::new(record.with_text(None)));
                self.outputs.push_back(Output::Write { writing, asker: None });
            }
        }
    }

    /// How long ago its call ended. A clock that was set since says nothing of use: then it is as if it ended now.
    fn ago(&self, record: &Record, now: Instant) -> Duration {
        let (wall, at) = self.known_time;
        let wall = wall.saturating_add(now.saturating_duration_since(at)).unwrap_or(wall);
        Duration::try_from(wall.duration_since(record.ended_at)).unwrap_or_default()
    }

    /// `wall`: when the upstream gave the verdict that is to be noted.
    fn turn_outbox(&mut self, wall: Option<Timestamp>) {
        let at = wall.unwrap_or_default();
        while let Some(output) = self.outbox.as_mut().and_then(Outbox::poll_output) {
            let write = |writing| Output::Write { writing, asker: None };
            let output = match output {
                outbox::Output::Load | outbox::Output::Send { .. } if self.is_stopping => None,
                outbox::Output::Load => Some(Output::Load),
                outbox::Output::Send { sequence } => {
                    self.in_hand.take().map(|record| Output::Send { sequence, record })
                }
                outbox::Output::MarkSynced { sequence } => {
                    self.in_hand.take().map(|record| write(Writing::Synced { sequence, record, at }))
                }
                outbox::Output::Park { sequence, status } => {
                    self.in_hand.take().map(|record| write(Writing::Parked { sequence, record, status, at }))
                }
            };
            self.outputs.extend(output);
        }
    }

    /// What the upstream said is durable.
    fn noted(&mut self, sequence: Sequence, record: &Record, state: State) {
        self.recent.note(record, state);
        if let Some(outbox) = &mut self.outbox {
            outbox.handle_noted(sequence);
        }
    }
}

/// Whether there is something to transcribe.
fn has_sound(record: &Record) -> bool {
    record.outcome == Outcome::Untranscribed
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        calls::FallbackReason,
        limits::TEXT_GRACE,
        transcripts::record::{
            Segment, Words,
            samples::{ended_call, record, record_of},
        },
    };

    const NOON: Timestamp = Timestamp::UNIX_EPOCH;

    fn books(now: Instant) -> Books {
        let outbox = OutboxOptions { retry_min: Duration::from_secs(1), retry_max: Duration::from_secs(300), seed: 7 };
        let mut books = Books::new(Some(outbox), Vec::new(), Vec::new(), NOON, now);
        assert_eq!(drain(&mut books), [Output::Load]);
        books.handle_loaded(Next::Found(None), now);
        books
    }

    fn drain(books: &mut Books) -> Vec<Output> {
        std::iter::from_fn(|| books.poll_output()).collect()
    }

    fn write(writing: Writing, asker: Option<u64>) -> Output {
        Output::Write { writing, asker: asker.map(Asker) }
    }

    fn found(record: Record, sequence: u64) -> Next {
        Next::Found(Some(Box::new(Stored { sequence: Some(Sequence(sequence)), state: State::Unsynced, record })))
    }

    #[test]
    fn a_streamed_call_is_final_at_once_sent_once_and_noted() {
        let now = Instant::now();
        let (mut books, record) = (books(now), Box::new(record(1)));
        books.handle_ended(record.clone(), Some(Asker(5)));
        assert_eq!(drain(&mut books), [write(Writing::Final(record.clone()), Some(5))]);
        books.handle_written(Writing::Final(record.clone()), Written::Durable, now);
        assert_eq!(drain(&mut books), [Output::Load]);
        books.handle_loaded(found(*record.clone(), 1), now);
        assert_eq!(drain(&mut books), [Output::Send { sequence: Sequence(1), record: record.clone() }]);
        assert_eq!(books.oldest_unsynced(), Some(record.ended_at));
        books.handle_sent(Sequence(1), record.clone(), Delivery::Acknowledged, NOON, now);
        let note = Writing::Synced { sequence: Sequence(1), record, at: NOON };
        assert_eq!(drain(&mut books), [write(note.clone(), None)]);
        books.handle_written(note, Written::Durable, now);
        assert_eq!(drain(&mut books), [Output::Load]);
        assert!(books.recent()[0].synced);
        books.handle_loaded(Next::Unavailable, now);
        assert!(books.oldest_unsynced().is_some(), "the store did not say otherwise");
        let (due, _) = books.poll_timeout().expect("the store is asked again");
        books.handle_timeout(due);
        books.handle_loaded(Next::Found(None), due);
        assert_eq!(books.oldest_unsynced(), None);
    }

    #[test]
    fn a_call_that_went_to_the_recorder_waits_as_a_draft_from_when_that_is_durable() {
        let now = Instant::now();
        let mut books = books(now);
        let draft = Box::new(record_of(&ended_call(1, Some(FallbackReason::NoMedia), false)));
        books.handle_ended(draft.clone(), None);
        assert_eq!(drain(&mut books), [write(Writing::Draft(draft.clone()), None)]);
        assert_eq!((books.awaiting_recording(), books.poll_timeout()), (0, None));
        books.handle_written(Writing::Draft(draft.clone()), Written::Durable, now);
        let (due, _) = books.poll_timeout().expect("Twilio will be asked");
        books.handle_timeout(due);
        assert_eq!(drain(&mut books), [Output::List { call_sid: draft.call_sid }]);
        books.handle_listed(draft.call_sid, Listed::Recordings(Vec::new()), due);
        let outputs = drain(&mut books);
        let [Output::Write { writing: Writing::Final(last), asker: None }] = outputs.as_slice() else {
            panic!("{outputs:?}")
        };
        assert_eq!(last.id, draft.id);
    }

    #[test]
    fn a_call_whose_recording_was_announced_before_its_end_waits_whatever_the_desk_knew() {
        let now = Instant::now();
        let (mut books, record) = (books(now), Box::new(record(1)));
        books.handle_announced(record.call_sid, Some(RecordingSid::from_number(9)), RecordingStatus::Completed, now);
        books.handle_ended(record.clone(), None);
        assert_eq!(drain(&mut books), [write(Writing::Draft(record), None)]);
    }

    #[test]
    fn a_second_record_of_a_call_starts_no_second_wait() {
        let now = Instant::now();
        let mut books = books(now);
        let draft = Box::new(record_of(&ended_call(1, Some(FallbackReason::NoMedia), false)));
        books.handle_written(Writing::Draft(draft), Written::Already, now);
        assert_eq!((books.awaiting_recording(), drain(&mut books)), (0, Vec::new()));
    }

    #[test]
    fn a_verdict_that_is_not_durable_holds_up_the_next() {
        let now = Instant::now();
        let (mut books, record) = (books(now), Box::new(record(1)));
        books.handle_unsynced();
        books.handle_loaded(found(*record.clone(), 1), now);
        books.handle_sent(Sequence(1), record.clone(), Delivery::Refused { status: 422 }, NOON, now);
        drain(&mut books);
        let note = Writing::Parked { sequence: Sequence(1), record, status: 422, at: NOON };
        books.handle_written(note.clone(), Written::NotYet, now);
        assert_eq!(drain(&mut books), []);
        books.handle_written(note, Written::Durable, now);
        assert_eq!(drain(&mut books), [Output::Load]);
    }

    #[test]
    fn while_stopping_nothing_is_sent_and_verdicts_are_still_noted() {
        let now = Instant::now();
        let (mut books, record) = (books(now), Box::new(record(1)));
        books.handle_unsynced();
        books.handle_loaded(found(*record.clone(), 1), now);
        drain(&mut books);
        books.handle_stopping();
        books.handle_sent(Sequence(1), record.clone(), Delivery::Acknowledged, NOON, now);
        let note = Writing::Synced { sequence: Sequence(1), record, at: NOON };
        assert_eq!(drain(&mut books), [write(note.clone(), None)]);
        books.handle_written(note, Written::Durable, now);
        books.handle_unsynced();
        assert_eq!(drain(&mut books), []);
    }

    #[test]
    fn drafts_of_the_run_before_wait_again_and_twilio_is_asked() {
        let now = Instant::now();
        let draft = record_of(&ended_call(1, Some(FallbackReason::NoMedia), false));
        let call_sid = draft.call_sid;
        let wall = draft.ended_at + Duration::from_secs(3_600);
        let stored = Stored { sequence: None, state: State::AwaitingRecording, record: draft };
        let mut books = Books::new(None, vec![stored], Vec::new(), wall, now);
        assert_eq!(drain(&mut books), [Output::List { call_sid }]);
        assert_eq!(books.recent().len(), 1);
    }

    fn hearing(now: Instant, drafts: Vec<Stored>, wall: Timestamp) -> Books {
        let options = TextOptions { wait: HOUR, engine: "openai".into() };
        Books::with_texts(Some(options), None, drafts, Vec::new(), wall, now)
    }

    const HOUR: Duration = Duration::from_secs(3_600);

    fn transcribe(call_sid: CallSid, recording_sid: Option<RecordingSid>, until: Instant) -> Output {
        Output::Transcribe { call_sid, recording_sid, until }
    }

    fn heard() -> Heard {
        let segments = vec![Segment { start_ms: 0, end_ms: 9, text: Words("hello".into()) }];
        Heard::Words { engine: "openai whisper-1".into(), segments }
    }

    #[test]
    fn with_an_engine_a_streamed_call_waits_for_its_text_as_a_draft_and_becomes_final_with_it_once() {
        let now = Instant::now();
        let mut books = hearing(now, Vec::new(), NOON);
        let (call, draft) = (record(1), Box::new(record(1).to_be_heard_by("openai")));
        books.handle_ended(Box::new(call.clone()), Some(Asker(5)));
        assert_eq!(drain(&mut books), [write(Writing::Draft(draft.clone()), Some(5))]);
        books.handle_written(Writing::Draft(draft.clone()), Written::Already, now);
        assert_eq!(drain(&mut books), [], "whose end is told again is asked about once");
        books.handle_written(Writing::Draft(draft), Written::NotYet, now);
        assert_eq!(drain(&mut books), [transcribe(call.call_sid, None, now + HOUR)]);
        assert_eq!(books.awaiting_text(), (1, Some(call.ended_at)));
        books.handle_heard(call.call_sid, heard());
        let last = Box::new(call.clone().with_text(Some(heard())));
        assert_eq!(drain(&mut books), [write(Writing::Final(last), None)]);
        books.handle_heard(call.call_sid, heard());
        assert_eq!((drain(&mut books), books.awaiting_text()), (Vec::new(), (0, None)));
    }

    #[test]
    fn a_call_without_sound_is_final_at_once_with_an_engine_too() {
        let mut books = hearing(Instant::now(), Vec::new(), NOON);
        let silent = Box::new(record_of(&ended_call(1, None, false)));
        books.handle_ended(silent.clone(), None);
        assert_eq!(drain(&mut books), [write(Writing::Final(silent), None)]);
    }

    #[test]
    fn a_recording_is_waited_for_first_and_then_transcribed() {
        let now = Instant::now();
        let mut books = hearing(now, Vec::new(), NOON);
        let draft = Box::new(record_of(&ended_call(1, Some(FallbackReason::NoMedia), false)));
        let recording_sid = RecordingSid::from_number(7);
        books.handle_ended(draft.clone(), None);
        assert_eq!(drain(&mut books), [write(Writing::Draft(draft.clone()), None)]);
        books.handle_written(Writing::Draft(draft.clone()), Written::Durable, now);
        books.handle_announced(draft.call_sid, Some(recording_sid), RecordingStatus::Completed, now);
        drain(&mut books);
        books.handle_fetched(draft.call_sid, recording_sid, Fetched::Saved { silent: false }, now);
        let call_sid = draft.call_sid;
        assert_eq!(drain(&mut books), [transcribe(call_sid, Some(recording_sid), now + HOUR)]);
        books.handle_heard(call_sid, heard());
        let outputs = drain(&mut books);
        let [Output::Write { writing: Writing::Final(last), .. }] = outputs.as_slice() else { panic!("{outputs:?}") };
        assert_eq!((last.outcome, last.recording_sid), (Outcome::Transcribed, Some(recording_sid)));
    }

    #[test]
    fn after_a_restart_each_draft_waits_for_what_it_waited_for_and_no_longer_than_it_may() {
        let now = Instant::now();
        let stored = |record| Stored { sequence: None, state: State::AwaitingRecording, record };
        let spoken = record(1).to_be_heard_by("openai");
        let recorded = record_of(&ended_call(2, Some(FallbackReason::NoMedia), false));
        let drafts = || vec![stored(spoken.clone()), stored(recorded.clone())];
        let wall = spoken.ended_at + Duration::from_secs(1_800);
        let mut books = hearing(now, drafts(), wall);
        let ask = Output::List { call_sid: recorded.call_sid };
        assert_eq!(drain(&mut books), [ask.clone(), transcribe(spoken.call_sid, None, now + HOUR / 2)]);
        books.handle_timeout(now + HOUR / 2 + TEXT_GRACE);
        let last = Box::new(record(1));
        assert_eq!(drain(&mut books), [write(Writing::Final(last.clone()), None)], "an hour after its end");
        // The engine was taken out of the configuration.
        let mut books = Books::new(None, drafts(), Vec::new(), wall, now);
        assert_eq!(drain(&mut books), [write(Writing::Final(last), None), ask]);
    }
}
