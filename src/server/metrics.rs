//! What the listeners, the public routes and the media sockets count: each limit has a figure that tells it was met.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

/// All of them. Clones count together.
#[derive(Debug, Clone, Default)]
pub struct ServerMetrics {
    open: Family<Side, Gauge>,
    accepted: Family<Side, Counter>,
    refused: Family<Side, Counter>,
    closed: Family<Closing, Counter>,
    handshakes_failed: Family<Side, Counter>,
    bad_requests: Family<Side, Counter>,
    pub requests: RequestMetrics,
    pub media: MediaMetrics,
}

/// Which listener: `public` or `status`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Side {
    listener: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Closing {
    listener: &'static str,
    reason: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    /// One of a fixed list, never the path itself.
    route: &'static str,
    status: u16,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

/// What one listener counts about its connections.
#[derive(Debug, Clone, Default)]
pub struct ConnectionMetrics {
    /// Connections that are open now, media sockets included.
    pub open: Gauge,
    pub accepted: Counter,
    /// Closed as soon as they were accepted: every place was taken.
    pub refused: Counter,
    /// The oldest without a valid signature, closed to make room.
    pub closed_unsigned: Counter,
    /// Closed because their first request's header block was not complete in time.
    pub closed_slow: Counter,
    /// Closed because no further request was complete in time after an answer.
    pub closed_idle: Counter,
    /// Closed because the peer did not read what was sent to it.
    pub closed_unread: Counter,
    /// TLS handshakes that failed or were not done in time.
    pub handshakes_failed: Counter,
    /// Requests that were no HTTP/1.1, or over a limit of the header block (400, 414, 431, or closed).
    pub bad_requests: Counter,
}

/// What the public routes count.
#[derive(Debug, Clone, Default)]
pub struct RequestMetrics {
    answered: Family<Answered, Counter>,
    refused: Family<Reason, Counter>,
}

/// What the media sockets count. A frame costs two atomic additions, no lock and no allocation.
#[derive(Debug, Clone, Default)]
pub struct MediaMetrics {
    /// Media frames of accepted streams.
    pub frames: Counter,
    /// Messages that could not be read, and were skipped.
    pub bad_messages: Counter,
    closed: Family<Reason, Counter>,
}

impl ServerMetrics {
    /// The counters of one listener; the same ones each time.
    pub fn connections(&self, listener: &'static str) -> ConnectionMetrics {
        let side = Side { listener };
        let closed = |reason| self.closed.get_or_create_owned(&Closing { listener, reason });
        ConnectionMetrics {
            open: self.open.get_or_create_owned(&side),
            accepted: self.accepted.get_or_create_owned(&side),
            refused: self.refused.get_or_create_owned(&side),
            closed_unsigned: closed("unsigned"),
            closed_slow: closed("slow"),
            closed_idle: closed("idle"),
            closed_unread: closed("unread"),
            handshakes_failed: self.handshakes_failed.get_or_create_owned(&side),
            bad_requests: self.bad_requests.get_or_create_owned(&side),
        }
    }

    /// Gives every figure its name and its meaning.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("kolbox");
        registry.register("connections_open", "Connections open now, media sockets included", self.open.clone());
        registry.register("connections_accepted", "Connections that got a place", self.accepted.clone());
        let help = "Connections closed as soon as they were accepted, since every place was taken";
        registry.register("connections_refused", help, self.refused.clone());
        let help = "Connections that the box closed: unsigned (the oldest without a valid signature, to make room), \
                    slow (no whole first request in time), idle (no further request in time), unread (the peer does \
                    not read)";
        registry.register("connections_closed", help, self.closed.clone());
        let help = "TLS handshakes that failed or took too long";
        registry.register("tls_handshakes_failed", help, self.handshakes_failed.clone());
        let help = "Requests that were no HTTP/1.1 or whose header block was over a limit";
        registry.register("bad_requests", help, self.bad_requests.clone());
        registry.register("requests", "Requests of the public listener by answer", self.requests.answered.clone());
        let help = "Requests of the public listener that got no proper answer, by reason";
        registry.register("requests_refused", help, self.requests.refused.clone());
        registry.register("media_frames", "Media frames heard on accepted streams", self.media.frames.clone());
        let help = "Messages on media sockets that could not be read and were skipped";
        registry.register("media_bad_messages", help, self.media.bad_messages.clone());
        let help = "Media sockets that are over, by what ended them";
        registry.register("media_sockets_closed", help, self.media.closed.clone());
    }
}

