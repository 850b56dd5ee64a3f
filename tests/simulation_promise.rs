//! The promise in virtual time: the real desk and media sessions against a simulated Twilio, under faults, from seeds.
//!
//! A failure prints its seed; `KOLBOX_SEED=n cargo test --test simulation_promise` runs that one alone.

mod support;

use std::time::{Duration, Instant};

use kolbox::{
    limits::CALLS_MAX,
    simulator::{
        caller::Caller,
        faults::{Faults, StreamFault},
        forms::Parties,
        phone_call::PhoneCall,
        plan::{Number, Plan, Timing},
        report::{Ending, Outcome},
    },
    twilio::sid::CallSid,
};
use support::world::{HOST, Network, World, account_sid};

const SECOND: Duration = Duration::from_secs(1);
const SEEDS: u64 = 200;
/// A deadline at most 8 s after the greeting began, and REST.
const SILENCE_MAX: Duration = Duration::from_millis(9_500);

fn seeds() -> Box<dyn Iterator<Item = u64>> {
    match std::env::var("KOLBOX_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => Box::new(std::iter::once(seed)),
        None => Box::new(0..SEEDS),
    }
}

/// A caller with so many seconds to say, loud enough to count as sound.
fn caller(speech: Duration, leaves_after: Duration) -> Caller {
    let samples = usize::try_from(speech.as_millis()).unwrap_or(0) * 8;
    Caller {
        speech: (0..samples).map(|index| if index % 16 < 8 { 0x10 } else { 0x90 }).collect(),
        leaves_after_saying: Some(SECOND),
        leaves_after,
        patience: 120 * SECOND,
    }
}

