//! Broken configurations, as a tired installer would type them: `kolbox serve` and `kolbox check` refuse each with exit
//! code 2, and say in which line of which file it stands, what was written, and what to type instead.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

const TOKEN: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";
const ACCOUNT: &str = "AC0123456789abcdef0123456789abcdef";
const API_KEY: &str = "SK0123456789abcdef0123456789abcdef";

fn kolbox(arguments: &[&str], environment: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kolbox"));
    command.args(arguments).env_clear().envs(environment.iter().copied());
    command.output().expect("the program runs")
}

/// What both commands say of a file that neither can use. `check` comes first: it ends in any case.
#[track_caller]
fn refused(file: &Path, environment: &[(&str, &str)]) -> String {
    let file = file.to_str().unwrap();
    let [said, again] = ["check", "serve"].map(|command| {
        let output = kolbox(&[command, "--config", file], environment);
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{command}: {said}");
        assert!(output.stdout.is_empty(), "{command}: {}", String::from_utf8_lossy(&output.stdout));
        said
    });
    assert_eq!(said, again);
    assert!(!said.contains(TOKEN), "{said}");
    said
}

#[track_caller]
fn assert_says(said: &str, parts: &[&str]) {
    for part in parts {
        assert!(said.contains(part), "{part:?} is not in:\n{said}");
    }
}

/// A file that is as it should be but for what follows or precedes.
fn good() -> String {
    format!("[twilio]\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{TOKEN}\"\n")
}

/// One file, and all that must be said of it; `kolbox.toml:` stands for the file's path and its line.
#[track_caller]
fn check(text: &str, parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kolbox.toml");
    fs::write(&file, text).unwrap();
    let said = refused(&file, &[]);
    let inside = format!("{}/", folder.path().display());
    assert!(said.contains(&inside), "the path is not told: {said}");
    assert_says(&said.replace(&inside, ""), parts);
    assert_eq!(said.lines().count(), 1 + parts.len(), "{said}");
}

#[test]
fn quotes_from_a_mail() {
    check(
        &format!("[public]\nhost = “gw.example.co.il”\n[twilio]\naccount_sid = ״{ACCOUNT}״\nauth_token = „{TOKEN}”\n"),
        &[
            "kolbox.toml:2: host: this is no TOML: the quotes must be the plain \"; did you mean host = \
             \"gw.example.co.il\"?\n",
            &format!(
                "kolbox.toml:4: account_sid: this is no TOML: the quotes must be the plain \"; did you mean \
                      account_sid = \"{ACCOUNT}\"?\n"
            ),
            "kolbox.toml:5: auth_token: this is no TOML: the quotes must be the plain \"; did you mean auth_token = \
             \"...\"?\n",
        ],
    );
}

#[test]
fn no_quotes_at_all() {
    check(
        &format!("[twilio]\naccount_sid = {ACCOUNT}\nauth_token = {TOKEN}\n[watchdog]\nstart_timeout = 8s\n"),
        &[
            &format!(
                "kolbox.toml:2: account_sid: this is no TOML: text must stand in quotes; did you mean account_sid = \
                      \"{ACCOUNT}\"?\n"
            ),
            "kolbox.toml:3: auth_token: this is no TOML: text must stand in quotes; did you mean auth_token = \"...\"?\n",
            "kolbox.toml:5: start_timeout: this is no TOML: text must stand in quotes; did you mean start_timeout = \
             \"8s\"?\n",
        ],
    );
}

#[test]
fn a_closing_quote_forgotten() {
    check(
        &format!("[public]\nhost = \"gw.example.co.il\n{}", good()),
        &["kolbox.toml:2: host: this is no TOML: the closing quote is missing; did you mean host = \
           \"gw.example.co.il\"?\n"],
    );
}

#[test]
fn marks_of_direction_pasted_in() {
    check(
        &format!("{}[public]\n\u{200f}host = \"gw.example.co.il\"\n", good()),
        &[
            "kolbox.toml:5: host: this is no TOML: there is an invisible character, U+200F, as mails and web pages put it: \
           type the line anew; did you mean host = \"gw.example.co.il\"?\n",
        ],
    );
    check(
        &format!("{}[public]\nhost = \"\u{202a}gw.example.co.il\u{202c}\"\n", good()),
        &[
            "kolbox.toml:5: public.host = \"\\u{202a}gw.example.co.il\\u{202c}\": has an invisible character in it, U+202A, \
           as mails and web pages put it; did you mean \"gw.example.co.il\"?\n",
        ],
    );
}

