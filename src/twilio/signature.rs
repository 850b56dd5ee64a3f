//! `X-Twilio-Signature`: making it, checking it in constant time, and the URLs that Twilio may have signed.
//!
//! The signature is base64(HMAC-SHA1(auth token, message)). The message is the URL, followed, for a form body, by each
//! name and value in the byte order of the names (docs: Security, "Validating requests"). Which URL Twilio signs is
//! less certain than how: see [`UrlForms`].
//!
//! A signature carries no time: a captured request can be replayed. Whoever acts on one must be idempotent.

use std::{fmt, iter};

use base64::{Engine, prelude::BASE64_STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use sha1::Sha1;
use sha2::{Digest, Sha256};

use super::webhook::Form;

/// What came in a request's body, as far as its signature is concerned.
#[derive(Debug, Clone, Copy)]
pub enum Body<'a> {
    /// A GET, an upgrade, or nothing: all parameters are in the URL.
    None,
    /// `application/x-www-form-urlencoded`.
    Form(&'a Form),
    /// JSON or anything else: the URL's `bodySHA256` must be the hash of these bytes. Without one nothing is valid.
    Raw(&'a [u8]),
}

/// Which URL and which token a signature was made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Match {
    pub url_form_index: usize,
    pub token_index: usize,
}

/// The signature that Twilio would send with a request to `url`: 28 characters of base64.
pub fn sign(token: &str, url: &str, form: Option<&Form>) -> String {
    let parameters = form.map(signed_parameters).unwrap_or_default();
    let mac = keyed(token).chain_update(url).chain_update(parameters);
    BASE64_STANDARD.encode(mac.finalize().into_bytes())
}

/// The value of `bodySHA256` in the URL of a request with this JSON body: lower-case hexadecimal digits.
pub fn body_sha256(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Checks a request's signature against each token and each form of its URL; `None`: it is not Twilio's.
///
/// The comparison with each candidate takes the same time wherever the two differ. An empty token never matches: anyone
/// could sign with it.
pub fn verify(tokens: &[&str], url_forms: &[String], body: Body<'_>, header: &str) -> Option<Match> {
    let signature = BASE64_STANDARD.decode(header).ok()?;
    let parameters = match body {
        Body::Form(form) => signed_parameters(form),
        Body::None | Body::Raw(_) => String::new(),
    };
    let body_hash = match body {
        Body::Raw(bytes) => Some(body_sha256(bytes)),
        Body::None | Body::Form(_) => None,
    };
    for (token_index, token) in tokens.iter().enumerate().filter(|(_, token)| !token.is_empty()) {
        let keyed = keyed(token);
        for (url_form_index, url) in url_forms.iter().enumerate() {
            let mac = keyed.clone().chain_update(url).chain_update(&parameters);
            let signed = mac.verify_slice(&signature).is_ok();
            let body_is_signed = body_hash.as_ref().is_none_or(|hash| body_sha256_in(url).as_ref() == Some(hash));
            if signed && body_is_signed {
                return Some(Match { url_form_index, token_index });
            }
        }
    }
    None
}

fn keyed(token: &str) -> Hmac<Sha1> {
    Hmac::new_from_slice(token.as_bytes()).expect("HMAC takes keys of any length")
}

/// Names in byte order, each followed by its value. Of a name that comes several times, Twilio's libraries (node, python,
/// php) take each different value once, in byte order, with the name before each.
fn signed_parameters(form: &Form) -> String {
    let mut pairs: Vec<(&str, &str)> = form.pairs().collect();
    pairs.sort_unstable();
    pairs.dedup();
    let mut parameters = String::with_capacity(pairs.iter().map(|(name, value)| name.len() + value.len()).sum());
    for (name, value) in pairs {
        parameters.push_str(name);
        parameters.push_str(value);
    }
    parameters
}

fn body_sha256_in(url: &str) -> Option<String> {
    let (_, query) = url.split_once('?')?;
    let (_, value) = form_urlencoded::parse(query.as_bytes()).find(|(name, _)| name == "bodySHA256")?;
    Some(value.into_owned())
}

/// The scheme of the public URL. A WebSocket upgrade is signed as `wss`, not as the `https` that a server sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    Https,
    Ws,
    Wss,
}

impl Scheme {
    /// The scheme of this name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Http, Self::Https, Self::Ws, Self::Wss].into_iter().find(|it| it.as_str().eq_ignore_ascii_case(name))
    }

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Ws => "ws",
            Self::Wss => "wss",
        }
    }

    /// The same security for a WebSocket upgrade.
    pub fn websocket(self) -> Self {
        match self {
            Self::Http | Self::Ws => Self::Ws,
            Self::Https | Self::Wss => Self::Wss,
        }
    }

    fn is_websocket(self) -> bool {
        matches!(self, Self::Ws | Self::Wss)
    }

    fn default_port(self) -> u16 {
        match self {
            Self::Http | Self::Ws => 80,
            Self::Https | Self::Wss => 443,
        }
    }
}

