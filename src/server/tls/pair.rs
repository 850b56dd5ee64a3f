//! A certificate with its key: read from their files, or made at the start for those who only try the box.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
    sync::Arc,
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        pem::{self, PemObject},
    },
    sign::CertifiedKey,
};

use super::{TlsError, facts::Facts, server_config::provider};
use crate::{
    config::Tls,
    limits::{CERTIFICATE_FILE_BYTES_MAX, CERTIFICATES_MAX},
};

/// A certificate with those that vouch for it, its key, and what they say of themselves.
#[derive(Debug, Clone)]
pub(super) struct Pair {
    pub(super) key: Arc<CertifiedKey>,
    pub(super) facts: Arc<Facts>,
}

impl Pair {
    pub(super) fn read(tls: &Tls) -> Result<Self, TlsError> {
        let (certificate, key) = (&tls.certificate, &tls.key);
        let chain = read_chain(certificate)?;
        let facts = Facts::read(&chain).map_err(|error| TlsError::NotX509(certificate.clone(), error))?;
        let private = read_key(key)?;
        let certified = CertifiedKey::from_der(chain, private, &provider()).map_err(|cause| TlsError::Unusable {
            certificate: certificate.clone(),
            key: key.clone(),
            cause,
        })?;
        Ok(Self { key: Arc::new(certified), facts: Arc::new(facts) })
    }

    /// Self-signed, for these hosts (a port is dropped), localhost and the loopback addresses.
    pub(super) fn make(hosts: &[&str]) -> Result<Self, TlsError> {
        let names = certificate_names(hosts);
        let (certificate, key) = self_signed(&names).map_err(|error| TlsError::SelfSigned(names, error))?;
        let facts = Facts::read(std::slice::from_ref(&certificate))
            .map_err(|error| TlsError::NotX509("self-signed".into(), error))?;
        let certified = CertifiedKey::from_der(vec![certificate], key, &provider()).map_err(TlsError::Setup)?;
        Ok(Self { key: Arc::new(certified), facts: Arc::new(facts) })
    }

    /// Whether both show the same certificates.
    pub(super) fn shows_what(&self, other: &Self) -> bool {
        self.key.cert == other.key.cert
    }
}

fn read_chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let text = read(path)?;
    let chain = CertificateDer::pem_slice_iter(&text)
        .take(CERTIFICATES_MAX + 1)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsError::NotPem(path.to_owned(), error))?;
    match chain.len() {
        0 => Err(TlsError::NoCertificate(path.to_owned())),
        1..=CERTIFICATES_MAX => Ok(chain),
        _ => Err(TlsError::TooMany(path.to_owned())),
    }
}

fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    PrivateKeyDer::from_pem_slice(&read(path)?).map_err(|error| match error {
        pem::Error::NoItemsFound => TlsError::NoKey(path.to_owned()),
        error => TlsError::NotPem(path.to_owned(), error),
    })
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    let whole = || -> io::Result<Vec<u8>> {
        // Only to be opened when it is a file: a pipe would be waited for.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let mut bytes = Vec::new();
        File::open(path)?.take(CERTIFICATE_FILE_BYTES_MAX + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let bytes = whole().map_err(|error| TlsError::Unreadable(path.to_owned(), error))?;
    match bytes.len() as u64 > CERTIFICATE_FILE_BYTES_MAX {
        true => Err(TlsError::TooLong(path.to_owned())),
        false => Ok(bytes),
    }
}

fn self_signed(names: &[String]) -> Result<(CertificateDer<'static>, PrivateKeyDer<'static>), rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, "kolbox self-signed");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    Ok((params.self_signed(&key)?.into(), PrivatePkcs8KeyDer::from(key.serialize_der()).into()))
}

