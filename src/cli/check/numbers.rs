//! Where the account's numbers lead, compared with what the box wants. Pure.

use url::Url;

use super::finding::{Finding, Verdict};
use crate::twilio::account::IncomingNumber;

const VOICE_PATH: &str = "/webhook/incoming_call";
const STATUS_PATH: &str = "/webhook/call_status";

/// One line for each number that leads here, and one for the others. `host`: `public.host`, where it is set.
pub(super) fn judge(numbers: &[IncomingNumber], host: Option<&str>) -> Vec<Finding> {
    let (ours, others): (Vec<_>, Vec<_>) = numbers.iter().partition(|number| leads_here(number, host));
    let mut findings: Vec<Finding> = ours.iter().map(|number| judge_number(number, host)).collect();
    let wanted = shown_wanted(host, VOICE_PATH);
    match (numbers.len(), ours.len()) {
        (0, _) => findings.push(Finding::fix(
            "number",
            "the account has none: buy one, or see whether twilio.account_sid and the region of twilio.api_base are right",
        )),
        (_, 0) => {
            let count = others.len();
            let text = format!("none of the account's {count} leads here: set the voice URL of one to {wanted}");
            findings.push(Finding::fix("number", text));
        }
        _ if others.is_empty() => {}
        _ => findings.push(Finding::fine("number", format!("{} more of the account lead elsewhere", others.len()))),
    }
    findings
}

/// Whether somebody meant this number for the box, right or nearly so.
fn leads_here(number: &IncomingNumber, host: Option<&str>) -> bool {
    let mut urls = [&number.voice_url, &number.status_callback].into_iter().flatten();
    urls.any(|url| match Url::parse(url) {
        Ok(url) => host.is_some_and(|host| is_on(&url, host)) || url.path().contains(VOICE_PATH),
        Err(_) => false,
    })
}

fn judge_number(number: &IncomingNumber, host: Option<&str>) -> Finding {
    let remarks: Vec<(Verdict, String)> =
        [taken_over(number), voice(number, host), fallback(number, host), status(number, host)]
            .into_iter()
            .flatten()
            .collect();
    let verdict = remarks.iter().map(|(verdict, _)| *verdict).max().unwrap_or(Verdict::Fine);
    let said: Vec<String> = remarks.into_iter().map(|(_, text)| text).collect();
    let name = name(number);
    let text = if said.is_empty() { format!("{name} leads here") } else { format!("{name}: {}", said.join("; ")) };
    Finding { what: "number", verdict, text }
}

/// Its last digits, and what it is called in Twilio's console.
fn name(number: &IncomingNumber) -> String {
    let digits: Vec<char> = number.phone_number.chars().rev().take(3).collect();
    format!("…{} ({})", digits.iter().rev().collect::<String>(), number.sid)
}

fn taken_over(number: &IncomingNumber) -> Option<(Verdict, String)> {
    let set = |sid: &Option<String>| sid.clone().filter(|sid| !sid.is_empty());
    let app = set(&number.voice_application_sid).map(|sid| format!("the TwiML app {sid}"));
    let by = app.or_else(|| set(&number.trunk_sid).map(|sid| format!("the SIP trunk {sid}")))?;
    Some((Verdict::Fix, format!("{by} answers in place of its own voice URL: take the number out of it")))
}

fn voice(number: &IncomingNumber, host: Option<&str>) -> Option<(Verdict, String)> {
    let url = number.voice_url.as_deref().unwrap_or_default();
    let wanted = shown_wanted(host, VOICE_PATH);
    let is_wanted = Url::parse(url).is_ok_and(|url| is_wanted(&url, host, VOICE_PATH));
    (!is_wanted).then(|| (Verdict::Fix, format!("its voice URL is {}: set it to {wanted}", shown(url))))
}

/// A dead box must not be a dead line.
fn fallback(number: &IncomingNumber, host: Option<&str>) -> Option<(Verdict, String)> {
    let what = match number.voice_fallback_url.as_deref().unwrap_or_default() {
        "" => "it has no URL for when the primary handler fails",
        url if Url::parse(url).is_ok_and(|url| host.is_some_and(|host| is_on(&url, host))) => {
            "when the primary handler fails, it asks this box once more"
        }
        _ => return None,
    };
    Some((Verdict::Fix, format!("{what}: set a TwiML Bin that takes a message, see the README")))
}

fn status(number: &IncomingNumber, host: Option<&str>) -> Option<(Verdict, String)> {
    let url = number.status_callback.as_deref().unwrap_or_default();
    let wanted = shown_wanted(host, STATUS_PATH);
    if url.is_empty() {
        return Some((Verdict::Note, format!("a call's end is noticed late: set call status changes to {wanted}")));
    }
    match Url::parse(url) {
        Ok(url) if is_wanted(&url, host, STATUS_PATH) => None,
        Ok(parsed) if host.is_some_and(|host| !is_on(&parsed, host)) => Some((
            Verdict::Note,
            format!("call status changes go to {}, so that a call's end is noticed late here", shown(url)),
        )),
        _ => Some((Verdict::Fix, format!("call status changes go to {}: set {wanted}", shown(url)))),
    }
}

