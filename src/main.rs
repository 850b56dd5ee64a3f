//! The program: arguments to one subcommand, its outcome to an exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kolbox::cli::main()
}
