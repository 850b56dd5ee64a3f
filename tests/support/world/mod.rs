//! A box and a Twilio in virtual time: the real desk, media sessions, documents and books against the simulator's core,
//! joined by a network that delays, repeats and loses, over a disk that forgets, all from one seed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use jiff::{SignedDuration, Timestamp};
use kolbox::{
    calls::{AttemptId, EndedCall, RequestId, SocketId},
    simulator::{
        account::{Account, ApiReply, ApiRequest, Verdict},
        phone_call::{PhoneCall, Ticket, WebhookReply},
        plan::Plan,
    },
    transcripts::{Record, Sequence, outbox::Delivery, pending::Fetched, pending::Listed},
    twilio::{
        rest::{CallLookup, RestFailure, RestReply, RestRequest},
        sid::{AccountSid, CallSid, RecordingSid},
    },
};

pub mod bound;
mod chance;
pub mod coverage;
mod desk;
mod fault;
mod gateway;
mod ledger;
mod model;
mod office;
mod run;
mod scenario;
mod sockets;
mod twilio;

pub use chance::random_plan;
pub use fault::{Deaf, DiskFate, Fault, Network, RestFate, RestTrouble, UpstreamFate, Window};
use gateway::TheBox;
use ledger::Ledger;
use office::{Disk, Upstream};
pub use run::{Broken, CallResult, Run, run};
pub use scenario::{BIN, PlannedCall, Scenario, caller, plan};
use twilio::Post;

pub const HOST: &str = "gw.example.co.il";
const AUTH_TOKEN: &str = "a-token-of-the-simulation";
/// As the REST client has it.
const REST_ANSWER_MAX: Duration = Duration::from_secs(8);
const LOG_LINES_MAX: usize = 400;

pub fn account_sid() -> AccountSid {
    AccountSid::from_number(0xacc)
}

/// Something that arrives. What is for the box names the life of the box that it is for.
#[derive(Debug)]
enum Arrival {
    Placed(Box<Plan>),
    Fault(Fault),
    /// The box starts.
    Back,
    /// A drain is over, or must be.
    Stopped {
        life: u32,
    },
    Webhook {
        post: Post,
        url: String,
        form: Vec<(String, String)>,
    },
    /// Twilio waits no longer for an answer.
    NotAnswered {
        post: Post,
        url: String,
        form: Vec<(String, String)>,
    },
    /// The box's server waits no longer for the desk's.
    AnswerDue {
        life: u32,
        request: RequestId,
    },
    Reply {
        post: Post,
        reply: WebhookReply,
    },
    BinAnswers {
        call: usize,
        ticket: Ticket,
        url: String,
    },
    PromptAtBox {
        call: usize,
        ticket: Ticket,
        name: String,
    },
    Prompt {
        call: usize,
        ticket: Ticket,
        length: Result<Duration, u32>,
    },
    SocketAtBox {
        call: usize,
        ticket: Ticket,
    },
    SocketAtTwilio {
        call: usize,
        ticket: Ticket,
    },
    SocketFailed {
        call: usize,
        ticket: Ticket,
    },
    TextAtBox {
        socket: SocketId,
        text: String,
    },
    TextAtTwilio {
        call: usize,
        ticket: Ticket,
        text: String,
    },
    GoneAtBox {
        socket: SocketId,
    },
    ClosedAtTwilio {
        call: usize,
        ticket: Ticket,
        code: Option<u16>,
    },
    Order {
        socket: SocketId,
        order: kolbox::server::desk_port::SocketOrder,
    },
    Redirect {
        number: u64,
        call_sid: CallSid,
        twiml: String,
        fate: RestFate,
    },
    RedirectAnswered {
        number: u64,
        answer: Result<RestReply, RestFailure>,
    },
    LookUp {
        life: u32,
        attempt: AttemptId,
        call_sid: CallSid,
        recordings: bool,
        fate: RestFate,
    },
    LookedUp {
        life: u32,
        attempt: AttemptId,
        outcome: CallLookup,
    },
    Load {
        life: u32,
    },
    Send {
        life: u32,
        sequence: Sequence,
        record: Box<Record>,
    },
    Sent {
        life: u32,
        sequence: Sequence,
        record: Box<Record>,
        delivery: Delivery,
    },
    Fetched {
        life: u32,
        call_sid: CallSid,
        recording_sid: RecordingSid,
        fetched: Fetched,
    },
    Listed {
        life: u32,
        call_sid: CallSid,
        listed: Listed,
    },
}

