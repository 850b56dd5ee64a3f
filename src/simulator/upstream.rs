//! A small office system: takes transcripts, can be down for a while, and keeps each once.

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request, Response, StatusCode, header};
use serde_json::Value;
use tokio::sync::watch;

use super::rest::{Served, plain, serve_with};

/// Transcripts that it keeps; beyond it the answer is 507, and the box has to wait.
const TRANSCRIPTS_MAX: usize = 100_000;
/// Arrivals that it remembers, repetitions included; later ones are not listed.
const ARRIVALS_MAX: usize = 2 * TRANSCRIPTS_MAX;

/// A running upstream.
#[derive(Debug)]
pub struct Upstream {
    shared: Arc<Shared>,
    served: Served,
}

#[derive(Debug)]
struct Shared {
    /// What `Authorization: Bearer` must carry; empty: anything goes.
    token: String,
    desk: Mutex<Desk>,
    /// Tells how many transcripts there are.
    count: watch::Sender<usize>,
}

#[derive(Debug, Default)]
struct Desk {
    down: bool,
    turned_away: u64,
    repeated: u64,
    transcripts: Vec<Transcript>,
    /// The keys of all that came with one while it was up.
    arrivals: Vec<String>,
}

/// A transcript as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Transcript {
    /// Its `Idempotency-Key`.
    pub key: String,
    pub body: Value,
}

impl Upstream {
    /// Listens at this address; transcripts are posted to any path.
    ///
    /// # Errors
    /// The address cannot be listened on.
    pub async fn serve(address: SocketAddr, token: &str) -> io::Result<Self> {
        let shared = Arc::new(Shared { token: token.to_owned(), desk: Mutex::default(), count: watch::Sender::new(0) });
        let handler_shared = shared.clone();
        let served = serve_with(address, move |request| {
            let response = handler_shared.take(&request);
            async move { response }
        })
        .await?;
        Ok(Self { shared, served })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.served.address
    }

    /// While down, everything is answered with 503.
    pub fn set_down(&self, down: bool) {
        self.shared.desk().down = down;
    }

    /// What it got, in the order of arrival, each once.
    pub fn transcripts(&self) -> Vec<Transcript> {
        self.shared.desk().transcripts.clone()
    }

    /// The keys of everything that came while it was up, repetitions included, in the order of arrival.
    pub fn arrivals(&self) -> Vec<String> {
        self.shared.desk().arrivals.clone()
    }

    /// How many requests were turned away while it was down.
    pub fn turned_away(&self) -> u64 {
        self.shared.desk().turned_away
    }

    /// How many transcripts came again.
    pub fn repeated(&self) -> u64 {
        self.shared.desk().repeated
    }

    /// Changes with each new transcript.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.shared.count.subscribe()
    }
}

impl Shared {
    fn desk(&self) -> MutexGuard<'_, Desk> {
        self.desk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, request: &Request<Bytes>) -> Response<Full<Bytes>> {
        if request.method() != Method::POST {
            return plain(StatusCode::METHOD_NOT_ALLOWED);
        }
        let mut desk = self.desk();
        if desk.down {
            desk.turned_away += 1;
            return plain(StatusCode::SERVICE_UNAVAILABLE);
        }
        let header = |name| request.headers().get(name).and_then(|value| value.to_str().ok());
        let bearer = header(header::AUTHORIZATION.as_str()).and_then(|value| value.strip_prefix("Bearer "));
        if !self.token.is_empty() && bearer != Some(&self.token) {
            return plain(StatusCode::UNAUTHORIZED);
        }
        let (Some(key), Ok(body)) = (header("idempotency-key"), serde_json::from_slice(request.body())) else {
            return plain(StatusCode::UNPROCESSABLE_ENTITY);
        };
        if desk.arrivals.len() < ARRIVALS_MAX {
            desk.arrivals.push(key.to_owned());
        }
        if desk.transcripts.iter().any(|known| known.key == key) {
            desk.repeated += 1;
            return plain(StatusCode::CONFLICT);
        }
        if desk.transcripts.len() >= TRANSCRIPTS_MAX {
            return plain(StatusCode::INSUFFICIENT_STORAGE);
        }
        desk.transcripts.push(Transcript { key: key.to_owned(), body });
        self.count.send_replace(desk.transcripts.len());
        plain(StatusCode::CREATED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(token: &str) -> Shared {
        Shared { token: token.to_owned(), desk: Mutex::default(), count: watch::Sender::new(0) }
    }

    fn post(key: &str, token: &str, body: &'static str) -> Request<Bytes> {
        Request::post("/transcripts")
            .header("Idempotency-Key", key)
            .header("Authorization", format!("Bearer {token}"))
            .body(Bytes::from_static(body.as_bytes()))
            .unwrap()
    }

    #[test]
    fn keeps_each_transcript_once_and_none_while_it_is_down() {
        let shared = shared("t");
        let status = |request| shared.take(&request).status().as_u16();
        shared.desk().down = true;
        assert_eq!(status(post("1", "t", "{}")), 503);
        shared.desk().down = false;
        assert_eq!(status(post("1", "wrong", "{}")), 401);
        assert_eq!(status(post("1", "t", "not json")), 422);
        assert_eq!(status(post("1", "t", "{}")), 201);
        assert_eq!(status(post("1", "t", "{}")), 409);
        assert_eq!(status(post("2", "t", "{}")), 201);
        let desk = shared.desk();
        assert_eq!((desk.transcripts.len(), desk.repeated, *shared.count.borrow()), (2, 1, 2));
        assert_eq!(desk.arrivals, ["1", "1", "2"]);
    }
}
