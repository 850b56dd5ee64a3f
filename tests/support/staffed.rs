//! A whole box in this process, its Twilio and its office's system, for tests that look at the status side.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::{
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming};
use hyper_util::rt::TokioIo;
use kolbox::{
    config::{Config, Public, Status, Store},
    gateway::Gateway,
    server::listener::{self, Listener},
    simulator::{
        caller::Caller,
        faults::{Faults, StreamFault},
        forms::Parties,
        plan::{Number, Plan, Timing},
        rest::{self, Served},
        twilio::Twilio,
    },
    speech::audio::{encode, tone},
    status::snapshot::Snapshot,
    system::http_client::Roots,
    twilio::sid::{AccountSid, CallSid},
};
use tempfile::TempDir;
use tokio::net::TcpStream;

pub const PASSWORD: &str = "open sesame";
pub const FROM: &str = "+972501234567";
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
const AUTH_TOKEN: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";
/// Far longer than anything takes, also on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);
const PROMPT: &str = "prompt.wav";
const TONE_HZ: f32 = 440.0;
const TONE_AMPLITUDE: f32 = 0.3;

/// A running box with all that it talks to. To be ended with [`Staffed::stop`].
pub struct Staffed {
    pub gateway: Gateway,
    /// Where staff look.
    pub status: SocketAddr,
    /// What the office's system answers to each transcript.
    office: Arc<AtomicU16>,
    twilio: Twilio,
    _rest: Served,
    folder: TempDir,
}

impl Staffed {
    /// A box with this status password; empty: none.
    pub async fn start(password: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let account_sid = AccountSid::from_number(1);
        let twilio = Twilio::new(account_sid, AUTH_TOKEN, &Roots::Insecure, None).unwrap();
        let rest = rest::serve(LOOPBACK, twilio.clone()).await.unwrap();
        let office = Arc::new(AtomicU16::new(201));
        let upstream = open_office(office.clone()).await;
        write_tone(&folder.path().join(PROMPT));
        let mut config = Config {
            public: Public { listen: LOOPBACK, ..Public::default() },
            status: Status { listen: LOOPBACK, password: password.into(), ..Status::default() },
            store: Store { path: folder.path().join("store"), ..Store::default() },
            ..Config::default()
        };
        config.twilio.account_sid = Some(account_sid);
        config.twilio.auth_token = AUTH_TOKEN.into();
        config.twilio.api_base = format!("http://{}", rest.address);
        config.sync.url = Some(format!("http://{upstream}/transcripts").parse().unwrap());
        let calls = &mut config.calls;
        calls.prompts = Some(folder.path().to_owned());
        for prompt in
            [&mut calls.greeting, &mut calls.fallback_prompt, &mut calls.no_message_prompt, &mut calls.goodbye_prompt]
        {
            *prompt = PROMPT.into();
        }
        let gateway = Gateway::start(config).await.unwrap();
        Self { status: gateway.status, gateway, office, twilio, _rest: rest, folder }
    }

    /// From now on the office's system answers with this status.
    pub fn office_answers(&self, status: u16) {
        self.office.store(status, Ordering::Relaxed);
    }

    /// Somebody calls, and talks until told to hang up.
    pub fn ring(&self, nth: u128) -> CallSid {
        let call_sid = CallSid::from_number(nth);
        let plan = self.plan(call_sid);
        let twilio = self.twilio.clone();
        tokio::spawn(async move { twilio.call(plan).await });
        call_sid
    }

    /// The caller hangs up.
    pub async fn hang_up(&self, call_sid: CallSid) {
        self.twilio.hang_up(call_sid).await;
    }

    /// Waits until the box shows this.
    #[track_caller]
    pub fn until(&self, wanted: impl FnMut(&Arc<Snapshot>) -> bool + Send) -> impl Future<Output = Arc<Snapshot>> {
        let mut snapshot = self.gateway.snapshot();
        async move {
            let shown = async move { snapshot.wait_for(wanted).await.unwrap().clone() };
            patiently(shown).await
        }
    }

