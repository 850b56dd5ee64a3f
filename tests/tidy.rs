//! The fence: reads `src/` and fails on what the compiler lets pass but the house does not.
//!
//! - Imports point down the floors below, never up, and not between neighbours on one floor.
//! - Pure modules decide: no clock, no randomness, no sockets, no files, no tokio. `now` is an argument.
//! - A file has one purpose, said by its first `//!` sentence, and at most 500 lines without its tests.
//! - Names that say nothing (`Manager`, `Helper`, `Util`, `get_`) and unfinished code do not enter.
//!
//! It reads tokens, not text: comments and string literals may say what they like. What it cannot see is a pure module
//! that calls an impure neighbour of its own room; that stays with the reader.

use std::{fmt, fs, ops::RangeInclusive, path::Path};

/// Who stands above whom. A room may import from floors below its own, from itself, and from nowhere else.
const FLOORS: &[&[&str]] = &[
    &["main", "build"], // the program, and the script that builds it
    &["cli"],
    &["gateway"],
    &["simulator"],
    &["server", "status"],
    &["transcripts", "speech", "board"],
    &["system"],
    &["calls"],
    &["twilio"],
    &["config"],
    &["limits"],
];

/// The one look upward: a configured account is checked by the type that knows what an AccountSid is.
const LOOKS_UP: &[(&str, &[&str])] = &[("config", &["twilio", "sid"])];

/// The modules that decide. A name that ends in `/` means every file below it.
const PURE: &[&str] = &[
    "calls/",
    "twilio/",
    "limits.rs",
    "config/mod.rs",
    "server/conversation.rs",
    "server/media_session.rs",
    "server/webhooks.rs",
    "server/documents.rs",
    "server/tls/facts.rs",
    "server/tls/flaw.rs",
    "server/tls/judge.rs",
    "status/origin.rs",
    "status/sessions.rs",
    "status/throttle.rs",
    "server/refusals.rs",
    "transcripts/record.rs",
    "transcripts/stored.rs",
    "transcripts/pending.rs",
    "transcripts/texts.rs",
    "transcripts/outbox.rs",
    "transcripts/books.rs",
    "transcripts/journal.rs",
    "transcripts/shelf.rs",
    "transcripts/catch_up.rs",
    "transcripts/deletions.rs",
    "transcripts/view.rs",
    "speech/audio.rs",
    "speech/circuit.rs",
    "speech/decode.rs",
    "speech/endpoint.rs",
    "speech/health.rs",
    "speech/mask.rs",
    "speech/openai/multipart.rs",
    "speech/resample.rs",
    "speech/silence.rs",
    "speech/stream_clock.rs",
    "speech/transcription.rs",
    "speech/utterance.rs",
    "board/lamps.rs",
    "simulator/account.rs",
    "simulator/caller.rs",
    "simulator/document.rs",
    "simulator/faults.rs",
    "simulator/forms.rs",
    "simulator/happening.rs",
    "simulator/peer_stream.rs",
    "simulator/phone_call.rs",
    "simulator/phone_call/",
    "simulator/plan.rs",
    "simulator/recorder.rs",
    "simulator/report.rs",
    "simulator/streaming.rs",
];

/// Crates that a pure module does not touch.
const IMPURE_CRATES: &[&str] = &["tokio", "rand", "fastrand", "getrandom", "hyper", "sled", "rppal"];
/// Parts of the standard library that touch the world. Addresses (`SocketAddr`, `IpAddr`) are values and may be named.
const IMPURE_STD: &[&[&str]] = &[
    &["fs"],
    &["env"],
    &["process"],
    &["thread"],
    &["net", "TcpListener"],
    &["net", "TcpStream"],
    &["net", "UdpSocket"],
    &["net", "ToSocketAddrs"],
    &["net", "*"],
];

const LINES_MAX: usize = 500;
const EMPTY_NAMES: &[&str] = &["Manager", "Helper", "Helpers", "Util", "Utils"];
const UNFINISHED: &[&str] = &["todo", "unimplemented", "dbg"];

#[test]
fn the_house_is_tidy() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read_below(&root, "", &mut sources);
    assert!(sources.len() > 20, "src/ was not found: the fence would stand around nothing");

    let mut offences: Vec<String> =
        sources.iter().flat_map(|s| offences(&s.path, &s.text)).map(|o| o.to_string()).collect();
    for pure in PURE {
        if !sources.iter().any(|source| is_below(&source.path, pure)) {
            offences.push(format!("tests/tidy.rs names src/{pure} as pure, and there is no such file"));
        }
    }
    assert!(offences.is_empty(), "\n{}\n", offences.join("\n"));
}