fn plan(number: u128, caller: Caller, faults: Faults, status_callback: bool) -> Plan {
    let url = |path: &str| format!("https://{HOST}/webhook/{path}");
    Plan {
        parties: Parties {
            account_sid: account_sid(),
            call_sid: CallSid::from_number(number),
            from: "+972501234567".into(),
            to: "+97231234567".into(),
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

fn random_plan(number: u128, random: &mut fastrand::Rng) -> Plan {
    let speech = Duration::from_millis(random.u64(500..12_000));
    let leaves_after = if random.u32(0..5) == 0 { random.u64(0..20_000) } else { 90_000 };
    let faults = Faults {
        stream: stream_fault(random),
        after: Duration::from_millis(random.u64(200..8_000)),
        callbacks_twice: random.bool(),
        ..Faults::default()
    };
    plan(number, caller(speech, Duration::from_millis(leaves_after)), faults, random.bool())
}

/// Runs a world to rest, and holds every call against what must be true of it.
fn run(seed: u64, network: Network, calls: usize) -> World {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut world = World::new(seed, network);
    for number in 0..calls {
        let at = Duration::from_millis(random.u64(0..20_000));
        world.place(at, random_plan(number as u128 + 1, &mut random));
    }
    world.run_until(20 * 60 * SECOND);
    assert_at_rest(seed, &world);
    world
}

fn assert_at_rest(seed: u64, world: &World) {
    let fail = |what: String| -> ! {
        let log: Vec<&str> = world.log.iter().map(String::as_str).collect();
        panic!("seed {seed}: {what}\nthe last events:\n{}", log.join("\n"))
    };
    if let Some(call) = world.calls.iter().find(|call| !call.is_finished()) {
        fail(format!("a call is not over: {:#?}", call.report()));
    }
    let left = world.desk.view().calls;
    if !left.is_empty() {
        fail(format!("slots are still held: {left:#?}"));
    }
    for call in &world.calls {
        let call_sid = call.report().call_sid;
        let records = world.kept.iter().filter(|kept| kept.ended.call_sid == call_sid).count();
        if records != 1 {
            fail(format!("{records} records of {call_sid}: {:#?}", call.report()));
        }
    }
}

fn fail(seed: u64, world: &World, what: &str, call: &PhoneCall) -> ! {
    let log: Vec<&str> = world.log.iter().map(String::as_str).collect();
    panic!("seed {seed}: {what}\n{:#?}\nthe last events:\n{}", call.report(), log.join("\n"))
}

#[test]
fn no_call_is_lost_and_no_caller_waits_in_silence_beyond_the_deadline() {
    for seed in seeds() {
        let network = Network { repeated_percent: 10, ..Network::default() };
        let world = run(seed, network, 5);
        for call in &world.calls {
            let report = call.report();
            let left_early = matches!(report.ending, Some(Ending::CallerLeft));
            if report.outcome == Outcome::Lost || (report.outcome == Outcome::NoMessage && !left_early) {
                fail(seed, &world, "a call was lost", call);
            }
            if report.longest_silence > SILENCE_MAX {
                fail(seed, &world, "a caller waited in silence", call);
            }
        }
    }
}

#[test]
fn a_healthy_call_is_never_redirected() {
    for seed in seeds() {
        let mut random = fastrand::Rng::with_seed(seed);
        let network = Network { delay_max: Duration::from_millis(400), repeated_percent: 10, ..Network::default() };
        let mut world = World::new(seed, network);
        for number in 0..4 {
            let speech = Duration::from_millis(random.u64(500..40_000));
            let plan = plan(number + 1, caller(speech, 90 * SECOND), Faults::default(), random.bool());
            world.place(Duration::from_millis(random.u64(0..5_000)), plan);
        }
        world.run_until(10 * 60 * SECOND);
        assert_at_rest(seed, &world);
        for call in &world.calls {
            let report = call.report();
            // A refused update met a call that was over already: its stream said `stop`, and nothing else told us.
            if report.rest_updates > 0 || report.outcome != Outcome::Streamed {
                fail(seed, &world, "a healthy call was disturbed", call);
            }
        }
    }
}

#[test]
fn rest_that_fails_for_a_while_delays_the_recorder_and_loses_nothing() {
    let outage = 20 * SECOND;
    for seed in seeds() {
        let network = Network { rest_failing_percent: 70, rest_heals_at: outage, ..Network::default() };
        let world = run(seed, network, 4);
        for call in &world.calls {
            let report = call.report();
            let left_early = matches!(report.ending, Some(Ending::CallerLeft));
            if report.outcome == Outcome::Lost || (report.outcome == Outcome::NoMessage && !left_early) {
                fail(seed, &world, "a call was lost", call);
            }
            // At most the outage, the answer that is waited for, and one wait between tries.
            if report.longest_silence > SILENCE_MAX + outage + 17 * SECOND {
                fail(seed, &world, "a caller waited in silence", call);
            }
        }
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let network =
        Network { rest_failing_percent: 30, rest_heals_at: 30 * SECOND, repeated_percent: 20, ..Network::default() };
    let outcome = |world: &World| {
        let since = |at: Instant| at - world.start;
        let kept: Vec<_> =
            world.kept.iter().map(|kept| (kept.ended.call_sid, kept.ended.cause, since(kept.at))).collect();
        (kept, world.steps)
    };
    let (first, second) = (run(7, network.clone(), 6), run(7, network, 6));
    assert_eq!(outcome(&first), outcome(&second));
}

#[test]
fn a_thousand_calls_of_a_number_without_status_callback_hold_no_slot_a_minute_after_the_hang_up() {
    let mut calls = 0;
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed, Network::default());
        for number in 0..50 {
            let mut plan = random_plan(number + 1, &mut random);
            plan.number.status_callback = None;
            world.place(Duration::from_millis(random.u64(0..60_000)), plan);
        }
        world.run_until(20 * 60 * SECOND);
        assert_at_rest(seed, &world);
        for (index, over_at) in &world.over_at {
            let call = &world.calls[*index];
            let call_sid = call.report().call_sid;
            let held = world.kept.iter().find(|kept| kept.ended.call_sid == call_sid).map(|kept| kept.at - *over_at);
            if held.is_none_or(|held| held > 60 * SECOND) {
                fail(seed, &world, &format!("a slot was held {held:?} after the hang-up"), call);
            }
            calls += 1;
        }
    }
    assert_eq!(calls, 1_000);
}

#[test]
fn calls_beyond_the_capacity_meet_the_recorder_and_are_kept() {
    let mut world = World::new(3, Network::default());
    let calls = CALLS_MAX as u128 + 6;
    for number in 0..calls {
        let plan = plan(number + 1, caller(20 * SECOND, 90 * SECOND), Faults::default(), true);
        world.place(Duration::from_millis(u64::try_from(number).unwrap_or(0)), plan);
    }
    world.run_until(5 * 60 * SECOND);
    assert_at_rest(3, &world);
    let outcomes = |wanted: fn(&Outcome) -> bool| {
        world.calls.iter().map(PhoneCall::report).filter(|report| wanted(&report.outcome)).count()
    };
    assert_eq!(outcomes(|outcome| *outcome == Outcome::Streamed), CALLS_MAX);
    assert_eq!(outcomes(|outcome| matches!(outcome, Outcome::Recorded(_))), 6);
}
