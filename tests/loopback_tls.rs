//! The certificate over real sockets: taken anew without a call dropped, kept when the new one is no good, and told.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use futures_util::SinkExt;
use jiff::Timestamp;
use kolbox::{
    config::{Config, TlsMode},
    gateway::{Gateway, StartError},
    server::tls::Flaw,
    simulator::{
        document::{Document, StreamNoun, Verb},
        forms::Parties,
        media_client::{self, MediaSocket},
        peer_stream::PeerStream,
    },
    status::trouble::TroubleCode,
    system::http_client::{HttpClient, Roots},
    twilio::{
        sid::{AccountSid, CallSid, StreamSid},
        signature,
        webhook::{CallStatus, Form},
    },
};
use rustls::{
    ClientConfig, HandshakeKind, ProtocolVersion, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_tungstenite::tungstenite::Message;

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/process.rs"]
mod process;

use certificates::{Authority, Server};

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const LOOPBACK: &str = "127.0.0.1";
const DAY: Duration = Duration::from_secs(24 * 3600);

/// A box with a certificate in files, and the authority that signs it.
struct Office {
    folder: tempfile::TempDir,
    root: Authority,
    config: Config,
}

impl Office {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::default();
        config.public.listen = (Ipv4Addr::LOCALHOST, 0).into();
        config.public.tls.mode = TlsMode::Files;
        config.public.tls.certificate = folder.path().join("fullchain.pem");
        config.public.tls.key = folder.path().join("key.pem");
        config.status.listen = (Ipv4Addr::LOCALHOST, 0).into();
        config.store.path = folder.path().join("store");
        config.twilio.account_sid = Some(AccountSid::from_number(1));
        config.twilio.auth_token = TOKEN.into();
        let office = Self { folder, root: Authority::root("The Office"), config };
        office.write(&office.certify(60));
        office
    }

    /// A certificate that ends in so many days.
    fn certify(&self, days: u32) -> Server {
        self.certify_for(LOOPBACK, days)
    }

    fn certify_for(&self, name: &str, days: u32) -> Server {
        self.root.server(&[name], Timestamp::now() - 30 * DAY..Timestamp::now() + days * DAY)
    }

    fn write(&self, server: &Server) {
        write(self.folder.path(), server);
    }

    async fn start(&self) -> Gateway {
        Gateway::start(self.config.clone()).await.unwrap()
    }

    /// A client that trusts this office's authority, with these versions.
    fn client(&self, versions: &[&'static SupportedProtocolVersion]) -> ClientConfig {
        self.client_with(ring::default_provider().cipher_suites, versions)
    }

    fn client_with(
        &self,
        cipher_suites: Vec<rustls::SupportedCipherSuite>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der()).unwrap();
        let provider = rustls::crypto::CryptoProvider { cipher_suites, ..ring::default_provider() };
        let builder = ClientConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions).unwrap();
        builder.with_root_certificates(roots).with_no_client_auth()
    }

    fn usual_client(&self) -> Arc<ClientConfig> {
        Arc::new(self.client(&[&TLS13, &TLS12]))
    }
}

fn write(folder: &Path, Server { certificate, key }: &Server) {
    std::fs::write(folder.join("fullchain.pem"), certificate).unwrap();
    std::fs::write(folder.join("key.pem"), key).unwrap();
}

fn der(server: &Server) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(server.certificate.as_bytes()).unwrap()
}

async fn connect(address: SocketAddr, client: Arc<ClientConfig>) -> std::io::Result<TlsStream<TcpStream>> {
    let tcp = TcpStream::connect((LOOPBACK, address.port())).await.unwrap();
    TlsConnector::from(client).connect(ServerName::try_from(LOOPBACK).unwrap(), tcp).await
}

/// The certificate that a client meets which has never been here.
async fn met(office: &Office, address: SocketAddr) -> CertificateDer<'static> {
    let stream = connect(address, office.usual_client()).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].clone()
}

/// One request on a connection that stays open.
async fn is_healthy(stream: &mut TlsStream<TcpStream>) -> bool {
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").await.unwrap();
    let mut read = Vec::new();
    while !read.ends_with(b"\r\n\r\nok") {
        if stream.read_buf(&mut read).await.unwrap() == 0 {
            return false;
        }
    }
    read.starts_with(b"HTTP/1.1 200 ")
}

