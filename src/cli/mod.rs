//! The command line: parses it, runs one subcommand, and turns the outcome into an exit code.

use std::{error::Error, ffi::OsString, future::Future, path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand};

use crate::{
    config::{Config, world::World},
    limits::{CALLS_MAX, RECORDER_CALLS_MAX},
};

pub mod call;
pub mod check;
pub mod demo;
pub mod model;
pub mod serve;
pub mod signature;
pub mod transcribe;
pub mod transcripts;

/// A check failed, or something went wrong while running.
const FAILED: u8 = 1;
/// Wrong usage, or a configuration that cannot be used: trying again will not help.
const UNUSABLE: u8 = 2;

/// Threads that serve sockets. The box has few cores, and the store has a thread of its own.
const WORKERS: usize = 2;

const AFTER_HELP: &str = "\
Begin with:
  kolbox demo                         see everything at work, with no account and no hardware
  kolbox check                        what has to be put right before the first call

Exit codes: 0 fine, 1 a check failed or a run-time error, 2 wrong usage or a configuration that cannot be used";

const DEMO_HELP: &str = "\
Examples:
  kolbox demo                         some 85 seconds, ends with a summary
  kolbox demo --keep-running          stays up, with its status page";

const CALL_HELP: &str = "\
Examples (the token is taken from TWILIO_AUTH_TOKEN):
  kolbox call https://127.0.0.1:8443/webhook/incoming_call
  kolbox call https://127.0.0.1:8443/webhook/incoming_call --print-twiml
  kolbox call https://127.0.0.1:8443/webhook/incoming_call --calls 8 --fault no-stream --rest-listen 127.0.0.1:4010

For the faults, the gateway's twilio.api_base must be the address of --rest-listen.
Exit code 0: every call ended in a stream or a recording.";

const CHECK_HELP: &str = "\
Examples:
  kolbox check
  kolbox check --config kolbox.toml

Exit code 1: something needs fixing; the line says what to do.";

const SIGNATURE_HELP: &str = "\
Examples (URL and signature as they arrived; the token from the configuration or TWILIO_AUTH_TOKEN):
  kolbox signature --url https://gw.example.co.il/webhook/incoming_call --signature 'hpZ…=' --form 'CallSid=CA…&From=…'
  kolbox signature --url wss://gw.example.co.il/ws/twilio-media --signature 'hpZ…=' --websocket

Exit code 0: valid. 1: invalid, with every form of the URL that was tried and what to change.";

const TRANSCRIPTS_HELP: &str = "\
Examples (the gateway must be stopped: it holds the store):
  kolbox transcripts list
  kolbox transcripts list --since 7d --state unsynced,parked
  kolbox transcripts show 01JD7Y3R6N5Q0X2K8M4B9C1DEF
  kolbox transcripts export > transcripts.ndjson

Damaged records are left out and counted; everything else is written. Nothing in the store is changed.
Exit code 0: all was written. 1: something is missing or damaged.";

const TRANSCRIBE_HELP: &str = "\
Examples (with [speech] of the configuration; KOLBOX_SPEECH__ENGINE and its like replace what stands there):
  kolbox transcribe message.mp3
  kolbox transcribe call.wav --json
  KOLBOX_SPEECH__ENGINE=wyoming KOLBOX_SPEECH__URL=tcp://speech.lan:10300 kolbox transcribe call.wav

Exit code 0: the text is on stdout, none if nothing was said. 1: the engine gave none; the message says what to do.";

const MODEL_HELP: &str = "\
Examples:
  kolbox model                        what is in use, and what can be downloaded
  kolbox model download base-q5_1     into models/ of the store; goes on where an earlier try stopped
  kolbox model check ggml-base.bin

Exit code 1: the model in use, or the one that was asked for, cannot be used.";

/// An office box that answers Twilio calls, streams and transcribes them, and never loses one
#[derive(Debug, Parser)]
#[command(name = "kolbox", disable_version_flag = true, arg_required_else_help = true, after_help = AFTER_HELP)]
struct CommandLine {
    /// Print version and git revision
    #[arg(long, short = 'V')]
    version: bool,
    /// With --version: also what was fixed when the program was compiled
    #[arg(long, requires = "version")]
    verbose: bool,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(after_help = serve::short_help(), after_long_help = serve::long_help())]
    Serve(serve::ServeArguments),
    #[command(after_help = DEMO_HELP)]
    Demo(demo::DemoArguments),
    #[command(after_help = CALL_HELP)]
    Call(call::CallArguments),
    #[command(after_help = CHECK_HELP)]
    Check(check::CheckArguments),
    #[command(after_help = SIGNATURE_HELP)]
    Signature(signature::SignatureArguments),
    #[command(after_help = TRANSCRIPTS_HELP)]
    Transcripts(transcripts::TranscriptsArguments),
    #[command(after_help = TRANSCRIBE_HELP)]
    Transcribe(transcribe::TranscribeArguments),
    #[command(after_help = MODEL_HELP)]
    Model(model::ModelArguments),
}

