//! A box and a Twilio in virtual time: the real desk, media sessions and documents against the simulator's core,
//! joined by a network that delays, repeats and loses, all from one seed.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use kolbox::{
    calls::{Answer, Desk, EndedCall, Event, Output, Pulses, RequestId, SocketId, StreamToken},
    config,
    gateway::{desk_options, media_options},
    server::{
        desk_port::SocketOrder,
        documents::Documents,
        media_session::{MediaOptions, MediaOutput, MediaSession},
        prompts::Prompts,
        webhooks::{self, Webhook},
    },
    simulator::{
        account::{Account, ApiReply, ApiRequest, Update, Verdict},
        phone_call::{self, PhoneCall, Ticket, UpdateId, WebhookReply},
        plan::Plan,
    },
    twilio::{
        rest::{CallLookup, RestFailure, RestReply, RestRequest, read_call, read_recordings, read_update},
        sid::{AccountSid, CallSid},
        webhook::Form,
    },
};

pub const HOST: &str = "gw.example.co.il";
const AUTH_TOKEN: &str = "a-token-of-the-simulation";
/// As the REST client has it.
const REST_ANSWER_MAX: Duration = Duration::from_secs(8);
/// Decoded once for all worlds.
static PROMPTS: LazyLock<Arc<Prompts>> =
    LazyLock::new(|| Arc::new(Prompts::load(&config::Calls::default()).expect("the built-in prompts")));
const LOG_LINES_MAX: usize = 60;

/// What becomes of one REST request on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestFate {
    Served,
    /// No connection.
    Unreachable,
    /// 503 from a proxy on the way.
    Unavailable,
    /// 429.
    Throttled,
    /// It is carried out, and the answer never comes.
    AnswerLost,
}

/// How the network behaves.
#[derive(Debug, Clone)]
pub struct Network {
    pub delay_max: Duration,
    /// How many of a hundred webhooks are delivered twice.
    pub repeated_percent: u32,
    /// How many of a hundred REST requests fail, until `rest_heals_at`.
    pub rest_failing_percent: u32,
    pub rest_heals_at: Duration,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            delay_max: Duration::from_millis(80),
            repeated_percent: 0,
            rest_failing_percent: 0,
            rest_heals_at: Duration::ZERO,
        }
    }
}

pub fn account_sid() -> AccountSid {
    AccountSid::from_number(0xacc)
}

/// Something that arrives.
#[derive(Debug)]
enum Arrival {
    Placed(Box<Plan>),
    Webhook { call: usize, ticket: Ticket, url: String, form: Vec<(String, String)> },
    Reply { call: usize, ticket: Ticket, status: u16, body: Option<String> },
    Prompt { call: usize, ticket: Ticket, length: Duration },
    SocketAtBox { call: usize, ticket: Ticket },
    SocketAtTwilio { call: usize, ticket: Ticket },
    TextAtBox { socket: SocketId, text: String },
    TextAtTwilio { call: usize, ticket: Ticket, text: String },
    GoneAtBox { socket: SocketId },
    ClosedAtTwilio { call: usize, ticket: Ticket, code: Option<u16> },
    Order { socket: SocketId, order: SocketOrder },
    Redirect { number: u64, call_sid: CallSid, twiml: String, fate: RestFate },
    RedirectAnswered { number: u64, answer: Result<RestReply, RestFailure> },
    LookUp { attempt: kolbox::calls::AttemptId, call_sid: CallSid, recordings: bool, fate: RestFate },
    LookedUp { attempt: kolbox::calls::AttemptId, outcome: CallLookup },
}

struct Socket {
    session: MediaSession,
    call: usize,
    ticket: Ticket,
    /// The last arrival in each direction: a connection keeps its order.
    to_box: Instant,
    to_twilio: Instant,
}

