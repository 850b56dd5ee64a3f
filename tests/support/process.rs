//! The real program in processes of its own: `kolbox serve`, watched by its log, and `kolbox call`, which rings it.
//!
//! Nothing here waits for a fixed time. A gateway is ready when its log says so, and whoever waits for something to
//! happen waits for its line.

#![allow(dead_code, reason = "each test file uses its part of this")]

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::PathBuf,
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

pub const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
pub const AUTH_TOKEN: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";
/// Far longer than anything takes, also on a machine that is busy with something else; a real speech engine may take a minute.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// The one prompt for everything: as short as a prompt can be, so that tests are.
const PROMPT: &str = "prompt.wav";
const PROMPT_TEXT: &str = "prompt.txt";
const PROMPT_MS: u32 = 200;

/// An office: a folder that outlives the gateway's processes, and addresses that stay the same.
pub struct Office {
    folder: TempDir,
    /// Where the gateway serves Twilio.
    pub public: SocketAddr,
    /// Where the gateway serves staff.
    pub status: SocketAddr,
    /// Where the gateway looks for Twilio's REST API.
    pub rest: SocketAddr,
    environment: Vec<(String, String)>,
}

impl Office {
    /// An office with these settings (as `KOLBOX_*` in the environment) beside those that every one here has.
    pub fn new(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (public, status, rest) = (free_address(), free_address(), free_address());
        let prompts = folder.path().join("prompts");
        fs::create_dir(&prompts).unwrap();
        write_tone(&prompts.join(PROMPT), PROMPT_MS);
        fs::write(prompts.join(PROMPT_TEXT), "Speak now.").unwrap();
        let mut environment = vec![
            ("TWILIO_ACCOUNT_SID".to_owned(), ACCOUNT_SID.to_owned()),
            ("TWILIO_AUTH_TOKEN".to_owned(), AUTH_TOKEN.to_owned()),
            ("KOLBOX_TWILIO__API_BASE".to_owned(), format!("http://{rest}")),
            ("KOLBOX_PUBLIC__LISTEN".to_owned(), public.to_string()),
            ("KOLBOX_STATUS__LISTEN".to_owned(), status.to_string()),
            ("KOLBOX_STORE__PATH".to_owned(), folder.path().join("store").display().to_string()),
            ("KOLBOX_CALLS__PROMPTS".to_owned(), prompts.display().to_string()),
            ("KOLBOX_FALLBACK__TIMEOUT".to_owned(), "1s".to_owned()),
        ];
        for key in ["GREETING", "FALLBACK_PROMPT", "NO_MESSAGE_PROMPT", "GOODBYE_PROMPT"] {
            environment.push((format!("KOLBOX_CALLS__{key}"), PROMPT.to_owned()));
        }
        environment.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Self { folder, public, status, rest, environment }
    }

    /// Starts the gateway; returns once it answers calls.
    pub fn serve(&self) -> Serve {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
        command.arg("serve").env_clear().envs(self.environment.iter().cloned());
        let serve = Serve { program: Program::start(command, self.complaints("serve")) };
        serve.wait_for("the gateway answers calls", |line| line["message"] == "calls are answered");
        serve
    }

    /// Starts the gateway, whatever the format of its log; returns once it answers calls.
    pub fn serve_unparsed(&self) -> Serve {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
        command.arg("serve").env_clear().envs(self.environment.iter().cloned());
        let serve = Serve { program: Program::start(command, self.complaints("serve")) };
        serve.wait_for_text("calls are answered");
        serve
    }

    /// A folder of this office's own.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Rings the gateway.
    pub fn call(&self, arguments: &[&str]) -> Calling {
        self.call_at(self.public, arguments)
    }

    /// Rings the gateway beside other callers; REST is with one of them, if with anybody.
    pub fn call_beside(&self, arguments: &[&str]) -> Calling {
        self.ring(self.public, free_address(), arguments)
    }

    /// Rings whatever stands at this address in front of the gateway.
    pub fn call_at(&self, public: SocketAddr, arguments: &[&str]) -> Calling {
        self.ring(public, self.rest, arguments)
    }

    fn ring(&self, public: SocketAddr, rest: SocketAddr, arguments: &[&str]) -> Calling {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
        let url = format!("https://{public}/webhook/incoming_call");
        command.args(["call", &url, "--rest-listen", &rest.to_string()]).args(arguments).env_clear();
        command.env("TWILIO_ACCOUNT_SID", ACCOUNT_SID).env("TWILIO_AUTH_TOKEN", AUTH_TOKEN);
        Calling { program: Program::start(command, self.complaints("call")) }
    }

    /// Waits until `/api/status` says so.
    #[track_caller]
    pub fn wait_for_status(&self, wanted: impl Fn(&Value) -> bool) -> Value {
        let mut stream = TcpStream::connect(self.status).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        write!(stream, "GET /api/events HTTP/1.1\r\nHost: {}\r\n\r\n", self.status).unwrap();
        for line in BufReader::new(stream).lines() {
            let line = line.expect("the box tells how it stands");
            if let Some(data) = line.strip_prefix("data:")
                && let Ok(now) = serde_json::from_str::<Value>(data)
                && wanted(&now)
            {
                return now;
            }
        }
        panic!("the box stopped telling how it stands");
    }

