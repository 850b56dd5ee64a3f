//! (to come)

pub mod page;
pub mod routes;
pub mod snapshot;
