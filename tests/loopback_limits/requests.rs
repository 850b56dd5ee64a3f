//! What one request may be: its header block, its body, its framing, and the queue in front of the desk.

use kolbox::{
    limits::{BODY_BYTES_MAX, HEADER_BYTES_MAX, HEADERS_MAX},
    twilio::sid::CallSid,
};
use tokio::io::AsyncWriteExt;

use crate::front::{Front, SHORT, Setup, ask, drip, exchange, form, hear, read_to_end, status};

/// All that the box says to this.
async fn told(front: &Front, request: impl AsRef<[u8]>) -> String {
    exchange(front.secure().await, request.as_ref()).await
}

#[tokio::test]
async fn a_header_block_over_its_limits_is_431_and_one_within_them_is_answered() {
    let front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let line = |name: &str, length: usize| format!("{name}: {}\r\n", "x".repeat(length));
    let block = |lines: String| format!("GET /healthz HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n{lines}\r\n");
    let room = HEADER_BYTES_MAX - block(line("X-Long", 0)).len();
    assert_eq!(status(&told(&front, block(line("X-Long", room - 1))).await), Some(200));
    assert_eq!(status(&told(&front, block(line("X-Many", 1).repeat(HEADERS_MAX - 2))).await), Some(200));
    for (crossed, lines) in
        [line("X-Long", room + 1), line("X-Many", 1).repeat(HEADERS_MAX - 1)].into_iter().enumerate()
    {
        assert_eq!(status(&told(&front, block(lines)).await), Some(431));
        assert_eq!(front.connections.bad_requests.get(), crossed as u64 + 1);
    }
    other.goes_on(&front).await;
}

#[tokio::test]
async fn what_is_no_sound_http_1_1_is_refused_and_the_connection_closed() {
    let front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let post = |lines: &str| format!("POST /webhook/call_status HTTP/1.1\r\nHost: gw\r\n{lines}\r\n\r\nabc");
    let long_target = format!("GET /{} HTTP/1.1\r\nHost: gw\r\n\r\n", "a/".repeat(HEADER_BYTES_MAX));
    let wrong = [
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_owned(), None),
        ("\u{16}\u{3}\u{1}\u{2} no HTTP at all\r\n\r\n".to_owned(), Some(400)),
        ("GET /healthz HTTP/3.7\r\nHost: gw\r\n\r\n".to_owned(), Some(400)),
        ("GET /healthz\r\n\r\n".to_owned(), Some(400)),
        ("GET /heal thz HTTP/1.1\r\nHost: gw\r\n\r\n".to_owned(), Some(400)),
        ("GET /\u{0} HTTP/1.1\r\nHost: gw\r\n\r\n".to_owned(), Some(400)),
        ("GET /healthz HTTP/1.1\r\nHost: g\u{0}w\r\n\r\n".to_owned(), Some(400)),
        ("GET /healthz HTTP/1.1\r\nHost : gw\r\n\r\n".to_owned(), Some(400)),
        ("GET /healthz HTTP/1.1\r\nHost: gw\r\nX-Folded: a\r\n b\r\n\r\n".to_owned(), Some(400)),
        (long_target, Some(431)),
        // What a proxy in front might read as another length than the box does.
        (post("Content-Length: 3\r\nContent-Length: 4"), Some(400)),
        (post("Content-Length: 3, 4"), Some(400)),
        (post("Content-Length: +3"), Some(400)),
        (post("Content-Length: -1"), Some(400)),
        (post("Content-Length: 99999999999999999999999"), Some(400)),
        (post("Transfer-Encoding: gzip"), Some(400)),
        (post("Transfer-Encoding: chunked, identity"), Some(400)),
        (post("Transfer-Encoding : chunked"), Some(400)),
    ];
    for (crossed, (request, expected)) in wrong.into_iter().enumerate() {
        let answer = told(&front, &request).await;
        assert_eq!(status(&answer), expected, "{request:?}: {answer}");
        assert_eq!(front.connections.bad_requests.get(), crossed as u64 + 1, "{request:?}");
    }
    let old = "POST /webhook/call_status HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(status(&told(&front, old).await), Some(400));
    other.goes_on(&front).await;
}

