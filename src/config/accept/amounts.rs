//! Durations and sizes: a number with its unit.

use std::{ops::RangeInclusive, time::Duration};

use bytesize::ByteSize;

use crate::config::{KeepAudio, marks, reader::Given, refusal::Refusal, spelling};

/// How a duration's unit may begin, for those who write it out, and its milliseconds.
const UNITS: [(&[&str], f64); 5] = [
    (&["ms", "milli"], 1.0),
    (&["s", "שנ"], 1_000.0),
    (&["m", "דק"], 60_000.0),
    (&["h", "שע"], 3_600_000.0),
    (&["d", "ימ", "יו"], 86_400_000.0),
];
/// Without a unit seconds are the likeliest, then milliseconds.
const LIKELIEST_FIRST: [usize; 5] = [1, 0, 2, 3, 4];

/// A duration with its unit. What lies outside the range is refused, as is a number without a unit.
pub fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Given) -> Result<Duration, Refusal> {
    move |given| {
        let good = |value: &Duration| range.contains(value);
        parse(given).filter(good).ok_or_else(|| {
            let (from, to) = (written(*range.start()), written(*range.end()));
            Refusal::new(format!(
                "expected a duration from {from} to {to}, written like \"8s\", \"500ms\", \"2m\", \"7d\""
            ))
            .perhaps(likely(given, good))
        })
    }
}

/// A duration, or zero for "never" or "at once".
pub fn duration_or_zero(range: RangeInclusive<Duration>) -> impl Fn(&Given) -> Result<Duration, Refusal> {
    move |given| {
        let good = |value: &Duration| value.is_zero() || range.contains(value);
        parse(given).filter(good).ok_or_else(|| {
            let (from, to) = (written(*range.start()), written(*range.end()));
            Refusal::new(format!(
                "expected \"0s\", or a duration from {from} to {to}, written like \"8s\", \"500ms\", \"2m\", \"7d\""
            ))
            .perhaps(likely(given, good))
        })
    }
}

/// A duration of whole seconds, because Twilio's attributes take nothing finer.
pub fn whole_seconds(range: RangeInclusive<Duration>) -> impl Fn(&Given) -> Result<Duration, Refusal> {
    move |given| {
        let good = |value: &Duration| range.contains(value) && value.subsec_nanos() == 0;
        parse(given).filter(good).ok_or_else(|| {
            let (from, to) = (written(*range.start()), written(*range.end()));
            Refusal::new(format!("expected whole seconds from {from} to {to}, written like \"8s\" or \"2m\""))
                .perhaps(likely(given, good))
        })
    }
}

/// `never`, `until_transcribed` or a duration.
pub fn keep_audio(longest: Duration) -> impl Fn(&Given) -> Result<KeepAudio, Refusal> {
    use KeepAudio::{For, Never, UntilTranscribed};
    move |given| {
        let good = |value: &Duration| !value.is_zero() && *value <= longest;
        let word = match given {
            Given::Plain(text) | Given::Text(text) => &text[..],
            _ => "",
        };
        match word {
            "never" => return Ok(Never),
            "until_transcribed" => return Ok(UntilTranscribed),
            _ => {}
        }
        parse(given).filter(good).map(For).ok_or_else(|| {
            let nearest = spelling::nearest(word, ["never", "until_transcribed"].into_iter());
            let meant = nearest.map(|name| Given::Text(name.to_owned())).or_else(|| likely(given, good));
            Refusal::new("expected \"never\", \"until_transcribed\", or a duration such as \"7d\"").perhaps(meant)
        })
    }
}

fn parse(given: &Given) -> Option<Duration> {
    let (Given::Plain(text) | Given::Text(text)) = given else { return None };
    // humantime takes a bare 0; here every duration has its unit.
    if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// The duration that was probably meant by a number without its unit, or with one written in another way.
fn likely(given: &Given, good: impl Fn(&Duration) -> bool) -> Option<Given> {
    let (number, unit) = number_and_unit(given)?;
    let named = UNITS.iter().position(|(names, _)| names.iter().any(|name| unit.starts_with(name)));
    let candidates = match named {
        Some(index) => vec![index],
        None => LIKELIEST_FIRST.to_vec(),
    };
    let durations = candidates.into_iter().filter_map(|index| {
        let millis = number * UNITS[index].1;
        // Beyond this a product is no longer exact; nobody waits 100,000 years.
        (millis.fract() == 0.0 && (0.0..3e15).contains(&millis)).then(|| Duration::from_millis(millis as u64))
    });
    durations.into_iter().find(good).map(|duration| Given::Text(written(duration)))
}

/// What a value begins with as a number, and what follows it, in small letters.
fn number_and_unit(given: &Given) -> Option<(f64, String)> {
    let text = match given {
        Given::Integer(number) => number.to_string(),
        Given::Plain(text) | Given::Text(text) | Given::Other(text) => marks::plain(text),
        Given::Boolean(_) | Given::List(_) => return None,
    };
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ',').unwrap_or(text.len());
    let number = text[..end].replace(',', ".").parse().ok()?;
    Some((number, text[end..].trim().to_lowercase()))
}

