//! How fast a good call's webhooks are answered while hundreds of strangers take their time.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use tokio::{
    task::JoinSet,
    time::{MissedTickBehavior, interval, sleep},
};

use super::dawdlers::{Dawdler, nth};
use crate::support::{
    figures::{self, Table, Times},
    gateway::Gateway,
    phone::{CallError, Phone},
    wire::Wire,
};

/// Calls before anything is measured.
const WARM_UP_CALLS: usize = 20;
/// What all strangers are given to connect.
const GATHER_MAX: Duration = Duration::from_secs(20);
/// A stranger that was turned away comes back after this.
const RETURN_AFTER: Duration = Duration::from_millis(100);
const PROGRESS_EVERY: Duration = Duration::from_secs(10);
/// Failed calls that are told one by one.
const TOLD_MAX: usize = 10;

/// Slow strangers, and how fast good webhooks are answered meanwhile
#[derive(Debug, Args)]
pub struct SlowArguments {
    /// Strangers at once; each comes back when the box ends its connection
    #[arg(long, value_name = "N", default_value_t = 300)]
    connections: usize,
    /// How long webhooks are measured, with strangers and without
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    seconds: u64,
    /// New calls a second; each sends two webhooks
    #[arg(long, value_name = "N", default_value_t = 5)]
    rate: u32,
}

/// What one kind of stranger met.
#[derive(Debug, Default)]
struct Visits {
    now: usize,
    opened: usize,
    ended: Times,
    failed: usize,
}

type Log = Arc<Mutex<BTreeMap<&'static str, Visits>>>;

/// Measures, and prints. Whether no good call failed.
pub async fn run(arguments: &SlowArguments, settings: &[(String, String)]) -> Result<bool, Box<dyn Error>> {
    let gateway = Gateway::start(settings)?;
    let wire = Arc::new(Wire::new(gateway.public)?);
    let phone = Arc::new(Phone::new(wire.clone()));
    for _ in 0..WARM_UP_CALLS {
        measure_call(&phone, Instant::now()).await.map_err(|error| error.to_string())?;
    }
    let length = Duration::from_secs(arguments.seconds);

    eprintln!("webhooks without strangers, for {} s", arguments.seconds);
    let mut alone = measure(&phone, arguments.rate, length, "without strangers").await;

    let log = Log::default();
    let mut strangers = JoinSet::new();
    let connected = Arc::new(AtomicUsize::new(0));
    for number in 0..arguments.connections {
        strangers.spawn(keep_coming(nth(number), wire.clone(), log.clone(), connected.clone()));
    }
    let begin = Instant::now();
    while connected.load(Ordering::Relaxed) < arguments.connections && begin.elapsed() < GATHER_MAX {
        sleep(RETURN_AFTER).await;
    }
    eprintln!("{} strangers are there; webhooks for {} s", connected.load(Ordering::Relaxed), arguments.seconds);
    let mut beset = measure(&phone, arguments.rate, length, "with strangers").await;
    let memory = gateway.memory()?;
    let table = strangers_table(&mut log.lock().unwrap_or_else(PoisonError::into_inner));
    strangers.abort_all();

    println!("{}", webhooks_table(&mut alone, &mut beset, arguments.connections));
    println!("{table}");
    println!(
        "the box meanwhile: {} in RAM ({} at most), {} descriptors",
        figures::size(memory.resident),
        figures::size(memory.peak),
        memory.descriptors
    );
    for (message, count) in gateway.complaints() {
        println!("the box's log: {count} x {message}");
    }
    Ok(alone.failed + beset.failed == 0)
}

/// What good webhooks took.
#[derive(Debug, Default)]
struct Measured {
    times: Times,
    failed: usize,
}

/// New calls at a steady rate, whatever became of those before. A webhook's time runs from when it was due.
async fn measure(phone: &Arc<Phone>, rate: u32, length: Duration, what: &str) -> Measured {
    let (begin, mut told) = (Instant::now(), Instant::now());
    let mut tick = interval(Duration::from_secs(1) / rate.max(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut calls = JoinSet::new();
    while begin.elapsed() < length {
        let due = tick.tick().await.into_std();
        let phone = phone.clone();
        calls.spawn(async move { measure_call(&phone, due).await });
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            eprintln!("{what}: {} s", begin.elapsed().as_secs());
        }
    }
    let mut measured = Measured::default();
    for called in calls.join_all().await {
        match called {
            Ok(times) => times.into_iter().for_each(|took| measured.times.add(took)),
            Err(error) => {
                measured.failed += 1;
                if measured.failed <= TOLD_MAX {
                    eprintln!("{what}: a call failed: {error}");
                }
            }
        }
    }
    measured
}

async fn measure_call(phone: &Phone, due: Instant) -> Result<[Duration; 2], CallError> {
    let call = phone.call(due).await?;
    Ok([call.answered_after, phone.complete(&call, Instant::now()).await?])
}

/// Dawdles, again and again.
async fn keep_coming(dawdler: Dawdler, wire: Arc<Wire>, log: Log, connected: Arc<AtomicUsize>) {
    let note = |change: &dyn Fn(&mut Visits)| {
        change(log.lock().unwrap_or_else(PoisonError::into_inner).entry(dawdler.name()).or_default());
    };
    let mut was_there = false;
    loop {
        let mut since = None;
        let came = dawdler.dawdle(&wire, || {
            since = Some(Instant::now());
            note(&|visits| (visits.now, visits.opened) = (visits.now + 1, visits.opened + 1));
            if !was_there {
                was_there = true;
                connected.fetch_add(1, Ordering::Relaxed);
            }
        });
        let came = came.await;
        note(&|visits| {
            visits.now -= usize::from(since.is_some());
            match (&came, since) {
                (Ok(()), Some(since)) => visits.ended.add(since.elapsed()),
                _ => visits.failed += 1,
            }
        });
        sleep(RETURN_AFTER).await;
    }
}

fn webhooks_table(alone: &mut Measured, beset: &mut Measured, connections: usize) -> Table {
    let mut table = Table::new(&["good webhooks", "answered", "failed calls", "p50", "p99", "max"]);
    let with = format!("with {connections} strangers");
    for (name, measured) in [("alone", &mut *alone), (&with, &mut *beset)] {
        let times = &mut measured.times;
        let counts = [name.to_owned(), times.count().to_string(), measured.failed.to_string()];
        table.row(counts.into_iter().chain([0.5, 0.99, 1.0].map(|share| figures::time(times.quantile(share)))));
    }
    let ratios = [0.5, 0.99, 1.0].map(|share| {
        figures::ratio(beset.times.quantile(share).as_secs_f64(), alone.times.quantile(share).as_secs_f64())
    });
    table.row(["ratio".to_owned(), String::new(), String::new()].into_iter().chain(ratios));
    table
}

fn strangers_table(log: &mut BTreeMap<&'static str, Visits>) -> Table {
    let mut table = Table::new(&["strangers", "there", "came", "ended by the box", "after p50", "max", "turned away"]);
    for dawdler in Dawdler::ALL {
        let Some(visits) = log.get_mut(dawdler.name()) else { continue };
        let after = [0.5, 1.0].map(|share| match visits.ended.count() {
            0 => "never".to_owned(),
            _ => figures::time(visits.ended.quantile(share)),
        });
        let counts = [visits.now, visits.opened, visits.ended.count()].map(|count| count.to_string());
        let first = [dawdler.name().to_owned()].into_iter().chain(counts);
        table.row(first.chain(after).chain([visits.failed.to_string()]));
    }
    table
}
