//! The status listener's routes, asked as browsers, programs and strangers do.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Method, Request, StatusCode, header};
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::{
    answer::{Answer, KEPT_FOR_GOOD, NEVER_KEPT, SECURITY},
    assets, metrics,
    routes::{Behind, Client, RetryHook, StatusSite},
    samples,
    snapshot::Snapshot,
};
use crate::{
    config,
    limits::{EVENT_STREAMS_MAX, PASSWORD_PAUSE, STATUS_BODY_BYTES_MAX},
    transcripts::RetryError,
};

const PASSWORD: &str = "open sesame";
const HOST: (&str, &str) = ("host", "192.168.1.20:8080");
const OWN: (&str, &str) = ("origin", "http://192.168.1.20:8080");
const FORM: (&str, &str) = ("content-type", "application/x-www-form-urlencoded");
const JSON: (&str, &str) = ("content-type", "application/json");
const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
const PARKED: &str = "01JD0000000000000000000001";
/// As in the samples: known, and not parked.
const DELIVERED: &str = "01JD0000000000000000000000";
const CLIENT: Client = Client { address: IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), tls: false };

/// A site in front of a test.
struct Fixture {
    site: StatusSite,
    retried: Arc<Mutex<Vec<String>>>,
    snapshot: watch::Sender<Arc<Snapshot>>,
    _stop: watch::Sender<bool>,
}

fn fixture(password: &str) -> Fixture {
    let (sender, snapshot) = watch::channel(Arc::new(samples::trouble()));
    let (stop, stopped) = watch::channel(false);
    let retried = Arc::<Mutex<Vec<String>>>::default();
    let retry: RetryHook = Arc::new({
        let retried = retried.clone();
        move |id| {
            retried.lock().unwrap().push(id.to_string());
            let done = if id.to_string() == PARKED { Ok(()) } else { Err(RetryError::NotParked) };
            Box::pin(std::future::ready(done))
        }
    });
    let settings = config::Status {
        password: password.into(),
        hosts: vec!["status.example.co.il".into()],
        ..config::Status::default()
    };
    let behind = Behind { snapshot, figures: Registry::default(), retry, stopped };
    Fixture { site: StatusSite::new(&settings, behind), retried, snapshot: sender, _stop: stop }
}

impl Fixture {
    async fn ask(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask_as(CLIENT, method, path, headers, body).await
    }

    async fn ask_as(&self, client: Client, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let builder = Request::builder().method(method).uri(path);
        let builder = headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value));
        self.site.route(builder.body(Full::new(Bytes::from(body.to_owned()))).unwrap(), client).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[HOST], "").await
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        self.ask(Method::POST, path, headers, body).await
    }

    /// The cookie of a fresh login, as a browser sends it back.
    async fn log_in(&self) -> String {
        let answer = self.post("/login", &[HOST, OWN, FORM], "password=open+sesame").await;
        let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    }
}

fn basic(credentials: &str) -> String {
    format!("Basic {}", STANDARD.encode(credentials))
}

async fn text_of(answer: Answer) -> String {
    String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
}

fn location(answer: &Answer) -> &str {
    answer.headers()[header::LOCATION].to_str().unwrap()
}

#[tokio::test]
async fn every_route_answers_what_it_promises() {
    let box_ = fixture("");
    let page = box_.get("/").await;
    assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
    assert_eq!(page.headers()[header::CONTENT_LANGUAGE], "he");
    assert!(text_of(page).await.contains("dir=\"rtl\""));
    assert!(text_of(box_.get("/?lang=en").await).await.contains("2 things need attention"));
    let status = box_.get("/api/status").await;
    assert_eq!(status.headers()[header::CONTENT_TYPE], "application/json");
    assert!(text_of(status).await.starts_with('{'));
    assert_eq!(text_of(box_.get("/healthz").await).await, "ok");
    let figures = box_.get("/metrics").await;
    assert_eq!(figures.headers()[header::CONTENT_TYPE], metrics::CONTENT_TYPE);
    assert!(text_of(figures).await.contains("\nkolbox_parked_transcripts 1\n"));
    let events = box_.get("/api/events").await;
    assert_eq!(events.headers()[header::CONTENT_TYPE], "text/event-stream");
    let first = events.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
    assert!(first.starts_with(b"retry: 3000\ndata: {\"version\":"));
    for unknown in ["/nothing", "/static/status/../page.css", "/api/transcripts/", "/api/transcripts/x/retry/y"] {
        assert_eq!(box_.get(unknown).await.status(), StatusCode::NOT_FOUND, "{unknown}");
    }
}

