//! The promise: which calls live, what each was last heard of, and when silence sends one to the recorder. Pure.

pub mod call;
pub mod desk;
pub mod event;
pub mod pulse;
mod recorder;
pub mod redirect;
pub mod registry;
mod streaming;
pub mod watchdog;

pub use desk::{Desk, DeskOptions, DeskView, RestTrouble};
pub use event::*;
pub use pulse::Pulses;
