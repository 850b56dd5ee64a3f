//! The side staff look at: the box's state as a page that a clerk can read, and as JSON.

pub mod access;
pub mod answer;
pub mod assets;
pub mod body;
pub mod caller;
pub mod counters;
pub mod events;
mod frame;
pub mod hosts;
pub mod json;
pub mod language;
pub mod login_page;
pub mod metrics;
pub mod origin;
pub mod page;
pub mod password;
pub mod refusal;
pub mod request;
pub mod routes;
pub mod sessions;
pub mod snapshot;
pub mod throttle;
pub mod trouble;
pub mod words;

#[cfg(test)]
mod routes_tests;
#[cfg(test)]
mod samples;
