//! What goes wrong in a simulated call, and when.

use std::time::Duration;

/// The faults of one call; the default is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faults {
    pub stream: StreamFault,
    /// How long media flow before a fault in the middle of a stream begins.
    pub after: Duration,
    /// How long a REST update's answer is held back. The update itself takes effect at once:
    /// so the caller of the API cannot know whether it did.
    pub rest_delay: Duration,
    /// REST updates that are refused before one is taken, with their HTTP status and Twilio's code.
    pub rest_refusals: Vec<(u16, u32)>,
    /// Every status callback comes twice.
    pub callbacks_twice: bool,
}

/// What goes wrong with a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum StreamFault {
    #[default]
    None,
    /// It is never opened, Twilio says nothing, and the call hangs in `<Connect>`.
    NeverConnects,
    /// The WebSocket opens and stays mute: no `start`.
    NoStart,
    /// `connected` and `start`, and then no media.
    NoMedia,
    /// Media stop in the middle; the socket stays open.
    MediaStops,
    /// Messages that are no JSON, in the middle; media go on.
    BadJson,
    /// The connection is lost without `stop` in the middle. Twilio notices after this long, and goes on with the
    /// `<Connect>`'s action.
    Drops { noticed_after: Duration },
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            stream: StreamFault::None,
            after: Duration::from_secs(2),
            rest_delay: Duration::ZERO,
            rest_refusals: Vec::new(),
            callbacks_twice: false,
        }
    }
}

/// The faults that have a name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum NamedFault {
    /// The stream never connects, and Twilio says nothing
    NoStream,
    /// The stream starts, but no media come
    NoMedia,
    /// Media stop in the middle, the socket stays open
    MediaStops,
    /// Messages that are no JSON, in the middle
    BadJson,
    /// The connection is lost without `stop`
    Drop,
    /// The stream never connects, and REST answers too late
    SlowRest,
}

impl NamedFault {
    /// What it means for a call. A lost connection is noticed late enough that the box has to act first;
    /// a slow REST answer comes after the time that a client should wait for it.
    pub fn faults(self) -> Faults {
        let stream = match self {
            Self::NoStream | Self::SlowRest => StreamFault::NeverConnects,
            Self::NoMedia => StreamFault::NoMedia,
            Self::MediaStops => StreamFault::MediaStops,
            Self::BadJson => StreamFault::BadJson,
            Self::Drop => StreamFault::Drops { noticed_after: Duration::from_secs(5) },
        };
        let rest_delay = if self == Self::SlowRest { Duration::from_secs(10) } else { Duration::ZERO };
        Faults { stream, rest_delay, ..Faults::default() }
    }
}
