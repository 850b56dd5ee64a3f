//! The desk's reports as lines of the log, under their stable names.

use std::time::Duration;

use crate::calls::{EndCause, Report};

/// Writes one line.
pub(super) fn log(report: &Report) {
    match report {
        Report::CallAnswered { call_sid, with } => {
            tracing::info!(event = "CALL_ANSWERED", %call_sid, with = *with);
        }
        Report::CallEnded { call_sid, stream_sid, cause, lasted } => {
            let stream_sid = stream_sid.map(tracing::field::display);
            tracing::info!(event = "CALL_ENDED", %call_sid, stream_sid, cause = cause_name(cause), lasted_ms = millis(*lasted));
        }
        Report::StreamStarted { call_sid, stream_sid, after } => {
            tracing::info!(event = "WS_START", %call_sid, %stream_sid, after_ms = millis(*after));
        }
        Report::NoStreamStart { call_sid, reason, after } => {
            tracing::warn!(event = "WD_NO_STREAM_START", %call_sid, reason = reason.as_str(), after_ms = millis(*after));
        }
        Report::NoMedia { call_sid, stream_sid, reason, silent } => {
            let stream_sid = stream_sid.map(tracing::field::display);
            tracing::warn!(event = "WD_NO_MEDIA", %call_sid, stream_sid, reason = reason.as_str(), silent_ms = millis(*silent));
        }
        Report::Redirected { call_sid, stream_sid, reason, after } => {
            let stream_sid = stream_sid.map(tracing::field::display);
            tracing::info!(event = "WD_REDIRECTED", %call_sid, stream_sid, reason = reason.as_str(), after_ms = millis(*after));
        }
        Report::RedirectFailed { call_sid, stream_sid, outcome, given_up } => {
            let stream_sid = stream_sid.map(tracing::field::display);
            tracing::warn!(event = "WD_REDIRECT_FAILED", %call_sid, stream_sid, outcome = ?outcome, given_up);
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn cause_name(cause: &EndCause) -> String {
    match cause {
        EndCause::Status(status) => format!("status {status:?}"),
        EndCause::HungUpInRecord => "hung up while recording".into(),
        EndCause::RestCallOver => "not in progress any more (21220)".into(),
        EndCause::LookedUp(status) => format!("looked up: {status:?}"),
        EndCause::LookedUpUnknown => "looked up: unknown to Twilio".into(),
        EndCause::MaxDuration => "calls.max_duration".into(),
    }
}
