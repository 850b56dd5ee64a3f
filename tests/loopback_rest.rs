//! Twilio's REST API over real sockets and real TLS, as it behaves on a bad day: what the box makes of each answer, and
//! how long it waits for one. Time is virtual.

use std::{
    future::pending,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use kolbox::{
    config,
    limits::{REST_ANSWER_MAX, REST_CONNECT_MAX},
    server::rest_client::RestClient,
    system::http_client::{HttpClient, Roots},
    twilio::{
        rest::{CallLookup, RestRequest, UpdateOutcome, read_call, read_update},
        sid::{AccountSid, CallSid},
    },
};
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpSocket, TcpStream},
    time::{Instant, sleep, timeout},
};
use tokio_rustls::TlsAcceptor;

const SECOND: Duration = Duration::from_secs(1);

/// What the server does with one request.
#[derive(Debug, Clone)]
enum Act {
    /// The whole answer, from its status line on.
    Answer(String),
    /// It carries the request out, and is gone before it has answered.
    Vanishes,
    /// It says nothing, with its connection open.
    Hangs,
    /// A byte of a never-ending answer each second.
    Drips,
}

/// The head and the body of each request that came.
type Seen = Arc<Mutex<Vec<String>>>;

/// Serves each connection from the beginning of its own list.
async fn serve(connections: Vec<Vec<Act>>, tls: Option<TlsAcceptor>) -> (SocketAddr, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Seen::default());
    let sees = seen.clone();
    tokio::spawn(async move {
        for acts in connections {
            let (socket, _) = listener.accept().await.unwrap();
            match &tls {
                Some(tls) => {
                    if let Ok(socket) = tls.accept(socket).await {
                        tokio::spawn(converse(socket, acts, sees.clone()));
                    }
                }
                None => drop(tokio::spawn(converse(socket, acts, sees.clone()))),
            }
        }
        pending::<()>().await;
    });
    (address, seen)
}

async fn converse(socket: impl AsyncRead + AsyncWrite + Unpin, acts: Vec<Act>, seen: Seen) {
    let mut socket = BufReader::new(socket);
    for act in acts {
        let Some(request) = read_request(&mut socket).await else { return };
        seen.lock().unwrap().push(request);
        match act {
            Act::Answer(answer) => {
                socket.write_all(answer.as_bytes()).await.unwrap();
                socket.flush().await.unwrap();
            }
            Act::Vanishes => return,
            Act::Hangs => pending().await,
            Act::Drips => loop {
                if socket.write_all(b"H").await.is_err() {
                    return;
                }
                sleep(SECOND).await;
            },
        }
    }
}

async fn read_request(socket: &mut (impl AsyncBufReadExt + Unpin)) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    socket.read_exact(&mut body).await.ok()?;
    Some(head + &String::from_utf8(body).unwrap())
}