/// An ended call, as the desk gave it away.
#[derive(Debug, Clone)]
pub struct Kept {
    pub ended: EndedCall,
    pub at: Instant,
}

pub struct World {
    pub start: Instant,
    pub now: Instant,
    pub calls: Vec<PhoneCall>,
    pub kept: Vec<Kept>,
    pub disk: Disk,
    pub upstream: Upstream,
    /// When each call was placed, and when it was over at Twilio.
    pub placed_at: BTreeMap<usize, Instant>,
    pub over_at: BTreeMap<usize, Instant>,
    /// When the box answered each call's first question.
    pub answered: BTreeMap<CallSid, Duration>,
    /// When there was no box.
    pub away: Vec<Window>,
    pub steps: u64,
    pub log: VecDeque<String>,
    /// How often each event met a call in each state.
    pub met: coverage::Met,
    /// Calls that went to the bins at Twilio: each number's fallback is asked once.
    pub bins_met: BTreeSet<usize>,
    /// Taken out of a bin's recorder by a redirect that its box had sent before it ended.
    pub taken_from_bin: BTreeSet<usize>,
    /// What was seen to be wrong on the way: the rule, the call, and what.
    pub broken: Option<(&'static str, Option<CallSid>, String)>,
    /// Whether lines are written.
    watched: bool,
    running: Option<TheBox>,
    life: u32,
    seed: u64,
    random: fastrand::Rng,
    network: Network,
    faults: Vec<Fault>,
    clock_set_s: i64,
    account: Account,
    agenda: BTreeMap<(Instant, u64), Arrival>,
    next: u64,
    by_sid: BTreeMap<CallSid, usize>,
    redirects: BTreeMap<u64, (u32, AttemptId)>,
    /// How late REST answers these.
    answers_late: BTreeMap<u64, Duration>,
    /// The try of each webhook that Twilio waits for.
    posts: BTreeMap<(usize, Ticket), Post>,
    /// Calls whose media connections are refused.
    refused: BTreeSet<CallSid>,
    /// Calls whose recordings come to nothing.
    unrecorded: BTreeSet<CallSid>,
    /// By the number of the call.
    sids: Vec<CallSid>,
    ledger: Ledger,
    /// The number of writes that fills the disk.
    disk_full_at: u64,
}

impl World {
    pub fn new(seed: u64, network: Network, faults: Vec<Fault>, watched: bool) -> Self {
        let start = Instant::now();
        let mut world = Self {
            start,
            now: start,
            calls: Vec::new(),
            kept: Vec::new(),
            disk: Disk::default(),
            upstream: Upstream::default(),
            placed_at: BTreeMap::new(),
            over_at: BTreeMap::new(),
            answered: BTreeMap::new(),
            away: Vec::new(),
            steps: 0,
            log: VecDeque::new(),
            met: BTreeMap::new(),
            bins_met: BTreeSet::new(),
            taken_from_bin: BTreeSet::new(),
            broken: None,
            watched,
            running: None,
            life: 0,
            seed,
            random: fastrand::Rng::with_seed(seed),
            network,
            faults: Vec::new(),
            clock_set_s: 0,
            account: Account::new(account_sid(), AUTH_TOKEN),
            agenda: BTreeMap::new(),
            next: 0,
            by_sid: BTreeMap::new(),
            redirects: BTreeMap::new(),
            answers_late: BTreeMap::new(),
            posts: BTreeMap::new(),
            refused: BTreeSet::new(),
            unrecorded: BTreeSet::new(),
            sids: Vec::new(),
            ledger: Ledger::default(),
            disk_full_at: 0,
        };
        for fault in &faults {
            if let Some(at) = fault.moment() {
                world.at(start + at, Arrival::Fault(fault.clone()));
            }
        }
        world.faults = faults;
        world.start_box();
        world
    }

    /// A call will be placed so long after the start.
    pub fn place(&mut self, at: Duration, plan: Plan) {
        self.at(self.start + at, Arrival::Placed(Box::new(plan)));
    }

    /// A call of a scenario, and what goes wrong with it alone.
    pub fn plan(&mut self, planned: &PlannedCall) {
        let call_sid = planned.plan.parties.call_sid;
        if planned.stream_refused {
            self.refused.insert(call_sid);
        }
        if planned.recording_fails {
            self.unrecorded.insert(call_sid);
        }
        self.place(planned.at, planned.plan.clone());
    }

