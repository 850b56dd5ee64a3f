//! The box's side of the world: starts, dies, drains; hands what arrives to the real machines and does what they say.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use kolbox::{
    calls::{Answer, CallKey, CallState, Desk, Event, Output, Pulses, RequestId, SocketId, StreamToken, Table},
    config,
    gateway::{desk_options, media_options},
    limits::{DRAIN_END_MAX, JOURNAL_WAIT_MAX},
    server::{
        desk_port::SocketOrder,
        documents::Documents,
        media_session::{MediaOptions, MediaOutput, MediaSession},
        prompts::Prompts,
        webhooks::{self, Webhook},
    },
    simulator::phone_call::{Ticket, WebhookReply},
    transcripts::{
        books,
        journal::JournalEntry,
        outbox::Delivery,
        pending::{Fetched, Listed},
    },
    twilio::{
        rest::{CallLookup, RestFailure, RestRequest, UpdateOutcome, read_recordings, read_update},
        sid::CallSid,
        webhook::{Form, StreamEvent},
    },
};

use super::{
    Arrival, Fault, HOST, Kept, REST_ANSWER_MAX, RestFate, UpstreamFate, Window, World, account_sid,
    office::{Change, Office, Told},
    wall_of,
};

/// How long the upstream is waited for.
const UPSTREAM_MAX: Duration = Duration::from_secs(10);
/// How long a group takes to the disk.
const DISK_MAX: Duration = Duration::from_millis(30);

/// Made once for all worlds.
struct Fixed {
    config: config::Config,
    prompts: Arc<Prompts>,
    documents: Documents,
    media: Arc<MediaOptions>,
}

static FIXED: LazyLock<Fixed> = LazyLock::new(|| {
    let mut config = config::Config::default();
    config.twilio.account_sid = Some(account_sid());
    let prompts = Arc::new(Prompts::load(&config.calls).expect("the built-in prompts"));
    let documents = Documents::new(prompts.clone(), &config.calls, &config.fallback);
    let media = Arc::new(media_options(&config, &prompts));
    Fixed { config, prompts, documents, media }
});

pub(super) fn prompt_length(name: &str) -> Duration {
    let prompts = &FIXED.prompts;
    let all = [&prompts.greeting, &prompts.fallback, &prompts.no_message, &prompts.goodbye];
    let found = all.into_iter().find(|prompt| prompt.name.as_deref() == Some(name));
    found.unwrap_or_else(|| panic!("no prompt is called {name}")).duration
}

struct Socket {
    session: MediaSession,
    call: usize,
    ticket: Ticket,
    /// The last arrival in each direction: a connection keeps its order.
    to_box: Instant,
    to_twilio: Instant,
}

/// A box that runs.
pub(super) struct TheBox {
    pub desk: Desk,
    pulses: Pulses,
    office: Office,
    could_keep: bool,
    draining: bool,
    requests: BTreeMap<RequestId, (usize, Ticket)>,
    sockets: BTreeMap<SocketId, Socket>,
    /// When what was last noted of a call will be on the disk.
    noted_at: BTreeMap<CallSid, Instant>,
}

impl TheBox {
    pub fn poll_timeout(&self) -> Option<Instant> {
        let desk = self.desk.poll_timeout().map(|(at, _)| at);
        let sockets = self.sockets.values().filter_map(|socket| socket.session.poll_timeout()).map(|(at, _)| at);
        sockets.chain(desk).chain(self.office.poll_timeout()).min()
    }

    pub fn is_at_rest(&self) -> bool {
        self.desk.view().calls.is_empty() && self.office.is_idle()
    }
}

impl World {
    pub(super) fn start_box(&mut self) {
        if self.running.is_some() {
            return;
        }
        self.life += 1;
        let now = self.now;
        let pulses = Pulses::new(now);
        let desk = Desk::new(desk_options(&FIXED.config, &FIXED.prompts), pulses.clone());
        let wall = self.wall(now);
        let office = Office::new(&self.disk, self.seed, wall, now);
        let left: Vec<JournalEntry> = self.disk.live.values().cloned().collect();
        self.running = Some(TheBox {
            desk,
            pulses,
            office,
            could_keep: true,
            draining: false,
            requests: BTreeMap::new(),
            sockets: BTreeMap::new(),
            noted_at: BTreeMap::new(),
        });
        self.note(|| format!("!! the box starts; {} calls are in its journal", left.len()));
        for entry in left {
            let live = entry.resumed(wall, now);
            self.tell(Event::CallRemembered(Box::new(live)));
        }
        self.attend_office(Vec::new());
    }

