//! Which call's next utterance is asked for, and when: the engine's work, shared out. Pure.
//!
//! - Calls are served in the order in which they came, some utterances at a time, so that a call of hours holds nobody up.
//! - An engine that fails is left alone by its [`Circuit`], and what was asked is asked again: nothing is lost by it.
//! - What it fails at again and again while it answers others is skipped, lest one sound keep it busy for ever; a refusal
//!   of the one sound likewise. Until it has answered anything a refusal says that its setting is wrong, and is waited out.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Instant,
};

use super::{
    circuit::{Admission, Circuit},
    recognizer::RecognizerError,
};
use crate::{
    limits::{UTTERANCE_FAILURES_MAX, UTTERANCES_IN_A_ROW_MAX},
    twilio::sid::CallSid,
};

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Ask the engine for this call's next utterance; then [`Transcription::handle_answer`], `handle_failure`, or
    /// `handle_finished` where it has none left.
    Ask(CallSid),
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
    /// Utterances done in a row while others may have waited.
    in_a_row: u32,
    /// Its turn before its utterance failed, after which others are tried first.
    turn_before: Option<u64>,
    /// How often it failed although the engine had answered others since it failed before,
    blame: u32,
    /// and how much the engine had answered then.
    answers_then: u64,
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

    /// A call is to be transcribed, from its begin. One that is known already goes on.
    pub fn handle_wanted(&mut self, call_sid: CallSid, now: Instant) {
        if self.turn_of(call_sid).is_none() {
            let answers_then = self.answers;
            let job = Job { call_sid, is_out: false, in_a_row: 0, turn_before: None, blame: 0, answers_then };
            self.queue(job);
        }
        self.ask(now);
    }

    /// The utterance has its text.
    pub fn handle_answer(&mut self, call_sid: CallSid, now: Instant) {
        let has_others = self.jobs.len() > 1;
        let Some((turn, job)) = self.came_back(call_sid) else { return };
        job.settled();
        job.in_a_row += 1;
        if has_others && job.in_a_row >= UTTERANCES_IN_A_ROW_MAX {
            job.in_a_row = 0;
            self.queue_again(turn);
        }
        self.answers += 1;
        if std::mem::take(&mut self.is_failing) {
            // It is back: those that it failed are served in their old order.
            let jobs = std::mem::take(&mut self.jobs).into_iter();
            self.jobs = jobs.map(|(turn, mut job)| (job.turn_before.take().unwrap_or(turn), job)).collect();
        }
        self.circuit.handle_answer();
        self.ask(now);
    }

    /// The utterance has no text, for this reason.
    pub fn handle_failure(&mut self, call_sid: CallSid, error: &RecognizerError, now: Instant) {
        let answers = self.answers;
        let Some((turn, job)) = self.came_back(call_sid) else { return };
        let is_its_own = !error.is_the_engines() && answers > 0;
        if answers > job.answers_then {
            (job.blame, job.answers_then) = (job.blame + 1, answers);
        }
        if is_its_own || job.blame >= UTTERANCE_FAILURES_MAX {
            job.settled();
            self.outputs.push_back(Output::Skip(call_sid));
        } else {
            job.turn_before.get_or_insert(turn);
            self.queue_again(turn);
            self.is_failing = true;
        }
        if error.is_the_engines() || is_its_own {
            self.circuit.handle_failure(error, now);
        } else {
            self.circuit.handle_failure(&RecognizerError::Failed(error.to_string()), now);
        }
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

    /// When the engine is tried again, if anything waits for it.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let waits = self.out < self.questions_max && self.jobs.values().any(|job| !job.is_out);
        self.circuit.poll_timeout().filter(|_| waits)
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

    fn turn_of(&self, call_sid: CallSid) -> Option<u64> {
        self.jobs.iter().find(|(_, job)| job.call_sid == call_sid).map(|(turn, _)| *turn)
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
            let Some(job) = self.jobs.values_mut().find(|job| !job.is_out) else { return };
            if self.circuit.admit(now) != Admission::Ask {
                return;
            }
            job.is_out = true;
            self.out += 1;
            self.outputs.push_back(Output::Ask(job.call_sid));
        }
    }
}