/// Every form of one public URL that Twilio may have signed, the likeliest first.
///
/// | part | forms | why |
/// | --- | --- | --- |
/// | host | as given; in lower case | a name's case means nothing, and URL parsers write it small |
/// | port | as given; none; the scheme's default | Twilio drops the port of voice requests over HTTPS and keeps it over HTTP; its libraries also try the default port |
/// | path (WebSocket only) | as received; with a final `/` added (or taken away where there is one) | docs: Security, upgrades may be signed with a trailing slash |
/// | query | as received; normalised as the WHATWG URL standard does (`'` as `%27`, and the like) | twilio-node signs what its URL parser prints |
///
/// User name and password are in none of them (Twilio drops them), and no fragment (it never reaches a server). All forms name the same place, so that trying them makes no other request valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UrlForms {
    urls: Vec<String>,
    changes: Vec<Changes>,
}

/// In what a form differs from the URL as given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Changes {
    host: Option<&'static str>,
    port: Option<&'static str>,
    slash: Option<&'static str>,
    query: Option<&'static str>,
}

/// Why a text has no URL forms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// It does not begin with `http`, `https`, `ws` or `wss` and `://`.
    Scheme,
    /// There is no host.
    Host,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Scheme => "the URL must begin with https://, http://, wss:// or ws://",
            Self::Host => "the URL has no host",
        })
    }
}

impl std::error::Error for UrlError {}

/// A URL in the parts that its forms differ in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UrlParts<'a> {
    pub scheme: Scheme,
    /// With its port, if it has one.
    pub host: &'a str,
    /// Path and query: the request target, untouched.
    pub target: &'a str,
}

impl<'a> UrlParts<'a> {
    /// The parts of a whole URL, as somebody typed it: without user name, password and fragment.
    ///
    /// # Errors
    /// When it has no scheme that Twilio uses, or no host.
    pub fn parse(url: &'a str) -> Result<Self, UrlError> {
        let (scheme, rest) = url.split_once("://").ok_or(UrlError::Scheme)?;
        let scheme = Scheme::parse(scheme).ok_or(UrlError::Scheme)?;
        let rest = rest.split_once('#').map_or(rest, |(before, _)| before);
        let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        if host.is_empty() {
            return Err(UrlError::Host);
        }
        Ok(Self { scheme, host, target })
    }

    /// Every form of this URL.
    pub fn forms(self) -> UrlForms {
        UrlForms::new(self.scheme, self.host, self.target)
    }
}

