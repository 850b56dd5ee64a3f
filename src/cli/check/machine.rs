//! What is on this machine: the certificate, ports, the store and its disk, the board.

use std::{
    fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    time::Duration,
};

use bytesize::ByteSize;
use jiff::Timestamp;

use super::finding::{Finding, Verdict};
use crate::{
    board::{
        self,
        profile::{Driver, Profile},
    },
    cli::with_causes,
    config::{self, Config},
    limits::STORE_RESERVE_BYTES,
    server::tls,
    system::disk_use::{self, nonempty},
    transcripts::{StoreError, sled_store},
};

/// Looks at everything here; blocks on the disk. `gateway_runs`: what it holds is then as it should be.
pub(super) fn examine(config: &Config, gateway_runs: bool) -> Vec<Finding> {
    let mut findings: Vec<Finding> = tls::examine(&config.public, Timestamp::now()).into_iter().map(of_tls).collect();
    findings.extend([
        check_listen("public.listen", config.public.listen, gateway_runs),
        check_listen("status.listen", config.status.listen, gateway_runs),
        check_store(&config.store.path, gateway_runs),
    ]);
    findings.extend(check_quarantine(&config.store.path));
    findings.extend([check_disk(config), check_board(&config.board, gateway_runs)]);
    findings
}

fn of_tls(seen: tls::Finding) -> Finding {
    let verdict = match seen.verdict {
        tls::Verdict::Fine => Verdict::Fine,
        tls::Verdict::Note => Verdict::Note,
        tls::Verdict::Fix => Verdict::Fix,
    };
    Finding { what: seen.what, verdict, text: seen.text }
}

/// A port that is taken is as it should be while the gateway runs, and the reason that it will not start otherwise.
pub(super) fn check_listen(what: &'static str, address: SocketAddr, gateway_runs: bool) -> Finding {
    let error = match TcpListener::bind(address) {
        Ok(_) => return Finding::fine(what, format!("{address} is free")),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse if gateway_runs => {
            Finding::fine(what, format!("{address} is in use, and a gateway is running"))
        }
        io::ErrorKind::AddrInUse => Finding::fix(
            what,
            format!("{address} is in use by another program (`ss -ltnp` shows which): stop it, or set {what}"),
        ),
        io::ErrorKind::PermissionDenied => Finding::fix(
            what,
            format!("{address} is not allowed to this user: start it by the unit file, or take a port above 1023"),
        ),
        io::ErrorKind::AddrNotAvailable => Finding::fix(
            what,
            format!("{address} is no address of this machine: set {what} to one of `ip addr`, or to 0.0.0.0"),
        ),
        _ => Finding::fix(what, format!("{address}: {error}")),
    }
}

