//! What a chain of certificates says of itself: names, times, and whether each is signed by the next. Pure.

use std::{net::IpAddr, time::Duration};

use jiff::Timestamp;
use rustls::{crypto::ring, pki_types::CertificateDer};
use x509_cert::{
    Certificate,
    der::{
        self, Decode, Encode, Reader, SliceReader,
        asn1::{AnyRef, OctetString},
    },
    ext::pkix::{SubjectAltName, name::GeneralName},
    name::Name,
    spki::AlgorithmIdentifierOwned,
    time::Time,
};

/// What stands in the certificates of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The names and addresses that the first certificate is for (subjectAltName, RFC 5280 §4.2.1.6), as they stand
    /// there. Twilio looks at no others.
    pub names: Vec<String>,
    /// Who signed the first certificate.
    pub issuer: String,
    /// From when on the first certificate holds.
    pub not_before: Timestamp,
    /// Until when the first certificate holds.
    pub not_after: Timestamp,
    /// Whether the first certificate is signed with its own key.
    pub self_signed: bool,
    /// How many certificates there are.
    pub length: usize,
    /// The place, counted from 1, of the first certificate that the one after it did not sign. TLS wants each signed by
    /// the next (RFC 5246 §7.4.2; RFC 8446 §4.4.2 no longer insists).
    pub broken_after: Option<usize>,
    /// Whose certificates stand in the file to vouch for others: the subjects from the second on, roots left out.
    vouching: Vec<Name>,
    /// Who signed the last one.
    last_issuer: Name,
}

