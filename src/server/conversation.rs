//! What the box says through a stream: a tone when it begins, and goodbye to a caller who says nothing. Pure.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{
    limits::{GOODBYE_INTERRUPT_MIN, GOODBYE_MARGIN, GOODBYES_INTERRUPTED_MAX},
    speech::{
        audio::{self, SAMPLE_RATE_HZ},
        silence::CallerSilence,
    },
    twilio::media_stream::StreamHandle,
};

/// The mark behind the tone. It comes back when the tone was played: proof of the way out.
const TONE_MARK: &str = "tone";
/// Audio goes out in messages of a second: the peer buffers it and plays it in order.
const OUTBOUND_BYTES: usize = SAMPLE_RATE_HZ as usize;

/// How every conversation goes.
#[derive(Debug, Clone)]
pub struct ConversationOptions {
    /// Goodbye after this long without speech; zero: never.
    pub caller_silence: Duration,
    /// Played at once: the caller's sign to speak. μ-law; empty: none.
    pub tone: Arc<[u8]>,
    /// Played at the end. μ-law; `None`: the conversation ends without, and Twilio speaks.
    pub goodbye: Option<Arc<[u8]>>,
}

/// What is to be done, and what is worth a line in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConversationOutput {
    /// Send this message to the stream.
    Send(String),
    /// The tone was played, so long after it was sent.
    ToneHeard { after: Duration },
    /// Nobody spoke for so long: the goodbye begins.
    GoodbyeStarted { silent: Duration },
    /// The caller spoke during the goodbye, and is listened to again.
    GoodbyeInterrupted,
    /// The goodbye was played: close the stream.
    Over,
}

/// The conversation on one accepted stream.
#[derive(Debug)]
pub struct Conversation {
    options: Arc<ConversationOptions>,
    handle: StreamHandle,
    silence: CallerSilence,
    tone_sent: Option<Instant>,
    goodbye: Option<Goodbye>,
    /// How many goodbyes were begun: each has a mark of its own.
    goodbyes: u32,
    outputs: VecDeque<ConversationOutput>,
}

/// A goodbye that is being played.
#[derive(Debug)]
struct Goodbye {
    mark: String,
    /// When it counts as played even if its mark has not come back.
    until: Instant,
}

impl Conversation {
    /// Begins, with the tone.
    pub fn new(options: Arc<ConversationOptions>, handle: StreamHandle, now: Instant) -> Self {
        let mut outputs = VecDeque::new();
        let has_tone = !options.tone.is_empty();
        if has_tone {
            outputs.push_back(ConversationOutput::Send(handle.media(&options.tone)));
            outputs.push_back(ConversationOutput::Send(handle.mark(TONE_MARK)));
        }
        Self {
            options,
            handle,
            silence: CallerSilence::new(),
            tone_sent: has_tone.then_some(now),
            goodbye: None,
            goodbyes: 0,
            outputs,
        }
    }

    /// The caller's audio in μ-law, and how much is missing before it. Allocates nothing, but where a goodbye begins or is
    /// interrupted.
    pub fn handle_audio(&mut self, ulaw: &[u8], missing: Duration, now: Instant) {
        if self.options.caller_silence.is_zero() {
            return;
        }
        self.silence.handle_audio(ulaw, missing);
        let silent = self.silence.silent();
        if self.goodbye.is_some() {
            let is_speech = self.silence.speaking() >= GOODBYE_INTERRUPT_MIN;
            if is_speech && self.goodbyes <= GOODBYES_INTERRUPTED_MAX {
                self.goodbye = None;
                self.send(self.handle.clear());
                self.outputs.push_back(ConversationOutput::GoodbyeInterrupted);
            }
        } else if silent >= self.options.caller_silence {
            self.outputs.push_back(ConversationOutput::GoodbyeStarted { silent });
            self.say_goodbye(now);
        }
    }

    /// A mark came back.
    pub fn handle_mark(&mut self, name: &str, now: Instant) {
        if name == TONE_MARK {
            if let Some(sent) = self.tone_sent.take() {
                self.outputs.push_back(ConversationOutput::ToneHeard { after: now.saturating_duration_since(sent) });
            }
        } else if self.goodbye.as_ref().is_some_and(|goodbye| goodbye.mark == name) {
            // The mark of a goodbye that was cleared comes back too, and is not the one awaited.
            self.outputs.push_back(ConversationOutput::Over);
        }
    }

