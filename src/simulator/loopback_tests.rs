//! The simulated Twilio over real TLS and sockets, against a small office that lives in the test.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, header};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio_tungstenite::{
    WebSocketStream,
    tungstenite::{Message, handshake::derive_accept_key, protocol::Role},
};
use url::Url;

use super::{
    call_tool::{self, CallOptions},
    faults::NamedFault,
};
use crate::{
    config::{Tls, TlsMode},
    server::{
        listener::{Limits, Listener},
        tls::acceptor,
    },
    system::http_client::{HttpClient, Reply, Roots},
    twilio::{sid::AccountSid, signature::sign, webhook::Form},
};

const TOKEN: &str = "loopback-token";
const RECORD: &str = r#"<Response><Say>a</Say><Record action="BASE/webhook/handle_recording" timeout="1" maxLength="5"
    playBeep="false" recordingStatusCallback="BASE/webhook/recording_status"/><Hangup/></Response>"#;

/// What the office saw, and where it is.
struct Office {
    base: String,
    /// `path CallSid [RecordingSid]` of each signed webhook, and the streams' events.
    seen: Arc<Mutex<Vec<String>>>,
    /// CallSids that asked for their first document.
    callers: mpsc::Receiver<String>,
}

impl Office {
    async fn open() -> Self {
        let tls = Tls { mode: TlsMode::SelfSigned, certificate: PathBuf::new(), key: PathBuf::new() };
        let acceptor = acceptor(&tls, &["localhost"]).unwrap();
        let listener = Listener::bind(SocketAddr::from(([127, 0, 0, 1], 0)), acceptor, Limits::new(64)).await.unwrap();
        let base = format!("https://127.0.0.1:{}", listener.address().unwrap().port());
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (caller, callers) = mpsc::channel(16);
        let shared = Arc::new((base.clone(), seen.clone(), caller));
        let handler = move |request, _| answer(request, shared.clone());
        tokio::spawn(async move { listener.serve(handler, std::future::pending()).await });
        Self { base, seen, callers }
    }

    fn options(&self, fault: Option<NamedFault>, rest_port: u16) -> CallOptions {
        let url = Url::parse(&format!("{}/webhook/incoming_call", self.base)).unwrap();
        let mut options = CallOptions::new(url, AccountSid::from_number(1), TOKEN.to_owned());
        options.rest_listen = SocketAddr::from(([127, 0, 0, 1], rest_port));
        options.fault = fault;
        options
    }

    fn saw(&self, what: &str) -> usize {
        self.seen.lock().unwrap().iter().filter(|line| line.starts_with(what)).count()
    }
}

type Shared = Arc<(String, Arc<Mutex<Vec<String>>>, mpsc::Sender<String>)>;

async fn answer(mut request: Request<Incoming>, shared: Shared) -> Response<Full<Bytes>> {
    let (base, seen, caller) = &*shared;
    let path = request.uri().path().to_owned();
    if path.starts_with("/ws/") {
        let upgrade = hyper::upgrade::on(&mut request);
        let signed = format!("wss{}{path}", base.trim_start_matches("https"));
        assert_eq!(request.headers()["X-Twilio-Signature"], sign(TOKEN, &signed, None).as_str());
        let accept = derive_accept_key(request.headers()[header::SEC_WEBSOCKET_KEY].as_bytes());
        tokio::spawn(talk(upgrade, seen.clone()));
        return Response::builder()
            .status(101)
            .header(header::CONNECTION, "Upgrade")
            .header(header::UPGRADE, "websocket")
            .header(header::SEC_WEBSOCKET_ACCEPT, accept)
            .body(Full::default())
            .unwrap();
    }
    let signature = request.headers().get("X-Twilio-Signature").cloned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    let form = Form::parse(&body);
    let portless = format!("https://127.0.0.1{path}");
    assert_eq!(signature.unwrap(), sign(TOKEN, &portless, Some(&form)).as_str());
    let call_sid = form.first("CallSid").unwrap_or_default();
    seen.lock().unwrap().push(format!("{path} {call_sid} {}", form.first("RecordingSid").unwrap_or_default()));
    let twiml = match path.as_str() {
        "/webhook/incoming_call" => {
            let _ = caller.try_send(call_sid.to_owned());
            format!(
                r#"<Response><Connect action="/webhook/stream_ended"><Stream url="wss{}/ws/twilio-media">
                <Parameter name="token" value="t"/></Stream></Connect></Response>"#,
                base.trim_start_matches("https")
            )
        }
        "/webhook/handle_recording" => "<Response><Hangup/></Response>".to_owned(),
        _ => String::new(),
    };
    Response::builder().header(header::CONTENT_TYPE, "text/xml").body(Full::new(Bytes::from(twiml))).unwrap()
}

