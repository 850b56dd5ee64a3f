//! Calls that are over and still remembered: each new call is looked for among them, so the look must not grow with them.

use std::collections::{BTreeMap, VecDeque, btree_map::Entry};

use crate::{calls::EndCause, limits::ENDED_CALLS_MAX, twilio::sid::CallSid};

/// At most [`ENDED_CALLS_MAX`]; the one that ended first is forgotten first.
#[derive(Debug, Default)]
pub(super) struct EndedCalls {
    causes: BTreeMap<CallSid, EndCause>,
    /// Each that is in the map, once.
    order: VecDeque<CallSid>,
}

impl EndedCalls {
    /// This call is over. What it ended with first stands.
    pub(super) fn note(&mut self, call_sid: CallSid, cause: EndCause) {
        let Entry::Vacant(place) = self.causes.entry(call_sid) else { return };
        place.insert(cause);
        self.order.push_back(call_sid);
        if self.order.len() > ENDED_CALLS_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.causes.remove(&oldest);
        }
    }

    /// How it ended; `None`: it did not, or that is long ago.
    pub(super) fn cause(&self, call_sid: CallSid) -> Option<EndCause> {
        self.causes.get(&call_sid).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_call_that_ended_first_is_forgotten_first_and_the_first_cause_stands() {
        let mut ended = EndedCalls::default();
        let sid = |number: usize| CallSid::from_number(number as u128);
        for number in 0..=ENDED_CALLS_MAX {
            ended.note(sid(number), EndCause::MaxDuration);
            ended.note(sid(number), EndCause::HungUpInRecord);
        }
        assert_eq!(ended.cause(sid(0)), None);
        assert_eq!(ended.cause(sid(1)), Some(EndCause::MaxDuration));
        assert_eq!(ended.cause(sid(ENDED_CALLS_MAX)), Some(EndCause::MaxDuration));
        assert_eq!((ended.order.len(), ended.causes.len()), (ENDED_CALLS_MAX, ENDED_CALLS_MAX));
    }
}
