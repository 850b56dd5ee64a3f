//! All that a seed decides, as plain data: it can be printed, made smaller, and played again.

use std::{fmt, time::Duration};

use kolbox::{
    simulator::{
        caller::Caller,
        faults::Faults,
        forms::Parties,
        plan::{Number, Plan, Timing},
    },
    twilio::sid::CallSid,
};

use super::{Fault, HOST, Network, account_sid, bound};

const SECOND: Duration = Duration::from_secs(1);
/// Where the README's TwiML Bins are.
pub const BIN: &str = "https://handler.twilio.com/twiml";

/// A call, and when it is placed.
#[derive(Debug, Clone)]
pub struct PlannedCall {
    pub at: Duration,
    pub plan: Plan,
    /// Its media connections are refused on the way.
    pub stream_refused: bool,
    /// Twilio reports that its recordings failed.
    pub recording_fails: bool,
    /// The caller falls silent for longer than the box waits before its goodbye.
    pub pauses: bool,
}

impl PlannedCall {
    pub fn new(at: Duration, plan: Plan) -> Self {
        Self { at, plan, stream_refused: false, recording_fails: false, pauses: false }
    }
}

/// Calls, and what goes wrong around them.
#[derive(Debug, Clone)]
pub struct Scenario {
    pub seed: u64,
    pub calls: Vec<PlannedCall>,
    pub faults: Vec<Fault>,
    pub network: Network,
}

impl Scenario {
    pub fn planned(&self, call_sid: CallSid) -> Option<&PlannedCall> {
        self.calls.iter().find(|planned| planned.plan.parties.call_sid == call_sid)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}", self.seed, self.network)?;
        for PlannedCall { at, plan, stream_refused, recording_fails, pauses } in &self.calls {
            let Plan { parties, number, caller, faults, .. } = plan;
            writeln!(
                f,
                "  {:7.3} {} speaks {:.1} s{}, leaves after {:.1} s{}; {:?} after {:?}; REST: {:?} {:?}; status callback: {}, \
                 bin: {}, {}{}{}{}",
                at.as_secs_f64(),
                parties.call_sid,
                caller.speech.len() as f64 / 8_000.0,
                if *pauses { " with a long pause" } else { "" },
                caller.leaves_after.as_secs_f64(),
                if caller.leaves_after_saying.is_some() { " or when all is said" } else { "" },
                faults.stream,
                faults.after,
                faults.rest_refusals,
                faults.rest_delay,
                number.status_callback.is_some(),
                number.fallback_url.is_some(),
                if number.connect_action_after_hang_up { "asks what follows a hang-up" } else { "does not ask" },
                if faults.callbacks_twice { ", all twice" } else { "" },
                if *stream_refused { ", the stream is refused" } else { "" },
                if *recording_fails { ", the recording fails" } else { "" },
            )?;
        }
        self.faults.iter().try_for_each(|fault| writeln!(f, "  {fault:?}"))
    }
}

/// A caller with so many seconds to say, loud enough to count as sound.
pub fn caller(speech: Duration, leaves_after: Duration) -> Caller {
    let samples = usize::try_from(speech.as_millis()).unwrap_or(0) * 8;
    Caller {
        speech: (0..samples).map(|index| if index % 16 < 8 { 0x10 } else { 0x90 }).collect(),
        leaves_after_saying: Some(SECOND),
        leaves_after,
        patience: 120 * SECOND,
    }
}

pub fn plan(number: u128, caller: Caller, faults: Faults, status_callback: bool) -> Plan {
    let url = |path: &str| format!("https://{HOST}/webhook/{path}");
    Plan {
        parties: Parties {
            account_sid: account_sid(),
            call_sid: CallSid::from_number(number),
            from: "+972501234567".into(),
            to: if number.is_multiple_of(5) { "+97237654321" } else { "+97231234567" }.into(),
        },
        number: Number {
            voice_url: url("incoming_call"),
            fallback_url: (!number.is_multiple_of(4)).then(|| format!("{BIN}/record")),
            status_callback: status_callback.then(|| url("call_status")),
            connect_action_after_hang_up: number.is_multiple_of(2),
            silent_record_calls_action: number.is_multiple_of(3),
        },
        caller,
        faults,
        timing: Timing { frame: bound::FRAME, ..Timing::default() },
        placed_at: jiff::Timestamp::UNIX_EPOCH,
    }
}
