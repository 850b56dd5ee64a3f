//! Boxes with a deliberate mistake: the simulation must notice each within some seeds, or it proves nothing.
//!
//! `cargo test --test simulation_canaries -- --nocapture` tells how many seeds each took.

mod support;

#[cfg(not(any(debug_assertions, feature = "canaries")))]
#[test]
fn every_mistake_is_noticed() {
    println!("SKIPPED canaries: a release build has none without the feature of that name");
}

#[cfg(any(debug_assertions, feature = "canaries"))]
#[test]
fn every_mistake_is_noticed() {
    use std::thread;

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

    let noticed = thread::scope(|scope| {
        let singing = Canary::ALL.map(|canary| (canary, scope.spawn(move || noticed(canary))));
        singing.map(|(canary, thread)| (canary, thread.join().expect("a world panicked")))
    });
    for (canary, noticed) in noticed {
        match noticed {
            Some((seed, rule)) => println!("{:24} noticed after {:4} seeds: {rule}", format!("{canary:?}"), seed + 1),
            None => println!("{:24} not noticed", format!("{canary:?}")),
        }
    }
    let missed: Vec<_> = noticed.iter().filter(|(_, noticed)| noticed.is_none()).map(|(canary, _)| canary).collect();
    assert!(missed.is_empty(), "{SEEDS_MAX} seeds did not notice {missed:?}");
}
