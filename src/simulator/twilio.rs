//! A simulated Twilio on real sockets: carries out what its calls want, each call in a task of its own.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use bytes::Bytes;
use hyper::{Request, header};
use jiff::Timestamp;
use rustls::ClientConfig;
use tokio::sync::{mpsc, oneshot};

use super::{
    account::{Account, ApiError, CallNote, RecordingState, Update},
    happening::{Happening, Told},
    media_client::{self, SocketNews, SocketOrder},
    phone_call::{Output, PhoneCall, Ticket, UpdateId, WebhookReply},
    plan::Plan,
    report::{CallReport, Met},
};
use crate::{
    limits::PROMPT_BYTES_MAX,
    speech::decode::decode,
    system::http_client::{Failure, HttpClient, Roots, RootsError, tls_client_config},
    twilio::{
        sid::{AccountSid, CallSid},
        signature::sign,
        webhook::{CallStatus, Form},
    },
};

/// Twilio's time-outs for webhooks, without override.
const CONNECT_MAX: Duration = Duration::from_secs(5);
const WEBHOOK_MAX: Duration = Duration::from_secs(15);
/// A webhook's answer, in bytes; the document reader refuses sooner.
const REPLY_BYTES_MAX: usize = 256 * 1024;
/// Sounds whose length is remembered; beyond it all are measured anew.
const PROMPTS_MAX: usize = 64;
/// Messages that may wait for a call's task; who sends more waits.
const INPUTS_MAX: usize = 256;
/// Messages that may wait for a socket's task. A server that does not read for longer loses the newest (31930).
const ORDERS_MAX: usize = 512;

/// A simulated account with its calls; cheap to clone.
#[derive(Clone)]
pub struct Twilio {
    shared: Arc<Shared>,
}

struct Shared {
    auth_token: String,
    account: Mutex<Account>,
    http: HttpClient,
    tls: Arc<ClientConfig>,
    /// Where a REST update finds its call.
    lines: Mutex<HashMap<CallSid, mpsc::Sender<Input>>>,
    /// What each prompt's length was, so that a thousand calls fetch it but decode it once.
    prompts: Mutex<HashMap<Bytes, Result<Duration, u32>>>,
    teller: Option<mpsc::Sender<Told>>,
    next_update: AtomicU64,
}

/// What the world told a call.
enum Input {
    Reply(Ticket, WebhookReply),
    Prompt(Ticket, Result<Duration, u32>),
    SocketOpened(Ticket, mpsc::Sender<SocketOrder>),
    SocketFailed(Ticket, u32),
    Socket(Ticket, SocketNews),
    Update(Update, oneshot::Sender<Result<CallStatus, ApiError>>),
    HangUp,
}

impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Twilio")
    }
}

