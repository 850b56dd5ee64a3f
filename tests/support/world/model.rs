//! What must be true of every call, said a second time and simply: from what Twilio saw, what the disk holds and what the
//! upstream had, never from what the desk believes.

use std::time::Duration;

use kolbox::{
    simulator::{
        phone_call::PhoneCall,
        report::{Ending, Met, Outcome},
    },
    twilio::sid::CallSid,
};

use super::{
    Broken, CallResult, DiskFate, Fault, PlannedCall, RestTrouble, Scenario, Window, World,
    bound::{Cause, NO_MEDIA, before_first_frame},
};

/// Behind the end of an outage: an answer that is waited for, and the pause between tries.
const RETRY_MAX: Duration = Duration::from_secs(17);
/// After 401 and 404, after a redirect that was given up, and where a call that nothing is heard of is asked for.
const ASK_MAX: Duration = Duration::from_secs(30);
/// A webhook that is lost is waited for this long before the bin is asked.
const WEBHOOK_MAX: Duration = Duration::from_secs(15);
/// A caller in the recorder, as the box believes, is asked for after the prompt and this.
const RECORDER_SIGN_MAX: Duration = Duration::from_secs(20);
/// A caller's patience.
const PATIENCE: Duration = Duration::from_secs(120);
/// From an answer to the disk: several groups one after the other.
const TO_DISK_MAX: Duration = Duration::from_secs(1);
/// The same where the disk is slow.
const TO_SLOW_DISK_MAX: Duration = Duration::from_secs(120);
const SECOND: Duration = Duration::from_secs(1);

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
        for call in &self.calls {
            let call_sid = sid(call);
            let records = self.disk.records.values().filter(|(record, _)| record.call_sid == call_sid).count();
            let must = self.disk.known.contains(&call_sid)
                || self.answered.contains_key(&call_sid) && self.is_journaled(call_sid);
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

    /// Whether the disk must know of this call. What was answered a moment before the plug was pulled may not have reached
    /// it, nor what it refused before the box ended.
    fn is_journaled(&self, call_sid: CallSid) -> bool {
        let is = |wanted: fn(&Fault) -> bool| self.faults.iter().any(wanted);
        let was_refused =
            is(|fault| matches!(fault, Fault::Disk { fate: DiskFate::Refuses | DiskFate::Fills { .. }, .. }));
        let was_slow = is(|fault| matches!(fault, Fault::Disk { fate: DiskFate::Slow, .. }));
        let to_disk_max = if was_slow { TO_SLOW_DISK_MAX } else { TO_DISK_MAX };
        let Some(answered) = self.answered.get(&call_sid) else { return true };
        let ended = |away: &Window| (away.from.saturating_sub(to_disk_max)..=away.from).contains(answered);
        !(self.away.iter().any(ended) || !self.away.is_empty() && was_refused)
    }

    fn calls_are_right(&self, scenario: &Scenario) -> Option<Broken> {
        for (index, call) in self.calls.iter().enumerate() {
            let report = call.report();
            let Some(planned) = scenario.planned(report.call_sid) else { continue };
            let broken = |rule, what: String| {
                Some(Broken { rule, call: Some(report.call_sid), what: format!("{what}: {report}") })
            };
            let left_early = matches!(report.ending, Some(Ending::CallerLeft));
            let said_nothing = planned.plan.caller.speech.is_empty();
            let hung_up = report.ending == Some(Ending::HungUp);
            let no_message = report.outcome == Outcome::NoMessage && !left_early && !said_nothing;
            // Who says nothing has lost nothing once the recorder was offered, whatever becomes of the prompt behind it.
            let met_recorder = report.spans.iter().any(|span| span.met == Met::Recorder);
            let had_nothing_to_lose = said_nothing && (hung_up || met_recorder) || planned.pauses && hung_up;
            let lost = report.outcome == Outcome::Lost && !had_nothing_to_lose;
            let bound = self.silence_max(index, planned);
            let excused = !self.has_net(index, planned) || bound >= PATIENCE;
            if (lost || no_message) && !excused {
                return broken("a call was lost", format!("{:?}", report.outcome));
            }
            if report.longest_silence > bound && !excused {
                return broken("silence", format!("{:?} of at most {bound:?}", report.longest_silence));
            }
            let alone = self.cause(index, planned, scenario) != Cause::Several;
            if alone && report.rest_updates > 1 {
                return broken("redirected twice", format!("{} updates", report.rest_updates));
            }
            if alone
                && Cause::of(planned.plan.faults.stream, planned.stream_refused) == Cause::NoFault
                && report.rest_updates > 0
            {
                return broken("a healthy call was disturbed", format!("{} updates", report.rest_updates));
            }
        }
        None
    }

    /// What Twilio asked while there was no box, or what got lost, ends at the bin; a number without one has no net, and
    /// the net holds once: a redirect that is carried out after its box ended takes a call out of it, to a prompt that
    /// nobody serves. Of a call that its disk does not know, a box that comes back cannot know.
    fn has_net(&self, index: usize, planned: &PlannedCall) -> bool {
        let has_bin = planned.plan.number.fallback_url.is_some();
        let was_away = self.had_no_box(index);
        let can_fail = was_away || self.network.lost_percent > 0;
        let is_forgotten = was_away && !self.is_journaled(sid(&self.calls[index]));
        let fell_twice = self.bins_met.contains(&index) && self.away.len() > 1 || self.taken_from_bin.contains(&index);
        !can_fail || has_bin && !is_forgotten && !(was_away && fell_twice)
    }

    /// What keeps this call's caller waiting, if it is one thing alone.
    fn cause(&self, index: usize, planned: &PlannedCall, scenario: &Scenario) -> Cause {
        let faults = &planned.plan.faults;
        let alone = scenario.faults.is_empty()
            && self.network.lost_percent == 0
            && faults.rest_delay.is_zero()
            && faults.rest_refusals.is_empty()
            && !self.had_no_box(index);
        if alone { Cause::of(faults.stream, planned.stream_refused) } else { Cause::Several }
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

    /// The longest that a caller may have waited in silence: as the cause's formula says, and for several what each of
    /// them may last, and be noticed late.
    fn silence_max(&self, index: usize, planned: &PlannedCall) -> Duration {
        let (from, until) = self.life_of(index);
        let each = self.faults.iter().map(|fault| match *fault {
            Fault::Rest { window, trouble, .. } if window.meets(from, until) => {
                window.length() + RETRY_MAX + if trouble == RestTrouble::Fails { Duration::ZERO } else { ASK_MAX }
            }
            Fault::Stalled(window) if window.meets(from, until) => window.length() + RETRY_MAX,
            Fault::HalfOpen { .. } => ASK_MAX,
            Fault::SocketsReset { .. } => 2 * SECOND,
            // A stream that begins anew is given the time of a new one.
            Fault::Reconnected { .. } => NO_MEDIA,
            _ => Duration::ZERO,
        });
        let away = self.away.iter().filter(|away| away.meets(from, until));
        let away: Duration = away.map(|away| away.length() + RECORDER_SIGN_MAX).sum();
        let lost = if self.network.lost_percent > 0 { WEBHOOK_MAX + RECORDER_SIGN_MAX } else { Duration::ZERO };
        let faults = &planned.plan.faults;
        let refused: Duration = faults.rest_refusals.iter().map(|_| 3 * SECOND).sum();
        let given_up = if faults.rest_refusals.len() > 1 { ASK_MAX + 2 * SECOND } else { Duration::ZERO };
        let delayed = if faults.rest_delay.is_zero() { Duration::ZERO } else { RETRY_MAX };
        let more = each.sum::<Duration>() + away + lost + refused + given_up + delayed;
        let delay_max = self.network.delay_max;
        let alone = Cause::of(faults.stream, planned.stream_refused).alone(delay_max);
        let alone = alone + before_first_frame(faults, delay_max);
        if more.is_zero() && self.faults.is_empty() {
            return alone;
        }
        Cause::Several.alone(delay_max) + more
    }

    /// What became of each call, and how long each failure kept its caller from the recorder.
    pub fn results(&self, scenario: &Scenario) -> Vec<CallResult> {
        let result = |(index, call): (usize, &PhoneCall)| {
            let report = call.report();
            let planned = scenario.planned(report.call_sid)?;
            let outcome = match report.outcome {
                Outcome::Streamed => "streamed",
                Outcome::Recorded(_) if self.bins_met.contains(&index) => "recorded by the bin",
                Outcome::Recorded(_) => "recorded",
                Outcome::NoMessage => "left, or said nothing",
                Outcome::Lost if self.has_net(index, planned) => "gave up, or paused too long",
                Outcome::Lost => "lost: no box, and no bin",
            };
            let spans = report.spans.windows(3);
            let to_recorder = spans.filter(|spans| spans[0].met == Met::Silence && spans[2].met == Met::Recorder);
            let waited = to_recorder.map(|spans| spans[0].until - spans[0].from).max();
            let cause = self.cause(index, planned, scenario);
            let to_recorder = waited.map(|waited| (cause, waited, self.silence_max(index, planned)));
            Some(CallResult { outcome, to_recorder })
        };
        self.calls.iter().enumerate().filter_map(result).collect()
    }
}

fn sid(call: &PhoneCall) -> CallSid {
    call.report().call_sid
}
