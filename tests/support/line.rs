//! A line to the gateway that stays open while the gateway is away, as a proxy in front of it does.

use std::{
    io,
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

/// How often, and how long, a gateway that is away is tried.
const TRY_EVERY: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

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

fn carry(client: &TcpStream, target: SocketAddr) {
    let Some(server) = reach(target) else { return };
    thread::scope(|scope| {
        scope.spawn(|| pass(&server, client));
        pass(client, &server);
    });
}

/// Passes on what comes; when nothing more does, the connection is over for both sides.
fn pass(mut from: &TcpStream, mut to: &TcpStream) {
    let _ = io::copy(&mut from, &mut to);
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
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
