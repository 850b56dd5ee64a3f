//! What the journal is told of live calls, and what becomes of those that a run before left.

use super::*;
use crate::calls::{Fallback, LiveCall, Memo};

const STREAM: u128 = 7;

impl World {
    /// What the journal was told by an event, and the outputs that came after it.
    fn memos(&mut self, event: Event) -> Vec<Memo> {
        self.desk.handle(event, self.now);
        let outputs: Vec<Output> = std::iter::from_fn(|| self.desk.poll_output()).collect();
        outputs
            .iter()
            .filter_map(|output| if let Output::RememberCall(live) = output { Some(live.memo) } else { None })
            .collect()
    }

    fn remembered(&mut self, number: u128, memo: Memo) -> Vec<(Duration, Output)> {
        self.handle(Event::CallRemembered(Box::new(LiveCall {
            call_sid: CallSid::from_number(number),
            from: Party::new("+972501234567"),
            to: Party::new("+97231234567"),
            direction: Direction::Inbound,
            answered_at: self.start,
            memo,
        })));
        self.advance_to(self.now - self.start)
    }
}

fn had_a_stream() -> Memo {
    Memo { stream_sid: Some(StreamSid::from_number(STREAM)), fallback: None }
}

fn looked_up(status: CallStatus, has_recording: bool) -> CallLookup {
    CallLookup::Found { status, has_recording }
}

#[test]
fn the_journal_hears_of_a_call_with_its_answer_its_stream_and_its_way_to_the_recorder() {
    let mut world = World::new();
    let request = world.request();
    let event = Event::VoiceRequested { request, facts: facts(1, None), token: token("good") };
    assert_eq!(world.memos(event), [Memo::default()]);
    let memos = world.memos(Event::StreamClaimed(claim(1, 1)));
    let stream_sid = claim(1, 1).stream_sid;
    assert_eq!(memos, [Memo { stream_sid: Some(stream_sid), fallback: None }]);
    let request = world.request();
    let closed = Event::ConnectEnded { request, facts: facts(1, Some(CallStatus::InProgress)) };
    assert_eq!(world.memos(closed), [], "it waits for the socket's end");
}

#[test]
fn a_redirect_goes_out_behind_the_journals_entry_of_it() {
    let mut world = World::new();
    world.voice(1);
    let (due, _) = world.desk.poll_timeout().expect("the start deadline");
    world.now = due;
    world.desk.handle_timeout(due);
    let outputs: Vec<Output> = std::iter::from_fn(|| world.desk.poll_output()).collect();
    let place = |wanted: fn(&Output) -> bool| outputs.iter().position(wanted).expect("it is there");
    let noted = place(|output| matches!(output, Output::RememberCall(live) if live.memo.fallback.is_some()));
    assert!(noted < place(|output| matches!(output, Output::Redirect { .. })));
}

#[test]
fn a_call_in_silence_since_its_box_died_is_redirected_at_once() {
    let mut world = World::new();
    let seen = world.remembered(1, had_a_stream());
    let (at, attempt) = World::look_up(&seen);
    assert_eq!(at, Duration::ZERO);
    assert!(matches!(seen[0].1, Output::LookUpCall { recordings: true, .. }));
    let outputs = world.handle(Event::CallLookedUp { attempt, outcome: looked_up(CallStatus::InProgress, false) });
    let [Output::Redirect { attempt, .. }] = outputs.as_slice() else { panic!("{outputs:?}") };
    world.handle(Event::RedirectAnswered { attempt: *attempt, outcome: UpdateOutcome::Accepted });
    let ended = world.end(1);
    assert_eq!(ended.fallback.map(|fallback| fallback.reason), Some(Reason::SocketLost));
    assert_eq!((ended.stream_sid, ended.answered_at), (Some(StreamSid::from_number(STREAM)), world.start));
    assert_eq!(world.held(), 0);
}

#[test]
fn a_call_whose_recording_runs_is_left_alone() {
    let mut world = World::new();
    let seen = world.remembered(1, had_a_stream());
    let (_, attempt) = World::look_up(&seen);
    let outputs = world.handle(Event::CallLookedUp { attempt, outcome: looked_up(CallStatus::InProgress, true) });
    assert_eq!(outputs, []);
    let later = world.advance_to(25 * SECOND);
    assert_eq!(later, [], "it is asked for again, not redirected");
}

#[test]
fn a_call_that_was_given_the_recorder_has_time_for_the_prompt_before_anybody_asks() {
    let mut world = World::new();
    let fallback = Some(Fallback { reason: Reason::NoMedia, redirected_at: Some(world.start) });
    let seen = world.remembered(1, Memo { fallback, ..had_a_stream() });
    assert_eq!(seen, []);
    let (at, attempt) = World::look_up(&world.advance_to(20 * SECOND));
    assert_eq!(at, 17 * SECOND, "the prompt's 7 s, and 10 s");
    let outputs = world.handle(Event::CallLookedUp { attempt, outcome: looked_up(CallStatus::InProgress, false) });
    assert!(matches!(outputs.as_slice(), [Output::Redirect { .. }]), "{outputs:?}");
}

#[test]
fn a_call_that_was_over_before_the_box_came_back_leaves_its_record() {
    let mut world = World::new();
    let seen = world.remembered(1, had_a_stream());
    let (_, attempt) = World::look_up(&seen);
    let outputs = world.handle(Event::CallLookedUp { attempt, outcome: looked_up(CallStatus::Completed, false) });
    let ended = record(&outputs);
    assert_eq!((ended.cause, ended.fallback), (EndCause::LookedUp(CallStatus::Completed), None));
    assert!(ended.had_media && ended.from.whole() == "+972501234567");
}

#[test]
fn twilio_itself_may_be_quicker_with_what_follows_the_dead_stream() {
    let mut world = World::new();
    world.remembered(1, had_a_stream());
    let outputs = world.stream_ended(1);
    assert_eq!(World::answer(&outputs), &RECORD);
    assert_eq!(world.end(1).fallback.map(|fallback| fallback.reason), Some(Reason::SocketLost));
}

#[test]
fn remembered_calls_take_no_place_of_a_new_one() {
    let mut world = World::new();
    for number in 1..=RECORDER_CALLS_MAX as u128 {
        world.remembered(number, had_a_stream());
    }
    assert_eq!(world.desk.view().active, 0);
    let outputs = world.voice(10_000);
    assert!(matches!(World::answer(&outputs), Answer::Stream { .. }));
}
