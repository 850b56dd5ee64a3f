//! Twilio's messages as they are written, for serde: every text is borrowed from the message that it stands in.

use std::{borrow::Cow, fmt, marker::PhantomData};

use serde::{
    Deserialize,
    de::{self, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;

use crate::limits::STREAM_PARAMETERS_MAX;

#[derive(Deserialize)]
pub(super) struct Message<'a> {
    #[serde(borrow, default)]
    pub(super) event: Cow<'a, str>,
    #[serde(borrow, default, rename = "type")]
    pub(super) kind: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "streamSid")]
    pub(super) stream_sid: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) start: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) media: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) dtmf: Option<&'a RawValue>,
    #[serde(borrow, default)]
    pub(super) mark: Option<&'a RawValue>,
}

#[derive(Deserialize)]
pub(super) struct MediaPart<'a> {
    #[serde(borrow, default)]
    pub(super) track: Cow<'a, str>,
    #[serde(default)]
    pub(super) chunk: Number,
    #[serde(default)]
    pub(super) timestamp: Number,
    #[serde(borrow)]
    pub(super) payload: Cow<'a, str>,
}

/// [`Message`] as a media message has it. The other fields are named so that none may come twice.
#[derive(Deserialize)]
pub(super) struct MediaMessage<'a> {
    #[serde(borrow)]
    pub(super) event: Cow<'a, str>,
    #[serde(default, rename = "type")]
    _kind: Option<de::IgnoredAny>,
    #[serde(borrow, default, rename = "streamSid")]
    pub(super) stream_sid: Cow<'a, str>,
    #[serde(default, rename = "start")]
    _start: Option<de::IgnoredAny>,
    #[serde(borrow)]
    pub(super) media: Object<MediaPart<'a>>,
    #[serde(default, rename = "dtmf")]
    _dtmf: Option<de::IgnoredAny>,
    #[serde(default, rename = "mark")]
    _mark: Option<de::IgnoredAny>,
}

/// What must be written as an object: serde would also take an array for a struct, field by field.
pub(super) struct Object<T>(pub(super) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> de::Visitor<'de> for Visitor<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(Visitor(PhantomData))
    }
}

#[derive(Deserialize)]
pub(super) struct MarkPart<'a> {
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
}

#[derive(Deserialize)]
pub(super) struct DtmfPart<'a> {
    #[serde(borrow)]
    pub(super) digit: Cow<'a, str>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct StartPart<'a> {
    #[serde(borrow, default)]
    pub(super) stream_sid: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) account_sid: Cow<'a, str>,
    #[serde(borrow)]
    pub(super) call_sid: Cow<'a, str>,
    #[serde(borrow, default)]
    pub(super) custom_parameters: Option<Parameters<'a>>,
    #[serde(borrow, default)]
    pub(super) media_format: Option<MediaFormat<'a>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct MediaFormat<'a> {
    #[serde(borrow, default)]
    pub(super) encoding: Cow<'a, str>,
    #[serde(default)]
    pub(super) sample_rate: Number,
    #[serde(default)]
    pub(super) channels: Number,
}

impl MediaFormat<'_> {
    pub(super) fn is_ulaw_8k_mono(&self) -> bool {
        self.encoding == "audio/x-mulaw"
            && self.sample_rate.0.is_none_or(|rate| rate == 8000)
            && self.channels.0.is_none_or(|channels| channels == 1)
    }
}

/// A whole number, written as such or as a string; `None` for anything else that is no object or array.
#[derive(Default)]
pub(super) struct Number(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or a string with one")
            }

            fn visit_u64<E>(self, number: u64) -> Result<Number, E> {
                Ok(Number(Some(number)))
            }

            fn visit_i64<E>(self, _: i64) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_f64<E>(self, _: f64) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_bool<E>(self, _: bool) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_unit<E>(self) -> Result<Number, E> {
                Ok(Number(None))
            }

            fn visit_str<E>(self, text: &str) -> Result<Number, E> {
                Ok(Number(text.parse().ok()))
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[derive(Default)]
pub(super) struct Parameters<'a>(pub(super) Vec<(Cow<'a, str>, Cow<'a, str>)>);

/// serde takes a `Cow` for owned unless it is a field of a struct that says `borrow`.
#[derive(Deserialize)]
#[serde(transparent)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Parameters<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Parameters<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of strings")
            }

            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Parameters<'de>, A::Error> {
                let mut parameters = Vec::new();
                while let Some((name, value)) = map.next_entry::<Text<'de>, Text<'de>>()? {
                    if parameters.len() < STREAM_PARAMETERS_MAX {
                        parameters.push((name.0, value.0));
                    }
                }
                Ok(Parameters(parameters))
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}
