//! One try a second for each address that gave a wrong password. Pure.
//!
//! What counts is where a wrong one came from, whichever way it was given. While an address waits, a right password from
//! there is not looked at either: else the answer would tell a guesser which one is right, as fast as it can ask.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use crate::limits::{PASSWORD_ADDRESSES_MAX, PASSWORD_PAUSE};

/// The addresses that have to wait, the one that may come back first at the front.
#[derive(Debug, Default)]
pub struct Throttle {
    wrong: VecDeque<(IpAddr, Instant)>,
}

impl Throttle {
    /// Whether a password from this address is looked at now.
    ///
    /// # Errors
    /// With the time that is left to wait.
    pub fn admit(&self, from: IpAddr, now: Instant) -> Result<(), Duration> {
        let from = household(from);
        let last = self.wrong.iter().rev().find(|(address, _)| *address == from);
        let left = last.map_or(Duration::ZERO, |(_, at)| (*at + PASSWORD_PAUSE).saturating_duration_since(now));
        if left.is_zero() { Ok(()) } else { Err(left) }
    }

    /// A wrong password came from there.
    pub fn handle_wrong(&mut self, from: IpAddr, now: Instant) {
        while self.wrong.front().is_some_and(|(_, at)| *at + PASSWORD_PAUSE <= now) {
            self.wrong.pop_front();
        }
        if self.wrong.len() == PASSWORD_ADDRESSES_MAX {
            self.wrong.pop_front();
        }
        self.wrong.push_back((household(from), now));
    }
}

/// What one guesser holds: an IPv4 address, or a whole IPv6 network of 64 bits (RFC 4291 §2.5.4), in which it can give
/// itself a new address for each try.
fn household(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HALF: Duration = Duration::from_millis(500);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_wrong_password_shuts_its_own_address_out_for_a_second() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        assert_eq!(throttle.admit(ip("192.168.1.7"), now), Ok(()));
        throttle.handle_wrong(ip("192.168.1.7"), now);
        assert_eq!(throttle.admit(ip("192.168.1.7"), now + HALF), Err(HALF));
        assert_eq!(
            throttle.admit(ip("::ffff:192.168.1.7"), now + HALF),
            Err(HALF),
            "the same one, seen by a v6 socket"
        );
        assert_eq!(throttle.admit(ip("192.168.1.8"), now + HALF), Ok(()));
        assert_eq!(throttle.admit(ip("192.168.1.7"), now + 2 * HALF), Ok(()));
        throttle.handle_wrong(ip("192.168.1.7"), now + 2 * HALF);
        assert_eq!(throttle.admit(ip("192.168.1.7"), now + 3 * HALF), Err(HALF), "the latest one counts");
    }

    #[test]
    fn a_new_address_in_the_same_ipv6_network_helps_no_guesser() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        throttle.handle_wrong(ip("2001:db8:0:7::1"), now);
        assert!(throttle.admit(ip("2001:db8:0:7:ffff::2"), now).is_err());
        assert!(throttle.admit(ip("2001:db8:0:8::1"), now).is_ok());
    }

    #[test]
    fn the_table_forgets_the_past_and_never_grows_beyond_its_maximum() {
        let (mut throttle, now) = (Throttle::default(), Instant::now());
        let address = |number: usize| IpAddr::from([10, 0, (number / 256) as u8, (number % 256) as u8]);
        for number in 0..2 * PASSWORD_ADDRESSES_MAX {
            throttle.handle_wrong(address(number), now);
        }
        assert_eq!(throttle.wrong.len(), PASSWORD_ADDRESSES_MAX);
        assert!(throttle.admit(address(2 * PASSWORD_ADDRESSES_MAX - 1), now).is_err());
        throttle.handle_wrong(ip("192.168.1.7"), now + 2 * HALF);
        assert_eq!(throttle.wrong.len(), 1);
    }
}
