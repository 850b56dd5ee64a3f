//! What must be true of every call, said a second time and simply: from what Twilio saw, what the disk holds and what the
//! upstream had, never from what the desk believes.

use std::time::Duration;

use kolbox::{
    simulator::{
        faults::StreamFault,
        phone_call::PhoneCall,
        report::{Ending, Met, Outcome},
    },
    twilio::sid::CallSid,
};

use super::{Broken, CallResult, Fault, Scenario, World};

/// The deadline of a stream that does not come, after the greeting: what is left of `start_timeout`, but 3 s at least; and
/// of media that stop: `no_media_timeout`. The longest of them.
const DEADLINE_MAX: Duration = Duration::from_secs(6);
/// Messages one after the other between the deadline and the recorder's prompt: journal, redirect, the document's prompt;
/// or the stream's last frame, its end, Twilio's question and its answer.
const MESSAGES_MAX: u32 = 8;
/// Behind the end of an outage of REST: an answer that is waited for, and a pause between tries.
const RETRY_MAX: Duration = Duration::from_secs(17);
/// From an answer to the disk: several groups one after the other.
const TO_DISK_MAX: Duration = Duration::from_secs(1);
/// The journal is waited for, and clocks tick.
const SLACK: Duration = Duration::from_millis(250);

impl World {
    /// What is wrong with the world at rest; calls that were hit by something that nobody can make good are excused where
    /// that is said.
    pub fn judge(&self, scenario: &Scenario) -> Option<Broken> {
        let broken = |rule, call, what: String| Some(Broken { rule, call, what });
        if let Some((rule, call, what)) = &self.broken {
            return broken(rule, *call, what.clone());
        }
        if !self.is_at_rest() {
            let left: Vec<_> = self.calls.iter().filter(|call| !call.is_finished()).map(sid).collect();
            let what = format!("calls {left:?}, slots {}, unsynced {}", self.slots_held(), self.disk.unsynced());
            return broken("not at rest", None, what);
        }
        if !self.disk.live.is_empty() {
            return broken("left in the journal", None, format!("{:?}", self.disk.live.keys()));
        }
        self.records_are_right().or_else(|| self.calls_are_right(scenario))
    }

    /// Every call that the box took has one record, at the upstream once, in order.
    fn records_are_right(&self) -> Option<Broken> {
        let is = |wanted: fn(&Fault) -> bool| self.faults.iter().any(wanted);
        let was_refused = is(|fault| matches!(fault, Fault::DiskRefuses(_)));
        let was_ended = is(|fault| matches!(fault, Fault::Killed { .. } | Fault::Restarted { .. }));
        // What was answered a moment before the plug was pulled may not have reached the disk.
        let killed_at = self.faults.iter().find_map(|fault| match fault {
            Fault::Killed { at, .. } => Some(*at),
            _ => None,
        });
        let is_safe = |answered: &Duration| {
            let too_late = killed_at.is_some_and(|at| (at.saturating_sub(TO_DISK_MAX)..=at).contains(answered));
            !(too_late || was_ended && was_refused)
        };
        for call in &self.calls {
            let call_sid = sid(call);
            let records = self.disk.records.values().filter(|(record, _)| record.call_sid == call_sid).count();
            let must = self.disk.known.contains(&call_sid) || self.answered.get(&call_sid).is_some_and(is_safe);
            if records > 1 || (must && records == 0) {
                let what = format!("{records} records of a call that was answered");
                return Some(Broken { rule: "one record", call: Some(call_sid), what });
            }
        }
        let delivered: Vec<_> = self.upstream.had.iter().map(|(id, _, _)| *id).collect();
        let stored: Vec<_> = self.disk.records.values().map(|(record, _)| record.id).collect();
        if delivered != stored {
            let what = format!("delivered {delivered:?}, became final {stored:?}");
            return Some(Broken { rule: "all, in order", call: None, what });
        }
        None
    }

