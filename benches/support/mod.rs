//! What benches share: the real gateway as a process, the client's side of its sockets, good calls, and figures.

pub mod figures;
pub mod gateway;
pub mod phone;
pub mod wire;
