//! Reads TwiML as Twilio does: a document becomes the list of verbs that a simulated call obeys.

use std::{fmt, time::Duration};

use quick_xml::{
    Reader, XmlVersion,
    events::{BytesRef, BytesStart, Event},
};
use url::Url;

/// Largest document that Twilio takes from a webhook, in bytes (error 11750).
pub const DOCUMENT_BYTES_MAX: usize = 64 * 1024;
/// Verbs kept of one document; more would be a generator gone wild, and is refused as malformed.
const VERBS_MAX: usize = 256;

/// A document, ready to be obeyed. URLs stand as they were written; [`resolve`] makes them absolute.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Document {
    pub verbs: Vec<Verb>,
    /// Names that the schema does not know: Twilio logs warning 12200 for each and goes on.
    pub warnings: Vec<String>,
}

/// One instruction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verb {
    /// Fetch a sound and play it `times` times.
    Play { url: String, times: u32 },
    /// Speak a text.
    Say { text: String, times: u32 },
    /// Wait.
    Pause { length: Duration },
    /// Open a bidirectional stream, and stay until it ends.
    Connect { action: Option<String>, stream: StreamNoun },
    /// Record the caller.
    Record(RecordVerb),
    /// Go on with another document.
    Redirect { url: String },
    /// End the call.
    Hangup,
    /// Refuse a call that was not answered yet.
    Reject,
}

/// `<Stream>` inside `<Connect>`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct StreamNoun {
    pub url: String,
    pub name: Option<String>,
    pub status_callback: Option<String>,
    pub parameters: Vec<(String, String)>,
}

/// `<Record>`, with Twilio's defaults for what was left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordVerb {
    pub action: Option<String>,
    /// Silence that ends it; zero: never.
    pub timeout: Duration,
    pub max_length: Duration,
    pub finish_on_key: String,
    pub play_beep: bool,
    pub status_callback: Option<String>,
    pub callback_in_progress: bool,
    pub callback_completed: bool,
    pub callback_absent: bool,
}

impl Default for RecordVerb {
    fn default() -> Self {
        Self {
            action: None,
            timeout: Duration::from_secs(5),
            max_length: Duration::from_secs(3600),
            finish_on_key: "1234567890*#".to_owned(),
            play_beep: true,
            status_callback: None,
            callback_in_progress: false,
            callback_completed: true,
            callback_absent: false,
        }
    }
}

/// Why Twilio cannot run a document, with its code in the error dictionary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DocumentError {
    /// 11750: larger than 64 kB.
    TooLarge,
    /// 12100: no well-formed XML with a `<Response>`.
    Malformed(String),
    /// 12200: well-formed, but a verb lacks what it needs or has a value that cannot be used.
    Unusable(String),
    /// 15004: a relative action where there is no document address to resolve it against.
    RelativeAction(String),
    /// 11100: an address that is no absolute URL where one is needed, or none at all.
    BadAddress(String),
}

impl DocumentError {
    /// The number in Twilio's error dictionary.
    pub fn code(&self) -> u32 {
        match self {
            Self::TooLarge => 11750,
            Self::Malformed(_) => 12100,
            Self::Unusable(_) => 12200,
            Self::RelativeAction(_) => 15004,
            Self::BadAddress(_) => 11100,
        }
    }
}

impl fmt::Display for DocumentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => write!(f, "11750: the document is larger than 64 kB"),
            Self::Malformed(why) => write!(f, "12100: {why}"),
            Self::Unusable(why) => write!(f, "12200: {why}"),
            Self::RelativeAction(address) => write!(f, "15004: the action {address:?} is relative"),
            Self::BadAddress(address) => write!(f, "11100: {address:?} is no absolute URL"),
        }
    }
}

impl std::error::Error for DocumentError {}

impl Document {
    /// Reads a document. Nothing may stand before `<?xml`, names are case-sensitive, `<Response>` is the root.
    pub fn parse(text: &str) -> Result<Self, DocumentError> {
        if text.len() > DOCUMENT_BYTES_MAX {
            return Err(DocumentError::TooLarge);
        }
        let mut parser = Parser::new(text);
        parser.read()?;
        if !parser.closed {
            return Err(DocumentError::Malformed("no <Response>".to_owned()));
        }
        Ok(parser.document)
    }

