//! Recordings that nobody here knows: those made while the box was off, and those announced for calls without a record.
//! Pure.
//!
//! The account's list is read from the last known recording on: at the start, every hour, and again soon when Twilio did
//! not answer. Whatever brings a recording here, the same is asked of it, one recording at a time:
//!
//! | its call | then |
//! | --- | --- |
//! | lives, or its record waits for its recording | it is left to its owner |
//! | has a record that names it, and Twilio did not give it in time | with the next list it is asked for once more |
//! | has a record that names it otherwise | nothing; if its text is acknowledged, it may be deleted at Twilio |
//! | has a record that does not | its audio is kept, marked late |
//! | is over, came in to a number of this box, and has no record | it gets one |
//! | is another application's | nothing |
//!
//! Several applications may share an account, so a recording is this box's only if it was announced to this box, or a
//! `<Record>` made it in an incoming call to a number that this box has answered for, or whose voice URL at Twilio leads to
//! this box.
//!
//! Twilio's clock alone counts here. The mark is the time of the newest recording of a list that was read to its end; the
//! next list begins [`OVERLAP`] before it, and what was settled meanwhile is remembered by name, also while the store has
//! let go of the record. Without a mark (a new box, or the file was lost) the list begins at Twilio's now.

use std::{
    collections::{BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use jiff::Timestamp;

pub use self::mark::Mark;
use crate::{
    limits::{ANNOUNCED_MISSING_MAX, OWN_NUMBERS_MAX, RECORDINGS_PAGES_MAX},
    twilio::{
        recording_list::{CallDetails, FoundRecording, NextPage, RecordingsPage},
        rest::CallLookup,
        sid::{CallSid, RecordingSid},
        webhook::{Direction, RecordingStatus},
    },
};

mod mark;

/// From one list to the next.
pub const LIST_EVERY: Duration = Duration::from_secs(3_600);
/// The same after a list in which a call was not over yet, or a recording not finished.
pub const LIST_AGAIN: Duration = Duration::from_secs(300);
/// The first pause after Twilio or the store gave no answer; it doubles up to [`LIST_EVERY`].
pub const UNREACHABLE_PAUSE: Duration = Duration::from_secs(10);
/// From an announcement to the question whether its call has a record by now.
pub const ANNOUNCED_MISSING: Duration = Duration::from_secs(60);
/// How far before the mark a list begins: a recording may be listed a little late.
pub const OVERLAP: Duration = Duration::from_secs(3_600);

/// What the store knows of a recording's call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Nothing,
    /// The call lives, or its record is a draft.
    Owned,
    /// A final record. `is_safe`: it is acknowledged, and with its text.
    Final {
        recording_sid: Option<RecordingSid>,
        is_safe: bool,
    },
    /// It has a record that cannot be looked at.
    Unfindable,
}

/// What is to be done. What has an answer is asked one at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Ask Twilio what time it is there; then [`CatchUp::handle_time`].
    AskTime,
    /// Read a page of the list; then [`CatchUp::handle_page`].
    List { since: Timestamp, next: Option<NextPage> },
    /// Ask the store; then [`CatchUp::handle_standing`].
    Find { call_sid: CallSid },
    /// Ask Twilio for the call; then [`CatchUp::handle_call`].
    AskCall { call_sid: CallSid },
    /// Ask Twilio for the numbers whose voice URL leads here; then [`CatchUp::handle_numbers`].
    ListNumbers,
    /// This call's record begins now, with this recording; then [`CatchUp::handle_adopted`].
    Adopt { recording_sid: RecordingSid, call_sid: CallSid, call: CallDetails, created_at: Timestamp },
    /// Keep the audio, marked late; then [`CatchUp::handle_late`].
    FetchLate { call_sid: CallSid, recording_sid: RecordingSid },
    /// Its text is acknowledged.
    Deletable { recording_sid: RecordingSid },
    /// This is to be kept on the disk.
    Save(Mark),
}

