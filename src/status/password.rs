//! The status password as its Argon2id hash (RFC 9106), and a quick way to know the right one again.

use std::sync::OnceLock;

use argon2::{Algorithm, Argon2, Params, Version};
use hmac::{Hmac, KeyInit, Mac};
use secrecy::{ExposeSecret, SecretString};
use sha2::Sha256;

use crate::limits::{PASSWORD_MEMORY_KIB, PASSWORD_PASSES};

const HASH_BYTES: usize = 32;

/// What is kept of the password; the password itself is not.
#[derive(Debug)]
pub struct Password {
    salt: [u8; 16],
    hash: [u8; HASH_BYTES],
    /// Random, and of this process alone.
    key: [u8; 32],
    /// The right password's digest under `key`, once it was given: who sends it with every request is not to pay the
    /// hash with every request.
    known: OnceLock<[u8; 32]>,
}

/// No hash can be made: there is no randomness, or no memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NoHash;

impl Password {
    /// Hashes the password; takes tenths of a second.
    pub fn new(clear: &SecretString) -> Result<Self, NoHash> {
        let (mut salt, mut key) = ([0; 16], [0; 32]);
        getrandom::fill(&mut salt).map_err(|_| NoHash)?;
        getrandom::fill(&mut key).map_err(|_| NoHash)?;
        let hash = argon2id(clear.expose_secret().as_bytes(), &salt)?;
        Ok(Self { salt, hash, key, known: OnceLock::new() })
    }

    /// Whether this is the right one, as far as that is known without hashing; `false` says nothing.
    pub fn knows(&self, given: &[u8]) -> bool {
        let Some(known) = self.known.get() else { return false };
        self.keyed(given).verify_slice(known).is_ok()
    }

    /// Whether this is the right one; takes tenths of a second and some megabytes.
    pub fn is(&self, given: &[u8]) -> Result<bool, NoHash> {
        let digest = |hash: &[u8]| self.keyed(hash).finalize().into_bytes();
        // Equality of digests under a key that nobody knows: its time tells nothing.
        let right = digest(&argon2id(given, &self.salt)?) == digest(&self.hash);
        if right {
            self.known.get_or_init(|| self.keyed(given).finalize().into_bytes().into());
        }
        Ok(right)
    }

    fn keyed(&self, bytes: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(bytes);
        mac
    }
}

fn argon2id(password: &[u8], salt: &[u8]) -> Result<[u8; HASH_BYTES], NoHash> {
    let cost = Params::new(PASSWORD_MEMORY_KIB, PASSWORD_PASSES, 1, Some(HASH_BYTES)).map_err(|_| NoHash)?;
    let mut hash = [0; HASH_BYTES];
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, cost);
    argon2.hash_password_into(password, salt, &mut hash).map_err(|_| NoHash)?;
    Ok(hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_right_one_is_known_again_without_a_hash_and_no_other_ever_is() {
        let password = Password::new(&"open sesame".into()).unwrap();
        assert!(!password.knows(b"open sesame"), "nobody has given it yet");
        assert_eq!(password.is(b"open barley"), Ok(false));
        assert!(!password.knows(b"open barley"));
        assert_eq!(password.is(b"open sesame"), Ok(true));
        assert!(password.knows(b"open sesame"));
        for wrong in [&b"open sesam"[..], b"open sesame ", b"", b"\xff"] {
            assert!(!password.knows(wrong) && password.is(wrong) == Ok(false), "{wrong:?}");
        }
    }

    #[test]
    fn the_clear_password_is_not_kept() {
        let password = Password::new(&"open sesame".into()).unwrap();
        assert!(password.is(b"open sesame").unwrap());
        let (kept, other) = (format!("{password:?}"), Password::new(&"open sesame".into()).unwrap());
        assert!(!kept.contains(&format!("{:?}", "open sesame".as_bytes()).replace(['[', ']'], "")), "{kept}");
        assert_ne!((password.salt, password.hash), (other.salt, other.hash), "each start has a salt of its own");
    }
}