    /// The plug is pulled.
    pub(super) fn kill_box(&mut self, back_after: Duration) {
        self.reset_sockets();
        if let Some(running) = self.running.take() {
            self.leave_unanswered(&running);
            self.away_for(back_after);
        }
    }

    /// Drained as `calls.drain` says, 5 s, and then ended at the latest when the gateway would give up.
    pub(super) fn drain_box(&mut self) {
        let until = self.now + FIXED.config.calls.drain;
        if let Some(running) = &mut self.running {
            running.draining = true;
            self.tell(Event::DrainStarted { until });
            self.at(until + DRAIN_END_MAX, Arrival::Stopped { life: self.life });
        }
    }

    /// The end of a drain: what was given to the keeper is on the disk.
    pub(super) fn stop_box(&mut self) {
        let refuses = self.disk_refuses();
        let at = self.since_start();
        let Some(mut running) = self.running.take() else { return };
        let told = running.office.finish(&mut self.disk, refuses);
        self.running = Some(running);
        self.answer_told(told);
        self.reset_sockets();
        if let Some(running) = self.running.take() {
            self.leave_unanswered(&running);
        }
        let back = self.faults.iter().rev().find_map(|fault| match fault {
            Fault::Restarted { at: begun, back_after } if *begun <= at => Some(*back_after),
            _ => None,
        });
        self.away_for(back.unwrap_or_default());
    }

    /// Who waits for an answer waits in vain.
    fn leave_unanswered(&mut self, running: &TheBox) {
        for &(call, ticket) in running.requests.values() {
            self.reply(call, ticket, WebhookReply::NoAnswer);
        }
    }

    fn away_for(&mut self, back_after: Duration) {
        let from = self.since_start();
        self.away.push(Window { from, until: from + back_after });
        self.at(self.now + back_after, Arrival::Back);
    }

    pub(super) fn reset_sockets(&mut self) {
        let Some(running) = &mut self.running else { return };
        let lost: Vec<_> = running.sockets.iter().map(|(id, socket)| (*id, socket.call, socket.ticket)).collect();
        for (socket, call, ticket) in lost {
            self.at(self.now, Arrival::GoneAtBox { socket });
            self.later(Arrival::ClosedAtTwilio { call, ticket, code: None });
        }
    }

    pub(super) fn box_timeouts(&mut self) {
        let now = self.now;
        let refuses = self.disk_refuses();
        let Some(running) = &mut self.running else { return };
        if running.desk.poll_timeout().is_some_and(|(at, _)| at <= now) {
            running.desk.handle_timeout(now);
            self.perform();
        }
        let Some(running) = &mut self.running else { return };
        if running.office.poll_timeout().is_some_and(|at| at <= now) {
            let told = running.office.handle_timeout(&mut self.disk, refuses, now);
            self.attend_office(told);
        }
        let Some(running) = &mut self.running else { return };
        let due = |socket: &Socket| socket.session.poll_timeout().is_some_and(|(at, _)| at <= now);
        let sockets: Vec<_> = running.sockets.iter().filter(|(_, socket)| due(socket)).map(|(id, _)| *id).collect();
        for socket in sockets {
            self.with_session(socket, |session| session.handle_timeout(now));
        }
    }

    /// What arrives at the box; what is for one that is no more is lost.
    pub(super) fn arrive_at_box(&mut self, arrival: Arrival) {
        let now = self.now;
        let life = self.life;
        match arrival {
            Arrival::TextAtBox { socket, text } => {
                self.with_session(socket, |session| session.handle_message(&text, now))
            }
            Arrival::GoneAtBox { socket } => {
                self.with_session(socket, MediaSession::handle_gone);
                if let Some(running) = &mut self.running {
                    running.sockets.remove(&socket);
                }
            }
            Arrival::Order { socket, order } => self.with_session(socket, |session| session.handle_order(order, now)),
            Arrival::RedirectAnswered { number, answer } => match self.redirects.remove(&number) {
                Some((of, attempt)) if of == life => {
                    self.tell(Event::RedirectAnswered { attempt, outcome: read_update(&answer) });
                }
                _ => {}
            },
            Arrival::LookUp { life: of, attempt, call_sid, recordings, fate } if of == life => {
                let outcome = match fate {
                    RestFate::Served => self.look_up(call_sid, recordings).unwrap_or_else(|failure| failure),
                    _ => CallLookup::Unavailable,
                };
                self.later(Arrival::LookedUp { life, attempt, outcome });
            }
            Arrival::LookedUp { life: of, attempt, outcome } if of == life => {
                self.tell(Event::CallLookedUp { attempt, outcome });
            }
            arrival => self.arrive_at_office(arrival),
        }
    }

