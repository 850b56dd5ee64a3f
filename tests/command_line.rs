//! The program from outside: where its configuration comes from on a real machine, its exit codes, what it never prints.

use std::{
    fs,
    io::{BufRead, BufReader},
    net::TcpListener,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
    path::Path,
    process::{Child, Command, Output, Stdio},
};

use kolbox::{
    simulator::{account::NumberSettings, rest, twilio::Twilio},
    system::http_client::Roots,
    transcripts::sled_store::SledStore,
    twilio::webhook::Form,
};
use serde_json::Value;
use tokio::runtime::Runtime;

const TOKEN: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";
const ACCOUNT: &str = "AC00000000000000000000000000000001";

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

/// A Twilio with our account and a number that leads to the box.
struct Account {
    _runtime: Runtime,
    served: rest::Served,
}

impl Account {
    fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let twilio = Twilio::new(ACCOUNT.parse().unwrap(), TOKEN, &Roots::Insecure, None).unwrap();
        twilio.account().add_number(NumberSettings {
            phone_number: "+97231234567".to_owned(),
            voice_url: "https://gw.example.co.il/webhook/incoming_call".to_owned(),
            voice_fallback_url: "https://handler.twilio.com/twiml/EH1".to_owned(),
            status_callback: "https://gw.example.co.il/webhook/call_status".to_owned(),
        });
        let served = runtime.block_on(rest::serve("127.0.0.1:0".parse().unwrap(), twilio)).unwrap();
        Self { _runtime: runtime, served }
    }

    fn api_base(&self) -> String {
        format!("http://{}", self.served.address)
    }
}

/// What the doctor reads on ports that are free and with a store that can be written.
fn config(store: &std::path::Path, account: &Account) -> String {
    format!(
        "[public]\nlisten = \"127.0.0.1:0\"\n[status]\nlisten = \"127.0.0.1:0\"\n[twilio]\naccount_sid = \"{ACCOUNT}\"\n\
         api_base = \"{}\"\n[store]\npath = \"{}\"\n",
        account.api_base(),
        store.display()
    )
}

#[test]
fn the_option_wins_over_the_environment_in_naming_the_file() {
    let (folder, account) = (tempfile::tempdir().unwrap(), Account::open());
    let (one, other) = (folder.path().join("one.toml"), folder.path().join("other.toml"));
    fs::write(&one, config(folder.path(), &account)).unwrap();
    fs::write(&other, config(folder.path(), &account)).unwrap();
    let (one, other) = (one.to_str().unwrap(), other.to_str().unwrap());
    let environment = [("KOLBOX_CONFIG", other), ("TWILIO_AUTH_TOKEN", TOKEN)];
    let both = kolbox(&["check", "--config", one], &environment);
    assert!(out(&both).contains("one.toml") && both.status.code() == Some(0), "{}{}", out(&both), err(&both));
    assert!(out(&kolbox(&["check"], &environment)).contains("other.toml"));
}

#[test]
fn secrets_come_from_the_credentials_directory() {
    let (folder, account) = (tempfile::tempdir().unwrap(), Account::open());
    let file = folder.path().join("kolbox.toml");
    fs::write(&file, config(folder.path(), &account)).unwrap();
    let arguments = ["check", "--config", file.to_str().unwrap()];
    let environment = [("CREDENTIALS_DIRECTORY", folder.path().to_str().unwrap())];
    let without = kolbox(&arguments, &environment);
    assert!(without.status.code() == Some(2) && err(&without).contains("twilio.auth_token"), "{}", err(&without));
    fs::write(folder.path().join("twilio_auth_token"), format!("{TOKEN}\n")).unwrap();
    let with = kolbox(&arguments, &environment);
    assert_eq!(with.status.code(), Some(0), "{}{}", out(&with), err(&with));
}

#[test]
fn a_configuration_that_cannot_be_used_ends_with_2_and_all_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kolbox.toml");
    fs::write(&file, format!("[twilio]\nauth_token = {TOKEN}\n[watchdog]\nstart_timeout = 8\n")).unwrap();
    let file = file.to_str().unwrap();
    for command in ["serve", "check"] {
        let output = kolbox(&[command, "--config", file], &[("KOLBOX_WATCHDOG__SPEED", "9")]);
        assert_eq!(output.status.code(), Some(2));
        let said = err(&output);
        for part in ["kolbox.toml:2: auth_token", ":4: watchdog.start_timeout = 8: expected", "KOLBOX_WATCHDOG__SPEED"]
        {
            assert!(said.contains(part), "{part}: {said}");
        }
        assert!(!said.contains(TOKEN), "{said}");
    }
}

