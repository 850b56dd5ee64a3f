//! The snapshot as the JSON of `/api/status`. Keys may be added, never renamed.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use super::{
    caller::{Caller, Shown, Viewer},
    snapshot::{
        AudioUse, CallNow, RecentCall, Snapshot, SpeechState, State, Storage, TranscriptCounts, WatchdogCounts,
    },
    trouble::TroubleCode,
};
use crate::calls::{CallState, FallbackReason};
use crate::transcripts::{Outcome, Source, Words};

/// The JSON document that this viewer may see.
pub fn render(snapshot: &Snapshot, viewer: Viewer) -> Vec<u8> {
    // Only maps with keys that are no strings, or a failing `Serialize`, could fail here; there are none.
    serde_json::to_vec(&Document::of(snapshot, viewer)).unwrap_or_default()
}

#[derive(Serialize)]
struct Document<'a> {
    version: &'a str,
    at: String,
    uptime_s: u64,
    board: Board<'a>,
    state: State,
    draining: bool,
    calls: Calls<'a>,
    watchdog: WatchdogCounts,
    transcripts: Transcripts,
    sync: Sync<'a>,
    storage: Option<Storage>,
    recent: Vec<Recent<'a>>,
    audio: AudioUse,
    speech: Option<Speech<'a>>,
    trouble: Vec<Trouble>,
}

#[derive(Serialize)]
struct Board<'a> {
    profile: &'a str,
    leds: BTreeMap<&'static str, Led>,
}

#[derive(Serialize)]
struct Led {
    on: bool,
    pattern: &'static str,
}

#[derive(Serialize)]
struct Calls<'a> {
    active: usize,
    capacity: usize,
    list: Vec<Call<'a>>,
}

#[derive(Serialize)]
struct Call<'a> {
    call_sid: &'a str,
    from: Option<String>,
    state: CallState,
    since: String,
    last_media_ms_ago: Option<u64>,
    last_words: Option<&'a Words>,
}

#[derive(Serialize)]
struct Transcripts {
    #[serde(flatten)]
    counts: TranscriptCounts,
    oldest_unsynced: Option<String>,
}

#[derive(Serialize)]
struct Sync<'a> {
    configured: bool,
    last_ok: Option<String>,
    last_error: Option<SyncError<'a>>,
}

#[derive(Serialize)]
struct SyncError<'a> {
    at: String,
    message: &'a str,
}

#[derive(Serialize)]
struct Speech<'a> {
    engine: Option<&'a str>,
    silent_since: Option<String>,
    last_error: Option<&'a str>,
    calls_waiting: usize,
    waiting_since: Option<String>,
    longest_wait_s: u64,
}

#[derive(Serialize)]
struct Recent<'a> {
    id: &'a str,
    call_sid: &'a str,
    from: Option<String>,
    started_at: String,
    duration_ms: u64,
    outcome: Outcome,
    source: Source,
    reason: Option<FallbackReason>,
    synced: bool,
    parked: bool,
}

#[derive(Serialize)]
struct Trouble {
    code: &'static str,
    text_he: String,
    text_en: String,
}

impl<'a> Document<'a> {
    fn of(snapshot: &'a Snapshot, viewer: Viewer) -> Self {
        let led = |lamp: &crate::board::lamps::LampView| {
            (lamp.lamp.as_str(), Led { on: lamp.on, pattern: lamp.pattern.as_str() })
        };
        Self {
            version: snapshot.version,
            at: time(snapshot.at),
            uptime_s: snapshot.uptime.as_secs(),
            board: Board { profile: &snapshot.board_profile, leds: snapshot.lamps.iter().map(led).collect() },
            state: snapshot.state(),
            draining: snapshot.draining,
            calls: Calls {
                active: snapshot.active,
                capacity: snapshot.capacity,
                list: snapshot.calls.iter().map(|call| Call::of(call, viewer)).collect(),
            },
            watchdog: snapshot.watchdog,
            transcripts: Transcripts {
                counts: snapshot.transcripts,
                oldest_unsynced: snapshot.sync.waiting_since.map(time),
            },
            sync: Sync {
                configured: snapshot.sync.configured,
                last_ok: snapshot.sync.last_ok.map(time),
                last_error: snapshot
                    .sync
                    .last_error
                    .as_ref()
                    .map(|error| SyncError { at: time(error.at), message: &error.message }),
            },
            storage: snapshot.storage,
            recent: snapshot.recent.iter().map(|call| Recent::of(call, viewer)).collect(),
            audio: snapshot.audio,
            speech: snapshot.speech.as_ref().map(|speech| Speech::of(speech, snapshot.at)),
            trouble: snapshot.troubles.iter().map(|&code| Trouble::of(code)).collect(),
        }
    }
}