    /// Lets everything happen until nothing is left to happen, `until` has come, or something is broken.
    pub fn run_until(&mut self, until: Duration) {
        let until = self.start + until;
        while let Some(due) = self.next_due().filter(|due| *due <= until && self.broken.is_none()) {
            self.now = self.now.max(due);
            self.steps += 1;
            self.step();
        }
        self.now = self.now.max(until);
    }

    /// Whether nothing is to be expected any more but the passing of time.
    pub fn is_at_rest(&self) -> bool {
        let box_rests = self.running.as_ref().is_some_and(TheBox::is_at_rest);
        box_rests && self.calls.iter().all(PhoneCall::is_finished) && self.disk.unsynced() == 0
    }

    /// Slots of the desk that are held.
    pub fn slots_held(&self) -> usize {
        self.running.as_ref().map_or(0, |running| running.desk.view().calls.len())
    }

    /// The time of day, as the box knows it.
    fn wall(&self, at: Instant) -> Timestamp {
        wall_of(self.start, self.clock_set_s, at)
    }

    fn next_due(&self) -> Option<Instant> {
        let agenda = self.agenda.first_key_value().map(|((at, _), _)| *at);
        let running = self.running.as_ref().and_then(TheBox::poll_timeout);
        let calls = self.calls.iter().filter(|call| !call.is_finished()).filter_map(PhoneCall::poll_timeout);
        agenda.into_iter().chain(running).chain(calls.map(|(at, _)| at)).min()
    }

    fn step(&mut self) {
        let now = self.now;
        while let Some(entry) = self.agenda.first_entry().filter(|entry| entry.key().0 <= now) {
            let arrival = entry.remove();
            self.arrive(arrival);
        }
        self.box_timeouts();
        for index in 0..self.calls.len() {
            let is_due = self.calls[index].poll_timeout().is_some_and(|(at, _)| at <= now);
            if is_due && !self.calls[index].is_finished() {
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
                self.sids.push(plan.parties.call_sid);
                self.placed_at.insert(index, now);
                self.calls.push(PhoneCall::new(*plan, now));
                self.obey(index);
            }
            Arrival::Fault(fault) => self.strike(&fault),
            Arrival::Back => self.start_box(),
            Arrival::Stopped { life } if life == self.life => self.stop_box(),
            Arrival::Stopped { .. } => {}
            Arrival::Webhook { post, url, form } => self.webhook(post, &url, &form),
            Arrival::NotAnswered { post, url, form } => self.webhook_not_answered(post, url, form),
            Arrival::Reply { post, reply } => self.reply_at_twilio(post, reply),
            Arrival::BinAnswers { call, ticket, url } => self.bin_answers(call, ticket, &url),
            Arrival::PromptAtBox { call, ticket, name } => self.prompt_at_box(call, ticket, &name),
            Arrival::Prompt { call, ticket, length } => {
                self.calls[call].handle_prompt(ticket, length, now);
                self.obey(call);
            }
            Arrival::SocketAtBox { call, ticket } => self.open_socket(call, ticket),
            Arrival::SocketAtTwilio { call, ticket } => {
                self.calls[call].handle_socket_opened(ticket, now);
                self.obey(call);
            }
            Arrival::SocketFailed { call, ticket } => {
                self.calls[call].handle_socket_failed(ticket, 31902, now);
                self.obey(call);
            }
            Arrival::TextAtTwilio { call, ticket, text } => {
                self.calls[call].handle_socket_message(ticket, &text, now);
                self.obey(call);
            }
            Arrival::ClosedAtTwilio { call, ticket, code } => {
                self.calls[call].handle_socket_closed(ticket, code, now);
                self.obey(call);
            }
            // A connection that broke with the box may still have brought the request.
            Arrival::Redirect { number, call_sid, twiml, fate } => self.redirect(number, call_sid, twiml, fate),
            arrival => self.arrive_at_box(arrival),
        }
    }

