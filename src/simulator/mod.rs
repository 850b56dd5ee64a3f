//! A Twilio in small, with a caller, an upstream and their faults: for the demo, for `kolbox call` and for tests.
//!
//! The core is pure and can be driven by a virtual clock: [`phone_call`] is one call that obeys the TwiML it gets,
//! [`account`] is the REST side.

pub mod account;
pub mod caller;
pub mod document;
pub mod faults;
pub mod forms;
pub mod peer_stream;
pub mod phone_call;
pub mod plan;
pub mod recorder;
pub mod report;
pub mod streaming;
