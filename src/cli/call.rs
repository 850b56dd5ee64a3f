//! `kolbox call`: arguments to options, outcome to exit code.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode, time::Duration};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::{
    simulator::{
        call_tool::{self, CallOptions},
        faults::NamedFault,
    },
    system::http_client::Roots,
    twilio::sid::AccountSid,
};

/// Place simulated calls to a gateway, as Twilio would
#[derive(Debug, Args)]
pub struct CallArguments {
    /// The gateway's incoming_call webhook, e.g. https://127.0.0.1:8443/webhook/incoming_call
    url: Url,
    /// The token that webhooks and WebSockets are signed with: the gateway's own
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true)]
    auth_token: SecretString,
    /// The account that calls belong to: the gateway's own
    #[arg(long, env = "TWILIO_ACCOUNT_SID", default_value = "AC00000000000000000000000000000001")]
    account_sid: AccountSid,
    /// What the callers say: a WAV or MP3 file in place of the built-in Hebrew speech
    #[arg(long, value_name = "FILE")]
    audio: Option<PathBuf>,
    /// How many call at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    calls: u16,
    /// What goes wrong in each call
    #[arg(long)]
    fault: Option<NamedFault>,
    /// Where the REST side listens; the gateway's twilio.api_base must point there
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8499")]
    rest_listen: SocketAddr,
    /// The number's status callback in place of /webhook/call_status; "none": it has none
    #[arg(long, value_name = "URL")]
    status_callback: Option<String>,
    /// Callers hang up this long after they were answered, at the latest
    #[arg(long, value_name = "DURATION", default_value = "2m", value_parser = humantime::parse_duration)]
    hang_up: Duration,
    /// Trust the certificates of this PEM file only
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    ca: Option<PathBuf>,
    /// Trust any certificate, also beyond loopback
    #[arg(long)]
    insecure: bool,
    /// Ask the webhook once, print its TwiML, and stop
    #[arg(long, conflicts_with = "handshake")]
    print_twiml: bool,
    /// Only try both WebSocket paths
    #[arg(long)]
    handshake: bool,
}

/// Runs the tool: 0 when every call ended in a stream or a recording, 1 otherwise.
pub async fn run(arguments: CallArguments) -> ExitCode {
    let (print_twiml, handshake) = (arguments.print_twiml, arguments.handshake);
    let options = options(arguments);
    let mut out = anstream::stdout();
    let done = if print_twiml {
        call_tool::print_twiml(&options, &mut out).await
    } else if handshake {
        call_tool::handshake(&options, &mut out).await
    } else {
        call_tool::call(&options, &mut out).await
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(1),
        Err(error) => {
            let mut source: Option<&dyn std::error::Error> = Some(&error);
            while let Some(why) = source {
                anstream::eprintln!("kolbox call: {why}");
                source = why.source();
            }
            ExitCode::from(1)
        }
    }
}

fn options(arguments: CallArguments) -> CallOptions {
    let defaults =
        CallOptions::new(arguments.url, arguments.account_sid, arguments.auth_token.expose_secret().to_owned());
    let roots = match arguments.ca {
        Some(path) => Some(Roots::PemFile(path)),
        None => arguments.insecure.then_some(Roots::Insecure),
    };
    CallOptions {
        audio: arguments.audio,
        calls: arguments.calls.into(),
        fault: arguments.fault,
        rest_listen: arguments.rest_listen,
        roots,
        status_callback: match arguments.status_callback {
            Some(url) if url == "none" => None,
            Some(url) => Some(url),
            None => defaults.status_callback.clone(),
        },
        hang_up_after: arguments.hang_up,
        ..defaults
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::{CommandFactory, FromArgMatches, Parser};

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        call: CallArguments,
    }

    fn parse(arguments: &[&str]) -> CallOptions {
        let all = ["kolbox", "https://127.0.0.1:8443/webhook/incoming_call", "--auth-token", "t"];
        let matches = Program::command().try_get_matches_from(all.iter().chain(arguments)).unwrap();
        options(Program::from_arg_matches(&matches).unwrap().call)
    }

    #[test]
    fn the_number_has_the_gateways_status_callback_unless_it_is_told_otherwise() {
        Program::command().debug_assert();
        assert_eq!(parse(&[]).status_callback.as_deref(), Some("https://127.0.0.1:8443/webhook/call_status"));
        assert_eq!(parse(&["--status-callback", "none"]).status_callback, None);
    }

    #[test]
    fn faults_have_the_names_of_the_readme() {
        for name in ["no-stream", "no-media", "media-stops", "bad-json", "drop", "slow-rest"] {
            assert!(parse(&["--fault", name]).fault.is_some());
        }
        assert_eq!(parse(&["--insecure"]).roots, Some(Roots::Insecure));
    }
}