impl<'a> Call<'a> {
    fn of(call: &'a CallNow, viewer: Viewer) -> Self {
        Self {
            call_sid: &call.call_sid,
            from: number(&call.from, viewer),
            state: call.state,
            since: time(call.since),
            last_media_ms_ago: call.last_media_ago.map(|ago| ago.as_millis() as u64),
            last_words: call.last_words.as_ref().filter(|_| viewer == Viewer::Staff),
        }
    }
}

impl<'a> Speech<'a> {
    fn of(speech: &'a SpeechState, now: Timestamp) -> Self {
        Self {
            engine: speech.engine.as_deref(),
            silent_since: speech.silent_since.map(time),
            last_error: speech.last_error.as_deref(),
            calls_waiting: speech.calls_waiting,
            waiting_since: speech.waiting_since.map(time),
            longest_wait_s: speech.longest_wait(now).as_secs(),
        }
    }
}

impl<'a> Recent<'a> {
    fn of(call: &'a RecentCall, viewer: Viewer) -> Self {
        Self {
            id: &call.id,
            call_sid: &call.call_sid,
            from: number(&call.from, viewer),
            started_at: time(call.started_at),
            duration_ms: call.lasted.as_millis() as u64,
            outcome: call.outcome,
            source: call.source,
            reason: call.reason,
            synced: call.synced,
            parked: call.parked,
        }
    }
}

impl Trouble {
    fn of(code: TroubleCode) -> Self {
        let text = code.text();
        Self {
            code: code.as_str(),
            text_he: format!("{} {}", text.what.he, text.remedy.he),
            text_en: format!("{} {}", text.what.en, text.remedy.en),
        }
    }
}

/// UTC with milliseconds, as in the records that are sent upstream.
fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

