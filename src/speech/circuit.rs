//! Leaves a speech engine alone that keeps failing, and looks now and then whether it is back.
//!
//! As a fuse does: *closed*, questions go through; *open*, none does, for a while that doubles with each failed try;
//! *half open*, one does, and decides.

use std::time::{Duration, Instant};

use super::recognizer::{RecognizerError, Repeat};
use crate::limits::{CIRCUIT_FAILURES_MAX, CIRCUIT_REST_MAX, CIRCUIT_REST_MIN};

/// What is known of one engine from how it answered.
#[derive(Debug, Clone)]
pub struct Circuit {
    state: State,
    /// In a row.
    failures: u32,
    /// How long it was left alone last.
    rest: Duration,
    /// When it failed first, since it answered last.
    failing_since: Option<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Instant },
    HalfOpen,
}

/// Whether a question may be asked now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It may. What became of it must be told with one of the `handle_` calls.
    Ask,
    /// Not before then, as things stand.
    NotBefore(Instant),
    /// One question is under way that decides; wait for it.
    AwaitTrial,
}

impl Default for Circuit {
    fn default() -> Self {
        Self { state: State::Closed, failures: 0, rest: Duration::ZERO, failing_since: None }
    }
}

impl Circuit {
    /// Asks for leave. An open circuit whose rest is over gives it once, as a trial.
    pub fn admit(&mut self, now: Instant) -> Admission {
        match self.state {
            State::Closed => Admission::Ask,
            State::Open { until } if now < until => Admission::NotBefore(until),
            State::Open { .. } => {
                self.state = State::HalfOpen;
                Admission::Ask
            }
            State::HalfOpen => Admission::AwaitTrial,
        }
    }

    /// A text came, or a refusal that says nothing against the engine.
    pub fn handle_answer(&mut self) {
        *self = Self::default();
    }

    /// No text came. What is not the engine's fault counts as an answer.
    pub fn handle_failure(&mut self, error: &RecognizerError, now: Instant) {
        if !error.is_the_engines() {
            return self.handle_answer();
        }
        self.failures = self.failures.saturating_add(1);
        self.failing_since.get_or_insert(now);
        let rest = match error.repeat() {
            // Only a person changes that, and a person can wait for so long.
            Repeat::Useless => CIRCUIT_REST_MAX,
            Repeat::After(pause) => pause.clamp(CIRCUIT_REST_MIN, CIRCUIT_REST_MAX),
            Repeat::MayHelp if self.state == State::Closed && self.failures < CIRCUIT_FAILURES_MAX => return,
            Repeat::MayHelp => (self.rest * 2).clamp(CIRCUIT_REST_MIN, CIRCUIT_REST_MAX),
        };
        // A question that was asked before the circuit opened may fail after it: it shortens nothing.
        let until = match self.state {
            State::Open { until } => until.max(now + rest),
            State::Closed | State::HalfOpen => now + rest,
        };
        self.rest = rest;
        self.state = State::Open { until };
    }

    /// The question was withdrawn: nothing was learnt, and the next one may be the trial.
    pub fn handle_withdrawal(&mut self, now: Instant) {
        if self.state == State::HalfOpen {
            self.state = State::Open { until: now };
        }
    }

