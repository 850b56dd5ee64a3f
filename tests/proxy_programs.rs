//! Whole calls through real programs in front of the box: nginx, Caddy, and a tunnel by `ssh -R`, each set up by the file
//! in `systemd/proxy/` with nothing changed but addresses, names and keys.
//!
//! A program that is not installed here is skipped, and said to be.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use process::{Office, Serve, free_address, skipped};

#[path = "support/process.rs"]
mod process;

const NGINX: &str = include_str!("../systemd/proxy/nginx.conf");
const CADDY: &str = include_str!("../systemd/proxy/Caddyfile");
const TUNNEL: &str = include_str!("../systemd/proxy/kolbox-tunnel.service");
/// Where all three files say that the box listens, and the name that they give it.
const INNER: &str = "127.0.0.1:8443";
const NAME: &str = "gw.example.co.il";

#[test]
fn a_call_through_nginx_ends_in_a_stream() {
    let Some(nginx) = installed("nginx") else { return skipped("proxy: nginx is not installed") };
    for settings in [Settings::HostIsSet, Settings::ProxyIsTrusted] {
        let (office, serve, public) = behind(settings);
        let _nginx = start_nginx(&nginx, &office, public, office.public);
        assert_a_call_streams(&office, &serve, public);
    }
}

#[test]
fn a_call_through_caddy_ends_in_a_stream() {
    let Some(caddy) = installed("caddy") else { return skipped("proxy: Caddy is not installed") };
    for settings in [Settings::HostIsSet, Settings::ProxyIsTrusted] {
        let (office, serve, public) = behind(settings);
        let _caddy = start_caddy(&caddy, &office, public);
        assert_a_call_streams(&office, &serve, public);
    }
}

#[test]
fn a_call_through_a_tunnel_ends_in_a_stream() {
    let (Some(nginx), Some(ssh), Some(sshd)) = (installed("nginx"), installed("ssh"), installed("sshd")) else {
        return skipped("proxy: nginx, ssh or sshd is not installed");
    };
    let (office, serve, public) = behind(Settings::HostIsSet);
    let (server, far_end) = (free_address(), free_address());
    let Some(_sshd) = start_sshd(&sshd, office.folder(), server, far_end) else {
        return skipped("proxy: sshd does not start here");
    };
    let _ssh = start_tunnel(&ssh, office.folder(), server, far_end, office.public);
    let _nginx = start_nginx(&nginx, &office, public, far_end);
    assert_a_call_streams(&office, &serve, public);
    assert_a_call_is_recorded(&office, &serve, public);
}

/// What the box goes by to know its public name.
#[derive(Clone, Copy)]
enum Settings {
    HostIsSet,
    ProxyIsTrusted,
}

/// A box without TLS, and the public address of whatever is to stand in front of it.
fn behind(settings: Settings) -> (Office, Serve, SocketAddr) {
    let public = free_address();
    let host = public.to_string();
    let known = match settings {
        Settings::HostIsSet => ("PUBLIC_HOST", host.as_str()),
        Settings::ProxyIsTrusted => ("KOLBOX_PUBLIC__TRUSTED_PROXIES", "127.0.0.1/32"),
    };
    let office =
        Office::new(&[("KOLBOX_PUBLIC__TLS__MODE", "off"), ("KOLBOX_WATCHDOG__NO_MEDIA_TIMEOUT", "1s"), known]);
    let serve = office.serve();
    (office, serve, public)
}

/// Webhooks, prompts, the WebSocket and both of its paths go through what stands in front, and a call streams to its end.
fn assert_a_call_streams(office: &Office, serve: &Serve, public: SocketAddr) {
    let tried = office.call_at(public, &["--handshake"]).finish();
    assert_eq!(tried.code, Some(0), "{}", tried.out);
    let speech = office.speech(Duration::from_secs(1));
    let streamed = office.call_at(public, &["--audio", &speech]).finish();
    assert_eq!((streamed.code, streamed.call().outcome.as_str()), (Some(0), "streamed"), "{}", streamed.out);
    let call_sid = streamed.call().call_sid;
    serve.wait_for("its record", |line| line["event"] == "TRANSCRIPT_STORED" && line["call_sid"] == call_sid.as_str());
}

