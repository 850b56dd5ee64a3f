//! The fuzz targets on stable: every file of each corpus, and some thousands of its mutations with a fixed seed.
//!
//! `cargo fuzz` (see `fuzz/Cargo.toml`) looks further; what it finds comes into the corpus, and so stays found here.

use std::{
    fs,
    panic::{self, AssertUnwindSafe},
    path::Path,
};

use fastrand::Rng;

#[path = "../fuzz/src/lib.rs"]
mod targets;

const SEED: u64 = 0x6b6f_6c62_6f78;
/// A configuration is read in milliseconds, the others in much less.
const MUTATIONS: usize = 2_000;
const CONFIG_MUTATIONS: usize = 400;
/// Changes made to one input.
const CHANGES_MAX: usize = 4;
const INPUT_BYTES_MAX: usize = 4_096;
/// What texts consist of, and what is written where a parser looks.
const WORDS: [&[u8]; 16] = [
    b"\n",
    b"\0",
    b"\xff",
    b"\"",
    b"\\u0000",
    b"%00",
    b"%",
    b"&",
    b"=",
    b":",
    b"-1",
    b"18446744073709551615",
    b"99999999999999999999",
    b"null",
    b"{}",
    b"\xd7\xa9",
];

fn replay(name: &str, mutations: usize) {
    let (_, run) = targets::TARGETS.into_iter().find(|(other, _)| *other == name).expect("a target of this name");
    let corpus = corpus(name);
    assert!(corpus.len() >= 4, "fuzz/corpus/{name} has {} files: nothing to begin with", corpus.len());
    for (file, input) in &corpus {
        attempt(run, input, file);
    }
    let mut rng = Rng::with_seed(SEED);
    for number in 0..mutations {
        let (file, input) = &corpus[rng.usize(..corpus.len())];
        let (_, other) = &corpus[rng.usize(..corpus.len())];
        let mutated = mutated(input, other, &mut rng);
        attempt(run, &mutated, &format!("mutation {number}, made of {file}"));
    }
}

/// Says which input it was; the panic's own message stands before that.
fn attempt(run: fn(&[u8]), input: &[u8], origin: &str) {
    if panic::catch_unwind(AssertUnwindSafe(|| run(input))).is_err() {
        panic!("{origin} broke a promise:\n{}", input.escape_ascii());
    }
}

/// The committed inputs, in the order of their names.
fn corpus(name: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(name);
    let entries = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    paths.iter().map(|path| (path.display().to_string(), fs::read(path).expect("a file"))).collect()
}

fn mutated(input: &[u8], other: &[u8], rng: &mut Rng) -> Vec<u8> {
    let mut bytes = input.to_vec();
    for _ in 0..rng.usize(1..=CHANGES_MAX) {
        let (from, to) = (rng.usize(..=bytes.len()), rng.usize(..=bytes.len()));
        let range = from.min(to)..from.max(to);
        match rng.u8(..7) {
            0 if from < bytes.len() => bytes[from] ^= 1 << rng.u8(..8),
            1 if from < bytes.len() => bytes[from] = rng.u8(..),
            2 => drop(bytes.drain(from..(from + rng.usize(..8)).min(bytes.len()))),
            3 => drop(bytes.drain(range)),
            4 => {
                let piece = bytes[range].to_vec();
                bytes.splice(to..to, piece);
            }
            5 if !other.is_empty() => {
                let begin = rng.usize(..other.len());
                let piece = &other[begin..rng.usize(begin..=other.len())];
                bytes.splice(from..from, piece.iter().copied());
            }
            _ => {
                let word = WORDS[rng.usize(..WORDS.len())];
                bytes.splice(from..from, word.iter().copied());
            }
        }
        bytes.truncate(INPUT_BYTES_MAX.max(input.len()));
    }
    bytes
}

#[test]
fn media_stream_messages_never_break_the_session() {
    replay("media_message", MUTATIONS);
}

#[test]
fn webhook_forms_say_only_what_stands_in_them() {
    replay("webhook_form", MUTATIONS);
}

#[test]
fn signatures_hold_for_every_form_of_their_url_and_for_nothing_else() {
    replay("signature_url", MUTATIONS);
}

#[test]
fn what_is_said_of_a_wrong_signature_names_the_mistake_and_no_secret() {
    replay("signature_doubt", MUTATIONS);
}

#[test]
fn configurations_are_served_with_or_refused_with_a_place() {
    replay("config", CONFIG_MUTATIONS);
}

#[test]
fn stored_records_come_back_or_are_known_to_be_damaged() {
    replay("stored_record", MUTATIONS);
}

#[test]
fn requests_name_no_host_but_the_one_they_mean() {
    replay("http_target", MUTATIONS);
}

#[test]
fn answers_of_twilios_rest_api_are_read_whatever_they_are() {
    replay("rest_answer", MUTATIONS);
}

#[test]
fn nobody_comes_in_at_the_status_side_without_the_password() {
    replay("login_form", MUTATIONS);
}

#[test]
fn every_target_is_replayed_and_has_its_binary() {
    let this = include_str!("fuzz_replay.rs");
    let manifest = include_str!("../fuzz/Cargo.toml");
    for (name, _) in targets::TARGETS {
        assert!(this.contains(&format!("replay(\"{name}\",")), "{name} is not replayed");
        assert!(manifest.contains(&format!("path = \"fuzz_targets/{name}.rs\"")), "{name} has no binary");
    }
}
