//! The page for staff: one big sentence, then what it is made of. With script it follows the box; without, it refreshes
//! itself.

use askama::Template;
use bytesize::ByteSize;
use jiff::{Timestamp, tz::TimeZone};

use super::{
    caller::{Caller, Shown, Viewer},
    frame::Frame,
    language::Language,
    snapshot::{CallNow, RecentCall, Snapshot, SpeechState, State, Storage, call_state_word},
    trouble::TroubleCode,
    words,
};
use crate::{
    board::lamps::{Lamp, LampView},
    limits::PAGE_CALLS_MAX,
    speech::health::Health,
    transcripts::{Outcome, Source},
};

/// How often an open page asks for itself again where no script runs.
const REFRESH_S: u32 = 10;

/// What one visitor asked for, and may see.
#[derive(Debug, Clone)]
pub struct Visit {
    pub language: Language,
    pub viewer: Viewer,
    /// Whether the visitor logged in on the page, and can log out there.
    pub logged_in: bool,
    /// Whether a password would show more.
    pub has_password: bool,
    /// The page stays as it is until it is asked for again.
    pub paused: bool,
    /// Whose clock the page's times are on.
    pub zone: TimeZone,
}

/// The page as HTML.
///
/// # Errors
/// Only when a value cannot be formatted, which none of ours does.
pub fn render(snapshot: &Snapshot, visit: &Visit) -> askama::Result<String> {
    Page::of(snapshot, visit).render()
}

#[derive(Template)]
#[template(path = "page.html", config = "static/status/askama.toml")]
struct Page {
    frame: Frame,
    language: Language,
    refresh_s: Option<u32>,
    refresh_link: String,
    more: Vec<String>,
    draining: bool,
    troubles: Vec<TroubleRow>,
    calls: Vec<LiveRow>,
    more_calls: Option<String>,
    recent: Vec<EndedRow>,
    delivery: Vec<String>,
    waiting_since: Option<Time>,
    last_delivered: Option<Time>,
    last_failure: Option<Failure>,
    speech: Option<Hearing>,
    stored: u64,
    on_disk: Vec<Used>,
    lamps: Vec<LampRow>,
    updated: Time,
    numbers: Numbers,
    logged_in: bool,
    uptime: String,
    capacity: usize,
    version: &'static str,
}

/// Why numbers are (not) whole.
enum Numbers {
    Shown,
    LogIn,
    NoPassword,
}

struct TroubleRow {
    what: &'static str,
    remedy: &'static str,
}

struct Who {
    label: &'static str,
    number: Option<String>,
}

struct LiveRow {
    state: &'static str,
    doing: &'static str,
    silence: Option<String>,
    who: Who,
    last_words: Option<String>,
    lasts: String,
}

struct EndedRow {
    mark: &'static str,
    outcome: &'static str,
    who: Who,
    at: Time,
    lasted: String,
    reason: Option<String>,
    delivery: &'static str,
    waits: bool,
    /// The record's id, for whoever may have it sent again.
    retry: Option<String>,
}

struct Failure {
    at: Time,
    message: String,
}

/// How voice becomes text.
struct Hearing {
    told: String,
    waiting_since: Option<Time>,
    reason: Option<String>,
}

/// What something takes on the disk.
struct Used {
    what: &'static str,
    size: String,
}

struct LampRow {
    name: &'static str,
    color: &'static str,
    pattern: &'static str,
    doing: &'static str,
    purpose: &'static str,
}

/// A moment, for programs and for people.
struct Time {
    machine: String,
    local: String,
}

