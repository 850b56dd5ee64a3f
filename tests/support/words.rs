//! How much of what was said was heard: words compared, whatever their case and punctuation.

/// The words of a text, in small letters and without anything that is not heard.
pub fn words(text: &str) -> Vec<String> {
    let apart = text.to_lowercase().replace(['-', '–', '־'], " ");
    let plain = apart.replace(|c: char| !c.is_alphanumeric() && !c.is_whitespace(), "");
    plain.split_whitespace().map(str::to_owned).collect()
}

/// Words to be taken away, put in or replaced, to make one text of the other.
pub fn wrong_words(said: &[String], heard: &[String]) -> usize {
    let mut row: Vec<usize> = (0..=heard.len()).collect();
    for (index, word) in said.iter().enumerate() {
        let mut before = row[0];
        row[0] = index + 1;
        for (at, other) in heard.iter().enumerate() {
            let replaced = before + usize::from(word != other);
            before = row[at + 1];
            row[at + 1] = replaced.min(row[at] + 1).min(before + 1);
        }
    }
    row[heard.len()]
}