/// A record, and when it was made.
#[derive(Debug, Clone)]
pub struct Kept {
    pub ended: EndedCall,
    pub at: Instant,
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub desk: Desk,
    pub calls: Vec<PhoneCall>,
    pub kept: Vec<Kept>,
    /// When each call was over at Twilio.
    pub over_at: BTreeMap<usize, Instant>,
    pub steps: u64,
    pub log: VecDeque<String>,
    random: fastrand::Rng,
    network: Network,
    pulses: Pulses,
    documents: Documents,
    prompts: Arc<Prompts>,
    media: Arc<MediaOptions>,
    account: Account,
    agenda: BTreeMap<(Instant, u64), Arrival>,
    next: u64,
    requests: BTreeMap<RequestId, (usize, Ticket)>,
    sockets: BTreeMap<SocketId, Socket>,
    by_sid: BTreeMap<CallSid, usize>,
    redirects: BTreeMap<u64, kolbox::calls::AttemptId>,
}

impl World {
    pub fn new(seed: u64, network: Network) -> Self {
        let start = Instant::now();
        let mut config = config::Config::default();
        config.twilio.account_sid = Some(account_sid());
        let prompts = PROMPTS.clone();
        let pulses = Pulses::new(start);
        Self {
            start,
            now: start,
            desk: Desk::new(desk_options(&config, &prompts), pulses.clone()),
            calls: Vec::new(),
            kept: Vec::new(),
            over_at: BTreeMap::new(),
            steps: 0,
            log: VecDeque::new(),
            random: fastrand::Rng::with_seed(seed),
            network,
            pulses,
            documents: Documents::new(prompts.clone(), &config.calls, &config.fallback),
            media: Arc::new(media_options(&config, &prompts)),
            prompts,
            account: Account::new(account_sid(), AUTH_TOKEN),
            agenda: BTreeMap::new(),
            next: 0,
            requests: BTreeMap::new(),
            sockets: BTreeMap::new(),
            by_sid: BTreeMap::new(),
            redirects: BTreeMap::new(),
        }
    }

    /// A call will be placed so long after the start.
    pub fn place(&mut self, at: Duration, plan: Plan) {
        self.at(self.start + at, Arrival::Placed(Box::new(plan)));
    }

