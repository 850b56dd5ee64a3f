//! Scenarios that once broke a rule, as small as `simulate` made them: each stays here after the mend.
//!
//! Seeds change their meaning with the generator, so a scenario is written out as the plain data that a failure prints:
//! `plan` for each call with what its line says, `Fault`s and `Network` as they are printed. Its name says what must hold;
//! `assert_kept` fails with the broken rule and the story.

mod support;

use std::time::Duration;

use kolbox::simulator::faults::{Faults, StreamFault};
use support::world::{Fault, Network, PlannedCall, Scenario, caller, plan, run};

const SECOND: Duration = Duration::from_secs(1);

fn assert_kept(scenario: &Scenario) {
    let run = run(scenario, true);
    if let Some(broken) = run.broken {
        panic!("{broken}\n{scenario}\n{}", run.log.join("\n"));
    }
}

#[test]
fn a_call_whose_redirect_was_refused_twice_is_tried_again_once_twilio_says_that_it_is_in_progress() {
    let faults = Faults {
        stream: StreamFault::NeverConnects,
        rest_refusals: vec![(400, 12_100), (400, 12_100)],
        ..Faults::default()
    };
    let call = PlannedCall::new(SECOND, plan(1, caller(5 * SECOND, 90 * SECOND), faults, true));
    assert_kept(&Scenario { seed: 1, calls: vec![call], faults: Vec::new(), network: Network::default() });
}

#[test]
fn a_call_that_is_over_leaves_its_slot_though_every_answer_to_its_redirects_comes_too_late() {
    let faults = Faults { rest_delay: 10 * SECOND, ..Faults::default() };
    let call = PlannedCall::new(SECOND, plan(1, caller(5 * SECOND, 90 * SECOND), faults, false));
    assert_kept(&Scenario { seed: 1, calls: vec![call], faults: Vec::new(), network: Network::default() });
}

#[test]
fn a_stream_whose_media_stop_with_their_first_frame_was_silence_from_the_prompt_on() {
    let faults = Faults { stream: StreamFault::MediaStops, after: Duration::from_millis(200), ..Faults::default() };
    let call = PlannedCall::new(SECOND, plan(1, caller(5 * SECOND, 90 * SECOND), faults, true));
    assert_kept(&Scenario { seed: 1, calls: vec![call], faults: Vec::new(), network: Network::default() });
}

#[test]
fn a_stream_whose_connection_breaks_before_it_is_accepted_is_missed_at_once() {
    let faults = Faults {
        stream: StreamFault::Drops { noticed_after: Duration::from_millis(5_304) },
        after: Duration::from_millis(200),
        ..Faults::default()
    };
    let call = PlannedCall::new(SECOND, plan(1, caller(5 * SECOND, 90 * SECOND), faults, true));
    // Everything that a connection carries arrives at one moment in some of these.
    for seed in 0..200 {
        let network = Network { delay_max: Duration::from_millis(400), ..Network::default() };
        assert_kept(&Scenario { seed, calls: vec![call.clone()], faults: Vec::new(), network });
    }
}

#[test]
fn a_stream_that_twilio_has_ended_is_not_opened_again() {
    let faults = Faults { stream: StreamFault::MediaStops, after: SECOND, ..Faults::default() };
    let call = PlannedCall::new(SECOND, plan(1, caller(4 * SECOND, 90 * SECOND), faults, true));
    let network =
        Network { delay_max: Duration::from_millis(400), callbacks_late_max: 90 * SECOND, ..Network::default() };
    // About when the redirect takes the call out of its stream, and long after.
    for at in (13_000..17_000).step_by(20).map(Duration::from_millis) {
        let reconnected = [at, Duration::from_secs(60)].map(|at| Fault::Reconnected { at });
        assert_kept(&Scenario {
            seed: 1,
            calls: vec![call.clone()],
            faults: reconnected.into(),
            network: network.clone(),
        });
    }
}

#[test]
fn who_says_nothing_into_the_recorder_has_lost_nothing_though_the_prompt_behind_it_fails() {
    let faults = Faults { after: Duration::from_millis(2_599), ..Faults::default() };
    let mut caller = caller(Duration::ZERO, 90 * SECOND);
    caller.leaves_after_saying = None;
    let call = PlannedCall::new(Duration::from_millis(35_270), plan(1, caller, faults, false));
    // Its answers are lost, so that the bin is spent when the box redirects the call and is killed.
    let killed = Fault::Killed { at: Duration::from_millis(55_056), back_after: Duration::from_millis(19_060) };
    let network = Network {
        delay_max: Duration::from_millis(80),
        repeated_percent: 40,
        lost_percent: 5,
        callbacks_late_max: 5 * SECOND,
    };
    assert_kept(&Scenario { seed: 40_518_929, calls: vec![call], faults: vec![killed], network });
}