    /// A file with so much for a caller to say.
    pub fn speech(&self, length: Duration) -> String {
        let path = self.folder.path().join(format!("speech_{}.wav", length.as_millis()));
        write_tone(&path, u32::try_from(length.as_millis()).unwrap());
        path.to_str().unwrap().to_owned()
    }

    /// What `kolbox transcripts list` shows, told nothing but where the store is.
    pub fn transcripts(&self) -> Vec<Value> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
        command.args(["transcripts", "list"]).env_clear();
        let output = command.env("KOLBOX_STORE__PATH", self.folder.path().join("store")).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "every record is final");
        let lines = String::from_utf8(output.stdout).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    fn complaints(&self, name: &str) -> PathBuf {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        self.folder.path().join(format!("{name}_{}.stderr", NEXT.fetch_add(1, Ordering::Relaxed)))
    }
}

/// A running gateway; dropped, it is killed.
pub struct Serve {
    program: Program,
}

impl Serve {
    /// Waits for a line of the log.
    #[track_caller]
    pub fn wait_for(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        self.wait_for_many(what, 1, wanted).remove(0)
    }

    /// Waits for so many lines of the log.
    #[track_caller]
    pub fn wait_for_many(&self, what: &str, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
        self.program.wait_for_lines(what, |lines| {
            let found: Vec<Value> = parse(lines).into_iter().filter(&wanted).take(count).collect();
            (found.len() == count).then_some(found)
        })
    }

    /// Waits for a line with this in it, whatever the format; returns the line.
    #[track_caller]
    pub fn wait_for_text(&self, part: &str) -> String {
        self.program.wait_for_lines(part, |lines| lines.iter().find(|line| line.contains(part)).cloned())
    }

    /// Waits for its end. The exit code, and all that it wrote: the log, and what it said beside it.
    #[track_caller]
    pub fn end_unparsed(mut self) -> (Option<i32>, String) {
        let (status, lines) = self.program.end();
        (status.code(), lines.join("\n") + "\n" + &self.program.complaints())
    }

    /// Waits for this event of any call.
    #[track_caller]
    pub fn wait_for_event(&self, event: &str) -> Value {
        self.wait_for(event, |line| line["event"] == event)
    }

    /// Waits until so many records are final and safe.
    #[track_caller]
    pub fn wait_for_transcripts(&self, count: usize) {
        self.wait_for_many("TRANSCRIPT_STORED", count, |line| line["event"] == "TRANSCRIPT_STORED");
    }

    /// Asks it to end, as systemd does.
    pub fn terminate(&self) {
        self.signal("TERM");
    }

    /// Asks it to look at its certificate, as `systemctl reload` does.
    pub fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Sends it this signal.
    pub fn signal(&self, name: &str) {
        // The standard library can only kill.
        let kill = format!("kill -{name} {}", self.program.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }

    /// Waits for its end. The exit code, and the whole log.
    #[track_caller]
    pub fn end(mut self) -> (Option<i32>, Log) {
        let (status, lines) = self.program.end();
        (status.code(), Log(parse(&lines)))
    }

    /// Ends it as a power cut does.
    pub fn kill(self) {
        drop(self);
    }

    /// Ends it as a power cut does; all that it had logged by then.
    #[track_caller]
    pub fn kill_and_read(mut self) -> Log {
        let _ = self.program.child.kill();
        let (_, lines) = self.program.end();
        // The last line may be cut off.
        Log(lines.iter().filter_map(|line| serde_json::from_str(line).ok()).collect())
    }
}

/// All that a gateway logged.
#[derive(Debug)]
pub struct Log(Vec<Value>);

impl Log {
    /// What happened in a call: its events, and its webhooks by name and status.
    pub fn of_call(&self, call_sid: &str) -> Vec<String> {
        self.0.iter().filter(|line| line["call_sid"] == call_sid).filter_map(describe).collect()
    }

    /// All lines at level ERROR.
    pub fn errors(&self) -> Vec<&Value> {
        self.0.iter().filter(|line| line["level"] == "ERROR").collect()
    }

    /// Its plain messages.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|line| line["message"].as_str())
    }

    /// All lines of this event.
    pub fn events<'a>(&'a self, event: &'a str) -> impl Iterator<Item = &'a Value> {
        self.0.iter().filter(move |line| line["event"] == event)
    }

    /// The first line of this event in a call.
    pub fn find(&self, call_sid: &str, event: &str) -> Option<&Value> {
        self.0.iter().find(|line| line["call_sid"] == call_sid && line["event"] == event)
    }
}

fn describe(line: &Value) -> Option<String> {
    match line["event"].as_str()? {
        "RES" => Some(format!("{} {}", line["path"].as_str()?.rsplit('/').next()?, line["status"])),
        event => Some(event.to_owned()),
    }
}

/// Whether all of these happened, in this order.
#[track_caller]
pub fn assert_in_order(happened: &[String], expected: &[&str]) {
    let mut rest = happened.iter();
    for event in expected {
        assert!(rest.any(|one| one == event), "{event} is missing, or comes too early, in {happened:#?}");
    }
}

