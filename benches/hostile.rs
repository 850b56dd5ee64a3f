//! The box among hostile strangers: how fast good webhooks are answered meanwhile, and what memory it has afterwards.
//!
//! The real `kolbox serve` runs as a child process with TLS on loopback; nothing of it is replaced. Figures go to stdout,
//! progress to stderr.

use std::{error::Error, process::ExitCode};

use clap::{CommandFactory, Parser, Subcommand};

#[path = "hostile/dawdlers.rs"]
mod dawdlers;
#[path = "hostile/look.rs"]
mod look;
#[path = "hostile/memory.rs"]
mod memory;
#[path = "hostile/slow.rs"]
mod slow;
#[path = "hostile/strangers.rs"]
mod strangers;
mod support;

#[derive(Debug, Parser)]
#[command(bin_name = "cargo bench --bench hostile --", about = "The box among hostile strangers", long_about = None)]
struct Arguments {
    #[command(subcommand)]
    run: Option<Run>,
    /// A setting for the box's environment, say KOLBOX_PUBLIC__MAX_CONNECTIONS=64; may be given again
    #[arg(long, global = true, value_name = "NAME=VALUE", value_parser = setting)]
    set: Vec<(String, String)>,
}

#[derive(Debug, Subcommand)]
enum Run {
    Slow(slow::SlowArguments),
    Memory(memory::MemoryArguments),
}

fn main() -> ExitCode {
    // cargo says `--bench` to every bench.
    let arguments = Arguments::parse_from(std::env::args().filter(|argument| argument != "--bench"));
    match measure(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => {
            eprintln!("good calls were the worse for it");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("nothing was measured: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(arguments: &Arguments) -> Result<bool, Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    match &arguments.run {
        Some(Run::Slow(slow)) => runtime.block_on(slow::run(slow, &arguments.set)),
        Some(Run::Memory(memory)) => runtime.block_on(memory::run(memory, &arguments.set)),
        // A plain `cargo bench` runs every bench; these take minutes and want to be asked for.
        None => Arguments::command().print_help().map(|()| true).map_err(Into::into),
    }
}

fn setting(text: &str) -> Result<(String, String), &'static str> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("expected NAME=VALUE")
}
