//! Why a signature is not valid: what was tried, what is wrong, and what to change. The words of the log and of
//! `kolbox signature` alike.
//!
//! A signature says nothing by itself: nobody can read from it what was signed. But what people and proxies often mix up
//! can be tried, one thing or two at a time. Where that makes the signature valid, the cause is proven; where nothing does,
//! the token is most likely another one.
//!
//! No text that is made here holds a signature, a token, or the value of a parameter: webhooks by GET carry callers'
//! numbers in their query.

use std::{borrow::Cow, net::IpAddr};

use super::{
    sid::AccountSid,
    signature::{Body, Scheme, UrlParts, body_sha256, verify},
    webhook::Form,
};
use crate::limits::{LOGGED_NAMES_MAX, SIGNATURE_DOUBT_BODY_BYTES_MAX};

/// A request whose signature was not valid, and what is known around it.
#[derive(Clone, Copy)]
pub struct Doubt<'a> {
    /// The value of `X-Twilio-Signature`; `None`: there is none, or none that is text.
    pub signature: Option<&'a str>,
    /// What was tried, the likeliest first; each in all its forms.
    pub urls: &'a [UrlParts<'a>],
    pub body: Body<'a>,
    /// Names and values of the tokens; an empty value is none.
    pub tokens: &'a [(&'a str, &'a str)],
    /// Other hosts that the request or the configuration names.
    pub other_hosts: &'a [OtherHost<'a>],
    /// What a proxy says that it took from the front of the path.
    pub path_prefix: Option<&'a str>,
    /// The host is the request's own, since none is configured.
    pub host_is_a_guess: bool,
    /// `twilio.account_sid`, and the account that the request says it is about.
    pub accounts: (Option<AccountSid>, Option<AccountSid>),
}

/// A host that does not count, and might have been signed all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OtherHost<'a> {
    pub host: &'a str,
    /// Where it is named, for people.
    pub named_by: &'a str,
    /// What would make it count.
    pub remedy: &'a str,
}

/// What is wrong, in one word: log lines are limited by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    NoSignature,
    Malformed,
    Host,
    Scheme,
    Path,
    Query,
    Body,
    Token,
    Account,
    /// Nothing is wrong with the signature: a handshake asks for no WebSocket.
    Upgrade,
    Unexplained,
}

impl Reason {
    /// How many there are.
    pub const COUNT: usize = Self::Unexplained as usize + 1;

    /// The word in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoSignature => "no_signature",
            Self::Malformed => "malformed",
            Self::Host => "host",
            Self::Scheme => "scheme",
            Self::Path => "path",
            Self::Query => "query",
            Self::Body => "body",
            Self::Token => "token",
            Self::Account => "account",
            Self::Upgrade => "upgrade",
            Self::Unexplained => "unexplained",
        }
    }
}

/// What is to be said about a signature that is not valid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    pub reason: Reason,
    pub cause: String,
    pub changes: Vec<String>,
}

/// What is wrong with a header that need not be checked to be refused; `None`: it may be a signature.
pub fn explain_header(signature: Option<&str>) -> Option<Explanation> {
    match signature {
        None => Some(Explanation::new(
            Reason::NoSignature,
            "there is no X-Twilio-Signature: the request is not Twilio's, or something in front took the header away",
            [
                "let what stands in front pass X-Twilio-Signature on; to try a call yourself use `kolbox call`, which signs",
            ],
        )),
        Some(signature) if !is_signature(signature) => Some(Explanation::new(
            Reason::Malformed,
            "the signature is not 28 characters of base64 that end with =: it was cut or altered",
            ["let nothing on the way touch the header X-Twilio-Signature; to check one by hand, copy all of it"],
        )),
        Some(_) => None,
    }
}

/// What is wrong with a request that carries a signature and comes to the media socket without asking for a WebSocket.
pub fn explain_lost_upgrade() -> Explanation {
    Explanation::new(
        Reason::Upgrade,
        "a handshake carries a signature, but asks for no WebSocket: something in front does not pass Upgrade and \
         Connection on",
        ["let what stands in front speak HTTP/1.1 to the box and pass both headers on (nginx: proxy_http_version 1.1)"],
    )
}