impl Page {
    fn of(snapshot: &Snapshot, visit: &Visit) -> Self {
        let language = visit.language;
        let time = |at| Time::of(at, snapshot.at, visit);
        let (headline, more) = sentence(snapshot, language);
        let hidden = snapshot.calls.len().saturating_sub(PAGE_CALLS_MAX);
        Self {
            frame: Frame::new(headline, snapshot.state(), language, |language| link(language, visit.paused)),
            language,
            refresh_s: (!visit.paused).then_some(REFRESH_S),
            refresh_link: link(language, !visit.paused),
            more,
            draining: snapshot.draining,
            troubles: snapshot.troubles.iter().map(|trouble| TroubleRow::of(*trouble, language)).collect(),
            calls: snapshot
                .calls
                .iter()
                .take(PAGE_CALLS_MAX)
                .map(|call| LiveRow::of(call, snapshot.at, visit))
                .collect(),
            more_calls: (hidden > 0).then(|| language.count(&words::MORE_CALLS, hidden as u64)),
            recent: snapshot.recent.iter().map(|call| EndedRow::of(call, snapshot, visit)).collect(),
            delivery: delivery(snapshot, language),
            waiting_since: snapshot.sync.waiting_since.map(time),
            last_delivered: snapshot.sync.last_ok.map(time),
            last_failure: snapshot
                .sync
                .last_error
                .as_ref()
                .map(|error| Failure { at: time(error.at), message: error.message.clone() }),
            speech: snapshot.speech.as_ref().map(|speech| Hearing::of(speech, snapshot.at, visit)),
            stored: snapshot.transcripts.stored,
            on_disk: snapshot.storage.map(|storage| on_disk(&storage, language)).unwrap_or_default(),
            lamps: snapshot.lamps.iter().map(|lamp| LampRow::of(lamp, language)).collect(),
            updated: Time { local: clock(snapshot.at, visit, "%H:%M:%S"), ..time(snapshot.at) },
            numbers: match (visit.viewer, visit.has_password) {
                (Viewer::Staff, _) => Numbers::Shown,
                (Viewer::Anyone, true) => Numbers::LogIn,
                (Viewer::Anyone, false) => Numbers::NoPassword,
            },
            logged_in: visit.logged_in,
            uptime: words::duration(language, snapshot.uptime),
            capacity: snapshot.capacity,
            version: snapshot.version,
        }
    }
}

/// The state in one sentence, and what to add to it.
fn sentence(snapshot: &Snapshot, language: Language) -> (String, Vec<String>) {
    let [streaming, fallback, answering] =
        [snapshot.streaming(), snapshot.in_fallback(), snapshot.answering()].map(|calls| calls as u64);
    let heard_too = (streaming > 0).then(|| language.count(&words::ALSO_HEARD, streaming));
    match (snapshot.state(), snapshot.troubles.as_slice()) {
        (State::Trouble, [only]) => {
            (language.say(only.text().what).into(), vec![language.say(words::TROUBLES_MORE).into()])
        }
        (State::Trouble, several) => {
            (language.count(&words::TROUBLES, several.len() as u64), vec![language.say(words::TROUBLES_MORE).into()])
        }
        (State::Fallback, _) => {
            let more = [Some(language.say(words::FALLBACK_MORE).into()), heard_too];
            (language.count(&words::FALLBACK, fallback), more.into_iter().flatten().collect())
        }
        (State::Streaming, _) => {
            (language.count(&words::STREAMING, streaming), vec![language.say(words::STREAMING_MORE).into()])
        }
        (State::Ok, _) if answering > 0 => {
            (language.count(&words::ANSWERING, answering), vec![language.say(words::ANSWERING_MORE).into()])
        }
        (State::Ok, _) => (language.say(words::IDLE).into(), vec![language.say(words::IDLE_MORE).into()]),
    }
}

fn delivery(snapshot: &Snapshot, language: Language) -> Vec<String> {
    let counts = snapshot.transcripts;
    let waiting = counts.unsynced.saturating_sub(counts.parked);
    let first = if !snapshot.sync.configured {
        Some(language.say(words::NOT_CONFIGURED).into())
    } else if waiting > 0 {
        Some(language.count(&words::WAITING, waiting))
    } else if counts.parked > 0 {
        None
    } else if counts.stored > 0 {
        Some(language.say(words::ALL_DELIVERED).into())
    } else {
        Some(language.say(words::NOTHING_YET).into())
    };
    let parked = (counts.parked > 0).then(|| language.count(&words::PARKED, counts.parked));
    let awaiting =
        (counts.awaiting_recording > 0).then(|| language.count(&words::AWAITING_RECORDING, counts.awaiting_recording));
    let gone = counts.damaged + counts.missing;
    let gone = (gone > 0).then(|| language.count(&words::DAMAGED, gone));
    [first, parked, awaiting, gone].into_iter().flatten().collect()
}

