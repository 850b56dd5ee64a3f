//! The certificate as `kolbox check` tells of it: one line each for the pair, its chain and its end.

use jiff::{Timestamp, Unit};

use super::{
    flaw::{Flaw, listed, written},
    judge::Expected,
    pair::Pair,
};
use crate::config::{Public, Tls, TlsMode};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// `certificate`, `chain` or `expiry`.
    pub what: &'static str,
    pub verdict: Verdict,
    /// What was seen, and what to do where something has to be done.
    pub text: String,
}

/// How it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Fine,
    /// It works, but whoever installs the box should know.
    Note,
    /// Calls will not come through, or soon will not.
    Fix,
}

/// Reads what `[public.tls]` names, as the start would, and says how it stands at the time `now`. Nothing is served.
pub fn examine(public: &Public, now: Timestamp) -> Vec<Finding> {
    let finding = |what, verdict, text| Finding { what, verdict, text };
    match public.tls.mode {
        TlsMode::Off => {
            let text = "none: something in front must end TLS for Twilio".to_owned();
            vec![finding("certificate", Verdict::Note, text)]
        }
        TlsMode::SelfSigned => {
            let text = "self-signed, which Twilio refuses: set public.tls.mode = \"files\", or let something in front \
                        end TLS";
            vec![finding("certificate", Verdict::Note, text.to_owned())]
        }
        TlsMode::Files => match Pair::read(&public.tls) {
            Ok(pair) => of_pair(&public.tls, &pair, &Expected::of(public), now),
            Err(error) => vec![finding("certificate", Verdict::Fix, error.with_causes())],
        },
    }
}

fn of_pair(tls: &Tls, pair: &Pair, expected: &Expected, now: Timestamp) -> Vec<Finding> {
    let facts = &pair.facts;
    let flaws = expected.flaws(pair, now);
    let file = tls.certificate.display();
    let line = |what, fine: String| {
        let wrong: Vec<String> = flaws.iter().filter(|flaw| about(flaw) == what).map(Flaw::to_string).collect();
        match wrong.is_empty() {
            true => Finding { what, verdict: Verdict::Fine, text: fine },
            false => Finding { what, verdict: Verdict::Fix, text: format!("{file}: {}", wrong.join("; ")) },
        }
    };
    let chain = match expected.by_twilio() {
        true => format!("{}, up to a public authority", counted(facts.length)),
        false => {
            format!("{} (Twilio meets another certificate: the authority is not looked at)", counted(facts.length))
        }
    };
    let days = facts.not_after.since(now).and_then(|left| left.total(Unit::Hour)).unwrap_or_default() / 24.0;
    vec![
        line("certificate", format!("{file} with its key, for {}, by {}", listed(&facts.names), facts.issuer)),
        line("chain", chain),
        line("expiry", format!("{} ({days:.0} days)", written(facts.not_after))),
    ]
}

/// The line that a flaw belongs to.
fn about(flaw: &Flaw) -> &'static str {
    match flaw {
        Flaw::OtherHost { .. } => "certificate",
        Flaw::ChainBroken { .. } | Flaw::Untrusted(_) => "chain",
        Flaw::Expired { .. } | Flaw::NotYetValid { .. } | Flaw::ExpiresSoon { .. } => "expiry",
    }
}

fn counted(certificates: usize) -> String {
    match certificates {
        1 => "1 certificate".to_owned(),
        more => format!("{more} certificates, each signed by the next"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::samples::*, *};

    fn findings(public: &Public) -> Vec<(&'static str, Verdict, String)> {
        examine(public, now()).into_iter().map(|finding| (finding.what, finding.verdict, finding.text)).collect()
    }

    fn public(tls: Tls) -> Public {
        Public { host: Some(HOST.to_owned()), tls, ..Public::default() }
    }

    #[test]
    fn a_certificate_that_twilio_refuses_is_to_be_mended_line_by_line() {
        let folder = tempfile::tempdir().unwrap();
        let made = Authority::root("The Office").server(&["www.example.co.il"], in_days(-30)..in_days(3));
        let lines = findings(&public(write(folder.path(), &[&made.certificate], &made.key)));
        let parts = ["is not for gw.example.co.il but for www.example.co.il", "\"The Office\"", "2026-11-25 08:15 UTC"];
        assert_eq!(lines.iter().map(|line| line.0).collect::<Vec<_>>(), ["certificate", "chain", "expiry"]);
        for ((_, verdict, text), part) in lines.iter().zip(parts) {
            assert_eq!(*verdict, Verdict::Fix);
            assert!(text.contains("chain.pem: ") && text.contains(part), "{text}");
        }
    }

    #[test]
    fn behind_a_proxy_a_private_certificate_is_fine() {
        let folder = tempfile::tempdir().unwrap();
        let office = Authority::root("The Office");
        let made = office.server(&["box.internal"], good_time());
        let tls = write(folder.path(), &[&made.certificate, &office.pem()], &made.key);
        let behind = Public { trusted_proxies: vec!["10.0.0.0/8".parse().unwrap()], ..public(tls) };
        let lines = findings(&behind);
        assert!(lines.iter().all(|line| line.1 == Verdict::Fine), "{lines:?}");
        assert!(lines[0].2.ends_with("chain.pem with its key, for box.internal, by The Office"), "{lines:?}");
        assert!(lines[1].2.starts_with("2 certificates, each signed by the next ("), "{lines:?}");
        assert_eq!(lines[2].2, "2027-01-21 08:15 UTC (60 days)");
    }

    #[test]
    fn files_that_cannot_be_used_and_certificates_that_are_none_are_one_line() {
        let gone = Tls { mode: TlsMode::Files, certificate: "/nowhere/a.pem".into(), key: "/nowhere/b.pem".into() };
        let [(what, verdict, text)] = &findings(&public(gone))[..] else { panic!("one line") };
        assert_eq!((*what, *verdict), ("certificate", Verdict::Fix));
        assert!(text.starts_with("/nowhere/a.pem: no such file"), "{text}");
        for mode in [TlsMode::SelfSigned, TlsMode::Off] {
            let lines = findings(&public(Tls { mode, ..Tls::default() }));
            assert_eq!((lines.len(), lines[0].1), (1, Verdict::Note));
        }
    }
}
