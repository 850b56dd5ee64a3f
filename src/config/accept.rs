//! What each kind of value may look like: from what was written to what is meant, or to what would be accepted.

use std::{
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    path::PathBuf,
    time::Duration,
};

use bytesize::ByteSize;
use ipnet::IpNet;
use secrecy::SecretString;
use url::{Host, Url};

use super::reader::{Given, shown};
use crate::{limits::HOST_BYTES_MAX, twilio::sid::AccountSid};

/// Longest text of a prompt (`say:`), counted as it stands in XML: two of them and their verbs must fit into the 4000
/// characters that Twilio takes for a live call.
const SAY_CHARS_MAX: usize = 1_200;
/// Longest other text.
const TEXT_CHARS_MAX: usize = 1_024;

/// Text without control characters; it may be empty.
pub(super) fn text(given: &Given) -> Result<String, String> {
    match given {
        Given::Plain(text) | Given::Text(text) => {
            if text.chars().any(char::is_control) || text.chars().count() > TEXT_CHARS_MAX {
                return Err(format!("expected text on one line, of at most {TEXT_CHARS_MAX} characters"));
            }
            Ok(text.clone())
        }
        Given::Integer(_) | Given::Boolean(_) => Err("expected text: put it in \"quotes\"".into()),
        Given::List(_) => Err("expected one text in \"quotes\", not a list".into()),
        Given::Other(_) => Err("expected text in \"quotes\"".into()),
    }
}

/// Text that says something.
pub(super) fn filled_text(given: &Given) -> Result<String, String> {
    let text = text(given)?;
    if text.trim().is_empty() { Err("must not be empty".into()) } else { Ok(text) }
}

/// A secret. What is wrong with it is said without repeating it.
pub(super) fn secret(given: &Given) -> Result<SecretString, String> {
    let text = text(given).map_err(|remedy| format!("{remedy} (the value is not shown: it is a secret)"))?;
    if text.trim() != text {
        return Err("has a space at its beginning or end (the value is not shown: it is a secret)".into());
    }
    Ok(text.into())
}

pub(super) fn boolean(given: &Given) -> Result<bool, String> {
    match given {
        Given::Boolean(value) => Ok(*value),
        Given::Plain(text) if text == "true" => Ok(true),
        Given::Plain(text) if text == "false" => Ok(false),
        _ => Err("expected true or false, without quotes".into()),
    }
}

pub(super) fn integer(range: RangeInclusive<usize>) -> impl Fn(&Given) -> Result<usize, String> {
    move |given| {
        let number = match given {
            Given::Integer(number) => usize::try_from(*number).ok(),
            Given::Plain(text) => text.parse().ok(),
            _ => None,
        };
        let expected = || format!("expected a whole number from {} to {}, without quotes", range.start(), range.end());
        number.filter(|number| range.contains(number)).ok_or_else(expected)
    }
}

/// One of a few words.
pub(super) fn choice<T: Copy>(choices: &'static [(&'static str, T)]) -> impl Fn(&Given) -> Result<T, String> {
    move |given| {
        let written = text(given).ok();
        let found = choices.iter().find(|(name, _)| written.as_deref() == Some(*name));
        found.map(|(_, value)| *value).ok_or_else(|| {
            let names: Vec<_> = choices.iter().map(|(name, _)| format!("{name:?}")).collect();
            format!("expected {}", names.join(" or "))
        })
    }
}

/// A duration with its unit. What lies outside the range is refused, as is a number without a unit.
pub(super) fn duration(range: RangeInclusive<Duration>) -> impl Fn(&Given) -> Result<Duration, String> {
    move |given| {
        parse_duration(given).filter(|value| range.contains(value)).ok_or_else(|| {
            let (from, to) = (written(*range.start()), written(*range.end()));
            format!("expected a duration from {from} to {to}, written like \"8s\", \"500ms\", \"2m\", \"7d\"")
        })
    }
}

/// A duration, or zero for "never" or "at once".
pub(super) fn duration_or_zero(range: RangeInclusive<Duration>) -> impl Fn(&Given) -> Result<Duration, String> {
    move |given| {
        let value = parse_duration(given);
        value.filter(|value| value.is_zero() || range.contains(value)).ok_or_else(|| {
            let (from, to) = (written(*range.start()), written(*range.end()));
            format!(
                "expected \"0s\", or a duration from {from} to {to}, written like \"8s\", \"500ms\", \"2m\", \"7d\""
            )
        })
    }
}

/// A duration of whole seconds, because Twilio's attributes take nothing finer.
pub(super) fn whole_seconds(range: RangeInclusive<Duration>) -> impl Fn(&Given) -> Result<Duration, String> {
    move |given| {
        let value = parse_duration(given);
        value.filter(|value| range.contains(value) && value.subsec_nanos() == 0).ok_or_else(|| {
            let (from, to) = (written(*range.start()), written(*range.end()));
            format!("expected whole seconds from {from} to {to}, written like \"8s\" or \"2m\"")
        })
    }
}

