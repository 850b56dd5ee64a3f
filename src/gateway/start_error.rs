//! Why the gateway cannot start, and which of it lies in the configuration.

use std::{error::Error, fmt, io, net::SocketAddr};

use crate::{
    board::BoardError,
    server::{prompts::PromptError, tls::TlsError},
    system::http_client::RootsError,
    transcripts::KeeperError,
};

/// Why the gateway cannot start.
#[derive(Debug)]
pub enum StartError {
    Prompts(PromptError),
    Board(BoardError),
    Tls(TlsError),
    /// Which side, where, and why not.
    Bind(&'static str, SocketAddr, io::Error),
    Http(RootsError),
    Keeper(KeeperError),
}

impl StartError {
    /// Whether only another configuration can help: trying again will not.
    pub fn is_setting(&self) -> bool {
        matches!(self, Self::Prompts(_) | Self::Board(_) | Self::Tls(_))
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Prompts(_) => f.write_str("the prompts cannot be used"),
            Self::Board(_) => f.write_str("the board cannot be used"),
            Self::Tls(_) => f.write_str("the certificate cannot be used"),
            Self::Bind(side, address, error) if error.kind() == io::ErrorKind::AddrInUse => write!(
                f,
                "{side}.listen = {address}: another program listens there (maybe another kolbox); stop it, or choose \
                 another port"
            ),
            Self::Bind(side, address, _) => write!(f, "{side}.listen = {address}: cannot listen there"),
            Self::Http(_) => f.write_str("Twilio's certificates cannot be checked"),
            Self::Keeper(_) => f.write_str("the transcripts cannot be kept"),
        }
    }
}

impl Error for StartError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Prompts(error) => error,
            Self::Board(error) => error,
            Self::Tls(error) => error,
            Self::Bind(_, _, error) => error,
            Self::Http(error) => error,
            Self::Keeper(error) => error,
        })
    }
}