/// What is wrong: proven where it can be, else what it most likely is. Some hundred signatures are computed for it.
pub fn explain(doubt: &Doubt<'_>) -> Explanation {
    if let Some(explanation) = explain_header(doubt.signature) {
        return explanation;
    }
    let proven = || {
        let signature = doubt.signature.filter(|_| doubt.body_bytes() <= SIGNATURE_DOUBT_BODY_BYTES_MAX)?;
        url_is_another(doubt, signature)
            .or_else(|| body_is_another(doubt, signature))
            .or_else(|| token_is_another(doubt, signature))
    };
    proven().or_else(|| account_is_another(doubt)).unwrap_or_else(|| unexplained(doubt))
}

/// A URL for the log: of its query only the parameters' names, and of these only such as cannot be a number.
pub fn without_values(url: &str) -> String {
    let Some((path, query)) = url.split_once('?') else { return url.to_owned() };
    let mut names: Vec<Cow<'_, str>> = form_urlencoded::parse(query.as_bytes())
        .take(LOGGED_NAMES_MAX + 1)
        .map(|(name, _)| if is_plain_name(&name) { name } else { "…".into() })
        .collect();
    if names.len() > LOGGED_NAMES_MAX {
        names[LOGGED_NAMES_MAX] = "…".into();
    }
    names.dedup();
    format!("{path}?{}", names.join("&"))
}

/// Twilio's names are letters, with few digits at most (`bodySHA256`, `SipHeader_X-Ref`).
fn is_plain_name(name: &str) -> bool {
    let digits = name.bytes().filter(u8::is_ascii_digit).count();
    name.len() <= 40 && digits <= 3 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte))
}

impl Explanation {
    fn new<C: Into<String>>(reason: Reason, cause: impl Into<String>, changes: impl IntoIterator<Item = C>) -> Self {
        Self { reason, cause: cause.into(), changes: changes.into_iter().map(Into::into).collect() }
    }
}

impl Doubt<'_> {
    fn holds(&self, url: UrlParts<'_>, body: Body<'_>, signature: &str) -> bool {
        let tokens: Vec<&str> = self.tokens.iter().map(|(_, token)| *token).collect();
        verify(&tokens, url.forms().urls(), body, signature).is_some()
    }

    /// One URL of each host: other schemes are tried with each.
    fn bases(&self) -> impl Iterator<Item = &UrlParts<'_>> {
        let scheme = self.urls.first().map(|url| url.scheme);
        self.urls.iter().filter(move |url| Some(url.scheme) == scheme)
    }

    fn body_bytes(&self) -> usize {
        match self.body {
            Body::None => 0,
            Body::Form(form) => form.pairs().map(|(name, value)| name.len() + value.len()).sum(),
            Body::Raw(bytes) => bytes.len(),
        }
    }
}

/// In what a URL differs from one that counts.
struct Change<'a> {
    reason: Reason,
    what: Cow<'a, str>,
    remedy: Cow<'a, str>,
}

/// Tries other hosts, schemes and targets: each alone, and a host or a scheme together with each of the rest. The body
/// stays as it came.
fn url_is_another(doubt: &Doubt<'_>, signature: &str) -> Option<Explanation> {
    for url in doubt.bases() {
        let hosts = other_hosts(doubt, url);
        let schemes = other_schemes(*url);
        let targets = other_targets(doubt, url.target);
        let host_choices =
            || [(url.host, None)].into_iter().chain(hosts.iter().map(|(host, change)| (*host, Some(change))));
        let scheme_choices =
            || [(url.scheme, None)].into_iter().chain(schemes.iter().map(|(scheme, change)| (*scheme, Some(change))));
        let target_choices = || {
            [(url.target, None)]
                .into_iter()
                .chain(targets.iter().map(|(target, change)| (target.as_str(), Some(change))))
        };
        for (target, target_change) in target_choices() {
            for (scheme, scheme_change) in scheme_choices() {
                for (host, host_change) in host_choices() {
                    let changes: Vec<_> = [host_change, scheme_change, target_change].into_iter().flatten().collect();
                    let tried = UrlParts { scheme, host, target };
                    if (1..=2).contains(&changes.len()) && doubt.holds(tried, doubt.body, signature) {
                        return Some(signed_for(tried, &changes));
                    }
                }
            }
        }
    }
    None
}

