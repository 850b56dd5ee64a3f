//! One call's way to the recorder by REST: tries, waits between them, and what each result means. Pure.

use std::time::{Duration, Instant};

use super::{AttemptId, FallbackReason, PromptForm};
use crate::{
    limits::{REST_ANSWER_MAX, REST_CONNECT_MAX},
    twilio::rest::UpdateOutcome,
};

/// A result that has not come by then is lost: the client's own time-outs, and room to spare.
pub(super) const ATTEMPT_MAX: Duration =
    REST_CONNECT_MAX.saturating_add(REST_ANSWER_MAX).saturating_add(REST_ANSWER_MAX);
/// Between tries while the credentials are refused.
const UNAUTHORIZED_WAIT: Duration = Duration::from_secs(30);
/// The first wait between tries; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(500);
const BACKOFF_MAX: Duration = Duration::from_secs(8);
/// A `Retry-After` is obeyed up to this: a caller is waiting in silence.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(30);
/// Calls that failed together try again this far apart, by their slots.
const SPREAD_STEP: Duration = Duration::from_millis(20);

/// A redirect that was decided and is not yet known to be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// What it was decided for.
    pub reason: FallbackReason,
    /// When the deadline came.
    pub decided_at: Instant,
    stage: Stage,
    tries: u32,
    /// The next try carries no prompts: Twilio refused the full document.
    bare: bool,
    /// A try went out whose answer was lost: it may have been applied.
    unsure: bool,
    /// Its acceptance was told and counted.
    pub told: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Waiting { until: Instant },
    Outstanding { attempt: AttemptId, until: Instant },
    GivenUp,
}

/// What a result means for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Twilio runs the recorder's document.
    Accepted,
    /// The call is over.
    CallOver,
    /// It is tried again at [`Redirect::due_at`].
    TryAgain,
    /// It will not be tried again.
    GivenUp,
    /// The result of a try that no longer counts.
    Stale,
}

impl Redirect {
    /// A redirect whose first try is due now.
    pub fn new(reason: FallbackReason, now: Instant) -> Self {
        Self {
            reason,
            decided_at: now,
            stage: Stage::Waiting { until: now },
            tries: 0,
            bare: false,
            unsure: false,
            told: false,
        }
    }

    /// When the next try is due, or when an outstanding one's answer counts as lost.
    pub fn due_at(&self) -> Option<Instant> {
        match self.stage {
            Stage::Waiting { until } | Stage::Outstanding { until, .. } => Some(until),
            Stage::GivenUp => None,
        }
    }

    /// Whether the next try is due.
    pub fn is_due(&self, now: Instant) -> bool {
        matches!(self.stage, Stage::Waiting { until } if until <= now)
    }

    /// The try whose answer is overdue, if one is.
    pub fn overdue(&self, now: Instant) -> Option<AttemptId> {
        match self.stage {
            Stage::Outstanding { attempt, until } if until <= now => Some(attempt),
            _ => None,
        }
    }

    /// Whether a try may have been applied without our knowing: then a sign of it counts as acceptance.
    pub fn may_be_applied(&self) -> bool {
        self.unsure || self.is_outstanding()
    }

    /// Whether a try's answer is still to come.
    pub fn is_outstanding(&self) -> bool {
        matches!(self.stage, Stage::Outstanding { .. })
    }

    /// Whether just one try went out.
    pub fn is_first_try(&self) -> bool {
        self.tries == 1
    }

    /// Whether it will never be tried again.
    pub fn is_given_up(&self) -> bool {
        self.stage == Stage::GivenUp
    }

    /// Notes that this try goes out now, and says in which form.
    pub fn send(&mut self, attempt: AttemptId, full: PromptForm, now: Instant) -> PromptForm {
        self.tries += 1;
        self.stage = Stage::Outstanding { attempt, until: now + ATTEMPT_MAX };
        if self.bare { PromptForm::Bare } else { full }
    }

    /// Reads a try's result.
    pub fn handle_outcome(&mut self, attempt: AttemptId, outcome: UpdateOutcome, now: Instant) -> Verdict {
        if !matches!(self.stage, Stage::Outstanding { attempt: current, .. } if current == attempt) {
            return Verdict::Stale;
        }
        let wait = match outcome {
            UpdateOutcome::Accepted => return Verdict::Accepted,
            UpdateOutcome::CallOver => return Verdict::CallOver,
            UpdateOutcome::NotFound => None,
            UpdateOutcome::Refused { .. } if self.bare => None,
            UpdateOutcome::Refused { .. } => {
                self.bare = true;
                Some(Duration::ZERO)
            }
            UpdateOutcome::Unauthorized => Some(UNAUTHORIZED_WAIT),
            UpdateOutcome::Throttled { retry_after } => {
                let backoff = self.backoff(attempt);
                Some(retry_after.map_or(backoff, |wait| wait.min(RETRY_AFTER_MAX).max(backoff)))
            }
            UpdateOutcome::Unavailable => Some(self.backoff(attempt)),
            UpdateOutcome::TimedOut => {
                self.unsure = true;
                Some(self.backoff(attempt))
            }
        };
        match wait {
            Some(wait) => {
                self.stage = Stage::Waiting { until: now + wait };
                Verdict::TryAgain
            }
            None => {
                self.stage = Stage::GivenUp;
                Verdict::GivenUp
            }
        }
    }

