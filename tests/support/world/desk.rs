//! The desk in the world: webhooks become events, outputs are done as the gateway would do them, and each is held against
//! the ledger.

use kolbox::{
    calls::{Answer, Event, LiveCall, Output, RequestId, StreamToken},
    limits::{DESK_ANSWER_MAX, JOURNAL_WAIT_MAX},
    server::{
        desk_port::SocketOrder,
        webhooks::{self, Webhook},
    },
    simulator::phone_call::WebhookReply,
    transcripts::journal::JournalEntry,
    twilio::{
        rest::RestFailure,
        sid::CallSid,
        webhook::{Form, StreamEvent},
    },
};

use super::{
    Arrival, HOST, Kept, Post, REST_ANSWER_MAX, World, account_sid,
    gateway::{FIXED, Waiting},
    office::{Change, Told},
    wall_of,
};

impl World {
    /// The box's side of a webhook: form to event, and the desk's answer back as TwiML.
    pub(super) fn webhook(&mut self, post: Post, url: &str, form: &[(String, String)]) {
        let path =
            url.strip_prefix("https://").and_then(|rest| rest.find('/').map(|slash| &rest[slash..])).unwrap_or(url);
        let now = self.now;
        let Some(running) = &mut self.running else { return self.reply(post, WebhookReply::NoConnection) };
        let form = Form::from_pairs(form.to_vec());
        let webhook = Webhook::at(path).unwrap_or_else(|| panic!("Twilio was given {url}"));
        let facts = webhooks::facts(&form, Some(&account_sid())).expect("the simulator's forms are sound");
        if let Some(announced) = webhook.announcement(facts.call_sid, &form) {
            running.office.books.handle_announced(announced.call_sid, announced.recording_sid, announced.status, now);
            self.attend_office(Vec::new());
        }
        self.next += 1;
        match webhook {
            Webhook::Asks(question) => {
                let request = RequestId(self.next);
                let token = StreamToken(format!("token-{}", self.next).as_str().try_into().expect("short"));
                let event = question.event(request, facts, &form, token);
                let says_over = matches!(&event, Event::CallStatusReported { facts, .. }
                    if facts.status.is_some_and(|status| status.is_final()));
                if let Some(running) = &mut self.running {
                    running.requests.insert(request, Waiting { post, says_over });
                }
                self.at(now + DESK_ANSWER_MAX, Arrival::AnswerDue { life: self.life, request });
                self.tell(event);
            }
            Webhook::Tells(news) => {
                if let Some(event) = news.event(facts, &form) {
                    self.tell(event);
                }
                self.reply(post, answered(204, None));
            }
        }
    }

