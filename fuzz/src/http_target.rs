//! What a request to either listener says of itself: the input is a request's head, as HTTP/1.1 writes it.
//!
//! The head is built with the types that hyper builds it with: what those refuse never reaches the box.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, LazyLock},
};

use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use hyper::{
    HeaderMap, Method, Uri,
    header::{self, HeaderName},
    http::request::Parts,
};
use ipnet::IpNet;
use kolbox::{
    calls::event::PromptForm,
    config,
    limits::{HOST_BYTES_MAX, REST_TWIML_CHARS_MAX},
    server::{
        admission::{self, Admission},
        documents::Documents,
        handshake,
        prompts::Prompts,
        public_host::PublicHost,
        static_file::StaticFile,
        webhooks::Webhook,
    },
    simulator::document::{Document, Verb},
    status::hosts::Hosts,
    twilio::signature::Body,
};
use url::{Host, Url};

use super::text::head;

const STRANGER: &str = "203.0.113.9";
const PROXY: &str = "10.0.0.1";
const FORWARDED_FOR: &str = "x-forwarded-for";
const CONFIGURED: &str = "gw.example.co.il";
/// Names that the status listener answers to.
const NAMES: [&str; 3] = ["status.example.co.il", "front-desk.office.lan", "front-desk"];

static PROXIES: LazyLock<IpNet> = LazyLock::new(|| "10.0.0.0/8".parse().expect("a network"));
static LEARNT: LazyLock<PublicHost> = LazyLock::new(|| PublicHost::new(None, vec![*PROXIES]));
static SET: LazyLock<PublicHost> = LazyLock::new(|| PublicHost::new(Some(CONFIGURED), vec![*PROXIES]));
static HOSTS: LazyLock<Hosts> = LazyLock::new(|| Hosts::new([NAMES[0]], NAMES[1]));
static ADMISSION: LazyLock<Admission> = LazyLock::new(|| {
    let auth_token = "a token that no input can know".into();
    Admission::new(&config::Twilio { auth_token, ..config::Twilio::default() })
});
static DOCUMENTS: LazyLock<Documents> = LazyLock::new(|| {
    let calls = config::Calls::default();
    let prompts = Prompts::load(&calls).expect("the built-in prompts");
    Documents::new(Arc::new(prompts), &calls, &config::Fallback::default())
});

pub fn run(data: &[u8]) {
    let Some(parts) = head(data) else { return };
    check_origin(&parts);
    check_status_hosts(&parts);
    check_handshake(&parts);
    check_static_file(&parts);
    let webhook = Webhook::at(parts.uri.path());
    assert!(webhook.is_none() || parts.uri.path().starts_with("/webhook/"));
    admission::is_form(&parts.headers);
}

/// A stranger's forwarding headers change nothing, a configured host stands, and a learnt one is sound.
fn check_origin(parts: &Parts) {
    let (stranger, proxy): (IpAddr, IpAddr) = (STRANGER.parse().expect("an address"), PROXY.parse().expect("one too"));
    let mut plain = parts.headers.clone();
    for name in [FORWARDED_FOR, "x-forwarded-host", "x-forwarded-proto"] {
        plain.remove(name);
    }
    let told = LEARNT.origin(stranger, true, &parts.uri, &parts.headers);
    assert_eq!(told, LEARNT.origin(stranger, true, &parts.uri, &plain));
    if let Ok(origin) = &told {
        assert!(origin.https && origin.client == stranger);
        check_sound(&origin.host);
        check_admission(parts, &origin.host);
    }
    if let Ok(origin) = LEARNT.origin(proxy, false, &parts.uri, &parts.headers) {
        check_sound(&origin.host);
        let hops = parts.headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok());
        let mut hops = hops.flat_map(|line| line.split(',')).filter_map(|hop| written_address(hop.trim()));
        assert!(origin.client == proxy || hops.any(|hop| hop.to_canonical() == origin.client));
    }
    for peer in [stranger, proxy] {
        let Ok(origin) = SET.origin(peer, false, &parts.uri, &parts.headers) else { continue };
        assert_eq!(&*origin.host, CONFIGURED);
        if peer == stranger
            && let Some(named) = &origin.named
        {
            assert_eq!(Some(&**named), own_host(&parts.uri, &parts.headers));
            let name = named.split(':').next().unwrap_or_default();
            let name = name.strip_suffix('.').unwrap_or(name);
            assert!(name.eq_ignore_ascii_case(CONFIGURED), "{named} is another host");
        }
    }
}

/// An address alone, in brackets, or with a port.
fn written_address(hop: &str) -> Option<IpAddr> {
    let with_port = || hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    hop.trim_matches(['[', ']']).parse().ok().or_else(with_port)
}