#[test]
fn a_port_where_an_address_belongs() {
    check(
        &format!("[public]\nlisten = 8443\n[status]\nlisten = \"localhost:8080\"\n{}", good()),
        &[
            "kolbox.toml:2: public.listen = 8443: expected an IP address and a port, written like \"0.0.0.0:8443\" or \
             \"[::]:8443\"; did you mean \"0.0.0.0:8443\"?\n",
            "kolbox.toml:4: status.listen = \"localhost:8080\": expected an IP address and a port, written like \
             \"0.0.0.0:8080\" or \"[::]:8080\"; did you mean \"127.0.0.1:8080\"?\n",
        ],
    );
}

#[test]
fn a_port_with_a_digit_too_many() {
    check(
        &format!("[public]\nlisten = \"0.0.0.0:84443\"\n{}", good()),
        &["kolbox.toml:2: public.listen = \"0.0.0.0:84443\": 84443 is no port, they go up to 65535; expected an IP \
           address and a port, written like \"0.0.0.0:8443\""],
    );
}

#[test]
fn the_whole_webhook_where_the_name_belongs() {
    check(
        &format!("[public]\nhost = \"http://gw.example.co.il:8443/webhook/incoming_call\"\n{}", good()),
        &[
            "kolbox.toml:2: public.host = \"http://gw.example.co.il:8443/webhook/incoming_call\": expected the public name \
           alone, written like \"gw.example.co.il\" or \"gw.example.co.il:8443\"; did you mean \
           \"gw.example.co.il:8443\"?\n",
        ],
    );
}

#[test]
fn durations_without_their_unit() {
    check(
        &format!(
            "{}[watchdog]\nstart_timeout = 8\nno_media_timeout = \"6 שניות\"\n[calls]\ncaller_silence = \"30\"\n",
            good()
        ),
        &[
            "kolbox.toml:5: watchdog.start_timeout = 8: expected a duration from 200ms to 1h, written like \"8s\", \
             \"500ms\", \"2m\", \"7d\"; did you mean \"8s\"?\n",
            "kolbox.toml:6: watchdog.no_media_timeout = \"6 שניות\": expected a duration from 200ms to 1h, written like \
             \"8s\", \"500ms\", \"2m\", \"7d\"; did you mean \"6s\"?\n",
            "kolbox.toml:8: calls.caller_silence = \"30\": expected \"0s\", or a duration from 200ms to 1h, written like \
             \"8s\", \"500ms\", \"2m\", \"7d\"; did you mean \"30s\"?\n",
        ],
    );
}

#[test]
fn sizes_in_words() {
    check(
        &format!("{}[store]\nmax_bytes = \"1 giga\"\n[audio]\nmax_bytes = 512\n", good()),
        &[
            "kolbox.toml:5: store.max_bytes = \"1 giga\": expected a size from 64.0 KiB to 16.0 TiB, written like \
             \"512MiB\" or \"1GiB\"; did you mean \"1GiB\"?\n",
            "kolbox.toml:7: audio.max_bytes = 512: expected a size from 64.0 KiB to 16.0 TiB, written like \"512MiB\" or \
             \"1GiB\"; did you mean \"512MiB\"?\n",
        ],
    );
}

#[test]
fn a_section_misspelt_and_a_mistake_below_it() {
    check(
        &format!("{}validate_signature = \"no\"\n", good().replace("twilio", "twillio")),
        &[
            "kolbox.toml:1: twillio: there is no such section or key; did you mean [twilio]?\n",
            "kolbox.toml:4: twillio.validate_signature: there is no such key; did you mean twilio.validate_signatures?\n",
            "kolbox.toml:4: twillio.validate_signature = \"no\": expected true or false, without quotes; did you mean \
             false?\n",
        ],
    );
}

#[test]
fn a_key_below_the_wrong_section() {
    check(
        &format!("{}host = \"gw.example.co.il\"\nstart_timeout = \"8s\"\n", good()),
        &[
            "kolbox.toml:4: twilio.host: there is no such key; did you mean public.host?\n",
            "kolbox.toml:5: twilio.start_timeout: there is no such key; did you mean watchdog.start_timeout?\n",
        ],
    );
}

