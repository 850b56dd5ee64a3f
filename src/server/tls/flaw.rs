//! What can be wrong with a certificate that can be served: each thing in one sentence, and what to do.

use std::{fmt, mem};

use jiff::Timestamp;

/// Names of a certificate that a sentence lists; the rest are counted.
const NAMES_SHOWN_MAX: usize = 5;

/// Why Twilio refuses a certificate, or soon will.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Flaw {
    /// Twilio's error 11236.
    Expired { since: Timestamp },
    /// Or the box's clock is behind.
    NotYetValid { from: Timestamp },
    /// The certificate at this place in the file, counted from 1, is not signed by the one after it.
    ChainBroken { after: usize },
    /// Twilio's error 11237.
    Untrusted(Distrust),
    /// Twilio's error 11235: none of the certificate's names is the one that Twilio asks for.
    OtherHost { host: String, names: Vec<String> },
    /// Within 14 days.
    ExpiresSoon { at: Timestamp },
}

/// Why no public authority vouches for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    SelfSigned,
    /// It was signed by somebody who is no public authority, and whose own certificate is not in the file: that one is
    /// missing, or the authority is a private one.
    IssuerMissing(String),
    /// The chain in the file leads to an authority that is not public.
    PrivateAuthority,
    /// Another reason, in the words of whoever checked it.
    Other(String),
}

impl Flaw {
    /// Whether it lies in the certificate's time alone.
    pub fn is_of_time(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::NotYetValid { .. })
    }

    /// Whether both are the same thing wrong, however it came about.
    pub fn is_like(&self, other: &Self) -> bool {
        mem::discriminant(self) == mem::discriminant(other)
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Expired { since } => write!(f, "the certificate expired at {}: renew it", written(*since)),
            Self::NotYetValid { from } => write!(
                f,
                "the certificate holds from {} on only: see whether the box's clock is right; if it is, use another \
                 certificate",
                written(*from)
            ),
            Self::ChainBroken { after } => write!(
                f,
                "certificate {after} in the file is not signed by certificate {}: put the box's own one first, then \
                 each one's issuer (an authority's fullchain.pem is in this order)",
                after + 1
            ),
            Self::Untrusted(distrust) => distrust.fmt(f),
            Self::OtherHost { host, names } => {
                write!(f, "the certificate is not for {host} but for {}: correct public.host, or use ", listed(names))?;
                write!(f, "a certificate for {host}")
            }
            Self::ExpiresSoon { at } => write!(f, "the certificate expires at {}: renew it", written(*at)),
        }
    }
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::SelfSigned => f.write_str(
                "the certificate is self-signed, and Twilio refuses it: use one of a public authority (such as Let's \
                 Encrypt), or let something in front end TLS",
            ),
            Self::IssuerMissing(issuer) => write!(
                f,
                "the certificate was signed by {issuer:?}, whose own certificate is missing in the file: use the \
                 authority's fullchain.pem, not cert.pem (a private authority is refused by Twilio in any case)"
            ),
            Self::PrivateAuthority => f.write_str(
                "the chain leads to an authority that Twilio does not know: use a certificate of a public authority \
                 (such as Let's Encrypt)",
            ),
            Self::Other(reason) => write!(
                f,
                "the certificate would be refused ({reason}): have it made anew by a public authority, for servers"
            ),
        }
    }
}

/// A time for people: to the minute, in UTC.
pub(super) fn written(time: Timestamp) -> String {
    time.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// Some names, and how many more there are.
pub(super) fn listed(names: &[String]) -> String {
    let shown = names[..names.len().min(NAMES_SHOWN_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_SHOWN_MAX) {
        0 if names.is_empty() => "no name at all".to_owned(),
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