fn signed_for(url: UrlParts<'_>, changes: &[&Change<'_>]) -> Explanation {
    let UrlParts { scheme, host, target } = url;
    let signed = without_values(&format!("{}://{host}{target}", scheme.as_str()));
    let what: Vec<&str> = changes.iter().map(|change| change.what.as_ref()).collect();
    Explanation::new(
        changes.first().map_or(Reason::Unexplained, |change| change.reason),
        format!("it was signed for {signed}: {}", what.join("; ")),
        changes.iter().map(|change| change.remedy.as_ref()),
    )
}

fn other_hosts<'a>(doubt: &Doubt<'a>, url: &UrlParts<'a>) -> Vec<(&'a str, Change<'a>)> {
    let others = doubt.other_hosts.iter().filter(|other| other.host != url.host);
    let change = |other: &OtherHost<'a>| {
        let what = format!("the host is the one of {}", other.named_by).into();
        (other.host, Change { reason: Reason::Host, what, remedy: other.remedy.into() })
    };
    others.map(change).collect()
}

fn other_schemes<'a>(url: UrlParts<'_>) -> Vec<(Scheme, Change<'a>)> {
    let given = url.scheme;
    let remedy = match given {
        Scheme::Https | Scheme::Http => "enter the URL with https:// at Twilio",
        Scheme::Wss | Scheme::Ws => "use wss:// in <Stream url>: a WebSocket handshake is signed with it",
    };
    // With TLS or without, and as a WebSocket or not: one of both is mixed up, not both at once.
    let others = match given {
        Scheme::Https => [Scheme::Http, Scheme::Wss],
        Scheme::Http => [Scheme::Https, Scheme::Ws],
        Scheme::Wss => [Scheme::Ws, Scheme::Https],
        Scheme::Ws => [Scheme::Wss, Scheme::Http],
    };
    let change = |other: Scheme| {
        let what = format!("with {}://, not with {}://", other.as_str(), given.as_str()).into();
        (other, Change { reason: Reason::Scheme, what, remedy: remedy.into() })
    };
    others.into_iter().map(change).collect()
}

/// What proxies and people make of a path and a query.
fn other_targets<'a>(doubt: &Doubt<'_>, target: &str) -> Vec<(String, Change<'a>)> {
    let (path, query) = target.split_at(target.find('?').unwrap_or(target.len()));
    let path_change = |what: &'static str, remedy: &'static str| Change {
        reason: Reason::Path,
        what: what.into(),
        remedy: remedy.into(),
    };
    let slash = match path.strip_suffix('/') {
        Some(shorter) => format!("{shorter}{query}"),
        None => format!("{path}/{query}"),
    };
    let mut targets = vec![
        (
            slash,
            path_change(
                "mind the final slash",
                "let nothing on the way add or cut a final slash; enter the URL without it",
            ),
        ),
        (
            format!("/{target}"),
            path_change("two slashes begin the path", "enter the URL at Twilio with a single slash behind the host"),
        ),
    ];
    if let Some(prefix) = doubt.path_prefix {
        let remedy = "let the proxy pass the path on as it came (no strip-prefix)";
        targets.push((
            format!("/{}{target}", prefix.trim_matches('/')),
            path_change("a proxy took the front of the path away", remedy),
        ));
    }
    for (what, query) in other_queries(query) {
        let remedy = "let nothing on the way add to the query, drop it or write it anew";
        targets.push((
            format!("{path}{query}"),
            Change { reason: Reason::Query, what: what.into(), remedy: remedy.into() },
        ));
    }
    targets
}

fn other_queries(query: &str) -> Vec<(&'static str, String)> {
    let Some(encoded) = query.strip_prefix('?') else { return Vec::new() };
    let form = Form::parse(encoded.as_bytes()).encode();
    vec![
        ("without the query", String::new()),
        ("with the query encoded in another way", format!("?{}", form.replace('+', "%20"))),
        ("with the query encoded in another way", format!("?{form}")),
    ]
}