#[test]
fn a_file_that_was_named_must_be_there_and_be_text() {
    let folder = tempfile::tempdir().unwrap();
    let missing = kolbox(&["serve", "--config", "/nowhere/kolbox.toml"], &[]);
    assert!(missing.status.code() == Some(2) && err(&missing).contains("/nowhere/kolbox.toml: there is no such file"));
    assert!(!err(&missing).contains("auth_token"), "what the file might say is not said to be missing");
    let utf16 = folder.path().join("utf16.toml");
    fs::write(&utf16, [0xff, 0xfe, b'[', 0]).unwrap();
    let output = kolbox(&["serve"], &[("KOLBOX_CONFIG", utf16.to_str().unwrap())]);
    assert!(output.status.code() == Some(2) && err(&output).contains("is UTF-16"));
}

#[test]
fn the_doctor_ends_with_1_when_something_needs_fixing() {
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap().to_string();
    let (account, far) = (Account::open(), "http://127.0.0.1:1");
    let api_base = account.api_base();
    let environment = |api_base| {
        [
            ("TWILIO_AUTH_TOKEN", TOKEN),
            ("TWILIO_ACCOUNT_SID", ACCOUNT),
            ("KOLBOX_PUBLIC__LISTEN", listen.as_str()),
            ("KOLBOX_STATUS__LISTEN", "127.0.0.1:0"),
            ("KOLBOX_STORE__PATH", folder.path().to_str().unwrap()),
            ("KOLBOX_TWILIO__API_BASE", api_base),
        ]
    };
    for (api_base, fix) in [(api_base.as_str(), None), (far, Some("account"))] {
        let output = kolbox(&["check"], &environment(api_base));
        assert_eq!(output.status.code(), Some(1));
        let said = out(&output);
        let fixes = said.lines().filter_map(|line| line.strip_prefix("FIX   ")?.split(' ').next());
        let expected = fix.into_iter().chain(["public.listen"]);
        assert!(fixes.eq(expected) && said.contains("is in use") && !said.contains(TOKEN), "{said}");
        assert_eq!(said.contains("cannot be reached"), fix.is_some(), "{said}");
    }
}

#[test]
fn transcripts_are_read_without_anything_that_only_a_gateway_needs() {
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    let environment = [("KOLBOX_STORE__PATH", store.to_str().unwrap()), ("KOLBOX_WATCHDOG__START_TIMEOUT", "soon")];
    let none = kolbox(&["transcripts", "list"], &environment);
    assert_eq!(none.status.code(), Some(1), "there is no store, but nothing is wrong with the usage");
    assert!(!err(&none).contains("auth_token") && !err(&none).contains("start_timeout"), "{}", err(&none));
    drop(SledStore::open(&store).unwrap());
    let empty = kolbox(&["transcripts", "list"], &environment);
    assert!(empty.status.code() == Some(0) && out(&empty).is_empty(), "{}{}", out(&empty), err(&empty));
}

/// Nothing of it is read, moved or made anew: only the version that wrote it knows how.
#[test]
fn a_newer_kolboxs_store_is_refused_by_the_whole_program_and_left_as_it_is() {
    let [folder, ours] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let ledger = b"\x63 in a form that nobody knows yet";
    drop(SledStore::open(ours.path()).unwrap());
    fs::copy(ours.path().join("records.mark"), folder.path().join("records.mark")).unwrap();
    // A store of its own, opened once: a program that another test is starting holds a copy of its lock until it runs.
    let store = sled::open(folder.path().join("records")).unwrap();
    store.insert("M", &ledger[..]).unwrap();
    drop(store);
    let environment = [
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("TWILIO_AUTH_TOKEN", TOKEN),
        ("KOLBOX_PUBLIC__LISTEN", "127.0.0.1:0"),
        ("KOLBOX_STATUS__LISTEN", "127.0.0.1:0"),
        ("KOLBOX_STORE__PATH", folder.path().to_str().unwrap()),
    ];
    for command in [&["serve"][..], &["transcripts", "list"]] {
        let output = kolbox(command, &environment);
        assert_eq!(output.status.code(), Some(1), "{command:?}: {}", err(&output));
        let said = err(&output) + &out(&output);
        for part in ["written by a newer kolbox (form 99)", "install that version again"] {
            assert!(said.contains(part), "{command:?}: {part}: {said}");
        }
    }
    assert!(
        !fs::read_dir(folder.path())
            .unwrap()
            .any(|entry| { entry.unwrap().file_name().to_string_lossy().contains("damaged") })
    );
    assert_eq!(sled::open(folder.path().join("records")).unwrap().get("M").unwrap().unwrap(), &ledger[..]);
}

