//! A Twilio in small, with a caller, an upstream and their faults: for the demo, for `kolbox call` and for tests.
//!
//! The core is pure and can be driven by a virtual clock: [`phone_call`] is one call that obeys the TwiML it gets,
//! made up by its [`plan`]; [`account`] is the REST side. [`twilio`], [`rest`] and [`upstream`] join it to sockets.

pub mod account;
pub mod call_tool;
pub mod caller;
pub mod document;
pub mod faults;
pub mod forms;
pub mod happening;
pub mod media_client;
pub mod peer_stream;
pub mod phone_call;
pub mod plan;
pub mod recorder;
pub mod report;
pub mod rest;
pub mod streaming;
pub mod twilio;
pub mod upstream;

#[cfg(test)]
mod loopback_tests;
