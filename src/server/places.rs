//! The places at a listener: so many connections at once, and of those without a valid signature the oldest goes first.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use tokio::sync::oneshot;

use super::metrics::ConnectionMetrics;

/// All places of one listener. Its table never has more entries than there are places.
#[derive(Debug)]
pub(super) struct Places {
    places_max: usize,
    unsigned_max: usize,
    metrics: ConnectionMetrics,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    taken: usize,
    /// The next connection's number: so the smallest number is the oldest.
    next: u64,
    /// Connections that showed no valid signature yet, and how each is told to close.
    unsigned: BTreeMap<u64, oneshot::Sender<()>>,
}

/// One connection's place; free again when the last clone is dropped. Whoever goes on with a connection after an upgrade
/// keeps one.
#[derive(Debug, Clone)]
pub struct Seat(Arc<Taken>);

#[derive(Debug)]
struct Taken {
    number: u64,
    places: Arc<Places>,
}

/// Tells a connection that its place is needed.
#[derive(Debug)]
pub(super) struct Notice(oneshot::Receiver<()>);

impl Places {
    pub(super) fn new(places_max: usize, unsigned_max: usize, metrics: ConnectionMetrics) -> Arc<Self> {
        Arc::new(Self { places_max, unsigned_max, metrics, table: Mutex::default() })
    }

    /// A place for a new connection, and the notice that it may get; `None` when all are taken. Where this makes too
    /// many without a valid signature, the oldest of them is told to close.
    pub(super) fn take(self: &Arc<Self>) -> Option<(Seat, Notice)> {
        let mut table = self.table();
        if table.taken >= self.places_max {
            warn_of(self.metrics.refused.inc() + 1, "a connection over the maximum was refused");
            return None;
        }
        let (sender, receiver) = oneshot::channel();
        let number = table.next;
        table.next += 1;
        table.taken += 1;
        table.unsigned.insert(number, sender);
        if table.unsigned.len() > self.unsigned_max
            && let Some((_, oldest)) = table.unsigned.pop_first()
        {
            // One that ended in this very moment needs no notice.
            let _ = oldest.send(());
            let count = self.metrics.closed_unsigned.inc() + 1;
            warn_of(count, "too many connections without a valid signature: the oldest was closed");
        }
        self.metrics.accepted.inc();
        self.metrics.open.inc();
        Some((Seat(Arc::new(Taken { number, places: self.clone() })), Notice(receiver)))
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The first time, and then each time the count has doubled: strangers must not fill the log.
fn warn_of(count: u64, what: &'static str) {
    if count.is_power_of_two() {
        tracing::warn!(count, "{what}");
    }
}

impl Seat {
    /// The connection carried a request with a valid signature: it will not be closed to make room.
    pub fn sign(&self) {
        self.0.places.table().unsigned.remove(&self.0.number);
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        let mut table = self.places.table();
        table.taken -= 1;
        table.unsigned.remove(&self.number);
        self.places.metrics.open.dec();
    }
}

impl Notice {
    /// Ready when the place is needed; never, once the connection is signed.
    pub(super) async fn served(self) {
        if self.0.await.is_err() {
            std::future::pending().await
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(places_max: usize, unsigned_max: usize) -> Arc<Places> {
        Places::new(places_max, unsigned_max, ConnectionMetrics::default())
    }

    fn is_told(notice: &mut Notice) -> bool {
        notice.0.try_recv().is_ok()
    }

    #[test]
    fn a_place_is_free_again_with_its_last_clone() {
        let places = places(2, 2);
        let (one, other) = (places.take().unwrap(), places.take().unwrap());
        assert!(places.take().is_none());
        let clone = one.0.clone();
        drop(one);
        assert!(places.take().is_none(), "whoever goes on with the connection keeps its place");
        drop(clone);
        let again = places.take().unwrap();
        assert_eq!((places.metrics.open.get(), places.metrics.accepted.get(), places.metrics.refused.get()), (2, 3, 2));
        drop((other, again));
        assert_eq!(places.metrics.open.get(), 0);
    }

    #[test]
    fn of_too_many_without_a_signature_the_oldest_goes() {
        let places = places(8, 2);
        let mut seats: Vec<_> = (0..4).map(|_| places.take().unwrap()).collect();
        let told: Vec<bool> = seats.iter_mut().map(|(_, notice)| is_told(notice)).collect();
        assert_eq!(told, [true, true, false, false]);
        assert_eq!(places.metrics.closed_unsigned.get(), 2);
    }

    #[test]
    fn whoever_was_signed_once_stays() {
        let places = places(8, 2);
        let (seat, mut notice) = places.take().unwrap();
        seat.sign();
        seat.sign();
        let mut others: Vec<_> = (0..3).map(|_| places.take().unwrap()).collect();
        assert!(!is_told(&mut notice));
        assert!(is_told(&mut others[0].1));
    }

    #[test]
    fn who_ended_by_itself_is_not_counted_as_closed() {
        let places = places(8, 1);
        for _ in 0..3 {
            drop(places.take());
        }
        assert_eq!(places.metrics.closed_unsigned.get(), 0);
        assert!(places.table().unsigned.is_empty());
    }
}
