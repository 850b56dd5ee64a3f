//! The certificate's files as they were seen at one moment.

use std::{os::unix::fs::MetadataExt, path::Path};

use super::{TlsError, pair::Pair};
use crate::config::Tls;

/// The files at one moment.
pub(super) struct Seen {
    pub(super) stamp: Stamp,
    /// `None`: they are those that the pair in use was read from.
    pub(super) pair: Option<Result<Pair, TlsError>>,
}

impl Seen {
    pub(super) fn now(tls: &Tls, in_use: &Stamp) -> Self {
        let stamp = Stamp::of(tls);
        let pair = (stamp != *in_use).then(|| Pair::read(tls));
        Self { stamp, pair }
    }
}

/// Tells whether the files are other ones, or were written again. Links are followed: certbot renews by swapping them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stamp([Option<FileStamp>; 2]);

#[derive(Debug, Clone, PartialEq, Eq)]
struct FileStamp {
    device: u64,
    inode: u64,
    bytes: u64,
    /// Seconds and nanoseconds.
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    pub(super) fn of(tls: &Tls) -> Self {
        Self([&tls.certificate, &tls.key].map(|path| FileStamp::of(path)))
    }
}

impl FileStamp {
    /// `None` for what cannot be looked at.
    fn of(path: &Path) -> Option<Self> {
        let data = std::fs::metadata(path).ok()?;
        Some(Self {
            device: data.dev(),
            inode: data.ino(),
            bytes: data.size(),
            modified: (data.mtime(), data.mtime_nsec()),
            changed: (data.ctime(), data.ctime_nsec()),
        })
    }
}
