//! Days of the real program with every fault, every kind of stranger and `log.level = trace`: each event of the log comes
//! with what it must carry, and nothing that is written anywhere is a secret.

use std::{collections::BTreeSet, net::SocketAddr, panic, thread, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use futures_util::SinkExt;
use hyper::{Method, Request};
use kolbox::{
    simulator::{media_client, upstream::Upstream},
    system::http_client::{HttpClient, Reply, Roots, tls_client_config},
    twilio::{signature::sign, webhook::Form},
};
use process::{ACCOUNT_SID, AUTH_TOKEN, Office, PATIENCE, Serve};
use serde_json::Value;
use tokio::{io::AsyncWriteExt, net::TcpStream, runtime::Runtime};
use tokio_tungstenite::tungstenite::Message;

#[path = "support/process.rs"]
mod process;

const SECONDARY: &str = "5ec0ndary5ec0ndary5ec0ndary5ec0n";
const API_KEY_SECRET: &str = "Ap1KeySecretAp1KeySecretAp1KeySe";
const SYNC_TOKEN: &str = "5yncT0ken5yncT0ken";
const PASSWORD: &str = "0pen5esameStatus";
const WRONG_PASSWORD: &str = "0pen5esameStatuz";
/// Nobody's, and yet somebody typed it.
const WRONG_TOKEN: &str = "badt0kenbadt0kenbadt00";
/// Of the callers that the tests and `kolbox call` make up; as they are dialled abroad and at home.
const NUMBERS: [&str; 5] = ["972541112233", "541112233", "972501234567", "501234567", "97231234567"];
const CALLER: &str = "+972541112233";
const FAULTS: [&str; 4] = ["media-stops", "drop", "slow-rest", "no-stream"];

/// Every event name that operators may build upon.
const EVENTS: [&str; 20] = [
    "REQ",
    "RES",
    "WS_CONNECTED",
    "WS_START",
    "WS_FRAME",
    "WS_STOP",
    "WS_CLOSED",
    "WS_BAD_JSON",
    "WS_HANDLER_ERROR",
    "WD_NO_STREAM_START",
    "WD_NO_MEDIA",
    "WD_REDIRECTED",
    "WD_REDIRECT_FAILED",
    "CALL_ANSWERED",
    "CALL_ENDED",
    "RECORDING_RECEIVED",
    "TRANSCRIPT_STORED",
    "TRANSCRIPT_SYNCED",
    "SYNC_FAILED",
    "LED",
];

#[test]
fn a_day_in_json_has_every_event_with_its_call_and_no_secret() {
    let (written, secrets) = Day::new("json", &[]).run();
    assert_nothing_secret(&written, &secrets);
    let lines: Vec<Value> = written.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let happened: BTreeSet<&str> = lines.iter().filter_map(|line| line["event"].as_str()).collect();
    assert_eq!(happened, BTreeSet::from(EVENTS));
    for line in &lines {
        assert!(line["target"].as_str().unwrap().starts_with("kolbox"), "a library speaks at trace: {line}");
        assert_carries_what_it_must(line);
    }
}

#[test]
fn a_day_in_text_has_no_secret_and_no_character_that_moves_a_cursor() {
    let (written, secrets) = Day::new("text", &[]).run();
    assert_nothing_secret(&written, &secrets);
    for line in written.lines() {
        assert!(!line.contains(char::is_control), "{line:?}");
    }
}

#[test]
fn no_fault_and_no_refusing_twilio_brings_a_secret_into_the_log() {
    thread::scope(|scope| {
        for fault in FAULTS {
            scope.spawn(move || assert_nothing_secret(&ring_with(fault, &[]), &[]));
        }
        // With a key that this Twilio does not know: every redirect is answered with 401.
        let key = [
            ("KOLBOX_TWILIO__API_KEY_SID", "SK00000000000000000000000000000001"),
            ("KOLBOX_TWILIO__API_KEY_SECRET", API_KEY_SECRET),
        ];
        scope.spawn(move || {
            let office = Office::new(&[&settings("json")[..], &key].concat());
            let serve = office.serve_unparsed();
            let call = office.call(&["--audio", &office.speech(SECOND), "--fault", "no-media", "--hang-up", "15s"]);
            assert!(serve.wait_for_text("WD_REDIRECT_FAILED").contains("Unauthorized"));
            drop(call);
            serve.terminate();
            assert_nothing_secret(&serve.end_unparsed().1, &[]);
        });
    });
}

/// A search that finds nothing must be one that would find.
#[test]
fn each_kind_of_secret_would_be_found() {
    let sent = "0123456789abcdefghijkl".to_owned();
    for leak in [AUTH_TOKEN, PASSWORD, &CALLER[1..], &sent, "0/KCTR6DLpKmkAf8muzZqo1nDgQ="] {
        let written = format!("INFO REQ path=/webhook/incoming_call\nDEBUG headers: {{\"a\": \"{leak}\"}}\n");
        let found = panic::catch_unwind(|| assert_nothing_secret(&written, std::slice::from_ref(&sent)));
        assert!(found.is_err(), "{leak}");
    }
    assert_nothing_secret("INFO from=…233 call_sid=CA00000000000000000000000000000001", &[sent]);
}

const SECOND: Duration = Duration::from_secs(1);

fn settings(format: &'static str) -> [(&'static str, &'static str); 7] {
    [
        ("KOLBOX_LOG__LEVEL", "trace"),
        ("KOLBOX_LOG__FORMAT", format),
        ("KOLBOX_TWILIO__AUTH_TOKEN_SECONDARY", SECONDARY),
        ("KOLBOX_STATUS__PASSWORD", PASSWORD),
        ("KOLBOX_WATCHDOG__START_TIMEOUT", "1s"),
        ("KOLBOX_WATCHDOG__NO_MEDIA_TIMEOUT", "1s"),
        ("KOLBOX_CALLS__DRAIN", "0s"),
    ]
}

/// What a gateway writes while one call has this fault.
fn ring_with(fault: &str, more: &[(&str, &str)]) -> String {
    let office = Office::new(&[&settings("json")[..], more].concat());
    let serve = office.serve_unparsed();
    let finished = office.call(&["--audio", &office.speech(2 * SECOND), "--fault", fault]).finish();
    assert_eq!(finished.code, Some(0), "{fault}: {}", finished.out);
    serve.wait_for_text("TRANSCRIPT_STORED");
    serve.terminate();
    serve.end_unparsed().1
}

/// One gateway and all who come to it.
struct Day {
    office: Office,
    serve: Serve,
    upstream: Upstream,
    runtime: Runtime,
    client: HttpClient,
    /// What was sent in the course of the day, and must not be read in the log.
    secrets: Vec<String>,
}

impl Day {
    fn new(format: &'static str, more: &[(&str, &str)]) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let upstream = runtime.block_on(Upstream::serve(process::free_address(), SYNC_TOKEN)).unwrap();
        upstream.set_down(true);
        let url = format!("http://{}/transcripts", upstream.address());
        let sync = [("KOLBOX_SYNC__URL", url.as_str()), ("KOLBOX_SYNC__TOKEN", SYNC_TOKEN)];
        let office = Office::new(&[&settings(format)[..], &sync, more].concat());
        let serve = office.serve_unparsed();
        let client = HttpClient::new(&Roots::Insecure, PATIENCE).unwrap();
        Self { office, serve, upstream, runtime, client, secrets: Vec::new() }
    }

    /// All that was written, and what must not be in it.
    fn run(mut self) -> (String, Vec<String>) {
        self.strangers_come();
        self.staff_come();
        self.two_calls_find_no_rest();
        let speech = self.office.speech(SECOND);
        for fault in ["bad-json", "no-media"] {
            let finished = self.office.call(&["--audio", &speech, "--fault", fault]).finish();
            assert_eq!(finished.code, Some(0), "{fault}: {}", finished.out);
        }
        self.serve.wait_for_text("SYNC_FAILED");
        self.upstream.set_down(false);
        let mut taken = self.upstream.watch();
        // Those that found no REST side still wait for their recordings.
        self.runtime.block_on(in_time(taken.wait_for(|count| *count >= 2))).unwrap();
        self.serve.wait_for_text("TRANSCRIPT_SYNCED");
        self.serve.terminate();
        let (code, written) = self.serve.end_unparsed();
        assert_eq!(code, Some(0), "{written}");
        (written, self.secrets)
    }

    /// Those who cannot sign, sign wrongly, or speak no HTTP at all.
    fn strangers_come(&mut self) {
        let form = self.form(1, &[("CallStatus", "ringing")]);
        let query = format!("/webhook/incoming_call?{}&{}", form.encode(), CALLER.replace('+', "%2B"));
        let url = self.url("https", "/webhook/incoming_call");
        let forged = sign(WRONG_TOKEN, &url, Some(&form));
        let elsewhere = sign(AUTH_TOKEN, "https://other.example/webhook/incoming_call", Some(&form));
        for (signature, status) in
            [(None, 403), (Some(forged), 403), (Some(elsewhere), 403), (Some("short".into()), 403)]
        {
            let headers = [("X-Forwarded-Host", "other.example"), ("X-Forwarded-For", "8.8.8.8")];
            assert_eq!(self.post("incoming_call", &form, signature.clone(), &headers).status, status);
            let reply = self.send(self.public(), Method::GET, &query, signature, &[], Bytes::new());
            assert_eq!(reply.status, status);
        }
        let method = Method::from_bytes(b"BREW").unwrap();
        self.send(self.public(), method, "/no/%d7%90%1b[31m%0a", None, &[], Bytes::from_static(b"\xff\xfe"));
        let address = self.office.public;
        self.runtime.block_on(async {
            for garbage in
                [&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], b"GET / HTTP/1.1\r\n\r\n", b"\x00\x1b[2J"]
            {
                TcpStream::connect(address).await.unwrap().write_all(garbage).await.unwrap();
            }
        });
    }

    /// The status page, with the right password and with a wrong one, in a header and in a form.
    fn staff_come(&mut self) {
        let status = format!("http://{}", self.office.status);
        let origin = status.clone();
        for password in [PASSWORD, WRONG_PASSWORD] {
            let basic = BASE64_STANDARD.encode(format!("kolbox:{password}"));
            let header = format!("Basic {basic}");
            self.secrets.push(basic);
            for path in ["/", "/api/status", "/login", "/metrics"] {
                let headers = [("Authorization", header.as_str())];
                self.send(status.clone(), Method::GET, path, None, &headers, Bytes::new());
            }
            let form = Form::from_pairs([("user", "kolbox"), ("password", password)]).encode();
            let headers = [("Content-Type", "application/x-www-form-urlencoded"), ("Origin", origin.as_str())];
            self.send(status.clone(), Method::POST, "/login", None, &headers, form.into());
        }
    }

    /// Of two calls that are answered one gets no stream, the other one's is refused and breaks; and Twilio's REST side is
    /// not there.
    fn two_calls_find_no_rest(&mut self) {
        self.ask_for_a_stream(3);
        let token = self.ask_for_a_stream(2);

        let rates = self.form(2, &[("StreamEvent", "stream-started"), ("CallStatus", "in-progress")]);
        let signature = self.signed(sign(SECONDARY, &self.url("https", "/webhook/stream_status"), Some(&rates)));
        assert_eq!(self.post("stream_status", &rates, Some(signature), &[]).status, 204);

        let handshake = self.url("wss", "/ws/twilio-media");
        self.signed(sign(AUTH_TOKEN, &handshake, None));
        let start = |token: &str| start(&call_sid(2), token);
        let bad = format!(r#"{{"event":"start","start":{{"customParameters":{{"token":"{token}"}}"#);
        let number = format!(r#"{{"event":"media","media":"{CALLER} {token}"}}"#);
        self.speak(&handshake, &[bad.clone(), number.clone(), start(WRONG_TOKEN)]);
        self.speak(&handshake, &[start(&token), bad, number, "x".repeat(70_000)]);

        self.serve.wait_for_text("WD_NO_STREAM_START");
        self.serve.wait_for_text("WD_REDIRECT_FAILED");
        for number in [2, 3] {
            let over = self.form(number, &[("CallStatus", "completed")]);
            let signature = self.signed(sign(AUTH_TOKEN, &self.url("https", "/webhook/call_status"), Some(&over)));
            assert_eq!(self.post("call_status", &over, Some(signature), &[]).status, 204);
        }
    }

    /// Asks by GET, as a number may be set to: the caller stands in the query. The token that the answer gives.
    fn ask_for_a_stream(&mut self, number: u32) -> String {
        let ringing = self.form(number, &[("CallStatus", "ringing")]);
        let query = format!("/webhook/incoming_call?{}", ringing.encode());
        let signature = self.signed(sign(AUTH_TOKEN, &self.url("https", &query), None));
        let answer = self.send(self.public(), Method::GET, &query, Some(signature), &[], Bytes::new());
        let answer = String::from_utf8(answer.body.to_vec()).unwrap();
        let (_, token) = answer.split_once(r#"name="token" value=""#).expect("a token");
        let token = token.split('"').next().unwrap().to_owned();
        assert_eq!(token.len(), 22);
        self.secrets.push(token.clone());
        token
    }

    /// Opens a media socket, says this, and waits for its end.
    fn speak(&self, url: &str, messages: &[String]) {
        let tls = tls_client_config(&Roots::Insecure).unwrap().into();
        self.runtime.block_on(async {
            let (mut socket, _) = media_client::open(tls, AUTH_TOKEN, url).await.unwrap();
            for message in messages {
                socket.send(Message::text(message.as_str())).await.unwrap();
            }
            // Until the gateway closes: with 1008 after the one, 1009 after the other.
            in_time(futures_util::StreamExt::for_each(socket, |_| async {})).await;
        });
    }

    fn form(&self, number: u32, more: &[(&str, &str)]) -> Form {
        let call_sid = call_sid(number);
        let usual =
            [("CallSid", call_sid.as_str()), ("AccountSid", ACCOUNT_SID), ("From", CALLER), ("To", "+97231234567")];
        Form::from_pairs(usual.iter().chain(more).copied())
    }

    fn signed(&mut self, signature: String) -> String {
        self.secrets.push(signature.clone());
        signature
    }

    fn post(&mut self, route: &str, form: &Form, signature: Option<String>, headers: &[(&str, &str)]) -> Reply {
        let form_type = ("Content-Type", "application/x-www-form-urlencoded");
        let headers = [&[form_type], headers].concat();
        self.send(self.public(), Method::POST, &format!("/webhook/{route}"), signature, &headers, form.encode().into())
    }

    fn send(
        &mut self,
        base: String,
        method: Method,
        target: &str,
        signature: Option<String>,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(format!("{base}{target}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some(signature) = signature {
            request = request.header("X-Twilio-Signature", &signature);
            self.secrets.extend((signature.len() == 28).then_some(signature));
        }
        self.runtime.block_on(self.client.send(request.body(body).unwrap(), PATIENCE, 1 << 20)).unwrap()
    }

    fn public(&self) -> String {
        self.url("https", "")
    }

    fn url(&self, scheme: &str, target: &str) -> String {
        let address: SocketAddr = self.office.public;
        format!("{scheme}://{address}{target}")
    }
}

/// Far longer than anything takes.
async fn in_time<T>(event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.expect("it happens")
}

fn call_sid(number: u32) -> String {
    format!("CA{number:032}")
}

fn start(call_sid: &str, token: &str) -> String {
    let stream_sid = format!("MZ{:032}", 1);
    serde_json::json!({
        "event": "start", "sequenceNumber": "1", "streamSid": stream_sid,
        "start": {
            "streamSid": stream_sid, "accountSid": ACCOUNT_SID, "callSid": call_sid, "tracks": ["inbound"],
            "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
            "customParameters": {"call_sid": call_sid, "token": token},
        },
    })
    .to_string()
}

#[track_caller]
fn assert_nothing_secret(written: &str, sent: &[String]) {
    let basic = |user: &str, secret: &str| BASE64_STANDARD.encode(format!("{user}:{secret}"));
    let made = [basic(ACCOUNT_SID, AUTH_TOKEN), basic("SK00000000000000000000000000000001", API_KEY_SECRET)];
    let fixed = [AUTH_TOKEN, SECONDARY, API_KEY_SECRET, SYNC_TOKEN, PASSWORD, WRONG_PASSWORD, WRONG_TOKEN];
    let secrets = fixed.iter().chain(&NUMBERS).copied().chain(made.iter().chain(sent).map(String::as_str));
    for secret in secrets {
        let line = written.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret} is told");
    }
    // Signatures that were not noted down: 27 characters of base64 and the sign of its end.
    let is_base64 = |character: char| character.is_ascii_alphanumeric() || "+/=".contains(character);
    let is_signature = |word: &&str| word.len() == 28 && word.ends_with('=') && !word.ends_with("==");
    let signature = written.split(|character| !is_base64(character)).find(is_signature);
    assert_eq!(signature, None, "this looks like a signature");
}

/// The fields that an event's line must have.
fn assert_carries_what_it_must(line: &Value) {
    let has = |names: &[&str]| {
        for name in names {
            assert!(!line[*name].is_null(), "{name} is missing: {line}");
        }
    };
    match line["event"].as_str() {
        Some("REQ") => has(&["method", "path"]),
        Some("RES") => {
            has(&["method", "path", "status"]);
            assert_eq!(line["level"], "INFO");
        }
        Some("WS_START" | "WS_FRAME" | "WS_STOP" | "WD_NO_MEDIA") => has(&["call_sid", "stream_sid"]),
        Some("WD_NO_STREAM_START" | "WD_REDIRECTED" | "WD_REDIRECT_FAILED" | "CALL_ANSWERED" | "CALL_ENDED") => {
            has(&["call_sid"]);
        }
        Some("RECORDING_RECEIVED" | "TRANSCRIPT_STORED" | "TRANSCRIPT_SYNCED" | "SYNC_FAILED") => has(&["call_sid"]),
        _ => {}
    }
}
