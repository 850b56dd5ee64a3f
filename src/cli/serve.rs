//! `kolbox serve`: the gateway. Tells whoever starts it what has to be entered at Twilio.

use std::{fmt::Write, process::ExitCode};

use clap::Args;

use super::{ConfigOption, FAILED, UNUSABLE, block_on, complain};
use crate::{
    config::Config,
    gateway::{self, Ended},
    system::log,
};

pub mod at_twilio;
mod help;
mod warnings;

pub(super) use help::{long_help, short_help};

/// The gateway: answers calls until SIGTERM
#[derive(Debug, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    config: ConfigOption,
}

/// Serves until it is told to stop.
pub fn run(arguments: &ServeArguments) -> ExitCode {
    let world = arguments.config.find();
    let config = match world.load() {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    if let Err(error) = log::start(&config.log) {
        complain(&error);
        return ExitCode::from(FAILED);
    }
    anstream::eprint!("{}", told_at_the_start(&config));
    block_on(async {
        match gateway::serve(config).await {
            Ok(Ended::Drained) => ExitCode::SUCCESS,
            Ok(Ended::AtOnce) => ExitCode::from(FAILED),
            Err(error) if error.is_setting() => {
                complain(&error);
                if let Some(file) = world.file() {
                    anstream::eprintln!("kolbox: the configuration is {}", file.display());
                }
                ExitCode::from(UNUSABLE)
            }
            Err(error) => {
                complain(&error);
                ExitCode::from(FAILED)
            }
        }
    })
}

/// What to enter for the number at Twilio, and what will keep calls from coming through.
fn told_at_the_start(config: &Config) -> String {
    let mut text = at_twilio::entries(&config.public);
    for warning in warnings::all(config) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "Warning: {warning}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::TlsMode, twilio::sid::AccountSid};

    #[test]
    fn a_box_that_is_set_up_is_told_what_to_enter_and_warned_of_nothing() {
        let mut config = Config::default();
        config.public.host = Some("gw.example.co.il".to_owned());
        config.public.tls.mode = TlsMode::Files;
        config.twilio.account_sid = Some(AccountSid::from_number(1));
        let text = told_at_the_start(&config);
        assert!(text.contains("https://gw.example.co.il/webhook/incoming_call#"), "{text}");
        assert!(!text.contains("Warning"), "{text}");
    }

    #[test]
    fn a_box_with_nothing_set_is_warned_line_by_line() {
        let text = told_at_the_start(&Config::default());
        for part in ["\nWarning: public.host is not set", "\nWarning: the certificate is self-signed"] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }
}