impl UrlForms {
    /// The forms of `scheme://host/path?query`: `host` is the public one, with its port if it has one, and
    /// `path_and_query` the request target, untouched.
    pub fn new(scheme: Scheme, host: &str, path_and_query: &str) -> Self {
        let mut forms = Self { urls: Vec::new(), changes: Vec::new() };
        for (query_change, target) in query_forms(path_and_query) {
            for (slash_change, target) in slash_forms(scheme, &target) {
                for (host_change, name) in name_forms(host) {
                    for (port_change, host) in port_forms(scheme, &name) {
                        let changes =
                            Changes { host: host_change, port: port_change, slash: slash_change, query: query_change };
                        forms.add(format!("{}://{host}{target}", scheme.as_str()), changes);
                    }
                }
            }
        }
        forms
    }

    /// The forms of a whole URL, as somebody typed it.
    ///
    /// # Errors
    /// When it has no scheme that Twilio uses, or no host.
    pub fn of_url(url: &str) -> Result<Self, UrlError> {
        UrlParts::parse(url).map(UrlParts::forms)
    }

    /// The candidates, for [`verify`].
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// In what the form of this index differs from the URL as given, for people; empty when there is no such form.
    pub fn explain(&self, index: usize) -> String {
        let Some(changes) = self.changes.get(index) else { return String::new() };
        let parts: Vec<_> = [changes.host, changes.port, changes.slash, changes.query].into_iter().flatten().collect();
        if parts.is_empty() { "as given".to_owned() } else { parts.join(", ") }
    }

    fn add(&mut self, url: String, changes: Changes) {
        if !self.urls.contains(&url) {
            self.urls.push(url);
            self.changes.push(changes);
        }
    }
}

