//! `kolbox transcribe` and `kolbox model` from outside: what they print, where, and with which exit code.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    path::Path,
    process::{Command, Output},
    thread,
};

use serde_json::{Value, json};
use tempfile::TempDir;

const CALLER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/static/speech/caller_en.wav");

fn kolbox(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.output().expect("the program runs")
}

fn out(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A server that answers one HTTP request, whatever it is.
fn answering(status: &'static str, body: String) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut stream = BufReader::new(listener.accept().unwrap().0);
        let mut length = 0;
        loop {
            let mut line = String::new();
            stream.read_line(&mut line).unwrap();
            if line.trim().is_empty() {
                break;
            }
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
        }
        stream.read_exact(&mut vec![0; length]).unwrap();
        let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
        stream.get_mut().write_all((head + &body).as_bytes()).unwrap();
    });
    address
}

fn openai(address: SocketAddr, arguments: &[&str]) -> Output {
    let url = format!("http://{address}");
    let environment = [
        ("KOLBOX_SPEECH__ENGINE", "openai"),
        ("KOLBOX_SPEECH__MODEL", "whisper-1"),
        ("KOLBOX_SPEECH__URL", &url),
        ("KOLBOX_SPEECH__API_KEY", "hunter2"),
    ];
    kolbox(arguments, &environment)
}

#[test]
fn the_text_is_on_stdout_a_line_a_piece_or_as_json() {
    let answer = json!({"text": "a b", "segments": [
        {"start": 0.0, "end": 1.0, "text": "שלום"}, {"start": 1.0, "end": 2.5, "text": "Hello"}]});
    let lines = openai(answering("200 OK", answer.to_string()), &["transcribe", CALLER]);
    assert_eq!((lines.status.code(), &out(&lines)[..], &err(&lines)[..]), (Some(0), "שלום\nHello\n", ""));
    let output = openai(answering("200 OK", answer.to_string()), &["transcribe", CALLER, "--json"]);
    let told: Value = serde_json::from_str(&out(&output)).unwrap();
    assert_eq!((&told["engine"], &told["text"]), (&json!("openai whisper-1"), &json!("שלום Hello")));
    assert_eq!(told["segments"][1], json!({"start_ms": 1_000, "end_ms": 2_500, "text": "Hello"}));
    assert!(told["duration_ms"].as_u64().unwrap() > 2_500);
    let nothing = openai(answering("200 OK", json!({"text": ""}).to_string()), &["transcribe", CALLER]);
    assert_eq!((nothing.status.code(), &out(&nothing)[..]), (Some(0), ""));
    assert!(err(&nothing).contains("nothing was said"));
}

#[test]
fn an_engine_that_fails_is_told_with_a_remedy_and_exit_code_1() {
    for (status, part, remedy) in [
        ("401 No", "does not accept our key", "set speech.api_key"),
        ("429 No", "busy", "try again later"),
        ("404 No", "HTTP 404 {}", "speech.model"),
    ] {
        let output = openai(answering(status, "{}".to_owned()), &["transcribe", CALLER]);
        let said = err(&output);
        assert_eq!((output.status.code(), &out(&output)[..]), (Some(1), ""), "{said}");
        assert!(said.contains(part) && said.contains(remedy) && !said.contains("hunter2"), "{said}");
    }
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = openai(nobody, &["transcribe", CALLER]);
    assert!(output.status.code() == Some(1) && err(&output).contains("cannot be reached"), "{}", err(&output));
}

#[test]
fn what_cannot_be_used_is_told_with_exit_code_2() {
    let folder = tempfile::tempdir().unwrap();
    let no_sound = folder.path().join("call.wav");
    fs::write(&no_sound, "no sound").unwrap();
    let no_sound = no_sound.to_str().unwrap();
    let whisper = [("KOLBOX_SPEECH__ENGINE", "whisper"), ("KOLBOX_SPEECH__MODEL", "/nowhere/m.bin")];
    let openai = [("KOLBOX_SPEECH__ENGINE", "openai")];
    let remedy = if cfg!(feature = "whisper") { "there is no such file" } else { "--features whisper" };
    for (file, environment, part) in [
        (CALLER, &[][..], "set speech.engine to"),
        (CALLER, &whisper[..], remedy),
        (CALLER, &openai[..], "speech.model (not set): must not be empty"),
        ("/nowhere/call.wav", &whisper[..], "/nowhere/call.wav cannot be read"),
        (no_sound, &whisper[..], "neither an MP3 nor a WAV"),
    ] {
        let output = kolbox(&["transcribe", file], environment);
        assert_eq!((output.status.code(), &out(&output)[..]), (Some(2), ""), "{}", err(&output));
        assert!(err(&output).contains(part), "{}", err(&output));
    }
}

