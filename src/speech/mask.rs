//! `speech.mask_digits`: numbers of six digits and more that were said aloud, taken out of a text before anybody keeps it.
//!
//! A number may be written in digits, with signs between (`052-123 45 67`), or word by word, as engines do with slow speech:
//! "zero five two…", in English or Hebrew. It may be said in pieces: so all segments of a call are read as one text. What
//! a caller says in another way ("a million") is not found.

use super::recognizer::Segment;

/// So many digits one after the other are somebody's number: of an identity card, an account, a telephone.
const DIGITS_MIN: usize = 6;
/// Stands for a digit or a key that is nobody's business.
pub const MASK: char = '•';

/// Words that stand within a number; so does every sign.
const WITHIN: &[&str] = &["and"];

#[rustfmt::skip]
const UNITS: &[&str] = &[
    "zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine",
    "אפס", "אחד", "אחת", "שניים", "שתיים", "שנים", "שתים", "שני", "שתי", "שלוש", "שלושה", "ארבע", "ארבעה", "חמש", "חמישה", "שש", "שישה",
    "שבע", "שבעה", "שמונה", "תשע", "תשעה",
    // Of `שתים עשרה`: a digit more.
    "עשר", "עשרה",
];
#[rustfmt::skip]
const TENS: &[&str] = &[
    "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety",
    "עשרים", "שלושים", "ארבעים", "חמישים", "שישים", "שבעים", "שמונים", "תשעים",
];
#[rustfmt::skip]
const TWO_DIGITS: &[&str] = &[
    "ten", "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
];

/// A word of the text, and what it is in a number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// So many digits.
    Digits(usize),
    /// `twenty`: one digit, or two where no unit follows.
    Tens,
    /// A sign between digits.
    Sign,
    Other,
}

/// What is known of a text's ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ends {
    /// It is whole.
    Closed,
    /// It goes on at both of them: digits there may be part of a long number, and are masked however few they are.
    Open,
}

/// Puts [`MASK`] in place of each digit, and of each word that stands for digits, of every such number.
pub fn mask_digits(segments: &mut [Segment], ends: Ends) {
    let words: Vec<(usize, Part)> = segments
        .iter()
        .enumerate()
        .flat_map(|(index, segment)| segment.text.split_whitespace().map(move |word| (index, part_of(word))))
        .collect();
    let mut masked = vec![false; words.len()];
    let mut begin = 0;
    while begin < words.len() {
        let length = words[begin..].iter().take_while(|(_, part)| *part != Part::Other).count();
        let is_at_an_end = ends == Ends::Open && (begin == 0 || begin + length == words.len());
        if is_at_an_end || digits_of(&words[begin..begin + length]) >= DIGITS_MIN {
            masked[begin..begin + length].fill(true);
        }
        begin += length + 1;
    }
    let mut word = 0;
    for (index, segment) in segments.iter_mut().enumerate() {
        let count = words[word..].iter().take_while(|(of, _)| *of == index).count();
        let hidden = &masked[word..word + count];
        if hidden.contains(&true) {
            let told = segment.text.split_whitespace().zip(hidden).map(|(word, is_hidden)| match is_hidden {
                true => hide(word),
                false => word.to_owned(),
            });
            segment.text = told.collect::<Vec<_>>().join(" ");
        }
        word += count;
    }
}

fn digits_of(number: &[(usize, Part)]) -> usize {
    let is_followed_by_unit = |at: usize| matches!(number.get(at + 1), Some((_, Part::Digits(1))));
    let digits = |(at, (_, part)): (usize, &(usize, Part))| match part {
        Part::Digits(count) => *count,
        Part::Tens if is_followed_by_unit(at) => 1,
        Part::Tens => 2,
        Part::Sign | Part::Other => 0,
    };
    number.iter().enumerate().map(digits).sum()
}

fn part_of(word: &str) -> Part {
    let digits = word.chars().filter(|c| c.is_numeric()).count();
    if digits > 0 {
        // `ID4711` and `5th` are no part of a number that is said digit by digit; `052-1234567,` is.
        let has_letters = word.chars().any(char::is_alphabetic);
        return if has_letters && digits < DIGITS_MIN { Part::Other } else { Part::Digits(digits) };
    }
    let bare = word.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase();
    // Engines write both `twenty-three` and `five-five-five`.
    let parts: Vec<Part> = bare.split(['-', '–']).map(word_part).collect();
    match parts[..] {
        _ if bare.is_empty() || WITHIN.contains(&&bare[..]) => Part::Sign,
        [one] => one,
        [Part::Tens, Part::Digits(1)] => Part::Digits(2),
        _ if parts.iter().all(|part| matches!(part, Part::Digits(_))) => Part::Digits(parts.len()),
        _ => Part::Other,
    }
}

