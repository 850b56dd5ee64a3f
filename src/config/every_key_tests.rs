//! What holds for every key alike, so that a new one cannot be added without it.

use std::{collections::BTreeMap, time::Duration};

use secrecy::ExposeSecret;

use super::{
    Config, Mistake, keys,
    load::{Sources, load},
};

const EXAMPLE: &str = include_str!("../../systemd/kolbox.toml");
const UNIT: &str = include_str!("../../systemd/kolbox.service");
const README: &str = include_str!("../../README.md");
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
/// A comment of fewer letters gives no reason.
const REASON_CHARS_MIN: usize = 12;

fn load_all(file: &str, credentials: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Config, String> {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let (environment, credentials) = (map(environment), map(credentials));
    load(Sources { file: Some(("kolbox.toml", file)), environment: &environment, credentials: &credentials })
        .map_err(|error| error.mistakes.iter().map(Mistake::to_string).collect::<Vec<_>>().join("\n"))
}

fn line_of(key: &str, value: &str) -> String {
    let (section, last) = key.rsplit_once('.').unwrap();
    format!("[{section}]\n{last} = {value}\n")
}

/// `public.listen` and `0.0.0.0:8443`, as the example file has it.
fn defaults() -> Vec<(&'static str, String)> {
    let table: toml::Table = EXAMPLE.parse().unwrap();
    let value = |name: &'static str| {
        let (section, last) = name.rsplit_once('.').unwrap();
        let found = section.split('.').try_fold(&table, |table, name| table.get(name)?.as_table()).unwrap();
        match &found[last] {
            toml::Value::String(text) => text.clone(),
            toml::Value::Array(items) => items.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
            other => other.to_string(),
        }
    };
    keys::all().into_iter().map(|key| (key.name, value(key.name))).collect()
}

#[test]
fn every_key_can_be_set_by_its_name_in_the_environment() {
    let names: Vec<_> = keys::all().iter().map(|key| key.environment_name()).collect();
    let values = defaults();
    let mut environment: Vec<_> = names.iter().zip(&values).map(|(name, (_, value))| (&name[..], &value[..])).collect();
    environment.push(("TWILIO_AUTH_TOKEN", TOKEN));
    let config = load_all("", &[], &environment).unwrap();
    let without = load_all("", &[], &[("TWILIO_AUTH_TOKEN", TOKEN)]).unwrap();
    assert_eq!(format!("{config:?}"), format!("{without:?}"));
    assert!(names.contains(&"KOLBOX_PUBLIC__TLS__MODE".to_owned()));
}

#[test]
fn every_key_refuses_a_value_of_another_kind_and_says_where_and_what_instead() {
    for key in keys::all() {
        for wrong in ["2026-11-22", "{ a = 1 }", "1.5e3", "[[1]]"] {
            let said = load_all(&line_of(key.name, wrong), &[], &[("TWILIO_AUTH_TOKEN", TOKEN)]);
            let said = said.err().unwrap_or_else(|| panic!("{} = {wrong} was taken", key.name));
            assert!(said.starts_with(&format!("kolbox.toml:2: {}", key.name)), "{said}");
            let tells = ["expected", "must", "did you mean"].iter().any(|word| said.contains(word));
            assert!(tells && !said.contains('\n'), "{said}");
        }
    }
}

#[test]
fn no_secret_is_told_whatever_is_wrong_with_it_and_wherever_it_stands() {
    const SECRET: &str = "hunter2hunter2";
    let keys = keys::all();
    let secrets: Vec<_> = keys.iter().filter(|key| key.secret).collect();
    assert_eq!(secrets.len(), 6);
    for key in secrets {
        let plain = [
            format!(" {SECRET}"),
            format!("{SECRET}\t"),
            format!("\"{SECRET}\""),
            format!("“{SECRET}”"),
            format!("\u{200f}{SECRET}"),
            format!("{SECRET}\n\n"),
        ];
        for value in &plain {
            let in_file = toml::Value::String(value.clone()).to_string();
            for said in [
                load_all(&line_of(key.name, &in_file), &[], &[]),
                load_all("", &[], &[(&key.environment_name(), value)]),
                load_all("", &[(&key.credential_name().unwrap(), value)], &[]),
            ] {
                let said = said.expect_err(value);
                assert!(said.contains("not shown") && !said.contains("hunter2"), "{said}");
            }
        }
        for value in
            [format!("[\"{SECRET}\"]"), format!("{{ a = \"{SECRET}\" }}"), SECRET.to_owned(), format!("'{SECRET}")]
        {
            let said = load_all(&line_of(key.name, &value), &[], &[]).expect_err(&value);
            assert!(!said.contains("hunter2"), "{said}");
        }
    }
}

