//! `kolbox check`: the doctor. One line for each thing looked at, and what to do where something needs fixing.

use std::{process::ExitCode, time::Duration};

use clap::Args;
use tokio::{task::spawn_blocking, time::timeout};

use self::finding::{Finding, Verdict};
use super::{ConfigOption, FAILED, UNUSABLE, block_on, complain};
use crate::{config::Config, limits::CHECK_MAX};

mod finding;
mod machine;
mod numbers;
mod public_name;
mod speech;
mod twilio;

/// A gateway on this machine answers within milliseconds.
const GATEWAY_MAX: Duration = Duration::from_secs(3);

/// Look for what would keep calls from being answered, and say what to do
#[derive(Debug, Args)]
pub struct CheckArguments {
    #[command(flatten)]
    config: ConfigOption,
}

/// Prints the findings: 0 when nothing needs fixing, 1 when something does, 2 when the configuration cannot be used.
pub fn run(arguments: &CheckArguments) -> ExitCode {
    let world = arguments.config.find();
    let config = match world.load() {
        Ok(config) => config,
        Err(error) => {
            complain(&error);
            return ExitCode::from(UNUSABLE);
        }
    };
    let source =
        world.file().map_or("built-in defaults and the environment".to_owned(), |path| path.display().to_string());
    block_on(async move {
        let mut findings = vec![Finding::fine("configuration", source)];
        findings.extend(examine(config).await);
        for finding in &findings {
            anstream::println!("{finding}");
        }
        let sound = findings.iter().all(|finding| finding.verdict != Verdict::Fix);
        if sound { ExitCode::SUCCESS } else { ExitCode::from(FAILED) }
    })
}

/// Looks at everything, at the same time: together they take no longer than the slowest of them may.
async fn examine(config: Config) -> Vec<Finding> {
    let status = config.status.listen;
    let asked = timeout(GATEWAY_MAX, spawn_blocking(move || machine::answers_as_gateway(status))).await;
    let gateway_runs = matches!(asked, Ok(Ok(true)));
    let (mut at_twilio, mut public_name, mut here, mut engine) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let on_this_machine = config.clone();
    tokio::join!(
        bounded("Twilio", &mut at_twilio, async |findings| twilio::examine(&config, findings).await),
        bounded("public name", &mut public_name, async |findings| {
            public_name::examine(&config, gateway_runs, findings).await;
        }),
        bounded("this machine", &mut here, async |findings| {
            let looked = spawn_blocking(move || machine::examine(&on_this_machine, gateway_runs)).await;
            findings.extend(looked.unwrap_or_default());
        }),
        bounded("speech", &mut engine, async |findings| speech::examine(&config, gateway_runs, findings).await),
    );
    [at_twilio, public_name, here, engine].concat()
}

