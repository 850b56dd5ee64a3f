//! The desk and Twilio's REST API: what each answer to a redirect means, and what a call is given when none comes.

use super::*;

const NONE: [Duration; 0] = [];

/// A deadline at 8 s: the call's first redirect, with its form.
fn redirected(world: &mut World) -> AttemptId {
    world.voice(1);
    World::redirect(&world.advance_to(8 * SECOND)).1
}

/// Lets time pass up to the next redirect; `None` when the call is over.
fn next_redirect(world: &mut World) -> Option<(Duration, AttemptId)> {
    loop {
        let (due, _) = world.desk.poll_timeout()?;
        let outputs = world.advance_to(due - world.start);
        if !redirects(&outputs).is_empty() {
            let (at, attempt, _) = World::redirect(&outputs);
            return Some((at, attempt));
        }
    }
}

fn answered(world: &mut World, attempt: AttemptId, outcome: UpdateOutcome) -> Vec<Output> {
    world.handle(Event::RedirectAnswered { attempt, outcome })
}

fn looked_up(world: &mut World, attempt: AttemptId, outcome: CallLookup) -> Vec<Output> {
    world.handle(Event::CallLookedUp { attempt, outcome })
}

fn in_progress(has_recording: bool) -> CallLookup {
    CallLookup::Found { status: CallStatus::InProgress, has_recording }
}

fn redirects(outputs: &[(Duration, Output)]) -> Vec<Duration> {
    outputs.iter().filter(|(_, output)| matches!(output, Output::Redirect { .. })).map(|(at, _)| *at).collect()
}

/// Handles an event and gives back how often it was reported that Twilio took a redirect.
fn told_redirected(world: &mut World, event: Event) -> usize {
    world.desk.handle(event, world.now);
    let outputs = std::iter::from_fn(|| world.desk.poll_output());
    outputs.filter(|output| matches!(output, Output::Report(Report::Redirected { .. }))).count()
}

fn state(world: &World) -> CallState {
    world.desk.view().calls[0].state
}

fn recording_begins() -> Event {
    Event::RecordingStatusReported { facts: facts(1, None), recording: None, status: RecordingStatus::InProgress }
}

fn record_ended() -> Event {
    let (request, facts) = (RequestId(900), facts(1, Some(CallStatus::InProgress)));
    Event::RecordEnded { request, facts, recording: None, duration_s: Some(3), hung_up: false }
}

#[test]
fn refused_credentials_are_trouble_and_tried_again_every_half_minute_while_the_call_lives() {
    let mut world = World::new();
    let mut attempt = redirected(&mut world);
    for at in [38, 68, 98] {
        answered(&mut world, attempt, UpdateOutcome::Unauthorized);
        assert_eq!(world.desk.view().rest_trouble, Some(RestTrouble::Unauthorized));
        let outputs = world.advance_to(at * SECOND);
        assert_eq!(redirects(&outputs), [at * SECOND]);
        attempt = World::redirect(&outputs).1;
    }
    answered(&mut world, attempt, UpdateOutcome::Unauthorized);
    world.end(1);
    assert_eq!(world.advance_to(600 * SECOND), [], "nobody is left to redirect");
    assert_eq!(world.desk.view().failed, 0, "it was never given up");
}

#[test]
fn trouble_with_rest_is_over_with_the_first_redirect_that_twilio_takes() {
    for outcome in [UpdateOutcome::Unauthorized, UpdateOutcome::Unavailable, UpdateOutcome::Refused { code: 12_100 }] {
        let mut world = World::new();
        let attempt = redirected(&mut world);
        answered(&mut world, attempt, outcome);
        assert!(world.desk.view().rest_trouble.is_some(), "{outcome:?}");
        let (_, attempt) = next_redirect(&mut world).unwrap();
        answered(&mut world, attempt, UpdateOutcome::Accepted);
        let view = world.desk.view();
        assert_eq!((view.rest_trouble, view.redirects, view.failed), (None, 1, 0), "{outcome:?}");
    }
}

#[test]
fn an_unknown_call_is_given_up_at_once_and_is_trouble() {
    let mut world = World::new();
    let attempt = redirected(&mut world);
    answered(&mut world, attempt, UpdateOutcome::NotFound);
    let view = world.desk.view();
    assert_eq!((view.rest_trouble, view.failed, view.redirects), (Some(RestTrouble::NotFound), 1, 0));
    assert_eq!(redirects(&world.advance_to(600 * SECOND)), NONE);
}