    /// Ends the box, and its folder.
    pub async fn stop(self) {
        patiently(self.gateway.stop()).await;
        drop(self.folder);
    }

    fn plan(&self, call_sid: CallSid) -> Plan {
        let public = self.gateway.public;
        Plan {
            parties: Parties {
                account_sid: AccountSid::from_number(1),
                call_sid,
                from: FROM.to_owned(),
                to: "+97235550100".to_owned(),
            },
            number: Number {
                voice_url: format!("https://{public}/webhook/incoming_call"),
                fallback_url: None,
                status_callback: Some(format!("https://{public}/webhook/call_status")),
                connect_action_after_hang_up: true,
                silent_record_calls_action: false,
            },
            caller: Caller {
                speech: encode(&tone(TONE_HZ, PATIENCE, TONE_AMPLITUDE)).into(),
                leaves_after_saying: None,
                leaves_after: PATIENCE,
                patience: PATIENCE,
            },
            faults: Faults { stream: StreamFault::None, ..Faults::default() },
            timing: Timing::default(),
            placed_at: jiff::Timestamp::now(),
        }
    }
}

/// Waits, but not for ever.
pub async fn patiently<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it happens before patience ends")
}

/// Sends a request on a connection of its own, with the Host that a browser would send.
pub async fn ask(address: SocketAddr, mut request: Request<Full<Bytes>>) -> Response<Incoming> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let headers = request.headers_mut();
    headers.entry("host").or_insert(address.to_string().parse().unwrap());
    patiently(sender.send_request(request)).await.unwrap()
}

/// A GET with these headers.
pub async fn get(address: SocketAddr, path: &str, headers: &[(&str, &str)]) -> Response<Incoming> {
    let builder = headers.iter().fold(Request::get(path), |builder, (name, value)| builder.header(*name, *value));
    ask(address, builder.body(Full::default()).unwrap()).await
}

/// A POST from the box's own page.
pub async fn post(address: SocketAddr, path: &str, headers: &[(&str, &str)], form: &str) -> Response<Incoming> {
    let builder = Request::post(path)
        .header("origin", format!("http://{address}"))
        .header("content-type", "application/x-www-form-urlencoded");
    let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
    ask(address, builder.body(Full::from(form.to_owned())).unwrap()).await
}

/// The cookie of a login, as a browser sends it back.
pub async fn log_in(address: SocketAddr) -> String {
    let answer = post(address, "/login", &[], "password=open+sesame").await;
    assert_eq!(answer.status(), StatusCode::SEE_OTHER);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap();
    cookie.split(';').next().unwrap().to_owned()
}

/// A whole answer's text.
pub async fn text(answer: Response<Incoming>) -> String {
    let body = patiently(answer.into_body().collect()).await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn open_office(status: Arc<AtomicU16>) -> SocketAddr {
    let listener = Listener::bind(LOOPBACK, None, listener::Limits::new(8)).await.unwrap();
    let address = listener.address().unwrap();
    let handler = move |request: Request<Incoming>, _| {
        let status = status.clone();
        async move {
            let _ = request.into_body().collect().await;
            let mut answer = Response::new(Full::<Bytes>::default());
            *answer.status_mut() = StatusCode::from_u16(status.load(Ordering::Relaxed)).unwrap();
            answer
        }
    };
    tokio::spawn(async move { listener.serve(handler, std::future::pending()).await });
    address
}

fn write_tone(path: &Path) {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    let tone = tone(TONE_HZ, Duration::from_millis(200), TONE_AMPLITUDE);
    tone.into_iter().for_each(|sample| writer.write_sample(sample).unwrap());
    writer.finalize().unwrap();
    std::fs::write(path.with_extension("txt"), "Speak now.").unwrap();
}
