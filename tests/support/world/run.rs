//! Plays a scenario to rest, or to the first rule that is broken.

use std::{fmt, time::Duration};

use kolbox::twilio::sid::CallSid;

use super::{Scenario, World, bound::Cause, coverage};

/// When everything must be at rest at the latest: the longest outage of the upstream, its longest pause, and the look-ups
/// of a call whose end nobody told, several times over.
const REST_MAX: Duration = Duration::from_secs(4 * 3600);
/// How often it is looked whether that is so.
const LOOK_EVERY: Duration = Duration::from_secs(120);
/// A run that takes more steps is going round in circles.
const STEPS_MAX: u64 = 2_000_000;

/// A rule that is broken.
#[derive(Debug, Clone)]
pub struct Broken {
    /// Its stable name.
    pub rule: &'static str,
    pub call: Option<CallSid>,
    pub what: String,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.rule)?;
        if let Some(call) = self.call {
            write!(f, ", {call}")?;
        }
        write!(f, ": {}", self.what)
    }
}

/// What became of a call.
#[derive(Debug, Clone)]
pub struct CallResult {
    pub outcome: &'static str,
    /// Why the caller was sent to the recorder, the silence before it, and the most that it may be.
    pub to_recorder: Option<(Cause, Duration, Duration)>,
}

/// What became of a scenario.
#[derive(Debug)]
pub struct Run {
    pub broken: Option<Broken>,
    pub calls: Vec<CallResult>,
    /// How often each event met a call in each state.
    pub met: coverage::Met,
    pub steps: u64,
    /// The last events; empty unless it was watched.
    pub log: Vec<String>,
}

/// The same scenario gives the same run.
pub fn run(scenario: &Scenario, watched: bool) -> Run {
    let mut world = World::new(scenario.seed, scenario.network.clone(), scenario.faults.clone(), watched);
    for planned in &scenario.calls {
        world.plan(planned);
    }
    let mut until = LOOK_EVERY;
    while until <= REST_MAX && world.broken.is_none() && world.steps < STEPS_MAX {
        world.run_until(until);
        let all_placed = world.calls.len() == scenario.calls.len();
        if all_placed && until > Duration::from_secs(120) && world.is_at_rest() {
            break;
        }
        until += LOOK_EVERY;
    }
    let broken = world.judge(scenario);
    let calls = world.results(scenario);
    Run { broken, calls, met: world.met, steps: world.steps, log: world.log.into() }
}
