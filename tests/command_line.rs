//! The program from outside: where its configuration comes from on a real machine, its exit codes, what it never prints.

use std::{
    fs,
    process::{Command, Output},
};

use kolbox::{
    simulator::{
        account::NumberSettings,
        rest::{self, Served},
        twilio::Twilio,
    },
    system::http_client::Roots,
    transcripts::sled_store::SledStore,
};
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
    served: Served,
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
    assert!(output.status.code() == Some(2) && err(&output).contains("expected a text file in UTF-8"));
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

#[test]
fn help_shows_no_secret_of_the_environment() {
    for command in ["call", "signature", "serve", "demo", "check", "transcripts"] {
        let output = kolbox(&[command, "--help"], &[("TWILIO_AUTH_TOKEN", TOKEN)]);
        assert_eq!(output.status.code(), Some(0));
        assert!(out(&output).contains("kolbox ") && !out(&output).contains(TOKEN), "{}", out(&output));
    }
}

#[test]
fn the_version_is_one_line_and_more_when_asked() {
    let short = out(&kolbox(&["--version"], &[]));
    assert!(short.starts_with("kolbox ") && short.lines().count() == 1, "{short}");
    let long = out(&kolbox(&["--version", "--verbose"], &[]));
    assert!(long.starts_with(short.trim_end()) && long.contains("\ncalls: "), "{long}");
}
