//! Whose certificates a client believes.

use std::{
    error::Error as StdError,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use hyper_rustls::ConfigBuilderExt;
use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
};

/// Whose certificates are believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// The public authorities, as Mozilla lists them (compiled in).
    Public,
    /// The certificates of this PEM file, and no others.
    PemFile(PathBuf),
    /// Any certificate at all: only for peers on loopback, or where a person asked for just that.
    Insecure,
}

/// Why no client could be made.
#[derive(Debug)]
pub enum RootsError {
    /// The file cannot be read, or holds something else than PEM.
    Pem(PathBuf, rustls::pki_types::pem::Error),
    /// The file was read and holds no certificate.
    NoCertificate(PathBuf),
    /// A certificate in the file cannot stand as a root.
    Certificate(PathBuf, rustls::Error),
    /// TLS itself cannot be set up.
    Tls(rustls::Error),
}

/// TLS as a client with these roots, without ALPN: for `HttpClient`, and for WebSocket clients.
pub fn tls_client_config(roots: &Roots) -> Result<ClientConfig, RootsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ClientConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .map_err(RootsError::Tls)?;
    let config = match roots {
        Roots::Public => builder.with_webpki_roots().with_no_client_auth(),
        Roots::PemFile(path) => builder.with_root_certificates(read_roots(path)?).with_no_client_auth(),
        Roots::Insecure => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(AnyCertificate { provider }))
            .with_no_client_auth(),
    };
    Ok(config)
}

fn read_roots(path: &Path) -> Result<RootCertStore, RootsError> {
    let pem = |error| RootsError::Pem(path.to_owned(), error);
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(pem)? {
        let certificate = certificate.map_err(pem)?;
        roots.add(certificate).map_err(|error| RootsError::Certificate(path.to_owned(), error))?;
    }
    if roots.is_empty() { Err(RootsError::NoCertificate(path.to_owned())) } else { Ok(roots) }
}

/// Believes every certificate, but still checks that the peer holds its key.
#[derive(Debug)]
struct AnyCertificate {
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl fmt::Display for RootsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pem(path, _) => write!(f, "{}: not a readable PEM file", path.display()),
            Self::NoCertificate(path) => write!(f, "{}: holds no certificate", path.display()),
            Self::Certificate(path, _) => write!(f, "{}: a certificate cannot be used as a root", path.display()),
            Self::Tls(_) => f.write_str("TLS cannot be set up"),
        }
    }
}

impl StdError for RootsError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match self {
            Self::Pem(_, error) => Some(error),
            Self::NoCertificate(_) => None,
            Self::Certificate(_, error) | Self::Tls(error) => Some(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_a_certificate_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.pem");
        std::fs::write(&path, "nothing here\n").unwrap();
        let error = tls_client_config(&Roots::PemFile(path.clone())).unwrap_err();
        assert!(matches!(&error, RootsError::NoCertificate(named) if *named == path), "{error}");
        let missing = folder.path().join("missing.pem");
        assert!(matches!(tls_client_config(&Roots::PemFile(missing)), Err(RootsError::Pem(..))));
    }
}
