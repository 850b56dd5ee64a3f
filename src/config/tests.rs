//! The configuration as a whole: the example file, each step of precedence, each class of mistake.

use std::collections::BTreeMap;

use secrecy::ExposeSecret;

use super::{
    load::{Sources, load, store_path_beside},
    *,
};
use crate::limits::HOST_BYTES_MAX;

const EXAMPLE: &str = include_str!("../../systemd/kolbox.toml");
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

fn map(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load_all(file: &str, credentials: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let (environment, credentials) = (map(environment), map(credentials));
    let file = Some(("kolbox.toml", file));
    load(Sources { file, environment: &environment, credentials: &credentials })
        .map_err(|error| error.mistakes.iter().map(Mistake::to_string).collect())
}

/// A file that is loaded where everything else is as it should be.
fn load_file(file: &str) -> Result<Config, Vec<String>> {
    load_all(file, &[], &[("TWILIO_AUTH_TOKEN", TOKEN)])
}

fn load_environment(name: &str, value: &str) -> Result<Config, Vec<String>> {
    load_all("", &[("twilio_auth_token", TOKEN)], &[(name, value)])
}

/// The mistakes of a file, one a line.
fn mistakes(file: &str) -> String {
    load_file(file).expect_err("this file has a mistake").join("\n")
}

#[track_caller]
fn assert_says(text: &str, parts: &[&str]) {
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in:\n{text}");
    }
}

#[test]
fn the_example_file_says_what_would_be_so_without_it() {
    let from_file = load_file(EXAMPLE).unwrap();
    let without = load_file("").unwrap();
    assert_eq!(format!("{from_file:?}"), format!("{without:?}"));
    let without_token = Config { twilio: Twilio { auth_token: Default::default(), ..without.twilio }, ..without };
    assert_eq!(format!("{without_token:?}"), format!("{:?}", Config::default()));
}

#[test]
fn the_example_file_lists_every_key_in_order() {
    let table: toml::Table = EXAMPLE.parse().unwrap();
    let mut positions = Vec::new();
    for key in keys::all() {
        let (section, last) = key.name.rsplit_once('.').unwrap();
        let found = section.split('.').try_fold(&table, |table, name| table.get(name)?.as_table());
        assert!(found.is_some_and(|table| table.contains_key(last)), "{} is not listed", key.name);
        let start = EXAMPLE.find(&format!("\n[{section}]")).unwrap();
        positions.push((key.name, start + EXAMPLE[start..].find(&format!("\n{last} = ")).unwrap()));
    }
    assert!(positions.is_sorted_by_key(|(_, position)| *position), "{positions:?}");
}

#[test]
fn no_secret_is_ever_printed_with_the_configuration() {
    let config = load_file("[sync]\ntoken = \"hunter2hunter2\"").unwrap();
    let printed = format!("{config:?}");
    assert!(!printed.contains("hunter2") && !printed.contains(TOKEN), "{printed}");
}

#[test]
fn a_classic_name_wins_over_the_environment_this_over_a_credential_and_this_over_the_file() {
    let file = "[twilio]\nauth_token = \"file\"";
    let credential: &[_] = &[("twilio_auth_token", "credential\n")];
    let classic = ("TWILIO_AUTH_TOKEN", "classic");
    let kolbox = ("KOLBOX_TWILIO__AUTH_TOKEN", "kolbox");
    for (credentials, environment, expected) in [
        (&[][..], &[][..], "file"),
        (credential, &[], "credential"),
        (credential, &[kolbox], "kolbox"),
        (credential, &[kolbox, classic], "classic"),
        (&[], &[classic], "classic"),
        (credential, &[("TWILIO_AUTH_TOKEN", "")], "credential"),
    ] {
        let config = load_all(file, credentials, environment).unwrap();
        assert_eq!(config.twilio.auth_token.expose_secret(), expected);
    }
}

