//! A headless Chromium, driven by its DevTools protocol (<https://chromedevtools.github.io/devtools-protocol/>).

use std::{
    env,
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_tungstenite::{WebSocketStream, client_async, tungstenite::Message};

/// Far longer than anything takes, also on a machine that is busy with something else.
const PATIENCE: Duration = Duration::from_secs(60);
const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "chrome"];
const LISTENING: &str = "DevTools listening on ";

/// A browser with one open tab; dropped, it is killed.
pub struct Browser {
    child: Child,
    socket: WebSocketStream<TcpStream>,
    session: String,
    next_id: u64,
    /// What went wrong in the page: exceptions, `console.error`, what the Content-Security-Policy stopped, failed loads.
    pub problems: Vec<String>,
    _profile: TempDir,
    _complaints: BufReader<ChildStderr>,
}

/// The browser of this machine, if it has one. `KOLBOX_BROWSER` names another.
pub fn installed() -> Option<PathBuf> {
    if let Some(named) = env::var_os("KOLBOX_BROWSER") {
        return Some(named.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).flat_map(|folder| NAMES.map(|name| folder.join(name))).find(|program| program.is_file())
}

impl Browser {
    /// Starts it with a profile of its own and an empty tab.
    pub async fn start(program: PathBuf) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new(program)
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage"])
            .args(["--hide-scrollbars", "--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut complaints = BufReader::new(child.stderr.take().unwrap());
        let url = debugger_of(&mut complaints);
        let address = url.strip_prefix("ws://").and_then(|rest| rest.split('/').next()).unwrap();
        let (socket, _) = client_async(&url, TcpStream::connect(address).await.unwrap()).await.unwrap();
        let (session, next_id, problems) = (String::new(), 1, Vec::new());
        let mut browser =
            Self { child, socket, session, next_id, problems, _profile: profile, _complaints: complaints };
        let target = browser.command("Target.createTarget", json!({"url": "about:blank"})).await;
        let attach = json!({"targetId": target["targetId"], "flatten": true});
        let attached = browser.command("Target.attachToTarget", attach).await;
        browser.session = attached["sessionId"].as_str().unwrap().to_owned();
        for domain in ["Page.enable", "Runtime.enable", "Log.enable"] {
            browser.command(domain, json!({})).await;
        }
        browser
    }

    /// Opens a page, and waits until it is there.
    pub async fn open(&mut self, url: &str) {
        self.command("Page.navigate", json!({ "url": url })).await;
        let path = url.splitn(4, '/').nth(3).unwrap_or_default();
        self.until(&format!("document.readyState === 'complete' && location.href.endsWith({})", json!(path))).await;
    }

    /// The value of an expression in the page.
    pub async fn value(&mut self, expression: &str) -> Value {
        let asked = json!({"expression": expression, "awaitPromise": true, "returnByValue": true});
        self.command("Runtime.evaluate", asked).await["result"]["value"].clone()
    }

    /// The value of an expression in the page, as text.
    pub async fn text(&mut self, expression: &str) -> String {
        self.value(expression).await.as_str().unwrap_or_default().to_owned()
    }

    /// Waits until this holds in the page, or in one that comes after it.
    pub async fn until(&mut self, condition: &str) {
        let look = format!(
            "new Promise((held) => {{
                const look = () => {{ if ({condition}) held(true); }};
                new MutationObserver(look).observe(document, {{ subtree: true, childList: true, attributes: true, characterData: true }});
                ['load', 'focusin'].forEach((event) => addEventListener(event, look));
                look();
            }})"
        );
        let waiting = async {
            // A page that goes away takes its promise along: `undefined`.
            while self.value(&look).await != true {}
        };
        let held = tokio::time::timeout(PATIENCE, waiting).await;
        if held.is_err() {
            let page = self.text("document.documentElement.outerHTML").await;
            panic!("it never comes that {condition}\n{:?}\n{page}", self.problems);
        }
    }

    /// Carries out what may lead to another page.
    pub async fn act(&mut self, action: &str) {
        self.command("Runtime.evaluate", json!({"expression": action, "userGesture": true})).await;
    }

    /// Writes what the tab shows to `KOLBOX_PAGES`, where that is set, for a person to look at.
    pub async fn picture(&mut self, name: &str, width: u32, height: u32, scheme: &str) {
        let Some(folder) = env::var_os("KOLBOX_PAGES").map(PathBuf::from) else { return };
        let size = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600});
        self.command("Emulation.setDeviceMetricsOverride", size).await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.command("Emulation.setEmulatedMedia", features).await;
        let shot = self.command("Page.captureScreenshot", json!({"format": "png"})).await;
        let png = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, shot["data"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join(format!("{name}.png")), png).unwrap();
    }

    async fn command(&mut self, method: &str, parameters: Value) -> Value {
        let id = self.next_id;
        self.next_id += 1;
        let mut command = json!({"id": id, "method": method, "params": parameters});
        if !self.session.is_empty() {
            command["sessionId"] = self.session.clone().into();
        }
        self.socket.send(Message::text(command.to_string())).await.unwrap();
        loop {
            let message = self.socket.next().await.expect("the browser goes on").unwrap();
            let Ok(text) = message.to_text() else { continue };
            let said: Value = serde_json::from_str(text).unwrap();
            if said["id"] == id {
                return said["result"].clone();
            }
            self.problems.extend(problem(&said));
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn debugger_of(complaints: &mut BufReader<ChildStderr>) -> String {
    let mut all = String::new();
    loop {
        let begin = all.len();
        assert!(complaints.read_line(&mut all).unwrap() > 0, "the browser ended: {all}");
        if let Some(url) = all[begin..].trim().strip_prefix(LISTENING) {
            return url.to_owned();
        }
    }
}

fn problem(said: &Value) -> Option<String> {
    let parameters = &said["params"];
    match said["method"].as_str()? {
        "Runtime.exceptionThrown" => Some(parameters["exceptionDetails"].to_string()),
        "Runtime.consoleAPICalled" if parameters["type"] == "error" => Some(parameters["args"].to_string()),
        "Log.entryAdded" if parameters["entry"]["level"] == "error" => Some(parameters["entry"].to_string()),
        _ => None,
    }
}
