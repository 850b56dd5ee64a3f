//! Which call's next utterance is asked for, and when: the engine's work, shared out. Pure.
//!
//! - Calls that go on come before those that are over, and take turns, an utterance each: so text comes while people speak.
//! - The others are served in the order in which they came, some utterances at a time, so that a call of hours holds nobody
//!   up.
//! - An engine that fails is left alone by its [`Circuit`], and what was asked is asked again: nothing is lost by it. Whether
//!   it is back is tried with a sound of our own, never with a caller's, which may be what brought it down.
//! - What it fails at, or refuses, again and again while it answers others is asked ever more seldom, and when its call is
//!   over in the end skipped, lest one sound bring it down for ever. One that refuses everything has a wrong setting, and is waited for.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, Instant},
};

use super::{
    circuit::{Admission, Circuit},
    recognizer::RecognizerError,
};
use crate::{
    limits::{FOLLOW_EVERY, UTTERANCE_FAILURES_MAX, UTTERANCES_IN_A_ROW_MAX},
    twilio::sid::CallSid,
};

/// From the second failure of one utterance, while others have their text, to the next try; twice as long each time.
const SUSPECT_PAUSE: Duration = Duration::from_secs(30);

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Ask the engine for this call's next utterance; then [`Transcription::handle_answer`], `handle_failure`,
    /// `handle_not_yet` where it has none by now, or `handle_finished` where it has none left.
    Ask(CallSid),
    /// Ask the engine for a harmless sound; then [`Transcription::handle_probed`].
    Probe,
    /// The utterance that this call was asked for last stays without text: the next one is behind it.
    Skip(CallSid),
}

/// The calls that are to be transcribed.
#[derive(Debug)]
pub struct Transcription {
    questions_max: usize,
    circuit: Circuit,
    /// By their turn.
    jobs: BTreeMap<u64, Job>,
    next_turn: u64,
    out: usize,
    /// Whether it failed since it answered last.
    is_failing: bool,
    /// What the engine has answered since the start.
    answers: u64,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Job {
    call_sid: CallSid,
    is_out: bool,
    /// The call is not over.
    goes_on: bool,
    /// When to look whether somebody has said something more.
    look_at: Option<Instant>,
    /// Utterances done in a row while others may have waited.
    in_a_row: u32,
    /// Its turn before its utterance failed, after which others are tried first.
    turn_before: Option<u64>,
    /// How often it failed although the engine had answered others since it failed before,
    blame: u32,
    /// how much the engine had answered then,
    answers_then: u64,
    /// and when it may be asked again.
    not_before: Option<Instant>,
}

impl Transcription {
    /// Nothing is to be done yet. So many questions may be with the engine at once.
    pub fn new(questions_max: usize) -> Self {
        Self {
            questions_max,
            circuit: Circuit::default(),
            jobs: BTreeMap::new(),
            next_turn: 0,
            out: 0,
            is_failing: false,
            answers: 0,
            outputs: VecDeque::new(),
        }
    }

    /// A call has begun, and is to be transcribed while it lasts.
    pub fn handle_followed(&mut self, call_sid: CallSid, now: Instant) {
        if self.job_of(call_sid).is_none() {
            self.queue(Job::new(call_sid, true, self.answers));
        }
        self.ask(now);
    }

    /// A call that is over is to be transcribed. One that was followed goes on from where it is.
    pub fn handle_wanted(&mut self, call_sid: CallSid, now: Instant) {
        match self.job_of(call_sid) {
            Some(job) => (job.goes_on, job.look_at) = (false, None),
            None => self.queue(Job::new(call_sid, false, self.answers)),
        }
        self.ask(now);
    }

    /// The call has no whole utterance by now; the engine was not asked.
    pub fn handle_not_yet(&mut self, call_sid: CallSid, now: Instant) {
        if let Some((_, job)) = self.came_back(call_sid) {
            // It may have ended meanwhile.
            job.look_at = job.goes_on.then(|| now + FOLLOW_EVERY);
            self.circuit.handle_withdrawal(now);
        }
        self.ask(now);
    }

    /// The utterance has its text.
    pub fn handle_answer(&mut self, call_sid: CallSid, now: Instant) {
        let has_others = self.jobs.len() > 1;
        let Some((turn, job)) = self.came_back(call_sid) else { return };
        job.settled();
        job.in_a_row += 1;
        let most = if job.goes_on { 1 } else { UTTERANCES_IN_A_ROW_MAX };
        if has_others && job.in_a_row >= most {
            job.in_a_row = 0;
            self.queue_again(turn);
        }
        self.answered();
        self.ask(now);
    }

