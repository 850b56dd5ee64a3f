//! What is copied from Twilio's console, and the prompts.

use secrecy::{ExposeSecret, SecretString};

use super::{line, secret, text};
use crate::{
    config::{marks, reader::Given, refusal::Refusal},
    twilio::sid::AccountSid,
};

/// Longest text of a prompt (`say:`), counted as it stands in XML: two of them and their verbs must fit into the 4000
/// characters that Twilio takes for a live call.
const SAY_CHARS_MAX: usize = 1_200;
/// Hexadecimal digits of a SID behind its two letters, and of an auth token.
const DIGITS: usize = 32;
/// What stands for a token in examples. None of them can be one.
const PLACEHOLDERS: [&str; 6] = ["...", "…", "your_auth_token", "[authtoken]", "<auth_token>", "auth_token"];

/// Twilio's account; empty for none.
pub fn account_sid(given: &Given) -> Result<Option<AccountSid>, Refusal> {
    let text = text(given)?;
    if text.is_empty() {
        return Ok(None);
    }
    text.parse().map(Some).map_err(|_| {
        let (reason, meant) = likely_sid(&text, "AC", "Account SID");
        Refusal::new(reason).perhaps(meant)
    })
}

/// The name of an API key; empty for none.
pub fn api_key_sid(given: &Given) -> Result<String, Refusal> {
    let text = text(given)?;
    if text.is_empty() || is_sid(&text, "SK") {
        return Ok(text);
    }
    let (reason, meant) = likely_sid(&text, "SK", "API key's SID");
    Err(Refusal::new(reason).perhaps(meant))
}

fn is_sid(text: &str, prefix: &str) -> bool {
    text.strip_prefix(prefix).is_some_and(is_hex)
}

fn is_hex(text: &str) -> bool {
    text.len() == DIGITS && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn likely_sid(written: &str, prefix: &str, name: &str) -> (String, Option<Given>) {
    let expected =
        format!("expected {prefix} and {DIGITS} hexadecimal digits, as Twilio's console shows it under {name}");
    let plain: String = marks::plain(written).chars().filter(|c| !c.is_whitespace()).collect();
    let upper = plain.get(..2).map(|letters| format!("{}{}", letters.to_ascii_uppercase(), &plain[2..]));
    let meant = upper.filter(|upper| is_sid(upper, prefix));
    let reason = match &plain[..] {
        _ if meant.is_some() => expected,
        other if is_hex(other) => {
            format!("this looks like an auth token, which belongs into twilio.auth_token; {expected}")
        }
        other if is_sid(other, "SK") => {
            format!("this is an API key, which belongs into twilio.api_key_sid; {expected}")
        }
        other if is_sid(other, "AC") => {
            format!("this is an account, which belongs into twilio.account_sid; {expected}")
        }
        other => match other.strip_prefix(prefix) {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_hexdigit()) => {
                format!("there are {} digits; {expected}", digits.len())
            }
            _ => expected,
        },
    };
    (reason, meant.map(Given::Text))
}

/// Twilio's auth token; empty for none. Its form is Twilio's affair: refused is only what surely is none.
pub fn auth_token(given: &Given) -> Result<SecretString, Refusal> {
    let token = secret(given)?;
    let where_it_is =
        "the auth token stands beside the Account SID in Twilio's console, hidden until \"Show\" is pressed";
    let reason = match token.expose_secret() {
        text if is_sid(text, "AC") => {
            format!("this is an Account SID, which belongs into twilio.account_sid; {where_it_is}")
        }
        text if is_sid(text, "SK") => {
            format!("this is an API key's SID, which belongs into twilio.api_key_sid; {where_it_is}")
        }
        text if PLACEHOLDERS.contains(&&*text.to_lowercase()) => {
            format!("this is what stands in examples; {where_it_is}")
        }
        text if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') => {
            format!("has a character in it that no token has; {where_it_is}")
        }
        _ => return Ok(token),
    };
    Err(reason.into())
}

/// A prompt: a file's name, or a text for Twilio's own voice.
pub fn prompt(given: &Given) -> Result<String, Refusal> {
    let written = line(given)?;
    if let Some(say) = written.strip_prefix("say:") {
        let chars: usize = say.chars().map(xml_chars).sum();
        return match chars {
            _ if say.trim().is_empty() => Err("expected a text after \"say:\"".into()),
            ..=SAY_CHARS_MAX => Ok(written),
            _ => Err(format!("expected a text of at most {SAY_CHARS_MAX} characters").into()),
        };
    }
    if is_file_name(&written) {
        return Ok(written);
    }
    let reason = "expected a file's name such as \"greeting_he.mp3\" (.mp3 or .wav; letters, digits, . _ and -; \
                  its directory is calls.prompts), or \"say:\" and a text";
    Err(Refusal::new(reason).perhaps(likely_prompt(&marks::plain(&written)).map(Given::Text)))
}

fn is_file_name(text: &str) -> bool {
    let is_sound = [".mp3", ".wav"].iter().any(|end| text.len() > end.len() && text.ends_with(end));
    is_sound
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        && !text.starts_with('.')
}

/// The file at the end of a path, or a text without `say:` before it.
fn likely_prompt(written: &str) -> Option<String> {
    let end = written.rsplit(['/', '\\']).next().unwrap_or_default();
    if is_file_name(end) {
        return Some(end.to_owned());
    }
    let is_text = written.contains(' ') || written.chars().any(|c| c.is_alphabetic() && !c.is_ascii());
    (is_text && !written.contains(['/', '\\']) && !written.ends_with(".mp3")).then(|| format!("say:{written}"))
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
