//! From a seed to a scenario: which calls are placed, what goes wrong, in which combination.

use std::time::Duration;

use kolbox::{
    limits::CALLS_MAX,
    simulator::{
        caller::Caller,
        faults::{Faults, StreamFault},
        plan::Plan,
    },
};

use super::{
    Deaf, DiskFate, Fault, Network, PlannedCall, RestTrouble, Scenario, UpstreamFate, Window, bound, caller, plan,
};

/// Calls are placed, and faults begin, within this time.
const BEGIN_MAX_MS: u64 = 60_000;
/// One world in so many has more calls than slots.
const CROWDED_IN: u64 = 400;
/// A μ-law byte of silence.
const SILENCE: u8 = 0xff;

impl Scenario {
    pub fn of_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed);
        let crowded = seed % CROWDED_IN == CROWDED_IN - 1;
        // Some are small, so that what fails is easily read.
        let calls = match random.u32(0..10) {
            _ if crowded => CALLS_MAX as u128 + random.u128(1..9),
            0..4 => 1,
            4..9 => random.u128(2..6),
            _ => random.u128(6..12),
        };
        let begin_max_ms = if crowded { 6_000 } else { BEGIN_MAX_MS };
        let calls = (1..=calls)
            .map(|number| {
                let at = Duration::from_millis(random.u64(0..begin_max_ms));
                random_call(number, at, &mut random)
            })
            .collect();
        let faults = random_faults(&mut random);
        let network = Network {
            delay_max: Duration::from_millis([20, 80, 400][random.usize(0..3)]),
            repeated_percent: [0, 10, 40][random.usize(0..3)],
            lost_percent: [0, 0, 0, 5][random.usize(0..4)],
            callbacks_late_max: Duration::from_secs([0, 0, 5, 90][random.usize(0..4)]),
        };
        Self { seed, calls, faults, network }
    }
}

fn random_call(number: u128, at: Duration, random: &mut fastrand::Rng) -> PlannedCall {
    let mut call = PlannedCall::new(at, random_plan(number, random));
    call.stream_refused = random.u32(0..16) == 0;
    call.recording_fails = random.u32(0..16) == 0;
    if random.u32(0..10) == 0 && !call.plan.caller.speech.is_empty() {
        call.pauses = true;
        let caller = &mut call.plan.caller;
        caller.leaves_after = Duration::from_secs(90);
        let pause = usize::try_from(random.u64(8_000..16_000)).unwrap_or(0) * 8;
        caller.speech = [&*caller.speech, &vec![SILENCE; pause], &*caller.speech].concat().into();
    }
    call
}

pub fn random_plan(number: u128, random: &mut fastrand::Rng) -> Plan {
    let speech = match random.u32(0..8) {
        0 => 0,
        _ => random.u64(500..12_000),
    };
    let after = Duration::from_millis(random.u64(200..8_000));
    let faults = Faults {
        stream: stream_fault(random),
        after,
        callbacks_twice: random.bool(),
        rest_delay: Duration::from_secs(if random.u32(0..16) == 0 { 10 } else { 0 }),
        rest_refusals: rest_refusals(random),
    };
    let mut caller: Caller = caller(Duration::from_millis(speech), leaves_after(after, random));
    if random.u32(0..4) == 0 {
        // They wait for the box's goodbye.
        caller.leaves_after_saying = None;
    }
    plan(number, caller, faults, random.bool())
}

/// Most stay to the end; some leave at any time, some just when a deadline comes.
fn leaves_after(fault_after: Duration, random: &mut fastrand::Rng) -> Duration {
    match random.u32(0..8) {
        0 => Duration::from_millis(random.u64(0..20_000)),
        1 => {
            let greeting = bound::greeting();
            let deadlines =
                [bound::start_deadline(), greeting + bound::NO_MEDIA, greeting + fault_after + bound::NO_MEDIA];
            deadlines[random.usize(0..3)] + Duration::from_millis(random.u64(0..600))
        }
        _ => Duration::from_secs(90),
    }
}

fn rest_refusals(random: &mut fastrand::Rng) -> Vec<(u16, u32)> {
    match random.u32(0..16) {
        0 => vec![(503, 20_503)],
        1 => vec![(429, 20_429); random.usize(1..3)],
        2 => vec![(400, 12_100); random.usize(1..3)],
        _ => Vec::new(),
    }
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

/// None in a third of the worlds, several in others: they combine freely.
fn random_faults(random: &mut fastrand::Rng) -> Vec<Fault> {
    let count = [0, 0, 1, 1, 2, 4][random.usize(0..6)];
    (0..count).flat_map(|_| random_fault(random)).collect()
}

/// One, or two that belong together.
fn random_fault(random: &mut fastrand::Rng) -> Vec<Fault> {
    let at = Duration::from_millis(random.u64(0..BEGIN_MAX_MS));
    let window = |random: &mut fastrand::Rng, most: u64| Window {
        from: at,
        until: at + Duration::from_millis(random.u64(100..most)),
    };
    let back_after = |random: &mut fastrand::Rng, most: u64| Duration::from_millis(random.u64(200..most));
    vec![match random.u32(0..12) {
        0 | 1 => Fault::Killed { at, back_after: back_after(random, 60_000) },
        2 => {
            let restarted = Fault::Restarted { at, back_after: back_after(random, 20_000) };
            let later = at + Duration::from_millis(random.u64(0..8_000));
            // A drain may end by itself, by a second signal, or by the plug.
            return match random.u32(0..4) {
                0 => vec![restarted, Fault::SecondSignal { at: later }],
                1 => vec![restarted, Fault::Killed { at: later, back_after: back_after(random, 20_000) }],
                _ => vec![restarted],
            };
        }
        3 | 4 => {
            let troubles = [
                RestTrouble::Fails,
                RestTrouble::Fails,
                RestTrouble::Slow,
                RestTrouble::Unauthorized,
                RestTrouble::NotFound,
            ];
            Fault::Rest {
                window: window(random, 30_000),
                percent: [40, 70, 100][random.usize(0..3)],
                trouble: troubles[random.usize(0..troubles.len())],
            }
        }
        5 => Fault::Stalled(window(random, 6_000)),
        6 => Fault::SocketsReset { at },
        7 => Fault::HalfOpen { at, deaf: [Deaf::TheBox, Deaf::Twilio, Deaf::Both][random.usize(0..3)] },
        8 => Fault::Reconnected { at },
        9 => {
            let fates =
                [UpstreamFate::Unreachable, UpstreamFate::Fails, UpstreamFate::Throttles(30), UpstreamFate::AnswerLost];
            Fault::Upstream { window: window(random, 600_000), fate: fates[random.usize(0..fates.len())] }
        }
        10 => {
            let fates = [DiskFate::Refuses, DiskFate::Fills { room: random.u32(0..12) }, DiskFate::Slow];
            Fault::Disk { window: window(random, 30_000), fate: fates[random.usize(0..3)] }
        }
        _ => Fault::ClockSet { at, by_s: random.i64(-7_200..7_200) },
    }]
}
