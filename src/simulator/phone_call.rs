//! One simulated call: it asks the number's webhook and obeys the TwiML it gets, as Twilio would. Pure.
//!
//! Every question that goes out carries a [`Ticket`]. An answer whose ticket is not waited for any more, since a
//! REST update or a hang-up came between, is dropped: so whoever drives the call may answer late and out of order.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    account::{ApiError, Recording, Update},
    caller::Voice,
    document::{RecordVerb, Verb},
    forms::Fields,
    plan::Plan,
    recorder::{RecordEnd, Recorder},
    report::{CallReport, Ending, Met, Outcome, Story},
    streaming::{Connect, Streaming},
};
use crate::twilio::{
    sid::{RecordingSid, StreamSid},
    webhook::CallStatus,
};

mod ending;
mod record_leg;
mod stream_leg;
mod update;
mod verbs;

/// Webhooks that may be under way at once; a status callback beyond it is not sent, and noted.
const REQUESTS_MAX: usize = 64;

/// Which question an answer belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Which REST request a decision belongs to; chosen by whoever passes the request on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UpdateId(pub u64);

/// What a webhook brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WebhookReply {
    Answered {
        status: u16,
        content_type: Option<String>,
        body: String,
    },
    /// No connection or no TLS: asked once more.
    NoConnection,
    /// No answer in 15 s, or a broken one: never asked again.
    NoAnswer,
}

/// What the call wants done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// POST this form, signed; the reply comes back by [`PhoneCall::handle_reply`].
    Request { ticket: Ticket, url: String, form: Fields },
    /// GET this sound; its length comes back by [`PhoneCall::handle_prompt`].
    FetchPrompt { ticket: Ticket, url: String },
    /// Open this WebSocket, signed.
    OpenSocket { ticket: Ticket, url: String },
    /// A text message for an open socket.
    Send { ticket: Ticket, text: String },
    /// Close it; `abort`: without a close frame, as a lost connection.
    CloseSocket { ticket: Ticket, abort: bool },
    /// What became of a REST update.
    AnswerUpdate { update: UpdateId, decision: Result<CallStatus, ApiError> },
    /// For the account's REST side.
    NoteStatus(CallStatus),
    /// For the account's REST side.
    NoteRecording(Recording),
    /// The call is over, and nothing of it is under way any more. The last output.
    Finish,
}

/// What the call is doing.
#[derive(Debug)]
enum Stage {
    /// A document was asked for.
    Asking(Ticket),
    /// A sound was asked for.
    Fetching {
        ticket: Ticket,
        times: u32,
    },
    /// A sound, a text or a pause runs.
    Waiting {
        until: Instant,
    },
    /// A socket is being opened.
    Opening {
        ticket: Ticket,
        connect: Connect,
    },
    /// In a `<Connect>` whose stream never comes.
    Hanging,
    Streaming {
        ticket: Ticket,
        streaming: Box<Streaming>,
    },
    Recording(Box<Recorder>),
    Over,
}

/// A webhook under way.
#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    url: String,
    form: Fields,
    expects: Expects,
    retried: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Expects {
    /// A document to run.
    Twiml,
    /// Nothing: a status callback, or an action that nobody listens to any more.
    Nothing,
}

/// A recording whose media are not there yet.
#[derive(Debug)]
struct LateRecording {
    due: Instant,
    recording_sid: RecordingSid,
    audio: Arc<[u8]>,
    length: Duration,
    verb: RecordVerb,
}

/// Counts and moments for the report.
#[derive(Debug, Default)]
struct Tally {
    streamed: Duration,
    recorded: Duration,
    recording_sid: Option<RecordingSid>,
    streams_started: u32,
    marks_echoed: u32,
    tone_heard: bool,
    rest_updates: u32,
    rest_refused: u32,
    documents: u32,
    /// The last stream was ended by the server after the caller had said all.
    heard_out: bool,
    /// The recorder ran and heard nothing.
    silent_record: bool,
    last_document_at: Option<Instant>,
    fault_began: Option<Instant>,
    redirect_after_answer: Option<Duration>,
    redirect_after_fault: Option<Duration>,
}

