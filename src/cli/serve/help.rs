//! `kolbox serve --help`: what an installer needs to know, on one page.

use super::at_twilio::{GOODBYE_BIN, MESSAGE_BIN, status_callback, voice_url};

/// Under `-h`.
pub fn short_help() -> &'static str {
    "Examples:\n\
     \x20 kolbox serve --config kolbox.toml\n\
     \x20 TWILIO_ACCOUNT_SID=AC... TWILIO_AUTH_TOKEN=... PUBLIC_HOST=gw.example.co.il kolbox serve\n\n\
     `kolbox serve --help` says where settings come from, and what to enter at Twilio."
}

/// Under `--help`.
pub fn long_help() -> String {
    let (voice_url, status_callback) = (voice_url("gw.example.co.il"), status_callback("gw.example.co.il"));
    format!(
        "{SETTINGS}\n\
         Enter at Twilio, for each number (with your own name; it is printed at the start, too):\n\
         \x20 A call comes in        Webhook, HTTP POST  {voice_url}\n\
         \x20 Primary handler fails  TwiML Bin           the second one below\n\
         \x20 Call status changes    HTTP POST           {status_callback}\n\n\
         Two TwiML Bins (Twilio's console > TwiML Bins), which take a message when the box is dead. First \"goodbye\":\n\n\
         {GOODBYE_BIN}\n\
         Then \"message\", with the address of the first one in the place of https://handler.twilio.com/twiml/GOODBYE-BIN:\n\n\
         {MESSAGE_BIN}"
    )
}

const SETTINGS: &str = "\
Settings, the strongest first:
  TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN, PUBLIC_HOST, PORT
                            in the environment: [twilio] account_sid, auth_token, [public] host, the port of listen
  KOLBOX_<SECTION>__<KEY>   in the environment, for every key: KOLBOX_WATCHDOG__START_TIMEOUT=8s,
                            KOLBOX_PUBLIC__TLS__MODE=off; lists with commas
  $CREDENTIALS_DIRECTORY    systemd's credentials, for secrets: twilio_auth_token, twilio_auth_token_secondary,
                            twilio_api_key_secret, status_password, sync_token, speech_api_key
  the file                  --config FILE, else what KOLBOX_CONFIG names, else /etc/kolbox/kolbox.toml, else none
  defaults                  enough for a trial; systemd/kolbox.toml lists every key with its default and its reason

Needed before the first call:
  twilio.account_sid        AC and 32 digits, from Twilio's console
  twilio.auth_token         from the same page, hidden until \"Show\" is pressed
  public.host               the name that leads Twilio here: gw.example.co.il
  public.tls                mode = \"files\", with certificate = \"/…/fullchain.pem\", key = \"/…/privkey.pem\"
`kolbox check` looks at all this without starting anything.

Ports:
  public.listen             0.0.0.0:8443, HTTPS: webhooks, media streams, prompts. Twilio comes to port 443: listen
                            there (the unit file allows it), or have the router or a proxy pass 443 on
  status.listen             0.0.0.0:8080, plain HTTP: the page for staff. Never to be opened to the internet
  outward                   443, to api.twilio.com and to sync.url

Signals:
  SIGTERM, SIGINT           drain: running streams go on for calls.drain, then callers are sent to the recorder, records
                            go to the disk. A second one ends at once

Exit codes:
  0  stopped by a signal
  1  something went wrong: a port is taken, the store cannot be used. Another start may help
  2  wrong usage, or a configuration that cannot be used: every mistake is told, with what to type instead

Examples:
  kolbox serve
  kolbox serve --config kolbox.toml
  TWILIO_ACCOUNT_SID=AC... TWILIO_AUTH_TOKEN=... PUBLIC_HOST=gw.example.co.il KOLBOX_STORE__PATH=./data kolbox serve
  KOLBOX_LOG__FORMAT=text KOLBOX_LOG__LEVEL=debug kolbox serve --config kolbox.toml
";

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../systemd/kolbox.toml");

    #[test]
    fn the_help_names_all_that_an_installer_may_set_or_meet() {
        let help = long_help();
        for part in [
            "--config FILE",
            "KOLBOX_CONFIG",
            "/etc/kolbox/kolbox.toml",
            "TWILIO_ACCOUNT_SID",
            "TWILIO_AUTH_TOKEN",
            "PUBLIC_HOST",
            "PORT",
            "twilio_auth_token",
            "sync_token",
            "status_password",
            "0.0.0.0:8443",
            "0.0.0.0:8080",
            "SIGTERM",
            "  0  ",
            "  1  ",
            "  2  ",
            "https://gw.example.co.il/webhook/incoming_call#rc=",
            "https://gw.example.co.il/webhook/call_status",
            "<Record action=",
            "kolbox serve --config kolbox.toml",
        ] {
            assert!(help.contains(part), "{part}");
        }
    }

    /// Whatever key a line of the help names, the example file has it.
    #[test]
    fn every_key_in_the_help_exists() {
        for name in ["account_sid", "auth_token", "host", "[public.tls]", "listen", "drain", "format", "level", "path"]
        {
            assert!(EXAMPLE.contains(&format!("\n{name}")), "{name}");
        }
    }
}