#[test]
fn of_a_credential_only_the_final_newline_is_dropped() {
    for (content, expected) in [("a b", "a b"), ("ab\n", "ab"), ("ab\r\n", "ab")] {
        let config = load_all("", &[("twilio_auth_token", content)], &[]).unwrap();
        assert_eq!(config.twilio.auth_token.expose_secret(), expected);
    }
    let two_lines = load_all("", &[("twilio_auth_token", "secret\n\n")], &[]).unwrap_err().join("\n");
    assert_says(&two_lines, &["twilio_auth_token (credential): "]);
    assert!(!two_lines.contains("secret\\n"), "{two_lines}");
}

#[test]
fn every_secret_can_come_as_a_credential_and_nothing_else_can() {
    let all = [
        ("twilio_auth_token", "1"),
        ("twilio_auth_token_secondary", "2"),
        ("twilio_api_key_secret", "3"),
        ("sync_token", "4"),
        ("status_password", "5"),
        ("speech_api_key", "6"),
        ("store_path", "/tmp"),
    ];
    let file = "[twilio]\napi_key_sid = \"SK00000000000000000000000000000001\"";
    let config = load_all(file, &all, &[]).unwrap();
    let Config { twilio, sync, status, speech, store, .. } = &config;
    let secrets = [
        &twilio.auth_token,
        &twilio.auth_token_secondary,
        &twilio.api_key_secret,
        &sync.token,
        &status.password,
        &speech.api_key,
    ];
    assert_eq!(secrets.map(|secret| secret.expose_secret().to_owned()), ["1", "2", "3", "4", "5", "6"]);
    assert_eq!(store.path, Store::default().path);
}

#[test]
fn the_environment_reaches_every_kind_of_key() {
    let environment = [
        ("TWILIO_AUTH_TOKEN", TOKEN),
        ("TWILIO_ACCOUNT_SID", "AC00000000000000000000000000000001"),
        ("PUBLIC_HOST", "https://Gw.example.co.il/"),
        ("PORT", "443"),
        ("KOLBOX_CONFIG", "/etc/kolbox/kolbox.toml"),
        ("KOLBOX_CALLS_MAX", "whatever"),
        ("KOLBOX_PUBLIC__LISTEN", "[::1]:9000"),
        ("KOLBOX_PUBLIC__TRUSTED_PROXIES", "10.1.2.3/8, 192.168.0.1"),
        ("KOLBOX_PUBLIC__TLS__MODE", "off"),
        ("KOLBOX_WATCHDOG__START_TIMEOUT", "200ms"),
        ("KOLBOX_TWILIO__API_BASE", "http://127.0.0.1:9/"),
        ("KOLBOX_FALLBACK__PLAY_BEEP", "true"),
        ("KOLBOX_STORE__MAX_BYTES", "1MiB"),
        ("KOLBOX_AUDIO__KEEP", "7d"),
        ("KOLBOX_STATUS__HOSTS", ""),
        ("HOME", "/root"),
    ];
    let config = load_all("[status]\nhosts = [\"box.office\"]", &[], &environment).unwrap();
    assert_eq!(config.public.listen, "[::1]:443".parse().unwrap());
    assert_eq!(config.public.host.as_deref(), Some("Gw.example.co.il"));
    let proxies: Vec<_> = config.public.trusted_proxies.iter().map(ToString::to_string).collect();
    assert_eq!(proxies, ["10.0.0.0/8", "192.168.0.1/32"]);
    assert_eq!(config.public.tls.mode, TlsMode::Off);
    assert_eq!(config.watchdog.start_timeout, Duration::from_millis(200));
    assert_eq!(config.twilio.api_base, "http://127.0.0.1:9");
    assert_eq!(config.twilio.account_sid.unwrap().as_str(), "AC00000000000000000000000000000001");
    assert!(config.fallback.play_beep);
    assert_eq!(config.store.max_bytes, 1 << 20);
    assert_eq!(config.audio.keep, KeepAudio::For(Duration::from_secs(7 * 86_400)));
    assert!(config.status.hosts.is_empty(), "an empty list replaces the file's");
}