pub(super) fn parse_duration(given: &Given) -> Option<Duration> {
    let (Given::Plain(text) | Given::Text(text)) = given else { return None };
    // humantime takes a bare 0; here every duration has its unit.
    if !text.ends_with(|last: char| last.is_ascii_alphabetic()) {
        return None;
    }
    humantime::parse_duration(text).ok()
}

/// A duration as one writes it in the file.
pub(super) fn written(duration: Duration) -> String {
    let millis = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000)];
    let unit = units.into_iter().find(|(_, size)| millis >= *size && millis.is_multiple_of(*size));
    unit.map_or_else(|| format!("{millis}ms"), |(name, size)| format!("{}{name}", millis / size))
}

/// A size in bytes: with a unit, or a plain number.
pub(super) fn bytes(range: RangeInclusive<u64>) -> impl Fn(&Given) -> Result<u64, String> {
    move |given| {
        let size = match given {
            Given::Plain(text) | Given::Text(text) if text.starts_with(|first: char| first.is_ascii_digit()) => {
                text.parse::<ByteSize>().ok().map(|size| size.as_u64())
            }
            Given::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        };
        size.filter(|size| range.contains(size)).ok_or_else(|| {
            let (from, to) = (ByteSize::b(*range.start()).display(), ByteSize::b(*range.end()).display());
            format!("expected a size from {} to {}, written like \"512MiB\" or \"1GiB\"", from.iec(), to.iec())
        })
    }
}

/// A list; from the environment its items stand between commas.
pub(super) fn list<T>(item: impl Fn(&Given) -> Result<T, String>) -> impl Fn(&Given) -> Result<Vec<T>, String> {
    move |given| {
        let items = match given {
            Given::Plain(text) if text.trim().is_empty() => Vec::new(),
            Given::Plain(text) => text.split(',').map(|item| Given::Plain(item.trim().to_owned())).collect(),
            Given::List(items) => items.clone(),
            _ => return Err("expected a list, written like [\"one\", \"two\"]".into()),
        };
        items.iter().map(|given| item(given).map_err(|remedy| format!("{}: {remedy}", shown(given)))).collect()
    }
}

pub(super) fn address(given: &Given) -> Result<SocketAddr, String> {
    let parsed = text(given).ok().and_then(|text| text.parse().ok());
    parsed.ok_or_else(|| "expected an IP address and a port, written like \"0.0.0.0:8443\" or \"[::]:8443\"".into())
}

/// A network, or a single address.
pub(super) fn network(given: &Given) -> Result<IpNet, String> {
    let text = text(given).unwrap_or_default();
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    parsed.map(|network| network.trunc()).ok_or_else(|| "expected a network such as \"10.0.0.0/8\"".into())
}

pub(super) fn path(given: &Given) -> Result<PathBuf, String> {
    text(given).map(PathBuf::from)
}

pub(super) fn filled_path(given: &Given) -> Result<PathBuf, String> {
    filled_text(given).map(PathBuf::from)
}

/// A path, or nothing.
pub(super) fn optional_path(given: &Given) -> Result<Option<PathBuf>, String> {
    text(given).map(|text| (!text.is_empty()).then(|| text.into()))
}

/// The public name: `https://` and one final slash are dropped, for everybody pastes it so.
pub(super) fn public_host(given: &Given) -> Result<Option<String>, String> {
    let expected = "expected the public name alone, written like \"gw.example.co.il\" or \"gw.example.co.il:8443\"";
    let written = text(given)?;
    let scheme = "https://";
    let text = match written.get(..scheme.len()) {
        Some(start) if start.eq_ignore_ascii_case(scheme) => &written[scheme.len()..],
        _ => &written,
    };
    let text = text.strip_suffix('/').unwrap_or(text);
    if text.is_empty() {
        return if written.is_empty() { Ok(None) } else { Err(expected.into()) };
    }
    if is_authority(text) { Ok(Some(text.to_owned())) } else { Err(expected.into()) }
}

/// A `Host` name to answer to.
pub(super) fn host_name(given: &Given) -> Result<String, String> {
    let text = text(given)?;
    if is_authority(&text) { Ok(text) } else { Err("expected a host name, without https:// and path".into()) }
}

/// `name` or `name:port`, and nothing that a URL would read as something else.
fn is_authority(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if text.is_empty() || text.len() > HOST_BYTES_MAX || !text.bytes().all(plain) || text.ends_with([':', '.']) {
        return false;
    }
    let Ok(url) = Url::parse(&format!("https://{text}/")) else { return false };
    let Some(host) = url.host_str() else { return false };
    // `1.2.3` would become 1.2.0.3: what is served must be what was written.
    let written_host = text.get(..host.len()).is_some_and(|start| start.eq_ignore_ascii_case(host));
    written_host && matches!(text.as_bytes().get(host.len()), None | Some(b':')) && url.port() != Some(0)
}

/// Twilio's account; empty for none.
pub(super) fn account_sid(given: &Given) -> Result<Option<AccountSid>, String> {
    let text = text(given)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|error| format!("{error}, as Twilio's console shows it under Account SID"))
}

