//! Which event met a call in which state: the columns of the table at the head of `src/calls`, and its rows, told apart by
//! what decides in them.

use std::collections::BTreeMap;

use kolbox::{
    calls::{CallKey, Event, SocketEnd, Table},
    twilio::{
        rest::{CallLookup, UpdateOutcome},
        sid::CallSid,
        webhook::{CallStatus, RecordingStatus, StreamEvent},
    },
};

use super::World;

/// A call that stands in no table.
pub const NOT_LISTED: &str = "none";
/// The columns.
pub const STATES: [&str; 7] = ["Await", "Strm", "Over", "Fall", "Rec", "End", NOT_LISTED];

/// The rows.
pub const EVENTS: [&str; 35] = [
    "VoiceRequested",
    "VoiceRequested in a drain",
    "VoiceRequested: over",
    "ConnectEnded",
    "ConnectEnded: over",
    "RecordEnded",
    "RecordEnded: nothing said",
    "RecordEnded: over",
    "CallStatusReported",
    "CallStatusReported: over",
    "StreamStatusReported",
    "StreamStatusReported: error",
    "RecordingStatusReported: begun, done",
    "RecordingStatusReported: absent, failed",
    "StreamClaimed",
    "StreamStopped",
    "StreamClosed: after stop",
    "StreamClosed: conversation over",
    "StreamClosed: lost",
    "StreamClosed: by the box",
    "RedirectAnswered: accepted",
    "RedirectAnswered: 21220",
    "RedirectAnswered: time-out",
    "RedirectAnswered: 429, 5xx",
    "RedirectAnswered: 401",
    "RedirectAnswered: 404",
    "RedirectAnswered: refused",
    "CallLookedUp: final",
    "CallLookedUp: in progress",
    "CallLookedUp: recorded",
    "CallLookedUp: not known",
    "CallLookedUp: no answer",
    "CallRemembered",
    "StoreChanged",
    "DrainStarted",
];

pub type Met = BTreeMap<Pair, u64>;

/// A state and an event that meets a call in it.
pub type Pair = (&'static str, &'static str);

/// Pairs that cannot be, and why: a run that meets one of them is broken, or the argument is.
pub const NEVER: &[(&str, &[&str], &str)] = &[
    (
        "RecordEnded: nothing said",
        &STATES,
        "this Twilio tells how long the silence was; a length of zero is for the desk's own tests",
    ),
    ("VoiceRequested: over", &STATES, "a voice webhook begins a call; Twilio never sends it for one that is over"),
    (
        "CallStatusReported",
        &STATES,
        "the number asks for the final status alone, Twilio's default; others are noted as a sign of the way in",
    ),
    (
        "StreamStopped",
        &["Await", "Over", "none"],
        "a `stop` is told of the current stream once, and a call whose stream is current and open is in none of them",
    ),
    ("CallRemembered", &["Await", "Strm", "Fall", "End"], "told before any webhook of the run, each call once"),
    ("CallRemembered", &["Over", "Rec"], "likewise"),
    ("StoreChanged", &["none"], "about all calls: counted for each that is listed"),
    ("DrainStarted", &["none"], "likewise"),
];

/// Whom an event names.
enum Whose {
    Call(CallSid),
    Slot(u16),
    Key(CallKey),
    Everybody,
}

impl World {
    /// Notes which event meets a call in which state.
    pub(super) fn count(&mut self, event: &Event) {
        let Some(running) = &self.running else { return };
        let (name, whose) = name_of(event, running.draining);
        let mut columns = running.desk.columns();
        let column = match whose {
            Whose::Call(call_sid) => columns.find(|(_, sid, _)| *sid == call_sid),
            Whose::Slot(slot) => columns.find(|(key, ..)| key.table == Table::Streams && key.slot == slot),
            Whose::Key(key) => columns.find(|(it, ..)| *it == key),
            Whose::Everybody => {
                for (_, _, state) in columns {
                    *self.met.entry((state, name)).or_default() += 1;
                }
                return;
            }
        };
        let state = column.map_or(NOT_LISTED, |(_, _, state)| state);
        *self.met.entry((state, name)).or_default() += 1;
    }
}