    fn arrive_at_office(&mut self, arrival: Arrival) {
        let (now, life, refuses) = (self.now, self.life, self.disk_refuses());
        if let Arrival::Send { sequence, record, life } = arrival {
            return self.send_upstream(life, sequence, record);
        }
        let wall = self.wall(now);
        let Some(running) = &mut self.running else { return };
        let office = &mut running.office;
        match arrival {
            Arrival::Load { life: of } if of == life => office.loaded(&self.disk, refuses, now),
            Arrival::Sent { life: of, sequence, record, delivery } if of == life => {
                office.books.handle_sent(sequence, record, delivery, wall, now);
            }
            Arrival::Fetched { life: of, call_sid, recording_sid, fetched } if of == life => {
                office.books.handle_fetched(call_sid, recording_sid, fetched, now);
            }
            Arrival::Listed { life: of, call_sid, listed } if of == life => {
                office.books.handle_listed(call_sid, listed, now);
            }
            _ => {}
        }
        self.attend_office(Vec::new());
    }

    /// The box's side of a webhook: form to event, and the desk's answer back as TwiML.
    pub(super) fn webhook(&mut self, call: usize, ticket: Ticket, url: &str, form: &[(String, String)]) {
        let path =
            url.strip_prefix("https://").and_then(|rest| rest.find('/').map(|slash| &rest[slash..])).unwrap_or(url);
        let now = self.now;
        let Some(running) = &mut self.running else {
            return self.reply(call, ticket, WebhookReply::NoConnection);
        };
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
                if let Some(running) = &mut self.running {
                    running.requests.insert(request, (call, ticket));
                }
                self.tell(question.event(request, facts, &form, token));
            }
            Webhook::Tells(news) => {
                if let Some(event) = news.event(facts, &form) {
                    self.tell(event);
                }
                self.reply(call, ticket, answered(204, None));
            }
        }
    }

    pub(super) fn tell(&mut self, event: Event) {
        self.note(|| format!("-> desk {event:?}"));
        self.count(&event);
        let now = self.now;
        if let Some(running) = &mut self.running {
            running.desk.handle(event, now);
        }
        self.perform();
    }

    /// Notes which event meets a call in which state.
    fn count(&mut self, event: &Event) {
        let Some(running) = &self.running else { return };
        let Some((name, whose)) = name_of(event) else { return };
        let view = running.desk.view();
        let is_it = |call: &&kolbox::calls::CallView| match whose {
            Whose::Call(call_sid) => call.call_sid == call_sid,
            Whose::Slot(slot) => call.key.table == Table::Streams && call.key.slot == slot,
            Whose::Key(key) => call.key == key,
        };
        let state = view.calls.iter().find(is_it).map_or("none", state_of);
        *self.met.entry((state, name)).or_default() += 1;
    }

    /// Does what the desk says, as the gateway would.
    fn perform(&mut self) {
        let now = self.now;
        let life = self.life;
        while let Some(output) = self.running.as_mut().and_then(|running| running.desk.poll_output()) {
            self.note(|| format!("<- desk {output:?}"));
            match output {
                Output::Answer { request, answer } => self.answer(request, &answer),
                Output::AcceptStream { socket, stream } => self.order(socket, SocketOrder::Accept(stream)),
                Output::RefuseStream { socket, refusal } => self.order(socket, SocketOrder::Refuse(refusal)),
                Output::CloseStream { socket } => self.order(socket, SocketOrder::Close),
                Output::Redirect { attempt, call_sid, prompt } => {
                    self.next += 1;
                    let number = self.next;
                    self.redirects.insert(number, (life, attempt));
                    let twiml = FIXED.documents.redirect(prompt, HOST);
                    let fate = self.rest_fate();
                    let noted = self.running.as_ref().and_then(|running| running.noted_at.get(&call_sid).copied());
                    let sent = noted.unwrap_or(now).clamp(now, now + JOURNAL_WAIT_MAX);
                    self.at(
                        sent + REST_ANSWER_MAX,
                        Arrival::RedirectAnswered { number, answer: Err(RestFailure::TimedOut) },
                    );
                    let at = sent + self.delay();
                    self.at(at, Arrival::Redirect { life, number, call_sid, twiml, fate });
                }
                Output::LookUpCall { attempt, call_sid, recordings } => {
                    let fate = self.rest_fate();
                    self.later(Arrival::LookUp { life, attempt, call_sid, recordings, fate });
                }
                Output::RememberCall(live) => {
                    let (start, clock) = (self.start, self.clock_set_s);
                    let entry = JournalEntry::new(&live, Some(HOST.to_owned()), |at| wall_of(start, clock, at));
                    let takes = DISK_MAX.mul_f64(self.random.f64());
                    if let Some(running) = &mut self.running {
                        let at = running.office.write(Change::PutLive(Box::new(entry)), takes, now);
                        running.noted_at.insert(live.call_sid, at);
                    }
                }
                Output::KeepRecord { ended, request } => {
                    self.kept.push(Kept { ended: (*ended).clone(), at: now });
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
            self.at(now, Arrival::Stopped { life });
        }
    }

    fn answer(&mut self, request: RequestId, answer: &Answer) {
        let Some((call, ticket)) = self.running.as_mut().and_then(|running| running.requests.remove(&request)) else {
            return;
        };
        if matches!(answer, Answer::Stream { .. } | Answer::Record(_)) {
            let call_sid = self.calls[call].report().call_sid;
            self.answered.entry(call_sid).or_insert(self.now - self.start);
        }
        if *answer == Answer::NoContent {
            self.check_kept(call);
        }
        let body = FIXED.documents.answer(answer, HOST);
        let status = if body.is_some() { 200 } else { 204 };
        self.reply(call, ticket, answered(status, body));
    }

    /// A 204 says that the record is safe, if the call is over. Where the disk refused it, a repeated status gets one all
    /// the same: the store goes on trying.
    fn check_kept(&mut self, call: usize) {
        let call_sid = self.calls[call].report().call_sid;
        let ended = self.kept.iter().any(|kept| kept.ended.call_sid == call_sid);
        let refused = self.faults.iter().any(|fault| matches!(fault, Fault::DiskRefuses(_)));
        if ended && !refused && !self.disk.is_kept(call_sid) {
            self.break_rule("answered before it was kept", Some(call_sid), || "204 to Twilio".into());
        }
    }

    fn order(&mut self, socket: SocketId, order: SocketOrder) {
        self.at(self.now, Arrival::Order { socket, order });
    }

    /// Does what the books say, answers who waited for a record, and tells the desk how the store is.
    fn attend_office(&mut self, told: Vec<Told>) {
        self.answer_told(told);
        self.perform_books();
        let can_keep = !self.disk_refuses();
        if let Some(running) = &mut self.running
            && running.could_keep != can_keep
        {
            running.could_keep = can_keep;
            self.tell(Event::StoreChanged { can_keep });
        }
    }

    fn answer_told(&mut self, told: Vec<Told>) {
        for Told { request, call_sid, safe } in told {
            let Some((call, ticket)) = self.running.as_mut().and_then(|running| running.requests.remove(&request))
            else {
                continue;
            };
            if safe && !self.disk.is_kept(call_sid) {
                self.break_rule("answered before it was kept", Some(call_sid), || "204 to Twilio".into());
            }
            self.reply(call, ticket, if safe { answered(204, None) } else { answered(503, None) });
        }
    }

    fn perform_books(&mut self) {
        let (now, life) = (self.now, self.life);
        while let Some(output) = self.running.as_mut().and_then(|running| running.office.poll_output()) {
            self.note(|| format!("<- books {output:?}"));
            match output {
                books::Output::Write { writing, asker } => {
                    let takes = DISK_MAX.mul_f64(self.random.f64());
                    if let Some(running) = &mut self.running {
                        running.office.write(Change::Write(writing, asker), takes, now);
                    }
                }
                books::Output::Load => self.at(now, Arrival::Load { life }),
                books::Output::Send { sequence, record } => self.later(Arrival::Send { life, sequence, record }),
                books::Output::Fetch { call_sid, recording_sid, .. } => {
                    let fetched = match self.rest_fate() {
                        RestFate::Served => {
                            match self.rest(&RestRequest::recording_media(&account_sid(), &recording_sid)) {
                                Ok(reply) if reply.status == 200 => Fetched::Saved { silent: false },
                                Ok(reply) if reply.status == 404 => Fetched::NotThere,
                                _ => Fetched::Unreachable,
                            }
                        }
                        _ => Fetched::Unreachable,
                    };
                    self.later(Arrival::Fetched { life, call_sid, recording_sid, fetched });
                }
                books::Output::List { call_sid } => {
                    let listed = match self.rest_fate() {
                        RestFate::Served => {
                            read_recordings(&self.rest(&RestRequest::list_call_recordings(&account_sid(), &call_sid)))
                                .map_or(Listed::Unreachable, |listed| {
                                    let newest_last = listed.into_iter().rev();
                                    Listed::Recordings(newest_last.map(|it| (it.recording_sid, it.status)).collect())
                                })
                        }
                        _ => Listed::Unreachable,
                    };
                    self.later(Arrival::Listed { life, call_sid, listed });
                }
            }
        }
    }

    fn send_upstream(
        &mut self,
        life: u32,
        sequence: kolbox::transcripts::Sequence,
        record: Box<kolbox::transcripts::Record>,
    ) {
        use kolbox::transcripts::State;
        let fate = self.upstream_fate();
        let arrives = matches!(fate, None | Some(UpstreamFate::AnswerLost));
        if arrives {
            if matches!(self.disk.state_of(record.id), Some(State::Synced { .. })) {
                self.break_rule("sent again after its answer was noted", Some(record.call_sid), || {
                    "a second time".into()
                });
            }
            let known = self.upstream.had.iter().any(|(id, _, _)| *id == record.id);
            if known && !self.upstream.unanswered.contains(&record.id) && self.away.is_empty() {
                self.break_rule("sent twice without need", Some(record.call_sid), || format!("{sequence:?}"));
            }
            self.upstream.take(&record);
        }
        let (delivery, after) = match fate {
            None => (Delivery::Acknowledged, Duration::ZERO),
            Some(UpstreamFate::AnswerLost) => {
                self.upstream.unanswered.insert(record.id);
                (Delivery::Failed { retry_after: None }, UPSTREAM_MAX)
            }
            Some(UpstreamFate::Unreachable) => (Delivery::Failed { retry_after: None }, Duration::ZERO),
            Some(UpstreamFate::Fails) => (Delivery::of_status(500, None), Duration::ZERO),
            Some(UpstreamFate::Throttles(seconds)) => {
                (Delivery::of_status(429, Some(Duration::from_secs(seconds))), Duration::ZERO)
            }
        };
        let at = self.now + after + self.delay();
        self.at(at, Arrival::Sent { life, sequence, record, delivery });
    }

    pub(super) fn open_socket(&mut self, call: usize, ticket: Ticket) {
        self.next += 1;
        let socket = SocketId(self.next);
        let now = self.now;
        let Some(running) = &mut self.running else {
            return self.later(Arrival::SocketFailed { call, ticket });
        };
        let session = MediaSession::new(FIXED.media.clone(), running.pulses.clone(), socket, now);
        running.sockets.insert(socket, Socket { session, call, ticket, to_box: now, to_twilio: now });
        let at = self.in_order_to_twilio(socket);
        self.at(at, Arrival::SocketAtTwilio { call, ticket });
    }

    /// A message on its way to the box, or (`None`) the connection's end.
    pub(super) fn send_to_box(&mut self, call: usize, ticket: Ticket, text: Option<String>) {
        let delay = self.delay();
        let Some(running) = &mut self.running else { return };
        let found = running.sockets.iter_mut().find(|(_, socket)| socket.call == call && socket.ticket == ticket);
        let Some((id, socket)) = found else { return };
        socket.to_box = socket.to_box.max(self.now + delay);
        let (at, socket) = (socket.to_box, *id);
        self.at(
            at,
            match text {
                Some(text) => Arrival::TextAtBox { socket, text },
                None => Arrival::GoneAtBox { socket },
            },
        );
    }

    fn with_session(&mut self, socket: SocketId, act: impl FnOnce(&mut MediaSession)) {
        let Some(open) = self.running.as_mut().and_then(|running| running.sockets.get_mut(&socket)) else { return };
        act(&mut open.session);
        let (call, ticket) = (open.call, open.ticket);
        let next = |world: &mut Self| {
            world.running.as_mut()?.sockets.get_mut(&socket).and_then(|open| open.session.poll_output())
        };
        while let Some(output) = next(self) {
            match output {
                MediaOutput::Claim(claim) => self.tell(Event::StreamClaimed(claim)),
                MediaOutput::Stopped(stream) => self.tell(Event::StreamStopped { stream }),
                MediaOutput::Closed { stream, end } => self.tell(Event::StreamClosed { stream, end }),
                MediaOutput::Send(text) => {
                    let at = self.in_order_to_twilio(socket);
                    self.at(at, Arrival::TextAtTwilio { call, ticket, text });
                }
                MediaOutput::CloseSocket { code, .. } => {
                    let at = self.in_order_to_twilio(socket);
                    self.at(at, Arrival::ClosedAtTwilio { call, ticket, code: Some(code) });
                }
                MediaOutput::Report(_) => {}
            }
        }
    }

    fn in_order_to_twilio(&mut self, socket: SocketId) -> Instant {
        let at = self.now + self.delay();
        let open = self.running.as_mut().and_then(|running| running.sockets.get_mut(&socket));
        open.map_or(at, |socket| {
            socket.to_twilio = socket.to_twilio.max(at);
            socket.to_twilio
        })
    }
}

fn answered(status: u16, body: Option<String>) -> WebhookReply {
    let content_type = body.as_ref().map(|_| "text/xml".to_owned());
    WebhookReply::Answered { status, content_type, body: body.unwrap_or_default() }
}

fn state_of(call: &kolbox::calls::CallView) -> &'static str {
    match call.state {
        CallState::AwaitingStream => "awaiting stream",
        CallState::Streaming => "streaming",
        CallState::FallingBack => "falling back",
        CallState::Recording => "recording",
        CallState::Ending => "ending",
    }
}

