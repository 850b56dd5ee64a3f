//! The store on disks that fail: the power is cut, the disk fills up, its bytes rot. The real store, in a process of its
//! own where that has to die, judged by what it had said was safe.
//!
//! In their short form; `STORE_PROOF=full` is the long one. Those that need a disk of their own mount one over a loop
//! device, which takes root, ext4 and perl; without them they skip themselves.

#[path = "../support/process.rs"]
mod process;

mod damage;
mod disk;
mod disk_full;
mod power_cut;
mod records;
mod whole_box;
mod writer;

/// How often something is done: in `cargo test`, and in the long form.
fn times(short: u64, long: u64) -> u64 {
    match std::env::var("STORE_PROOF").as_deref() {
        Ok("full") => long,
        Ok(other) => panic!("STORE_PROOF={other}: only `full` is known"),
        Err(_) => short,
    }
}