/// One call, from the first ring to the last callback.
#[derive(Debug)]
pub struct PhoneCall {
    plan: Plan,
    placed_at: Instant,
    answered_at: Option<Instant>,
    status: CallStatus,
    stage: Stage,
    /// The verbs still to run, and the address that their relative URLs resolve against.
    verbs: VecDeque<Verb>,
    base: Option<String>,
    fallback_tried: bool,
    voice: Voice,
    pending: Vec<Pending>,
    late_recordings: Vec<LateRecording>,
    held_answers: VecDeque<(Instant, Output)>,
    outputs: VecDeque<Output>,
    next_number: u64,
    story: Story,
    tally: Tally,
    ended: Option<(Ending, Outcome)>,
    finished: bool,
}

impl PhoneCall {
    /// Places the call: the number's webhook is asked at once.
    pub fn new(plan: Plan, now: Instant) -> Self {
        let voice = Voice::new(plan.caller.speech.clone());
        let url = plan.number.voice_url.clone();
        let mut call = Self {
            plan,
            placed_at: now,
            answered_at: None,
            status: CallStatus::Ringing,
            stage: Stage::Over,
            verbs: VecDeque::new(),
            base: None,
            fallback_tried: false,
            voice,
            pending: Vec::new(),
            late_recordings: Vec::new(),
            held_answers: VecDeque::new(),
            outputs: VecDeque::new(),
            next_number: 0,
            story: Story::new(now),
            tally: Tally::default(),
            ended: None,
            finished: false,
        };
        call.outputs.push_back(Output::NoteStatus(CallStatus::Ringing));
        let form = call.plan.parties.voice(CallStatus::Ringing);
        call.ask(url, form, now);
        call
    }

    /// A webhook was answered, or not.
    pub fn handle_reply(&mut self, ticket: Ticket, reply: WebhookReply, now: Instant) {
        let Some(index) = self.pending.iter().position(|pending| pending.ticket == ticket) else { return };
        if reply == WebhookReply::NoConnection && !self.pending[index].retried {
            let pending = &mut self.pending[index];
            pending.retried = true;
            let (url, form) = (pending.url.clone(), pending.form.clone());
            self.outputs.push_back(Output::Request { ticket, url, form });
            return;
        }
        let pending = self.pending.swap_remove(index);
        let document = read_reply(reply, pending.expects);
        if let Err((code, why)) = &document {
            self.story.note(format!("{code} {}: {why}", pending.url));
        }
        let awaited = matches!(self.stage, Stage::Asking(asked) if asked == ticket);
        if awaited && pending.expects == Expects::Twiml {
            match document {
                Ok(text) => {
                    self.tally.last_document_at = Some(now);
                    self.run_text(&text, pending.url, now);
                }
                Err((code, _)) => self.fail(code, &pending.url, now),
            }
        }
        self.finish_if_done();
    }

    /// A sound was fetched, and is this long; or it could not be fetched or is no sound, with Twilio's code.
    pub fn handle_prompt(&mut self, ticket: Ticket, length: Result<Duration, u32>, now: Instant) {
        let Stage::Fetching { ticket: asked, times } = self.stage else { return };
        if asked != ticket {
            return;
        }
        match length {
            Ok(length) => self.wait(length * verbs::repeats(times), Met::Prompt, now),
            Err(code) => {
                self.story.note(format!("{code}: a sound could not be played"));
                let url = self.base.clone().unwrap_or_default();
                self.fail(code, &url, now);
            }
        }
        self.finish_if_done();
    }

