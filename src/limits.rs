//! What may never be exceeded: every capacity, size and time that is fixed when the program is compiled.

use std::time::Duration;

/// Calls that the registry holds at once (`KOLBOX_CALLS_MAX` when building; a power of two up to 4096).
pub const CALLS_MAX: usize = calls_max(option_env!("KOLBOX_CALLS_MAX"));
/// Calls that were sent straight to the recorder stand in a second table, so that they take no stream's place.
pub const RECORDER_CALLS_MAX: usize = 4 * CALLS_MAX;
/// Webhook answers that one call may have waiting for its socket's end (a fifth is answered at once).
pub const DEFERRED_ANSWERS_MAX: usize = 4;
/// Calls that are over and still remembered, so that a late or repeated webhook makes no second record.
pub const ENDED_CALLS_MAX: usize = 16 * CALLS_MAX;
/// Ended calls whose record waits for a recording; beyond it the oldest becomes final as it stands.
pub const PENDING_RECORDS_MAX: usize = RECORDER_CALLS_MAX;

/// Longest caller or callee name kept, in bytes (E.164 is 16; SIP URIs are cut here).
pub const PARTY_BYTES_MAX: usize = 96;
/// A stream token: 16 random bytes in unpadded base64url.
pub const TOKEN_BYTES: usize = 22;

/// Webhook bodies, in bytes: beyond it 413.
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// Fields read of a form (Twilio sends about 40): the rest is dropped, and the signature then does not match.
pub const FORM_PAIRS_MAX: usize = 256;
/// Header block of a request, in bytes: beyond it 431.
pub const HEADER_BYTES_MAX: usize = 16 * 1024;
/// Headers of a request: beyond it 431.
pub const HEADERS_MAX: usize = 64;
/// Time to read a request's header block, TLS handshake included: from the accept, or from the end of the last answer.
pub const HEADER_READ_MAX: Duration = Duration::from_secs(10);
/// Time to read a request's body.
pub const BODY_READ_MAX: Duration = Duration::from_secs(10);

/// A peer that takes nothing of what is sent to it for this long is given up. The system asks for more once about a third
/// of [`CONNECTION_SEND_BYTES`] is taken: so a peer that reads less than 3 kB/s counts as one that does not.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(10);
/// A peer that reads slowly is given up when an answer is not all written after this long: the longest prompt over a link
/// of 64 kbit/s.
pub const ANSWER_UNREAD_MAX: Duration = Duration::from_secs(300);
/// What the system holds of a connection's unread answer, in bytes (Linux takes twice as much for its own book-keeping);
/// its default grows to 4 MiB a connection.
pub const CONNECTION_SEND_BYTES: u32 = 64 * 1024;
/// Connections that the system may hold ready to be accepted.
pub const ACCEPT_QUEUE_MAX: u32 = 1024;
/// Connections of the status listener at once.
pub const STATUS_CONNECTIONS_MAX: usize = 64;
/// Those of them that may be closed to make room: the rest is for event streams.
pub const STATUS_UNSIGNED_MAX: usize = 48;

/// The certificate's file and its key's, in bytes (a chain of four has 8 KB).
pub const CERTIFICATE_FILE_BYTES_MAX: u64 = 256 * 1024;
/// Certificates in a chain: all of them are sent in every full handshake.
pub const CERTIFICATES_MAX: usize = 16;
/// How often the certificate's files are looked at for a change, and the certificate itself for its end.
pub const CERTIFICATE_LOOK_EVERY: Duration = Duration::from_secs(60);
/// After a new pair that cannot be used: certificate and key are written one after the other, so it is looked at once more
/// before it is called wrong.
pub const CERTIFICATE_SETTLE: Duration = Duration::from_secs(5);
/// How long before its end a certificate is called one that ends soon.
pub const CERTIFICATE_WARN_BEFORE: Duration = Duration::from_secs(14 * 24 * 3600);

/// What running requests are given to end when a listener stops.
pub const FINISH_MAX: Duration = Duration::from_secs(2);
/// The accept loop's rest after the system refused it a connection (out of descriptors).
pub const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A host with its port, in bytes (a DNS name has 253): beyond it 400.
pub const HOST_BYTES_MAX: usize = 260;
/// What the desk is given to answer a webhook, in the store's own time if that is slow: beyond it 503. Twilio gives up
/// after 15 s.
pub const DESK_ANSWER_MAX: Duration = Duration::from_secs(10);