/// Calls are answered, and go to the recorder; whoever looks reads what to do; the store is left alone.
#[test]
fn somebody_elses_store_stops_no_call_and_is_told_with_the_remedy() {
    const NOBODY: u32 = 65_534;
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    fs::set_permissions(&store, fs::Permissions::from_mode(0o700)).unwrap();
    if fs::metadata(&store).unwrap().uid() != 0 {
        return println!("SKIPPED foreign_owner: only root can run the program as another user");
    }
    // The other user must reach the program, wherever this repository lies.
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let program = folder.path().join("kolbox");
    // By a process: a file that this one had open for writing cannot be run while a program of another test, being
    // started just then, still holds its copy of it.
    assert!(Command::new("cp").arg(env!("CARGO_BIN_EXE_kolbox")).arg(&program).status().unwrap().success());
    let as_nobody = |command: &[&str]| {
        let mut program = Command::new(&program);
        program.args(command).uid(NOBODY).gid(NOBODY).current_dir(folder.path()).env_clear().envs([
            ("TWILIO_ACCOUNT_SID", ACCOUNT),
            ("TWILIO_AUTH_TOKEN", TOKEN),
            ("KOLBOX_PUBLIC__LISTEN", "127.0.0.1:0"),
            ("KOLBOX_STATUS__LISTEN", "127.0.0.1:0"),
            ("KOLBOX_STORE__PATH", store.to_str().unwrap()),
        ]);
        program
    };
    let remedy = "give it to the service's user (chown -R), run this as that user, or set store.path";

    let listed = as_nobody(&["transcripts", "list"]).output().unwrap();
    assert_eq!(listed.status.code(), Some(1), "{}", err(&listed));
    assert!(err(&listed).contains(remedy), "{}", err(&listed));

    let mut serving = as_nobody(&["serve"]).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let lines = BufReader::new(serving.stdout.take().unwrap()).lines();
    let (mut told, mut answers) = (false, false);
    for line in lines {
        let line = line.unwrap();
        told |= line.contains("the store cannot keep records") && line.contains(remedy);
        answers |= line.contains("calls are answered");
        if told && answers {
            break;
        }
    }
    serving.kill().unwrap();
    serving.wait().unwrap();
    assert!(told && answers, "told {told}, answers {answers}");
    assert_eq!(fs::read_dir(&store).unwrap().count(), 0);
}

#[test]
fn a_signature_is_answered_by_word_and_by_exit_code() {
    let url = "https://gw.example.co.il/webhook/incoming_call";
    let signature = kolbox::twilio::signature::sign(TOKEN, url, None);
    let ask =
        |token: &str| kolbox(&["signature", "--url", url, "--signature", &signature], &[("TWILIO_AUTH_TOKEN", token)]);
    let valid = ask(TOKEN);
    assert!(valid.status.code() == Some(0) && out(&valid).starts_with("valid\n"), "{}", out(&valid));
    let invalid = ask("another");
    assert!(invalid.status.code() == Some(1) && out(&invalid).starts_with("invalid\n"), "{}", out(&invalid));
    assert!(out(&invalid).contains(&format!("tried: {url}")));
}

/// Twilio's own test vectors, asked as a person would: a decoded form is encoded again, a body comes in a file.
#[test]
fn every_known_signature_is_answered_rightly_with_the_url_that_was_signed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("body.json");
    let vectors: Vec<Value> = serde_json::from_str(include_str!("data/signature_vectors.json")).unwrap();
    assert_eq!(vectors.len(), 21);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap_or_default().to_owned();
        let (url, signature) = (text("url"), text("signature"));
        let mut arguments = vec!["signature".to_owned(), "--url".into(), url, "--signature".into(), signature];
        match text("kind").as_str() {
            "form" => arguments.extend(["--form".into(), encoded(&vector["params"])]),
            "json_body" => {
                fs::write(&file, text("body")).unwrap();
                arguments.extend(["--body".into(), file.display().to_string()]);
            }
            "websocket_upgrade" => arguments.push("--websocket".into()),
            _ => {}
        }
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let output = kolbox(&arguments, &[("TWILIO_AUTH_TOKEN", &text("auth_token"))]);
        let (id, said) = (text("id"), out(&output));
        match vector["matching_url_form"].as_str() {
            Some(signed) => {
                assert_eq!(output.status.code(), Some(0), "{id}: {said}");
                assert!(said.starts_with(&format!("valid\n  signed: {signed} (")), "{id}: {said}");
            }
            None => {
                assert_eq!(output.status.code(), Some(1), "{id}: {said}");
                assert!(said.starts_with("invalid\n  tried: ") && said.contains("\n  change: "), "{id}: {said}");
            }
        }
    }
}

fn encoded(parameters: &Value) -> String {
    let mut pairs = Vec::new();
    for (name, value) in parameters.as_object().into_iter().flatten() {
        match value {
            Value::Array(values) => pairs.extend(values.iter().map(|value| (name.clone(), value.as_str().unwrap()))),
            value => pairs.push((name.clone(), value.as_str().unwrap())),
        }
    }
    Form::from_pairs(pairs).encode()
}

