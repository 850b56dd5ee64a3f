//! What is made of the files, look by look.

use tokio::time::Instant;

use super::{
    super::{pair::Pair, samples::*},
    *,
};

const MINUTE: Duration = CERTIFICATE_LOOK_EVERY;

/// An authority, the files of a box, and what looks after them.
struct World {
    folder: tempfile::TempDir,
    root: Authority,
    reloader: Reloader,
    seen: watch::Receiver<CertificateState>,
}

impl World {
    fn new() -> Self {
        Self::expecting(|root| Expected::new(Some(HOST), true, roots(root)), good_time().end)
    }

    fn expecting(expected: impl FnOnce(&Authority) -> Expected, until: Timestamp) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let root = Authority::root("Root");
        let made = root.server(&[HOST], in_days(-30)..until);
        let tls = write(folder.path(), &[&made.certificate], &made.key);
        let (stamp, pair) = (Stamp::of(&tls), Pair::read(&tls).unwrap());
        let expected = expected(&root);
        let flaws = expected.flaws(&pair, now());
        let (sender, seen) = watch::channel(CertificateState::new(tls.mode, Some(pair.facts.clone()), flaws));
        let in_use = Arc::new(InUse::new(pair.key.clone()));
        Self { folder, root, reloader: Reloader::new(tls, expected, (stamp, pair), in_use, sender), seen }
    }

    fn write(&self, Server { certificate, key }: &Server) {
        write(self.folder.path(), &[certificate], key);
    }

    fn good(&self) -> Server {
        self.root.server(&[HOST], in_days(0)..in_days(90))
    }

    fn look(&mut self) -> (Vec<Report>, Duration) {
        self.look_at(now())
    }

    fn look_at(&mut self, now: Timestamp) -> (Vec<Report>, Duration) {
        let seen = Seen::now(&self.reloader.tls, &self.reloader.stamp);
        self.reloader.consider(seen, now)
    }

    fn until(&self) -> Timestamp {
        self.seen.borrow().facts.as_ref().unwrap().not_after
    }

    fn refused(&self) -> Option<String> {
        self.seen.borrow().refused.clone()
    }
}

#[test]
fn files_that_stay_as_they_are_are_neither_read_nor_reported() {
    let mut world = World::new();
    assert_eq!(world.look(), (vec![], MINUTE));
    assert!(!world.seen.has_changed().unwrap());
}

#[test]
fn a_new_pair_is_taken_at_the_next_look_and_reported_once() {
    let mut world = World::new();
    world.write(&world.good());
    let (reports, pause) = world.look();
    let names = HOST.to_owned();
    assert_eq!(reports, [Report::Replaced { names, issuer: "Root".to_owned(), until: in_days(90) }]);
    assert_eq!((pause, world.until()), (MINUTE, in_days(90)));
    assert_eq!(world.look(), (vec![], MINUTE));
}

#[test]
fn a_link_that_points_elsewhere_is_a_change() {
    let mut world = World::new();
    let renewed = tempfile::tempdir().unwrap();
    let made = world.good();
    let new = write(renewed.path(), &[&made.certificate], &made.key);
    for (new, old) in [(&new.certificate, "chain.pem"), (&new.key, "key.pem")] {
        let old = world.folder.path().join(old);
        std::fs::remove_file(&old).unwrap();
        std::os::unix::fs::symlink(new, &old).unwrap();
    }
    world.look();
    assert_eq!(world.until(), in_days(90));
}

#[test]
fn a_pair_that_is_half_written_is_looked_at_again_before_it_is_called_wrong() {
    let mut world = World::new();
    let Server { certificate, key } = world.good();
    std::fs::write(world.folder.path().join("chain.pem"), certificate).unwrap();
    assert_eq!(world.look(), (vec![], CERTIFICATE_SETTLE));
    assert_eq!(world.refused(), None);
    std::fs::write(world.folder.path().join("key.pem"), key).unwrap();
    assert!(matches!(world.look().0[..], [Report::Replaced { .. }]));
    assert_eq!(world.until(), in_days(90));
}

#[test]
fn a_pair_that_cannot_be_used_leaves_the_old_one_and_is_reported_once_until_it_is_mended() {
    let mut world = World::new();
    let old = world.until();
    world.write(&Server { key: world.good().key, ..world.good() });
    assert_eq!(world.look(), (vec![], CERTIFICATE_SETTLE));
    let (reports, pause) = world.look();
    let [Report::Refused { reason, until }] = &reports[..] else { panic!("{reports:?}") };
    assert!(reason.contains("key.pem is not the key of"), "{reason}");
    assert_eq!((*until, pause, world.until()), (old, MINUTE, old));
    assert_eq!(world.refused().as_ref(), Some(reason));
    for _ in 0..3 {
        assert_eq!(world.look(), (vec![], MINUTE), "not said again");
    }
    world.write(&world.good());
    assert!(matches!(world.look().0[..], [Report::Replaced { .. }]));
    assert_eq!(world.refused(), None);
}

