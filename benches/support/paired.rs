//! Two ways to do the same, timed in turns in one run: only their ratio means anything on a machine that does other work.

use std::time::{Duration, Instant};

use super::figures;

/// What one way took, per turn, in each round.
#[derive(Debug, Default)]
pub struct Timed {
    nanoseconds: Vec<f64>,
}

impl Timed {
    /// One round: so many turns took so long together.
    pub fn add(&mut self, took: Duration, turns: u32) {
        self.nanoseconds.push(took.as_nanos() as f64 / f64::from(turns.max(1)));
    }

    /// Of a turn, over the rounds, in nanoseconds.
    pub fn median(&self) -> f64 {
        median(self.nanoseconds.clone())
    }
}

/// How long `turns` turns take.
pub fn time(turns: u32, mut turn: impl FnMut(u32)) -> (Duration, u32) {
    let begin = Instant::now();
    (0..turns).for_each(&mut turn);
    (begin.elapsed(), turns)
}

/// Prints both, and the median of the rounds' ratios beside the most that it may be. Whether it is no more than that.
pub fn tell(ours: (&str, &Timed), baseline: (&str, &Timed), ratio_max: f64) -> bool {
    let ratios = ours.1.nanoseconds.iter().zip(&baseline.1.nanoseconds).map(|(ours, baseline)| ours / baseline);
    let ratio = median(ratios.collect());
    println!("{:9.0} ns  {}", ours.1.median(), ours.0);
    println!("{:9.0} ns  {}", baseline.1.median(), baseline.0);
    println!(
        "ratio {} (at most {ratio_max}; median of {} rounds)",
        figures::ratio(ratio, 1.0),
        ours.1.nanoseconds.len()
    );
    ratio <= ratio_max
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
