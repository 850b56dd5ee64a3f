//! `kolbox demo` from outside: what it promises in its table is so, and it leaves nothing behind.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStdout, Command, ExitStatus, Stdio},
};

/// A running demo, whose temporary files go where the test can see them.
struct Demo {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Demo {
    fn start(arguments: &[&str], temporary: &Path) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
        command.arg("demo").args(arguments).env_clear().env("TMPDIR", temporary).stdout(Stdio::piped());
        let mut child = command.spawn().expect("the program runs");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, out }
    }

    /// All that it says until a line that contains this, or until its end.
    fn read_until(&mut self, wanted: &str) -> String {
        let mut said = String::new();
        loop {
            let begin = said.len();
            let is_end = self.out.read_line(&mut said).expect("text") == 0;
            if is_end || said[begin..].contains(wanted) {
                return said;
            }
        }
    }

    /// Asks it to end, as systemd and a terminal would.
    fn end(mut self) -> ExitStatus {
        // The shell's own: a bare system has no program of that name, and the standard library can only SIGKILL.
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().expect("a shell").success());
        self.child.wait().expect("it ends")
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        // Only a failed test leaves it running.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line of a table that begins with this name.
fn row<'a>(table: &'a str, name: &str) -> Vec<&'a str> {
    let line = table.lines().find(|line| line.split_whitespace().next() == Some(name));
    line.unwrap_or_else(|| panic!("{name} is missing in {table}")).split_whitespace().collect()
}

/// What a caller met: whether some of their voice was streamed, and some recorded.
fn met(table: &str, name: &str) -> (bool, bool) {
    let lengths = row(table, name).join(" ").replace(" s", "s");
    let [_silence, recorded, streamed] = lengths.rsplit(' ').take(3).collect::<Vec<_>>()[..] else { panic!("{table}") };
    (streamed != "-", recorded != "-")
}

/// Whether a process of this number runs this program.
fn is_kolbox(process: &str) -> bool {
    fs::read(format!("/proc/{process}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains("kolbox"))
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).unwrap().next().is_none()
}

#[test]
fn every_caller_is_kept_and_the_office_gets_every_record_once() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&["--keep-running"], temporary.path());
    let said = demo.read_until("--auth-token");
    assert!(said.contains("\nKEPT  "), "{said}");
    assert!(!said.contains('\u{1b}') && !said.contains("{\""), "no colours and no log in a pipe: {said}");

    let (story, rest) = said.split_once("What each caller met").expect("a table of callers");
    let (callers, records) = rest.split_once("What reached the office's system").expect("a table of records");
    for (name, streamed, recorded) in [
        ("Dana", true, false),
        ("Boaz", true, false),
        ("Gil", false, true),
        ("Noa", true, true),
        ("Eli", true, true),
        ("Tamar", false, true),
        ("Ruth", true, false),
        ("Yael", true, true),
    ] {
        assert_eq!(met(callers, name), (streamed, recorded), "{name}: {callers}");
    }
    for (name, source, reason) in [
        ("Dana", "stream", "-"),
        ("Boaz", "stream", "-"),
        ("Gil", "recording", "no_stream_start"),
        ("Noa", "recording", "no_media"),
        ("Eli", "recording", "socket_lost"),
        ("Tamar", "recording", "no_capacity"),
        ("Ruth", "stream", "-"),
        ("Yael", "recording", "socket_lost"),
    ] {
        let [_, id, was_source, outcome, was_reason] = row(records, name)[..] else { panic!("{records}") };
        assert_eq!((id.len(), was_source, outcome, was_reason), (26, source, "untranscribed", reason));
        assert_eq!(records.lines().filter(|line| line.trim_start().starts_with(name)).count(), 1, "{records}");
    }
    for part in ["answers HTTP 503", "is up again", "Boaz has said nothing", "INBOX dark", "Tamar goes to the recorder"]
    {
        assert!(story.contains(part), "{part}: {story}");
    }
    let (_, encore) = story.split_once("pulls the plug").expect("the last act");
    let told = [
        "is down once more",
        "Ruth's record is on the disk",
        "SIGKILL",
        "is started again",
        "Yael: Twilio took the redirect",
        "has Ruth's record",
        "has Yael's record",
    ];
    let mut rest = encore;
    for part in told {
        rest = rest.split_once(part).unwrap_or_else(|| panic!("{part} is missing, or comes too early: {encore}")).1;
    }
    let killed =
        encore.split("process ").nth(1).and_then(|text| text.split(' ').next()).expect("the second box's number");
    assert!(!is_kolbox(killed), "the second box is gone");

    let page = story.split_whitespace().find_map(|word| word.strip_prefix("http://")).expect("the status page");
    let host = page.split('/').next().expect("its host");
    let mut answer = String::new();
    let mut stream = TcpStream::connect(host).unwrap();
    write!(stream, "GET /?lang=en HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n").unwrap();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");

    assert_eq!(demo.end().code(), Some(0));
    assert!(is_empty(temporary.path()));
}

#[test]
fn one_that_is_interrupted_judges_nothing_and_leaves_nothing_behind() {
    let temporary = tempfile::tempdir().unwrap();
    let mut demo = Demo::start(&[], temporary.path());
    demo.read_until("hears the greeting");
    assert!(!is_empty(temporary.path()));
    assert_eq!(demo.end().code(), Some(1));
    assert!(is_empty(temporary.path()));
}
