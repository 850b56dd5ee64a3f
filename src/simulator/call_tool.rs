//! `kolbox call`: the simulator as a test tool against any gateway.

use std::{
    fmt, fs,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{sync::mpsc, task::JoinSet};
use url::{Host, Url};

use super::{
    caller::Caller,
    document::Document,
    faults::{Faults, NamedFault},
    forms::Parties,
    happening::{Happening, Told},
    media_client,
    phone_call::WebhookReply,
    plan::{Number, Plan, Timing},
    report::{CallReport, Outcome},
    rest,
    twilio::Twilio,
};
use crate::{
    speech::{audio, decode::decode},
    system::http_client::{Roots, RootsError},
    twilio::{
        sid::{AccountSid, CallSid},
        webhook::{CallStatus, Form},
    },
};

/// What a caller says when no file is given: Hebrew, made by static/tts/make.sh.
const SPEECH: &[u8] = include_bytes!("../../static/speech/caller_he.wav");
/// The same in English.
const SPEECH_ENGLISH: &[u8] = include_bytes!("../../static/speech/caller_en.wav");
/// With more calls than this the story of each is not told while it runs.
const TOLD_CALLS_MAX: usize = 4;
/// How long a gateway may take to fetch the recordings after the last call, and how often that is looked at.
const FETCH_WAIT: Duration = Duration::from_secs(10);
const FETCH_LOOK: Duration = Duration::from_millis(50);
/// Lines of the story that may wait to be printed.
const TOLD_MAX: usize = 4096;
/// Both paths of the media socket: Twilio is known to ask for either.
const MEDIA_PATHS: [&str; 2] = ["/ws/twilio-media", "/ws/twilio-media/"];

/// What to do.
#[derive(Debug, Clone)]
pub struct CallOptions {
    /// The gateway's `incoming_call` webhook.
    pub url: Url,
    pub account_sid: AccountSid,
    pub auth_token: String,
    /// A sound file of what the callers say; `None`: built-in Hebrew speech.
    pub audio: Option<PathBuf>,
    /// How many call at once.
    pub calls: usize,
    pub fault: Option<NamedFault>,
    /// Where the REST side listens.
    pub rest_listen: SocketAddr,
    /// `None`: any certificate on loopback, the public authorities elsewhere.
    pub roots: Option<Roots>,
    /// The number's status callback; `None`: the number has none.
    pub status_callback: Option<String>,
    /// Callers hang up this long after they were answered, at the latest.
    pub hang_up_after: Duration,
}

/// Why nothing could be tried.
#[derive(Debug)]
pub enum ToolError {
    /// The sound file cannot be read or decoded.
    Audio(PathBuf, Box<dyn std::error::Error + Send + Sync>),
    Roots(RootsError),
    /// The REST side cannot listen there.
    Listen(SocketAddr, io::Error),
    /// Standard output is gone.
    Output(io::Error),
}

impl fmt::Display for ToolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Audio(path, _) => write!(f, "the audio file {} cannot be used", path.display()),
            Self::Roots(_) => write!(f, "the certificates to trust cannot be used"),
            Self::Listen(address, _) => {
                write!(f, "the REST side cannot listen on {address}: choose another by --rest-listen")
            }
            Self::Output(_) => write!(f, "cannot write"),
        }
    }
}

impl std::error::Error for ToolError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Audio(_, error) => Some(error.as_ref()),
            Self::Roots(error) => Some(error),
            Self::Listen(_, error) | Self::Output(error) => Some(error),
        }
    }
}

impl From<io::Error> for ToolError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl CallOptions {
    /// Options with everything at its default.
    pub fn new(url: Url, account_sid: AccountSid, auth_token: String) -> Self {
        Self {
            status_callback: status_callback_beside(&url),
            url,
            account_sid,
            auth_token,
            audio: None,
            calls: 1,
            fault: None,
            rest_listen: SocketAddr::from(([127, 0, 0, 1], 8499)),
            roots: None,
            hang_up_after: Duration::from_secs(120),
        }
    }

    fn twilio(&self, teller: Option<mpsc::Sender<Told>>) -> Result<Twilio, ToolError> {
        let default = if is_loopback(&self.url) { Roots::Insecure } else { Roots::Public };
        let roots = self.roots.as_ref().unwrap_or(&default);
        Twilio::new(self.account_sid, &self.auth_token, roots, teller).map_err(ToolError::Roots)
    }

    fn parties(&self, nth: usize) -> Parties {
        Parties {
            account_sid: self.account_sid,
            call_sid: CallSid::from_number(fastrand::u128(..)),
            from: format!("+97250{:07}", 1_234_567 + nth),
            to: "+97231234567".to_owned(),
        }
    }

