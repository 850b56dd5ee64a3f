//! Two ways to do the same, timed in turns in one run: only their ratio means anything on a machine that does other work.

use std::time::Duration;

use super::process::thread_cpu_time;

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

/// How long `turns` turns keep this thread on the CPU: what the machine does meanwhile is not in it.
pub fn time(turns: u32, mut turn: impl FnMut(u32)) -> Duration {
    let begin = thread_cpu_time().expect("the kernel counts a thread's time");
    (0..turns).for_each(&mut turn);
    thread_cpu_time().expect("as before") - begin
}

/// Prints both, and the median of the rounds' ratios beside the most that it may be. Whether it is no more than that.
pub fn tell(ours: (&str, &Timed), baseline: (&str, &Timed), ratio_max: f64) -> bool {
    let ratio = ratio(ours.1, baseline.1);
    println!("{:9.0} ns  {}", ours.1.median(), ours.0);
    println!("{:9.0} ns  {}", baseline.1.median(), baseline.0);
    println!("ratio {ratio:.2} (at most {ratio_max}; median of {} rounds)", ours.1.nanoseconds.len());
    ratio <= ratio_max
}

/// The median of the rounds' ratios.
pub fn ratio(ours: &Timed, baseline: &Timed) -> f64 {
    let rounds = ours.nanoseconds.iter().zip(&baseline.nanoseconds);
    median(rounds.map(|(ours, baseline)| ours / baseline).collect())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