/// The search.
#[derive(Debug)]
pub struct CatchUp {
    mark: Option<Mark>,
    /// Numbers that calls came in to; bounded, the first stay.
    own_numbers: BTreeSet<String>,
    /// Announced, and to be looked at then.
    announced: VecDeque<(Instant, Candidate)>,
    /// Found in the list or announced, and to be looked at now.
    candidates: VecDeque<Candidate>,
    list: Option<List>,
    list_at: Instant,
    asked: Asked,
    failures: u32,
    is_changed: bool,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Candidate {
    recording_sid: RecordingSid,
    call_sid: CallSid,
    /// `None`: it was announced, not listed.
    created_at: Option<Timestamp>,
}

/// A list that is being read.
#[derive(Debug)]
struct List {
    since: Timestamp,
    next: Option<NextPage>,
    pages: usize,
    newest: Option<Timestamp>,
    /// The oldest that is not settled: the mark stays before it.
    held: Option<Timestamp>,
    numbers_asked: bool,
}

/// The question that is out.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Asked {
    Nothing,
    Time,
    Page,
    Standing(Candidate),
    Call(Candidate),
    Numbers(Candidate, CallDetails),
    Adopted(Candidate),
    Late(Candidate),
}

impl CatchUp {
    /// Goes on from `mark`; the first list is read at once.
    pub fn new(mark: Option<Mark>, now: Instant) -> Self {
        Self {
            mark,
            own_numbers: BTreeSet::new(),
            announced: VecDeque::new(),
            candidates: VecDeque::new(),
            list: None,
            list_at: now,
            asked: Asked::Nothing,
            failures: 0,
            is_changed: false,
            outputs: VecDeque::new(),
        }
    }

    /// A call came in to this number, and this box answered.
    pub fn handle_answered(&mut self, to: &str) {
        if !to.is_empty() && self.own_numbers.len() < OWN_NUMBERS_MAX {
            self.own_numbers.insert(to.to_owned());
        }
    }

    /// Its call's record went on without it, since Twilio did not give it: it is asked for with the next list.
    pub fn handle_missing(&mut self, recording_sid: RecordingSid, call_sid: CallSid) {
        self.is_changed |= self.mark.as_mut().is_some_and(|mark| mark.note_missing(recording_sid, call_sid));
    }

    /// A recording is settled without us: its call's record is final.
    pub fn handle_known(&mut self, recording_sid: RecordingSid, call_sid: CallSid) {
        if self.is_missing(recording_sid) {
            return;
        }
        self.note_known(recording_sid, Some(call_sid));
    }

    /// A finished recording was announced, by whatever way.
    pub fn handle_announced(&mut self, recording_sid: RecordingSid, call_sid: CallSid, now: Instant) {
        let candidate = Candidate { recording_sid, call_sid, created_at: None };
        let waits = self.announced.iter().any(|(_, other)| *other == candidate);
        // Beyond that the list finds it.
        if !waits && self.announced.len() < ANNOUNCED_MISSING_MAX {
            self.announced.push_back((now + ANNOUNCED_MISSING, candidate));
        }
    }

    /// Twilio said what time it is there, or nothing.
    pub fn handle_time(&mut self, time: Option<Timestamp>, now: Instant) {
        if self.asked != Asked::Time {
            return;
        }
        self.asked = Asked::Nothing;
        match time {
            Some(time) => {
                self.mark = Some(Mark::at(time));
                self.is_changed = true;
                self.failures = 0;
                self.list_at = now + LIST_EVERY;
            }
            None => self.give_up(now),
        }
        self.turn(now);
    }

    /// A page of the list came, or nothing.
    pub fn handle_page(&mut self, page: Option<RecordingsPage>, now: Instant) {
        if self.asked != Asked::Page {
            return;
        }
        self.asked = Asked::Nothing;
        match (page, &mut self.list) {
            (Some(page), Some(list)) => {
                list.pages += 1;
                list.next = page.next;
                for found in page.recordings {
                    list.take(&found, &mut self.candidates);
                }
            }
            _ => self.give_up(now),
        }
        self.turn(now);
    }

