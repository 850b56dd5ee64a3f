//! kolbox: an office box that answers Twilio calls, streams and keeps them, and never loses one.

pub mod board;
pub mod calls;
pub mod cli;
pub mod config;
pub mod gateway;
pub mod limits;
pub mod server;
pub mod simulator;
pub mod speech;
pub mod status;
pub mod system;
pub mod transcripts;
pub mod twilio;
