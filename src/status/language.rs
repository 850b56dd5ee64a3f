//! The page's two languages: texts in both, and which one a visitor wants.

/// A language of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Language {
    Hebrew,
    English,
}

/// A text in every language of the page; one that lacks a language does not compile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text {
    pub he: &'static str,
    pub en: &'static str,
}

/// A text that depends on a number, which stands in it as `{n}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub one: Text,
    /// Hebrew has words for two of a thing.
    pub two: Text,
    pub many: Text,
}

impl Language {
    pub const ALL: [Language; 2] = [Language::Hebrew, Language::English];

    /// The language that a visitor asks for: `?lang=`, else the browser's wish, else Hebrew.
    pub fn wanted(query: Option<&str>, accept_language: Option<&str>) -> Self {
        query.and_then(Self::of_tag).or_else(|| accept_language.and_then(preferred)).unwrap_or(Self::Hebrew)
    }

    /// The language's code (BCP 47).
    pub fn code(self) -> &'static str {
        match self {
            Self::Hebrew => "he",
            Self::English => "en",
        }
    }

    /// HTML's `dir`.
    pub fn direction(self) -> &'static str {
        match self {
            Self::Hebrew => "rtl",
            Self::English => "ltr",
        }
    }

    /// The language's own name.
    pub fn own_name(self) -> &'static str {
        match self {
            Self::Hebrew => "עברית",
            Self::English => "English",
        }
    }

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Hebrew => Self::English,
            Self::English => Self::Hebrew,
        }
    }

    /// The text in this language.
    pub fn say(self, text: Text) -> &'static str {
        match self {
            Self::Hebrew => text.he,
            Self::English => text.en,
        }
    }

    /// The text for this number, in this language.
    pub fn count(self, counted: &Counted, number: u64) -> String {
        let form = match number {
            1 => counted.one,
            2 => counted.two,
            _ => counted.many,
        };
        self.say(form).replace("{n}", &number.to_string())
    }

    /// `he`, `he-IL`, `iw` (Hebrew's code until 1989, which some devices still send), `en-GB` …
    pub fn of_tag(tag: &str) -> Option<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default().trim();
        match primary.to_ascii_lowercase().as_str() {
            "he" | "iw" => Some(Self::Hebrew),
            "en" => Some(Self::English),
            _ => None,
        }
    }
}

/// The best of ours in an `Accept-Language` header (RFC 9110 §12.5.4); the earlier one of equals.
fn preferred(header: &str) -> Option<Language> {
    let mut best: Option<(Language, f32)> = None;
    for range in header.split(',') {
        let mut parts = range.split(';');
        let Some(language) = parts.next().and_then(Language::of_tag) else { continue };
        let weight = parts.find_map(|part| part.trim().strip_prefix("q=")).map_or(Ok(1.0), str::parse);
        let weight: f32 = weight.unwrap_or(0.0);
        if weight > best.map_or(0.0, |(_, weight)| weight) {
            best = Some((language, weight));
        }
    }
    best.map(|(language, _)| language)
}

#[cfg(test)]
mod tests {
    use super::{Language::*, *};

    #[test]
    fn the_link_wins_over_the_browser_and_hebrew_is_what_remains() {
        assert_eq!(Language::wanted(None, None), Hebrew);
        assert_eq!(Language::wanted(Some("en"), Some("he")), English);
        assert_eq!(Language::wanted(Some("he"), Some("en")), Hebrew);
        assert_eq!(Language::wanted(Some("fr"), Some("en-GB")), English);
        assert_eq!(Language::wanted(Some(""), Some("fr, de;q=0.8")), Hebrew);
    }

    #[test]
    fn the_browsers_weights_count_and_nonsense_is_ignored() {
        assert_eq!(Language::wanted(None, Some("en;q=0.5, iw-IL;q=0.9")), Hebrew);
        assert_eq!(Language::wanted(None, Some("en-US,en;q=0.9,he;q=0.8")), English);
        assert_eq!(Language::wanted(None, Some("en;q=0, fr")), Hebrew);
        assert_eq!(Language::wanted(None, Some("en;q=many")), Hebrew);
        assert_eq!(Language::wanted(None, Some("en;q=NaN,,;;=,\u{5d0}")), Hebrew);
        assert_eq!(Language::wanted(None, Some("*")), Hebrew);
    }

    #[test]
    fn numbers_take_their_own_forms() {
        let calls = Counted {
            one: Text { he: "שיחה אחת", en: "one call" },
            two: Text { he: "שתי שיחות", en: "two calls" },
            many: Text { he: "{n} שיחות", en: "{n} calls" },
        };
        assert_eq!(Hebrew.count(&calls, 2), "שתי שיחות");
        assert_eq!(Hebrew.count(&calls, 5), "5 שיחות");
        assert_eq!(English.count(&calls, 1), "one call");
        assert_eq!(English.count(&calls, 0), "0 calls");
    }
}
