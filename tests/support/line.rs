//! A line to the gateway that stays while the gateway is away, as a proxy in front of it does.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::Mutex,
    thread,
    time::{Duration, Instant},
};

/// How often, and how long, a gateway that is away is tried.
const TRY_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);
/// A connection on which a client spoke so shortly ago carries a stream, since there is a frame every 20 ms.
const BUSY: Duration = Duration::from_millis(500);

/// Takes connections for `target` and carries them there as soon as somebody listens. Where it listens itself.
pub fn line_to(target: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming().flatten() {
            thread::spawn(move || carry(&client, target));
        }
    });
    address
}

/// The client of an idle connection learns at once that the gateway is gone, that of a stream only when it is back: so
/// it asks what to do next on a connection that is not about to break.
fn carry(client: &TcpStream, target: SocketAddr) {
    let Some(server) = reach(target) else { return };
    let spoken = Mutex::new(Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = pass(&server, client, || {});
            if spoken.lock().unwrap().elapsed() < BUSY {
                drop(reach(target));
            }
            let _ = client.shutdown(Shutdown::Both);
        });
        let _ = pass(client, &server, || *spoken.lock().unwrap() = Instant::now());
        let _ = server.shutdown(Shutdown::Both);
    });
}

fn pass(mut from: &TcpStream, mut to: &TcpStream, note: impl Fn()) -> io::Result<()> {
    let mut piece = [0; 16 * 1024];
    loop {
        let length = from.read(&mut piece)?;
        if length == 0 {
            return Ok(());
        }
        note();
        to.write_all(&piece[..length])?;
    }
}

fn reach(target: SocketAddr) -> Option<TcpStream> {
    let begin = Instant::now();
    while begin.elapsed() < PATIENCE {
        match TcpStream::connect(target) {
            Ok(stream) => return Some(stream),
            Err(_) => thread::sleep(TRY_EVERY),
        }
    }
    None
}
