//! The upstream is away for a week at ten calls a minute: the real keeper, the real store on a real disk, and the real
//! client, against a receiver that counts. Not in virtual time but as fast as this machine can:
//!
//! `cargo test --release --locked --test backlog -- --ignored --nocapture`; `KOLBOX_BACKLOG=10000` for fewer records.

use std::{
    env, fs,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use kolbox::{
    calls::{EndCause, EndedCall, Party},
    config,
    system::{clock::Clock, disk_use},
    transcripts::{BoxIdentity, Keeper, KeeperOptions, Record, Started, read::read},
    twilio::{
        sid::{CallSid, StreamSid},
        webhook::{CallStatus, Direction},
    },
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

/// Seven days at ten calls a minute.
const RECORDS: u64 = 7 * 24 * 60 * 10;
/// Calls that end together and share an fsync.
const GROUP: u64 = 100;
const RSS_GROWTH_MAX: u64 = 64 * 1024 * 1024;
const DISK_PER_PAYLOAD_MAX: u64 = 3;

/// A receiver that holds nothing but numbers.
#[derive(Default)]
struct Receiver {
    is_up: AtomicBool,
    refused: AtomicU64,
    /// The numbers of the calls, in the order of their arrival.
    taken: Mutex<Vec<u32>>,
    payload: AtomicU64,
}

impl Receiver {
    async fn serve(self: Arc<Self>, socket: TcpStream) -> Option<()> {
        let mut socket = BufReader::new(socket);
        loop {
            let mut length = 0;
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                if socket.read_line(&mut line).await.ok()? == 0 {
                    return None;
                }
                if let Some(value) = line.strip_prefix("content-length: ") {
                    length = value.trim().parse().ok()?;
                }
            }
            let mut body = vec![0; length];
            socket.read_exact(&mut body).await.ok()?;
            let answer = if self.is_up.load(Ordering::Relaxed) {
                self.take(&body);
                "HTTP/1.1 204 No Content\r\n\r\n"
            } else {
                self.refused.fetch_add(1, Ordering::Relaxed);
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"
            };
            socket.write_all(answer.as_bytes()).await.ok()?;
        }
    }

    fn take(&self, body: &[u8]) {
        let record: Record = serde_json::from_slice(body).unwrap();
        self.taken.lock().unwrap().push(number_of(&record));
        self.payload.fetch_add(body.len() as u64, Ordering::Relaxed);
    }
}

fn number_of(record: &Record) -> u32 {
    u32::from_str_radix(&record.call_sid.as_str()[2..], 16).unwrap()
}

fn ended(number: u64) -> EndedCall {
    let ended_at = Instant::now();
    EndedCall {
        call_sid: CallSid::from_number(number.into()),
        stream_sid: Some(StreamSid::from_number(number.into())),
        from: Party::new("+972501234567"),
        to: Party::new("+97235550100"),
        direction: Direction::Inbound,
        answered_at: ended_at,
        ended_at,
        cause: EndCause::Status(CallStatus::Completed),
        fallback: None,
        had_media: true,
    }
}

/// What this process has in memory that is its own, in bytes.
fn rss() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().trim().parse::<u64>().unwrap() * 1024
}

fn start(folder: &Path, sync: &config::Sync) -> (Started, mpsc::Receiver<kolbox::transcripts::Errand>) {
    let (wanted, errands) = mpsc::channel(16);
    let options = KeeperOptions {
        store: config::Store { path: folder.to_owned(), ..config::Store::default() },
        sync: sync.clone(),
        language: "he".into(),
        made_by: BoxIdentity { id: "01JD0000000000000000000000".into(), version: "0.1.0".into() },
        clock: Clock,
        housekeeping: None,
        texts: None,
    };
    (Keeper::start(options, wanted).unwrap(), errands)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "writes a week's records: minutes, and a disk"]
async fn a_week_of_records_waits_on_the_disk_and_arrives_oldest_first() {
    let records = env::var("KOLBOX_BACKLOG").map_or(RECORDS, |text| text.parse().expect("KOLBOX_BACKLOG is a number"));
    let folder = tempfile::tempdir().unwrap();
    let receiver = Arc::<Receiver>::default();
    receiver.taken.lock().unwrap().reserve(records as usize);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let sync = config::Sync {
        url: Some(format!("http://{}/transcripts", listener.local_addr().unwrap()).parse().unwrap()),
        retry_max: Duration::from_secs(2),
        ..config::Sync::default()
    };
    let serving = receiver.clone();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(serving.clone().serve(socket));
        }
    });

    let (keeper, _errands) = start(folder.path(), &sync);
    let (mut least, mut most, began) = (u64::MAX, 0, Instant::now());
    let mut measure = || {
        let rss = rss();
        (least, most) = (least.min(rss), most.max(rss));
        most - least
    };
    for first in (1..=records).step_by(GROUP as usize) {
        for kept in
            join_all((first..(first + GROUP).min(records + 1)).map(|number| keeper.port.keep(ended(number)))).await
        {
            kept.unwrap();
        }
        measure();
    }
    let waiting = keeper.port.view().borrow().clone();
    assert_eq!((waiting.unsynced, waiting.can_keep), (records, true), "all of it fits");
    let kept_in = began.elapsed();
    let disk_waiting = disk_use::below(folder.path());
    assert!(receiver.refused.load(Ordering::Relaxed) > 0, "it was tried meanwhile");
    // What is sent is what lies on the disk, by another run.
    keeper.port.stop().await;
    keeper.task.await.unwrap();

    receiver.is_up.store(true, Ordering::Relaxed);
    let began = Instant::now();
    let (keeper, _errands) = start(folder.path(), &sync);
    let mut view = keeper.port.view();
    let opened_in = began.elapsed();
    loop {
        measure();
        if view.borrow_and_update().unsynced == 0 {
            break;
        }
        view.changed().await.unwrap();
    }
    let (sent_in, growth) = (began.elapsed(), measure());
    let disk = disk_use::below(folder.path()).max(disk_waiting);
    let payload = receiver.payload.load(Ordering::Relaxed);
    keeper.port.stop().await;
    keeper.task.await.unwrap();
    println!(
        "{records} records, {payload} bytes of payload, kept in {kept_in:.1?}, opened in {opened_in:.1?}, sent in {sent_in:.1?}; \
         store {} bytes of records, disk {disk_waiting} while they waited, {disk} at most ({:.2} of the payload), RSS +{growth}",
        waiting.bytes,
        disk as f64 / payload as f64,
    );
    // Calls that end together become final in whatever order; the store knows which.
    let stored: Vec<u32> = read(folder.path()).unwrap().map(|stored| number_of(&stored.unwrap().record)).collect();
    assert_eq!(stored.len() as u64, records, "0 lost");
    assert!(*receiver.taken.lock().unwrap() == stored, "each once, oldest first");
    assert!(growth < RSS_GROWTH_MAX, "RSS grew by {growth} bytes");
    // The ballast and the files' first blocks weigh only on a small backlog.
    assert!(records < RECORDS || disk < DISK_PER_PAYLOAD_MAX * payload, "{disk} bytes on the disk");
}
