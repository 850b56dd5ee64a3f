//! The caller's voice: telephone audio and its level, where speech begins and ends, sound files, and the spool.

pub mod audio;
pub mod decode;
pub mod endpoint;
pub mod silence;
pub mod spool;
