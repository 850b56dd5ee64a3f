//! (to come)

pub mod keeper;
pub mod outbox;
pub mod pending;
pub mod record;
pub mod store;
pub mod upstream;
