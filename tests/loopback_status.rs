//! The status side of a whole box over real sockets: events, logins, retries, and what it shows of a real call to whom.

use std::{sync::Arc, time::Duration};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming};
use kolbox::{
    board::lamps::{Lamp, LampView, Pattern},
    limits::{EVENT_STREAMS_MAX, STATUS_CONNECTIONS_MAX},
    status::snapshot::Snapshot,
};
use serde_json::Value;
use staffed::{FROM, PASSWORD, Staffed, ask, get, log_in, patiently, post, text};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

#[path = "support/staffed.rs"]
mod staffed;

/// An event stream, read as a program would.
struct Events(Response<Incoming>);

impl Events {
    async fn open(of: &Staffed, headers: &[(&str, &str)]) -> Self {
        let answer = get(of.status, "/api/events", headers).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self(answer)
    }

    /// The next event as it came; `None` when the stream ended as it should.
    async fn next(&mut self) -> Option<String> {
        loop {
            let frame = patiently(self.0.body_mut().frame()).await?.expect("it is not cut off");
            let piece = String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap();
            assert!(piece.ends_with("\n\n"), "{piece}");
            if piece != ":\n\n" {
                return Some(piece);
            }
        }
    }

    /// The first event whose status is this.
    async fn until(&mut self, wanted: impl Fn(&Value) -> bool) -> Value {
        loop {
            let event = self.next().await.expect("the stream goes on");
            let status: Value = serde_json::from_str(event.rsplit_once("data: ").unwrap().1).unwrap();
            if wanted(&status) {
                return status;
            }
        }
    }
}

fn basic() -> String {
    format!("Basic {}", BASE64_STANDARD.encode(format!("kolbox:{PASSWORD}")))
}