fn on_disk(storage: &Storage, language: Language) -> Vec<Used> {
    let free = storage.free_bytes.map(|bytes| (words::FREE, bytes));
    [(words::RECORDS, storage.records_bytes), (words::AUDIO, storage.audio_bytes)]
        .into_iter()
        .chain(free)
        .map(|(what, bytes)| Used { what: language.say(what), size: ByteSize(bytes).display().si().to_string() })
        .collect()
}

fn link(language: Language, paused: bool) -> String {
    let pause = if paused { "&refresh=off" } else { "" };
    format!("/?lang={}{pause}", language.code())
}

impl TroubleRow {
    fn of(trouble: TroubleCode, language: Language) -> Self {
        let text = trouble.text();
        Self { what: language.say(text.what), remedy: language.say(text.remedy) }
    }
}

impl Hearing {
    fn of(speech: &SpeechState, now: Timestamp, visit: &Visit) -> Self {
        let local = |at: Timestamp| at.to_zoned(visit.zone.clone()).time();
        let health = Health { silent_since: speech.silent_since.map(local), calls_waiting: speech.calls_waiting };
        Self {
            told: match visit.language {
                Language::Hebrew => health.in_hebrew(),
                Language::English => health.in_english(),
            },
            waiting_since: speech.waiting_since.map(|at| Time::of(at, now, visit)),
            reason: speech.silent_since.and(speech.last_error.clone()),
        }
    }
}

impl LiveRow {
    fn of(call: &CallNow, now: Timestamp, visit: &Visit) -> Self {
        let language = visit.language;
        let lasts = now.duration_since(call.since).try_into().unwrap_or_default();
        Self {
            state: call_state_word(call.state),
            doing: language.say(words::call_state(call.state)),
            silence: call.silence().map(|ago| words::duration(language, ago)),
            who: Who::of(&call.from, visit),
            last_words: call.last_words.as_ref().filter(|_| visit.viewer == Viewer::Staff).map(|words| words.0.clone()),
            lasts: words::duration(language, lasts),
        }
    }
}

impl EndedRow {
    fn of(call: &RecentCall, snapshot: &Snapshot, visit: &Visit) -> Self {
        let language = visit.language;
        let waits = !call.synced && snapshot.sync.configured;
        let delivery = match (call.synced, call.parked, waits) {
            (true, ..) => words::DELIVERED,
            (_, true, _) => words::REFUSED,
            (_, _, true) => words::WAITS,
            _ => words::KEPT,
        };
        let why = |reason| {
            format!("{}{}", language.say(words::reason(reason)), language.say(words::consequence(call.source)))
        };
        Self {
            mark: match (call.outcome, call.source) {
                (Outcome::NoSpeech, _) => "nothing",
                (_, Source::Recording) => "message",
                (_, Source::Stream) => "heard",
            },
            outcome: language.say(words::outcome(call.source, call.outcome)),
            who: Who::of(&call.from, visit),
            at: Time::of(call.started_at, snapshot.at, visit),
            lasted: words::duration(language, call.lasted),
            reason: call.reason.map(why),
            delivery: language.say(delivery),
            waits,
            retry: (call.parked && visit.viewer == Viewer::Staff).then(|| call.id.clone()),
        }
    }
}

impl Who {
    fn of(caller: &Caller, visit: &Visit) -> Self {
        let label = |text| visit.language.say(text);
        match caller.shown_to(visit.viewer) {
            Shown::Whole(number) => Self { label: "", number: Some(number.to_owned()) },
            Shown::EndsIn(digits) => Self { label: label(words::ENDS_IN), number: Some(digits.to_owned()) },
            Shown::Hidden => Self { label: label(words::HIDDEN), number: None },
            Shown::Withheld => Self { label: label(words::WITHHELD), number: None },
        }
    }
}

impl LampRow {
    fn of(view: &LampView, language: Language) -> Self {
        Self {
            name: view.lamp.as_str(),
            color: match view.lamp {
                Lamp::Power | Lamp::Stream => "green",
                Lamp::Fallback => "red",
                Lamp::Inbox => "yellow",
            },
            pattern: view.pattern.as_str(),
            doing: language.say(words::pattern(view.pattern)),
            purpose: language.say(words::lamp(view.lamp)),
        }
    }
}

