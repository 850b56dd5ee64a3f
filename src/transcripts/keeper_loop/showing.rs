//! What the keeper shows of itself.

use super::KeeperLoop;
use crate::transcripts::{
    view::{KeeperView, StoreTrouble},
    writer::Causes,
};

impl KeeperLoop {
    /// Says how the records stand, where that has changed.
    pub(super) fn publish(&self) {
        let health = self.health.borrow();
        let counts = health.counts;
        let (awaiting_text, oldest_awaiting_text) = self.books.awaiting_text();
        // Synced records make room for new ones; nothing else does.
        let is_full = counts.bytes > self.options.store.max_bytes && counts.synced == 0;
        let store_trouble = StoreTrouble::of(health.failure.as_deref(), health.surroundings.has_room, is_full);
        let view = KeeperView {
            stored: counts.stored(),
            unsynced: counts.unsynced,
            parked: counts.parked,
            // Both are drafts to the store.
            awaiting_recording: counts.awaiting_recording.saturating_sub(awaiting_text as u64),
            awaiting_text,
            oldest_awaiting_text,
            bytes: counts.bytes,
            damaged: counts.damaged,
            missing: counts.missing,
            can_keep: store_trouble.is_none(),
            store_trouble,
            quarantined: health.surroundings.quarantined,
            store_error: health.failure.as_ref().map(|error| Causes(error.as_ref()).to_string()),
            last_ok: self.last_ok,
            last_error: self.last_error.clone(),
            sync_trouble: self.books.is_in_trouble(),
            oldest_unsynced: self.books.oldest_unsynced(),
            recent: self.books.recent(),
        };
        self.view.send_if_modified(|known| {
            let differs = *known != view;
            *known = view;
            differs
        });
    }
}
