//! Who is let in: those who hold the account's token, shown by a signature over the public URL. Who is not, is explained in
//! the log.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use hyper::{HeaderMap, header, http::request::Parts};
use secrecy::{ExposeSecret, SecretString};

use super::{
    public_host::{Claims, Origin},
    refusals::Refusals,
};
use crate::{
    config,
    system::log::cut,
    twilio::{
        sid::AccountSid,
        signature::{self, Body, Scheme, UrlParts},
        signature_doubt::{self, Doubt, Explanation, OtherHost, Reason},
        webhook::Form,
    },
};

const SIGNATURE: &str = "x-twilio-signature";
/// So many of the hosts that proxies name are tried.
const FORWARDED_HOSTS_MAX: usize = 3;
const TOKEN_NAMES: [&str; 2] = ["twilio.auth_token", "twilio.auth_token_secondary"];

/// Checks signatures, or lets everybody in where the configuration says so.
#[derive(Debug)]
pub struct Admission {
    /// Those whose signatures count: the token, and the second one while tokens are rotated (empty: none). `None`:
    /// unsigned requests are let in.
    tokens: Option<[SecretString; 2]>,
    account: Option<AccountSid>,
    refusals: Mutex<Refusals>,
}

impl Admission {
    pub fn new(twilio: &config::Twilio) -> Self {
        let tokens = [&twilio.auth_token, &twilio.auth_token_secondary];
        Self {
            tokens: twilio.validate_signatures.then(|| tokens.map(Clone::clone)),
            account: twilio.account_sid,
            refusals: Mutex::default(),
        }
    }

    /// Whether a request is let in (docs: Security, "Validating requests"). The URL that was signed is the public one,
    /// since TLS may have ended in front of the box. `upgrade`: it opens a WebSocket, which is signed as `wss`.
    pub fn admits(&self, request: &Parts, origin: &Origin, body: Body<'_>, upgrade: bool) -> bool {
        let Some([token, second]) = &self.tokens else { return true };
        let Some(signature) = signature_of(request) else { return false };
        let tokens = [token.expose_secret(), second.expose_secret()];
        let signed = |url: UrlParts<'_>| signature::verify(&tokens, url.forms().urls(), body, signature).is_some();
        signed_urls(request, origin, upgrade).any(signed)
    }

    /// Says in the log why a request was not let in: what was tried, where the request says that it was sent to, and what to
    /// change. So often only that a stranger who sends many cannot flood it.
    pub fn explain_refused(&self, request: &Parts, origin: &Origin, body: Body<'_>, upgrade: bool, now: Instant) {
        let signature = signature_of(request);
        let explanation = match signature_doubt::explain_header(signature) {
            Some(explanation) => explanation,
            None if self.refusals().may_doubt(now) => self.explain(request, origin, body, upgrade),
            None => return,
        };
        if let Some(others) = self.refusals().may_explain(explanation.reason, now) {
            log(request, origin, upgrade, &explanation, others);
        }
    }

    /// Says in the log that a handshake lost what makes it one, if it seems to be Twilio's.
    pub fn explain_lost_upgrade(&self, request: &Parts, origin: &Origin, now: Instant) {
        let explanation = signature_doubt::explain_lost_upgrade();
        if signature_of(request).is_some()
            && let Some(others) = self.refusals().may_explain(explanation.reason, now)
        {
            log(request, origin, true, &explanation, others);
        }
    }

    fn explain(&self, request: &Parts, origin: &Origin, body: Body<'_>, upgrade: bool) -> Explanation {
        let claims = Claims::of(&request.headers);
        let urls: Vec<_> = signed_urls(request, origin, upgrade).collect();
        let tokens = self.tokens.as_ref().map(|tokens| tokens.each_ref().map(ExposeSecret::expose_secret));
        let tokens = tokens.map(|[token, second]| [(TOKEN_NAMES[0], token), (TOKEN_NAMES[1], second)]);
        let trust = format!(
            "put {}, where the request came from, into public.trusted_proxies, or set public.host",
            origin.peer
        );
        signature_doubt::explain(&Doubt {
            signature: signature_of(request),
            urls: &urls,
            body,
            tokens: tokens.as_ref().map_or(&[], |tokens| &tokens[..]),
            other_hosts: &other_hosts(&claims, origin, &trust),
            path_prefix: claims.forwarded_prefix,
            host_is_a_guess: !origin.configured,
            accounts: (self.account, account_named(request, body)),
        })
    }

