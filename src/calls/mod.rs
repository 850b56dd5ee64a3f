//! The promise: which calls live, what each was last heard of, and when silence sends one to the recorder. Pure.

pub mod call;
pub mod desk;
pub mod event;
pub mod options;
pub mod party;
pub mod pulse;
mod recorder;
pub mod redirect;
pub mod registry;
mod streaming;
pub mod watchdog;

pub use desk::{Desk, DeskView};
pub use event::*;
pub use options::DeskOptions;
pub use party::Party;
pub use pulse::Pulses;
