//! TLS as a server: certificate and key from files, or made at start for those who only try the box.

use std::{
    error::Error as StdError,
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair};
use rustls::{
    ServerConfig,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer,
        pem::{self, PemObject},
    },
};
use tokio_rustls::TlsAcceptor;

use crate::config::{Tls, TlsMode};

/// Why TLS cannot be served. Each message names the file and says what to do.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A file is damaged PEM, or none.
    NotPem(PathBuf, pem::Error),
    /// The certificate's file holds no certificate.
    NoCertificate(PathBuf),
    /// The key's file holds no key that can be used without a passphrase.
    NoKey(PathBuf),
    /// Certificate and key do not belong together, or are of a kind that cannot be used.
    Unusable { certificate: PathBuf, key: PathBuf, cause: rustls::Error },
    /// A certificate for these names cannot be made.
    SelfSigned(Vec<String>, rcgen::Error),
    /// TLS itself cannot be set up.
    Setup(rustls::Error),
}

/// What ends TLS at the public listener, or `None` where something in front of the box does. `names` are the hosts
/// (a port is dropped) that a self-signed certificate is made for, beside localhost and the loopback addresses.
pub fn acceptor(tls: &Tls, names: &[&str]) -> Result<Option<TlsAcceptor>, TlsError> {
    let identity = match tls.mode {
        TlsMode::Off => return Ok(None),
        TlsMode::Files => Identity::read(&tls.certificate, &tls.key)?,
        TlsMode::SelfSigned => Identity::make(names)?,
    };
    let config = server_config(identity).map_err(|cause| match tls.mode {
        TlsMode::Files => TlsError::Unusable { certificate: tls.certificate.clone(), key: tls.key.clone(), cause },
        TlsMode::SelfSigned | TlsMode::Off => TlsError::Setup(cause),
    })?;
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// A certificate with those that vouch for it, and its key.
struct Identity {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let text = read(certificate)?;
        let chain = CertificateDer::pem_slice_iter(&text)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| TlsError::NotPem(certificate.to_owned(), error))?;
        if chain.is_empty() {
            return Err(TlsError::NoCertificate(certificate.to_owned()));
        }
        let text = read(key)?;
        let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| match error {
            pem::Error::NoItemsFound => TlsError::NoKey(key.to_owned()),
            error => TlsError::NotPem(key.to_owned(), error),
        })?;
        Ok(Self { chain, key })
    }

    fn make(names: &[&str]) -> Result<Self, TlsError> {
        let names = certificate_names(names);
        let made = (|| {
            let mut params = CertificateParams::new(names.clone())?;
            params.distinguished_name.push(DnType::CommonName, "kolbox self-signed");
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            let key = KeyPair::generate()?;
            Ok((params.self_signed(&key)?, key))
        })();
        let (certificate, key) = made.map_err(|error| TlsError::SelfSigned(names, error))?;
        Ok(Self { chain: vec![certificate.into()], key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
    }
}

fn server_config(identity: Identity) -> Result<ServerConfig, rustls::Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(identity.chain, identity.key)?;
    // Media Streams and webhooks are HTTP/1.1; resumption by ticket saves a caller some milliseconds at each webhook.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = rustls::crypto::ring::Ticketer::new()?;
    Ok(config)
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
fn without_port(host: &str) -> &str {
    if let Some(bracketed) = host.strip_prefix('[') {
        return bracketed.split(']').next().unwrap_or_default();
    }
    match host.split_once(':') {
        Some((name, port)) if !port.contains(':') => name,
        _ => host,
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    std::fs::read(path).map_err(|error| TlsError::Unreadable(path.to_owned(), error))
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(path, error) => match error.kind() {
                io::ErrorKind::PermissionDenied => {
                    write!(f, "{}: the user that kolbox runs as may not read it", path.display())
                }
                io::ErrorKind::NotFound => write!(
                    f,
                    "{}: no such file; name it in [public.tls], or set mode to \"self-signed\" or \"off\"",
                    path.display()
                ),
                _ => write!(f, "{}: cannot be read", path.display()),
            },
            Self::NotPem(path, _) => write!(f, "{}: damaged, or not in PEM format", path.display()),
            Self::NoCertificate(path) => write!(
                f,
                "{}: holds no certificate; it needs the box's own one first, then those that signed it",
                path.display()
            ),
            Self::NoKey(path) => write!(
                f,
                "{}: holds no private key that opens without a passphrase (remove it with \
                 `openssl pkey -in OLD -out NEW`)",
                path.display()
            ),
            Self::Unusable { certificate, key, cause } => match cause {
                rustls::Error::InconsistentKeys(_) => {
                    write!(f, "{} is not the key of the first certificate in {}", key.display(), certificate.display())
                }
                _ => write!(f, "{} and {} cannot be served with", certificate.display(), key.display()),
            },
            Self::SelfSigned(names, _) => write!(f, "no certificate can be made for {}", names.join(", ")),
            Self::Setup(_) => f.write_str("TLS cannot be set up"),
        }
    }
}

