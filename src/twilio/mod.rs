//! Twilio's vocabulary: bytes to values and back. Pure.

pub mod account;
pub mod media_stream;
pub mod media_stream_peer;
pub mod recording_list;
pub mod rest;
pub mod sid;
pub mod signature;
pub mod signature_doubt;
pub mod twiml;
pub mod webhook;
