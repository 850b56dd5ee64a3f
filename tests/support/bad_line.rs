//! A connection to an engine on which something goes wrong, as long as it is told to.

use std::{
    io::{self, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex},
    thread,
    time::Duration,
};

/// What comes in place of an answer: no text in any encoding, and no end of a line that anybody waits for is missing.
const GARBAGE: &[u8] = &[0xf5, 0x00, 0xff, 0x7b, 0x22, 0xfe, 0x0d, 0x0a];

/// What becomes of the engine's answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answers {
    #[default]
    Arrive,
    /// Bytes that nobody sent come in their place.
    Garbled,
    /// They never come, and nothing is said of it.
    Lost,
}

/// Carries connections to an engine.
pub struct BadLine {
    /// Where it takes them.
    pub address: SocketAddr,
    line: Arc<Line>,
}

#[derive(Default)]
struct Line {
    now: Mutex<Now>,
    asked: Condvar,
}

#[derive(Default)]
struct Now {
    answers: Answers,
    /// Connections that it took since that was set.
    questions: usize,
}

impl BadLine {
    pub fn to(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let (address, line) = (listener.local_addr().unwrap(), Arc::<Line>::default());
        let shared = line.clone();
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let answers = shared.take();
                thread::spawn(move || carry(&client, target, answers));
            }
        });
        Self { address, line }
    }

    /// From the next connection on.
    pub fn set(&self, answers: Answers) {
        *self.line.now.lock().unwrap() = Now { answers, questions: 0 };
    }

    /// Waits until it took so many connections since then.
    #[track_caller]
    pub fn wait_for_questions(&self, count: usize, patience: Duration) {
        let now = self.line.now.lock().unwrap();
        let (now, _) = self.line.asked.wait_timeout_while(now, patience, |now| now.questions < count).unwrap();
        assert!(now.questions >= count, "{} of {count} questions", now.questions);
    }
}

impl Line {
    fn take(&self) -> Answers {
        let mut now = self.now.lock().unwrap();
        now.questions += 1;
        self.asked.notify_all();
        now.answers
    }
}

/// The engine gets the question whole, whatever becomes of its answer.
fn carry(client: &TcpStream, target: SocketAddr, answers: Answers) {
    let Ok(engine) = TcpStream::connect(target) else { return };
    thread::scope(|scope| {
        scope.spawn(|| {
            let _ = match answers {
                Answers::Arrive => pass(&engine, client),
                Answers::Garbled => garble(&engine, client),
                Answers::Lost => return,
            };
            let _ = client.shutdown(Shutdown::Both);
        });
        let _ = pass(client, &engine);
        let _ = engine.shutdown(Shutdown::Both);
    });
}

fn garble(mut engine: &TcpStream, mut client: &TcpStream) -> io::Result<()> {
    let mut begin = [0; 1];
    engine.read_exact(&mut begin)?;
    client.write_all(GARBAGE)
}

fn pass(mut from: &TcpStream, mut to: &TcpStream) -> io::Result<()> {
    io::copy(&mut from, &mut to).map(drop)
}