    /// What Twilio refuses in a document given by REST for a live call, which has no address of its own:
    /// a relative action (15004), a `<Record>` without action (11100), any other relative URL (11100).
    pub fn check_without_base(&self) -> Result<(), DocumentError> {
        for verb in &self.verbs {
            match verb {
                Verb::Play { url, .. } | Verb::Redirect { url } => absolute(url).map(drop)?,
                Verb::Connect { action, stream } => {
                    action.as_deref().map_or(Ok(()), absolute_action)?;
                    absolute(&stream.url).map(drop)?;
                }
                Verb::Record(record) => match record.action.as_deref() {
                    None => return Err(DocumentError::BadAddress(String::new())),
                    Some(action) => absolute_action(action)?,
                },
                Verb::Say { .. } | Verb::Pause { .. } | Verb::Hangup | Verb::Reject => {}
            }
        }
        Ok(())
    }
}

/// An address of a document, made absolute against the document's own address if it has one.
pub fn resolve(base: Option<&str>, address: &str) -> Result<String, DocumentError> {
    let Some(base) = base else { return absolute(address).map(|_| address.to_owned()) };
    // An absolute one goes out as it was written: what the signature covers must not be rewritten on the way.
    if absolute(address).is_ok() {
        return Ok(address.to_owned());
    }
    absolute(base)?.join(address).map(String::from).map_err(|_| DocumentError::BadAddress(address.to_owned()))
}

fn absolute(address: &str) -> Result<Url, DocumentError> {
    Url::parse(address).map_err(|_| DocumentError::BadAddress(address.to_owned()))
}

fn absolute_action(address: &str) -> Result<(), DocumentError> {
    absolute(address).map(drop).map_err(|_| DocumentError::RelativeAction(address.to_owned()))
}

/// A walk over the XML: at most one verb and one noun are open at a time.
struct Parser<'a> {
    reader: Reader<&'a [u8]>,
    document: Document,
    /// Element names from the root down.
    path: Vec<String>,
    /// The verb whose end was not met yet, and the text in it.
    open: Option<(Verb, String)>,
    closed: bool,
}

impl<'a> Parser<'a> {
    fn new(text: &'a str) -> Self {
        let mut reader = Reader::from_str(text);
        reader.config_mut().expand_empty_elements = true;
        Self { reader, document: Document::default(), path: Vec::new(), open: None, closed: false }
    }

    fn read(&mut self) -> Result<(), DocumentError> {
        let mut first = true;
        loop {
            match self.reader.read_event().map_err(malformed)? {
                Event::Start(element) => self.start(&element)?,
                Event::End(_) => self.end(),
                Event::Text(text) if self.path.is_empty() && (first || !text.trim().is_empty()) => {
                    return Err(DocumentError::Malformed("text outside of <Response>".to_owned()));
                }
                Event::Text(text) => self.text(&text.xml10_content()),
                Event::CData(text) => self.text(&text.xml10_content()),
                Event::GeneralRef(reference) => self.reference(&reference)?,
                Event::Eof if self.path.is_empty() => return Ok(()),
                Event::Eof => return Err(DocumentError::Malformed("the document ends too early".to_owned())),
                Event::DocType(_) => return Err(DocumentError::Malformed("a document type".to_owned())),
                Event::Empty(_) | Event::Comment(_) | Event::Decl(_) | Event::PI(_) => {}
            }
            first = false;
        }
    }

    fn start(&mut self, element: &BytesStart<'_>) -> Result<(), DocumentError> {
        let name = element.name().0.to_owned();
        let attributes = Attributes::read(element)?;
        match self.path.len() {
            0 if name != "Response" || self.closed => {
                return Err(DocumentError::Malformed(format!("<{name}> where <Response> belongs")));
            }
            0 => {}
            1 => self.verb(&name, attributes)?,
            _ => self.noun(&name, attributes)?,
        }
        self.path.push(name);
        Ok(())
    }

    fn verb(&mut self, name: &str, mut attributes: Attributes) -> Result<(), DocumentError> {
        if self.document.verbs.len() >= VERBS_MAX {
            return Err(DocumentError::Malformed("too many verbs".to_owned()));
        }
        let verb = match name {
            "Play" => Verb::Play { url: String::new(), times: attributes.number("loop", 1)? },
            "Say" => {
                attributes.ignore(&["language", "voice"]);
                Verb::Say { text: String::new(), times: attributes.number("loop", 1)? }
            }
            "Pause" => Verb::Pause { length: Duration::from_secs(attributes.number("length", 1)?.into()) },
            "Connect" => {
                attributes.ignore(&["method"]);
                Verb::Connect { action: attributes.take("action"), stream: StreamNoun::default() }
            }
            "Record" => Verb::Record(record(&mut attributes)?),
            "Redirect" => {
                attributes.ignore(&["method"]);
                Verb::Redirect { url: String::new() }
            }
            "Hangup" => Verb::Hangup,
            "Reject" => {
                attributes.ignore(&["reason"]);
                Verb::Reject
            }
            unknown => {
                self.document.warnings.push(format!("<{unknown}>"));
                return Ok(());
            }
        };
        self.document.warnings.extend(attributes.left(name));
        self.open = Some((verb, String::new()));
        Ok(())
    }