    /// The WebSocket handshake gave 101.
    pub fn handle_socket_opened(&mut self, ticket: Ticket, now: Instant) {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Opening { ticket: asked, connect } if asked == ticket => self.begin_stream(ticket, connect, now),
            other => {
                // The call went elsewhere meanwhile: nobody needs this socket.
                self.stage = other;
                self.outputs.push_back(Output::CloseSocket { ticket, abort: false });
            }
        }
    }

    /// The WebSocket could not be opened; `code` is Twilio's (31920 no 101, 31902 refused, 31901 timed out, 31910 TLS).
    pub fn handle_socket_failed(&mut self, ticket: Ticket, code: u32, now: Instant) {
        if !matches!(&self.stage, Stage::Opening { ticket: asked, .. } if *asked == ticket) {
            return;
        }
        let Stage::Opening { connect, .. } = std::mem::replace(&mut self.stage, Stage::Over) else { return };
        let stream_sid = StreamSid::from_number(self.number());
        self.story.note(format!("{code}: the stream could not be opened"));
        self.stream_callback(&connect.stream, stream_sid, "stream-error", Some(&format!("{code} stream failed")), now);
        self.leave_connect(connect, now);
        self.finish_if_done();
    }

    /// A text message from the server.
    pub fn handle_socket_message(&mut self, ticket: Ticket, text: &str, now: Instant) {
        if let Stage::Streaming { ticket: open, streaming } = &mut self.stage
            && *open == ticket
        {
            streaming.peer.handle_message(text, now);
            self.step_stream(now);
        }
    }

    /// A binary message from the server: dropped with a warning.
    pub fn handle_socket_binary(&mut self, ticket: Ticket) {
        if let Stage::Streaming { ticket: open, streaming } = &mut self.stage
            && *open == ticket
        {
            streaming.peer.handle_binary();
        }
    }

    /// The server closed the socket with this code, or the connection is gone (`None`).
    pub fn handle_socket_closed(&mut self, ticket: Ticket, code: Option<u16>, now: Instant) {
        if !matches!(&self.stage, Stage::Streaming { ticket: open, streaming } if *open == ticket && !streaming.is_dropped())
        {
            return;
        }
        self.tally.heard_out = self.story.met().0 == Met::Stream && self.voice.has_said_all();
        match code {
            Some(1000) => self.end_stream("stream-stopped", None, now),
            Some(code) => {
                self.story.note(format!("31921: the server closed the stream with {code}"));
                self.end_stream("stream-error", Some("31921 Close Error"), now);
            }
            None => {
                self.story.note("31903: the stream's connection broke".to_owned());
                self.end_stream("stream-error", Some("31903 Broken Pipe"), now);
            }
        }
        self.finish_if_done();
    }

    /// A REST update. It takes effect at once; its answer may be held back by a fault.
    pub fn handle_update(&mut self, id: UpdateId, update: Update, now: Instant) {
        self.note_redirect(now);
        let decision = self.decide_update(update, now);
        match &decision {
            Ok(_) => self.tally.rest_updates += 1,
            Err(error) => {
                self.tally.rest_refused += 1;
                self.story.note(format!("{} REST: {}", error.code, error.message));
            }
        }
        let output = Output::AnswerUpdate { update: id, decision };
        if self.plan.faults.rest_delay.is_zero() {
            self.outputs.push_back(output);
        } else {
            self.held_answers.push_back((now + self.plan.faults.rest_delay, output));
        }
        self.finish_if_done();
    }

    /// The caller presses a key.
    pub fn handle_key(&mut self, key: char, now: Instant) {
        match &mut self.stage {
            Stage::Streaming { ticket, streaming } if streaming.has_started() && !streaming.is_dropped() => {
                let output = Output::Send { ticket: *ticket, text: streaming.peer.dtmf(key) };
                self.outputs.push_back(output);
            }
            Stage::Recording(recorder) if recorder.is_ended_by(key) => self.end_record(RecordEnd::Key(key), now),
            _ => {}
        }
    }

    /// The caller hangs up.
    pub fn handle_hang_up(&mut self, now: Instant) {
        self.end(Ending::CallerLeft, now);
        self.finish_if_done();
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.leave_if_due(now);
        match &mut self.stage {
            Stage::Waiting { until } if *until <= now => self.run_next(now),
            Stage::Streaming { .. } => self.step_stream(now),
            Stage::Recording(recorder) => {
                if let Some(end) = recorder.handle_timeout(&mut self.voice, now) {
                    self.end_record(end, now);
                }
            }
            _ => {}
        }
        self.publish_recordings(now);
        while self.held_answers.front().is_some_and(|(due, _)| *due <= now) {
            self.outputs.extend(self.held_answers.pop_front().map(|(_, output)| output));
        }
        self.finish_if_done();
    }

    /// When something is due next, and what.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        let stage = match &self.stage {
            Stage::Waiting { until } => Some((*until, "verb")),
            Stage::Streaming { streaming, .. } => streaming.poll_timeout().map(|due| (due, "stream")),
            Stage::Recording(recorder) => Some((recorder.poll_timeout(), "recorder")),
            _ => None,
        };
        let recording = self.late_recordings.iter().map(|late| (late.due, "recording")).min();
        let answer = self.held_answers.front().map(|(due, _)| (*due, "late answer"));
        let leaving = self.leaves_at().map(|(due, _)| (due, "caller"));
        [stage, recording, answer, leaving].into_iter().flatten().min_by_key(|(due, _)| *due)
    }

    /// What to do next.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// `CallStatus` at this moment.
    pub fn status(&self) -> CallStatus {
        self.status
    }

    /// Whether nothing of this call is under way any more.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// What the caller met so far, and what it amounted to.
    pub fn report(&self) -> CallReport {
        let tally = &self.tally;
        let mut streamed = tally.streamed;
        let (mut marks_echoed, mut tone_heard) = (tally.marks_echoed, tally.tone_heard);
        if let Stage::Streaming { streaming, .. } = &self.stage {
            streamed += streaming.sent();
            marks_echoed += streaming.peer.marks_echoed();
            tone_heard |= streaming.peer.was_audible();
        }
        CallReport {
            call_sid: self.plan.parties.call_sid,
            ending: self.ended.map(|(ending, _)| ending),
            outcome: self.ended.map_or(Outcome::NoMessage, |(_, outcome)| outcome),
            spans: self.story.spans().to_vec(),
            streamed,
            recorded: tally.recorded,
            longest_silence: self.story.total(Met::Silence).1,
            streams_started: tally.streams_started,
            marks_echoed,
            tone_heard,
            rest_updates: tally.rest_updates,
            rest_refused: tally.rest_refused,
            redirect_after_answer: tally.redirect_after_answer,
            redirect_after_fault: tally.redirect_after_fault,
            debugger: self.story.debugger().to_vec(),
        }
    }

    fn request(&mut self, url: String, form: Fields, expects: Expects) -> Ticket {
        let ticket = self.ticket();
        self.pending.push(Pending { ticket, url: url.clone(), form: form.clone(), expects, retried: false });
        self.outputs.push_back(Output::Request { ticket, url, form });
        ticket
    }

    fn call_back(&mut self, url: String, form: Fields) {
        let times = if self.plan.faults.callbacks_twice { 2 } else { 1 };
        for _ in 0..times {
            if self.pending.len() >= REQUESTS_MAX {
                self.story.note(format!("a status callback was not sent: {url}"));
                return;
            }
            self.request(url.clone(), form.clone(), Expects::Nothing);
        }
    }

    fn ticket(&mut self) -> Ticket {
        self.next_number += 1;
        Ticket(self.next_number)
    }

    /// A number for an identifier: different for each call and each thing in it, the same in each run.
    fn number(&mut self) -> u128 {
        self.next_number += 1;
        let digits = self.plan.parties.call_sid.as_str().get(2..).unwrap_or_default();
        u128::from_str_radix(digits, 16).unwrap_or_default().wrapping_add(u128::from(self.next_number) << 64)
    }

    fn timestamp(&self, now: Instant) -> String {
        let since = now.saturating_duration_since(self.placed_at);
        self.plan.placed_at.checked_add(since).unwrap_or(self.plan.placed_at).to_string()
    }
}

/// A reply as the document it brought, or as what Twilio's debugger would say of it.
fn read_reply(reply: WebhookReply, expects: Expects) -> Result<String, (u32, String)> {
    match reply {
        WebhookReply::NoConnection => Err((11205, "no connection".to_owned())),
        WebhookReply::NoAnswer => Err((11205, "no answer in time".to_owned())),
        WebhookReply::Answered { status, .. } if !(200..300).contains(&status) => {
            Err((11200, format!("answered with {status}")))
        }
        WebhookReply::Answered { body, content_type, .. } => {
            let is_xml = content_type.as_deref().is_some_and(|kind| {
                ["text/xml", "application/xml", "text/html"].iter().any(|known| kind.starts_with(known))
            });
            if expects == Expects::Twiml && !is_xml {
                return Err((12300, format!("the content type {content_type:?} is no TwiML's")));
            }
            Ok(body)
        }
    }
}

#[cfg(test)]
mod tests;
