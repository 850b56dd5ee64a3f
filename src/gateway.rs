//! `serve`: builds the parts in order, runs them, drains them. The table of contents of the running box.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, atomic::AtomicU64},
    thread,
    time::{Duration, Instant},
};

use prometheus_client::registry::Registry;
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    task::JoinHandle,
    time::timeout,
};

use self::{
    audio::AudioFigures,
    desk_loop::DeskLoop,
    errands::{Errands, Keeping, TwilioApi},
    overview::Overview,
};
use crate::{
    board::{self, LampDriver, panel, simulated::SimulatedLamps},
    calls::{Desk, DeskOptions, DeskView, Event, LiveCall, Pulses, watchdog::Watchdog},
    config::{Config, KeepAudio, SpeechEngine},
    limits::{DESK_QUEUE_MAX, DRAIN_END_MAX, ERRANDS_MAX, REST_CONNECT_MAX, SPOOL_STOP_MAX},
    server::{
        conversation::ConversationOptions,
        desk_port::DeskPort,
        listener::{self, Listener, Peer},
        media_session::MediaOptions,
        media_socket::MediaContext,
        metrics::ServerMetrics,
        prompts::Prompts,
        public_host::PublicHost,
        rest_client::RestClient,
        router::{self, Behind, Router},
        tls::{CertificateFigures, CertificateState, PublicTls},
    },
    speech::{
        audio as sound,
        spool::{Spool, SpoolPort, SpoolRoom},
    },
    status::{
        answer::is_event_stream,
        routes::{self, Client, StatusSite},
        snapshot::Snapshot,
        trouble::TroubleCode,
    },
    system::{
        clock::Clock,
        http_client::{HttpClient, Roots},
    },
    transcripts::{
        HousekeepingOptions, Keeper, KeeperOptions, KeeperPort, Left, Started, TextPort, identity, recordings,
    },
};

mod account;
mod audio;
mod certificate;
mod desk_loop;
mod errands;
mod overview;
mod reports;
mod serve;
mod start_error;
mod storage;
mod texts;

pub use serve::{Ended, serve};
pub use start_error::StartError;

/// The caller's sign to speak: 1000 Hz, since dial and busy tones are at 425 Hz.
const TONE_HZ: f32 = 1000.0;
const TONE_LENGTH: Duration = Duration::from_millis(250);
const TONE_AMPLITUDE: f32 = 0.3;

/// A running gateway.
pub struct Gateway {
    /// Where Twilio is served.
    pub public: SocketAddr,
    /// Where staff are served.
    pub status: SocketAddr,
    desk: DeskPort,
    desk_view: watch::Receiver<DeskView>,
    snapshot: watch::Receiver<Arc<Snapshot>>,
    certificate: watch::Receiver<CertificateState>,
    certificate_asked: Arc<Notify>,
    keeper: KeeperPort,
    errands_done: mpsc::Receiver<Infallible>,
    stop_desk: oneshot::Sender<()>,
    stop_listeners: watch::Sender<bool>,
    drain: Duration,
    listeners: Vec<JoinHandle<()>>,
    tasks: Vec<JoinHandle<()>>,
    keeper_task: JoinHandle<()>,
    /// It ends once nobody is left who could give it audio.
    spool_thread: Option<thread::JoinHandle<()>>,
}

impl Gateway {
    /// Starts every part; calls are answered from here on.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let clock = Clock;
        let began = clock.now();
        let prompts = Arc::new(Prompts::load(&config.calls).map_err(StartError::Prompts)?);
        let (driver, lamps_fail) = open_lamps(&config)?;
        let tls = PublicTls::open(&config.public, clock.wall(began)).map_err(StartError::Tls)?;
        let limits = listener::Limits::new(config.public.max_connections);
        let metrics = ServerMetrics::default();
        let public = bind("public", config.public.listen, tls.acceptor, limits).await?;
        let public = public.counted_by(metrics.connections("public"));
        let status = bind("status", config.status.listen, None, listener::Limits::status()).await?;
        let status = status.counted_by(metrics.connections("status"));

