//! Whether the box has as much memory after many hostile connections and calls as it had after a few.

use std::{
    collections::BTreeMap,
    error::Error,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use clap::Args;
use kolbox::simulator::upstream::Upstream;
use tokio::{
    task::JoinSet,
    time::{interval, sleep},
};

use super::{
    dawdlers::{Dawdler, HEAVIEST, dawdle_at_most, nth},
    look::{Look, looks_table},
    strangers::{Met, Stranger, strangers},
};
use crate::support::{
    figures,
    gateway::Gateway,
    phone::{CallError, Phone},
    wire::Wire,
};

/// One stranger in so many takes its time; the others are in a hurry.
const SLOW_ONE_IN: usize = 32;
/// Of those before the first look all but one in so many, and these first: later the patient ones gather, until nearly
/// every place is taken by one. The very first are the heaviest kinds, each of them in every place at once: so the box was
/// as full before that look as it can be after it, and what was free at the fullest moment is not taken for growth.
const HURRIED_FIRST_ONE_IN: usize = 5;
/// Who takes its time and is not ended by then leaves.
const SLOW_MAX: Duration = Duration::from_secs(15);
/// One call in so many streams; the others end before they do.
const STREAMED_ONE_IN: usize = 4;
/// Frames of such a stream: more than one piece for the spool.
const FRAMES: u32 = 60;
/// What the box is given to let go of the last connections and to hand over the last records.
const SETTLE_MAX: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// The store flushes by itself twice a second.
const REST: Duration = Duration::from_secs(2);
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
const TOLD_MAX: usize = 10;

/// Many hostile connections and calls, and what memory the box has before and after
#[derive(Debug, Args)]
pub struct MemoryArguments {
    /// Hostile connections in all
    #[arg(long, value_name = "N", default_value_t = 100_000)]
    connections: usize,
    /// Calls in all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    calls: usize,
    /// Connections, and calls, until memory is looked at for the first time
    #[arg(long, value_name = "N", default_value_t = 1_000)]
    first: usize,
    /// Looks at memory on the way from there to the end
    #[arg(long, value_name = "N", default_value_t = 4)]
    looks: usize,
    /// Hostile connections at once
    #[arg(long, value_name = "N", default_value_t = 200)]
    strangers: usize,
    /// Calls at once
    #[arg(long, value_name = "N", default_value_t = 16)]
    callers: usize,
    /// The first strangers come by turns as the later ones do, not the heaviest first: what a fullest moment leaves free
    /// then hides nothing that grows
    #[arg(long)]
    by_turns: bool,
}

/// What happened so far.
#[derive(Default)]
struct Tally {
    connections: AtomicUsize,
    calls: AtomicUsize,
    failed_calls: AtomicUsize,
    /// What strangers met in place of what they should have.
    surprises: Mutex<BTreeMap<(&'static str, Met), usize>>,
    outstayed: AtomicUsize,
}

/// The box, and all who come to it.
struct Siege {
    gateway: Gateway,
    upstream: Upstream,
    wire: Arc<Wire>,
    phone: Phone,
    strangers: Vec<Stranger>,
    /// So many slow ones come first.
    first_slow: usize,
    /// The kinds that come before all others, each as often as strangers are there at once.
    heaviest: &'static [Dawdler],
    /// Strangers there are at once.
    at_once: usize,
    tally: Tally,
    begin: Instant,
}

/// Measures, and prints. Whether every call was answered as it should be and left its record.
pub async fn run(arguments: &MemoryArguments, settings: &[(String, String)]) -> Result<bool, Box<dyn Error>> {
    let upstream = Upstream::serve(([127, 0, 0, 1], 0).into(), "").await?;
    let mut all_settings = vec![("KOLBOX_SYNC__URL".to_owned(), format!("http://{}/", upstream.address()))];
    all_settings.extend_from_slice(settings);
    let gateway = Gateway::start(&all_settings)?;
    let wire = Arc::new(Wire::new(gateway.public)?);
    let siege = Arc::new(Siege {
        phone: Phone::new(wire.clone()),
        strangers: strangers(&wire),
        first_slow: arguments.first - arguments.first / HURRIED_FIRST_ONE_IN,
        heaviest: if arguments.by_turns { &[] } else { &HEAVIEST },
        at_once: arguments.strangers.max(1),
        gateway,
        upstream,
        wire,
        tally: Tally::default(),
        begin: Instant::now(),
    });
    eprintln!("kolbox is process {}", siege.gateway.process_id());

    let mut looks = vec![siege.look()?];
    let descriptors = looks[0].memory.descriptors;
    for (connections, calls) in goals(arguments) {
        siege.go_on(connections, calls, arguments).await;
        siege.settle(descriptors).await;
        looks.push(siege.look()?);
    }
    print!("{}", looks_table(&looks));
    Ok(siege.tell())
}

/// How many connections and calls there are to be at each look.
fn goals(arguments: &MemoryArguments) -> Vec<(usize, usize)> {
    let first = (arguments.first.min(arguments.connections), arguments.first.min(arguments.calls));
    let looks = arguments.looks.max(1);
    let at = |all: usize, first: usize, look: usize| first + (all - first) * look / looks;
    (0..=looks).map(|look| (at(arguments.connections, first.0, look), at(arguments.calls, first.1, look))).collect()
}

impl Siege {
    /// Connections and calls until there were so many.
    async fn go_on(self: &Arc<Self>, connections: usize, calls: usize, arguments: &MemoryArguments) {
        let tally = &self.tally;
        let next_visit = Arc::new(AtomicUsize::new(tally.connections.load(Ordering::Relaxed)));
        let next_call = Arc::new(AtomicUsize::new(tally.calls.load(Ordering::Relaxed)));
        let mut work = JoinSet::new();
        for _ in 0..arguments.strangers {
            let (siege, next) = (self.clone(), next_visit.clone());
            work.spawn(async move {
                while let Some(number) = take(&next, connections) {
                    siege.visit(number).await;
                    siege.tally.connections.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for _ in 0..arguments.callers {
            let (siege, next) = (self.clone(), next_call.clone());
            work.spawn(async move {
                while let Some(number) = take(&next, calls) {
                    siege.call(number).await;
                    siege.tally.calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut told = interval(PROGRESS_EVERY);
        loop {
            tokio::select! {
                done = work.join_next() => if done.is_none() { return },
                _ = told.tick() => self.tell_progress(),
            }
        }
    }

    async fn visit(&self, number: usize) {
        let slow = match number {
            number if number < self.first_slow => Some(number),
            number => number.is_multiple_of(SLOW_ONE_IN).then_some(number / SLOW_ONE_IN),
        };
        if let Some(slow) = slow {
            let dawdler = self.heaviest.get(number / self.at_once).copied().unwrap_or_else(|| nth(slow));
            if !dawdle_at_most(dawdler, self.wire.clone(), SLOW_MAX).await {
                self.tally.outstayed.fetch_add(1, Ordering::Relaxed);
            }
            return;
        }
        let stranger = &self.strangers[number % self.strangers.len()];
        let met = stranger.visit(&self.wire).await;
        if met != stranger.expected {
            *self.surprises().entry((stranger.name, met)).or_default() += 1;
        }
    }

    async fn call(&self, number: usize) {
        if let Err(error) = self.whole_call(number.is_multiple_of(STREAMED_ONE_IN)).await
            && self.tally.failed_calls.fetch_add(1, Ordering::Relaxed) < TOLD_MAX
        {
            eprintln!("a call failed: {error}");
        }
    }

    async fn whole_call(&self, streams: bool) -> Result<(), CallError> {
        let call = self.phone.call(Instant::now()).await?;
        if streams {
            self.phone.stream(&call, FRAMES).await?;
        }
        self.phone.complete(&call, Instant::now()).await.map(drop)
    }

    /// Until the box has let go of every connection and handed over every record, and then a little longer.
    async fn settle(&self, descriptors: usize) {
        let begin = Instant::now();
        let calls = self.tally.calls.load(Ordering::Relaxed);
        let is_busy = || {
            // The connection to the upstream may stay.
            let open = self.gateway.memory().is_ok_and(|memory| memory.descriptors > descriptors + 1);
            open || *self.upstream.watch().borrow() < calls
        };
        while is_busy() && begin.elapsed() < SETTLE_MAX {
            sleep(LOOK_EVERY).await;
        }
        sleep(REST).await;
    }

    fn look(&self) -> Result<Look, Box<dyn Error>> {
        let (records, audio) = self.gateway.stored()?;
        let [connections, calls] = [&self.tally.connections, &self.tally.calls].map(|it| it.load(Ordering::Relaxed));
        let look = Look { connections, calls, memory: self.gateway.memory()?, records, audio };
        eprintln!("{:4} s: a look: {}", self.begin.elapsed().as_secs(), figures::size(look.memory.resident));
        Ok(look)
    }

    fn tell_progress(&self) {
        let [connections, calls] = [&self.tally.connections, &self.tally.calls].map(|it| it.load(Ordering::Relaxed));
        let Ok(memory) = self.gateway.memory() else { return eprintln!("the box is gone") };
        eprintln!(
            "{:4} s: {connections} connections, {calls} calls; {} in RAM, {} descriptors",
            self.begin.elapsed().as_secs(),
            figures::size(memory.resident),
            memory.descriptors
        );
    }

    /// What else happened. Whether no good call was the worse for it.
    fn tell(&self) -> bool {
        let [calls, failed, outstayed] =
            [&self.tally.calls, &self.tally.failed_calls, &self.tally.outstayed].map(|it| it.load(Ordering::Relaxed));
        let records = *self.upstream.watch().borrow();
        println!(
            "\n{calls} calls in {} s: {failed} failed, {records} records upstream",
            self.begin.elapsed().as_secs()
        );
        println!("slow strangers that the box did not end within {} s: {outstayed}", SLOW_MAX.as_secs());
        for ((name, met), count) in self.surprises().iter() {
            println!("not as expected: {count} x {name}: {met}");
        }
        for (message, count) in self.gateway.complaints() {
            println!("the box's log: {count} x {message}");
        }
        failed == 0 && records == calls
    }

    fn surprises(&self) -> MutexGuard<'_, BTreeMap<(&'static str, Met), usize>> {
        self.tally.surprises.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next number below the goal.
fn take(next: &AtomicUsize, goal: usize) -> Option<usize> {
    let number = next.fetch_add(1, Ordering::Relaxed);
    (number < goal).then_some(number)
}