#[test]
fn help_shows_no_secret_of_the_environment() {
    for command in ["call", "signature", "serve", "demo", "check", "transcripts"] {
        let output = kolbox(&[command, "--help"], &[("TWILIO_AUTH_TOKEN", TOKEN)]);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("kolbox ") && !out(&output).contains(TOKEN), "{}", out(&output));
    }
}

#[test]
fn the_help_of_every_command_has_examples_that_the_program_takes() {
    for command in ["call", "signature", "serve", "demo", "check", "transcripts"] {
        let help = out(&kolbox(&[command, "--help"], &[]));
        let examples = help.lines().skip_while(|line| !line.starts_with("Examples"));
        assert!(examples.clone().any(|line| line.contains(&format!("kolbox {command}"))), "{help}");
    }
    assert!(out(&kolbox(&["--help"], &[])).contains("Exit codes: 0 fine, 1 "));
    let serve = out(&kolbox(&["serve", "--help"], &[]));
    for part in ["TWILIO_AUTH_TOKEN", "twilio_auth_token", "SIGTERM", "incoming_call#rc=2", "<Record action=\"https://"]
    {
        assert!(serve.contains(part), "{part}: {serve}");
    }
    assert!(out(&kolbox(&["serve", "-h"], &[])).lines().count() < 20, "the short one stays short");
}

/// A gateway in the background; dropped, it is killed.
struct Served(Child);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Served {
    /// Starts it in this directory, and returns once it answers calls.
    fn start(directory: &Path, environment: &[(&str, &str)]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
        command.arg("serve").current_dir(directory).env_clear().envs(environment.iter().copied());
        let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program runs");
        let mut served = Self(child);
        let mut lines = BufReader::new(served.0.stdout.as_mut().unwrap()).lines().map_while(Result::ok);
        assert!(lines.any(|line| line.contains("calls are answered")), "it ended before it answered calls");
        served
    }

    /// Kills it, and gives what it had said on stderr.
    fn said(mut self) -> String {
        self.0.kill().unwrap();
        let said = std::io::read_to_string(self.0.stderr.take().unwrap()).unwrap();
        self.0.wait().unwrap();
        said
    }
}

#[test]
fn built_in_prompts_and_certificate_work_from_anywhere_and_what_is_told_to_be_entered_at_twilio_is_answered() {
    let folder = tempfile::tempdir().unwrap();
    let (elsewhere, store) = (folder.path().join("elsewhere"), folder.path().join("store"));
    fs::create_dir(&elsewhere).unwrap();
    let public = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let environment = [
        ("TWILIO_AUTH_TOKEN", TOKEN),
        ("TWILIO_ACCOUNT_SID", ACCOUNT),
        ("PUBLIC_HOST", &public),
        ("KOLBOX_PUBLIC__LISTEN", &public),
        ("KOLBOX_STATUS__LISTEN", "127.0.0.1:0"),
        ("KOLBOX_STORE__PATH", store.to_str().unwrap()),
        // No temporary files, no home.
        ("TMPDIR", "/nonexistent"),
    ];
    let served = Served::start(&elsewhere, &environment);
    let url = format!("https://{public}/webhook/incoming_call#rc=2&ct=1500&rt=3000&rp=ct,rt,5xx");
    let environment = [("TWILIO_AUTH_TOKEN", TOKEN), ("TWILIO_ACCOUNT_SID", ACCOUNT)];
    let asked = kolbox(&["call", &url, "--print-twiml"], &environment);
    let (twiml, said) = (out(&asked), served.said());
    assert!(asked.status.code() == Some(0) && twiml.contains("<Connect "), "{twiml}{}", err(&asked));
    assert!(twiml.contains(&format!("<Play>https://{public}/static/tts/greeting_he.mp3</Play>")), "{twiml}");
    assert!(said.contains(&format!("Webhook, HTTP POST  {url}\n")), "{said}");
    assert!(said.contains("Warning: the certificate is self-signed, and Twilio refuses it"), "{said}");
    let names =
        |folder: &Path| fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    assert!(names(&elsewhere).is_empty(), "{:?}", names(&elsewhere));
    assert_eq!(names(folder.path()).len(), 2, "beside the store nothing was written: {:?}", names(folder.path()));
}

#[test]
fn the_version_is_one_line_and_more_when_asked() {
    let short = out(&kolbox(&["--version"], &[]));
    assert!(short.starts_with("kolbox ") && short.lines().count() == 1, "{short}");
    let long = out(&kolbox(&["--version", "--verbose"], &[]));
    assert!(long.starts_with(short.trim_end()) && long.contains("\ncalls: "), "{long}");
    let with_another_number = out(&kolbox(&["--version", "--verbose"], &[("KOLBOX_CALLS_MAX", "4096")]));
    assert_eq!(long, with_another_number, "the number of calls was fixed when the program was compiled");
}
