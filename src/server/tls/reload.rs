//! Takes a new pair when the files change, tells what is wrong with the one in use, and never serves a worse one.
//!
//! A change is looked for once a minute, or when asked (SIGHUP). Files are read on a thread for that; what is made of
//! them is decided apart. Connections that stand are not touched: only a new handshake meets the new certificate.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio::{
    sync::{Notify, watch},
    task::spawn_blocking,
    time::sleep,
};

use super::{
    CertificateState, Facts, TlsError,
    files::{Seen, Stamp},
    flaw::{Flaw, listed, written},
    judge::Expected,
    pair::Pair,
    server_config::InUse,
};
use crate::{
    config::Tls,
    limits::{CERTIFICATE_LOOK_EVERY, CERTIFICATE_SETTLE},
    system::clock::Clock,
};

/// Looks after the certificate in use.
pub struct Reloader {
    tls: Tls,
    expected: Expected,
    in_use: Arc<InUse>,
    pair: Pair,
    /// The files that the pair in use was read from.
    stamp: Stamp,
    /// The last look found a new pair that cannot be used, for the first time.
    in_doubt: bool,
    refused: Option<Refusal>,
    state: watch::Sender<CertificateState>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Refusal {
    stamp: Stamp,
    reason: String,
}

/// What a look has to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// New connections meet a new certificate.
    Replaced { names: String, issuer: String, until: Timestamp },
    /// The files hold a pair that is not taken.
    Refused { reason: String, until: Timestamp },
    /// The files hold the pair in use again.
    Mended,
    /// Something is wrong with the pair in use that was not before.
    Flawed(Flaw),
}

impl Reloader {
    /// `stamp` was taken before `pair` was read: what changed in between is seen by the next look.
    pub(super) fn new(
        tls: Tls,
        expected: Expected,
        (stamp, pair): (Stamp, Pair),
        in_use: Arc<InUse>,
        state: watch::Sender<CertificateState>,
    ) -> Self {
        Self { tls, expected, in_use, pair, stamp, in_doubt: false, refused: None, state }
    }

    /// Runs for as long as the box does. `asked` makes it look at once.
    pub async fn run(mut self, clock: Clock, asked: Arc<Notify>) {
        let mut pause = CERTIFICATE_LOOK_EVERY;
        loop {
            tokio::select! {
                () = sleep(pause) => {}
                () = asked.notified() => {}
            }
            let (tls, in_use) = (self.tls.clone(), self.stamp.clone());
            let Ok(seen) = spawn_blocking(move || Seen::now(&tls, &in_use)).await else { return };
            let (reports, next) = self.consider(seen, clock.wall(clock.now()));
            reports.iter().for_each(|report| report.log(&self.tls.certificate));
            pause = next;
        }
    }

    /// What follows from the files as they were seen, and when to look again.
    pub(super) fn consider(&mut self, seen: Seen, now: Timestamp) -> (Vec<Report>, Duration) {
        let mut reports = Vec::new();
        let mut pause = CERTIFICATE_LOOK_EVERY;
        match self.judge(seen.pair, now) {
            Ok(new) => {
                self.stamp = seen.stamp;
                self.in_doubt = false;
                let was_refused = self.refused.take().is_some();
                match new {
                    Some(pair) => reports.push(self.replace(pair)),
                    None if was_refused => reports.push(Report::Mended),
                    None => {}
                }
            }
            Err(reason) => {
                let refusal = Refusal { stamp: seen.stamp, reason };
                if self.refused.as_ref() == Some(&refusal) {
                    self.in_doubt = false;
                } else if self.in_doubt {
                    self.in_doubt = false;
                    reports.push(Report::Refused { reason: refusal.reason.clone(), until: self.pair.facts.not_after });
                    self.refused = Some(refusal);
                } else {
                    self.in_doubt = true;
                    pause = CERTIFICATE_SETTLE;
                }
            }
        }
        reports.extend(self.publish(now));
        (reports, pause)
    }

    /// The pair to take, if the files hold another one, or why it is not taken.
    fn judge(&self, read: Option<Result<Pair, TlsError>>, now: Timestamp) -> Result<Option<Pair>, String> {
        let Some(read) = read else { return Ok(None) };
        let new = read.map_err(|error| error.with_causes())?;
        if new.shows_what(&self.pair) {
            return Ok(None);
        }
        match self.expected.loss(&new, &self.pair, now) {
            Some(reason) => Err(reason),
            None => Ok(Some(new)),
        }
    }

    fn replace(&mut self, pair: Pair) -> Report {
        self.in_use.replace(pair.key.clone());
        self.pair = pair;
        let facts = &self.pair.facts;
        Report::Replaced { names: listed(&facts.names), issuer: facts.issuer.clone(), until: facts.not_after }
    }

    fn publish(&self, now: Timestamp) -> Vec<Report> {
        let flaws = self.expected.flaws(&self.pair, now);
        let known = self.state.borrow().flaws.clone();
        let state = CertificateState {
            mode: self.tls.mode,
            facts: Some(self.pair.facts.clone()),
            flaws: flaws.clone(),
            refused: self.refused.as_ref().map(|refusal| refusal.reason.clone()),
        };
        self.state.send_if_modified(|old| {
            let differs = *old != state;
            *old = state;
            differs
        });
        flaws.into_iter().filter(|flaw| !known.contains(flaw)).map(Report::Flawed).collect()
    }
}

/// The certificate that the box begins with, and what is wrong with it.
pub(super) fn log_at_start(tls: &Tls, pair: &Pair, flaws: &[Flaw]) {
    let Facts { names, issuer, not_after, .. } = &*pair.facts;
    tracing::info!(names = listed(names), issuer, until = written(*not_after), "the certificate in use");
    flaws.iter().for_each(|flaw| Report::Flawed(flaw.clone()).log(&tls.certificate));
}

impl Report {
    fn log(&self, certificate: &Path) {
        // A certificate that was made at the start stands in no file.
        let file = (!certificate.as_os_str().is_empty()).then(|| tracing::field::display(certificate.display()));
        match self {
            Self::Replaced { names, issuer, until } => {
                tracing::info!(
                    certificate = file,
                    names,
                    issuer,
                    until = written(*until),
                    "a new certificate is in use"
                );
            }
            Self::Refused { reason, until } => tracing::warn!(
                certificate = file,
                reason,
                until = written(*until),
                "the new certificate is not used, and calls go on with the old one until it expires; mend the files, \
                 and it is taken"
            ),
            Self::Mended => tracing::info!(certificate = file, "the files hold the certificate in use again"),
            Self::Flawed(flaw) => tracing::warn!(certificate = file, "{flaw}"),
        }
    }
}

#[cfg(test)]
#[path = "reload_tests.rs"]
mod tests;
