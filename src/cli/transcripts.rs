//! `kolbox transcripts`: reads the store while the gateway is stopped.

use std::{
    error::Error,
    fmt,
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use clap::{Args, Subcommand};

use self::filters::Filters;
use super::{ConfigOption, FAILED, UNUSABLE, complain};
use crate::{
    transcripts::{
        State, StoreError, Stored, TranscriptId,
        read::{ReadError, read},
        record::NotATranscriptId,
    },
    twilio::sid::CallSid,
};

mod filters;

/// Read the kept transcripts while the gateway is stopped; one JSON object a line on stdout
#[derive(Debug, Args)]
pub struct TranscriptsArguments {
    #[command(subcommand)]
    pub what: Transcripts,
    #[command(flatten)]
    pub config: ConfigOption,
}

/// Which transcripts.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum Transcripts {
    /// All that are final, in the order in which they are sent upstream; or those that fit
    #[command(after_help = LIST_HELP)]
    List(Filters),
    /// One of them, final or not
    #[command(after_help = SHOW_HELP)]
    Show {
        /// As `list` shows it, or its call's CallSid
        id: String,
    },
    /// The same as `list`, for a file: the objects that are sent upstream
    #[command(after_help = EXPORT_HELP)]
    Export(Filters),
}

const LIST_HELP: &str = "\
Examples:
  kolbox transcripts list --since 7d
  kolbox transcripts list --since 2026-11-22T00:00:00+02:00 --until 2026-11-23T00:00:00+02:00
  kolbox transcripts list --state unsynced,parked
  kolbox transcripts list --state awaiting
  kolbox transcripts list --call CA0123456789abcdef0123456789abcdef";

const SHOW_HELP: &str = "\
Examples:
  kolbox transcripts show 01JD7Y3R6N5Q0X2K8M4B9C1DEF
  kolbox transcripts show CA0123456789abcdef0123456789abcdef";

const EXPORT_HELP: &str = "\
Examples:
  kolbox transcripts export > transcripts.ndjson
  kolbox transcripts export --state synced --until 30d > old.ndjson";

/// What `show` was given.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Id(TranscriptId),
    Call(CallSid),
}

/// What was met besides what was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Met {
    /// Records that fit but are not final yet, and so were not written.
    drafts: usize,
    damaged: usize,
}

/// Why transcripts cannot be shown.
#[derive(Debug)]
enum TranscriptsError {
    Id(NotATranscriptId),
    /// `--since` is not before `--until`.
    NoTime,
    Store(StoreError),
    /// The store broke off; what came before was written.
    Read(ReadError),
    NotFound(Wanted),
    Output(io::Error),
}

/// Reads the store: 0 when everything was shown, 1 when something is missing or damaged, 2 for what is no id and
/// for a configuration that does not tell where the store is.
pub fn run(arguments: &TranscriptsArguments) -> ExitCode {
    let store = match arguments.config.find().store_path() {
        Ok(path) => path,
        Err(error) => {
            complain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    match write(&store, &arguments.what, BufWriter::new(io::stdout().lock())) {
        Ok(met) => {
            if met.drafts > 0 {
                anstream::eprintln!(
                    "kolbox: {} more still wait for their recording or their text (--state awaiting shows them)",
                    met.drafts
                );
            }
            if met.damaged > 0 {
                anstream::eprintln!(
                    "kolbox: {} more are damaged and cannot be shown; all that can be read was written",
                    met.damaged
                );
                return ExitCode::from(FAILED);
            }
            ExitCode::SUCCESS
        }
        // A reader that has seen enough is no mistake.
        Err(TranscriptsError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            let is_usage = matches!(error, TranscriptsError::Id(_) | TranscriptsError::NoTime);
            ExitCode::from(if is_usage { UNUSABLE } else { FAILED })
        }
    }
}

/// Writes what is asked for, one JSON object a line.
fn write(store: &Path, what: &Transcripts, out: impl Write) -> Result<Met, TranscriptsError> {
    match what {
        Transcripts::Show { id } => show(store, wanted(id)?, out),
        Transcripts::List(filters) | Transcripts::Export(filters) if filters.leave_something() => {
            list(store, filters, out)
        }
        Transcripts::List(_) | Transcripts::Export(_) => Err(TranscriptsError::NoTime),
    }
}

fn list(store: &Path, filters: &Filters, mut out: impl Write) -> Result<Met, TranscriptsError> {
    let mut met = Met::default();
    for record in read(store).map_err(TranscriptsError::Store)? {
        match record {
            Ok(stored) if !filters.fit(&stored) => {}
            Ok(stored) if filters.want(stored.state) => write_line(&mut out, &stored)?,
            Ok(stored) if stored.state == State::AwaitingRecording && filters.state.is_empty() => met.drafts += 1,
            Ok(_) => {}
            // Whether it would have fitted cannot be known.
            Err(ReadError::Damaged(_)) => met.damaged += 1,
            Err(error) => return Err(TranscriptsError::Read(error)),
        }
    }
    out.flush().map_err(TranscriptsError::Output)?;
    Ok(met)
}

fn show(store: &Path, wanted: Wanted, mut out: impl Write) -> Result<Met, TranscriptsError> {
    for record in read(store).map_err(TranscriptsError::Store)? {
        match record {
            Ok(stored) if wanted.is(&stored) => {
                write_line(&mut out, &stored)?;
                out.flush().map_err(TranscriptsError::Output)?;
                return Ok(Met::default());
            }
            // The one that is wanted may still come.
            Ok(_) | Err(ReadError::Damaged(_)) => {}
            Err(error) => return Err(TranscriptsError::Read(error)),
        }
    }
    Err(TranscriptsError::NotFound(wanted))
}

fn wanted(id: &str) -> Result<Wanted, TranscriptsError> {
    match id.parse() {
        Ok(call_sid) => Ok(Wanted::Call(call_sid)),
        Err(_) => id.parse().map(Wanted::Id).map_err(TranscriptsError::Id),
    }
}

impl Wanted {
    fn is(self, stored: &Stored) -> bool {
        match self {
            Self::Id(id) => stored.record.id == id,
            Self::Call(call_sid) => stored.record.call_sid == call_sid,
        }
    }
}

fn write_line(out: &mut impl Write, stored: &Stored) -> Result<(), TranscriptsError> {
    serde_json::to_writer(&mut *out, &stored.record)
        .map_err(io::Error::from)
        .and_then(|()| out.write_all(b"\n"))
        .map_err(TranscriptsError::Output)
}

impl fmt::Display for TranscriptsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(error) => error.fmt(f),
            Self::Store(_) => f.write_str("the transcripts cannot be read"),
            Self::Read(_) => f.write_str("not all transcripts can be read"),
            Self::NoTime => f.write_str("no call can lie between --since and --until: --since must be the earlier one"),
            Self::NotFound(Wanted::Id(id)) => {
                write!(f, "no transcript has the id {id}: `kolbox transcripts list` has all")
            }
            Self::NotFound(Wanted::Call(call_sid)) => {
                write!(f, "no transcript is of the call {call_sid}: `kolbox transcripts list` has all")
            }
            Self::Output(_) => f.write_str("the output cannot be written"),
        }
    }
}