/// Tries the URLs that count with what else the body may have been.
fn body_is_another(doubt: &Doubt<'_>, signature: &str) -> Option<Explanation> {
    let holds = |body: Body<'_>| doubt.urls.iter().any(|url| doubt.holds(*url, body, signature));
    let explained = |cause: String, change: &str| Some(Explanation::new(Reason::Body, cause, [change]));
    match doubt.body {
        Body::None => None,
        Body::Form(form) => {
            if holds(Body::None) {
                return explained(
                    "it was signed without a body, as a GET or a handshake is".into(),
                    "leave the body out; let nothing on the way add one, or make a POST of a GET",
                );
            }
            let pairs = || form.pairs().map(|(name, value)| (name.to_owned(), value.to_owned()));
            let plus = Form::from_pairs(pairs().map(|(name, value)| (name, value.replace(' ', "+"))));
            if holds(Body::Form(&plus)) {
                return explained(
                    "the body was decoded before: its + is no longer %2B".into(),
                    "use the raw body, as it came and still percent-encoded",
                );
            }
            let cut = Form::from_pairs(pairs().map(|(name, value)| (name, value.trim_end().to_owned())));
            if holds(Body::Form(&cut)) {
                return explained(
                    "something was added behind a value of the body: a blank or a line end".into(),
                    "use the raw body, as it came and without a line end",
                );
            }
            None
        }
        Body::Raw(bytes) => {
            let form = Form::parse(bytes);
            if holds(Body::Form(&form)) {
                return explained(
                    "the body is a form, and its Content-Type says something else".into(),
                    "let nothing on the way change Content-Type; give the body with --form",
                );
            }
            let line = bytes.trim_ascii_end();
            if holds(Body::Raw(line)) {
                return explained("a line end was added to the body".into(), "take the line end away");
            }
            if !holds(Body::None) {
                return None;
            }
            explained(
                format!(
                    "the URL is the one that was signed, but does not carry bodySHA256={}: the body is another one",
                    body_sha256(bytes)
                ),
                "let nothing on the way rewrite the body",
            )
        }
    }
}

/// A token that was pasted with what stood around it.
fn token_is_another(doubt: &Doubt<'_>, signature: &str) -> Option<Explanation> {
    let quotes = |character: char| character.is_whitespace() || "\"'`".contains(character);
    let (name, _) = doubt.tokens.iter().find(|(_, token)| {
        let bare = token.trim_matches(quotes);
        let tokens = [("", bare)];
        bare != *token
            && doubt.urls.iter().any(|url| Doubt { tokens: &tokens, ..*doubt }.holds(*url, doubt.body, signature))
    })?;
    Some(Explanation::new(
        Reason::Token,
        format!("{name} has blanks or quotation marks around it"),
        [format!("take them away from {name}")],
    ))
}

fn account_is_another(doubt: &Doubt<'_>) -> Option<Explanation> {
    let (Some(ours), Some(named)) = doubt.accounts else { return None };
    if ours == named {
        return None;
    }
    Some(Explanation::new(
        Reason::Account,
        format!(
            "the request is about account {named}, and twilio.account_sid is {ours}: each account signs with its own token"
        ),
        ["set account_sid and auth_token of the account (or subaccount) that owns the number"],
    ))
}

fn unexplained(doubt: &Doubt<'_>) -> Explanation {
    let host = doubt.urls.first().map_or("", |url| url.host);
    if doubt.host_is_a_guess && is_inner(host) {
        return Explanation::new(
            Reason::Host,
            format!("the request names {host}, which nobody can ask for from outside: another host was signed"),
            [
                "set public.host to the name in the URL that is entered at Twilio",
                "or let the proxy send X-Forwarded-Host, and put its address into public.trusted_proxies",
            ],
        );
    }
    Explanation::new(
        Reason::Unexplained,
        "neither another host, scheme, port, path or query that is known here nor another reading of the body makes it \
         valid: most likely it was made with another token",
        [
            "compare twilio.auth_token with the account's primary auth token in Twilio's console: a secondary one, an API \
             key's secret and test credentials sign nothing, and a subaccount has its own"
                .to_owned(),
            format!(
                "if the token is right, compare the URL entered at Twilio, letter by letter: one with another name than \
                 {host} needs that name in public.host, and nothing on the way may change path, query or body"
            ),
        ],
    )
}

/// Whether a host means something only on this computer or in this network.
fn is_inner(host: &str) -> bool {
    let name = if host.ends_with(']') { host } else { host.rsplit_once(':').map_or(host, |(name, _)| name) };
    match name.trim_matches(['[', ']']).parse() {
        Ok(IpAddr::V4(address)) => address.is_loopback() || address.is_private() || address.is_link_local(),
        Ok(IpAddr::V6(address)) => {
            address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
        }
        Err(_) => !name.contains('.') || [".local", ".lan", ".internal"].iter().any(|end| name.ends_with(end)),
    }
}

