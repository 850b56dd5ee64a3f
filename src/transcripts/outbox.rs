//! Which record goes to the office's system next, and when: one at a time, in order, patient. Pure.
//!
//! The machine never holds a record: it asks for the first unsynced one, has it sent, and has what came of it noted,
//! before it asks again. So the order is the store's, a backlog costs no memory, and while the upstream is away one
//! record at a time knocks.
//!
//! | the upstream's answer | what it means here |
//! | --- | --- |
//! | 2xx, 409 | acknowledged: noted as synced, then the next |
//! | 401, 403, 404, 405, 408, 425, 429, 3xx, 5xx, no answer | something is wrong with the upstream or its setting: all wait |
//! | any other 4xx | something is wrong with this record: it is parked, and the next goes on |

use std::time::{Duration, Instant};

use super::stored::Sequence;
use crate::{
    calls::canary::{Canary, sings},
    limits::RETRY_AFTER_MAX,
};

/// Staff are told after so many failures in a row,
pub const FAILURES_UNTIL_TOLD: u32 = 3;
/// or when the first of them is so long ago.
pub const FAILING_UNTIL_TOLD: Duration = Duration::from_secs(10);
/// The pause after the store could not be asked.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// How patient it is.
#[derive(Debug, Clone, Copy)]
pub struct OutboxOptions {
    /// The first pause after a failure; it doubles with each further one.
    pub retry_min: Duration,
    /// The longest pause, where the upstream does not ask for a longer one.
    pub retry_max: Duration,
    /// Any number, another one for each box, so that boxes do not knock in step.
    pub seed: u64,
}

/// What became of one sending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Delivery {
    /// The upstream has it.
    Acknowledged,
    /// The upstream will not take this record, whatever we do.
    Refused { status: u16 },
    /// Not now; perhaps not before `retry_after`.
    Failed { retry_after: Option<Duration> },
}

impl Delivery {
    /// What an HTTP status says, with the answer's `Retry-After`.
    pub fn of_status(status: u16, retry_after: Option<Duration>) -> Self {
        match status {
            200..=299 | 409 => Self::Acknowledged,
            401 | 403 | 404 | 405 | 408 | 425 | 429 => Self::Failed { retry_after },
            400..=499 => Self::Refused { status },
            _ => Self::Failed { retry_after },
        }
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// Ask the store for the first unsynced record; then [`Outbox::handle_loaded`].
    Load,
    /// Send the record that was loaded; then [`Outbox::handle_delivery`].
    Send { sequence: Sequence },
    /// Note durably that the upstream has it; then [`Outbox::handle_noted`].
    MarkSynced { sequence: Sequence },
    /// Note durably that the upstream refused it; then [`Outbox::handle_noted`].
    Park { sequence: Sequence, status: u16 },
}

/// What the store answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Loaded {
    Record(Sequence),
    /// Nothing is unsynced.
    Nothing,
    /// The store could not be asked.
    Unavailable,
}

/// The queue to the upstream.
#[derive(Debug)]
pub struct Outbox {
    options: OutboxOptions,
    state: State,
    /// Something became unsynced since the store was last asked.
    is_stale: bool,
    failures: u32,
    /// Since when nothing but failures came.
    failing_since: Option<Instant>,
    is_told: bool,
    random: u64,
    output: Option<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nothing is unsynced, as far as we know.
    Idle,
    Loading,
    Sending(Sequence),
    Noting(Sequence),
    Pausing {
        until: Instant,
    },
}

impl Outbox {
    /// It begins by asking the store.
    pub fn new(options: OutboxOptions) -> Self {
        Self {
            options,
            state: State::Loading,
            is_stale: false,
            failures: 0,
            failing_since: None,
            is_told: false,
            random: options.seed,
            output: Some(Output::Load),
        }
    }

    /// A record became unsynced: a new one is final, or a parked one is to be tried again.
    pub fn handle_unsynced(&mut self) {
        self.is_stale = true;
        if self.state == State::Idle {
            self.load();
        }
    }

    /// The store answered.
    pub fn handle_loaded(&mut self, loaded: Loaded, now: Instant) {
        if self.state != State::Loading {
            return;
        }
        match loaded {
            Loaded::Record(sequence) => {
                self.state = State::Sending(sequence);
                self.output = Some(Output::Send { sequence });
            }
            Loaded::Nothing if self.is_stale => self.load(),
            Loaded::Nothing => self.state = State::Idle,
            Loaded::Unavailable => self.state = State::Pausing { until: now + STORE_PAUSE },
        }
    }