    /// Lets everything happen until nothing is left to happen, or `until` has come.
    pub fn run_until(&mut self, until: Duration) {
        let until = self.start + until;
        while let Some(due) = self.next_due().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.steps += 1;
            self.step();
        }
        self.now = self.now.max(until);
    }

    fn next_due(&self) -> Option<Instant> {
        let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let desk = self.desk.poll_timeout().map(|(at, _)| at);
        let sockets = self.sockets.values().filter_map(|socket| socket.session.poll_timeout());
        let calls = self.calls.iter().filter(|call| !call.is_finished()).filter_map(PhoneCall::poll_timeout);
        agenda.into_iter().chain(desk).chain(sockets.chain(calls).map(|(at, _)| at)).min()
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let arrival = entry.remove();
            self.arrive(arrival);
        }
        if self.desk.poll_timeout().is_some_and(|(at, _)| at <= now) {
            self.desk.handle_timeout(now);
            self.perform();
        }
        let due = |timeout: Option<(Instant, &'static str)>| timeout.is_some_and(|(at, _)| at <= now);
        let sockets: Vec<SocketId> =
            self.sockets.iter().filter(|(_, socket)| due(socket.session.poll_timeout())).map(|(id, _)| *id).collect();
        for socket in sockets {
            self.with_session(socket, |session| session.handle_timeout(now));
        }
        for index in 0..self.calls.len() {
            if !self.calls[index].is_finished() && due(self.calls[index].poll_timeout()) {
                self.calls[index].handle_timeout(now);
                self.obey(index);
            }
        }
    }

    fn arrive(&mut self, arrival: Arrival) {
        let now = self.now;
        match arrival {
            Arrival::Placed(plan) => {
                let index = self.calls.len();
                self.by_sid.insert(plan.parties.call_sid, index);
                self.calls.push(PhoneCall::new(*plan, now));
                self.obey(index);
            }
            Arrival::Webhook { call, ticket, url, form } => self.webhook(call, ticket, &url, &form),
            Arrival::Reply { call, ticket, status, body } => {
                let content_type = body.as_ref().map(|_| "text/xml".to_owned());
                let reply = WebhookReply::Answered { status, content_type, body: body.unwrap_or_default() };
                self.calls[call].handle_reply(ticket, reply, now);
                self.obey(call);
            }
            Arrival::Prompt { call, ticket, length } => {
                self.calls[call].handle_prompt(ticket, Ok(length), now);
                self.obey(call);
            }
            Arrival::SocketAtBox { call, ticket } => self.open_socket(call, ticket),
            Arrival::SocketAtTwilio { call, ticket } => {
                self.calls[call].handle_socket_opened(ticket, now);
                self.obey(call);
            }
            Arrival::TextAtBox { socket, text } => {
                self.with_session(socket, |session| session.handle_message(&text, now))
            }
            Arrival::TextAtTwilio { call, ticket, text } => {
                self.calls[call].handle_socket_message(ticket, &text, now);
                self.obey(call);
            }
            Arrival::GoneAtBox { socket } => {
                self.with_session(socket, MediaSession::handle_gone);
                self.sockets.remove(&socket);
            }
            Arrival::ClosedAtTwilio { call, ticket, code } => {
                self.calls[call].handle_socket_closed(ticket, code, now);
                self.obey(call);
            }
            Arrival::Order { socket, order } => self.with_session(socket, |session| session.handle_order(order, now)),
            Arrival::Redirect { number, call_sid, twiml, fate } => self.redirect(number, call_sid, twiml, fate),
            Arrival::RedirectAnswered { number, answer } => {
                if let Some(attempt) = self.redirects.remove(&number) {
                    let outcome = read_update(&answer);
                    self.tell(Event::RedirectAnswered { attempt, outcome });
                }
            }
            Arrival::LookUp { attempt, call_sid, recordings, fate } => {
                let outcome = match fate {
                    RestFate::Served => self.look_up(call_sid, recordings).unwrap_or_else(|failure| failure),
                    _ => CallLookup::Unavailable,
                };
                self.later(Arrival::LookedUp { attempt, outcome });
            }
            Arrival::LookedUp { attempt, outcome } => self.tell(Event::CallLookedUp { attempt, outcome }),
        }
    }

    /// The box's side of a webhook: form to event, and the desk's answer back as TwiML.
    fn webhook(&mut self, call: usize, ticket: Ticket, url: &str, form: &[(String, String)]) {
        let path =
            url.strip_prefix("https://").and_then(|rest| rest.find('/').map(|slash| &rest[slash..])).unwrap_or(url);
        let form = Form::from_pairs(form.to_vec());
        let webhook = Webhook::at(path).unwrap_or_else(|| panic!("Twilio was given {url}"));
        let facts = webhooks::facts(&form, Some(&account_sid())).expect("the simulator's forms are sound");
        self.next += 1;
        match webhook {
            Webhook::Asks(question) => {
                let request = RequestId(self.next);
                let token = StreamToken(format!("token-{}", self.next).as_str().try_into().expect("short"));
                self.requests.insert(request, (call, ticket));
                self.tell(question.event(request, facts, &form, token));
            }
            Webhook::Tells(news) => {
                if let Some(event) = news.event(facts, &form) {
                    self.tell(event);
                }
                self.later(Arrival::Reply { call, ticket, status: 204, body: None });
            }
        }
    }

    fn tell(&mut self, event: Event) {
        self.note(|| format!("-> desk {event:?}"));
        self.desk.handle(event, self.now);
        self.perform();
    }

    /// Does what the desk says, as the gateway would.
    fn perform(&mut self) {
        while let Some(output) = self.desk.poll_output() {
            self.note(|| format!("<- desk {output:?}"));
            match output {
                Output::Answer { request, answer } => self.answer(request, &answer),
                Output::AcceptStream { socket, stream } => self.order(socket, SocketOrder::Accept(stream)),
                Output::RefuseStream { socket, refusal } => self.order(socket, SocketOrder::Refuse(refusal)),
                Output::CloseStream { socket } => self.order(socket, SocketOrder::Close),
                Output::Redirect { attempt, call_sid, prompt } => {
                    self.next += 1;
                    let number = self.next;
                    self.redirects.insert(number, attempt);
                    let twiml = self.documents.redirect(prompt, HOST);
                    let fate = self.rest_fate();
                    let timed_out = Arrival::RedirectAnswered { number, answer: Err(RestFailure::TimedOut) };
                    self.at(self.now + REST_ANSWER_MAX, timed_out);
                    self.later(Arrival::Redirect { number, call_sid, twiml, fate });
                }
                Output::LookUpCall { attempt, call_sid, recordings } => {
                    let fate = self.rest_fate();
                    self.later(Arrival::LookUp { attempt, call_sid, recordings, fate });
                }
                Output::KeepRecord { ended, request } => {
                    self.kept.push(Kept { ended: *ended, at: self.now });
                    if let Some(request) = request {
                        self.answer(request, &Answer::NoContent);
                    }
                }
                Output::AnswerOnceKept { request, .. } => self.answer(request, &Answer::NoContent),
                Output::RememberCall(_) | Output::Report(_) => {}
            }
        }
    }

    fn answer(&mut self, request: RequestId, answer: &Answer) {
        let Some((call, ticket)) = self.requests.remove(&request) else { return };
        let body = self.documents.answer(answer, HOST);
        let status = if body.is_some() { 200 } else { 204 };
        self.later(Arrival::Reply { call, ticket, status, body });
    }

    fn order(&mut self, socket: SocketId, order: SocketOrder) {
        self.at(self.now, Arrival::Order { socket, order });
    }

    fn redirect(&mut self, number: u64, call_sid: CallSid, twiml: String, fate: RestFate) {
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

    fn look_up(&mut self, call_sid: CallSid, recordings: bool) -> Result<CallLookup, CallLookup> {
        let status = read_call(&self.rest(&RestRequest::fetch_call(&account_sid(), &call_sid)))?;
        let mut has_recording = false;
        if recordings && !status.is_final() {
            let listed = read_recordings(&self.rest(&RestRequest::list_call_recordings(&account_sid(), &call_sid)))?;
            has_recording = !listed.is_empty();
        }
        Ok(CallLookup::Found { status, has_recording })
    }

    fn rest(&mut self, request: &RestRequest) -> Result<RestReply, RestFailure> {
        let authorization = format!("Basic {}", BASE64_STANDARD.encode(format!("{}:{AUTH_TOKEN}", account_sid())));
        let path = request.path.split('?').next().unwrap_or_default();
        let request =
            ApiRequest { method: request.method, path, query: "", authorization: Some(&authorization), body: &[] };
        match self.account.handle_request(request) {
            Verdict::Reply(reply) => Ok(rest_reply(reply)),
            Verdict::Update { .. } => panic!("a question changes nothing"),
        }
    }

    /// Does what a simulated call wants, as the simulator's drivers would.
    fn obey(&mut self, call: usize) {
        use phone_call::Output as Wish;
        while let Some(wish) = self.calls[call].poll_output() {
            match wish {
                Wish::Request { ticket, url, form } => {
                    if self.random.u32(0..100) < self.network.repeated_percent {
                        let (url, form) = (url.clone(), form.clone());
                        self.later(Arrival::Webhook { call, ticket, url, form });
                    }
                    self.later(Arrival::Webhook { call, ticket, url, form });
                }
                Wish::FetchPrompt { ticket, url } => {
                    let name = url.rsplit('/').next().unwrap_or_default();
                    let length = self.prompt_length(name);
                    self.later(Arrival::Prompt { call, ticket, length });
                }
                Wish::OpenSocket { ticket, .. } => self.later(Arrival::SocketAtBox { call, ticket }),
                Wish::Send { ticket, text } => {
                    if let Some(socket) = self.socket_of(call, ticket) {
                        let at = self.in_order_to_box(socket);
                        self.at(at, Arrival::TextAtBox { socket, text });
                    }
                }
                Wish::CloseSocket { ticket, .. } => {
                    if let Some(socket) = self.socket_of(call, ticket) {
                        let at = self.in_order_to_box(socket);
                        self.at(at, Arrival::GoneAtBox { socket });
                    }
                }
                Wish::AnswerUpdate { update, decision } => {
                    let call_sid = self.calls[call].report().call_sid;
                    let answer = Ok(rest_reply(self.account.update_reply(call_sid, &decision)));
                    self.later(Arrival::RedirectAnswered { number: update.0, answer });
                }
                Wish::NoteStatus(status) => {
                    let call_sid = self.calls[call].report().call_sid;
                    self.account.note_call(call_sid, status);
                    if status.is_final() {
                        self.over_at.insert(call, self.now);
                    }
                }
                Wish::NoteRecording(recording) => self.account.note_recording(recording),
                Wish::Finish => {}
            }
        }
    }

    fn open_socket(&mut self, call: usize, ticket: Ticket) {
        self.next += 1;
        let socket = SocketId(self.next);
        let session = MediaSession::new(self.media.clone(), self.pulses.clone(), socket, self.now);
        self.sockets.insert(socket, Socket { session, call, ticket, to_box: self.now, to_twilio: self.now });
        let at = self.in_order_to_twilio(socket);
        self.at(at, Arrival::SocketAtTwilio { call, ticket });
    }

    fn with_session(&mut self, socket: SocketId, act: impl FnOnce(&mut MediaSession)) {
        let Some(open) = self.sockets.get_mut(&socket) else { return };
        act(&mut open.session);
        let (call, ticket) = (open.call, open.ticket);
        while let Some(output) = self.sockets.get_mut(&socket).and_then(|open| open.session.poll_output()) {
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

    fn socket_of(&self, call: usize, ticket: Ticket) -> Option<SocketId> {
        self.sockets.iter().find(|(_, socket)| socket.call == call && socket.ticket == ticket).map(|(id, _)| *id)
    }

    fn in_order_to_box(&mut self, socket: SocketId) -> Instant {
        let at = self.now + self.delay();
        self.sockets.get_mut(&socket).map_or(at, |socket| {
            socket.to_box = socket.to_box.max(at);
            socket.to_box
        })
    }

    fn in_order_to_twilio(&mut self, socket: SocketId) -> Instant {
        let at = self.now + self.delay();
        self.sockets.get_mut(&socket).map_or(at, |socket| {
            socket.to_twilio = socket.to_twilio.max(at);
            socket.to_twilio
        })
    }

    fn prompt_length(&self, name: &str) -> Duration {
        let prompts = [&self.prompts.greeting, &self.prompts.fallback, &self.prompts.no_message, &self.prompts.goodbye];
        let found = prompts.into_iter().find(|prompt| prompt.name.as_deref() == Some(name));
        found.unwrap_or_else(|| panic!("no prompt is called {name}")).duration
    }

    fn rest_fate(&mut self) -> RestFate {
        let failing = self.now < self.start + self.network.rest_heals_at
            && self.random.u32(0..100) < self.network.rest_failing_percent;
        let fates = [RestFate::Unreachable, RestFate::Unavailable, RestFate::Throttled, RestFate::AnswerLost];
        if failing { fates[self.random.usize(0..fates.len())] } else { RestFate::Served }
    }

    fn delay(&mut self) -> Duration {
        let micros = u64::try_from(self.network.delay_max.as_micros()).unwrap_or(u64::MAX);
        Duration::from_micros(self.random.u64(0..=micros))
    }

    fn later(&mut self, arrival: Arrival) {
        let at = self.now + self.delay();
        self.at(at, arrival);
    }

    fn at(&mut self, at: Instant, arrival: Arrival) {
        self.next += 1;
        self.agenda.insert((at, self.next), arrival);
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if self.log.len() == LOG_LINES_MAX {
            self.log.pop_front();
        }
        let at = self.now - self.start;
        self.log.push_back(format!("{:9.3} {}", at.as_secs_f64(), line()));
    }
}

fn rest_reply(reply: ApiReply) -> RestReply {
    RestReply { status: reply.status, retry_after: None, body: reply.body }
}
