//! (to come)

pub mod clock;
pub mod http_client;
pub mod log;
pub mod systemd;
