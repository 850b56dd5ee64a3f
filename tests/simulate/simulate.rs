//! Any number of simulated worlds, from seeds: whether the promise holds in each, and how long failures keep callers waiting.
//!
//! `cargo run --release --example simulate -- --help`

use std::{
    io::{IsTerminal, Write, stderr},
    process::ExitCode,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Parser;
use stats::Stats;
use world::{Scenario, run};

mod shrink;
mod stats;
#[allow(dead_code, unused_imports)]
#[path = "../support/world/mod.rs"]
mod world;

const PROGRESS_EVERY: Duration = Duration::from_millis(500);
/// Lines of the story that a failure shows; all of them stand in a replay.
const STORY_MAX: usize = 60;

/// Plays simulated worlds and holds each against what must be true
#[derive(Debug, Parser)]
#[command(
    bin_name = "cargo run --release --example simulate --",
    after_help = "Examples:\n  … --seeds 100000            the first 100,000\n  … --seeds 1000 --from 5000  those from 5,000 on\n  … --replay 4711             one, step by step"
)]
struct Arguments {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    seeds: u64,
    /// The first
    #[arg(long, value_name = "SEED", default_value_t = 0)]
    from: u64,
    /// Threads [default: one for each processor]
    #[arg(long, value_name = "J")]
    jobs: Option<usize>,
    /// Tells one seed step by step, and nothing else
    #[arg(long, value_name = "SEED", conflicts_with = "seeds")]
    replay: Option<u64>,
    /// With --replay: with all that the seed gives, not made smaller first
    #[arg(long, requires = "replay")]
    whole: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match arguments.replay {
        Some(seed) => replay(seed, arguments.whole),
        None => play(&arguments),
    }
}

/// Seeds are handed out one by one; what came of them is added up, so that the number of threads changes nothing.
fn play(arguments: &Arguments) -> ExitCode {
    let jobs = arguments.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into)).max(1);
    let (next, failed) = (AtomicU64::new(0), AtomicBool::new(false));
    let failures = Mutex::new(Vec::new());
    let begin = Instant::now();
    let stats = std::thread::scope(|scope| {
        let work = || {
            let mut stats = Stats::default();
            while !failed.load(Ordering::Relaxed) {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= arguments.seeds {
                    break;
                }
                let seed = arguments.from + index;
                let run = run(&Scenario::of_seed(seed), false);
                stats.add(&run);
                if run.broken.is_some() {
                    failed.store(true, Ordering::Relaxed);
                    failures.lock().unwrap_or_else(PoisonError::into_inner).push(seed);
                }
            }
            stats
        };
        let threads: Vec<_> = (0..jobs).map(|_| scope.spawn(work)).collect();
        while stderr().is_terminal() && !threads.iter().all(std::thread::ScopedJoinHandle::is_finished) {
            draw_progress(next.load(Ordering::Relaxed).min(arguments.seeds), arguments.seeds, begin.elapsed());
            std::thread::sleep(PROGRESS_EVERY);
        }
        let mut all = Stats::default();
        for thread in threads {
            all.merge(thread.join().expect("a world panicked"));
        }
        all
    });
    if stderr().is_terminal() {
        eprint!("\r\x1b[K");
    }
    print!("{stats}");
    println!("{:.0} seeds a second on {jobs} threads", stats.runs as f64 / begin.elapsed().as_secs_f64());
    let mut failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
    failures.sort_unstable();
    match failures.first() {
        None if !stats.is_covered() => {
            println!("BROKEN: a pair of state and event was argued away and met, or was never met");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
        Some(&seed) => tell_failure(seed),
    }
}

fn draw_progress(done: u64, all: u64, taken: Duration) {
    let share = done as f64 / all.max(1) as f64;
    let filled = (share * 40.0) as usize;
    let rate = done as f64 / taken.as_secs_f64().max(0.001);
    eprint!("\r[{:<40}] {done} of {all}, {rate:.0} seeds/s", "#".repeat(filled));
    let _ = stderr().flush();
}

/// The failure as small as it can be made, its last events, and how to see all of them.
fn tell_failure(seed: u64) -> ExitCode {
    eprintln!("seed {seed} breaks a rule; making it smaller");
    let scenario = shrink::smallest(Scenario::of_seed(seed));
    let run = run(&scenario, true);
    let skipped = run.log.len().saturating_sub(STORY_MAX);
    for line in &run.log[skipped..] {
        println!("{line}");
    }
    print!("\n{scenario}");
    if let Some(broken) = run.broken {
        println!("BROKEN: {broken}");
    }
    println!("step by step: cargo run --release --example simulate -- --replay {seed}");
    println!("once mended, it lives on in tests/simulation_regressions.rs, whose head says how");
    ExitCode::FAILURE
}

fn replay(seed: u64, whole: bool) -> ExitCode {
    let scenario = Scenario::of_seed(seed);
    let scenario = if whole || run(&scenario, false).broken.is_none() { scenario } else { shrink::smallest(scenario) };
    let run = run(&scenario, true);
    run.log.iter().for_each(|line| println!("{line}"));
    print!("\n{scenario}");
    match run.broken {
        None => println!("every rule holds, after {} steps", run.steps),
        Some(broken) => {
            println!("BROKEN: {broken}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