    /// When a trial is due.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        match self.state {
            State::Open { until } => Some((until, "the speech engine is tried again")),
            State::Closed | State::HalfOpen => None,
        }
    }

    /// Since when it does not answer; `None` while it does, and while it has not failed often enough to say so.
    pub fn silent_since(&self) -> Option<Instant> {
        self.failing_since.filter(|_| self.state != State::Closed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn fail(circuit: &mut Circuit, at: Instant) {
        assert_eq!(circuit.admit(at), Admission::Ask);
        circuit.handle_failure(&RecognizerError::Broken, at);
    }

    fn opened(start: Instant) -> Circuit {
        let mut circuit = Circuit::default();
        for _ in 0..CIRCUIT_FAILURES_MAX {
            fail(&mut circuit, start);
        }
        circuit
    }

    #[test]
    fn it_opens_after_a_few_failures_in_a_row_and_an_answer_between_them_starts_anew() {
        let start = Instant::now();
        let mut circuit = Circuit::default();
        fail(&mut circuit, start);
        fail(&mut circuit, start + SECOND);
        assert_eq!((circuit.silent_since(), circuit.poll_timeout()), (None, None));
        circuit.handle_answer();
        fail(&mut circuit, start + 2 * SECOND);
        fail(&mut circuit, start + 3 * SECOND);
        fail(&mut circuit, start + 4 * SECOND);
        let until = start + 4 * SECOND + CIRCUIT_REST_MIN;
        assert_eq!(circuit.admit(start + 5 * SECOND), Admission::NotBefore(until));
        assert_eq!(circuit.silent_since(), Some(start + 2 * SECOND), "the first failure, not the last");
        assert_eq!(circuit.poll_timeout().map(|(at, _)| at), Some(until));
    }

    #[test]
    fn one_question_tries_and_decides() {
        let start = Instant::now();
        let mut circuit = opened(start);
        let due = start + CIRCUIT_REST_MIN;
        assert_eq!(circuit.admit(due), Admission::Ask);
        assert_eq!(circuit.admit(due), Admission::AwaitTrial);
        assert_eq!(circuit.silent_since(), Some(start));
        circuit.handle_answer();
        assert_eq!((circuit.admit(due), circuit.silent_since()), (Admission::Ask, None));
    }

    #[test]
    fn each_trial_that_fails_doubles_the_rest_up_to_its_limit() {
        let start = Instant::now();
        let mut circuit = opened(start);
        let mut rest = CIRCUIT_REST_MIN;
        let mut now = start;
        for _ in 0..12 {
            assert_eq!(circuit.admit(now), Admission::NotBefore(now + rest));
            now += rest;
            fail(&mut circuit, now);
            rest = (rest * 2).min(CIRCUIT_REST_MAX);
        }
        assert_eq!(rest, CIRCUIT_REST_MAX);
        assert_eq!(circuit.silent_since(), Some(start));
    }

    #[test]
    fn what_only_a_person_changes_opens_at_once_and_a_pause_that_is_asked_for_is_kept() {
        let start = Instant::now();
        for (error, rest) in [
            (RecognizerError::Credentials, CIRCUIT_REST_MAX),
            (RecognizerError::Busy(Some(17 * SECOND)), 17 * SECOND),
            (RecognizerError::Busy(Some(Duration::ZERO)), CIRCUIT_REST_MIN),
            (RecognizerError::Busy(Some(9_999 * SECOND)), CIRCUIT_REST_MAX),
        ] {
            let mut circuit = Circuit::default();
            circuit.handle_failure(&error, start);
            assert_eq!(circuit.admit(start), Admission::NotBefore(start + rest), "{error}");
        }
    }

    #[test]
    fn a_question_that_cannot_be_answered_says_nothing_against_the_engine() {
        let start = Instant::now();
        let mut circuit = opened(start);
        assert_eq!(circuit.admit(start + CIRCUIT_REST_MIN), Admission::Ask);
        circuit.handle_failure(&RecognizerError::NotTaken("no such model".into()), start + CIRCUIT_REST_MIN);
        assert_eq!(circuit.admit(start + CIRCUIT_REST_MIN), Admission::Ask);
        assert_eq!(circuit.silent_since(), None);
    }

    #[test]
    fn a_withdrawn_trial_leaves_its_place_to_the_next_and_late_failures_shorten_nothing() {
        let start = Instant::now();
        let mut circuit = opened(start);
        let due = start + CIRCUIT_REST_MIN;
        assert_eq!(circuit.admit(due), Admission::Ask);
        circuit.handle_withdrawal(due);
        assert_eq!(circuit.admit(due), Admission::Ask);

        let mut circuit = Circuit::default();
        circuit.handle_failure(&RecognizerError::Credentials, start);
        circuit.handle_failure(&RecognizerError::Broken, start + SECOND);
        assert!(
            matches!(circuit.admit(start + SECOND), Admission::NotBefore(until) if until >= start + CIRCUIT_REST_MAX)
        );
    }
}
