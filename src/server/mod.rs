//! The side Twilio talks to: listener, TLS, webhooks, media sockets, prompts; and the way out to Twilio's REST API.

pub mod admission;
mod connection;
pub mod conversation;
pub mod desk_port;
pub mod documents;
pub mod handshake;
pub mod listener;
pub mod media_session;
pub mod media_socket;
mod media_wire;
pub mod metrics;
mod places;
pub mod problem;
pub mod prompts;
pub mod public_host;
pub mod refusals;
pub mod rest_client;
pub mod router;
pub mod static_file;
pub mod tls;
pub mod webhooks;
mod write_limit;