/// The number, or its last three digits after an ellipsis; `null` where nothing may be, or can be, shown.
fn number(caller: &Caller, viewer: Viewer) -> Option<String> {
    match caller.shown_to(viewer) {
        Shown::Whole(number) => Some(number.to_owned()),
        Shown::EndsIn(digits) => Some(format!("…{digits}")),
        Shown::Hidden | Shown::Withheld => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::status::samples;

    fn document(snapshot: &Snapshot, viewer: Viewer) -> Value {
        serde_json::from_slice(&render(snapshot, viewer)).unwrap()
    }

    fn keys(value: &Value) -> Vec<&str> {
        value.as_object().unwrap().keys().map(String::as_str).collect()
    }

    #[test]
    fn every_promised_key_is_there_under_its_name() {
        let status = document(&samples::trouble(), Viewer::Anyone);
        let top = [
            "at",
            "audio",
            "board",
            "calls",
            "draining",
            "recent",
            "speech",
            "state",
            "storage",
            "sync",
            "transcripts",
            "trouble",
            "uptime_s",
            "version",
            "watchdog",
        ];
        assert_eq!(keys(&status), top);
        assert_eq!(keys(&status["audio"]), ["bytes", "files", "full"]);
        assert_eq!(keys(&status["board"]), ["leds", "profile"]);
        assert_eq!(keys(&status["board"]["leds"]), ["FALLBACK", "INBOX", "POWER", "STREAM"]);
        assert_eq!(keys(&status["board"]["leds"]["POWER"]), ["on", "pattern"]);
        assert_eq!(keys(&status["calls"]), ["active", "capacity", "list"]);
        assert_eq!(keys(&status["watchdog"]), ["failed", "redirects"]);
        assert_eq!(
            keys(&status["transcripts"]),
            ["awaiting_recording", "damaged", "missing", "oldest_unsynced", "parked", "stored", "unsynced"]
        );
        assert_eq!(keys(&status["storage"]), ["audio_bytes", "free_bytes", "records_bytes"]);
        assert_eq!(keys(&status["sync"]), ["configured", "last_error", "last_ok"]);
        assert_eq!(keys(&status["trouble"][0]), ["code", "text_en", "text_he"]);
        assert_eq!(status["speech"], Value::Null, "no engine is configured");
        let status = document(&samples::fallback(), Viewer::Anyone);
        assert_eq!(
            keys(&status["calls"]["list"][0]),
            ["call_sid", "from", "last_media_ms_ago", "last_words", "since", "state"]
        );
    }

    #[test]
    fn an_engine_that_is_away_is_told_with_what_waits_for_it() {
        let status = document(&samples::unheard(), Viewer::Anyone);
        assert_eq!(
            status["speech"],
            json!({
                "engine": "openai whisper-1", "silent_since": "2026-11-22T07:32:05.250Z",
                "last_error": "the speech engine cannot be reached; look whether it runs",
                "calls_waiting": 3, "waiting_since": "2026-11-22T07:30:00.250Z", "longest_wait_s": 3_725,
            })
        );
        assert_eq!(status["trouble"][0]["code"], "speech_silent");
    }

    #[test]
    fn values_have_their_promised_forms() {
        let status = document(&samples::fallback(), Viewer::Anyone);
        assert_eq!(status["state"], "fallback");
        assert_eq!(status["at"], "2026-11-22T08:32:05.250Z");
        assert_eq!(status["board"]["leds"]["POWER"], json!({"on": true, "pattern": "heartbeat"}));
        let states: Vec<_> = status["calls"]["list"].as_array().unwrap().iter().map(|call| &call["state"]).collect();
        assert_eq!(states, ["streaming", "falling_back", "recording", "awaiting_stream"]);
        assert_eq!(status["calls"]["list"][0]["last_media_ms_ago"], 20);
        assert_eq!(status["calls"]["list"][3]["last_media_ms_ago"], Value::Null);
        assert_eq!(status["recent"][0]["reason"], "no_media");
        assert_eq!(status["recent"][0]["source"], "recording");
        assert_eq!(status["recent"][0]["outcome"], "untranscribed");
        assert_eq!(status["transcripts"]["oldest_unsynced"], Value::Null);
        assert_eq!(status["storage"]["free_bytes"], 21_474_836_480_u64);
        let status = document(&samples::trouble(), Viewer::Anyone);
        assert_eq!(status["state"], "trouble");
        assert_eq!(status["transcripts"]["oldest_unsynced"], "2026-11-22T06:02:05.250Z");
    }

    #[test]
    fn numbers_are_whole_for_staff_alone() {
        let snapshot = samples::fallback();
        let everybody = String::from_utf8(render(&snapshot, Viewer::Anyone)).unwrap();
        assert!(!everybody.contains("+972"), "{everybody}");
        assert!(everybody.contains("…567"));
        assert_eq!(document(&snapshot, Viewer::Staff)["calls"]["list"][0]["from"], "+972501234567");
    }

    #[test]
    fn what_callers_say_is_for_staff_alone() {
        let mut snapshot = samples::streaming();
        snapshot.calls[0].last_words = Some(Words("this is Dana".into()));
        let last_words = |viewer| document(&snapshot, viewer)["calls"]["list"][0]["last_words"].clone();
        assert_eq!((last_words(Viewer::Anyone), last_words(Viewer::Staff)), (Value::Null, json!("this is Dana")));
    }
}
