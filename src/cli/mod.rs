//! (to come)

pub mod call;
pub mod demo;
