//! The door: who gave the password, by HTTP Basic (RFC 7617) or by the page's login, and who is not listened to.

use std::{
    net::IpAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use hyper::header::{self, HeaderMap, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::Semaphore;

use super::{
    caller::Viewer,
    password::{NoHash, Password},
    sessions::{SessionKey, Sessions},
    throttle::Throttle,
};
use crate::limits::{PASSWORD_PAUSE, PASSWORD_QUEUE_MAX, SESSION_MAX};

/// The user name that goes with the password.
const USER: &str = "kolbox";
/// The cookie that holds a session's id.
const COOKIE: &str = "kolbox_session";

/// The door: open only where a password is set. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Access {
    /// `None`: no password is set, and nobody comes in.
    door: Option<Arc<Door>>,
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Visitor {
    pub viewer: Viewer,
    /// Who logged in on the page, and can log out there.
    pub session: Option<SessionKey>,
}

/// Why a password is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// It is not ours.
    Wrong,
    /// One from that address was wrong just now; this long the next one is not looked at.
    TooSoon(Duration),
    /// Too many wait to be checked, or no hash can be made.
    Busy,
}

#[derive(Debug)]
struct Door {
    password: Password,
    sessions: Mutex<Sessions>,
    throttle: Mutex<Throttle>,
    /// One hash at a time: it takes a core and some megabytes.
    turn: Arc<Semaphore>,
    queue: Semaphore,
}

impl Access {
    /// An empty password opens to nobody. Hashes the password, which takes tenths of a second.
    pub fn new(password: &SecretString) -> Self {
        if password.expose_secret().is_empty() {
            return Self { door: None };
        }
        let hashed = Password::new(password).inspect_err(|NoHash| {
            tracing::error!("the status password cannot be hashed: nobody can log in until the next start");
        });
        Self { door: hashed.ok().map(|password| Arc::new(Door::new(password))) }
    }

    /// Whether anybody can come in.
    pub fn has_password(&self) -> bool {
        self.door.is_some()
    }

    /// Who sends these headers from there. An `Authorization` is judged first; a session that is over is none.
    ///
    /// # Errors
    /// For a password that is not taken. Where none is set nothing is looked at.
    pub async fn visitor(&self, headers: &HeaderMap, from: IpAddr) -> Result<Visitor, Denied> {
        const ANYONE: Visitor = Visitor { viewer: Viewer::Anyone, session: None };
        let Some(door) = &self.door else { return Ok(ANYONE) };
        if let Some(authorization) = headers.get(header::AUTHORIZATION) {
            door.check(basic(authorization.as_bytes()).as_deref(), from).await?;
            return Ok(Visitor { viewer: Viewer::Staff, session: None });
        }
        let mut keys = ids(headers).map(SessionKey::of);
        let open = keys.find(|key| door.sessions().is_open(*key, now()));
        Ok(open.map_or(ANYONE, |key| Visitor { viewer: Viewer::Staff, session: Some(key) }))
    }

    /// Opens a session for whoever gives the password: its id, for [`cookie`].
    ///
    /// # Errors
    /// As [`Self::visitor`]; [`Denied::Wrong`] where no password is set.
    pub async fn log_in(&self, password: &str, from: IpAddr) -> Result<String, Denied> {
        let door = self.door.as_ref().ok_or(Denied::Wrong)?;
        door.check(Some(password.as_bytes()), from).await?;
        let mut id = [0; 16];
        getrandom::fill(&mut id).map_err(|_| Denied::Busy)?;
        let id = URL_SAFE_NO_PAD.encode(id);
        door.sessions().open(SessionKey::of(&id), now());
        Ok(id)
    }

    /// Ends a visitor's session.
    pub fn log_out(&self, visitor: &Visitor) {
        if let (Some(door), Some(key)) = (&self.door, visitor.session) {
            door.sessions().close(key);
        }
    }

    /// Whether a visitor may still see what they saw: a session can end while a page is open.
    pub fn still_admits(&self, visitor: &Visitor) -> bool {
        let Some(key) = visitor.session else { return true };
        self.door.as_ref().is_some_and(|door| door.sessions().is_open(key, now()))
    }
}

impl Door {
    fn new(password: Password) -> Self {
        Self {
            password,
            sessions: Mutex::default(),
            throttle: Mutex::default(),
            turn: Arc::new(Semaphore::new(1)),
            queue: Semaphore::new(PASSWORD_QUEUE_MAX),
        }
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn throttle(&self) -> MutexGuard<'_, Throttle> {
        self.throttle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, from: IpAddr) -> Result<(), Denied> {
        self.throttle().admit(from, now()).map_err(Denied::TooSoon)
    }

    /// Credentials that are no password at all are as wrong as a wrong one.
    async fn check(self: &Arc<Self>, given: Option<&[u8]>, from: IpAddr) -> Result<(), Denied> {
        self.admit(from)?;
        let Some(given) = given else {
            self.throttle().handle_wrong(from, now());
            return Err(Denied::Wrong);
        };
        if self.password.knows(given) {
            return Ok(());
        }
        let _waiting = self.queue.try_acquire().map_err(|_| Denied::Busy)?;
        let turn = self.turn.clone().acquire_owned().await.map_err(|_| Denied::Busy)?;
        // One from there may have been wrong, and another one right, while this one waited.
        self.admit(from)?;
        if self.password.knows(given) {
            return Ok(());
        }
        let (door, given) = (self.clone(), given.to_vec());
        // Whoever hangs up meanwhile has had a turn all the same, and ends it no sooner.
        let checked = tokio::task::spawn_blocking(move || {
            let checked = door.password.is(&given);
            if checked == Ok(false) {
                tracing::warn!(%from, "wrong status password");
                door.throttle().handle_wrong(from, now());
            }
            drop(turn);
            checked
        });
        match checked.await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(Denied::Wrong),
            Ok(Err(NoHash)) | Err(_) => Err(Denied::Busy),
        }
    }
}

