//! An account and its numbers as Twilio's REST API shows them: what is set there, to be compared with what the box wants.

use serde::Deserialize;

use super::{
    rest::{RestReply, RestRequest},
    sid::AccountSid,
};
use crate::limits::NUMBERS_PAGE;

/// How an account stands (docs: Account resource).
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct AccountFacts {
    /// `active`, `suspended` or `closed`.
    pub status: String,
    /// `Trial` or `Full`.
    #[serde(rename = "type", default)]
    pub kind: String,
}

/// A number and where it leads (docs: IncomingPhoneNumber resource). What is not set is empty or missing there.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
pub struct IncomingNumber {
    pub sid: String,
    #[serde(default)]
    pub phone_number: String,
    #[serde(default)]
    pub voice_url: Option<String>,
    #[serde(default)]
    pub voice_fallback_url: Option<String>,
    #[serde(default)]
    pub status_callback: Option<String>,
    /// A TwiML app that has its say in place of the number's own URLs.
    #[serde(default)]
    pub voice_application_sid: Option<String>,
    /// A SIP trunk, likewise.
    #[serde(default)]
    pub trunk_sid: Option<String>,
}

/// Some of an account's numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumbersPage {
    pub numbers: Vec<IncomingNumber>,
    /// What asks for the next ones.
    pub next: Option<RestRequest>,
}

impl IncomingNumber {
    /// Whether its voice URL leads to `host` (`name` or `name:port`), and to nobody else.
    pub fn leads_to(&self, host: &str) -> bool {
        let is_set = |sid: &Option<String>| sid.as_ref().is_some_and(|sid| !sid.is_empty());
        let url = self.voice_url.as_deref().unwrap_or_default();
        let authority = url.strip_prefix("https://").and_then(|rest| rest.split(['/', '?', '#']).next());
        let without_port = |name: &str| name.strip_suffix(":443").unwrap_or(name).to_ascii_lowercase();
        !is_set(&self.voice_application_sid)
            && !is_set(&self.trunk_sid)
            && authority.is_some_and(|authority| without_port(authority) == without_port(host))
    }
}

impl RestRequest {
    /// The account itself: [`read_account`]. An API key may not ask this.
    pub fn fetch_account(account_sid: &AccountSid) -> Self {
        Self::of_path(format!("/2010-04-01/Accounts/{account_sid}.json"))
    }

    /// The account's numbers, the first of them: [`read_numbers`].
    pub fn list_numbers(account_sid: &AccountSid) -> Self {
        Self::of_path(format!("{}PageSize={NUMBERS_PAGE}", numbers_path(account_sid)))
    }
}

fn numbers_path(account_sid: &AccountSid) -> String {
    format!("/2010-04-01/Accounts/{account_sid}/IncomingPhoneNumbers.json?")
}

/// The account in an answer; `None` where the answer is none of Twilio's.
pub fn read_account(reply: &RestReply) -> Option<AccountFacts> {
    reply.json()
}

/// The numbers in an answer; likewise.
pub fn read_numbers(account_sid: &AccountSid, reply: &RestReply) -> Option<NumbersPage> {
    let page: PageBody = reply.json()?;
    // Asked with our credentials, wherever it leads: so only to where the list is.
    let next = page.next_page_uri.filter(|uri| uri.starts_with(&numbers_path(account_sid)));
    Some(NumbersPage { numbers: page.incoming_phone_numbers, next: next.map(RestRequest::of_path) })
}

#[derive(Deserialize)]
struct PageBody {
    incoming_phone_numbers: Vec<IncomingNumber>,
    #[serde(default)]
    next_page_uri: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(body: &str) -> RestReply {
        RestReply { status: 200, retry_after: None, body: body.into() }
    }

    #[test]
    fn an_account_and_its_numbers_are_read_with_whatever_else_twilio_says() {
        let account = reply(r#"{"status":"active","type":"Trial","auth_token":"secret","friendly_name":"Office"}"#);
        assert_eq!(read_account(&account), Some(AccountFacts { status: "active".into(), kind: "Trial".into() }));
        assert_eq!(read_account(&reply("<html>")), None);
        let sid = AccountSid::from_number(1);
        let body = r#"{"incoming_phone_numbers":[{"sid":"PN1","phone_number":"+97231234567","voice_url":"https://a/",
            "voice_fallback_url":"","status_callback":null,"capabilities":{"voice":true}}],"page":0}"#;
        let page = read_numbers(&sid, &reply(body)).unwrap();
        assert_eq!(page.numbers[0].voice_url.as_deref(), Some("https://a/"));
        assert_eq!((page.numbers.len(), page.numbers[0].status_callback.as_deref(), page.next), (1, None, None));
        assert_eq!(read_numbers(&sid, &reply("{}")), None);
    }

    #[test]
    fn a_number_leads_here_by_its_own_voice_url_alone() {
        let number = |url: &str| IncomingNumber { voice_url: Some(url.into()), ..IncomingNumber::default() };
        for (url, host, leads) in [
            ("https://gw.example.co.il/webhook/incoming_call#rc=2", "gw.example.co.il", true),
            ("https://GW.example.co.il:443/webhook/incoming_call", "gw.example.co.il", true),
            ("https://gw.example.co.il:8443/", "gw.example.co.il:8443", true),
            ("https://gw.example.co.il.evil.example/", "gw.example.co.il", false),
            ("https://evil.example/gw.example.co.il", "gw.example.co.il", false),
            ("http://gw.example.co.il/", "gw.example.co.il", false),
            ("", "", false),
        ] {
            assert_eq!(number(url).leads_to(host), leads, "{url}");
        }
        let by_app = IncomingNumber { voice_application_sid: Some("AP1".into()), ..number("https://gw.example/") };
        assert!(!by_app.leads_to("gw.example") && number("https://gw.example/").leads_to("gw.example"));
    }

    #[test]
    fn the_next_page_is_asked_for_only_where_the_first_one_was() {
        let sid = AccountSid::from_number(1);
        let next = |uri: &str| {
            let body = format!(r#"{{"incoming_phone_numbers":[],"next_page_uri":"{uri}"}}"#);
            read_numbers(&sid, &reply(&body)).unwrap().next.map(|request| request.path)
        };
        let good = format!("/2010-04-01/Accounts/{sid}/IncomingPhoneNumbers.json?PageSize=50&Page=1&PageToken=PAPN2");
        assert_eq!(next(&good), Some(good.clone()));
        assert_eq!(next("https://elsewhere.example/"), None);
        assert_eq!(next("/2010-04-01/Accounts/AC2/Calls.json"), None);
    }
}