fn is_streaming(status: &Value) -> bool {
    status["state"] == "streaming"
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_told_as_it_comes_and_as_it_goes() {
    let staffed = Staffed::start("").await;
    let mut events = Events::open(&staffed, &[]).await;
    let first = events.next().await.unwrap();
    assert!(first.starts_with("retry: 3000\ndata: {"), "{first}");
    let call_sid = staffed.ring(1);
    let streaming = events.until(is_streaming).await;
    assert_eq!(streaming["calls"]["list"][0]["call_sid"], call_sid.as_str());
    assert_eq!(streaming["calls"]["list"][0]["from"], "…567");
    staffed.hang_up(call_sid).await;
    let ended = events.until(|status| status["recent"][0]["synced"] == true).await;
    assert_eq!((&ended["state"], &ended["calls"]["active"]), (&"ok".into(), &0.into()));
    staffed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_the_box_makes_no_room_for_connections_that_come_later() {
    let staffed = Staffed::start("").await;
    let mut events = Events::open(&staffed, &[]).await;
    events.next().await.unwrap();
    let mut crowd = Vec::new();
    for _ in 0..STATUS_CONNECTIONS_MAX {
        crowd.push(patiently(TcpStream::connect(staffed.status)).await.unwrap());
    }
    // The oldest of the crowd made room, and so all of it has been let in.
    let mut nothing = [0; 1];
    assert!(matches!(patiently(crowd[0].read(&mut nothing)).await, Ok(0) | Err(_)));
    staffed.ring(1);
    events.until(is_streaming).await;
    staffed.stop().await;
}

/// The wall clock dates the same moment a little differently each time, and frames come all the time: neither is news.
#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_goes_on_is_no_event() {
    let staffed = Staffed::start("").await;
    let call_sid = staffed.ring(1);
    let is_settled = |snapshot: &Arc<Snapshot>| {
        let is_lit = |lamp: &LampView| lamp.lamp == Lamp::Stream && lamp.pattern == Pattern::Steady;
        snapshot.streaming() == 1 && snapshot.lamps.iter().any(is_lit)
    };
    let settled = staffed.until(is_settled).await;
    let mut events = Events::open(&staffed, &[]).await;
    events.next().await.unwrap();
    // Several snapshots, each with other frames and clocks.
    staffed.until(move |now| now.uptime > settled.uptime + Duration::from_secs(3)).await;
    staffed.hang_up(call_sid).await;
    let next = events.next().await.unwrap();
    assert!(!next.contains("\"state\":\"streaming\",\"since\""), "the next event is the call's end: {next}");
    staffed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_do_not_hold_up_the_boxs_end() {
    let staffed = Staffed::start("").await;
    let mut readers = Vec::new();
    for _ in 0..3 {
        let mut events = Events::open(&staffed, &[]).await;
        events.next().await.unwrap();
        readers.push(events);
    }
    staffed.stop().await;
    for mut events in readers {
        assert_eq!(events.next().await, None, "it is ended, not cut off after a time-out");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_too_many_is_told_to_come_back_and_finds_a_place_once_one_has_left() {
    let staffed = Staffed::start("").await;
    let mut readers = Vec::new();
    for _ in 0..EVENT_STREAMS_MAX {
        readers.push(Events::open(&staffed, &[]).await);
    }
    let refused = get(staffed.status, "/api/events", &[]).await;
    assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(refused.headers().contains_key("retry-after"));
    drop(readers.pop());
    let freed = async {
        while get(staffed.status, "/api/events", &[]).await.status() != StatusCode::OK {
            tokio::task::yield_now().await;
        }
    };
    patiently(freed).await;
    staffed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_shows_the_callers_number_until_the_logout_also_in_an_open_stream() {
    let staffed = Staffed::start(PASSWORD).await;
    let call_sid = staffed.ring(1);
    staffed.until(|snapshot| snapshot.streaming() == 1).await;
    let cookie = log_in(staffed.status).await;
    let cookie = [("cookie", cookie.as_str())];
    for path in ["/", "/api/status"] {
        assert!(text(get(staffed.status, path, &cookie).await).await.contains(FROM), "{path}");
        assert!(text(get(staffed.status, path, &[("authorization", &basic())]).await).await.contains(FROM), "{path}");
        assert!(!text(get(staffed.status, path, &[]).await).await.contains(FROM), "{path}");
    }
    let mut events = Events::open(&staffed, &cookie).await;
    assert!(events.next().await.unwrap().contains(FROM));
    let out = post(staffed.status, "/logout", &cookie, "").await;
    assert!(out.headers()["set-cookie"].to_str().unwrap().contains("Max-Age=0"));
    staffed.hang_up(call_sid).await;
    assert_eq!(events.next().await, None, "the next event is not for who has left");
    assert!(!text(get(staffed.status, "/", &cookie).await).await.contains(FROM));
    staffed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_transcript_is_sent_again_when_staff_ask_for_it() {
    let staffed = Staffed::start(PASSWORD).await;
    staffed.office_answers(422);
    let call_sid = staffed.ring(1);
    staffed.until(|snapshot| snapshot.streaming() == 1).await;
    staffed.hang_up(call_sid).await;
    let parked = staffed.until(|snapshot| snapshot.recent.iter().any(|call| call.parked)).await;
    let retry = format!("/api/transcripts/{}/retry", parked.recent[0].id);
    let page = text(get(staffed.status, "/?lang=en", &[("authorization", &basic())]).await).await;
    assert!(page.contains(&retry) && page.contains("Send again"), "{page}");
    assert_eq!(post(staffed.status, &retry, &[], "").await.status(), StatusCode::UNAUTHORIZED);
    staffed.office_answers(201);
    let program = || {
        let request = Request::post(&retry).header("authorization", basic()).header("content-type", "application/json");
        ask(staffed.status, request.body(Full::<Bytes>::from("{}")).unwrap())
    };
    assert_eq!(program().await.status(), StatusCode::ACCEPTED);
    let sent = staffed.until(|snapshot| snapshot.recent.iter().all(|call| call.synced)).await;
    assert_eq!((sent.transcripts.parked, sent.transcripts.unsynced), (0, 0));
    assert_eq!(program().await.status(), StatusCode::CONFLICT, "it is no longer parked");
    staffed.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_is_announced_too_large_is_refused_before_it_comes() {
    let staffed = Staffed::start(PASSWORD).await;
    let mut stream = TcpStream::connect(staffed.status).await.unwrap();
    let head = format!(
        "POST /login HTTP/1.1\r\nHost: {0}\r\nOrigin: http://{0}\r\n\
         Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 5000\r\n\r\n",
        staffed.status
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    patiently(stream.read_to_string(&mut answer)).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    // The box goes on.
    assert_eq!(get(staffed.status, "/healthz", &[]).await.status(), StatusCode::OK);
    staffed.stop().await;
}

/// A whole call, from the greeting to a refused transcript, seen by everybody.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_personal_of_a_real_call_is_shown_to_anybody_without_the_password() {
    for password in ["", PASSWORD] {
        let staffed = Staffed::start(password).await;
        staffed.office_answers(422);
        let mut events = Events::open(&staffed, &[]).await;
        let mut seen = String::new();
        let call_sid = staffed.ring(1);
        seen += &events.until(is_streaming).await.to_string();
        seen += &everything(&staffed).await;
        staffed.hang_up(call_sid).await;
        seen += &events.until(|status| status["recent"][0]["parked"] == true).await.to_string();
        seen += &everything(&staffed).await;
        assert!(seen.contains("567") && seen.contains(call_sid.as_str()), "the call was shown");
        let seen = seen.replace(call_sid.as_str(), "");
        for personal in ["97250", "50123", "34567", PASSWORD] {
            assert!(!seen.contains(personal), "{personal} in {seen}");
        }
        staffed.stop().await;
    }
}

async fn everything(staffed: &Staffed) -> String {
    let mut seen = String::new();
    for path in ["/", "/?lang=en", "/login", "/api/status", "/metrics", "/healthz", "/nothing"] {
        seen += &text(get(staffed.status, path, &[("cookie", "kolbox_session=guess")]).await).await;
    }
    let id = staffed.gateway.snapshot().borrow().recent.first().map_or("x".to_owned(), |call| call.id.clone());
    for path in ["/login", "/logout", &format!("/api/transcripts/{id}/retry")] {
        seen += &text(post(staffed.status, path, &[("accept", "text/html")], "").await).await;
    }
    seen
}