/// How often the log explains why signatures are refused, for each reason; the others between are counted.
pub const SIGNATURE_EXPLAINED_EVERY: Duration = Duration::from_secs(60);
/// How often it is looked for what a refused signature was made for: some hundred signatures are computed each time.
pub const SIGNATURE_DOUBTED_EVERY: Duration = Duration::from_secs(1);
/// A body beyond this, in bytes, is not looked into for it (Twilio's forms have one or two KiB).
pub const SIGNATURE_DOUBT_BODY_BYTES_MAX: usize = 8 * 1024;
/// Names of a query's parameters in a log line; the rest is left out.
pub const LOGGED_NAMES_MAX: usize = 12;

/// What a peer wrote (a path, an error's text) is cut here in the log, in characters.
pub const LOGGED_TEXT_CHARS_MAX: usize = 200;

/// A WebSocket message: beyond it close code 1009.
pub const WS_MESSAGE_BYTES_MAX: usize = 64 * 1024;
/// tungstenite's read and write buffers; its default of 128 KiB a connection is too much for a box.
pub const WS_BUFFER_BYTES: usize = 4 * 1024;
/// What may stand unsent on one WebSocket before the stream counts as lost.
pub const WS_UNSENT_BYTES_MAX: usize = 256 * 1024;
/// `<Parameter>`s read of a stream's `start` (we send two): the rest is dropped.
pub const STREAM_PARAMETERS_MAX: usize = 16;
/// From the 101 to a valid `start`: beyond it close code 1008.
pub const START_MAX: Duration = Duration::from_secs(10);

/// Longest `Twiml` parameter that Twilio's REST API takes, in characters (error 32018).
pub const REST_TWIML_CHARS_MAX: usize = 4000;
/// REST: time to connect.
pub const REST_CONNECT_MAX: Duration = Duration::from_secs(3);
/// REST: time to the whole answer.
pub const REST_ANSWER_MAX: Duration = Duration::from_secs(8);
/// REST: time to the beginning of an answer over a reused connection. Beyond it the connection counts as dead, and the
/// request is repeated on a fresh one: as long as that one may take to come about, so that both fit into the answer's time.
pub const REST_REUSED_ANSWER_MAX: Duration = Duration::from_secs(3);
/// Recordings asked for, and read, in one list of a call's recordings (a call has one or two).
pub const LISTED_RECORDINGS_MAX: usize = 20;
/// Recordings of the account in one page of a list (1 kB each: the page fits into [`REST_BODY_BYTES_MAX`]),
pub const RECORDINGS_PAGE: usize = 50;
/// and how many such pages are read of one list: 100,000 recordings, three months of a busy office. A longer list is read
/// up to there, the newest first, and never counts as settled.
pub const RECORDINGS_PAGES_MAX: usize = 2_000;
/// Recordings remembered as settled, far more than two hours have; beyond it the oldest is forgotten, and the store asked
/// about it again.
pub const KNOWN_RECORDINGS_MAX: usize = 4_096;
/// Announced recordings that wait to be looked for; beyond it the hourly list finds them.
pub const ANNOUNCED_MISSING_MAX: usize = 64;
/// Numbers of this box that are remembered; of more, calls without a record are asked for at Twilio.
pub const OWN_NUMBERS_MAX: usize = 256;
/// Recordings that Twilio did not give in time and that are asked for once more; beyond it they stay there.
pub const RECORDINGS_MISSING_MAX: usize = 256;
/// Recordings that wait to be deleted at Twilio; beyond it they stay there.
pub const DELETIONS_MAX: usize = 1_024;
/// A note beside the store, in bytes (the longest holds [`KNOWN_RECORDINGS_MAX`] pairs of identifiers).
pub const NOTE_BYTES_MAX: u64 = 1024 * 1024;
/// REST: time to a whole recording, which is larger and awaited by no caller.
pub const RECORDING_FETCH_MAX: Duration = Duration::from_secs(60);
/// REST answers other than a recording's audio, in bytes.
pub const REST_BODY_BYTES_MAX: usize = 256 * 1024;
/// A recording's audio, in bytes (30 s of WAV is 480 KB; Twilio's longest at 16 kB/s is cut here).
pub const RECORDING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Numbers of an account in one list (2 kB each: the list fits into [`REST_BODY_BYTES_MAX`]),
pub const NUMBERS_PAGE: usize = 50;
/// and how many such lists `kolbox check` reads.
pub const NUMBERS_PAGES_MAX: usize = 10;
/// One part of `kolbox check`: what has not answered by then will not.
pub const CHECK_MAX: Duration = Duration::from_secs(11);
/// Of it: for a speech engine to say what it has.
pub const CHECK_SPEECH_MAX: Duration = Duration::from_secs(9);
/// `kolbox check`: time for a name's addresses, and for the public name's own answer.
pub const CHECK_NAME_MAX: Duration = Duration::from_secs(5);
/// Files looked at to measure the store; more are an estimate that is too small.
pub const MEASURED_FILES_MAX: usize = 100_000;
/// What the store may grow by when it is full of unsynced records, in bytes: for the calls that end then, and those that
/// the recorder takes. Beyond it a call's record is refused, and found again by the search for recordings.
pub const STORE_RESERVE_BYTES: u64 = 64 * 1024 * 1024;

