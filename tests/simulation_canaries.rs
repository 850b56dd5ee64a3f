//! Boxes with a deliberate mistake: the simulation must notice each within some seeds, or it proves nothing.
//!
//! `cargo test --features canaries --test simulation_canaries -- --nocapture`

mod support;

use kolbox::calls::canary::{self, Canary};
use support::world::{Scenario, run};

const SEEDS_MAX: u64 = 10_000;

/// The first seed that notices it, and by which rule.
fn noticed(canary: Canary) -> Option<(u64, &'static str)> {
    (0..SEEDS_MAX).find_map(|seed| {
        let run = canary::with(canary, || run(&Scenario::of_seed(seed), false));
        run.broken.map(|broken| (seed, broken.rule))
    })
}

#[test]
fn every_mistake_is_noticed() {
    let mut missed = Vec::new();
    for canary in Canary::ALL {
        match noticed(canary) {
            Some((seed, rule)) => println!("{:24} noticed after {:4} seeds: {rule}", format!("{canary:?}"), seed + 1),
            None => missed.push(canary),
        }
    }
    assert!(missed.is_empty(), "{SEEDS_MAX} seeds did not notice {missed:?}");
}