impl Denied {
    /// When it makes sense to ask again, in whole seconds (RFC 9110 §10.2.3).
    pub fn retry_after_s(self) -> u64 {
        let left = if let Self::TooSoon(left) = self { left } else { PASSWORD_PAUSE };
        left.as_secs() + u64::from(left.subsec_nanos() > 0)
    }
}

/// The cookie that logs in (RFC 6265bis): no script reads it, and no other site's page sends it along. It is kept to
/// TLS where the page came that way.
pub fn cookie(id: &str, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let age = SESSION_MAX.as_secs();
    // An id is base64url.
    HeaderValue::try_from(format!("{COOKIE}={id}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}"))
        .unwrap_or(NO_COOKIE)
}

/// The cookie that logs out.
pub const NO_COOKIE: HeaderValue =
    HeaderValue::from_static("kolbox_session=; Path=/; Max-Age=0; HttpOnly; SameSite=Strict");

/// Ids in the cookies, none of which needs to be ours.
fn ids(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let cookies = headers.get_all(header::COOKIE).into_iter().filter_map(|value| value.to_str().ok());
    let pairs = cookies.flat_map(|cookies| cookies.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.filter(|(name, _)| *name == COOKIE).map(|(_, id)| id)
}

/// The password of `Basic <base64 of user:password>`, if the user is ours.
fn basic(header: &[u8]) -> Option<Vec<u8>> {
    let (scheme, encoded) = std::str::from_utf8(header).ok()?.split_once(' ')?;
    let credentials = scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok()).flatten()?;
    Some(credentials.strip_prefix(USER.as_bytes())?.strip_prefix(b":")?.to_vec())
}