/// What was found in time, and that it was not all.
async fn bounded(what: &'static str, findings: &mut Vec<Finding>, look: impl AsyncFnOnce(&mut Vec<Finding>)) {
    if timeout(CHECK_MAX, look(findings)).await.is_err() {
        let text = format!("no answer within {} s: what is missing here was not looked at", CHECK_MAX.as_secs());
        findings.push(Finding::fix(what, text));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::{Tls, TlsMode},
        simulator::{account::NumberSettings, rest, twilio::Twilio},
        system::http_client::Roots,
        twilio::sid::AccountSid,
    };

    const TOKEN: &str = "c0ffeec0ffeec0ffeec0ffeec0ffee00";

    fn url(path: &str) -> String {
        format!("https://gw.example.co.il/webhook/{path}")
    }

    fn number(phone_number: &str, voice_url: &str) -> NumberSettings {
        NumberSettings {
            phone_number: phone_number.to_owned(),
            voice_url: voice_url.to_owned(),
            voice_fallback_url: "https://handler.twilio.com/twiml/EH1".to_owned(),
            status_callback: url("call_status"),
        }
    }

    /// A configuration for an account at a simulated Twilio with these numbers.
    async fn setting(folder: &std::path::Path, numbers: &[NumberSettings]) -> (Config, rest::Served) {
        let account_sid = AccountSid::from_number(1);
        let twilio = Twilio::new(account_sid, TOKEN, &Roots::Insecure, None).unwrap();
        numbers.iter().for_each(|number| twilio.account().add_number(number.clone()));
        let served = rest::serve("127.0.0.1:0".parse().unwrap(), twilio).await.unwrap();
        let mut config = Config::default();
        config.twilio.account_sid = Some(account_sid);
        config.twilio.auth_token = TOKEN.into();
        config.twilio.api_base = format!("http://{}", served.address);
        config.public.listen = "127.0.0.1:0".parse().unwrap();
        config.status.listen = "127.0.0.1:0".parse().unwrap();
        config.store.path = folder.to_owned();
        (config, served)
    }

    async fn lines(config: Config) -> Vec<String> {
        examine(config).await.iter().map(Finding::to_string).collect()
    }

    fn has(lines: &[String], beginning: &str, part: &str) -> bool {
        lines.iter().any(|line| line.starts_with(beginning) && line.contains(part))
    }

    #[tokio::test]
    async fn what_is_set_as_it_should_be_needs_no_fixing() {
        let folder = tempfile::tempdir().unwrap();
        let elsewhere = || number("+972500000000", "https://shop.example/voice");
        let numbers = [elsewhere(), elsewhere(), number("+97231234567", &url("incoming_call"))];
        let (config, _served) = setting(folder.path(), &numbers).await;
        let lines = lines(config).await;
        assert!(!has(&lines, "FIX", ""), "{lines:#?}");
        for (beginning, part) in [
            ("ok    clock ", "within a minute"),
            ("ok    account ", "AC00000000000000000000000000000001 is active"),
            ("ok    number ", "…567 (PN00000000000000000000000000000003) leads here"),
            ("note  public name ", "set public.host"),
            ("note  certificate ", "self-signed"),
            ("ok    store ", "can be written"),
            ("ok    board ", "simulated"),
            ("note  speech ", "no engine"),
        ] {
            assert!(has(&lines, beginning, part), "{beginning}{part}: {lines:#?}");
        }
    }

    #[tokio::test]
    async fn a_wrong_token_is_one_line_and_shown_to_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, _served) = setting(folder.path(), &[]).await;
        config.twilio.auth_token = "a-wrong-token".into();
        let lines = lines(config).await;
        assert!(has(&lines, "FIX   account ", "twilio.auth_token is refused (HTTP 401)"), "{lines:#?}");
        assert!(!has(&lines, "", "a-wrong-token"), "{lines:#?}");
    }

    #[tokio::test]
    async fn an_api_key_is_tried_beside_the_token_that_signs_webhooks() {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, _served) = setting(folder.path(), &[]).await;
        config.twilio.api_key_sid = "SK1".into();
        config.twilio.api_key_secret = "revoked".into();
        let lines = lines(config).await;
        assert!(has(&lines, "ok    account ", "takes the auth token"), "{lines:#?}");
        assert!(has(&lines, "FIX   API key ", "make a new one"), "{lines:#?}");
    }

    #[tokio::test]
    async fn numbers_that_lead_past_the_box_are_named_with_what_to_set() {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, _served) = setting(folder.path(), &[number("+97231234567", &url("incoming_call/"))]).await;
        config.public.host = Some("gw.example.co.il".to_owned());
        let lines = lines(config).await;
        let wanted = format!("set it to {}", url("incoming_call"));
        assert!(has(&lines, "FIX   number ", &wanted), "{lines:#?}");
    }

    #[tokio::test]
    async fn a_certificate_that_the_start_would_refuse_is_among_the_lines() {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, _served) = setting(folder.path(), &[]).await;
        let missing = folder.path().join("fullchain.pem");
        config.public.tls = Tls { mode: TlsMode::Files, certificate: missing.clone(), key: missing.clone() };
        let lines = lines(config).await;
        assert!(has(&lines, "FIX   certificate ", missing.to_str().unwrap()), "{lines:#?}");
    }

    #[tokio::test]
    async fn without_a_network_every_line_still_comes_and_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, served) = setting(folder.path(), &[]).await;
        drop(served);
        config.twilio.api_base = "http://127.0.0.1:1".to_owned();
        let lines = lines(config).await;
        assert!(has(&lines, "FIX   account ", "http://127.0.0.1:1 cannot be reached"), "{lines:#?}");
        for what in ["clock", "number"] {
            assert!(has(&lines, &format!("note  {what} "), "Twilio cannot be reached"), "{lines:#?}");
        }
        assert!(has(&lines, "ok    store ", ""), "{lines:#?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_never_answers_ends_in_its_time_with_what_it_found_before() {
        let mut findings = Vec::new();
        bounded("Twilio", &mut findings, async |findings| {
            findings.push(Finding::fine("clock", "right"));
            std::future::pending().await
        })
        .await;
        assert_eq!(findings.iter().map(|finding| finding.what).collect::<Vec<_>>(), ["clock", "Twilio"]);
        assert_eq!(findings[1].verdict, Verdict::Fix);
        assert!(CHECK_MAX + GATEWAY_MAX < Duration::from_secs(15));
    }
}
