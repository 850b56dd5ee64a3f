//! Who may see phone numbers: those who give the status password by HTTP Basic (RFC 7617).

use base64::{Engine, engine::general_purpose::STANDARD};
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

use super::caller::Viewer;

/// The user name that goes with the password.
const USER: &str = "kolbox";

/// The door: open only where a password is set.
#[derive(Debug, Clone)]
pub struct Access {
    password: SecretString,
}

/// The password that was given is not ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WrongPassword;

impl Access {
    /// An empty password opens to nobody.
    pub fn new(password: SecretString) -> Self {
        Self { password }
    }

    /// Whether anybody can come in.
    pub fn has_password(&self) -> bool {
        !self.password.expose_secret().is_empty()
    }

    /// Who sends this `Authorization` header.
    ///
    /// # Errors
    /// For credentials that are not ours. Where no password is set they are not looked at.
    pub fn viewer(&self, authorization: Option<&[u8]>) -> Result<Viewer, WrongPassword> {
        let Some(header) = authorization.filter(|_| self.has_password()) else { return Ok(Viewer::Anyone) };
        let given = credentials(header).ok_or(WrongPassword)?;
        let ours = format!("{USER}:{}", self.password.expose_secret());
        if same(&given, ours.as_bytes()) { Ok(Viewer::Staff) } else { Err(WrongPassword) }
    }
}

/// `Basic <base64 of user:password>`, decoded.
fn credentials(header: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok()).flatten()
}

/// Equality whose time tells nothing: digests of equal length, compared to their end.
fn same(one: &[u8], other: &[u8]) -> bool {
    let pairs = Sha256::digest(one).into_iter().zip(Sha256::digest(other));
    pairs.fold(0, |difference, (left, right)| difference | (left ^ right)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(credentials: &str) -> Vec<u8> {
        format!("Basic {}", STANDARD.encode(credentials)).into_bytes()
    }

    #[test]
    fn the_password_makes_staff_and_a_wrong_one_is_told_so() {
        let access = Access::new("pass:word".into());
        assert_eq!(access.viewer(None), Ok(Viewer::Anyone));
        assert_eq!(access.viewer(Some(&header("kolbox:pass:word"))), Ok(Viewer::Staff));
        for wrong in ["kolbox:pass", "kolbox:", "admin:pass:word", "", "pass:word"] {
            assert_eq!(access.viewer(Some(&header(wrong))), Err(WrongPassword), "{wrong}");
        }
        for broken in [&b"Basic"[..], b"Basic !!!", b"Bearer a2V5", b"\xff\xfe x", b""] {
            assert_eq!(access.viewer(Some(broken)), Err(WrongPassword));
        }
    }

    #[test]
    fn without_a_password_nobody_is_staff_not_even_with_an_empty_one() {
        let access = Access::new(SecretString::default());
        assert!(!access.has_password());
        assert_eq!(access.viewer(Some(&header("kolbox:"))), Ok(Viewer::Anyone));
    }
}
