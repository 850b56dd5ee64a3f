//! Twilio's side of the world: what a simulated call wants is sent on its way, and REST takes effect.

use std::time::Duration;

use kolbox::{
    simulator::{
        account::Update,
        phone_call::{Output as Wish, Ticket, UpdateId, WebhookReply},
    },
    twilio::{
        rest::{CallLookup, RestFailure, RestReply, RestRequest, read_call, read_recordings},
        sid::CallSid,
    },
};

use super::{Arrival, RestFate, World, account_sid, rest_reply};

impl World {
    /// Does what a simulated call wants, as the simulator's drivers would.
    pub(super) fn obey(&mut self, call: usize) {
        while let Some(wish) = self.calls[call].poll_output() {
            match wish {
                Wish::Request { ticket, url, form } => self.send_webhook(call, ticket, url, form),
                Wish::FetchPrompt { ticket, url } => {
                    let name = url.rsplit('/').next().unwrap_or_default();
                    let length = super::gateway::prompt_length(name);
                    self.later(Arrival::Prompt { call, ticket, length });
                }
                Wish::OpenSocket { ticket, .. } => self.later(Arrival::SocketAtBox { call, ticket }),
                Wish::Send { ticket, text } => self.send_to_box(call, ticket, Some(text)),
                Wish::CloseSocket { ticket, .. } => self.send_to_box(call, ticket, None),
                Wish::AnswerUpdate { update, decision } => {
                    let call_sid = self.calls[call].report().call_sid;
                    let answer = Ok(rest_reply(self.account.update_reply(call_sid, &decision)));
                    self.later(Arrival::RedirectAnswered { number: update.0, answer });
                }
                Wish::NoteStatus(status) => {
                    let call_sid = self.calls[call].report().call_sid;
                    self.account.note_call(call_sid, status);
                    if status.is_final() {
                        self.note(|| format!("-- {call_sid} is over at Twilio"));
                        self.over_at.insert(call, self.now);
                    }
                }
                Wish::NoteRecording(recording) => self.account.note_recording(recording),
                Wish::Finish => {}
            }
        }
    }

    fn send_webhook(&mut self, call: usize, ticket: Ticket, url: String, form: Vec<(String, String)>) {
        let late_max = self.network.callbacks_late_max;
        if !late_max.is_zero() && ["call_status", "recording_status"].iter().any(|name| url.ends_with(name)) {
            let late = late_max.mul_f64(self.random.f64());
            let at = self.now + late + self.delay();
            return self.at(at, Arrival::Webhook { call, ticket, url, form });
        }
        if self.random.u32(0..100) < self.network.repeated_percent {
            let (url, form) = (url.clone(), form.clone());
            self.later(Arrival::Webhook { call, ticket, url, form });
        }
        self.later(Arrival::Webhook { call, ticket, url, form });
    }

    /// No answer, as Twilio sees it.
    pub(super) fn reply(&mut self, call: usize, ticket: Ticket, reply: WebhookReply) {
        self.later(Arrival::Reply { call, ticket, reply });
    }

    pub(super) fn redirect(&mut self, number: u64, call_sid: CallSid, twiml: String, fate: RestFate) {
        let answer = match fate {
            RestFate::Unreachable => Err(RestFailure::Connect),
            RestFate::Unavailable => Ok(RestReply { status: 503, retry_after: None, body: b"<html>".to_vec() }),
            RestFate::Throttled => {
                let body = br#"{"code":20429,"status":429}"#.to_vec();
                Ok(RestReply { status: 429, retry_after: Some(Duration::from_secs(2)), body })
            }
            RestFate::Served | RestFate::AnswerLost => {
                let Some(&call) = self.by_sid.get(&call_sid) else { panic!("a redirect of an unknown call") };
                // Its answer goes nowhere: the number is forgotten, and the client's own time-out speaks.
                let update = UpdateId(if fate == RestFate::Served { number } else { 0 });
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
}