    fn noun(&mut self, name: &str, mut attributes: Attributes) -> Result<(), DocumentError> {
        let inside = self.path.last().map_or("", String::as_str);
        let Some((Verb::Connect { stream, .. }, _)) = &mut self.open else {
            // SSML inside <Say>, or a noun of a verb that is not simulated: its text still counts.
            return Ok(());
        };
        match (inside, name) {
            ("Connect", "Stream") => {
                attributes.ignore(&["statusCallbackMethod"]);
                stream.url = attributes.take("url").unwrap_or_default();
                stream.name = attributes.take("name");
                stream.status_callback = attributes.take("statusCallback");
                if attributes.take("track").is_some_and(|track| track != "inbound_track") {
                    return Err(DocumentError::Unusable("31941: <Connect> streams the inbound track only".to_owned()));
                }
            }
            ("Stream", "Parameter") => {
                let name = attributes.take("name").unwrap_or_default();
                let value = attributes.take("value").unwrap_or_default();
                if name.len() + value.len() >= 500 {
                    return Err(DocumentError::Unusable(format!("the <Parameter> {name:?} is too long")));
                }
                stream.parameters.push((name, value));
            }
            _ => self.document.warnings.push(format!("<{name}> in <{inside}>")),
        }
        self.document.warnings.extend(attributes.left(name));
        Ok(())
    }

    fn text(&mut self, text: &str) {
        if let Some((_, inside)) = &mut self.open {
            inside.push_str(text);
        }
    }

    fn reference(&mut self, reference: &BytesRef<'_>) -> Result<(), DocumentError> {
        let resolved = match reference.resolve_char_ref().map_err(malformed)? {
            Some(character) => character.to_string(),
            None => quick_xml::escape::resolve_predefined_entity(&reference.xml10_content())
                .ok_or_else(|| DocumentError::Malformed("an unknown entity".to_owned()))?
                .to_owned(),
        };
        self.text(&resolved);
        Ok(())
    }

    fn end(&mut self) {
        self.path.pop();
        if self.path.is_empty() {
            self.closed = true;
        }
        if self.path.len() != 1 {
            return;
        }
        let Some((mut verb, inside)) = self.open.take() else { return };
        let inside = inside.trim();
        match &mut verb {
            Verb::Play { url, .. } | Verb::Redirect { url } => inside.clone_into(url),
            Verb::Say { text, .. } => inside.clone_into(text),
            _ => {}
        }
        self.document.verbs.push(verb);
    }
}

fn record(attributes: &mut Attributes) -> Result<RecordVerb, DocumentError> {
    let default = RecordVerb::default();
    let events = attributes.take("recordingStatusCallbackEvent");
    let subscribed = |event: &str, unset: bool| {
        events.as_deref().map_or(unset, |list| list.split_ascii_whitespace().any(|word| word == event))
    };
    let max_length = attributes.number("maxLength", 3600)?;
    if max_length < 2 {
        return Err(DocumentError::Unusable("maxLength must be greater than 1".to_owned()));
    }
    attributes.ignore(&["method", "trim", "recordingStatusCallbackMethod", "transcribe", "transcribeCallback"]);
    Ok(RecordVerb {
        action: attributes.take("action"),
        timeout: Duration::from_secs(attributes.number("timeout", 5)?.into()),
        max_length: Duration::from_secs(max_length.into()),
        finish_on_key: attributes.take("finishOnKey").unwrap_or(default.finish_on_key),
        play_beep: attributes.take("playBeep").is_none_or(|value| value != "false"),
        status_callback: attributes.take("recordingStatusCallback"),
        callback_in_progress: subscribed("in-progress", false),
        callback_completed: subscribed("completed", true),
        callback_absent: subscribed("absent", false),
    })
}

/// An element's attributes; what nobody took is unknown to the schema.
struct Attributes(Vec<(String, String)>);

impl Attributes {
    fn read(element: &BytesStart<'_>) -> Result<Self, DocumentError> {
        let mut pairs = Vec::new();
        for attribute in element.attributes() {
            let attribute = attribute.map_err(malformed)?;
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(malformed)?;
            pairs.push((attribute.key.0.to_owned(), value.into_owned()));
        }
        Ok(Self(pairs))
    }

