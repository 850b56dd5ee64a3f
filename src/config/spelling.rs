//! Names that do not exist: what they were probably meant to be, or what there is instead.

use super::reader::Key;

/// Whether some key stands in a section of this name.
pub(super) fn is_section(name: &str, keys: &[Key]) -> bool {
    sections(keys).contains(&name)
}

/// What to say about a key, or a section, of the file.
pub(super) fn unknown(name: &str, keys: &[Key]) -> String {
    if let Some(nearest) = nearest(name, sections(keys).into_iter()).filter(|_| !name.contains('.')) {
        return format!("there is no such section or key; did you mean [{nearest}]?");
    }
    if let Some(nearest) = nearest_key(name, keys) {
        return format!("there is no such key; did you mean {nearest}?");
    }
    match name.rsplit_once('.').filter(|(section, _)| is_section(section, keys)) {
        Some((section, _)) => {
            let known = keys.iter().filter_map(|key| key.name.strip_prefix(section)?.strip_prefix('.'));
            format!("there is no such key; [{section}] has {}", known.collect::<Vec<_>>().join(", "))
        }
        None => format!("there is no such section or key; there are [{}]", sections(keys).join("], [")),
    }
}

/// What to say about an environment variable that begins with `KOLBOX_`.
pub(super) fn unknown_environment(name: &str, keys: &[Key]) -> String {
    let written = name.strip_prefix("KOLBOX_").unwrap_or(name).to_ascii_lowercase().replace("__", ".");
    // One underscore where two belong is the likeliest slip.
    let plain = |name: &str| name.replace(['.', '_'], "");
    let slip = keys.iter().find(|key| plain(key.name) == plain(&written)).map(|key| key.name);
    match slip.or_else(|| nearest_key(&written, keys)) {
        Some(nearest) => {
            let nearest = keys.iter().find(|key| key.name == nearest).map(Key::environment_name);
            format!("there is no such name; did you mean {}?", nearest.unwrap_or_default())
        }
        None => "there is no such name; they are written KOLBOX_<SECTION>__<KEY>, such as \
                 KOLBOX_WATCHDOG__START_TIMEOUT"
            .to_owned(),
    }
}

/// A key of the same name elsewhere, or one that differs by few letters.
fn nearest_key(name: &str, keys: &[Key]) -> Option<&'static str> {
    let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
    let elsewhere = keys.iter().find(|key| last(key.name) == last(name)).map(|key| key.name);
    elsewhere.or_else(|| nearest(name, keys.iter().map(|key| key.name)))
}

fn nearest<'a>(name: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let tolerance = 1 + name.len().min(64) / 6;
    let rated = candidates.map(|candidate| (distance(name, candidate), candidate));
    rated.filter(|(distance, _)| *distance <= tolerance).min().map(|(_, candidate)| candidate)
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
    let other: Vec<char> = other.chars().take(64).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().take(64).enumerate() {
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

    #[test]
    fn counts_the_letters_that_differ() {
        for (one, other, letters) in [("", "abc", 3), ("abc", "", 3), ("watchdgo", "watchdog", 2), ("a", "a", 0)] {
            assert_eq!(distance(one, other), letters, "{one} {other}");
        }
    }
}
