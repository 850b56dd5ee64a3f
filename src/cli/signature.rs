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
    signature::{Body, UrlParts, verify},
    signature_doubt::{self, Doubt, OtherHost, Reason},
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
    url: UrlParts<'a>,
    websocket: bool,
    body: Body<'a>,
    signature: &'a str,
    /// `public.host`, where the configuration was read.
    public_host: Option<&'a str>,
}

/// What there is to check with.
struct Keys {
    /// With where they come from.
    tokens: Vec<(&'static str, SecretString)>,
    /// `public.host`, where the configuration was read.
    public_host: Option<String>,
}

/// What is to be said about it.
#[derive(Debug, PartialEq, Eq)]
struct Answer {
    valid: bool,
    lines: Vec<String>,
}

/// Answers on stdout: 0 when the signature is valid, 1 when it is not.
pub fn run(arguments: &SignatureArguments) -> ExitCode {
    let keys = match keys(arguments) {
        Ok(keys) => keys,
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
    let url = match UrlParts::parse(&arguments.url) {
        Ok(url) => url,
        Err(error) => {
            anstream::eprintln!("kolbox: --url: {error}");
            return ExitCode::from(UNUSABLE);
        }
    };
    let question = Question {
        url: if arguments.websocket { UrlParts { scheme: url.scheme.websocket(), ..url } } else { url },
        websocket: arguments.websocket || url.scheme == url.scheme.websocket(),
        body,
        signature: arguments.signature.trim(),
        public_host: keys.public_host.as_deref(),
    };
    let tokens: Vec<_> = keys.tokens.iter().map(|(name, token)| (*name, token.expose_secret())).collect();
    let answer = answer(&question, &tokens);
    for line in &answer.lines {
        anstream::println!("{line}");
    }
    if answer.valid { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

/// What to check with. A token from the environment needs no configuration that can be used.
fn keys(arguments: &SignatureArguments) -> Result<Keys, ExitCode> {
    if let Some(token) = arguments.auth_token.clone().filter(|token| !token.expose_secret().is_empty()) {
        return Ok(Keys { tokens: vec![("TWILIO_AUTH_TOKEN", token)], public_host: None });
    }
    let config = arguments.config.load()?;
    let twilio = config.twilio;
    let tokens =
        [("twilio.auth_token", twilio.auth_token), ("twilio.auth_token_secondary", twilio.auth_token_secondary)];
    let tokens: Vec<_> = tokens.into_iter().filter(|(_, token)| !token.expose_secret().is_empty()).collect();
    if tokens.is_empty() {
        anstream::eprintln!("kolbox: there is no token to check with: set TWILIO_AUTH_TOKEN or twilio.auth_token");
        return Err(ExitCode::from(UNUSABLE));
    }
    Ok(Keys { tokens, public_host: config.public.host })
}

fn read(path: &Path) -> Result<Vec<u8>, ExitCode> {
    fs::read(path).map_err(|error| {
        anstream::eprintln!("kolbox: --body {}: {error}", path.display());
        ExitCode::from(UNUSABLE)
    })
}

fn answer(question: &Question<'_>, tokens: &[(&str, &str)]) -> Answer {
    let forms = question.url.forms();
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
    let public_host = question.public_host.map(|host| OtherHost {
        host,
        named_by: "public.host",
        remedy: "the box checks with public.host: give --url with it to see what the box sees",
    });
    let found = signature_doubt::explain(&Doubt {
        signature: Some(question.signature),
        urls: &[question.url],
        body: question.body,
        tokens,
        other_hosts: public_host.as_slice(),
        path_prefix: None,
        host_is_a_guess: false,
        accounts: (None, None),
    });
    lines.push(format!("  cause: {}", found.cause));
    lines.extend(found.changes.iter().map(|change| format!("  change: {change}")));
    if matches!(question.body, Body::None) && !question.websocket && found.reason == Reason::Unexplained {
        lines.push("  change: if it was a POST, give its body with --form, or with --body for JSON".to_owned());
    }
    Answer { valid: false, lines }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twilio::signature::{body_sha256, sign};

    const URL: &str = "https://gw.example.co.il/webhook/incoming_call";
    const TOKENS: [(&str, &str); 2] = [("twilio.auth_token", "new"), ("twilio.auth_token_secondary", "old")];

    fn ask(url: &str, body: Body<'_>, signature: &str) -> Answer {
        let url = UrlParts::parse(url).unwrap();
        let public_host = Some("gw.example.co.il");
        answer(&Question { url, websocket: false, body, signature, public_host }, &TOKENS)
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
        for part in [
            &format!("  tried: {URL} (as given)"),
            "il:443/webhook",
            "  with: twilio.auth_token_secondary",
            "  cause: ",
            "  change: compare twilio.auth_token",
            "--form",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(!text.contains("of another") && !text.contains(&signature), "{text}");
    }

    #[test]
    fn what_was_mixed_up_is_named() {
        let form = Form::parse(b"A=1");
        for (signature, expected) in [
            (sign("new", URL, None), "without a body"),
            (sign("new", &URL.replace("https", "http"), Some(&form)), "with http://, not with https://"),
            (sign("new", &format!("{URL}/"), Some(&form)), "mind the final slash"),
            ("c2hvcnQ=".to_owned(), "28 characters"),
        ] {
            let answer = ask(URL, Body::Form(&form), &signature);
            let causes: Vec<_> = answer.lines.iter().filter(|line| line.contains("cause:")).collect();
            assert!(causes.len() == 1 && causes[0].contains(expected), "{expected}: {causes:?}");
        }
    }

    #[test]
    fn the_configured_name_is_tried_beside_the_given_one() {
        let answer = ask("https://127.0.0.1:8443/webhook/incoming_call", Body::None, &sign("new", URL, None));
        let text = answer.lines.join("\n");
        assert!(text.contains("the one of public.host") && text.contains("give --url with it"), "{text}");
    }

    #[test]
    fn a_json_body_must_be_the_one_whose_hash_the_url_carries() {
        let body = b"{\"a\":1}";
        let url = format!("{URL}?bodySHA256={}", body_sha256(body));
        let signature = sign("new", &url, None);
        assert!(ask(&url, Body::Raw(body), &signature).valid);
        let other = ask(&url, Body::Raw(b"{\"a\":2}"), &signature);
        assert!(!other.valid && other.lines.join("\n").contains("the body is another one"), "{other:?}");
    }
}
