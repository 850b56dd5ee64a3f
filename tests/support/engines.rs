//! Speech engines that somebody else made, in processes of their own, as tests/support/speech_engines.sh prepares them.

use std::{
    env,
    ffi::OsStr,
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::mpsc::channel,
    thread,
    time::Duration,
};

/// Far longer than a model takes to be loaded.
const READY_MAX: Duration = Duration::from_secs(180);
/// Lines that are shown of one that did not become ready.
const LINES_SHOWN: usize = 20;

/// Which of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `wyoming-faster-whisper`, which Home Assistant's speech boxes run.
    Wyoming,
    /// `faster-whisper-server`, which answers as OpenAI does.
    OpenAi,
}

impl Kind {
    /// Its name in the configuration, and where it is said to be skipped.
    pub fn name(self) -> &'static str {
        match self {
            Self::Wyoming => "wyoming",
            Self::OpenAi => "openai",
        }
    }

    /// What `speech.url` says of one at this address.
    pub fn url(self, address: SocketAddr) -> String {
        match self {
            Self::Wyoming => format!("tcp://{address}"),
            Self::OpenAi => format!("http://{address}"),
        }
    }
}

/// What the script prepared: a Python with the servers in it, and the weights that they read.
#[derive(Debug, Clone)]
pub struct Prepared {
    python: PathBuf,
    weights: PathBuf,
}

impl Prepared {
    /// `Err`: why there is none.
    pub fn find() -> Result<Self, String> {
        Ok(Self { python: named("SPEECH_TEST_PYTHON", "Python")?, weights: named("SPEECH_TEST_WEIGHTS", "weights")? })
    }
}

/// A file or a folder that an environment variable names. `Err`: why there is none.
pub fn named(variable: &str, what: &str) -> Result<PathBuf, String> {
    let prepare = "tests/support/speech_engines.sh prepares all of it";
    let path = env::var_os(variable).map(PathBuf::from).ok_or(format!("{variable} names no {what} ({prepare})"))?;
    if path.exists() { Ok(path) } else { Err(format!("{variable} names {}, which is not there", path.display())) }
}

/// A running server; dropped, it is killed.
#[derive(Debug)]
pub struct Server {
    child: Child,
    pub address: SocketAddr,
}

impl Server {
    /// Starts it; returns once it listens, with this language where it wants to know beforehand.
    #[track_caller]
    pub fn start(kind: Kind, prepared: &Prepared, address: SocketAddr, language: &str) -> Self {
        let mut command = Command::new(&prepared.python);
        let (weights, port) = (prepared.weights.as_os_str(), address.port().to_string());
        let (uri, host) = (format!("tcp://{address}"), address.ip().to_string());
        let folder = env::temp_dir();
        let arguments: &[&OsStr] = match kind {
            Kind::Wyoming => &[
                "-m".as_ref(),
                "wyoming_faster_whisper".as_ref(),
                "--stt-library=faster-whisper".as_ref(),
                "--local-files-only".as_ref(),
                "--model".as_ref(),
                weights,
                "--uri".as_ref(),
                uri.as_ref(),
                "--data-dir".as_ref(),
                folder.as_os_str(),
                "--language".as_ref(),
                language.as_ref(),
            ],
            Kind::OpenAi => &[
                "-m".as_ref(),
                "faster_whisper_server".as_ref(),
                weights,
                "--host".as_ref(),
                host.as_ref(),
                "--port".as_ref(),
                port.as_ref(),
            ],
        };
        // They must find all that they need on this machine.
        command.args(arguments).env("HF_HUB_OFFLINE", "1").env("PYTHONUNBUFFERED", "1");
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let (lines, ready) = channel();
        // Reads on to its end, or the server would stand still at a full pipe.
        thread::spawn(move || said.lines().map_while(Result::ok).for_each(|line| drop(lines.send(line))));
        let server = Self { child, address };
        let mut before = Vec::new();
        loop {
            match ready.recv_timeout(READY_MAX) {
                Ok(line) if line.contains("Ready") || line.contains("running on") => return server,
                Ok(line) => before.push(line),
                Err(_) => {
                    let last = &before[before.len().saturating_sub(LINES_SHOWN)..];
                    panic!("{} does not start:\n{}", kind.name(), last.join("\n"));
                }
            }
        }
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in the middle of whatever it does.
    pub fn kill(self) {
        drop(self);
    }

    /// It stands still: its system takes connections for it, and it answers nothing.
    pub fn pause(&self) {
        self.signal("STOP");
    }

    pub fn resume(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
