//! What files take on the disk, and what is left of it.

use std::{fs, io, os::unix::fs::MetadataExt, path::Path};

use crate::limits::MEASURED_FILES_MAX;

/// What the system counts a file's blocks in, whatever the file system's own are.
const BLOCK_BYTES: u64 = 512;

/// Bytes on the disk below a folder, links not followed; what cannot be read counts as nothing, and beyond
/// [`MEASURED_FILES_MAX`] files it is too little. Blocks on the disk.
pub fn below(folder: &Path) -> u64 {
    below_except(folder, None)
}

/// The same without one folder below it.
pub fn below_except(folder: &Path, except: Option<&Path>) -> u64 {
    let (mut folders, mut files, mut bytes) = (vec![folder.to_owned()], 0, 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(facts) = entry.metadata() else { continue };
            if !facts.is_dir() {
                bytes += facts.blocks() * BLOCK_BYTES;
            } else if except != Some(&entry.path()) {
                folders.push(entry.path());
            }
            files += 1;
            if files == MEASURED_FILES_MAX {
                return bytes;
            }
        }
    }
    bytes
}

/// Bytes that may still be written where this is, or is to be: the nearest folder above it that exists answers.
///
/// # Errors
/// No part of the path exists, or the system does not say.
pub fn free(path: &Path) -> io::Result<u64> {
    match path.ancestors().map(nonempty).find(|ancestor| ancestor.exists()) {
        Some(existing) => fs2::available_space(existing),
        None => Err(io::Error::new(io::ErrorKind::NotFound, "no part of this path exists")),
    }
}

/// The parent of a plain `data` is the empty path, which means the working directory.
pub fn nonempty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_take_is_counted_in_whole_blocks_and_a_folder_can_be_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        fs::write(folder.path().join("a"), vec![1; 10_000]).unwrap();
        fs::write(inner.join("b"), vec![1; 50_000]).unwrap();
        // A file with a hole takes what is in it.
        fs::File::create(folder.path().join("hole")).unwrap().set_len(1 << 30).unwrap();
        for file in ["a", "inner/b"] {
            fs::File::open(folder.path().join(file)).unwrap().sync_all().unwrap();
        }
        let (all, outer) = (below(folder.path()), below_except(folder.path(), Some(&inner)));
        assert!((60_000..1 << 29).contains(&all), "{all}");
        assert!((10_000..50_000).contains(&outer), "{outer}");
        assert_eq!(below(&folder.path().join("nothing")), 0);
    }

    #[test]
    fn free_space_is_told_of_what_does_not_exist_yet_too() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free(&folder.path().join("not/yet")).unwrap() > 0);
        assert!(free(Path::new("")).unwrap() > 0);
    }
}
