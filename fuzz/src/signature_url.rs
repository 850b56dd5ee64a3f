//! Signatures and the URLs they may be over: five lines, of which the last is the rest of the input.
//!
//! | line | what |
//! | --- | --- |
//! | 1 | a number: which form is signed, and which byte of token and signature is damaged |
//! | 2 | the scheme |
//! | 3 | the host |
//! | 4 | path and query |
//! | 5 | the body: a form |
//!
//! Line 4 alone is also read as a whole URL, as somebody types it, and line 5 as a header.

use base64::{Engine, prelude::BASE64_STANDARD};
use kolbox::twilio::{
    signature::{self, Body, Scheme, UrlForms},
    webhook::Form,
};

use super::text::first_line;

/// Spellings of the host, ports, slashes and queries: 2 × 3 × 2 × 2.
const FORMS_MAX: usize = 24;
const TOKEN: &str = "12345678901234567890123456789012";
/// A field that nothing signed.
const MORE: (&str, &str) = ("Digits", "hangup");

pub fn run(data: &[u8]) {
    let (number, rest) = first_line(data);
    let (scheme, rest) = first_line(rest);
    let (host, rest) = first_line(rest);
    let (target, body) = first_line(rest);
    let [scheme, host, target] = [scheme, host, target].map(String::from_utf8_lossy);
    let number = number.iter().fold(0, |number: usize, byte| number.wrapping_mul(10).wrapping_add(usize::from(*byte)));

    if let Ok(forms) = UrlForms::of_url(&target) {
        check_forms(&forms, target.len());
        for url in forms.urls() {
            let (_, rest) = url.split_once("://").expect("a URL has a scheme");
            let authority = rest.split(['/', '?']).next().unwrap_or_default();
            assert!(!authority.contains('@') && !url.contains('#'), "what Twilio never signs: {url}");
        }
    }
    let scheme = Scheme::parse(&scheme).unwrap_or(Scheme::Https);
    let forms = UrlForms::new(scheme, &host, &target);
    check_forms(&forms, host.len() + target.len());
    assert_eq!(forms.urls()[0], format!("{}://{host}{target}", scheme.as_str()), "the first is as given");
    check_signature(&forms, number, body);
}

/// Few, different, not long, and each with an explanation.
fn check_forms(forms: &UrlForms, given_bytes: usize) {
    let urls = forms.urls();
    assert!((1..=FORMS_MAX).contains(&urls.len()));
    for (index, url) in urls.iter().enumerate() {
        assert!(!urls[..index].contains(url) && url.len() <= 3 * given_bytes + 32);
        assert!(!forms.explain(index).is_empty());
    }
    assert_eq!(forms.explain(0), "as given");
    assert_eq!(forms.explain(urls.len()), "");
}

/// A signature over any form is valid, by that form; with a byte of it, of the token or of the form changed it is not.
fn check_signature(forms: &UrlForms, number: usize, body: &[u8]) {
    let (urls, form) = (forms.urls(), Form::parse(body));
    let chosen = number % urls.len();
    let signed = signature::sign(TOKEN, &urls[chosen], Some(&form));
    let found = signature::verify(&["another", TOKEN], urls, Body::Form(&form), &signed);
    assert_eq!(found.map(|found| (found.url_form_index, found.token_index)), Some((chosen, 1)));

    let mut token = TOKEN.as_bytes().to_vec();
    token[number % TOKEN.len()] ^= 1 << (number % 5);
    let token = String::from_utf8(token).expect("ASCII");
    assert_eq!(signature::verify(&[&token, ""], urls, Body::Form(&form), &signed), None, "with {token:?}");

    let mut damaged = BASE64_STANDARD.decode(&signed).expect("base64");
    damaged[number % 20] ^= 1 << (number % 8);
    let damaged = BASE64_STANDARD.encode(damaged);
    assert_eq!(signature::verify(&[TOKEN], urls, Body::Form(&form), &damaged), None);

    let turned = Form::from_pairs(form.pairs().collect::<Vec<_>>().into_iter().rev());
    assert!(
        signature::verify(&[TOKEN], urls, Body::Form(&turned), &signed).is_some(),
        "the fields' order is not signed"
    );
    if form.first(MORE.0).is_none() {
        let more = Form::from_pairs(form.pairs().chain([MORE]));
        assert_eq!(signature::verify(&[TOKEN], urls, Body::Form(&more), &signed), None, "with a field more");
    }
    check_header(urls, chosen, body);
}

/// Without a form: a header has one spelling, and a raw body counts only where the URL names its hash.
fn check_header(urls: &[String], chosen: usize, body: &[u8]) {
    if let Ok(header) = std::str::from_utf8(body)
        && let Some(found) = signature::verify(&[TOKEN], urls, Body::None, header)
    {
        assert_eq!(header, signature::sign(TOKEN, &urls[found.url_form_index], None));
    }
    let signed = signature::sign(TOKEN, &urls[chosen], None);
    let query = Form::parse(urls[chosen].split_once('?').map_or("", |(_, query)| query).as_bytes());
    let is_named = query.first("bodySHA256") == Some(&signature::body_sha256(body));
    assert_eq!(signature::verify(&[TOKEN], urls, Body::Raw(body), &signed).is_some(), is_named);
}
