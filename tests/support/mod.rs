//! What the tests share.

#[allow(dead_code, unused_imports)]
pub mod world;
