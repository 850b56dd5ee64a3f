//! (to come)

pub mod gpio;
pub mod lamps;
pub mod profile;
pub mod simulated;