/// Nobody who only transcribes has Twilio's token; what stands in `[speech]` is looked at all the same.
#[test]
fn the_rest_of_the_configuration_does_not_matter() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kolbox.toml");
    let config = |speech: &str| {
        fs::write(&file, format!("[watchdog]\nstart_timeout = \"1ms\"\n[speech]\n{speech}\n")).unwrap();
        kolbox(&["transcribe", CALLER, "--config", file.to_str().unwrap()], &[])
    };
    assert!(err(&config("engine = \"none\"")).contains("no speech engine is configured"));
    let address = answering("200 OK", json!({"text": "Hello"}).to_string());
    let output = config(&format!("engine = \"openai\"\nmodel = \"m\"\nurl = \"http://{address}/v1\""));
    assert_eq!((output.status.code(), &out(&output)[..]), (Some(0), "Hello\n"), "{}", err(&output));
    let output = config("engine = \"wispher\"");
    assert!(output.status.code() == Some(2) && err(&output).contains("did you mean \"whisper\"?"), "{}", err(&output));
}

/// A store with a file in its models.
fn store_with(name: &str, content: &[u8]) -> TempDir {
    let store = tempfile::tempdir().unwrap();
    fs::create_dir(store.path().join("models")).unwrap();
    fs::write(store.path().join("models").join(name), content).unwrap();
    store
}

fn model(store: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let store = store.to_str().unwrap();
    kolbox(&[&["model"], arguments].concat(), &[&[("KOLBOX_STORE__PATH", store)], environment].concat())
}

#[test]
fn the_list_tells_what_is_in_use_what_is_wrong_with_it_and_how_to_get_another() {
    let store = store_with("ggml-base-q5_1.bin", b"half a model");
    let none = model(store.path(), &[], &[]);
    let said = out(&none);
    assert_eq!(none.status.code(), Some(0), "{}", err(&none));
    let place = store.path().join("models").display().to_string();
    for part in ["in use: none", "ggml-base-q5_1.bin: it is no ggml file", "large-v3-turbo-q5_0", "https://", &place] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let used = [("KOLBOX_SPEECH__ENGINE", "whisper"), ("KOLBOX_SPEECH__MODEL", "base-q5_1")];
    let broken = model(store.path(), &["list"], &used);
    assert_eq!(broken.status.code(), Some(1));
    assert!(out(&broken).contains("cannot be used: it is no ggml file"), "{}", out(&broken));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("tcp://{nobody}");
    let lan = model(store.path(), &[], &[("KOLBOX_SPEECH__ENGINE", "wyoming"), ("KOLBOX_SPEECH__URL", &url)]);
    assert!(lan.status.code() == Some(1) && out(&lan).contains("cannot be reached"), "{}", out(&lan));
}

#[test]
fn a_file_is_checked_and_a_missing_one_named() {
    let store = store_with("ggml-base.bin", b"half a model");
    let file = store.path().join("models/ggml-base.bin");
    for (file, part) in [(file.to_str().unwrap(), "no ggml file"), ("/nowhere/m.bin", "there is no such file")] {
        let output = kolbox(&["model", "check", file], &[]);
        assert!(output.status.code() == Some(1) && out(&output).contains(part), "{}{}", out(&output), err(&output));
    }
}

#[test]
fn a_download_that_does_not_come_says_which_file_to_put_where() {
    let store = tempfile::tempdir().unwrap();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let from = format!("http://{nobody}/models");
    let output = model(store.path(), &["download", "base-q5_1", "--from", &from], &[]);
    let said = err(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    let place = store.path().join("models/ggml-base-q5_1.bin");
    for part in [&format!("{from}/ggml-base-q5_1.bin"), place.to_str().unwrap(), "another computer", "model check"] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!place.exists());
    let unknown = model(store.path(), &["download", "huge"], &[]);
    assert!(
        unknown.status.code() == Some(2) && err(&unknown).contains("expected one of base-q5_1"),
        "{}",
        err(&unknown)
    );
    let odd = model(store.path(), &["download", "base", "--from", "ftp://files.lan/"], &[]);
    assert!(odd.status.code() == Some(2) && err(&odd).contains("https://"), "{}", err(&odd));
}