#[tokio::test]
async fn every_answer_keeps_the_page_to_itself() {
    let box_ = fixture(PASSWORD);
    for path in
        ["/", "/login", "/api/status", "/api/events", "/metrics", "/healthz", "/nothing", "/static/status/page.js"]
    {
        let answer = box_.get(path).await;
        for (name, value) in SECURITY {
            assert_eq!(answer.headers()[&name], value, "{path}");
        }
        assert_eq!(answer.headers()[header::CACHE_CONTROL], NEVER_KEPT, "{path}");
    }
}

#[tokio::test]
async fn assets_are_kept_for_good_only_under_their_edition() {
    let box_ = fixture("");
    let asset = box_.get(&format!("/static/status/page.js?v={}", *assets::EDITION)).await;
    assert_eq!(asset.headers()[header::CACHE_CONTROL], KEPT_FOR_GOOD);
    assert_eq!(asset.headers()[header::CONTENT_TYPE], "text/javascript; charset=utf-8");
    let older = box_.get("/static/status/page.css?v=older").await;
    assert_eq!(older.headers()[header::CACHE_CONTROL], NEVER_KEPT);
}

#[tokio::test]
async fn head_tells_the_length_and_sends_nothing_and_takes_no_event_streams_place() {
    let box_ = fixture("");
    let whole = box_.get("/api/status").await;
    let head = box_.ask(Method::HEAD, "/api/status", &[HOST], "").await;
    assert_eq!(head.status(), StatusCode::OK);
    assert_eq!(head.headers()[header::CONTENT_LENGTH], whole.headers()[header::CONTENT_LENGTH]);
    assert_eq!(text_of(head).await, "");
    let events = box_.ask(Method::HEAD, "/api/events", &[HOST], "").await;
    assert_eq!(events.headers()[header::CONTENT_TYPE], "text/event-stream");
    assert_eq!(text_of(events).await, "");
    assert!(text_of(box_.get("/metrics").await).await.contains("\nkolbox_status_event_streams 0\n"));
}