#[test]
fn a_host_is_taken_with_what_people_paste_around_it_and_with_nothing_else() {
    let host = |value| load_environment("PUBLIC_HOST", value).map(|config| config.public.host);
    for (written, expected) in [
        ("gw.example.co.il", "gw.example.co.il"),
        ("https://gw.example.co.il", "gw.example.co.il"),
        ("HTTPS://gw.example.co.il/", "gw.example.co.il"),
        ("gw.example.co.il:8443/", "gw.example.co.il:8443"),
        ("127.0.0.1:8443", "127.0.0.1:8443"),
        ("[::1]:8443", "[::1]:8443"),
    ] {
        assert_eq!(host(written).unwrap().as_deref(), Some(expected), "{written}");
    }
    for nonsense in [
        "http://gw.example.co.il",
        "wss://gw.example.co.il",
        "https://",
        "gw.example.co.il/webhook",
        "gw.example.co.il//",
        "https://user@gw.example.co.il",
        "gw.example.co.il?x",
        "gw example",
        "gw.example.co.il:",
        "gw.example.co.il:0",
        "gw.example.co.il:99999",
        "1.2.3",
        "שלום.co.il",
        "בית",
        // No request with so long a Host is answered, so it can be nobody's public name.
        &format!("{}co.il", "gw.".repeat(HOST_BYTES_MAX / 3)),
    ] {
        let said = host(nonsense).expect_err(nonsense).join("\n");
        assert_says(&said, &["PUBLIC_HOST (environment) = ", "the public name alone"]);
    }
}

