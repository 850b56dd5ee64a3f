//! Small files beside the store for what must outlive a restart and is no record: there whole, or as they were before.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::limits::NOTE_BYTES_MAX;

/// How far the account's list of recordings is settled.
pub const MARK: &str = "recordings-known";
/// Recordings that Twilio is to forget.
pub const DELETIONS: &str = "recordings-to-delete";

/// What a file holds; `None` where there is none. One that cannot be read is told of, and counts as none.
pub fn load<T: DeserializeOwned>(directory: &Path, name: &str) -> Option<T> {
    let path = directory.join(name);
    let is_small = fs::metadata(&path).ok()?.len() <= NOTE_BYTES_MAX;
    let value = fs::read(&path).ok().filter(|_| is_small).and_then(|bytes| serde_json::from_slice(&bytes).ok());
    if value.is_none() {
        tracing::error!(path = %path.display(), "cannot be read; the box begins without it");
    }
    value
}

/// Puts `value` in place of what was there; durable when it returns `Ok`. Blocks on the disk.
pub fn save<T: Serialize>(directory: &Path, name: &str, value: &T) -> io::Result<()> {
    let path = directory.join(name);
    let beside = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    file.write_all(&serde_json::to_vec(value)?)?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    // The name stands in the directory, which is a file of its own to the disk.
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_comes_back_and_a_damaged_one_counts_as_none() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(load::<Vec<u32>>(directory.path(), MARK), None);
        save(directory.path(), MARK, &[1, 2]).unwrap();
        save(directory.path(), MARK, &[3]).unwrap();
        assert_eq!(load(directory.path(), MARK), Some(vec![3]));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        fs::write(directory.path().join(MARK), b"[3").unwrap();
        assert_eq!(load::<Vec<u32>>(directory.path(), MARK), None);
        fs::write(directory.path().join(MARK), vec![b' '; NOTE_BYTES_MAX as usize + 1]).unwrap();
        assert_eq!(load::<Vec<u32>>(directory.path(), MARK), None);
    }
}
