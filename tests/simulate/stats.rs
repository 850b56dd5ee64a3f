//! What came of many worlds: outcomes of calls, silences before the recorder by cause, and what never happened.

use std::{collections::BTreeMap, fmt, time::Duration};

use super::world::{Run, bound::Cause, coverage};

/// From so many worlds on, a pair of state and event that was neither met nor argued away nor called rare is a failure.
const WORLDS_FOR_COVERAGE: u64 = 100_000;
/// Width of the histograms' longest bar.
const BAR: u64 = 40;

/// Added up; the order in which worlds are added changes nothing.
#[derive(Debug, Default)]
pub struct Stats {
    pub runs: u64,
    pub broken: u64,
    pub steps: u64,
    outcomes: BTreeMap<&'static str, u64>,
    /// By cause: how often each silence was met, in milliseconds, and the least that the bound left over.
    waits: BTreeMap<Cause, Waits>,
    met: coverage::Met,
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

    /// Pairs of state and event that were argued away and met all the same; after enough worlds also those that were
    /// neither.
    pub fn is_covered(&self) -> bool {
        let (missing, refuted) = coverage::gaps(&self.met);
        let all_rare = missing.into_iter().all(coverage::is_rare);
        refuted.is_empty() && (all_rare || self.runs < WORLDS_FOR_COVERAGE)
    }

    fn write_coverage(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (missing, refuted) = coverage::gaps(&self.met);
        let all = coverage::EVENTS.len() * coverage::STATES.len();
        let argued = all - missing.len() - self.met.len() + refuted.len();
        writeln!(f, "\nof {all} pairs of state and event {} were met, {argued} argued away", self.met.len())?;
        for (state, event) in missing {
            writeln!(f, "  not met: {event} while {state}")?;
        }
        for (state, event) in refuted {
            writeln!(f, "  argued away, and met: {event} while {state}")?;
        }
        Ok(())
    }
}

impl Waits {
    /// A line for each second that some call waited into; those beyond the eighth together.
    fn write_histogram(&self, cause: Cause, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const LAST: u64 = 8;
        let mut seconds = BTreeMap::<u64, u64>::new();
        for (millisecond, count) in &self.by_millisecond {
            *seconds.entry((millisecond / 1_000).min(LAST)).or_default() += count;
        }
        let most = seconds.values().max().copied().unwrap_or(1).max(1);
        for (second, count) in seconds {
            let more = if second == LAST { "and more" } else { "" };
            let bar = "#".repeat((count * BAR).div_ceil(most) as usize);
            writeln!(f, "{cause:16} {second:2} s {more:8} {count:9} {bar}")?;
        }
        Ok(())
    }

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
            let bar = "#".repeat((count * BAR).div_ceil(most) as usize);
            writeln!(f, "{count:9}  {outcome:24} {bar}")?;
        }
        writeln!(f, "\nfrom the failure to the recorder, in seconds; d: the longest that a message takes")?;
        writeln!(f, "    calls     p50     p99     max   bound  cause")?;
        for (cause, waits) in &self.waits {
            let [p50, p99, max] = [0.5, 0.99, 1.0].map(|share| waits.quantile(share));
            let calls: u64 = waits.by_millisecond.values().sum();
            let bound = waits.bound_max.as_secs_f64();
            writeln!(f, "{calls:9} {p50:7.3} {p99:7.3} {max:7.3} {bound:7.3}  {cause:16} <= {}", cause.formula())?;
        }
        writeln!(f, "\nthe same, second by second")?;
        for (cause, waits) in &self.waits {
            waits.write_histogram(*cause, f)?;
        }
        self.write_coverage(f)
    }
}
