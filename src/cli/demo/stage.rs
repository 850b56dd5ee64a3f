//! All that runs during the demo, on ports of its own: the box, its Twilio and the office's system.

use std::{error::Error, fmt, io, net::SocketAddr, path::PathBuf, time::Duration};

use tokio::sync::mpsc;

use super::{
    box_log::{self, News},
    cast::Line,
    folder::Folder,
    scribe,
    second_box::Site,
};
use crate::{
    config::{Config, Public, Status, Store},
    gateway::{Gateway, StartError},
    simulator::{
        happening::Told,
        rest::{self, Served},
        twilio::Twilio,
        upstream::Upstream,
    },
    system::http_client::{Roots, RootsError},
    twilio::sid::AccountSid,
};

/// A port that is free.
const LOOPBACK: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);
/// What Twilio signs with. It guards nothing but this demo on this computer.
pub const AUTH_TOKEN: &str = "demo";
const SYNC_TOKEN: &str = "demo-office";
/// Nobody wants to watch 30 s of silence.
pub const CALLER_SILENCE: Duration = Duration::from_secs(5);
/// So that the office need not be waited for long after it is back.
pub const RETRY_MAX: Duration = Duration::from_secs(2);
/// What happened in calls, as far as it waits to be told.
const TOLD_MAX: usize = 4096;

/// Everything that runs.
pub struct Stage {
    pub gateway: Gateway,
    pub config: Config,
    pub twilio: Twilio,
    pub upstream: Upstream,
    pub line: Line,
    pub account_sid: AccountSid,
    _rest: Served,
    /// The last to go.
    pub folder: Folder,
}

/// What there is to tell a story from.
pub struct Sources {
    pub told: mpsc::Receiver<Told>,
    pub news: mpsc::Receiver<News>,
    /// Where the second box adds its own.
    pub more_news: mpsc::Sender<News>,
}

/// Why there is no demo.
#[derive(Debug)]
pub enum DemoError {
    /// The demo's own directory cannot be made.
    Folder(PathBuf, io::Error),
    Log(io::Error),
    /// Who cannot listen on loopback.
    Listen(&'static str, io::Error),
    Url(url::ParseError),
    Roots(RootsError),
    Start(StartError),
    /// The box that is to be killed does not start.
    SecondBox(io::Error),
    /// Standard output is gone.
    Output(io::Error),
}

impl Stage {
    /// Starts everything; the office's system is down.
    pub async fn build() -> Result<(Self, Sources), DemoError> {
        let folder = Folder::make().map_err(|(path, error)| DemoError::Folder(path, error))?;
        let (more_news, news) = box_log::follow(&folder.log()).map_err(DemoError::Log)?;
        let (teller, told) = mpsc::channel(TOLD_MAX);
        let account_sid = AccountSid::from_number(1);
        // The box's certificate is its own, as good as any on loopback.
        let twilio = Twilio::new(account_sid, AUTH_TOKEN, &Roots::Insecure, Some(teller)).map_err(DemoError::Roots)?;
        let rest = rest::serve(LOOPBACK, twilio.clone()).await;
        let rest = rest.map_err(|error| DemoError::Listen("Twilio's REST side", error))?;
        let upstream = Upstream::serve(LOOPBACK, SYNC_TOKEN).await;
        let upstream = upstream.map_err(|error| DemoError::Listen("the office's system", error))?;
        upstream.set_down(true);
        let config = config(&folder, account_sid, rest.address, upstream.address())?;
        let gateway = Gateway::start(config.clone()).await.map_err(DemoError::Start)?;
        let line = Line::new(gateway.public, account_sid);
        let stage = Self { gateway, config, twilio, upstream, line, account_sid, _rest: rest, folder };
        Ok((stage, Sources { told, news, more_news }))
    }

    /// Where the box of the last act finds what it needs: all but its own ports and its own disk is the first one's.
    pub fn second_site(&self) -> Site {
        let store = toml::Value::String(self.folder.within("second-store").display().to_string());
        let sync = self.config.sync.url.as_ref().map(|url| url.as_str()).unwrap_or_default();
        let settings = format!(
            "[status]\nlisten = \"{LOOPBACK}\"\n\
             [twilio]\naccount_sid = \"{}\"\nauth_token = \"{AUTH_TOKEN}\"\napi_base = \"{}\"\n\
             [calls]\ncaller_silence = \"{}s\"\n\
             [store]\npath = {store}\n\
             [sync]\nurl = \"{sync}\"\ntoken = \"{SYNC_TOKEN}\"\nretry_max = \"{}s\"\n",
            self.account_sid,
            self.config.twilio.api_base,
            CALLER_SILENCE.as_secs(),
            RETRY_MAX.as_secs(),
        );
        Site {
            configuration: self.folder.within("second-kolbox.toml"),
            log: self.folder.within("second-kolbox.log"),
            said: self.folder.within("second-kolbox.stderr"),
            settings,
        }
    }
}

/// A real box's configuration, on loopback. The host of Twilio's requests becomes the public one.
fn config(
    folder: &Folder,
    account_sid: AccountSid,
    rest: SocketAddr,
    upstream: SocketAddr,
) -> Result<Config, DemoError> {
    let mut config = Config {
        public: Public { listen: LOOPBACK, ..Public::default() },
        status: Status { listen: LOOPBACK, ..Status::default() },
        store: Store { path: folder.store(), ..Store::default() },
        speech: scribe::find(),
        ..Config::default()
    };
    config.twilio.account_sid = Some(account_sid);
    config.twilio.auth_token = AUTH_TOKEN.into();
    config.twilio.api_base = format!("http://{rest}");
    config.calls.caller_silence = CALLER_SILENCE;
    config.sync.url = Some(format!("http://{upstream}/transcripts").parse().map_err(DemoError::Url)?);
    config.sync.token = SYNC_TOKEN.into();
    config.sync.retry_max = RETRY_MAX;
    Ok(config)
}

impl From<io::Error> for DemoError {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for DemoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(path, _) => write!(f, "{}: cannot be made (TMPDIR says where else)", path.display()),
            Self::Log(_) => f.write_str("the box's log cannot be followed"),
            Self::Listen(who, _) => write!(f, "{who} cannot listen on loopback"),
            Self::Url(_) => f.write_str("the office's system has no URL"),
            Self::Roots(_) => f.write_str("TLS cannot be set up"),
            Self::Start(_) => f.write_str("the gateway does not start"),
            Self::SecondBox(_) => f.write_str("the second box, which is to be killed, does not start"),
            Self::Output(_) => f.write_str("cannot write"),
        }
    }
}

impl Error for DemoError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(match self {
            Self::Folder(_, error)
            | Self::Log(error)
            | Self::Listen(_, error)
            | Self::SecondBox(error)
            | Self::Output(error) => error,
            Self::Url(error) => error,
            Self::Roots(error) => error,
            Self::Start(error) => error,
        })
    }
}
