//! How inputs are cut into pieces.

/// What stands before the first line's end, and what comes after it; all of it if there is none.
pub fn first_line(bytes: &[u8]) -> (&[u8], &[u8]) {
    match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end], &bytes[end + 1..]),
        None => (bytes, &[]),
    }
}

/// The pieces between the lines that hold this separator and nothing else.
pub fn sections<'a>(text: &'a str, separator: &str) -> Vec<&'a str> {
    let mut sections = Vec::new();
    let (mut begin, mut at) = (0, 0);
    for line in text.split_inclusive('\n') {
        if line.trim_end_matches('\n') == separator {
            sections.push(&text[begin..at]);
            begin = at + line.len();
        }
        at += line.len();
    }
    sections.push(&text[begin..]);
    sections
}
