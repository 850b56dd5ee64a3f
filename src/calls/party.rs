//! Who calls and who is called: a name that is printed with its last three digits only.

use std::{borrow::Cow, fmt};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::PARTY_BYTES_MAX;

/// Below this many digits, three of them would tell too much.
const MASKED_DIGITS_MIN: usize = 7;

/// A caller or callee as Twilio names it: a number, a SIP address, a word, or nothing; cut at [`PARTY_BYTES_MAX`].
///
/// `Debug` and `Display` show the last three digits of a number and nothing of any other name, so that no log line
/// prints a whole one by accident. [`Party::whole`] and serialisation are the only ways to all of it.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Party(heapless::String<PARTY_BYTES_MAX>);

impl Party {
    /// The start of the name that fits.
    pub fn new(name: &str) -> Self {
        let mut kept = heapless::String::new();
        for character in name.chars() {
            if kept.push(character).is_err() {
                break;
            }
        }
        Self(kept)
    }

    /// All of it: for records, and for those who may see numbers. Never for a log.
    pub fn whole(&self) -> &str {
        &self.0
    }

    /// The last three digits; `None` for what is no number of at least 7 digits (E.164, with or without its `+`).
    pub fn ending(&self) -> Option<&str> {
        ending(&self.0)
    }
}

/// [`Party::ending`] of a name that is not in a [`Party`].
pub fn ending(name: &str) -> Option<&str> {
    let digits = name.strip_prefix('+').unwrap_or(name);
    let is_number = digits.len() >= MASKED_DIGITS_MIN && digits.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { digits.get(digits.len() - 3..) } else { None }
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ending() {
            Some(digits) => write!(f, "…{digits}"),
            None if self.0.is_empty() => f.write_str("-"),
            None => f.write_str("…"),
        }
    }
}

impl fmt::Debug for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Party({self})")
    }
}

impl Serialize for Party {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.whole())
    }
}

impl<'de> Deserialize<'de> for Party {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer).map(|name| Self::new(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_prints_its_last_three_digits_and_any_other_name_nothing() {
        for (name, shown) in [
            ("+972501234567", "…567"),
            ("0501234567", "…567"),
            ("+123456", "…"),
            ("sip:972501234567@pbx.example", "…"),
            ("client:dana", "…"),
            ("+97250123456٧", "…"),
            ("", "-"),
        ] {
            let party = Party::new(name);
            assert_eq!(party.to_string(), shown, "{name}");
            assert_eq!(format!("{party:?}"), format!("Party({shown})"), "{name}");
            assert_eq!(party.whole(), name);
        }
    }

    #[test]
    fn it_is_written_whole_and_read_whole() {
        let party = Party::new("+972501234567");
        let json = serde_json::to_string(&party).unwrap();
        assert_eq!(json, r#""+972501234567""#);
        assert_eq!(serde_json::from_str::<Party>(&json).unwrap(), party);
    }

    #[test]
    fn a_name_that_is_too_long_is_cut_between_characters() {
        let party = Party::new(&"א".repeat(PARTY_BYTES_MAX));
        assert_eq!(party.whole(), "א".repeat(PARTY_BYTES_MAX / 2));
    }
}