    /// The upstream answered, or did not.
    pub fn handle_delivery(&mut self, sequence: Sequence, delivery: Delivery, now: Instant) {
        if self.state != State::Sending(sequence) {
            return;
        }
        match delivery {
            Delivery::Failed { .. } if sings(Canary::OutboxPassesOver) => {
                self.note(sequence, Output::MarkSynced { sequence });
            }
            Delivery::Acknowledged => self.note(sequence, Output::MarkSynced { sequence }),
            Delivery::Refused { status } => self.note(sequence, Output::Park { sequence, status }),
            Delivery::Failed { retry_after } => {
                self.failures = self.failures.saturating_add(1);
                self.failing_since.get_or_insert(now);
                self.is_told |= self.failures >= FAILURES_UNTIL_TOLD;
                let asked = retry_after.unwrap_or_default().min(RETRY_AFTER_MAX);
                self.state = State::Pausing { until: now + self.pause().max(asked) };
                self.tell_when_due(now);
            }
        }
    }

    /// What the upstream said of this record is durable.
    pub fn handle_noted(&mut self, sequence: Sequence) {
        if self.state == State::Noting(sequence) {
            self.load();
        }
    }

    pub fn handle_timeout(&mut self, now: Instant) {
        self.tell_when_due(now);
        if let State::Pausing { until } = self.state
            && until <= now
        {
            self.load();
        }
    }

