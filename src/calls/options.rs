//! What the desk is set up with.

use std::time::Duration;

use super::watchdog::Watchdog;

/// What the desk is set up with.
#[derive(Debug, Clone)]
pub struct DeskOptions {
    pub watchdog: Watchdog,
    /// The fallback prompt's own length.
    pub fallback_prompt: Duration,
    /// `fallback.max_length`
    pub record_max_length: Duration,
    /// `calls.max_duration`
    pub max_duration: Duration,
    /// Whether the goodbye is a sound that media sessions play; else `stream_ended` is answered with it.
    pub goodbye_in_stream: bool,
}
