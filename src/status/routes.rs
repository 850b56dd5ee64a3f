//! The status listener's routes: who may ask, what for, and the headers that keep the page to itself.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::Full;
use hyper::{
    Method, Request, Response, StatusCode,
    header::{self, HeaderMap, HeaderName, HeaderValue},
};
use jiff::tz::TimeZone;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::{
    access::Access,
    assets,
    caller::Viewer,
    hosts::{self, Hosts},
    json,
    language::Language,
    metrics::{self, SnapshotFigures},
    page::{self, Visit},
    snapshot::Snapshot,
};
use crate::config;

/// Sent with every answer.
const SECURITY: [(HeaderName, &str); 5] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

const NEVER_KEPT: &str = "no-store";
const KEPT_FOR_GOOD: &str = "public, max-age=31536000, immutable";

/// The status pages, of the latest snapshot.
#[derive(Debug, Clone)]
pub struct StatusSite {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    hosts: Hosts,
    access: Access,
    zone: TimeZone,
    figures: Arc<Registry>,
}

impl StatusSite {
    /// The site under the machine's own name, with times in its own zone. In `figures` is what every other room counts.
    pub fn new(settings: &config::Status, snapshot: watch::Receiver<Arc<Snapshot>>, mut figures: Registry) -> Self {
        figures.register_collector(Box::new(SnapshotFigures(snapshot.clone())));
        Self {
            snapshot,
            figures: Arc::new(figures),
            hosts: Hosts::new(settings.hosts.iter().map(String::as_str), &hosts::own_name()),
            access: Access::new(settings.password.clone()),
            zone: TimeZone::system(),
        }
    }

    /// The answer to one request. No route reads a body.
    pub fn route<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let mut response = self.answer(request);
        for (name, value) in SECURITY {
            response.headers_mut().insert(name, HeaderValue::from_static(value));
        }
        response.headers_mut().entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static(NEVER_KEPT));
        if request.method() == Method::HEAD {
            *response.body_mut() = Full::default(); // Content-Length still tells the body's length
        }
        response
    }

    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let path = request.uri().path();
        // Probes name the box in ways that it cannot know, and learn nothing from it.
        if path != "/healthz" {
            match host(request) {
                None => return plain(StatusCode::BAD_REQUEST, "one Host is needed"),
                Some(host) if !self.hosts.allow(host) => return plain(StatusCode::MISDIRECTED_REQUEST, WRONG_HOST),
                Some(_) => {}
            }
        }
        let Some(route) = Route::of(path) else { return plain(StatusCode::NOT_FOUND, "not found") };
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match route {
            Route::Health => plain(StatusCode::OK, "ok"),
            Route::Asset(asset) => asset_answer(asset, request.uri().query()),
            Route::Metrics => self.metrics(),
            Route::Page | Route::Status | Route::LogIn => self.for_viewer(route, request),
        }
    }

    /// The box's state is shown to everybody, and there is no number of a caller among its figures.
    fn metrics(&self) -> Response<Full<Bytes>> {
        match metrics::render(&self.figures) {
            Ok(text) => content(metrics::CONTENT_TYPE, text),
            Err(error) => {
                tracing::error!(%error, "the figures cannot be written");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the figures cannot be shown; see the log")
            }
        }
    }

    fn for_viewer<B>(&self, route: Route, request: &Request<B>) -> Response<Full<Bytes>> {
        let authorization = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes);
        let Ok(viewer) = self.access.viewer(authorization) else { return challenge() };
        let snapshot = Arc::clone(&self.snapshot.borrow());
        match route {
            Route::Status => content("application/json", json::render(&snapshot, viewer)),
            // A browser that was asked for the password here sends it to every page from then on.
            Route::LogIn if viewer == Viewer::Anyone && self.access.has_password() => challenge(),
            Route::LogIn => to_the_page(),
            _ => self.page(&snapshot, viewer, request),
        }
    }

    fn page<B>(&self, snapshot: &Snapshot, viewer: Viewer, request: &Request<B>) -> Response<Full<Bytes>> {
        let query = request.uri().query();
        let language =
            Language::wanted(parameter(query, "lang").as_deref(), text(request.headers(), header::ACCEPT_LANGUAGE));
        let visit = Visit {
            language,
            viewer,
            has_password: self.access.has_password(),
            paused: parameter(query, "refresh").as_deref() == Some("off"),
            zone: self.zone.clone(),
        };
        match page::render(snapshot, &visit) {
            Ok(html) => {
                let mut response = content("text/html; charset=utf-8", html.into_bytes());
                let code = HeaderValue::from_static(language.code());
                response.headers_mut().insert(header::CONTENT_LANGUAGE, code);
                response
            }
            Err(error) => {
                tracing::error!(%error, "the status page cannot be rendered");
                plain(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be shown; see the log")
            }
        }
    }
}

