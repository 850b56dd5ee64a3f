//! How often the log explains why signatures are refused: a stranger who sends many must not flood it.

use std::time::Instant;

use crate::{
    limits::{SIGNATURE_DOUBTED_EVERY, SIGNATURE_EXPLAINED_EVERY},
    twilio::signature_doubt::Reason,
};

/// What was refused and told.
#[derive(Debug, Default)]
pub struct Refusals {
    doubted_at: Option<Instant>,
    explained_at: [Option<Instant>; Reason::COUNT],
    /// Refused since the last explanation, and not explained.
    unexplained: u64,
}

impl Refusals {
    /// Whether it may be looked for what a signature was made for, which is not cheap. If not, it is only counted.
    pub fn may_doubt(&mut self, now: Instant) -> bool {
        let may = has_passed(self.doubted_at, SIGNATURE_DOUBTED_EVERY, now);
        if may {
            self.doubted_at = Some(now);
        } else {
            self.unexplained += 1;
        }
        may
    }

    /// Whether this reason may be explained; then how many others were refused since the last explanation.
    pub fn may_explain(&mut self, reason: Reason, now: Instant) -> Option<u64> {
        let explained_at = self.explained_at.get_mut(reason as usize)?;
        if !has_passed(*explained_at, SIGNATURE_EXPLAINED_EVERY, now) {
            self.unexplained += 1;
            return None;
        }
        *explained_at = Some(now);
        Some(std::mem::take(&mut self.unexplained))
    }
}

fn has_passed(since: Option<Instant>, time: std::time::Duration, now: Instant) -> bool {
    since.is_none_or(|since| now.saturating_duration_since(since) >= time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_explained_once_a_minute_and_the_others_are_counted() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        assert_eq!(refusals.may_explain(Reason::NoSignature, begin), Some(0));
        for _ in 0..1_000 {
            assert_eq!(refusals.may_explain(Reason::NoSignature, begin + SIGNATURE_EXPLAINED_EVERY / 2), None);
        }
        let later = begin + SIGNATURE_EXPLAINED_EVERY / 2;
        assert_eq!(refusals.may_explain(Reason::Host, later), Some(1_000), "a flood hides no other reason");
        assert_eq!(refusals.may_explain(Reason::NoSignature, begin + SIGNATURE_EXPLAINED_EVERY), Some(0));
    }

    #[test]
    fn it_is_looked_into_one_signature_a_second() {
        let (mut refusals, begin) = (Refusals::default(), Instant::now());
        assert!(refusals.may_doubt(begin));
        assert!(!refusals.may_doubt(begin + SIGNATURE_DOUBTED_EVERY / 2));
        assert!(refusals.may_doubt(begin + SIGNATURE_DOUBTED_EVERY));
        assert_eq!(refusals.may_explain(Reason::Unexplained, begin + SIGNATURE_DOUBTED_EVERY), Some(1));
    }
}