struct Source {
    /// Below `src/`, with `/`.
    path: String,
    text: String,
}

fn read_below(folder: &Path, prefix: &str, sources: &mut Vec<Source>) {
    let mut entries: Vec<_> =
        fs::read_dir(folder).expect("src/ can be read").map(|entry| entry.expect("an entry")).collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let name = entry.file_name().into_string().expect("file names are UTF-8");
        let path = format!("{prefix}{name}");
        if entry.path().is_dir() {
            read_below(&entry.path(), &format!("{path}/"), sources);
        } else if name.ends_with(".rs") {
            sources.push(Source { path, text: fs::read_to_string(entry.path()).expect("sources are UTF-8") });
        }
    }
}

fn is_below(path: &str, name: &str) -> bool {
    if name.ends_with('/') { path.starts_with(name) } else { path == name }
}

/// One thing that must not stay, where it stands.
#[derive(Debug, PartialEq, Eq)]
struct Offence {
    path: String,
    line: usize,
    what: String,
}

impl fmt::Display for Offence {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "src/{}:{}: {}", self.path, self.line, self.what)
    }
}

/// Everything that is wrong with one file.
fn offences(path: &str, text: &str) -> Vec<Offence> {
    let code = tokens(text);
    let tests = if is_test_file(path) { vec![1..=usize::MAX] } else { lines_of_tests(&code) };
    let is_test = |line: usize| tests.iter().any(|lines| lines.contains(&line));
    let paths = paths(&code);

    let mut found = Vec::new();
    let mut offend = |line: usize, what: String| found.push(Offence { path: path.to_owned(), line, what });
    head(text, &mut offend);
    length(text, is_test, &mut offend);
    directions(path, &paths, &mut offend);
    if PURE.iter().any(|pure| is_below(path, pure)) {
        purity(paths.iter().filter(|used| !is_test(used.line)), &mut offend);
    }
    names(&code, &mut offend);
    found
}

fn is_test_file(path: &str) -> bool {
    path.ends_with("/tests.rs") || path.ends_with("_tests.rs")
}

fn head(text: &str, offend: &mut impl FnMut(usize, String)) {
    let said = text.lines().next().and_then(|line| line.strip_prefix("//! ")).unwrap_or_default();
    if said.trim().is_empty() {
        offend(1, "the first line is a `//! ` sentence that says what the file is for".into());
    }
}

fn length(text: &str, is_test: impl Fn(usize) -> bool, offend: &mut impl FnMut(usize, String)) {
    let lines = (1..=text.lines().count()).filter(|line| !is_test(*line)).count();
    if lines > LINES_MAX {
        offend(1, format!("{lines} lines without its tests, {LINES_MAX} at most: it has two purposes"));
    }
}

fn directions(path: &str, paths: &[UsedPath], offend: &mut impl FnMut(usize, String)) {
    let module = module_of(path);
    let Some(from) = module.first() else { return };
    let Some(own_floor) = floor(from) else {
        return offend(1, format!("`{from}` has no floor: give it one in tests/tidy.rs"));
    };
    for used in paths {
        let Some(target) = used.in_crate(&module) else { continue };
        let Some(to) = target.first() else { continue };
        if to == from || looks_up(from, &target) {
            continue;
        }
        match floor(to) {
            None => offend(used.line, format!("`crate::{to}` is no room: name the room that a thing comes from")),
            Some(other) if other < own_floor => offend(used.line, format!("`{from}` imports up, from `{to}`")),
            Some(other) if other == own_floor => offend(used.line, format!("`{from}` imports its neighbour `{to}`")),
            Some(_) => {}
        }
    }
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|rooms| rooms.contains(&room))
}

fn looks_up(from: &str, target: &[String]) -> bool {
    LOOKS_UP.iter().any(|(room, allowed)| *room == from && starts_with(target, allowed))
}

fn starts_with(path: &[String], beginning: &[&str]) -> bool {
    path.len() >= beginning.len() && path.iter().zip(beginning).all(|(have, want)| have == want)
}

/// `server/router.rs` is `[server, router]`, `server/mod.rs` is `[server]`, `lib.rs` is the root itself.
fn module_of(path: &str) -> Vec<String> {
    let mut module: Vec<String> = path.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
        module.pop();
    }
    module
}

fn purity<'a>(paths: impl Iterator<Item = &'a UsedPath>, offend: &mut impl FnMut(usize, String)) {
    for used in paths {
        let segments = &used.segments;
        let root = segments[0].as_str();
        let in_std = matches!(root, "std" | "core") && IMPURE_STD.iter().any(|part| starts_with(&segments[1..], part));
        let reads_clock = segments.len() > 1 && segments.last().is_some_and(|last| last == "now");
        if IMPURE_CRATES.contains(&root) || in_std || reads_clock {
            offend(used.line, format!("`{}` in a pure module: hand it in as an argument", segments.join("::")));
        }
    }
}

