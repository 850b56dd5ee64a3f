//! Certificates and their files for this folder's tests.

use std::{ops::Range, path::Path, time::Duration};

use jiff::Timestamp;
use rustls::RootCertStore;

use super::pair::Pair;
use crate::config::{Tls, TlsMode};

#[path = "../../../tests/support/certificates.rs"]
mod certificates;

pub use certificates::{Authority, Server, makeshift};

pub const HOST: &str = "gw.example.co.il";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// The time of day in these tests.
pub fn now() -> Timestamp {
    "2026-11-22T08:15:02Z".parse().unwrap()
}

pub fn in_days(days: i64) -> Timestamp {
    let distance = DAY * days.unsigned_abs() as u32;
    if days < 0 { now() - distance } else { now() + distance }
}

/// A month behind it, two months to go.
pub fn good_time() -> Range<Timestamp> {
    in_days(-30)..in_days(60)
}

pub fn write(folder: &Path, chain: &[&str], key: &str) -> Tls {
    let tls = Tls { mode: TlsMode::Files, certificate: folder.join("chain.pem"), key: folder.join("key.pem") };
    std::fs::write(&tls.certificate, chain.concat()).unwrap();
    std::fs::write(&tls.key, key).unwrap();
    tls
}

pub fn pair(chain: &[&str], key: &str) -> Pair {
    let folder = tempfile::tempdir().unwrap();
    Pair::read(&write(folder.path(), chain, key)).unwrap()
}

pub fn roots(authority: &Authority) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der()).unwrap();
    roots
}
