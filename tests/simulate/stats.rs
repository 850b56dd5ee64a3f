//! What came of many worlds: outcomes of calls, silences before the recorder by cause, and what never happened.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::world::Run;

const STATES: [&str; 5] = ["awaiting stream", "streaming", "falling back", "recording", "ending"];

/// Added up; the order in which worlds are added changes nothing.
#[derive(Debug, Default)]
pub struct Stats {
    pub runs: u64,
    pub broken: u64,
    pub steps: u64,
    outcomes: BTreeMap<&'static str, u64>,
    /// By cause: how often each silence was met, in milliseconds, and the least that the bound left over.
    waits: BTreeMap<&'static str, Waits>,
    met: BTreeMap<(&'static str, &'static str), u64>,
}

#[derive(Debug, Default)]
struct Waits {
    by_millisecond: BTreeMap<u64, u64>,
    bound_max: Duration,
}

impl Stats {
    pub fn add(&mut self, run: &Run) {
        self.runs += 1;
        self.broken += u64::from(run.broken.is_some());
        self.steps += run.steps;
        for call in &run.calls {
            *self.outcomes.entry(call.outcome).or_default() += 1;
            if let Some((cause, waited, bound)) = call.to_recorder {
                let waits = self.waits.entry(cause).or_default();
                *waits.by_millisecond.entry(u64::try_from(waited.as_millis()).unwrap_or(u64::MAX)).or_default() += 1;
                waits.bound_max = waits.bound_max.max(bound);
            }
        }
        for (pair, times) in &run.met {
            *self.met.entry(*pair).or_default() += times;
        }
    }

    pub fn merge(&mut self, other: Self) {
        self.runs += other.runs;
        self.broken += other.broken;
        self.steps += other.steps;
        for (outcome, count) in other.outcomes {
            *self.outcomes.entry(outcome).or_default() += count;
        }
        for (cause, waits) in other.waits {
            let all = self.waits.entry(cause).or_default();
            all.bound_max = all.bound_max.max(waits.bound_max);
            for (millisecond, count) in waits.by_millisecond {
                *all.by_millisecond.entry(millisecond).or_default() += count;
            }
        }
        for (pair, times) in other.met {
            *self.met.entry(pair).or_default() += times;
        }
    }

    /// Events that were met in one state and never in another.
    fn never_met(&self) -> Vec<(&'static str, Vec<&'static str>)> {
        let mut events: Vec<_> = self.met.keys().map(|(_, event)| *event).collect();
        events.sort_unstable();
        events.dedup();
        let missing = |event| STATES.into_iter().filter(|state| !self.met.contains_key(&(*state, event))).collect();
        events
            .into_iter()
            .map(|event| (event, missing(event)))
            .filter(|(_, states): &(_, Vec<_>)| !states.is_empty())
            .collect()
    }
}

impl Waits {
    fn quantile(&self, share: f64) -> f64 {
        let all: u64 = self.by_millisecond.values().sum();
        let rank = (share * all as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        let found = self.by_millisecond.iter().find(|(_, count)| {
            seen += **count;
            seen >= rank
        });
        found.map_or(0.0, |(millisecond, _)| *millisecond as f64 / 1_000.0)
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} worlds, {} broken, {} steps", self.runs, self.broken, self.steps)?;
        writeln!(f, "\nwhat became of the calls")?;
        let most = self.outcomes.values().max().copied().unwrap_or(1).max(1);
        for (outcome, count) in &self.outcomes {
            let bar = "#".repeat((count * 40).div_ceil(most) as usize);
            writeln!(f, "{count:9}  {outcome:24} {bar}")?;
        }
        writeln!(f, "\nsilence before the recorder, in seconds")?;
        writeln!(f, "    calls     p50     p99     max   bound  cause")?;
        for (cause, waits) in &self.waits {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| waits.quantile(share));
            let calls: u64 = waits.by_millisecond.values().sum();
            let bound = waits.bound_max.as_secs_f64();
            writeln!(f, "{calls:9} {p50:7.3} {p99:7.3} {max:7.3} {bound:7.3}  {cause}")?;
        }
        writeln!(f, "\n{} pairs of state and event were met; never met:", self.met.len())?;
        for (event, states) in self.never_met() {
            writeln!(f, "  {event} while {}", states.join(", "))?;
        }
        Ok(())
    }
}
