//! Connections that are used again, and what becomes of a request over one that has died meanwhile.

use std::{
    future::pending,
    sync::{Arc, Mutex},
};

use hyper::Uri;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

use super::*;

const LONG: Duration = Duration::from_secs(20);
const IMPATIENT: Duration = Duration::from_secs(3);
const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine";

/// What a peer does with one request.
#[derive(Debug, Clone, Copy)]
enum Act {
    Answer(&'static str),
    /// It reads the request and closes.
    Hangs,
    /// It reads the request and stays silent, its connection open.
    Silent,
}

/// Each request that came: over which connection, and its body.
type Seen = Arc<Mutex<Vec<(usize, String)>>>;

/// A peer whose n-th connection does with its requests what the n-th list says, and then closes.
async fn peer(connections: &'static [&'static [Act]]) -> (Uri, Seen) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let uri = format!("http://{}/", listener.local_addr().unwrap()).parse().unwrap();
    let seen = Seen::default();
    let sees = seen.clone();
    tokio::spawn(async move {
        for (number, acts) in connections.iter().enumerate() {
            let (socket, _) = listener.accept().await.unwrap();
            tokio::spawn(serve(socket, acts, number, sees.clone()));
        }
        pending::<()>().await;
    });
    (uri, seen)
}

async fn serve(socket: TcpStream, acts: &'static [Act], number: usize, seen: Seen) {
    let mut socket = BufReader::new(socket);
    for act in acts {
        let Some(body) = read_request(&mut socket).await else { return };
        seen.lock().unwrap().push((number, body));
        match act {
            Act::Answer(answer) => socket.write_all(answer.as_bytes()).await.unwrap(),
            Act::Hangs => return,
            Act::Silent => pending().await,
        }
    }
}

async fn read_request(socket: &mut BufReader<TcpStream>) -> Option<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if socket.read_line(&mut head).await.unwrap_or(0) == 0 {
            return None;
        }
    }
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap_or("0");
    let mut body = vec![0; length.parse().unwrap()];
    socket.read_exact(&mut body).await.ok()?;
    String::from_utf8(body).ok()
}

fn client() -> HttpClient {
    HttpClient::new(&Roots::Public, LONG).unwrap()
}

async fn post(client: &HttpClient, uri: &Uri, body: &'static str) -> Result<Reply, Failure> {
    client.send(Request::post(uri).body(Bytes::from_static(body.as_bytes())).unwrap(), LONG, 100).await
}

/// Lets the connection be noticed as idle, or as closed.
async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_is_used_again_until_it_was_idle_for_15_s() {
    let (uri, seen) = peer(&[&[Act::Answer(FINE); 3], &[Act::Answer(FINE)]]).await;
    let client = client();
    for (wait_ms, connection) in [(0, 0), (14_900, 0), (14_900, 0), (15_100, 1)] {
        sleep(Duration::from_millis(wait_ms)).await;
        assert_eq!(post(&client, &uri, "").await.unwrap().status, 200);
        assert_eq!(seen.lock().unwrap().last().unwrap().0, connection, "after {wait_ms} ms");
        settle().await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_over_a_reused_connection_that_closes_on_it_is_repeated_at_once_on_a_fresh_one() {
    let (uri, seen) = peer(&[&[Act::Answer(FINE), Act::Hangs], &[Act::Answer(FINE)]]).await;
    let client = client();
    post(&client, &uri, "first").await.unwrap();
    settle().await;
    let began = Instant::now();
    assert_eq!(post(&client, &uri, "second").await.unwrap().status, 200);
    assert_eq!(began.elapsed(), Duration::ZERO);
    let expected = [(0, "first"), (0, "second"), (1, "second")].map(|(number, body)| (number, body.to_owned()));
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[tokio::test(start_paused = true)]
async fn a_failure_on_a_fresh_connection_is_not_repeated_nor_is_a_repeated_one() {
    let (uri, seen) = peer(&[&[Act::Hangs], &[Act::Answer(FINE), Act::Hangs], &[Act::Hangs]]).await;
    let client = client();
    assert!(matches!(post(&client, &uri, "1").await, Err(Failure::Broken(_))));
    assert_eq!(seen.lock().unwrap().len(), 1);
    post(&client, &uri, "2").await.unwrap();
    settle().await;
    assert!(matches!(post(&client, &uri, "3").await, Err(Failure::Broken(_))));
    let connections: Vec<usize> = seen.lock().unwrap().iter().map(|(number, _)| *number).collect();
    assert_eq!(connections, [0, 1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_has_begun_is_not_asked_for_again() {
    const CUT: &str = "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nfine";
    let (uri, seen) = peer(&[&[Act::Answer(FINE), Act::Answer(CUT)]]).await;
    let client = client();
    post(&client, &uri, "").await.unwrap();
    settle().await;
    let failure = post(&client, &uri, "").await.unwrap_err();
    assert_eq!(failure.answer(), Some((200, None)), "{failure}");
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_reused_connection_whose_peer_has_vanished_is_given_up_before_the_request_is() {
    let (uri, seen) = peer(&[&[Act::Answer(FINE), Act::Silent], &[Act::Answer(FINE)]]).await;
    let client = client().with_reused_answer_max(IMPATIENT);
    post(&client, &uri, "").await.unwrap();
    settle().await;
    let began = Instant::now();
    assert_eq!(post(&client, &uri, "").await.unwrap().status, 200);
    assert_eq!(began.elapsed(), IMPATIENT);
    assert_eq!(seen.lock().unwrap().last().unwrap().0, 1);
}

#[tokio::test(start_paused = true)]
async fn a_slow_answer_over_a_fresh_connection_has_all_its_time() {
    let (uri, _) = peer(&[&[Act::Silent]]).await;
    let began = Instant::now();
    let answer = post(&client().with_reused_answer_max(IMPATIENT), &uri, "").await;
    assert!(matches!(answer, Err(Failure::TimedOut)));
    assert_eq!(began.elapsed(), LONG);
}

#[tokio::test(start_paused = true)]
async fn what_was_seen_to_be_done_is_not_asked_for_again_whatever_becomes_of_its_connection() {
    const SILENT: &[&[Act]] = &[&[Act::Answer(FINE), Act::Silent], &[Act::Answer(FINE)]];
    const HANGS: &[&[Act]] = &[&[Act::Answer(FINE), Act::Hangs], &[Act::Answer(FINE)]];
    for acts in [SILENT, HANGS] {
        let (uri, seen) = peer(acts).await;
        let client = client().with_reused_answer_max(IMPATIENT);
        post(&client, &uri, "").await.unwrap();
        settle().await;
        let request = Request::post(&uri).body(Bytes::new()).unwrap();
        let answer = client.send_unless_moot(request, LONG, 1_000, std::future::ready(())).await;
        assert!(matches!(answer, Err(Failure::TimedOut | Failure::Broken(_))), "{answer:?}");
        assert_eq!(seen.lock().unwrap().len(), 2, "the second connection was not needed");
    }
}