    /// Time has passed: a goodbye whose mark does not come back was played, or cannot be.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.goodbye.as_ref().is_some_and(|goodbye| goodbye.until <= now) {
            self.outputs.push_back(ConversationOutput::Over);
        }
    }

    /// When to call [`Self::handle_timeout`], and what for.
    pub fn poll_timeout(&self) -> Option<(Instant, &'static str)> {
        self.goodbye.as_ref().map(|goodbye| (goodbye.until, "the goodbye's mark"))
    }

    /// What to do next; to be drained before the next `handle_*`.
    pub fn poll_output(&mut self) -> Option<ConversationOutput> {
        self.outputs.pop_front()
    }

    /// The stream that it is held on.
    pub fn handle(&self) -> &StreamHandle {
        &self.handle
    }

    fn say_goodbye(&mut self, now: Instant) {
        let Some(goodbye) = self.options.goodbye.clone() else {
            return self.outputs.push_back(ConversationOutput::Over);
        };
        self.goodbyes += 1;
        let mark = format!("goodbye-{}", self.goodbyes);
        for part in goodbye.chunks(OUTBOUND_BYTES) {
            self.send(self.handle.media(part));
        }
        self.send(self.handle.mark(&mark));
        self.goodbye = Some(Goodbye { mark, until: now + audio::duration(goodbye.len()) + GOODBYE_MARGIN });
    }

    fn send(&mut self, message: String) {
        self.outputs.push_back(ConversationOutput::Send(message));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::twilio::{
        media_stream::{Inbound, parse},
        sid::{CallSid, StreamSid},
    };

    const SECOND: Duration = Duration::from_secs(1);

    fn handle() -> StreamHandle {
        let (call_sid, stream_sid) = (CallSid::from_number(1), StreamSid::from_number(1));
        let text = format!(r#"{{"event":"start","streamSid":"{stream_sid}","start":{{"callSid":"{call_sid}"}}}}"#);
        let Ok(Inbound::Start(start)) = parse(&text) else { panic!("no start") };
        start.handle()
    }

    /// A conversation past its tone, with 2 s of patience and a goodbye of 1.5 s.
    fn conversation(now: Instant) -> Conversation {
        let mut conversation = Conversation::new(
            Arc::new(ConversationOptions {
                caller_silence: 2 * SECOND,
                tone: [0x55; 1_600].into(),
                goodbye: Some([0x2a; 12_000].into()),
            }),
            handle(),
            now,
        );
        assert_eq!(outputs(&mut conversation), [send(handle().media(&[0x55; 1_600])), send(handle().mark("tone"))]);
        conversation
    }

    fn outputs(conversation: &mut Conversation) -> Vec<ConversationOutput> {
        std::iter::from_fn(|| conversation.poll_output()).collect()
    }

    fn send(message: String) -> ConversationOutput {
        ConversationOutput::Send(message)
    }

    fn goodbye(mark: &str) -> Vec<ConversationOutput> {
        vec![
            ConversationOutput::GoodbyeStarted { silent: 2 * SECOND },
            send(handle().media(&[0x2a; 8_000])),
            send(handle().media(&[0x2a; 4_000])),
            send(handle().mark(mark)),
        ]
    }

    fn listen(conversation: &mut Conversation, sound: &[u8], now: Instant) -> Vec<ConversationOutput> {
        sound.chunks(160).for_each(|frame| conversation.handle_audio(frame, Duration::ZERO, now));
        outputs(conversation)
    }

    fn silence(length: Duration) -> Vec<u8> {
        vec![0xff; length.as_millis() as usize * 8]
    }

    fn voice(length: Duration) -> Vec<u8> {
        audio::encode(&audio::tone(300.0, length, 0.3))
    }

    #[test]
    fn the_tones_mark_proves_the_way_out_once() {
        let now = Instant::now();
        let mut conversation = conversation(now);
        conversation.handle_mark("tone", now + SECOND);
        conversation.handle_mark("tone", now + 2 * SECOND);
        assert_eq!(outputs(&mut conversation), [ConversationOutput::ToneHeard { after: SECOND }]);
    }

    #[test]
    fn a_caller_who_says_nothing_hears_goodbye_and_it_is_over_when_its_mark_comes_back() {
        let now = Instant::now();
        let mut conversation = conversation(now);
        assert_eq!(listen(&mut conversation, &silence(Duration::from_millis(1_980)), now), []);
        assert_eq!(conversation.poll_timeout(), None);
        assert_eq!(listen(&mut conversation, &silence(Duration::from_millis(20)), now), goodbye("goodbye-1"));
        assert_eq!(listen(&mut conversation, &silence(SECOND), now), []);
        conversation.handle_mark("somebody else's", now);
        assert_eq!(outputs(&mut conversation), []);
        conversation.handle_mark("goodbye-1", now);
        assert_eq!(outputs(&mut conversation), [ConversationOutput::Over]);
    }

    #[test]
    fn a_goodbye_whose_mark_never_comes_is_over_after_its_length_and_three_seconds() {
        let now = Instant::now();
        let mut conversation = conversation(now);
        listen(&mut conversation, &silence(2 * SECOND), now);
        let (due, _) = conversation.poll_timeout().unwrap();
        assert_eq!(due, now + Duration::from_millis(4_500));
        conversation.handle_timeout(due - Duration::from_millis(1));
        assert_eq!(outputs(&mut conversation), []);
        conversation.handle_timeout(due);
        assert_eq!(outputs(&mut conversation), [ConversationOutput::Over]);
    }

    #[test]
    fn a_caller_who_speaks_during_the_goodbye_is_listened_to() {
        let now = Instant::now();
        let mut conversation = conversation(now);
        listen(&mut conversation, &silence(2 * SECOND), now);
        let heard = listen(&mut conversation, &voice(SECOND), now);
        assert_eq!(heard, [send(handle().clear()), ConversationOutput::GoodbyeInterrupted]);
        conversation.handle_mark("goodbye-1", now);
        assert_eq!(outputs(&mut conversation), [], "what `clear` sent back is no goodbye that was heard");
        assert_eq!(conversation.poll_timeout(), None);
        let heard = listen(&mut conversation, &silence(3 * SECOND), now);
        assert_eq!(heard, goodbye("goodbye-2"), "the next silence is counted from the caller's last word");
    }

    #[test]
    fn a_cough_does_not_interrupt_the_goodbye() {
        let now = Instant::now();
        let mut conversation = conversation(now);
        listen(&mut conversation, &silence(2 * SECOND), now);
        assert_eq!(listen(&mut conversation, &voice(Duration::from_millis(100)), now), []);
    }

    #[test]
    fn an_echo_that_answers_every_goodbye_does_not_hold_the_call_for_ever() {
        let now = Instant::now();
        let mut conversation = conversation(now);
        let mut interrupted = 0;
        while conversation.poll_timeout().is_none() {
            listen(&mut conversation, &silence(3 * SECOND), now);
            let heard = listen(&mut conversation, &voice(SECOND), now);
            interrupted += heard.iter().filter(|output| **output == ConversationOutput::GoodbyeInterrupted).count();
        }
        assert_eq!(interrupted, GOODBYES_INTERRUPTED_MAX as usize);
    }

    #[test]
    fn somebody_who_speaks_now_and_then_is_never_sent_away() {
        let now = Instant::now();
        let mut conversation = conversation(now);
        for _ in 0..100 {
            assert_eq!(listen(&mut conversation, &voice(SECOND / 2), now), []);
            assert_eq!(listen(&mut conversation, &silence(2 * SECOND), now), []);
        }
    }

    #[test]
    fn a_stream_that_stands_still_is_no_silence() {
        let now = Instant::now();
        let mut conversation = conversation(now);
        listen(&mut conversation, &silence(SECOND), now);
        assert_eq!(listen(&mut conversation, &silence(SECOND / 2), now + 3_600 * SECOND), []);
    }

    #[test]
    fn without_a_goodbye_it_is_over_at_once_and_with_zero_patience_never() {
        let now = Instant::now();
        let with = |caller_silence, goodbye| {
            let options = ConversationOptions { caller_silence, tone: [].into(), goodbye };
            let mut conversation = Conversation::new(Arc::new(options), handle(), now);
            assert_eq!(outputs(&mut conversation), [], "no tone, no mark");
            listen(&mut conversation, &silence(10 * SECOND), now)
        };
        assert_eq!(
            with(10 * SECOND, None),
            [ConversationOutput::GoodbyeStarted { silent: 10 * SECOND }, ConversationOutput::Over]
        );
        assert_eq!(with(Duration::ZERO, Some([0x2a; 800].into())), []);
    }
}
