//! The bodies of the fuzz targets, one file for each parser that meets strangers: bytes in, panic on a broken promise.
//!
//! Each is run by libFuzzer (`fuzz_targets/`) and, over the corpus and its mutations, by `tests/fuzz_replay.rs` in every
//! `cargo test`. What an input looks like stands at the head of each file; inputs are texts as far as they can be, so
//! that a finding can be read.

pub mod config;
pub mod http_target;
pub mod login_form;
pub mod media_message;
pub mod rest_answer;
pub mod signature_doubt;
pub mod signature_url;
pub mod stored_record;
pub mod webhook_form;

mod text;

/// A target's name, which is also its corpus' and its binary's, and its body.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: [Target; 9] = [
    ("media_message", media_message::run),
    ("webhook_form", webhook_form::run),
    ("signature_url", signature_url::run),
    ("signature_doubt", signature_doubt::run),
    ("config", config::run),
    ("stored_record", stored_record::run),
    ("http_target", http_target::run),
    ("rest_answer", rest_answer::run),
    ("login_form", login_form::run),
];