fn own_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Option<&'a str> {
    let header = || headers.get(header::HOST)?.to_str().ok();
    uri.authority().map_or_else(header, |authority| Some(authority.as_str()))
}

/// A host that URLs can be built on: it stays what it is in a URL and in a document.
fn check_sound(host: &str) {
    assert!((1..=HOST_BYTES_MAX).contains(&host.len()));
    let url = Uri::try_from(format!("https://{host}/x?y")).expect("a URL");
    assert_eq!((url.authority().map(|it| it.as_str()), url.path(), url.query()), (Some(host), "/x", Some("y")));
    let document = DOCUMENTS.redirect(PromptForm::Play, host);
    assert!(document.chars().count() <= REST_TWIML_CHARS_MAX);
    let document = Document::parse(&document).expect("a document");
    let begin = format!("https://{host}/");
    for verb in document.verbs {
        match verb {
            Verb::Play { url, .. } => assert!(url.starts_with(&begin), "{url}"),
            Verb::Record(record) => assert!(record.action.is_some_and(|action| action.starts_with(&begin))),
            _ => {}
        }
    }
}

/// Nobody without the token comes in, whatever the request says.
fn check_admission(parts: &Parts, host: &str) {
    if parts.headers.contains_key("x-twilio-signature") {
        let mut origin = LEARNT
            .origin(STRANGER.parse().expect("an address"), true, &parts.uri, &parts.headers)
            .expect("it was one before");
        assert_eq!(&*origin.host, host);
        for upgrade in [false, true] {
            origin.https = upgrade;
            assert!(!ADMISSION.admits(parts, &origin, Body::None, upgrade));
        }
    }
}

/// A name that a browser takes for one that is not ours is not answered, however it is spelt.
fn check_status_hosts(parts: &Parts) {
    let values = parts.headers.values().filter_map(|value| value.to_str().ok());
    for written in values.chain(parts.uri.authority().map(|authority| authority.as_str())) {
        let Ok(url) = Url::parse(&format!("http://{written}/")) else { continue };
        let (Some(host), Some(shown)) = (url.host(), url.host_str()) else { continue };
        let is_ours = match host {
            Host::Ipv4(_) | Host::Ipv6(_) => true,
            Host::Domain(name) => {
                let name = name.strip_suffix('.').unwrap_or(name);
                let is_local = name.strip_suffix(".local").is_some_and(|label| !label.is_empty());
                is_local || name == "localhost" || NAMES.contains(&name)
            }
        };
        assert!(is_ours || !HOSTS.allow(written), "{written:?} is allowed, and means {shown}");
        // What a browser makes of it is what it sends.
        let is_plain = shown.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_[]:".contains(&byte));
        assert!(!is_plain || HOSTS.allow(shown) == is_ours, "{shown}");
        assert!(!is_plain || HOSTS.allow(&format!("{shown}:8080")) == is_ours, "{shown}:8080");
    }
}

fn check_handshake(parts: &Parts) {
    match handshake::accept(parts) {
        Ok(response) => {
            assert_eq!((response.status().as_u16(), &parts.method), (101, &Method::GET));
            assert_eq!(response.headers()[header::SEC_WEBSOCKET_ACCEPT].len(), 28);
            assert_eq!(parts.headers[header::SEC_WEBSOCKET_VERSION], "13");
        }
        Err(refused) => assert!(matches!(refused.response().status().as_u16(), 400 | 426)),
    }
}

/// Whatever is asked of a file, what comes is a piece of it, rightly described.
fn check_static_file(parts: &Parts) {
    let bytes = Bytes::from_static(b"0123456789");
    let file = StaticFile { bytes: &bytes, content_type: "audio/mpeg", etag: "\"v1\"", cache_control: "public" };
    let response = file.respond(&parts.method, &parts.headers);
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let told = |name: HeaderName| headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let body = response.into_body().collect().now_or_never().expect("at hand").expect("no error").to_bytes();
    let length = told(header::CONTENT_LENGTH);
    match status {
        200 => assert_eq!((&body, length.as_deref()), (&bytes, Some("10"))),
        206 => {
            assert_eq!(length, Some(body.len().to_string()));
            let range = told(header::CONTENT_RANGE).unwrap_or_default();
            let (range, whole) = range.strip_prefix("bytes ").and_then(|it| it.split_once('/')).expect("a range");
            let (first, last) = range.split_once('-').expect("from, to");
            let (first, last): (usize, usize) = (first.parse().expect("from"), last.parse().expect("to"));
            assert!(whole == "10" && body == bytes[first..=last] && parts.method == Method::GET);
        }
        304 => assert!(body.is_empty() && parts.headers.contains_key(header::IF_NONE_MATCH)),
        416 => assert!(body.is_empty() && told(header::CONTENT_RANGE).as_deref() == Some("bytes */10")),
        _ => panic!("{status} for a file"),
    }
}
