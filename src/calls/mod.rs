//! The promise: which calls live, what each was last heard of, and when silence sends one to the recorder. Pure.

pub mod call;
pub mod desk;
pub mod event;
pub mod pulse;
pub mod registry;
pub mod watchdog;

pub use event::*;
pub use pulse::Pulses;
