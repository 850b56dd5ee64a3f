//! The power is cut while records are written: whatever was said to be safe is there afterwards.

use std::collections::BTreeMap;

use kolbox::transcripts::{State, Store, sled_store::SledStore};

use super::{
    disk::disk_or_skip,
    records::held,
    times,
    writer::{Safe, Writer},
};

/// Large enough for some hundred thousand records' churn.
const DISK_MEGABYTES: u64 = 192;
/// How many cuts one disk goes through, with the same store.
const CUTS_A_DISK: u64 = 10;
/// How much is safe when the power goes, at most.
const SAFE_MAX: u64 = 600;

/// What came of many cuts.
#[derive(Debug, Default)]
struct Toll {
    cuts: u64,
    safe: u64,
    lost: u64,
    /// Stores that had to be made anew.
    quarantined: usize,
}

/// Cuts the power so often. `None`: this machine has no disk to do it with.
fn cut(name: &str, cuts: u64, without_sync: bool) -> Option<Toll> {
    let mut toll = Toll::default();
    while toll.cuts < cuts {
        let mount_point = tempfile::tempdir().unwrap();
        let disk = disk_or_skip(name, DISK_MEGABYTES, mount_point.path())?;
        let directory = mount_point.path().join("store");
        let mut safe: BTreeMap<u64, Safe> = BTreeMap::new();
        for _ in 0..CUTS_A_DISK.min(cuts - toll.cuts) {
            let seed = toll.cuts;
            let mut random = fastrand::Rng::with_seed(seed);
            let first = safe.last_key_value().map_or(1, |(last, _)| last + 10_000);
            let mut writer = Writer::start(&directory, seed, first, without_sync);
            let mut said = Vec::new();
            for _ in 0..random.u64(1..=SAFE_MAX) {
                said.push(writer.next().unwrap_or_else(|| panic!("seed {seed}: the writer ended by itself")));
            }
            disk.cut_power();
            said.extend(writer.kill());
            disk.power_up();

            toll.cuts += 1;
            toll.safe += said.len() as u64;
            for one in said {
                let (Safe::Draft(number) | Safe::Final(number) | Safe::Synced(number)) = one;
                safe.insert(number, one);
            }
            let mut store = SledStore::open(&directory).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
            toll.quarantined += store.surroundings().quarantined;
            drop(store);
            let held = held(&directory);
            let before = safe.len();
            safe.retain(|number, safe| stands(*safe, held.get(number)));
            toll.lost += (before - safe.len()) as u64;
        }
    }
    println!("{name}: {toll:?}");
    Some(toll)
}

/// Whether what was said is so, or more.
fn stands(safe: Safe, held: Option<&State>) -> bool {
    match (safe, held) {
        (_, None) => false,
        (Safe::Draft(_), Some(_)) => true,
        (Safe::Final(_), Some(state)) => *state != State::AwaitingRecording,
        (Safe::Synced(_), Some(state)) => matches!(state, State::Synced { .. }),
    }
}

#[test]
fn nothing_that_was_said_to_be_safe_is_lost() {
    let Some(toll) = cut("powercut", times(5, 200), false) else { return };
    assert_eq!((toll.lost, toll.quarantined), (0, 0), "{toll:?}");
}

/// Else the test above proves nothing.
#[test]
#[cfg(any(debug_assertions, feature = "canaries"))]
fn without_the_last_step_to_the_disk_something_is() {
    let Some(toll) = cut("canary", times(3, 10), true) else { return };
    assert!(toll.lost > 0, "{toll:?}");
}
