//! Which Host names the status listener answers to.
//!
//! A page on some other site can point its own name at the box's address and then read the box through a visitor's
//! browser (DNS rebinding). Such a request carries that other name in Host, so only names that can only mean this box
//! are answered.

use std::net::{Ipv4Addr, Ipv6Addr};

/// The names beside IP literals, `localhost` and `*.local`.
#[derive(Debug, Clone, Default)]
pub struct Hosts {
    /// Lower case, without port and final dot.
    names: Vec<String>,
}

impl Hosts {
    /// The configured names and the box's own one, whole and up to its first dot. Empty names are dropped.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a str>, own: &'a str) -> Self {
        let short = own.split('.').next().unwrap_or_default();
        let given = configured.into_iter().chain([own, short]);
        Self { names: given.map(name_of).filter(|name| !name.is_empty()).collect() }
    }

    /// Whether a request with this Host (with or without port) is answered.
    pub fn allow(&self, authority: &str) -> bool {
        let name = name_of(authority);
        if let Some(address) = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            return address.parse::<Ipv6Addr>().is_ok();
        }
        // `local.` is for names of the own link only (RFC 6762 §3): nobody outside can point one at the box.
        let is_local = name.strip_suffix(".local").is_some_and(|label| !label.is_empty());
        name == "localhost" || is_local || name.parse::<Ipv4Addr>().is_ok() || self.names.contains(&name)
    }
}

/// The name that the machine gives itself; empty when it cannot be read.
pub fn own_name() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").map(|name| name.trim().to_owned()).unwrap_or_default()
}

/// `Name.Example.:8080` → `name.example`; `[::1]:8080` → `[::1]`; empty for what is no name: whoever reads a URL
/// differently from us must not find another host in what we allow.
fn name_of(authority: &str) -> String {
    let authority = authority.trim();
    let end = match authority.find(']') {
        Some(bracket) => bracket + 1,
        None => authority.find(':').unwrap_or(authority.len()),
    };
    let (name, port) = authority.split_at(end);
    if !port.is_empty() && !port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit())) {
        return String::new();
    }
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let is_plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte));
    if is_plain { name } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts() -> Hosts {
        Hosts::new(["Status.Example.co.il", "desk:8080"], "front-desk.office.lan")
    }

    #[test]
    fn names_that_can_only_mean_this_box_are_answered() {
        let own = ["front-desk", "front-desk.office.lan", "FRONT-DESK.office.lan.", "front-desk.local"];
        let addresses = ["192.168.1.20", "192.168.1.20:8080", "127.0.0.1:9", "[::1]", "[fe80::1]:8080"];
        let others = ["localhost", "localhost:8080", "LocalHost", "status.example.co.il", "desk", "printer.local:80"];
        for host in own.iter().chain(&addresses).chain(&others) {
            assert!(hosts().allow(host), "{host}");
        }
    }

    #[test]
    fn other_names_and_nonsense_are_not() {
        let foreign =
            ["evil.example", "example.co.il", "front-desk.evil.example", "localhost.evil.example", "office.lan"];
        let tricks = ["", ".", ".local", "local", "192.168.1.20.evil.example", "127.0.0.1@evil.example", "127.1"];
        // What a browser would read as user, path, query or fragment is no part of a name.
        let disguised = [
            "evil.example/.local",
            "evil.example\\.local",
            "evil.example?.local",
            "evil.example#.local",
            "evil.example@.local",
        ];
        let broken =
            ["[evil.example]", "[::1].evil.example", "[::1]x", "localhost:80:80", "localhost:port", "::1", "]", "["];
        for host in foreign.iter().chain(&tricks).chain(&disguised).chain(&broken) {
            assert!(!hosts().allow(host), "{host}");
        }
    }

    #[test]
    fn a_machine_without_a_name_allows_no_empty_name() {
        assert!(!Hosts::new([""], "").allow(""));
        assert!(!Hosts::new([], "").allow(":80"));
    }
}
