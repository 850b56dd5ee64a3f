//! (to come)

pub mod audio;
pub mod decode;
pub mod endpoint;
pub mod spool;
