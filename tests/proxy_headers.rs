//! The real program behind proxies that are trusted, proxies that are not, and strangers who pretend to be one: which host
//! counts, and what the log says when a signature was made for another one.

use std::net::{Ipv6Addr, SocketAddr, TcpListener};

use bytes::Bytes;
use hyper::Request;
use kolbox::{
    system::http_client::{HttpClient, Reply, Roots},
    twilio::signature,
};
use process::{ACCOUNT_SID, AUTH_TOKEN, Office, Serve};
use tokio::runtime::Runtime;

#[path = "support/process.rs"]
mod process;

const PATH: &str = "/webhook/incoming_call";
const PLAIN: (&str, &str) = ("KOLBOX_PUBLIC__TLS__MODE", "off");
const TRUSTS_LOOPBACK: (&str, &str) = ("KOLBOX_PUBLIC__TRUSTED_PROXIES", "127.0.0.0/8,::1/128");
const TRUSTS_OTHERS: (&str, &str) = ("KOLBOX_PUBLIC__TRUSTED_PROXIES", "10.0.0.0/8");

/// A gateway that ends no TLS, and somebody who asks it.
struct Front {
    _office: Office,
    serve: Serve,
    address: SocketAddr,
    client: HttpClient,
    runtime: Runtime,
}

impl Front {
    fn new(settings: &[(&str, &str)]) -> Self {
        let office = Office::new(&[&[PLAIN], settings].concat());
        let address = office.public;
        Self::of(office, address)
    }

    fn of(office: Office, address: SocketAddr) -> Self {
        let serve = office.serve();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let client = HttpClient::new(&Roots::Insecure, process::PATIENCE).unwrap();
        Self { _office: office, serve, address, client, runtime }
    }

    fn send(&self, request: Request<Bytes>) -> Reply {
        self.runtime.block_on(self.client.send(request, process::PATIENCE, 1 << 20)).unwrap()
    }

    /// Asks what to do with a call, with a signature for `signed` and [`PATH`].
    fn ask(&self, signed: &str, headers: &[(&str, &str)]) -> Reply {
        let form = kolbox::twilio::webhook::Form::from_pairs([
            ("CallSid", "CA00000000000000000000000000000001"),
            ("AccountSid", ACCOUNT_SID),
            ("CallStatus", "ringing"),
            ("From", "+972541112233"),
        ]);
        let signature = signature::sign(AUTH_TOKEN, &format!("{signed}{PATH}"), Some(&form));
        let mut request = Request::post(format!("http://{}{PATH}", self.address))
            .header("Content-Type", "application/x-www-form-urlencoded")
            .header("X-Twilio-Signature", signature);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Bytes::from(form.encode())).unwrap())
    }

    /// The host in the document that is answered; `Err`: another status than 200.
    fn host(&self, signed: &str, headers: &[(&str, &str)]) -> Result<String, u16> {
        let reply = self.ask(signed, headers);
        if reply.status != 200 {
            return Err(reply.status);
        }
        let document = String::from_utf8(reply.body.to_vec()).unwrap();
        let (_, rest) = document.split_once("wss://").expect("a stream's address");
        Ok(rest.split('/').next().unwrap().to_owned())
    }
}

fn named(host: &str) -> Result<String, u16> {
    Ok(host.to_owned())
}

#[test]
fn a_trusted_proxy_names_host_and_scheme_however_they_are_spelt() {
    let front = Front::new(&[TRUSTS_LOOPBACK]);
    for (headers, signed, host) in [
        (&[("X-Forwarded-Host", "gw.example")][..], "https://gw.example", named("gw.example")),
        // Of several proxies the first is the one nearest to Twilio.
        (&[("X-Forwarded-Host", "gw.example, inner.example")], "https://gw.example", named("gw.example")),
        (&[("X-Forwarded-Host", "GW.Example.:8443")], "https://GW.Example.:8443", named("gw.example:8443")),
        (&[("X-Forwarded-Host", "GW.Example.:8443")], "https://gw.example", named("gw.example:8443")),
        (&[("X-Forwarded-Host", "[2001:DB8::1]:8443")], "https://[2001:db8::1]", named("[2001:db8::1]:8443")),
        (&[("Host", "GW.Example")], "https://GW.Example", named("gw.example")),
        (
            &[("X-Forwarded-Host", "gw.example"), ("X-Forwarded-Proto", "http")],
            "http://gw.example",
            named("gw.example"),
        ),
        (&[("X-Forwarded-Host", "gw.example"), ("X-Forwarded-Proto", "https")], "http://gw.example", Err(403)),
        (&[("X-Forwarded-Host", "gw.example"), ("X-Forwarded-Proto", "WSS, http")], "http://gw.example", Err(403)),
        (&[("X-Forwarded-Host", "user@gw.example")], "https://gw.example", Err(400)),
        // RFC 7239's header is not read.
        (&[("Forwarded", "host=gw.example;proto=https")], "https://gw.example", Err(403)),
    ] {
        assert_eq!(front.host(signed, headers), host, "{headers:?} {signed}");
    }
    let handshake = Request::get(format!("http://{}/ws/twilio-media", front.address))
        .header("X-Forwarded-Host", "gw.example")
        .header("Connection", "Upgrade")
        .header("Upgrade", "websocket")
        .header("Sec-WebSocket-Version", "13")
        .header("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ==")
        .header("X-Twilio-Signature", signature::sign(AUTH_TOKEN, "wss://gw.example/ws/twilio-media", None));
    assert_eq!(front.send(handshake.body(Bytes::new()).unwrap()).status, 101);
}

