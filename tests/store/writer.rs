//! The process that dies: the real store, which says on stdout what is safe, as the box says it to Twilio.

use std::{
    collections::VecDeque,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use jiff::Timestamp;
use kolbox::transcripts::{Sequence, Store, sled_store::SledStore};

use super::records::record;

const DIRECTORY: &str = "STORE_WRITER_DIRECTORY";
const SEED: &str = "STORE_WRITER_SEED";
const FIRST: &str = "STORE_WRITER_FIRST";
const MISTAKE: &str = "STORE_WRITER_WITHOUT_SYNC";
/// Operations that share one sync.
const GROUP_MAX: u64 = 12;
/// Unsynced records that are left to be handed over.
const BACKLOG: usize = 40;

/// One thing that is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Safe {
    Draft(u64),
    Final(u64),
    Synced(u64),
}

/// A writer that runs.
pub struct Writer {
    child: Child,
    output: BufReader<ChildStdout>,
}

impl Writer {
    /// Writes records of the numbers from `first` on into the store there, until it dies.
    pub fn start(directory: &Path, seed: u64, first: u64, without_sync: bool) -> Self {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--ignored", "--exact", "writer::the_writer", "--nocapture", "--test-threads=1"]);
        command.env(DIRECTORY, directory).env(SEED, seed.to_string()).env(FIRST, first.to_string());
        if without_sync {
            command.env(MISTAKE, "1");
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output }
    }

    /// The next thing that is safe; `None`: it has ended.
    pub fn next(&mut self) -> Option<Safe> {
        loop {
            let mut line = String::new();
            if self.output.read_line(&mut line).ok()? == 0 {
                return None;
            }
            // The test harness has its own lines; the first of ours may follow one of them.
            let words: Vec<&str> = line.split_whitespace().collect();
            let [.., "safe:", what, number] = words.as_slice() else { continue };
            let number = number.parse().unwrap();
            return Some(match *what {
                "draft" => Safe::Draft(number),
                "final" => Safe::Final(number),
                _ => Safe::Synced(number),
            });
        }
    }

    /// Kills it; returns what it had still said.
    pub fn kill(mut self) -> Vec<Safe> {
        self.child.kill().unwrap();
        let said = std::iter::from_fn(|| self.next()).collect();
        self.child.wait().unwrap();
        said
    }
}

/// Not a test of its own: the other process.
#[test]
#[ignore = "the process that the others start"]
fn the_writer() {
    let Some(directory) = std::env::var_os(DIRECTORY) else { return };
    let number = |name| std::env::var(name).unwrap().parse().unwrap();
    let run = || write(Path::new(&directory), number(SEED), number(FIRST));
    if std::env::var_os(MISTAKE).is_none() {
        run();
    } else {
        without_sync(run);
    }
}

#[cfg(any(debug_assertions, feature = "canaries"))]
fn without_sync(run: impl FnOnce()) {
    use kolbox::calls::canary::{Canary, with};

    with(Canary::SyncLeftOut, run);
}

#[cfg(not(any(debug_assertions, feature = "canaries")))]
fn without_sync(_: impl FnOnce()) {
    panic!("a box has no such switch");
}

/// Until it is killed, or the disk is gone.
fn write(directory: &Path, seed: u64, first: u64) {
    let mut random = fastrand::Rng::with_seed(seed);
    let mut store = SledStore::open(directory).unwrap();
    let mut next = first;
    let mut drafts = VecDeque::new();
    let mut unsynced: VecDeque<u64> = VecDeque::new();
    let mut out = std::io::stdout();
    loop {
        let mut said = String::new();
        for _ in 0..random.u64(1..=GROUP_MAX) {
            match random.u8(0..10) {
                0..=4 => {
                    store.put_final(&record(next)).unwrap();
                    said += &format!("safe: final {next}\n");
                    unsynced.push_back(next);
                    next += 1;
                }
                5..=6 => {
                    store.put_draft(&record(next)).unwrap();
                    said += &format!("safe: draft {next}\n");
                    drafts.push_back(next);
                    next += 1;
                }
                7 => {
                    let Some(number) = drafts.pop_front() else { continue };
                    store.put_final(&record(number)).unwrap();
                    said += &format!("safe: final {number}\n");
                    unsynced.push_back(number);
                }
                _ => {
                    if unsynced.len() < BACKLOG {
                        continue;
                    }
                    let stored = store.first_unsynced().unwrap().unwrap();
                    let number = super::records::number(&stored.record);
                    let Sequence(sequence) = stored.sequence.unwrap();
                    store.mark_synced(Sequence(sequence), Timestamp::now()).unwrap();
                    said += &format!("safe: synced {number}\n");
                    unsynced.retain(|known| *known != number);
                }
            }
        }
        store.make_durable().unwrap();
        if out.write_all(said.as_bytes()).and_then(|()| out.flush()).is_err() {
            return;
        }
    }
}