#[test]
fn throttling_is_waited_for_as_long_as_twilio_asks_and_is_no_trouble() {
    let mut world = World::new();
    let attempt = redirected(&mut world);
    answered(&mut world, attempt, UpdateOutcome::Throttled { retry_after: Some(5 * SECOND) });
    assert_eq!(world.desk.view().rest_trouble, None);
    assert_eq!(redirects(&world.advance_to(20 * SECOND)), [13 * SECOND]);
}

#[test]
fn what_may_pass_is_tried_again_for_as_long_as_the_call_can_live() {
    for outcome in [UpdateOutcome::Unavailable, UpdateOutcome::TimedOut] {
        let mut world = World::new();
        let mut attempt = redirected(&mut world);
        let (mut tries, mut last) = (1, 8 * SECOND);
        loop {
            answered(&mut world, attempt, outcome);
            let Some((at, next)) = next_redirect(&mut world) else { break };
            (tries, last, attempt) = (tries + 1, at, next);
        }
        let end = 4 * 3_600 * SECOND;
        assert!(tries > 1_700 && last > end - 10 * SECOND, "{outcome:?}: {tries} tries, the last at {last:?}");
        assert_eq!(world.held(), 0, "calls.max_duration");
    }
}

#[test]
fn a_try_whose_result_never_comes_is_tried_again() {
    let mut world = World::new();
    redirected(&mut world);
    assert_eq!(redirects(&world.advance_to(60 * SECOND)).first(), Some(&Duration::from_millis(27_500)));
}

#[test]
fn a_sign_of_the_recorder_counts_as_acceptance_after_a_time_out_and_is_told_once() {
    for sign in ["stop", "recording_status", "handle_recording"] {
        let mut world = World::new();
        let stream = world.streaming(1);
        let (_, attempt, _) = World::redirect(&world.advance_to(6 * SECOND));
        answered(&mut world, attempt, UpdateOutcome::TimedOut);
        let event = match sign {
            "stop" => Event::StreamStopped { stream },
            "recording_status" => recording_begins(),
            _ => record_ended(),
        };
        assert_eq!(told_redirected(&mut world, event), 1, "{sign}");
        assert_eq!(world.desk.view().redirects, 1, "{sign}");
        assert_eq!(redirects(&world.advance_to(20 * SECOND)), NONE, "{sign}");
        assert!(world.end(1).fallback.unwrap().redirected_at.is_some(), "{sign}");
    }
}

#[test]
fn a_recording_counts_as_acceptance_while_the_answer_is_outstanding_and_the_answer_adds_nothing() {
    for (sign, outcome) in [
        (recording_begins(), UpdateOutcome::Accepted),
        (recording_begins(), UpdateOutcome::TimedOut),
        (record_ended(), UpdateOutcome::TimedOut),
    ] {
        let mut world = World::new();
        let attempt = redirected(&mut world);
        assert_eq!(told_redirected(&mut world, sign), 1);
        assert_eq!(told_redirected(&mut world, Event::RedirectAnswered { attempt, outcome }), 0);
        assert_eq!(world.desk.view().redirects, 1);
        assert_eq!(redirects(&world.advance_to(22 * SECOND)), NONE);
    }
}

#[test]
fn a_stop_is_told_as_acceptance_once_the_outstanding_answer_does_not_gainsay_it() {
    for outcome in [UpdateOutcome::Accepted, UpdateOutcome::TimedOut, UpdateOutcome::Unavailable] {
        let mut world = World::new();
        let stream = world.streaming(1);
        let (_, attempt, _) = World::redirect(&world.advance_to(6 * SECOND));
        assert_eq!(told_redirected(&mut world, Event::StreamStopped { stream }), 0);
        assert_eq!(state(&world), CallState::Recording);
        assert_eq!(told_redirected(&mut world, Event::RedirectAnswered { attempt, outcome }), 1, "{outcome:?}");
        assert_eq!((world.desk.view().redirects, state(&world)), (1, CallState::Recording), "{outcome:?}");
        assert!(world.end(1).fallback.unwrap().redirected_at.is_some());
    }
}

#[test]
fn a_stop_that_was_the_callers_hanging_up_is_counted_nowhere_and_waits_for_no_recording() {
    let mut world = World::new();
    let stream = world.streaming(1);
    world.media(stream);
    let (_, attempt, _) = World::redirect(&world.advance_to(6 * SECOND));
    assert_eq!(told_redirected(&mut world, Event::StreamStopped { stream }), 0);
    let outputs = answered(&mut world, attempt, UpdateOutcome::CallOver);
    let ended = record(&outputs);
    assert_eq!((ended.cause, ended.fallback, ended.had_media), (EndCause::RestCallOver, None, true));
    let view = world.desk.view();
    assert_eq!((view.active, view.redirects, view.failed, view.rest_trouble), (0, 0, 0, None));
}