impl Error for TranscriptsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Id(_) | Self::NoTime | Self::NotFound(_) => None,
            Self::Store(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Output(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{filters::Standing, *};
    use crate::transcripts::{
        Record, Store,
        record::samples::{at, record},
        sled_store::SledStore,
        stored::Sequence,
    };

    fn written(store: &Path, what: &Transcripts) -> (Vec<Record>, Met) {
        let mut out = Vec::new();
        let met = write(store, what, &mut out).unwrap();
        let lines = String::from_utf8(out).unwrap();
        (lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect(), met)
    }

    /// Three final records, one of them synced, and a draft.
    fn store_at(directory: &Path) {
        let mut store = SledStore::open(directory).unwrap();
        store.put_draft(&record(9)).unwrap();
        for number in [3, 1, 2] {
            store.put_final(&record(number)).unwrap();
        }
        store.mark_synced(Sequence(2), at("2026-11-22T08:16:00Z")).unwrap();
        store.park(Sequence(3), 422, at("2026-11-22T08:17:00Z")).unwrap();
    }

    #[test]
    fn final_records_are_written_as_they_are_sent_and_drafts_are_only_counted() {
        let directory = tempfile::tempdir().unwrap();
        store_at(directory.path());
        for what in [Transcripts::List(Filters::default()), Transcripts::Export(Filters::default())] {
            let (records, met) = written(directory.path(), &what);
            assert_eq!(records, [record(3), record(1), record(2)]);
            assert_eq!(met, Met { drafts: 1, damaged: 0 });
        }
        let show = |id: String| Transcripts::Show { id };
        for shown in [record(1), record(9)] {
            assert_eq!(written(directory.path(), &show(shown.id.to_string())).0, std::slice::from_ref(&shown));
            assert_eq!(written(directory.path(), &show(shown.call_sid.to_string())).0, [shown]);
        }
        let missing = write(directory.path(), &show(record(4).id.to_string()), io::sink());
        assert!(matches!(missing, Err(TranscriptsError::NotFound(Wanted::Id(id))) if id == record(4).id));
        let missing = write(directory.path(), &show(record(4).call_sid.to_string()), io::sink());
        assert!(matches!(missing, Err(TranscriptsError::NotFound(Wanted::Call(_)))));
    }

    #[test]
    fn filters_leave_what_fits_and_only_then_are_drafts_told() {
        let directory = tempfile::tempdir().unwrap();
        store_at(directory.path());
        let list = |filters: Filters| {
            let (records, met) = written(directory.path(), &Transcripts::List(filters));
            (records, met.drafts)
        };
        let state = |state| Filters { state: vec![state], ..Filters::default() };
        assert_eq!(list(state(Standing::Unsynced)), (vec![record(3)], 0));
        assert_eq!(list(state(Standing::Synced)), (vec![record(1)], 0));
        assert_eq!(list(state(Standing::Parked)), (vec![record(2)], 0));
        assert_eq!(list(state(Standing::Awaiting)), (vec![record(9)], 0));
        let call = |number| Filters { call: Some(record(number).call_sid), ..Filters::default() };
        assert_eq!(list(call(2)), (vec![record(2)], 0));
        assert_eq!(list(call(9)), (vec![], 1), "it is there, and not final");
        let began = record(1).started_at;
        let late = Filters { since: Some(began + std::time::Duration::from_secs(1)), ..Filters::default() };
        assert_eq!(list(late), (vec![], 0));
        let nothing = Transcripts::Export(Filters { since: Some(began), until: Some(began), ..Filters::default() });
        assert!(matches!(write(directory.path(), &nothing, io::sink()), Err(TranscriptsError::NoTime)));
    }

    #[test]
    fn what_is_no_id_or_no_store_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let show = Transcripts::Show { id: "newest".into() };
        assert!(matches!(write(directory.path(), &show, io::sink()), Err(TranscriptsError::Id(_))));
        let none = write(directory.path(), &Transcripts::List(Filters::default()), io::sink());
        assert!(matches!(none, Err(TranscriptsError::Store(StoreError::Missing(_)))));
        assert!(!directory.path().join("records").exists(), "looking makes nothing");
    }
}
