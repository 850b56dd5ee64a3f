//! A media frame costs no allocation: with 64 streams there are 3,200 a second.

#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, engine::general_purpose::STANDARD};
use kolbox::{
    calls::{Pulses, SocketId, StreamKey},
    server::{
        conversation::ConversationOptions,
        desk_port::SocketOrder,
        media_session::{MediaOptions, MediaSession},
    },
    twilio::sid::{CallSid, StreamSid},
};

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
    let (call_sid, stream_sid) = (CallSid::from_number(1), StreamSid::from_number(1));
    let conversation =
        ConversationOptions { caller_silence: Duration::from_secs(30), tone: [].into(), goodbye: Some([0].into()) };
    let options = MediaOptions { account_sid: None, conversation: Arc::new(conversation) };
    let mut session = MediaSession::new(Arc::new(options), Pulses::new(now), SocketId(1), now);
    let start = format!(r#"{{"event":"start","streamSid":"{stream_sid}","start":{{"callSid":"{call_sid}"}}}}"#);
    session.handle_message(&start, now);
    session.handle_order(SocketOrder::Accept(StreamKey { slot: 0, generation: 1 }), now);
    while session.poll_output().is_some() {}
    let payload = STANDARD.encode([0xff; 160]);
    let frame = format!(
        r#"{{"event":"media","sequenceNumber":"4","streamSid":"{stream_sid}",
        "media":{{"track":"inbound","chunk":"3","timestamp":"60","payload":"{payload}"}}}}"#
    );

    let mut handle = |frames: u64| {
        let before = ALLOCATIONS.get();
        for _ in 0..frames {
            session.handle_message(&frame, now);
            assert_eq!(session.audio().len(), 160);
            assert!(session.poll_output().is_none());
        }
        ALLOCATIONS.get() - before
    };
    assert!(handle(1) > 0, "the first frame makes its buffer, and shows that the counter counts");
    assert_eq!(handle(1_000), 0);
}
