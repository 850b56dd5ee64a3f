//! The disk fills up with records, and is freed again: the store tells it in time, goes on by itself, and has lost nothing.

use std::{collections::BTreeSet, fs, time::Duration};

use kolbox::transcripts::{
    Store,
    sled_store::Openings,
    writer::{Change, NotKept, Opener, Starting, StorePort},
};

use super::{
    disk::disk_or_skip,
    process::PATIENCE,
    records::{held, record},
    times,
};

const DISK_MEGABYTES: u64 = 64;
/// What stands there beside the store, until somebody makes room.
const OTHERS_BYTES: usize = 24 << 20;
/// So many records are refused before anybody makes room.
const REFUSED: usize = 20;

#[test]
fn a_disk_that_fills_up_with_records_is_told_and_goes_on_when_it_is_freed() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    for round in 0..times(1, 5) {
        let mount_point = tempfile::tempdir().unwrap();
        let Some(disk) = disk_or_skip("diskfull", DISK_MEGABYTES, mount_point.path()) else { return };
        let others = mount_point.path().join("others");
        fs::write(&others, vec![7; OTHERS_BYTES]).unwrap();
        let directory = mount_point.path().join("store");
        let mut openings = Openings::new(directory.clone());
        let open: Opener = Box::new(move |closed_by| Ok(Box::new(openings.open(closed_by)?) as Box<dyn Store>));
        let starting = StorePort::start(open, u64::MAX, Duration::from_millis(20)).unwrap();
        let (safe, promised) = runtime.block_on(async {
            let Starting { port, thread, .. } = starting;
            let mut health = port.health();
            let (mut safe, mut promised) = (BTreeSet::new(), BTreeSet::new());
            let mut told_before = None;
            let first = round * 1_000_000;
            for number in first.. {
                let done = port.change(Change::PutFinal(Box::new(record(number)))).await;
                if !health.borrow().surroundings.has_room {
                    told_before.get_or_insert(promised.is_empty());
                }
                match done.await.unwrap() {
                    Ok(is_new) => {
                        assert!(is_new);
                        safe.insert(number);
                    }
                    Err(NotKept::Later(error)) => {
                        assert!(error.is_disk_full(), "{error}");
                        promised.insert(number);
                    }
                    Err(other) => panic!("{other}"),
                }
                if promised.len() == REFUSED {
                    break;
                }
            }
            assert_eq!(told_before, Some(true), "new calls go to the recorder before the first record is refused");

            fs::remove_file(&others).unwrap();
            let whole = (safe.len() + promised.len()) as u64;
            let freed = health.wait_for(|health| health.failure.is_none() && health.counts.unsynced == whole);
            tokio::time::timeout(PATIENCE, freed).await.expect("it goes on by itself").unwrap();
            // It is looked at every few seconds, whenever old records are looked for.
            let is_roomy = async {
                loop {
                    let look = Change::MakeRoom { bytes_max: u64::MAX, synced_before: jiff::Timestamp::MIN };
                    port.change(look).await.await.unwrap().unwrap();
                    if port.health().borrow().surroundings.has_room {
                        return;
                    }
                }
            };
            tokio::time::timeout(PATIENCE, is_roomy).await.expect("there is room again");
            drop((port, health));
            thread.join().unwrap();
            (safe, promised)
        });
        disk.cut_power();
        disk.power_up();
        let held = held(&directory);
        let lost: Vec<_> = safe.union(&promised).filter(|number| !held.contains_key(number)).collect();
        println!("diskfull: {} safe, {} refused at first, lost {lost:?}", safe.len(), promised.len());
        assert!(lost.is_empty(), "{lost:?}");
    }
}
