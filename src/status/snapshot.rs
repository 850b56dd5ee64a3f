//! The box's state at one moment, in plain values: what the page, the JSON and the lamps are all made of.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::{caller::Caller, trouble::TroubleCode};
use crate::{
    board::lamps::{self, LampsView},
    calls::{CallState, FallbackReason},
    transcripts::{Outcome, Source, Words},
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
    /// What records and audio take; `None` until it was measured.
    pub storage: Option<Storage>,
    /// Ended calls, the latest first.
    pub recent: Vec<RecentCall>,
    pub audio: AudioUse,
    /// How voice becomes text; `None`: no engine is configured.
    pub speech: Option<SpeechState>,
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
    /// What the caller said last, where an engine writes it down; for staff alone.
    pub last_words: Option<Words>,
}

/// Media frames come every 20 ms; a gap that staff should see is far longer.
const SILENCE_SHOWN_MIN: Duration = Duration::from_secs(2);
/// The same moment, dated twice by the wall clock, comes out a little different each time.
const SAME_MOMENT: SignedDuration = SignedDuration::from_secs(1);

impl CallNow {
    /// How long no sound has come from a caller who should be heard, if that is worth telling.
    pub fn silence(&self) -> Option<Duration> {
        self.last_media_ago.filter(|ago| self.state == CallState::Streaming && *ago >= SILENCE_SHOWN_MIN)
    }

    /// The same to a person who looks, however long ago the last frame came.
    fn looks_like(&self, other: &Self) -> bool {
        let Self { call_sid, from, state, since, last_words, last_media_ago: _ } = self;
        (call_sid, from, state, last_words) == (&other.call_sid, &other.from, &other.state, &other.last_words)
            && self.silence().is_some() == other.silence().is_some()
            && since.duration_since(other.since).abs() < SAME_MOMENT
    }
}

/// What the watchdog did since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct WatchdogCounts {
    /// Calls sent to the recorder by REST.
    pub redirects: u64,
    /// Calls given up: Twilio would not take them to the recorder.
    pub failed: u64,
}

/// Callers' voices on the box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct AudioUse {
    pub bytes: u64,
    pub files: u64,
    /// New audio finds no room, and none that is kept may go.
    pub full: bool,
}

/// The speech engine, and what waits for it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SpeechState {
    /// Its name, once it is ready.
    pub engine: Option<String>,
    /// Since when it does not answer; `None`: it does, as far as is known.
    pub silent_since: Option<Timestamp>,
    /// Why, and what to do about it, for the person who looks after the box; never what a caller said.
    pub last_error: Option<String>,
    /// Ended calls whose record waits for its text.
    pub calls_waiting: usize,
    /// When the call ended that has waited longest.
    pub waiting_since: Option<Timestamp>,
}

impl SpeechState {
    /// For how long a call has waited for its text, at most.
    pub fn longest_wait(&self, now: Timestamp) -> Duration {
        self.waiting_since.and_then(|since| Duration::try_from(now.duration_since(since)).ok()).unwrap_or_default()
    }

    /// The same moment, dated twice by the wall clock, is no news.
    fn standing(&self) -> impl PartialEq + '_ {
        let Self { engine, silent_since, last_error, calls_waiting, waiting_since } = self;
        (engine, silent_since.is_some(), last_error, calls_waiting, waiting_since)
    }
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
    /// Found damaged since the store was made; set aside, never sent.
    pub damaged: u64,
    /// Gone without trace when the store was opened, since the store was made.
    pub missing: u64,
}

/// What the box's files take on the disk, in bytes, when it was measured last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Storage {
    /// The records, and whatever else lies in the store's directory but the audio.
    pub records_bytes: u64,
    pub audio_bytes: u64,
    /// What could still be written; `None`: the system does not say.
    pub free_bytes: Option<u64>,
}

/// How delivery to the office's system goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SyncState {
    /// Whether there is a system to deliver to (`sync.url`).
    pub configured: bool,
    pub last_ok: Option<Timestamp>,
    pub last_error: Option<SyncError>,
    /// When the call ended whose record is the first to be delivered; `None`: nothing waits.
    pub waiting_since: Option<Timestamp>,
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
    /// The office's system refused its record, which waits to be tried again.
    pub parked: bool,
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

    /// Whether there is more to tell than that time has passed: clocks and frames go on by themselves, and so do lamps
    /// that blink.
    pub fn is_news_after(&self, told: &Snapshot) -> bool {
        let Snapshot { lamps, calls, .. } = self;
        let lamps_same =
            lamps.iter().zip(&told.lamps).all(|(now, then)| (now.lamp, now.pattern) == (then.lamp, then.pattern));
        let calls_same =
            calls.len() == told.calls.len() && calls.iter().zip(&told.calls).all(|(now, then)| now.looks_like(then));
        !(lamps_same && calls_same && self.standing() == told.standing())
    }

    /// What stays as it is until something happens.
    fn standing(&self) -> impl PartialEq + '_ {
        // Every field is named: a new one has to say whether it is news.
        let Snapshot {
            at: _,
            uptime: _,
            lamps: _,
            calls: _,
            version,
            board_profile,
            draining,
            active,
            capacity,
            watchdog,
            transcripts,
            sync,
            // Files grow and shrink all the time.
            storage: _,
            recent,
            audio,
            speech,
            troubles,
        } = self;
        // What grows with every second of a call is no news.
        let audio = audio.full;
        let speech = speech.as_ref().map(SpeechState::standing);
        (
            (version, board_profile, draining),
            (active, capacity, watchdog, transcripts),
            (sync, recent, audio, speech, troubles),
        )
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
    fn time_alone_is_no_news_and_a_caller_who_is_no_longer_heard_is() {
        let told = samples::streaming();
        let mut now = told.clone();
        now.at += Duration::from_secs(1);
        now.uptime += Duration::from_secs(1);
        now.lamps[0].on = !now.lamps[0].on;
        now.calls[0].last_media_ago = Some(Duration::from_millis(40));
        now.calls[0].since += Duration::from_millis(3);
        assert!(!now.is_news_after(&told));
        now.calls[0].last_media_ago = Some(SILENCE_SHOWN_MIN);
        assert!(now.is_news_after(&told));
        for other in [samples::idle(), samples::answering(), samples::fallback(), samples::trouble()] {
            assert!(other.is_news_after(&told));
        }
        assert!(Snapshot { draining: true, ..told.clone() }.is_news_after(&told));
        let unheard = samples::unheard();
        let again = |silent_since| {
            let speech = unheard.speech.clone().map(|speech| SpeechState { silent_since, ..speech });
            Snapshot { speech, ..unheard.clone() }
        };
        assert!(unheard.is_news_after(&told) && again(None).is_news_after(&unheard));
        let dated_again = unheard.speech.clone().unwrap().silent_since.map(|at| at + Duration::from_millis(3));
        assert!(!again(dated_again).is_news_after(&unheard));
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