/// What the first look at a secret in the wrong place would print.
#[test]
fn no_secret_is_told_that_stands_in_the_place_of_something_else() {
    for key in keys::all() {
        for wrong in [format!("\"{TOKEN}!\""), format!("[1, \"{TOKEN}!\"]"), format!("\"x {TOKEN}\""), TOKEN.to_owned()]
        {
            if let Err(said) = load_all(&line_of(key.name, &wrong), &[], &[("TWILIO_AUTH_TOKEN", "another")]) {
                assert!(!said.contains(TOKEN), "{said}");
            }
        }
    }
    for key in ["sync.url", "twilio.api_base", "speech.url", "public.host"] {
        let said = load_all(&line_of(key, "\"https://box:hunter2@office.example/in\""), &[], &[]).unwrap_err();
        assert!(said.contains("office.example") && !said.contains("hunter2"), "{said}");
    }
}

/// What follows `did you mean`, up to the end of the line or to what is said about the value.
fn suggestion(said: &str) -> Option<&str> {
    let (_, suggestion) = said.split_once("did you mean ")?;
    suggestion.split(" (the value").next()?.strip_suffix('?')
}

#[test]
fn what_is_suggested_for_a_value_is_accepted_when_it_is_typed() {
    let wrong = [
        "8",
        "0",
        "-8",
        "8444",
        "1.5",
        "true",
        "\"true\"",
        "\"Yes\"",
        "\"8\"",
        "\"8 Sekunden\"",
        "\"1,5h\"",
        "\"1 giga\"",
        "\"512\"",
        "\"NEVER\"",
        "\"INFO\"",
        "\"Whisper\"",
        "\"self_signed\"",
        "\"10.0.0.*\"",
        "[\"10.0.0.*\"]",
        "[\"10.0.0.1/255.0.0.0\"]",
        "\"localhost:8080\"",
        "\"*:9\"",
        "\"::\"",
        "\"[::1]\"",
        "\"gw.example:443\"",
        "\"http://gw.example:8444/webhook\"",
        "\"gw.example.\"",
        "[\"https://gw.example/\"]",
        "\"office.example/in\"",
        "\"localhost:1/in\"",
        "\"שלום וברכה\"",
        "\"/srv/hello.mp3\"",
        "\"he_IL\"",
        "\" ac0123456789abcdef0123456789abcdef\"",
        "\"sk0123456789abcdef0123456789abcdef \"",
        "\"\u{200f}x\"",
        "\"a\u{a0}b\"",
        "‘8s’",
        "8s",
        "“gw.example”",
        "\"gw.example",
        "'simulated",
        "yes",
        "gw.example # our name",
        "\"a\\b\"",
        "[10.0.0.1]",
        "\"x\";",
    ];
    let mut suggested = 0;
    for key in keys::all() {
        let last = key.name.rsplit_once('.').unwrap().1;
        for wrong in wrong {
            let Err(said) = load_all(&line_of(key.name, wrong), &[], &[("TWILIO_AUTH_TOKEN", TOKEN)]) else { continue };
            let Some(suggestion) = suggestion(&said) else { continue };
            let value = suggestion.strip_prefix(&format!("{last} = ")).unwrap_or(suggestion);
            if key.secret {
                assert_eq!(suggestion, format!("{last} = \"...\""), "{said}");
                continue;
            }
            suggested += 1;
            let again = load_all(&line_of(key.name, value), &[], &[("TWILIO_AUTH_TOKEN", TOKEN)]);
            let refused = again.err().filter(|said| said.starts_with(&format!("kolbox.toml:2: {}", key.name)));
            // A line that is no TOML is set right first; what is wrong with its value is told then.
            assert!(refused.is_none() || said.contains("this is no TOML"), "{said}\nand then: {refused:?}");
        }
    }
    assert!(suggested > 200, "{suggested}");
}