/// A call whose voice stops is sent to the recorder, and its recording is announced through what stands in front.
fn assert_a_call_is_recorded(office: &Office, serve: &Serve, public: SocketAddr) {
    let recorded =
        office.call_at(public, &["--audio", &office.speech(Duration::from_secs(1)), "--fault", "media-stops"]);
    let recorded = recorded.finish();
    assert_eq!((recorded.code, recorded.call().outcome.as_str()), (Some(0), "recorded"), "{}", recorded.out);
    serve.wait_for_event("RECORDING_RECEIVED");
}

fn start_nginx(nginx: &Path, office: &Office, public: SocketAddr, inner: SocketAddr) -> Program {
    let folder = office.folder();
    let (certificate, key) = certificate(folder);
    let site = replaced(
        NGINX,
        &[
            ("listen 443 ssl;", &format!("listen {public} ssl;")),
            ("    listen [::]:443 ssl;\n", ""),
            (&format!("/etc/letsencrypt/live/{NAME}/fullchain.pem"), certificate.to_str().unwrap()),
            (&format!("/etc/letsencrypt/live/{NAME}/privkey.pem"), key.to_str().unwrap()),
            (&format!("proxy_pass http://{INNER};"), &format!("proxy_pass http://{inner};")),
        ],
    );
    fs::write(folder.join("kolbox.conf"), site).unwrap();
    let folder = folder.display();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("{kind}_temp_path {folder}/nginx_{kind};\n"))
        .concat();
    let main = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {folder}/nginx.pid;\nerror_log stderr notice;\nevents {{}}\n\
         http {{\naccess_log off;\n{temporary}include {folder}/kolbox.conf;\n}}\n"
    );
    fs::write(office.folder().join("nginx.conf"), main).unwrap();
    let mut command = Command::new(nginx);
    command.args(["-e", "stderr", "-c"]).arg(office.folder().join("nginx.conf"));
    Program::start(command, "start worker process ").expect("nginx starts")
}

fn start_caddy(caddy: &Path, office: &Office, public: SocketAddr) -> Program {
    let folder = office.folder();
    let (certificate, key) = certificate(folder);
    let tls = format!("\ttls {} {}\n", certificate.display(), key.display());
    let site = replaced(
        CADDY,
        &[
            (&format!("\n{NAME} {{\n"), &format!("\nhttps://{public} {{\n{tls}")),
            (&format!("reverse_proxy {INNER}"), &format!("reverse_proxy {}", office.public)),
        ],
    );
    fs::write(folder.join("Caddyfile"), format!("{{\n\tadmin off\n\tauto_https disable_redirects\n}}\n{site}"))
        .unwrap();
    let mut command = Command::new(caddy);
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(folder.join("Caddyfile"));
    command.env("HOME", folder).env("XDG_DATA_HOME", folder).env("XDG_CONFIG_HOME", folder);
    Program::start(command, "serving initial configuration").expect("Caddy starts")
}

