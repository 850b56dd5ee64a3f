//! A call that has nothing to do with what a test does to the box: it is to go on.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use kolbox::{
    calls::CallState,
    simulator::media_client::{self, MediaSocket, OpenError},
    twilio::{
        media_stream_peer::MessageWriter,
        sid::{AccountSid, CallSid, StreamSid},
    },
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{interval, timeout},
};
use tokio_tungstenite::tungstenite::Message;

use crate::front::{Front, LONG, Secure, TOKEN, ask, form};

/// One `start`.
#[derive(Clone)]
pub struct Start {
    pub account: u64,
    pub call: CallSid,
    pub stream: u64,
    /// The `<Parameter>`s.
    pub call_sid: CallSid,
    pub token: String,
}

impl Start {
    /// What Twilio sends for this call's stream.
    pub fn of(call: CallSid, token: &str, stream: u64) -> Self {
        Self { account: 1, call, stream, call_sid: call, token: token.to_owned() }
    }

    pub fn writer(&self) -> MessageWriter {
        MessageWriter::new(
            AccountSid::from_number(self.account.into()),
            self.call,
            StreamSid::from_number(self.stream.into()),
        )
    }
}

impl Front {
    /// Answers this call; gives its stream's token.
    pub async fn answer(&self, webhooks: &mut Secure, call: CallSid) -> String {
        let (status, twiml) = ask(webhooks, &self.webhook("incoming_call", &form(call))).await.unwrap();
        assert_eq!(status, 200);
        let (_, token) = twiml.split_once(r#"<Parameter name="token" value=""#).unwrap();
        token.split('"').next().unwrap().to_owned()
    }

    /// A media socket with a valid signature, on which nothing is said yet.
    pub async fn media(&self) -> Result<MediaSocket, OpenError> {
        let url = format!("wss://{}/ws/twilio-media", self.address);
        Ok(media_client::open(self.tls.clone(), TOKEN, &url).await?.0)
    }

    /// A media socket that said this `start`.
    pub async fn started(&self, start: &Start) -> MediaSocket {
        let mut socket = self.media().await.unwrap();
        let parameters =
            [("call_sid".to_owned(), start.call_sid.to_string()), ("token".to_owned(), start.token.clone())];
        for text in [start.writer().write_connected(), start.writer().write_start(&parameters)] {
            socket.send(Message::text(text)).await.unwrap();
        }
        socket
    }

    /// A media socket whose `start` was believed: its tone is heard.
    pub async fn live(&self, start: &Start) -> MediaSocket {
        let mut socket = self.started(start).await;
        let tone = timeout(LONG, socket.next()).await.unwrap().unwrap().unwrap();
        assert!(tone.to_text().unwrap().contains(r#""event":"media""#), "{tone:?}");
        socket
    }
}

/// The call.
pub struct OtherCall {
    pub start: Start,
    webhooks: Secure,
    questions: mpsc::Sender<oneshot::Sender<u64>>,
}

impl OtherCall {
    const STREAM: u64 = 900;

    pub(crate) async fn begin(front: &Front) -> Self {
        let call = CallSid::from_number(900);
        let mut webhooks = front.secure().await;
        let token = front.answer(&mut webhooks, call).await;
        let start = Start::of(call, &token, Self::STREAM);
        let socket = front.live(&start).await;
        let (questions, asked) = mpsc::channel(1);
        tokio::spawn(speak(socket, start.writer(), asked));
        Self { start, webhooks, questions }
    }

    /// All frames up to now were heard, a webhook is answered, and the watchdog has nothing to say.
    pub async fn goes_on(&mut self, front: &Front) {
        let heard_before = front.metrics.media.frames.get();
        let (reply, answer) = oneshot::channel();
        self.questions.send(reply).await.expect("its media socket is closed");
        let sent = timeout(LONG, answer).await.unwrap().expect("its media socket was closed");
        assert!(front.metrics.media.frames.get() >= sent, "frames were lost");
        assert!(front.metrics.media.frames.get() > heard_before);
        let request = front.webhook("call_status", &form(self.start.call));
        let answer = match ask(&mut self.webhooks, &request).await {
            Some(answer) => answer,
            // Idle for too long.
            None => {
                self.webhooks = front.secure().await;
                ask(&mut self.webhooks, &request).await.unwrap()
            }
        };
        assert_eq!(answer.0, 204);
        let view = front.view.borrow().clone();
        let call = view.calls.iter().find(|call| call.call_sid == self.start.call).expect("the call is not known");
        assert_eq!((call.state, front.redirects()), (CallState::Streaming, 0));
    }
}

/// Says a frame every 20 ms. To each question, how many frames there were, once the box has read them all and a new one.
async fn speak(mut socket: MediaSocket, mut writer: MessageWriter, mut asked: mpsc::Receiver<oneshot::Sender<u64>>) {
    let (mut beat, mut sent) = (interval(Duration::from_millis(20)), 0);
    let mut question: Option<oneshot::Sender<u64>> = None;
    // The frames up to the ping of the current question.
    let mut pinged = None;
    loop {
        tokio::select! {
            _ = beat.tick() => {
                socket.send(Message::text(writer.write_media(sent * 20, &[0xff; 160]))).await.unwrap();
                sent += 1;
                if question.is_some() && pinged.is_none() {
                    pinged = Some(sent);
                    socket.send(Message::Ping("heard?".into())).await.unwrap();
                }
            }
            Some(asked) = asked.recv() => (question, pinged) = (Some(asked), None),
            message = socket.next() => match message {
                Some(Ok(Message::Pong(_))) => drop(question.take().map(|question| question.send(pinged.unwrap()))),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return,
                Some(Ok(_)) => {}
            },
        }
    }
}