#[test]
fn a_key_and_a_section_twice() {
    check(
        &format!(
            "{}account_sid = \"{ACCOUNT}\"\n[store]\npath = \"/data\"\n[twilio]\nvalidate_signatures = true\n",
            good()
        ),
        &[
            "kolbox.toml:4: account_sid: this is no TOML: this is a duplicate key, it stands already in line 2: keep one of \
             the two\n",
            "kolbox.toml:7: this is no TOML: this section stands already in line 1: put its keys together there\n",
        ],
    );
}

#[test]
fn account_and_token_swapped() {
    check(
        &format!("[twilio]\naccount_sid = \"{TOKEN}\"\nauth_token = \"{ACCOUNT}\"\n"),
        &[
            "kolbox.toml:2: twilio.account_sid: this looks like an auth token, which belongs into twilio.auth_token; \
             expected AC and 32 hexadecimal digits, as Twilio's console shows it under Account SID",
            "kolbox.toml:3: twilio.auth_token: this is an Account SID, which belongs into twilio.account_sid; the auth token \
             stands beside the Account SID in Twilio's console",
        ],
    );
}

#[test]
fn an_account_that_is_nearly_right() {
    let suggestion = format!("did you mean \"{ACCOUNT}\"?\n");
    for written in [format!(" {ACCOUNT}"), ACCOUNT.to_lowercase(), format!("{ACCOUNT}\u{200e}"), format!("“{ACCOUNT}”")]
    {
        let text = good().replace(ACCOUNT, &written);
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("kolbox.toml");
        fs::write(&file, text).unwrap();
        assert_says(&refused(&file, &[]), &["kolbox.toml:2: twilio.account_sid = ", &suggestion]);
    }
    for (written, part) in [
        (&ACCOUNT[..33], "there are 31 digits; expected AC and 32 hexadecimal digits"),
        (API_KEY, "this is an API key, which belongs into twilio.api_key_sid; expected AC"),
    ] {
        check(
            &good().replace(ACCOUNT, written),
            &[&format!("kolbox.toml:2: twilio.account_sid = \"{written}\": {part}")],
        );
    }
}

#[test]
fn a_token_with_something_around_it_or_an_example_in_its_place() {
    for (written, part) in [
        (format!("\"{TOKEN} \""), "has a space at its beginning or end: take it away"),
        (format!("'\"{TOKEN}\"'"), "has quotes that would be part of it: write it without them"),
        (format!("\"{TOKEN}\u{200f}\""), "has an invisible character in it, U+200F"),
        ("\"your_auth_token\"".to_owned(), "this is what stands in examples; the auth token stands beside"),
    ] {
        check(
            &good().replace(&format!("\"{TOKEN}\""), &written),
            &[&format!("kolbox.toml:3: twilio.auth_token: {part}")],
        );
    }
}

#[test]
fn networks_that_are_none() {
    check(
        &format!("[public]\ntrusted_proxies = [\"10.0.0.300/8\"]\n{}", good()),
        &[
            "kolbox.toml:2: public.trusted_proxies = [\"10.0.0.300/8\"]: \"10.0.0.300/8\": 10.0.0.300 is no address: each of \
           its four numbers goes up to 255, without zeros in front; expected a network such as \"10.0.0.0/8\", or an address",
        ],
    );
    check(
        &format!("[public]\ntrusted_proxies = \"10.0.0.1, 10.0.0.2\"\n{}", good()),
        &["expected a list, written like [\"one\", \"two\"]; did you mean [\"10.0.0.1\", \"10.0.0.2\"]?\n"],
    );
    check(
        &format!("[public]\ntrusted_proxies = [\"10.0.0.1/33\", \"nginx.local\"]\n{}", good()),
        &[
            "/33 is no mask, they go up to /32; expected a network such as \"10.0.0.0/8\", or an address; \"nginx.local\": a \
           proxy's name is not looked up: give its address",
        ],
    );
}

#[test]
fn yes_for_true() {
    check(
        &format!("{}validate_signatures = \"yes\"\n", good()),
        &[
            "kolbox.toml:4: twilio.validate_signatures = \"yes\": expected true or false, without quotes; did you mean true?\n",
        ],
    );
    check(
        &format!("{}validate_signatures = True\n", good()),
        &[
            "kolbox.toml:4: validate_signatures: this is no TOML: a yes or no is written true or false, in small letters; did \
           you mean validate_signatures = true?\n",
        ],
    );
}

