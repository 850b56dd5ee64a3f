//! The side staff look at: the box's state as a page that a clerk can read, and as JSON.

pub mod access;
pub mod assets;
pub mod caller;
pub mod hosts;
pub mod json;
pub mod language;
pub mod metrics;
pub mod page;
pub mod routes;
pub mod snapshot;
pub mod trouble;
pub mod words;

#[cfg(test)]
mod samples;
