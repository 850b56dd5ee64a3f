//! What is wrong with a certificate at this time of day, and whether a new one may take an old one's place. Pure.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use rustls::{
    CertificateError, Error, RootCertStore,
    client::{verify_server_cert_signed_by_trust_anchor, verify_server_name},
    crypto::ring,
    pki_types::{ServerName, UnixTime},
    server::ParsedCertificate,
};

use super::{
    facts::Facts,
    flaw::{Distrust, Flaw},
    pair::{Pair, without_port},
};
use crate::{config::Public, limits::CERTIFICATE_WARN_BEFORE};

/// What is asked of the certificate.
#[derive(Debug, Clone)]
pub(super) struct Expected {
    /// The name under which Twilio reaches the box, without a port; `None`: not known.
    host: Option<String>,
    /// Whether Twilio meets this very certificate.
    by_twilio: bool,
    /// Whose signature counts for Twilio.
    roots: Arc<RootCertStore>,
}

impl Expected {
    /// Twilio meets another certificate, or is not there at all, where the box listens on loopback or believes a
    /// proxy's headers.
    pub(super) fn of(public: &Public) -> Self {
        let by_twilio = !public.listen.ip().is_loopback() && public.trusted_proxies.is_empty();
        Self::new(public.host.as_deref(), by_twilio, public_roots())
    }

    pub(super) fn new(host: Option<&str>, by_twilio: bool, roots: RootCertStore) -> Self {
        Self { host: host.map(|host| without_port(host).to_owned()), by_twilio, roots: Arc::new(roots) }
    }

    pub(super) fn by_twilio(&self) -> bool {
        self.by_twilio
    }

    /// What is wrong with a pair, the worst first; only its time and its order where Twilio does not meet it.
    pub(super) fn flaws(&self, pair: &Pair, now: Timestamp) -> Vec<Flaw> {
        let facts = &pair.facts;
        let broken = facts.broken_after.map(|after| Flaw::ChainBroken { after });
        let mut flaws: Vec<Flaw> = of_time(facts, now).into_iter().chain(broken).collect();
        if self.by_twilio {
            flaws.extend(self.distrust(pair, now).map(Flaw::Untrusted));
            flaws.extend(self.other_host(pair));
        }
        // What ends in two weeks is no matter beside what is wrong today.
        flaws.sort_by_key(|flaw| matches!(flaw, Flaw::ExpiresSoon { .. }));
        flaws
    }

    /// Why `new` may not take the place of `old`: it does not hold at this time, or it has lost what the old one has.
    /// What no longer holds itself is replaced by anything that does.
    pub(super) fn loss(&self, new: &Pair, old: &Pair, now: Timestamp) -> Option<String> {
        let (new_flaws, old_flaws) = (self.flaws(new, now), self.flaws(old, now));
        if let Some(flaw) = new_flaws.iter().find(|flaw| flaw.is_of_time()) {
            return Some(flaw.to_string());
        }
        if old_flaws.iter().any(Flaw::is_of_time) {
            return None;
        }
        let ends_soon = |flaw: &Flaw| matches!(flaw, Flaw::ExpiresSoon { .. });
        let was_there = |flaw: &Flaw| old_flaws.iter().any(|known| known.is_like(flaw));
        if let Some(flaw) = new_flaws.iter().find(|flaw| !ends_soon(flaw) && !was_there(flaw)) {
            return Some(flaw.to_string());
        }
        // A private authority's intermediate; a public one's may be left out once its issuer is a root.
        let missing = new.facts.missing_of(&old.facts).filter(|_| self.distrust(new, now).is_some());
        missing.map(|issuer| Distrust::IssuerMissing(issuer).to_string())
    }

    fn distrust(&self, pair: &Pair, now: Timestamp) -> Option<Distrust> {
        let facts = &pair.facts;
        let (first, others) = pair.key.cert.split_first()?;
        // A certificate whose time is over has that flaw already: would it be trusted in its time?
        let at = now.min(facts.not_after).max(facts.not_before);
        let at = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(at.as_second()).unwrap_or_default()));
        let algorithms = ring::default_provider().signature_verification_algorithms.all;
        let verified = ParsedCertificate::try_from(first)
            .and_then(|first| verify_server_cert_signed_by_trust_anchor(&first, &self.roots, others, at, algorithms));
        match verified {
            Ok(()) => None,
            Err(_) if facts.self_signed => Some(Distrust::SelfSigned),
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) if others.is_empty() => {
                Some(Distrust::IssuerMissing(facts.issuer.clone()))
            }
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) => Some(Distrust::PrivateAuthority),
            Err(other) => Some(Distrust::Other(other.to_string())),
        }
    }

    fn other_host(&self, pair: &Pair) -> Option<Flaw> {
        let host = self.host.as_ref()?;
        let is_for = |host: &str| {
            let first = ParsedCertificate::try_from(pair.key.cert.first()?).ok()?;
            verify_server_name(&first, &ServerName::try_from(host).ok()?).ok()
        };
        is_for(host).is_none().then(|| Flaw::OtherHost { host: host.clone(), names: pair.facts.names.clone() })
    }
}