/// Outgoing connections that were idle for so long are not used again.
pub const HTTP_IDLE_MAX: Duration = Duration::from_secs(15);
/// Idle outgoing connections kept to one host; more are closed when their answer ends.
pub const HTTP_IDLE_PER_HOST_MAX: usize = 8;
/// Header block of an answer to us, in bytes; also the largest piece in which its body is read.
pub const HTTP_REPLY_HEADER_BYTES_MAX: usize = 64 * 1024;

/// A prompt file, in bytes.
pub const PROMPT_BYTES_MAX: usize = 2 * 1024 * 1024;
/// The text beside a prompt, in bytes: it must fit into a REST document with all that stands around it.
pub const PROMPT_TEXT_BYTES_MAX: usize = 2 * 1024;
/// The longest sound file that is decoded in memory (a prompt of minutes is a mistake).
pub const DECODED_AUDIO_MAX: Duration = Duration::from_secs(120);
/// Audio of a stream is handed to the spool in pieces of this size: half a second of μ-law.
pub const SPOOL_CHUNK_BYTES: usize = 4 * 1024;
/// Pieces that may wait for the spool: 4 s of all streams (2 MiB for 64), a memory card's long breath; beyond it they are
/// dropped and counted.
pub const SPOOL_QUEUE_MAX: usize = 8 * CALLS_MAX;
/// How long the spool lets pieces gather before it writes them.
pub const SPOOL_GATHER: Duration = Duration::from_millis(10);
/// How long audio may wait before it is brought to the disk: what a power cut takes of a call that is still going on.
pub const SPOOL_SYNC_EVERY: Duration = Duration::from_secs(3);
/// Keys and gaps that are kept of one stream; further ones are not.
pub const MARKS_PER_STREAM_MAX: usize = 1_024;
/// A file of them, in bytes: beyond it nothing is read.
pub const MARKS_FILE_BYTES_MAX: usize = 64 * MARKS_PER_STREAM_MAX;
/// Streams of one call whose audio is kept (a call has one, or a few where streams were lost); of further ones it is not.
pub const SPOOL_PARTS_PER_CALL_MAX: u32 = 64;
/// How often the audio folder is looked at, to delete what may go and to say how much room there is.
pub const AUDIO_LOOK_EVERY: Duration = Duration::from_secs(60);
/// From the first such look to the second, which can tell what grows.
pub const AUDIO_SECOND_LOOK: Duration = Duration::from_secs(2);
/// Files of that folder that are looked at (a gigabyte of recordings has 2,000); what is beyond stays until others went.
pub const AUDIO_FILES_MAX: usize = 100_000;
/// What audio leaves free on the disk, in bytes: the store's reserve, and as much for everybody else.
pub const AUDIO_FREE_BYTES_MIN: u64 = 2 * STORE_RESERVE_BYTES;
/// From a stream's `stop` to its connection's end: beyond it the box closes.
pub const STOP_TO_CLOSE_MAX: Duration = Duration::from_secs(5);
/// From the box's close frame to the peer's: beyond it the connection is dropped.
pub const WS_CLOSE_MAX: Duration = Duration::from_secs(2);
/// Time for all that waits to be sent to leave (a goodbye over a link of 64 kbit/s); beyond it the stream counts as lost.
pub const WS_WRITE_MAX: Duration = Duration::from_secs(10);
/// How much longer than the goodbye itself its mark is waited for.
pub const GOODBYE_MARGIN: Duration = Duration::from_secs(3);
/// Goodbyes that a caller may interrupt by speaking; the next one is played to its end. Without it the echo of the goodbye
/// itself, taken for speech, could keep a call open for hours.
pub const GOODBYES_INTERRUPTED_MAX: u32 = 4;
/// Speech this long interrupts the goodbye; shorter is a cough or the line's echo.
pub const GOODBYE_INTERRUPT_MIN: Duration = Duration::from_millis(400);
/// Events that may wait for the desk; webhooks beyond it get 503, media tasks wait.
pub const DESK_QUEUE_MAX: usize = 1024;
/// What the keeper may have asked of Twilio and not yet handed over.
pub const ERRANDS_MAX: usize = 64;
/// After the drain's time: what redirects, and then records, are given to end.
pub const DRAIN_END_MAX: Duration = Duration::from_secs(3);
/// Of that, what REST is given to redirect a stream before the box closes it: the rest is for Twilio to notice, and to ask
/// what follows.
pub const DRAIN_REDIRECT_MAX: Duration = Duration::from_millis(1_500);
/// What a whole stop may take beyond `calls.drain`: systemd is asked to wait so long.
pub const STOP_MAX: Duration = Duration::from_secs(15);
/// Operations that may wait for the store's thread.
pub const STORE_QUEUE_MAX: usize = 1024;
/// A stored value, in bytes (sled puts larger ones into files that it never syncs).
pub const STORED_VALUE_BYTES_MAX: usize = 16 * 1024;
/// Values that one record may take, and its JSON before it is packed: 4 MiB, more than a call of four hours says.
pub const RECORD_PARTS_MAX: usize = 256;
/// Store operations that share one fsync.
pub const STORE_GROUP_MAX: usize = 256;
/// sled's page cache, in bytes (its default is 1 GB): a page for each of its 256 shards, below which it cannot go. Records
/// are written and read at the ends of their ranges; more would only fill with old ones.
pub const STORE_CACHE_BYTES: u64 = 1024 * 1024;
/// What the store holds on the disk only to give it up when that is full, in bytes: eight of sled's segments.
pub const STORE_BALLAST_BYTES: u64 = 4 * 1024 * 1024;
/// What must be free on the disk besides, in bytes. With less, new calls go to the recorder, and what is stored is handed
/// over.
pub const STORE_FREE_BYTES_MIN: u64 = 8 * 1024 * 1024;
/// Damaged stores that are kept to be looked at; of more, the oldest is deleted.
pub const STORE_QUARANTINES_MAX: usize = 3;
/// Records looked for in a damaged store's bytes (80 bytes of memory each); those beyond it are not found.
pub const STORE_SALVAGED_MAX: usize = 1_000_000;
/// How far above the last known number a store that was made anew begins: more records than can have become final since
/// that was noted.
pub const STORE_SEQUENCE_LEAP: u64 = 1_000_000;
/// A store of so many bytes is read whole when it is opened, to count what is there; of a larger one only what waits.
pub const STORE_SURVEY_BYTES_MAX: u64 = 32 * 1024 * 1024;
/// How often a store may break down while it is open, and be opened again, before it is made anew.
pub const STORE_PANICS_MAX: u32 = 2;
/// How long the start waits for the store. One that takes longer is opened while calls already go to the recorder.
pub const STORE_OPEN_MAX: Duration = Duration::from_secs(3);
/// How often a disk without room is looked at: calls go on the sooner.
pub const STORE_LOOK_EVERY: Duration = Duration::from_secs(2);
/// Rows of old records that are deleted before the next operations get their turn.
pub const STORE_DELETIONS_AT_ONCE_MAX: usize = 64;

