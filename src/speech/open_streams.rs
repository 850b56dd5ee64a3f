//! Which calls' audio is being written: whoever reads it follows it, and waits for its last words.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::sync::watch;

use crate::twilio::sid::CallSid;

/// The streams whose files are not closed, by their calls; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct OpenStreams(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    calls: Mutex<BTreeMap<CallSid, usize>>,
    opened: AtomicU64,
    /// Tells that one was opened or closed.
    changed: watch::Sender<()>,
}

/// One stream that is being written, for as long as this lives.
#[derive(Debug)]
pub(super) struct OpenStream {
    streams: OpenStreams,
    call_sid: CallSid,
}

impl OpenStreams {
    /// A stream of this call begins.
    pub(super) fn open(&self, call_sid: CallSid) -> OpenStream {
        *self.calls().entry(call_sid).or_default() += 1;
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        self.0.changed.send_replace(());
        OpenStream { streams: self.clone(), call_sid }
    }

    /// Whether one of this call's is not on the disk yet.
    pub fn is_open(&self, call_sid: CallSid) -> bool {
        self.calls().contains_key(&call_sid)
    }

    /// How many streams, of all calls, have begun since the start. While that stays the same, what was found on the disk of
    /// a call of which none is open is all of it.
    pub fn opened(&self) -> u64 {
        self.0.opened.load(Ordering::SeqCst)
    }

    /// The calls of which one is not.
    pub fn calls_open(&self) -> Vec<CallSid> {
        self.calls().keys().copied().collect()
    }

    /// Has changed whenever a stream begins or is on the disk.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Waits until every stream of this call that has begun is on the disk.
    pub async fn closed(&self, call_sid: CallSid) {
        let mut changes = self.changes();
        while self.is_open(call_sid) {
            // The sender is ours: it cannot be gone.
            let _ = changes.changed().await;
        }
    }

    fn calls(&self) -> MutexGuard<'_, BTreeMap<CallSid, usize>> {
        self.0.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        let mut calls = self.streams.calls();
        if let Some(count) = calls.get_mut(&self.call_sid) {
            *count -= 1;
            if *count == 0 {
                calls.remove(&self.call_sid);
            }
        }
        drop(calls);
        self.streams.0.changed.send_replace(());
    }
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context};

    use super::*;

    #[tokio::test]
    async fn a_calls_audio_is_whole_once_each_of_its_streams_is_closed() {
        let (streams, call, other) = (OpenStreams::default(), CallSid::from_number(1), CallSid::from_number(2));
        streams.closed(call).await;
        let mut changes = streams.changes();
        let (first, second, foreign) = (streams.open(call), streams.open(call), streams.open(other));
        assert_eq!((streams.calls_open(), streams.opened()), (vec![call, other], 3));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
        let mut closed = pin!(streams.closed(call));
        let mut is_closed = || closed.as_mut().poll(&mut Context::from_waker(std::task::Waker::noop())).is_ready();
        assert!(!is_closed());
        drop(second);
        assert!(!is_closed());
        drop(first);
        assert!(is_closed() && changes.has_changed().unwrap());
        streams.closed(call).await;
        drop(foreign);
        streams.closed(other).await;
    }
}