fn names(code: &[Token], offend: &mut impl FnMut(usize, String)) {
    for pair in code.windows(2) {
        let (word, next) = (pair[0].text.as_str(), pair[1].text.as_str());
        if word == "fn" && next.starts_with("get_") {
            offend(pair[1].line, format!("`{next}`: name what it gives, without `get_`"));
        }
        if matches!(word, "struct" | "enum" | "trait" | "type") && EMPTY_NAMES.iter().any(|empty| next.ends_with(empty))
        {
            offend(pair[1].line, format!("`{next}`: name what it does"));
        }
        if UNFINISHED.contains(&word) && next == "!" {
            offend(pair[0].line, format!("`{word}!` is unfinished work"));
        }
    }
}

/// A word, `::`, or a single other character.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    line: usize,
    text: String,
}

/// The code of a file without its comments and its string and character literals.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let end = match chars[at] {
            '/' if chars.get(at + 1) == Some(&'/') => end_of_line(&chars, at),
            '/' if chars.get(at + 1) == Some(&'*') => end_of_block_comment(&chars, at),
            '"' => end_of_string(&chars, at),
            '\'' => end_of_character(&chars, at),
            c if is_word(c) => match raw_string(&chars, at) {
                Some(end) => end,
                None => {
                    let end = at + chars[at..].iter().take_while(|c| is_word(**c)).count();
                    tokens.push(Token { line, text: chars[at..end].iter().collect() });
                    end
                }
            },
            ':' if chars.get(at + 1) == Some(&':') => {
                tokens.push(Token { line, text: "::".into() });
                at + 2
            }
            c => {
                if !c.is_whitespace() {
                    tokens.push(Token { line, text: c.into() });
                }
                at + 1
            }
        };
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn end_of_line(chars: &[char], at: usize) -> usize {
    at + chars[at..].iter().take_while(|c| **c != '\n').count()
}

fn end_of_block_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at.min(chars.len())
}

fn end_of_string(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(chars.len())
}

/// `'x'` and `'\n'` are characters; `'a` in `&'a str` is a lifetime, of which only the quote is dropped.
fn end_of_character(chars: &[char], at: usize) -> usize {
    if chars.get(at + 1) == Some(&'\\') {
        let escaped = at + 3;
        return chars[escaped.min(chars.len())..]
            .iter()
            .position(|c| *c == '\'')
            .map_or(chars.len(), |i| escaped + i + 1);
    }
    if chars.get(at + 2) == Some(&'\'') { at + 3 } else { at + 1 }
}

/// The end of `r"…"`, `r#"…"#`, `br#"…"#` and their kind, if one begins here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    let prefix = chars[at..].iter().take_while(|c| is_word(**c)).count();
    if !matches!(chars[at..at + prefix], ['r'] | ['b' | 'c', 'r']) {
        return None;
    }
    let hashes = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
    let open = at + prefix + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let closes =
        |i: usize| chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes;
    Some((open + 1..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes))
}

/// The lines of each `#[cfg(test)] mod name { … }`: they may read clocks, and they do not count.
fn lines_of_tests(code: &[Token]) -> Vec<RangeInclusive<usize>> {
    let attribute = ["#", "[", "cfg", "(", "test", ")", "]"];
    let is_attribute = |at: usize| code[at..].iter().map(|token| token.text.as_str()).take(7).eq(attribute);
    (0..code.len())
        .filter(|at| is_attribute(*at))
        .filter_map(|at| lines_of_module(code, at, at + attribute.len()))
        .collect()
}

fn lines_of_module(code: &[Token], attribute: usize, mut at: usize) -> Option<RangeInclusive<usize>> {
    let text = |at: usize| code.get(at).map(|token| token.text.as_str());
    if text(at) == Some("pub") {
        at += 1;
        if text(at) == Some("(") {
            at += code[at..].iter().position(|token| token.text == ")")? + 1;
        }
    }
    if text(at) != Some("mod") || text(at + 2) != Some("{") {
        return None;
    }
    let mut depth = 0;
    let end = code[at + 2..].iter().find(|token| {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ => {}
        }
        depth == 0
    })?;
    Some(code[attribute].line..=end.line)
}