impl Twilio {
    /// An account that trusts these roots. What happens in its calls goes to `teller` too, as far as it is read.
    pub fn new(
        account_sid: AccountSid,
        auth_token: &str,
        roots: &Roots,
        teller: Option<mpsc::Sender<Told>>,
    ) -> Result<Self, RootsError> {
        let shared = Shared {
            auth_token: auth_token.to_owned(),
            account: Mutex::new(Account::new(account_sid, auth_token)),
            http: HttpClient::new(roots, CONNECT_MAX)?,
            tls: Arc::new(tls_client_config(roots)?),
            lines: Mutex::default(),
            prompts: Mutex::default(),
            teller,
            next_update: AtomicU64::new(1),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The REST side's state.
    pub fn account(&self) -> MutexGuard<'_, Account> {
        lock(&self.shared.account)
    }

    /// TLS as this Twilio does it.
    pub fn tls(&self) -> Arc<ClientConfig> {
        self.shared.tls.clone()
    }

    /// The token that webhooks and handshakes are signed with.
    pub fn auth_token(&self) -> &str {
        &self.shared.auth_token
    }

    /// Places a call and stays with it until nothing of it is under way any more.
    pub async fn call(&self, plan: Plan) -> CallReport {
        let call_sid = plan.parties.call_sid;
        let note = CallNote {
            from: plan.parties.from.clone(),
            to: plan.parties.to.clone(),
            started_at: plan.placed_at,
            ended_at: None,
        };
        self.account().note_parties(call_sid, note);
        let (inputs, receiver) = mpsc::channel(INPUTS_MAX);
        lock(&self.shared.lines).insert(call_sid, inputs.clone());
        let line = Line {
            twilio: self.clone(),
            call_sid,
            inputs,
            sockets: HashMap::new(),
            updates: HashMap::new(),
            told_met: Met::Ringing,
            told_fault: false,
            told_end: false,
        };
        let report = line.run(PhoneCall::new(plan, Instant::now()), receiver).await;
        lock(&self.shared.lines).remove(&call_sid);
        report
    }

    /// Lets a caller hang up; a call that is over hears nothing.
    pub async fn hang_up(&self, call_sid: CallSid) {
        let line = lock(&self.shared.lines).get(&call_sid).cloned();
        if let Some(line) = line {
            let _ = line.send(Input::HangUp).await;
        }
    }

    /// Passes a REST update on to its call, and waits for what became of it.
    pub async fn update(&self, call_sid: CallSid, update: Update) -> Result<CallStatus, ApiError> {
        let over = || ApiError::new(400, 21220, "Call is not in-progress. Cannot redirect.");
        let line = lock(&self.shared.lines).get(&call_sid).cloned().ok_or_else(over)?;
        let (reply, decision) = oneshot::channel();
        line.send(Input::Update(update, reply)).await.map_err(|_| over())?;
        decision.await.map_err(|_| over())?
    }

    /// Sends one signed webhook.
    pub async fn post(&self, url: &str, form: &Form) -> WebhookReply {
        let request = Request::post(url)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded; charset=UTF-8")
            .header(header::USER_AGENT, "TwilioProxy/1.1")
            .header(header::ACCEPT, "*/*")
            .header("X-Twilio-Signature", sign(&self.shared.auth_token, &signed_url(url), Some(form)))
            .body(Bytes::from(form.encode()));
        let Ok(request) = request else { return WebhookReply::NoAnswer };
        match self.shared.http.send(request, WEBHOOK_MAX, REPLY_BYTES_MAX).await {
            Ok(reply) => WebhookReply::Answered {
                status: reply.status,
                content_type: reply
                    .headers
                    .get(header::CONTENT_TYPE)
                    .and_then(|value| value.to_str().ok())
                    .map(str::to_owned),
                body: String::from_utf8_lossy(&reply.body).into_owned(),
            },
            Err(Failure::Connect(_)) => WebhookReply::NoConnection,
            Err(_) => WebhookReply::NoAnswer,
        }
    }

    /// Fetches a sound and measures it; `Err`: Twilio's code for what is wrong with it.
    async fn fetch_prompt(&self, url: &str) -> Result<Duration, u32> {
        let request = Request::get(url)
            .header(header::USER_AGENT, "TwilioProxy/1.1")
            .header(header::ACCEPT, "*/*")
            .body(Bytes::new())
            .map_err(|_| 11100_u32)?;
        let reply = self.shared.http.send(request, WEBHOOK_MAX, PROMPT_BYTES_MAX).await.map_err(|_| 11200_u32)?;
        if reply.status != 200 {
            return Err(11200);
        }
        let is_audio =
            reply.headers.get(header::CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"audio/"));
        if !is_audio {
            return Err(12300);
        }
        if let Some(known) = lock(&self.shared.prompts).get(&reply.body) {
            return *known;
        }
        let (body, extension) = (reply.body.clone(), url.rsplit('.').next().unwrap_or_default().to_owned());
        let decoded = tokio::task::spawn_blocking(move || decode(&body, &extension).map(|sound| sound.duration));
        let length = decoded.await.ok().and_then(Result::ok).ok_or(12300);
        let mut prompts = lock(&self.shared.prompts);
        if prompts.len() >= PROMPTS_MAX {
            prompts.clear();
        }
        prompts.insert(reply.body, length);
        length
    }
}