    /// The store said what it knows; `None`: it cannot now.
    pub fn handle_standing(&mut self, standing: Option<Standing>, now: Instant) {
        let Asked::Standing(candidate) = self.asked else { return };
        self.asked = Asked::Nothing;
        let Candidate { recording_sid, call_sid, .. } = candidate;
        match standing {
            Some(Standing::Nothing | Standing::Final { .. }) if self.is_missing(recording_sid) => {
                return self.late(candidate);
            }
            // Its record is gone from the store; it had one.
            Some(Standing::Nothing) if self.has_call(call_sid) => return self.late(candidate),
            Some(Standing::Nothing) => return self.ask(Asked::Call(candidate), Output::AskCall { call_sid }),
            // Its owner lists the call's recordings before it gives up.
            Some(Standing::Owned) => {}
            Some(Standing::Final { recording_sid: named, is_safe }) if named == Some(recording_sid) => {
                self.note_known(recording_sid, Some(call_sid));
                if is_safe {
                    self.outputs.push_back(Output::Deletable { recording_sid });
                }
            }
            Some(Standing::Final { .. }) => return self.late(candidate),
            Some(Standing::Unfindable) => self.note_known(recording_sid, Some(call_sid)),
            None => self.put_off(candidate, now),
        }
        self.turn(now);
    }

    /// Twilio said what it knows of a call, or why not.
    pub fn handle_call(&mut self, call: Result<CallDetails, CallLookup>, now: Instant) {
        let Asked::Call(candidate) = self.asked else { return };
        self.asked = Asked::Nothing;
        match call {
            Ok(call) if !call.status.is_final() => self.hold(candidate),
            Ok(call) if call.direction != Some(Direction::Inbound) => self.foreign(candidate),
            // Announced: Twilio was told to report it here.
            Ok(call) if candidate.created_at.is_none() || self.own_numbers.contains(&call.to) => {
                return self.adopt(candidate, call);
            }
            Ok(call) => match &mut self.list {
                Some(list) if list.numbers_asked => self.foreign(candidate),
                list => {
                    if let Some(list) = list {
                        list.numbers_asked = true;
                    }
                    return self.ask(Asked::Numbers(candidate, call), Output::ListNumbers);
                }
            },
            Err(CallLookup::NotFound) => self.foreign(candidate),
            Err(_) => self.put_off(candidate, now),
        }
        self.turn(now);
    }

    /// Twilio said which of the account's numbers lead here; `None`: nothing.
    pub fn handle_numbers(&mut self, numbers: Option<Vec<String>>, now: Instant) {
        let Asked::Numbers(candidate, call) = self.asked.clone() else { return };
        self.asked = Asked::Nothing;
        match numbers {
            Some(numbers) => {
                numbers.iter().for_each(|number| self.handle_answered(number));
                if self.own_numbers.contains(&call.to) {
                    return self.adopt(candidate, call);
                }
                self.foreign(candidate);
            }
            None => self.put_off(candidate, now),
        }
        self.turn(now);
    }

    /// The call's record is durable, or could not be kept. It is known once it is final; until then the store has its draft.
    pub fn handle_adopted(&mut self, is_kept: bool, now: Instant) {
        let Asked::Adopted(candidate) = self.asked else { return };
        self.asked = Asked::Nothing;
        if !is_kept {
            self.put_off(candidate, now);
        }
        self.turn(now);
    }

    /// The late recording's audio is on the disk or never will be; or Twilio or the disk cannot now.
    pub fn handle_late(&mut self, is_settled: bool, now: Instant) {
        let Asked::Late(candidate) = self.asked else { return };
        self.asked = Asked::Nothing;
        if is_settled {
            self.note_known(candidate.recording_sid, Some(candidate.call_sid));
        } else {
            self.put_off(candidate, now);
        }
        self.turn(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.turn(now);
    }

    /// When to wake me, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.asked != Asked::Nothing {
            return None;
        }
        let announced = self.announced.front().map(|(at, _)| (*at, "an announced recording is looked for"));
        [Some((self.list_at, "the account's recordings are listed")), announced].into_iter().flatten().min()
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Goes on until a question is out or nothing is due.
    fn turn(&mut self, now: Instant) {
        if self.asked != Asked::Nothing {
            return;
        }
        while let Some((_, candidate)) = self.announced.pop_front_if(|(at, _)| *at <= now) {
            self.candidates.push_back(candidate);
        }
        while let Some(candidate) = self.candidates.pop_front() {
            if !self.is_known(candidate.recording_sid) {
                return self.ask(Asked::Standing(candidate), Output::Find { call_sid: candidate.call_sid });
            }
        }
        if let Some(list) = &self.list {
            let (since, next, pages) = (list.since, list.next.clone(), list.pages);
            if next.is_some() && pages < RECORDINGS_PAGES_MAX {
                return self.ask(Asked::Page, Output::List { since, next });
            }
            self.conclude(now);
        } else if self.list_at <= now {
            return self.begin();
        }
        self.save();
    }