/// A running `kolbox call`; dropped, it is killed.
pub struct Calling {
    program: Program,
}

impl Calling {
    /// Waits until it tells this of its call.
    #[track_caller]
    pub fn wait_for(&self, told: &str) {
        self.program.wait_for_lines(told, |lines| lines.iter().any(|line| line.contains(told)).then_some(()));
    }

    /// Waits for its end.
    #[track_caller]
    pub fn finish(mut self) -> Finished {
        let (status, lines) = self.program.end();
        Finished { code: status.code(), out: lines.join("\n") }
    }
}

/// What `kolbox call` had to say.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub out: String,
}

/// What became of one call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    pub call_sid: String,
    /// `streamed`, `recorded`, …
    pub outcome: String,
    pub recording_sid: Option<String>,
}

impl Finished {
    /// Its calls, in the order of their ends.
    pub fn calls(&self) -> Vec<Placed> {
        self.out.lines().filter_map(read_report).collect()
    }

    /// Its only call.
    #[track_caller]
    pub fn call(&self) -> Placed {
        let calls = self.calls();
        assert_eq!(calls.len(), 1, "{}", self.out);
        calls[0].clone()
    }
}

/// `CA… recorded RE…: ringing 0.02 s, …`
fn read_report(line: &str) -> Option<Placed> {
    let (head, _) = line.strip_prefix("CA").and(line.split_once(':'))?;
    let mut words = head.split(' ').map(str::to_owned);
    Some(Placed { call_sid: words.next()?, outcome: words.next()?, recording_sid: words.next() })
}

/// A child process whose output is read line by line while it runs.
struct Program {
    child: Child,
    output: Arc<Output>,
    complaints: PathBuf,
}

#[derive(Default)]
struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Default)]
struct Lines {
    all: Vec<String>,
    ended: bool,
}

impl Program {
    fn start(mut command: Command, complaints: PathBuf) -> Self {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&complaints).unwrap());
        let mut child = command.spawn().unwrap();
        let output = Arc::<Output>::default();
        let (stdout, reader) = (child.stdout.take().unwrap(), output.clone());
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                reader.lines.lock().unwrap().all.push(line);
                reader.changed.notify_all();
            }
            reader.lines.lock().unwrap().ended = true;
            reader.changed.notify_all();
        });
        Self { child, output, complaints }
    }

    #[track_caller]
    fn wait_for_lines<T>(&self, what: &str, find: impl Fn(&[String]) -> Option<T>) -> T {
        let until = Instant::now() + PATIENCE;
        let mut lines = self.output.lines.lock().unwrap();
        loop {
            if let Some(found) = find(&lines.all) {
                return found;
            }
            let left = until.saturating_duration_since(Instant::now());
            if lines.ended || left.is_zero() {
                let ended = if lines.ended { "the program ended before" } else { "waited in vain for" };
                let all = lines.all.join("\n");
                drop(lines);
                panic!("{ended}: {what}\n{all}\n{}", self.complaints());
            }
            lines = self.output.changed.wait_timeout(lines, left).unwrap().0;
        }
    }

    /// Waits until its output ends and it is gone.
    #[track_caller]
    fn end(&mut self) -> (ExitStatus, Vec<String>) {
        let until = Instant::now() + 2 * PATIENCE;
        let mut lines = self.output.lines.lock().unwrap();
        while !lines.ended {
            let left = until.saturating_duration_since(Instant::now());
            assert!(!left.is_zero(), "the program does not end:\n{}", lines.all.join("\n"));
            lines = self.output.changed.wait_timeout(lines, left).unwrap().0;
        }
        (self.child.wait().unwrap(), lines.all.clone())
    }

    fn complaints(&self) -> String {
        fs::read_to_string(&self.complaints).unwrap_or_default()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn parse(lines: &[String]) -> Vec<Value> {
    lines.iter().map(|line| serde_json::from_str(line).expect("each line of the log is an object")).collect()
}

/// An address on loopback where nobody listens. It stays free until the program takes it: it lies below the ports that
/// systems give to outgoing connections, and each test process begins its search elsewhere.
pub fn free_address() -> SocketAddr {
    const FIRST: u32 = 10_000;
    const COUNT: u32 = 20_000;
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let nth = process::id().wrapping_mul(101).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        let port = u16::try_from(FIRST + nth % COUNT).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
}

/// Says on stderr, past the test harness's capture, that a test did not do its work.
pub fn skipped(why: &str) {
    let _ = writeln!(io::stderr(), "SKIPPED {why}");
}

fn write_tone(path: &std::path::Path, length_ms: u32) {
    let spec =
        hound::WavSpec { channels: 1, sample_rate: 8000, bits_per_sample: 16, sample_format: hound::SampleFormat::Int };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for sample in 0..8 * length_ms {
        let phase = std::f32::consts::TAU * 440.0 * sample as f32 / 8000.0;
        writer.write_sample((phase.sin() * 8000.0) as i16).unwrap();
    }
    writer.finalize().unwrap();
}