#[tokio::test]
async fn other_methods_are_told_what_is_allowed() {
    let box_ = fixture(PASSWORD);
    for (method, path, allowed) in [
        (Method::POST, "/", "GET, HEAD"),
        (Method::POST, "/api/status", "GET, HEAD"),
        (Method::POST, "/api/events", "GET, HEAD"),
        (Method::POST, "/healthz", "GET, HEAD"),
        (Method::DELETE, "/login", "GET, HEAD, POST"),
        (Method::GET, "/logout", "POST"),
        (Method::GET, "/api/transcripts/01JD0000000000000000000001/retry", "POST"),
    ] {
        let answer = box_.ask(method, path, &[HOST, OWN], "").await;
        assert_eq!(answer.status(), StatusCode::METHOD_NOT_ALLOWED, "{path}");
        assert_eq!(answer.headers()[header::ALLOW], allowed, "{path}");
    }
    assert_eq!(box_.ask(Method::DELETE, "/nothing", &[HOST], "").await.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn foreign_hosts_are_misdirected_everywhere_but_at_the_health_probe() {
    let box_ = fixture(PASSWORD);
    let asked = async |method, path: &str, headers: &[(&str, &str)]| box_.ask(method, path, headers, "").await.status();
    let foreign = ("host", "evil.example");
    for path in ["/", "/login", "/api/status", "/api/events", "/metrics", "/static/status/page.css", "/nothing"] {
        assert_eq!(asked(Method::GET, path, &[foreign]).await, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    for path in ["/login", "/logout", "/api/transcripts/01JD0000000000000000000001/retry"] {
        let own = ("origin", "http://evil.example");
        assert_eq!(asked(Method::POST, path, &[foreign, own]).await, StatusCode::MISDIRECTED_REQUEST, "{path}");
    }
    assert_eq!(asked(Method::GET, "/healthz", &[foreign]).await, StatusCode::OK);
    assert_eq!(asked(Method::GET, "/healthz", &[]).await, StatusCode::OK);
    assert_eq!(asked(Method::GET, "/", &[("host", "status.example.co.il:8080")]).await, StatusCode::OK);
    assert_eq!(asked(Method::GET, "/", &[]).await, StatusCode::BAD_REQUEST);
    assert_eq!(asked(Method::GET, "/", &[("host", "localhost"), foreign]).await, StatusCode::BAD_REQUEST);
    let whole_url = asked(Method::GET, "http://evil.example/", &[("host", "localhost")]).await;
    assert_eq!(whole_url, StatusCode::MISDIRECTED_REQUEST);
    assert!(text_of(box_.get("/metrics").await).await.contains("\nkolbox_status_hosts_refused_total 13\n"));
}

#[tokio::test(start_paused = true)]
async fn basic_shows_whole_numbers_and_a_wrong_one_is_asked_for_again_and_then_throttled() {
    let box_ = fixture(PASSWORD);
    let asked = async |path: &str, credentials: &str| {
        box_.ask(Method::GET, path, &[HOST, ("authorization", &basic(credentials))], "").await
    };
    assert!(text_of(asked("/api/status", "kolbox:open sesame").await).await.contains("+972521112233"));
    assert!(text_of(asked("/", "kolbox:open sesame").await).await.contains("+972521112233"));
    let wrong = asked("/api/status", "kolbox:guess").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert_eq!(wrong.headers()[header::WWW_AUTHENTICATE], "Basic realm=\"kolbox\", charset=\"UTF-8\"");
    let soon = asked("/", "kolbox:guess").await;
    assert_eq!(
        (soon.status(), &soon.headers()[header::RETRY_AFTER]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    tokio::time::advance(PASSWORD_PAUSE).await;
    assert_eq!(asked("/login", "kolbox:open sesame").await.status(), StatusCode::SEE_OTHER);
    let figures = text_of(box_.get("/metrics").await).await;
    assert!(figures.contains("\nkolbox_status_passwords_wrong_total 1\n"), "{figures}");
    assert!(figures.contains("\nkolbox_status_passwords_unheard_total 1\n"), "{figures}");
}

#[tokio::test(start_paused = true)]
async fn a_login_shows_numbers_until_the_logout() {
    let box_ = fixture(PASSWORD);
    let form = box_.get("/login?lang=en").await;
    assert_eq!(form.status(), StatusCode::OK);
    assert!(text_of(form).await.contains("Log in with the password"));
    let answer = box_.post("/login", &[HOST, OWN, FORM], "password=open+sesame&lang=en").await;
    assert_eq!((answer.status(), location(&answer)), (StatusCode::SEE_OTHER, "/?lang=en"));
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap();
    assert!(cookie.ends_with("; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict"), "{cookie}");
    let id = cookie.split(';').next().unwrap().to_owned();
    let with_cookie = [HOST, OWN, ("cookie", id.as_str())];
    let page = text_of(box_.ask(Method::GET, "/?lang=en", &with_cookie, "").await).await;
    assert!(page.contains("+972521112233") && page.contains("Log out"), "{page}");
    assert!(text_of(box_.ask(Method::GET, "/api/status", &with_cookie, "").await).await.contains("+972521112233"));
    assert_eq!(location(&box_.ask(Method::GET, "/login", &with_cookie, "").await), "/");
    let out = box_.post("/logout", &with_cookie, "").await;
    assert_eq!((out.status(), location(&out)), (StatusCode::SEE_OTHER, "/"));
    assert!(out.headers()[header::SET_COOKIE].to_str().unwrap().starts_with("kolbox_session=; Path=/; Max-Age=0;"));
    assert!(!text_of(box_.ask(Method::GET, "/", &with_cookie, "").await).await.contains("+972"));
}

#[tokio::test]
async fn the_cookie_is_secure_where_the_page_came_by_tls() {
    let box_ = fixture(PASSWORD);
    let host = ("host", "status.example.co.il");
    let cookie = async |client: Client, origin: &str| {
        let headers = [host, FORM, ("origin", origin)];
        let answer = box_.ask_as(client, Method::POST, "/login", &headers, "password=open+sesame").await;
        answer.headers()[header::SET_COOKIE].to_str().unwrap().to_owned()
    };
    assert!(!cookie(CLIENT, "http://status.example.co.il").await.contains("Secure"));
    assert!(cookie(CLIENT, "https://status.example.co.il").await.ends_with("; Secure"), "TLS ends in front of the box");
    let tls = Client { tls: true, ..CLIENT };
    assert!(cookie(tls, "https://status.example.co.il").await.ends_with("; Secure"));
}

#[tokio::test(start_paused = true)]
async fn a_wrong_login_is_told_so_on_the_page_and_the_next_within_a_second_is_not_looked_at() {
    let box_ = fixture(PASSWORD);
    let tried = async |password: &str| box_.post("/login", &[HOST, OWN, FORM, BROWSER], password).await;
    let wrong = tried("password=guess&lang=en").await;
    assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
    assert!(!wrong.headers().contains_key(header::SET_COOKIE));
    assert!(!wrong.headers()[header::WWW_AUTHENTICATE].to_str().unwrap().contains("Basic"), "no dialog opens");
    assert!(text_of(wrong).await.contains("That is not the password."));
    let soon = tried("password=open+sesame&lang=en").await;
    assert_eq!(
        (soon.status(), &soon.headers()[header::RETRY_AFTER]),
        (StatusCode::TOO_MANY_REQUESTS, &"1".parse().unwrap())
    );
    assert!(!soon.headers().contains_key(header::SET_COOKIE));
    tokio::time::advance(PASSWORD_PAUSE).await;
    assert_eq!(tried("password=open+sesame").await.status(), StatusCode::SEE_OTHER);
    let unlike = box_.post("/login", &[HOST, OWN, JSON], "{\"password\":\"open sesame\"}").await;
    assert_eq!(unlike.status(), StatusCode::UNSUPPORTED_MEDIA_TYPE);
}

#[tokio::test]
async fn a_post_is_the_boxes_own_pages_or_a_programs_with_the_password_and_json() {
    let box_ = fixture(PASSWORD);
    let (cookie, right) = (box_.log_in().await, basic("kolbox:open sesame"));
    let (cookie, right) = (("cookie", cookie.as_str()), ("authorization", right.as_str()));
    let path = format!("/api/transcripts/{PARKED}/retry");
    let posted = async |headers: &[(&str, &str)]| box_.post(&path, &[&[HOST], headers].concat(), "{}").await.status();
    let forbidden: &[&[(&str, &str)]] = &[
        &[cookie],
        &[cookie, JSON],
        &[cookie, JSON, ("origin", "http://evil.example")],
        &[right, JSON, ("origin", "http://evil.example")],
        &[right, JSON, ("origin", "null")],
        &[right, FORM],
        &[right],
        &[JSON],
        &[right, OWN, ("origin", "http://evil.example")],
    ];
    for headers in forbidden {
        assert_eq!(posted(headers).await, StatusCode::FORBIDDEN, "{headers:?}");
    }
    assert_eq!(*box_.retried.lock().unwrap(), [""; 0]);
    assert_eq!(posted(&[right, JSON]).await, StatusCode::ACCEPTED);
    assert_eq!(posted(&[cookie, OWN]).await, StatusCode::ACCEPTED);
    assert_eq!(posted(&[right, OWN]).await, StatusCode::ACCEPTED);
    assert_eq!(*box_.retried.lock().unwrap(), [PARKED; 3]);
    assert_eq!(posted(&[OWN]).await, StatusCode::UNAUTHORIZED);
    let wrong = basic("kolbox:guess");
    assert_eq!(posted(&[("authorization", &wrong), JSON]).await, StatusCode::UNAUTHORIZED);
    assert_eq!(box_.retried.lock().unwrap().len(), 3);
}

#[tokio::test]
async fn a_retry_says_what_became_of_it() {
    let box_ = fixture(PASSWORD);
    let right = basic("kolbox:open sesame");
    let retried = async |id: &str| {
        let headers = [HOST, JSON, ("authorization", right.as_str())];
        box_.post(&format!("/api/transcripts/{id}/retry"), &headers, "").await.status()
    };
    assert_eq!(retried(PARKED).await, StatusCode::ACCEPTED);
    assert_eq!(retried(DELIVERED).await, StatusCode::CONFLICT);
    assert_eq!(retried("01JD0000000000000000000009").await, StatusCode::NOT_FOUND);
    for nonsense in ["", "x", "01jd0000000000000000000001", "%2e%2e", "01JD0000000000000000000001/x"] {
        assert_eq!(retried(nonsense).await, StatusCode::NOT_FOUND, "{nonsense}");
    }
    assert_eq!(box_.retried.lock().unwrap().len(), 3, "what is no id is asked of nobody");
}

#[tokio::test]
async fn the_retry_button_leads_back_to_the_page_or_to_the_login() {
    let box_ = fixture(PASSWORD);
    let cookie = box_.log_in().await;
    let cookie = ("cookie", cookie.as_str());
    let page = text_of(box_.ask(Method::GET, "/?lang=en", &[HOST, cookie], "").await).await;
    assert!(page.contains(&format!("action=\"/api/transcripts/{DELIVERED}/retry\"")), "{page}");
    let pressed = async |headers: &[(&str, &str)]| {
        let answer = box_.post(&format!("/api/transcripts/{PARKED}/retry"), headers, "lang=en").await;
        assert_eq!(answer.status(), StatusCode::SEE_OTHER);
        location(&answer).to_owned()
    };
    assert_eq!(pressed(&[HOST, OWN, FORM, BROWSER, cookie]).await, "/?lang=en");
    assert_eq!(pressed(&[HOST, OWN, FORM, BROWSER]).await, "/login");
    assert_eq!(box_.retried.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn without_a_password_nothing_can_be_done_and_the_answer_says_what_to_set() {
    let box_ = fixture("");
    for path in ["/login", "/logout", "/api/transcripts/01JD0000000000000000000001/retry"] {
        let answer = box_.post(path, &[HOST, OWN, FORM], "password=").await;
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(text_of(answer).await.contains("status.password"), "{path}");
    }
    assert!(box_.retried.lock().unwrap().is_empty());
    assert_eq!(location(&box_.get("/login").await), "/");
}

#[tokio::test]
async fn a_body_beyond_the_maximum_is_refused_and_counted() {
    let box_ = fixture(PASSWORD);
    let large = "a".repeat(STATUS_BODY_BYTES_MAX + 1);
    let answer = box_.post("/login", &[HOST, OWN, FORM], &large).await;
    assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(answer.headers()[header::CONNECTION], "close");
    assert!(text_of(box_.get("/metrics").await).await.contains("\nkolbox_status_bodies_refused_total 1\n"));
}

#[tokio::test]
async fn one_event_stream_too_many_is_told_to_come_back() {
    let box_ = fixture("");
    let mut open = Vec::new();
    for _ in 0..EVENT_STREAMS_MAX {
        open.push(box_.get("/api/events").await);
    }
    let refused = box_.get("/api/events").await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key(header::RETRY_AFTER));
    let figures = text_of(box_.get("/metrics").await).await;
    assert!(figures.contains("\nkolbox_status_event_streams 16\n"), "{figures}");
    assert!(figures.contains("\nkolbox_status_event_streams_refused_total 1\n"), "{figures}");
    open.pop();
    assert_eq!(box_.get("/api/events").await.status(), StatusCode::OK);
}

/// Every number of the samples, and what a record or a failure could hold of a person.
#[tokio::test(start_paused = true)]
async fn nothing_personal_is_in_any_answer_to_anybody_without_the_password() {
    for (password, cookie) in [("", "kolbox_session="), (PASSWORD, "kolbox_session=AAAAAAAAAAAAAAAAAAAAAA")] {
        let box_ = fixture(password);
        let mut answers = String::new();
        for snapshot in
            [samples::idle(), samples::answering(), samples::streaming(), samples::fallback(), samples::trouble()]
        {
            box_.snapshot.send_replace(Arc::new(snapshot));
            for path in ["/", "/?lang=en", "/?refresh=off", "/login", "/api/status", "/metrics", "/healthz", "/nothing"]
            {
                answers += &text_of(box_.ask(Method::GET, path, &[HOST, ("cookie", cookie)], "").await).await;
            }
            let events = box_.ask(Method::GET, "/api/events", &[HOST, ("cookie", cookie)], "").await;
            let first = events.into_body().frame().await.unwrap().unwrap().into_data().unwrap();
            answers += std::str::from_utf8(&first).unwrap();
            for path in ["/login", "/logout", "/api/transcripts/01JD0000000000000000000000/retry"] {
                answers += &text_of(box_.post(path, &[HOST, OWN, FORM, BROWSER], "password=guess").await).await;
                answers += &text_of(box_.post(path, &[HOST, OWN, FORM], "").await).await;
            }
            let wrong = basic("kolbox:guess");
            answers +=
                &text_of(box_.ask(Method::GET, "/api/status", &[HOST, ("authorization", &wrong)], "").await).await;
        }
        assert!(answers.contains("567") && answers.len() > 100_000, "the samples were shown, with three digits");
        let answers = answers.replace(samples::CALL_SID, "");
        for number in samples::NUMBERS {
            let digits = number.trim_start_matches('+');
            let most = &digits[..digits.len() - 3];
            assert!(!answers.contains(number) && !answers.contains(most), "{number}");
            let [without_country, tail] = [&digits[3..], &digits[digits.len() - 4..]];
            assert!(!answers.contains(without_country) && !answers.contains(tail), "{number}");
        }
        assert!(!answers.contains("dana"), "a SIP address is a person's name");
    }
}
