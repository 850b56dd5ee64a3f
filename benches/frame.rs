//! A media frame as the box takes it, beside the least that anybody could do with it.
//!
//! The box's way: the text of a WebSocket message is parsed, its account of the stream compared, the audio decoded from
//! base64 and from μ-law, the pulse stamped, and the voice measured. The other way: serde_json into a struct, and base64.
//! What the socket itself costs is the same for both and not in it. A third figure, which nobody is held to, has the audio
//! laid into the spool's buffer as well; what the spool's thread takes to write is in `streams.rs`, with the whole process.

use std::{
    hint::black_box,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use kolbox::{
    calls::{Pulses, SocketId, StreamKey},
    server::{
        conversation::ConversationOptions,
        desk_port::SocketOrder,
        media_session::{MediaOptions, MediaSession},
    },
    speech::spool::{Spool, SpoolFile, SpoolRoom},
    twilio::sid::{CallSid, StreamSid},
};
use paired::Timed;
use serde::Deserialize;

#[allow(dead_code)]
#[path = "support/paired.rs"]
mod paired;
#[allow(dead_code)]
#[path = "support/process.rs"]
mod process;

const ROUNDS: u32 = 31;
const FRAMES: u32 = 20_000;
const RATIO_MAX: f64 = 1.3;

/// What every example of a media server reads.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(dead_code)]
struct Plain {
    event: String,
    sequence_number: String,
    stream_sid: String,
    media: PlainMedia,
}

#[derive(Deserialize)]
#[allow(dead_code)]
struct PlainMedia {
    track: String,
    chunk: String,
    timestamp: String,
    payload: String,
}

fn main() -> ExitCode {
    let now = Instant::now();
    let (call_sid, stream_sid) = (CallSid::from_number(1), StreamSid::from_number(1));
    let conversation =
        ConversationOptions { caller_silence: Duration::from_secs(30), tone: [].into(), goodbye: Some([0].into()) };
    let options = MediaOptions { account_sid: None, conversation: Arc::new(conversation), mask_keys: false };
    let mut session = MediaSession::new(Arc::new(options), Pulses::new(now), SocketId(1), now);
    let start = format!(r#"{{"event":"start","streamSid":"{stream_sid}","start":{{"callSid":"{call_sid}"}}}}"#);
    session.handle_message(&start, now);
    session.handle_order(SocketOrder::Accept(StreamKey { slot: 0, generation: 1 }), now);
    while session.poll_output().is_some() {}
    let folder = tempfile::tempdir().expect("a folder for the spool");
    let (spool, _thread) = Spool::start(folder.path(), SpoolRoom::new(1 << 40)).expect("a spool");
    let mut audio = spool.open(call_sid, stream_sid);
    let frames: Vec<_> = (0..50).map(|number| frame(&stream_sid, number)).collect();
    let frame = |turn: u32| frames[turn as usize % frames.len()].as_bytes();

    let mut box_turn = |turn, audio: Option<&mut SpoolFile>| {
        // tungstenite has looked already whether a text is UTF-8; this bench cannot leave it away.
        let text = std::str::from_utf8(black_box(frame(turn))).expect("UTF-8");
        session.handle_message(text, now);
        assert_eq!(black_box(session.audio()).len(), 160);
        if let Some(audio) = audio {
            audio.append(session.audio());
        }
    };
    let mut plain_turn = |turn| {
        let plain: Plain = serde_json::from_slice(black_box(frame(turn))).expect("a frame");
        let ulaw = BASE64_STANDARD.decode(&plain.media.payload).expect("base64");
        assert_eq!(black_box(ulaw).len(), 160);
        black_box(plain);
    };
    let (mut ours, mut kept, mut plain) = (Timed::default(), Timed::default(), Timed::default());
    for _ in 0..ROUNDS {
        ours.add(paired::time(FRAMES, |turn| box_turn(turn, None)), FRAMES);
        kept.add(paired::time(FRAMES, |turn| box_turn(turn, Some(&mut audio))), FRAMES);
        plain.add(paired::time(FRAMES, &mut plain_turn), FRAMES);
    }
    let is_fast = paired::tell(
        ("a frame as the box takes it: parsed, decoded, stamped, heard", &ours),
        ("serde_json into a struct, and base64", &plain),
        RATIO_MAX,
    );
    println!("ratio {:.2} with the audio laid into the spool's buffer", paired::ratio(&kept, &plain));
    if is_fast { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A frame as Twilio sends it; voices are noise to base64.
fn frame(stream_sid: &StreamSid, number: u64) -> String {
    let ulaw: Vec<u8> = (0..160_u64).map(|at| ((at * 2_654_435_761 + number * 40_503) >> 7) as u8).collect();
    let payload = BASE64_STANDARD.encode(ulaw);
    format!(
        concat!(
            r#"{{"event":"media","sequenceNumber":"{}","media":{{"track":"inbound","chunk":"{}","timestamp":"{}","#,
            r#""payload":"{}"}},"streamSid":"{}"}}"#
        ),
        number + 2,
        number + 1,
        number * 20,
        payload,
        stream_sid
    )
}
