//! Who may stay: places, time for a handshake and a request, and peers that do not read.

use std::time::Duration;

use kolbox::twilio::sid::CallSid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::front::{Front, PROMPTS, SHORT, Setup, ask, drip, exchange, form, read_to_end};

const HEALTHZ: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n";
const HALF_A_REQUEST: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: g";
const PROMPT: &[u8] = b"GET /static/tts/greeting_he.mp3 HTTP/1.1\r\nHost: gw\r\n\r\n";

/// Lets so many strangers in who say nothing, one behind the other.
async fn crowd(front: &Front, size: usize) -> Vec<tokio::net::TcpStream> {
    let mut crowd = Vec::new();
    for _ in 0..size {
        crowd.push(front.tcp().await);
    }
    // Whoever is answered came in behind them all.
    let mut last = front.secure().await;
    assert_eq!(ask(&mut last, HEALTHZ).await.unwrap().0, 200);
    crowd
}

#[tokio::test]
async fn of_too_many_connections_without_a_signature_the_oldest_is_closed() {
    let front = Setup::new().with(|setup| setup.listener.unsigned_max = 3).start().await;
    let mut other = front.other_call().await;
    // One says nothing at all, one is in the middle of a request, one was answered.
    let mut oldest = front.tcp().await;
    let mut second = front.secure().await;
    second.write_all(HALF_A_REQUEST).await.unwrap();
    let mut third = front.secure().await;
    assert_eq!(ask(&mut third, HEALTHZ).await.unwrap().0, 200);
    assert_eq!(front.connections.closed_unsigned.get(), 0);

    let mut newest = front.secure().await;
    assert_eq!(ask(&mut newest, HEALTHZ).await.unwrap().0, 200);
    assert_eq!(read_to_end(&mut oldest).await, "");
    assert_eq!(front.connections.closed_unsigned.get(), 1);
    assert_eq!(ask(&mut second, b"w\r\n\r\n").await.unwrap().0, 200, "the second oldest stays");
    assert_eq!(ask(&mut third, HEALTHZ).await.unwrap().0, 200);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_connection_that_once_carried_a_valid_signature_is_never_closed_to_make_room() {
    let proxied = |setup: &mut Setup| {
        setup.listener.unsigned_max = 3;
        setup.config.public.trusted_proxies = vec!["127.0.0.0/8".parse().unwrap()];
    };
    let front = Setup::new().with(proxied).start().await;
    let mut other = front.other_call().await;
    let form = form(CallSid::from_number(1));
    let mut proxy = front.secure().await;
    assert_eq!(ask(&mut proxy, &front.webhook("call_status", &form)).await.unwrap().0, 204);
    // A proxy's connection carries strangers' requests as well.
    let strange = front.webhook_with("call_status", &form, "AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    assert_eq!(ask(&mut proxy, &strange).await.unwrap().0, 403);

    let _crowd = crowd(&front, 20).await;
    assert_eq!(front.connections.closed_unsigned.get(), 18);
    assert_eq!(ask(&mut proxy, &front.webhook("call_status", &form)).await.unwrap().0, 204);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_signature_that_is_not_valid_keeps_nobody_in() {
    let front = Setup::new().with(|setup| setup.listener.unsigned_max = 3).start().await;
    let mut other = front.other_call().await;
    let mut stranger = front.secure().await;
    let request = front.webhook_with("call_status", &form(CallSid::from_number(1)), "AAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    assert_eq!(ask(&mut stranger, &request).await.unwrap().0, 403);
    let _crowd = crowd(&front, 3).await;
    assert_eq!(read_to_end(&mut stranger).await, "");
    assert_eq!(front.metrics.requests.refused("signature"), 1);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn connections_over_the_maximum_are_refused() {
    let full = |setup: &mut Setup| (setup.listener.connections_max, setup.listener.unsigned_max) = (4, 4);
    let front = Setup::new().with(full).start().await;
    // A media socket and a connection for webhooks.
    let mut other = front.other_call().await;
    let mut inside = (front.secure().await, front.secure().await);
    for refused in 1..=3 {
        assert_eq!(read_to_end(&mut front.tcp().await).await, "");
        assert_eq!(front.connections.refused.get(), refused);
    }
    assert_eq!(front.connections.open.get(), 4);
    assert_eq!(ask(&mut inside.0, HEALTHZ).await.unwrap().0, 200);
    other.goes_on(&front).await;

    drop(inside.1);
    // Its place is free once the box has seen it go.
    while front.connections.open.get() == 4 {
        tokio::task::yield_now().await;
    }
    assert_eq!(ask(&mut front.secure().await, HEALTHZ).await.unwrap().0, 200);
}

#[tokio::test]
async fn what_is_no_tls_or_does_not_come_to_an_end_is_closed() {
    let front = Setup::new().with(|setup| setup.listener.header_read_max = 2 * SHORT).start().await;
    let mut other = front.other_call().await;
    let plain = exchange(front.tcp().await, HEALTHZ);
    let garbage = exchange(front.tcp().await, &[0xa5; 4_096]);
    let silent = exchange(front.tcp().await, b"");
    // A handshake record of 16 KiB that comes byte by byte would take minutes.
    let dripping = drip(front.tcp().await, &[0x16, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3], &[0]);
    let (plain, garbage, silent, dripping) = tokio::join!(plain, garbage, silent, dripping);
    for answer in [plain, garbage, silent, dripping] {
        assert!(!answer.contains("HTTP/"), "{answer}");
    }
    assert_eq!(front.connections.handshakes_failed.get(), 4);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_first_request_that_drips_is_closed() {
    let front = Setup::new().with(|setup| setup.listener.header_read_max = 2 * SHORT).start().await;
    let mut other = front.other_call().await;
    let dripping = drip(front.secure().await, HALF_A_REQUEST, b"w");
    let silent = exchange(front.secure().await, b"");
    assert_eq!(tokio::join!(dripping, silent), (String::new(), String::new()));
    assert_eq!(front.connections.closed_slow.get(), 2);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_connection_that_is_idle_between_requests_is_closed_and_so_is_one_that_drips_the_next() {
    let front = Setup::new().with(|setup| setup.listener.header_read_max = 2 * SHORT).start().await;
    let mut other = front.other_call().await;
    let idle = exchange(front.secure().await, HEALTHZ);
    let and_half_of_the_next = [HEALTHZ, HALF_A_REQUEST].concat();
    let dripping = drip(front.secure().await, &and_half_of_the_next, b"w");
    let (idle, dripping) = tokio::join!(idle, dripping);
    for answer in [idle, dripping] {
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nok"), "{answer}");
    }
    assert!(front.connections.closed_idle.get() >= 2, "the other call's webhooks may have been idle, too");
    assert_eq!(front.connections.closed_slow.get(), 0);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_peer_that_asks_on_and_on_and_reads_nothing_is_given_up() {
    let front = Setup::new().with(|setup| setup.listener.write.stall_max = SHORT).start().await;
    let mut other = front.other_call().await;
    let mut stranger = front.secure_with_little_room().await;
    // The box stops reading from one that does not read; and then it ends the connection.
    while stranger.write_all(PROMPT).await.is_ok() {}
    assert_eq!(front.connections.closed_unread.get(), 1);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_peer_that_reads_drop_by_drop_is_given_up_when_the_answer_takes_too_long() {
    let limits = |setup: &mut Setup| (setup.listener.write.unread_max, setup.listener.write.stall_max) = (SHORT, SHORT);
    let front = Setup::new().with(limits).start().await;
    let mut other = front.other_call().await;
    let stranger = front.secure_with_little_room().await;
    let (mut reader, mut writer) = tokio::io::split(stranger);
    let asking = async { while writer.write_all(PROMPT).await.is_ok() {} };
    let reading = async {
        let (mut beat, mut some) = (tokio::time::interval(Duration::from_millis(20)), [0; 256]);
        while reader.read(&mut some).await.is_ok_and(|bytes| bytes > 0) {
            beat.tick().await;
        }
    };
    tokio::join!(asking, reading);
    assert_eq!(front.connections.closed_unread.get(), 1);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_slow_peer_that_reads_gets_all_of_it() {
    const TIMES: usize = 20;
    let front = Setup::new().with(|setup| setup.listener.write.stall_max = 5 * SHORT).start().await;
    let mut slow = front.secure_with_little_room().await;
    // More than the box's system holds of it.
    slow.write_all(&PROMPT.repeat(TIMES)).await.unwrap();
    slow.write_all(b"GET /healthz HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n").await.unwrap();
    let (mut beat, mut piece, mut bytes) = (tokio::time::interval(Duration::from_millis(2)), [0; 1_024], 0);
    while let Ok(some @ 1..) = slow.read(&mut piece).await {
        bytes += some;
        beat.tick().await;
    }
    let length = PROMPTS.file("greeting_he.mp3").unwrap().bytes.len();
    assert!(bytes > TIMES * length, "{bytes} of {TIMES} times {length}");
    assert_eq!(front.connections.closed_unread.get(), 0);
}
