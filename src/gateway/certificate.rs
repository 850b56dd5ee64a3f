//! The certificate's flaws as troubles that staff see.

use std::collections::BTreeSet;

use crate::{
    server::tls::{CertificateState, Distrust, Flaw},
    status::trouble::TroubleCode,
};

/// What is wrong with the certificate in use, and with the one that was to replace it.
pub(super) fn troubles(state: &CertificateState) -> BTreeSet<TroubleCode> {
    let of_flaws = state.flaws.iter().map(trouble);
    of_flaws.chain(state.refused.as_ref().map(|_| TroubleCode::CertificateNotTaken)).collect()
}

fn trouble(flaw: &Flaw) -> TroubleCode {
    match flaw {
        Flaw::Expired { .. } => TroubleCode::CertificateExpired,
        Flaw::NotYetValid { .. } => TroubleCode::CertificateNotYetValid,
        Flaw::Untrusted(Distrust::SelfSigned) => TroubleCode::CertificateSelfSigned,
        Flaw::ChainBroken { .. } | Flaw::Untrusted(_) => TroubleCode::CertificateUntrusted,
        Flaw::OtherHost { .. } => TroubleCode::CertificateOtherName,
        Flaw::ExpiresSoon { .. } => TroubleCode::CertificateExpiresSoon,
    }
}
