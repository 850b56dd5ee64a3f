//! The REST side on a socket: what a gateway's `twilio.api_base` points at.

use std::{future::pending, io, net::SocketAddr};

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Request, Response, StatusCode, body::Incoming, header};
use tokio::{task::JoinHandle, time::timeout};

use super::{
    account::{ApiReply, ApiRequest, Verdict},
    twilio::Twilio,
};
use crate::{
    limits::{BODY_BYTES_MAX, BODY_READ_MAX},
    server::listener::{Limits, Listener},
};

/// Connections at once: enough for a full box's redirects and its recordings.
const CONNECTIONS_MAX: usize = 1024;

/// A server that runs until it is dropped.
#[derive(Debug)]
pub struct Served {
    /// Where it listens.
    pub address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Serves an account's REST API over plain HTTP: meant for loopback only.
///
/// # Errors
/// The address cannot be listened on.
pub async fn serve(address: SocketAddr, twilio: Twilio) -> io::Result<Served> {
    serve_with(address, move |request| {
        let twilio = twilio.clone();
        async move { answer(request, &twilio).await }
    })
    .await
}

/// Serves anything over plain HTTP within the usual limits.
pub(super) async fn serve_with<H, F>(address: SocketAddr, handler: H) -> io::Result<Served>
where
    H: Fn(Request<Bytes>) -> F + Clone + Send + 'static,
    F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
{
    let listener = Listener::bind(address, None, Limits::among_friends(CONNECTIONS_MAX)).await?;
    let address = listener.address()?;
    let whole = move |request: Request<Incoming>, _| {
        let handler = handler.clone();
        async move {
            match read_whole(request).await {
                Ok(request) => handler(request).await,
                Err(status) => plain(status),
            }
        }
    };
    let task = tokio::spawn(async move { listener.serve(whole, pending()).await });
    Ok(Served { address, task })
}

/// An answer without body.
pub(super) fn plain(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    response
}

async fn read_whole(request: Request<Incoming>) -> Result<Request<Bytes>, StatusCode> {
    let (parts, body) = request.into_parts();
    let body = timeout(BODY_READ_MAX, Limited::new(body, 4 * BODY_BYTES_MAX).collect())
        .await
        .map_err(|_| StatusCode::REQUEST_TIMEOUT)?
        .map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
    Ok(Request::from_parts(parts, body.to_bytes()))
}

async fn answer(request: Request<Bytes>, twilio: &Twilio) -> Response<Full<Bytes>> {
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let verdict = twilio.account().handle_request(ApiRequest {
        method: request.method().as_str(),
        path: request.uri().path(),
        query: request.uri().query().unwrap_or_default(),
        authorization,
        body: request.body(),
    });
    let reply = match verdict {
        Verdict::Reply(reply) => reply,
        Verdict::Update { call_sid, update } => {
            let decision = twilio.update(call_sid, update).await;
            twilio.account().update_reply(call_sid, &decision)
        }
    };
    respond(reply)
}

fn respond(reply: ApiReply) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(reply.body)));
    *response.status_mut() = StatusCode::from_u16(reply.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, header::HeaderValue::from_static(reply.content_type));
    response
}