/// A duration as one writes it in the file.
pub fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.into_iter().find(|(_, size)| millis >= *size && millis.is_multiple_of(*size));
    match unit {
        Some((name, size)) => format!("{}{name}", millis / size),
        None if millis == 0 => "0s".to_owned(),
        None => format!("{millis}ms"),
    }
}

/// A size in bytes: with a unit, or a plain number.
pub fn bytes(range: RangeInclusive<u64>) -> impl Fn(&Given) -> Result<u64, Refusal> {
    move |given| {
        let size = match given {
            Given::Plain(text) | Given::Text(text) => parse_size(text),
            Given::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        size.filter(|size| range.contains(size)).ok_or_else(|| {
            let (from, to) = (ByteSize::b(*range.start()).display(), ByteSize::b(*range.end()).display());
            Refusal::new(format!(
                "expected a size from {} to {}, written like \"512MiB\" or \"1GiB\"",
                from.iec(),
                to.iec()
            ))
            .perhaps(likely_size(given, &range))
        })
    }
}

fn parse_size(text: &str) -> Option<u64> {
    let begins = text.starts_with(|first: char| first.is_ascii_digit());
    text.parse::<ByteSize>().ok().filter(|_| begins).map(|size| size.as_u64())
}

/// The size that was probably meant: `1 giga`, `1,5GB`, or a number of megabytes without its unit.
fn likely_size(given: &Given, range: &RangeInclusive<u64>) -> Option<Given> {
    let (number, unit) = number_and_unit(given)?;
    let units: Vec<String> = match unit.chars().next() {
        None => vec!["MiB".to_owned(), "GiB".to_owned()],
        Some(first) if unit.len() == 2 && unit.ends_with('b') => vec![format!("{}B", first.to_ascii_uppercase())],
        Some(first) => vec![format!("{}iB", first.to_ascii_uppercase())],
    };
    let sizes = units.into_iter().map(|unit| format!("{number}{unit}"));
    sizes.into_iter().find(|size| parse_size(size).is_some_and(|size| range.contains(&size))).map(Given::Text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant(range: RangeInclusive<Duration>, given: Given) -> Option<Given> {
        duration(range)(&given).unwrap_err().instead
    }

    #[test]
    fn a_number_without_its_unit_is_taken_for_the_likeliest() {
        let range = Duration::from_millis(200)..=Duration::from_secs(3_600);
        let text = |text: &str| Given::Text(text.to_owned());
        for (given, expected) in [
            (Given::Integer(8), Some("8s")),
            (Given::Integer(8_000), Some("8s")),
            (Given::Integer(0), None),
            (text("8"), Some("8s")),
            (text("8 שניות"), Some("8s")),
            (text("2 דקות"), Some("2m")),
            (text("1,5s"), Some("1500ms")),
            (text("“8s”"), Some("8s")),
            (Given::Other("1.5".to_owned()), Some("1500ms")),
            (text("soon"), None),
            (text("99h"), None),
            (text("-8s"), None),
        ] {
            assert_eq!(meant(range.clone(), given.clone()), expected.map(text), "{given:?}");
        }
    }

    #[test]
    fn a_size_is_guessed_with_its_unit() {
        let range = (64 << 10)..=(16 << 40);
        for (given, expected) in [
            ("1 giga", Some("1GiB")),
            ("1,5GB", Some("1.5GB")),
            ("512", Some("512MiB")),
            ("512 M", None),
            ("lots", None),
            ("1 potato", None),
        ] {
            let refused = bytes(range.clone())(&Given::Text(given.to_owned())).err();
            let meant = refused.and_then(|refusal| refusal.instead);
            assert_eq!(meant, expected.map(|text| Given::Text(text.to_owned())), "{given}");
        }
    }

    #[test]
    fn a_duration_is_written_with_its_largest_whole_unit() {
        for (millis, expected) in [(0, "0s"), (200, "200ms"), (1_500, "1500ms"), (120_000, "2m"), (604_800_000, "7d")] {
            assert_eq!(written(Duration::from_millis(millis)), expected);
        }
    }
}
