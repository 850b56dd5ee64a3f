//! Who is let in: those who hold the account's token, shown by a signature over the public URL.

use hyper::{HeaderMap, header, http::request::Parts};
use secrecy::{ExposeSecret, SecretString};

use super::public_host::Origin;
use crate::{
    config,
    twilio::signature::{self, Body, Scheme, UrlForms},
};

const SIGNATURE: &str = "x-twilio-signature";

/// Checks signatures, or lets everybody in where the configuration says so.
#[derive(Debug)]
pub struct Admission {
    /// Those whose signatures count: the token, and the second one while tokens are rotated (empty: none). `None`:
    /// unsigned requests are let in.
    tokens: Option<[SecretString; 2]>,
}

impl Admission {
    pub fn new(twilio: &config::Twilio) -> Self {
        let tokens = [&twilio.auth_token, &twilio.auth_token_secondary];
        Self { tokens: twilio.validate_signatures.then(|| tokens.map(Clone::clone)) }
    }

    /// Whether a request is let in (docs: Security, "Validating requests"). The URL that was signed is the public one,
    /// since TLS may have ended in front of the box. `upgrade`: it opens a WebSocket, which is signed as `wss`.
    pub fn admits(&self, request: &Parts, origin: &Origin, body: Body<'_>, upgrade: bool) -> bool {
        let Some([token, second]) = &self.tokens else { return true };
        let Some(signature) = request.headers.get(SIGNATURE).and_then(|value| value.to_str().ok()) else {
            return false;
        };
        let tokens = [token.expose_secret(), second.expose_secret()];
        let target = request.uri.path_and_query().map_or("/", |target| target.as_str());
        let signed = |urls: UrlForms| signature::verify(&tokens, urls.urls(), body, signature).is_some();
        signed_urls(origin, target, upgrade).any(signed)
    }
}

/// Whether a body is a form; one without a type is taken for what Twilio sends.
pub fn is_form(headers: &HeaderMap) -> bool {
    let Some(value) = headers.get(header::CONTENT_TYPE) else { return true };
    let kind = value.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
    kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// Every URL that Twilio may have signed for a request to this origin. Plain `http` counts only where the request did
/// come that way: a box on a bench, without TLS.
fn signed_urls(origin: &Origin, target: &str, upgrade: bool) -> impl Iterator<Item = UrlForms> {
    let schemes = [Some(Scheme::Https), (!origin.https).then_some(Scheme::Http)];
    let hosts = [Some(origin.host.to_string()), origin.named_port.map(|port| format!("{}:{port}", origin.host))];
    schemes.into_iter().flatten().flat_map(move |scheme| {
        let scheme = if upgrade { scheme.websocket() } else { scheme };
        hosts.clone().into_iter().flatten().map(move |host| UrlForms::new(scheme, &host, target))
    })
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;
    use crate::twilio::webhook::Form;

    const TARGET: &str = "/webhook/incoming_call";

    fn origin(https: bool, named_port: Option<u16>) -> Origin {
        Origin { host: "gw.example".into(), named_port, https, client: [192, 0, 2, 1].into() }
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
        let here = origin(true, Some(8443));
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
