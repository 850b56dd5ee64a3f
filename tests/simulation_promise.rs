//! The promise in virtual time: the real desk, media sessions and books against a simulated Twilio, under faults, from
//! seeds.
//!
//! A failure prints its seed; `cargo run --release --example simulate -- --replay SEED` tells it step by step.

mod support;

use std::time::Duration;

use kolbox::{
    limits::CALLS_MAX,
    simulator::{faults::Faults, phone_call::PhoneCall, report::Outcome},
};
use support::world::{
    Network, PlannedCall, Scenario, World, caller,
    coverage::{self, Met},
    plan, run,
};

const SECOND: Duration = Duration::from_secs(1);
const SEEDS: u64 = 2_000;

fn assert_kept(scenario: &Scenario) -> Met {
    let played = run(scenario, false);
    if let Some(broken) = played.broken {
        let log = run(scenario, true).log;
        let last: Vec<_> = log.iter().rev().take(60).rev().map(String::as_str).collect();
        panic!("{broken}\n{scenario}\nthe last events:\n{}", last.join("\n"));
    }
    played.met
}

#[test]
fn no_call_and_no_record_is_lost_and_no_caller_waits_beyond_the_bound() {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let met = std::thread::scope(|scope| {
        let play = |thread: u64| {
            let mut met = Met::new();
            for seed in (thread..SEEDS).step_by(usize::try_from(threads).expect("few")) {
                met.extend(assert_kept(&Scenario::of_seed(seed)));
            }
            met
        };
        let threads: Vec<_> = (0..threads).map(|thread| scope.spawn(move || play(thread))).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("every rule holds")).collect()
    });
    let (missing, refuted) = coverage::gaps(&met);
    let unexpected: Vec<_> = missing.into_iter().filter(|pair| !coverage::is_rare(*pair)).collect();
    assert!(unexpected.is_empty(), "never met: {unexpected:?}");
    assert!(refuted.is_empty(), "argued away, and met: {refuted:?}");
}

#[test]
fn a_healthy_call_is_never_redirected() {
    for seed in 0..200 {
        let mut random = fastrand::Rng::with_seed(seed);
        let network = Network { delay_max: Duration::from_millis(400), repeated_percent: 10, ..Network::default() };
        let mut call = |number| {
            let speech = Duration::from_millis(random.u64(500..40_000));
            let at = Duration::from_millis(random.u64(0..5_000));
            PlannedCall::new(at, plan(number, caller(speech, 90 * SECOND), Faults::default(), random.bool()))
        };
        let calls = (1..=4).map(&mut call).collect();
        let scenario = Scenario { seed, calls, faults: Vec::new(), network };
        assert_kept(&scenario);
        let streamed = run(&scenario, false).calls.iter().filter(|call| call.outcome == "streamed").count();
        assert_eq!(streamed, 4, "seed {seed}");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    for seed in 0..40 {
        let told = |watched| {
            let run = run(&Scenario::of_seed(seed), watched);
            (run.steps, run.met, format!("{:?}", run.calls))
        };
        assert_eq!(told(false), told(true), "seed {seed}");
    }
}

#[test]
fn a_thousand_calls_of_a_number_without_status_callback_hold_no_slot_a_minute_after_the_hang_up() {
    let mut calls = 0;
    for seed in 0..20 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut world = World::new(seed, Network::default(), Vec::new(), false);
        for number in 0..50 {
            let mut plan = support::world::random_plan(number + 1, &mut random);
            plan.number.status_callback = None;
            world.place(Duration::from_millis(random.u64(0..60_000)), plan);
        }
        world.run_until(20 * 60 * SECOND);
        assert!(world.is_at_rest(), "seed {seed}");
        for (index, over_at) in &world.over_at {
            let call_sid = world.calls[*index].report().call_sid;
            let held = world.kept.iter().find(|kept| kept.ended.call_sid == call_sid).map(|kept| kept.at - *over_at);
            assert!(held.is_some_and(|held| held <= 60 * SECOND), "seed {seed}, {call_sid}: held {held:?}");
            calls += 1;
        }
    }
    assert_eq!(calls, 1_000);
}

#[test]
fn calls_beyond_the_capacity_meet_the_recorder_and_are_kept() {
    let mut world = World::new(3, Network::default(), Vec::new(), false);
    let calls = CALLS_MAX as u128 + 6;
    for number in 0..calls {
        let plan = plan(number + 1, caller(20 * SECOND, 90 * SECOND), Faults::default(), true);
        world.place(Duration::from_millis(u64::try_from(number).unwrap_or(0)), plan);
    }
    world.run_until(5 * 60 * SECOND);
    assert!(world.is_at_rest());
    let outcomes = |wanted: fn(&Outcome) -> bool| {
        world.calls.iter().map(PhoneCall::report).filter(|report| wanted(&report.outcome)).count()
    };
    assert_eq!(outcomes(|outcome| *outcome == Outcome::Streamed), CALLS_MAX);
    assert_eq!(outcomes(|outcome| matches!(outcome, Outcome::Recorded(_))), 6);
}