#[test]
fn a_pair_that_is_wrong_in_a_new_way_is_reported_anew() {
    let mut world = World::new();
    let spoil = |world: &World, text: &str| std::fs::write(world.folder.path().join("chain.pem"), text).unwrap();
    spoil(&world, "");
    assert_eq!((world.look().0.len(), world.look().0.len()), (0, 1));
    spoil(&world, "nothing in PEM either");
    assert_eq!(world.look(), (vec![], CERTIFICATE_SETTLE));
    assert!(world.refused().is_some(), "still wrong meanwhile");
    assert!(matches!(&world.look().0[..], [Report::Refused { .. }]));
}

#[test]
fn files_that_vanish_are_trouble_and_their_return_ends_it() {
    let mut world = World::new();
    let (path, aside) = (world.folder.path().join("key.pem"), world.folder.path().join("aside"));
    std::fs::rename(&path, &aside).unwrap();
    world.look();
    assert!(matches!(&world.look().0[..], [Report::Refused { reason, .. }] if reason.contains("no such file")));
    std::fs::rename(&aside, &path).unwrap();
    assert_eq!(world.look(), (vec![Report::Mended], MINUTE));
    assert_eq!(world.refused(), None);
}

#[test]
fn the_same_certificate_written_again_changes_nothing() {
    let mut world = World::new();
    let path = world.folder.path().join("chain.pem");
    let text = std::fs::read(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, text).unwrap();
    assert_eq!(world.look(), (vec![], MINUTE));
    assert!(!world.seen.has_changed().unwrap());
}

#[test]
fn a_certificate_that_does_not_hold_yet_is_taken_once_it_does() {
    let mut world = World::new();
    world.write(&world.root.server(&[HOST], in_days(1)..in_days(90)));
    world.look();
    assert!(matches!(&world.look().0[..], [Report::Refused { .. }]));
    assert!(matches!(&world.look_at(in_days(1)).0[..], [Report::Replaced { .. }]), "or once the clock is right");
}

#[test]
fn a_chain_that_leads_nowhere_is_taken_when_the_old_one_has_expired() {
    let mut world = World::new();
    world.write(&Authority::root("The Office").server(&[HOST], in_days(-1)..in_days(90)));
    world.look();
    assert!(matches!(&world.look().0[..], [Report::Refused { .. }]));
    let (reports, _) = world.look_at(in_days(61));
    assert!(matches!(&reports[..], [Report::Replaced { .. }, Report::Flawed(Flaw::Untrusted(_))]), "{reports:?}");
}

#[test]
fn a_certificate_that_ends_soon_is_reported_once_and_again_when_it_has_ended_and_forgotten_when_renewed() {
    let mut world = World::new();
    assert_eq!(world.look_at(in_days(45)).0, []);
    let at = in_days(60);
    assert_eq!(world.look_at(in_days(46)).0, [Report::Flawed(Flaw::ExpiresSoon { at })]);
    assert_eq!(world.look_at(in_days(47)).0, []);
    assert_eq!(world.look_at(in_days(61)).0, [Report::Flawed(Flaw::Expired { since: at })]);
    assert_eq!(world.seen.borrow().flaws, [Flaw::Expired { since: at }]);
    world.write(&world.good());
    assert!(matches!(&world.look_at(in_days(61)).0[..], [Report::Replaced { .. }]));
    assert_eq!(world.seen.borrow().flaws, []);
}

#[tokio::test(start_paused = true)]
async fn a_change_is_seen_within_a_minute_and_at_once_when_asked() {
    let world = World::expecting(|_| Expected::new(None, false, rustls::RootCertStore::empty()), in_days(36_500));
    let (folder, mut seen, root) = (world.folder, world.seen, world.root);
    let write = |days: i64| {
        let made = root.server(&[HOST], in_days(-3_650)..in_days(36_500 + days));
        write(folder.path(), &[&made.certificate], &made.key);
    };
    let asked = Arc::new(Notify::new());
    let running = tokio::spawn(world.reloader.run(Clock, asked.clone()));
    let began = Instant::now();
    write(1);
    seen.changed().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), MINUTE.as_secs());
    write(2);
    asked.notify_one();
    seen.changed().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), MINUTE.as_secs(), "no time has passed");
    std::fs::write(folder.path().join("key.pem"), "").unwrap();
    seen.changed().await.unwrap();
    assert_eq!(began.elapsed().as_secs(), (2 * MINUTE + CERTIFICATE_SETTLE).as_secs());
    assert!(seen.borrow().refused.is_some());
    running.abort();
}
