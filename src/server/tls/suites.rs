//! In which order cipher suites are offered: what this CPU does fast comes first.

use rustls::{CipherSuite, SupportedCipherSuite};

/// Puts the suites that suit the CPU first, and else leaves their order: AES-GCM where the CPU has AES instructions,
/// ChaCha20-Poly1305 where it has none (a Raspberry Pi 4; in software AES is the slower of the two by far).
pub(super) fn order(suites: &mut [SupportedCipherSuite], cpu_has_aes: bool) {
    suites.sort_by_key(|suite| is_chacha(suite.suite()) == cpu_has_aes);
}

/// Whether this CPU has instructions for AES and for the multiplication that GCM needs.
pub(super) fn cpu_has_aes() -> bool {
    #[cfg(target_arch = "aarch64")]
    let has = std::arch::is_aarch64_feature_detected!("aes");
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    let has = is_x86_feature_detected!("aes") && is_x86_feature_detected!("pclmulqdq");
    #[cfg(not(any(target_arch = "aarch64", target_arch = "x86", target_arch = "x86_64")))]
    let has = false;
    has
}

fn is_chacha(suite: CipherSuite) -> bool {
    matches!(
        suite,
        CipherSuite::TLS13_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256
            | CipherSuite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256
    )
}

#[cfg(test)]
mod tests {
    use rustls::crypto::ring::ALL_CIPHER_SUITES;

    use super::*;

    fn chacha_first_then_aes(cpu_has_aes: bool) -> Vec<bool> {
        let mut suites = ALL_CIPHER_SUITES.to_vec();
        order(&mut suites, cpu_has_aes);
        assert_eq!(suites.len(), ALL_CIPHER_SUITES.len());
        suites.iter().map(|suite| is_chacha(suite.suite())).collect()
    }

    #[test]
    fn a_cpu_without_aes_instructions_is_offered_chacha20_first_and_one_with_them_last() {
        assert_eq!(chacha_first_then_aes(false), [true, true, true, false, false, false, false, false, false]);
        assert_eq!(chacha_first_then_aes(true), [false, false, false, false, false, false, true, true, true]);
    }

    #[test]
    fn within_each_kind_the_order_stays() {
        let mut suites = ALL_CIPHER_SUITES.to_vec();
        order(&mut suites, true);
        let before: Vec<_> = ALL_CIPHER_SUITES.iter().map(|suite| suite.suite()).filter(|s| !is_chacha(*s)).collect();
        let after: Vec<_> = suites.iter().map(|suite| suite.suite()).filter(|suite| !is_chacha(*suite)).collect();
        assert_eq!(before, after);
    }
}
