//! All that makes up a simulated call before it begins: who calls, which number, what goes wrong. Pure.

use std::time::Duration;

use super::{caller::Caller, faults::Faults, forms::Parties};

/// How the number is set up at Twilio.
#[derive(Debug, Clone)]
pub struct Number {
    pub voice_url: String,
    /// "Primary handler fails".
    pub fallback_url: Option<String>,
    /// "Call status changes"; many numbers have none.
    pub status_callback: Option<String>,
    /// Whether `<Connect action>` is requested for a caller who hung up. The pages do not say: a box must bear both.
    pub connect_action_after_hang_up: bool,
    /// Whether a `<Record>` in which nothing was said still calls its action; otherwise the next verb runs.
    pub silent_record_calls_action: bool,
}

/// The times of this Twilio.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Length of a media frame.
    pub frame: Duration,
    /// From a recording's end until its media can be fetched and its callback is sent.
    pub recording_late: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self { frame: Duration::from_millis(20), recording_late: Duration::from_millis(1500) }
    }
}

/// All that makes up a call before it begins.
#[derive(Debug, Clone)]
pub struct Plan {
    pub parties: Parties,
    pub number: Number,
    pub caller: Caller,
    pub faults: Faults,
    pub timing: Timing,
    /// The wall clock when the call is placed, for the time stamps in callbacks.
    pub placed_at: jiff::Timestamp,
}