/// Pairs that were neither met nor argued away, and pairs that were argued away and met.
pub fn gaps(met: &Met) -> (Vec<Pair>, Vec<Pair>) {
    let all = || EVENTS.into_iter().flat_map(|event| STATES.map(|state| (state, event)));
    let (mut missing, mut refuted) = (Vec::new(), Vec::new());
    for pair in all() {
        match (met.contains_key(&pair), is_argued_away(pair)) {
            (false, false) => missing.push(pair),
            (true, true) => refuted.push(pair),
            _ => {}
        }
    }
    (missing, refuted)
}

fn is_argued_away((state, event): (&str, &str)) -> bool {
    NEVER.iter().any(|(name, states, _)| *name == event && states.contains(&state))
}

fn name_of(event: &Event, draining: bool) -> (&'static str, Whose) {
    use Whose::{Call, Everybody, Key, Slot};
    let over = |status: Option<CallStatus>| status.is_some_and(CallStatus::is_final);
    match event {
        Event::VoiceRequested { facts, .. } if over(facts.status) => ("VoiceRequested: over", Call(facts.call_sid)),
        Event::VoiceRequested { facts, .. } if draining => ("VoiceRequested in a drain", Call(facts.call_sid)),
        Event::VoiceRequested { facts, .. } => ("VoiceRequested", Call(facts.call_sid)),
        Event::ConnectEnded { facts, .. } if over(facts.status) => ("ConnectEnded: over", Call(facts.call_sid)),
        Event::ConnectEnded { facts, .. } => ("ConnectEnded", Call(facts.call_sid)),
        Event::RecordEnded { facts, hung_up, .. } if *hung_up || over(facts.status) => {
            ("RecordEnded: over", Call(facts.call_sid))
        }
        Event::RecordEnded { facts, duration_s: Some(0), .. } => ("RecordEnded: nothing said", Call(facts.call_sid)),
        Event::RecordEnded { facts, .. } => ("RecordEnded", Call(facts.call_sid)),
        Event::CallStatusReported { facts, .. } if over(facts.status) => {
            ("CallStatusReported: over", Call(facts.call_sid))
        }
        Event::CallStatusReported { facts, .. } => ("CallStatusReported", Call(facts.call_sid)),
        Event::StreamStatusReported { facts, event: StreamEvent::Error, .. } => {
            ("StreamStatusReported: error", Call(facts.call_sid))
        }
        Event::StreamStatusReported { facts, .. } => ("StreamStatusReported", Call(facts.call_sid)),
        Event::RecordingStatusReported { facts, status, .. } => match status {
            RecordingStatus::InProgress | RecordingStatus::Completed => {
                ("RecordingStatusReported: begun, done", Call(facts.call_sid))
            }
            _ => ("RecordingStatusReported: absent, failed", Call(facts.call_sid)),
        },
        Event::StreamClaimed(claim) => ("StreamClaimed", Call(claim.call_sid)),
        Event::StreamStopped { stream } => ("StreamStopped", Slot(stream.slot)),
        Event::StreamClosed { stream, end } => {
            let name = match end {
                SocketEnd::AfterStop => "StreamClosed: after stop",
                SocketEnd::ConversationOver => "StreamClosed: conversation over",
                SocketEnd::Lost => "StreamClosed: lost",
                SocketEnd::ClosedByBox => "StreamClosed: by the box",
            };
            (name, Slot(stream.slot))
        }
        Event::RedirectAnswered { attempt, outcome } => {
            let name = match outcome {
                UpdateOutcome::Accepted => "RedirectAnswered: accepted",
                UpdateOutcome::CallOver => "RedirectAnswered: 21220",
                UpdateOutcome::TimedOut => "RedirectAnswered: time-out",
                UpdateOutcome::Throttled { .. } | UpdateOutcome::Unavailable => "RedirectAnswered: 429, 5xx",
                UpdateOutcome::Unauthorized => "RedirectAnswered: 401",
                UpdateOutcome::NotFound => "RedirectAnswered: 404",
                UpdateOutcome::Refused { .. } => "RedirectAnswered: refused",
            };
            (name, Key(attempt.call))
        }
        Event::CallLookedUp { attempt, outcome } => {
            let name = match outcome {
                CallLookup::Found { status, .. } if status.is_final() => "CallLookedUp: final",
                CallLookup::Found { has_recording: true, .. } => "CallLookedUp: recorded",
                CallLookup::Found { .. } => "CallLookedUp: in progress",
                CallLookup::NotFound => "CallLookedUp: not known",
                CallLookup::Unauthorized | CallLookup::Unavailable => "CallLookedUp: no answer",
            };
            (name, Key(attempt.call))
        }
        Event::CallRemembered(live) => ("CallRemembered", Call(live.call_sid)),
        Event::StoreChanged { .. } => ("StoreChanged", Everybody),
        Event::DrainStarted { .. } => ("DrainStarted", Everybody),
    }
}

