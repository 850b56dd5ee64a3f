//! What will keep calls from coming through, or strangers from being kept out: told at the start, for nothing of it is a
//! mistake everywhere.

use std::net::IpAddr;

use secrecy::ExposeSecret;

use crate::{
    config::{Config, SpeechEngine, TlsMode},
    speech::engine::HAS_WHISPER,
};

/// Twilio opens media streams to this port alone (<https://www.twilio.com/docs/voice/media-streams>).
const STREAM_PORT: u16 = 443;
/// Endings of names that no public server knows (RFC 6761, RFC 6762, RFC 8375, and what routers make up).
const PRIVATE_ENDINGS: [&str; 9] = ["local", "localhost", "internal", "lan", "home", "corp", "arpa", "test", "invalid"];
/// What strangers try first.
const COMMON_PASSWORDS: [&str; 8] =
    ["password", "changeme", "change-me", "kolbox", "admin", "1234", "12345678", "secret"];

/// One line each.
pub(super) fn all(config: &Config) -> Vec<String> {
    let mut warnings = public_name(config);
    warnings.extend(certificate(config));
    warnings.extend(strangers(config));
    warnings.extend(calls(config).into_iter().map(str::to_owned));
    warnings
}

/// Whether Twilio can come to the public name.
fn public_name(config: &Config) -> Vec<String> {
    let Some(host) = config.public.host.as_deref() else {
        return vec![
            "public.host is not set: PUBLIC-NAME above is the name under which Twilio reaches this box".to_owned(),
        ];
    };
    let (name, port) = name_and_port(host);
    let mut warnings = Vec::new();
    if let Ok(address) = name.parse::<IpAddr>() {
        warnings.push(match is_private(address) {
            true => format!("public.host = {host}: Twilio cannot reach a private address; it takes a name in the DNS"),
            false => {
                format!("public.host = {host}: certificates that Twilio accepts are made for names, not addresses")
            }
        });
    } else if !name.contains('.') || PRIVATE_ENDINGS.iter().any(|ending| has_ending(name, ending)) {
        warnings.push(format!("public.host = {host}: Twilio finds no such name; it takes one of the public DNS"));
    }
    if name.contains('_') {
        warnings.push(format!("public.host = {host}: Twilio takes no names with _ in them"));
    }
    if let Some(port) = port.filter(|port| *port != STREAM_PORT) {
        warnings.push(format!(
            "public.host = {host}: by its documentation Twilio opens media streams to port {STREAM_PORT} only; with port \
             {port} every caller may end at the recorder"
        ));
    }
    warnings
}

/// Whether Twilio takes the certificate.
fn certificate(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.public.tls.mode == TlsMode::SelfSigned {
        warnings.push(
            "the certificate is self-signed, and Twilio refuses it: set public.tls.mode = \"files\", or let something \
             in front end TLS"
                .to_owned(),
        );
    }
    warnings
}

/// Whether somebody else than Twilio and staff can do harm.
fn strangers(config: &Config) -> Vec<String> {
    let mut warnings = Vec::new();
    if config.public.tls.mode == TlsMode::Off && config.public.trusted_proxies.is_empty() {
        warnings.push(
            "public.tls.mode is \"off\" and public.trusted_proxies is empty: what the proxy in front says about a \
             request's host, scheme and sender is not believed; give its address, such as \"127.0.0.1\""
                .to_owned(),
        );
    }
    if !config.twilio.validate_signatures {
        warnings
            .push("twilio.validate_signatures is off: anybody who reaches this box can send it webhooks".to_owned());
    }
    let password = config.status.password.expose_secret().to_lowercase();
    if COMMON_PASSWORDS.contains(&&*password) {
        warnings.push(
            "status.password is one of those that are tried first: choose another, or leave it empty, which hides \
             numbers and transcripts from everybody"
                .to_owned(),
        );
    }
    warnings
}

/// What a call would not get.
fn calls(config: &Config) -> Vec<&'static str> {
    let mut warnings = Vec::new();
    if config.speech.engine == SpeechEngine::Whisper && !HAS_WHISPER {
        warnings.push(
            "speech.engine: this program was built without \"whisper\" (cargo build --release --features whisper); records \
             wait for a text that nobody writes, for as long as speech.wait",
        );
    }
    if config.twilio.account_sid.is_none() {
        warnings.push("twilio.account_sid is not set: a call whose stream fails cannot be sent to the recorder");
    }
    warnings
}

