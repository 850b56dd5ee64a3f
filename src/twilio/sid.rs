//! Twilio's identifiers: two letters and 32 hexadecimal digits, one checked fixed-size type each.

use std::{fmt, str::FromStr};

const SID_BYTES: usize = 34;

/// Why a text is no identifier of the kind asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SidError {
    /// The two letters that were expected.
    pub prefix: &'static str,
}

impl fmt::Display for SidError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected {} and 32 hexadecimal digits", self.prefix)
    }
}

impl std::error::Error for SidError {}

macro_rules! sid {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name([u8; SID_BYTES]);

        impl $name {
            /// The two letters that such an identifier begins with.
            pub const PREFIX: &'static str = $prefix;

            /// The identifier as Twilio wrote it.
            pub fn as_str(&self) -> &str {
                std::str::from_utf8(&self.0).expect("checked when made: ASCII only")
            }

            /// An identifier whose digits are the given number: for the simulator and for tests.
            pub fn from_number(number: u128) -> Self {
                format!("{}{number:032x}", $prefix).parse().expect("32 hexadecimal digits")
            }
        }

        impl FromStr for $name {
            type Err = SidError;

            fn from_str(text: &str) -> Result<Self, SidError> {
                let error = SidError { prefix: $prefix };
                let bytes: [u8; SID_BYTES] = text.as_bytes().try_into().map_err(|_| error)?;
                let digits = bytes.strip_prefix($prefix.as_bytes()).ok_or(error)?;
                if !digits.iter().all(u8::is_ascii_hexdigit) {
                    return Err(error);
                }
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

sid!(
    /// A call, for its whole life.
    CallSid, "CA"
);
sid!(
    /// One media stream of a call.
    StreamSid, "MZ"
);
sid!(
    /// A recording that Twilio keeps.
    RecordingSid, "RE"
);
sid!(
    /// The account that a number belongs to.
    AccountSid, "AC"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_only_its_own_prefix_and_exactly_32_hexadecimal_digits() {
        let good = "CA00000000000000000000000000000aBc";
        assert_eq!(good.parse::<CallSid>().unwrap().as_str(), good);
        for bad in [
            "",
            "CA",
            "MZ00000000000000000000000000000abc",
            "CA0000000000000000000000000000abcg",
            "CA00000000000000000000000000000abcd",
            "CA0000000000000000000000000000ab",
            "CA000000000000000000000000000000é",
        ] {
            assert!(bad.parse::<CallSid>().is_err(), "{bad}");
        }
    }

    #[test]
    fn goes_through_json_as_a_plain_string() {
        let sid = StreamSid::from_number(0x2a);
        let json = serde_json::to_string(&sid).unwrap();
        assert_eq!(json, "\"MZ0000000000000000000000000000002a\"");
        assert_eq!(serde_json::from_str::<StreamSid>(&json).unwrap(), sid);
        assert!(serde_json::from_str::<CallSid>(&json).is_err());
    }
}
