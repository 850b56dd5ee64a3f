//! The machine beneath: time, logs, systemd and outgoing HTTP.

pub mod clock;
pub mod http_client;
pub mod journal;
pub mod log;
pub mod systemd;
