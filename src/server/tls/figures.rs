//! The certificate's end as a figure for Prometheus.

use std::fmt;

use prometheus_client::{collector::Collector, encoding::DescriptorEncoder, metrics::MetricType, registry::Unit};
use tokio::sync::watch;

use super::CertificateState;

/// The certificate in use, read when its figure is asked for.
#[derive(Debug)]
pub struct CertificateFigures(pub watch::Receiver<CertificateState>);

impl Collector for CertificateFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let help = "When the certificate in use expires, in Unix time; missing where something in front ends TLS.";
        let (name, unit) = ("kolbox_certificate_expiry_timestamp", Unit::Seconds);
        let mut expiry = encoder.encode_descriptor(name, help, Some(&unit), MetricType::Gauge)?;
        match &self.0.borrow().facts {
            Some(facts) => expiry.encode_gauge(&facts.not_after.as_second()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use prometheus_client::{encoding::text, registry::Registry};

    use super::{super::samples::*, *};
    use crate::config::TlsMode;

    #[test]
    fn the_certificates_end_is_a_figure_as_long_as_there_is_one() {
        let made = Authority::root("Root").server(&[HOST], good_time());
        let facts: Arc<_> = pair(&[&made.certificate], &made.key).facts;
        let (state, seen) = watch::channel(CertificateState::new(TlsMode::Files, Some(facts), Vec::new()));
        let mut registry = Registry::default();
        registry.register_collector(Box::new(CertificateFigures(seen)));
        let figures = || {
            let mut out = String::new();
            text::encode(&mut out, &registry).unwrap();
            out
        };
        let line = format!("\nkolbox_certificate_expiry_timestamp_seconds {}\n", in_days(60).as_second());
        assert!(figures().contains(&line), "{}", figures());
        state.send_replace(CertificateState::new(TlsMode::Off, None, Vec::new()));
        assert!(!figures().contains("_seconds 1"), "{}", figures());
    }
}