#[test]
fn prompts_that_are_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let (file, prompts) = (folder.path().join("kolbox.toml"), folder.path().join("prompts"));
    fs::create_dir(&prompts).unwrap();
    let named = folder.path().join("promts");
    fs::write(&file, format!("{}[calls]\nprompts = \"{}\"\n", good(), named.display())).unwrap();
    let suggestion = format!("did you mean \"{}\"?\n", prompts.display());
    let said = refused(&file, &[]);
    assert_says(
        &said,
        &["kolbox.toml:5: calls.prompts = ", "there is no such directory; make it, or write \"\"", &suggestion],
    );
    fs::write(prompts.join("greeting_he.mp3"), "").unwrap();
    let named = prompts.join("greeting_he.mp3");
    fs::write(&file, format!("{}[calls]\nprompts = \"{}\"\n", good(), named.display())).unwrap();
    assert_says(&refused(&file, &[]), &["is a file; expected the directory that the prompts are in", &suggestion]);
}

#[test]
fn a_certificate_that_is_a_directory_and_a_key_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let live = folder.path().join("live");
    fs::create_dir(&live).unwrap();
    fs::write(live.join("fullchain.pem"), "").unwrap();
    fs::write(live.join("privkey.pem"), "").unwrap();
    let file = folder.path().join("kolbox.toml");
    let (certificate, key) = (live.display(), live.join("private.pem"));
    let tls = format!("[public.tls]\nmode = \"files\"\ncertificate = \"{certificate}\"\nkey = \"{}\"\n", key.display());
    fs::write(&file, format!("{}{tls}", good())).unwrap();
    let said = refused(&file, &[]);
    assert_says(
        &said,
        &[
            &format!(
                "kolbox.toml:6: public.tls.certificate = \"{certificate}\": is a directory; expected the path of a PEM \
                      file in it, such as \"fullchain.pem\"; did you mean \"{certificate}/fullchain.pem\"?\n"
            ),
            &format!(
                "kolbox.toml:7: public.tls.key = \"{}\": there is no such file; expected the path of a PEM file",
                key.display()
            ),
        ],
    );
    fs::write(&file, format!("{}[public.tls]\nmode = \"files\"\n", good())).unwrap();
    assert_says(
        &refused(&file, &[]),
        &[
            "kolbox.toml: public.tls.certificate (not set): must name a PEM file, such as \"/etc/kolbox/fullchain.pem\"",
            "kolbox.toml: public.tls.key (not set): must name a PEM file, such as \"/etc/kolbox/key.pem\"",
        ],
    );
}

#[test]
fn a_store_that_is_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kolbox.toml");
    fs::write(&file, format!("{}[store]\npath = \"{}\"\n", good(), file.display())).unwrap();
    assert_says(
        &refused(&file, &[]),
        &["kolbox.toml:5: store.path = ", "is a file; expected a directory of the box's own"],
    );
}

#[test]
fn a_file_for_another_program() {
    check(
        &format!("twilio:\n  account_sid: {ACCOUNT}\n  auth_token: {TOKEN}\n"),
        &[
            "kolbox.toml:1: this is no TOML: a section is written in brackets; did you mean [twilio]?\n",
            &format!(
                "kolbox.toml:2: account_sid: this is no TOML: between key and value belongs =; did you mean account_sid = \
                      \"{ACCOUNT}\"?\n"
            ),
            "kolbox.toml:3: auth_token: this is no TOML: between key and value belongs =; did you mean auth_token = \"...\"?\n",
        ],
    );
    check(
        &format!("TWILIO_AUTH_TOKEN={TOKEN}\nPUBLIC_HOST=gw.example.co.il\n"),
        &[
            "kolbox.toml:1: this is no TOML: TWILIO_AUTH_TOKEN belongs into the environment; in this file it is auth_token = \
             \"...\" below [twilio]\n",
            "kolbox.toml:2: this is no TOML: PUBLIC_HOST belongs into the environment; in this file it is host = \"...\" below \
             [public]\n",
        ],
    );
}

#[test]
fn an_empty_file() {
    check(
        "",
        &[
            "kolbox.toml: twilio.auth_token (not set): must be Twilio's auth token, since twilio.validate_signatures is true: \
           auth_token = \"...\" below [twilio] in the file, or TWILIO_AUTH_TOKEN in the environment",
        ],
    );
}