/// What a redirect waits for the journal's entry of it: the disk's usual time for an fsync, and half of what a redirect
/// may be late.
pub const JOURNAL_WAIT_MAX: Duration = Duration::from_millis(125);
/// Orders that may wait for the keeper; an ended call beyond it is refused, and its webhook gets 503.
pub const KEEPER_QUEUE_MAX: usize = 256;
/// Questions about recordings that may be with Twilio at once; the others wait their turn.
pub const ERRANDS_AT_ONCE_MAX: usize = 4;
/// Recordings remembered of one call; further ones stay at Twilio.
pub const RECORDINGS_PER_CALL_MAX: usize = 4;
/// Recordings announced before their call ended; beyond it the oldest is forgotten, and found by listing.
pub const EARLY_RECORDINGS_MAX: usize = 2 * RECORDER_CALLS_MAX;
/// Calls that the status page shows as the last ones.
pub const RECENT_CALLS_MAX: usize = 20;
/// Parked records of older calls that are shown with them; of more, the last ones.
pub const PARKED_SHOWN_MAX: usize = 20;
/// An upstream's answer, in bytes. Only its status counts; a longer one ends its connection.
pub const UPSTREAM_BODY_BYTES_MAX: usize = 1024 * 1024;
/// What an errand for a recording may take before it counts as failed, waiting for its turn at Twilio included.
pub const ERRAND_MAX: Duration = Duration::from_secs(120);
/// How long a stop waits for the last of the callers' audio to be on the disk.
pub const SPOOL_STOP_MAX: Duration = Duration::from_secs(2);
/// How long the keeper's stop waits for the store and for an upstream that has a record in its hands.
pub const KEEPER_STOP_MAX: Duration = Duration::from_secs(3);
/// How often old synced records are looked for.
pub const STORE_TIDY_EVERY: Duration = Duration::from_secs(60);
/// The longest that the upstream's `Retry-After` is believed.
pub const RETRY_AFTER_MAX: Duration = Duration::from_secs(24 * 3600);