    fn backoff(&self, attempt: AttemptId) -> Duration {
        let doublings = self.tries.saturating_sub(1).min(8);
        let spread = SPREAD_STEP * u32::from(attempt.call.slot % 32);
        (BACKOFF_MIN * (1 << doublings)).min(BACKOFF_MAX) + spread
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calls::{CallKey, Table};

    const SECOND: Duration = Duration::from_secs(1);

    fn attempt(number: u32) -> AttemptId {
        AttemptId { call: CallKey { table: Table::Streams, slot: 0, generation: 1 }, number }
    }

    fn sent(now: Instant) -> Redirect {
        let mut redirect = Redirect::new(FallbackReason::NoMedia, now);
        assert!(redirect.is_due(now));
        assert_eq!(redirect.send(attempt(1), PromptForm::Play, now), PromptForm::Play);
        redirect
    }

    #[test]
    fn what_may_pass_is_tried_again_after_growing_waits() {
        let now = Instant::now();
        let mut redirect = sent(now);
        for (number, wait_ms) in [(1, 500), (2, 1_000), (3, 2_000), (4, 4_000), (5, 8_000), (6, 8_000)] {
            assert_eq!(redirect.handle_outcome(attempt(number), UpdateOutcome::Unavailable, now), Verdict::TryAgain);
            assert_eq!(redirect.due_at(), Some(now + Duration::from_millis(wait_ms)));
            redirect.send(attempt(number + 1), PromptForm::Say, now);
        }
    }

    #[test]
    fn a_refused_document_is_tried_once_more_without_prompts_and_then_given_up() {
        let now = Instant::now();
        let mut redirect = sent(now);
        let refused = UpdateOutcome::Refused { code: 12_100 };
        assert_eq!(redirect.handle_outcome(attempt(1), refused, now), Verdict::TryAgain);
        assert!(redirect.is_due(now));
        assert_eq!(redirect.send(attempt(2), PromptForm::Play, now), PromptForm::Bare);
        assert_eq!(redirect.handle_outcome(attempt(2), refused, now), Verdict::GivenUp);
        assert_eq!(redirect.due_at(), None);
    }

    #[test]
    fn refused_credentials_wait_half_a_minute_and_an_unknown_call_is_given_up() {
        let now = Instant::now();
        let mut redirect = sent(now);
        assert_eq!(redirect.handle_outcome(attempt(1), UpdateOutcome::Unauthorized, now), Verdict::TryAgain);
        assert_eq!(redirect.due_at(), Some(now + 30 * SECOND));
        let mut redirect = sent(now);
        assert_eq!(redirect.handle_outcome(attempt(1), UpdateOutcome::NotFound, now), Verdict::GivenUp);
        assert!(redirect.is_given_up());
    }

    #[test]
    fn retry_after_is_obeyed_but_not_beyond_what_a_caller_can_bear() {
        let now = Instant::now();
        for (asked, waited) in [(Some(3), 3_000), (Some(3_600), 30_000), (None, 500)] {
            let mut redirect = sent(now);
            let outcome = UpdateOutcome::Throttled { retry_after: asked.map(Duration::from_secs) };
            redirect.handle_outcome(attempt(1), outcome, now);
            assert_eq!(redirect.due_at(), Some(now + Duration::from_millis(waited)));
        }
    }

    #[test]
    fn a_lost_answer_leaves_it_open_whether_the_redirect_was_applied() {
        let now = Instant::now();
        let mut redirect = sent(now);
        assert!(redirect.may_be_applied());
        redirect.handle_outcome(attempt(1), UpdateOutcome::TimedOut, now);
        assert!(redirect.may_be_applied());
        let mut redirect = sent(now);
        redirect.handle_outcome(attempt(1), UpdateOutcome::Unavailable, now);
        assert!(!redirect.may_be_applied());
        assert_eq!(redirect.handle_outcome(attempt(1), UpdateOutcome::Accepted, now), Verdict::Stale);
    }
}
