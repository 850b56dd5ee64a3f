//! The machine beneath: time, the disk, memory, priorities, logs, systemd and outgoing HTTP.

pub mod clock;
pub mod disk_use;
pub mod http_client;
pub mod journal;
pub mod log;
pub mod memory;
pub mod priority;
pub mod systemd;