        // The records: everything else may hand them something.
        let http = HttpClient::new(&Roots::Public, REST_CONNECT_MAX).map_err(StartError::Http)?;
        let twilio =
            TwilioApi { rest: Arc::new(RestClient::new(&config.twilio, http)), account_sid: config.twilio.account_sid };
        let (wanted, errands_wanted) = mpsc::channel(ERRANDS_MAX);
        // The first look says it anew at once.
        let room = Arc::new(AtomicU64::new(config.audio.max_bytes));
        let (texts, texts_wanted) = texts::port(&config).unzip();
        let keeper_options = keeper_options(&config, clock, room.clone(), texts);
        let Started { port: keeper, task: keeper_task, left, late, audio } =
            Keeper::start(keeper_options, wanted).map_err(StartError::Keeper)?;
        let audio_folder = config.store.path.join(recordings::FOLDER);
        // Without it calls go on, and only their audio is not kept.
        let spool = Spool::start(&audio_folder, SpoolRoom::shared(room))
            .inspect_err(|error| tracing::error!(error = error as &dyn std::error::Error, "no audio is kept"))
            .ok();
        let (spool, spool_thread) = spool.unzip();
        let losses = spool.as_ref().map(SpoolPort::losses).unwrap_or_default();
        let open_streams = spool.as_ref().map(SpoolPort::open_streams).unwrap_or_default();
        let texts = texts_wanted.map(|wanted| texts::start(&config, clock, wanted, open_streams));
        let (speech, texts_tasks) = texts.unzip();
        // Audio that nobody wants is not written in the first place.
        let is_wanted = config.audio.keep != KeepAudio::Never || config.speech.engine != SpeechEngine::None;
        let spool = spool.filter(|_| is_wanted);

        // The desk, and the ways to it.
        let pulses = Pulses::new(began);
        let (desk, desk_receiver) = DeskPort::new(DESK_QUEUE_MAX);
        let public_host = PublicHost::new(config.public.host.as_deref(), config.public.trusted_proxies.clone());
        if let Some(host) = &left.host {
            public_host.note_known(host);
        }
        let public_host = Arc::new(public_host);
        let fetcher = tokio::spawn(twilio.clone().serve(errands_wanted, public_host.clone()));
        tokio::spawn(take_up_late(late, desk.clone(), public_host.clone()));
        let behind = Behind {
            desk: desk.clone(),
            prompts: prompts.clone(),
            public_host: public_host.clone(),
            recordings: announce_to(keeper.clone()),
            metrics: metrics.requests.clone(),
            media: MediaContext {
                options: Arc::new(media_options(&config, &prompts)),
                pulses: pulses.clone(),
                spool,
                metrics: metrics.media.clone(),
            },
        };
        let router = Arc::new(Router::new(&config, behind, router::Limits::default()));
        let mut machine = Desk::new(desk_options(&config, &prompts), pulses);
        take_up(&mut machine, left.calls, clock.now());
        let (desk_view, desk_seen) = watch::channel(machine.view());
        let (running, errands_done) = mpsc::channel(1);
        let documents = router.documents().clone();
        let keeping = Keeping::default();
        let errands =
            Errands { desk: desk.clone(), twilio, documents, public_host, keeper: keeper.clone(), keeping, running };
        let (stop_desk, desk_stopped) = oneshot::channel();
        let desk_loop = DeskLoop::new(machine, desk_receiver, Arc::new(errands), desk_view);
        let desk_task = tokio::spawn(desk_loop.run(desk_stopped));

        // What staff see.
        let (lamps, lamps_seen) = watch::channel(panel::first_view());
        let (storage, storage_seen) = watch::channel(None);
        let storage_task = tokio::spawn(storage::watch(config.store.path.clone(), storage));
        let mut overview = Overview {
            clock,
            began,
            board_profile: config.board.profile.clone(),
            sync_configured: config.sync.url.is_some(),
            standing: lamps_fail.then_some(TroubleCode::LampsFailing).into_iter().collect(),
            certificate: tls.state.clone(),
            desk: desk.clone(),
            desk_view: desk_seen.clone(),
            keeper_view: keeper.view(),
            audio: audio.clone(),
            lamps: lamps_seen,
            storage: storage_seen,
            speech,
        };
        let (snapshot, snapshot_seen) = watch::channel(Arc::new(overview.snapshot()));
        let (lamp_inputs, inputs_seen) = watch::channel(snapshot_seen.borrow().lamp_inputs());
        let panel_task = tokio::spawn(panel::run(driver, inputs_seen, lamps));
        let overview_task = tokio::spawn(overview.run(snapshot, lamp_inputs));
        // Every room that counts registers what it counts here.
        let mut figures = Registry::default();
        metrics.register(&mut figures);
        figures.register_collector(Box::new(CertificateFigures(tls.state.clone())));
        figures.register_collector(Box::new(AudioFigures { audio, losses }));
        let (stop_listeners, stopped) = watch::channel(false);
        let behind = routes::Behind {
            snapshot: snapshot_seen.clone(),
            figures,
            retry: retry_with(keeper.clone()),
            stopped: stopped.clone(),
        };
        let site = Arc::new(StatusSite::new(&config.status, behind));

