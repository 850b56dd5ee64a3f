//! Why a certificate and its key cannot be served with, in words that name the file and say what to do.

use std::{error::Error as StdError, fmt, io, path::PathBuf};

use rustls::pki_types::pem;
use x509_cert::der;

use crate::limits::{CERTIFICATE_FILE_BYTES_MAX, CERTIFICATES_MAX};

/// Why TLS cannot be served. Each message names the file and says what to do.
#[derive(Debug)]
pub enum TlsError {
    /// A file cannot be read.
    Unreadable(PathBuf, io::Error),
    /// A file is longer than any certificate or key.
    TooLong(PathBuf),
    /// A file is damaged PEM, or none.
    NotPem(PathBuf, pem::Error),
    /// The certificate's file holds no certificate.
    NoCertificate(PathBuf),
    /// The certificate's file holds far more than a chain: somebody's list of roots.
    TooMany(PathBuf),
    /// What stands first in the certificate's file is no certificate, though PEM says so.
    NotX509(PathBuf, der::Error),
    /// The key's file holds no key that can be used without a passphrase.
    NoKey(PathBuf),
    /// Certificate and key do not belong together, or are of a kind that cannot be used.
    Unusable { certificate: PathBuf, key: PathBuf, cause: rustls::Error },
    /// A certificate for these names cannot be made.
    SelfSigned(Vec<String>, rcgen::Error),
    /// TLS itself cannot be set up.
    Setup(rustls::Error),
}

impl TlsError {
    /// The message and those of its causes, on one line.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = self.source();
        while let Some(error) = cause {
            text.push_str(": ");
            text.push_str(&error.to_string());
            cause = error.source();
        }
        text
    }
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
            Self::TooLong(path) => write!(
                f,
                "{}: longer than {} KiB, which no certificate or key is; name the right file in [public.tls]",
                path.display(),
                CERTIFICATE_FILE_BYTES_MAX / 1024
            ),
            Self::NotPem(path, _) => write!(f, "{}: damaged, or not in PEM format", path.display()),
            Self::NoCertificate(path) => write!(
                f,
                "{}: holds no certificate; it needs the box's own one first, then those that signed it",
                path.display()
            ),
            Self::TooMany(path) => write!(
                f,
                "{}: holds more than {CERTIFICATES_MAX} certificates; it needs the box's own one first, then those \
                 that signed it, and no others",
                path.display()
            ),
            Self::NotX509(path, _) => write!(f, "{}: its first certificate is damaged", path.display()),
            Self::NoKey(path) => write!(
                f,
                "{}: holds no private key that opens without a passphrase (remove it with \
                 `openssl pkey -in OLD -out NEW`)",
                path.display()
            ),
            Self::Unusable { certificate, key, cause } => match cause {
                rustls::Error::InconsistentKeys(_) => write!(
                    f,
                    "{} is not the key of the first certificate in {}; name a pair in [public.tls], the box's own \
                     certificate first in its file",
                    key.display(),
                    certificate.display()
                ),
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
            Self::NotX509(_, error) => Some(error),
            Self::TooLong(_) | Self::NoCertificate(_) | Self::TooMany(_) | Self::NoKey(_) => None,
            Self::Unusable { cause, .. } => Some(cause),
            Self::SelfSigned(_, error) => Some(error),
            Self::Setup(error) => Some(error),
        }
    }
}
