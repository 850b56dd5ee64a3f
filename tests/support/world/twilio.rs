//! Twilio's side of the world: what a simulated call wants is sent on its way, tried again and given up as Twilio does,
//! and REST takes effect.

use std::time::Duration;

use kolbox::{
    calls::AttemptId,
    simulator::{
        account::{RecordingState, Update},
        phone_call::{Output as Wish, Ticket, UpdateId, WebhookReply},
    },
    twilio::{
        rest::{CallLookup, RestFailure, RestReply, RestRequest, read_call, read_recordings},
        sid::CallSid,
    },
};

use super::{Arrival, BIN, HOST, RestFate, World, account_sid, rest_reply};

/// What the README has entered behind the voice webhook's `#`: two more tries, each of them given up after 3 s.
const VOICE_TRIES: u8 = 3;
const VOICE_ANSWER_MAX: Duration = Duration::from_secs(3);
/// Every other webhook is waited for this long, once.
const WEBHOOK_ANSWER_MAX: Duration = Duration::from_secs(15);

/// One try of a webhook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Post {
    pub call: usize,
    pub ticket: Ticket,
    number: u64,
    tries: u8,
    /// What is answered gets lost on the way.
    answer_lost: bool,
}

impl World {
    /// Does what a simulated call wants, as the simulator's drivers would.
    pub(super) fn obey(&mut self, call: usize) {
        while let Some(wish) = self.calls[call].poll_output() {
            match wish {
                Wish::Request { ticket, url, form } if url.starts_with(BIN) => {
                    let _ = form;
                    self.bins_met.insert(call);
                    self.later(Arrival::BinAnswers { call, ticket, url });
                }
                Wish::Request { ticket, url, form } => self.send_webhook(call, ticket, url, form, 1),
                Wish::FetchPrompt { ticket, url } => {
                    let name = url.rsplit('/').next().unwrap_or_default().to_owned();
                    self.later(Arrival::PromptAtBox { call, ticket, name });
                }
                Wish::OpenSocket { ticket, .. } => self.later(Arrival::SocketAtBox { call, ticket }),
                Wish::Send { ticket, text } => self.send_to_box(call, ticket, Some(text)),
                Wish::CloseSocket { ticket, .. } => self.send_to_box(call, ticket, None),
                Wish::AnswerUpdate { update, decision } => {
                    let call_sid = self.call_sid(call);
                    let answer = Ok(rest_reply(self.account.update_reply(call_sid, &decision)));
                    let at = self.now + self.answers_late.remove(&update.0).unwrap_or_default() + self.delay();
                    self.at(at, Arrival::RedirectAnswered { number: update.0, answer });
                }
                Wish::NoteStatus(status) => {
                    let call_sid = self.call_sid(call);
                    self.account.note_call(call_sid, status);
                    if status.is_final() {
                        self.note(|| format!("-- {call_sid} is over at Twilio"));
                        self.over_at.insert(call, self.now);
                    }
                }
                Wish::NoteRecording(mut recording) => {
                    let is_done = matches!(recording.state, RecordingState::Completed { .. });
                    if is_done && self.unrecorded.contains(&recording.call_sid) {
                        recording.state = RecordingState::Absent;
                    }
                    self.account.note_recording(recording);
                }
                Wish::Finish => {}
            }
        }
    }

    fn send_webhook(&mut self, call: usize, ticket: Ticket, url: String, mut form: Vec<(String, String)>, tries: u8) {
        if self.unrecorded.contains(&self.call_sid(call)) {
            let done = form.iter_mut().find(|(name, value)| name == "RecordingStatus" && value == "completed");
            done.into_iter().for_each(|(_, value)| "failed".clone_into(value));
        }
        self.next += 1;
        let is_lost = self.random.u32(0..100) < self.network.lost_percent;
        let answer_lost = is_lost && self.random.bool();
        let post = Post { call, ticket, number: self.next, tries, answer_lost };
        self.posts.insert((call, ticket), post);
        let waits = if is_voice(&url) { VOICE_ANSWER_MAX } else { WEBHOOK_ANSWER_MAX };
        let late = if url.ends_with("_status") { self.callback_late() } else { Duration::ZERO };
        let sent = self.now + late;
        self.at(sent + waits, Arrival::NotAnswered { post, url: url.clone(), form: form.clone() });
        if is_lost && !answer_lost {
            return;
        }
        if self.random.u32(0..100) < self.network.repeated_percent {
            let at = sent + self.delay();
            self.at(at, Arrival::Webhook { post, url: url.clone(), form: form.clone() });
        }
        let at = sent + self.delay();
        self.at(at, Arrival::Webhook { post, url, form });
    }

    fn callback_late(&mut self) -> Duration {
        self.network.callbacks_late_max.mul_f64(self.random.f64())
    }

    /// The box's answer goes on its way.
    pub(super) fn reply(&mut self, post: Post, reply: WebhookReply) {
        if !post.answer_lost {
            self.later(Arrival::Reply { post, reply });
        }
    }