    /// The engine was tried, and has answered or not.
    pub fn handle_probed(&mut self, answer: Result<(), &RecognizerError>, now: Instant) {
        self.out -= 1;
        match answer {
            Ok(()) => self.answered(),
            Err(error) => self.failed(error, now),
        }
        self.ask(now);
    }

    fn answered(&mut self) {
        self.answers += 1;
        if std::mem::take(&mut self.is_failing) {
            // It is back: those that it failed are served in their old order.
            let was_away = self.circuit.silent_since().is_some();
            let restored = |(turn, mut job): (u64, Job)| {
                job.not_before = job.not_before.filter(|_| !was_away);
                (job.turn_before.take().unwrap_or(turn), job)
            };
            self.jobs = std::mem::take(&mut self.jobs).into_iter().map(restored).collect();
        }
        self.circuit.handle_answer();
    }

    fn failed(&mut self, error: &RecognizerError, now: Instant) {
        if error.is_the_engines() {
            self.circuit.handle_failure(error, now);
        } else {
            // A refusal: of this sound, or of every one.
            self.circuit.handle_failure(&RecognizerError::Failed(error.to_string()), now);
        }
    }

    /// The utterance has no text, for this reason.
    pub fn handle_failure(&mut self, call_sid: CallSid, error: &RecognizerError, now: Instant) {
        let answers = self.answers;
        let Some((turn, job)) = self.came_back(call_sid) else { return };
        if answers > job.answers_then && may_be_the_sounds(error) {
            (job.blame, job.answers_then) = (job.blame + 1, answers);
            // The first time it may have been the engine's own bad moment.
            job.not_before = job.blame.checked_sub(2).map(|times| now + SUSPECT_PAUSE * 2_u32.saturating_pow(times));
        }
        if job.goes_on {
            // The engine may be overrun by the calls of this moment: nothing is given up before they are over.
            job.blame = job.blame.min(UTTERANCE_FAILURES_MAX - 1);
        }
        if job.blame >= UTTERANCE_FAILURES_MAX {
            job.settled();
            self.outputs.push_back(Output::Skip(call_sid));
        } else {
            job.turn_before.get_or_insert(turn);
            self.queue_again(turn);
            self.is_failing = true;
        }
        self.failed(error, now);
        self.ask(now);
    }

    /// The call has no utterance left, or nobody wants its text any more; the engine was not asked.
    pub fn handle_finished(&mut self, call_sid: CallSid, now: Instant) {
        if let Some((turn, _)) = self.came_back(call_sid) {
            self.jobs.remove(&turn);
            self.circuit.handle_withdrawal(now);
        }
        self.ask(now);
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.ask(now);
    }

    /// When the engine is asked again, if anything waits for it.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        if self.out >= self.questions_max {
            return None;
        }
        let idle = self.jobs.values().filter(|job| !job.is_out);
        // One without a time of its own waits for the circuit alone.
        let first = idle.map(|job| job.not_before.max(job.look_at)).min()?;
        match (first, self.circuit.poll_timeout()) {
            (Some(at), None) => Some((at, "an utterance is tried again")),
            (Some(at), Some((trial, why))) => Some((at.max(trial), why)),
            (None, trial) => trial,
        }
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Since when the engine does not answer.
    pub fn silent_since(&self) -> Option<Instant> {
        self.circuit.silent_since()
    }

    fn queue(&mut self, job: Job) {
        self.jobs.insert(self.next_turn, job);
        self.next_turn += 1;
    }

    fn queue_again(&mut self, turn: u64) {
        if let Some(job) = self.jobs.remove(&turn) {
            self.queue(job);
        }
    }

    fn job_of(&mut self, call_sid: CallSid) -> Option<&mut Job> {
        self.jobs.values_mut().find(|job| job.call_sid == call_sid)
    }

    fn came_back(&mut self, call_sid: CallSid) -> Option<(u64, &mut Job)> {
        let (turn, job) = self.jobs.iter_mut().find(|(_, job)| job.call_sid == call_sid && job.is_out)?;
        job.is_out = false;
        self.out -= 1;
        Some((*turn, job))
    }

    /// Asks for as much as may be asked for now.
    fn ask(&mut self, now: Instant) {
        while self.out < self.questions_max {
            let Some(job) = self.jobs.values_mut().filter(|job| job.may_be_asked(now)).min_by_key(|job| !job.goes_on)
            else {
                return;
            };
            let is_trial = self.circuit.silent_since().is_some();
            if self.circuit.admit(now) != Admission::Ask {
                return;
            }
            self.out += 1;
            if is_trial {
                return self.outputs.push_back(Output::Probe);
            }
            job.is_out = true;
            self.outputs.push_back(Output::Ask(job.call_sid));
        }
    }
}

