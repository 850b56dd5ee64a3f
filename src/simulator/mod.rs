//! (to come)

pub mod document;
pub mod faults;
pub mod phone_call;