/// One call's task.
struct Line {
    twilio: Twilio,
    call_sid: CallSid,
    inputs: mpsc::Sender<Input>,
    sockets: HashMap<Ticket, mpsc::Sender<SocketOrder>>,
    updates: HashMap<UpdateId, oneshot::Sender<Result<CallStatus, ApiError>>>,
    told_met: Met,
    told_fault: bool,
    told_end: bool,
}

impl Line {
    async fn run(mut self, mut call: PhoneCall, mut inputs: mpsc::Receiver<Input>) -> CallReport {
        loop {
            self.tell_state(&call);
            while let Some(output) = call.poll_output() {
                if output == Output::Finish {
                    return call.report();
                }
                self.carry_out(output);
            }
            let due = call.poll_timeout().map(|(due, _)| due);
            tokio::select! {
                // What is due goes first: a busy socket must not delay the caller's voice.
                biased;
                () = wait_until(due) => call.handle_timeout(Instant::now()),
                Some(input) = inputs.recv() => self.hand_over(input, &mut call),
            }
        }
    }

    fn hand_over(&mut self, input: Input, call: &mut PhoneCall) {
        let now = Instant::now();
        match input {
            Input::Reply(ticket, reply) => call.handle_reply(ticket, reply, now),
            Input::Prompt(ticket, length) => call.handle_prompt(ticket, length, now),
            Input::SocketOpened(ticket, orders) => {
                self.sockets.insert(ticket, orders);
                self.tell(Happening::SocketOpened);
                call.handle_socket_opened(ticket, now);
            }
            Input::SocketFailed(ticket, code) => {
                self.tell(Happening::SocketFailed(code));
                call.handle_socket_failed(ticket, code, now);
            }
            Input::Socket(ticket, SocketNews::Text(text)) => call.handle_socket_message(ticket, &text, now),
            Input::Socket(ticket, SocketNews::Binary) => call.handle_socket_binary(ticket),
            Input::Socket(ticket, SocketNews::Closed(code)) => {
                if self.sockets.remove(&ticket).is_some() {
                    self.tell(Happening::SocketClosed(code));
                }
                call.handle_socket_closed(ticket, code, now);
            }
            Input::Update(update, reply) => {
                self.tell(Happening::Update);
                let id = UpdateId(self.twilio.shared.next_update.fetch_add(1, Ordering::Relaxed));
                self.updates.insert(id, reply);
                call.handle_update(id, update, now);
            }
            Input::HangUp => call.handle_hang_up(now),
        }
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Request { ticket, url, form } => {
                let status = form.iter().find(|(name, _)| is_telling(name)).map_or("", |(_, value)| value.as_str());
                self.tell(Happening::Webhook { path: path_of(&url).to_owned(), status: status.to_owned() });
                self.spawn(async move |twilio| Input::Reply(ticket, twilio.post(&url, &Form::from_pairs(form)).await));
            }
            Output::FetchPrompt { ticket, url } => {
                self.tell(Happening::Hears(path_of(&url).to_owned()));
                self.spawn(async move |twilio| Input::Prompt(ticket, twilio.fetch_prompt(&url).await));
            }
            Output::OpenSocket { ticket, url } => self.open_socket(ticket, url),
            Output::Send { ticket, text } => self.order(ticket, SocketOrder::Send(text)),
            Output::CloseSocket { ticket, abort } => {
                self.order(ticket, if abort { SocketOrder::Abort } else { SocketOrder::Close });
                self.sockets.remove(&ticket);
            }
            Output::AnswerUpdate { update, decision } => {
                if let Some(reply) = self.updates.remove(&update) {
                    // A client that went away meanwhile does not hear the answer: that is its own doing.
                    let _ = reply.send(decision);
                }
            }
            Output::NoteStatus(status) => {
                let mut account = self.twilio.account();
                account.note_call(self.call_sid, status);
                if status.is_final() {
                    account.note_end(self.call_sid, Timestamp::now());
                }
            }
            Output::NoteRecording(recording) => {
                if recording.state == RecordingState::Running {
                    self.tell(Happening::RecordingBegan(recording.recording_sid));
                }
                let mut account = self.twilio.account();
                account.date_recording(recording.recording_sid, Timestamp::now());
                account.note_recording(recording);
            }
            Output::Finish => {}
        }
    }

    fn open_socket(&self, ticket: Ticket, url: String) {
        let (twilio, inputs) = (self.twilio.clone(), self.inputs.clone());
        tokio::spawn(async move {
            match media_client::open(twilio.tls(), twilio.auth_token(), &url).await {
                Ok((socket, _)) => {
                    let (orders, receiver) = mpsc::channel(ORDERS_MAX);
                    let _ = inputs.send(Input::SocketOpened(ticket, orders)).await;
                    media_client::carry(socket, receiver, inputs, move |news| Input::Socket(ticket, news)).await;
                }
                Err(error) => {
                    let _ = inputs.send(Input::SocketFailed(ticket, error.code())).await;
                }
            }
        });
    }

    fn order(&self, ticket: Ticket, order: SocketOrder) {
        // Full: the server has not read for ten seconds. Twilio drops media then, and so do we.
        if let Some(Err(mpsc::error::TrySendError::Full(_))) =
            self.sockets.get(&ticket).map(|orders| orders.try_send(order))
        {
            self.tell(Happening::MediaDropped);
        }
    }

    fn spawn<F: Future<Output = Input> + Send + 'static>(&self, work: impl FnOnce(Twilio) -> F + Send + 'static) {
        let (twilio, inputs) = (self.twilio.clone(), self.inputs.clone());
        tokio::spawn(async move {
            let input = work(twilio).await;
            let _ = inputs.send(input).await;
        });
    }

    /// Tells what the call's own clock brought about.
    fn tell_state(&mut self, call: &PhoneCall) {
        if call.met() != self.told_met {
            self.told_met = call.met();
            self.tell(Happening::Meets(self.told_met));
        }
        if call.has_fault_begun() && !self.told_fault {
            self.told_fault = true;
            self.tell(Happening::FaultBegan);
        }
        if let Some(ending) = call.ending().filter(|_| !self.told_end) {
            self.told_end = true;
            self.tell(Happening::Ended(ending));
        }
    }

    fn tell(&self, what: Happening) {
        if let Some(teller) = &self.twilio.shared.teller {
            // Nobody reads fast enough: the story has a gap, the calls have none.
            let _ = teller.try_send(Told { call_sid: self.call_sid, at: Instant::now(), what });
        }
    }
}

async fn wait_until(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

/// The URL as Twilio signs it: over HTTPS without port and without user.
fn signed_url(url: &str) -> String {
    // Connection overrides stand in the fragment: Twilio keeps it to itself.
    let url = url.split('#').next().unwrap_or_default();
    match url::Url::parse(url) {
        Ok(parsed) if parsed.scheme() == "https" => match parsed.port() {
            // Cut out of the text, so that nothing else of it is rewritten.
            Some(port) => url.replacen(&format!(":{port}"), "", 1),
            None => url.to_owned(),
        },
        _ => url.to_owned(),
    }
}

fn path_of(url: &str) -> &str {
    url.splitn(4, '/').nth(3).unwrap_or(url)
}

fn is_telling(name: &str) -> bool {
    matches!(name, "StreamEvent" | "RecordingStatus" | "CallStatus")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic in a test's thread leaves plain maps behind, which are still whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