#[test]
fn a_stop_for_another_reason_than_the_redirect_that_twilio_refused_leaves_the_call_to_the_next_try() {
    let mut world = World::new();
    let stream = world.streaming(1);
    let (_, attempt, _) = World::redirect(&world.advance_to(6 * SECOND));
    world.handle(Event::StreamStopped { stream });
    answered(&mut world, attempt, UpdateOutcome::Throttled { retry_after: None });
    assert_eq!((state(&world), world.desk.view().redirects), (CallState::FallingBack, 0));
    let (at, attempt, _) = World::redirect(&world.advance_to(8 * SECOND));
    assert_eq!(at, Duration::from_millis(6_500));
    let outcome = UpdateOutcome::Accepted;
    assert_eq!(told_redirected(&mut world, Event::RedirectAnswered { attempt, outcome }), 1);
    assert_eq!(state(&world), CallState::Recording);
}

#[test]
fn a_stop_that_twilio_followed_by_asking_for_more_was_no_redirect() {
    let mut world = World::new();
    let stream = world.streaming(1);
    let (_, attempt, _) = World::redirect(&world.advance_to(6 * SECOND));
    world.handle(Event::StreamStopped { stream });
    assert_eq!(World::answer(&world.stream_ended(1)), &RECORD);
    answered(&mut world, attempt, UpdateOutcome::TimedOut);
    assert_eq!((state(&world), world.desk.view().redirects), (CallState::Recording, 0));
    assert_eq!(redirects(&world.advance_to(20 * SECOND)), NONE);
}

#[test]
fn only_a_call_in_progress_without_a_recording_is_redirected_again() {
    let found = |status| CallLookup::Found { status, has_recording: false };
    for (outcome, again) in [
        (in_progress(false), true),
        (in_progress(true), false),
        (found(CallStatus::Ringing), false),
        (found(CallStatus::Queued), false),
        (CallLookup::NotFound, false),
        (CallLookup::Unauthorized, false),
        (CallLookup::Unavailable, false),
    ] {
        let mut world = World::new();
        let attempt = redirected(&mut world);
        answered(&mut world, attempt, UpdateOutcome::Accepted);
        let (_, attempt) = World::look_up(&world.advance_to(30 * SECOND));
        let outputs = timed(looked_up(&mut world, attempt, outcome));
        assert_eq!(redirects(&outputs).len(), usize::from(again), "{outcome:?}");
    }
}

#[test]
fn a_call_that_turns_out_to_be_over_gets_no_second_redirect() {
    let mut world = World::new();
    let attempt = redirected(&mut world);
    answered(&mut world, attempt, UpdateOutcome::Accepted);
    let (_, attempt) = World::look_up(&world.advance_to(30 * SECOND));
    let over = CallLookup::Found { status: CallStatus::Completed, has_recording: false };
    let outputs = looked_up(&mut world, attempt, over);
    assert_eq!(record(&outputs).cause, EndCause::LookedUp(CallStatus::Completed));
}

#[test]
fn media_after_an_accepted_redirect_are_believed_without_asking_twilio() {
    let mut world = World::new();
    let stream = world.streaming(1);
    let (_, attempt, _) = World::redirect(&world.advance_to(6 * SECOND));
    answered(&mut world, attempt, UpdateOutcome::Accepted);
    world.advance_to(20 * SECOND);
    world.media(stream);
    assert_eq!(world.advance_to(24 * SECOND), []);
    assert_eq!(state(&world), CallState::Streaming, "23 s: the prompt's 7 s and 10 s more");
}

#[test]
fn a_document_that_twilio_refuses_is_sent_once_more_without_prompts_then_given_up() {
    let refused = UpdateOutcome::Refused { code: 12_100 };
    let mut world = World::new();
    let attempt = redirected(&mut world);
    answered(&mut world, attempt, refused);
    let (at, attempt, prompt) = World::redirect(&world.advance_to(9 * SECOND));
    assert_eq!((at, prompt), (8 * SECOND, PromptForm::Bare));
    answered(&mut world, attempt, refused);
    let view = world.desk.view();
    assert_eq!((view.rest_trouble, view.failed), (Some(RestTrouble::Refused { code: 12_100 }), 1));
    assert_eq!(redirects(&world.advance_to(600 * SECOND)), NONE);
}

