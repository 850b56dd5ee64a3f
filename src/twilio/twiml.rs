//! TwiML documents, through an XML writer: what the box tells Twilio to do with a call.

use std::borrow::Cow;

use quick_xml::{
    Writer,
    events::{BytesDecl, BytesEnd, BytesStart, BytesText, Event},
};

/// A document being written: verbs in the order in which Twilio runs them.
///
/// Attribute values and text are escaped; characters that XML 1.0 forbids are left out, since one of them would make
/// Twilio drop the whole document (error 12100).
pub struct Twiml {
    writer: Writer<Vec<u8>>,
}

/// `<Connect><Stream>`: the call's audio goes both ways through a WebSocket (docs: TwiML Voice: Stream). No `Debug`: a
/// stream's token is among its parameters.
#[derive(Clone, Copy)]
pub struct ConnectStream<'a> {
    /// Absolute URL that Twilio asks when the stream has ended.
    pub action: &'a str,
    /// Absolute `wss` URL without a query: Twilio drops everything from the `?` on.
    pub url: &'a str,
    /// Absolute URL that is told of stream-started, stream-stopped and stream-error.
    pub status_callback: &'a str,
    /// Names and values that come back in `start`; a name and its value stay under 500 characters together.
    pub parameters: &'a [(&'a str, &'a str)],
}

/// `<Record>` (docs: TwiML Voice: Record). Absolute URLs: a document sent by REST has no base (error 15004).
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Absolute URL that Twilio asks what follows; without it Twilio would run the same document for ever.
    pub action: &'a str,
    /// Absolute URL that is told when the file is there, or that there is none.
    pub recording_status_callback: &'a str,
    /// Seconds of silence that end it.
    pub timeout_s: u32,
    /// Seconds after which it ends anyway.
    pub max_length_s: u32,
    pub play_beep: bool,
}

impl Default for Twiml {
    fn default() -> Self {
        Self::new()
    }
}

impl Twiml {
    /// A document without verbs: Twilio ends the call, or does nothing where nobody listens any more.
    pub fn new() -> Self {
        let mut twiml = Self { writer: Writer::new(Vec::with_capacity(512)) };
        twiml.write(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)));
        twiml.open("Response", &[]);
        twiml
    }

    /// Plays the audio file at this absolute URL.
    pub fn play(mut self, url: &str) -> Self {
        self.verb_with_text("Play", &[], url);
        self
    }

    /// Speaks this text; `language` such as `he-IL`, `voice` by Twilio's name.
    pub fn say(mut self, language: &str, voice: &str, text: &str) -> Self {
        self.verb_with_text("Say", &[("language", language), ("voice", voice)], text);
        self
    }

    /// Streams until the socket or the call ends. The next verb is never reached: `action` decides what follows.
    pub fn connect_stream(mut self, stream: ConnectStream<'_>) -> Self {
        self.open("Connect", &[("action", stream.action), ("method", "POST")]);
        self.open(
            "Stream",
            &[("url", stream.url), ("statusCallback", stream.status_callback), ("statusCallbackMethod", "POST")],
        );
        for (name, value) in stream.parameters {
            self.empty("Parameter", &[("name", name), ("value", value)]);
        }
        self.close("Stream");
        self.close("Connect");
        self
    }

    /// Records the caller. `#` alone ends it, so that a brushed key does not cut the message, and silence is not
    /// trimmed, so that the file is as long as the message was. A following verb is reached only if Twilio found
    /// nothing to record.
    pub fn record(mut self, record: Record<'_>) -> Self {
        self.empty(
            "Record",
            &[
                ("action", record.action),
                ("method", "POST"),
                ("recordingStatusCallback", record.recording_status_callback),
                ("recordingStatusCallbackMethod", "POST"),
                ("recordingStatusCallbackEvent", "in-progress completed absent"),
                ("timeout", &record.timeout_s.to_string()),
                ("maxLength", &record.max_length_s.to_string()),
                ("finishOnKey", "#"),
                ("playBeep", if record.play_beep { "true" } else { "false" }),
                ("trim", "do-not-trim"),
            ],
        );
        self
    }

    /// Ends the call.
    pub fn hangup(mut self) -> Self {
        self.empty("Hangup", &[]);
        self
    }

    /// The whole document.
    pub fn into_string(mut self) -> String {
        self.close("Response");
        String::from_utf8(self.writer.into_inner()).expect("only strings were written")
    }

    fn verb_with_text(&mut self, name: &'static str, attributes: &[(&str, &str)], text: &str) {
        self.open(name, attributes);
        self.write(Event::Text(BytesText::new(&xml_characters(text))));
        self.close(name);
    }

    fn open(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.write(Event::Start(element(name, attributes)));
    }

    fn empty(&mut self, name: &'static str, attributes: &[(&str, &str)]) {
        self.write(Event::Empty(element(name, attributes)));
    }

    fn close(&mut self, name: &'static str) {
        self.write(Event::End(BytesEnd::new(name)));
    }

    fn write(&mut self, event: Event<'_>) {
        self.writer.write_event(event).expect("memory takes every write");
    }
}

