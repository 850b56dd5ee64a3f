//! Snapshots for tests, and for looking at the page.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    caller::Caller,
    snapshot::{
        AudioUse, CallNow, RecentCall, Snapshot, SpeechState, Storage, SyncError, SyncState, TranscriptCounts,
        WatchdogCounts,
    },
    trouble::TroubleCode,
};
use crate::{
    board::lamps::Lamps,
    calls::{CallState, FallbackReason},
    transcripts::{Outcome, Source},
};

/// 10:32:05.250 in Jerusalem.
pub const AT: &str = "2026-11-22T08:32:05.250Z";

/// Of every call in the samples.
pub const CALL_SID: &str = "CA0123456789abcdef0123456789abcdef";
/// Every caller's number in the samples.
pub const NUMBERS: [&str; 5] = ["+972501234567", "+97235550199", "+972521112233", "+97235550148", "+972547770031"];

/// Nothing has happened yet.
pub fn idle() -> Snapshot {
    with_lamps(Snapshot {
        at: at(0),
        uptime: Duration::from_secs(3 * 86_400 + 7_300),
        version: "0.1.0",
        board_profile: "rpi".into(),
        lamps: Lamps::new(std::time::Instant::now()).view(),
        draining: false,
        calls: Vec::new(),
        active: 0,
        capacity: 64,
        watchdog: WatchdogCounts::default(),
        transcripts: TranscriptCounts::default(),
        sync: SyncState { configured: true, ..SyncState::default() },
        storage: Some(Storage {
            records_bytes: 12_582_912,
            audio_bytes: 310_000_000,
            free_bytes: Some(21_474_836_480),
        }),
        recent: Vec::new(),
        audio: AudioUse::default(),
        speech: None,
        troubles: Vec::new(),
    })
}

/// A call hears the greeting.
pub fn answering() -> Snapshot {
    Snapshot { calls: vec![call(CallState::AwaitingStream, 3, None)], active: 1, ..idle() }
}

/// A morning of calls, one caller on the line.
pub fn streaming() -> Snapshot {
    with_lamps(Snapshot {
        calls: vec![call(CallState::Streaming, 72, Some(20))],
        active: 1,
        watchdog: WatchdogCounts { redirects: 3, failed: 0 },
        transcripts: TranscriptCounts { stored: 41, ..TranscriptCounts::default() },
        sync: SyncState { configured: true, last_ok: Some(at(290)), ..SyncState::default() },
        recent: recent(true),
        ..idle()
    })
}

/// Callers in every state.
pub fn fallback() -> Snapshot {
    with_lamps(Snapshot {
        calls: vec![
            call(CallState::Streaming, 72, Some(20)),
            CallNow { from: Caller::new("+266696687"), ..call(CallState::FallingBack, 2, Some(6_210)) },
            CallNow { from: Caller::new("+97235550199"), ..call(CallState::Recording, 11, None) },
            CallNow { from: Caller::new("sip:dana@office.example"), ..call(CallState::AwaitingStream, 1, None) },
        ],
        active: 4,
        transcripts: TranscriptCounts { stored: 41, unsynced: 2, awaiting_recording: 1, ..TranscriptCounts::default() },
        ..streaming()
    })
}

/// The office's system is down, and one transcript was refused.
pub fn trouble() -> Snapshot {
    with_lamps(Snapshot {
        calls: Vec::new(),
        active: 0,
        transcripts: TranscriptCounts {
            stored: 41,
            unsynced: 12,
            parked: 1,
            damaged: 1,
            ..TranscriptCounts::default()
        },
        sync: SyncState {
            configured: true,
            last_ok: Some(at(86_400)),
            last_error: Some(SyncError { at: at(30), message: "HTTP 503 from https://office.example/calls".into() }),
            waiting_since: Some(at(9_000)),
        },
        recent: with_first_parked(recent(false)),
        troubles: vec![TroubleCode::SyncFailing, TroubleCode::TranscriptsParked],
        ..streaming()
    })
}

/// The speech engine is away, and three calls wait for it.
pub fn unheard() -> Snapshot {
    with_lamps(Snapshot {
        speech: Some(SpeechState {
            engine: Some("openai whisper-1".into()),
            silent_since: Some(at(3_600)),
            last_error: Some("the speech engine cannot be reached; look whether it runs".into()),
            calls_waiting: 3,
            waiting_since: Some(at(3_725)),
        }),
        troubles: vec![TroubleCode::SpeechSilent],
        ..streaming()
    })
}

/// Lamps that have seen the snapshot's state.
pub fn with_lamps(mut snapshot: Snapshot) -> Snapshot {
    let now = std::time::Instant::now();
    let mut lamps = Lamps::new(now);
    lamps.handle_inputs(snapshot.lamp_inputs(), now);
    snapshot.lamps = lamps.view();
    snapshot
}

pub fn call(state: CallState, age_s: i64, media_ms_ago: Option<u64>) -> CallNow {
    CallNow {
        call_sid: CALL_SID.into(),
        from: Caller::new("+972501234567"),
        state,
        since: at(age_s),
        last_media_ago: media_ms_ago.map(Duration::from_millis),
        last_words: None,
    }
}

fn recent(synced: bool) -> Vec<RecentCall> {
    let ended = |age_s, from: &str, lasted_s, source, outcome, reason, synced| RecentCall {
        id: "01JD0000000000000000000000".into(),
        call_sid: CALL_SID.into(),
        from: Caller::new(from),
        started_at: at(age_s),
        lasted: Duration::from_secs(lasted_s),
        outcome,
        source,
        reason,
        synced,
        parked: false,
    };
    use FallbackReason::{NoCapacity, NoMedia, NoStreamStart};
    use Outcome::{NoSpeech, Transcribed, Untranscribed};
    use Source::{Recording, Stream};
    vec![
        ended(190, "+972521112233", 41, Recording, Untranscribed, Some(NoMedia), synced),
        ended(1_460, "+97235550148", 95, Stream, Transcribed, None, synced),
        ended(2_050, "+266696687", 9, Stream, NoSpeech, Some(NoStreamStart), true),
        ended(7_900, "+972547770031", 128, Stream, Untranscribed, None, true),
        ended(66_000, "+972501234567", 3_725, Recording, Transcribed, Some(NoCapacity), true),
    ]
}

fn with_first_parked(mut calls: Vec<RecentCall>) -> Vec<RecentCall> {
    calls[0].parked = true;
    calls
}

fn at(seconds_ago: i64) -> Timestamp {
    let now: Timestamp = AT.parse().unwrap();
    now - jiff::SignedDuration::from_secs(seconds_ago)
}
