//! Every route of the public listener: one match of method and path, and what each lets in.

use std::{
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    Method, Request, Response, StatusCode, Version,
    body::{Body as _, Incoming},
    header::{self, HeaderValue},
    http::request::Parts,
};
use hyper_util::rt::TokioIo;
use percent_encoding::percent_decode_str;

use super::{
    admission::{self, Admission},
    desk_port::{AskError, DeskPort},
    documents::{Documents, MEDIA_PATH, PROMPTS_PATH},
    handshake,
    listener::{Peer, Seat},
    media_socket::{self, MediaContext},
    metrics::RequestMetrics,
    problem::{Problem, text},
    prompts::Prompts,
    public_host::{Origin, PublicHost},
    static_file::StaticFile,
    webhooks::{self, Announcement, News, Question, Webhook},
};
use crate::{
    calls::{Answer, StreamToken},
    config::Config,
    limits::{BODY_BYTES_MAX, BODY_READ_MAX, DESK_ANSWER_MAX},
    system::log::cut,
    twilio::{
        sid::{AccountSid, CallSid},
        signature::Body,
        webhook::Form,
    },
};

/// A changed prompt reaches callers within five minutes; until then Twilio's proxies need not ask.
const PROMPT_CACHE: &str = "public, max-age=300";
/// [`MEDIA_PATH`] as Twilio sometimes asks for it. Neither redirects: Twilio follows none on an upgrade (error 31920).
const MEDIA_PATH_SLASH: &str = "/ws/twilio-media/";

/// Told of each announcement of a recording, as often as Twilio announces it. It has been heard when the future is done.
pub type RecordingHook = Arc<dyn Fn(Announcement) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// What the router hands requests on to.
#[derive(Clone)]
pub struct Behind {
    pub desk: DeskPort,
    pub prompts: Arc<Prompts>,
    pub public_host: Arc<PublicHost>,
    pub recordings: RecordingHook,
    pub media: MediaContext,
    pub metrics: RequestMetrics,
}

/// What one request may take.
#[derive(Debug, Clone)]
pub struct Limits {
    /// A body, in bytes: beyond it 413.
    pub body_bytes_max: usize,
    /// From the header block's end to the body's: beyond it 408.
    pub body_read_max: Duration,
    /// For the desk to answer: beyond it 503.
    pub desk_answer_max: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { body_bytes_max: BODY_BYTES_MAX, body_read_max: BODY_READ_MAX, desk_answer_max: DESK_ANSWER_MAX }
    }
}

/// The public side's routes.
pub struct Router {
    behind: Behind,
    documents: Documents,
    admission: Admission,
    account: Option<AccountSid>,
    limits: Limits,
}

impl Router {
    pub fn new(config: &Config, behind: Behind, limits: Limits) -> Self {
        let twilio = &config.twilio;
        Self {
            documents: Documents::new(behind.prompts.clone(), &config.calls, &config.fallback),
            admission: Admission::new(twilio),
            account: twilio.account_sid,
            behind,
            limits,
        }
    }

    /// The documents that this router answers with, for redirects by REST.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    /// Answers one request.
    pub async fn route(&self, request: Request<Incoming>, peer: Peer) -> Response<Full<Bytes>> {
        let began = Instant::now();
        let (parts, body) = request.into_parts();
        let (method, path) = (cut(parts.method.as_str()).to_owned(), cut(parts.uri.path()).to_owned());
        tracing::info!(event = "REQ", method, path);
        let mut call_sid = None;
        let answered = self.answer(parts, body, peer, &mut call_sid).await;
        let response = answered.unwrap_or_else(|problem| {
            tracing::debug!(method, path, %problem, "request refused");
            self.behind.metrics.note_refusal(problem.reason());
            problem.response()
        });
        let status = response.status().as_u16();
        self.behind.metrics.note_answer(route_name(&path), status);
        let ms = began.elapsed().as_millis() as u64;
        tracing::info!(event = "RES", method, path, status, ms, call_sid = call_sid.map(tracing::field::display));
        response
    }