fn answer(status: u16, headers: &str, body: &str) -> Act {
    Act::Answer(format!("HTTP/1.1 {status} S\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len()))
}

fn accepted() -> Act {
    answer(200, "", r#"{"sid":"CA1","status":"in-progress"}"#)
}

fn client(base: &str, roots: &Roots) -> RestClient {
    let twilio = config::Twilio {
        account_sid: Some(AccountSid::from_number(1)),
        auth_token: "token".into(),
        api_base: base.to_owned(),
        ..config::Twilio::default()
    };
    RestClient::new(&twilio, HttpClient::new(roots, REST_CONNECT_MAX).unwrap())
}

fn plain_client(address: SocketAddr) -> RestClient {
    client(&format!("http://{address}"), &Roots::Public)
}

async fn redirect(client: &RestClient) -> UpdateOutcome {
    let (account, call) = (AccountSid::from_number(1), CallSid::from_number(2));
    read_update(&client.send(RestRequest::redirect(&account, &call, "<Response/>".into())).await)
}

/// What becomes of one redirect to a server that does this, and how long it takes.
async fn outcome_of(act: Act) -> (UpdateOutcome, Duration) {
    let (address, _) = serve(vec![vec![act]], None).await;
    let client = plain_client(address);
    let began = Instant::now();
    (redirect(&client).await, began.elapsed())
}

/// A certificate for 127.0.0.1 that its own file vouches for.
fn certificate(folder: &Path) -> (TlsAcceptor, Roots) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let file = folder.join("ca.pem");
    std::fs::write(&file, made.cert.pem()).unwrap();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)
        .unwrap();
    (TlsAcceptor::from(Arc::new(config)), Roots::PemFile(file))
}

#[tokio::test(start_paused = true)]
async fn each_answer_is_told_apart_over_the_wire() {
    use UpdateOutcome::*;
    let dated = "Date: Sun, 22 Nov 2026 08:15:00 GMT\r\nRetry-After: Sun, 22 Nov 2026 08:15:30 GMT\r\n";
    let over = r#"{"code":21220,"message":"Call is not in-progress. Cannot redirect.","status":400}"#;
    for (act, expected) in [
        (accepted(), Accepted),
        (answer(401, "", r#"{"code":20003,"status":401}"#), Unauthorized),
        (answer(404, "", r#"{"code":20404,"status":404}"#), NotFound),
        (answer(400, "", over), CallOver),
        (answer(429, "Retry-After: 7\r\n", "{}"), Throttled { retry_after: Some(7 * SECOND) }),
        (answer(429, dated, "{}"), Throttled { retry_after: Some(30 * SECOND) }),
        (answer(429, "", "{}"), Throttled { retry_after: None }),
        (answer(400, "", r#"{"code":12100,"status":400}"#), Refused { code: 12_100 }),
        (answer(500, "", "oops"), Unavailable),
        (answer(503, "Retry-After: 7\r\n", "oops"), Unavailable),
        (answer(502, "", "<html>"), TimedOut),
        (answer(200, "", "<html>log in to the guest network</html>"), Unavailable),
        (answer(302, "Location: https://portal.example/\r\n", ""), Unavailable),
        (Act::Answer("SSH-2.0-OpenSSH_9.2\r\n".to_owned()), TimedOut),
    ] {
        assert_eq!(outcome_of(act.clone()).await, (expected, Duration::ZERO), "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_whose_body_is_endless_still_counts_by_its_status_unless_it_is_a_yes() {
    let endless = |status: u16| Act::Answer(format!("HTTP/1.1 {status} S\r\nContent-Length: 999999999\r\n\r\n{{"));
    assert_eq!(outcome_of(endless(401)).await.0, UpdateOutcome::Unauthorized);
    assert_eq!(outcome_of(endless(404)).await.0, UpdateOutcome::NotFound);
    assert_eq!(outcome_of(endless(200)).await.0, UpdateOutcome::TimedOut, "whose yes was that?");
}

#[tokio::test(start_paused = true)]
async fn an_answer_is_waited_for_8_s_also_when_it_drips() {
    assert_eq!(REST_ANSWER_MAX, 8 * SECOND);
    for act in [Act::Hangs, Act::Drips] {
        assert_eq!(outcome_of(act.clone()).await, (UpdateOutcome::TimedOut, REST_ANSWER_MAX), "{act:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_waited_for_3_s_and_surely_carried_nothing() {
    assert_eq!(REST_CONNECT_MAX, 3 * SECOND);
    // TCP: a queue of connections that is full, so that a further one is not even refused.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = socket.listen(1).unwrap();
    let address = full.local_addr().unwrap();
    let mut queued = Vec::new();
    while let Ok(Ok(stream)) = timeout(Duration::from_millis(1), TcpStream::connect(address)).await {
        queued.push(stream);
    }
    // TLS: a server that accepts and never says hello.
    let mute = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for base in [format!("http://{address}"), format!("https://{}", mute.local_addr().unwrap())] {
        let client = client(&base, &Roots::Public);
        let began = Instant::now();
        assert_eq!(redirect(&client).await, UpdateOutcome::Unavailable, "{base}");
        assert_eq!(began.elapsed(), REST_CONNECT_MAX, "{base}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_there_carried_nothing_and_one_who_vanished_may_have() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    assert_eq!(redirect(&plain_client(nobody)).await, UpdateOutcome::Unavailable);
    assert_eq!(outcome_of(Act::Vanishes).await, (UpdateOutcome::TimedOut, Duration::ZERO));
}

#[tokio::test(start_paused = true)]
async fn tls_is_believed_from_those_who_can_prove_their_name_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, trusted) = certificate(folder.path());
    for (roots, expected) in [(trusted, UpdateOutcome::Accepted), (Roots::Public, UpdateOutcome::Unavailable)] {
        let (address, seen) = serve(vec![vec![accepted()]], Some(tls.clone())).await;
        assert_eq!(redirect(&client(&format!("https://{address}"), &roots)).await, expected);
        let credentials_sent = !seen.lock().unwrap().is_empty();
        assert_eq!(credentials_sent, expected == UpdateOutcome::Accepted);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_died_while_it_was_idle_costs_a_redirect_no_time() {
    let folder = tempfile::tempdir().unwrap();
    let (tls, trusted) = certificate(folder.path());
    let (address, seen) = serve(vec![vec![accepted(), Act::Vanishes], vec![accepted()]], Some(tls)).await;
    let client = client(&format!("https://{address}"), &trusted);
    assert_eq!(redirect(&client).await, UpdateOutcome::Accepted);
    sleep(10 * SECOND).await;
    let began = Instant::now();
    assert_eq!((redirect(&client).await, began.elapsed()), (UpdateOutcome::Accepted, Duration::ZERO));
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_vanished_without_a_word_leaves_time_for_a_fresh_connection() {
    let (address, seen) = serve(vec![vec![accepted(), Act::Hangs], vec![accepted()]], None).await;
    let client = plain_client(address);
    assert_eq!(redirect(&client).await, UpdateOutcome::Accepted);
    sleep(10 * SECOND).await;
    let began = Instant::now();
    assert_eq!((redirect(&client).await, began.elapsed()), (UpdateOutcome::Accepted, 3 * SECOND));
    let seen = seen.lock().unwrap();
    assert_eq!(seen[1], seen[2], "the very same request, once more");
}

#[tokio::test(start_paused = true)]
async fn a_question_about_a_call_is_answered_or_asked_again_later() {
    let (account, call) = (AccountSid::from_number(1), CallSid::from_number(2));
    for (act, expected) in [
        (answer(401, "", "{}"), CallLookup::Unauthorized),
        (answer(404, "", "{}"), CallLookup::NotFound),
        (answer(429, "", "{}"), CallLookup::Unavailable),
        (answer(500, "", "{}"), CallLookup::Unavailable),
        (Act::Vanishes, CallLookup::Unavailable),
        (Act::Hangs, CallLookup::Unavailable),
    ] {
        let (address, _) = serve(vec![vec![act.clone()]], None).await;
        let reply = plain_client(address).send(RestRequest::fetch_call(&account, &call)).await;
        assert_eq!(read_call(&reply), Err(expected), "{act:?}");
    }
}
