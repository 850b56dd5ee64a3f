//! `/api/events`: the status as it changes, as Server-Sent Events (HTML, "Server-sent events").
//!
//! A reader that is slow misses what came between: it is always told the latest. One that reads nothing holds one event
//! and its connection's buffer, until the listener gives it up.

use std::{convert::Infallible, sync::Arc};

use bytes::Bytes;
use futures_util::stream;
use http_body_util::{BodyExt, Either, StreamBody};
use hyper::body::Frame;
use prometheus_client::metrics::gauge::Gauge;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::{Instant, sleep_until},
};

use super::{
    access::{Access, Visitor},
    answer::AnswerBody,
    json,
    snapshot::Snapshot,
};
use crate::limits::{EVENT_GAP_MIN, EVENT_HEARTBEAT, EVENT_RETRY, EVENT_STREAMS_MAX};

/// The media type of an event stream.
pub const CONTENT_TYPE: &str = "text/event-stream";

/// The places for event streams, and what they all follow.
#[derive(Debug, Clone)]
pub struct EventStreams {
    places: Arc<Semaphore>,
    open: Gauge,
    access: Access,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    /// True once the listener stops: every stream ends then, and no reader holds up the end.
    stopped: watch::Receiver<bool>,
}

impl EventStreams {
    /// `open` shows how many there are.
    pub fn new(
        access: Access,
        snapshot: watch::Receiver<Arc<Snapshot>>,
        stopped: watch::Receiver<bool>,
        open: Gauge,
    ) -> Self {
        Self { places: Arc::new(Semaphore::new(EVENT_STREAMS_MAX)), open, access, snapshot, stopped }
    }

    /// A stream of what this visitor may see; `None` when as many are open as may be. The place is free again when the
    /// body is dropped.
    pub fn follow(&self, visitor: Visitor) -> Option<AnswerBody> {
        let permit = self.places.clone().try_acquire_owned().ok()?;
        self.open.inc();
        let follower = Follower {
            _place: Place { open: self.open.clone(), _permit: permit },
            access: self.access.clone(),
            visitor,
            snapshot: self.snapshot.clone(),
            stopped: self.stopped.clone(),
            told: None,
            event_at: Instant::now(),
            piece_at: Instant::now(),
        };
        let pieces = stream::unfold(follower, |mut follower| async {
            let piece = follower.next().await?;
            Some((Ok::<_, Infallible>(Frame::data(piece)), follower))
        });
        Some(Either::Right(StreamBody::new(pieces).boxed_unsync()))
    }
}

/// One reader.
struct Follower {
    _place: Place,
    access: Access,
    visitor: Visitor,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    stopped: watch::Receiver<bool>,
    /// What the last event told, and when.
    told: Option<Arc<Snapshot>>,
    event_at: Instant,
    /// When anything was sent last.
    piece_at: Instant,
}

impl Follower {
    /// The next piece of the stream; `None` at its end: the box stops, or the reader's session is over.
    async fn next(&mut self) -> Option<Bytes> {
        let mut stopped = self.stopped.clone();
        let piece = tokio::select! {
            biased;
            _ = stopped.wait_for(|stopped| *stopped) => None,
            piece = self.piece() => piece,
        };
        piece.filter(|_| self.access.still_admits(&self.visitor))
    }

    async fn piece(&mut self) -> Option<Bytes> {
        if self.told.is_some() {
            sleep_until(self.event_at + EVENT_GAP_MIN).await;
        }
        let silent_until = self.piece_at + EVENT_HEARTBEAT;
        loop {
            let latest = Arc::clone(&self.snapshot.borrow_and_update());
            if self.told.as_ref().is_none_or(|told| latest.is_news_after(told)) {
                return Some(self.event(latest));
            }
            tokio::select! {
                changed = self.snapshot.changed() => changed.ok()?,
                () = sleep_until(silent_until) => {
                    self.piece_at = Instant::now();
                    return Some(Bytes::from_static(b":\n\n"));
                }
            }
        }
    }

    /// JSON has no line ends of its own: one `data` line holds it.
    fn event(&mut self, latest: Arc<Snapshot>) -> Bytes {
        let mut piece = match self.told {
            None => format!("retry: {}\n", EVENT_RETRY.as_millis()).into_bytes(),
            Some(_) => Vec::new(),
        };
        piece.extend_from_slice(b"data: ");
        piece.append(&mut json::render(&latest, self.visitor.viewer));
        piece.extend_from_slice(b"\n\n");
        self.told = Some(latest);
        self.event_at = Instant::now();
        self.piece_at = self.event_at;
        piece.into()
    }
}

/// One of the [`EVENT_STREAMS_MAX`].
struct Place {
    open: Gauge,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.dec();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::status::{caller::Viewer, samples};

    struct Fixture {
        streams: EventStreams,
        snapshot: watch::Sender<Arc<Snapshot>>,
        stop: watch::Sender<bool>,
    }

    fn fixture(access: Access) -> Fixture {
        let (snapshot, seen) = watch::channel(Arc::new(samples::idle()));
        let (stop, stopped) = watch::channel(false);
        Fixture { streams: EventStreams::new(access, seen, stopped, Gauge::default()), snapshot, stop }
    }

    const ANYONE: Visitor = Visitor { viewer: Viewer::Anyone, session: None };