/// The authorities that Mozilla lists, which stand for those that Twilio knows.
fn public_roots() -> RootCertStore {
    webpki_roots::TLS_SERVER_ROOTS.iter().cloned().collect()
}

/// What is wrong with a certificate's time.
fn of_time(facts: &Facts, now: Timestamp) -> Option<Flaw> {
    let warn_from = facts.not_after.saturating_sub(CERTIFICATE_WARN_BEFORE).unwrap_or(facts.not_after);
    if now > facts.not_after {
        Some(Flaw::Expired { since: facts.not_after })
    } else if now < facts.not_before {
        Some(Flaw::NotYetValid { from: facts.not_before })
    } else if now >= warn_from {
        Some(Flaw::ExpiresSoon { at: facts.not_after })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    /// An authority that Twilio knows, with an intermediate, and a box that Twilio reaches as `HOST`.
    struct World {
        middle: Authority,
        expected: Expected,
    }

    impl World {
        fn new() -> Self {
            let root = Authority::root("Root");
            let expected = Expected::new(Some("GW.example.co.il:8443"), true, roots(&root));
            Self { middle: root.intermediate("Middle"), expected }
        }

        fn pair(&self, names: &[&str], from: i64, until: i64) -> Pair {
            let made = self.middle.server(names, in_days(from)..in_days(until));
            pair(&[&made.certificate, &self.middle.pem()], &made.key)
        }

        fn good(&self) -> Pair {
            self.pair(&[HOST], -30, 60)
        }

        fn without_intermediate(&self) -> Pair {
            let made = self.middle.server(&[HOST], good_time());
            pair(&[&made.certificate], &made.key)
        }

        fn private(&self) -> Pair {
            let office = Authority::root("The Office");
            let made = office.server(&[HOST], good_time());
            pair(&[&made.certificate, &office.pem()], &made.key)
        }

        fn self_signed(&self) -> Pair {
            let made = makeshift(&[HOST], good_time());
            pair(&[&made.certificate], &made.key)
        }

        fn flaws(&self, pair: &Pair) -> Vec<Flaw> {
            self.expected.flaws(pair, now())
        }

        fn loss(&self, new: &Pair, old: &Pair) -> Option<String> {
            self.expected.loss(new, old, now())
        }
    }

    #[test]
    fn nothing_is_wrong_with_a_certificate_of_a_known_authority_for_the_hosts_name() {
        let world = World::new();
        assert_eq!(world.flaws(&world.good()), []);
        assert_eq!(world.flaws(&world.pair(&["*.example.co.il"], -30, 60)), [], "a wildcard covers one label");
    }

    #[test]
    fn a_certificates_end_is_announced_fourteen_days_before() {
        let world = World::new();
        let pair = world.pair(&[HOST], -30, 14);
        let at = in_days(14);
        let second = Duration::from_secs(1);
        assert_eq!(world.expected.flaws(&pair, now() - second), []);
        assert_eq!(world.expected.flaws(&pair, now()), [Flaw::ExpiresSoon { at }]);
        assert_eq!(world.expected.flaws(&pair, at), [Flaw::ExpiresSoon { at }], "its last second still counts");
        assert_eq!(world.expected.flaws(&pair, at + second), [Flaw::Expired { since: at }]);
        assert_eq!(world.expected.flaws(&pair, in_days(-31)), [Flaw::NotYetValid { from: in_days(-30) }]);
    }

    #[test]
    fn an_intermediate_that_is_missing_is_told_from_a_private_authority_and_both_from_a_makeshift() {
        let world = World::new();
        let distrust = |pair: &Pair| world.flaws(pair);
        let missing = Distrust::IssuerMissing("Middle".to_owned());
        assert_eq!(distrust(&world.without_intermediate()), [Flaw::Untrusted(missing)]);
        assert_eq!(distrust(&world.private()), [Flaw::Untrusted(Distrust::PrivateAuthority)]);
        assert_eq!(distrust(&world.self_signed()), [Flaw::Untrusted(Distrust::SelfSigned)]);
    }

    #[test]
    fn an_authoritys_own_certificate_set_by_mistake_is_told_as_such() {
        let root = Authority::root("Root");
        let middle = root.intermediate("Middle");
        let expected = Expected::new(None, true, roots(&root));
        let flaws = expected.flaws(&pair(&[&middle.pem(), &root.pem()], &middle.key()), now());
        let [Flaw::Untrusted(Distrust::Other(reason))] = &flaws[..] else { panic!("{flaws:?}") };
        assert!(reason.contains("CaUsedAsEndEntity"), "{reason}");
    }

    #[test]
    fn a_certificate_for_another_host_is_told_with_both_names() {
        let world = World::new();
        let flaws = world.flaws(&world.pair(&["www.example.co.il", "example.co.il"], -30, 60));
        let [flaw @ Flaw::OtherHost { .. }] = &flaws[..] else { panic!("{flaws:?}") };
        let text = flaw.to_string();
        assert!(text.contains("not for GW.example.co.il but for www.example.co.il, example.co.il"), "{text}");
    }

    #[test]
    fn an_expired_certificate_without_its_intermediate_is_told_both() {
        let world = World::new();
        let made = world.middle.server(&[HOST], in_days(-90)..in_days(-1));
        let flaws = world.flaws(&pair(&[&made.certificate], &made.key));
        assert!(matches!(&flaws[..], [Flaw::Expired { .. }, Flaw::Untrusted(_)]), "{flaws:?}");
    }

    #[test]
    fn where_twilio_meets_another_certificate_only_time_and_order_count() {
        let mut world = World::new();
        world.expected.by_twilio = false;
        assert_eq!(world.flaws(&world.private()), []);
        assert_eq!(world.flaws(&world.pair(&["proxy.internal"], -30, 60)), []);
        assert!(matches!(world.flaws(&world.pair(&[HOST], -30, -1))[..], [Flaw::Expired { .. }]));
    }

    #[test]
    fn a_box_on_loopback_or_behind_a_trusted_proxy_is_not_met_by_twilio() {
        let public = |listen: &str, proxies: &[&str]| {
            let trusted_proxies = proxies.iter().map(|net| net.parse().unwrap()).collect();
            Expected::of(&Public { listen: listen.parse().unwrap(), trusted_proxies, ..Public::default() }).by_twilio()
        };
        assert!(public("0.0.0.0:8443", &[]));
        assert!(!public("127.0.0.1:8443", &[]) && !public("0.0.0.0:8443", &["10.0.0.0/8"]));
    }

    #[test]
    fn a_new_pair_that_is_as_good_takes_the_old_ones_place() {
        let world = World::new();
        assert_eq!(world.loss(&world.good(), &world.good()), None);
        assert_eq!(world.loss(&world.pair(&[HOST], 0, 6), &world.good()), None, "a short one is no worse");
        assert_eq!(world.loss(&world.private(), &world.self_signed()), None, "neither was trusted");
    }

    #[test]
    fn a_new_pair_that_loses_what_the_old_one_has_is_refused() {
        let world = World::new();
        for (new, part) in [
            (world.pair(&[HOST], -90, -1), "expired at 2026-11-21 08:15 UTC"),
            (world.pair(&[HOST], 1, 90), "holds from 2026-11-23 08:15 UTC on only"),
            (world.without_intermediate(), "fullchain.pem, not cert.pem"),
            (world.private(), "an authority that Twilio does not know"),
            (world.self_signed(), "self-signed"),
            (world.pair(&["www.example.co.il"], -30, 60), "not for GW.example.co.il"),
        ] {
            let loss = world.loss(&new, &world.good()).expect(part);
            assert!(loss.contains(part), "{loss}");
        }
    }

    #[test]
    fn what_has_expired_is_replaced_by_anything_that_holds() {
        let world = World::new();
        let old = world.pair(&[HOST], -90, -1);
        assert_eq!(world.loss(&world.private(), &old), None);
        assert!(world.loss(&world.pair(&[HOST], -90, -2), &old).is_some(), "but not by what has expired too");
    }

    #[test]
    fn a_private_authoritys_intermediate_is_missed_too() {
        let world = World::new();
        let root = Authority::root("The Office");
        let middle = root.intermediate("The Office's Box");
        let made = |chain: &[&str]| {
            let made = middle.server(&[HOST], good_time());
            pair(&[&[&*made.certificate], chain].concat(), &made.key)
        };
        let (whole, short, long) = (made(&[&middle.pem()]), made(&[]), made(&[&middle.pem(), &root.pem()]));
        assert!(world.loss(&short, &whole).is_some_and(|loss| loss.contains("The Office's Box")));
        assert_eq!(world.loss(&whole, &long), None, "a root may be left out");
    }
}
