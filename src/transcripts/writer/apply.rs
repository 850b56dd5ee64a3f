//! One change of the store, done; and what the store's thread makes of a failure of the engine.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use super::{Change, Done, NotKept};
use crate::transcripts::{
    record::Record,
    store::{Kept, Known, Store, StoreError},
};

pub(super) fn report_stored(record: &Record) {
    tracing::info!(
        event = "TRANSCRIPT_STORED",
        call_sid = %record.call_sid,
        stream_sid = record.stream_sid.map(tracing::field::display),
        transcript_id = %record.id,
        source = ?record.source,
        outcome = ?record.outcome,
        "transcript stored"
    );
}

/// A panic below is sled's way to say that its files are not what it wrote.
pub(super) fn guarded<T>(run: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| Err(StoreError::Unreadable("records".into())))
}

/// `Err`: the store is to be opened again. A change that can never be done is no failure of the store.
pub(super) fn apply(store: &mut dyn Store, change: &Change, bytes_max: u64) -> Result<Done, StoreError> {
    let result = match change {
        Change::PutDraft(record) | Change::PutFinal(record)
            if store.counts().bytes > bytes_max
                && !matches!(store.find(record.call_sid)?, Known::Record(_) | Known::Unfindable) =>
        {
            tracing::error!(call_sid = %record.call_sid, "the store is full: this call's record is not kept");
            return Ok(Err(NotKept::Never(Arc::new(StoreError::Full))));
        }
        Change::PutDraft(record) => store.put_draft(record).map(|kept| kept == Kept::New),
        Change::PutFinal(record) => store.put_final(record).map(|kept| kept == Kept::New),
        Change::PutLive(entry) => store.put_live(entry).map(|kept| kept == Kept::New),
        Change::MarkSynced { sequence, at } => store.mark_synced(*sequence, *at).map(|()| true),
        Change::Park { sequence, status, at } => store.park(*sequence, *status, *at).map(|()| true),
        Change::Unpark(id) => store.unpark(*id),
        Change::MakeRoom { bytes_max, synced_before } => {
            store.make_room(*bytes_max, *synced_before).map(|deleted| deleted > 0)
        }
    };
    match result {
        Err(error @ StoreError::TooLong(_)) => Ok(Err(NotKept::Never(Arc::new(error)))),
        result => result.map(Ok),
    }
}
