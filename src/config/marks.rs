//! What mails, web pages and word processors put into a line that is pasted from them: it looks right and is not.

/// Quotation marks that are none to TOML. The gershayim (U+05F4) stands where a Hebrew keyboard has them.
const CURLY_QUOTES: [char; 12] = ['“', '”', '„', '‟', '«', '»', '״', '‘', '’', '‚', '׳', '`'];

/// Whether this is one of them.
pub(super) fn is_curly_quote(c: char) -> bool {
    CURLY_QUOTES.contains(&c)
}

/// Whether a character cannot be seen: marks of direction, spaces without width or that do not break, byte order marks.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202f}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// The first invisible character of a text, for people: `U+200F`.
pub(super) fn invisible_in(text: &str) -> Option<String> {
    text.chars().find(|c| is_invisible(*c)).map(|c| format!("U+{:04X}", u32::from(c)))
}

/// The text without invisible characters, and without space and quotation marks around it.
pub(super) fn plain(text: &str) -> String {
    let visible: String = text.chars().filter(|c| !is_invisible(*c)).collect();
    let around = |c: char| c.is_whitespace() || c == '"' || c == '\'' || is_curly_quote(c);
    visible.trim_matches(around).to_owned()
}

/// Whether a text that is no secret by its place may be one that stands in the wrong place: tokens and keys are one long
/// run of letters and digits. Twilio's SIDs, two letters and 32 digits, are names and no secrets, also with a digit too
/// few or too many; in small letters only those of the right length, since a token may begin so.
pub(super) fn may_hold_secret(text: &str) -> bool {
    let is_sid = |run: &str| {
        let (letters, digits) = run.split_at(2);
        let in_capitals = letters == "AC" || letters == "SK";
        let in_small_letters = (letters == "ac" || letters == "sk") && run.len() == 34;
        (in_capitals || in_small_letters) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut runs = text.split(|c: char| !c.is_ascii_alphanumeric());
    runs.any(|run| run.len() >= 32 && run.bytes().any(|byte| byte.is_ascii_digit()) && !is_sid(run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_mail_put_around_a_value_is_taken_away() {
        for (pasted, meant) in [
            ("“gw.example”", "gw.example"),
            ("\u{200f}gw.example\u{200e} ", "gw.example"),
            ("״8s״", "8s"),
            ("gw\u{a0}x", "gwx"),
            ("", ""),
        ] {
            assert_eq!(plain(pasted), meant, "{pasted:?}");
        }
        assert_eq!(invisible_in("a\u{200f}b").as_deref(), Some("U+200F"));
        assert_eq!(invisible_in("שלום"), None);
    }

    #[test]
    fn tokens_are_told_from_the_names_of_accounts() {
        let digits = "0123456789abcdef0123456789abcdef";
        let begins_so = "ac0123456789abcdef0123456789abcd";
        for secret in [digits, &format!("x {digits}!"), begins_so, "xoxb1234567890abcdefghijklmnopqrstuvwxyz"] {
            assert!(may_hold_secret(secret), "{secret}");
        }
        for name in [
            &format!("AC{digits}")[..],
            &format!("AC{digits}0"),
            &format!("sk{digits}"),
            "gw.example.co.il",
            "/var/lib/kolbox",
            "",
        ] {
            assert!(!may_hold_secret(name), "{name}");
        }
    }
}
