//! How TLS is spoken: versions, suites, tickets; and the pair that new connections are met with.

use std::sync::{Arc, PoisonError, RwLock};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};

use super::suites;

/// The certificate and key that new connections get. A connection that stands keeps the session it has.
#[derive(Debug)]
pub(super) struct InUse(RwLock<Arc<CertifiedKey>>);

impl InUse {
    pub(super) fn new(key: Arc<CertifiedKey>) -> Self {
        Self(RwLock::new(key))
    }

    pub(super) fn replace(&self, key: Arc<CertifiedKey>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
    }
}

impl ResolvesServerCert for InUse {
    /// The same for whatever name a client asks: the box has one.
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.read().unwrap_or_else(PoisonError::into_inner).clone())
    }
}

/// TLS 1.3 and 1.2, HTTP/1.1, tickets, and no early data (rustls' default: it could be replayed).
pub(super) fn server_config(in_use: Arc<InUse>) -> Result<ServerConfig, rustls::Error> {
    let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
        .with_protocol_versions(&[&TLS13, &TLS12])?
        .with_no_client_auth()
        .with_cert_resolver(in_use);
    // The box's CPU is the weaker one: Twilio's do any suite fast.
    config.ignore_client_order = true;
    // Media Streams and webhooks are HTTP/1.1; resumption by ticket saves a caller some milliseconds at each webhook.
    // The tickets' keys stay when the certificate changes, and so do the sessions.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.ticketer = ring::Ticketer::new()?;
    Ok(config)
}

/// The one provider, its suites in this CPU's order.
pub(super) fn provider() -> CryptoProvider {
    let mut provider = ring::default_provider();
    suites::order(&mut provider.cipher_suites, suites::cpu_has_aes());
    provider
}

#[cfg(test)]
mod tests {
    use super::{super::pair::Pair, *};

    #[test]
    fn sessions_are_resumed_by_ticket_without_early_data_and_the_box_chooses_the_suite() {
        let config = server_config(Arc::new(InUse::new(Pair::make(&[]).unwrap().key))).unwrap();
        assert!(config.ticketer.enabled() && config.send_tls13_tickets > 0);
        assert_eq!(config.max_early_data_size, 0);
        assert!(config.ignore_client_order);
        assert_eq!(config.alpn_protocols, [b"http/1.1"]);
    }
}