fn certificate_names(hosts: &[&str]) -> Vec<String> {
    let mut names = Vec::new();
    for host in hosts.iter().copied().chain(["localhost", "127.0.0.1", "::1"]) {
        let name = without_port(host).to_ascii_lowercase();
        if !name.is_empty() && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The name or address alone, of `name`, `name:port`, an address, or a bracketed IPv6 address with or without a port.
pub(super) fn without_port(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}
#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};
    use crate::config::TlsMode;

    fn made() -> Server {
        makeshift(&[HOST], good_time())
    }

    fn error(tls: &Tls) -> TlsError {
        Pair::read(tls).expect_err("refused")
    }

    #[test]
    fn a_certificate_with_its_key_is_taken_and_another_key_is_refused_with_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (made(), made());
        let tls = write(folder.path(), &[&one.certificate], &one.key);
        assert_eq!(Pair::read(&tls).unwrap().facts.names, [HOST]);
        let text = error(&write(folder.path(), &[&one.certificate], &other.key)).to_string();
        assert!(text.contains("key.pem is not the key of") && text.contains("chain.pem"), "{text}");
        assert!(text.contains("[public.tls]"), "what to do: {text}");
    }

    #[test]
    fn a_key_of_rsa_is_taken_like_one_of_elliptic_curves() {
        let key = KeyPair::from_pem(include_str!("../../../tests/data/rsa_key.pem")).unwrap();
        let Server { certificate, key } = Authority::root("a root").server_with_key(&[HOST], good_time(), key);
        assert_eq!(pair(&[&certificate], &key).facts.names, [HOST]);
    }

    #[test]
    fn each_way_a_file_can_be_wrong_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let Server { certificate, key } = made();
        let error = |certificate: &str, key: &str| error(&write(folder.path(), &[certificate], key));
        assert!(matches!(error("", &key), TlsError::NoCertificate(_)));
        assert!(matches!(error(&key, &key), TlsError::NoCertificate(_)));
        assert!(matches!(error(&certificate, &certificate), TlsError::NoKey(_)));
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(error(&certificate, locked).to_string().contains("passphrase"));
        let damaged = certificate.replace("MII", "***");
        assert!(matches!(error(&damaged, &key), TlsError::NotPem(..)));
        let other = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(matches!(error(other, &key), TlsError::NotX509(..)));
        assert!(matches!(error(&certificate.repeat(CERTIFICATES_MAX + 1), &key), TlsError::TooMany(_)));
        let long = "#".repeat(CERTIFICATE_FILE_BYTES_MAX as usize + 1);
        assert!(matches!(error(&long, &key), TlsError::TooLong(_)));
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named_with_the_reason() {
        let folder = tempfile::tempdir().unwrap();
        let Server { certificate, key } = made();
        let tls = write(folder.path(), &[&certificate], &key);
        let missing = Tls { certificate: folder.path().join("nowhere.pem"), ..tls.clone() };
        assert!(error(&missing).to_string().contains("nowhere.pem: no such file"));
        let no_file = Tls { key: folder.path().to_owned(), ..tls };
        assert!(error(&no_file).with_causes().ends_with("cannot be read: not a file"));
    }

    #[test]
    fn a_made_certificate_names_each_host_once_without_its_port_and_loopback() {
        assert_eq!(
            certificate_names(&["GW.example.co.il:8443", "localhost", "[2001:db8::7]:443", "2001:db8::8", ""]),
            ["gw.example.co.il", "localhost", "2001:db8::7", "2001:db8::8", "127.0.0.1", "::1"]
        );
        let made = Pair::make(&["gw.example.co.il:8443"]).unwrap();
        assert_eq!(made.facts.names, ["gw.example.co.il", "localhost", "127.0.0.1", "::1"]);
        assert!(matches!(Pair::make(&["שער.example"]).err(), Some(TlsError::SelfSigned(..))));
    }

    #[test]
    fn off_means_that_nothing_is_read() {
        let tls = Tls { mode: TlsMode::Off, certificate: "/nonexistent".into(), key: "/nonexistent".into() };
        assert!(super::super::acceptor(&tls, &[]).unwrap().is_none());
    }
}