const WRONG_HOST: &str = "this name is not the box's; use its IP address, or add the name to status.hosts";

#[derive(Debug, Clone, Copy)]
enum Route {
    Page,
    LogIn,
    Status,
    Metrics,
    Health,
    Asset(assets::Asset),
}

impl Route {
    fn of(path: &str) -> Option<Self> {
        match path {
            "/" => Some(Self::Page),
            "/login" => Some(Self::LogIn),
            "/api/status" => Some(Self::Status),
            "/metrics" => Some(Self::Metrics),
            "/healthz" => Some(Self::Health),
            _ => path.strip_prefix("/static/status/").and_then(assets::find).map(Self::Asset),
        }
    }
}

/// The host that is asked for: a whole URL's own, else the only Host header's (RFC 9112 §3.2).
fn host<B>(request: &Request<B>) -> Option<&str> {
    if let Some(authority) = request.uri().authority() {
        return Some(authority.as_str());
    }
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// The first parameter of that name.
fn parameter(query: Option<&str>, name: &str) -> Option<String> {
    let mut pairs = form_urlencoded::parse(query?.as_bytes());
    pairs.find(|(key, _)| key == name).map(|(_, value)| value.into_owned())
}

fn asset_answer(asset: assets::Asset, query: Option<&str>) -> Response<Full<Bytes>> {
    let mut response = content(asset.content_type, asset.bytes);
    if parameter(query, "v").as_deref() == Some(assets::EDITION.as_str()) {
        response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static(KEPT_FOR_GOOD));
    }
    response
}

fn challenge() -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::UNAUTHORIZED, "user kolbox and the status password are needed");
    let realm = HeaderValue::from_static("Basic realm=\"kolbox\", charset=\"UTF-8\"");
    response.headers_mut().insert(header::WWW_AUTHENTICATE, realm);
    response
}

fn to_the_page() -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::SEE_OTHER, "");
    response.headers_mut().insert(header::LOCATION, HeaderValue::from_static("/"));
    response
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    let mut response = content("text/plain; charset=utf-8", text);
    *response.status_mut() = status;
    response
}