    async fn answer(
        &self,
        parts: Parts,
        body: Incoming,
        peer: Peer,
        call_sid: &mut Option<CallSid>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let origin = self.behind.public_host.origin(peer.address.ip(), peer.tls, &parts.uri, &parts.headers);
        if let Err(error) = origin
            && parts.version >= Version::HTTP_11
        {
            return Err(Problem::Host(error));
        }
        let path = parts.uri.path();
        match (&parts.method, path, Webhook::at(path)) {
            (&Method::POST, _, Some(webhook)) => {
                let bytes = self.read_body(body).await?;
                let (form, origin) = (Form::parse(&bytes), origin.map_err(Problem::Host)?);
                // The query of a POST counts as part of the signed URL only.
                let signed = if admission::is_form(&parts.headers) { Body::Form(&form) } else { Body::Raw(&bytes) };
                self.admit(&parts, &origin, signed, false, &peer.seat)?;
                self.webhook(webhook, &form, &origin, call_sid).await
            }
            (&Method::GET, _, Some(webhook)) if webhook.takes_get() => {
                let origin = origin.map_err(Problem::Host)?;
                self.admit(&parts, &origin, Body::None, false, &peer.seat)?;
                let form = Form::parse(parts.uri.query().unwrap_or_default().as_bytes());
                self.webhook(webhook, &form, &origin, call_sid).await
            }
            (&Method::GET, MEDIA_PATH | MEDIA_PATH_SLASH, _) => {
                let origin = origin.map_err(Problem::Host)?;
                let response =
                    handshake::accept(&parts).map_err(|refused| self.no_handshake(refused, &parts, &origin))?;
                self.admit(&parts, &origin, Body::None, true, &peer.seat)?;
                self.open_socket(parts, peer.seat);
                Ok(response)
            }
            (&Method::GET | &Method::HEAD, "/healthz", _) => Ok(text(StatusCode::OK, "ok")),
            (&Method::GET | &Method::HEAD, ..) if path.starts_with(PROMPTS_PATH) => self.prompt(&parts),
            (_, _, webhook) => Err(unknown(path, webhook)),
        }
    }

    /// A webhook whose signature was valid: from its form to the desk and back.
    async fn webhook(
        &self,
        webhook: Webhook,
        form: &Form,
        origin: &Origin,
        call_sid: &mut Option<CallSid>,
    ) -> Result<Response<Full<Bytes>>, Problem> {
        let facts = webhooks::facts(form, self.account.as_ref()).map_err(Problem::Form)?;
        *call_sid = Some(facts.call_sid);
        if let Some(announcement) = webhook.announcement(facts.call_sid, form) {
            let heard = self.in_time((self.behind.recordings)(announcement)).await;
            if heard.is_err() {
                // The caller is not made to wait for it: a record that lacks its recording lists them.
                tracing::warn!(call_sid = %facts.call_sid, "the keeper is too busy to hear of a recording");
            }
        }
        let desk = &self.behind.desk;
        let answer = match webhook {
            Webhook::Asks(question) => {
                let token = fresh_token(question)?;
                let asked = desk.ask(|request| question.event(request, facts, form, token));
                self.in_time(asked).await?.map_err(|error| match error {
                    AskError::Full => Problem::DeskFull,
                    AskError::Gone => Problem::DeskGone,
                })?
            }
            Webhook::Tells(news) => {
                if let (News::StreamStatus, Some(error)) = (news, form.first("StreamError")) {
                    tracing::warn!(call_sid = %facts.call_sid, error = cut(error), "Twilio reports a stream's error");
                }
                if let Some(event) = news.event(facts, form) {
                    self.in_time(desk.tell(event)).await?;
                }
                Answer::NoContent
            }
        };
        Ok(self.documents.answer(&answer, &origin.host).map_or_else(no_content, twiml))
    }

    async fn in_time<T>(&self, answer: impl Future<Output = T>) -> Result<T, Problem> {
        tokio::time::timeout(self.limits.desk_answer_max, answer).await.map_err(|_| Problem::DeskSlow)
    }

