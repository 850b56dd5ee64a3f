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

/// The identity kept below the store's directory; made and brought to the disk if there is none. `version` is the
/// program's own.
pub fn load(directory: &Path, version: &str) -> io::Result<BoxIdentity> {
    let path = directory.join(FILE);
    // A file that is damaged or empty names nobody: the box gets a new name rather than none.
    let kept = fs::read_to_string(&path).ok().and_then(|text| text.trim().parse::<TranscriptId>().ok());
    let id = match kept {
        Some(id) => id,
        None => {
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
            let id = TranscriptId::new(Timestamp::now(), random()?);
            let beside = path.with_extension("part");
            let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
            writeln!(file, "{id}")?;
            file.sync_all()?;
            fs::rename(&beside, &path)?;
            File::open(directory)?.sync_all()?;
            id
        }
    };
    Ok(BoxIdentity { id: id.to_string(), version: version.to_owned() })
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
        let first = load(&store, "0.1.0").unwrap();
        let second = load(&store, "0.2.0").unwrap();
        assert_eq!((&second.id, second.version.as_str()), (&first.id, "0.2.0"));
        fs::write(store.join(FILE), b"\xff").unwrap();
        let third = load(&store, "0.2.0").unwrap();
        assert_ne!(third.id, first.id);
        assert_eq!(load(&store, "0.2.0").unwrap(), third);
    }
}