/// The configuration file and each credential, in bytes.
pub const CONFIG_BYTES_MAX: u64 = 256 * 1024;
/// Mistakes that are told of one configuration file: nobody reads more at once.
pub const CONFIG_MISTAKES_MAX: usize = 100;
/// Entries of a directory that are looked at for a name like one that is not there.
pub const DIRECTORY_ENTRIES_MAX: usize = 1_024;

/// The longest sound that is recognized in one go (a call is cut into utterances long before).
pub const RECOGNIZED_AUDIO_MAX: Duration = Duration::from_secs(30 * 60);
/// A speech engine: time to connect.
pub const SPEECH_CONNECT_MAX: Duration = Duration::from_secs(5);
/// A speech engine's answer, in bytes: more than half an hour of speech takes with the times of every word.
pub const SPEECH_ANSWER_BYTES_MAX: usize = 8 * 1024 * 1024;
/// Segments kept of one answer; what follows them is added to the last.
pub const SPEECH_SEGMENTS_MAX: usize = 4_096;
/// Wyoming: the line that begins an event, in bytes.
pub const WYOMING_LINE_BYTES_MAX: usize = 64 * 1024;
/// Wyoming: what may follow that line, in bytes (the list of what a server has, or a transcript).
pub const WYOMING_DATA_BYTES_MAX: usize = 1024 * 1024;
/// Wyoming: events read while waiting for one of them.
pub const WYOMING_EVENTS_MAX: usize = 1_024;
/// Wyoming: a chunk of sound, in bytes (a second of 16 kHz).
pub const WYOMING_CHUNK_BYTES: usize = 32_000;
/// Names and products handed to an engine, in characters: whisper reads 224 tokens of them.
pub const SPEECH_HINTS_CHARS_MAX: usize = 600;
/// What may wait for the engine in this program while it recognizes; beyond it the answer is that it is busy.
pub const WHISPER_QUEUE_MAX: usize = 4;
/// Cores that it takes at most; more of them gain little and starve the calls.
pub const WHISPER_THREADS_MAX: usize = 4;
/// A model's file, in bytes (the largest published one has 3.1 GB).
pub const MODEL_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;
/// A model's download that brought nothing for so long is given up; begun again it goes on where it stopped.
pub const MODEL_STALL_MAX: Duration = Duration::from_secs(30);
/// Redirects followed to a model (its host hands out files from others).
pub const MODEL_REDIRECTS_MAX: usize = 5;
/// Failures in a row after which a speech engine is left alone for a while.
pub const CIRCUIT_FAILURES_MAX: u32 = 3;
/// How long it is left alone at first; twice as long after each further try that failed,
pub const CIRCUIT_REST_MIN: Duration = Duration::from_secs(5);
/// and at most so long.
pub const CIRCUIT_REST_MAX: Duration = Duration::from_secs(5 * 60);

