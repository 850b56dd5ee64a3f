//! A simulated call inside `<Connect><Stream>`. Pure.

use std::time::Instant;

use super::{Output, PhoneCall, Stage, Ticket};
use crate::{
    simulator::{
        document::StreamNoun,
        faults::StreamFault,
        peer_stream::PeerStream,
        report::Met,
        streaming::{Connect, StreamStep, Streaming},
    },
    twilio::sid::StreamSid,
};

impl PhoneCall {
    pub(super) fn connect(&mut self, mut connect: Connect, now: Instant) {
        self.story.meet(Met::Silence, now);
        if self.plan.faults.stream == StreamFault::NeverConnects {
            self.tally.fault_began = Some(now);
            self.stage = Stage::Hanging;
            return;
        }
        // Twilio drops the query of a stream's address.
        let length = connect.stream.url.find('?').unwrap_or(connect.stream.url.len());
        connect.stream.url.truncate(length);
        let (ticket, url) = (self.ticket(), connect.stream.url.clone());
        let secure = url.starts_with("wss://");
        self.stage = Stage::Opening { ticket, connect };
        if secure {
            self.outputs.push_back(Output::OpenSocket { ticket, url });
        } else {
            self.handle_socket_failed(ticket, 31922, now);
        }
    }

    pub(super) fn begin_stream(&mut self, ticket: Ticket, connect: Connect, now: Instant) {
        let stream_sid = StreamSid::from_number(self.number());
        let parties = &self.plan.parties;
        let peer = PeerStream::new(parties.account_sid, parties.call_sid, stream_sid, now);
        self.voice.restart();
        self.tally.heard_out = false;
        let (streaming, first) = Streaming::open(connect, peer, &self.plan.faults, self.plan.timing.frame, now);
        self.outputs.extend(first.into_iter().map(|text| Output::Send { ticket, text }));
        if streaming.has_started() {
            self.tally.streams_started += 1;
            let stream = streaming.connect.stream.clone();
            self.stream_callback(&stream, stream_sid, "stream-started", None, now);
        }
        self.stage = Stage::Streaming { ticket, streaming: Box::new(streaming) };
        self.step_stream(now);
    }

    pub(super) fn step_stream(&mut self, now: Instant) {
        let Stage::Streaming { ticket, streaming } = &mut self.stage else { return };
        let ticket = *ticket;
        let steps = streaming.handle_timeout(&mut self.voice, now);
        let met = if streaming.is_live() { Met::Stream } else { Met::Silence };
        self.tally.fault_began = self.tally.fault_began.or(streaming.fault_began());
        let loss_noticed = streaming.loss_noticed_at().is_some_and(|due| due <= now);
        self.story.meet(met, now);
        self.outputs.extend(steps.into_iter().map(|step| match step {
            StreamStep::Send(text) => Output::Send { ticket, text },
            StreamStep::Abort => Output::CloseSocket { ticket, abort: true },
        }));
        if loss_noticed {
            self.story.note("31903: the stream's connection broke".to_owned());
            self.end_stream("stream-error", Some("31903 Broken Pipe"), now);
        }
    }

    /// The server or the network ended the stream: Twilio goes on with the action, the next verb, or a hang-up.
    pub(super) fn end_stream(&mut self, event: &str, error: Option<&str>, now: Instant) {
        if let Some(connect) = self.close_stream(event, error, now) {
            self.leave_connect(connect, now);
        }
    }

    /// Takes the stream out of the call, and tells its status callback.
    pub(super) fn close_stream(&mut self, event: &str, error: Option<&str>, now: Instant) -> Option<Connect> {
        if !matches!(self.stage, Stage::Streaming { .. }) {
            return None;
        }
        let Stage::Streaming { streaming, .. } = std::mem::replace(&mut self.stage, Stage::Over) else { return None };
        self.tally.streamed += streaming.sent();
        self.tally.marks_echoed += streaming.peer.marks_echoed();
        self.tally.tone_heard |= streaming.peer.was_audible();
        if streaming.peer.invalid_messages() > 0 {
            self.story.note(format!("31951: {} messages were invalid", streaming.peer.invalid_messages()));
        }
        if streaming.has_started() {
            self.stream_callback(&streaming.connect.stream, streaming.peer.stream_sid(), event, error, now);
        }
        Some(streaming.connect)
    }

    pub(super) fn leave_connect(&mut self, connect: Connect, now: Instant) {
        match connect.action {
            Some(action) => {
                self.verbs.clear();
                self.ask(action, self.plan.parties.voice(self.status), now);
            }
            None => self.run_next(now),
        }
    }

    pub(super) fn stream_callback(
        &mut self,
        stream: &StreamNoun,
        sid: StreamSid,
        event: &str,
        error: Option<&str>,
        now: Instant,
    ) {
        let Some(url) = stream.status_callback.clone() else { return };
        let timestamp = self.timestamp(now);
        let form = self.plan.parties.stream_status(sid, stream.name.as_deref(), event, error, &timestamp);
        self.call_back(url, form);
    }
}
