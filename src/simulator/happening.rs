//! What is told of a simulated call while it runs. Pure.

use std::{fmt, time::Instant};

use super::report::{Ending, Met};
use crate::twilio::sid::{CallSid, RecordingSid};

/// What happened in a call, for whoever tells the story while it runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    pub call_sid: CallSid,
    pub at: Instant,
    pub what: Happening,
}

/// One thing that happened. Its text is for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Happening {
    /// A webhook goes out: its path without the leading slash, and the status that it tells (empty: none).
    Webhook {
        path: String,
        status: String,
    },
    /// A sound is fetched, to be played next: its path without the leading slash.
    Hears(String),
    /// The caller meets this from now on.
    Meets(Met),
    SocketOpened,
    /// With Twilio's code.
    SocketFailed(u32),
    /// The box closed the stream with this code; `None`: its connection is gone.
    SocketClosed(Option<u16>),
    /// What was planned to go wrong has begun to.
    FaultBegan,
    /// REST asks for another document.
    Update,
    /// The server does not read: Twilio drops media.
    MediaDropped,
    RecordingBegan(RecordingSid),
    Ended(Ending),
}

impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Webhook { path, status } => write!(f, "webhook {path} {status}"),
            Self::Hears(path) => write!(f, "hears {path}"),
            Self::Meets(met) => write!(f, "the caller meets: {met}"),
            Self::SocketOpened => f.write_str("the stream's socket is open"),
            Self::SocketFailed(code) => write!(f, "the stream's socket could not be opened ({code})"),
            Self::SocketClosed(Some(code)) => write!(f, "the box closed the stream ({code})"),
            Self::SocketClosed(None) => f.write_str("the stream's connection is gone"),
            Self::FaultBegan => f.write_str("the fault begins"),
            Self::Update => f.write_str("REST update: the running document is to be left"),
            Self::MediaDropped => f.write_str("31930: the server does not read, media are dropped"),
            Self::RecordingBegan(recording_sid) => write!(f, "recording {recording_sid} begins"),
            Self::Ended(ending) => write!(f, "the call is over: {ending}"),
        }
    }
}
