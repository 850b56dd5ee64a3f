//! `kolbox call`: the simulated Twilio as a test tool against any gateway.

use std::{net::SocketAddr, path::PathBuf, process::ExitCode};

use clap::Args;
use secrecy::SecretString;
use url::Url;

use crate::{simulator::faults::NamedFault, twilio::sid::AccountSid};

/// Place simulated calls to a gateway, as Twilio would
#[derive(Debug, Args)]
pub struct CallArguments {
    /// The gateway's incoming_call webhook
    pub url: Url,
    /// The token that webhooks and WebSockets are signed with: the gateway's own
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true)]
    pub auth_token: SecretString,
    /// The account that calls belong to: the gateway's own
    #[arg(long, env = "TWILIO_ACCOUNT_SID", default_value = "AC00000000000000000000000000000001")]
    pub account_sid: AccountSid,
    /// What the callers say, in place of the built-in Hebrew speech
    #[arg(long, value_name = "FILE")]
    pub audio: Option<PathBuf>,
    /// How many call at once
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=4096))]
    pub calls: u16,
    /// What goes wrong in each call
    #[arg(long)]
    pub fault: Option<NamedFault>,
    /// Where the REST side listens; the gateway's twilio.api_base must point there
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8499")]
    pub rest_listen: SocketAddr,
    /// Trust the certificates of this PEM file only
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub ca: Option<PathBuf>,
    /// Trust any certificate, also beyond loopback
    #[arg(long)]
    pub insecure: bool,
    /// Ask the webhook once, print its TwiML, and stop
    #[arg(long, conflicts_with = "handshake")]
    pub print_twiml: bool,
    /// Only try both WebSocket paths
    #[arg(long)]
    pub handshake: bool,
}

/// Places the calls.
pub async fn run(_arguments: CallArguments) -> ExitCode {
    anstream::eprintln!("kolbox call: not in this build yet");
    ExitCode::from(super::FAILED)
}
