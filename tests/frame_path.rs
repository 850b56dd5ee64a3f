//! A media frame costs no allocation: with 64 streams there are 3,200 a second.
//!
//! Counted in the session alone; from a connection's bytes through the WebSocket to the stamp and the spool; and from a real
//! socket through TLS on (`frame_path/tls.rs`), beside what rustls takes for its records.

#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kolbox::{
    calls::{Event, Pulses, SocketId, StreamKey},
    limits::SPOOL_CHUNK_BYTES,
    server::{
        conversation::ConversationOptions,
        desk_port::{DeskPort, SocketOrder, ToDesk},
        media_session::{MediaOptions, MediaSession},
        media_socket::{self, MediaContext},
        metrics::MediaMetrics,
    },
    speech::spool::{Spool, SpoolPort, SpoolRoom},
    twilio::sid::{CallSid, StreamSid},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    join,
    sync::mpsc,
};

#[path = "frame_path/tls.rs"]
mod tls;

const STREAM: StreamKey = StreamKey { slot: 0, generation: 1 };
const FRAME_BYTES: usize = 160;
/// Frames until every buffer has its size,
const FIRST: usize = 100;
/// and those that are counted.
const COUNTED: usize = 1_000;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counting for each thread what it is asked for.
struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the counter is a plain cell of the calling thread,
// needs no destructor, and does not allocate.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

#[test]
fn a_media_frame_is_handled_without_allocating() {
    let now = Instant::now();
    let mut session = MediaSession::new(options(), Pulses::new(now), SocketId(1), now);
    session.handle_message(&start(), now);
    session.handle_order(SocketOrder::Accept(STREAM), now);
    while session.poll_output().is_some() {}
    let frame = media();

    let mut handle = |frames: usize| {
        let before = ALLOCATIONS.get();
        for _ in 0..frames {
            session.handle_message(&frame, now);
            assert_eq!(session.audio().len(), FRAME_BYTES);
            assert!(session.poll_output().is_none());
        }
        ALLOCATIONS.get() - before
    };
    assert!(handle(1) > 0, "the first frame makes its buffer, and shows that the counter counts");
    assert_eq!(handle(COUNTED), 0);
}

#[test]
fn nothing_is_allocated_between_a_connections_bytes_and_the_stamp() {
    assert_eq!(allocations_of_a_connection(None), 0);
}

#[test]
fn a_kept_frame_allocates_nothing_and_a_full_buffer_for_the_disk_one_at_most() {
    let folder = tempfile::tempdir().unwrap();
    let (spool, thread) = Spool::start(folder.path(), SpoolRoom::new(1 << 30)).unwrap();
    let hand_overs = (COUNTED * FRAME_BYTES).div_ceil(SPOOL_CHUNK_BYTES) as u64;
    let allocated = allocations_of_a_connection(Some(spool));
    assert!(allocated <= hand_overs, "{allocated} allocations, and only {hand_overs} buffers were handed over");
    thread.join().unwrap();
    let kept = folder.path().join(format!("{}.1.ulaw", CallSid::from_number(1)));
    assert_eq!(std::fs::metadata(kept).unwrap().len(), ((FIRST + COUNTED) * FRAME_BYTES) as u64);
}

/// What the box allocates for the counted frames of a connection, from the read of its bytes on.
fn allocations_of_a_connection(spool: Option<SpoolPort>) -> u64 {
    let now = Instant::now();
    let pulses = Pulses::new(now);
    let metrics = MediaMetrics::default();
    let context = MediaContext { options: options(), pulses: pulses.clone(), spool, metrics: metrics.clone() };
    let tape = Tape {
        start: Some(masked(&start())),
        frame: masked(&media()),
        read: 0,
        is_accepted: Rc::default(),
        frames: 0,
        counts: Rc::default(),
    };
    let (is_accepted, counts) = (tape.is_accepted.clone(), tape.counts.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (port, inbox) = DeskPort::new(8);
        join!(media_socket::run(tape, port, context), accept(inbox, || is_accepted.set(true)));
    });
    assert_eq!(metrics.frames.get(), (FIRST + COUNTED) as u64);
    assert!(pulses.last_heard(STREAM).is_some());
    let (first, last) = counts.get();
    last - first
}

/// Believes the stream, as the desk does, and says so.
async fn accept(mut inbox: mpsc::Receiver<ToDesk>, note_accepted: impl Fn()) {
    let mut socket = None;
    while let Some(message) = inbox.recv().await {
        match message {
            ToDesk::SocketOpened { orders, .. } => socket = Some(orders),
            ToDesk::Told(Event::StreamClaimed(_)) => {
                socket.as_ref().unwrap().try_send(SocketOrder::Accept(STREAM)).unwrap();
                note_accepted();
            }
            // The desk lets go of a connection that is gone.
            ToDesk::SocketGone { .. } => return,
            ToDesk::Told(Event::StreamClosed { .. }) => socket = None,
            _ => {}
        }
    }
}

/// A peer that says `start`, waits until it is believed, sends frames, one at each read, and leaves. It notes how much its
/// thread had allocated when the frames to be counted began and ended.
struct Tape {
    start: Option<Vec<u8>>,
    frame: Vec<u8>,
    /// How much of the frame was read.
    read: usize,
    is_accepted: Rc<Cell<bool>>,
    frames: usize,
    counts: Rc<Cell<(u64, u64)>>,
}

impl AsyncRead for Tape {
    fn poll_read(self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let tape = self.get_mut();
        if let Some(start) = tape.start.take() {
            buffer.put_slice(&start);
        } else if !tape.is_accepted.get() {
            context.waker().wake_by_ref();
            return Poll::Pending;
        } else if tape.frames < FIRST + COUNTED {
            if (tape.frames, tape.read) == (FIRST, 0) {
                tape.counts.set((ALLOCATIONS.get(), 0));
            }
            // There may be less room than for all of it; the next read has the rest.
            let rest = &tape.frame[tape.read..];
            let taken = rest.len().min(buffer.remaining());
            buffer.put_slice(&rest[..taken]);
            tape.read = (tape.read + taken) % tape.frame.len();
            tape.frames += usize::from(tape.read == 0);
        } else if tape.counts.get().1 == 0 {
            tape.counts.set((tape.counts.get().0, ALLOCATIONS.get()));
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tape {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn options() -> Arc<MediaOptions> {
    let conversation =
        ConversationOptions { caller_silence: Duration::from_secs(30), tone: [].into(), goodbye: Some([0].into()) };
    Arc::new(MediaOptions { account_sid: None, conversation: Arc::new(conversation), mask_keys: false })
}

fn start() -> String {
    let (call_sid, stream_sid) = (CallSid::from_number(1), StreamSid::from_number(1));
    format!(r#"{{"event":"start","streamSid":"{stream_sid}","start":{{"callSid":"{call_sid}"}}}}"#)
}

fn media() -> String {
    let stream_sid = StreamSid::from_number(1);
    let payload = STANDARD.encode([0xff; FRAME_BYTES]);
    format!(
        r#"{{"event":"media","sequenceNumber":"4","streamSid":"{stream_sid}",
        "media":{{"track":"inbound","chunk":"3","timestamp":"60","payload":"{payload}"}}}}"#
    )
}

/// A text message as a client sends it (RFC 6455, 5.2), with a key of zeros.
fn masked(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    let head: &[u8] = if length < 126 { &[0x81, 0x80 | length as u8] } else { &[0x81, 0xfe] };
    let length = if length < 126 { Vec::new() } else { length.to_be_bytes().to_vec() };
    [head, &length, &[0; 4], text.as_bytes()].concat()
}
