//! Names that do not exist: what they were probably meant to be, or what there is instead.

use super::reader::Key;

/// Longest part of a name that is compared, in characters.
const COMPARED_CHARS_MAX: usize = 64;

/// What to say about a name that does not exist.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unknown {
    pub remedy: String,
    /// The sections and keys that it was probably meant to be; empty when nothing is alike.
    pub meant: Vec<&'static str>,
}

/// Whether some key stands in a section of this name.
pub(super) fn is_section(name: &str, keys: &[Key]) -> bool {
    sections(keys).contains(&name)
}

/// A key, or a section, of the file.
pub(super) fn unknown(name: &str, is_table: bool, keys: &[Key]) -> Unknown {
    let section = similar_section(name, keys).filter(|_| is_table || !name.contains('.'));
    if let Some(section) = section {
        let remedy = format!("there is no such section or key; did you mean [{section}]?");
        return Unknown { remedy, meant: vec![section] };
    }
    let alike = similar_keys(name, keys);
    if !alike.is_empty() {
        let remedy = format!("there is no such key; did you mean {}?", alike.join(" or "));
        return Unknown { remedy, meant: alike };
    }
    let remedy = match name.rsplit_once('.').filter(|(section, _)| is_section(section, keys)) {
        Some((section, _)) => {
            let known = keys.iter().filter_map(|key| key.name.strip_prefix(section)?.strip_prefix('.'));
            let known: Vec<_> = known.filter(|key| !key.contains('.')).collect();
            format!("there is no such key; [{section}] has {}", known.join(", "))
        }
        None => format!("there is no such section or key; there are [{}]", sections(keys).join("], [")),
    };
    Unknown { remedy, meant: Vec::new() }
}

/// An environment variable that begins with `KOLBOX_`.
pub(super) fn unknown_environment(name: &str, keys: &[Key]) -> Unknown {
    let written = name.strip_prefix("KOLBOX_").unwrap_or(name).to_ascii_lowercase().replace("__", ".");
    // One underscore where two belong is the likeliest slip.
    let plain = |name: &str| name.replace(['.', '_'], "");
    let slip: Vec<_> = keys.iter().map(|key| key.name).filter(|key| plain(key) == plain(&written)).collect();
    let alike = if slip.is_empty() { similar_keys(&written, keys) } else { slip };
    if alike.is_empty() {
        let remedy = "there is no such name; they are written KOLBOX_<SECTION>__<KEY>, such as \
                      KOLBOX_WATCHDOG__START_TIMEOUT";
        return Unknown { remedy: remedy.to_owned(), meant: alike };
    }
    let names = keys.iter().filter(|key| alike.contains(&key.name)).map(Key::environment_name);
    let remedy = format!("there is no such name; did you mean {}?", names.collect::<Vec<_>>().join(" or "));
    Unknown { remedy, meant: alike }
}

/// The candidate that differs from a text by few letters; in which case, and with which dashes, does not count.
pub(super) fn nearest<'a>(text: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let text: String = text.chars().take(COMPARED_CHARS_MAX).collect::<String>().to_lowercase().replace('-', "_");
    let tolerance = 1 + text.len() / 6;
    let rated = candidates.map(|candidate| (distance(&text, candidate), candidate));
    rated.filter(|(distance, _)| *distance <= tolerance).min().map(|(_, candidate)| candidate)
}

/// `[tls]` is `[public.tls]`; `[twillio]` is `[twilio]`.
fn similar_section(name: &str, keys: &[Key]) -> Option<&'static str> {
    let sections = sections(keys);
    let same_end = sections.iter().find(|section| section.rsplit('.').next() == Some(name)).copied();
    same_end.or_else(|| nearest(name, sections.into_iter()))
}

/// The key of the same section that differs by few letters, else those of the same name in others, else one that is
/// alike with its section.
fn similar_keys(name: &str, keys: &[Key]) -> Vec<&'static str> {
    let names = || keys.iter().map(|key| key.name);
    let (section, last) = name.rsplit_once('.').unwrap_or(("", name));
    let is_last = |key: &str| key.rsplit('.').next().is_some_and(|end| end.eq_ignore_ascii_case(last));
    let beside = names().filter_map(|key| key.strip_prefix(section)?.strip_prefix('.'));
    if let Some(found) = nearest(last, beside.filter(|key| !key.contains('.'))) {
        return names().filter(|key| *key == format!("{section}.{found}")).collect();
    }
    let elsewhere: Vec<_> = names().filter(|key| is_last(key)).collect();
    if !elsewhere.is_empty() {
        return elsewhere;
    }
    let by_whole = nearest(name, names());
    let by_last = || {
        let ends = names().filter_map(|key| key.rsplit('.').next());
        let found = nearest(last, ends.filter(|end| end.len() > 4))?;
        names().find(|key| key.rsplit('.').next() == Some(found))
    };
    by_whole.or_else(by_last).into_iter().collect()
}

/// In order and without repetition, subsections after their sections.
fn sections(keys: &[Key]) -> Vec<&'static str> {
    let mut sections = Vec::new();
    for key in keys {
        let Some((section, _)) = key.name.rsplit_once('.') else { continue };
        if !sections.contains(&section) {
            sections.push(section);
        }
    }
    sections
}

/// Letters to change, to add or to take away (Levenshtein). Names are short; longer ones count as their beginning.
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().take(COMPARED_CHARS_MAX).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(COMPARED_CHARS_MAX).enumerate() {
        let mut diagonal = index;
        let mut left = index + 1;
        row[0] = left;
        for (cell, other_letter) in row[1..].iter_mut().zip(&other) {
            let changed = diagonal + usize::from(letter != *other_letter);
            diagonal = *cell;
            left = changed.min(left + 1).min(*cell + 1);
            *cell = left;
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys;

    #[test]
    fn counts_the_letters_that_differ() {
        for (one, other, letters) in [("", "abc", 3), ("abc", "", 3), ("watchdgo", "watchdog", 2), ("a", "a", 0)] {
            assert_eq!(distance(one, other), letters, "{one} {other}");
        }
    }

    #[test]
    fn a_name_is_taken_for_the_likeliest_that_there_is() {
        let keys = keys::all();
        for (name, is_table, meant) in [
            ("twillio", true, &["twilio"][..]),
            ("Twilio", true, &["twilio"]),
            ("tls", true, &["public.tls"]),
            ("public.tsl", true, &["public.tls"]),
            ("twilio.auth_tokn", false, &["twilio.auth_token"]),
            ("twilio.Auth-Token", false, &["twilio.auth_token"]),
            ("public.account_sid", false, &["twilio.account_sid"]),
            ("start_timeout", false, &["watchdog.start_timeout"]),
            ("start_timout", false, &["watchdog.start_timeout"]),
            ("public.timeout", false, &["fallback.timeout", "sync.timeout"]),
            ("public.colour", false, &[]),
            ("weather", true, &[]),
        ] {
            assert_eq!(unknown(name, is_table, &keys).meant, meant, "{name}");
        }
    }

    #[test]
    fn where_nothing_is_alike_all_that_there_is_is_told() {
        let said = unknown("public.colour", false, &keys::all()).remedy;
        assert_eq!(said, "there is no such key; [public] has listen, host, trusted_proxies, max_connections");
    }
}
