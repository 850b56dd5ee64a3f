//! The table at the head of `src/calls`, cell by cell: each event meets a call in each state, also where chance brings them
//! together once in a million calls or never. What a cell says: what is wanted, and the state after it.
//!
//! An answer of REST comes here as one that is late: to a try or a question that the call does not wait for any more, but
//! for the redirect in `Fall`, which is waited for. What answers to questions do is in `rest_tests`.

use super::*;
use crate::twilio::webhook::{RecordingStatus, StreamEvent};

/// The columns, and a call that stands in no table any more.
const STATES: [&str; 7] = ["Await", "Strm", "Over", "Fall", "Rec", "End", "none"];

/// A call in a state, and what events name of it.
struct Met {
    world: World,
    stream: StreamKey,
    attempt: AttemptId,
}

impl Met {
    fn with_a_call_in(state: &str) -> Self {
        let mut world = World::new();
        let mut stream = StreamKey { slot: 0, generation: 1 };
        if state == "Await" {
            world.voice(1);
        } else {
            stream = world.streaming(1);
            world.advance_to(SECOND);
            world.media(stream);
        }
        if matches!(state, "Over" | "End") {
            world.handle(Event::StreamStopped { stream });
        }
        if state == "End" {
            world.stream_ended(1);
        }
        let key = world.desk.columns().next().unwrap().0;
        let mut attempt = AttemptId { call: key, number: 1 };
        if matches!(state, "Fall" | "Rec") {
            attempt = World::redirect(&world.advance_to(7 * SECOND)).1;
        }
        if state == "Rec" {
            world.handle(Event::RedirectAnswered { attempt, outcome: UpdateOutcome::Accepted });
        }
        if state == "none" {
            world.end(1);
        }
        assert_eq!(column(&world), state);
        Self { world, stream, attempt }
    }

    /// What is wanted, and the state after it; `=` for the same one.
    fn cell(&mut self, before: &str, event: Event) -> String {
        let outputs = self.world.handle(event);
        let wanted = outputs.iter().map(word).collect::<Vec<_>>().join(" ");
        let after = column(&self.world);
        let wanted = if wanted.is_empty() { "·".to_owned() } else { wanted };
        if after == before { wanted } else { format!("{wanted} → {after}") }
    }
}

fn column(world: &World) -> &'static str {
    world.desk.columns().next().map_or("none", |(_, _, state)| state)
}

fn word(output: &Output) -> String {
    match output {
        Output::Answer { answer, .. } => match answer {
            Answer::Stream { .. } => "stream",
            Answer::Record(_) => "record",
            Answer::Goodbye(_) => "goodbye",
            Answer::NoMessage(_) => "no message",
            Answer::Hangup => "hang up",
            Answer::Nothing => "nothing",
            Answer::NoContent => "204",
        },
        Output::AcceptStream { .. } => "accept",
        Output::RefuseStream { .. } => "refuse",
        Output::CloseStream { .. } => "close",
        Output::Redirect { .. } => "redirect",
        Output::LookUpCall { .. } => "ask",
        Output::KeepRecord { .. } => "keep",
        Output::AnswerOnceKept { .. } => "204 once kept",
        Output::RememberCall(_) | Output::Report(_) => unreachable!("noted"),
    }
    .to_owned()
}

type MakeEvent = fn(&Met) -> Event;

fn voice(_: &Met) -> Event {
    Event::VoiceRequested { request: RequestId(900), facts: facts(1, None), token: token("other") }
}

fn connect_ended(status: CallStatus) -> Event {
    Event::ConnectEnded { request: RequestId(900), facts: facts(1, Some(status)) }
}

fn record_ended(duration_s: u32, hung_up: bool, status: CallStatus) -> Event {
    let (request, facts) = (RequestId(900), facts(1, Some(status)));
    Event::RecordEnded { request, facts, recording: None, duration_s: Some(duration_s), hung_up }
}

fn call_status(status: CallStatus) -> Event {
    Event::CallStatusReported { request: RequestId(900), facts: facts(1, Some(status)) }
}

fn stream_status(event: StreamEvent) -> Event {
    Event::StreamStatusReported { facts: facts(1, None), stream_sid: Some(StreamSid::from_number(1)), event }
}

fn recording(status: RecordingStatus) -> Event {
    Event::RecordingStatusReported { facts: facts(1, None), recording: None, status }
}

fn closed(met: &Met, end: SocketEnd) -> Event {
    Event::StreamClosed { stream: met.stream, end }
}