impl Facts {
    /// Reads a chain of which the first certificate is the box's own. An error is about that one: another that cannot
    /// be read breaks the chain.
    pub fn read(chain: &[CertificateDer<'_>]) -> der::Result<Self> {
        let head = chain.first().map_or(&[][..], |first| first);
        let first = Certificate::from_der(head)?;
        let others: Vec<Option<Certificate>> =
            chain.iter().skip(1).map(|der| Certificate::from_der(der).ok()).collect();
        let all = || [Some(&first)].into_iter().chain(others.iter().map(Option::as_ref));
        let mut links = all().zip(all().skip(1)).zip(chain).map(|((signed, signer), der)| match (signed, signer) {
            (Some(signed), Some(signer)) => is_signed_by(signed, der, signer),
            _ => false,
        });
        let broken_after = links.position(|holds| !holds).map(|index| index + 1);
        let own = first.tbs_certificate();
        let vouching = others.iter().flatten().map(Certificate::tbs_certificate);
        let last = others.iter().flatten().next_back().unwrap_or(&first);
        Ok(Self {
            names: names(&first),
            issuer: name(own.issuer()),
            not_before: timestamp(own.validity().not_before),
            not_after: timestamp(own.validity().not_after),
            self_signed: is_signed_by(&first, head, &first),
            length: chain.len(),
            broken_after,
            vouching: vouching.filter(|of| of.subject() != of.issuer()).map(|of| of.subject().clone()).collect(),
            last_issuer: last.tbs_certificate().issuer().clone(),
        })
    }

    /// The issuer at this chain's end whose certificate stood in `other`, and is missing here.
    pub(super) fn missing_of(&self, other: &Self) -> Option<String> {
        other.vouching.contains(&self.last_issuer).then(|| name(&self.last_issuer))
    }
}

/// Whether `signer` signed `signed`, whose bytes are `der`. A signature of a kind that is not known here is believed
/// where the names fit: a browser may know it.
fn is_signed_by(signed: &Certificate, der: &[u8], signer: &Certificate) -> bool {
    if signed.tbs_certificate().issuer() != signer.tbs_certificate().subject() {
        return false;
    }
    let key = signer.tbs_certificate().subject_public_key_info();
    let (Some(made_with), Some(key_kind)) = (contents(signed.signature_algorithm()), contents(&key.algorithm)) else {
        return false;
    };
    let known = ring::default_provider().signature_verification_algorithms.all;
    let algorithm = known
        .iter()
        .find(|algorithm| *algorithm.signature_alg_id() == *made_with && *algorithm.public_key_alg_id() == *key_kind);
    match (algorithm, signed_bytes(der)) {
        (Some(algorithm), Ok(message)) => {
            let (key, signature) = (key.subject_public_key.raw_bytes(), signed.signature().raw_bytes());
            algorithm.verify_signature(key, message, signature).is_ok()
        }
        (None, Ok(_)) => true,
        (_, Err(_)) => false,
    }
}

/// An algorithm as rustls knows it: without the head of its sequence.
fn contents(algorithm: &AlgorithmIdentifierOwned) -> Option<Vec<u8>> {
    let der = algorithm.to_der().ok()?;
    Some(AnyRef::from_der(&der).ok()?.value().to_vec())
}

/// The part of a certificate that its signature is over (RFC 5280 §4.1.1.3), as it came.
fn signed_bytes(der: &[u8]) -> der::Result<&[u8]> {
    let outer: AnyRef<'_> = AnyRef::from_der(der)?;
    SliceReader::new(outer.value())?.tlv_bytes()
}

fn names(certificate: &Certificate) -> Vec<String> {
    let Ok(Some((_, SubjectAltName(names)))) = certificate.tbs_certificate().get_extension() else { return Vec::new() };
    let name = |name: &GeneralName| match name {
        GeneralName::DnsName(name) => Some(name.to_string()),
        GeneralName::IpAddress(octets) => address(octets).map(|address| address.to_string()),
        _ => None,
    };
    names.iter().filter_map(name).collect()
}

fn address(octets: &OctetString) -> Option<IpAddr> {
    let octets = octets.as_bytes();
    let four = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    four.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// The common name, else the organisation, else all of it.
fn name(name: &Name) -> String {
    let of = |part: der::Result<Option<_>>| part.ok().flatten().map(String::from);
    of(name.common_name()).or_else(|| of(name.organization())).unwrap_or_else(|| name.to_string())
}

/// Times beyond what a timestamp holds ("no expiry" is the year 9999, RFC 5280 §4.1.2.5) become its last.
fn timestamp(time: Time) -> Timestamp {
    let since_epoch: Duration = time.to_unix_duration();
    let seconds = i64::try_from(since_epoch.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    #[test]
    fn a_certificate_says_whom_it_is_for_who_signed_it_and_how_long_it_holds() {
        let made =
            Authority::root("Let's Try").server(&[HOST, "*.example.org", "192.0.2.7", "2001:db8::7"], good_time());
        let facts = &pair(&[&made.certificate], &made.key).facts;
        assert_eq!(facts.names, [HOST, "*.example.org", "192.0.2.7", "2001:db8::7"]);
        assert_eq!((facts.issuer.as_str(), facts.length), ("Let's Try", 1));
        assert_eq!((facts.not_before, facts.not_after), (in_days(-30), in_days(60)));
        let own = makeshift(&[HOST], good_time());
        assert!(!facts.self_signed && pair(&[&own.certificate], &own.key).facts.self_signed);
    }

    #[test]
    fn a_certificate_without_expiry_ends_with_the_last_time_there_is() {
        assert_eq!(timestamp(Time::INFINITY), Timestamp::MAX);
    }

    #[test]
    fn a_chain_holds_when_each_is_signed_by_the_next() {
        for root in [Authority::root("Root"), Authority::rsa_root("Root")] {
            let middle = root.intermediate("Middle");
            let lower = middle.intermediate("Lower");
            let Server { certificate, key } = lower.server(&[HOST], good_time());
            let broken = |chain: &[&str]| pair(chain, &key).facts.broken_after;
            let (root, middle, lower) = (&*root.pem(), &*middle.pem(), &*lower.pem());
            assert_eq!(broken(&[&certificate]), None);
            assert_eq!(broken(&[&certificate, lower, middle]), None);
            assert_eq!(broken(&[&certificate, lower, middle, root]), None);
            assert_eq!(broken(&[&certificate, middle, lower]), Some(1), "in the wrong order");
            assert_eq!(broken(&[&certificate, lower, root]), Some(2), "one is missing");
            assert_eq!(broken(&[&certificate, lower, middle, middle]), Some(3));
        }
    }

    #[test]
    fn a_signer_of_the_same_name_with_another_key_is_not_the_signer() {
        let made = Authority::root("Root").server(&[HOST], good_time());
        let namesake = Authority::root("Root").pem();
        assert_eq!(pair(&[&made.certificate, &namesake], &made.key).facts.broken_after, Some(1));
    }

    #[test]
    fn a_certificate_behind_the_first_that_cannot_be_read_breaks_the_chain() {
        let root = Authority::root("Root");
        let made = root.server(&[HOST], good_time());
        let damaged = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert_eq!(pair(&[&made.certificate, damaged], &made.key).facts.broken_after, Some(1));
        assert_eq!(pair(&[&made.certificate, &root.pem(), damaged], &made.key).facts.broken_after, Some(2));
    }
}