fn word_part(word: &str) -> Part {
    // Hebrew's "and" is a letter before the word.
    let bare = word.strip_prefix('ו').unwrap_or(word);
    let is_in = |words: &[&str]| words.contains(&word) || words.contains(&bare);
    match () {
        () if is_in(UNITS) => Part::Digits(1),
        () if is_in(TENS) => Part::Tens,
        () if is_in(TWO_DIGITS) => Part::Digits(2),
        () => Part::Other,
    }
}

fn hide(word: &str) -> String {
    match word.chars().any(char::is_numeric) {
        true => word.chars().map(|c| if c.is_numeric() { MASK } else { c }).collect(),
        false if word.chars().any(char::is_alphabetic) => MASK.to_string(),
        false => word.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn masked(texts: &[&str]) -> Vec<String> {
        let segment = |text: &&str| Segment { start_ms: 0, end_ms: 9, text: (*text).to_owned() };
        let mut segments: Vec<_> = texts.iter().map(segment).collect();
        mask_digits(&mut segments, Ends::Closed);
        segments.into_iter().map(|segment| segment.text).collect()
    }

    fn one(text: &str) -> String {
        masked(&[text]).remove(0)
    }

    #[test]
    fn numbers_in_digits_are_masked_however_they_are_written() {
        assert_eq!(one("Call 052-1234567, please."), "Call •••-•••••••, please.");
        assert_eq!(one("My number is +972 52 123 45 67 thanks"), "My number is +••• •• ••• •• •• thanks");
        assert_eq!(one("it is 123456 or AB-7654321"), "it is •••••• or AB-•••••••");
        assert_eq!(one("1 2 3 4 5 6"), "• • • • • •");
        assert_eq!(one("מספר הזהות שלי ٣٢١٦٥٤"), "מספר הזהות שלי ••••••");
    }

    #[test]
    fn what_is_shorter_stays_as_it_is() {
        for text in [
            "at 10:30 on the 5th",
            "room 12345",
            "12 apples and 345 pears",
            "",
            "  two  spaces ",
            "flight LY315 at 12 345",
        ] {
            assert_eq!(one(text), text);
        }
    }

    #[test]
    fn numbers_in_words_are_masked_in_both_languages() {
        assert_eq!(one("It's zero five two, one two three four."), "It's • • • • • • •");
        assert_eq!(one("oh-five-two one two three"), "• • • •");
        assert_eq!(one("fifty two, twenty-three, forty five"), "• • • • •");
        assert_eq!(one("אפס חמש שתיים שלוש ארבע וחמש"), "• • • • • •");
        assert_eq!(one("I have two cats, three dogs and one horse"), "I have two cats, three dogs and one horse");
        assert_eq!(one("one two three four five"), "one two three four five");
    }

    #[test]
    fn a_number_that_is_said_in_pieces_is_one() {
        assert_eq!(masked(&["it is 052", "123", "thank you 12"]), ["it is •••", "•••", "thank you 12"]);
        assert_eq!(masked(&["052", "", "12"]), ["052", "", "12"]);
        assert_eq!(masked(&["it is 39021", "[…]", "4587."]), ["it is •••••", "[…]", "••••."]);
        assert_eq!(masked(&["052 ,", "… 123 45"]), ["••• ,", "… ••• ••"]);
    }

    #[test]
    fn a_text_that_goes_on_shows_no_digit_that_a_long_number_may_begin_or_end_with() {
        let segment = |text: &str| Segment { start_ms: 0, end_ms: 9, text: text.to_owned() };
        let mut segments = ["4587 is it", "at 10 for 3 people, my number is 45", "80"].map(segment);
        mask_digits(&mut segments, Ends::Open);
        assert_eq!(segments.map(|segment| segment.text), ["•••• is it", "at 10 for 3 people, my number is ••", "••"]);
    }
}
