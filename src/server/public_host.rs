//! Which host stands in the box's public URLs, and who really asks when a trusted proxy stands in between.
//!
//! Believed of a trusted proxy are `X-Forwarded-Host`, `X-Forwarded-Proto` (of several values the first, which the proxy
//! nearest to Twilio gave) and `X-Forwarded-For` (from the right, up to the first address that is no trusted proxy).
//! `Forwarded` (RFC 7239) is not read, nor is `X-Forwarded-Port`: a port is part of the host.

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
};

use hyper::{
    HeaderMap, Uri,
    header::{FORWARDED, HOST, HeaderName},
    http::uri::Authority,
};
use ipnet::IpNet;

use crate::limits::HOST_BYTES_MAX;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");

/// Where a request was sent to, and by whom, as far as can be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The host that public URLs and signatures are built on: the configured one, else the request's own in lower case and
    /// without a final dot.
    pub host: Arc<str>,
    /// Whether `host` is the configured one.
    pub configured: bool,
    /// The same host as the request itself spells it: in other case, with a final dot, or with a port that `host` lacks.
    /// Twilio may have signed it so.
    pub named: Option<Arc<str>>,
    /// Whether it came over TLS, up to us or up to a trusted proxy.
    pub https: bool,
    /// The first address on the way that no trusted proxy has.
    pub client: IpAddr,
    /// The other end of the connection, and whether it is a trusted proxy.
    pub peer: IpAddr,
    pub trusted: bool,
}

/// What a request's headers say about where it was sent to, believed or not: for the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claims<'a> {
    pub host: Option<&'a str>,
    pub forwarded_host: Option<&'a str>,
    pub forwarded_proto: Option<&'a str>,
    pub forwarded_for: Option<&'a str>,
    /// `X-Forwarded-Prefix`: what a proxy took from the front of the path. Never believed; it explains a wrong signature.
    pub forwarded_prefix: Option<&'a str>,
    /// There is a `Forwarded`, which is not read.
    pub forwarded: bool,
}

impl<'a> Claims<'a> {
    /// Those of these headers; what is not text is left out.
    pub fn of(headers: &'a HeaderMap) -> Self {
        let text = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
        Self {
            host: text(&HOST),
            forwarded_host: text(&FORWARDED_HOST),
            forwarded_proto: text(&FORWARDED_PROTO),
            forwarded_for: text(&FORWARDED_FOR),
            forwarded_prefix: text(&FORWARDED_PREFIX),
            forwarded: headers.contains_key(FORWARDED),
        }
    }

    /// Whether a proxy seems to have spoken.
    pub fn forwards(&self) -> bool {
        self.forwarded_host.or(self.forwarded_proto).or(self.forwarded_for).is_some()
    }
}

/// Why a request names no usable host: 400 (RFC 9112 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostError {
    Missing,
    Repeated,
    Malformed,
}

/// The box's public name: set by configuration, else learnt from requests whose signature was valid.
#[derive(Debug)]
pub struct PublicHost {
    configured: Option<Arc<str>>,
    trusted_proxies: Vec<IpNet>,
    validated: Mutex<Option<Arc<str>>>,
}

impl PublicHost {
    /// `configured` is `name` or `name:port`.
    pub fn new(configured: Option<&str>, trusted_proxies: Vec<IpNet>) -> Self {
        Self { configured: configured.map(Arc::from), trusted_proxies, validated: Mutex::new(None) }
    }

    /// The host for URLs that are made without a request at hand (redirects by REST): the configured one, else that
    /// of the last validated request; `None` before the first.
    pub fn known(&self) -> Option<Arc<str>> {
        self.configured.clone().or_else(|| self.validated.lock().unwrap_or_else(PoisonError::into_inner).clone())
    }