/// An SSH server for this user, with its one key limited as the file says.
fn start_sshd(sshd: &Path, folder: &Path, address: SocketAddr, far_end: SocketAddr) -> Option<Program> {
    for name in ["host_key", "tunnel_key"] {
        let mut command = Command::new("ssh-keygen");
        command.args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(folder.join(name));
        assert!(command.status().ok()?.success());
    }
    let public_key = |name: &str| fs::read_to_string(folder.join(name).with_extension("pub")).unwrap();
    let limited = TUNNEL.lines().find_map(|line| line.strip_prefix("#   restrict,")).expect("a line for the server");
    let limited = replaced(&format!("restrict,{limited}"), &[(INNER, &far_end.to_string())]);
    let (options, _) = limited.split_once("ssh-ed25519").unwrap();
    fs::write(folder.join("authorized_keys"), format!("{options}{}", public_key("tunnel_key"))).unwrap();
    let (ip, port) = (address.ip(), address.port());
    let known = format!("[{ip}]:{port} {}", public_key("host_key"));
    fs::write(folder.join("tunnel_known_hosts"), known).unwrap();
    let option =
        TUNNEL.lines().find_map(|line| line.strip_prefix("#   ClientAlive")).expect("an option for the server");
    let settings = format!(
        "ListenAddress {address}\nHostKey {0}/host_key\nAuthorizedKeysFile {0}/authorized_keys\nStrictModes no\n\
         PidFile none\nUsePAM no\nClientAlive{option}\n",
        folder.display()
    );
    fs::write(folder.join("sshd_config"), settings).unwrap();
    // As the system's own start of it does; without root it is neither possible nor needed.
    let _ = fs::create_dir_all("/run/sshd");
    let mut command = Command::new(sshd);
    command.args(["-D", "-e", "-f"]).arg(folder.join("sshd_config"));
    Program::start(command, "Server listening on").ok()
}

/// The command of the service, with its own addresses and files.
fn start_tunnel(ssh: &Path, folder: &Path, server: SocketAddr, far_end: SocketAddr, inner: SocketAddr) -> Program {
    let line = TUNNEL.replace("\\\n", "");
    let line = line.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/bin/ssh ")).expect("a command");
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let line = replaced(
        line,
        &[
            ("${CREDENTIALS_DIRECTORY}", folder.to_str().unwrap()),
            ("${CREDENTIALS_DIRECTORY}", folder.to_str().unwrap()),
            (&format!("{INNER}:{INNER}"), &format!("{far_end}:{inner}")),
            (&format!("kolbox-tunnel@{NAME}"), &format!("-p {} {}@{}", server.port(), user.trim(), server.ip())),
        ],
    );
    let mut command = Command::new(ssh);
    command.arg("-v").args(line.split_whitespace());
    Program::start(command, "remote forward success").expect("the tunnel opens")
}

/// A text with each of these replaced once; each must be there.
fn replaced(text: &str, changes: &[(&str, &str)]) -> String {
    changes.iter().fold(text.to_owned(), |text, (old, new)| {
        assert!(text.contains(old), "{old:?} is missing in:\n{text}");
        text.replacen(old, new, 1)
    })
}

fn certificate(folder: &Path) -> (PathBuf, PathBuf) {
    let pair = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let (certificate, key) = (folder.join("fullchain.pem"), folder.join("privkey.pem"));
    fs::write(&certificate, pair.cert.pem()).unwrap();
    fs::write(&key, pair.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    (certificate, key)
}

fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var("PATH").unwrap_or_default();
    let folders = path.split(':').chain(["/usr/sbin", "/usr/bin"]);
    folders.map(|folder| Path::new(folder).join(program)).find(|path| path.exists())
}

/// A program that tells on stderr when it is ready; dropped, it is ended.
struct Program(Child);

impl Program {
    /// Returns once it tells that it is ready; `Err`: it ended before, with what it said.
    fn start(mut command: Command, ready: &str) -> Result<Self, String> {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let program = Self(child);
        let mut said = Vec::new();
        for line in lines.by_ref() {
            let is_ready = line.contains(ready);
            said.push(line);
            if is_ready {
                // It goes on telling, and must not wait for somebody to read it.
                thread::spawn(move || lines.for_each(drop));
                return Ok(program);
            }
        }
        Err(said.join("\n"))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // nginx and sshd end their children when they are asked to, not when they are killed.
        let kill = format!("kill -TERM {}", self.0.id());
        let _ = Command::new("sh").args(["-c", &kill]).status();
        let _ = self.0.wait();
    }
}
