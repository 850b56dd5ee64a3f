//! Makes a scenario smaller while it still breaks the same rule: fewer calls, fewer faults, simpler callers, a better network.

use std::time::Duration;

use kolbox::simulator::faults::StreamFault;

use super::world::{Network, Scenario, run};

/// Worlds that are tried at most.
const TRIES_MAX: usize = 400;

/// The smallest that was found.
pub fn smallest(mut scenario: Scenario) -> Scenario {
    let Some(rule) = run(&scenario, false).broken.map(|broken| broken.rule) else { return scenario };
    let mut tries = 0;
    loop {
        let smaller = candidates(&scenario).into_iter().find(|candidate| {
            tries += 1;
            tries <= TRIES_MAX && run(candidate, false).broken.is_some_and(|broken| broken.rule == rule)
        });
        match smaller {
            Some(smaller) => scenario = smaller,
            None => return scenario,
        }
    }
}

/// Each is one step smaller; the largest steps first.
fn candidates(scenario: &Scenario) -> Vec<Scenario> {
    let mut candidates = Vec::new();
    let mut with = |change: &dyn Fn(&mut Scenario)| {
        let mut candidate = scenario.clone();
        change(&mut candidate);
        candidates.push(candidate);
    };
    for index in 0..scenario.calls.len() {
        if scenario.calls.len() > 1 {
            with(&|it| drop(it.calls.remove(index)));
        }
    }
    for index in 0..scenario.faults.len() {
        with(&|it| {
            it.faults.remove(index);
        });
    }
    for (index, call) in scenario.calls.iter().enumerate() {
        if call.plan.faults.stream != StreamFault::None {
            with(&|it| it.calls[index].plan.faults.stream = StreamFault::None);
        }
        if call.stream_refused {
            with(&|it| it.calls[index].stream_refused = false);
        }
        if call.recording_fails {
            with(&|it| it.calls[index].recording_fails = false);
        }
        if !call.plan.faults.rest_refusals.is_empty() {
            with(&|it| it.calls[index].plan.faults.rest_refusals.clear());
        }
        if !call.plan.faults.rest_delay.is_zero() {
            with(&|it| it.calls[index].plan.faults.rest_delay = Duration::ZERO);
        }
        if call.plan.faults.callbacks_twice {
            with(&|it| it.calls[index].plan.faults.callbacks_twice = false);
        }
        if call.plan.caller.leaves_after < Duration::from_secs(90) {
            with(&|it| it.calls[index].plan.caller.leaves_after = Duration::from_secs(90));
        }
    }
    let calm = Network { delay_max: scenario.network.delay_max, ..Network::default() };
    if scenario.network != calm {
        with(&|it| it.network = calm.clone());
    }
    candidates
}
