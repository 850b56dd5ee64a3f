//! TLS as a server: the certificate that Twilio meets, looked after, and taken anew when its files change.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use self::{
    files::Stamp,
    judge::Expected,
    pair::Pair,
    server_config::{InUse, server_config},
};
use crate::config::{Public, Tls, TlsMode};

mod error;
mod examine;
mod facts;
mod figures;
mod files;
mod flaw;
mod judge;
mod pair;
mod reload;
mod server_config;
mod state;
mod suites;

#[cfg(test)]
mod samples;

pub use error::TlsError;
pub use examine::{Finding, Verdict, examine};
pub use facts::Facts;
pub use figures::CertificateFigures;
pub use flaw::{Distrust, Flaw};
pub use reload::Reloader;
pub use state::CertificateState;

/// The public listener's TLS.
pub struct PublicTls {
    /// What begins each connection; `None` where something in front of the box ends TLS.
    pub acceptor: Option<TlsAcceptor>,
    /// The certificate in use, as it changes.
    pub state: watch::Receiver<CertificateState>,
    /// What keeps `state` true and takes a new pair, once it is run; `None` where no files are served from.
    pub reloader: Option<Reloader>,
}

impl PublicTls {
    /// Reads or makes the certificate, and says in the log what Twilio will not like about it. That stops nothing: it
    /// may be somebody else who meets it.
    pub fn open(public: &Public, now: Timestamp) -> Result<Self, TlsError> {
        let (tls, expected) = (&public.tls, Expected::of(public));
        let stamp = Stamp::of(tls);
        let Some(pair) = pair(tls, public.host.as_deref().as_slice())? else {
            let (_, state) = watch::channel(CertificateState::new(tls.mode, None, Vec::new()));
            return Ok(Self { acceptor: None, state, reloader: None });
        };
        let flaws = expected.flaws(&pair, now);
        reload::log_at_start(tls, &pair, &flaws);
        let (sender, state) = watch::channel(CertificateState::new(tls.mode, Some(pair.facts.clone()), flaws));
        let in_use = Arc::new(InUse::new(pair.key.clone()));
        let acceptor = Some(acceptor_of(in_use.clone())?);
        let reloader = match tls.mode {
            TlsMode::Files => Some(Reloader::new(tls.clone(), expected, (stamp, pair), in_use, sender)),
            TlsMode::SelfSigned | TlsMode::Off => None,
        };
        Ok(Self { acceptor, state, reloader })
    }
}

/// What ends TLS at a listener whose certificate never changes, or `None` where something in front of the box does.
/// `hosts` are those (a port is dropped) that a self-signed certificate is made for, beside localhost and the loopback
/// addresses.
pub fn acceptor(tls: &Tls, hosts: &[&str]) -> Result<Option<TlsAcceptor>, TlsError> {
    pair(tls, hosts)?.map(|pair| acceptor_of(Arc::new(InUse::new(pair.key)))).transpose()
}

fn acceptor_of(in_use: Arc<InUse>) -> Result<TlsAcceptor, TlsError> {
    Ok(TlsAcceptor::from(Arc::new(server_config(in_use).map_err(TlsError::Setup)?)))
}

fn pair(tls: &Tls, hosts: &[&str]) -> Result<Option<Pair>, TlsError> {
    match tls.mode {
        TlsMode::Off => Ok(None),
        TlsMode::Files => Pair::read(tls).map(Some),
        TlsMode::SelfSigned => Pair::make(hosts).map(Some),
    }
}