/// Greets with a tone and a mark, as a box does, and notes what comes.
async fn talk(upgrade: hyper::upgrade::OnUpgrade, seen: Arc<Mutex<Vec<String>>>) {
    let stream = TokioIo::new(upgrade.await.unwrap());
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Server, None).await;
    while let Some(Ok(message)) = socket.next().await {
        let Message::Text(text) = message else { continue };
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let event = json["event"].as_str().unwrap().to_owned();
        if event == "start" {
            assert_eq!(json["start"]["customParameters"]["token"], "t");
            let stream_sid = &json["streamSid"];
            let tone = BASE64_STANDARD.encode(vec![0u8; 1600]);
            for reply in [
                format!(r#"{{"event":"media","streamSid":{stream_sid},"media":{{"payload":"{tone}"}}}}"#),
                format!(r#"{{"event":"mark","streamSid":{stream_sid},"mark":{{"name":"tone"}}}}"#),
            ] {
                socket.send(Message::text(reply)).await.unwrap();
            }
        }
        seen.lock().unwrap().push(format!("ws {event}"));
    }
}

async fn rest(port: u16, method: &str, resource: &str, body: String) -> Reply {
    let account = AccountSid::from_number(1);
    let request = Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:{port}/2010-04-01/Accounts/{account}/{resource}"))
        .header("Authorization", format!("Basic {}", BASE64_STANDARD.encode(format!("{account}:{TOKEN}"))))
        .body(Bytes::from(body))
        .unwrap();
    let client = HttpClient::new(&Roots::Insecure, Duration::from_secs(3)).unwrap();
    client.send(request, Duration::from_secs(8), 1 << 20).await.unwrap()
}

async fn free_port() -> u16 {
    tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_streams_over_tls_with_valid_signatures() {
    let office = Office::open().await;
    let mut options = office.options(None, free_port().await);
    options.hang_up_after = Duration::from_secs(2);
    let mut out = Vec::new();
    assert!(call_tool::call(&options, &mut out).await.unwrap(), "{}", String::from_utf8_lossy(&out));
    let out = String::from_utf8(out).unwrap();
    assert!(out.contains("1 streamed") && out.contains("tone heard, marks 1"), "{out}");
    assert_eq!((office.saw("ws start"), office.saw("ws mark"), office.saw("ws stop")), (1, 1, 1));
    assert!(office.saw("ws media") > 10);
    assert_eq!((office.saw("/webhook/stream_ended"), office.saw("/webhook/call_status")), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_without_stream_goes_to_the_recorder_by_rest_and_its_audio_can_be_fetched() {
    let mut office = Office::open().await;
    let port = free_port().await;
    let options = office.options(Some(NamedFault::NoStream), port);
    let tool = tokio::spawn(async move {
        let mut out = Vec::new();
        let kept = call_tool::call(&options, &mut out).await.unwrap();
        (kept, String::from_utf8(out).unwrap())
    });
    let call_sid = office.callers.recv().await.unwrap();
    // Whether the call has reached its <Connect> is for Twilio to know: a box asks again too.
    let form = Form::from_pairs([("Twiml", RECORD.replace("BASE", &office.base))]);
    while rest(port, "POST", &format!("Calls/{call_sid}.json"), form.encode()).await.status != 200 {
        tokio::task::yield_now().await;
    }
    while office.saw("/webhook/handle_recording") == 0 {
        tokio::task::yield_now().await;
    }
    let recording_sid =
        office.seen.lock().unwrap().iter().find_map(|line| {
            line.strip_prefix("/webhook/handle_recording")?.split_whitespace().nth(1).map(str::to_owned)
        });
    let media = format!("Recordings/{}.wav", recording_sid.unwrap());
    assert_eq!(rest(port, "GET", &media, String::new()).await.status, 404, "it comes a little late");
    while office.saw("/webhook/recording_status") == 0 {
        tokio::task::yield_now().await;
    }
    let wav = rest(port, "GET", &media, String::new()).await;
    assert_eq!((wav.status, &wav.body[..4]), (200, &b"RIFF"[..]));
    let (kept, out) = tool.await.unwrap();
    assert!(kept && out.contains("1 recorded") && out.contains("rest_updates 1"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_handshake_tool_tries_both_paths_and_the_twiml_tool_prints_the_answer() {
    let office = Office::open().await;
    let options = office.options(None, 0);
    let mut out = Vec::new();
    assert!(call_tool::handshake(&options, &mut out).await.unwrap());
    assert_eq!(String::from_utf8(out).unwrap().matches("101 Switching Protocols").count(), 2);
    let mut out = Vec::new();
    assert!(call_tool::print_twiml(&options, &mut out).await.unwrap());
    assert!(String::from_utf8(out).unwrap().contains("<Connect action="));
    assert_eq!(office.saw("/webhook/call_status"), 1, "the gateway's place is given back");
}
