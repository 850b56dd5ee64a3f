//! The other end of `engine = "openai"`: reads a question as it lies on the wire, and answers it.

use std::io;

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
};

/// A question's sound.
pub struct Asked {
    pub pcm: Vec<i16>,
    pub rate_hz: u32,
}

impl Asked {
    /// How long it lasts, in milliseconds.
    pub fn milliseconds(&self) -> usize {
        self.pcm.len() * 1_000 / self.rate_hz as usize
    }
}

/// Reads a whole question.
///
/// # Errors
/// Whoever asks has gone.
pub async fn read(stream: &mut BufReader<TcpStream>) -> io::Result<Asked> {
    let mut length = 0;
    loop {
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length: ") {
            length = value.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    let wav = body.windows(4).position(|four| four == b"RIFF").expect("a WAV");
    let mut wav = hound::WavReader::new(&body[wav..]).unwrap();
    Ok(Asked { rate_hz: wav.spec().sample_rate, pcm: wav.samples().map(|sample| sample.unwrap()).collect() })
}

/// Answers it, to whoever is still there.
pub async fn answer(stream: &mut BufReader<TcpStream>, status: &str, body: &str) {
    let head = format!("HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all((head + body).as_bytes()).await;
}