    fn plan(&self, nth: usize, speech: Arc<[u8]>) -> Plan {
        Plan {
            parties: self.parties(nth),
            number: Number {
                voice_url: self.url.to_string(),
                fallback_url: None,
                status_callback: self.status_callback.clone(),
                connect_action_after_hang_up: true,
                silent_record_calls_action: false,
            },
            caller: Caller {
                speech,
                leaves_after_saying: Some(Duration::from_secs(1)),
                leaves_after: self.hang_up_after,
                patience: Duration::from_secs(40),
            },
            faults: self.fault.map_or_else(Faults::default, NamedFault::faults),
            timing: Timing::default(),
            placed_at: jiff::Timestamp::now(),
        }
    }
}

/// Places the calls and says what became of them. Whether each ended in a stream or a recording.
pub async fn call(options: &CallOptions, out: &mut impl Write) -> Result<bool, ToolError> {
    let speech = speech(options)?;
    let (teller, mut told) = mpsc::channel(TOLD_MAX);
    let twilio = options.twilio((options.calls <= TOLD_CALLS_MAX).then_some(teller))?;
    let served = rest::serve(options.rest_listen, twilio.clone())
        .await
        .map_err(|error| ToolError::Listen(options.rest_listen, error))?;
    writeln!(out, "REST side on http://{0} (the gateway needs KOLBOX_TWILIO__API_BASE=http://{0})", served.address)?;

    let begin = Instant::now();
    let mut calls = JoinSet::new();
    for nth in 0..options.calls {
        let (twilio, plan) = (twilio.clone(), options.plan(nth, speech.clone()));
        calls.spawn(async move { twilio.call(plan).await });
    }
    let mut reports = Vec::new();
    loop {
        tokio::select! {
            // The story up to an end is told before the end.
            biased;
            Some(line) = told.recv() => {
                // The report has the stretches with their lengths.
                if !matches!(line.what, Happening::Meets(_)) {
                    print_told(&line, begin, options.calls, out)?;
                }
            }
            ended = calls.join_next() => match ended {
                Some(Ok(report)) => reports.push(report),
                Some(Err(error)) => writeln!(out, "a call's task failed: {error}")?,
                None => break,
            },
        }
    }
    for report in &reports {
        writeln!(out, "{report}")?;
    }
    let unfetched = wait_for_fetches(&twilio).await;
    if unfetched > 0 {
        writeln!(out, "{unfetched} recordings were announced and not fetched within {} s", FETCH_WAIT.as_secs())?;
    }
    print_summary(&reports, options.calls, out)?;
    Ok(reports.len() == options.calls && reports.iter().all(|report| report.outcome.is_kept()))
}

/// Keeps the REST side up until the gateway has fetched what was recorded, or has had its time. How many it has not.
async fn wait_for_fetches(twilio: &Twilio) -> usize {
    let begin = Instant::now();
    loop {
        let unfetched = twilio.account().recordings_unfetched();
        if unfetched == 0 || begin.elapsed() > FETCH_WAIT {
            return unfetched;
        }
        tokio::time::sleep(FETCH_LOOK).await;
    }
}

/// Asks the webhook once and prints its answer. Whether it is a document that Twilio would run.
pub async fn print_twiml(options: &CallOptions, out: &mut impl Write) -> Result<bool, ToolError> {
    let twilio = options.twilio(None)?;
    let parties = options.parties(0);
    let form = Form::from_pairs(parties.voice(CallStatus::Ringing));
    let usable = match twilio.post(options.url.as_str(), &form).await {
        WebhookReply::Answered { status, content_type, body } => {
            writeln!(out, "{status} {}", content_type.as_deref().unwrap_or("without content type"))?;
            writeln!(out, "{}", body.trim_end())?;
            match Document::parse(&body) {
                Ok(document) => {
                    document.warnings.iter().try_for_each(|warning| writeln!(out, "12200: unknown {warning}"))?;
                    status == 200
                }
                Err(error) => {
                    writeln!(out, "{error}")?;
                    false
                }
            }
        }
        WebhookReply::NoConnection => {
            writeln!(out, "11205: no connection to {}", options.url)?;
            false
        }
        WebhookReply::NoAnswer => {
            writeln!(out, "11205: no answer from {}", options.url)?;
            false
        }
    };
    // The gateway holds a place for this call now: give it back.
    if let Some(url) = &options.status_callback {
        let form = Form::from_pairs(parties.call_status(CallStatus::Completed, Duration::ZERO, ""));
        twilio.post(url, &form).await;
    }
    Ok(usable)
}