#[test]
fn a_file_saved_by_windows_in_another_encoding() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kolbox.toml");
    let utf16 = |mark: &[u8]| {
        let units = good().encode_utf16().flat_map(u16::to_le_bytes).collect::<Vec<_>>();
        [mark, &units[..]].concat()
    };
    for bytes in [utf16(&[0xff, 0xfe]), utf16(&[])] {
        fs::write(&file, bytes).unwrap();
        assert_says(
            &refused(&file, &[]),
            &["kolbox.toml: is UTF-16, which Windows calls Unicode; save it again as UTF-8\n"],
        );
    }
    // "# שלום" in Windows-1255.
    fs::write(&file, [good().as_bytes(), b"# \xf9\xec\xe5\xed\n"].concat()).unwrap();
    assert_says(&refused(&file, &[]), &["kolbox.toml: line 4 is not UTF-8; save the file again as UTF-8\n"]);
}

#[test]
fn a_byte_order_mark_tabs_and_windows_line_ends_are_no_mistakes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("kolbox.toml");
    let text = format!(
        "\u{feff}[store]\n\tpath\t=\t\"{}\"\n[public]\nlisten = \"127.0.0.1:0\"\n[status]\nlisten = \"127.0.0.1:0\"\n{}",
        folder.path().join("store").display(),
        good()
    );
    fs::write(&file, text.replace('\n', "\r\n")).unwrap();
    // Nobody's port: what the doctor would ask Twilio is not the matter here.
    let nobody = [("KOLBOX_TWILIO__API_BASE", "http://127.0.0.1:1")];
    let output = kolbox(&["check", "--config", file.to_str().unwrap()], &nobody);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.starts_with("ok    configuration"), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_file_that_is_a_directory_or_has_another_name() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("kolbox.toml.txt"), good()).unwrap();
    assert_says(
        &refused(&folder.path().join("kolbox.toml"), &[]),
        &["kolbox.toml: there is no such file; did you mean ", "/kolbox.toml.txt?\n"],
    );
    fs::write(folder.path().join("kolbox.toml"), good()).unwrap();
    assert_says(
        &refused(folder.path(), &[]),
        &["is a directory; expected a file, such as kolbox.toml in it; did you mean ", "/kolbox.toml?\n"],
    );
}

#[test]
fn names_of_the_environment_misspelt_and_mistakes_of_every_layer_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let (file, credentials) = (folder.path().join("kolbox.toml"), folder.path().join("credentials"));
    fs::create_dir(&credentials).unwrap();
    fs::write(credentials.join("status_password"), " hunter2").unwrap();
    fs::write(&file, format!("{}[log]\nlevel = \"INFO\"\n[boards]\nprofile = \"rpi\"\n", good())).unwrap();
    let environment = [
        ("CREDENTIALS_DIRECTORY", credentials.to_str().unwrap()),
        ("KOLBOX_WATCHDOG_START_TIMEOUT", "9s"),
        ("KOLBOX_TWILLIO__AUTH_TOKEN", TOKEN),
        ("KOLBOX_SYNC__TIMEOUT", "10"),
        ("PORT", "https"),
    ];
    let said = refused(&file, &environment);
    assert_says(
        &said,
        &[
            "cannot be used, for 7 mistakes:\n",
            "kolbox.toml:5: log.level = \"INFO\": expected off, error, warn, info, debug or trace",
            "; did you mean \"info\"?\n",
            "kolbox.toml:6: boards: there is no such section or key; did you mean [board]?\n",
            "status_password (credential): has a space at its beginning or end",
            "KOLBOX_WATCHDOG_START_TIMEOUT (environment): there is no such name; did you mean KOLBOX_WATCHDOG__START_TIMEOUT?\n",
            "KOLBOX_TWILLIO__AUTH_TOKEN (environment): there is no such name; did you mean KOLBOX_TWILIO__AUTH_TOKEN?\n",
            "KOLBOX_SYNC__TIMEOUT (environment) = \"10\": expected a duration from 200ms to 1h",
            "; did you mean 10s?\n",
            "PORT (environment) = \"https\": expected a port, a number up to 65535",
        ],
    );
    assert!(!said.contains("hunter2"), "{said}");
}
