//! The box's state at one moment, in plain values: what the page, the JSON and the lamps are all made of.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use super::{caller::Caller, trouble::TroubleCode};
use crate::{
    board::lamps::{self, LampsView},
    calls::{CallState, FallbackReason},
    transcripts::{Outcome, Source},
};

/// Everything that staff may see, as of `at`. What not everybody may see is hidden when it is shown, not here.
#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// When this was true, by the wall clock.
    pub at: Timestamp,
    /// How long the program runs.
    pub uptime: Duration,
    /// As `kolbox --version` says it.
    pub version: &'static str,
    /// `[board] profile`.
    pub board_profile: String,
    pub lamps: LampsView,
    /// The box finishes its calls and stops soon.
    pub draining: bool,
    /// Live calls, the oldest first.
    pub calls: Vec<CallNow>,
    /// Calls in the registry, and how many it can hold.
    pub active: usize,
    pub capacity: usize,
    pub watchdog: WatchdogCounts,
    pub transcripts: TranscriptCounts,
    pub sync: SyncState,
    /// Ended calls, the latest first.
    pub recent: Vec<RecentCall>,
    /// What needs a person, the worst first.
    pub troubles: Vec<TroubleCode>,
}

/// A live call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CallNow {
    pub call_sid: String,
    pub from: Caller,
    pub state: CallState,
    /// When it came into this state.
    pub since: Timestamp,
    /// How long ago its last media frame was heard; `None`: never.
    pub last_media_ago: Option<Duration>,
}

/// What the watchdog did since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct WatchdogCounts {
    /// Calls sent to the recorder by REST.
    pub redirects: u64,
    /// Calls given up: Twilio would not take them to the recorder.
    pub failed: u64,
}

/// Records on the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct TranscriptCounts {
    /// All of them, acknowledged or not.
    pub stored: u64,
    /// Not acknowledged by the office's system, parked ones included.
    pub unsynced: u64,
    /// Refused by the office's system, and kept.
    pub parked: u64,
    /// Ended calls whose record waits for its recording.
    pub awaiting_recording: u64,
}

/// How delivery to the office's system goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncState {
    /// Whether there is a system to deliver to (`sync.url`).
    pub configured: bool,
    pub last_ok: Option<Timestamp>,
    pub last_error: Option<SyncError>,
}

/// The last delivery that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncError {
    pub at: Timestamp,
    /// For the person who looks after the box; never a token or a transcript.
    pub message: String,
}

/// An ended call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecentCall {
    /// The transcript record's id.
    pub id: String,
    pub call_sid: String,
    pub from: Caller,
    pub started_at: Timestamp,
    pub lasted: Duration,
    pub outcome: Outcome,
    pub source: Source,
    /// What first sent it to the recorder, if anything did.
    pub reason: Option<FallbackReason>,
    /// The office's system has its record.
    pub synced: bool,
}

/// Every state that a live call can be in.
pub const CALL_STATES: [CallState; 5] =
    [CallState::AwaitingStream, CallState::Streaming, CallState::FallingBack, CallState::Recording, CallState::Ending];

/// The word for a call's state: in style sheets and figures, and the one that `/api/status` has.
pub fn call_state_word(state: CallState) -> &'static str {
    match state {
        CallState::AwaitingStream => "awaiting_stream",
        CallState::Streaming => "streaming",
        CallState::FallingBack => "falling_back",
        CallState::Recording => "recording",
        CallState::Ending => "ending",
    }
}

/// The box in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Nothing needs anybody; calls may be just being answered.
    Ok,
    /// Callers are heard live.
    Streaming,
    /// At least one caller is on the way to the recorder, or in it.
    Fallback,
    /// Something needs a person.
    Trouble,
}

impl State {
    pub const ALL: [State; 4] = [State::Ok, State::Streaming, State::Fallback, State::Trouble];

    /// The word in `/api/status` and in style sheets.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Streaming => "streaming",
            Self::Fallback => "fallback",
            Self::Trouble => "trouble",
        }
    }
}

impl Snapshot {
    /// The worst that holds.
    pub fn state(&self) -> State {
        if !self.troubles.is_empty() {
            State::Trouble
        } else if self.in_fallback() > 0 {
            State::Fallback
        } else if self.streaming() > 0 {
            State::Streaming
        } else {
            State::Ok
        }
    }

    /// Calls whose caller is heard live.
    pub fn streaming(&self) -> usize {
        self.calls_in(|state| state == CallState::Streaming)
    }

    /// Calls on their way to the recorder, or in it.
    pub fn in_fallback(&self) -> usize {
        self.calls_in(|state| matches!(state, CallState::FallingBack | CallState::Recording))
    }

    /// Calls that hear the greeting.
    pub fn answering(&self) -> usize {
        self.calls_in(|state| state == CallState::AwaitingStream)
    }

    /// What the lamps are to show, so that they and the page never tell two stories.
    pub fn lamp_inputs(&self) -> lamps::Inputs {
        lamps::Inputs {
            streaming: self.streaming(),
            fallback: self.in_fallback(),
            waiting: self.transcripts.unsynced,
            stuck: self.transcripts.parked > 0 || self.troubles.contains(&TroubleCode::SyncFailing),
            trouble: !self.troubles.is_empty(),
            draining: self.draining,
        }
    }

    fn calls_in(&self, wanted: impl Fn(CallState) -> bool) -> usize {
        self.calls.iter().filter(|call| wanted(call.state)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::samples;

    #[test]
    fn a_calls_state_has_one_word_everywhere() {
        for state in CALL_STATES {
            assert_eq!(serde_json::to_value(state).unwrap(), call_state_word(state));
        }
    }

    #[test]
    fn the_state_is_the_worst_that_holds() {
        assert_eq!(samples::idle().state(), State::Ok);
        assert_eq!(samples::answering().state(), State::Ok);
        assert_eq!(samples::streaming().state(), State::Streaming);
        assert_eq!(samples::fallback().state(), State::Fallback);
        assert_eq!(samples::trouble().state(), State::Trouble);
    }

    #[test]
    fn the_lamps_are_told_what_the_page_says() {
        let inputs = samples::fallback().lamp_inputs();
        assert_eq!((inputs.streaming, inputs.fallback, inputs.trouble), (1, 2, false));
        let inputs = samples::trouble().lamp_inputs();
        assert!(inputs.trouble && inputs.stuck && inputs.waiting > 0);
        assert_eq!(samples::idle().lamp_inputs(), lamps::Inputs::default());
    }
}
