//! Each limit toward strangers, crossed over real TLS: what the one who crosses it sees, the figure that tells of it, and
//! another call that goes on meanwhile.

mod connections;
mod front;
mod other_call;
mod requests;
mod sockets;