    fn begin(&mut self) {
        let Some(mark) = &self.mark else { return self.ask(Asked::Time, Output::AskTime) };
        let since = mark.since.saturating_sub(OVERLAP).unwrap_or(mark.since).max(mark.begun);
        let missing = mark.missing.iter();
        self.candidates.extend(missing.map(|&(recording_sid, call_sid)| Candidate {
            recording_sid,
            call_sid,
            created_at: None,
        }));
        let list = List { since, next: None, pages: 0, newest: None, held: None, numbers_asked: false };
        self.list = Some(list);
        self.ask(Asked::Page, Output::List { since, next: None });
    }

    /// The list was read to its end.
    fn conclude(&mut self, now: Instant) {
        let (Some(list), Some(mark)) = (self.list.take(), &mut self.mark) else { return };
        self.failures = 0;
        self.list_at = now + if list.held.is_some() { LIST_AGAIN } else { LIST_EVERY };
        // One that was too long to be read keeps its mark: the newest come first.
        if list.next.is_some() {
            return;
        }
        let since = match (list.newest, list.held) {
            (newest, Some(held)) => newest.map_or(held, |newest| newest.min(held)),
            (Some(newest), None) => newest,
            (None, None) => return,
        };
        if since > mark.since {
            mark.since = since;
            self.is_changed = true;
        }
    }

    fn save(&mut self) {
        if let Some(mark) = &self.mark
            && std::mem::take(&mut self.is_changed)
        {
            self.outputs.push_back(Output::Save(mark.clone()));
        }
    }

    fn ask(&mut self, asked: Asked, question: Output) {
        self.asked = asked;
        self.outputs.push_back(question);
    }

    fn adopt(&mut self, candidate: Candidate, call: CallDetails) {
        let Candidate { recording_sid, call_sid, created_at } = candidate;
        let created_at = created_at.or(call.ended_at).or(call.started_at);
        // Twilio's now, as far as we know it: never reached for a call that is over.
        let created_at = created_at.or(self.mark.as_ref().map(|mark| mark.since)).unwrap_or_default();
        self.ask(Asked::Adopted(candidate), Output::Adopt { recording_sid, call_sid, call, created_at });
    }

    fn late(&mut self, candidate: Candidate) {
        let Candidate { recording_sid, call_sid, .. } = candidate;
        self.ask(Asked::Late(candidate), Output::FetchLate { call_sid, recording_sid });
    }

    /// Another application's.
    fn foreign(&mut self, candidate: Candidate) {
        self.note_known(candidate.recording_sid, None);
    }

    /// Not yet to be judged: the mark stays before it.
    fn hold(&mut self, candidate: Candidate) {
        // One that was announced only stands in the next list.
        if let (Some(list), Some(at)) = (&mut self.list, candidate.created_at) {
            list.hold(at);
        }
    }

    fn put_off(&mut self, candidate: Candidate, now: Instant) {
        self.hold(candidate);
        self.give_up(now);
    }

    /// No answer: everything of this list is asked again, a little later.
    fn give_up(&mut self, now: Instant) {
        self.list = None;
        self.candidates.clear();
        let pause = UNREACHABLE_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LIST_EVERY);
        self.failures = self.failures.saturating_add(1);
        self.list_at = now + pause;
    }

    fn is_known(&self, recording_sid: RecordingSid) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.is_known(recording_sid))
    }

    fn is_missing(&self, recording_sid: RecordingSid) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.is_missing(recording_sid))
    }

    fn has_call(&self, call_sid: CallSid) -> bool {
        self.mark.as_ref().is_some_and(|mark| mark.has_call(call_sid))
    }

    fn note_known(&mut self, recording_sid: RecordingSid, call_sid: Option<CallSid>) {
        self.is_changed |= self.mark.as_mut().is_some_and(|mark| mark.note_known(recording_sid, call_sid));
    }
}

