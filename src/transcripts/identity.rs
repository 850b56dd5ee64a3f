//! The box's own name in its records: made once, kept beside the store.

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::Path,
};

use jiff::Timestamp;

use super::record::{BoxIdentity, TranscriptId};

const FILE: &str = "box-id";

/// The identity kept below the store's directory; made and brought to the disk if there is none. Where that cannot be
/// done the box has a name of this run alone. `version` is the program's own.
pub fn load(directory: &Path, version: &str) -> BoxIdentity {
    let path = directory.join(FILE);
    // A file that is damaged or empty names nobody: the box gets a new name rather than none.
    let kept = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<TranscriptId>().ok());
    let id = kept.unwrap_or_else(|| {
        let id = TranscriptId::new(Timestamp::now(), random().unwrap_or_default());
        if let Err(error) = keep(directory, id) {
            tracing::error!(%error, "the box's own name cannot be kept: its next run has another");
        }
        id
    });
    BoxIdentity { id: id.to_string(), version: version.to_owned() }
}

fn keep(directory: &Path, id: TranscriptId) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let path = directory.join(FILE);
    let beside = path.with_extension("part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    writeln!(file, "{id}")?;
    file.sync_all()?;
    fs::rename(&beside, &path)?;
    File::open(directory)?.sync_all()
}

/// 128 bits from the operating system.
pub(super) fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_keeps_its_name_and_a_damaged_name_is_made_anew() {
        let directory = tempfile::tempdir().unwrap();
        let store = directory.path().join("store");
        let first = load(&store, "0.1.0");
        let second = load(&store, "0.2.0");
        assert_eq!((&second.id, second.version.as_str()), (&first.id, "0.2.0"));
        fs::write(store.join(FILE), b"\xff").unwrap();
        let third = load(&store, "0.2.0");
        assert_ne!(third.id, first.id);
        assert_eq!(load(&store, "0.2.0"), third);
    }

    #[test]
    fn a_box_that_cannot_keep_its_name_has_one_all_the_same() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_ne!(load(file.path(), "0.1.0").id, load(file.path(), "0.1.0").id);
    }
}