/// A path as the code uses it: `a::b` of `use a::{b, c}`, or `a::b` in the middle of an expression.
#[derive(Debug, PartialEq, Eq)]
struct UsedPath {
    line: usize,
    segments: Vec<String>,
    /// How many `mod name { … }` of this file it stands in: each takes one `super` to leave.
    inline_modules: usize,
}

impl UsedPath {
    /// The path from the crate's root, if it is one of the crate's own that names another module.
    fn in_crate(&self, module: &[String]) -> Option<Vec<String>> {
        let supers = self.segments.iter().take_while(|segment| *segment == "super").count();
        match self.segments[0].as_str() {
            "crate" | "kolbox" => Some(self.segments[1..].to_vec()),
            "super" => {
                let left = (module.len() + self.inline_modules).checked_sub(supers)?;
                let stays_in_file = left > module.len();
                let base = &module[..left.min(module.len())];
                (!stays_in_file).then(|| base.iter().chain(&self.segments[supers..]).cloned().collect())
            }
            _ => None,
        }
    }
}

fn paths(code: &[Token]) -> Vec<UsedPath> {
    let mut found = Vec::new();
    let mut braces = Vec::new();
    let mut at = 0;
    while at < code.len() {
        let text = code[at].text.as_str();
        let opens_module = at >= 2 && text == "{" && code[at - 2].text == "mod";
        match text {
            "{" => braces.push(opens_module),
            "}" => drop(braces.pop()),
            _ => {}
        }
        if begins_path(text) && code.get(at + 1).is_some_and(|next| next.text == "::") {
            let first = found.len();
            at = path(code, at, &[], &mut found);
            let inline_modules = braces.iter().filter(|is_module| **is_module).count();
            found[first..].iter_mut().for_each(|used| used.inline_modules = inline_modules);
        } else if is_alias_of_root(code, at) {
            found.push(UsedPath { line: code[at].line, segments: vec!["crate".into(), "*".into()], inline_modules: 0 });
            at += 1;
        } else {
            at += 1;
        }
    }
    found
}

/// Any word but the keywords that may stand before a leading `::`.
fn begins_path(text: &str) -> bool {
    text.chars().all(is_word)
        && !matches!(text, "use" | "in" | "as" | "return" | "mut" | "dyn" | "impl" | "match" | "if")
}

/// `use crate as …` would hide where every later import points.
fn is_alias_of_root(code: &[Token], at: usize) -> bool {
    code[at].text == "crate" && code.get(at + 1).is_some_and(|next| next.text == "as")
}

/// Reads one path, or every path of a `{…}` group, and gives the index behind it.
fn path(code: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<UsedPath>) -> usize {
    let line = code[at].line;
    let mut segments = prefix.to_vec();
    segments.push(code[at].text.clone());
    at += 1;
    while code.get(at).is_some_and(|token| token.text == "::") {
        match code.get(at + 1).map(|token| token.text.as_str()) {
            Some("{") => return group(code, at + 2, &segments, found),
            Some(segment) if segment == "*" || segment.chars().all(is_word) => segments.push(segment.to_owned()),
            _ => break,
        }
        at += 2;
    }
    found.push(UsedPath { line, segments, inline_modules: 0 });
    at
}

fn group(code: &[Token], mut at: usize, prefix: &[String], found: &mut Vec<UsedPath>) -> usize {
    while at < code.len() && code[at].text != "}" {
        let text = code[at].text.as_str();
        if text == "as" {
            at += 2;
        } else if text == "*" || text.chars().all(is_word) {
            at = path(code, at, prefix, found);
        } else {
            at += 1;
        }
    }
    at + 1
}

/// The fence must bite: what it is there for, planted.
mod canary {
    use super::*;

    const HEAD: &str = "//! A planted file.\n";

    fn whats(path: &str, body: &str) -> Vec<String> {
        offences(path, &format!("{HEAD}{body}")).into_iter().map(|offence| offence.what).collect()
    }

    fn bites(path: &str, body: &str) -> bool {
        !whats(path, body).is_empty()
    }

    #[test]
    fn an_import_that_points_up_is_caught_in_every_spelling() {
        for body in [
            "use crate::server::router;",
            "use crate::{limits::CALLS_MAX, server::{self, router}};",
            "use crate::{\n    config::Config,\n    server,\n};",
            "fn f() { crate::server::router::route() }",
            "fn f(x: crate::server::Peer) {}",
            "use super::super::server::router;",
            "mod inner { use super::super::super::server::router; }",
            "pub use ::kolbox::server;",
            "use crate as everything;",
            "use crate::*;",
        ] {
            assert!(bites("calls/desk.rs", body), "not caught: {body}");
        }
        assert!(bites("cli/mod.rs", "use crate::main;"));
        assert!(bites("simulator/twilio.rs", "use crate::gateway::Gateway;"));
        assert!(bites("limits.rs", "use crate::config::Config;"));
    }

