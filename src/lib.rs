//! kolbox: an office box that answers Twilio calls, streams and keeps them, and never loses one.
//!
//! # The promise
//! No caller ever ends in silence: at every moment of an answered call, past a short deadline, either voice is arriving
//! on a live stream or the call has been sent to a recording. No call is lost, and no transcript.
//!
//! # The map
//! Imports point down this list only (`tests/tidy.rs` holds it so); rooms on one line know nothing of each other.
//!
//! | room | what it has |
//! | --- | --- |
//! | [`cli`] | arguments to one subcommand, outcomes to exit codes |
//! | [`gateway`] | the running box: every part built in order, run, drained |
//! | [`simulator`] | a Twilio, callers and an office in small: for the demo, `kolbox call` and the tests |
//! | [`server`], [`status`] | the side Twilio talks to; the side staff look at |
//! | [`transcripts`], [`speech`], [`board`] | records and where they go; sound; lamps |
//! | [`system`] | clocks, the log, systemd, an HTTP client |
//! | [`calls`] | **the promise**: registry, the life of a call, the watchdog, the desk. Pure |
//! | [`twilio`] | Twilio's vocabulary: bytes to values and back. Pure |
//! | [`config`], [`limits`] | what may be set; what may never be exceeded |
//!
//! # Invariants
//! 1. Every answered call ends exactly once, with an [`calls::EndCause`], and frees exactly one slot.
//! 2. Past its deadline a live call is *streaming* or *in fallback*. Only media frames count as life: no status field
//!    and no callback does.
//! 3. A healthy call is never redirected. At most one redirect that the box knows to be accepted; a second only after
//!    asking Twilio.
//! 4. Every ended call yields exactly one record, acknowledged inside the box only once it would survive pulling the plug.
//! 5. Bounded: every table, queue, message and string has a maximum in [`limits`]. Full is a value with a written
//!    policy, never a panic, never growth.
//! 6. No bytes from the network can make the box panic, hang, or answer another call's question.
//! 7. Deciding code is deterministic: no clock, no randomness, no sockets; `now` is an argument.
//!
//! # The route of a call
//! 1. *A webhook*: [`server::listener`] (place, TLS, limits) → [`server::router`] → [`server::admission`] (signature over
//!    the public URL) → [`server::webhooks`] (form to event) → [`calls::Desk`] → [`server::documents`] (answer to TwiML).
//! 2. *A frame*: [`server::media_socket`] → [`server::media_session`] parses it where it lies, stamps its
//!    [`calls::Pulses`], and hands the audio to [`speech::spool`]. It never meets the desk.
//! 3. *Silence*: [`calls::Desk::poll_timeout`] → `handle_timeout` looks at the stamp → [`calls::Output::Redirect`] →
//!    [`server::rest_client`] → the outcome back to the desk. The redirect first, the socket's end after.
//! 4. *An ended call*: [`calls::Output::KeepRecord`] → [`transcripts::keeper`]: a draft on disk → its recording, if it has
//!    one → its text, if there is an engine ([`speech::transcriber`]) → final → the office's system → marked as synced.
//! 5. *A lamp*: what desk and keeper show is joined into one [`status::snapshot::Snapshot`] → [`board::lamps`] → the board.

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