/// The longest piece of a call that is recognized in one go: whisper's own window has 30 s.
pub const UTTERANCE_MAX: Duration = Duration::from_secs(25);
/// What an engine is given to answer, and so many times the sound's length more: a small computer with a large model.
pub const SPEECH_PATIENCE_MIN: Duration = Duration::from_secs(30);
/// See [`SPEECH_PATIENCE_MIN`].
pub const SPEECH_PATIENCE_PER_SOUND: u32 = 4;
/// Questions that may be with the speech engine at once: so texts come in the order of their calls, and one that can do
/// but one thing is not asked for two.
pub const SPEECH_QUESTIONS_MAX: usize = 1;
/// How often an engine may fail at one utterance while it answers others; beyond it that utterance stays without text.
pub const UTTERANCE_FAILURES_MAX: u32 = 6;
/// Utterances of one call that are recognized in a row while others wait: more than a usual call has, so that these are
/// done in their order, and a call of hours holds nobody up.
pub const UTTERANCES_IN_A_ROW_MAX: u32 = 12;
/// How long after a look whether somebody has said something more in a call that goes on, the next one is.
pub const FOLLOW_EVERY: Duration = Duration::from_secs(1);
/// How long what was heard of a call is kept after its last stream while nobody asks for its text; beyond it the call is
/// transcribed anew when somebody does.
pub const FOLLOWED_KEPT: Duration = Duration::from_secs(15 * 60);
/// What staff see of a call's last words while it goes on, in characters.
pub const LAST_WORDS_CHARS_MAX: usize = 240;
/// The text of one utterance, in bytes; what an engine says beyond it is dropped. Nobody says a tenth of it in that time.
pub const UTTERANCE_TEXT_BYTES_MAX: usize = 8 * 1024;
/// Ended calls whose record waits for its text; beyond it the oldest becomes final without.
pub const AWAITING_TEXT_MAX: usize = 4_096;
/// What a record that waited when the box stopped is given at least when it is back, so that an engine that is there is
/// asked, however long the box was off.
pub const TEXT_WAIT_LEAST: Duration = Duration::from_secs(5 * 60);
/// And so much longer for what there is of the text by then.
pub const TEXT_GRACE: Duration = Duration::from_secs(5);
/// From a call's end to the end of its streams' audio on the disk; beyond it what is there is transcribed.
pub const SPOOL_CLOSE_MAX: Duration = Duration::from_secs(30);
/// The text of one record, in bytes: more than a call of four hours says; the rest is left out, and marked.
pub const RECORD_TEXT_BYTES_MAX: usize = 512 * 1024;
/// Pieces of one record's text; what follows is left out, and marked.
pub const RECORD_SEGMENTS_MAX: usize = 16 * 1024;
/// Channels of a sound file: no telephone's recording has more than two.
pub const SOUND_CHANNELS_MAX: u16 = 8;

/// A board file, in bytes.
pub const BOARD_FILE_BYTES_MAX: usize = 16 * 1024;
/// Calls that the status page lists by themselves; those beyond it are counted in one line.
pub const PAGE_CALLS_MAX: usize = 20;

/// Bodies that the status listener reads (a password, an empty form), in bytes: beyond it 413.
pub const STATUS_BODY_BYTES_MAX: usize = 4 * 1024;
/// Event streams (`/api/events`) open at once; one more gets 503.
pub const EVENT_STREAMS_MAX: usize = 16;
/// Two events of a stream are at least this far apart. A little under a second, so that a change right after an event
/// is told within a second as well.
pub const EVENT_GAP_MIN: Duration = Duration::from_millis(900);
/// A stream that has nothing to tell says so this often, for proxies that close what is silent.
pub const EVENT_HEARTBEAT: Duration = Duration::from_secs(15);
/// What a browser is told to wait before it asks for a broken stream again.
pub const EVENT_RETRY: Duration = Duration::from_secs(3);