fn redirected(met: &Met, outcome: UpdateOutcome) -> Event {
    Event::RedirectAnswered { attempt: met.attempt, outcome }
}

fn looked_up(met: &Met, outcome: CallLookup) -> Event {
    // No question of this number was asked.
    Event::CallLookedUp { attempt: AttemptId { number: met.attempt.number + 7, ..met.attempt }, outcome }
}

fn found(status: CallStatus, has_recording: bool) -> CallLookup {
    CallLookup::Found { status, has_recording }
}

const IN_PROGRESS: CallStatus = CallStatus::InProgress;
const COMPLETED: CallStatus = CallStatus::Completed;

/// The rows, as the table has them.
const ROWS: &[(&str, MakeEvent)] = &[
    ("VoiceRequested", voice),
    ("VoiceRequested: over", |_| Event::VoiceRequested {
        request: RequestId(900),
        facts: facts(1, Some(COMPLETED)),
        token: token("other"),
    }),
    ("ConnectEnded", |_| connect_ended(IN_PROGRESS)),
    ("ConnectEnded: over", |_| connect_ended(COMPLETED)),
    ("RecordEnded", |_| record_ended(3, false, IN_PROGRESS)),
    ("RecordEnded: nothing said", |_| record_ended(0, false, IN_PROGRESS)),
    ("RecordEnded: hung up", |_| record_ended(3, true, IN_PROGRESS)),
    ("RecordEnded: over", |_| record_ended(3, false, COMPLETED)),
    ("CallStatusReported", |_| call_status(IN_PROGRESS)),
    ("CallStatusReported: over", |_| call_status(COMPLETED)),
    ("StreamStatusReported", |_| stream_status(StreamEvent::Stopped)),
    ("StreamStatusReported: error", |_| stream_status(StreamEvent::Error)),
    ("RecordingStatusReported: begun", |_| recording(RecordingStatus::InProgress)),
    ("RecordingStatusReported: done", |_| recording(RecordingStatus::Completed)),
    ("RecordingStatusReported: absent", |_| recording(RecordingStatus::Absent)),
    ("RecordingStatusReported: failed", |_| recording(RecordingStatus::Failed)),
    ("StreamClaimed", |_| Event::StreamClaimed(claim(1, 2))),
    ("StreamClaimed: wrong token", |_| Event::StreamClaimed(StartClaim { token: Some(token("bad")), ..claim(1, 2) })),
    ("StreamStopped", |met| Event::StreamStopped { stream: met.stream }),
    ("StreamClosed: after stop", |met| closed(met, SocketEnd::AfterStop)),
    ("StreamClosed: conversation over", |met| closed(met, SocketEnd::ConversationOver)),
    ("StreamClosed: lost", |met| closed(met, SocketEnd::Lost)),
    ("StreamClosed: by the box", |met| closed(met, SocketEnd::ClosedByBox)),
    ("RedirectAnswered: accepted", |met| redirected(met, UpdateOutcome::Accepted)),
    ("RedirectAnswered: 21220", |met| redirected(met, UpdateOutcome::CallOver)),
    ("RedirectAnswered: time-out", |met| redirected(met, UpdateOutcome::TimedOut)),
    ("RedirectAnswered: 429", |met| redirected(met, UpdateOutcome::Throttled { retry_after: None })),
    ("RedirectAnswered: 5xx", |met| redirected(met, UpdateOutcome::Unavailable)),
    ("RedirectAnswered: 401", |met| redirected(met, UpdateOutcome::Unauthorized)),
    ("RedirectAnswered: 404", |met| redirected(met, UpdateOutcome::NotFound)),
    ("RedirectAnswered: refused", |met| redirected(met, UpdateOutcome::Refused { code: 12_100 })),
    ("CallLookedUp: final", |met| looked_up(met, found(COMPLETED, false))),
    ("CallLookedUp: in progress", |met| looked_up(met, found(IN_PROGRESS, false))),
    ("CallLookedUp: recorded", |met| looked_up(met, found(IN_PROGRESS, true))),
    ("CallLookedUp: not known", |met| looked_up(met, CallLookup::NotFound)),
    ("CallLookedUp: no answer", |met| looked_up(met, CallLookup::Unavailable)),
    ("StoreChanged", |_| Event::StoreChanged { can_keep: false }),
    ("DrainStarted", |met| Event::DrainStarted { until: met.world.now + SECOND }),
];

