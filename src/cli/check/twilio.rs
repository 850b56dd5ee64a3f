//! Twilio as the box reaches it: the name, the clock by Twilio's own, the credentials, the account's numbers.

use jiff::{SignedDuration, Timestamp};
use url::{Host, Url};

use super::{finding::Finding, numbers, public_name::addresses};
use crate::{
    cli::with_causes,
    config::{Config, Twilio},
    limits::{NUMBERS_PAGES_MAX, REST_CONNECT_MAX},
    server::rest_client::RestClient,
    system::http_client::{Failure, HttpClient, Reply, Roots},
    twilio::{
        account::{AccountFacts, read_account, read_numbers},
        rest::{RestReply, RestRequest},
        sid::AccountSid,
    },
};

/// Records and certificates need the time; beyond this a clock needs fixing.
const CLOCK_OFF_MAX: SignedDuration = SignedDuration::from_secs(60);

/// Looks at everything that stands at Twilio.
pub(super) async fn examine(config: &Config, findings: &mut Vec<Finding>) {
    let twilio = &config.twilio;
    let Some(account_sid) = twilio.account_sid else {
        let text = "a call whose stream fails cannot be sent to the recorder: set twilio.account_sid or \
                    TWILIO_ACCOUNT_SID";
        return findings.push(Finding::fix("account", text));
    };
    let http = match HttpClient::new(&Roots::Public, REST_CONNECT_MAX) {
        Ok(http) => http,
        Err(error) => return findings.push(Finding::fix("account", with_causes(&error))),
    };
    // The auth token is asked for by itself: it signs webhooks also where REST is opened by an API key.
    let with_token = Twilio { api_key_sid: String::new(), ..twilio.clone() };
    let with_token = RestClient::new(&with_token, http.clone());
    let (name, answer) =
        tokio::join!(check_name(&twilio.api_base), with_token.exchange(RestRequest::fetch_account(&account_sid)));
    findings.extend(name);
    let reply = match answer {
        Ok(reply) => reply,
        Err(failure) => {
            findings.push(Finding::fix("account", unreachable(twilio, &failure, Timestamp::now())));
            findings.push(Finding::note("clock", "not compared: Twilio cannot be reached"));
            return findings.push(Finding::note("number", "not looked at: Twilio cannot be reached"));
        }
    };
    findings.push(judge_clock(reply.date(), Timestamp::now()));
    let account = judge_account(&account_sid, reply.into());
    let is_open = account.verdict != super::finding::Verdict::Fix;
    findings.push(account);
    match is_open || !twilio.api_key_sid.is_empty() {
        true => check_numbers(config, &account_sid, &RestClient::new(twilio, http), findings).await,
        false => findings.push(Finding::note("number", "not looked at: the account cannot be opened")),
    }
}

/// An address in place of a name needs none.
async fn check_name(api_base: &str) -> Option<Finding> {
    let url = Url::parse(api_base).ok()?;
    let Some(Host::Domain(name)) = url.host() else { return None };
    Some(match addresses(name).await {
        Ok(_) => Finding::fine("Twilio's name", name),
        Err(why) => Finding::fix(
            "Twilio's name",
            format!("{name} cannot be found ({why}): see that this computer has internet and a DNS server"),
        ),
    })
}

fn unreachable(twilio: &Twilio, failure: &Failure, now: Timestamp) -> String {
    let clock = match failure.tls() {
        Some(_) => format!(" (this computer's clock says {})", now.strftime("%Y-%m-%d %H:%M UTC")),
        None => String::new(),
    };
    let why = with_causes(failure);
    format!(
        "{} cannot be reached ({why}): see that this computer has internet, and out on TCP 443{clock}",
        twilio.api_base
    )
}

/// A certificate is believed, and a record dated, by this computer's clock.
fn judge_clock(theirs: Option<Timestamp>, ours: Timestamp) -> Finding {
    let Some(theirs) = theirs else { return Finding::note("clock", "not compared: the answer has no date") };
    let off = ours.duration_since(theirs);
    let shown = SignedDuration::from_secs(off.as_secs().abs());
    let side = if off.is_negative() { "behind" } else { "ahead of" };
    match off.abs() > CLOCK_OFF_MAX {
        true => Finding::fix(
            "clock",
            format!("{shown:#} {side} Twilio's: let it be set from the network, `timedatectl set-ntp true`"),
        ),
        false => Finding::fine("clock", "within a minute of Twilio's"),
    }
}