/// People logged in at once; for one more the session that was opened first ends.
pub const SESSIONS_MAX: usize = 32;
/// How long a login lasts.
pub const SESSION_MAX: Duration = Duration::from_secs(12 * 3600);
/// After a wrong password its address is not listened to for so long.
pub const PASSWORD_PAUSE: Duration = Duration::from_secs(1);
/// Addresses remembered for that; beyond it the oldest is forgotten. A password costs tenths of a second, one at a time:
/// so many wrong ones do not fit into one pause.
pub const PASSWORD_ADDRESSES_MAX: usize = 256;
/// Passwords that may wait to be checked; one more gets 503.
pub const PASSWORD_QUEUE_MAX: usize = 8;
/// Argon2id's cost, as OWASP's password storage cheat sheet has it for little memory: 12 MiB, three passes, one lane.
pub const PASSWORD_MEMORY_KIB: u32 = 12 * 1024;
/// See [`PASSWORD_MEMORY_KIB`].
pub const PASSWORD_PASSES: u32 = 3;

const _: () = assert!(CALLS_MAX.is_power_of_two() && CALLS_MAX <= 4096);
const _: () = assert!(RECORDER_CALLS_MAX <= u16::MAX as usize);
const _: () = assert!(STORED_VALUE_BYTES_MAX <= 128 * 1024);
const _: () = assert!(KNOWN_RECORDINGS_MAX as u64 * 100 < NOTE_BYTES_MAX && DELETIONS_MAX as u64 * 50 < NOTE_BYTES_MAX);
const _: () = assert!(RECORDINGS_PAGE * 2 * 1024 < REST_BODY_BYTES_MAX);
const _: () = assert!(STORE_LOOK_EVERY.as_millis() < STORE_TIDY_EVERY.as_millis());
const _: () = assert!(RECORDING_FETCH_MAX.as_secs() < ERRAND_MAX.as_secs());
const _: () = assert!(RECORD_PARTS_MAX <= u16::MAX as usize);
// The text stands in a record twice, and each of its bytes may need another one before it.
const _: () =
    assert!(4 * RECORD_TEXT_BYTES_MAX + 96 * RECORD_SEGMENTS_MAX < RECORD_PARTS_MAX * (STORED_VALUE_BYTES_MAX - 64));
const _: () = assert!(UTTERANCE_MAX.as_secs() < RECOGNIZED_AUDIO_MAX.as_secs());
const _: () = assert!(STATUS_UNSIGNED_MAX + EVENT_STREAMS_MAX <= STATUS_CONNECTIONS_MAX);
const _: () = assert!(WRITE_STALL_MAX.as_secs() < ANSWER_UNREAD_MAX.as_secs());
const _: () = assert!(8 * PROMPT_BYTES_MAX as u64 / 64_000 < ANSWER_UNREAD_MAX.as_secs());
const _: () = assert!(EVENT_GAP_MIN.as_millis() < 1000 && EVENT_GAP_MIN.as_millis() < EVENT_HEARTBEAT.as_millis());
const _: () = assert!(WS_BUFFER_BYTES < WS_UNSENT_BYTES_MAX);
const _: () = assert!(REST_CONNECT_MAX.as_millis() < REST_ANSWER_MAX.as_millis());
const _: () = assert!(REST_REUSED_ANSWER_MAX.as_millis() + REST_CONNECT_MAX.as_millis() < REST_ANSWER_MAX.as_millis());
const _: () = assert!(
    2 * DRAIN_END_MAX.as_millis() + FINISH_MAX.as_millis() + KEEPER_STOP_MAX.as_millis() + SPOOL_STOP_MAX.as_millis()
        < STOP_MAX.as_millis()
);
const _: () = assert!(DRAIN_REDIRECT_MAX.as_millis() < DRAIN_END_MAX.as_millis());

const fn calls_max(text: Option<&str>) -> usize {
    let Some(text) = text else { return 64 };
    let bytes = text.as_bytes();
    let mut value = 0;
    let mut index = 0;
    while index < bytes.len() {
        assert!(bytes[index].is_ascii_digit(), "KOLBOX_CALLS_MAX: a power of two up to 4096");
        value = value * 10 + (bytes[index] - b'0') as usize;
        index += 1;
    }
    value
}
