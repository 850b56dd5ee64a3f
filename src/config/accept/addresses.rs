//! Addresses, networks, host names and URLs.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ipnet::IpNet;
use url::{Host, Url};

use super::text;
use crate::{
    config::{marks, reader::Given, refusal::Refusal},
    limits::HOST_BYTES_MAX,
};

/// Where to listen. `example` is the key's own default.
pub fn address(example: &'static str) -> impl Fn(&Given) -> Result<SocketAddr, Refusal> {
    move |given| {
        let parsed = text(given).ok().and_then(|text| text.parse().ok());
        parsed.ok_or_else(|| {
            let (reason, meant) = likely_address(given, example);
            let expected =
                format!("expected an IP address and a port, written like \"{example}\" or \"{}\"", on_ipv6(example));
            let reason = reason.map_or(expected.clone(), |reason| format!("{reason}; {expected}"));
            Refusal::new(reason).perhaps(meant.map(|address| Given::Text(address.to_string())))
        })
    }
}

/// The same port on every address, in IPv6's form.
fn on_ipv6(example: &str) -> String {
    format!("[::]:{}", example.rsplit(':').next().unwrap_or_default())
}

/// What is wrong with an address, where that is more than its form, and what was probably meant.
fn likely_address(given: &Given, example: &str) -> (Option<String>, Option<SocketAddr>) {
    let written = match given {
        Given::Integer(port) => port.to_string(),
        Given::Plain(text) | Given::Text(text) => marks::plain(text),
        Given::Boolean(_) | Given::List(_) | Given::Other(_) => return (None, None),
    };
    let bare = written.split_once("://").map_or(&written[..], |(_, rest)| rest).trim_end_matches('/');
    if let Ok(address) = bare.parse() {
        return (None, Some(address));
    }
    let (name, port) = match bare.rsplit_once(':') {
        _ if bare.parse::<IpAddr>().is_ok() => (bare, ""),
        Some((name, port)) => (name, port),
        None if bare.bytes().all(|byte| byte.is_ascii_digit()) => ("", bare),
        None => (bare, ""),
    };
    if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && !(1..=65_535).contains(&number(port)) {
        return (Some(format!("{port} is no port, they go up to 65535")), None);
    }
    let port = port.parse().ok().or_else(|| example.parse::<SocketAddr>().ok().map(|example| example.port()));
    let (reason, ip): (Option<String>, Option<IpAddr>) = match name {
        "" | "*" => (None, Some(Ipv4Addr::UNSPECIFIED.into())),
        "localhost" => (None, Some(Ipv4Addr::LOCALHOST.into())),
        _ => match name.trim_matches(['[', ']']).parse() {
            Ok(ip) => (None, Some(ip)),
            Err(_) if is_authority(name) && name.bytes().any(|byte| byte.is_ascii_alphabetic()) => {
                let reason = "this is an address of the box itself, not its public name (that is public.host)";
                (Some(reason.to_owned()), Some(Ipv4Addr::UNSPECIFIED.into()))
            }
            Err(_) => (no_ipv4(name), None),
        },
    };
    (reason, ip.zip(port).map(SocketAddr::from))
}

/// A number of decimal digits; what is too large for any port is the largest there is.
fn number(digits: &str) -> u64 {
    digits.parse().unwrap_or(u64::MAX)
}

/// Why something that looks like an IPv4 address is none.
fn no_ipv4(text: &str) -> Option<String> {
    let parts: Vec<_> = text.split('.').collect();
    let digits = |part: &&str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !parts.iter().all(digits) || parts.len() < 2 {
        return None;
    }
    if parts.len() != 4 {
        return Some(format!("{text} has {} numbers, an address has four", parts.len()));
    }
    Some(format!("{text} is no address: each of its four numbers goes up to 255, without zeros in front"))
}

/// A network, or a single address.
pub fn network(given: &Given) -> Result<IpNet, Refusal> {
    let written = text(given)?;
    let parsed = written.parse::<IpNet>().ok().or_else(|| written.parse::<IpAddr>().ok().map(IpNet::from));
    parsed.map(|network| network.trunc()).ok_or_else(|| {
        let expected = "expected a network such as \"10.0.0.0/8\", or an address";
        let (reason, meant) = likely_network(&marks::plain(&written));
        let reason = reason.map_or(expected.to_owned(), |reason| format!("{reason}; {expected}"));
        Refusal::new(reason).perhaps(meant.map(|network| Given::Text(network.to_string())))
    })
}

fn likely_network(written: &str) -> (Option<String>, Option<IpNet>) {
    let (address, mask) = written.split_once('/').unwrap_or((written, ""));
    let Ok(ip) = address.parse::<IpAddr>() else {
        let wild = address.strip_suffix(".*").and_then(|rest| format!("{rest}.0/24").parse().ok());
        if wild.is_some() {
            return (None, wild);
        }
        let is_name = address.bytes().any(|byte| byte.is_ascii_alphabetic()) && !address.contains(':');
        let name = is_name.then(|| "a proxy's name is not looked up: give its address".to_owned());
        return (no_ipv4(address).or(name), None);
    };
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    if !mask.is_empty() && mask.bytes().all(|byte| byte.is_ascii_digit()) {
        return (Some(format!("/{mask} is no mask, they go up to /{longest}")), None);
    }
    let with_mask = mask.parse().ok().and_then(|mask| IpNet::with_netmask(ip, mask).ok());
    (None, with_mask.map(|network| network.trunc()))
}

