//! The desk's task: feeds it events and deadlines, and does what it says.

use std::{collections::HashMap, sync::Arc, time::Instant};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::sleep_until,
};

use super::{errands::Errands, reports};
use crate::{
    calls::{Answer, AttemptId, Desk, DeskView, Event, Output, Report, RequestId, SocketEnd, SocketId},
    server::desk_port::{SocketOrder, ToDesk},
    twilio::sid::CallSid,
};

/// The desk and everything it speaks to. Its maps are bounded by the connections that the listener admits.
pub(super) struct DeskLoop {
    desk: Desk,
    receiver: mpsc::Receiver<ToDesk>,
    errands: Arc<Errands>,
    view: watch::Sender<DeskView>,
    replies: HashMap<RequestId, oneshot::Sender<Answer>>,
    sockets: HashMap<SocketId, mpsc::Sender<SocketOrder>>,
    /// Done when the journal has what was last noted of a live call.
    noting: HashMap<CallSid, oneshot::Receiver<()>>,
    /// Tries of redirects that are not answered: to be told when they are seen to be taken, or are not wanted any more.
    redirecting: HashMap<AttemptId, (CallSid, oneshot::Sender<()>)>,
}

impl DeskLoop {
    pub(super) fn new(
        desk: Desk,
        receiver: mpsc::Receiver<ToDesk>,
        errands: Arc<Errands>,
        view: watch::Sender<DeskView>,
    ) -> Self {
        Self {
            desk,
            receiver,
            errands,
            view,
            replies: HashMap::new(),
            sockets: HashMap::new(),
            noting: HashMap::new(),
            redirecting: HashMap::new(),
        }
    }

    /// Runs until it is told to stop: then no deadline is kept any more.
    pub(super) async fn run(mut self, mut stop: oneshot::Receiver<()>) {
        self.perform();
        loop {
            let deadline = self.desk.poll_timeout().map(|(at, _)| at);
            let due = async {
                match deadline {
                    Some(at) => sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                message = self.receiver.recv() => match message {
                    Some(message) => self.handle(message),
                    None => return,
                },
                _ = &mut stop => return,
                () = due => self.desk.handle_timeout(Instant::now()),
            }
            self.perform();
            self.view.send_replace(self.desk.view());
        }
    }

    fn handle(&mut self, message: ToDesk) {
        let event = match message {
            ToDesk::Asked { event, request, reply } => {
                self.replies.insert(request, reply);
                event
            }
            ToDesk::SocketOpened { socket, orders } => {
                self.sockets.insert(socket, orders);
                return;
            }
            ToDesk::SocketGone { socket } => {
                self.sockets.remove(&socket);
                return;
            }
            ToDesk::Told(event) => {
                if let Event::RedirectAnswered { attempt, .. } = &event {
                    self.redirecting.remove(attempt);
                }
                event
            }
            ToDesk::Pinged { reply } => {
                let _ = reply.send(());
                return;
            }
        };
        self.desk.handle(event, Instant::now());
    }

    fn perform(&mut self) {
        while let Some(output) = self.desk.poll_output() {
            match output {
                Output::Answer { request, answer } => self.answer(request, answer),
                Output::AcceptStream { socket, stream } => self.order(socket, SocketOrder::Accept(stream)),
                Output::RefuseStream { socket, refusal } => self.order(socket, SocketOrder::Refuse(refusal)),
                Output::CloseStream { socket } => self.order(socket, SocketOrder::Close),
                Output::RememberCall(live) => drop(self.noting.insert(live.call_sid, self.errands.remember(live))),
                Output::Redirect { attempt, call_sid, prompt } => {
                    let (noted, (seen, taken)) = (self.noting.remove(&call_sid), oneshot::channel());
                    self.redirecting.insert(attempt, (call_sid, seen));
                    self.errands.redirect(attempt, call_sid, prompt, noted, taken);
                }
                Output::LookUpCall { attempt, call_sid, recordings } => {
                    self.errands.look_up(attempt, call_sid, recordings);
                }
                Output::KeepRecord { ended, request } => {
                    self.noting.remove(&ended.call_sid);
                    self.not_again(ended.call_sid);
                    let reply = request.and_then(|request| self.replies.remove(&request));
                    self.errands.keep(ended, reply);
                }
                Output::AnswerOnceKept { request, call_sid } => {
                    if let Some(reply) = self.replies.remove(&request) {
                        self.errands.answer_once_kept(call_sid, reply);
                    }
                }
                Output::Report(report) => {
                    if let Report::Redirected { call_sid, .. } = &report {
                        self.not_again(*call_sid);
                    }
                    reports::log(&report);
                }
            }
        }
    }

    /// This call's redirect is done with: a try that is not answered yet is not repeated.
    fn not_again(&mut self, call_sid: CallSid) {
        for (_, (_, seen)) in self.redirecting.extract_if(|_, (call, _)| *call == call_sid) {
            let _ = seen.send(());
        }
    }

    /// A webhook whose connection is gone hears nothing, and misses nothing: Twilio asks again or goes on.
    fn answer(&mut self, request: RequestId, answer: Answer) {
        if let Some(reply) = self.replies.remove(&request) {
            let _ = reply.send(answer);
        }
    }

    /// A stream whose connection is gone by the time it is accepted was lost; other orders are then void.
    fn order(&mut self, socket: SocketId, order: SocketOrder) {
        let sent = self.sockets.get(&socket).is_some_and(|orders| orders.try_send(order).is_ok());
        if let (false, SocketOrder::Accept(stream)) = (sent, order) {
            self.desk.handle(Event::StreamClosed { stream, end: SocketEnd::Lost }, Instant::now());
        }
    }
}
