//! The demo's own directory: made for one run, private, and removed at its end.

use std::{
    env, fs, io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

/// A directory that is removed when this is dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    kept: bool,
}

impl Folder {
    /// Makes one where temporary files are kept. Its name was nobody's before.
    ///
    /// # Errors
    /// It cannot be made; with its path.
    pub fn make() -> Result<Self, (PathBuf, io::Error)> {
        let path = env::temp_dir().join(format!("kolbox-demo-{:08x}", fastrand::u32(..)));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => Ok(Self { path, kept: false }),
            Err(error) => Err((path, error)),
        }
    }

    /// Where the box keeps its records.
    pub fn store(&self) -> PathBuf {
        self.path.join("store")
    }

    /// Where the box logs to.
    pub fn log(&self) -> PathBuf {
        self.path.join("kolbox.log")
    }

    /// A file or a folder in it.
    pub fn within(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Leaves it where it is, for whoever wants to know what went wrong.
    pub fn keep(&mut self) -> &Path {
        self.kept = true;
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.kept {
            // Whatever cannot be removed is the temporary directory's to clean up.
            let _ = fs::remove_dir_all(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn goes_with_all_that_is_in_it_unless_it_is_kept() {
        let folder = Folder::make().unwrap();
        let path = folder.path.clone();
        fs::write(folder.log(), "x").unwrap();
        drop(folder);
        assert!(!path.exists());

        let mut folder = Folder::make().unwrap();
        let path = folder.keep().to_owned();
        drop(folder);
        assert!(path.exists());
        fs::remove_dir(path).unwrap();
    }
}