#[test]
fn nobody_else_names_anything_and_the_log_says_why_and_what_to_do() {
    let front = Front::new(&[TRUSTS_OTHERS]);
    let own = front.address.to_string();
    let forwarded =
        [("X-Forwarded-Host", "gw.example"), ("X-Forwarded-Proto", "https"), ("X-Forwarded-For", "8.8.8.8")];
    assert_eq!(front.host(&format!("https://{own}"), &forwarded), named(&own), "its own host counts");
    assert_eq!(front.host("https://gw.example", &forwarded), Err(403));

    let line = front.serve.wait_for("an explanation", |line| line["reason"] == "host");
    assert_eq!(line["level"], "WARN");
    assert_eq!((&line["path"], &line["method"]), (&PATH.into(), &"POST".into()));
    for (field, part) in [
        ("cause", "it was signed for https://gw.example/webhook/incoming_call"),
        ("cause", "X-Forwarded-Host"),
        ("change", "put 127.0.0.1, where the request came from, into public.trusted_proxies, or set public.host"),
        ("tried", &format!("https://{own}{PATH} (as given)")),
        ("tried", "(without the port)"),
        ("host", &own),
        ("forwarded_host", "gw.example"),
        ("forwarded_proto", "https"),
        ("forwarded_for", "8.8.8.8"),
        ("forwarding", "not believed"),
        ("public_host", "not set"),
        ("peer", "127.0.0.1"),
    ] {
        assert!(line[field].as_str().is_some_and(|text| text.contains(part)), "{field} without {part}: {line:#}");
    }
}

#[test]
fn with_a_configured_host_no_other_one_validates_and_its_spelling_does_not_matter() {
    let front = Front::new(&[TRUSTS_LOOPBACK, ("PUBLIC_HOST", "GW.example.co.il")]);
    let configured = named("GW.example.co.il");
    for (headers, signed, host) in [
        (&[("X-Forwarded-Host", "other.example")][..], "https://other.example", Err(403)),
        (&[("Host", "other.example")], "https://other.example", Err(403)),
        (&[("Host", "other.example:8443")], "https://gw.example.co.il:8443", Err(403)),
        (&[("Host", "gw.example.co.il.evil.example")], "https://gw.example.co.il.evil.example", Err(403)),
        (&[("Host", "other.example")], "https://GW.example.co.il", configured.clone()),
        (&[("Host", "other.example")], "https://gw.example.co.il", configured.clone()),
        (&[("Host", "other.example")], "https://gw.example.co.il:443", configured.clone()),
        (&[("Host", "gw.example.co.il:8443")], "https://gw.example.co.il:8443", configured.clone()),
        (&[("X-Forwarded-Host", "gw.example.co.il.")], "https://gw.example.co.il.", configured.clone()),
    ] {
        assert_eq!(front.host(signed, headers), host, "{headers:?} {signed}");
    }
    let line = front.serve.wait_for("an explanation", |line| line["reason"] == "host");
    assert!(line["change"].as_str().unwrap().contains("set public.host"), "{line:#}");
    assert_eq!(line["public_host"], "GW.example.co.il");
    assert!(line["forwarding"].as_str().unwrap().starts_with("believed"), "{line:#}");
}

#[test]
fn proxies_on_ipv6_are_known_by_their_address_also_where_ipv4_comes_mapped() {
    if TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
        return process::skipped("proxy: there is no IPv6 here");
    }
    let forwarded = [("X-Forwarded-Host", "gw.example")];
    for (listen, asked) in [("[::]", "127.0.0.1"), ("[::1]", "[::1]")] {
        let port = process::free_address().port();
        let office = Office::new(&[PLAIN, TRUSTS_LOOPBACK, ("KOLBOX_PUBLIC__LISTEN", &format!("{listen}:{port}"))]);
        let front = Front::of(office, format!("{asked}:{port}").parse().unwrap());
        assert_eq!(front.host("https://gw.example", &forwarded), named("gw.example"), "{listen}");
    }
}

#[test]
fn a_proxy_that_does_not_pass_the_upgrade_on_is_told() {
    let front = Front::new(&[("PUBLIC_HOST", "gw.example")]);
    let request = Request::get(format!("http://{}/ws/twilio-media", front.address))
        .header("X-Twilio-Signature", signature::sign(AUTH_TOKEN, "wss://gw.example/ws/twilio-media", None));
    assert_eq!(front.send(request.body(Bytes::new()).unwrap()).status, 426);
    let line = front.serve.wait_for("an explanation", |line| line["reason"] == "upgrade");
    assert!(line["cause"].as_str().unwrap().contains("does not pass Upgrade"), "{line:#}");
}
