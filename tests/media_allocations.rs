//! A media message must not allocate on its way through the parser: fifty come every second on each stream.
//! Alone in its test program, since it counts what the allocator is asked for.

// A counting allocator cannot be written without `unsafe`: both functions only count and pass on to the system's.
#![allow(unsafe_code)]

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::Cell,
};

use kolbox::twilio::{
    media_stream::{Inbound, parse},
    media_stream_peer::MessageWriter,
    sid::{AccountSid, CallSid, StreamSid},
};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call is passed on unchanged to the system's allocator, which upholds the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        // SAFETY: the caller's promises are the same as ours.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above; `pointer` came from `System`.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn allocations_during<T>(work: impl FnOnce() -> T) -> (u64, T) {
    let before = ALLOCATIONS.with(Cell::get);
    let result = work();
    (ALLOCATIONS.with(Cell::get) - before, result)
}

#[test]
fn a_media_message_is_parsed_and_decoded_without_allocating() {
    let stream_sid = StreamSid::from_number(3);
    let mut writer = MessageWriter::new(AccountSid::from_number(1), CallSid::from_number(2), stream_sid);
    let text = writer.write_media(20, &[0x7f; 160]);
    let mut ulaw = Vec::with_capacity(1024);
    let (allocations, message) = allocations_during(|| {
        let message = parse(&text).unwrap();
        if let Inbound::Media(media) = &message {
            media.decode(&mut ulaw).unwrap();
        }
        message
    });
    assert_eq!(allocations, 0);
    assert!(matches!(message, Inbound::Media(media) if media.stream_sid == Some(stream_sid)));
    assert_eq!(ulaw, [0x7f; 160]);
}

#[test]
fn the_count_itself_works() {
    let (allocations, _) = allocations_during(|| vec![1_u8]);
    assert_eq!(allocations, 1);
}