/// Whom an event names.
enum Whose {
    Call(CallSid),
    Slot(u16),
    Key(CallKey),
}

/// The event's name, and the call that it is about; `None`: it is about all of them.
fn name_of(event: &Event) -> Option<(&'static str, Whose)> {
    use Whose::{Call, Key, Slot};
    Some(match event {
        Event::VoiceRequested { facts, .. } => ("VoiceRequested", Call(facts.call_sid)),
        Event::ConnectEnded { facts, .. } => ("ConnectEnded", Call(facts.call_sid)),
        Event::RecordEnded { facts, hung_up: true, .. } => ("RecordEnded by a hang-up", Call(facts.call_sid)),
        Event::RecordEnded { facts, .. } => ("RecordEnded", Call(facts.call_sid)),
        Event::CallStatusReported { facts, .. } => ("CallStatusReported", Call(facts.call_sid)),
        Event::StreamStatusReported { facts, event: StreamEvent::Error, .. } => {
            ("StreamStatusReported: error", Call(facts.call_sid))
        }
        Event::StreamStatusReported { facts, .. } => ("StreamStatusReported", Call(facts.call_sid)),
        Event::RecordingStatusReported { facts, .. } => ("RecordingStatusReported", Call(facts.call_sid)),
        Event::StreamClaimed(claim) => ("StreamClaimed", Call(claim.call_sid)),
        Event::StreamStopped { stream } => ("StreamStopped", Slot(stream.slot)),
        Event::StreamClosed { stream, .. } => ("StreamClosed", Slot(stream.slot)),
        Event::RedirectAnswered { attempt, outcome: UpdateOutcome::Accepted } => {
            ("RedirectAnswered: accepted", Key(attempt.call))
        }
        Event::RedirectAnswered { attempt, .. } => ("RedirectAnswered: failed", Key(attempt.call)),
        Event::CallLookedUp { attempt, .. } => ("CallLookedUp", Key(attempt.call)),
        Event::CallRemembered(live) => ("CallRemembered", Call(live.call_sid)),
        Event::StoreChanged { .. } | Event::DrainStarted { .. } => return None,
    })
}