    /// The run before was reached under this host.
    pub fn note_known(&self, host: &str) {
        if let Ok(host) = checked(host) {
            self.validated.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| host.into());
        }
    }

    /// A request with this origin proved that it comes from Twilio.
    pub fn note_validated(&self, origin: &Origin) {
        if self.configured.is_none() {
            *self.validated.lock().unwrap_or_else(PoisonError::into_inner) = Some(origin.host.clone());
        }
    }

    /// What a request's connection and headers say about its origin. Forwarding headers count only when the
    /// connection comes from a trusted proxy.
    pub fn origin(&self, peer: IpAddr, tls: bool, uri: &Uri, headers: &HeaderMap) -> Result<Origin, HostError> {
        let named = own_host(uri, headers)?;
        let peer = peer.to_canonical();
        if !self.trusts(peer) {
            return Ok(self.origin_of(named, tls, peer, peer));
        }
        let named = match first_element(headers, &FORWARDED_HOST) {
            Some(host) => checked(host)?,
            None => named,
        };
        let https = match first_element(headers, &FORWARDED_PROTO) {
            Some(scheme) => scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss"),
            None => tls,
        };
        Ok(Origin { trusted: true, ..self.origin_of(named, https, self.client(peer, headers), peer) })
    }

    fn origin_of(&self, named: &str, https: bool, client: IpAddr, peer: IpAddr) -> Origin {
        let configured = self.configured.is_some();
        let host = self.configured.clone().unwrap_or_else(|| plain(named).into());
        let named = (*host != *named && spells(named, &host)).then(|| named.into());
        Origin { host, configured, named, https, client, peer, trusted: false }
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted_proxies.iter().any(|net| net.contains(&address))
    }

    /// Each proxy appends who it heard: from the right, the first address that is none of ours. What stands further
    /// left could be anybody's invention.
    fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer;
        let hops: Vec<&str> = headers.get_all(FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
        for hop in hops.iter().rev().flat_map(|line| line.rsplit(',')) {
            let Some(address) = address_in(hop.trim()) else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

/// The host that a request was sent to: of its absolute form, else of its one `Host` header (RFC 9112 §3.2.2).
fn own_host<'a>(uri: &'a Uri, headers: &'a HeaderMap) -> Result<&'a str, HostError> {
    let mut hosts = headers.get_all(HOST).iter();
    let header = match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => return Err(HostError::Repeated),
        (first, _) => first,
    };
    if let Some(authority) = uri.authority() {
        return checked(authority.as_str());
    }
    checked(header.ok_or(HostError::Missing)?.to_str().map_err(|_| HostError::Malformed)?)
}

/// A host is a name or address with an optional port: nothing that would change its meaning inside a URL.
fn checked(host: &str) -> Result<&str, HostError> {
    if host.len() > HOST_BYTES_MAX || host.contains('@') {
        return Err(HostError::Malformed);
    }
    let authority: Authority = host.parse().map_err(|_| HostError::Malformed)?;
    let port_is_sound = authority.as_str().len() == authority.host().len() || authority.port_u16().is_some();
    // The dot alone is the root of all names.
    if matches!(authority.host(), "" | ".") || !port_is_sound { Err(HostError::Malformed) } else { Ok(host) }
}

/// A host in lower case, and without the dot that a name in full form ends with.
fn plain(host: &str) -> String {
    let (name, port) = split_port(host);
    format!("{}{port}", name.strip_suffix('.').unwrap_or(name)).to_ascii_lowercase()
}

/// Whether both name the same host: case and a final dot mean nothing, and a port is allowed where `host` has none.
fn spells(named: &str, host: &str) -> bool {
    let (named, host) = (plain(named), plain(host));
    named == host || split_port(&named).0 == host
}

/// The name, and the port with its colon.
fn split_port(host: &str) -> (&str, &str) {
    match host.rfind(':') {
        // The last colon of `[::1]` is inside the brackets.
        Some(colon) if !host.ends_with(']') => host.split_at(colon),
        _ => (host, ""),
    }
}

/// An address as proxies write it: `192.0.2.1`, `192.0.2.1:50000`, `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:50000`.
fn address_in(hop: &str) -> Option<IpAddr> {
    let bare = hop.strip_prefix('[').and_then(|hop| hop.strip_suffix(']')).unwrap_or(hop);
    bare.parse().ok().or_else(|| hop.parse().ok().map(|address: SocketAddr| address.ip()))
}

fn first_element<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let first = headers.get(name)?.to_str().ok()?.split(',').next()?.trim();
    (!first.is_empty()).then_some(first)
}

impl fmt::Display for HostError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Missing => "no Host",
            Self::Repeated => "more than one Host",
            Self::Malformed => "Host is no name or address",
        })
    }
}

