//! The real `kolbox serve` in a process of its own, watched by its log and by what the kernel says of its memory.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;

pub const ACCOUNT_SID: &str = "AC00000000000000000000000000000001";
pub const AUTH_TOKEN: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";
/// A start takes a second, on a busy machine a few.
const START_MAX: Duration = Duration::from_secs(60);
/// Different messages of warning that are remembered.
const COMPLAINTS_MAX: usize = 64;

/// A running gateway with TLS on loopback and a store of its own; dropped, it is killed and its store removed.
pub struct Gateway {
    pub public: SocketAddr,
    child: Child,
    complaints: Complaints,
    folder: TempDir,
}

/// How often each message above info was logged.
type Complaints = Arc<Mutex<BTreeMap<String, u64>>>;

/// What a process has, as the kernel counts it.
#[derive(Debug, Clone, Copy)]
pub struct Memory {
    /// In RAM now, the program's own text with it (`VmRSS`), in bytes.
    pub resident: u64,
    /// Of that, what no file stands behind (`RssAnon`).
    pub anonymous: u64,
    /// The most that was ever in RAM (`VmHWM`).
    pub peak: u64,
    pub descriptors: usize,
    pub threads: u64,
}

impl Gateway {
    /// Starts it with these settings in its environment; returns once it answers calls.
    ///
    /// # Errors
    /// It does not start, and why as far as it said so.
    pub fn start(settings: &[(String, String)]) -> io::Result<Self> {
        let folder = tempfile::tempdir()?;
        let said = folder.path().join("stderr");
        let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
        command.arg("serve").env_clear().envs([
            ("TWILIO_ACCOUNT_SID", ACCOUNT_SID),
            ("TWILIO_AUTH_TOKEN", AUTH_TOKEN),
            ("KOLBOX_PUBLIC__LISTEN", "127.0.0.1:0"),
            ("KOLBOX_STATUS__LISTEN", "127.0.0.1:0"),
            // Nobody is there; no call of a bench needs REST.
            ("KOLBOX_TWILIO__API_BASE", "http://127.0.0.1:1"),
            // As systemd/kolbox.service has it.
            ("MALLOC_ARENA_MAX", "1"),
        ]);
        command.env("KOLBOX_STORE__PATH", folder.path().join("store"));
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(File::create(&said)?);
        let mut child = command.spawn()?;
        let complaints = Complaints::default();
        let (ready, answers) = mpsc::channel();
        if let Some(stdout) = child.stdout.take() {
            let complaints = complaints.clone();
            thread::spawn(move || read_log(stdout, &complaints, &ready));
        }
        match answers.recv_timeout(START_MAX) {
            Ok(public) => Ok(Self { public, child, complaints, folder }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(io::Error::other(format!("kolbox does not start:\n{}", fs::read_to_string(said)?)))
            }
        }
    }

    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// What it logged above info, and how often.
    pub fn complaints(&self) -> Vec<(String, u64)> {
        let complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        complaints.iter().map(|(message, count)| (message.clone(), *count)).collect()
    }

    /// What it has now.
    ///
    /// # Errors
    /// It is gone.
    pub fn memory(&self) -> io::Result<Memory> {
        let process = PathBuf::from(format!("/proc/{}", self.child.id()));
        let status = fs::read_to_string(process.join("status"))?;
        let kib = |name: &str| figure(&status, name).map(|kib| kib * 1024);
        Ok(Memory {
            resident: kib("VmRSS")?,
            anonymous: kib("RssAnon")?,
            peak: kib("VmHWM")?,
            threads: figure(&status, "Threads")?,
            descriptors: fs::read_dir(process.join("fd"))?.count(),
        })
    }

    /// What its store takes on the disk, in bytes: the records, and the callers' audio.
    pub fn stored(&self) -> io::Result<(u64, u64)> {
        let store = self.folder.path().join("store");
        Ok((bytes_below(&store.join("records"))?, bytes_below(&store.join("audio"))?))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn read_log(stdout: ChildStdout, complaints: &Mutex<BTreeMap<String, u64>>, ready: &mpsc::Sender<SocketAddr>) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Ok(line) = serde_json::from_str::<Value>(&line) else { continue };
        if line["message"] == "calls are answered" {
            let public = line["public"].as_str().and_then(|public| public.parse().ok());
            let _ = public.map(|public| ready.send(public));
        }
        if line["level"] != "INFO" {
            let message = line["message"].as_str().or_else(|| line["event"].as_str()).unwrap_or_default();
            let mut complaints = complaints.lock().unwrap_or_else(PoisonError::into_inner);
            if complaints.len() < COMPLAINTS_MAX || complaints.contains_key(message) {
                *complaints.entry(message.to_owned()).or_default() += 1;
            }
        }
    }
}

/// The number in a line like `VmRSS:      1234 kB`.
fn figure(status: &str, name: &str) -> io::Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let number = line.and_then(|line| line.split_whitespace().next()).and_then(|number| number.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("the kernel tells no {name}")))
}

fn bytes_below(folder: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        // Files come and go under our eyes.
        let Ok(metadata) = entry.metadata() else { continue };
        bytes += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