impl RequestMetrics {
    /// A request was answered. `route` is one of a fixed list.
    pub fn note_answer(&self, route: &'static str, status: u16) {
        self.answered.get_or_create(&Answered { route, status }).inc();
    }

    /// A request got no proper answer.
    pub fn note_refusal(&self, reason: &'static str) {
        self.refused.get_or_create(&Reason { reason }).inc();
    }

    /// How many requests were refused for this reason.
    pub fn refused(&self, reason: &'static str) -> u64 {
        self.refused.get(&Reason { reason }).map_or(0, |count| count.get())
    }
}

impl MediaMetrics {
    /// A media socket is over.
    pub fn note_end(&self, reason: &'static str) {
        self.closed.get_or_create(&Reason { reason }).inc();
    }

    /// How many media sockets ended for this reason.
    pub fn ended(&self, reason: &'static str) -> u64 {
        self.closed.get(&Reason { reason }).map_or(0, |count| count.get())
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text;

    use super::*;

    fn shown(metrics: &ServerMetrics) -> String {
        let (mut registry, mut shown) = (Registry::default(), String::new());
        metrics.register(&mut registry);
        text::encode(&mut shown, &registry).unwrap();
        shown
    }

    #[test]
    fn every_figure_of_a_connection_is_there_from_the_start() {
        let metrics = ServerMetrics::default();
        metrics.connections("public").open.inc();
        metrics.connections("public").closed_unread.inc();
        let shown = shown(&metrics);
        for line in [
            r#"kolbox_connections_open{listener="public"} 1"#,
            r#"kolbox_connections_accepted_total{listener="public"} 0"#,
            r#"kolbox_connections_refused_total{listener="public"} 0"#,
            r#"kolbox_connections_closed_total{listener="public",reason="unsigned"} 0"#,
            r#"kolbox_connections_closed_total{listener="public",reason="slow"} 0"#,
            r#"kolbox_connections_closed_total{listener="public",reason="idle"} 0"#,
            r#"kolbox_connections_closed_total{listener="public",reason="unread"} 1"#,
            r#"kolbox_tls_handshakes_failed_total{listener="public"} 0"#,
            r#"kolbox_bad_requests_total{listener="public"} 0"#,
            "kolbox_media_frames_total 0",
            "kolbox_media_bad_messages_total 0",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
        }
    }

    #[test]
    fn each_figure_is_explained_once_however_many_listeners_there_are() {
        let metrics = ServerMetrics::default();
        for listener in ["public", "status"] {
            metrics.connections(listener).accepted.inc();
        }
        metrics.requests.note_answer("incoming_call", 200);
        metrics.requests.note_refusal("signature");
        metrics.media.note_end("wrong token");
        let shown = shown(&metrics);
        let names = |start: &str| shown.lines().filter(|line| line.starts_with(start)).count();
        assert_eq!((names("# HELP"), names("# TYPE")), (11, 11), "{shown}");
        assert!(shown.contains("kolbox_requests_total{route=\"incoming_call\",status=\"200\"} 1"), "{shown}");
        assert!(shown.contains("kolbox_requests_refused_total{reason=\"signature\"} 1"), "{shown}");
        assert!(shown.contains("kolbox_media_sockets_closed_total{reason=\"wrong token\"} 1"), "{shown}");
    }
}