/// Where the configuration is; part of several subcommands.
#[derive(Debug, Default, Args)]
pub struct ConfigOption {
    /// The configuration, in place of KOLBOX_CONFIG and /etc/kolbox/kolbox.toml
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
}

impl ConfigOption {
    /// What is there to load from.
    pub fn find(&self) -> World {
        World::find(self.config.as_deref())
    }

    /// The configuration's values, or its mistakes on stderr and the exit code for them.
    pub fn load(&self) -> Result<Config, ExitCode> {
        self.find().load_values().map_err(|error| {
            complain(&error);
            ExitCode::from(UNUSABLE)
        })
    }
}

/// Does what the command line says.
pub fn main() -> ExitCode {
    run(std::env::args_os())
}

fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let line = match CommandLine::try_parse_from(arguments) {
        Ok(line) => line,
        Err(error) => {
            // Help goes to stdout and is no mistake. A reader that went away does not matter.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(UNUSABLE) } else { ExitCode::SUCCESS };
        }
    };
    if line.version {
        anstream::println!("{}", version(line.verbose));
        return ExitCode::SUCCESS;
    }
    match line.command {
        Some(Command::Serve(arguments)) => serve::run(&arguments),
        Some(Command::Demo(arguments)) => block_on(demo::run(arguments)),
        Some(Command::Call(arguments)) => block_on(call::run(arguments)),
        Some(Command::Check(arguments)) => check::run(&arguments),
        Some(Command::Signature(arguments)) => signature::run(&arguments),
        Some(Command::Transcripts(arguments)) => transcripts::run(&arguments),
        Some(Command::Transcribe(arguments)) => block_on(transcribe::run(arguments)),
        Some(Command::Model(arguments)) => block_on(model::run(arguments)),
        None => ExitCode::from(UNUSABLE),
    }
}

/// `kolbox 0.1.0 (1a2b3c4d5e6f)`, and with `verbose` what this build can hold.
fn version(verbose: bool) -> String {
    let short = format!("kolbox {} ({})", env!("CARGO_PKG_VERSION"), env!("KOLBOX_REVISION"));
    if !verbose {
        return short;
    }
    let (arch, os) = (std::env::consts::ARCH, std::env::consts::OS);
    format!(
        "{short}\ncalls: {CALLS_MAX} at once, and {RECORDER_CALLS_MAX} more that are sent straight to the recorder\n\
         target: {arch} {os}"
    )
}

/// Runs something asynchronous to its end, on few threads. What must be finished has been awaited by then; a look-up of a
/// name that hangs in the system's resolver holds nothing up.
fn block_on(work: impl Future<Output = ExitCode>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build();
    match runtime {
        Ok(runtime) => {
            let code = runtime.block_on(work);
            runtime.shutdown_background();
            code
        }
        Err(error) => {
            complain(&error);
            ExitCode::from(FAILED)
        }
    }
}

/// An error on stderr, with what caused it.
fn complain(error: &dyn Error) {
    anstream::eprintln!("kolbox: {}", with_causes(error));
}

/// An error and all that caused it, the last cause last.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(&format!(": {cause}"));
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(line: &str) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_contradicts_itself_nowhere() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_readme_is_taken() {
        for line in [
            "kolbox --version",
            "kolbox --version --verbose",
            "kolbox serve --config kolbox.toml",
            "kolbox demo --keep-running",
            "kolbox call https://localhost:8443/webhook/incoming_call --auth-token t --calls 3 --fault media-stops",
            "kolbox call https://localhost/webhook/incoming_call --auth-token t --audio a.wav --rest-listen 127.0.0.1:1",
            "kolbox call https://localhost/webhook/incoming_call --auth-token t --print-twiml --insecure",
            "kolbox call https://localhost/webhook/incoming_call --auth-token t --handshake --ca ca.pem",
            "kolbox check",
            "kolbox signature --url https://x/ --signature s --form A=1&B=2",
            "kolbox signature --url wss://x/ --signature s --websocket --config kolbox.toml",
            "kolbox transcripts list",
            "kolbox transcripts show 01JD --config kolbox.toml",
            "kolbox transcripts --config kolbox.toml export",
            "kolbox transcribe call.wav --json --config kolbox.toml",
            "kolbox model",
            "kolbox model list --config kolbox.toml",
            "kolbox model check ggml-base.bin",
            "kolbox model download base-q5_1 --from http://files.lan/models",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn wrong_usage_is_told_apart_from_a_failure() {
        for line in ["kolbox", "kolbox fly", "kolbox serve --port 1", "kolbox --verbose", "kolbox transcripts show"] {
            assert_eq!(run(line.split(' ').map(OsString::from)), ExitCode::from(UNUSABLE), "{line}");
        }
        assert_eq!(run(["kolbox", "--help"].map(OsString::from)), ExitCode::SUCCESS);
    }

    #[test]
    fn the_long_version_tells_how_many_calls_fit() {
        assert!(version(false).starts_with("kolbox 0.1.0 ("));
        assert!(!version(false).contains('\n'));
        assert!(version(true).contains(&format!("calls: {CALLS_MAX} at once")));
    }
}
