//! The status listener's routes: who may ask, what for, and what is done.

use std::{error::Error as StdError, fmt, net::IpAddr, pin::Pin, sync::Arc};

use bytes::Buf;
use http_body_util::{Either, Full};
use hyper::{
    Method, Request, Response,
    body::Body,
    header::{self, HeaderName, HeaderValue},
    http::request::Parts,
};
use jiff::tz::TimeZone;
use prometheus_client::registry::Registry;
use tokio::sync::watch;

use super::{
    access::{self, Access, Denied, Visitor},
    answer::{Answer, asset, content, html, plain, secure, see_other},
    body,
    caller::Viewer,
    counters::StatusCounters,
    events::{self, EventStreams},
    hosts::{self, Hosts},
    json,
    language::Language,
    login_page,
    metrics::{self, SnapshotFigures},
    origin::{Poster, Scheme},
    page::{self, Visit},
    refusal::Refusal,
    request::{Action, HEALTH, Page, Route, form_language, host, is_form, language, parameter, poster, wants_page},
    snapshot::Snapshot,
};
use crate::{
    config,
    transcripts::{RetryError, TranscriptId},
};

/// Puts a parked transcript back in the queue.
pub type RetryHook =
    Arc<dyn Fn(TranscriptId) -> Pin<Box<dyn Future<Output = Result<(), RetryError>> + Send>> + Send + Sync>;

/// What the pages are made from, and what they can set off.
pub struct Behind {
    pub snapshot: watch::Receiver<Arc<Snapshot>>,
    /// What every other room counts.
    pub figures: Registry,
    pub retry: RetryHook,
    /// True once the listener stops.
    pub stopped: watch::Receiver<bool>,
}

/// Who sends a request.
#[derive(Debug, Clone, Copy)]
pub struct Client {
    pub address: IpAddr,
    /// Whether the box itself ended TLS.
    pub tls: bool,
}

/// The status pages, of the latest snapshot.
pub struct StatusSite {
    snapshot: watch::Receiver<Arc<Snapshot>>,
    hosts: Hosts,
    access: Access,
    zone: TimeZone,
    events: EventStreams,
    retry: RetryHook,
    figures: Registry,
    counters: StatusCounters,
}

impl StatusSite {
    /// The site under the machine's own name, with times in its own zone. Hashes the password, which takes tenths of a
    /// second.
    pub fn new(settings: &config::Status, behind: Behind) -> Self {
        let Behind { snapshot, mut figures, retry, stopped } = behind;
        let (access, counters) = (Access::new(&settings.password), StatusCounters::default());
        figures.register_collector(Box::new(SnapshotFigures(snapshot.clone())));
        counters.register(&mut figures);
        Self {
            hosts: Hosts::new(settings.hosts.iter().map(String::as_str), &hosts::own_name()),
            events: EventStreams::new(access.clone(), snapshot.clone(), stopped, counters.streams.clone()),
            access,
            snapshot,
            zone: TimeZone::system(),
            retry,
            figures,
            counters,
        }
    }

    /// The answer to one request.
    pub async fn route<B>(&self, request: Request<B>, client: Client) -> Answer
    where
        B: Body<Data: Buf, Error: Into<Box<dyn StdError + Send + Sync>>>,
    {
        let (parts, body) = request.into_parts();
        let mut response = self.answer(&parts, body, client).await.unwrap_or_else(|refusal| {
            self.counters.note(refusal);
            refusal.response()
        });
        secure(response.headers_mut());
        if parts.method == Method::HEAD {
            *response.body_mut() = Either::Left(Full::default()); // Content-Length still tells the body's length
        }
        response
    }

    async fn answer<B>(&self, request: &Parts, body: B, client: Client) -> Result<Answer, Refusal>
    where
        B: Body<Data: Buf, Error: Into<Box<dyn StdError + Send + Sync>>>,
    {
        let path = request.uri.path();
        // Probes name the box in ways that it cannot know, and learn nothing from it.
        if path != HEALTH {
            let host = host(request).ok_or(Refusal::NoHost)?;
            self.hosts.allow(host).then_some(()).ok_or(Refusal::ForeignHost)?;
        }
        match Route::of(path, &request.method)? {
            Route::Show(page) => self.show(page, request, client).await,
            Route::Act(action) => {
                let poster = poster(request).ok_or(Refusal::ForeignPost)?;
                self.act(action, request, body, client, poster).await
            }
        }
    }

    async fn show(&self, page: Page, request: &Parts, client: Client) -> Result<Answer, Refusal> {
        match page {
            Page::Health => return Ok(plain(hyper::StatusCode::OK, "ok")),
            Page::Asset(found) => return Ok(asset(found, parameter(request, "v").as_deref())),
            // The box's state is shown to everybody, and there is no caller among the figures.
            Page::Metrics => {
                return metrics::render(&self.figures)
                    .map(|text| content(metrics::CONTENT_TYPE, text))
                    .map_err(unwritable);
            }
            Page::Main | Page::LogIn | Page::Status | Page::Events => {}
        }
        let visitor = self.access.visitor(&request.headers, client.address).await.map_err(Refusal::Password)?;
        let snapshot = Arc::clone(&self.snapshot.borrow());
        match page {
            Page::Status => Ok(content("application/json", json::render(&snapshot, visitor.viewer))),
            Page::Events => self.follow(visitor, request),
            Page::LogIn if visitor.viewer == Viewer::Anyone && self.access.has_password() => {
                let language = language(request);
                login_page::render(snapshot.state(), language, None)
                    .map(|page| html(language, page))
                    .map_err(unwritable)
            }
            Page::LogIn => Ok(see_other("/")),
            _ => self.main_page(&snapshot, visitor, request),
        }
    }