/// The public name: `https://` and one final slash are dropped, for everybody pastes it so.
pub fn public_host(given: &Given) -> Result<Option<String>, Refusal> {
    let written = text(given)?;
    let scheme = "https://";
    let text = match written.get(..scheme.len()) {
        Some(start) if start.eq_ignore_ascii_case(scheme) => &written[scheme.len()..],
        _ => &written,
    };
    let text = text.strip_suffix('/').unwrap_or(text);
    if written.is_empty() {
        return Ok(None);
    }
    if is_authority(text) {
        return Ok(Some(text.to_owned()));
    }
    let expected = "expected the public name alone, written like \"gw.example.co.il\" or \"gw.example.co.il:8443\"";
    let hebrew = written.chars().any(|c| !c.is_ascii() && c.is_alphabetic());
    let reason = if hebrew {
        format!("{expected}; a name in other letters is given in its xn-- form")
    } else {
        expected.to_owned()
    };
    Err(Refusal::new(reason).perhaps(likely_host(&written).map(Given::Text)))
}

/// A `Host` name to answer to.
pub fn host_name(given: &Given) -> Result<String, Refusal> {
    let text = text(given)?;
    if is_authority(&text) {
        return Ok(text);
    }
    let reason = "expected a host name, without https:// and path";
    Err(Refusal::new(reason).perhaps(likely_host(&text).map(Given::Text)))
}

/// The name and port of a whole URL, or of what a mail made of a name. None where it has a user in it.
fn likely_host(written: &str) -> Option<String> {
    let written = marks::plain(written);
    let rest = written.split_once("://").map_or(&written[..], |(_, rest)| rest).trim_start_matches('/');
    let host = rest.split(['/', '?', '#']).next().unwrap_or_default().trim_end_matches(['.', ':']);
    is_authority(host).then(|| host.to_owned())
}

/// `name` or `name:port`, and nothing that a URL would read as something else.
fn is_authority(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-:[]".contains(&byte);
    if text.is_empty() || text.len() > HOST_BYTES_MAX || !text.bytes().all(plain) || text.ends_with([':', '.']) {
        return false;
    }
    let Ok(url) = Url::parse(&format!("https://{text}/")) else { return false };
    let Some(host) = url.host_str() else { return false };
    // `1.2.3` would become 1.2.0.3: what is served must be what was written.
    let written_host = text.get(..host.len()).is_some_and(|start| start.eq_ignore_ascii_case(host));
    written_host && matches!(text.as_bytes().get(host.len()), None | Some(b':')) && url.port() != Some(0)
}

/// Where Twilio's REST API is. Credentials go there, so plain HTTP is for this machine alone.
pub fn api_base(given: &Given) -> Result<String, Refusal> {
    let good = |url: &Url| (url.scheme() == "https" || is_loopback(url)) && url.query().is_none();
    let written = text(given)?;
    web_url(&written).filter(good).map(|url| url.as_str().trim_end_matches('/').to_owned()).ok_or_else(|| {
        let meant = likely_url(&written).filter(good).map(|url| url.as_str().trim_end_matches('/').to_owned());
        Refusal::new("expected a URL that begins with https:// (http:// only on loopback) and has no query")
            .perhaps(meant.map(Given::Text))
    })
}

/// The upstream; empty for none.
pub fn sync_url(given: &Given) -> Result<Option<Url>, Refusal> {
    let written = text(given)?;
    if written.is_empty() {
        return Ok(None);
    }
    web_url(&written).map(Some).ok_or_else(|| {
        Refusal::new("expected a URL that begins with https:// or http://; a password belongs into sync.token")
            .perhaps(likely_url(&written).map(|url| Given::Text(url.into())))
    })
}

/// The engine's address; empty for none.
pub fn speech_url(given: &Given) -> Result<String, Refusal> {
    let written = text(given)?;
    let tcp = |url: &Url| url.scheme() == "tcp" && url.host().is_some() && url.port().is_some();
    let good = written.is_empty() || web_url(&written).is_some() || Url::parse(&written).is_ok_and(|url| tcp(&url));
    if good {
        return Ok(written.trim_end_matches('/').to_owned());
    }
    Err(Refusal::new("expected a URL that begins with https://, http:// or tcp://")
        .perhaps(likely_url(&written).map(|url| Given::Text(url.as_str().trim_end_matches('/').to_owned()))))
}

/// An HTTP URL without user, password and fragment: the first two would land in logs, the last nowhere.
fn web_url(text: &str) -> Option<Url> {
    let url = Url::parse(text).ok()?;
    let plain = url.username().is_empty() && url.password().is_none() && url.fragment().is_none();
    (matches!(url.scheme(), "http" | "https") && url.has_host() && plain).then_some(url)
}

/// A URL whose scheme was left out, or is the wrong one of the two.
fn likely_url(written: &str) -> Option<Url> {
    let written = marks::plain(written);
    let rest = match written.split_once("://") {
        Some((scheme, rest)) if scheme.eq_ignore_ascii_case("http") => rest,
        Some(_) => return None,
        None => &written[..],
    };
    let authority = rest.split(['/', '?']).next().unwrap_or_default();
    let url = web_url(&format!("https://{rest}")).filter(|_| is_authority(authority))?;
    if is_loopback(&url) { web_url(&format!("http://{rest}")) } else { Some(url) }
}

/// Whether a URL stays on this machine.
fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The port that replaces the one of `public.listen`.
pub fn port(text: &str) -> Result<u16, Refusal> {
    text.parse().map_err(|_| "expected a port, a number up to 65535".into())
}
