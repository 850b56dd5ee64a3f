//! What a request to the status listener asks for: route, host, language, and who posts. Nothing is done here.

use hyper::{
    Method,
    header::{self, HeaderMap, HeaderName, HeaderValue},
    http::request::Parts,
};

use super::{
    assets, body,
    language::Language,
    origin::{self, Poster},
    refusal::Refusal,
};

/// The one route that answers to any Host.
pub const HEALTH: &str = "/healthz";

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route<'a> {
    Show(Page),
    Act(Action<'a>),
}

/// What anybody may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    Main,
    LogIn,
    Status,
    Events,
    Metrics,
    Health,
    Asset(assets::Asset),
}

/// What changes something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action<'a> {
    LogIn,
    LogOut,
    /// The id as it stands in the path.
    Retry(&'a str),
}

impl<'a> Route<'a> {
    /// What a path and a method ask for.
    ///
    /// # Errors
    /// For a path that we do not have, and a method that it does not know.
    pub fn of(path: &'a str, method: &Method) -> Result<Self, Refusal> {
        let is_post = *method == Method::POST;
        let found = match path {
            "/login" if is_post => Self::Act(Action::LogIn),
            "/logout" => Self::Act(Action::LogOut),
            "/" => Self::Show(Page::Main),
            "/login" => Self::Show(Page::LogIn),
            "/api/status" => Self::Show(Page::Status),
            "/api/events" => Self::Show(Page::Events),
            "/metrics" => Self::Show(Page::Metrics),
            HEALTH => Self::Show(Page::Health),
            _ => Self::below(path).ok_or(Refusal::NotFound)?,
        };
        let allowed = match found {
            Self::Show(_) if matches!(*method, Method::GET | Method::HEAD) => return Ok(found),
            Self::Act(_) if is_post => return Ok(found),
            Self::Show(Page::LogIn) => "GET, HEAD, POST",
            Self::Show(_) => "GET, HEAD",
            Self::Act(_) => "POST",
        };
        Err(Refusal::Method(allowed))
    }

    fn below(path: &'a str) -> Option<Self> {
        if let Some(name) = path.strip_prefix("/static/status/") {
            return assets::find(name).map(|asset| Self::Show(Page::Asset(asset)));
        }
        let id = path.strip_prefix("/api/transcripts/")?.strip_suffix("/retry")?;
        Some(Self::Act(Action::Retry(id)))
    }
}

/// The host that is asked for: a whole URL's own, else the only Host header's (RFC 9112 §3.2).
pub fn host(request: &Parts) -> Option<&str> {
    if let Some(authority) = request.uri.authority() {
        return Some(authority.as_str());
    }
    let mut hosts = request.headers.get_all(header::HOST).iter();
    let host = hosts.next()?.to_str().ok()?;
    hosts.next().is_none().then_some(host)
}

/// Who posts ([`origin::poster`]).
pub fn poster(request: &Parts) -> Option<Poster> {
    let (host, headers) = (host(request)?, &request.headers);
    let origins = headers.get_all(header::ORIGIN).into_iter().map(HeaderValue::as_bytes);
    let has_authorization = headers.contains_key(header::AUTHORIZATION);
    origin::poster(origins, host, has_authorization, text(headers, header::CONTENT_TYPE))
}

/// A header's text.
pub fn text(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    headers.get(name)?.to_str().ok()
}

/// Whether the body is a form.
pub fn is_form(headers: &HeaderMap) -> bool {
    let kind = text(headers, header::CONTENT_TYPE);
    kind.is_some_and(|kind| origin::is_media_type(kind, "application/x-www-form-urlencoded"))
}

/// Whether a person in front of a browser asks.
pub fn wants_page(headers: &HeaderMap) -> bool {
    text(headers, header::ACCEPT).is_some_and(|types| types.contains("text/html"))
}

/// The first parameter of that name in the query.
pub fn parameter(request: &Parts, name: &str) -> Option<String> {
    body::field(request.uri.query()?.as_bytes(), name).map(|value| value.into_owned())
}

/// The language that a page is wanted in.
pub fn language(request: &Parts) -> Language {
    Language::wanted(parameter(request, "lang").as_deref(), text(&request.headers, header::ACCEPT_LANGUAGE))
}

/// The language of the page that a form stood on.
pub fn form_language(form: &[u8]) -> Option<Language> {
    body::field(form, "lang").as_deref().and_then(Language::of_tag)
}
