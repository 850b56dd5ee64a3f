//! The caller's voice: telephone audio and its level, where speech begins and ends, sound files, the spool, and what
//! turns voice into text.

pub mod audio;
pub mod call_audio;
pub mod circuit;
pub mod decode;
pub mod endpoint;
pub mod engine;
pub mod health;
pub(crate) mod hearing;
pub mod lazy_engine;
pub mod marks;
pub mod mask;
pub mod model;
pub mod open_streams;
pub mod openai;
pub mod recognizer;
pub mod resample;
pub mod silence;
pub mod spool;
pub mod stream_clock;
pub mod transcriber;
pub mod transcription;
pub mod utterance;
#[cfg(feature = "whisper")]
pub mod whisper;
pub mod wyoming;

/// Samples a second of what engines are trained on.
pub const WIDE_RATE_HZ: u32 = 16_000;

/// `speech.language` where the engine is to find out by itself.
const ANY_LANGUAGE: &str = "auto";

/// `he` of `he-IL`: what recognizers know.
fn primary_language(tag: &str) -> String {
    tag.split('-').next().unwrap_or(tag).to_ascii_lowercase()
}
