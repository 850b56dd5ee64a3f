//! Twilio's REST API as values: requests to send, answers read. No sockets here.

use std::time::Duration;

use super::webhook::CallStatus;

/// What became of a redirect (`POST Calls/{CallSid}.json`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpdateOutcome {
    /// 2xx: Twilio runs the new document.
    Accepted,
    /// 21220: the call is not in progress any more.
    CallOver,
    /// 404 (20404): wrong account or region, or no such call.
    NotFound,
    /// 401 (20003), 403: credentials.
    Unauthorized,
    /// 429 (20429), with `Retry-After` if one was sent: not processed.
    Throttled { retry_after: Option<Duration> },
    /// 5xx, not JSON, or no connection: surely or probably not applied.
    Unavailable,
    /// No answer in time: it may have been applied.
    TimedOut,
    /// Any other 4xx, with Twilio's error code (0 if none): repeating it will not help.
    Refused { code: u32 },
}

/// What Twilio knows of a call (`GET Calls/{CallSid}.json`, and its recordings if asked for).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallLookup {
    Found {
        status: CallStatus,
        has_recording: bool,
    },
    NotFound,
    Unauthorized,
    /// No usable answer: ask again.
    Unavailable,
}