impl StdError for TlsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Unreadable(_, error) => Some(error),
            Self::NotPem(_, error) => Some(error),
            Self::NoCertificate(_) | Self::NoKey(_) => None,
            Self::Unusable { cause, .. } => Some(cause),
            Self::SelfSigned(_, error) => Some(error),
            Self::Setup(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(folder: &Path, certificate: &str, key: &str) -> Tls {
        let tls = Tls { mode: TlsMode::Files, certificate: folder.join("chain.pem"), key: folder.join("key.pem") };
        std::fs::write(&tls.certificate, certificate).unwrap();
        std::fs::write(&tls.key, key).unwrap();
        tls
    }

    fn pair() -> (String, String) {
        let made = rcgen::generate_simple_self_signed(vec!["gw.example.co.il".to_owned()]).unwrap();
        (made.cert.pem(), made.signing_key.serialize_pem())
    }

    fn error(tls: &Tls) -> TlsError {
        acceptor(tls, &[]).err().expect("refused")
    }

    #[test]
    fn a_certificate_with_its_key_is_taken_and_another_key_is_refused_with_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        assert!(acceptor(&files(folder.path(), &certificate, &key), &[]).unwrap().is_some());
        let (_, other_key) = pair();
        let text = error(&files(folder.path(), &certificate, &other_key)).to_string();
        assert!(text.contains("key.pem is not the key of") && text.contains("chain.pem"), "{text}");
    }

    #[test]
    fn each_way_a_file_can_be_wrong_is_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = pair();
        assert!(matches!(error(&files(folder.path(), "", &key)), TlsError::NoCertificate(_)));
        assert!(matches!(error(&files(folder.path(), &key, &key)), TlsError::NoCertificate(_)));
        assert!(matches!(error(&files(folder.path(), &certificate, &certificate)), TlsError::NoKey(_)));
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        assert!(error(&files(folder.path(), &certificate, locked)).to_string().contains("passphrase"));
        let damaged = certificate.replace("MII", "***");
        assert!(matches!(error(&files(folder.path(), &damaged, &key)), TlsError::NotPem(..)));
        let mut missing = files(folder.path(), &certificate, &key);
        missing.certificate = folder.path().join("nowhere.pem");
        assert!(error(&missing).to_string().contains("no such file"));
    }

    #[test]
    fn a_made_certificate_names_each_host_once_without_its_port_and_loopback() {
        assert_eq!(
            certificate_names(&["GW.example.co.il:8443", "localhost", "[2001:db8::7]:443", "2001:db8::8", ""]),
            ["gw.example.co.il", "localhost", "2001:db8::7", "2001:db8::8", "127.0.0.1", "::1"]
        );
        let tls = Tls { mode: TlsMode::SelfSigned, ..Tls::default() };
        assert!(acceptor(&tls, &["gw.example.co.il:8443"]).unwrap().is_some());
        assert!(matches!(acceptor(&tls, &["שער.example"]).err(), Some(TlsError::SelfSigned(..))));
    }

    #[test]
    fn off_means_that_nothing_is_read() {
        let tls = Tls { mode: TlsMode::Off, certificate: "/nonexistent".into(), key: "/nonexistent".into() };
        assert!(acceptor(&tls, &[]).unwrap().is_none());
    }
}