/// What stands behind a `#` are Twilio's connection settings, and no part of what it asks for.
fn is_wanted(url: &Url, host: Option<&str>, path: &str) -> bool {
    url.scheme() == "https" && url.path() == path && host.is_none_or(|host| is_on(url, host))
}

/// `host` is `name` or `name:port`.
fn is_on(url: &Url, host: &str) -> bool {
    let ours = Url::parse(&format!("https://{host}/")).ok();
    ours.is_some_and(|ours| (ours.host(), ours.port_or_known_default()) == (url.host(), url.port_or_known_default()))
}

fn shown_wanted(host: Option<&str>, path: &str) -> String {
    format!("https://{}{path}", host.unwrap_or("PUBLIC-NAME"))
}

/// A URL without what may be secret in it: user, password and query.
fn shown(url: &str) -> String {
    match Url::parse(url) {
        Ok(url) => format!("{}{}", url.origin().ascii_serialization(), url.path()),
        Err(_) if url.is_empty() => "empty".to_owned(),
        Err(_) => "no URL".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: &str = "gw.example.co.il";

    /// A number that is set as the box wants it.
    fn number() -> IncomingNumber {
        IncomingNumber {
            sid: "PN1".to_owned(),
            phone_number: "+97231234567".to_owned(),
            voice_url: Some("https://GW.example.co.il:443/webhook/incoming_call#rc=2&rt=4000".to_owned()),
            voice_fallback_url: Some("https://handler.twilio.com/twiml/EH1".to_owned()),
            status_callback: Some("https://gw.example.co.il/webhook/call_status".to_owned()),
            ..IncomingNumber::default()
        }
    }

    fn lines(numbers: &[IncomingNumber], host: Option<&str>) -> Vec<String> {
        judge(numbers, host).iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_number_that_is_set_as_the_box_wants_it_needs_nothing() {
        for host in [Some(HOST), None] {
            assert_eq!(lines(&[number()], host), ["ok    number         …567 (PN1) leads here"]);
        }
    }

    #[test]
    fn each_setting_that_is_wrong_is_named_with_what_to_set() {
        let some = |url: &str| Some(url.to_owned());
        type Change = fn(&mut IncomingNumber, Option<String>);
        let changes: [(Change, _, &str, &str); 11] = [
            (
                |n, url| n.voice_url = url,
                some("http://gw.example.co.il/webhook/incoming_call"),
                "FIX",
                "set it to https",
            ),
            (|n, url| n.voice_url = url, some("https://gw.example.co.il/webhook/incoming_call/"), "FIX", "set it to"),
            (|n, url| n.voice_url = url, some("https://old.example/webhook/incoming_call"), "FIX", "is https://old.ex"),
            (|n, url| n.voice_url = url, None, "FIX", "its voice URL is empty: set it to https://gw.example.co.il/web"),
            (|n, url| n.voice_fallback_url = url, some(""), "FIX", "no URL for when the primary handler fails: set a"),
            (|n, url| n.voice_fallback_url = url, some("https://gw.example.co.il/x"), "FIX", "asks this box once more"),
            (|n, url| n.status_callback = url, some(""), "note", "set call status changes to https://gw.example.co"),
            (|n, url| n.status_callback = url, some("https://crm.example/calls"), "note", "https://crm.example/calls"),
            (
                |n, url| n.status_callback = url,
                some("https://gw.example.co.il/call_status"),
                "FIX",
                "call status changes",
            ),
            (|n, sid| n.voice_application_sid = sid, some("AP1"), "FIX", "the TwiML app AP1 answers in place"),
            (|n, sid| n.trunk_sid = sid, some("TK1"), "FIX", "the SIP trunk TK1 answers in place"),
        ];
        for (change, value, verdict, part) in changes {
            let mut number = number();
            change(&mut number, value);
            let lines = lines(&[number], Some(HOST));
            assert!(lines.len() == 1 && lines[0].starts_with(verdict) && lines[0].contains(part), "{part}: {lines:?}");
        }
    }

    #[test]
    fn numbers_of_others_are_left_alone_unless_none_leads_here() {
        let mut other = number();
        other.voice_url = Some("https://user:pass@shop.example/voice?key=secret".to_owned());
        other.status_callback = None;
        let both = lines(&[number(), other.clone()], Some(HOST));
        assert_eq!(both.last().unwrap(), "ok    number         1 more of the account lead elsewhere");
        let none = lines(&[other.clone()], Some(HOST));
        assert!(none[0].starts_with("FIX") && none[0].contains("none of the account's 1 leads here"), "{none:?}");
        assert!(lines(&[], Some(HOST))[0].contains("the account has none"));
        other.status_callback = number().status_callback;
        let meant = lines(&[other], Some(HOST));
        assert!(meant[0].contains("https://shop.example/voice:"), "{meant:?}");
        assert!(!meant[0].contains("pass") && !meant[0].contains("secret"), "{meant:?}");
    }
}
