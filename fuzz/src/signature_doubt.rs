//! What is said of signatures that are not valid: six lines, of which the last is the rest of the input.
//!
//! | line | what |
//! | --- | --- |
//! | 1 | a number: which mistake is planted |
//! | 2 | the host that counts |
//! | 3 | path and query |
//! | 4 | another host that the request names |
//! | 5 | what a proxy took from the front of the path |
//! | 6 | the body: a form |
//!
//! Line 4 is also the header as it came.

use kolbox::twilio::{
    signature::{self, Body, Scheme, UrlParts},
    signature_doubt::{Doubt, Explanation, OtherHost, Reason, explain, without_values},
    webhook::Form,
};

use super::text::first_line;

const TOKEN: &str = "12345678901234567890123456789012";
const PASTED_TOKEN: &str = " '12345678901234567890123456789012'\n";
/// A caller's number in the query, which is told to nobody.
const NUMBER: &str = "15550009876";
/// Longer than any of the texts here, without what strangers named.
const TEXT_BYTES_MAX: usize = 1_000;
/// Bytes that one stranger's byte may take in a text: percent-encoded, and in both of cause and change.
const GROWTH: usize = 8;

/// The same request, signed for something else.
#[derive(Clone, Copy)]
enum Mistake {
    Host,
    Scheme,
    Slash,
    Prefix,
    Query,
    Body,
    Token,
    /// Nothing that is known here.
    None,
}

const MISTAKES: [Mistake; 8] = [
    Mistake::Host,
    Mistake::Scheme,
    Mistake::Slash,
    Mistake::Prefix,
    Mistake::Query,
    Mistake::Body,
    Mistake::Token,
    Mistake::None,
];

pub fn run(data: &[u8]) {
    let (number, rest) = first_line(data);
    let (host, rest) = first_line(rest);
    let (target, rest) = first_line(rest);
    let (other, rest) = first_line(rest);
    let (prefix, body) = first_line(rest);
    let [host, target, other, prefix] = [host, target, other, prefix].map(String::from_utf8_lossy);
    let number = number.iter().fold(0, |number: usize, byte| number.wrapping_mul(10).wrapping_add(usize::from(*byte)));
    let form = Form::parse(body);
    let mistake = MISTAKES[number % MISTAKES.len()];
    let url = UrlParts { scheme: Scheme::Https, host: &host, target: &target };

    let signed = signed_by_mistake(mistake, url, (&other, &prefix), &form);
    let tokens = [("twilio.auth_token", if matches!(mistake, Mistake::Token) { PASTED_TOKEN } else { TOKEN })];
    let doubt = Doubt {
        signature: Some(&signed),
        urls: &[url],
        body: Body::Form(&form),
        tokens: &tokens,
        other_hosts: &[OtherHost { host: &other, named_by: "Host", remedy: "set public.host" }],
        path_prefix: Some(&prefix),
        host_is_a_guess: number % 2 == 0,
        accounts: (None, None),
    };
    let is_valid = signature::verify(&[tokens[0].1], url.forms().urls(), doubt.body, &signed).is_some();
    if !is_valid && body.len() < 2_048 {
        let explanation = explain(&doubt);
        let is_explained = !matches!(explanation.reason, Reason::Unexplained);
        let is_inner_guess = matches!(explanation.reason, Reason::Host) && doubt.host_is_a_guess;
        assert!(
            is_inner_guess || is_explained != matches!(mistake, Mistake::None),
            "a mistake that is known: {explanation:?}"
        );
        check_words(&explanation, &signed, data.len());
    }
    check_words(&explain(&Doubt { signature: Some(&other), ..doubt }), &signed, data.len());
    check_words(&explain(&Doubt { body: Body::Raw(body), ..doubt }), &signed, data.len());
    check_words(&explain(&Doubt { body: Body::None, ..doubt }), &signed, data.len());
    check_query(&target);
}

/// A signature over what somebody else made of this request.
fn signed_by_mistake(mistake: Mistake, url: UrlParts<'_>, (other, prefix): (&str, &str), form: &Form) -> String {
    let UrlParts { host, target, .. } = url;
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let (signed, form) = match mistake {
        Mistake::Host => (format!("https://{other}{target}"), Some(form)),
        Mistake::Scheme => (format!("http://{host}{target}"), Some(form)),
        Mistake::Slash => match path.strip_suffix('/') {
            Some(shorter) => (format!("https://{host}{shorter}{query}"), Some(form)),
            None => (format!("https://{host}{path}/{query}"), Some(form)),
        },
        Mistake::Prefix => (format!("https://{host}/{}{target}", prefix.trim_matches('/')), Some(form)),
        // What has no query was signed without one.
        Mistake::Query => (format!("https://{host}{path}"), Some(form)),
        Mistake::Body => (format!("https://{host}{target}"), None),
        Mistake::Token => (format!("https://{host}{target}"), Some(form)),
        Mistake::None => (format!("https://{host}{target}#{NUMBER}"), Some(form)),
    };
    signature::sign(TOKEN, &signed, form)
}

/// Something to say and something to do, neither of it endless nor a secret.
fn check_words(explanation: &Explanation, signed: &str, given_bytes: usize) {
    assert!(!explanation.cause.is_empty() && !explanation.changes.is_empty());
    let text = format!("{} {}", explanation.cause, explanation.changes.join(" "));
    assert!(text.len() <= TEXT_BYTES_MAX + GROWTH * given_bytes, "{} bytes of {given_bytes}", text.len());
    assert!(!text.contains(TOKEN) && !text.contains(signed), "a secret: {text}");
}

/// A number in a query is not told, whatever stands around it and whatever it is called.
fn check_query(target: &str) {
    for query in [format!("From=%2B{NUMBER}"), format!("{NUMBER}=1"), NUMBER.to_owned()] {
        let url = format!("https://gw.example/a?{query}");
        assert!(!without_values(&url).contains(NUMBER), "{url}");
    }
    let shown = without_values(&format!("https://gw.example/{target}&Caller=%2B{NUMBER}"));
    let is_in_path = !target.contains('?') || target.split('?').next().is_some_and(|path| path.contains(NUMBER));
    assert!(is_in_path || !shown.contains(NUMBER), "{shown}");
}
