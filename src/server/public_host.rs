//! Which host stands in the box's public URLs, and who really asks when a trusted proxy stands in between.

use std::{
    fmt,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};

use hyper::{
    HeaderMap, Uri,
    header::{HOST, HeaderName},
    http::uri::Authority,
};
use ipnet::IpNet;

use crate::limits::HOST_BYTES_MAX;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Where a request was sent to, and by whom, as far as can be believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The host that public URLs and signatures are built on: the configured one, else the request's own.
    pub host: Arc<str>,
    /// The port that the request itself named, where it named this very host and `host` has no port: Twilio may have
    /// signed a URL with it.
    pub named_port: Option<u16>,
    /// Whether it came over TLS, up to us or up to a trusted proxy.
    pub https: bool,
    /// The first address on the way that no trusted proxy has.
    pub client: IpAddr,
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
            return Ok(self.origin_of(named, tls, peer));
        }
        let named = match first_element(headers, &FORWARDED_HOST) {
            Some(host) => checked(host)?,
            None => named,
        };
        let https = match first_element(headers, &FORWARDED_PROTO) {
            Some(scheme) => scheme.eq_ignore_ascii_case("https") || scheme.eq_ignore_ascii_case("wss"),
            None => tls,
        };
        Ok(self.origin_of(named, https, self.client(peer, headers)))
    }

    fn origin_of(&self, named: &str, https: bool, client: IpAddr) -> Origin {
        let host = self.configured.clone().unwrap_or_else(|| named.into());
        let named_port = named.rsplit_once(':').filter(|(name, _)| name.eq_ignore_ascii_case(&host));
        Origin { host, named_port: named_port.and_then(|(_, port)| port.parse().ok()), https, client }
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
            let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
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
    if authority.host().is_empty() || !port_is_sound { Err(HostError::Malformed) } else { Ok(host) }
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
        let port = |named| origin(&host, STRANGER, &[("host", named)]).unwrap().named_port;
        assert_eq!(port("GW.example.co.il:8443"), Some(8443));
        assert_eq!((port("gw.example.co.il"), port("other.example:8443")), (None, None));
        let with_port = PublicHost::new(Some("gw.example.co.il:8443"), Vec::new());
        assert_eq!(origin(&with_port, STRANGER, &[("host", "gw.example.co.il:9")]).unwrap().named_port, None);
        let learnt = PublicHost::new(None, Vec::new());
        assert_eq!(origin(&learnt, STRANGER, &[("host", "[::1]:8443")]).unwrap().named_port, None);
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
    fn a_request_names_one_sound_host() {
        let host = host(None);
        assert_eq!(origin(&host, STRANGER, &[]), Err(HostError::Missing));
        assert_eq!(origin(&host, STRANGER, &[("host", "a.example"), ("host", "b.example")]), Err(HostError::Repeated));
        for bad in ["", "user@gw.example", "gw.example/path", "gw example", "gw.example:port", "gw.example:", ":443"] {
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