fn judge_account(account_sid: &AccountSid, reply: RestReply) -> Finding {
    match reply.status {
        200..=299 => {}
        401 | 403 | 404 => {
            let text = format!(
                "{account_sid} with twilio.auth_token is refused (HTTP {}): compare both with Twilio's console (the live \
                 ones, of the region that twilio.api_base names)",
                reply.status
            );
            return Finding::fix("account", text);
        }
        status => return Finding::fix("account", format!("Twilio answers HTTP {status}: try again in a while")),
    }
    match read_account(&reply) {
        Some(AccountFacts { status, kind }) if status == "active" && kind == "Trial" => Finding::note(
            "account",
            format!("{account_sid} is a trial account: Twilio may refuse <Stream> and <Record>; upgrade it"),
        ),
        Some(AccountFacts { status, .. }) if status == "active" => {
            Finding::fine("account", format!("{account_sid} is active, and takes the auth token"))
        }
        Some(_) => Finding::fix("account", format!("{account_sid} is suspended or closed: see Twilio's console")),
        None => Finding::fix("account", "what answers at twilio.api_base is not Twilio: mend it"),
    }
}

async fn check_numbers(config: &Config, account_sid: &AccountSid, client: &RestClient, findings: &mut Vec<Finding>) {
    let mut numbers = Vec::new();
    let mut next = Some(RestRequest::list_numbers(account_sid));
    let mut pages = 0;
    while let Some(request) = next.take() {
        if pages == NUMBERS_PAGES_MAX {
            findings.push(Finding::note("number", format!("only the first {} are looked at", numbers.len())));
            break;
        }
        pages += 1;
        let page = match client.exchange(request).await.map(judge_list) {
            Ok(Ok(reply)) => read_numbers(account_sid, &reply),
            Ok(Err(finding)) => return findings.push(finding),
            Err(failure) => return findings.push(Finding::note("number", format!("not looked at: {failure}"))),
        };
        let Some(page) = page else { return findings.push(Finding::note("number", "not looked at: no list came")) };
        numbers.extend(page.numbers);
        next = page.next;
    }
    if !config.twilio.api_key_sid.is_empty() {
        findings.push(Finding::fine("API key", "opens REST"));
    }
    findings.extend(numbers::judge(&numbers, config.public.host.as_deref()));
}

/// A refusal of the list is one of the API key: the account itself was asked before.
fn judge_list(reply: Reply) -> Result<RestReply, Finding> {
    match reply.status {
        200..=299 => Ok(reply.into()),
        401 => Err(Finding::fix(
            "API key",
            "twilio.api_key_sid with its secret is refused: make a new one in Twilio's console, in the same region",
        )),
        status => Err(Finding::note("number", format!("not looked at: the list is refused with HTTP {status}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Verdict, *};

    fn reply(status: u16, body: &str) -> RestReply {
        RestReply { status, retry_after: None, body: body.into() }
    }

    #[test]
    fn a_clock_is_wrong_beyond_a_minute_on_either_side() {
        let theirs: Timestamp = "2026-11-22T08:15:00Z".parse().unwrap();
        let at = |seconds: i64| judge_clock(Some(theirs), theirs + SignedDuration::from_secs(seconds));
        assert_eq!((at(60).verdict, at(-60).verdict), (Verdict::Fine, Verdict::Fine));
        assert!(at(-3_700).to_string().starts_with("FIX   clock          1h 1m 40s behind Twilio's"), "{}", at(-3_700));
        assert!(at(61).text.starts_with("1m 1s ahead of"), "{}", at(61));
        assert_eq!(judge_clock(None, theirs).verdict, Verdict::Note);
    }

    #[test]
    fn an_account_is_judged_by_what_twilio_says_of_it() {
        let judge = |status, body| judge_account(&AccountSid::from_number(1), reply(status, body)).verdict;
        assert_eq!(judge(200, r#"{"status":"active","type":"Full"}"#), Verdict::Fine);
        assert_eq!(judge(200, r#"{"status":"active","type":"Trial"}"#), Verdict::Note);
        for (status, body) in [
            (200, r#"{"status":"suspended","type":"Full"}"#),
            (200, "<html>log in to the guest network</html>"),
            (401, r#"{"code":20003}"#),
            (404, ""),
            (503, ""),
        ] {
            assert_eq!(judge(status, body), Verdict::Fix, "{status} {body}");
        }
    }

    #[test]
    fn a_clock_that_is_far_off_is_shown_where_it_may_be_why_twilio_is_not_believed() {
        let now = "1970-01-01T00:05:00Z".parse().unwrap();
        let expired = rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidYet);
        let failure = Failure::Connect(std::io::Error::other(expired).into());
        let said = unreachable(&Twilio::default(), &failure, now);
        assert!(said.contains("clock says 1970-01-01 00:05 UTC"), "{said}");
        assert!(!unreachable(&Twilio::default(), &Failure::TimedOut, now).contains("clock"));
    }
}