/// RFC 9112 §6.3: the chunks count; whoever was told two lengths is not heard any further.
#[tokio::test]
async fn of_two_lengths_the_chunks_count_and_nothing_behind_them_is_read() {
    let front = Setup::new().start().await;
    let mut other = front.other_call().await;
    for lines in ["Content-Length: 4\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nContent-Length: 4"]
    {
        let smuggled = format!(
            "POST /webhook/call_status HTTP/1.1\r\nHost: gw\r\n{lines}\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: gw\r\n\r\n"
        );
        let answer = told(&front, smuggled).await;
        assert_eq!((status(&answer), answer.matches("HTTP/1.1 ").count()), (Some(403), 1), "{answer}");
    }
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_413_whether_announced_or_not() {
    let front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let head = "POST /webhook/call_status HTTP/1.1\r\nHost: gw\r\n";
    let announced = format!("{head}Content-Length: {}\r\n\r\n", BODY_BYTES_MAX + 1);
    let chunk = format!("{BODY_BYTES_MAX:x}\r\n{}\r\n1\r\na\r\n0\r\n\r\n", "a".repeat(BODY_BYTES_MAX));
    let chunked = format!("{head}Transfer-Encoding: chunked\r\n\r\n{chunk}");
    for (crossed, request) in [announced, chunked].into_iter().enumerate() {
        assert_eq!(status(&told(&front, request).await), Some(413));
        assert_eq!(front.metrics.requests.refused("body_too_large"), crossed as u64 + 1);
    }
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_body_that_drips_or_does_not_come_is_408() {
    let front = Setup::new().with(|setup| setup.router.body_read_max = SHORT).start().await;
    let mut other = front.other_call().await;
    let head = b"POST /webhook/call_status HTTP/1.1\r\nHost: gw\r\nContent-Length: 60000\r\n\r\nCallSid=";
    let chunked = b"POST /webhook/call_status HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\n";
    let silent = told(&front, head);
    let (dripping, chunks) = (front.secure().await, front.secure().await);
    let dripping = drip(dripping, head, b"A");
    let chunks = drip(chunks, chunked, b"1\r\nA\r\n");
    let (silent, dripping, chunks) = tokio::join!(silent, dripping, chunks);
    for answer in [silent, dripping, chunks] {
        assert_eq!(status(&answer), Some(408), "{answer}");
        assert!(answer.contains("connection: close"), "{answer}");
    }
    assert_eq!(front.metrics.requests.refused("body_too_slow"), 3);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_body_that_is_not_what_was_announced_reaches_nobody() {
    let front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let webhook = front.webhook("incoming_call", &form(CallSid::from_number(1)));
    let mut short = front.secure().await;
    short.write_all(&webhook[..webhook.len() - 1]).await.unwrap();
    short.shutdown().await.unwrap();
    let answer = read_to_end(&mut short).await;
    assert!(!answer.contains("200 OK"), "{answer}");
    let chunks =
        "POST /webhook/call_status HTTP/1.1\r\nHost: gw\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\na";
    assert_eq!(status(&told(&front, chunks).await), Some(400));
    assert_eq!(front.metrics.requests.refused("body_broken"), 2);
    // What is behind the body is no part of it, and no request.
    let long = [&webhook[..], b"more than was announced\r\n\r\n"].concat();
    let answer = told(&front, long).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 400"), "{answer}");
    assert_eq!(front.connections.bad_requests.get(), 1);
    other.goes_on(&front).await;
}

#[tokio::test]
async fn an_absurd_target_is_an_ordinary_stranger() {
    let front = Setup::new().start().await;
    let mut other = front.other_call().await;
    let mut stranger = front.secure().await;
    for (line, expected) in [
        ("OPTIONS *", 404),
        ("GET //", 404),
        ("GET healthz", 404),
        ("GET /webhook/%69ncoming_call", 404),
        ("GET /webhook/../webhook/incoming_call", 404),
        ("GET /static/tts/../../etc/passwd", 404),
        ("GET /static/tts/%2e%2e%2f%00%ff", 404),
        ("GET /?a=%%%&&&===#", 404),
        ("DELETE /webhook/incoming_call", 405),
        ("BREW /pot", 404),
        ("GET http://elsewhere.example/healthz", 200),
        ("GET http://elsewhere.example/webhook/incoming_call", 403),
    ] {
        let request = format!("{line} HTTP/1.1\r\nHost: gw\r\n\r\n");
        let (status, _) = ask(&mut stranger, request.as_bytes()).await.unwrap_or_else(|| panic!("{line}: closed"));
        assert_eq!(status, expected, "{line}");
    }
    assert_eq!(
        status(&told(&front, "CONNECT elsewhere.example:443 HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n\r\n").await),
        Some(404)
    );
    assert_eq!(status(&told(&front, "GET /healthz HTTP/1.0\r\n\r\n").await), Some(200));
    other.goes_on(&front).await;
}

#[tokio::test]
async fn a_full_queue_and_a_slow_desk_are_503_and_frames_go_on_meanwhile() {
    let small = |setup: &mut Setup| (setup.desk_queue, setup.router.desk_answer_max) = (1, 2 * SHORT);
    let front = Setup::new().with(small).start().await;
    let mut other = front.other_call().await;
    let heard_before = front.metrics.media.frames.get();
    front.desk_turns.send_replace(false);
    let webhook = front.webhook("call_status", &form(CallSid::from_number(1)));
    let mut waiting = front.secure().await;
    waiting.write_all(&webhook).await.unwrap();
    waiting.flush().await.unwrap();
    // Whichever comes second finds the queue full; the first one waits in it.
    let mut second = front.secure().await;
    assert_eq!(ask(&mut second, &webhook).await.unwrap().0, 503);
    assert_eq!(hear(&mut waiting).await.unwrap().0, 503);
    let refused = |reason| front.metrics.requests.refused(reason);
    assert_eq!((refused("desk_full"), refused("desk_slow")), (1, 1));
    assert!(front.metrics.media.frames.get() > heard_before, "frames never meet the desk");
    front.desk_turns.send_replace(true);
    other.goes_on(&front).await;
}