/// Pairs for which `cargo test` is too short; a test of the desk's own reaches them.
pub fn is_rare((state, event): (&str, &str)) -> bool {
    RARE.iter().any(|(name, states)| *name == event && states.contains(&state))
}

/// What 2,000 seeds do not meet: chance brings these together once in many thousand worlds, or in none of a million, since
/// an answer of REST must come after its call has gone on, or a webhook twice and late. The desk's own `table_tests` bring
/// each of them together by hand and say what happens.
const RARE: &[(&str, &[&str])] = &[
    ("VoiceRequested", &["Strm", "Over", "Fall", "End"]),
    ("VoiceRequested in a drain", &["Await", "Strm", "Over", "Fall", "End"]),
    ("ConnectEnded: over", &["End"]),
    ("RecordEnded", &["Await", "Strm"]),
    ("RecordEnded: over", &["Await", "Strm", "Over", "Fall", "End"]),
    ("StreamStatusReported: error", &["Strm"]),
    ("RecordingStatusReported: begun, done", &["Strm"]),
    ("RecordingStatusReported: absent, failed", &["Await", "Strm"]),
    ("StreamClaimed", &["Over", "End"]),
    ("StreamStopped", &["End"]),
    ("StreamClosed: after stop", &["Await", "Strm", "Fall", "End"]),
    ("StreamClosed: conversation over", &["Await", "Over", "Fall", "Rec", "End", "none"]),
    ("StreamClosed: lost", &["Await", "Over", "Rec", "End", "none"]),
    ("StreamClosed: by the box", &["Await", "Over", "Rec"]),
    ("RedirectAnswered: accepted", &["Await", "Strm", "Over", "End", "none"]),
    ("RedirectAnswered: 21220", &["Await", "Strm", "Over", "End"]),
    ("RedirectAnswered: time-out", &["Await", "Strm", "Over"]),
    ("RedirectAnswered: 429, 5xx", &["Await", "Strm", "Over", "End"]),
    ("RedirectAnswered: 401", &["Await", "Strm", "Over", "Rec", "End", "none"]),
    ("RedirectAnswered: 404", &["Await", "Strm", "Over", "Rec", "End", "none"]),
    ("RedirectAnswered: refused", &["Await", "Strm", "Over", "End", "none"]),
    ("CallLookedUp: final", &["Await", "Strm"]),
    ("CallLookedUp: in progress", &["Await", "Strm", "none"]),
    ("CallLookedUp: recorded", &["Await", "Strm", "Fall", "none"]),
    ("CallLookedUp: not known", &["Await", "Strm", "Fall", "none"]),
    ("CallLookedUp: no answer", &["Await", "Strm", "Fall", "none"]),
];