impl Time {
    /// The time of day, with the date when it is not today's.
    fn of(at: Timestamp, now: Timestamp, visit: &Visit) -> Self {
        let date = |at: Timestamp| at.to_zoned(visit.zone.clone()).date();
        let format = match visit.language {
            _ if date(at) == date(now) => "%H:%M",
            Language::Hebrew => "%-d.%-m %H:%M",
            Language::English => "%-d %b %H:%M",
        };
        Self { machine: format!("{at:.3}"), local: clock(at, visit, format) }
    }
}

fn clock(at: Timestamp, visit: &Visit, format: &str) -> String {
    at.to_zoned(visit.zone.clone()).strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        calls::CallState,
        status::{access::Denied, assets, login_page, samples},
        transcripts::Words,
    };

    fn visit(language: Language) -> Visit {
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        Visit { language, viewer: Viewer::Anyone, logged_in: false, has_password: false, paused: false, zone }
    }

    fn page(snapshot: &Snapshot, language: Language) -> String {
        render(snapshot, &visit(language)).unwrap()
    }

    #[test]
    fn the_headline_says_the_state_in_both_languages() {
        let cases = [
            (samples::idle(), "הכול תקין. הקו פנוי.", "All is well. The line is free."),
            (samples::answering(), "עונים עכשיו לשיחה.", "A call is being answered."),
            (samples::streaming(), "שומעים עכשיו מתקשר אחד.", "One caller is being heard now."),
            (samples::fallback(), "שני מתקשרים משאירים עכשיו הודעה.", "2 callers are leaving a message now."),
            (samples::trouble(), "שני דברים דורשים טיפול.", "2 things need attention."),
        ];
        for (snapshot, hebrew, english) in cases {
            let [he, en] = [page(&snapshot, Language::Hebrew), page(&snapshot, Language::English)];
            assert!(he.contains(&format!("<h1 id=\"headline\">{hebrew}</h1>")), "{hebrew}: {he}");
            assert!(en.contains(&format!("<h1 id=\"headline\">{english}</h1>")), "{english}: {en}");
            assert!(he.contains("<html lang=\"he\" dir=\"rtl\">") && en.contains("<html lang=\"en\" dir=\"ltr\">"));
        }
    }

    #[test]
    fn a_single_trouble_is_the_headline_and_every_trouble_says_what_to_do() {
        for code in TroubleCode::ALL {
            let snapshot = Snapshot { troubles: vec![code], ..samples::idle() };
            let text = code.text();
            let html = page(&snapshot, Language::Hebrew);
            assert!(html.contains(&format!("<h1 id=\"headline\">{}</h1>", text.what.he)), "{html}");
            assert!(page(&snapshot, Language::English).contains(&text.remedy.en.replace('\'', "&#39;")));
        }
    }

    #[test]
    fn a_call_that_was_not_heard_has_its_reason_in_plain_words() {
        let snapshot = samples::streaming();
        let english = page(&snapshot, Language::English);
        assert!(english.contains("We could not hear the caller live, so they left a message."), "{english}");
        assert!(english.contains("The live line did not open, so they were asked to leave a message."));
        assert!(page(&snapshot, Language::Hebrew).contains("לא שמענו את המתקשר בזמן אמת, ולכן הושארה הודעה."));
    }

    #[test]
    fn waiting_transcripts_are_counted_and_a_box_without_an_upstream_says_so() {
        let english = page(&samples::trouble(), Language::English);
        assert!(english.contains("11 transcripts wait.") && english.contains("One transcript was refused"));
        let mut refused = samples::trouble();
        refused.transcripts.unsynced = 1;
        let english = page(&refused, Language::English);
        assert!(!english.contains("One transcript waits.") && english.contains("One transcript was refused"));
        assert!(!english.contains("Everything was delivered."));
        let mut alone = samples::trouble();
        alone.sync.configured = false;
        assert!(page(&alone, Language::English).contains("transcripts stay on the box."));
        assert!(!page(&alone, Language::English).contains("Waits to be delivered"));
    }

    #[test]
    fn how_long_it_waits_what_it_takes_and_what_is_gone_is_told() {
        let english = page(&samples::trouble(), Language::English);
        assert!(
            english.contains("<dt>Waiting since</dt><dd><time datetime=\"2026-11-22T06:02:05.250Z\">"),
            "{english}"
        );
        assert!(english.contains("One transcript was damaged on the disk"));
        assert!(english.contains("transcripts <bdi dir=\"ltr\">12.6 MB</bdi> · audio <bdi dir=\"ltr\">310.0 MB</bdi>"));
        let english = page(&Snapshot { storage: None, ..samples::streaming() }, Language::English);
        assert!(!english.contains("Waiting since") && !english.contains("damaged") && !english.contains("On the disk"));
    }

    #[test]
    fn an_engine_that_is_away_is_told_since_when_how_many_wait_and_why() {
        let page = render(&samples::unheard(), &visit(Language::English)).unwrap();
        for part in [
            "speech engine not answering since 09:32; 3 calls wait for it",
            "The first call waits since",
            "09:30",
            "cannot be reached",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
        let page = render(&samples::unheard(), &visit(Language::Hebrew)).unwrap();
        assert!(page.contains("מנוע התמלול אינו עונה מאז 09:32; 3 שיחות ממתינות לו"), "{page}");
        let page = render(&samples::streaming(), &visit(Language::English)).unwrap();
        assert!(!page.contains("speech engine"), "none is configured");
    }

    #[test]
    fn everybody_sees_three_digits_and_staff_the_number() {
        let snapshot = samples::fallback();
        let html = page(&snapshot, Language::Hebrew);
        assert!(!html.contains("972") && html.contains("<bdi dir=\"ltr\">567</bdi>"), "{html}");
        assert!(html.contains("מספר חסוי") && html.contains("מספר מוסתר"));
        let staff = Visit { viewer: Viewer::Staff, has_password: true, ..visit(Language::Hebrew) };
        assert!(render(&snapshot, &staff).unwrap().contains("<bdi dir=\"ltr\">+972501234567</bdi>"));
    }

    #[test]
    fn a_refused_transcript_has_its_button_for_staff_alone() {
        let snapshot = samples::trouble();
        let everybody = page(&snapshot, Language::English);
        assert!(
            everybody.contains("Refused by the office&#39;s system") && !everybody.contains(">Send again<"),
            "{everybody}"
        );
        let staff = Visit { viewer: Viewer::Staff, ..visit(Language::English) };
        let html = render(&snapshot, &staff).unwrap();
        assert_eq!(html.matches(">Send again</button>").count(), 1, "{html}");
        assert!(html.contains(
            "<form class=\"retry\" method=\"post\" action=\"/api/transcripts/01JD0000000000000000000000/retry\">"
        ));
    }

    #[test]
    fn who_is_not_logged_in_is_shown_the_way_in_and_who_is_the_way_out() {
        let shown = |viewer, logged_in, has_password| {
            let visit = Visit { viewer, logged_in, has_password, ..visit(Language::English) };
            let html = render(&samples::idle(), &visit).unwrap();
            (html.contains(">Log in</a>"), html.contains(">Log out</button>"))
        };
        assert_eq!(shown(Viewer::Anyone, false, false), (false, false), "no password is set");
        assert_eq!(shown(Viewer::Anyone, false, true), (true, false));
        assert_eq!(shown(Viewer::Staff, true, true), (false, true));
        assert_eq!(shown(Viewer::Staff, false, true), (false, false), "HTTP Basic cannot be left");
    }

    #[test]
    fn what_a_caller_says_is_shown_to_staff_alone() {
        let mut snapshot = samples::streaming();
        snapshot.calls[0].last_words = Some(Words("this is Dana".into()));
        let html = |viewer| render(&snapshot, &Visit { viewer, ..visit(Language::Hebrew) }).unwrap();
        assert!(html(Viewer::Staff).contains("<p class=\"words\"><bdi>this is Dana</bdi></p>"));
        assert!(!html(Viewer::Anyone).contains("Dana"));
    }

    #[test]
    fn text_from_outside_is_escaped() {
        let mut snapshot = samples::trouble();
        let hostile = "<script>alert(1)</script>\"'&";
        if let Some(error) = &mut snapshot.sync.last_error {
            error.message = hostile.into();
        }
        let (from, last_words) = (Caller::new(hostile), Some(Words(hostile.into())));
        snapshot.calls = vec![CallNow { from, last_words, ..samples::call(CallState::Streaming, 1, None) }];
        let staff = Visit { viewer: Viewer::Staff, ..visit(Language::English) };
        let html = render(&snapshot, &staff).unwrap();
        assert!(!html.contains("<script>") && !html.contains("alert(1)</"), "{html}");
        assert_eq!(html.matches("&#60;script&#62;alert(1)&#60;/script&#62;&#34;&#39;&#38;").count(), 3, "{html}");
    }

    #[test]
    fn a_page_follows_the_box_unless_it_was_told_not_to() {
        let running = page(&samples::idle(), Language::English);
        assert!(running.contains("<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>"), "{running}");
        assert!(running.contains("<script src=\"/static/status/page.js?v="));
        assert!(running.contains("href=\"/?lang=en&#38;refresh=off\""), "{running}");
        let paused = Visit { paused: true, ..visit(Language::English) };
        let paused = render(&samples::idle(), &paused).unwrap();
        assert!(
            !paused.contains("http-equiv=\"refresh\"")
                && !paused.contains("<script")
                && paused.contains("href=\"/?lang=en\"")
        );
    }

    #[test]
    fn times_are_the_offices_with_a_date_when_it_is_not_today() {
        let html = page(&samples::streaming(), Language::English);
        assert!(html.contains("<bdi>10:32:05</bdi>"), "{html}");
        assert!(html.contains("<bdi>10:28</bdi>") && html.contains("<bdi>21 Nov 16:12</bdi>"));
        assert!(page(&samples::streaming(), Language::Hebrew).contains("<bdi>21.11 16:12</bdi>"));
    }

    #[test]
    fn more_calls_than_a_page_holds_are_counted() {
        let calls = vec![samples::call(CallState::Streaming, 1, None); PAGE_CALLS_MAX + 44];
        let html = page(&Snapshot { calls, ..samples::idle() }, Language::English);
        assert!(html.contains("and 44 more calls"));
        assert_eq!(html.matches("class=\"mark streaming\"").count(), PAGE_CALLS_MAX);
    }

    #[test]
    fn nothing_comes_from_elsewhere_and_no_script_stands_in_the_page() {
        let html = page(&samples::trouble(), Language::English);
        for forbidden in ["src=\"http", "href=\"http", "<script>", "style=\"", "onclick", "url("] {
            assert!(!html.contains(forbidden), "{forbidden}");
        }
        assert!(html.contains("defer></script>"), "the only script is a file of ours");
    }

    /// Not a test: writes the sample pages below `KOLBOX_PAGES`, to be looked at in a browser.
    #[test]
    #[ignore = "writes files, to be looked at by a person"]
    fn write_the_sample_pages() {
        let Some(directory) = std::env::var_os("KOLBOX_PAGES").map(std::path::PathBuf::from) else {
            return eprintln!("KOLBOX_PAGES names no directory");
        };
        let assets = directory.join("static/status");
        std::fs::create_dir_all(&assets).unwrap();
        for name in ["page.css", "page.js", "ok.svg", "streaming.svg", "fallback.svg", "trouble.svg"] {
            std::fs::write(assets.join(name), assets::find(name).unwrap().bytes).unwrap();
        }
        let one = Snapshot { troubles: vec![TroubleCode::StoreFailing], draining: true, ..samples::fallback() };
        let samples = [
            ("idle", samples::idle()),
            ("answering", samples::answering()),
            ("streaming", samples::streaming()),
            ("fallback", samples::fallback()),
            ("trouble", samples::trouble()),
            ("unheard", samples::unheard()),
            ("one", one),
        ];
        for (name, snapshot) in samples {
            for language in Language::ALL {
                let html = page(&snapshot, language);
                std::fs::write(directory.join(format!("{name}-{}.html", language.code())), html).unwrap();
            }
        }
        for language in Language::ALL {
            let staff = Visit { viewer: Viewer::Staff, logged_in: true, has_password: true, ..visit(language) };
            let html = render(&samples::trouble(), &staff).unwrap();
            std::fs::write(directory.join(format!("staff-{}.html", language.code())), html).unwrap();
            let html = login_page::render(State::Ok, language, Some(Denied::Wrong)).unwrap();
            std::fs::write(directory.join(format!("login-{}.html", language.code())), html).unwrap();
        }
    }
}
