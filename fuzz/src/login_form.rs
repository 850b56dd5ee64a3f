//! Whoever comes to the status side: the first line says from where, then a request as HTTP/1.1 writes it, an empty line,
//! and its body.
//!
//! The whole site answers, with its throttle, its sessions and its password.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::{
        Arc, LazyLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{
    HeaderMap, Method, Request, StatusCode,
    header::{self, HeaderValue},
    http::request::Parts,
};
use jiff::Timestamp;
use kolbox::{
    board::lamps::Lamps,
    calls::CallState,
    config,
    limits::{FORM_PAIRS_MAX, STATUS_BODY_BYTES_MAX},
    status::{
        answer::{Answer, SECURITY, is_event_stream},
        body,
        caller::Caller,
        hosts::{Hosts, own_name},
        origin::{Poster, Scheme},
        request,
        routes::{Behind, Client, StatusSite},
        snapshot::{AudioUse, CallNow, Snapshot, SyncState, TranscriptCounts, WatchdogCounts},
    },
    transcripts::RetryError,
    twilio::webhook::Form,
};
use prometheus_client::registry::Registry;
use tokio::{
    runtime::{Builder, Runtime},
    sync::watch,
};
use url::Url;

use super::text::{first_line, head};

const PASSWORD: &str = "open sesame";
const CREDENTIALS: &str = "kolbox:open sesame";
const CONFIGURED: &str = "status.example.co.il";
/// A caller's number, and the digits of it that only staff may see.
const NUMBER: &str = "+972501234567";
const HIDDEN_DIGITS: &str = "5012345";
/// Different addresses that the first line can name: of each, one wrong password a second is hashed.
const ADDRESSES: u8 = 2;
/// Base64url of 16 bytes.
const SESSION_ID_BYTES: usize = 22;

/// The site, and what it needs around it.
struct Stage {
    runtime: Runtime,
    site: StatusSite,
    hosts: Hosts,
    retries: Arc<AtomicUsize>,
    _ends: (watch::Sender<Arc<Snapshot>>, watch::Sender<bool>),
}

static STAGE: LazyLock<Stage> = LazyLock::new(|| {
    let (snapshot_end, snapshot) = watch::channel(Arc::new(snapshot()));
    let (stop, stopped) = watch::channel(false);
    let retries = Arc::<AtomicUsize>::default();
    let counted = retries.clone();
    let settings =
        config::Status { password: PASSWORD.into(), hosts: vec![CONFIGURED.into()], ..config::Status::default() };
    let behind = Behind {
        snapshot,
        figures: Registry::default(),
        retry: Arc::new(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Box::pin(std::future::ready(Err(RetryError::NotParked)))
        }),
        stopped,
    };
    Stage {
        runtime: Builder::new_current_thread().enable_time().build().expect("a runtime"),
        site: StatusSite::new(&settings, behind),
        hosts: Hosts::new([CONFIGURED], &own_name()),
        retries,
        _ends: (snapshot_end, stop),
    }
});

pub fn run(data: &[u8]) {
    let (from, rest) = first_line(data);
    let end = rest.windows(2).position(|pair| pair == b"\n\n");
    let (written, form) = end.map_or((rest, &rest[rest.len()..]), |end| (&rest[..end], &rest[end + 2..]));
    let Some(parts) = head(written) else { return };
    let last = from.first().map_or(0, |byte| byte % ADDRESSES);
    let client = Client { address: IpAddr::V4(Ipv4Addr::new(192, 0, 2, last)), tls: from.len() > 1 };
    check_fields(form);
    check_poster(&parts);
    STAGE.check_answer(parts, form, client);
}

/// Both sides of the box read a form alike.
fn check_fields(form: &[u8]) {
    let read = Form::parse(form);
    if read.pairs().count() < FORM_PAIRS_MAX {
        for name in ["password", "lang", ""] {
            assert_eq!(body::field(form, name).as_deref(), read.first(name), "{name}");
        }
    }
    assert_eq!(request::form_language(form).map(|language| language.code()).unwrap_or("en").len(), 2);
}

/// What counts as the box's own page is what a browser calls the same origin.
fn check_poster(parts: &Parts) {
    let origins: Vec<_> = parts.headers.get_all(header::ORIGIN).iter().collect();
    match request::poster(parts) {
        Some(Poster::OwnPage(scheme)) => {
            let scheme = if scheme == Scheme::Https { "https" } else { "http" };
            let [origin] = origins[..] else { panic!("{} origins", origins.len()) };
            let origin = origin.to_str().expect("a text");
            let host = request::host(parts).expect("a host");
            if let (Ok(page), Ok(own)) = (Url::parse(origin), Url::parse(&format!("{scheme}://{host}/"))) {
                assert_eq!(page.origin(), own.origin(), "{origin} {host}");
            }
        }
        Some(Poster::Program) => {
            let kind = parts.headers[header::CONTENT_TYPE].to_str().expect("a text").trim().to_ascii_lowercase();
            assert!(origins.is_empty() && parts.headers.contains_key(header::AUTHORIZATION));
            assert!(kind.starts_with("application/json"), "{kind}");
        }
        None => {}
    }
}