    fn refusals(&self) -> MutexGuard<'_, Refusals> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The only line in which a refused signature is explained. Of what a peer wrote it holds the start, and of a query the
/// names.
fn log(request: &Parts, origin: &Origin, upgrade: bool, explanation: &Explanation, others: u64) {
    let claims = Claims::of(&request.headers);
    let refused = match explanation.reason {
        Reason::Upgrade => "refused: no WebSocket asked for",
        _ => "refused: no valid X-Twilio-Signature",
    };
    let tried: Vec<String> = signed_urls(request, origin, upgrade).flat_map(forms_without_values).collect();
    tracing::warn!(
        method = cut(request.method.as_str()),
        path = cut(request.uri.path()),
        reason = explanation.reason.as_str(),
        cause = explanation.cause,
        change = explanation.changes.join(" | "),
        tried = tried.join(", "),
        host = claims.host.map(cut),
        forwarded_host = claims.forwarded_host.map(cut),
        forwarded_proto = claims.forwarded_proto.map(cut),
        forwarded_for = claims.forwarded_for.map(cut),
        forwarding = forwarding(&claims, origin),
        public_host = if origin.configured { &origin.host } else { "not set: the request's own host counts" },
        peer = %origin.peer,
        others,
        "{refused}"
    );
}

/// Whether the forwarding headers were believed.
fn forwarding(claims: &Claims<'_>, origin: &Origin) -> &'static str {
    match (claims.forwards(), origin.trusted) {
        (true, true) => "believed: the peer is in public.trusted_proxies",
        (true, false) => "not believed: the peer is not in public.trusted_proxies",
        (false, _) if claims.forwarded => "none: Forwarded is not read, only X-Forwarded-Host, -Proto and -For are",
        (false, _) => "none",
    }
}

fn forms_without_values(url: UrlParts<'_>) -> Vec<String> {
    let forms = url.forms();
    let told =
        |(index, url): (usize, &String)| format!("{} ({})", signature_doubt::without_values(url), forms.explain(index));
    forms.urls().iter().enumerate().map(told).collect()
}

/// Hosts that do not count for this request, and what would make them count.
fn other_hosts<'a>(claims: &Claims<'a>, origin: &Origin, trust: &'a str) -> Vec<OtherHost<'a>> {
    let configure = "set public.host to it: that is the name which Twilio asks for";
    let own = claims.host.map(|host| OtherHost { host, named_by: "the request's Host", remedy: configure });
    let remedy = if origin.configured || origin.trusted { configure } else { trust };
    let forwarded = claims.forwarded_host.into_iter().flat_map(|hosts| hosts.split(',').take(FORWARDED_HOSTS_MAX));
    let forwarded =
        forwarded.map(|host| OtherHost { host: host.trim(), named_by: "the request's X-Forwarded-Host", remedy });
    let mut others: Vec<_> = own.into_iter().chain(forwarded).filter(|other| !other.host.is_empty()).collect();
    others.dedup_by_key(|other| other.host);
    others
}

/// The account that a request says it is about.
fn account_named(request: &Parts, body: Body<'_>) -> Option<AccountSid> {
    let named = |form: &Form| form.first("AccountSid").and_then(|account| account.parse().ok());
    match body {
        Body::Form(form) => named(form),
        Body::None => named(&Form::parse(request.uri.query()?.as_bytes())),
        Body::Raw(_) => None,
    }
}

fn signature_of(request: &Parts) -> Option<&str> {
    request.headers.get(SIGNATURE).and_then(|value| value.to_str().ok())
}

/// Whether a body is a form; one without a type is taken for what Twilio sends.
pub fn is_form(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Every URL that Twilio may have signed for a request to this origin. Plain `http` counts only where the request did
/// come that way: a box on a bench, without TLS.
fn signed_urls<'a>(request: &'a Parts, origin: &'a Origin, upgrade: bool) -> impl Iterator<Item = UrlParts<'a>> {
    let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
    let schemes = [Some(Scheme::Https), (!origin.https).then_some(Scheme::Http)];
    let hosts = [Some(&*origin.host), origin.named.as_deref()];
    schemes.into_iter().flatten().flat_map(move |scheme| {
        let scheme = if upgrade { scheme.websocket() } else { scheme };
        hosts.into_iter().flatten().map(move |host| UrlParts { scheme, host, target })
    })
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::twilio::webhook::Form;

    const TARGET: &str = "/webhook/incoming_call";

    fn origin(https: bool, named: Option<&str>) -> Origin {
        Origin {
            host: "gw.example".into(),
            configured: true,
            named: named.map(Into::into),
            https,
            client: [192, 0, 2, 1].into(),
            peer: [192, 0, 2, 1].into(),
            trusted: false,
        }
    }

    fn admission(secondary: &str, validate_signatures: bool) -> Admission {
        Admission::new(&config::Twilio {
            auth_token: "first".into(),
            auth_token_secondary: secondary.into(),
            validate_signatures,
            ..Default::default()
        })
    }

    fn signed(signature: Option<String>) -> Parts {
        let mut request = Request::get(TARGET);
        if let Some(signature) = signature {
            request = request.header("X-Twilio-Signature", signature);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn admits(token: &str, url: &str, origin: &Origin, upgrade: bool) -> bool {
        let request = signed(Some(signature::sign(token, url, None)));
        admission("second", true).admits(&request, origin, Body::None, upgrade)
    }

    #[test]
    fn both_tokens_count_and_no_other() {
        let here = origin(true, None);
        for (token, let_in) in [("first", true), ("second", true), ("third", false), ("", false)] {
            assert_eq!(admits(token, "https://gw.example/webhook/incoming_call", &here, false), let_in, "{token:?}");
        }
        let request = signed(Some(signature::sign("", "https://gw.example/webhook/incoming_call", None)));
        assert!(!admission("", true).admits(&request, &here, Body::None, false), "an unset token signs nothing");
    }

    #[test]
    fn an_unsigned_request_comes_in_only_where_signatures_are_not_asked_for() {
        let here = origin(true, None);
        assert!(!admission("", true).admits(&signed(None), &here, Body::None, false));
        assert!(admission("", false).admits(&signed(None), &here, Body::None, false));
    }

    #[test]
    fn the_scheme_is_the_public_one_and_plain_only_for_a_plain_connection() {
        let (plain, secure) = (origin(false, None), origin(true, None));
        let admits = |url, origin, upgrade| admits("first", url, origin, upgrade);
        assert!(admits("https://gw.example/webhook/incoming_call", &plain, false), "TLS ends in front of the box");
        assert!(admits("http://gw.example/webhook/incoming_call", &plain, false));
        assert!(!admits("http://gw.example/webhook/incoming_call", &secure, false));
        assert!(admits("wss://gw.example/webhook/incoming_call", &secure, true));
        assert!(!admits("https://gw.example/webhook/incoming_call", &secure, true), "an upgrade is signed as wss");
        assert!(admits("ws://gw.example/webhook/incoming_call", &plain, true));
    }

    #[test]
    fn another_host_never_validates_but_the_named_port_does() {
        let here = origin(true, Some("gw.example:8443"));
        let admits = |url| admits("first", url, &here, false);
        assert!(admits("https://gw.example:8443/webhook/incoming_call"));
        assert!(admits("https://gw.example:443/webhook/incoming_call"));
        assert!(!admits("https://gw.example:9999/webhook/incoming_call"));
        assert!(!admits("https://other.example/webhook/incoming_call"));
    }

    #[test]
    fn a_changed_field_of_the_form_is_noticed() {
        let url = "https://gw.example/webhook/incoming_call";
        let form = Form::from_pairs([("CallSid", "CA1"), ("From", "+1")]);
        let request = signed(Some(signature::sign("first", url, Some(&form))));
        let admits = |form: &Form| admission("", true).admits(&request, &origin(true, None), Body::Form(form), false);
        assert!(admits(&form));
        assert!(!admits(&Form::from_pairs([("CallSid", "CA2"), ("From", "+1")])));
        assert!(!admits(&Form::default()));
    }

    #[test]
    fn a_form_is_told_by_its_type_whatever_follows_it() {
        let typed = |value: &'static str| {
            [(header::CONTENT_TYPE, header::HeaderValue::from_static(value))].into_iter().collect::<HeaderMap>()
        };
        assert!(is_form(&typed("application/x-www-form-urlencoded; charset=UTF-8")));
        assert!(is_form(&typed("Application/X-WWW-Form-URLencoded")));
        assert!(is_form(&HeaderMap::new()));
        assert!(!is_form(&typed("application/json")));
    }
}
