//! `kolbox transcripts`: reads the store while the gateway is stopped.

use std::{
    error::Error,
    fmt,
    io::{self, BufWriter, Write},
    path::Path,
    process::ExitCode,
};

use clap::{Args, Subcommand};

use super::{ConfigOption, FAILED, UNUSABLE, complain};
use crate::transcripts::{
    State, StoreError, Stored, TranscriptId,
    read::{ReadError, read},
    record::NotATranscriptId,
};

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
    /// All that are final, in the order in which they are sent upstream
    List,
    /// One of them, final or not
    Show {
        /// As `list` shows it
        id: String,
    },
    /// All that are final: the same objects that are sent upstream
    Export,
}

/// What was met besides what was asked for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Met {
    /// Records that are not final yet, and so were not written.
    drafts: usize,
    damaged: usize,
}

/// Why transcripts cannot be shown.
#[derive(Debug)]
enum TranscriptsError {
    Id(NotATranscriptId),
    Store(StoreError),
    /// The store broke off; what came before was written.
    Read(ReadError),
    NotFound(TranscriptId),
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
                anstream::eprintln!("kolbox: {} more still wait for their recording", met.drafts);
            }
            if met.damaged > 0 {
                anstream::eprintln!("kolbox: {} more are damaged and cannot be shown", met.damaged);
                return ExitCode::from(FAILED);
            }
            ExitCode::SUCCESS
        }
        // A reader that has seen enough is no mistake.
        Err(TranscriptsError::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::from(if matches!(error, TranscriptsError::Id(_)) { UNUSABLE } else { FAILED })
        }
    }
}

/// Writes what is asked for, one JSON object a line.
fn write(store: &Path, what: &Transcripts, mut out: impl Write) -> Result<Met, TranscriptsError> {
    let wanted = match what {
        Transcripts::Show { id } => Some(id.parse().map_err(TranscriptsError::Id)?),
        Transcripts::List | Transcripts::Export => None,
    };
    let mut met = Met::default();
    for record in read(store).map_err(TranscriptsError::Store)? {
        match (record, wanted) {
            (Ok(stored), Some(id)) if stored.record.id == id => {
                write_line(&mut out, &stored)?;
                out.flush().map_err(TranscriptsError::Output)?;
                return Ok(Met::default());
            }
            (Ok(_), Some(_)) => {}
            (Ok(stored), None) if stored.state == State::AwaitingRecording => met.drafts += 1,
            (Ok(stored), None) => write_line(&mut out, &stored)?,
            (Err(ReadError::Damaged(_)), _) => met.damaged += 1,
            (Err(error), _) => return Err(TranscriptsError::Read(error)),
        }
    }
    out.flush().map_err(TranscriptsError::Output)?;
    wanted.map_or(Ok(met), |id| Err(TranscriptsError::NotFound(id)))
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
            Self::NotFound(id) => write!(f, "no transcript has the id {id}"),
            Self::Output(_) => f.write_str("the output cannot be written"),
        }
    }
}

impl Error for TranscriptsError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Id(_) | Self::NotFound(_) => None,
            Self::Store(error) => Some(error),
            Self::Read(error) => Some(error),
            Self::Output(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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

    #[test]
    fn final_records_are_written_as_they_are_sent_and_drafts_are_only_counted() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = SledStore::open(directory.path()).unwrap();
        store.put_draft(&record(9)).unwrap();
        for number in [3, 1, 2] {
            store.put_final(&record(number)).unwrap();
        }
        store.mark_synced(Sequence(2), at("2026-11-22T08:16:00Z")).unwrap();
        drop(store);

        for what in [Transcripts::List, Transcripts::Export] {
            let (records, met) = written(directory.path(), &what);
            assert_eq!(records, [record(3), record(1), record(2)]);
            assert_eq!(met, Met { drafts: 1, damaged: 0 });
        }
        let show = |record: &Record| Transcripts::Show { id: record.id.to_string() };
        assert_eq!(written(directory.path(), &show(&record(1))).0, [record(1)]);
        assert_eq!(written(directory.path(), &show(&record(9))).0, [record(9)]);
        let missing = write(directory.path(), &show(&record(4)), io::sink());
        assert!(matches!(missing, Err(TranscriptsError::NotFound(id)) if id == record(4).id));
    }

    #[test]
    fn what_is_no_id_or_no_store_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let show = Transcripts::Show { id: "newest".into() };
        assert!(matches!(write(directory.path(), &show, io::sink()), Err(TranscriptsError::Id(_))));
        let none = write(directory.path(), &Transcripts::List, io::sink());
        assert!(matches!(none, Err(TranscriptsError::Store(StoreError::Missing(_)))));
        assert!(!directory.path().join("records").exists(), "looking makes nothing");
    }
}