impl Job {
    /// Its next utterance begins with a clean sheet.
    fn settled(&mut self) {
        (self.turn_before, self.blame) = (None, 0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::limits::{CIRCUIT_FAILURES_MAX, CIRCUIT_REST_MIN};

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
    fn an_engine_that_is_away_is_tried_now_and_then_and_when_it_is_back_all_are_served_in_their_order() {
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
            let [Output::Ask(asked)] = drain(&mut desk)[..] else { panic!("one question") };
            desk.handle_failure(asked, &RecognizerError::TimedOut, at);
            assert_eq!(drain(&mut desk), [], "nothing is skipped for it");
        }
        let (at, _) = desk.poll_timeout().unwrap();
        desk.handle_timeout(at);
        let [Output::Ask(first)] = drain(&mut desk)[..] else { panic!("one question") };
        desk.handle_answer(first, at);
        assert_eq!(desk.silent_since(), None);
        let mut served = Vec::new();
        desk.handle_finished(call(9), at);
        while let Some(output) = desk.poll_output() {
            let Output::Ask(asked) = output else { panic!("{output:?}") };
            served.push(asked);
            desk.handle_finished(asked, at);
        }
        assert_eq!(served, [1, 2, 3, 4].map(call));
    }

    #[test]
    fn a_sound_that_brings_the_engine_down_each_time_is_skipped_and_holds_up_no_other() {
        let mut now = Instant::now();
        let mut desk = desk_of(3, 1, now);
        let (mut answered, mut skipped) = (0, Vec::new());
        for _ in 0..100 {
            while let Some(output) = desk.poll_output() {
                match output {
                    Output::Ask(asked) if asked == call(1) && skipped.is_empty() => {
                        desk.handle_failure(asked, &RecognizerError::Broken, now);
                    }
                    Output::Ask(asked) if answered < 200 => {
                        answered += 1;
                        desk.handle_answer(asked, now);
                    }
                    Output::Ask(_) => return assert_eq!(skipped, [call(1)]),
                    Output::Skip(skip) => skipped.push(skip),
                }
            }
            now = desk.poll_timeout().map_or(now, |(at, _)| at);
            desk.handle_timeout(now);
        }
        panic!("{answered} answered, {skipped:?} skipped");
    }

    #[test]
    fn a_refusal_is_the_sounds_own_once_the_engine_has_answered_and_the_settings_before() {
        let now = Instant::now();
        let refused = || RecognizerError::NotTaken("no such model".into());
        let mut desk = desk_of(1, 1, now);
        for _ in 0..CIRCUIT_FAILURES_MAX {
            assert_eq!(drain(&mut desk), asks(&[1]));
            desk.handle_failure(call(1), &refused(), now);
        }
        assert_eq!((drain(&mut desk), desk.silent_since()), (vec![], Some(now)));
        desk.handle_timeout(now + CIRCUIT_REST_MIN);
        assert_eq!(drain(&mut desk), asks(&[1]));
        desk.handle_answer(call(1), now);
        assert_eq!(drain(&mut desk), asks(&[1]));
        desk.handle_failure(call(1), &refused(), now);
        assert_eq!(drain(&mut desk), [Output::Skip(call(1)), Output::Ask(call(1))]);
        assert_eq!(desk.silent_since(), None);
    }

    #[test]
    fn a_trial_for_which_there_was_nothing_to_ask_goes_to_the_next_call() {
        let now = Instant::now();
        let mut desk = desk_of(2, 1, now);
        for _ in 0..CIRCUIT_FAILURES_MAX {
            let [Output::Ask(asked)] = drain(&mut desk)[..] else { panic!("one question") };
            desk.handle_failure(asked, &RecognizerError::Broken, now);
        }
        let at = now + CIRCUIT_REST_MIN + Duration::from_secs(1);
        desk.handle_timeout(at);
        let [Output::Ask(first)] = drain(&mut desk)[..] else { panic!("one question") };
        desk.handle_finished(first, at);
        let [Output::Ask(second)] = drain(&mut desk)[..] else { panic!("one question") };
        assert_ne!(first, second);
        assert!(desk.silent_since().is_some());
    }
}