    /// The server waits no longer for the desk, or for the store.
    pub(super) fn answer_is_due(&mut self, request: RequestId) {
        if let Some(Waiting { post, .. }) = self.running.as_mut().and_then(|running| running.requests.remove(&request))
        {
            self.reply(post, answered(503, None));
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.note(|| format!("-> desk {event:?}"));
        self.count(&event);
        let now = self.now;
        match &event {
            Event::RedirectAnswered { attempt, outcome } => self.ledger.handle_redirect_answered(*attempt, *outcome),
            Event::CallLookedUp { attempt, outcome } => self.ledger.handle_looked_up(*attempt, *outcome),
            Event::StreamStatusReported { facts, event: StreamEvent::Error, .. } => {
                self.ledger.handle_stream_error(facts.call_sid, now);
            }
            _ => {}
        }
        if let Some(running) = &mut self.running {
            running.desk.handle(event, now);
        }
        self.perform();
    }

    /// Does what the desk says.
    pub(super) fn perform(&mut self) {
        let life = self.life;
        while let Some(output) = self.running.as_mut().and_then(|running| running.desk.poll_output()) {
            self.note(|| format!("<- desk {output:?}"));
            match output {
                Output::Answer { request, answer } => self.answer(request, &answer),
                Output::AcceptStream { socket, stream } => self.order(socket, SocketOrder::Accept(stream)),
                Output::RefuseStream { socket, refusal } => self.order(socket, SocketOrder::Refuse(refusal)),
                Output::CloseStream { socket } => self.order(socket, SocketOrder::Close),
                Output::Redirect { attempt, call_sid, prompt } => {
                    self.check_redirect(attempt, call_sid);
                    self.send_redirect(attempt, call_sid, FIXED.documents.redirect(prompt, HOST));
                }
                Output::LookUpCall { attempt, call_sid, recordings } => {
                    self.ledger.note_look_up(attempt, call_sid);
                    let fate = self.rest_fate();
                    let at = self.now + self.delay() + self.rest_delay(fate);
                    self.at(at, Arrival::LookUp { life, attempt, call_sid, recordings, fate });
                }
                Output::RememberCall(live) => self.remember(&live),
                Output::KeepRecord { ended, request } => {
                    self.check_ended(ended.call_sid);
                    self.kept.push(Kept { ended: (*ended).clone(), at: self.now });
                    let (random, start, clock) = (self.random.u128(..), self.start, self.clock_set_s);
                    if let Some(running) = &mut self.running {
                        running.noted_at.remove(&ended.call_sid);
                        running.office.keep(&ended, request, random, |at| wall_of(start, clock, at));
                    }
                    self.attend_office(Vec::new());
                }
                Output::AnswerOnceKept { request, call_sid } => {
                    let joined = self.running.as_mut().is_some_and(|running| running.office.join(call_sid, request));
                    if !joined {
                        self.answer(request, &Answer::NoContent);
                    }
                }
                Output::Report(_) => {}
            }
        }
        let is_drained = self.running.as_ref().is_some_and(|running| running.draining && running.desk.is_drained());
        if is_drained {
            self.at(self.now, Arrival::Stopped { life });
        }
    }

    /// A redirect waits a moment for the journal, and its client for an answer.
    fn send_redirect(&mut self, attempt: kolbox::calls::AttemptId, call_sid: CallSid, twiml: String) {
        self.next += 1;
        let (number, now) = (self.next, self.now);
        self.redirects.insert(number, (self.life, attempt));
        let fate = self.rest_fate();
        let noted = self.running.as_ref().and_then(|running| running.noted_at.get(&call_sid).copied());
        let sent = noted.unwrap_or(now).clamp(now, now + JOURNAL_WAIT_MAX);
        let answer = Err(RestFailure::TimedOut);
        self.at(sent + REST_ANSWER_MAX, Arrival::RedirectAnswered { number, answer });
        let at = sent + self.delay() + self.rest_delay(fate);
        self.at(at, Arrival::Redirect { number, call_sid, twiml, fate });
    }

    fn remember(&mut self, live: &LiveCall) {
        let (start, clock, now) = (self.start, self.clock_set_s, self.now);
        let entry = JournalEntry::new(live, Some(HOST.to_owned()), |at| wall_of(start, clock, at));
        let takes = self.disk_takes();
        if let Some(running) = &mut self.running {
            let at = running.office.write(Change::PutLive(Box::new(entry)), takes, now);
            running.noted_at.insert(live.call_sid, at);
        }
    }

    fn answer(&mut self, request: RequestId, answer: &Answer) {
        let Some(waiting) = self.running.as_mut().and_then(|running| running.requests.remove(&request)) else { return };
        let call_sid = self.call_sid(waiting.post.call);
        if matches!(answer, Answer::Stream { .. } | Answer::Record(_)) {
            self.answered.entry(call_sid).or_insert(self.now - self.start);
        }
        if matches!(answer, Answer::Stream { .. }) {
            self.check_capacity(call_sid);
        }
        if *answer == Answer::NoContent && waiting.says_over {
            self.check_kept(call_sid);
        }
        let body = FIXED.documents.answer(answer, HOST);
        let status = if body.is_some() { 200 } else { 204 };
        self.reply(waiting.post, answered(status, body));
    }

    /// A 204 to a final status says that the record is safe: on the disk; or refused by it, and tried again by the store.
    fn check_kept(&mut self, call_sid: CallSid) {
        let is_tried_again = self.running.as_ref().is_some_and(|running| running.office.is_tried_again(call_sid));
        if !is_tried_again && !self.disk.is_kept(call_sid) {
            self.break_rule("answered before it was kept", Some(call_sid), || "204 to Twilio".into());
        }
    }

    pub(super) fn answer_told(&mut self, told: Vec<Told>) {
        for Told { request, call_sid, safe } in told {
            let Some(waiting) = self.running.as_mut().and_then(|running| running.requests.remove(&request)) else {
                continue;
            };
            if safe && !self.disk.is_kept(call_sid) {
                self.break_rule("answered before it was kept", Some(call_sid), || "204 to Twilio".into());
            }
            self.reply(waiting.post, if safe { answered(204, None) } else { answered(503, None) });
        }
    }

    fn order(&mut self, socket: kolbox::calls::SocketId, order: SocketOrder) {
        self.at(self.now, Arrival::Order { socket, order });
    }
}

fn answered(status: u16, body: Option<String>) -> WebhookReply {
    let content_type = body.as_ref().map(|_| "text/xml".to_owned());
    WebhookReply::Answered { status, content_type, body: body.unwrap_or_default() }
}
