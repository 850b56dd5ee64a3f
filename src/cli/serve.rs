//! `kolbox serve`: the gateway. Tells whoever starts it what has to be entered at Twilio.

use std::{fmt::Write, process::ExitCode};

use clap::Args;

use super::{ConfigOption, FAILED, UNUSABLE, block_on, complain};
use crate::{
    config::{Config, SpeechEngine, TlsMode},
    gateway::{self, Ended},
    system::log,
};

/// The gateway: answers calls until SIGTERM
#[derive(Debug, Args)]
pub struct ServeArguments {
    #[command(flatten)]
    config: ConfigOption,
}

/// Serves until it is told to stop.
pub fn run(arguments: &ServeArguments) -> ExitCode {
    let config = match arguments.config.load() {
        Ok(config) => config,
        Err(code) => return code,
    };
    if let Err(error) = log::start(&config.log) {
        complain(&error);
        return ExitCode::from(FAILED);
    }
    anstream::eprint!("{}", settings_at_twilio(&config));
    block_on(async {
        match gateway::serve(config).await {
            Ok(Ended::Drained) => ExitCode::SUCCESS,
            Ok(Ended::AtOnce) => ExitCode::from(FAILED),
            Err(error) => {
                complain(&error);
                ExitCode::from(if error.is_setting() { UNUSABLE } else { FAILED })
            }
        }
    })
}

/// What to enter for the number at Twilio, and what will keep calls from coming through.
fn settings_at_twilio(config: &Config) -> String {
    let host = config.public.host.as_deref().unwrap_or("PUBLIC-NAME");
    let mut text = format!(
        "Enter at Twilio, for each number (Phone Numbers > Active numbers > the number > Voice):\n\
         \x20 A call comes in        Webhook  https://{host}/webhook/incoming_call  HTTP POST\n\
         \x20 Call status changes             https://{host}/webhook/call_status  HTTP POST\n\
         \x20 Primary handler fails  a TwiML Bin that takes a message, see the README: a dead box must not be a dead \
         line\n"
    );
    for warning in warnings(config) {
        // Writing into a string cannot fail.
        let _ = writeln!(text, "Warning: {warning}");
    }
    text
}

fn warnings(config: &Config) -> Vec<&'static str> {
    let mut warnings = Vec::new();
    if config.public.host.is_none() {
        warnings.push("public.host is not set: PUBLIC-NAME above is the name under which Twilio reaches this box");
    }
    if config.public.tls.mode == TlsMode::SelfSigned {
        warnings.push(
            "the certificate is self-signed, and Twilio refuses it: set public.tls.mode = \"files\", or let something \
             in front end TLS",
        );
    }
    if !config.twilio.validate_signatures {
        warnings.push("twilio.validate_signatures is off: anybody who reaches this box can send it webhooks");
    }
    if config.speech.engine != SpeechEngine::None {
        warnings.push("speech.engine: no engine is built in yet; records are kept and sent untranscribed");
    }
    if config.twilio.account_sid.is_none() {
        warnings.push("twilio.account_sid is not set: a call whose stream fails cannot be sent to the recorder");
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twilio::sid::AccountSid;

    #[test]
    fn the_values_to_enter_stand_on_the_public_name() {
        let mut config = Config::default();
        config.public.host = Some("gw.example.co.il:8443".to_owned());
        config.public.tls.mode = TlsMode::Files;
        config.twilio.account_sid = Some(AccountSid::from_number(1));
        let text = settings_at_twilio(&config);
        assert!(text.contains(" https://gw.example.co.il:8443/webhook/incoming_call  HTTP POST\n"), "{text}");
        assert!(text.contains(" https://gw.example.co.il:8443/webhook/call_status  HTTP POST\n"), "{text}");
        assert!(!text.contains("Warning"), "{text}");
    }

    #[test]
    fn what_keeps_calls_from_coming_through_is_said_at_the_start() {
        let mut config = Config::default();
        config.twilio.validate_signatures = false;
        let text = settings_at_twilio(&config);
        for part in ["public.host", "self-signed", "validate_signatures", "account_sid"] {
            assert!(text.contains(&format!("Warning: {part}")) || text.contains(part), "{part}: {text}");
        }
    }
}