/// The moment by tokio's clock, which a test can hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::SESSIONS_MAX;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 7));
    const THERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 168, 1, 8));

    fn access() -> Access {
        Access::new(&"pass:word".into())
    }

    fn headers(name: header::HeaderName, value: impl AsRef<[u8]>) -> HeaderMap {
        [(name, HeaderValue::from_bytes(value.as_ref()).unwrap())].into_iter().collect()
    }

    fn with_basic(credentials: &str) -> HeaderMap {
        headers(header::AUTHORIZATION, format!("Basic {}", STANDARD.encode(credentials)))
    }

    fn with_cookie(id: &str) -> HeaderMap {
        headers(header::COOKIE, format!("theme=dark; {COOKIE}={id}; a=b"))
    }

    async fn seen(access: &Access, headers: &HeaderMap) -> Result<Viewer, Denied> {
        access.visitor(headers, HERE).await.map(|visitor| visitor.viewer)
    }

    #[tokio::test(start_paused = true)]
    async fn the_password_makes_staff_and_a_wrong_one_is_told_so() {
        let access = access();
        assert_eq!(seen(&access, &HeaderMap::new()).await, Ok(Viewer::Anyone));
        assert_eq!(seen(&access, &with_basic("kolbox:pass:word")).await, Ok(Viewer::Staff));
        for wrong in ["kolbox:pass", "kolbox:", "admin:pass:word", "", "pass:word", "kolboxpass:word"] {
            assert_eq!(seen(&access, &with_basic(wrong)).await, Err(Denied::Wrong), "{wrong}");
            tokio::time::advance(PASSWORD_PAUSE).await;
        }
        for broken in [&b"Basic"[..], b"Basic !!!", b"Bearer a2V5", b"\xff\xfe x", b""] {
            let broken = headers(header::AUTHORIZATION, broken);
            assert_eq!(seen(&access, &broken).await, Err(Denied::Wrong));
            tokio::time::advance(PASSWORD_PAUSE).await;
        }
    }

    #[tokio::test]
    async fn without_a_password_nobody_is_staff_not_even_with_an_empty_one() {
        let access = Access::new(&SecretString::default());
        assert!(!access.has_password());
        assert_eq!(seen(&access, &with_basic("kolbox:")).await, Ok(Viewer::Anyone));
        assert_eq!(access.log_in("", HERE).await, Err(Denied::Wrong));
    }

    #[tokio::test(start_paused = true)]
    async fn a_guesser_gets_one_try_a_second_by_whatever_way() {
        let access = access();
        assert_eq!(access.log_in("guess", HERE).await, Err(Denied::Wrong));
        let Err(denied @ Denied::TooSoon(_)) = access.log_in("pass:word", HERE).await else { panic!() };
        assert_eq!(denied.retry_after_s(), 1);
        assert!(matches!(seen(&access, &with_basic("kolbox:guess")).await, Err(Denied::TooSoon(_))));
        assert!(access.log_in("pass:word", THERE).await.is_ok(), "others need not wait");
        tokio::time::advance(PASSWORD_PAUSE).await;
        assert_eq!(seen(&access, &with_basic("kolbox:guess")).await, Err(Denied::Wrong));
        // Known by now; and yet the answer to a guesser does not depend on it.
        assert!(matches!(seen(&access, &with_basic("kolbox:pass:word")).await, Err(Denied::TooSoon(_))));
        tokio::time::advance(PASSWORD_PAUSE).await;
        assert_eq!(seen(&access, &with_basic("kolbox:pass:word")).await, Ok(Viewer::Staff));
    }

    #[tokio::test(start_paused = true)]
    async fn the_right_password_waits_for_nothing_however_often_it_comes() {
        let access = access();
        for _ in 0..100 {
            assert_eq!(seen(&access, &with_basic("kolbox:pass:word")).await, Ok(Viewer::Staff));
        }
        // A program that opens with many requests at once is not turned away either.
        let fresh = self::access();
        let basic = with_basic("kolbox:pass:word");
        let (one, two, three) = tokio::join!(seen(&fresh, &basic), seen(&fresh, &basic), seen(&fresh, &basic));
        assert_eq!([one, two, three], [Ok(Viewer::Staff); 3]);
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_wrong_ones_at_once_one_is_checked_and_more_than_can_wait_are_sent_away() {
        let access = access();
        let tries: Vec<_> = (0..2 * PASSWORD_QUEUE_MAX)
            .map(|_| {
                tokio::spawn({
                    let access = access.clone();
                    async move { access.log_in("guess", HERE).await }
                })
            })
            .collect();
        let mut answers = Vec::new();
        for one in tries {
            answers.push(one.await.unwrap().unwrap_err());
        }
        let count = |wanted: fn(&Denied) -> bool| answers.iter().filter(|denied| wanted(denied)).count();
        assert_eq!(count(|denied| *denied == Denied::Wrong), 1);
        assert_eq!(count(|denied| matches!(denied, Denied::TooSoon(_))), PASSWORD_QUEUE_MAX - 1);
        assert_eq!(count(|denied| *denied == Denied::Busy), PASSWORD_QUEUE_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn a_login_lasts_until_the_logout_or_its_time_is_over() {
        let access = access();
        let id = access.log_in("pass:word", HERE).await.unwrap();
        let visitor = access.visitor(&with_cookie(&id), THERE).await.unwrap();
        assert_eq!(visitor.viewer, Viewer::Staff);
        assert!(access.still_admits(&visitor));
        access.log_out(&visitor);
        assert!(!access.still_admits(&visitor));
        assert_eq!(seen(&access, &with_cookie(&id)).await, Ok(Viewer::Anyone));
        let id = access.log_in("pass:word", HERE).await.unwrap();
        let visitor = access.visitor(&with_cookie(&id), HERE).await.unwrap();
        tokio::time::advance(SESSION_MAX).await;
        assert!(!access.still_admits(&visitor));
        assert_eq!(seen(&access, &with_cookie(&id)).await, Ok(Viewer::Anyone));
        assert_eq!(seen(&access, &with_cookie("")).await, Ok(Viewer::Anyone));
    }

    #[tokio::test]
    async fn one_session_more_ends_the_first() {
        let access = access();
        let first = access.log_in("pass:word", HERE).await.unwrap();
        for _ in 0..SESSIONS_MAX {
            access.log_in("pass:word", HERE).await.unwrap();
        }
        assert_eq!(seen(&access, &with_cookie(&first)).await, Ok(Viewer::Anyone));
    }

    #[test]
    fn the_cookie_is_kept_from_scripts_and_other_sites_and_to_tls_where_there_is_tls() {
        let plain = "kolbox_session=abc; Path=/; Max-Age=43200; HttpOnly; SameSite=Strict";
        assert_eq!(cookie("abc", false), plain);
        assert_eq!(cookie("abc", true), format!("{plain}; Secure").as_str());
    }

    #[tokio::test]
    async fn ids_are_128_random_bits() {
        let access = access();
        let one = access.log_in("pass:word", HERE).await.unwrap();
        let two = access.log_in("pass:word", HERE).await.unwrap();
        assert_ne!(one, two);
        assert_eq!(URL_SAFE_NO_PAD.decode(one).unwrap().len(), 16);
    }
}
