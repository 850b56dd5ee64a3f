//! The certificate that is served, as others see it.

use std::sync::Arc;

use super::{facts::Facts, flaw::Flaw};
use crate::config::TlsMode;

/// The certificate in use, what is wrong with it, and with the one that was to replace it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateState {
    /// Where it comes from.
    pub mode: TlsMode,
    /// `None` where something in front ends TLS.
    pub facts: Option<Arc<Facts>>,
    /// The worst first, as of the last look (once a minute).
    pub flaws: Vec<Flaw>,
    /// Why the pair in the files is not the one in use.
    pub refused: Option<String>,
}

impl CertificateState {
    /// As it is at the start.
    pub(super) fn new(mode: TlsMode, facts: Option<Arc<Facts>>, flaws: Vec<Flaw>) -> Self {
        Self { mode, facts, flaws, refused: None }
    }
}
