//! `kolbox check`: the doctor. One line for each thing looked at, and what to do where something needs fixing.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use clap::Args;

use super::{ConfigOption, FAILED, UNUSABLE, complain, with_causes};
use crate::{
    board::profile::Profile,
    config::{Board, Config, Tls, TlsMode},
    server::tls,
};

/// Look for what would keep calls from being answered, and say what to do
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    config: ConfigOption,
}

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Finding {
    what: &'static str,
    verdict: Verdict,
    text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Fine,
    /// It works, but whoever installs the box should know.
    Note,
    Fix,
}

impl Finding {
    fn new(what: &'static str, verdict: Verdict, text: impl Into<String>) -> Self {
        Self { what, verdict, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Note => "note",
            Verdict::Fix => "FIX",
        };
        write!(f, "{verdict:<5} {:<14} {}", self.what, self.text)
    }
}

/// Prints the findings: 0 when nothing needs fixing, 1 when something does, 2 when the configuration cannot be used.
pub fn run(arguments: &CheckArguments) -> ExitCode {
    let world = arguments.config.find();
    let config = match world.load() {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    let source =
        world.file().map_or("built-in defaults and the environment".to_owned(), |path| path.display().to_string());
    let mut findings = vec![Finding::new("configuration", Verdict::Fine, source)];
    findings.extend(examine(&config));
    for finding in &findings {
        anstream::println!("{finding}");
    }
    let sound = findings.iter().all(|finding| finding.verdict != Verdict::Fix);
    if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
}

fn examine(config: &Config) -> Vec<Finding> {
    let running = answers_as_gateway(config.status.listen);
    vec![
        check_account(config),
        check_public_name(config),
        check_certificate(&config.public.tls),
        check_listen("public.listen", config.public.listen, running),
        check_listen("status.listen", config.status.listen, running),
        check_store(&config.store.path),
        check_board(&config.board),
    ]
}

fn check_account(config: &Config) -> Finding {
    match config.twilio.account_sid {
        Some(account_sid) => Finding::new("account", Verdict::Fine, account_sid.as_str()),
        None => Finding::new(
            "account",
            Verdict::Fix,
            "a call whose stream fails cannot be sent to the recorder: set twilio.account_sid or TWILIO_ACCOUNT_SID",
        ),
    }
}

fn check_public_name(config: &Config) -> Finding {
    match &config.public.host {
        Some(host) => Finding::new("public name", Verdict::Fine, host.as_str()),
        None => Finding::new(
            "public name",
            Verdict::Note,
            "the name of each validated request is used; set public.host to accept no other",
        ),
    }
}

fn check_certificate(tls: &Tls) -> Finding {
    let finding = |verdict, text: String| Finding::new("certificate", verdict, text);
    match (tls.mode, tls::acceptor(tls, &[])) {
        (_, Err(error)) => finding(Verdict::Fix, with_causes(&error)),
        (TlsMode::Off, Ok(_)) => finding(Verdict::Note, "none: something in front must end TLS for Twilio".to_owned()),
        (TlsMode::SelfSigned, Ok(_)) => finding(
            Verdict::Note,
            "self-signed, which Twilio refuses: set public.tls.mode = \"files\", or let something in front end TLS"
                .to_owned(),
        ),
        (TlsMode::Files, Ok(_)) => finding(Verdict::Fine, format!("{} with its key", tls.certificate.display())),
    }
}

/// A port that is taken is as it should be while the gateway runs, and the reason that it will not start otherwise.
fn check_listen(what: &'static str, address: SocketAddr, gateway_runs: bool) -> Finding {
    let error = match TcpListener::bind(address) {
        Ok(_) => return Finding::new(what, Verdict::Fine, format!("{address} is free")),
        Err(error) => error,
    };
    match error.kind() {
        io::ErrorKind::AddrInUse if gateway_runs => {
            Finding::new(what, Verdict::Fine, format!("{address} is in use, and a gateway is running"))
        }
        io::ErrorKind::AddrInUse => Finding::new(
            what,
            Verdict::Fix,
            format!("{address} is in use by another program (`ss -ltnp` shows which): stop it, or set {what}"),
        ),
        io::ErrorKind::PermissionDenied => Finding::new(
            what,
            Verdict::Fix,
            format!("{address} is not allowed to this user: start it by the unit file, or take a port above 1023"),
        ),
        io::ErrorKind::AddrNotAvailable => Finding::new(
            what,
            Verdict::Fix,
            format!("{address} is no address of this machine: set {what} to one of `ip addr`, or to 0.0.0.0"),
        ),
        _ => Finding::new(what, Verdict::Fix, format!("{address}: {error}")),
    }
}

/// Whether a gateway answers on the status address.
fn answers_as_gateway(status: SocketAddr) -> bool {
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

/// Tries what the store will do: write a file there. A directory that does not exist yet is judged by the nearest one
/// above it that does, and not made: it must belong to the service's user.
fn check_store(path: &Path) -> Finding {
    let Some(existing) = path.ancestors().map(nonempty).find(|ancestor| ancestor.exists()) else {
        return Finding::new("store", Verdict::Fix, format!("{}: no part of this path exists", path.display()));
    };
    let trial = existing.join(format!(".kolbox-check-{}", std::process::id()));
    let written = fs::OpenOptions::new().write(true).create_new(true).open(&trial).and_then(|mut file| {
        file.write_all(b"kolbox check")?;
        file.sync_all()
    });
    let removed = fs::remove_file(&trial);
    match written.and(removed) {
        Ok(()) if existing == nonempty(path) => {
            Finding::new("store", Verdict::Fine, format!("{} can be written", path.display()))
        }
        Ok(()) => Finding::new("store", Verdict::Fine, format!("{} will be made", path.display())),
        Err(error) => Finding::new(
            "store",
            Verdict::Fix,
            format!(
                "{} cannot be written by this user ({error}): run this as the service's user, give it the directory, or \
                 set store.path",
                existing.display()
            ),
        ),
    }
}

/// The parent of a plain `data` is the empty path, which means the working directory.
fn nonempty(path: &Path) -> &Path {
    if path.as_os_str().is_empty() { Path::new(".") } else { path }
}

fn check_board(board: &Board) -> Finding {
    match Profile::load(&board.profile) {
        Ok(_) => Finding::new("board", Verdict::Fine, board.profile.as_str()),
        Err(error) => Finding::new("board", Verdict::Fix, with_causes(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

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
        assert!(check_store(folder.path()).text.ends_with("can be written"));
        let deeper = folder.path().join("a/b");
        assert!(check_store(&deeper).text.ends_with("will be made"));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
        let file = folder.path().join("file");
        fs::write(&file, "").unwrap();
        assert_eq!(check_store(&file.join("store")).verdict, Verdict::Fix);
    }

    #[test]
    fn a_certificate_that_can_be_served_needs_no_fixing() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("a.pem"), folder.path().join("key.pem"));
        let made = rcgen::generate_simple_self_signed(["gw.example.co.il".to_owned()]).unwrap();
        fs::write(&certificate, made.cert.pem()).unwrap();
        fs::write(&key, made.signing_key.serialize_pem()).unwrap();
        let finding = check_certificate(&Tls { mode: TlsMode::Files, certificate: certificate.clone(), key });
        assert_eq!(finding.verdict, Verdict::Fine, "{finding}");
        let swapped = Tls { mode: TlsMode::Files, key: certificate.clone(), certificate };
        assert_eq!(check_certificate(&swapped).verdict, Verdict::Fix);
        assert_eq!(check_certificate(&Tls::default()).verdict, Verdict::Note);
    }

    #[test]
    fn each_finding_that_needs_fixing_says_what_to_do() {
        let mut config = Config::default();
        config.public.tls = Tls { mode: TlsMode::Files, certificate: "/nowhere/a.pem".into(), key: "/b.pem".into() };
        config.board.profile = "toaster".to_owned();
        for (finding, part) in [
            (check_account(&config), "TWILIO_ACCOUNT_SID"),
            (check_certificate(&config.public.tls), "/nowhere/a.pem"),
            (check_board(&config.board), "toaster"),
        ] {
            assert_eq!(finding.verdict, Verdict::Fix, "{finding}");
            assert!(finding.text.contains(part), "{finding}");
        }
    }
}
