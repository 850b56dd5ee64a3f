//! The page that asks for the password.

use askama::Template;

use super::{
    access::Denied,
    frame::Frame,
    language::{Language, Text},
    snapshot::State,
    words,
};

/// The page as HTML; `denied`: why the last password was not taken.
///
/// # Errors
/// Only when a value cannot be formatted, which none of ours does.
pub fn render(state: State, language: Language, denied: Option<Denied>) -> askama::Result<String> {
    let title = language.say(words::LOG_IN_TITLE).to_owned();
    let frame = Frame::new(title, state, language, |language| format!("/login?lang={}", language.code()));
    LoginPage { frame, language, problem: denied.map(|denied| language.say(problem(denied))) }.render()
}

#[derive(Template)]
#[template(path = "login.html", config = "static/status/askama.toml")]
struct LoginPage {
    frame: Frame,
    language: Language,
    problem: Option<&'static str>,
}

fn problem(denied: Denied) -> Text {
    match denied {
        Denied::Wrong => words::PASSWORD_WRONG,
        Denied::TooSoon(_) => words::PASSWORD_TOO_SOON,
        Denied::Busy => words::PASSWORD_BUSY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_asks_in_both_languages_and_says_why_it_asks_again() {
        let page = |language, denied| render(State::Ok, language, denied).unwrap();
        let hebrew = page(Language::Hebrew, None);
        assert!(hebrew.contains("dir=\"rtl\"") && hebrew.contains("כניסה עם סיסמה") && hebrew.contains("lang=en"));
        assert!(hebrew.contains("<form method=\"post\" action=\"/login\">"), "{hebrew}");
        assert!(hebrew.contains("name=\"lang\" value=\"he\""), "the answer is in the same language");
        assert!(!hebrew.contains("role=\"alert\""));
        let english = page(Language::English, Some(Denied::Wrong));
        assert!(english.contains("That is not the password."), "{english}");
        assert!(page(Language::Hebrew, Some(Denied::Busy)).contains("role=\"alert\""));
    }
}
