//! The promise: which calls live, what each was last heard of, and when silence sends one to the recorder. Pure.
//!
//! # States and events
//! What each event does to a call in each state: the answer or output, and the state after it where it changes. The
//! code follows the rows from top to bottom: the webhooks in [`desk`], then `streaming`, `recorder` and the deadlines.
//! **Await**: answered with a stream that has not started. **Strm**: a stream was accepted. **Over**: it ended, and
//! Twilio has not said what follows. **Fall**: a redirect to the recorder is on its way. **Rec**: Twilio was given the
//! `<Record>`. **End**: it was answered with its end. `·`: noted at most.
//!
//! | event | Await | Strm | Over | Fall | Rec | End |
//! | --- | --- | --- | --- | --- | --- | --- |
//! | `VoiceRequested` | stream, new deadline | stream¹ | stream → Await | record → Rec | record | stream → Await, after a recorder record → Rec |
//! | the same in a drain | record → Rec | record → Rec | record → Rec | record → Rec | record | record → Rec |
//! | `ConnectEnded` | record → Rec | waits 1 s for the socket's end, then as Over | hang up → End if the conversation was had², else record → Rec | record → Rec | record | hang up, after a recorder record → Rec |
//! | `RecordEnded` | goodbye or no message → End | likewise | likewise | likewise | likewise | likewise |
//! | `RecordEnded` of one who hung up | *over* | *over* | *over* | *over* | *over* | *over* |
//! | any webhook with a final status | *over* | *over* | *over* | *over* | *over* | *over* |
//! | `StreamStatusReported`: error | look in 1 s | look in 1 s if nothing is heard | look in 1 s, not after a goodbye | · | · | · |
//! | `RecordingStatusReported`: begun, done | → Rec | · | → Rec, not after a goodbye | → Rec if a try may be applied | seen, ask later | · |
//! | `StreamClaimed`, believed³ | → Strm | the older one is closed | → Strm | · media win it back | · media win it back | → Strm |
//! | `StreamStopped` | – | → Await if answered anew, else → Over: look after `no_media_timeout` | · | → Rec if a try may be applied | · | · |
//! | `StreamClosed` | – | → Await if answered anew, else → Over: look after 2 s, none after a goodbye | · | · | · | · |
//! | `RedirectAnswered`: accepted | · | · | · | → Rec | · | · |
//! | 21220, the call is over | *over* | *over* | *over* | *over* | *over* | · |
//! | time-out, 429, 5xx, 401 | · | · | · | try again later, close a silent socket, ask in 30 s | → Fall if a `stop` passed for acceptance and it was refused | · |
//! | refused, 404 | · | · | · | once more without prompts; then given up, ask in 30 s | as above | · |
//! | `CallLookedUp`: final status | · | · | *over* | *over* | *over* | *over* |
//! | in progress, nothing recorded | · | · | → Fall, the second time at most | → Fall if it was given up, else ask again | → Fall, the second time at most | → Fall if no recorder was at work |
//! | recorded; not known; no answer | · | · | ask again | ask again | ask again | ask again; not known: *over* |
//! | deadline of the watchdog | → Fall | silent → Fall, else look again | → Fall | – | – | – |
//! | next try, or its answer overdue | – | – | – | heard since → Strm, else the try goes out | as a time-out | – |
//! | nothing heard of for too long | – | – | ask Twilio | heard → Strm, else ask | heard → Strm, else ask | ask Twilio |
//! | end of a drain | → Fall | → Fall | → Fall, not after a goodbye | · | · | · |
//! | `max_duration` | *over* | *over* | *over* | *over* | *over* | *over* |
//!
//! ¹ → Await if its socket is closed already. ² It said `stop` after media, or the box played its goodbye; and it was
//! never sent to the recorder. ³ One that is not believed is refused and changes nothing.
//!
//! A call that stands in no table: `VoiceRequested` takes a slot and streams; the recorder without capacity, without a
//! store, in a drain, or if the call was over already. `ConnectEnded` and `RecordEnded` of a call that we do not know
//! take a slot of the second table. A final status of one that we do not know leaves a record.
//!
//! *over* is one function, [`Desk`]'s `end`: the slot is freed, the record made, once.

pub mod call;
pub mod canary;
pub mod desk;
pub mod event;
pub mod live_call;
pub mod options;
pub mod party;
pub mod pulse;
mod recorder;
pub mod redirect;
pub mod registry;
mod streaming;
pub mod watchdog;

pub use desk::{Desk, DeskView};
pub use event::*;
pub use live_call::{LiveCall, Memo};
pub use options::DeskOptions;
pub use party::Party;
pub use pulse::Pulses;
