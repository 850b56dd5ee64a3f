//! What every ended call leaves: one record, kept so that it survives pulling the plug, and handed to the office.
//!
//! The way of a record: an ended call ([`keeper`]) becomes a [`record`]; one that went to the recorder waits for its
//! recording ([`pending`]), first as a draft, and where there is an engine for its text ([`texts`]); then it is final, gets
//! its place in the order ([`store`], written by [`writer`]), is sent when its turn comes ([`outbox`], [`upstream`]), and
//! stands as synced. What follows what is
//! decided in the [`books`]. Beside them a housekeeper ([`house`]) looks after the audio ([`shelf`]) and after recordings that
//! nobody knows ([`catch_up`]) or needs any more ([`deletions`]).

mod audio_folder;
pub mod books;
pub mod catch_up;
pub mod deletions;
pub mod house;
mod housekeeper;
pub mod identity;
pub mod journal;
pub mod keeper;
mod keeper_loop;
mod notes;
pub mod outbox;
mod packing;
pub mod pending;
pub mod read;
pub mod record;
pub mod recordings;
pub mod rows;
pub mod shelf;
pub mod sled_store;
pub mod store;
pub mod stored;
pub mod texts;
pub mod upstream;
pub mod view;
pub mod writer;

#[cfg(test)]
mod conformance_tests;
#[cfg(test)]
mod keeper_tests;
#[cfg(test)]
mod memory_store_tests;

pub use house::{AudioView, HousekeepingOptions};
pub use keeper::{
    AccountList, Errand, KeepError, Keeper, KeeperError, KeeperOptions, KeeperPort, Left, RetryError, Started,
    TextPort, TextWanted,
};
pub use record::{BoxIdentity, Heard, Outcome, Record, Source, TranscriptId, Words};
pub use store::{Store, StoreError};
pub use stored::{Sequence, State, Stored};
pub use view::{KeeperView, RecentCall, StoreTrouble, SyncError};