/// The name of an API key; empty for none.
pub(super) fn api_key_sid(given: &Given) -> Result<String, String> {
    let text = text(given)?;
    let digits = text.strip_prefix("SK").filter(|digits| digits.len() == 32);
    let good = text.is_empty() || digits.is_some_and(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()));
    if good { Ok(text) } else { Err("expected SK and 32 hexadecimal digits, or nothing".into()) }
}

/// Where Twilio's REST API is. Credentials go there, so plain HTTP is for this machine alone.
pub(super) fn api_base(given: &Given) -> Result<String, String> {
    let expected = "expected a URL that begins with https:// (http:// only on loopback) and has no query";
    let url = web_url(given).ok_or(expected)?;
    if url.scheme() == "http" && !is_loopback(&url) || url.query().is_some() {
        return Err(expected.into());
    }
    Ok(url.as_str().trim_end_matches('/').to_owned())
}

/// The upstream; empty for none.
pub(super) fn sync_url(given: &Given) -> Result<Option<Url>, String> {
    if text(given)?.is_empty() {
        return Ok(None);
    }
    let expected = "expected a URL that begins with https:// or http://; a password belongs into sync.token";
    web_url(given).map(Some).ok_or_else(|| expected.into())
}

/// The engine's address; empty for none.
pub(super) fn speech_url(given: &Given) -> Result<String, String> {
    let expected = "expected a URL that begins with https://, http:// or tcp://";
    let text = text(given)?;
    let tcp = |url: &Url| url.scheme() == "tcp" && url.host().is_some() && url.port().is_some();
    let good = text.is_empty() || web_url(given).is_some() || Url::parse(&text).is_ok_and(|url| tcp(&url));
    if good { Ok(text.trim_end_matches('/').to_owned()) } else { Err(expected.into()) }
}

/// An HTTP URL without user, password and fragment: the first two would land in logs, the last nowhere.
fn web_url(given: &Given) -> Option<Url> {
    let url = Url::parse(&text(given).ok()?).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(url)
}

/// Whether a URL stays on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// A prompt: a file's name, or a text for Twilio's own voice.
pub(super) fn prompt(given: &Given) -> Result<String, String> {
    let written = text(given)?;
    if let Some(say) = written.strip_prefix("say:") {
        let chars: usize = say.chars().map(xml_chars).sum();
        return match chars {
            _ if say.trim().is_empty() => Err("expected a text after \"say:\"".into()),
            ..=SAY_CHARS_MAX => Ok(written),
            _ => Err(format!("expected a text of at most {SAY_CHARS_MAX} characters")),
        };
    }
    let is_sound = [".mp3", ".wav"].iter().any(|end| written.len() > end.len() && written.ends_with(end));
    let is_name = written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if is_sound && is_name && !written.starts_with('.') {
        return Ok(written);
    }
    Err("expected a file's name such as \"greeting_he.mp3\" (.mp3 or .wav; letters, digits, . _ and -; \
         its directory is calls.prompts), or \"say:\" and a text"
        .into())
}

/// Characters that one takes in XML.
fn xml_chars(c: char) -> usize {
    match c {
        '&' => "&amp;".len(),
        '<' | '>' => "&lt;".len(),
        '"' | '\'' => "&quot;".len(),
        _ => 1,
    }
}

/// A language tag such as `he`, `he-IL`, or `auto`.
pub(super) fn language(given: &Given) -> Result<String, String> {
    let text = text(given)?;
    let good = (2..=16).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if good { Ok(text) } else { Err("expected a language such as \"he\", \"en\" or \"auto\"".into()) }
}

/// `never`, `until_transcribed` or a duration.
pub(super) fn keep_audio(longest: Duration) -> impl Fn(&Given) -> Result<super::KeepAudio, String> {
    use super::KeepAudio::{For, Never, UntilTranscribed};
    move |given| match text(given).as_deref() {
        Ok("never") => Ok(Never),
        Ok("until_transcribed") => Ok(UntilTranscribed),
        _ => {
            let value = parse_duration(given).filter(|value| !value.is_zero() && *value <= longest);
            value
                .map(For)
                .ok_or_else(|| "expected \"never\", \"until_transcribed\", or a duration such as \"7d\"".to_owned())
        }
    }
}

/// A level, or directives with targets. A misspelt level would be read as a target and silence everything.
pub(super) fn log_level(given: &Given) -> Result<String, String> {
    const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
    let text = text(given)?;
    let is_target = |name: &str| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_:-".contains(&byte))
    };
    let good = text.split(',').all(|directive| match directive.split_once('=') {
        Some((target, level)) => is_target(target) && LEVELS.contains(&level),
        None => LEVELS.contains(&directive),
    });
    if good {
        return Ok(text);
    }
    Err("expected off, error, warn, info, debug or trace, or several such as \"info,kolbox::calls=debug\"".into())
}

/// The port that replaces the one of `public.listen`.
pub(super) fn port(text: &str) -> Result<u16, String> {
    text.parse().map_err(|_| "expected a port, a number up to 65535".to_owned())
}
