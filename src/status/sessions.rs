//! Who is logged in: a bounded table of sessions, each known by the hash of its secret id. Pure.

use std::{collections::VecDeque, time::Instant};

use sha2::{Digest, Sha256};

use crate::limits::{SESSION_MAX, SESSIONS_MAX};

/// What a session is found by: the SHA-256 of the id in its cookie. Whoever reads the box's memory learns no id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionKey([u8; 32]);

impl SessionKey {
    /// The key of an id, as it stands in the cookie. Anything may stand there; what we did not give is in no table.
    pub fn of(id: &str) -> Self {
        Self(Sha256::digest(id.as_bytes()).into())
    }
}

/// The open sessions, the oldest first.
#[derive(Debug, Default)]
pub struct Sessions {
    open: VecDeque<(SessionKey, Instant)>,
}

impl Sessions {
    /// Somebody logged in. When the table is full, the oldest session ends.
    pub fn open(&mut self, key: SessionKey, now: Instant) {
        self.open.retain(|(_, since)| is_fresh(*since, now));
        if self.open.len() == SESSIONS_MAX {
            self.open.pop_front();
        }
        self.open.push_back((key, now));
    }

    /// Whether this session goes on.
    pub fn is_open(&self, key: SessionKey, now: Instant) -> bool {
        self.open.iter().any(|(open, since)| *open == key && is_fresh(*since, now))
    }

    /// Somebody logged out.
    pub fn close(&mut self, key: SessionKey) {
        self.open.retain(|(open, _)| *open != key);
    }
}

fn is_fresh(since: Instant, now: Instant) -> bool {
    now.saturating_duration_since(since) < SESSION_MAX
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn key(number: usize) -> SessionKey {
        SessionKey::of(&number.to_string())
    }

    #[test]
    fn a_session_lasts_from_login_to_logout_and_no_longer_than_its_time() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        sessions.open(key(1), now);
        sessions.open(key(2), now);
        assert!(sessions.is_open(key(1), now) && !sessions.is_open(key(3), now));
        sessions.close(key(1));
        assert!(!sessions.is_open(key(1), now) && sessions.is_open(key(2), now));
        assert!(sessions.is_open(key(2), now + SESSION_MAX - Duration::from_secs(1)));
        assert!(!sessions.is_open(key(2), now + SESSION_MAX));
    }

    #[test]
    fn the_oldest_session_makes_room_and_those_that_are_over_take_none() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        for number in 0..=SESSIONS_MAX {
            sessions.open(key(number), now);
        }
        assert_eq!(sessions.open.len(), SESSIONS_MAX);
        assert!(!sessions.is_open(key(0), now) && sessions.is_open(key(1), now));
        sessions.open(key(99), now + SESSION_MAX);
        assert_eq!(sessions.open.len(), 1);
    }
}
