//! A caller's number, which not everybody may see whole.

use std::fmt;

use crate::calls::party;

/// Who looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Viewer {
    /// Anybody in the office's network.
    Anyone,
    /// Somebody who gave the password.
    Staff,
}

/// A caller as Twilio names it: a number, a SIP address, or nothing. It has no `Display`, so that it is never shown
/// by accident; [`Caller::shown_to`] is the only way out.
#[derive(Clone, PartialEq, Eq)]
pub struct Caller(String);

/// As much of a caller as the viewer may see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shown<'a> {
    Whole(&'a str),
    /// The last three digits of a number.
    EndsIn(&'a str),
    /// There is something, but not for this viewer.
    Hidden,
    /// The caller keeps the number to themselves.
    Withheld,
}

/// What Twilio puts in `From` for a caller without a number: these words, typed on a keypad
/// (<https://help.twilio.com/articles/223179988>).
const WITHHELD: [&str; 5] = [
    "+266696687",   // ANONYMOUS
    "+2562533",     // BLOCKED
    "+7378742833",  // RESTRICTED
    "+86282452253", // UNAVAILABLE
    "+8656696",     // UNKNOWN
];

impl Caller {
    pub fn new(from: impl Into<String>) -> Self {
        Self(from.into())
    }

    /// As much as this viewer may see.
    pub fn shown_to(&self, viewer: Viewer) -> Shown<'_> {
        let from = self.0.trim();
        if from.is_empty() || from.eq_ignore_ascii_case("anonymous") || WITHHELD.contains(&from) {
            return Shown::Withheld;
        }
        if viewer == Viewer::Staff {
            return Shown::Whole(from);
        }
        party::ending(from).map_or(Shown::Hidden, Shown::EndsIn)
    }
}

impl fmt::Debug for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Caller({:?})", self.shown_to(Viewer::Anyone))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everybody_sees_three_digits_at_most_and_staff_the_whole_number() {
        let caller = Caller::new("+972501234567");
        assert_eq!(caller.shown_to(Viewer::Anyone), Shown::EndsIn("567"));
        assert_eq!(caller.shown_to(Viewer::Staff), Shown::Whole("+972501234567"));
        assert!(!format!("{caller:?}").contains("1234"));
    }

    #[test]
    fn what_is_no_full_number_is_hidden_whole() {
        for from in ["*1205", "100", "sip:dana@example.com", "client:dana123456789", "מספר5550123"] {
            assert_eq!(Caller::new(from).shown_to(Viewer::Anyone), Shown::Hidden, "{from}");
            assert_eq!(Caller::new(from).shown_to(Viewer::Staff), Shown::Whole(from));
        }
    }

    #[test]
    fn a_caller_without_a_number_is_no_number() {
        for from in ["", " ", "Anonymous", "+266696687", "+86282452253"] {
            assert_eq!(Caller::new(from).shown_to(Viewer::Staff), Shown::Withheld, "{from}");
        }
    }

    #[test]
    fn the_numbers_of_withheld_callers_are_words_on_a_keypad() {
        let keypad = |letter: char| match letter {
            'A'..='C' => '2',
            'D'..='F' => '3',
            'G'..='I' => '4',
            'J'..='L' => '5',
            'M'..='O' => '6',
            'P'..='S' => '7',
            'T'..='V' => '8',
            _ => '9',
        };
        let words = ["ANONYMOUS", "BLOCKED", "RESTRICTED", "UNAVAILABLE", "UNKNOWN"];
        let typed = words.map(|word| format!("+{}", word.chars().map(keypad).collect::<String>()));
        assert_eq!(typed, WITHHELD);
    }
}
