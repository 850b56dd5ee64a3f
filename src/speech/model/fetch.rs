//! Downloads a file whose size and hash are known: to the side, on from where an earlier try stopped, and into its place
//! only when it is the right one.

use std::{
    error::Error,
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use fs2::FileExt;
use http_body_util::BodyExt;
use hyper::{
    Request, Response,
    body::Incoming,
    header::{CONTENT_RANGE, LOCATION, RANGE, USER_AGENT},
};
use tokio::time::timeout;
use url::Url;

use super::file::sha256;
use crate::{
    limits::{MODEL_REDIRECTS_MAX, MODEL_STALL_MAX},
    system::http_client::{Failure, HttpClient},
};

/// A file that is wanted.
#[derive(Debug, Clone)]
pub struct Wanted {
    pub url: Url,
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
    /// Where it is to stand. Until it is whole it stands beside it, with `.part` behind its name.
    pub path: PathBuf,
}

/// Why it is not there.
#[derive(Debug)]
pub enum FetchError {
    /// The answer did not come, or broke off before its head did.
    Http(Failure),
    Status(u16),
    /// More redirects than anybody needs, or one to nowhere.
    Redirect,
    /// A redirect from https to http.
    Insecure,
    /// Nothing came for [`MODEL_STALL_MAX`].
    Stalled,
    /// The connection broke; so many bytes are there.
    Broken(u64),
    /// What came is not the file: too long, or with another hash. It was removed.
    AnotherFile,
    Disk(io::Error),
    /// So many bytes are needed, and there are not so many.
    NoSpace(u64),
    /// Another program is downloading it.
    Underway,
}

/// What was begun and is not whole yet.
struct Part {
    path: PathBuf,
    file: File,
    bytes: u64,
}

/// Downloads it; `progress` is told how many bytes are there. Asked again after a failure it goes on from there.
pub async fn fetch(client: &HttpClient, wanted: &Wanted, mut progress: impl FnMut(u64)) -> Result<(), FetchError> {
    let mut part = Part::open(wanted)?;
    progress(part.bytes);
    if part.bytes < wanted.bytes {
        let response = open(client, &wanted.url, part.bytes).await?;
        part.begin(&response)?;
        receive(response.into_body(), &mut part, wanted.bytes, &mut progress).await?;
    }
    part.finish(wanted)
}

/// The answer's head, where the redirects end.
async fn open(client: &HttpClient, url: &Url, from: u64) -> Result<Response<Incoming>, FetchError> {
    let mut url = url.clone();
    for _ in 0..=MODEL_REDIRECTS_MAX {
        let mut request = Request::get(url.as_str()).header(USER_AGENT, concat!("kolbox/", env!("CARGO_PKG_VERSION")));
        if from > 0 {
            request = request.header(RANGE, format!("bytes={from}-"));
        }
        let request = request.body(Bytes::new()).map_err(|_| FetchError::Redirect)?;
        let response = client.begin(request, MODEL_STALL_MAX).await.map_err(FetchError::Http)?;
        match response.status().as_u16() {
            200 | 206 => return Ok(response),
            301 | 302 | 303 | 307 | 308 => {
                let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
                let next = location.and_then(|location| url.join(location).ok()).ok_or(FetchError::Redirect)?;
                if url.scheme() == "https" && next.scheme() != "https" {
                    return Err(FetchError::Insecure);
                }
                url = next;
            }
            status => return Err(FetchError::Status(status)),
        }
    }
    Err(FetchError::Redirect)
}

async fn receive(
    mut body: Incoming,
    part: &mut Part,
    bytes: u64,
    progress: &mut impl FnMut(u64),
) -> Result<(), FetchError> {
    while part.bytes < bytes {
        let frame = timeout(MODEL_STALL_MAX, body.frame()).await.map_err(|_| FetchError::Stalled)?;
        let Some(Ok(frame)) = frame else { return Err(FetchError::Broken(part.bytes)) };
        let Some(data) = frame.data_ref() else { continue };
        if part.bytes + data.len() as u64 > bytes {
            return Err(part.remove());
        }
        part.file.write_all(data).map_err(FetchError::Disk)?;
        part.bytes += data.len() as u64;
        progress(part.bytes);
    }
    Ok(())
}

impl Part {
    fn open(wanted: &Wanted) -> Result<Self, FetchError> {
        let directory = wanted.path.parent().unwrap_or(Path::new("."));
        fs::create_dir_all(directory).map_err(FetchError::Disk)?;
        let mut name = wanted.path.as_os_str().to_owned();
        name.push(".part");
        let path = PathBuf::from(name);
        let opened = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let file = opened.map_err(FetchError::Disk)?;
        FileExt::try_lock_exclusive(&file).map_err(|_| FetchError::Underway)?;
        let mut part = Self { bytes: file.metadata().map_err(FetchError::Disk)?.len(), path, file };
        if part.bytes > wanted.bytes {
            part.restart()?;
        }
        let missing = wanted.bytes - part.bytes;
        if fs2::available_space(directory).is_ok_and(|free| free < missing) {
            return Err(FetchError::NoSpace(missing));
        }
        Ok(part)
    }

    /// Looks whether the answer goes on where the part ends; a whole answer begins anew.
    fn begin(&mut self, response: &Response<Incoming>) -> Result<(), FetchError> {
        let range = response.headers().get(CONTENT_RANGE).and_then(|value| value.to_str().ok());
        let goes_on = range.is_some_and(|range| range.starts_with(&format!("bytes {}-", self.bytes)));
        if response.status().as_u16() == 200 || !goes_on {
            if response.status().as_u16() == 206 && self.bytes > 0 {
                return Err(FetchError::Status(206));
            }
            return self.restart();
        }
        self.file.seek(SeekFrom::Start(self.bytes)).map_err(FetchError::Disk)?;
        Ok(())
    }

    fn restart(&mut self) -> Result<(), FetchError> {
        self.bytes = 0;
        self.file.set_len(0).and_then(|()| self.file.rewind()).map_err(FetchError::Disk)
    }

    /// Puts it into its place if it is what was wanted.
    fn finish(self, wanted: &Wanted) -> Result<(), FetchError> {
        self.file.sync_all().map_err(FetchError::Disk)?;
        if sha256(&self.path).map_err(FetchError::Disk)? != wanted.sha256 {
            return Err(self.remove());
        }
        fs::rename(&self.path, &wanted.path).map_err(FetchError::Disk)?;
        let directory = wanted.path.parent().unwrap_or(Path::new("."));
        File::open(directory).and_then(|directory| directory.sync_all()).map_err(FetchError::Disk)
    }

    /// Going on from there would never end well.
    fn remove(&self) -> FetchError {
        match fs::remove_file(&self.path) {
            Ok(()) => FetchError::AnotherFile,
            Err(error) => FetchError::Disk(error),
        }
    }
}

impl FetchError {
    /// What a person does about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Http(Failure::Connect(_)) | Self::Status(_) | Self::Redirect | Self::Insecure => {
                "without a way to it, download the file on another computer and put it there"
            }
            Self::Http(_) | Self::Stalled | Self::Broken(_) => "run the same again: it goes on where it stopped",
            Self::AnotherFile => "run the same again; if it happens again, something on the way changes files",
            Self::Disk(error) if error.kind() == io::ErrorKind::PermissionDenied => "run it as root",
            Self::Disk(_) | Self::NoSpace(_) => "make room, and run the same again",
            Self::Underway => "let it end",
        }
    }
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stall = |stall: Duration| stall.as_secs();
        match self {
            Self::Http(_) => f.write_str("the file's host does not answer"),
            Self::Status(status) => write!(f, "the file's host answers HTTP {status}"),
            Self::Redirect => f.write_str("the file's host leads elsewhere and never to the file"),
            Self::Insecure => f.write_str("the file's host leads from https to http"),
            Self::Stalled => write!(f, "nothing came for {} s", stall(MODEL_STALL_MAX)),
            Self::Broken(bytes) => write!(f, "the connection broke after {bytes} bytes"),
            Self::AnotherFile => f.write_str("what came is another file than the one that is published"),
            Self::Disk(_) => f.write_str("it cannot be written"),
            Self::NoSpace(bytes) => {
                write!(f, "{} are needed, and the disk has less", bytesize::ByteSize::b(*bytes).display().iec())
            }
            Self::Underway => f.write_str("it is being downloaded already"),
        }
    }
}

impl Error for FetchError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Http(failure) => Some(failure),
            Self::Disk(error) => Some(error),
            _ => None,
        }
    }
}
