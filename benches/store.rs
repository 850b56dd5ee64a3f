//! The store alone on this machine's disk: records a second with one fsync a group, bytes written and kept for each byte
//! of payload, and what memory a record costs that waits or was handed over.
//!
//! One writer, as in the box. Figures go to stdout, progress to stderr. Where the folder for temporary files (`TMPDIR`)
//! lies in memory, name one on a disk.

use std::{error::Error, fs, io, path::Path, process::ExitCode, time::Instant};

use clap::Parser;
use jiff::Timestamp;
use kolbox::{
    transcripts::{Record, Sequence, Store, TranscriptId, sled_store::SledStore},
    twilio::sid::CallSid,
};
use serde_json::json;

#[allow(dead_code)]
#[path = "support/figures.rs"]
mod figures;

use figures::Table;

/// A caller's half minute, as text.
const WORDS: &str =
    "שלום, מדברת רחל מרחוב הרצל שתים עשרה. רציתי לבקש שיחזרו אליי בקשר לתור של יום רביעי בבוקר. תודה רבה. ";
const WORDS_TIMES: usize = 4;

#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench store --", about = "The store alone, on this machine's disk", long_about = None)]
struct Arguments {
    /// Records in all
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    records: u64,
    /// Records that share one fsync
    #[arg(long, value_name = "N", default_value_t = 100)]
    group: u64,
}

/// What this process has and has done, as the kernel counts it.
#[derive(Clone, Copy)]
struct Account {
    at: Instant,
    written: u64,
    anonymous: u64,
}

impl Account {
    fn now() -> io::Result<Self> {
        Ok(Self {
            at: Instant::now(),
            written: figure(&fs::read_to_string("/proc/self/io")?, "write_bytes:")?,
            anonymous: figure(&fs::read_to_string("/proc/self/status")?, "RssAnon:")? * 1024,
        })
    }
}

fn main() -> ExitCode {
    // cargo says `--bench` to every bench.
    let arguments = Arguments::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    match measure(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("nothing was measured: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    let mut store = SledStore::open(folder.path())?;
    let payload = serde_json::to_vec(&record(1)?)?.len() as u64 * arguments.records;
    let mut table = Table::new(&["", "records/s", "written", "on disk", "anonymous RSS", "more a record"]);
    let mut row = |name: &str, before: Account, store_bytes: u64| -> io::Result<Account> {
        let after = Account::now()?;
        let rate = arguments.records as f64 / (after.at - before.at).as_secs_f64();
        let more = after.anonymous.saturating_sub(before.anonymous) / arguments.records.max(1);
        table.row([
            name.to_owned(),
            format!("{rate:.0}"),
            figures::ratio((after.written - before.written) as f64, payload as f64),
            figures::ratio(store_bytes as f64, payload as f64),
            figures::size(after.anonymous),
            format!("{more} B"),
        ]);
        Account::now()
    };

    eprintln!("keeping {} records, {} at a time", arguments.records, arguments.group);
    let begin = Account::now()?;
    in_groups(arguments, &mut store, |store, number| store.put_final(&record(number)?).map(drop).map_err(Into::into))?;
    let kept = row("kept", begin, bytes_below(folder.path())?)?;

    eprintln!("handing them over");
    in_groups(arguments, &mut store, |store, number| {
        let next = store.first_unsynced()?.and_then(|stored| stored.sequence);
        assert_eq!(next, Some(Sequence(number)), "the oldest goes first");
        store.mark_synced(Sequence(number), Timestamp::now()).map_err(Into::into)
    })?;
    let synced = row("handed over", kept, bytes_below(folder.path())?)?;

    eprintln!("opening it again");
    drop(store);
    let store = SledStore::open(folder.path())?;
    assert_eq!(store.counts().synced, arguments.records, "all are there");
    row("opened again", synced, bytes_below(folder.path())?)?;

    print!("{table}");
    println!(
        "written and on disk: bytes for each byte of payload, of which a record has {}",
        payload / arguments.records
    );
    Ok(())
}

fn in_groups(
    arguments: &Arguments,
    store: &mut SledStore,
    mut change: impl FnMut(&mut SledStore, u64) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    for number in 1..=arguments.records {
        change(store, number)?;
        if number % arguments.group == 0 || number == arguments.records {
            store.make_durable()?;
        }
    }
    Ok(())
}

fn record(number: u64) -> Result<Record, serde_json::Error> {
    let [call_sid, began] = [number, number * 1_000].map(u128::from);
    let at = Timestamp::from_second(1_767_225_600 + i64::try_from(began / 1_000).unwrap_or(0)).unwrap_or_default();
    let ended = at + jiff::SignedDuration::from_secs(41);
    serde_json::from_value(json!({
        "id": TranscriptId::new(at, call_sid).to_string(), "version": 1,
        "call_sid": CallSid::from_number(call_sid).to_string(), "stream_sid": null, "recording_sid": null,
        "from": "+972501234567", "to": "+97231234567", "direction": "inbound",
        "source": "stream", "outcome": "transcribed",
        "started_at": format!("{at:.3}"), "ended_at": format!("{ended:.3}"), "duration_ms": 41_000,
        "language": "he", "engine": "none", "text": WORDS.repeat(WORDS_TIMES), "segments": [],
        "fallback": {"reason": null, "redirected_at": null},
        "box": {"id": "01JD0000000000000000000000", "version": "0.1.0"},
    }))
}

fn figure(text: &str, name: &str) -> io::Result<u64> {
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok());
    found.ok_or_else(|| io::Error::other(format!("the kernel does not tell {name}")))
}

fn bytes_below(folder: &Path) -> io::Result<u64> {
    fs::read_dir(folder)?.try_fold(0, |sum, entry| {
        let entry = entry?;
        let data = entry.metadata()?;
        Ok(sum + if data.is_dir() { bytes_below(&entry.path())? } else { data.len() })
    })
}