impl Job {
    fn new(call_sid: CallSid, goes_on: bool, answers_then: u64) -> Self {
        Self {
            call_sid,
            is_out: false,
            goes_on,
            look_at: None,
            in_a_row: 0,
            turn_before: None,
            blame: 0,
            answers_then,
            not_before: None,
        }
    }

    fn may_be_asked(&self, now: Instant) -> bool {
        !self.is_out && self.not_before.max(self.look_at).is_none_or(|at| at <= now)
    }

    /// Its next utterance begins with a clean sheet.
    fn settled(&mut self) {
        (self.turn_before, self.blame, self.not_before) = (None, 0, None);
    }
}

/// Whether a sound, and not only the engine or the way to it, can be the reason.
fn may_be_the_sounds(error: &RecognizerError) -> bool {
    use RecognizerError::{BadAnswer, Broken, Busy, Credentials, Failed, Length, NotTaken, TimedOut, Unreachable};
    match error {
        Broken | Failed(_) | BadAnswer(_) | TimedOut | NotTaken(_) | Length(_) => true,
        Unreachable(_) | Credentials | Busy(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::CIRCUIT_FAILURES_MAX;

    fn call(number: u128) -> CallSid {
        CallSid::from_number(number)
    }

    fn drain(desk: &mut Transcription) -> Vec<Output> {
        std::iter::from_fn(|| desk.poll_output()).collect()
    }

    fn asks(numbers: &[u128]) -> Vec<Output> {
        numbers.iter().map(|number| Output::Ask(call(*number))).collect()
    }

    fn desk_of(calls: u128, questions_max: usize, now: Instant) -> Transcription {
        let mut desk = Transcription::new(questions_max);
        (1..=calls).for_each(|number| desk.handle_wanted(call(number), now));
        desk
    }

    #[test]
    fn calls_are_served_in_their_order_and_a_long_one_gives_way_after_a_while() {
        let now = Instant::now();
        let mut desk = desk_of(3, 1, now);
        assert_eq!(drain(&mut desk), asks(&[1]));
        desk.handle_wanted(call(1), now);
        for _ in 1..UTTERANCES_IN_A_ROW_MAX {
            desk.handle_answer(call(1), now);
            assert_eq!(drain(&mut desk), asks(&[1]));
        }
        desk.handle_answer(call(1), now);
        assert_eq!(drain(&mut desk), asks(&[2]));
        desk.handle_finished(call(2), now);
        assert_eq!(drain(&mut desk), asks(&[3]));
        desk.handle_finished(call(3), now);
        assert_eq!(drain(&mut desk), asks(&[1]));
        desk.handle_finished(call(1), now);
        assert_eq!((drain(&mut desk), desk.poll_timeout()), (vec![], None));
    }

    #[test]
    fn no_more_is_asked_at_once_than_may_be_and_each_call_for_one_thing() {
        let now = Instant::now();
        let mut desk = desk_of(4, 3, now);
        assert_eq!(drain(&mut desk), asks(&[1, 2, 3]));
        desk.handle_answer(call(2), now);
        assert_eq!(drain(&mut desk), asks(&[2]), "its turn is not over");
        desk.handle_finished(call(1), now);
        assert_eq!(drain(&mut desk), asks(&[4]));
        let mut alone = desk_of(1, 3, now);
        assert_eq!(drain(&mut alone), asks(&[1]));
    }

    #[test]
    fn an_engine_that_is_away_is_tried_with_no_callers_voice_and_when_it_is_back_all_are_served_in_their_order() {
        let now = Instant::now();
        let mut desk = desk_of(4, 1, now);
        for _ in 0..CIRCUIT_FAILURES_MAX {
            let [Output::Ask(asked)] = drain(&mut desk)[..] else { panic!("one question") };
            desk.handle_failure(asked, &RecognizerError::Broken, now);
        }
        assert_eq!((drain(&mut desk), desk.silent_since()), (vec![], Some(now)));
        for _ in 0..20 {
            let (at, _) = desk.poll_timeout().expect("it is tried again");
            desk.handle_timeout(at);
            assert_eq!(drain(&mut desk), [Output::Probe]);
            desk.handle_probed(Err(&RecognizerError::TimedOut), at);
            assert_eq!(drain(&mut desk), [], "nothing is skipped for it");
        }
        let (at, _) = desk.poll_timeout().unwrap();
        desk.handle_timeout(at);
        assert_eq!(drain(&mut desk), [Output::Probe]);
        desk.handle_probed(Ok(()), at);
        assert_eq!(desk.silent_since(), None);
        let mut served = Vec::new();
        while let Some(output) = desk.poll_output() {
            let Output::Ask(asked) = output else { panic!("{output:?}") };
            served.push(asked);
            desk.handle_finished(asked, at);
        }
        assert_eq!(served, [1, 2, 3, 4].map(call));
    }

    /// Call 1 fails so often, with this, while calls 2 and 3 have their text for so long. How often it was asked, whether
    /// it was skipped, and what the others were told.
    fn fails_alone(error: &RecognizerError, answers_max: u32) -> (u32, bool, u32) {
        let mut now = Instant::now();
        let mut desk = desk_of(3, 1, now);
        let (mut asked, mut answered) = (0, 0);
        while answered < answers_max {
            let Some(output) = desk.poll_output() else {
                (now, _) = desk.poll_timeout().expect("something is to be done");
                desk.handle_timeout(now);
                continue;
            };
            now += Duration::from_secs(5);
            match output {
                Output::Ask(one) if one == call(1) => {
                    asked += 1;
                    desk.handle_failure(one, error, now);
                }
                Output::Ask(one) => {
                    answered += 1;
                    desk.handle_answer(one, now);
                }
                Output::Probe => desk.handle_probed(Ok(()), now),
                Output::Skip(one) => return (asked, one == call(1), answered),
            }
        }
        (asked, false, answered)
    }

    #[test]
    fn a_sound_that_brings_the_engine_down_each_time_is_asked_ever_more_seldom_then_skipped_and_holds_up_no_other() {
        let (asked, is_skipped, answered) = fails_alone(&RecognizerError::Broken, 1_000);
        assert!(is_skipped && asked <= UTTERANCE_FAILURES_MAX + 1, "{asked}");
        assert!(answered > 90, "{answered}: not within some minutes");
    }

    #[test]
    fn who_is_too_busy_now_and_then_is_never_a_reason_to_skip_anything() {
        let (asked, is_skipped, _) = fails_alone(&RecognizerError::Busy(None), 500);
        assert!(asked > 10 && !is_skipped, "{asked}");
    }

    #[test]
    fn an_utterance_that_has_to_wait_is_asked_for_when_its_time_comes() {
        let start = Instant::now();
        let mut desk = desk_of(2, 1, start);
        desk.handle_failure(call(1), &RecognizerError::Broken, start);
        for _ in 0..2 {
            desk.handle_answer(call(2), start);
            desk.handle_failure(call(1), &RecognizerError::Broken, start);
        }
        drain(&mut desk);
        desk.handle_finished(call(2), start);
        assert_eq!((drain(&mut desk), desk.poll_timeout().unwrap().0), (vec![], start + SUSPECT_PAUSE));
        desk.handle_timeout(start + SUSPECT_PAUSE);
        assert_eq!(drain(&mut desk), asks(&[1]));
    }

    #[test]
    fn a_sound_that_is_refused_alone_is_skipped_in_the_end_and_an_engine_that_refuses_all_is_waited_for() {
        let refused = RecognizerError::NotTaken("no such model".into());
        let (_, is_skipped, _) = fails_alone(&refused, 1_000);
        assert!(is_skipped);
        let mut now = Instant::now();
        let mut desk = desk_of(2, 1, now);
        for _ in 0..200 {
            while let Some(output) = desk.poll_output() {
                match output {
                    Output::Ask(one) => desk.handle_failure(one, &refused, now),
                    Output::Probe => desk.handle_probed(Err(&refused), now),
                    Output::Skip(one) => panic!("{one} is skipped"),
                }
            }
            (now, _) = desk.poll_timeout().expect("it is tried again");
            desk.handle_timeout(now);
        }
        assert!(desk.silent_since().is_some(), "staff are told");
    }

    #[test]
    fn a_call_alone_with_a_sound_that_brings_the_engine_down_gets_the_rest_of_its_text() {
        let start = Instant::now();
        let (mut now, mut desk, mut asked) = (start, desk_of(1, 1, start), 0);
        loop {
            match desk.poll_output() {
                Some(Output::Ask(one)) => {
                    asked += 1;
                    desk.handle_failure(one, &RecognizerError::Broken, now);
                }
                Some(Output::Probe) => desk.handle_probed(Ok(()), now),
                Some(Output::Skip(_)) => break,
                None => {
                    (now, _) = desk.poll_timeout().expect("it is tried again");
                    desk.handle_timeout(now);
                }
            }
        }
        assert!(asked <= UTTERANCE_FAILURES_MAX * CIRCUIT_FAILURES_MAX + 1, "{asked}");
        assert!(now - start < Duration::from_secs(3_600), "{:?}", now - start);
    }

    #[test]
    fn calls_that_go_on_take_turns_an_utterance_each_and_come_before_those_that_are_over() {
        let now = Instant::now();
        let mut desk = desk_of(1, 1, now);
        assert_eq!(drain(&mut desk), asks(&[1]), "there was no other");
        (2..=4).for_each(|number| desk.handle_followed(call(number), now));
        desk.handle_answer(call(1), now);
        for _ in 0..3 {
            for number in 2..=4 {
                assert_eq!(drain(&mut desk), asks(&[number]));
                desk.handle_answer(call(number), now);
            }
        }
        assert_eq!(drain(&mut desk), asks(&[2]));
        desk.handle_not_yet(call(2), now);
        assert_eq!(drain(&mut desk), asks(&[3]), "who has said nothing does not hold up the others");
        desk.handle_not_yet(call(3), now);
        assert_eq!(drain(&mut desk), asks(&[4]));
        desk.handle_not_yet(call(4), now);
        assert_eq!(drain(&mut desk), asks(&[1]), "now there is time for what is over");
        desk.handle_answer(call(1), now + FOLLOW_EVERY);
        assert_eq!(drain(&mut desk), asks(&[2]));
    }

    #[test]
    fn a_call_that_goes_on_is_looked_at_again_and_one_that_is_over_at_once() {
        let now = Instant::now();
        let mut desk = Transcription::new(1);
        desk.handle_followed(call(1), now);
        desk.handle_followed(call(1), now);
        assert_eq!(drain(&mut desk), asks(&[1]));
        desk.handle_not_yet(call(1), now);
        assert_eq!(desk.poll_timeout().unwrap().0, now + FOLLOW_EVERY);
        desk.handle_timeout(now + FOLLOW_EVERY / 2);
        assert_eq!(drain(&mut desk), []);
        desk.handle_timeout(now + FOLLOW_EVERY);
        assert_eq!(drain(&mut desk), asks(&[1]));
        // It ends while its file is looked into.
        desk.handle_wanted(call(1), now + FOLLOW_EVERY);
        desk.handle_not_yet(call(1), now + FOLLOW_EVERY);
        assert_eq!(drain(&mut desk), asks(&[1]));
        desk.handle_finished(call(1), now + FOLLOW_EVERY);
        assert_eq!((drain(&mut desk), desk.poll_timeout()), (vec![], None));
        // And while it waits for the next look.
        desk.handle_followed(call(2), now);
        drain(&mut desk);
        desk.handle_not_yet(call(2), now);
        desk.handle_wanted(call(2), now);
        assert_eq!(drain(&mut desk), asks(&[2]));
    }

    #[test]
    fn a_look_that_finds_nothing_is_no_answer_of_an_engine_that_is_away() {
        let now = Instant::now();
        let mut desk = Transcription::new(1);
        desk.handle_followed(call(1), now);
        for _ in 0..CIRCUIT_FAILURES_MAX {
            assert_eq!(drain(&mut desk), asks(&[1]));
            desk.handle_failure(call(1), &RecognizerError::Broken, now);
        }
        assert_eq!((drain(&mut desk), desk.silent_since()), (vec![], Some(now)));
        let (at, _) = desk.poll_timeout().unwrap();
        desk.handle_timeout(at);
        assert_eq!(drain(&mut desk), [Output::Probe]);
        desk.handle_probed(Ok(()), at);
        assert_eq!(drain(&mut desk), asks(&[1]), "what it failed at is asked again");
        desk.handle_not_yet(call(1), at);
        assert_eq!(desk.silent_since(), None);
    }

    #[test]
    fn nothing_is_skipped_while_its_call_goes_on() {
        let (mut now, mut desk) = (Instant::now(), Transcription::new(1));
        desk.handle_followed(call(1), now);
        desk.handle_followed(call(2), now);
        let mut failed = 0;
        while failed < 3 * UTTERANCE_FAILURES_MAX {
            match desk.poll_output() {
                Some(Output::Ask(one)) if one == call(1) => {
                    failed += 1;
                    desk.handle_failure(one, &RecognizerError::TimedOut, now);
                }
                Some(Output::Ask(one)) => desk.handle_answer(one, now),
                Some(Output::Probe) => desk.handle_probed(Ok(()), now),
                Some(Output::Skip(one)) => panic!("{one} is skipped"),
                None => {
                    (now, _) = desk.poll_timeout().expect("something is to be done");
                    desk.handle_timeout(now);
                }
            }
            now += Duration::from_millis(1);
        }
    }
}