#[test]
fn prompts_are_played_up_to_15_s_after_an_https_request_about_the_call_and_spoken_later() {
    let form = |heard_until_ms: u64| {
        let mut world = World::new();
        let stream = world.streaming(1);
        for heard_ms in [4_000, heard_until_ms] {
            world.advance_to(Duration::from_millis(heard_ms));
            world.media(stream);
        }
        World::redirect(&world.advance_to(60 * SECOND)).2
    };
    assert_eq!(form(9_000), PromptForm::Play, "15 s after the stream's handshake");
    assert_eq!(form(9_001), PromptForm::Say);
    // A status callback about this call shows that the way in works; one about another call does not.
    for (number, expected) in [(1, PromptForm::Play), (2, PromptForm::Say)] {
        let mut world = World::new();
        let stream = world.streaming(1);
        world.voice(2);
        world.advance_to(5 * SECOND);
        world.media(stream);
        world.advance_to(10 * SECOND);
        world.media(stream);
        let event = StreamEvent::Started;
        world.handle(Event::StreamStatusReported { facts: facts(number, None), stream_sid: None, event });
        let outputs = world.advance_to(16 * SECOND);
        let of_call_1 = outputs.iter().find_map(|(_, output)| match output {
            Output::Redirect { call_sid, prompt, .. } if *call_sid == CallSid::from_number(1) => Some(*prompt),
            _ => None,
        });
        assert_eq!(of_call_1, Some(expected), "asked about call {number}");
    }
}

#[test]
fn the_redirect_goes_out_before_the_streams_socket_is_closed() {
    let mut world = World::new();
    let stream = world.streaming(1);
    world.media(stream);
    let outputs = world.advance_to(6 * SECOND);
    assert!(matches!(outputs.as_slice(), [(_, Output::Redirect { .. })]), "{outputs:?}");
    let (_, attempt, _) = World::redirect(&outputs);
    assert_eq!(answered(&mut world, attempt, UpdateOutcome::Accepted), [], "Twilio closes it, after its `stop`");

    let mut world = World::new();
    let stream = world.streaming(1);
    world.media(stream);
    let (_, attempt, _) = World::redirect(&world.advance_to(6 * SECOND));
    let outputs = answered(&mut world, attempt, UpdateOutcome::Unavailable);
    assert_eq!(outputs, [Output::CloseStream { socket: SocketId(1) }], "then Twilio asks `stream_ended`");
}

#[test]
fn a_drain_with_rest_hanging_ends_the_stream_in_time_for_twilio_to_ask_what_follows() {
    let mut world = World::new();
    let stream = world.streaming(1);
    world.media(stream);
    world.handle(Event::DrainStarted { until: world.now + 5 * SECOND });
    let outputs = world.advance_to(7 * SECOND);
    assert_eq!(World::redirect(&outputs).0, 5 * SECOND);
    let closed = (Duration::from_millis(6_500), Output::CloseStream { socket: SocketId(1) });
    assert_eq!(outputs.last(), Some(&closed));
    world.handle(Event::StreamClosed { stream, end: SocketEnd::ClosedByBox });
    assert!(!world.desk.is_drained());
    assert_eq!(World::answer(&world.stream_ended(1)), &Answer::Record(PromptForm::Say));
    assert!(world.desk.is_drained(), "whatever becomes of the redirect");
    assert_eq!(world.end(1).fallback.unwrap().reason, Reason::Draining);
}

#[test]
fn a_box_that_drains_speaks_its_prompts_since_nothing_will_be_there_to_fetch_them_from() {
    let mut world = World::new();
    world.handle(Event::DrainStarted { until: world.now + 5 * SECOND });
    let say = PromptForm::Say;
    assert_eq!(World::answer(&world.voice(1)), &Answer::Record(say));
    assert_eq!(World::answer(&world.stream_ended(2)), &Answer::Record(say), "a call that we do not know");
    assert_eq!(World::answer(&world.handle(record_ended())), &Answer::Goodbye(say));
    let (request, facts) = (RequestId(901), facts(2, None));
    let silent = Event::RecordEnded { request, facts, recording: None, duration_s: Some(0), hung_up: false };
    assert_eq!(World::answer(&world.handle(silent)), &Answer::NoMessage(say));
}

#[test]
fn a_call_status_that_comes_again_is_answered_once_the_record_is_kept() {
    let mut world = World::new();
    world.voice(1);
    world.end(1);
    let (request, facts) = (RequestId(902), facts(1, Some(CallStatus::Completed)));
    let again = world.handle(Event::CallStatusReported { request, facts });
    assert_eq!(again, [Output::AnswerOnceKept { request, call_sid: CallSid::from_number(1) }]);
}