    async fn read_body(&self, body: Incoming) -> Result<Bytes, Problem> {
        let limit = self.limits.body_bytes_max;
        if body.size_hint().lower() > limit as u64 {
            return Err(Problem::BodyTooLarge);
        }
        match tokio::time::timeout(self.limits.body_read_max, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Problem::BodyTooLarge),
            Ok(Err(_)) => Err(Problem::BodyBroken),
            Err(_) => Err(Problem::BodyTooSlow),
        }
    }

    /// Lets nothing happen for a request without a valid signature; learns the host from one with it, and keeps its
    /// connection from being closed to make room.
    fn admit(&self, parts: &Parts, origin: &Origin, body: Body<'_>, upgrade: bool, seat: &Seat) -> Result<(), Problem> {
        if !self.admission.admits(parts, origin, body, upgrade) {
            self.admission.explain_refused(parts, origin, body, upgrade, Instant::now());
            return Err(Problem::Signature);
        }
        self.behind.public_host.note_validated(origin);
        seat.sign();
        Ok(())
    }

    fn no_handshake(&self, refused: handshake::Refused, parts: &Parts, origin: &Origin) -> Problem {
        if refused == handshake::Refused::UpgradeRequired {
            self.admission.explain_lost_upgrade(parts, origin, Instant::now());
        }
        Problem::Handshake(refused)
    }

    /// Goes on with the connection once the 101 is out; its place is kept until the socket's end.
    fn open_socket(&self, parts: Parts, seat: Seat) {
        let upgrade = hyper::upgrade::on(Request::from_parts(parts, ()));
        let (desk, media) = (self.behind.desk.clone(), self.behind.media.clone());
        tokio::spawn(async move {
            match upgrade.await {
                Ok(upgraded) => media_socket::run(TokioIo::new(upgraded), desk, media).await,
                Err(error) => tracing::debug!(%error, "the connection ended before its upgrade"),
            }
            drop(seat);
        });
    }

    fn prompt(&self, parts: &Parts) -> Result<Response<Full<Bytes>>, Problem> {
        let encoded = parts.uri.path().strip_prefix(PROMPTS_PATH).unwrap_or_default();
        let name = percent_decode_str(encoded).decode_utf8().map_err(|_| Problem::NotFound)?;
        let file = self.behind.prompts.file(&name).ok_or(Problem::NotFound)?;
        let file = StaticFile {
            bytes: &file.bytes,
            content_type: file.content_type,
            etag: &file.etag,
            cache_control: PROMPT_CACHE,
        };
        Ok(file.respond(&parts.method, &parts.headers))
    }
}

/// The secret that a new call's stream will have to show: 128 random bits. For other questions it is not used.
fn fresh_token(question: Question) -> Result<StreamToken, Problem> {
    let mut bytes = [0; 16];
    if question == Question::IncomingCall {
        getrandom::fill(&mut bytes).map_err(|error| {
            tracing::error!(%error, "the system gives no random bytes");
            Problem::NoRandom
        })?;
    }
    let text = URL_SAFE_NO_PAD.encode(bytes);
    text.as_str().try_into().map(StreamToken).map_err(|_| Problem::NoRandom)
}

fn unknown(path: &str, webhook: Option<Webhook>) -> Problem {
    match webhook {
        Some(webhook) => Problem::Method(if webhook.takes_get() { "GET, POST" } else { "POST" }),
        None if path == MEDIA_PATH || path == MEDIA_PATH_SLASH => Problem::Method("GET"),
        None if path == "/healthz" || path.starts_with(PROMPTS_PATH) => Problem::Method("GET, HEAD"),
        None => Problem::NotFound,
    }
}

/// A path's name among the figures: one of a fixed list, whatever strangers ask for.
fn route_name(path: &str) -> &'static str {
    const WEBHOOKS: [&str; 6] =
        ["incoming_call", "stream_ended", "stream_status", "handle_recording", "recording_status", "call_status"];
    let webhook = path.strip_prefix("/webhook/").and_then(|name| WEBHOOKS.into_iter().find(|known| *known == name));
    match path {
        MEDIA_PATH | MEDIA_PATH_SLASH => "media",
        "/healthz" => "healthz",
        _ if path.starts_with(PROMPTS_PATH) => "prompt",
        _ => webhook.unwrap_or("other"),
    }
}

fn twiml(document: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(document));
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/xml"));
    // Each document is one call's own; Twilio may keep answers to GET.
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn no_content() -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