        // The certificate's files, looked after.
        let certificate_asked = Arc::new(Notify::new());
        let reloading = tls.reloader.map(|reloader| tokio::spawn(reloader.run(clock, certificate_asked.clone())));

        // Both listeners, last: whoever comes is served.
        let addresses = (public.address(), status.address());
        let public_task = tokio::spawn(public.serve(
            move |request, peer: Peer| {
                let router = router.clone();
                async move { router.route(request, peer).await }
            },
            told_to_stop(stopped.clone()),
        ));
        let status_task = tokio::spawn(status.serve(
            move |request, peer: Peer| {
                let site = site.clone();
                let client = Client { address: peer.address.ip(), tls: peer.tls };
                async move {
                    let answer = site.route(request, client).await;
                    if is_event_stream(&answer) {
                        // It has a place of its own: it is not to make room for connections that come later.
                        peer.seat.sign();
                    }
                    answer
                }
            },
            told_to_stop(stopped),
        ));
        Ok(Self {
            public: addresses.0.map_err(|error| StartError::Bind("public", config.public.listen, error))?,
            status: addresses.1.map_err(|error| StartError::Bind("status", config.status.listen, error))?,
            desk,
            desk_view: desk_seen,
            snapshot: snapshot_seen,
            certificate: tls.state,
            certificate_asked,
            keeper,
            errands_done,
            stop_desk,
            stop_listeners,
            drain: config.calls.drain,
            listeners: vec![public_task, status_task],
            tasks: [desk_task, overview_task, panel_task, fetcher, storage_task]
                .into_iter()
                .chain(reloading)
                .chain(texts_tasks.into_iter().flatten())
                .collect(),
            keeper_task,
            spool_thread,
        })
    }

    /// Returns once the desk has got round to it: proof that it turns.
    pub async fn ping(&self) -> bool {
        self.desk.ping().await
    }

    /// What staff see, as it changes.
    pub fn snapshot(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshot.clone()
    }

    /// The certificate that Twilio meets, as it changes.
    pub fn certificate(&self) -> watch::Receiver<CertificateState> {
        self.certificate.clone()
    }

    /// Looks at the certificate's files now, not at the next minute.
    pub fn reload_certificate(&self) {
        self.certificate_asked.notify_one();
    }

    /// Takes no new streams, lets running ones go on for `calls.drain`, sends the rest to the recorder, brings every
    /// record to the disk, and stops.
    pub async fn drain(mut self) {
        let until = Instant::now() + self.drain;
        self.desk.tell(Event::DrainStarted { until }).await;
        let drained = self.desk_view.wait_for(|view| view.draining && view.drained);
        if timeout(self.drain + DRAIN_END_MAX, drained).await.is_err() {
            tracing::warn!("the drain's time is over, and a call has not reached the recorder");
        }
        self.stop().await;
    }

    /// Stops at once: no stream is sent to the recorder. What was told before is kept.
    pub async fn stop(mut self) {
        self.stop_listeners.send_replace(true);
        for listener in self.listeners {
            let _ = listener.await;
        }
        let _ = self.stop_desk.send(());
        drop(self.desk);
        // What the keeper has yet to be given.
        let _ = timeout(DRAIN_END_MAX, self.errands_done.recv()).await;
        self.keeper.stop().await;
        let _ = self.keeper_task.await;
        for task in &self.tasks {
            task.abort();
        }
        if let Some(spool) = self.spool_thread {
            // Joined by a thread of its own: a disk that hangs must not hold the runtime.
            let (ended, end) = oneshot::channel();
            thread::spawn(move || {
                let _ = spool.join();
                let _ = ended.send(());
            });
            if timeout(SPOOL_STOP_MAX, end).await.is_err() {
                tracing::warn!("the last of the callers' audio may not be on the disk");
            }
        }
    }
}

