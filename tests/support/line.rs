//! A line to the gateway that can be held while the gateway is away, as a proxy in front of it does.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::{Duration, Instant},
};

/// A connection on which the client spoke so shortly ago carries a stream, since there is a frame every 20 ms.
const BUSY: Duration = Duration::from_millis(500);

/// Carries connections to a gateway.
pub struct Line {
    /// Where it takes them.
    pub address: SocketAddr,
    gate: Arc<Gate>,
}

impl Line {
    /// A line to this address.
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, gate) = (listener.local_addr().unwrap(), Arc::<Gate>::default());
        let shared = gate.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let gate = shared.clone();
                thread::spawn(move || carry(&client, target, &gate));
            }
        });
        Self { address, gate }
    }

    /// From now on new connections wait, and the end of a stream is kept back.
    pub fn hold(&self) {
        *self.gate.held.lock().unwrap() = true;
    }

    /// What waited goes on.
    pub fn release(&self) {
        *self.gate.held.lock().unwrap() = false;
        self.gate.changed.notify_all();
    }
}

#[derive(Default)]
struct Gate {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Gate {
    fn wait(&self) {
        drop(self.changed.wait_while(self.held.lock().unwrap(), |held| *held).unwrap());
    }
}

/// The client of an idle connection learns at once that the gateway is gone, that of a stream only when it is back: so
/// it does not ask what to do next on a connection that is about to break.
fn carry(client: &TcpStream, target: SocketAddr, gate: &Gate) {
    gate.wait();
    let Ok(server) = TcpStream::connect(target) else { return };
    let spoken = Mutex::new(Instant::now());
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = pass(&server, client, || {});
            if spoken.lock().unwrap().elapsed() < BUSY {
                gate.wait();
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