fn table() -> String {
    let mut lines = Vec::new();
    for (name, make) in ROWS {
        let cells = STATES.map(|state| {
            let mut met = Met::with_a_call_in(state);
            let event = make(&met);
            met.cell(state, event)
        });
        lines.push(format!("{name} | {}", cells.join(" | ")));
    }
    let cells = STATES.map(|state| {
        let mut met = Met::with_a_call_in(state);
        let until = met.world.now + SECOND;
        met.world.handle(Event::DrainStarted { until });
        let event = voice(&met);
        met.cell(state, event)
    });
    lines.push(format!("VoiceRequested in a drain | {}", cells.join(" | ")));
    lines.join("\n")
}

const EXPECTED: &str = "
VoiceRequested | stream | stream | stream → Await | record → Rec | record | stream → Await | record
VoiceRequested: over | keep nothing → none | close keep nothing → none | keep nothing → none | close keep nothing → none | close keep nothing → none | keep nothing → none | nothing
ConnectEnded | record → Rec | · | hang up → End | record → Rec | record | hang up | record
ConnectEnded: over | keep nothing → none | close keep nothing → none | keep nothing → none | close keep nothing → none | close keep nothing → none | keep nothing → none | nothing
RecordEnded | goodbye → End | goodbye → End | goodbye → End | goodbye → End | goodbye → End | goodbye | goodbye
RecordEnded: nothing said | no message → End | no message → End | no message → End | no message → End | no message → End | no message | no message
RecordEnded: hung up | nothing keep → none | nothing close keep → none | nothing keep → none | nothing close keep → none | nothing close keep → none | nothing keep → none | nothing
RecordEnded: over | nothing keep → none | nothing close keep → none | nothing keep → none | nothing close keep → none | nothing close keep → none | nothing keep → none | nothing
CallStatusReported | 204 | 204 | 204 | 204 | 204 | 204 | 204
CallStatusReported: over | keep → none | close keep → none | keep → none | close keep → none | close keep → none | keep → none | 204 once kept
StreamStatusReported | · | · | · | · | · | · | ·
StreamStatusReported: error | · | · | · | · | · | · | ·
RecordingStatusReported: begun | · → Rec | · | · → Rec | · → Rec | · | · | ·
RecordingStatusReported: done | · → Rec | · | · → Rec | · → Rec | · | · | ·
RecordingStatusReported: absent | · | · | · | · | · | · | ·
RecordingStatusReported: failed | · | · | · | · | · | · | ·
StreamClaimed | accept → Strm | close accept | close accept → Strm | close accept | close accept | close accept → Strm | refuse
StreamClaimed: wrong token | refuse | refuse | refuse | refuse | refuse | refuse | refuse
StreamStopped | · | · → Over | · | · → Rec | · | · | ·
StreamClosed: after stop | · | · → Over | · | · | · | · | ·
StreamClosed: conversation over | · | · → Over | · | · | · | · | ·
StreamClosed: lost | · | · → Over | · | · | · | · | ·
StreamClosed: by the box | · | · → Over | · | · | · | · | ·
RedirectAnswered: accepted | · | · | · | · → Rec | · | · | ·
RedirectAnswered: 21220 | · | · | · | close keep → none | · | · | ·
RedirectAnswered: time-out | · | · | · | close | · | · | ·
RedirectAnswered: 429 | · | · | · | close | · | · | ·
RedirectAnswered: 5xx | · | · | · | close | · | · | ·
RedirectAnswered: 401 | · | · | · | close | · | · | ·
RedirectAnswered: 404 | · | · | · | close | · | · | ·
RedirectAnswered: refused | · | · | · | close | · | · | ·
CallLookedUp: final | · | · | · | · | · | · | ·
CallLookedUp: in progress | · | · | · | · | · | · | ·
CallLookedUp: recorded | · | · | · | · | · | · | ·
CallLookedUp: not known | · | · | · | · | · | · | ·
CallLookedUp: no answer | · | · | · | · | · | · | ·
StoreChanged | · | · | · | · | · | · | ·
DrainStarted | · | · | · | · | · | · | ·
VoiceRequested in a drain | record → Rec | record → Rec | record → Rec | record → Rec | record | record → Rec | record
";

#[test]
fn every_event_does_in_every_state_what_the_table_says() {
    for (seen, expected) in table().lines().zip(EXPECTED.trim().lines()) {
        assert_eq!(seen, expected);
    }
    assert_eq!(table().lines().count(), EXPECTED.trim().lines().count());
}
