//! `kolbox signature`: explains an `X-Twilio-Signature` that was or was not accepted.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::Args;
use secrecy::{ExposeSecret, SecretString};

use super::{ConfigOption, FAILED, UNUSABLE};
use crate::twilio::{
    signature::{Body, Scheme, UrlForms, body_sha256, verify},
    webhook::Form,
};

/// Explain an X-Twilio-Signature: which URL it was made for, or what is wrong
#[derive(Debug, Args)]
pub struct SignatureArguments {
    /// The URL as it is entered at Twilio or stands in the TwiML, with its query
    #[arg(long)]
    url: String,
    /// The value of the header X-Twilio-Signature
    #[arg(long)]
    signature: String,
    /// The raw body of a form, as it arrived: 'A=1&B=2'
    #[arg(long, value_name = "BODY", conflicts_with_all = ["body", "websocket"])]
    form: Option<String>,
    /// A file with the raw body of a JSON request
    #[arg(long, value_name = "FILE", conflicts_with = "websocket")]
    body: Option<PathBuf>,
    /// A WebSocket handshake, which is signed as wss://
    #[arg(long)]
    websocket: bool,
    /// In place of the configuration's token
    #[arg(long, env = "TWILIO_AUTH_TOKEN", hide_env_values = true, hide = true)]
    auth_token: Option<SecretString>,
    #[command(flatten)]
    config: ConfigOption,
}

/// A request as it was given.
struct Question<'a> {
    url: &'a str,
    websocket: bool,
    body: Body<'a>,
    signature: &'a str,
}

/// What is to be said about it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    valid: bool,
    lines: Vec<String>,
}

/// Answers on stdout: 0 when the signature is valid, 1 when it is not.
pub fn run(arguments: &SignatureArguments) -> ExitCode {
    let tokens = match tokens(arguments) {
        Ok(tokens) => tokens,
        Err(code) => return code,
    };
    let form = arguments.form.as_ref().map(|form| Form::parse(form.as_bytes()));
    let bytes = match arguments.body.as_deref().map(read).transpose() {
        Ok(bytes) => bytes,
        Err(code) => return code,
    };
    let body = match (&form, &bytes) {
        (Some(form), _) => Body::Form(form),
        (None, Some(bytes)) => Body::Raw(bytes),
        (None, None) => Body::None,
    };
    let Some(url) = with_scheme(&arguments.url, arguments.websocket) else {
        anstream::eprintln!("kolbox: --url must begin with https://, http://, wss:// or ws://");
        return ExitCode::from(UNUSABLE);
    };
    let tokens: Vec<_> = tokens.iter().map(|(name, token)| (*name, token.expose_secret())).collect();
    let question = Question { url: &url, websocket: arguments.websocket, body, signature: &arguments.signature };
    let answer = answer(&question, &tokens);
    for line in &answer.lines {
        anstream::println!("{line}");
    }
    if answer.valid { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// The tokens to try, with where they come from. One from the environment needs no configuration that can be used.
fn tokens(arguments: &SignatureArguments) -> Result<Vec<(&'static str, SecretString)>, ExitCode> {
    if let Some(token) = arguments.auth_token.clone().filter(|token| !token.expose_secret().is_empty()) {
        return Ok(vec![("TWILIO_AUTH_TOKEN", token)]);
    }
    let twilio = arguments.config.load()?.twilio;
    let tokens =
        [("twilio.auth_token", twilio.auth_token), ("twilio.auth_token_secondary", twilio.auth_token_secondary)];
    let tokens: Vec<_> = tokens.into_iter().filter(|(_, token)| !token.expose_secret().is_empty()).collect();
    if tokens.is_empty() {
        anstream::eprintln!("kolbox: there is no token to check with: set TWILIO_AUTH_TOKEN or twilio.auth_token");
        return Err(ExitCode::from(UNUSABLE));
    }
    Ok(tokens)
}

fn read(path: &Path) -> Result<Vec<u8>, ExitCode> {
    fs::read(path).map_err(|error| {
        anstream::eprintln!("kolbox: --body {}: {error}", path.display());
        ExitCode::from(UNUSABLE)
    })
}

/// The URL with the scheme that is signed; `None` if it has none that Twilio uses.
fn with_scheme(url: &str, websocket: bool) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let given = Scheme::parse(scheme)?;
    let meant = given.websocket();
    if !websocket || meant == given {
        return Some(url.to_owned());
    }
    Some(format!("{}://{rest}", meant.as_str()))
}

fn answer(question: &Question<'_>, tokens: &[(&str, &str)]) -> Answer {
    let forms = match UrlForms::of_url(question.url) {
        Ok(forms) => forms,
        Err(error) => return Answer { valid: false, lines: vec!["invalid".to_owned(), format!("  {error}")] },
    };
    let keys: Vec<_> = tokens.iter().map(|(_, token)| *token).collect();
    if let Some(found) = verify(&keys, forms.urls(), question.body, question.signature) {
        let url = forms.urls().get(found.url_form_index).map_or("", String::as_str);
        let token = tokens.get(found.token_index).map_or("", |(name, _)| *name);
        let how = forms.explain(found.url_form_index);
        return Answer {
            valid: true,
            lines: vec!["valid".to_owned(), format!("  signed: {url} ({how}), with {token}")],
        };
    }
    let mut lines = vec!["invalid".to_owned()];
    let tried = forms.urls().iter().enumerate();
    lines.extend(tried.map(|(index, url)| format!("  tried: {url} ({})", forms.explain(index))));
    lines.extend(tokens.iter().map(|(name, _)| format!("  with: {name}")));
    lines.extend(advice(question, &keys).into_iter().map(|advice| format!("  change: {advice}")));
    Answer { valid: false, lines }
}

/// What to change: first what can be shown to be the cause, else what it usually is.
fn advice(question: &Question<'_>, keys: &[&str]) -> Vec<String> {
    if !is_signature(question.signature) {
        return vec!["the signature is not 28 characters of base64 that end with =: it was cut or altered".to_owned()];
    }
    if let Body::Raw(bytes) = question.body {
        let hash = body_sha256(bytes);
        if !question.url.contains(&hash) {
            return vec![format!("the URL must carry bodySHA256={hash}, as Twilio requested it: body and URL differ")];
        }
    }
    if let Some(cause) = cause(question, keys) {
        return vec![cause];
    }
    let mut advice = vec![
        "compare the token with the account's primary one in Twilio's console (a subaccount has its own)".to_owned(),
        "use the URL exactly as it is entered at Twilio: scheme, name, path, query, upper and lower case".to_owned(),
    ];
    match question.body {
        Body::Form(_) => advice.push("use the raw body, with every parameter and still percent-encoded".to_owned()),
        Body::None if question.websocket => {}
        Body::None => advice.push("if it was a POST, give its body with --form, or --body for JSON".to_owned()),
        Body::Raw(_) => {}
    }
    advice
}

/// Tries what is often mixed up, and says so when just that makes the signature valid.
fn cause(question: &Question<'_>, keys: &[&str]) -> Option<String> {
    let is_valid = |url: &str, body: Body<'_>| {
        UrlForms::of_url(url).is_ok_and(|forms| verify(keys, forms.urls(), body, question.signature).is_some())
    };
    if !matches!(question.body, Body::None) && is_valid(question.url, Body::None) {
        return Some("leave the body out: it was signed without one, as a GET or a handshake is".to_owned());
    }
    let (scheme, rest) = question.url.split_once("://")?;
    for other in ["https", "http", "wss", "ws"].into_iter().filter(|other| !other.eq_ignore_ascii_case(scheme)) {
        if is_valid(&format!("{other}://{rest}"), question.body) {
            return Some(format!("it was signed for {other}://, not for {scheme}://"));
        }
    }
    let (path, query) = question.url.split_once('?').unwrap_or((question.url, ""));
    let slash = path.strip_suffix('/').map_or_else(|| format!("{path}/"), str::to_owned);
    let slash = if query.is_empty() { slash } else { format!("{slash}?{query}") };
    is_valid(&slash, question.body).then(|| format!("it was signed for {slash}: mind the final slash"))
}