/// Has the files looked at until the certificate is as it should be.
async fn look_until(gateway: &Gateway, wanted: impl Fn(&kolbox::server::tls::CertificateState) -> bool) {
    let state = gateway.certificate();
    while !wanted(&state.borrow()) {
        gateway.reload_certificate();
        tokio::task::yield_now().await;
    }
}

async fn take_new(gateway: &Gateway) {
    let mut state = gateway.certificate();
    state.mark_unchanged();
    gateway.reload_certificate();
    state.changed().await.unwrap();
}

/// Waits until staff see just these troubles.
async fn staff_see(gateway: &Gateway, troubles: &[TroubleCode]) {
    gateway.snapshot().wait_for(|snapshot| snapshot.troubles == troubles).await.unwrap();
}

/// A call whose voice is streamed.
struct Call {
    socket: MediaSocket,
    stream: PeerStream,
}

impl Call {
    async fn place(office: &Office, address: SocketAddr) -> Self {
        let (account_sid, call_sid) = (AccountSid::from_number(1), CallSid::from_number(7));
        let StreamNoun { url, parameters, .. } = answer(address, account_sid, call_sid).await;
        let (mut socket, _) = media_client::open(office.usual_client(), TOKEN, &url).await.unwrap();
        let mut stream = PeerStream::new(account_sid, call_sid, StreamSid::from_number(1), Instant::now());
        for text in [stream.connected(), stream.start(&parameters)] {
            socket.send(Message::text(text)).await.unwrap();
        }
        let mut call = Self { socket, stream };
        assert!(matches!(call.next().await, Message::Text(_)), "the box speaks first, once it has accepted the stream");
        call
    }

    async fn next(&mut self) -> Message {
        use futures_util::StreamExt;
        self.socket.next().await.unwrap().unwrap()
    }

    /// Voice goes in, and what is asked afterwards on the same connection is answered.
    async fn goes_on(&mut self) -> bool {
        let voice = self.stream.media(&[0x55; 160]);
        self.socket.send(Message::text(voice)).await.unwrap();
        self.socket.send(Message::Ping("still there?".into())).await.unwrap();
        loop {
            match self.next().await {
                Message::Pong(echo) => return &echo[..] == b"still there?",
                Message::Close(_) => return false,
                _ => {}
            }
        }
    }
}

/// What the box answers to a call that comes in.
async fn answer(address: SocketAddr, account_sid: AccountSid, call_sid: CallSid) -> StreamNoun {
    let parties = Parties { account_sid, call_sid, from: "+972501234567".into(), to: "+97231234567".into() };
    let form = Form::from_pairs(parties.voice(CallStatus::Ringing));
    let url = format!("https://{address}/webhook/incoming_call");
    let request = hyper::Request::post(&url)
        .header("Content-Type", "application/x-www-form-urlencoded; charset=UTF-8")
        .header("X-Twilio-Signature", signature::sign(TOKEN, &url, Some(&form)))
        .body(Bytes::from(form.encode()))
        .unwrap();
    let client = HttpClient::new(&Roots::Insecure, DAY).unwrap();
    let reply = client.send(request, DAY, 1 << 20).await.unwrap();
    let document = Document::parse(std::str::from_utf8(&reply.body).unwrap()).unwrap();
    let stream = document.verbs.into_iter().find_map(|verb| match verb {
        Verb::Connect { stream, .. } => Some(stream),
        _ => None,
    });
    stream.expect("the call is streamed")
}

#[tokio::test]
async fn a_renewed_certificate_is_met_by_new_clients_while_connections_and_calls_that_stand_go_on() {
    let office = Office::new();
    let gateway = office.start().await;
    let old = met(&office, gateway.public).await;
    let mut kept_alive = connect(gateway.public, office.usual_client()).await.unwrap();
    assert!(is_healthy(&mut kept_alive).await);
    let mut call = Call::place(&office, gateway.public).await;

    let renewed = office.certify(90);
    office.write(&renewed);
    take_new(&gateway).await;

    let new = met(&office, gateway.public).await;
    assert!(new == der(&renewed) && new != old);
    assert!(is_healthy(&mut kept_alive).await, "the connection that stood is served");
    assert_eq!(kept_alive.get_ref().1.peer_certificates().unwrap()[0], old);
    assert!(call.goes_on().await);
    gateway.snapshot().wait_for(|snapshot| snapshot.active == 1).await.unwrap();
    gateway.stop().await;
}

