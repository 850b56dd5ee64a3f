//! Downloads of a model over real sockets: on from where one stopped, and never another file than the one that is wanted.

use std::{
    fs,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use kolbox::{
    speech::model::{
        fetch::{FetchError, Wanted, fetch},
        file::sha256,
    },
    system::http_client::{HttpClient, Roots},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::TcpListener,
};

const FILE: &[u8] = b"a file that stands for sixty megabytes of a model";

/// What the host says to each request in turn, and whether it then stays without a word.
struct Host {
    address: SocketAddr,
    /// The head of each request.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Host {
    async fn open(answers: Vec<(Vec<u8>, bool)>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = Self { address: listener.local_addr().unwrap(), asked: Arc::default() };
        let asked = host.asked.clone();
        tokio::spawn(async move {
            for (answer, stays) in answers {
                let mut stream = BufReader::new(listener.accept().await.unwrap().0);
                let mut head = String::new();
                while !head.ends_with("\r\n\r\n") {
                    stream.read_line(&mut head).await.unwrap();
                }
                asked.lock().unwrap().push(head);
                stream.write_all(&answer).await.unwrap();
                if stays {
                    std::future::pending::<()>().await;
                }
            }
        });
        host
    }

    fn heads(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

/// Where the file is to come.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("models/ggml-x.bin")
    }

    fn part(&self) -> PathBuf {
        self.folder.path().join("models/ggml-x.bin.part")
    }

    fn wanted(&self, host: &Host) -> Wanted {
        let hash = self.folder.path().join("hash");
        fs::write(&hash, FILE).unwrap();
        Wanted {
            url: format!("http://{}/ggml-x.bin", host.address).parse().unwrap(),
            bytes: FILE.len() as u64,
            sha256: sha256(&hash).unwrap(),
            path: self.path(),
        }
    }

    async fn fetch(&self, host: &Host) -> Result<Vec<u64>, FetchError> {
        let client = HttpClient::new(&Roots::Public, Duration::from_secs(20)).unwrap();
        let mut told = Vec::new();
        fetch(&client, &self.wanted(host), |bytes| told.push(bytes)).await.map(|()| told)
    }
}

fn answer(head: &str, body: &[u8]) -> (Vec<u8>, bool) {
    (with_length(head, body.len(), body), false)
}

fn with_length(head: &str, length: usize, body: &[u8]) -> Vec<u8> {
    [format!("HTTP/1.1 {head}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n").as_bytes(), body].concat()
}

#[tokio::test]
async fn a_file_comes_into_its_place_through_a_redirect() {
    let elsewhere = Host::open(vec![answer("200 OK", FILE)]).await;
    let redirect = format!("302 Found\r\nLocation: http://{}/cdn/7f", elsewhere.address);
    let host = Host::open(vec![answer(&redirect, b"")]).await;
    let place = Place::new();
    let told = place.fetch(&host).await.unwrap();
    assert_eq!((told.first(), told.last()), (Some(&0), Some(&(FILE.len() as u64))));
    assert_eq!(fs::read(place.path()).unwrap(), FILE);
    assert!(!place.part().exists());
    assert!(host.heads()[0].starts_with("GET /ggml-x.bin ") && elsewhere.heads()[0].starts_with("GET /cdn/7f "));
}

#[tokio::test]
async fn what_broke_off_goes_on_where_it_stopped() {
    let begin = (with_length("200 OK", FILE.len(), &FILE[..20]), false);
    let range = format!("206 Partial\r\nContent-Range: bytes 20-{}/{}", FILE.len() - 1, FILE.len());
    let host = Host::open(vec![begin, answer(&range, &FILE[20..])]).await;
    let place = Place::new();
    let broken = place.fetch(&host).await.unwrap_err();
    assert!(matches!(broken, FetchError::Broken(20)) && broken.remedy().contains("goes on"), "{broken}");
    assert_eq!(fs::read(place.part()).unwrap(), &FILE[..20]);
    assert_eq!(place.fetch(&host).await.unwrap()[0], 20);
    assert_eq!(fs::read(place.path()).unwrap(), FILE);
    assert!(host.heads()[1].to_lowercase().contains("range: bytes=20-"), "{:?}", host.heads());
}

#[tokio::test]
async fn a_host_that_knows_no_ranges_begins_anew_and_one_that_gives_another_range_is_not_believed() {
    let begin = (with_length("200 OK", FILE.len(), &FILE[..20]), false);
    let host = Host::open(vec![begin.clone(), answer("200 OK", FILE)]).await;
    let place = Place::new();
    place.fetch(&host).await.unwrap_err();
    place.fetch(&host).await.unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), FILE);

    let host = Host::open(vec![begin, answer("206 Partial\r\nContent-Range: bytes 7-9/49", b"abc")]).await;
    let place = Place::new();
    place.fetch(&host).await.unwrap_err();
    assert!(matches!(place.fetch(&host).await, Err(FetchError::Status(206))));
    assert_eq!(fs::read(place.part()).unwrap(), &FILE[..20], "what was there is still there");
}

#[tokio::test]
async fn another_file_never_comes_into_the_place() {
    let changed: Vec<u8> = FILE.iter().map(|byte| byte ^ 1).collect();
    let longer = [FILE, b"!"].concat();
    for body in [&changed[..], &longer] {
        let host = Host::open(vec![answer("200 OK", body)]).await;
        let place = Place::new();
        let error = place.fetch(&host).await.unwrap_err();
        assert!(matches!(error, FetchError::AnotherFile), "{error}");
        assert!(!place.path().exists() && !place.part().exists());
    }
    // Left by another version of the file: too long for this one.
    let host = Host::open(vec![answer("200 OK", FILE)]).await;
    let place = Place::new();
    fs::create_dir_all(place.path().parent().unwrap()).unwrap();
    fs::write(place.part(), &longer).unwrap();
    place.fetch(&host).await.unwrap();
    assert_eq!(fs::read(place.path()).unwrap(), FILE);
}

#[tokio::test]
async fn a_host_that_has_it_not_or_leads_in_circles_is_told() {
    let place = Place::new();
    let host = Host::open(vec![answer("404 No", b"no")]).await;
    let error = place.fetch(&host).await.unwrap_err();
    assert!(matches!(error, FetchError::Status(404)) && error.remedy().contains("another computer"), "{error}");
    let circle = vec![answer("302 Found\r\nLocation: /again", b""); 9];
    assert!(matches!(place.fetch(&Host::open(circle).await).await, Err(FetchError::Redirect)));
    let nowhere = Host::open(vec![answer("302 Found", b"")]).await;
    assert!(matches!(place.fetch(&nowhere).await, Err(FetchError::Redirect)));
}

#[tokio::test]
async fn a_host_that_falls_silent_is_given_up_and_what_came_is_kept() {
    let begin = (with_length("200 OK", FILE.len(), &FILE[..20]), true);
    let host = Host::open(vec![begin]).await;
    let place = Place::new();
    let client = HttpClient::new(&Roots::Public, Duration::from_secs(20)).unwrap();
    // From then on nothing moves but the clock.
    let progress = |bytes| {
        if bytes == 20 {
            tokio::time::pause()
        }
    };
    let error = fetch(&client, &place.wanted(&host), progress).await.unwrap_err();
    assert!(matches!(error, FetchError::Stalled), "{error}");
    assert_eq!(fs::read(place.part()).unwrap(), &FILE[..20]);
}