/// Whether these headers give the password by HTTP Basic.
fn is_staff(headers: &HeaderMap) -> bool {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some((scheme, encoded)) = given.and_then(|given| given.split_once(' ')) else { return false };
    scheme.eq_ignore_ascii_case("basic") && STANDARD.decode(encoded.trim()).is_ok_and(|it| it == CREDENTIALS.as_bytes())
}

/// The session's id, if this answer logs somebody in.
fn session(answer: &Answer) -> Option<String> {
    let cookie = answer.headers().get(header::SET_COOKIE)?.to_str().expect("a text");
    let id = cookie.strip_prefix("kolbox_session=").expect("our cookie").split(';').next().unwrap_or_default();
    assert!(cookie.contains("; HttpOnly; SameSite=Strict"), "{cookie}");
    (!id.is_empty()).then(|| id.to_owned())
}

impl Stage {
    fn check_answer(&self, parts: Parts, form: &[u8], client: Client) {
        let (is_staff, is_login) = (is_staff(&parts.headers), self.is_login(&parts, form));
        let (method, retries) = (parts.method.clone(), self.retries.load(Ordering::Relaxed));
        let (answer, text) = self.ask(parts, form, client);
        let status = answer.status();
        for (name, value) in SECURITY {
            assert_eq!(answer.headers()[name], value);
        }
        assert!(status != StatusCode::INTERNAL_SERVER_ERROR && (method != Method::HEAD || text.is_empty()));
        assert!(!text.contains(PASSWORD), "the password is told");
        if !is_staff {
            assert!(!text.contains(HIDDEN_DIGITS), "a caller's number is shown to anybody");
            assert_eq!(self.retries.load(Ordering::Relaxed), retries, "anybody can act");
        }
        match session(&answer) {
            Some(id) => {
                assert!(is_login, "somebody came in without the password");
                self.check_session(&id, client);
            }
            None if is_login => assert!(matches!(status.as_u16(), 429 | 503), "the password is not taken: {status}"),
            None => {}
        }
    }

    /// Whether this is how a person logs in.
    fn is_login(&self, parts: &Parts, form: &[u8]) -> bool {
        parts.method == Method::POST
            && parts.uri.path() == "/login"
            && request::host(parts).is_some_and(|host| self.hosts.allow(host))
            && matches!(request::poster(parts), Some(Poster::OwnPage(_)))
            && request::is_form(&parts.headers)
            && form.len() <= STATUS_BODY_BYTES_MAX
            && Form::parse(form).first("password") == Some(PASSWORD)
    }

    /// From its login to its logout a session shows what it should, and then nothing.
    fn check_session(&self, id: &str, client: Client) {
        assert_eq!(id.len(), SESSION_ID_BYTES);
        let follow = |method: Method, path: &str| {
            let request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1");
            let request = request.header(header::ORIGIN, "http://127.0.0.1");
            let cookie = HeaderValue::try_from(format!("a=b; kolbox_session={id}")).expect("a header");
            let parts = request.header(header::COOKIE, cookie).body(()).expect("a request").into_parts().0;
            self.ask(parts, b"", client)
        };
        assert!(follow(Method::GET, "/api/status").1.contains(NUMBER));
        assert_eq!(follow(Method::POST, "/logout").0.status(), StatusCode::SEE_OTHER);
        assert!(!follow(Method::GET, "/api/status").1.contains(HIDDEN_DIGITS));
    }

    /// The answer, and its body where that has an end.
    fn ask(&self, parts: Parts, form: &[u8], client: Client) -> (Answer, String) {
        let request = Request::from_parts(parts, Full::new(Bytes::copy_from_slice(form)));
        self.runtime.block_on(async {
            let mut answer = self.site.route(request, client).await;
            if is_event_stream(&answer) {
                return (answer, String::new());
            }
            let text = answer.body_mut().collect().await.expect("no error").to_bytes();
            (answer, String::from_utf8_lossy(&text).into_owned())
        })
    }
}

/// One caller on the line.
fn snapshot() -> Snapshot {
    let at = Timestamp::UNIX_EPOCH;
    Snapshot {
        at,
        uptime: Duration::from_secs(60),
        version: "0.1.0",
        board_profile: "none".into(),
        lamps: Lamps::new(Instant::now()).view(),
        draining: false,
        calls: vec![CallNow {
            call_sid: "CA0aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".into(),
            from: Caller::new(NUMBER),
            state: CallState::Streaming,
            since: at,
            last_media_ago: Some(Duration::from_millis(20)),
            last_words: None,
        }],
        active: 1,
        capacity: 64,
        watchdog: WatchdogCounts::default(),
        transcripts: TranscriptCounts::default(),
        audio: AudioUse::default(),
        speech: None,
        storage: None,
        sync: SyncState::default(),
        recent: Vec::new(),
        troubles: Vec::new(),
    }
}
