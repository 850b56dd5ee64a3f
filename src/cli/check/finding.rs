//! What the doctor says: one line for each thing looked at.

use std::fmt;

/// What was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Finding {
    pub what: &'static str,
    pub verdict: Verdict,
    pub text: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Fine,
    /// It works, but whoever installs the box should know; or it could not be judged.
    Note,
    Fix,
}

impl Finding {
    pub(super) fn fine(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Fine, text: text.into() }
    }

    pub(super) fn note(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Note, text: text.into() }
    }

    /// The text says what to do.
    pub(super) fn fix(what: &'static str, text: impl Into<String>) -> Self {
        Self { what, verdict: Verdict::Fix, text: text.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict {
            Verdict::Fine => "ok",
            Verdict::Note => "note",
            Verdict::Fix => "FIX",
        };
        write!(f, "{verdict:<5} {:<14} {}", self.what, self.text)
    }
}