/// Tries both WebSocket paths of the gateway. Whether both gave 101.
pub async fn handshake(options: &CallOptions, out: &mut impl Write) -> Result<bool, ToolError> {
    let twilio = options.twilio(None)?;
    let mut all = true;
    for path in MEDIA_PATHS {
        let mut url = options.url.clone();
        url.set_path(path);
        url.set_query(None);
        let address = format!("wss{}", url.as_str().trim_start_matches(url.scheme()));
        match media_client::open(twilio.tls(), twilio.auth_token(), &address).await {
            Ok((socket, response)) => {
                writeln!(out, "{address} {}", response.status())?;
                media_client::close(socket).await;
            }
            Err(error) => {
                all = false;
                let source = std::error::Error::source(&error).map(|why| format!(" ({why})")).unwrap_or_default();
                writeln!(out, "{address} {}: {error}{source}", error.code())?;
            }
        }
    }
    Ok(all)
}

/// Built-in speech as a caller says it.
pub fn built_in_speech(english: bool) -> Arc<[u8]> {
    let bytes = if english { SPEECH_ENGLISH } else { SPEECH };
    // Checked by a test: the file is part of the program.
    decode(bytes, "wav").map(|sound| audio::encode(&sound.pcm8k).into()).unwrap_or_default()
}

fn speech(options: &CallOptions) -> Result<Arc<[u8]>, ToolError> {
    let Some(path) = &options.audio else { return Ok(built_in_speech(false)) };
    let failed = |error| ToolError::Audio(path.clone(), error);
    let bytes = fs::read(path).map_err(|error| failed(error.into()))?;
    let extension = path.extension().and_then(|name| name.to_str()).unwrap_or_default();
    let sound = decode(&bytes, extension).map_err(|error| failed(error.into()))?;
    Ok(audio::encode(&sound.pcm8k).into())
}

fn print_told(told: &Told, begin: Instant, calls: usize, out: &mut impl Write) -> io::Result<()> {
    let at = told.at.saturating_duration_since(begin).as_secs_f64();
    if calls == 1 {
        return writeln!(out, "{at:8.3} s  {}", told.what);
    }
    let tail = told.call_sid.as_str().get(28..).unwrap_or_default();
    writeln!(out, "{at:8.3} s  …{tail}  {}", told.what)
}

fn print_summary(reports: &[CallReport], calls: usize, out: &mut impl Write) -> io::Result<()> {
    let count = |wanted: fn(&Outcome) -> bool| reports.iter().filter(|report| wanted(&report.outcome)).count();
    writeln!(
        out,
        "{calls} calls: {} streamed, {} recorded, {} without message, {} LOST; {} REST updates",
        count(|outcome| *outcome == Outcome::Streamed),
        count(|outcome| matches!(outcome, Outcome::Recorded(_))),
        count(|outcome| *outcome == Outcome::NoMessage),
        count(|outcome| *outcome == Outcome::Lost) + calls - reports.len(),
        reports.iter().map(|report| report.rest_updates).sum::<u32>(),
    )?;
    print_range("redirect after the answer", reports.iter().filter_map(|report| report.redirect_after_answer), out)?;
    print_range("redirect after the fault", reports.iter().filter_map(|report| report.redirect_after_fault), out)
}

fn print_range(name: &str, times: impl Iterator<Item = Duration>, out: &mut impl Write) -> io::Result<()> {
    let mut times: Vec<f64> = times.map(|time| time.as_secs_f64()).collect();
    times.sort_by(f64::total_cmp);
    let (Some(first), Some(middle), Some(last)) = (times.first(), times.get(times.len() / 2), times.last()) else {
        return Ok(());
    };
    writeln!(out, "{name}: first {first:.3} s, middle {middle:.3} s, last {last:.3} s")
}

/// The status callback that belongs to an `incoming_call` webhook; none where the path is another.
pub fn status_callback_beside(url: &Url) -> Option<String> {
    let path = url.path().strip_suffix("/incoming_call")?;
    let mut beside = url.clone();
    beside.set_path(&format!("{path}/call_status"));
    Some(beside.to_string())
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Domain(name)) => name == "localhost",
        Some(Host::Ipv4(address)) => IpAddr::from(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::from(address).is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulator::caller::is_sound;

    #[test]
    fn the_built_in_speech_can_be_heard() {
        for english in [false, true] {
            let speech = built_in_speech(english);
            assert!(speech.len() > 2 * 8000 && is_sound(&speech), "english={english}");
        }
    }

    #[test]
    fn the_status_callback_stands_beside_the_webhook() {
        let url = |text: &str| status_callback_beside(&Url::parse(text).unwrap());
        assert_eq!(
            url("https://127.0.0.1:8443/webhook/incoming_call").as_deref(),
            Some("https://127.0.0.1:8443/webhook/call_status")
        );
        assert_eq!(url("https://box/voice"), None);
    }

    #[test]
    fn any_certificate_is_believed_on_loopback_only() {
        let loopback = |text: &str| is_loopback(&Url::parse(text).unwrap());
        assert!(loopback("https://127.0.0.2:1/") && loopback("https://[::1]/") && loopback("https://localhost/"));
        assert!(!loopback("https://10.0.0.1/") && !loopback("https://localhost.example/"));
    }
}