#[test]
fn credentials_for_twilio_never_travel_in_the_open() {
    let base = |value| load_environment("KOLBOX_TWILIO__API_BASE", value).map(|config| config.twilio.api_base);
    for good in ["https://api.dublin.ie1.twilio.com", "http://localhost:4010", "http://[::1]:1", "http://127.9.9.9"] {
        assert_eq!(base(good).unwrap(), good);
    }
    for bad in [
        "http://api.twilio.com",
        "http://localhost.evil.example",
        "ftp://127.0.0.1",
        "https://a:b@c",
        "api.twilio.com",
        "",
    ] {
        assert!(base(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_prompt_is_a_plain_file_name_or_a_text_to_say() {
    let greeting = |value| load_environment("KOLBOX_CALLS__GREETING", value).map(|config| config.calls.greeting);
    for good in ["hello-1.wav", "a.mp3", "say:שלום, הגעתם למשרד."] {
        assert_eq!(greeting(good).unwrap(), good);
    }
    let long = format!("say:{}", "&".repeat(300));
    for bad in ["", ".mp3", "../a.mp3", "/etc/a.mp3", "a.ogg", "greeting", "say:", "say: ", "say:\u{7}", &long] {
        assert!(greeting(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_duration_has_a_unit_and_keeps_its_range() {
    let timeout = |value| load_environment("KOLBOX_WATCHDOG__NO_MEDIA_TIMEOUT", value);
    for good in ["200ms", "6s", "2m", "1h"] {
        assert!(timeout(good).is_ok(), "{good}");
    }
    for bad in ["6", "0", "", "199ms", "0s", "-6s", "6 parsecs", "61m", "99999999999999999999s", "1.5", "６s"] {
        let said = timeout(bad).expect_err(bad).join("\n");
        assert_says(&said, &["KOLBOX_WATCHDOG__NO_MEDIA_TIMEOUT (environment) = ", "a duration from 200ms to 1h"]);
    }
    assert!(load_environment("KOLBOX_CALLS__CALLER_SILENCE", "0s").unwrap().calls.caller_silence.is_zero());
    assert!(load_environment("KOLBOX_CALLS__CALLER_SILENCE", "100ms").is_err());
    assert!(load_environment("KOLBOX_FALLBACK__TIMEOUT", "1500ms").is_err(), "Twilio takes whole seconds");
}

#[test]
fn a_size_has_a_range_too() {
    let size = |value| load_environment("KOLBOX_STORE__MAX_BYTES", value).map(|config| config.store.max_bytes);
    assert_eq!(size("64KiB").unwrap(), 65_536);
    assert_eq!(size("1GB").unwrap(), 1_000_000_000);
    assert_eq!(size("1048576").unwrap(), 1 << 20);
    for bad in ["", "1", "-1GiB", "lots", "1 potato", "NaN", "99999999TiB", "∞"] {
        assert!(size(bad).is_err(), "{bad}");
    }
}

#[test]
fn a_log_level_that_is_misspelt_silences_nothing() {
    for good in ["info", "off", "kolbox=debug,info", "info,kolbox::calls=trace"] {
        assert!(load_environment("KOLBOX_LOG__LEVEL", good).is_ok(), "{good}");
    }
    for bad in ["", "inof", "INFO!", "kolbox=loud", "=info", "info,,debug"] {
        assert!(load_environment("KOLBOX_LOG__LEVEL", bad).is_err(), "{bad}");
    }
}

#[test]
fn values_that_do_not_fit_together_are_refused() {
    for (file, expected) in [
        ("[public.tls]\nmode = \"files\"", "public.tls.certificate (not set): must name a PEM file"),
        ("[public.tls]\nmode = \"files\"", "public.tls.key (not set): must name a PEM file"),
        ("[status]\nlisten = \"127.0.0.1:8443\"", "kolbox.toml:2: status.listen = \"127.0.0.1:8443\": must not be"),
        ("[twilio]\napi_key_secret = \"x\"", "twilio.api_key_sid (not set): must be given too"),
        ("[sync]\nretry_min = \"10m\"", "sync.retry_max (not set): must not be below sync.retry_min, 10m"),
        ("[speech]\nengine = \"whisper\"", "speech.model (not set): must not be empty"),
        ("[speech]\nhints = [\" Dana\"]", "kolbox.toml:2: speech.hints = [\" Dana\"]: \" Dana\": has a space"),
        (
            "[speech]\nengine = \"wyoming\"\nurl = \"https://x\"",
            "kolbox.toml:3: speech.url = \"https://x\": must begin",
        ),
    ] {
        assert_says(&mistakes(file), &[expected]);
    }
}

#[test]
fn signatures_cannot_be_checked_without_a_token() {
    let said = load_all("", &[], &[]).unwrap_err();
    assert_eq!(said.len(), 1);
    assert_says(&said[0], &["twilio.auth_token (not set): must be Twilio's auth token", "TWILIO_AUTH_TOKEN"]);
    assert!(load_all("[twilio]\nvalidate_signatures = false", &[], &[]).is_ok());
    let emptied = load_all("[twilio]\nauth_token = \"x\"", &[], &[("KOLBOX_TWILIO__AUTH_TOKEN", "")]);
    assert_says(&emptied.unwrap_err().join("\n"), &["KOLBOX_TWILIO__AUTH_TOKEN (environment): must be"]);
}

#[test]
fn a_mistake_in_a_layer_that_is_overridden_is_a_mistake_still() {
    let file = "[watchdog]\nstart_timeout = \"soon\"";
    let environment = [("TWILIO_AUTH_TOKEN", TOKEN), ("KOLBOX_WATCHDOG__START_TIMEOUT", "8s")];
    assert_says(&load_all(file, &[], &environment).unwrap_err().join("\n"), &["kolbox.toml:2: watchdog.start_timeout"]);
}

#[test]
fn all_mistakes_are_told_at_once_and_no_secret_with_them() {
    let file = "[watchdgo]\nstart_timeout = \"8s\"\n\n[twilio]\nauth_token = 5551234\naccount_sid = \"AC12\"\n\n\
                [public]\nmax_connections = \"many\"\n";
    let environment = [("KOLBOX_STORE__PATH", ""), ("KOLBOX_NONSENSE", "5559876"), ("PORT", "http")];
    let error = load_all(file, &[], &environment).unwrap_err();
    let said = error.join("\n");
    assert_eq!(error.len(), 7, "{said}");
    assert_says(
        &said,
        &[
            "kolbox.toml:1: watchdgo: there is no such section or key; did you mean [watchdog]?",
            "kolbox.toml:5: twilio.auth_token: expected text: put it in \"quotes\"",
            "kolbox.toml:6: twilio.account_sid = \"AC12\": there are 2 digits; expected AC and 32 hexadecimal digits",
            "kolbox.toml:9: public.max_connections = \"many\": expected a whole number from 2 to 65536",
            "KOLBOX_STORE__PATH (environment) = \"\": must not be empty",
            "KOLBOX_NONSENSE (environment): there is no such name",
            "PORT (environment) = \"http\": expected a port",
        ],
    );
    assert!(!said.contains("5551234") && !said.contains("5559876"), "{said}");
}

/// As they are typed late, on a ladder, with a phone for a lamp. `tests/config_mistakes.rs` has more, from outside.
#[test]
fn the_files_of_a_tired_installer() {
    for (file, expected) in [
        (
            "[public]\nhost = gw.example.co.il",
            "kolbox.toml:2: host: this is no TOML: text must stand in quotes; did you \
          mean host = \"gw.example.co.il\"?",
        ),
        (
            "[public]\nhost = \"gw.example.co.il\";",
            "nothing may follow the value; did you mean host = \"gw.example.co.il\"?",
        ),
        ("[public]\nlisten = \"8443\"", "kolbox.toml:2: public.listen = \"8443\": expected an IP address and a port"),
        ("[public]\nlisten = \"https://gw.example.co.il:443/\"", "did you mean \"0.0.0.0:443\"?"),
        ("[status]\nlisten = \"*:8080\"", "did you mean \"0.0.0.0:8080\"?"),
        ("[status]\nlisten = \"192.168.1.7\"", "did you mean \"192.168.1.7:8080\"?"),
        (
            "[twilio]\nauth_token = “c0ffee”",
            "kolbox.toml:2: auth_token: this is no TOML: the quotes must be the plain \"",
        ),
        ("[twilio]\nauth_tokn = \"c0ffee\"", "twilio.auth_tokn: there is no such key; did you mean twilio.auth_token?"),
        ("[tls]\nmode = \"files\"", "kolbox.toml:1: tls: there is no such section or key; did you mean [public.tls]?"),
        ("[public]\ntls = \"files\"", "public.tls: expected a section, written [public.tls]"),
        ("[[public]]\nhost = \"gw.example\"", "public: expected a section in single brackets, written [public]"),
        (
            "[public]\ntrusted_proxies = \"10.0.0.1\"",
            "expected a list, written like [\"one\", \"two\"]; did you mean \
          [\"10.0.0.1\"]?",
        ),
        ("[public]\ntrusted_proxies = [\"10.0.0.*\"]", "did you mean [\"10.0.0.0/24\"]?"),
        ("[public]\ntrusted_proxies = [\"10.0.0.0/255.0.0.0\", \"::1\"]", "did you mean [\"10.0.0.0/8\", \"::1\"]?"),
        ("[public]\ntrusted_proxies = [\"proxy\"]", "a proxy's name is not looked up"),
        ("[public]\nmax_connections = \"512\"", "without quotes; did you mean 512?"),
        ("start_timeout = \"8s\"", "start_timeout: there is no such key; did you mean watchdog.start_timeout?"),
        (
            "[log]\nlevel = \"info\"\nlevel = \"debug\"",
            "kolbox.toml:3: level: this is no TOML: this is a duplicate key, it \
          stands already in line 2: keep one of the two",
        ),
        ("[log]\nlevel = \"WARNING\"", "did you mean \"warn\"?"),
        ("[log]\nformat = \"JSON\"", "did you mean \"json\"?"),
        ("[public.tls]\nmode = \"letsencrypt\"", "expected \"files\" or \"self-signed\" or \"off\""),
        ("[public.tls]\nmode = false", "expected \"files\" or"),
        (
            "[store\npath = \"/data\"",
            "kolbox.toml:1: this is no TOML: a section stands on a line of its own, written [name]; did \
          you mean [store]?",
        ),
        ("[store]\npath = \"C:\\kolbox\"", "did you mean path = 'C:\\kolbox'?"),
        ("[store]\npath = \"~/kolbox\"", "~ and $ stand for nothing here"),
        ("[sync]\nurl = \"office.example/api\"", "did you mean \"https://office.example/api\"?"),
        ("[sync]\nurl = \"localhost:8000/in\"", "did you mean \"http://localhost:8000/in\"?"),
        ("[calls]\ngreeting = \"שלום, הגעתם\"", "did you mean \"say:שלום, הגעתם\"?"),
        ("[calls]\ngreeting = \"/srv/prompts/hello.mp3\"", "did you mean \"hello.mp3\"?"),
        ("[fallback]\nmax_length = 30", "did you mean \"30s\"?"),
        ("[audio]\nkeep = 7", "did you mean \"7s\"?"),
        ("[speech]\nlanguage = \"he_IL\"", "did you mean \"he-IL\"?"),
        (
            "twilio:\n  auth_token: c0ffee",
            "kolbox.toml:1: this is no TOML: a section is written in brackets; did you mean [twilio]?",
        ),
        (
            "twilio:\n  auth_token: c0ffee",
            "kolbox.toml:2: auth_token: this is no TOML: between key and value belongs =",
        ),
        (
            "TWILIO_AUTH_TOKEN=c0ffee",
            "belongs into the environment; in this file it is auth_token = \"...\" below [twilio]",
        ),
        ("export KOLBOX_LOG__LEVEL=c0ffee", "in this file it is level = \"...\" below [log]"),
        ("{\"twilio\": {\"auth_token\": \"c0ffee\"}}", "this looks like JSON"),
        ("; the office's box", "a comment begins with #"),
    ] {
        let said = mistakes(file);
        assert_says(&said, &[expected]);
        assert!(!said.contains("c0ffee"), "{said}");
    }
}

#[test]
fn a_name_that_is_misspelt_is_not_said_to_be_missing_too_and_what_stands_below_it_is_checked() {
    let load = |file| load_all(file, &[], &[]).unwrap_err();
    let section = load("[twillio]\nauth_token = \"c0ffee\"\naccount_sid = \"AC1\"");
    assert_eq!(section.len(), 2, "{section:?}");
    assert_says(&section[1], &["kolbox.toml:3: twillio.account_sid = \"AC1\": there are 1 digits"]);
    let key = load("[twilio]\nauth_tokn = \"c0ffee\"");
    assert!(matches!(&key[..], [one] if one.contains("did you mean twilio.auth_token?")), "{key:?}");
    let elsewhere = load("[public]\nauth_token = \"c0ffee\"");
    assert!(matches!(&elsewhere[..], [one] if one.contains("did you mean twilio.auth_token?")), "{elsewhere:?}");
}

#[test]
fn a_suggestion_for_the_environment_is_typed_without_quotes() {
    for (name, value, expected) in [
        ("KOLBOX_WATCHDOG__START_TIMEOUT", "8", "did you mean 8s?"),
        ("KOLBOX_TWILIO__VALIDATE_SIGNATURES", "Yes", "did you mean true?"),
        ("KOLBOX_PUBLIC__TRUSTED_PROXIES", "10.0.0.*,::1", "did you mean 10.0.0.0/24,::1?"),
        ("PUBLIC_HOST", "\"gw.example.co.il\"", "did you mean gw.example.co.il?"),
        ("KOLBOX_PUBLIC__MAX_CONNECTIONS", "\"512\"", "did you mean 512?"),
    ] {
        assert_says(&load_environment(name, value).unwrap_err().join("\n"), &[name, expected]);
    }
}

#[test]
fn a_line_that_is_no_toml_is_never_repeated() {
    for line in [
        "auth_token = c0ffee",
        "auth_token = \"c0ffee",
        "auth_token = 'c0f'c0ffee'",
        "auth_token \"c0ffee\"",
        "c0ffee",
        "c0ffee==",
        "auth_token: c0ffee",
        "auth_token = \"\\c0ffee\"",
        "auth_token = \"c0ffee\" c0ffee",
        "auth_token = 0xc0ffeeg",
        "auth_token = \"\"\"c0ffee\nc0ffee",
        "auth_token = { c0ffee }",
        "c0ffee = \"x\"\nauth_token = 1\nauth_token = c0ffee",
    ] {
        let said = mistakes(&format!("[twilio]\n{line}\n[log]\nlevel = \"info\""));
        assert_says(&said, &["kolbox.toml:"]);
        assert!(!said.contains("= c0ffee") && !said.contains("\"c0ffee"), "{said}");
    }
}

#[test]
fn a_file_that_is_none_at_all_is_refused_with_as_many_mistakes_as_one_reads() {
    let newlines = "\n".repeat(300);
    for (text, line) in [
        ("x\n".repeat(20_000), 100),
        ((0..20_000).map(|number| format!("a{number} = 1\n")).collect(), 100),
        (format!("{newlines}x\n"), 1),
        ("[log]\nlevel = \"info\"\n".repeat(5_000), 100),
        ("\0".repeat(5_000), 1),
    ] {
        let said = load_file(&text).unwrap_err();
        assert_eq!(said.len(), line, "{}", said[0]);
    }
    assert_says(&mistakes(&format!("{newlines}x\n")), &["kolbox.toml:301: this is no TOML"]);
}

#[test]
fn an_environment_name_with_one_underscore_too_few_is_set_right() {
    let said = load_environment("KOLBOX_WATCHDOG_START_TIMEOUT", "9s").unwrap_err().join("\n");
    assert_says(&said, &["did you mean KOLBOX_WATCHDOG__START_TIMEOUT?"]);
    assert!(load_environment("KOLBOX_watchdog__start_timeout", "9s").is_err());
}

#[test]
fn a_file_from_a_windows_editor_is_read() {
    let config = load_file("\u{feff}[watchdog]\r\nstart_timeout = \"9s\"\r\n").unwrap();
    assert_eq!(config.watchdog.start_timeout, Duration::from_secs(9));
}

#[test]
fn after_a_syntax_error_the_rest_is_checked_still_and_nothing_is_said_to_be_missing() {
    let error = load_all("[twilio]\nauth_token = c0ffee\n[watchdog]\nstart_timeout = \"soon\"", &[], &[]).unwrap_err();
    let said = error.join("\n");
    assert_eq!(error.len(), 2, "{said}");
    assert_says(&said, &["kolbox.toml:2: auth_token", "kolbox.toml:4: watchdog.start_timeout"]);
    assert!(!said.contains("c0ffee"), "{said}");
}

#[test]
fn where_the_store_is_can_be_read_from_a_configuration_that_nothing_can_be_served_with() {
    let store_path = |file, environment: &[(&str, &str)]| {
        let (environment, credentials) = (map(environment), map(&[]));
        let file = Some(("kolbox.toml", file));
        store_path_beside(Sources { file, environment: &environment, credentials: &credentials }, Vec::new())
            .map_err(|error| error.to_string())
    };
    let wrong = "[watchdog]\nstart_timeout = 8\n[twilio]\naccount = \"AC1\"\n";
    let named = format!("{wrong}[store]\npath = \"/records\"\n");
    assert_eq!(store_path("", &[]), Ok(Store::default().path));
    assert_eq!(store_path(&named, &[]), Ok("/records".into()));
    assert_eq!(store_path(wrong, &[("KOLBOX_STORE__PATH", "/records")]), Ok("/records".into()));

    // An unknown key may be the misspelt path: another store's records are worse than none.
    assert_says(&store_path("[store]\npaht = \"/records\"", &[]).unwrap_err(), &["kolbox.toml:2: store.paht"]);
    assert_says(&store_path("[store]\npath = 7", &[]).unwrap_err(), &["kolbox.toml:2: store.path = 7: expected"]);
}
