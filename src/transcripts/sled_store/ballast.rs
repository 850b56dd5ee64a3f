//! Room on the disk that is kept for the day when it is full: a file that is given up, so that the store can be opened,
//! hand over what it holds and note it. On a disk without a free byte sled does not even open.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use fs2::FileExt;

use crate::limits::{STORE_BALLAST_BYTES, STORE_FREE_BYTES_MIN};

/// Its name in the store's directory.
const FILE: &str = "ballast";

/// Gives the room away. `false`: there was none to give.
pub(super) fn release(directory: &Path) -> bool {
    fs::remove_file(directory.join(FILE)).is_ok()
}

/// Whether the disk has room: the ballast is in place, made now if it fits, and some more is free.
pub(super) fn has_room(directory: &Path) -> io::Result<bool> {
    let free = fs2::available_space(directory)?;
    let path = directory.join(FILE);
    if fs::metadata(&path).is_ok_and(|file| file.len() >= STORE_BALLAST_BYTES) {
        return Ok(free >= STORE_FREE_BYTES_MIN);
    }
    if free < STORE_BALLAST_BYTES + STORE_FREE_BYTES_MIN {
        return Ok(false);
    }
    let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
    // Blocks of the disk, not only a length.
    file.allocate(STORE_BALLAST_BYTES).inspect_err(|_| drop(fs::remove_file(&path)))?;
    Ok(true)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn it_takes_real_room_and_is_made_again_after_it_was_given_up() {
        let directory = tempfile::tempdir().unwrap();
        assert!(!release(directory.path()));
        for _ in 0..2 {
            assert!(has_room(directory.path()).unwrap());
            let file = fs::metadata(directory.path().join(FILE)).unwrap();
            assert!(file.blocks() * 512 >= STORE_BALLAST_BYTES);
            assert!(has_room(directory.path()).unwrap());
            assert!(release(directory.path()));
        }
    }
}
