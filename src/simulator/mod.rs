//! A Twilio in small, with a caller, an upstream and their faults: for the demo, for `kolbox call` and for tests.
//!
//! The core is pure and can be driven by a virtual clock: [`phone_call`] is one call that obeys the TwiML it gets,
//! [`account`] is the REST side. [`twilio`], [`rest`] and [`upstream`] join it to real sockets.

pub mod caller;
pub mod document;
pub mod faults;
pub mod peer_stream;