    fn take(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(key, _)| key == name)?;
        Some(self.0.swap_remove(index).1)
    }

    fn number(&mut self, name: &str, unset: u32) -> Result<u32, DocumentError> {
        let Some(value) = self.take(name) else { return Ok(unset) };
        value.parse().map_err(|_| DocumentError::Unusable(format!("{name}={value:?} is no number")))
    }

    /// These change nothing in a simulation, but the schema knows them.
    fn ignore(&mut self, names: &[&str]) {
        self.0.retain(|(key, _)| !names.contains(&key.as_str()));
    }

    fn left(self, element: &str) -> impl Iterator<Item = String> {
        self.0.into_iter().map(move |(key, _)| format!("{key} in <{element}>"))
    }
}

fn malformed(error: impl fmt::Display) -> DocumentError {
    DocumentError::Malformed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
        <Response>
          <Play>https://box.example/static/tts/greeting_he.mp3?a=1&amp;b=2</Play>
          <Connect action="/webhook/stream_ended" method="POST">
            <Stream url="wss://box.example/ws/twilio-media" statusCallback="https://box.example/webhook/stream_status">
              <Parameter name="call_sid" value="CA1"/><Parameter name="token" value="a&amp;b"/>
            </Stream>
          </Connect>
        </Response>"#;

    #[test]
    fn reads_verbs_nouns_parameters_and_entities() {
        let document = Document::parse(ANSWER).unwrap();
        assert_eq!(document.warnings, [] as [String; 0]);
        assert_eq!(
            document.verbs,
            [
                Verb::Play { url: "https://box.example/static/tts/greeting_he.mp3?a=1&b=2".to_owned(), times: 1 },
                Verb::Connect {
                    action: Some("/webhook/stream_ended".to_owned()),
                    stream: StreamNoun {
                        url: "wss://box.example/ws/twilio-media".to_owned(),
                        name: None,
                        status_callback: Some("https://box.example/webhook/stream_status".to_owned()),
                        parameters: vec![
                            ("call_sid".to_owned(), "CA1".to_owned()),
                            ("token".to_owned(), "a&b".to_owned())
                        ],
                    },
                },
            ]
        );
    }

    #[test]
    fn a_record_has_twilios_defaults_where_nothing_is_said() {
        let document = Document::parse("<Response><Record/></Response>").unwrap();
        assert_eq!(document.verbs, [Verb::Record(RecordVerb::default())]);
        let text = r##"<Response><Record action="https://b/x" recordingStatusCallbackEvent="in-progress absent" timeout="4"
            maxLength="30" playBeep="false" finishOnKey="#"/></Response>"##;
        let Verb::Record(record) = &Document::parse(text).unwrap().verbs[0] else { panic!("a <Record>") };
        assert_eq!((record.timeout, record.max_length), (Duration::from_secs(4), Duration::from_secs(30)));
        assert!(record.callback_in_progress && record.callback_absent && !record.callback_completed);
        assert!(!record.play_beep);
    }

    #[test]
    fn what_twilio_cannot_parse_is_12100() {
        for bad in [
            "",
            " ",
            "nonsense",
            "<Response>",
            "<Response><Play>x</Response>",
            "<response/>",
            " <?xml version=\"1.0\"?><Response/>",
            "<Response/><Response/>",
            "<Response><Play>a&b</Play></Response>",
            "<Response><Play>&nothing;</Play></Response>",
        ] {
            assert_eq!(Document::parse(bad).map_err(|error| error.code()), Err(12100), "{bad:?}");
        }
    }

    #[test]
    fn unknown_names_are_warnings_and_the_call_goes_on() {
        let document = Document::parse("<Response><Dance/><Hangup slowly=\"1\"/></Response>").unwrap();
        assert_eq!(document.verbs, [Verb::Hangup]);
        assert_eq!(document.warnings, ["<Dance>", "slowly in <Hangup>"]);
    }

    #[test]
    fn a_document_without_an_address_may_not_point_relatively() {
        let check = |text: &str| Document::parse(text).unwrap().check_without_base().map_err(|error| error.code());
        assert_eq!(check(r#"<Response><Record action="https://box/x"/></Response>"#), Ok(()));
        assert_eq!(check(r#"<Response><Record action="/x"/></Response>"#), Err(15004));
        assert_eq!(check(r#"<Response><Record/></Response>"#), Err(11100));
        assert_eq!(check(r#"<Response><Play>x.mp3</Play></Response>"#), Err(11100));
        assert_eq!(check(ANSWER), Err(15004));
    }

    #[test]
    fn relative_addresses_resolve_against_the_document_and_absolute_ones_stay_as_written() {
        let base = Some("https://box.example:8443/webhook/incoming_call?x=1");
        assert_eq!(resolve(base, "/webhook/b").unwrap(), "https://box.example:8443/webhook/b");
        assert_eq!(resolve(base, "https://Box.example/it's?a='").unwrap(), "https://Box.example/it's?a='");
        assert!(resolve(None, "/webhook/b").is_err());
    }
}
