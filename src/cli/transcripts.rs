//! `kolbox transcripts`: reads the store while the gateway is stopped.

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::ConfigOption;

/// Read the kept transcripts while the gateway is stopped; one JSON object a line on stdout
#[derive(Debug, Args)]
pub struct TranscriptsArguments {
    #[command(subcommand)]
    pub what: Transcripts,
    #[command(flatten)]
    pub config: ConfigOption,
}

/// Which transcripts.
#[derive(Debug, Subcommand)]
pub enum Transcripts {
    /// All of them, in short
    List,
    /// One of them
    Show {
        /// As `list` shows it
        id: String,
    },
    /// All of them: the same objects that are sent upstream
    Export,
}

/// Reads the store.
pub fn run(arguments: &TranscriptsArguments) -> ExitCode {
    match arguments.config.load() {
        Ok(_) => {
            anstream::eprintln!("kolbox transcripts: not in this build yet");
            ExitCode::from(super::FAILED)
        }
        Err(code) => code,
    }
}