#[test]
fn every_time_out_goes_down_to_200_ms() {
    let file = "[watchdog]\nstart_timeout = \"200ms\"\nno_media_timeout = \"200ms\"\n[sync]\ntimeout = \"200ms\"\n\
                [calls]\ncaller_silence = \"200ms\"\nmax_duration = \"200ms\"\ndrain = \"200ms\"\n";
    let config = load_all(file, &[], &[("TWILIO_AUTH_TOKEN", TOKEN)]).unwrap();
    let Config { watchdog, sync, calls, .. } = config;
    let all = [
        watchdog.start_timeout,
        watchdog.no_media_timeout,
        sync.timeout,
        calls.caller_silence,
        calls.max_duration,
        calls.drain,
    ];
    assert_eq!(all, [Duration::from_millis(200); 6]);
    let shorter = load_all(&file.replace("200ms", "199ms"), &[], &[("TWILIO_AUTH_TOKEN", TOKEN)]).unwrap_err();
    assert_eq!(shorter.lines().count(), 5, "draining may be as short as one likes: {shorter}");
}

#[test]
fn each_classic_name_wins_over_every_other_layer() {
    let file = "[public]\nlisten = \"127.0.0.1:1\"\nhost = \"file.example\"\n[twilio]\n\
                account_sid = \"AC00000000000000000000000000000001\"\nauth_token = \"file\"\n";
    let ours = [
        ("KOLBOX_PUBLIC__LISTEN", "127.0.0.2:2"),
        ("KOLBOX_PUBLIC__HOST", "kolbox.example"),
        ("KOLBOX_TWILIO__ACCOUNT_SID", "AC00000000000000000000000000000002"),
        ("KOLBOX_TWILIO__AUTH_TOKEN", "kolbox"),
    ];
    let classic = [
        ("PORT", "3"),
        ("PUBLIC_HOST", "classic.example"),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000003"),
        ("TWILIO_AUTH_TOKEN", "classic"),
    ];
    let told = |environment: &[(&str, &str)]| {
        let Config { public, twilio, .. } = load_all(file, &[], environment).unwrap();
        let (host, token) = (public.host.unwrap(), twilio.auth_token.expose_secret().to_owned());
        (public.listen.to_string(), host, twilio.account_sid.unwrap().as_str()[33..].to_owned(), token)
    };
    let expected = |listen: &str, host: &str, account: &str, token: &str| {
        (listen.to_owned(), host.to_owned(), account.to_owned(), token.to_owned())
    };
    assert_eq!(told(&[]), expected("127.0.0.1:1", "file.example", "1", "file"));
    assert_eq!(told(&ours), expected("127.0.0.2:2", "kolbox.example", "2", "kolbox"));
    assert_eq!(told(&[ours, classic].concat()), expected("127.0.0.2:3", "classic.example", "3", "classic"));
}

#[test]
fn the_example_file_gives_a_reason_for_every_key() {
    let lines: Vec<_> = EXAMPLE.lines().collect();
    for key in keys::all() {
        let (section, last) = key.name.rsplit_once('.').unwrap();
        let start =
            lines.iter().position(|line| line.split_whitespace().next() == Some(&format!("[{section}]"))).unwrap();
        let own = lines[start..].iter().position(|line| line.starts_with(&format!("{last} = "))).unwrap() + start;
        let comment = lines[own].split_once("# ").map_or("", |(_, comment)| comment);
        assert!(comment.trim().chars().count() >= REASON_CHARS_MIN, "{}: {}", key.name, lines[own]);
    }
}

#[test]
fn the_smallest_file_of_the_readme_can_be_served_with() {
    let after = README.split("The smallest `/etc/kolbox/kolbox.toml`").nth(1).unwrap();
    let file = after.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let config = load_all(file, &[("twilio_auth_token", TOKEN)], &[]).unwrap();
    assert!(config.public.host.is_some() && config.twilio.account_sid.is_some());
}

#[test]
fn the_unit_hands_over_every_secret_as_a_credential_or_shows_how() {
    for name in keys::all().iter().filter_map(|key| key.credential_name()) {
        let line = format!("LoadCredential={name}:kolbox.{name}");
        assert!(UNIT.lines().any(|written| written.trim_start_matches('#') == line), "{line}");
    }
}