fn element(name: &'static str, attributes: &[(&str, &str)]) -> BytesStart<'static> {
    let mut element = BytesStart::new(name);
    for (key, value) in attributes {
        element.push_attribute((*key, xml_characters(value).as_ref()));
    }
    element
}

/// The text without what XML 1.0 (section 2.2, `Char`) forbids.
fn xml_characters(text: &str) -> Cow<'_, str> {
    let allowed = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{fffd}' | '\u{10000}'..);
    if text.chars().all(allowed) {
        Cow::Borrowed(text)
    } else {
        Cow::Owned(text.chars().filter(|c| allowed(*c)).collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use quick_xml::Reader;

    use super::*;

    const HEAD: &str = r#"<?xml version="1.0" encoding="UTF-8"?>"#;

    #[test]
    fn a_streamed_call_is_greeted_and_connected_with_its_parameters() {
        let document = Twiml::new()
            .play("https://gw.example.co.il/static/tts/greeting_he.mp3")
            .connect_stream(ConnectStream {
                action: "https://gw.example.co.il/webhook/stream_ended",
                url: "wss://gw.example.co.il/ws/twilio-media",
                status_callback: "https://gw.example.co.il/webhook/stream_status",
                parameters: &[("call_sid", "CA1"), ("token", "a\"<&>'b")],
            })
            .into_string();
        let expected = [
            HEAD,
            "<Response>",
            "<Play>https://gw.example.co.il/static/tts/greeting_he.mp3</Play>",
            r#"<Connect action="https://gw.example.co.il/webhook/stream_ended" method="POST">"#,
            r#"<Stream url="wss://gw.example.co.il/ws/twilio-media""#,
            r#" statusCallback="https://gw.example.co.il/webhook/stream_status" statusCallbackMethod="POST">"#,
            r#"<Parameter name="call_sid" value="CA1"/>"#,
            r#"<Parameter name="token" value="a&quot;&lt;&amp;&gt;&apos;b"/>"#,
            "</Stream></Connect></Response>",
        ];
        assert_eq!(document, expected.concat());
    }

    #[test]
    fn a_fallback_plays_records_and_hangs_up() {
        let document = Twiml::new()
            .say("he-IL", "Google.he-IL-Wavenet-A", "שלום & ברכה")
            .record(Record {
                action: "https://gw.example.co.il/a?b=1&c=2",
                recording_status_callback: "https://gw.example.co.il/r",
                timeout_s: 4,
                max_length_s: 30,
                play_beep: false,
            })
            .hangup()
            .into_string();
        let expected = [
            HEAD,
            "<Response>",
            r#"<Say language="he-IL" voice="Google.he-IL-Wavenet-A">שלום &amp; ברכה</Say>"#,
            r#"<Record action="https://gw.example.co.il/a?b=1&amp;c=2" method="POST""#,
            r#" recordingStatusCallback="https://gw.example.co.il/r" recordingStatusCallbackMethod="POST""#,
            r#" recordingStatusCallbackEvent="in-progress completed absent" timeout="4" maxLength="30""#,
            r##" finishOnKey="#" playBeep="false" trim="do-not-trim"/>"##,
            "<Hangup/></Response>",
        ];
        assert_eq!(document, expected.concat());
    }

    #[test]
    fn a_document_without_verbs_is_still_a_document() {
        assert_eq!(Twiml::new().into_string(), format!("{HEAD}<Response></Response>"));
    }

    #[test]
    fn characters_that_xml_forbids_are_left_out() {
        let document = Twiml::new().play("a\u{0}b\u{8}c\u{fffe}d\u{1f600}\n").into_string();
        assert!(document.contains("<Play>abcd\u{1f600}\n</Play>"), "{document}");
    }

    proptest! {
        #[test]
        fn any_text_gives_a_document_that_an_xml_reader_accepts(text in any::<String>(), voice in any::<String>()) {
            let document = Twiml::new().say("he-IL", &voice, &text).hangup().into_string();
            let mut reader = Reader::from_str(&document);
            while !matches!(reader.read_event().unwrap(), Event::Eof) {}
        }
    }
}