/// What the desk goes by.
pub fn desk_options(config: &Config, prompts: &Prompts) -> DeskOptions {
    DeskOptions {
        watchdog: Watchdog {
            start_timeout: config.watchdog.start_timeout,
            no_media_timeout: config.watchdog.no_media_timeout,
            greeting: prompts.greeting.duration,
        },
        fallback_prompt: prompts.fallback.duration,
        record_max_length: config.fallback.max_length,
        max_duration: config.calls.max_duration,
        goodbye_in_stream: prompts.goodbye.ulaw.is_some(),
    }
}

/// What every media session goes by.
pub fn media_options(config: &Config, prompts: &Prompts) -> MediaOptions {
    let conversation = ConversationOptions {
        caller_silence: config.calls.caller_silence,
        tone: sound::encode(&sound::tone(TONE_HZ, TONE_LENGTH, TONE_AMPLITUDE)).into(),
        goodbye: prompts.goodbye.ulaw.clone(),
    };
    MediaOptions {
        account_sid: config.twilio.account_sid,
        conversation: Arc::new(conversation),
        mask_keys: config.speech.mask_digits,
    }
}

fn keeper_options(config: &Config, clock: Clock, room: Arc<AtomicU64>, texts: Option<TextPort>) -> KeeperOptions {
    KeeperOptions {
        texts,
        store: config.store.clone(),
        sync: config.sync.clone(),
        language: config.speech.language.clone(),
        made_by: identity::load(&config.store.path, env!("CARGO_PKG_VERSION")),
        clock,
        housekeeping: Some(HousekeepingOptions {
            audio: config.audio.clone(),
            delete_at_twilio: config.fallback.delete_at_twilio,
            room,
        }),
    }
}

/// Lamps that cannot be used keep no call from being answered.
fn open_lamps(config: &Config) -> Result<(Box<dyn LampDriver + Send>, bool), StartError> {
    match board::open(&config.board) {
        Ok(driver) => Ok((driver, false)),
        Err(error) if error.is_setting() => Err(StartError::Board(error)),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "no lamps");
            Ok((Box::new(SimulatedLamps::default()), true))
        }
    }
}

/// Calls that the run before left: Twilio is asked what became of each.
fn take_up(desk: &mut Desk, left: Vec<LiveCall>, now: Instant) {
    if !left.is_empty() {
        tracing::warn!(calls = left.len(), "the box ended while calls lived; Twilio is asked what became of them");
    }
    for live in left {
        desk.handle(Event::CallRemembered(Box::new(live)), now);
    }
}

/// The same, where the store could be opened only later.
async fn take_up_late(late: oneshot::Receiver<Left>, desk: DeskPort, public_host: Arc<PublicHost>) {
    let Ok(left) = late.await else { return };
    if let Some(host) = &left.host {
        public_host.note_known(host);
    }
    for live in left.calls {
        desk.tell(Event::CallRemembered(Box::new(live))).await;
    }
}

async fn bind(
    side: &'static str,
    address: SocketAddr,
    acceptor: Option<tokio_rustls::TlsAcceptor>,
    limits: listener::Limits,
) -> Result<Listener, StartError> {
    Listener::bind(address, acceptor, limits).await.map_err(|error| StartError::Bind(side, address, error))
}

fn announce_to(keeper: KeeperPort) -> router::RecordingHook {
    Arc::new(move |announcement| {
        let keeper = keeper.clone();
        Box::pin(async move {
            let (call_sid, recording_sid) = (announcement.call_sid, announcement.recording_sid);
            keeper.recording_announced(call_sid, recording_sid, announcement.status).await;
        })
    })
}

fn retry_with(keeper: KeeperPort) -> routes::RetryHook {
    Arc::new(move |id| {
        let keeper = keeper.clone();
        Box::pin(async move { keeper.retry(id).await })
    })
}

async fn told_to_stop(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}