fn is_signature(text: &str) -> bool {
    text.len() == 28
        && text.ends_with('=')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twilio::signature::sign;

    const URL: &str = "https://gw.example.co.il/webhook/incoming_call";
    const TOKENS: [(&str, &str); 2] = [("twilio.auth_token", "new"), ("twilio.auth_token_secondary", "old")];

    fn ask(url: &str, body: Body<'_>, signature: &str) -> Answer {
        answer(&Question { url, websocket: false, body, signature }, &TOKENS)
    }

    #[test]
    fn a_valid_signature_is_explained_by_its_url_form_and_token() {
        let form = Form::parse(b"CallSid=CA1&From=%2B9725");
        let signature = sign("old", URL, Some(&form));
        let answer = ask("https://gw.example.co.il:8443/webhook/incoming_call", Body::Form(&form), &signature);
        assert!(answer.valid);
        assert_eq!(answer.lines[0], "valid");
        assert_eq!(answer.lines[1], format!("  signed: {URL} (without the port), with twilio.auth_token_secondary"));
    }

    #[test]
    fn an_invalid_one_names_every_url_that_was_tried_and_what_to_change() {
        let signature = sign("of another account", URL, None);
        let answer = ask(URL, Body::None, &signature);
        assert!(!answer.valid);
        assert_eq!(answer.lines[0], "invalid");
        let text = answer.lines.join("\n");
        for part in [&format!("tried: {URL} (as given)"), "il:443/webhook", "with: twilio.auth_token", "--form"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("another account") && !text.contains("new"), "{text}");
    }

    #[test]
    fn what_was_mixed_up_is_named() {
        let form = Form::parse(b"A=1");
        for (signature, expected) in [
            (sign("new", URL, None), "leave the body out"),
            (sign("new", &URL.replace("https", "http"), Some(&form)), "signed for http://, not for https://"),
            (sign("new", &format!("{URL}/"), Some(&form)), "mind the final slash"),
            ("c2hvcnQ=".to_owned(), "28 characters"),
        ] {
            let answer = ask(URL, Body::Form(&form), &signature);
            let advice: Vec<_> = answer.lines.iter().filter(|line| line.contains("change:")).collect();
            assert_eq!(advice.len(), 1, "{advice:?}");
            assert!(advice[0].contains(expected), "{advice:?}");
        }
    }

    #[test]
    fn a_handshake_is_checked_as_wss() {
        let url = with_scheme("https://gw.example.co.il/ws/twilio-media", true).unwrap();
        let signature = sign("new", "wss://gw.example.co.il/ws/twilio-media/", None);
        assert!(ask(&url, Body::None, &signature).valid);
        assert_eq!(with_scheme("gopher://x", true), None);
        assert_eq!(with_scheme(URL, false).as_deref(), Some(URL));
    }

    #[test]
    fn a_json_body_must_be_the_one_whose_hash_the_url_carries() {
        let body = b"{\"a\":1}";
        let url = format!("{URL}?bodySHA256={}", body_sha256(body));
        let signature = sign("new", &url, None);
        assert!(ask(&url, Body::Raw(body), &signature).valid);
        let other = ask(&url, Body::Raw(b"{\"a\":2}"), &signature);
        assert!(!other.valid && other.lines.join("\n").contains("body and URL differ"), "{other:?}");
    }
}