fn is_signature(text: &str) -> bool {
    text.len() == 28
        && text.ends_with('=')
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::twilio::signature::sign;

    const URL: &str = "https://gw.example/webhook/incoming_call";
    const TOKENS: [(&str, &str); 2] = [("twilio.auth_token", "first"), ("twilio.auth_token_secondary", "second")];
    const OTHERS: [OtherHost<'_>; 2] = [
        OtherHost { host: "gw.example", named_by: "public.host", remedy: "nothing" },
        OtherHost { host: "inner.example:8443", named_by: "Host", remedy: "set public.host" },
    ];

    /// What is said of a request to [`URL`] with this signature.
    fn explained(body: Body<'_>, signature: &str) -> Explanation {
        explained_at(URL, body, signature)
    }

    fn explained_at(url: &str, body: Body<'_>, signature: &str) -> Explanation {
        explain(&Doubt {
            signature: Some(signature),
            urls: &[UrlParts::parse(url).unwrap()],
            body,
            tokens: &TOKENS,
            other_hosts: &OTHERS,
            path_prefix: Some("/kolbox/"),
            host_is_a_guess: true,
            accounts: (None, None),
        })
    }

    fn form() -> Form {
        Form::parse(b"CallSid=CA1&From=%2B972501234567&Name=O+B")
    }

    #[test]
    fn what_was_signed_in_its_place_is_found_and_named() {
        let form = form();
        for (signed, reason, part) in [
            ("https://inner.example:8443/webhook/incoming_call", Reason::Host, "the one of Host"),
            ("https://inner.example/webhook/incoming_call", Reason::Host, "the one of Host"),
            ("http://gw.example/webhook/incoming_call", Reason::Scheme, "with http://, not with https://"),
            ("wss://gw.example/webhook/incoming_call", Reason::Scheme, "with wss://"),
            ("http://inner.example:8443/webhook/incoming_call", Reason::Host, "with http://, not with https://"),
            ("https://gw.example/webhook/incoming_call/", Reason::Path, "final slash"),
            ("https://gw.example//webhook/incoming_call", Reason::Path, "two slashes"),
            ("https://gw.example/kolbox/webhook/incoming_call", Reason::Path, "front of the path"),
        ] {
            let found = explained(Body::Form(&form), &sign("second", signed, Some(&form)));
            assert_eq!(found.reason, reason, "{signed}: {found:?}");
            assert!(found.cause.contains(signed) || signed.contains("inner.example/"), "{signed}: {found:?}");
            assert!(found.cause.contains(part) && !found.changes.is_empty(), "{signed}: {found:?}");
        }
    }

    #[test]
    fn a_query_that_was_added_or_written_anew_is_found_and_its_values_are_not_told() {
        let asked = format!("{URL}?From=%2B972501234567&Name=O%20B");
        for signed in [URL, &format!("{URL}?From=%2B972501234567&Name=O+B")] {
            let found = explained_at(&asked, Body::None, &sign("first", signed, None));
            assert_eq!(found.reason, Reason::Query, "{found:?}");
            assert!(!format!("{found:?}").contains("1234567"), "{found:?}");
        }
    }

    #[test]
    fn a_body_that_was_changed_is_found() {
        let form = form();
        let decoded = Form::parse(b"CallSid=CA1&From=+972501234567&Name=O B");
        let line = Form::parse(b"CallSid=CA1&From=%2B972501234567&Name=O+B\n");
        let plus = Form::from_pairs([("CallSid", "CA1"), ("From", "+972501234567"), ("Name", "O+B")]);
        for (body, signature, part) in [
            (Body::Form(&form), sign("first", URL, None), "without a body"),
            (Body::Form(&decoded), sign("first", URL, Some(&plus)), "decoded before"),
            (Body::Form(&line), sign("first", URL, Some(&form)), "line end"),
            (Body::Raw(b"CallSid=CA1&From=%2B972501234567&Name=O+B"), sign("first", URL, Some(&form)), "Content-Type"),
            (Body::Raw(b"{}"), sign("first", URL, None), "bodySHA256"),
        ] {
            let found = explained(body, &signature);
            assert!(found.reason == Reason::Body && found.cause.contains(part), "{part}: {found:?}");
        }
        let url = format!("{URL}?bodySHA256={}", body_sha256(b"{}"));
        let signature = sign("first", &url, None);
        assert!(explained_at(&url, Body::Raw(b"{}\n"), &signature).cause.contains("line end"));
        assert!(explained_at(&url, Body::Raw(b"{1}"), &signature).cause.contains("another one"));
    }

    #[test]
    fn a_header_that_is_missing_or_cut_needs_no_search() {
        assert_eq!(explain_header(None).unwrap().reason, Reason::NoSignature);
        for cut in ["", "c2hvcnQ=", "0/KCTR6DLpKmkAf8muzZqo1nDgQ", "0/KCTR6DLpKmkAf8muzZqo1nDgQ= "] {
            assert_eq!(explain_header(Some(cut)).unwrap().reason, Reason::Malformed, "{cut:?}");
        }
        assert_eq!(explain_header(Some("0/KCTR6DLpKmkAf8muzZqo1nDgQ=")), None);
    }

    #[test]
    fn a_token_with_blanks_and_another_account_are_told_and_else_the_token_is_suspected() {
        let (form, urls) = (form(), [UrlParts::parse(URL).unwrap()]);
        let signature = sign("pasted", URL, Some(&form));
        let doubt = Doubt {
            signature: Some(&signature),
            urls: &urls,
            body: Body::Form(&form),
            tokens: &[("twilio.auth_token", " \"pasted\" ")],
            other_hosts: &[],
            path_prefix: None,
            host_is_a_guess: false,
            accounts: (None, None),
        };
        let found = explain(&doubt);
        assert!(found.reason == Reason::Token && !format!("{found:?}").contains("pasted"), "{found:?}");
        let stranger = Doubt { tokens: &TOKENS, ..doubt };
        let found = explain(&stranger);
        assert!(found.reason == Reason::Unexplained && found.cause.contains("another token"), "{found:?}");
        let sid = |number| Some(AccountSid::from_number(number));
        assert_eq!(explain(&Doubt { accounts: (sid(1), sid(2)), ..stranger }).reason, Reason::Account);
        assert_eq!(explain(&Doubt { accounts: (sid(1), sid(1)), ..stranger }).reason, Reason::Unexplained);
    }

    #[test]
    fn a_host_that_nobody_can_ask_for_from_outside_was_not_signed() {
        for (host, reason) in [
            ("127.0.0.1:8443", Reason::Host),
            ("192.168.1.4", Reason::Host),
            ("[::1]:8443", Reason::Host),
            ("kolbox", Reason::Host),
            ("kolbox.local:8443", Reason::Host),
            ("203.0.113.9", Reason::Unexplained),
            ("gw.example:8443", Reason::Unexplained),
        ] {
            let signature = sign("first", "https://elsewhere.example/webhook/incoming_call", None);
            let url = format!("https://{host}/webhook/incoming_call");
            assert_eq!(explained_at(&url, Body::None, &signature).reason, reason, "{host}");
        }
    }

    #[test]
    fn a_large_body_is_not_searched() {
        let form = Form::from_pairs([("A", "x".repeat(SIGNATURE_DOUBT_BODY_BYTES_MAX))]);
        let signature = sign("first", &URL.replace("https", "http"), Some(&form));
        assert_eq!(explained(Body::Form(&form), &signature).reason, Reason::Unexplained);
    }

    #[test]
    fn of_a_query_only_names_are_told_and_none_that_could_be_a_number() {
        for (url, shown) in [
            (URL, URL),
            ("https://x/a?From=%2B972501234567&bodySHA256=00", "https://x/a?From&bodySHA256"),
            ("https://x/a?%2B972501234567&972501234567=1&CallSid=2", "https://x/a?…&CallSid"),
            ("https://x/a?", "https://x/a?"),
        ] {
            assert_eq!(without_values(url), shown);
        }
        let many: String = (b'a'..=b'z').map(|letter| format!("{}=1&", letter as char)).collect();
        assert!(without_values(&format!("https://x/a?{many}")).ends_with("&l&…"));
    }

    proptest! {
        #[test]
        fn whatever_strangers_send_is_explained_without_a_panic(
            signature in "[A-Za-z0-9+/]{27}=",
            path in "/\\PC{0,30}",
            body in proptest::collection::vec(any::<u8>(), 0..60),
        ) {
            let url = format!("https://gw.example{path}");
            let form = Form::parse(&body);
            for body in [Body::None, Body::Form(&form), Body::Raw(&body)] {
                prop_assert_eq!(explained_at(&url, body, &signature).reason, Reason::Unexplained);
            }
        }
    }
}
