//! Delivery as a whole, in virtual time: the real books and outbox over a disk that dies and refuses, and an upstream
//! that flaps, answers 500 and 429, stays silent, takes a record and does not say so, or is away for a week.
//!
//! `KOLBOX_SEEDS=100000 cargo test --release --locked --test simulation_delivery` for the long form;
//! `KOLBOX_SEED=17` for one seed again.

use std::{
    env,
    panic::{AssertUnwindSafe, catch_unwind},
    time::{Duration, Instant},
};

use fastrand::Rng;
use kolbox::transcripts::Outcome;

mod disk;
mod office;
mod world;

use office::Weather;
use world::{Plan, World};

const SEEDS: u64 = 1_000;
const DAY: Duration = Duration::from_secs(86_400);

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text} is no number")))
}

fn plan_of(seed: u64) -> Plan {
    let mut rng = Rng::with_seed(!seed);
    let mut moment = |most: u64| Duration::from_millis(rng.u64(0..most));
    let mut moments = |count: u64, most: u64| (0..count).map(|_| moment(most)).collect::<Vec<_>>();
    let lengths = moments(seed % 3, 20_000);
    let disk_fails = moments(seed % 3, 300_000).into_iter().zip(lengths).map(|(from, length)| (from, from + length));
    let disk_fails = disk_fails.collect();
    let (crashes, retries) = (moments(seed % 5, 400_000), moments(seed % 2, 400_000));
    let every = moments(1, 30_000)[0];
    // Half of the boxes have a speech engine.
    let hears = seed.is_multiple_of(2).then_some(Duration::from_secs(3_600));
    Plan { calls: u128::from(3 + seed % 10), every, is_steady: false, crashes, disk_fails, retries, recorded: 3, hears }
}

/// Everything was kept once and taken once, and both sides know it.
fn judge(world: &World) {
    let records = world.disk.durable.finals.len();
    assert_eq!(world.kept.len(), records, "one final record a call");
    assert!(world.disk.durable.unsynced.is_empty() && world.disk.durable.parked.is_empty(), "all are noted as synced");
    assert_eq!(world.office.taken.len(), records, "the office has each of them");
}

/// How many records have a text: each that says so has one, and none where there is no engine.
fn with_text(world: &World) -> usize {
    let finals = world.disk.durable.finals.values().map(|(record, _)| record);
    let mut count = 0;
    for record in finals {
        let is_transcribed = record.outcome == Outcome::Transcribed;
        assert_eq!(is_transcribed, record.text.0 == "shalom", "{record:?}");
        assert!(!is_transcribed || record.engine != "none", "{record:?}");
        assert!(record.outcome != Outcome::Untranscribed || record.engine == "none", "{record:?}");
        assert!(!is_transcribed || world.hears());
        count += usize::from(is_transcribed);
    }
    count
}

#[test]
fn every_record_arrives_under_one_key_and_never_again_after_its_acknowledgement_was_noted() {
    let (first, count) = match number("KOLBOX_SEED") {
        Some(seed) => (seed, 1),
        None => (0, number("KOLBOX_SEEDS").unwrap_or(SEEDS)),
    };
    let (began, mut requests, mut records, mut repeated) = (Instant::now(), 0, 0, 0);
    let mut texts = 0;
    for seed in first..first + count {
        let mut world = World::new(seed, plan_of(seed), began);
        let ran = catch_unwind(AssertUnwindSafe(|| {
            world.run();
            assert_eq!(world.disk.durable.finals.len() as u64, 3 + seed % 10, "every call has its record");
            judge(&world);
            with_text(&world);
        }));
        if ran.is_err() {
            panic!("seed {seed}: KOLBOX_SEED={seed} cargo test --locked --test simulation_delivery every");
        }
        requests += world.office.requests;
        records += world.office.taken.len();
        repeated += world.office.repeated;
        texts += with_text(&world);
    }
    println!(
        "{count} seeds: {records} records, {requests} requests, {repeated} repeated for want of an answer, {texts} with text"
    );
    assert!(
        count < SEEDS || (2 * requests > 3 * records && repeated > records / 50),
        "the weather was too good to prove anything"
    );
    assert!(count < SEEDS || (4 * texts > records && 2 * texts < records), "{texts} of {records} with text");
}

#[test]
fn an_upstream_that_was_away_for_a_week_gets_everything_oldest_first() {
    const CALLS: u128 = 7 * 24 * 60 * 10;
    let every = Duration::from_secs(6);
    let plan = Plan {
        calls: CALLS,
        every,
        is_steady: true,
        crashes: vec![2 * DAY, 5 * DAY],
        disk_fails: Vec::new(),
        retries: Vec::new(),
        recorded: 0,
        hears: None,
    };
    let began = Instant::now();
    let mut world = World::new(7, plan, began);
    world.office.forecast = vec![(began + 7 * DAY, Weather::Away)];
    world.run();
    judge(&world);
    assert_eq!(world.office.taken.len() as u128, CALLS, "0 lost");
    let finals: Vec<_> = world.disk.durable.finals.values().map(|(record, _)| record.id).collect();
    assert!(world.office.taken == finals, "oldest first");
    // One at a time and ever more patient: every 5 minutes but for a quarter of jitter, and some at each start.
    let knocks = world.office.requests as u128 - CALLS;
    let most = 7 * 86_400 / (300 * 3 / 4) + 3 * 12;
    assert!((7 * 86_400 / 310..=most).contains(&knocks), "{knocks}");
    let took = (world.now - began).saturating_sub(7 * DAY);
    assert!(took < DAY, "the backlog was handed over in {took:?}");
}