#[tokio::test]
async fn a_new_pair_that_does_not_match_leaves_the_old_one_and_is_trouble_until_it_is_mended() {
    let office = Office::new();
    let gateway = office.start().await;
    let old = met(&office, gateway.public).await;
    staff_see(&gateway, &[]).await;

    let renewed = office.certify(90);
    std::fs::write(office.folder.path().join("fullchain.pem"), &renewed.certificate).unwrap();
    look_until(&gateway, |state| state.refused.is_some()).await;
    let reason = gateway.certificate().borrow().refused.clone().unwrap();
    assert!(reason.contains("key.pem is not the key of the first certificate in"), "{reason}");
    assert_eq!(met(&office, gateway.public).await, old);
    staff_see(&gateway, &[TroubleCode::CertificateNotTaken]).await;

    office.write(&renewed);
    look_until(&gateway, |state| state.refused.is_none()).await;
    assert_eq!(met(&office, gateway.public).await, der(&renewed));
    staff_see(&gateway, &[]).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_certificate_that_ends_soon_is_trouble_until_a_renewed_one_is_taken_and_an_expired_one_stops_no_box() {
    let office = Office::new();
    office.write(&office.certify(13));
    let gateway = office.start().await;
    staff_see(&gateway, &[TroubleCode::CertificateExpiresSoon]).await;
    office.write(&office.certify(90));
    take_new(&gateway).await;
    staff_see(&gateway, &[]).await;
    gateway.stop().await;

    let (begin, end) = (Timestamp::now() - 60 * DAY, Timestamp::now() - DAY);
    office.write(&office.root.server(&[LOOPBACK], begin..end));
    let gateway = office.start().await;
    staff_see(&gateway, &[TroubleCode::CertificateExpired]).await;
    gateway.stop().await;
}

#[tokio::test]
async fn where_twilio_meets_it_a_certificate_of_a_private_authority_for_another_host_is_trouble_and_says_both_names() {
    let mut office = Office::new();
    office.config.public.listen = (Ipv4Addr::UNSPECIFIED, 0).into();
    office.config.public.host = Some("gw.example.co.il".to_owned());
    office.write(&office.certify_for("www.example.co.il", 60));
    let gateway = office.start().await;
    let flaws = gateway.certificate().borrow().flaws.clone();
    let named = flaws.iter().find(|flaw| matches!(flaw, Flaw::OtherHost { .. })).unwrap().to_string();
    assert!(named.contains("not for gw.example.co.il but for www.example.co.il"), "{named}");
    staff_see(&gateway, &[TroubleCode::CertificateUntrusted, TroubleCode::CertificateOtherName]).await;
    gateway.stop().await;
}

#[tokio::test]
async fn a_box_whose_files_cannot_be_used_does_not_start_and_says_which_and_why() {
    let office = Office::new();
    std::fs::write(office.folder.path().join("key.pem"), office.certify(60).key).unwrap();
    let error = Gateway::start(office.config.clone()).await.err().expect("refused");
    assert!(error.is_setting(), "exit 2");
    let StartError::Tls(cause) = &error else { panic!("{error}") };
    let text = cause.to_string();
    assert!(text.contains("key.pem is not the key of") && text.contains("[public.tls]"), "{text}");
}

#[tokio::test]
async fn a_session_is_resumed_by_ticket_also_after_a_new_certificate() {
    let office = Office::new();
    let gateway = office.start().await;
    for (version, days) in [(&TLS13, 90), (&TLS12, 91)] {
        let client = Arc::new(office.client(&[version]));
        let kind = async || {
            let mut stream = connect(gateway.public, client.clone()).await.unwrap();
            // The tickets of TLS 1.3 come with the first answer.
            assert!(is_healthy(&mut stream).await);
            stream.get_ref().1.handshake_kind().unwrap()
        };
        assert_eq!(kind().await, HandshakeKind::Full);
        assert_eq!(kind().await, HandshakeKind::Resumed);
        office.write(&office.certify(days));
        take_new(&gateway).await;
        assert_eq!(kind().await, HandshakeKind::Resumed);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn tls_1_3_and_1_2_are_spoken_and_1_1_is_not() {
    let office = Office::new();
    let gateway = office.start().await;
    for (version, spoken) in [(&TLS13, ProtocolVersion::TLSv1_3), (&TLS12, ProtocolVersion::TLSv1_2)] {
        let stream = connect(gateway.public, Arc::new(office.client(&[version]))).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(spoken));
    }
    let mut old = TcpStream::connect(gateway.public).await.unwrap();
    old.write_all(&client_hello_of_tls_1_1()).await.unwrap();
    let mut alert = [0; 7];
    old.read_exact(&mut alert).await.unwrap();
    assert_eq!((alert[0], &alert[5..]), (21, &[2, 70][..]), "a fatal protocol_version (RFC 8446 §6.2)");
    gateway.stop().await;
}

/// RFC 4346 §7.4.1.2 with a suite of its day, and the one extension (RFC 5246 §7.4.1.4.1) without which rustls looks at
/// nothing else.
fn client_hello_of_tls_1_1() -> Vec<u8> {
    let extensions = [0, 8, 0, 13, 0, 4, 0, 2, 4, 1];
    let body = [&[3, 2][..], &[0x5a; 32], &[0], &[0, 2, 0x00, 0x2f], &[1, 0], &extensions].concat();
    let handshake = [&[1, 0, 0, body.len() as u8][..], &body].concat();
    [&[22, 3, 1, 0, handshake.len() as u8][..], &handshake].concat()
}

#[tokio::test]
async fn the_box_chooses_the_cipher_suite_whatever_order_a_client_offers() {
    let office = Office::new();
    let gateway = office.start().await;
    for version in [&TLS13, &TLS12] {
        let offered = ring::default_provider().cipher_suites;
        let reversed: Vec<_> = offered.iter().rev().copied().collect();
        let mut chosen = Vec::new();
        for suites in [offered, reversed] {
            let client = Arc::new(office.client_with(suites, &[version]));
            let stream = connect(gateway.public, client).await.unwrap();
            chosen.push(stream.get_ref().1.negotiated_cipher_suite().unwrap().suite());
        }
        assert_eq!(chosen[0], chosen[1]);
    }
    gateway.stop().await;
}

#[tokio::test]
async fn http_1_1_is_agreed_on_and_a_client_of_http_2_alone_is_refused() {
    let office = Office::new();
    let gateway = office.start().await;
    let with = |protocols: &[&[u8]]| {
        let mut client = office.client(&[&TLS13]);
        client.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(client)
    };
    let stream = connect(gateway.public, with(&[b"h2", b"http/1.1"])).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let refused = connect(gateway.public, with(&[b"h2"])).await.unwrap_err();
    assert!(refused.to_string().contains("NoApplicationProtocol"), "{refused}");
    gateway.stop().await;
}

#[test]
fn a_running_program_takes_a_renewed_certificate_on_sighup_and_tells_once_of_one_that_is_no_good() {
    let folder = tempfile::tempdir().unwrap();
    let root = Authority::root("The Office");
    let certify = |days| root.server(&[LOOPBACK], Timestamp::now() - DAY..Timestamp::now() + DAY * days);
    write(folder.path(), &certify(60));
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (certificate, key) = (file("fullchain.pem"), file("key.pem"));
    let office = process::Office::new(&[
        ("KOLBOX_PUBLIC__TLS__MODE", "files"),
        ("KOLBOX_PUBLIC__TLS__CERTIFICATE", &certificate),
        ("KOLBOX_PUBLIC__TLS__KEY", &key),
    ]);
    let serve = office.serve();
    let asked = |times| {
        serve.hang_up();
        serve.wait_for_many("SIGHUP", times, |line| {
            line["message"].as_str().is_some_and(|text| text.contains("SIGHUP"))
        });
    };

    write(folder.path(), &certify(90));
    asked(1);
    let taken = serve.wait_for("the new one", |line| line["message"] == "a new certificate is in use");
    assert_eq!((&taken["names"], &taken["issuer"]), (&LOOPBACK.into(), &"The Office".into()));

    std::fs::write(&key, certify(90).key).unwrap();
    let refused = |line: &serde_json::Value| line["message"].as_str().is_some_and(|text| text.contains("is not used"));
    asked(2);
    asked(3);
    let line = serve.wait_for("the refusal", refused);
    assert_eq!((&line["level"], &line["certificate"]), (&"WARN".into(), &certificate.as_str().into()));
    assert!(line["reason"].as_str().unwrap().contains("key.pem is not the key of"), "{line}");

    write(folder.path(), &certify(120));
    asked(4);
    serve.wait_for_many("the mended one", 2, |line| line["message"] == "a new certificate is in use");
    serve.terminate();
    let (code, log) = serve.end();
    assert_eq!(code, Some(0));
    assert_eq!(log.messages().filter(|text| text.contains("is not used")).count(), 1);
}