impl List {
    fn take(&mut self, found: &FoundRecording, candidates: &mut VecDeque<Candidate>) {
        let FoundRecording { recording_sid, call_sid, status, is_message, created_at } = *found;
        self.newest = self.newest.max(Some(created_at));
        if !is_message || created_at < self.since {
            return;
        }
        match status {
            RecordingStatus::Completed => {
                candidates.push_back(Candidate { recording_sid, call_sid, created_at: Some(created_at) });
            }
            RecordingStatus::InProgress => self.hold(created_at),
            RecordingStatus::Absent | RecordingStatus::Failed => {}
        }
    }

    fn hold(&mut self, at: Timestamp) {
        self.held = Some(self.held.map_or(at, |held| held.min(at)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{limits::KNOWN_RECORDINGS_MAX, twilio::webhook::CallStatus};

    const OURS: &str = "+97231234567";

    fn at(seconds: i64) -> Timestamp {
        Timestamp::new(1_800_000_000 + seconds, 0).unwrap()
    }

    fn call(number: u128) -> CallSid {
        CallSid::from_number(number)
    }

    fn recording(number: u128) -> RecordingSid {
        RecordingSid::from_number(number)
    }

    /// The recording of the call of the same number, made at so many seconds.
    fn found(number: u128, seconds: i64) -> FoundRecording {
        FoundRecording {
            recording_sid: recording(number),
            call_sid: call(number),
            status: RecordingStatus::Completed,
            is_message: true,
            created_at: at(seconds),
        }
    }

    fn page(recordings: Vec<FoundRecording>) -> Option<RecordingsPage> {
        Some(RecordingsPage { recordings, next: None })
    }

    fn details(to: &str, status: CallStatus) -> CallDetails {
        CallDetails {
            status,
            from: "+972501234567".into(),
            to: to.into(),
            direction: Some(Direction::Inbound),
            started_at: Some(at(0)),
            ended_at: Some(at(40)),
        }
    }

    fn over(to: &str) -> Result<CallDetails, CallLookup> {
        Ok(details(to, CallStatus::Completed))
    }

    fn marked() -> Mark {
        Mark { begun: at(-1_000_000), ..Mark::at(at(0)) }
    }

    fn drain(machine: &mut CatchUp) -> Vec<Output> {
        std::iter::from_fn(|| machine.poll_output()).collect()
    }

    /// With a mark, and its first list asked for.
    fn listing(now: Instant) -> CatchUp {
        let mut machine = CatchUp::new(Some(marked()), now);
        machine.handle_answered(OURS);
        machine.handle_timeout(now);
        assert_eq!(drain(&mut machine), [Output::List { since: at(-3_600), next: None }]);
        machine
    }

    fn saved(outputs: &[Output]) -> &Mark {
        outputs
            .iter()
            .find_map(|output| if let Output::Save(mark) = output { Some(mark) } else { None })
            .expect("saved")
    }

    #[test]
    fn what_twilio_did_not_give_in_time_is_asked_for_once_more_also_after_a_restart() {
        let mut now = Instant::now();
        let mut machine = listing(now);
        machine.handle_page(page(vec![]), now);
        machine.handle_missing(recording(1), call(1));
        machine.handle_known(recording(1), call(1));
        machine.handle_timeout(now);
        let mark = saved(&drain(&mut machine)).clone();
        assert_eq!(mark.known, []);

        let json = serde_json::to_string(&mark).unwrap();
        let mut machine = CatchUp::new(Some(serde_json::from_str(&json).unwrap()), now);
        machine.handle_timeout(now);
        assert!(matches!(drain(&mut machine)[..], [Output::List { .. }]));
        machine.handle_page(page(vec![found(1, 10)]), now);
        // Announced or listed makes no difference: its record names it, and its audio is not here.
        assert_eq!(drain(&mut machine), [Output::Find { call_sid: call(1) }]);
        let is_final = Standing::Final { recording_sid: Some(recording(1)), is_safe: false };
        machine.handle_standing(Some(is_final), now);
        let fetch = Output::FetchLate { call_sid: call(1), recording_sid: recording(1) };
        assert_eq!(drain(&mut machine), std::slice::from_ref(&fetch));
        machine.handle_late(false, now);
        now += UNREACHABLE_PAUSE;
        machine.handle_timeout(now);
        machine.handle_page(page(vec![]), now);
        assert_eq!(drain(&mut machine).last(), Some(&Output::Find { call_sid: call(1) }), "Twilio was not there");
        machine.handle_standing(Some(Standing::Nothing), now);
        assert_eq!(drain(&mut machine), [fetch], "the store has let go of its record meanwhile");
        machine.handle_late(true, now);
        let mark = saved(&drain(&mut machine)).clone();
        assert_eq!((mark.missing.len(), mark.known), (0, [(recording(1), Some(call(1)))].into()));
    }

    #[test]
    fn a_new_box_begins_at_twilios_now_and_takes_nothing_older() {
        let now = Instant::now();
        let mut machine = CatchUp::new(None, now);
        machine.handle_timeout(now);
        assert_eq!(drain(&mut machine), [Output::AskTime]);
        machine.handle_time(None, now);
        assert_eq!(machine.poll_timeout().unwrap().0, now + UNREACHABLE_PAUSE);
        machine.handle_timeout(now + UNREACHABLE_PAUSE);
        assert_eq!(drain(&mut machine), [Output::AskTime]);
        machine.handle_time(Some(at(0)), now);
        assert_eq!(saved(&drain(&mut machine)).since, at(0));
        let later = machine.poll_timeout().unwrap().0;
        assert_eq!(later, now + LIST_EVERY);
        machine.handle_timeout(later);
        assert_eq!(drain(&mut machine), [Output::List { since: at(0), next: None }]);
        machine.handle_page(page(vec![found(1, -5)]), later);
        assert_eq!(drain(&mut machine), [], "made before the box was there");
    }

    #[test]
    fn a_recording_without_a_record_gets_one_and_the_mark_follows_once_it_is_kept() {
        let now = Instant::now();
        let mut machine = listing(now);
        machine.handle_page(page(vec![found(2, 60), found(1, 50)]), now);
        for number in [2, 1] {
            assert_eq!(drain(&mut machine), [Output::Find { call_sid: call(number) }]);
            machine.handle_standing(Some(Standing::Nothing), now);
            assert_eq!(drain(&mut machine), [Output::AskCall { call_sid: call(number) }]);
            machine.handle_call(over(OURS), now);
            let adopted = drain(&mut machine);
            let [Output::Adopt { recording_sid, call_sid, created_at, .. }] = adopted.as_slice() else {
                panic!("{adopted:?}")
            };
            assert_eq!((*recording_sid, *call_sid), (recording(number), call(number)));
            assert_eq!(*created_at, at(40 + 10 * number as i64));
            machine.handle_adopted(true, now);
        }
        assert_eq!(saved(&drain(&mut machine)).since, at(60));
        assert_eq!(machine.poll_timeout().unwrap().0, now + LIST_EVERY);
    }

    #[test]
    fn a_record_that_cannot_be_kept_holds_the_mark_and_is_asked_for_again() {
        let now = Instant::now();
        let mut machine = listing(now);
        machine.handle_page(page(vec![found(1, 50)]), now);
        machine.handle_standing(Some(Standing::Nothing), now);
        machine.handle_call(over(OURS), now);
        machine.handle_adopted(false, now);
        assert!(!drain(&mut machine).iter().any(|output| matches!(output, Output::Save(_))));
        let again = machine.poll_timeout().unwrap().0;
        assert_eq!(again, now + UNREACHABLE_PAUSE);
        machine.handle_timeout(again);
        assert_eq!(drain(&mut machine), [Output::List { since: at(-3_600), next: None }]);
    }

    #[test]
    fn calls_that_live_or_wait_are_left_to_their_owners_and_known_ones_are_not_asked_for_twice() {
        let now = Instant::now();
        let mut machine = listing(now);
        let silent = FoundRecording { status: RecordingStatus::Absent, ..found(6, 60) };
        let dialled = FoundRecording { is_message: false, ..found(7, 60) };
        machine.handle_page(page(vec![silent, dialled, found(1, 60), found(2, 60), found(3, 60), found(4, 60)]), now);
        let safe = |recording_sid| Standing::Final { recording_sid, is_safe: true };
        machine.handle_standing(Some(Standing::Owned), now);
        machine.handle_standing(Some(safe(Some(recording(2)))), now);
        machine.handle_standing(Some(Standing::Final { recording_sid: Some(recording(3)), is_safe: false }), now);
        machine.handle_standing(Some(Standing::Unfindable), now);
        let outputs = drain(&mut machine);
        let asked =
            outputs.iter().filter(|output| matches!(output, Output::AskCall { .. } | Output::Adopt { .. })).count();
        assert_eq!(asked, 0, "{outputs:?}");
        assert!(outputs.contains(&Output::Deletable { recording_sid: recording(2) }));
        assert!(!outputs.contains(&Output::Deletable { recording_sid: recording(3) }));
        let later = machine.poll_timeout().unwrap().0;
        machine.handle_timeout(later);
        drain(&mut machine);
        machine.handle_page(page(vec![found(1, 60), found(2, 60), found(3, 60), found(4, 60)]), later);
        assert_eq!(drain(&mut machine), [Output::Find { call_sid: call(1) }]);
        machine.handle_standing(Some(Standing::Owned), later);
        assert_eq!(drain(&mut machine), []);
    }

    #[test]
    fn what_comes_after_its_calls_record_was_final_is_kept_as_late_once() {
        let now = Instant::now();
        let mut machine = listing(now);
        let second = FoundRecording { call_sid: call(1), ..found(2, 61) };
        machine.handle_page(page(vec![second.clone(), found(1, 60)]), now);
        machine.handle_standing(Some(Standing::Final { recording_sid: Some(recording(1)), is_safe: true }), now);
        let outputs = drain(&mut machine);
        assert!(outputs.contains(&Output::FetchLate { call_sid: call(1), recording_sid: recording(2) }), "{outputs:?}");
        machine.handle_late(true, now);
        machine.handle_standing(Some(Standing::Final { recording_sid: Some(recording(1)), is_safe: true }), now);
        drain(&mut machine);
        let later = machine.poll_timeout().unwrap().0;
        machine.handle_timeout(later);
        // The store has let go of the record meanwhile: the call gets no second one.
        let third = FoundRecording { call_sid: call(1), ..found(3, 62) };
        machine.handle_page(page(vec![third, second, found(1, 60)]), later);
        machine.handle_standing(Some(Standing::Nothing), later);
        let outputs = drain(&mut machine);
        assert!(outputs.contains(&Output::FetchLate { call_sid: call(1), recording_sid: recording(3) }), "{outputs:?}");
        assert!(!outputs.iter().any(|output| matches!(output, Output::AskCall { .. })));
        machine.handle_late(false, later);
        assert_eq!(machine.poll_timeout().unwrap().0, later + UNREACHABLE_PAUSE);
    }

    #[test]
    fn other_applications_recordings_are_left_alone_and_our_numbers_are_asked_for_once_a_list() {
        let now = Instant::now();
        let mut machine = CatchUp::new(Some(marked()), now);
        machine.handle_timeout(now);
        machine.handle_page(page(vec![found(1, 60), found(2, 61), found(3, 62), found(4, 63)]), now);
        machine.handle_standing(Some(Standing::Nothing), now);
        drain(&mut machine);
        machine.handle_call(over("+97236666666"), now);
        assert_eq!(drain(&mut machine), [Output::ListNumbers]);
        machine.handle_numbers(Some(vec![OURS.into()]), now);
        machine.handle_standing(Some(Standing::Nothing), now);
        machine.handle_call(over("+97236666666"), now);
        machine.handle_standing(Some(Standing::Nothing), now);
        let outbound = CallDetails { direction: Some(Direction::OutboundApi), ..details(OURS, CallStatus::Completed) };
        machine.handle_call(Ok(outbound), now);
        machine.handle_standing(Some(Standing::Nothing), now);
        let outputs = drain(&mut machine);
        assert!(
            !outputs.iter().any(|output| matches!(output, Output::Adopt { .. } | Output::ListNumbers)),
            "{outputs:?}"
        );
        machine.handle_call(over(OURS), now);
        assert!(matches!(drain(&mut machine)[..], [Output::Adopt { .. }]));
        machine.handle_adopted(true, now);
        let outputs = drain(&mut machine);
        assert!(saved(&outputs).known.iter().all(|(_, call)| call.is_none()), "another's call is none of ours");
    }

    #[test]
    fn what_is_not_over_holds_the_mark_and_is_looked_at_again_soon() {
        for first in [RecordingStatus::InProgress, RecordingStatus::Completed] {
            let now = Instant::now();
            let mut machine = listing(now);
            let running = FoundRecording { status: first, ..found(1, 50) };
            machine.handle_page(page(vec![found(2, 60), running]), now);
            machine.handle_standing(Some(Standing::Owned), now);
            if first == RecordingStatus::Completed {
                machine.handle_standing(Some(Standing::Nothing), now);
                machine.handle_call(Ok(details(OURS, CallStatus::InProgress)), now);
            }
            assert_eq!(saved(&drain(&mut machine)).since, at(50));
            assert_eq!(machine.poll_timeout().unwrap().0, now + LIST_AGAIN);
        }
    }

    #[test]
    fn an_announced_recording_is_looked_for_after_a_minute_and_needs_no_number() {
        let now = Instant::now();
        let mut machine = listing(now);
        machine.handle_page(page(vec![]), now);
        for _ in 0..3 {
            machine.handle_announced(recording(1), call(1), now);
        }
        assert_eq!(drain(&mut machine), []);
        let due = machine.poll_timeout().unwrap().0;
        assert_eq!(due, now + ANNOUNCED_MISSING);
        machine.handle_timeout(due);
        assert_eq!(drain(&mut machine), [Output::Find { call_sid: call(1) }]);
        machine.handle_standing(Some(Standing::Nothing), due);
        machine.handle_call(over("+97230000000"), due);
        let adopted = drain(&mut machine);
        assert!(matches!(adopted[..], [Output::AskCall { .. }, Output::Adopt { .. }]), "{adopted:?}");
        machine.handle_adopted(true, due);
        assert_eq!(machine.poll_timeout().unwrap().0, now + LIST_EVERY);
        for number in 0..2 * ANNOUNCED_MISSING_MAX as u128 {
            machine.handle_announced(recording(number), call(number), due);
        }
        assert_eq!(machine.announced.len(), ANNOUNCED_MISSING_MAX);
    }

    #[test]
    fn without_an_answer_all_of_it_is_asked_again_after_growing_pauses() {
        let mut now = Instant::now();
        let mut machine = listing(now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            machine.handle_page(None, now);
            let due = machine.poll_timeout().unwrap().0;
            pauses.push((due - now).as_secs());
            now = due;
            machine.handle_timeout(now);
        }
        assert_eq!(pauses[..4], [10, 20, 40, 80]);
        assert_eq!(pauses.last(), Some(&LIST_EVERY.as_secs()));
        drain(&mut machine);
        machine.handle_page(page(vec![found(1, 50)]), now);
        machine.handle_standing(None, now);
        assert!(!drain(&mut machine).iter().any(|output| matches!(output, Output::Save(_))));
        assert!(machine.poll_timeout().unwrap().0 > now);
    }

    #[test]
    fn what_is_remembered_is_bounded_and_survives_as_a_mark() {
        let now = Instant::now();
        let mut machine = listing(now);
        for number in 0..=KNOWN_RECORDINGS_MAX as u128 {
            machine.handle_known(recording(number), call(number));
        }
        machine.handle_page(page(vec![found(1, 50)]), now);
        let outputs = drain(&mut machine);
        let mark = saved(&outputs).clone();
        assert_eq!((mark.known.len(), mark.known[0].0), (KNOWN_RECORDINGS_MAX, recording(1)));
        let text = serde_json::to_string(&mark).unwrap();
        assert_eq!(serde_json::from_str::<Mark>(&text).unwrap(), mark);
    }

    #[test]
    fn answers_that_nobody_asked_for_change_nothing() {
        let now = Instant::now();
        let mut machine = listing(now);
        machine.handle_standing(Some(Standing::Nothing), now);
        machine.handle_call(over(OURS), now);
        machine.handle_numbers(Some(vec![]), now);
        machine.handle_adopted(true, now);
        machine.handle_time(Some(at(9)), now);
        assert_eq!(drain(&mut machine), []);
        machine.handle_page(page(vec![found(1, 50)]), now);
        assert_eq!(drain(&mut machine), [Output::Find { call_sid: call(1) }]);
    }
}