impl std::error::Error for HostError {}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;

    use super::*;

    const STRANGER: &str = "203.0.113.9";
    const PROXY: &str = "10.0.0.1";

    fn host(configured: Option<&str>) -> PublicHost {
        PublicHost::new(configured, vec!["10.0.0.0/8".parse().unwrap()])
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_static(value));
        }
        headers
    }

    fn origin(host: &PublicHost, peer: &str, pairs: &[(&'static str, &'static str)]) -> Result<Origin, HostError> {
        host.origin(peer.parse().unwrap(), false, &Uri::from_static("/webhook/incoming_call"), &headers(pairs))
    }

    #[test]
    fn forwarding_headers_of_a_stranger_change_nothing() {
        let told = [
            ("host", "gw.example:8443"),
            ("x-forwarded-host", "evil.example"),
            ("x-forwarded-proto", "https"),
            ("x-forwarded-for", "198.51.100.1"),
        ];
        let found = origin(&host(None), STRANGER, &told).unwrap();
        assert_eq!(&*found.host, "gw.example:8443");
        assert_eq!((found.https, found.client), (false, STRANGER.parse().unwrap()));
    }

    #[test]
    fn a_trusted_proxy_says_host_scheme_and_client() {
        let told = [
            ("host", "127.0.0.1:8443"),
            ("x-forwarded-host", "gw.example, inner.example"),
            ("x-forwarded-proto", "https, http"),
            ("x-forwarded-for", "6.6.6.6, 198.51.100.1"),
            ("x-forwarded-for", "10.1.2.3"),
        ];
        for peer in [PROXY, "::ffff:10.0.0.1"] {
            let found = origin(&host(None), peer, &told).unwrap();
            assert_eq!((&*found.host, found.https), ("gw.example", true));
            assert_eq!(found.client, "198.51.100.1".parse::<IpAddr>().unwrap());
        }
        let silent = origin(&host(None), PROXY, &[("host", "gw.example")]).unwrap();
        assert_eq!((&*silent.host, silent.https, silent.client), ("gw.example", false, PROXY.parse().unwrap()));
    }

    #[test]
    fn the_configured_host_stands_whatever_the_request_says() {
        let host = host(Some("gw.example.co.il"));
        let found = origin(&host, STRANGER, &[("host", "other.example")]).unwrap();
        assert_eq!(&*found.host, "gw.example.co.il");
        assert_eq!(host.known().as_deref(), Some("gw.example.co.il"));
    }

    #[test]
    fn a_port_is_taken_from_a_request_to_the_configured_host_only() {
        let host = host(Some("gw.example.co.il"));
        let named = |host: &PublicHost, named| origin(host, STRANGER, &[("host", named)]).unwrap().named;
        for spelling in ["GW.example.co.il:8443", "gw.example.co.il.", "Gw.Example.Co.Il"] {
            assert_eq!(named(&host, spelling).as_deref(), Some(spelling));
        }
        for other in
            ["gw.example.co.il", "other.example:8443", "gw.example.co.il.evil.example", "evil-gw.example.co.il"]
        {
            assert_eq!(named(&host, other), None, "{other}");
        }
        let with_port = PublicHost::new(Some("gw.example.co.il:8443"), Vec::new());
        assert_eq!(named(&with_port, "gw.example.co.il:9"), None);
        assert_eq!(named(&with_port, "gw.example.co.il"), None);
        assert_eq!(named(&with_port, "GW.example.co.il:8443").as_deref(), Some("GW.example.co.il:8443"));
        let address = PublicHost::new(Some("[::1]"), Vec::new());
        assert_eq!(named(&address, "[::1]:8443").as_deref(), Some("[::1]:8443"));
        assert_eq!(named(&address, "[::2]:8443"), None);
    }

    #[test]
    fn the_requests_own_host_stands_in_lower_case_and_without_a_final_dot() {
        let host = host(None);
        for (asked, stands) in
            [("GW.Example.:8443", "gw.example:8443"), ("gw.example.", "gw.example"), ("[2001:DB8::1]", "[2001:db8::1]")]
        {
            let found = origin(&host, STRANGER, &[("host", asked)]).unwrap();
            assert_eq!((&*found.host, found.named.as_deref()), (stands, Some(asked)), "as it may have been signed");
        }
        assert_eq!(origin(&host, STRANGER, &[("host", "[::1]:8443")]).unwrap().named, None);
    }

    #[test]
    fn behind_several_proxies_the_client_is_the_rightmost_address_that_none_of_them_has() {
        let host = host(None);
        let client = |forwarded: &'static str| {
            origin(&host, PROXY, &[("host", "gw.example"), ("x-forwarded-for", forwarded)]).unwrap().client.to_string()
        };
        assert_eq!(client("198.51.100.1"), "198.51.100.1");
        assert_eq!(client("6.6.6.6, 198.51.100.1, 10.1.2.3, 10.9.9.9"), "198.51.100.1");
        assert_eq!(client("198.51.100.1:50000, 10.1.2.3:50000"), "198.51.100.1");
        assert_eq!(client("[2001:db8::1]:50000"), "2001:db8::1");
        assert_eq!(client("[2001:db8::1], ::ffff:10.1.2.3"), "2001:db8::1");
        assert_eq!(client("10.1.2.3, 10.1.2.4"), "10.1.2.3", "nobody but proxies");
        assert_eq!(client("198.51.100.1, unknown"), PROXY, "who cannot be read hides all who stand further left");
        assert_eq!(client(""), PROXY);
    }

    #[test]
    fn forwarded_of_rfc_7239_is_not_read_and_what_was_claimed_can_be_told() {
        let told = [("host", "127.0.0.1:8443"), ("forwarded", "host=gw.example;proto=https;for=198.51.100.1")];
        let found = origin(&host(None), PROXY, &told).unwrap();
        assert_eq!((&*found.host, found.https, found.client), ("127.0.0.1:8443", false, PROXY.parse().unwrap()));
        let told = headers(&told);
        let claims = Claims::of(&told);
        assert!(claims.forwarded && !claims.forwards() && claims.host == Some("127.0.0.1:8443"), "{claims:?}");
        assert!(Claims::of(&headers(&[("x-forwarded-for", "x")])).forwards());
    }

    #[test]
    fn without_a_configured_host_the_last_validated_one_is_known() {
        let host = host(None);
        let first = origin(&host, STRANGER, &[("host", "one.example")]).unwrap();
        assert_eq!(host.known(), None, "nothing is learnt from a request that proved nothing");
        host.note_validated(&first);
        host.note_validated(&origin(&host, STRANGER, &[("host", "two.example:8443")]).unwrap());
        assert_eq!(host.known().as_deref(), Some("two.example:8443"));
    }

    #[test]
    fn what_the_run_before_was_reached_under_is_known_until_a_request_says_otherwise() {
        let fresh = host(None);
        fresh.note_known("bad host");
        assert_eq!(fresh.known(), None);
        fresh.note_known("gw.example");
        assert_eq!(fresh.known().as_deref(), Some("gw.example"));
        fresh.note_validated(&origin(&fresh, STRANGER, &[("host", "new.example")]).unwrap());
        fresh.note_known("gw.example");
        assert_eq!(fresh.known().as_deref(), Some("new.example"));
        let configured = host(Some("set.example"));
        configured.note_known("gw.example");
        assert_eq!(configured.known().as_deref(), Some("set.example"));
    }

    #[test]
    fn a_request_names_one_sound_host() {
        let host = host(None);
        assert_eq!(origin(&host, STRANGER, &[]), Err(HostError::Missing));
        assert_eq!(origin(&host, STRANGER, &[("host", "a.example"), ("host", "b.example")]), Err(HostError::Repeated));
        for bad in [
            "",
            ".",
            ".:443",
            "user@gw.example",
            "gw.example/path",
            "gw example",
            "gw.example:port",
            "gw.example:",
            ":443",
        ] {
            assert_eq!(origin(&host, STRANGER, &[("host", bad)]), Err(HostError::Malformed), "{bad:?}");
        }
        for good in
            ["gw.example", "GW.example:8443", "127.0.0.1:1", "[::1]:8443", "[::1]", "xn--4dbcagdahymbxekheh6e0a7fei0b"]
        {
            assert!(origin(&host, STRANGER, &[("host", good)]).is_ok(), "{good:?}");
        }
        let absolute = Uri::from_static("http://gw.example:8443/healthz");
        let found = host.origin(STRANGER.parse().unwrap(), true, &absolute, &headers(&[("host", "x")])).unwrap();
        assert_eq!(&*found.host, "gw.example:8443");
    }
}