    fn open() -> (Fixture, AnswerBody) {
        let fixture = fixture(Access::new(&"".into()));
        let stream = fixture.streams.follow(ANYONE).unwrap();
        (fixture, stream)
    }

    /// The next piece as text; `None` at the end.
    async fn piece(stream: &mut AnswerBody) -> Option<String> {
        let data = stream.frame().await?.unwrap().into_data().unwrap();
        Some(String::from_utf8(data.to_vec()).unwrap())
    }

    /// The state that the next event tells. Fails on anything else.
    async fn told(stream: &mut AnswerBody) -> String {
        let piece = piece(stream).await.unwrap();
        let piece = piece.strip_prefix("retry: 3000\n").unwrap_or(&piece);
        let json = piece.strip_prefix("data: ").and_then(|rest| rest.strip_suffix("\n\n")).unwrap();
        assert!(!json.contains('\n'));
        serde_json::from_str::<serde_json::Value>(json).unwrap()["state"].as_str().unwrap().to_owned()
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_is_told_the_whole_status_at_once_and_at_every_change() {
        let (fixture, mut stream) = open();
        assert_eq!(told(&mut stream).await, "ok");
        tokio::time::advance(Duration::from_secs(5)).await;
        let changed_at = Instant::now();
        fixture.snapshot.send_replace(Arc::new(samples::streaming()));
        assert_eq!(told(&mut stream).await, "streaming");
        assert_eq!(changed_at.elapsed(), Duration::ZERO);
    }

    #[tokio::test(start_paused = true)]
    async fn changes_in_a_row_become_one_event_within_the_second_with_the_latest() {
        let (fixture, mut stream) = open();
        assert_eq!(told(&mut stream).await, "ok");
        let changed_at = Instant::now();
        for snapshot in [samples::answering(), samples::streaming(), samples::fallback()] {
            fixture.snapshot.send_replace(Arc::new(snapshot));
        }
        assert_eq!(told(&mut stream).await, "fallback");
        let waited = changed_at.elapsed();
        assert!(waited >= EVENT_GAP_MIN && waited < Duration::from_secs(1), "{waited:?}");
        // What came and went meanwhile is no news.
        fixture.snapshot.send_replace(Arc::new(samples::idle()));
        fixture.snapshot.send_replace(Arc::new(samples::fallback()));
        assert_eq!(piece(&mut stream).await.unwrap(), ":\n\n");
    }

    #[tokio::test(start_paused = true)]
    async fn time_that_passes_is_no_event_and_a_silent_stream_shows_that_it_lives() {
        let (fixture, mut stream) = open();
        fixture.snapshot.send_replace(Arc::new(samples::streaming()));
        assert_eq!(told(&mut stream).await, "streaming");
        let began = Instant::now();
        let clock = tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                fixture.snapshot.send_modify(|snapshot| {
                    let mut older = (**snapshot).clone();
                    older.at += Duration::from_secs(1);
                    older.uptime += Duration::from_secs(1);
                    older.calls[0].last_media_ago = Some(Duration::from_millis(older.uptime.as_secs() % 20));
                    *snapshot = Arc::new(older);
                });
            }
        });
        assert_eq!(piece(&mut stream).await.unwrap(), ":\n\n");
        assert_eq!(began.elapsed(), EVENT_HEARTBEAT);
        assert_eq!(piece(&mut stream).await.unwrap(), ":\n\n");
        assert_eq!(began.elapsed(), 2 * EVENT_HEARTBEAT);
        clock.abort();
    }

    #[tokio::test]
    async fn the_places_are_bounded_and_come_back() {
        let Fixture { streams, stop: _stop, snapshot: _snapshot } = fixture(Access::new(&"".into()));
        let mut open: Vec<_> = (0..EVENT_STREAMS_MAX).map(|_| streams.follow(ANYONE).unwrap()).collect();
        assert!(streams.follow(ANYONE).is_none());
        assert_eq!(streams.open.get(), EVENT_STREAMS_MAX as i64);
        open.pop();
        assert!(streams.follow(ANYONE).is_some());
        drop(open);
        assert_eq!(streams.open.get(), 0);
    }

    #[tokio::test]
    async fn every_stream_ends_when_the_listener_stops() {
        let (fixture, mut stream) = open();
        let mut second = fixture.streams.follow(ANYONE).unwrap();
        told(&mut stream).await;
        fixture.stop.send_replace(true);
        assert_eq!(piece(&mut stream).await, None);
        assert_eq!(piece(&mut second).await, None, "one that was just opened");
    }

    #[tokio::test(start_paused = true)]
    async fn who_logs_out_is_told_nothing_more() {
        let access = Access::new(&"open sesame".into());
        let here = [127, 0, 0, 1].into();
        let id = access.log_in("open sesame", here).await.unwrap();
        let cookie = [(hyper::header::COOKIE, format!("kolbox_session={id}").parse().unwrap())];
        let visitor = access.visitor(&cookie.into_iter().collect(), here).await.unwrap();
        let fixture = fixture(access.clone());
        fixture.snapshot.send_replace(Arc::new(samples::streaming()));
        let mut stream = fixture.streams.follow(visitor).unwrap();
        assert!(piece(&mut stream).await.unwrap().contains("+972501234567"));
        access.log_out(&visitor);
        fixture.snapshot.send_replace(Arc::new(samples::fallback()));
        assert_eq!(piece(&mut stream).await, None);
    }
}