    fn calls_are_right(&self, scenario: &Scenario) -> Option<Broken> {
        for index in 0..self.calls.len() {
            let call = &self.calls[index];
            let report = call.report();
            let Some(planned) = scenario.calls.iter().find(|it| it.plan.parties.call_sid == report.call_sid) else {
                continue;
            };
            if self.had_no_box(index) {
                continue;
            }
            let broken = |rule, what: String| {
                Some(Broken { rule, call: Some(report.call_sid), what: format!("{what}: {report}") })
            };
            let left_early = matches!(report.ending, Some(Ending::CallerLeft));
            let said_nothing = planned.plan.caller.speech.is_empty();
            let no_message = report.outcome == Outcome::NoMessage && !left_early && !said_nothing;
            let lost = report.outcome == Outcome::Lost && !(said_nothing && report.ending == Some(Ending::HungUp));
            if lost || no_message {
                return broken("a call was lost", format!("{:?}", report.outcome));
            }
            let bound = self.silence_max(index);
            if report.longest_silence > bound {
                return broken("silence", format!("{:?} of at most {bound:?}", report.longest_silence));
            }
            if scenario.faults.is_empty() && report.rest_updates > 1 {
                return broken("redirected twice", format!("{} updates", report.rest_updates));
            }
            let healthy = planned.plan.faults.stream == StreamFault::None && scenario.faults.is_empty();
            if healthy && report.rest_updates > 0 {
                return broken("a healthy call was disturbed", format!("{} updates", report.rest_updates));
            }
        }
        None
    }

    /// Whether there was no box at some time of the call: what Twilio asked then, nobody could answer.
    fn had_no_box(&self, index: usize) -> bool {
        let (from, until) = self.life_of(index);
        self.away.iter().any(|away| away.meets(from, until))
    }

    /// From the first ring to the end, and the callbacks.
    fn life_of(&self, index: usize) -> (Duration, Duration) {
        let from = self.placed_at.get(&index).map_or(Duration::ZERO, |at| *at - self.start);
        let until = self.over_at.get(&index).map_or(Duration::MAX, |at| *at - self.start);
        (from, until.saturating_add(Duration::from_secs(5)))
    }

    /// The longest that a caller may have waited in silence:
    /// `deadline + 8 × delay + 250 ms`, and where REST or the network failed meanwhile, how long that lasted and 17 s.
    fn silence_max(&self, index: usize) -> Duration {
        let (from, until) = self.life_of(index);
        let outages = self.faults.iter().filter_map(|fault| match fault {
            Fault::Rest { window, .. } | Fault::Stalled(window) if window.meets(from, until) => Some(window.length()),
            _ => None,
        });
        let outages: Vec<_> = outages.collect();
        let retries = if outages.is_empty() { Duration::ZERO } else { RETRY_MAX };
        DEADLINE_MAX + MESSAGES_MAX * self.network.delay_max + SLACK + retries + outages.into_iter().sum::<Duration>()
    }

    /// What became of each call, and how long each failure kept its caller from the recorder.
    pub fn results(&self, scenario: &Scenario) -> Vec<CallResult> {
        let result = |(index, call): (usize, &PhoneCall)| {
            let report = call.report();
            let planned = scenario.calls.iter().find(|it| it.plan.parties.call_sid == report.call_sid);
            let outcome = match report.outcome {
                _ if self.had_no_box(index) => "met a box that was away",
                Outcome::Streamed => "streamed",
                Outcome::Recorded(_) => "recorded",
                Outcome::NoMessage => "left, or said nothing",
                Outcome::Lost => "lost",
            };
            let cause = planned.map_or("", |planned| cause(planned.plan.faults.stream));
            let is_pure = !self.had_no_box(index) && scenario.faults.is_empty();
            let spans = report.spans.windows(3);
            let to_recorder = spans.filter(|spans| spans[0].met == Met::Silence && spans[2].met == Met::Recorder);
            let waited = to_recorder.map(|spans| spans[0].until - spans[0].from).max();
            let cause = if is_pure { cause } else { "with other faults" };
            CallResult { outcome, to_recorder: waited.map(|waited| (cause, waited, self.silence_max(index))) }
        };
        self.calls.iter().enumerate().map(result).collect()
    }
}

fn cause(fault: StreamFault) -> &'static str {
    match fault {
        StreamFault::None => "none of its own",
        StreamFault::NeverConnects => "never connects",
        StreamFault::NoStart => "no start",
        StreamFault::NoMedia => "no media",
        StreamFault::MediaStops => "media stop",
        StreamFault::BadJson => "bad JSON",
        StreamFault::Drops { .. } => "connection lost",
    }
}

fn sid(call: &PhoneCall) -> CallSid {
    call.report().call_sid
}