    #[test]
    fn neighbours_do_not_import_each_other() {
        assert!(bites("server/router.rs", "use crate::status::page;"));
        assert!(bites("board/gpio.rs", "use crate::speech::audio;"));
        assert!(bites("transcripts/keeper.rs", "use crate::board::lamps;"));
    }

    #[test]
    fn the_configuration_may_look_up_to_sids_only() {
        assert!(!bites("config/mod.rs", "use crate::twilio::sid::AccountSid;"));
        assert!(bites("config/mod.rs", "use crate::twilio::webhook::Form;"));
    }

    #[test]
    fn imports_that_point_down_or_stay_are_left_alone() {
        for body in [
            "use crate::{limits::CALLS_MAX, twilio::sid::{CallSid, StreamSid}};",
            "use super::registry::CallKey;",
            "use crate::calls::event::Event;",
            "pub(crate) fn f() {}",
            "pub(in crate::calls) fn f() {}",
            "#[cfg(test)]\nmod tests {\n    use super::*;\n}",
            "// crate::server would be wrong here\n/* and /* crate::server */ here */",
            "const A: &str = \"crate::server\"; const B: &str = r#\"crate::\"server\"#; const C: char = '\"';",
            "fn f<'a>(x: &'a str) -> &'a str { x }",
        ] {
            assert_eq!(whats("calls/desk.rs", body), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn a_pure_module_that_touches_the_world_is_caught() {
        for body in [
            "use tokio::sync::mpsc;",
            "fn f() { let now = std::time::Instant::now(); }",
            "fn f() { let now = SystemTime::now(); }",
            "fn f() { let now = jiff::Timestamp::now(); }",
            "fn f() { rand::random::<u8>(); }",
            "fn f() { fastrand::u8(..); }",
            "fn f() { getrandom::fill(&mut []); }",
            "use std::{fs, time::Duration};",
            "use std::fs::File;",
            "use std::net::TcpStream;",
            "use std::net::{IpAddr, UdpSocket};",
            "use std::net::*;",
            "fn f() { std::env::var(\"A\"); }",
            "#[cfg(test)]\nmod tests {\n    fn f() {}\n}\nuse tokio::sync::mpsc;",
            "#[cfg(test)]\nmod tests;\nuse tokio::sync::mpsc;",
        ] {
            assert!(bites("calls/watchdog.rs", body), "not caught: {body}");
            assert!(!bites("server/router.rs", body), "caught where it may stand: {body}");
        }
    }

    #[test]
    fn what_a_pure_module_may_name_is_left_alone() {
        for body in [
            "use std::{net::SocketAddr, time::Instant};\nfn f(now: Instant) -> Instant { now }",
            "// tokio::spawn and Instant::now() belong to the drivers",
            "#[cfg(test)]\npub(crate) mod samples {\n    pub fn now() -> Instant { Instant::now() }\n}",
            "#[cfg(test)]\nmod tests {\n    fn now() -> std::time::Instant { std::time::Instant::now() }\n}",
        ] {
            assert_eq!(whats("calls/watchdog.rs", body), Vec::<String>::new(), "{body}");
        }
    }

    #[test]
    fn a_long_file_is_caught_but_not_for_its_tests() {
        let long = "fn f() {}\n".repeat(LINES_MAX);
        assert!(bites("server/router.rs", &long));
        assert!(!bites("server/router.rs", &format!("#[cfg(test)]\nmod tests {{\n{long}}}\n")));
        assert!(!bites("server/router_tests.rs", &long));
    }

    #[test]
    fn a_file_without_a_head_is_caught() {
        for text in ["", "use std::fmt;\n", "// A comment.\n", "//!\nuse std::fmt;\n", "\n//! Late.\n"] {
            assert_eq!(offences("server/router.rs", text).len(), 1, "{text:?}");
        }
    }

    #[test]
    fn empty_names_and_unfinished_code_are_caught() {
        for body in
            ["struct CallManager;", "enum Helper {}", "fn get_call() {}", "fn f() { todo!() }", "fn f() { dbg!(1); }"]
        {
            assert!(bites("server/router.rs", body), "not caught: {body}");
        }
    }

    #[test]
    fn an_offence_says_where_it_stands() {
        let found =
            offences("calls/desk.rs", "//! A planted file.\n\nuse crate::{\n    limits,\n    server::router,\n};\n");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].to_string(), "src/calls/desk.rs:5: `calls` imports up, from `server`");
    }
}