    /// When to wake me, and why.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let retry = match self.state {
            State::Pausing { until } => Some((until, "the next try to sync is due")),
            _ => None,
        };
        let tell = self.failing_since.filter(|_| !self.is_told);
        let tell = tell.map(|since| (since + FAILING_UNTIL_TOLD, "staff are to be told that syncing fails"));
        retry.into_iter().chain(tell).min_by_key(|(at, _)| *at)
    }

    pub fn poll_output(&mut self) -> Option<Output> {
        self.output.take()
    }

    /// Whether staff are to be told that the upstream cannot be reached: until the first success.
    pub fn is_in_trouble(&self) -> bool {
        self.is_told
    }

    /// Failures in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    fn load(&mut self) {
        self.is_stale = false;
        self.state = State::Loading;
        self.output = Some(Output::Load);
    }

    /// The upstream is there: whatever it said of the record, it said something.
    fn note(&mut self, sequence: Sequence, output: Output) {
        self.failures = 0;
        self.failing_since = None;
        self.is_told = false;
        self.state = State::Noting(sequence);
        self.output = Some(output);
        if sings(Canary::NoteNotAwaited) {
            self.state = State::Loading;
            self.output = Some(Output::Load);
        }
    }

    fn tell_when_due(&mut self, now: Instant) {
        self.is_told |= self.failing_since.is_some_and(|since| since + FAILING_UNTIL_TOLD <= now);
    }

    /// Between three quarters and the whole of the doubled pause, never below the least one.
    fn pause(&mut self) -> Duration {
        let doublings = self.failures.saturating_sub(1).min(31);
        let whole = self.options.retry_min.saturating_mul(1 << doublings).min(self.options.retry_max);
        let jitter = (whole / 4).mul_f64(self.random_fraction());
        (whole - jitter).max(self.options.retry_min.min(whole))
    }

    /// From 0 to below 1 (splitmix64: Steele, Lea and Flood 2014).
    fn random_fraction(&mut self) -> f64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Sequence = Sequence(1);
    const NOT_NOW: Delivery = Delivery::Failed { retry_after: None };

    fn outbox() -> Outbox {
        Outbox::new(OutboxOptions { retry_min: Duration::from_secs(1), retry_max: Duration::from_secs(300), seed: 7 })
    }

    /// An outbox that is sending the first record.
    fn sending(now: Instant) -> Outbox {
        let mut outbox = outbox();
        assert_eq!(outbox.poll_output(), Some(Output::Load));
        outbox.handle_loaded(Loaded::Record(FIRST), now);
        assert_eq!(outbox.poll_output(), Some(Output::Send { sequence: FIRST }));
        outbox
    }

    /// Fails once, and says how long the outbox then pauses; it is sending again afterwards.
    fn fail(outbox: &mut Outbox, delivery: Delivery, now: &mut Instant) -> Duration {
        outbox.handle_delivery(FIRST, delivery, *now);
        let failed_at = *now;
        loop {
            let (due, _) = outbox.poll_timeout().expect("it will be tried again");
            *now = due;
            outbox.handle_timeout(due);
            if outbox.poll_output() == Some(Output::Load) {
                outbox.handle_loaded(Loaded::Record(FIRST), due);
                assert_eq!(outbox.poll_output(), Some(Output::Send { sequence: FIRST }));
                return due - failed_at;
            }
        }
    }

    #[test]
    fn statuses_mean_what_the_interface_says() {
        let after = Some(Duration::from_secs(3));
        for status in [200, 201, 204, 299, 409] {
            assert_eq!(Delivery::of_status(status, after), Delivery::Acknowledged, "{status}");
        }
        for status in [100, 301, 302, 308, 401, 403, 404, 405, 408, 425, 429, 500, 502, 503, 599, 600, 999] {
            assert_eq!(Delivery::of_status(status, after), Delivery::Failed { retry_after: after }, "{status}");
        }
        for status in [400, 402, 406, 407, 410, 411, 413, 415, 422, 426, 431, 451, 499] {
            assert_eq!(Delivery::of_status(status, after), Delivery::Refused { status }, "{status}");
        }
    }

    #[test]
    fn the_next_record_is_asked_for_only_when_the_acknowledgement_is_noted() {
        let now = Instant::now();
        let mut outbox = sending(now);
        outbox.handle_delivery(FIRST, Delivery::Acknowledged, now);
        assert_eq!(outbox.poll_output(), Some(Output::MarkSynced { sequence: FIRST }));
        outbox.handle_unsynced();
        assert_eq!((outbox.poll_output(), outbox.poll_timeout()), (None, None));
        outbox.handle_noted(FIRST);
        assert_eq!(outbox.poll_output(), Some(Output::Load));
    }

    #[test]
    fn a_refused_record_is_parked_and_the_next_goes_on() {
        let now = Instant::now();
        let mut outbox = sending(now);
        outbox.handle_delivery(FIRST, Delivery::Refused { status: 422 }, now);
        assert_eq!(outbox.poll_output(), Some(Output::Park { sequence: FIRST, status: 422 }));
        outbox.handle_noted(FIRST);
        assert_eq!(outbox.poll_output(), Some(Output::Load));
        outbox.handle_loaded(Loaded::Record(Sequence(2)), now);
        assert_eq!(outbox.poll_output(), Some(Output::Send { sequence: Sequence(2) }));
    }

    #[test]
    fn a_record_that_becomes_final_while_the_store_is_asked_is_not_forgotten() {
        let now = Instant::now();
        let mut outbox = outbox();
        outbox.poll_output();
        outbox.handle_unsynced();
        outbox.handle_loaded(Loaded::Nothing, now);
        assert_eq!(outbox.poll_output(), Some(Output::Load));
        outbox.handle_loaded(Loaded::Nothing, now);
        assert_eq!((outbox.poll_output(), outbox.poll_timeout()), (None, None));
        outbox.handle_unsynced();
        assert_eq!(outbox.poll_output(), Some(Output::Load));
    }

    #[test]
    fn pauses_double_up_to_the_longest_with_a_little_jitter() {
        let mut now = Instant::now();
        let mut outbox = sending(now);
        for whole in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            let pause = fail(&mut outbox, NOT_NOW, &mut now).as_secs_f64();
            assert!(pause <= f64::from(whole) && pause >= 1.0_f64.max(f64::from(whole) * 0.75), "{pause} of {whole}");
        }
        outbox.handle_delivery(FIRST, Delivery::Acknowledged, now);
        outbox.handle_noted(FIRST);
        outbox.poll_output();
        outbox.handle_loaded(Loaded::Record(FIRST), now);
        outbox.poll_output();
        assert!(fail(&mut outbox, NOT_NOW, &mut now) <= Duration::from_secs(1));
    }

    #[test]
    fn retry_after_is_honoured_beyond_the_longest_pause_but_at_most_a_day() {
        let mut now = Instant::now();
        let mut outbox = sending(now);
        let hour = Duration::from_secs(3600);
        assert_eq!(fail(&mut outbox, Delivery::Failed { retry_after: Some(hour) }, &mut now), hour);
        let week = Delivery::Failed { retry_after: Some(Duration::from_secs(7 * 86_400)) };
        assert_eq!(fail(&mut outbox, week, &mut now), RETRY_AFTER_MAX);
        let never = Delivery::Failed { retry_after: Some(Duration::MAX) };
        assert_eq!(fail(&mut outbox, never, &mut now), RETRY_AFTER_MAX);
    }

    #[test]
    fn a_retry_after_of_nothing_does_not_shorten_the_pause() {
        let mut now = Instant::now();
        let mut outbox = sending(now);
        let pause = fail(&mut outbox, Delivery::Failed { retry_after: Some(Duration::ZERO) }, &mut now);
        assert_eq!(pause, Duration::from_secs(1));
    }

    #[test]
    fn staff_are_told_at_the_third_failure_in_a_row_and_no_longer_after_a_success() {
        let mut now = Instant::now();
        let mut outbox = sending(now);
        fail(&mut outbox, NOT_NOW, &mut now);
        fail(&mut outbox, NOT_NOW, &mut now);
        assert!(!outbox.is_in_trouble());
        fail(&mut outbox, NOT_NOW, &mut now);
        assert!(outbox.is_in_trouble());
        outbox.handle_delivery(FIRST, Delivery::Acknowledged, now);
        assert!(!outbox.is_in_trouble());
    }

    #[test]
    fn staff_are_told_10_s_after_a_first_failure_whatever_happens_then() {
        let mut now = Instant::now();
        let mut outbox = sending(now);
        outbox.handle_delivery(FIRST, Delivery::Failed { retry_after: Some(Duration::from_secs(60)) }, now);
        let (due, _) = outbox.poll_timeout().unwrap();
        assert_eq!(due - now, FAILING_UNTIL_TOLD);
        now = due;
        outbox.handle_timeout(now);
        assert!(outbox.is_in_trouble());
        assert_eq!(outbox.poll_output(), None);
        assert_eq!(outbox.poll_timeout().unwrap().0 - now, Duration::from_secs(50));

        // Also while a sending hangs.
        let mut outbox = sending(now);
        fail(&mut outbox, NOT_NOW, &mut now);
        assert!(outbox.poll_timeout().unwrap().0 - now < FAILING_UNTIL_TOLD);
        outbox.handle_timeout(now + FAILING_UNTIL_TOLD);
        assert!(outbox.is_in_trouble());
    }

    #[test]
    fn a_parked_record_is_an_answer_and_ends_the_trouble() {
        let mut now = Instant::now();
        let mut outbox = sending(now);
        for _ in 0..3 {
            fail(&mut outbox, NOT_NOW, &mut now);
        }
        outbox.handle_delivery(FIRST, Delivery::Refused { status: 400 }, now);
        assert!(!outbox.is_in_trouble());
    }

    #[test]
    fn a_store_that_cannot_be_asked_is_asked_again_and_is_no_failure_of_the_upstream() {
        let now = Instant::now();
        let mut outbox = outbox();
        outbox.poll_output();
        outbox.handle_loaded(Loaded::Unavailable, now);
        let (due, _) = outbox.poll_timeout().unwrap();
        outbox.handle_timeout(due);
        assert_eq!(outbox.poll_output(), Some(Output::Load));
        assert_eq!((outbox.failures(), outbox.is_in_trouble()), (0, false));
    }

    #[test]
    fn answers_that_nobody_waits_for_change_nothing() {
        let now = Instant::now();
        let mut outbox = sending(now);
        outbox.handle_loaded(Loaded::Record(Sequence(9)), now);
        outbox.handle_noted(FIRST);
        outbox.handle_delivery(Sequence(9), Delivery::Acknowledged, now);
        assert_eq!(outbox.poll_output(), None);
        outbox.handle_delivery(FIRST, Delivery::Acknowledged, now);
        outbox.handle_delivery(FIRST, Delivery::Acknowledged, now);
        assert_eq!(outbox.poll_output(), Some(Output::MarkSynced { sequence: FIRST }));
        assert_eq!(outbox.poll_output(), None);
    }

    proptest! {
        /// An upstream that answers anything at all, over a store in which records keep becoming final.
        #[test]
        fn every_record_is_delivered_in_order_and_never_after_its_acknowledgement(
            seed: u64,
            answers in proptest::collection::vec(0u8..5, 1..60),
        ) {
            let mut now = Instant::now();
            let mut outbox = Outbox::new(OutboxOptions {
                retry_min: Duration::from_secs(1), retry_max: Duration::from_secs(300), seed,
            });
            let mut unsynced: std::collections::BTreeSet<u64> = [1].into();
            let (mut last, mut settled, mut answers) = (1, Vec::new(), answers.into_iter());
            loop {
                match outbox.poll_output() {
                    Some(Output::Load) => {
                        let loaded = unsynced.first().map_or(Loaded::Nothing, |first| Loaded::Record(Sequence(*first)));
                        outbox.handle_loaded(loaded, now);
                    }
                    Some(Output::Send { sequence }) => {
                        prop_assert!(!settled.contains(&sequence.0), "sent after it was noted");
                        prop_assert_eq!(Some(&sequence.0), unsynced.first());
                        if last < 10 {
                            last += 1;
                            unsynced.insert(last);
                            outbox.handle_unsynced();
                        }
                        outbox.handle_delivery(sequence, match answers.next().unwrap_or(0) {
                            0 => Delivery::Acknowledged,
                            1 => Delivery::Refused { status: 422 },
                            2 => Delivery::Failed { retry_after: Some(Duration::from_secs(600)) },
                            _ => NOT_NOW,
                        }, now);
                    }
                    Some(Output::MarkSynced { sequence } | Output::Park { sequence, .. }) => {
                        unsynced.remove(&sequence.0);
                        settled.push(sequence.0);
                        outbox.handle_noted(sequence);
                    }
                    None => match outbox.poll_timeout() {
                        Some((due, _)) => {
                            prop_assert!(due > now);
                            now = due;
                            outbox.handle_timeout(now);
                        }
                        None => break,
                    },
                }
            }
            prop_assert_eq!(settled, (1..=last).collect::<Vec<_>>());
        }
    }
}
