//! How long a caller may wait in silence, by cause, as formulas that are printed beside what was measured.

use std::{fmt, time::Duration};

use kolbox::simulator::faults::{Faults, StreamFault};

use super::gateway::{FIXED, prompt_length};

const SECOND: Duration = Duration::from_secs(1);
/// `watchdog.no_media_timeout`
pub const NO_MEDIA: Duration = Duration::from_secs(6);
/// Of the world's streams.
pub const FRAME: Duration = Duration::from_millis(200);
/// A redirect waits at most this long for the journal, and clocks count milliseconds.
const SLACK: Duration = Duration::from_millis(130);

/// What kept a caller waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    NeverConnects,
    NoStart,
    NoMedia,
    MediaStop,
    ConnectionLost,
    StreamRefused,
    NoFault,
    Several,
}

impl Cause {
    pub fn of(fault: StreamFault, stream_refused: bool) -> Self {
        match fault {
            StreamFault::NeverConnects => Self::NeverConnects,
            _ if stream_refused => Self::StreamRefused,
            StreamFault::None | StreamFault::BadJson => Self::NoFault,
            StreamFault::NoStart => Self::NoStart,
            StreamFault::NoMedia => Self::NoMedia,
            StreamFault::MediaStops => Self::MediaStop,
            StreamFault::Drops { .. } => Self::ConnectionLost,
        }
    }

    /// Its bound; `d` is the longest that a message takes.
    pub fn formula(self) -> &'static str {
        match self {
            Self::NeverConnects | Self::NoStart => "max(start_timeout - greeting, 3 s) + journal + 4 d",
            Self::NoMedia => "no_media_timeout + journal + 6 d",
            Self::MediaStop => "no_media_timeout + journal + 4 d; with the first frame: frame + 2 d more",
            Self::ConnectionLost => "2 s + journal + 6 d; with the first frame: frame + 2 d more",
            Self::StreamRefused => "1 s + journal + 6 d",
            Self::NoFault => "1 s + journal + 6 d",
            Self::Several => "no_media_timeout + journal + 12 d + what each of them may last and be noticed late",
        }
    }

    /// The same in numbers, for a call that meets nothing but this.
    pub fn alone(self, delay_max: Duration) -> Duration {
        let (deadline, messages) = match self {
            Self::NeverConnects | Self::NoStart => (start_deadline().saturating_sub(greeting()), 4),
            Self::NoMedia => (NO_MEDIA, 6),
            Self::MediaStop => (NO_MEDIA, 4),
            Self::ConnectionLost => (2 * SECOND, 6),
            Self::StreamRefused | Self::NoFault => (SECOND, 6),
            Self::Several => (NO_MEDIA, 12),
        };
        deadline + SLACK + messages * delay_max
    }
}

/// A stream that breaks with its first frame was never heard: its caller has been in silence since the prompt, while it
/// was opened and until that frame.
pub fn before_first_frame(faults: &Faults, delay_max: Duration) -> Duration {
    let breaks = matches!(faults.stream, StreamFault::MediaStops | StreamFault::Drops { .. });
    if breaks && faults.after <= FRAME { FRAME + 2 * delay_max } else { Duration::ZERO }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::NeverConnects => "never connects",
            Self::NoStart => "no start",
            Self::NoMedia => "no media",
            Self::MediaStop => "media stop",
            Self::ConnectionLost => "connection lost",
            Self::StreamRefused => "stream refused",
            Self::NoFault => "no fault",
            Self::Several => "several at once",
        })
    }
}

pub fn greeting() -> Duration {
    prompt_length("greeting_he.mp3")
}

/// From the answer to the look at a stream that has not come.
pub fn start_deadline() -> Duration {
    FIXED.config.watchdog.start_timeout.max(greeting() + 3 * SECOND)
}
