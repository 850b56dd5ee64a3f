//! Certificate authorities in small: roots, intermediates, and servers' certificates with their keys.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::{ops::Range, time::SystemTime};

use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::CertificateDer;

/// Who signs certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A server's certificate, and its key, in PEM.
pub struct Server {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn root(name: &str) -> Self {
        Self(CertifiedIssuer::self_signed(authority(name), key()).unwrap())
    }

    /// One that signs with an RSA key (rcgen makes none itself).
    pub fn rsa_root(name: &str) -> Self {
        let key = KeyPair::from_pem(include_str!("../data/rsa_key.pem")).unwrap();
        Self(CertifiedIssuer::self_signed(authority(name), key).unwrap())
    }

    pub fn intermediate(&self, name: &str) -> Self {
        Self(CertifiedIssuer::signed_by(authority(name), key(), &self.0).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    /// Its own private key.
    pub fn key(&self) -> String {
        self.0.key().serialize_pem()
    }

    pub fn der(&self) -> CertificateDer<'static> {
        self.0.der().clone()
    }

    /// A certificate for these names, that holds for this time.
    pub fn server(&self, names: &[&str], time: Range<Timestamp>) -> Server {
        self.server_with_key(names, time, key())
    }

    pub fn server_with_key(&self, names: &[&str], time: Range<Timestamp>, key: KeyPair) -> Server {
        let certificate = server(names, time).signed_by(&key, &self.0).unwrap();
        Server { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

/// A certificate that nobody but itself vouches for.
pub fn makeshift(names: &[&str], time: Range<Timestamp>) -> Server {
    let key = key();
    Server { certificate: server(names, time).self_signed(&key).unwrap().pem(), key: key.serialize_pem() }
}

fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn server(names: &[&str], time: Range<Timestamp>) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, "a server");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = SystemTime::from(time.start).into();
    params.not_after = SystemTime::from(time.end).into();
    params
}