type PartForm<T> = (Option<&'static str>, T);

fn name_forms(host: &str) -> impl Iterator<Item = PartForm<String>> {
    let small = host.bytes().any(|byte| byte.is_ascii_uppercase());
    let small = small.then(|| (Some("host in lower case"), host.to_ascii_lowercase()));
    iter::once((None, host.to_owned())).chain(small)
}

fn port_forms(scheme: Scheme, host: &str) -> [PartForm<String>; 3] {
    let bare = without_port(host);
    [
        (None, host.to_owned()),
        (Some("without the port"), bare.to_owned()),
        (Some("with the default port"), format!("{bare}:{}", scheme.default_port())),
    ]
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        // The last colon of `[::1]` is inside the brackets, and what follows it is no number.
        Some((bare, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => bare,
        _ => host,
    }
}

fn slash_forms(scheme: Scheme, target: &str) -> Vec<PartForm<String>> {
    let mut forms = vec![(None, target.to_owned())];
    if scheme.is_websocket() {
        let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
        forms.push(match path.strip_suffix('/') {
            Some(shorter) => (Some("without the final /"), format!("{shorter}{query}")),
            None => (Some("with a final /"), format!("{path}/{query}")),
        });
    }
    forms
}

/// The special-query percent-encode set of the WHATWG URL standard.
const QUERY: &AsciiSet = &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'<').add(b'>').add(b'\'');

fn query_forms(target: &str) -> Vec<PartForm<String>> {
    let mut forms = vec![(None, target.to_owned())];
    if let Some((path, query)) = target.split_once('?') {
        forms.push((Some("query normalised"), format!("{path}?{}", utf8_percent_encode(query, QUERY))));
    }
    forms
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Vector {
        id: String,
        kind: String,
        auth_token: String,
        url: String,
        #[serde(default)]
        params: BTreeMap<String, OneOrMany>,
        body: Option<String>,
        signature: String,
        valid: bool,
        matching_url_form: Option<String>,
    }

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }

    impl Vector {
        fn form(&self) -> Form {
            Form::from_pairs(self.params.iter().flat_map(|(name, values)| {
                let values = match values {
                    OneOrMany::One(value) => std::slice::from_ref(value),
                    OneOrMany::Many(values) => values,
                };
                values.iter().map(move |value| (name.as_str(), value.as_str()))
            }))
        }
    }

    fn vectors() -> Vec<Vector> {
        serde_json::from_str(include_str!("../../tests/data/signature_vectors.json")).unwrap()
    }

    #[test]
    fn all_known_signatures_are_judged_rightly_and_by_the_expected_url() {
        for vector in vectors() {
            let form = vector.form();
            let body = match vector.kind.as_str() {
                "form" => Body::Form(&form),
                "json_body" => Body::Raw(vector.body.as_ref().unwrap().as_bytes()),
                "get" | "websocket_upgrade" => Body::None,
                other => panic!("{}: unknown kind {other}", vector.id),
            };
            let forms = UrlForms::of_url(&vector.url).unwrap();
            let found = verify(&[&vector.auth_token], forms.urls(), body, &vector.signature);
            assert_eq!(found.is_some(), vector.valid, "{}", vector.id);
            let url = found.map(|found| forms.urls()[found.url_form_index].clone());
            assert_eq!(url, vector.matching_url_form, "{}", vector.id);
        }
        assert_eq!(vectors().len(), 21);
    }

    #[test]
    fn signing_gives_the_known_signatures() {
        for vector in vectors() {
            let Some(url) = &vector.matching_url_form else { continue };
            let form = vector.form();
            assert_eq!(sign(&vector.auth_token, url, Some(&form)), vector.signature, "{}", vector.id);
        }
    }

    #[test]
    fn each_token_of_a_rotation_is_accepted_and_an_empty_one_never() {
        let urls = ["https://gw.example.co.il/webhook/incoming_call".to_owned()];
        let form = Form::from_pairs([("CallSid", "CA1")]);
        let verify_with =
            |tokens: &[&str], token| verify(tokens, &urls, Body::Form(&form), &sign(token, &urls[0], Some(&form)));
        let found = verify_with(&["new", "old"], "old");
        assert_eq!(found, Some(Match { url_form_index: 0, token_index: 1 }));
        assert_eq!(verify_with(&["new"], "old"), None);
        assert_eq!(verify_with(&["new", ""], ""), None);
        assert_eq!(verify_with(&[], "old"), None);
    }

    #[test]
    fn every_parameter_counts_and_order_does_not() {
        let urls = ["https://gw.example.co.il/".to_owned()];
        let signature =
            sign("token", &urls[0], Some(&Form::parse(b"Reason=x&ReasonConferenceEnded=y&callSid=1&CallSid=2")));
        let is_valid = |body: &[u8]| verify(&["token"], &urls, Body::Form(&Form::parse(body)), &signature).is_some();
        assert!(is_valid(b"callSid=1&ReasonConferenceEnded=y&CallSid=2&Reason=x"));
        assert!(is_valid(b"callSid=1&ReasonConferenceEnded=y&CallSid=2&Reason=x&Reason=x"));
        assert!(!is_valid(b"callSid=1&ReasonConferenceEnded=y&CallSid=2&Reason=x&Reason=z"));
        assert!(!is_valid(b"callSid=1&ReasonConferenceEnded=y&CallSid=2&Reason=x&Digits="));
        assert!(!is_valid(b"callSid=1&ReasonConferenceEnded=y&CallSid=2"));
    }

    #[test]
    fn a_json_body_must_be_the_one_whose_hash_was_signed() {
        let body = br#"{"a":1}"#;
        let hashed = [format!("https://gw.example.co.il/x?bodySHA256={}", body_sha256(body))];
        let signature = sign("token", &hashed[0], None);
        assert!(verify(&["token"], &hashed, Body::Raw(body), &signature).is_some());
        assert!(verify(&["token"], &hashed, Body::Raw(br#"{"a":2}"#), &signature).is_none());

        let unhashed = ["https://gw.example.co.il/x".to_owned()];
        let signature = sign("token", &unhashed[0], None);
        assert!(verify(&["token"], &unhashed, Body::Raw(body), &signature).is_none());
    }

    #[test]
    fn an_upgrade_is_tried_with_every_port_and_slash() {
        let forms = UrlForms::new(Scheme::Https.websocket(), "gw.example.co.il:8443", "/ws/twilio-media");
        let explained: Vec<_> =
            forms.urls().iter().enumerate().map(|(index, url)| (url.as_str(), forms.explain(index))).collect();
        let expected = [
            ("wss://gw.example.co.il:8443/ws/twilio-media", "as given"),
            ("wss://gw.example.co.il/ws/twilio-media", "without the port"),
            ("wss://gw.example.co.il:443/ws/twilio-media", "with the default port"),
            ("wss://gw.example.co.il:8443/ws/twilio-media/", "with a final /"),
            ("wss://gw.example.co.il/ws/twilio-media/", "without the port, with a final /"),
            ("wss://gw.example.co.il:443/ws/twilio-media/", "with the default port, with a final /"),
        ];
        assert_eq!(explained, expected.map(|(url, changes)| (url, changes.to_owned())));
        assert_eq!(forms.explain(6), "");
    }

    #[test]
    fn a_host_is_also_tried_in_lower_case() {
        let forms = UrlForms::new(Scheme::Https, "GW.Example.co.il", "/a?B=C");
        let expected = [
            "https://GW.Example.co.il/a?B=C",
            "https://GW.Example.co.il:443/a?B=C",
            "https://gw.example.co.il/a?B=C",
            "https://gw.example.co.il:443/a?B=C",
        ];
        assert_eq!(forms.urls(), expected);
        assert_eq!(forms.explain(3), "host in lower case, with the default port");
    }

    #[test]
    fn a_query_is_also_tried_normalised() {
        let forms = UrlForms::new(Scheme::Https, "gw.example.co.il", "/it's?name=O'Brien&b=%2b");
        let expected = [
            "https://gw.example.co.il/it's?name=O'Brien&b=%2b",
            "https://gw.example.co.il:443/it's?name=O'Brien&b=%2b",
            "https://gw.example.co.il/it's?name=O%27Brien&b=%2b",
            "https://gw.example.co.il:443/it's?name=O%27Brien&b=%2b",
        ];
        assert_eq!(forms.urls(), expected);
    }

    #[test]
    fn a_typed_url_loses_user_and_fragment_and_keeps_an_ipv6_host() {
        let forms = UrlForms::of_url("HTTPS://user:p@ss@[::1]:8443/a?b#rc=2").unwrap();
        assert_eq!(forms.urls(), ["https://[::1]:8443/a?b", "https://[::1]/a?b", "https://[::1]:443/a?b"]);
        assert_eq!(UrlForms::of_url("gw.example.co.il/a"), Err(UrlError::Scheme));
        assert_eq!(UrlForms::of_url("ftp://gw.example.co.il/a"), Err(UrlError::Scheme));
        assert_eq!(UrlForms::of_url("https:///a"), Err(UrlError::Host));
    }

    proptest! {
        #[test]
        fn no_header_url_or_body_makes_it_panic(
            header in any::<String>(),
            url in "(https?|wss?)://\\PC{0,40}",
            body in proptest::collection::vec(any::<u8>(), 0..100),
        ) {
            if let Ok(forms) = UrlForms::of_url(&url) {
                let form = Form::parse(&body);
                for body in [Body::None, Body::Form(&form), Body::Raw(&body)] {
                    prop_assert_eq!(verify(&["token"], forms.urls(), body, &header), None);
                }
            }
        }

        #[test]
        fn whatever_is_signed_is_verified(pairs in proptest::collection::vec((".{0,8}", ".{0,8}"), 0..6)) {
            let urls = ["https://gw.example.co.il/a".to_owned()];
            let form = Form::from_pairs(pairs);
            let signature = sign("token", &urls[0], Some(&form));
            prop_assert!(verify(&["token"], &urls, Body::Form(&form), &signature).is_some());
        }
    }
}