/// Whether a gateway answers on the status address.
pub(super) fn answers_as_gateway(status: SocketAddr) -> bool {
    let mut address = status;
    match status.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let ask = || -> io::Result<String> {
        let patience = Duration::from_secs(2);
        let mut stream = TcpStream::connect_timeout(&address, patience)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        write!(stream, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.take(4 * 1024).read_to_string(&mut answer)?;
        Ok(answer)
    };
    ask().is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 ") && answer.trim_end().ends_with("\r\n\r\nok"))
}

/// Tries what the store will do, and whether somebody else does it already.
fn check_store(path: &Path, gateway_runs: bool) -> Finding {
    match sled_store::is_in_use(path) {
        Ok(true) if gateway_runs => Finding::fine("store", format!("{} is used by the gateway", path.display())),
        Ok(true) => Finding::fix(
            "store",
            format!(
                "{} is used by another kolbox, and none answers on status.listen: stop it (`systemctl stop kolbox`), or \
                 set store.path",
                path.display()
            ),
        ),
        Ok(false) | Err(_) => check_writing(path),
    }
}

/// Writes a file there. A directory that does not exist yet is judged by the nearest one
/// above it that does, and not made: it must belong to the service's user.
fn check_writing(path: &Path) -> Finding {
    let Some(existing) = path.ancestors().map(nonempty).find(|ancestor| ancestor.exists()) else {
        return Finding::fix("store", format!("{}: no part of this path exists", path.display()));
    };
    let trial = existing.join(format!(".kolbox-check-{}", std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).open(&trial).and_then(|mut file| {
        file.write_all(b"kolbox check")?;
        file.sync_all()
    });
    let removed = fs::remove_file(&trial);
    match written.and(removed) {
        Ok(()) if existing == nonempty(path) => Finding::fine("store", format!("{} can be written", path.display())),
        Ok(()) => Finding::fine("store", format!("{} will be made", path.display())),
        Err(error) => Finding::fix("store", StoreError::Directory(existing.to_owned(), error).to_string()),
    }
}

/// Damaged stores that were set aside and wait for somebody.
fn check_quarantine(path: &Path) -> Option<Finding> {
    let set_aside = sled_store::quarantined(path).ok()?;
    let folders: Vec<_> = set_aside.iter().map(|folder| folder.display().to_string()).collect();
    let said = format!(
        "{}: a damaged store was set aside; what could be read of it goes on. Copy this to a safe place, then delete it",
        folders.join(", ")
    );
    (!folders.is_empty()).then(|| Finding::fix("quarantine", said))
}

/// Whether the disk has room for what the configuration lets the store and the audio grow to.
fn check_disk(config: &Config) -> Finding {
    let path = &config.store.path;
    let free = match disk_use::free(path) {
        Ok(free) => free,
        Err(error) => return Finding::note("disk", format!("{}: {error}", path.display())),
    };
    let limit = config.store.max_bytes.saturating_add(config.audio.max_bytes);
    judge_space(free, limit.saturating_sub(disk_use::below(path)))
}

/// `free` bytes on the disk, and so many that may yet be used.
fn judge_space(free: u64, growth: u64) -> Finding {
    let (shown, least) = (ByteSize(free), ByteSize(STORE_RESERVE_BYTES));
    match free {
        free if free < STORE_RESERVE_BYTES => {
            Finding::fix("disk", format!("{shown} free, and at least {least} are needed: make room"))
        }
        free if free < growth => Finding::note(
            "disk",
            format!("{shown} free, and {} may be used: lower audio.max_bytes or store.max_bytes", ByteSize(growth)),
        ),
        _ => Finding::fine("disk", format!("{shown} free")),
    }
}

/// Takes the lamps' lines and gives them back, dark meanwhile; a running gateway has them, and goes on.
fn check_board(settings: &config::Board, gateway_runs: bool) -> Finding {
    let opened = Profile::load(&settings.profile).and_then(|profile| match profile.driver {
        Driver::Simulated => Ok("no lamps, as it is set"),
        Driver::Rpi if gateway_runs => Ok("its lines are held by the gateway"),
        Driver::Rpi => board::open(settings).map(|_| "its lines can be had"),
    });
    match opened {
        Ok(how) => Finding::fine("board", format!("{}: {how}", settings.profile)),
        Err(error) => Finding::fix("board", with_causes(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;
    use crate::transcripts::sled_store::SledStore;

    #[test]
    fn an_address_is_free_or_taken_by_us_or_taken_by_another() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap();
        assert_eq!(check_listen("status.listen", address, true).verdict, Verdict::Fine);
        let fix = check_listen("status.listen", address, false);
        assert_eq!(fix.verdict, Verdict::Fix);
        assert!(fix.to_string().starts_with("FIX   status.listen  127.0.0.1:"), "{fix}");
        let free = check_listen("status.listen", "127.0.0.1:0".parse().unwrap(), false);
        assert_eq!(free.verdict, Verdict::Fine);
        // 192.0.2.0/24 is for documentation (RFC 5737): nobody has it.
        assert_eq!(check_listen("x", "192.0.2.1:8080".parse().unwrap(), false).verdict, Verdict::Fix);
    }

    #[test]
    fn a_gateway_is_known_by_its_health() {
        for (answer, expected) in [("HTTP/1.1 200 OK\r\n\r\nok", true), ("HTTP/1.1 404 Not Found\r\n\r\n", false)] {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let server = thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).unwrap();
                stream.write_all(answer.as_bytes()).unwrap();
            });
            assert_eq!(answers_as_gateway(address), expected);
            server.join().unwrap();
        }
    }

    #[test]
    fn a_store_is_tried_without_leaving_anything_behind() {
        let folder = tempfile::tempdir().unwrap();
        assert!(check_store(folder.path(), false).text.ends_with("can be written"));
        let deeper = folder.path().join("a/b");
        assert!(check_store(&deeper, false).text.ends_with("will be made"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(check_store(&file.join("store"), false).verdict, Verdict::Fix);
    }

    #[test]
    fn a_store_in_quarantine_is_named_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(check_quarantine(folder.path()), None);
        assert_eq!(check_quarantine(&folder.path().join("missing")), None);
        fs::create_dir(folder.path().join("records.damaged-20261128T205431.404Z")).unwrap();
        let finding = check_quarantine(folder.path()).unwrap();
        assert_eq!(finding.verdict, Verdict::Fix);
        for part in ["records.damaged-20261128T205431.404Z", "Copy", "then delete"] {
            assert!(finding.text.contains(part), "{part}: {finding}");
        }
    }

    #[test]
    fn a_store_that_another_process_holds_is_told_from_the_gateways_own() {
        let folder = tempfile::tempdir().unwrap();
        let _held = SledStore::open(folder.path()).unwrap();
        assert_eq!(check_store(folder.path(), true).verdict, Verdict::Fine);
        let finding = check_store(folder.path(), false);
        assert!(finding.verdict == Verdict::Fix && finding.text.contains("systemctl stop"), "{finding}");
    }

    #[test]
    fn a_disk_must_have_room_for_what_the_configuration_lets_grow() {
        let folder = tempfile::tempdir().unwrap();
        const MIB: u64 = 1024 * 1024;
        for (free, growth, verdict) in [
            (63 * MIB, 0, Verdict::Fix),
            (2_000 * MIB, 1_500 * MIB, Verdict::Fine),
            (1_000 * MIB, 1_500 * MIB, Verdict::Note),
        ] {
            assert_eq!(judge_space(free, growth).verdict, verdict);
        }
        let mut config = Config::default();
        config.store.path = folder.path().join("not/there/yet");
        assert!(check_disk(&config).text.contains(" free"), "judged by what is there");
    }

    #[test]
    fn a_board_is_named_or_says_what_to_set() {
        let board = |profile: &str| config::Board { profile: profile.to_owned() };
        for runs in [true, false] {
            assert_eq!(check_board(&board("simulated"), runs).verdict, Verdict::Fine);
            let finding = check_board(&board("toaster"), runs);
            assert!(finding.verdict == Verdict::Fix && finding.text.contains("toaster"), "{finding}");
        }
    }
}
