//! `kolbox demo`: a gateway and a simulated Twilio on one laptop.

use std::process::ExitCode;

use clap::Args;

/// Everything on one laptop: a gateway, a simulated Twilio that places calls, a small upstream
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Stay up after the summary, with the status page
    #[arg(long)]
    pub keep_running: bool,
}

/// Shows everything at work.
pub async fn run(_arguments: DemoArguments) -> ExitCode {
    anstream::eprintln!("kolbox demo: not in this build yet");
    ExitCode::from(super::FAILED)
}
