//! What stands around every page: title, icon, languages.

use super::{assets, language::Language, snapshot::State};

/// The values of `frame.html`.
pub(super) struct Frame {
    pub title: String,
    /// Picture and colour.
    pub state: &'static str,
    pub language: Language,
    pub languages: [LanguageLink; 2],
    pub edition: &'static str,
}

/// The same page in a language.
pub(super) struct LanguageLink {
    pub code: &'static str,
    pub name: &'static str,
    pub link: String,
    pub current: bool,
}

impl Frame {
    /// `link` tells where the same page is in another language.
    pub(super) fn new(title: String, state: State, language: Language, link: impl Fn(Language) -> String) -> Self {
        let languages = Language::ALL.map(|each| LanguageLink {
            code: each.code(),
            name: each.own_name(),
            link: link(each),
            current: each == language,
        });
        Self { title, state: state.as_str(), language, languages, edition: &assets::EDITION }
    }
}