    /// What goes wrong at a moment.
    fn strike(&mut self, fault: &Fault) {
        self.note(|| format!("!! {fault:?}"));
        match *fault {
            Fault::Killed { back_after, .. } => self.kill_box(back_after),
            Fault::Restarted { .. } => self.drain_box(),
            Fault::SecondSignal { .. } => self.end_at_once(),
            Fault::SocketsReset { .. } => self.reset_sockets(),
            Fault::HalfOpen { deaf, .. } => self.deafen_sockets(deaf),
            Fault::Reconnected { .. } => self.reconnect_sockets(),
            Fault::ClockSet { by_s, .. } => self.clock_set_s += by_s,
            Fault::Disk { fate: DiskFate::Fills { room }, .. } => {
                self.disk_full_at = self.disk.writes + u64::from(room)
            }
            _ => {}
        }
    }

    fn since_start(&self) -> Duration {
        self.now - self.start
    }

    fn rest_fate(&mut self) -> RestFate {
        const SLOW_MS_MAX: u64 = 12_000;
        let at = self.since_start();
        let trouble = self.faults.iter().find_map(|fault| match fault {
            Fault::Rest { window, percent, trouble } if window.holds(at) => Some((*percent, *trouble)),
            _ => None,
        });
        let Some((_, trouble)) = trouble.filter(|(percent, _)| self.random.u32(0..100) < *percent) else {
            return RestFate::Served;
        };
        let fails = [RestFate::Unreachable, RestFate::Unavailable, RestFate::Throttled, RestFate::AnswerLost];
        match trouble {
            RestTrouble::Fails => fails[self.random.usize(0..fails.len())],
            RestTrouble::Unauthorized => RestFate::Unauthorized,
            RestTrouble::NotFound => RestFate::NotFound,
            RestTrouble::Slow => {
                let late = Duration::from_millis(self.random.u64(0..SLOW_MS_MAX));
                if self.random.bool() { RestFate::AnsweredLate(late) } else { RestFate::CarriedOutLate(late) }
            }
        }
    }

    /// How much later than others a request is carried out.
    fn rest_delay(&self, fate: RestFate) -> Duration {
        if let RestFate::CarriedOutLate(late) = fate { late } else { Duration::ZERO }
    }

    fn upstream_fate(&self) -> Option<UpstreamFate> {
        let at = self.since_start();
        self.faults.iter().find_map(|fault| match fault {
            Fault::Upstream { window, fate } if window.holds(at) => Some(*fate),
            _ => None,
        })
    }

    fn disk_fate(&self) -> Option<DiskFate> {
        let at = self.since_start();
        self.faults.iter().find_map(|fault| match fault {
            Fault::Disk { window, fate } if window.holds(at) => Some(*fate),
            _ => None,
        })
    }

    fn call_sid(&self, call: usize) -> CallSid {
        self.sids[call]
    }

    /// How long something is on its way from now on.
    fn delay(&mut self) -> Duration {
        let at = self.since_start();
        let stall = self.faults.iter().find_map(|fault| match fault {
            Fault::Stalled(window) if window.holds(at) => Some(window.until - at),
            _ => None,
        });
        let micros = u64::try_from(self.network.delay_max.as_micros()).unwrap_or(u64::MAX);
        stall.unwrap_or_default() + Duration::from_micros(self.random.u64(0..=micros))
    }

    fn later(&mut self, arrival: Arrival) {
        let at = self.now + self.delay();
        self.at(at, arrival);
    }

    fn at(&mut self, at: Instant, arrival: Arrival) {
        self.next += 1;
        self.agenda.insert((at, self.next), arrival);
    }

    fn break_rule(&mut self, rule: &'static str, call_sid: Option<CallSid>, what: impl FnOnce() -> String) {
        if self.broken.is_none() {
            self.broken = Some((rule, call_sid, what()));
        }
    }

    fn note(&mut self, line: impl FnOnce() -> String) {
        if !self.watched {
            return;
        }
        if self.log.len() == LOG_LINES_MAX {
            self.log.pop_front();
        }
        let at = self.now - self.start;
        self.log.push_back(format!("{:9.3} {}", at.as_secs_f64(), line()));
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
}

fn wall_of(start: Instant, clock_set_s: i64, at: Instant) -> Timestamp {
    const NOON: i64 = 1_764_763_200;
    let passed = match at.checked_duration_since(start) {
        Some(passed) => SignedDuration::try_from(passed).unwrap_or_default(),
        None => -SignedDuration::try_from(start - at).unwrap_or_default(),
    };
    Timestamp::from_second(NOON + clock_set_s).unwrap_or_default() + passed
}

fn rest_reply(reply: ApiReply) -> RestReply {
    RestReply { status: reply.status, retry_after: None, body: reply.body }
}