/// Of `name`, `name:port`, `[address]` or `[address]:port`.
fn name_and_port(host: &str) -> (&str, Option<u16>) {
    if let Some((address, rest)) = host.strip_prefix('[').and_then(|host| host.split_once(']')) {
        return (address, rest.strip_prefix(':').and_then(|port| port.parse().ok()));
    }
    match host.rsplit_once(':') {
        Some((name, port)) => (name, port.parse().ok()),
        None => (host, None),
    }
}

fn has_ending(name: &str, ending: &str) -> bool {
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case(ending))
}

/// Addresses that only a network of one's own knows (RFC 1918, RFC 3927, RFC 4193, RFC 4291, RFC 6598).
fn is_private(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => {
            let shared = matches!(address.octets(), [100, 64..=127, ..]);
            address.is_private()
                || address.is_loopback()
                || address.is_link_local()
                || address.is_unspecified()
                || shared
        }
        IpAddr::V6(address) => {
            let first = address.segments()[0];
            let local = first & 0xfe00 == 0xfc00 || first & 0xffc0 == 0xfe80;
            address.is_loopback() || address.is_unspecified() || local
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twilio::sid::AccountSid;

    type Change = fn(&mut Config);

    fn sound() -> Config {
        let mut config = Config::default();
        config.public.host = Some("gw.example.co.il".to_owned());
        config.public.tls.mode = TlsMode::Files;
        config.twilio.account_sid = Some(AccountSid::from_number(1));
        config
    }

    fn with_host(host: &str) -> Vec<String> {
        let mut config = sound();
        config.public.host = Some(host.to_owned());
        all(&config)
    }

    #[test]
    fn a_name_that_twilio_can_reach_is_left_alone() {
        for host in ["gw.example.co.il", "gw.example.co.il:443", "GW.Example.CO.IL", "xn--4dbrk0ce.example"] {
            assert_eq!(with_host(host), Vec::<String>::new(), "{host}");
        }
    }

    #[test]
    fn a_name_or_address_of_the_office_alone_is_told() {
        for (host, part) in [
            ("localhost", "no such name"),
            ("gw", "no such name"),
            ("box.local", "no such name"),
            ("gw.LAN:443", "no such name"),
            ("192.168.1.20", "private address"),
            ("10.0.0.1:443", "private address"),
            ("100.64.0.1", "private address"),
            ("127.0.0.1", "private address"),
            ("[::1]", "private address"),
            ("[fd00::1]:443", "private address"),
            ("[::ffff:10.0.0.1]", "private address"),
            ("203.0.113.9", "made for names, not addresses"),
            ("[2001:db8::1]:443", "made for names, not addresses"),
            ("my_box.example.co.il", "no names with _"),
        ] {
            let said = with_host(host);
            assert!(matches!(&said[..], [one] if one.contains(part) && one.contains(host)), "{host}: {said:?}");
        }
    }

    #[test]
    fn a_port_to_which_no_stream_is_opened_is_told() {
        let said = with_host("gw.example.co.il:8443");
        assert!(matches!(&said[..], [one] if one.contains("port 443 only") && one.contains("8443 every")), "{said:?}");
    }

    #[test]
    fn each_setting_that_leaves_a_door_open_or_a_call_unserved_is_told() {
        let cases: [(Change, &str); 6] = [
            (|config| config.public.host = None, "public.host is not set"),
            (|config| config.public.tls.mode = TlsMode::SelfSigned, "self-signed, and Twilio refuses it"),
            (|config| config.public.tls.mode = TlsMode::Off, "public.trusted_proxies is empty"),
            (|config| config.twilio.validate_signatures = false, "validate_signatures is off"),
            (|config| config.status.password = "Password".into(), "status.password is one of those"),
            (|config| config.twilio.account_sid = None, "cannot be sent to the recorder"),
        ];
        for (change, part) in cases {
            let mut config = sound();
            change(&mut config);
            let said = all(&config);
            assert!(matches!(&said[..], [one] if one.contains(part)), "{part}: {said:?}");
            assert!(!said[0].contains("Password"), "a secret is not repeated");
        }
    }

    #[test]
    fn an_engine_that_this_program_does_not_have_is_told() {
        let mut config = sound();
        config.speech.engine = SpeechEngine::Whisper;
        let said = all(&config);
        assert_eq!(said.iter().filter(|warning| warning.contains("built without")).count(), usize::from(!HAS_WHISPER));
        config.speech.engine = SpeechEngine::Wyoming;
        assert_eq!(all(&config), Vec::<String>::new());
    }
}