    /// The first answer to a try that is still waited for counts.
    pub(super) fn reply_at_twilio(&mut self, post: Post, reply: WebhookReply) {
        let Post { call, ticket, .. } = post;
        if self.posts.get(&(call, ticket)).is_none_or(|current| current.number != post.number) {
            return;
        }
        self.posts.remove(&(call, ticket));
        self.calls[call].handle_reply(ticket, reply, self.now);
        self.obey(call);
    }

    /// A try is given up; the voice webhook has more of them.
    pub(super) fn webhook_not_answered(&mut self, post: Post, url: String, form: Vec<(String, String)>) {
        let Post { call, ticket, tries, .. } = post;
        if self.posts.get(&(call, ticket)).is_none_or(|current| current.number != post.number) {
            return;
        }
        self.note(|| format!("-- no answer to try {tries} of {url}"));
        if is_voice(&url) && tries < VOICE_TRIES {
            self.send_webhook(call, ticket, url, form, tries + 1);
        } else {
            self.reply_at_twilio(post, WebhookReply::NoAnswer);
        }
    }

    /// The TwiML Bins of the README, at Twilio itself.
    pub(super) fn bin_answers(&mut self, call: usize, ticket: Ticket, url: &str) {
        let body = if url.ends_with("goodbye") {
            "<Response><Say>תודה. להתראות.</Say><Hangup/></Response>".to_owned()
        } else {
            format!(
                r##"<Response><Say>אנא השאירו הודעה.</Say><Record action="{BIN}/goodbye" method="POST"
                recordingStatusCallback="https://{HOST}/webhook/recording_status"
                recordingStatusCallbackEvent="in-progress completed absent"
                timeout="4" maxLength="120" finishOnKey="#" playBeep="true" trim="do-not-trim"/><Hangup/></Response>"##
            )
        };
        let reply = WebhookReply::Answered { status: 200, content_type: Some("text/xml".to_owned()), body };
        self.calls[call].handle_reply(ticket, reply, self.now);
        self.obey(call);
    }

    /// Twilio fetches a prompt: it gets it if there is a box.
    pub(super) fn prompt_at_box(&mut self, call: usize, ticket: Ticket, name: &str) {
        let length = self.running.as_ref().map(|_| super::gateway::prompt_length(name)).ok_or(11_200);
        self.later(Arrival::Prompt { call, ticket, length });
    }

    pub(super) fn redirect(&mut self, number: u64, call_sid: CallSid, twiml: String, fate: RestFate) {
        let problem = |status: u16, code: u32| {
            let body = format!(r#"{{"code":{code},"status":{status}}}"#).into_bytes();
            Ok(RestReply { status, retry_after: (status == 429).then_some(Duration::from_secs(2)), body })
        };
        let answer = match fate {
            RestFate::Unreachable => Err(RestFailure::Connect),
            RestFate::Unavailable => Ok(RestReply { status: 503, retry_after: None, body: b"<html>".to_vec() }),
            RestFate::Throttled => problem(429, 20_429),
            RestFate::Unauthorized => problem(401, 20_003),
            RestFate::NotFound => problem(404, 20_404),
            RestFate::Served | RestFate::AnswerLost | RestFate::AnsweredLate(_) | RestFate::CarriedOutLate(_) => {
                let Some(&call) = self.by_sid.get(&call_sid) else { panic!("a redirect of an unknown call") };
                if let RestFate::AnsweredLate(late) = fate {
                    self.answers_late.insert(number, late);
                }
                if self.running.is_none() && self.bins_met.contains(&call) {
                    self.taken_from_bin.insert(call);
                }
                // A lost answer goes nowhere: the number is forgotten, and the client's own time-out speaks.
                let update = UpdateId(if fate == RestFate::AnswerLost { 0 } else { number });
                self.calls[call].handle_update(update, Update::Twiml(twiml), self.now);
                return self.obey(call);
            }
        };
        self.later(Arrival::RedirectAnswered { number, answer });
    }

    pub(super) fn look_up(&mut self, call_sid: CallSid, recordings: bool) -> Result<CallLookup, CallLookup> {
        let status = read_call(&self.rest(&RestRequest::fetch_call(&account_sid(), &call_sid)))?;
        let mut has_recording = false;
        if recordings && !status.is_final() {
            let listed = read_recordings(&self.rest(&RestRequest::list_call_recordings(&account_sid(), &call_sid)))?;
            has_recording = !listed.is_empty();
        }
        Ok(CallLookup::Found { status, has_recording })
    }

    pub(super) fn redirect_is_answered(&mut self, number: u64, answer: &Result<RestReply, RestFailure>) {
        match self.redirects.remove(&number) {
            Some((of, attempt)) if of == self.life => self.tell_redirect_answered(attempt, answer),
            _ => {}
        }
    }

    fn tell_redirect_answered(&mut self, attempt: AttemptId, answer: &Result<RestReply, RestFailure>) {
        let outcome = kolbox::twilio::rest::read_update(answer);
        self.tell(kolbox::calls::Event::RedirectAnswered { attempt, outcome });
    }
}

fn is_voice(url: &str) -> bool {
    url.ends_with("/incoming_call")
}
