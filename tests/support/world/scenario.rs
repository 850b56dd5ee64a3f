//! All that a seed decides, as plain data: it can be printed, made smaller, and played again.

use std::{fmt, time::Duration};

use kolbox::{
    simulator::{
        caller::Caller,
        faults::{Faults, StreamFault},
        forms::Parties,
        plan::{Number, Plan, Timing},
    },
    twilio::sid::CallSid,
};

use super::{Fault, HOST, Network, UpstreamFate, Window, account_sid};

const SECOND: Duration = Duration::from_secs(1);
/// Calls are placed, and faults begin, within this time.
const BEGIN_MAX_MS: u64 = 60_000;

/// A call, and when it is placed.
#[derive(Debug, Clone)]
pub struct PlannedCall {
    pub at: Duration,
    pub plan: Plan,
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
    pub fn of_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        // Some are small, so that what fails is easily read; some are crowded.
        let calls = match random.u32(0..10) {
            0..4 => 1,
            4..9 => random.u128(2..6),
            _ => random.u128(6..12),
        };
        let calls = (1..=calls)
            .map(|number| PlannedCall {
                at: Duration::from_millis(random.u64(0..BEGIN_MAX_MS)),
                plan: random_plan(number, &mut random),
            })
            .collect();
        let faults = random_faults(&mut random);
        let network = Network {
            delay_max: Duration::from_millis([20, 80, 400][random.usize(0..3)]),
            repeated_percent: [0, 10, 40][random.usize(0..3)],
            callbacks_late_max: Duration::from_secs([0, 0, 5, 90][random.usize(0..4)]),
        };
        Self { seed, calls, faults, network }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "seed {}, {:?}", self.seed, self.network)?;
        for PlannedCall { at, plan } in &self.calls {
            let Plan { parties, number, caller, faults, .. } = plan;
            writeln!(
                f,
                "  {:7.3} {} speaks {:.1} s, leaves after {:.1} s; {:?} after {:?}; status callback: {}, {}{}",
                at.as_secs_f64(),
                parties.call_sid,
                caller.speech.len() as f64 / 8_000.0,
                caller.leaves_after.as_secs_f64(),
                faults.stream,
                faults.after,
                number.status_callback.is_some(),
                if number.connect_action_after_hang_up { "asks what follows a hang-up" } else { "does not ask" },
                if faults.callbacks_twice { ", all twice" } else { "" },
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
            fallback_url: None,
            status_callback: status_callback.then(|| url("call_status")),
            connect_action_after_hang_up: number.is_multiple_of(2),
            silent_record_calls_action: number.is_multiple_of(3),
        },
        caller,
        faults,
        timing: Timing { frame: Duration::from_millis(200), ..Timing::default() },
        placed_at: jiff::Timestamp::UNIX_EPOCH,
    }
}

pub fn random_plan(number: u128, random: &mut fastrand::Rng) -> Plan {
    let speech = match random.u32(0..8) {
        0 => 0,
        _ => random.u64(500..12_000),
    };
    let leaves_after = if random.u32(0..4) == 0 { random.u64(0..20_000) } else { 90_000 };
    let faults = Faults {
        stream: stream_fault(random),
        after: Duration::from_millis(random.u64(200..8_000)),
        callbacks_twice: random.bool(),
        ..Faults::default()
    };
    plan(number, caller(Duration::from_millis(speech), Duration::from_millis(leaves_after)), faults, random.bool())
}

fn stream_fault(random: &mut fastrand::Rng) -> StreamFault {
    match random.u32(0..8) {
        0 => StreamFault::NeverConnects,
        1 => StreamFault::NoStart,
        2 => StreamFault::NoMedia,
        3 => StreamFault::MediaStops,
        4 => StreamFault::BadJson,
        5 => StreamFault::Drops { noticed_after: Duration::from_millis(random.u64(0..8_000)) },
        _ => StreamFault::None,
    }
}

/// None in a third of the worlds, several in others.
fn random_faults(random: &mut fastrand::Rng) -> Vec<Fault> {
    let count = [0, 0, 1, 1, 2, 4][random.usize(0..6)];
    let mut faults: Vec<_> = (0..count).map(|_| random_fault(random)).collect();
    // One end of the box is enough for each world: a second one would come while it is away.
    let mut ends = 0;
    faults.retain(|fault| {
        ends += usize::from(matches!(fault, Fault::Killed { .. } | Fault::Restarted { .. }));
        ends <= 1 || !matches!(fault, Fault::Killed { .. } | Fault::Restarted { .. })
    });
    faults
}

fn random_fault(random: &mut fastrand::Rng) -> Fault {
    let at = Duration::from_millis(random.u64(0..BEGIN_MAX_MS));
    let window = |random: &mut fastrand::Rng, most: u64| Window {
        from: at,
        until: at + Duration::from_millis(random.u64(100..most)),
    };
    match random.u32(0..8) {
        0 => Fault::Killed { at, back_after: Duration::from_millis(random.u64(500..60_000)) },
        1 => Fault::Restarted { at, back_after: Duration::from_millis(random.u64(200..20_000)) },
        2 => Fault::Rest { window: window(random, 30_000), percent: [40, 70, 100][random.usize(0..3)] },
        3 => Fault::Stalled(window(random, 6_000)),
        4 => Fault::SocketsReset { at },
        5 => {
            let fates =
                [UpstreamFate::Unreachable, UpstreamFate::Fails, UpstreamFate::Throttles(30), UpstreamFate::AnswerLost];
            Fault::Upstream { window: window(random, 600_000), fate: fates[random.usize(0..fates.len())] }
        }
        6 => Fault::DiskRefuses(window(random, 30_000)),
        _ => Fault::ClockSet { at, by_s: random.i64(-7_200..7_200) },
    }
}