    fn main_page(&self, snapshot: &Snapshot, visitor: Visitor, request: &Parts) -> Result<Answer, Refusal> {
        let language = language(request);
        let visit = Visit {
            language,
            viewer: visitor.viewer,
            logged_in: visitor.session.is_some(),
            has_password: self.access.has_password(),
            paused: parameter(request, "refresh").as_deref() == Some("off"),
            zone: self.zone.clone(),
        };
        page::render(snapshot, &visit).map(|page| html(language, page)).map_err(unwritable)
    }

    fn follow(&self, visitor: Visitor, request: &Parts) -> Result<Answer, Refusal> {
        let body = match request.method {
            Method::HEAD => Either::Left(Full::default()),
            _ => self.events.follow(visitor).ok_or(Refusal::StreamsTaken)?,
        };
        let mut response = Response::new(body);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(events::CONTENT_TYPE));
        // For nginx in front, which else holds events back until it has a buffer full of them.
        headers.insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
        Ok(response)
    }

    async fn act<B>(
        &self,
        action: Action<'_>,
        request: &Parts,
        body: B,
        client: Client,
        poster: Poster,
    ) -> Result<Answer, Refusal>
    where
        B: Body<Data: Buf, Error: Into<Box<dyn StdError + Send + Sync>>>,
    {
        if !self.access.has_password() {
            return Err(Refusal::NoPassword);
        }
        let form = body::read(body).await?;
        match action {
            Action::LogIn => {
                let is_form = is_form(&request.headers);
                let password = body::field(&form, "password").filter(|_| is_form).ok_or(Refusal::NotAForm)?;
                let secure = client.tls || poster == Poster::OwnPage(Scheme::Https);
                self.log_in(&password, form_language(&form), secure, client).await
            }
            Action::LogOut => {
                let visitor = self.access.visitor(&request.headers, client.address).await.map_err(Refusal::Password)?;
                self.access.log_out(&visitor);
                Ok(with_cookie(see_other(main_page_in(form_language(&form))), access::NO_COOKIE))
            }
            Action::Retry(id) => {
                let visitor = self.access.visitor(&request.headers, client.address).await.map_err(Refusal::Password)?;
                let done = match visitor.viewer {
                    Viewer::Staff => self.retry(id).await,
                    Viewer::Anyone => Err(Refusal::NotStaff),
                };
                // A person is shown the page again, which says how things stand now.
                match done {
                    Err(Refusal::NotStaff) if wants_page(&request.headers) => Ok(see_other("/login")),
                    _ if wants_page(&request.headers) => Ok(see_other(main_page_in(form_language(&form)))),
                    done => done.map(|()| plain(hyper::StatusCode::ACCEPTED, "")),
                }
            }
        }
    }

    async fn log_in(
        &self,
        password: &str,
        language: Option<Language>,
        secure: bool,
        client: Client,
    ) -> Result<Answer, Refusal> {
        let denied = match self.access.log_in(password, client.address).await {
            Ok(id) => {
                tracing::info!(from = %client.address, "somebody logged in on the status page");
                return Ok(with_cookie(see_other(main_page_in(language)), access::cookie(&id, secure)));
            }
            Err(denied) => denied,
        };
        let refusal = Refusal::Password(denied);
        self.counters.note(refusal);
        let (state, language) = (self.snapshot.borrow().state(), language.unwrap_or(Language::Hebrew));
        let page = login_page::render(state, language, Some(denied)).map_err(unwritable)?;
        let (mut response, told) = (html(language, page), refusal.response());
        *response.status_mut() = told.status();
        if let Some(after) = told.headers().get(header::RETRY_AFTER) {
            response.headers_mut().insert(header::RETRY_AFTER, after.clone());
        }
        if denied == Denied::Wrong {
            // 401 has to name a way in (RFC 9110 §15.5.2); a browser asks by itself for Basic, and leaves this one alone.
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Form realm=\"kolbox\""));
        }
        Ok(response)
    }

    async fn retry(&self, id: &str) -> Result<(), Refusal> {
        let transcript_id: TranscriptId = id.parse().map_err(|_| Refusal::UnknownTranscript)?;
        match (self.retry)(transcript_id).await {
            Ok(()) => {
                tracing::info!(%transcript_id, "a parked transcript is to be sent again");
                Ok(())
            }
            Err(RetryError::NotParked) => {
                let is_known = self.snapshot.borrow().recent.iter().any(|call| call.id == id);
                Err(if is_known { Refusal::NotParked } else { Refusal::UnknownTranscript })
            }
            Err(RetryError::NotKept(_)) => Err(Refusal::StoreFailing),
        }
    }
}

impl fmt::Debug for StatusSite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusSite").field("hosts", &self.hosts).finish_non_exhaustive()
    }
}

fn main_page_in(language: Option<Language>) -> &'static str {
    match language {
        None => "/",
        Some(Language::Hebrew) => "/?lang=he",
        Some(Language::English) => "/?lang=en",
    }
}

fn with_cookie(mut response: Answer, cookie: HeaderValue) -> Answer {
    response.headers_mut().insert(header::SET_COOKIE, cookie);
    response
}

fn unwritable(error: impl fmt::Display) -> Refusal {
    tracing::error!(%error, "an answer cannot be written");
    Refusal::Unwritable
}
