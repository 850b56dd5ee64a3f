//! The example receiver that an office starts from (static/receiver/receiver.py): with the real box, killed and started
//! again, and asked by hand for each of its answers.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use process::Office;
use serde_json::Value;

#[path = "support/process.rs"]
mod process;

const TOKEN: &str = "office-token";

/// A running receiver; dropped, it is killed.
struct Receiver {
    child: Child,
    address: SocketAddr,
}

impl Receiver {
    /// Listens at this address; port 0: at any.
    fn start(database: &Path, listen: SocketAddr) -> Self {
        let mut command = python(database);
        command.args(["--listen", &listen.to_string()]).env("RECEIVER_TOKEN", TOKEN).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        let url = said.trim().strip_prefix("listening on http://").unwrap_or_else(|| panic!("it says {said:?}"));
        Self { child, address: url.strip_suffix("/transcripts").unwrap().parse().unwrap() }
    }

    /// What it answers to a POST with these headers beside the length.
    fn status_of(&self, path: &str, headers: &str, body: &str) -> u16 {
        let mut stream = TcpStream::connect(self.address).unwrap();
        let length = body.len();
        let request = format!(
            "POST {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        // One that is not read to its end may end in a reset; the answer came before.
        let _ = stream.read_to_string(&mut answer);
        answer.split(' ').nth(1).unwrap_or_else(|| panic!("no answer: {answer:?}")).parse().unwrap()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn python(database: &Path) -> Command {
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("static/receiver/receiver.py");
    let mut command = Command::new("python3");
    command.args(["-I", "-B"]).arg(script).arg("--database").arg(database);
    command
}

fn is_python_here() -> bool {
    let is_here =
        Command::new("python3").args(["-I", "-c", "import sqlite3"]).output().is_ok_and(|run| run.status.success());
    if !is_here {
        process::skipped("receiver: there is no python3 with sqlite3");
    }
    is_here
}

fn listed(database: &Path) -> Vec<Value> {
    let output = python(database).arg("--list").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn what_the_box_sends_is_kept_once_and_in_order_also_when_the_receiver_was_killed() {
    if !is_python_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("transcripts.sqlite");
    let receiver = Receiver::start(&database, process::free_address());
    let address = receiver.address;
    let office = Office::new(&[
        ("KOLBOX_SYNC__URL", &format!("http://{address}/transcripts")),
        ("KOLBOX_SYNC__TOKEN", TOKEN),
        ("KOLBOX_SYNC__RETRY_MAX", "1s"),
    ]);
    let speech = office.speech(Duration::from_secs(1));
    let serve = office.serve();
    let call = |count: &str| {
        let finished = office.call(&["--calls", count, "--audio", &speech]).finish();
        assert_eq!(finished.code, Some(0), "{}", finished.out);
    };
    call("2");
    serve.wait_for_many("both records", 2, |line| line["event"] == "TRANSCRIPT_SYNCED");
    drop(receiver);
    call("1");
    serve.wait_for_event("SYNC_FAILED");
    let _receiver = Receiver::start(&database, address);
    serve.wait_for_many("the third record", 3, |line| line["event"] == "TRANSCRIPT_SYNCED");
    serve.terminate();
    assert_eq!(serve.end().0, Some(0));
    let kept = listed(&database);
    assert_eq!(kept.len(), 3);
    assert_eq!(kept, office.transcripts(), "the objects that the box keeps, in its order");
}

#[test]
fn each_answer_means_to_the_box_what_it_should() {
    if !is_python_here() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("transcripts.sqlite");
    let receiver = Receiver::start(&database, SocketAddr::from(([127, 0, 0, 1], 0)));
    let with = |token: &str, key: &str| format!("Authorization: Bearer {token}\r\nIdempotency-Key: {key}\r\n");
    let body = r#"{"id":"A","text":"שלום"}"#;
    for (path, headers, body, expected) in [
        ("/transcripts", with(TOKEN, "A"), body, 201),
        ("/transcripts", with(TOKEN, "A"), body, 409),
        ("/transcripts", with("wrong", "B"), body, 401),
        ("/transcripts", String::new(), body, 401),
        ("/elsewhere", with(TOKEN, "A"), body, 404),
        ("/transcripts", with(TOKEN, "B"), body, 422),
        ("/transcripts", with(TOKEN, "B"), "[]", 422),
        ("/transcripts", with(TOKEN, "B"), "no json", 422),
        ("/transcripts", format!("Authorization: Bearer {TOKEN}\r\n"), body, 422),
        ("/transcripts", with(TOKEN, "B"), &"x".repeat(1024 * 1024 + 1), 413),
    ] {
        assert_eq!(receiver.status_of(path, &headers, body), expected, "{path} {headers}");
    }
    assert_eq!(listed(&database), [serde_json::json!({"id": "A", "text": "שלום"})]);
}