fn content(content_type: &'static str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let body = body.into();
    let length = HeaderValue::from(body.len());
    let mut response = Response::new(Full::new(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.headers_mut().insert(header::CONTENT_LENGTH, length);
    response
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use http_body_util::BodyExt;

    use super::*;
    use crate::status::samples;

    fn site(password: &str) -> StatusSite {
        let (_, snapshot) = watch::channel(Arc::new(samples::fallback()));
        let settings = config::Status {
            password: password.into(),
            hosts: vec!["status.example.co.il".into()],
            ..config::Status::default()
        };
        StatusSite::new(&settings, snapshot, Registry::default())
    }

    fn request(method: Method, path: &str, headers: &[(&str, &str)]) -> Request<()> {
        let builder = Request::builder().method(method).uri(path);
        headers.iter().fold(builder, |builder, (name, value)| builder.header(*name, *value)).body(()).unwrap()
    }

    fn get(path: &str) -> Response<Full<Bytes>> {
        site("").route(&request(Method::GET, path, &[("host", "192.168.1.20:8080")]))
    }

    fn body(response: Response<Full<Bytes>>) -> String {
        let mut body = response.into_body();
        let frame = ready(body.frame());
        frame.map(|frame| String::from_utf8(frame.unwrap().into_data().unwrap().to_vec()).unwrap()).unwrap_or_default()
    }

    /// A full body is ready at once.
    fn ready<T>(future: impl Future<Output = T>) -> T {
        let mut future = std::pin::pin!(future);
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(value) => value,
            std::task::Poll::Pending => panic!("a full body is ready at once"),
        }
    }

    #[test]
    fn every_route_answers_what_it_promises() {
        let page = get("/");
        assert_eq!(page.headers()[header::CONTENT_TYPE], "text/html; charset=utf-8");
        assert_eq!(page.headers()[header::CONTENT_LANGUAGE], "he");
        assert!(body(page).contains("dir=\"rtl\""));
        assert!(body(get("/?lang=en")).contains("callers are leaving a message"));
        let status = get("/api/status");
        assert_eq!(status.headers()[header::CONTENT_TYPE], "application/json");
        assert!(body(status).starts_with('{'));
        assert_eq!(body(get("/healthz")), "ok");
        let metrics = get("/metrics");
        assert_eq!(metrics.headers()[header::CONTENT_TYPE], metrics::CONTENT_TYPE);
        assert!(body(metrics).contains("\nkolbox_active_calls 4\n"));
        assert_eq!(get("/nothing").status(), StatusCode::NOT_FOUND);
        assert_eq!(get("/static/status/../page.css").status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn every_answer_keeps_the_page_to_itself() {
        for path in ["/", "/api/status", "/healthz", "/nothing", "/static/status/page.css"] {
            let response = get(path);
            for (name, value) in SECURITY {
                assert_eq!(response.headers()[&name], value, "{path}");
            }
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store", "{path}");
        }
    }

    #[test]
    fn assets_are_kept_for_good_only_under_their_edition() {
        let response = get(&format!("/static/status/page.css?v={}", *assets::EDITION));
        assert_eq!(response.headers()[header::CACHE_CONTROL], KEPT_FOR_GOOD);
        assert_eq!(get("/static/status/page.css?v=older").headers()[header::CACHE_CONTROL], NEVER_KEPT);
    }

    #[test]
    fn head_tells_the_length_and_sends_nothing() {
        let whole = get("/api/status");
        let head = site("").route(&request(Method::HEAD, "/api/status", &[("host", "localhost")]));
        assert_eq!(head.status(), StatusCode::OK);
        assert_eq!(head.headers()[header::CONTENT_LENGTH], whole.headers()[header::CONTENT_LENGTH]);
        assert_eq!(body(head), "");
    }

    #[test]
    fn other_methods_are_told_what_is_allowed() {
        for path in ["/", "/api/status", "/healthz"] {
            let response = site("").route(&request(Method::POST, path, &[("host", "localhost")]));
            assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
            assert_eq!(response.headers()[header::ALLOW], "GET, HEAD");
        }
        let unknown = site("").route(&request(Method::DELETE, "/nothing", &[("host", "localhost")]));
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
    }

    #[test]
    fn foreign_hosts_are_misdirected_everywhere_but_at_the_health_probe() {
        let asked =
            |path: &str, headers: &[(&str, &str)]| site("").route(&request(Method::GET, path, headers)).status();
        for path in ["/", "/api/status", "/static/status/page.css", "/nothing"] {
            assert_eq!(asked(path, &[("host", "evil.example")]), StatusCode::MISDIRECTED_REQUEST, "{path}");
        }
        assert_eq!(asked("/healthz", &[("host", "evil.example")]), StatusCode::OK);
        assert_eq!(asked("/healthz", &[]), StatusCode::OK);
        assert_eq!(asked("/", &[("host", "status.example.co.il:8080")]), StatusCode::OK);
        assert_eq!(asked("/", &[]), StatusCode::BAD_REQUEST);
        assert_eq!(asked("/", &[("host", "localhost"), ("host", "evil.example")]), StatusCode::BAD_REQUEST);
        let whole_url = asked("http://evil.example/", &[("host", "localhost")]);
        assert_eq!(whole_url, StatusCode::MISDIRECTED_REQUEST);
    }

    #[test]
    fn the_password_shows_whole_numbers_and_a_wrong_one_is_asked_for_again() {
        let site = site("open sesame");
        let asked = |path: &str, credentials: Option<&str>| {
            let basic = credentials.map(|credentials| format!("Basic {}", STANDARD.encode(credentials)));
            let mut headers = vec![("host", "localhost")];
            headers.extend(basic.as_deref().map(|basic| ("authorization", basic)));
            site.route(&request(Method::GET, path, &headers))
        };
        assert!(!body(asked("/api/status", None)).contains("+972"));
        assert!(body(asked("/api/status", Some("kolbox:open sesame"))).contains("+972501234567"));
        assert!(body(asked("/", Some("kolbox:open sesame"))).contains("+972501234567"));
        let wrong = asked("/api/status", Some("kolbox:guess"));
        assert_eq!(wrong.status(), StatusCode::UNAUTHORIZED);
        assert!(wrong.headers().contains_key(header::WWW_AUTHENTICATE));
        assert_eq!(asked("/login", None).status(), StatusCode::UNAUTHORIZED);
        assert_eq!(asked("/login", Some("kolbox:open sesame")).headers()[header::LOCATION], "/");
    }
}
