//! What the status listener counts for `/metrics`: who was turned away, and why.

use prometheus_client::{
    metrics::{counter::Counter, gauge::Gauge},
    registry::Registry,
};

use super::{access::Denied, refusal::Refusal};

/// Since the start. Cheap to clone; clones count together.
#[derive(Debug, Clone, Default)]
pub struct StatusCounters {
    hosts_refused: Counter,
    posts_refused: Counter,
    passwords_wrong: Counter,
    passwords_unheard: Counter,
    bodies_refused: Counter,
    streams_refused: Counter,
    /// Event streams that are open now.
    pub streams: Gauge,
}

impl StatusCounters {
    /// Enters everything under its name.
    pub fn register(&self, registry: &mut Registry) {
        for (name, help, counter) in [
            ("hosts_refused", "Requests by a name that is not the box's (421)", &self.hosts_refused),
            ("posts_refused", "POSTs that were not the box's own page's (403)", &self.posts_refused),
            ("passwords_wrong", "Wrong status passwords, of a login or of HTTP Basic (401)", &self.passwords_wrong),
            (
                "passwords_unheard",
                "Status passwords not looked at: too soon, or too many (429, 503)",
                &self.passwords_unheard,
            ),
            (
                "bodies_refused",
                "Bodies that were too large, too slow or broken off (413, 408, 400)",
                &self.bodies_refused,
            ),
            ("event_streams_refused", "Event streams beyond the maximum (503)", &self.streams_refused),
        ] {
            registry.register(format!("kolbox_status_{name}"), help, counter.clone());
        }
        registry.register("kolbox_status_event_streams", "Event streams that are open", self.streams.clone());
    }

    /// Somebody was turned away.
    pub fn note(&self, refusal: Refusal) {
        let counter = match refusal {
            Refusal::NoHost | Refusal::ForeignHost => &self.hosts_refused,
            Refusal::ForeignPost => &self.posts_refused,
            Refusal::Password(Denied::Wrong) => &self.passwords_wrong,
            Refusal::Password(Denied::TooSoon(_) | Denied::Busy) => &self.passwords_unheard,
            Refusal::BodyTooLarge | Refusal::BodyTooSlow | Refusal::BodyBroken => &self.bodies_refused,
            Refusal::StreamsTaken => &self.streams_refused,
            // The log and the page tell of those that say something about the box.
            Refusal::NotFound
            | Refusal::Method(_)
            | Refusal::NoPassword
            | Refusal::NotStaff
            | Refusal::NotAForm
            | Refusal::UnknownTranscript
            | Refusal::NotParked
            | Refusal::StoreFailing
            | Refusal::Unwritable => return,
        };
        counter.inc();
    }
}
