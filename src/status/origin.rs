//! Which POSTs are the box's own page's, and not some other site's that a visitor has open. Pure.
//!
//! A browser sends its login along with whatever another site makes it post, but it always says in `Origin` which site
//! that was (RFC 6454 §7; Fetch, "HTTP network-or-cache fetch"). A program has no `Origin`; it has to show what no
//! browser sends by itself: the password, and a content type that no form can have.

/// How a page was fetched, as its own origin says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scheme {
    Http,
    /// TLS ends at the box, or at something in front of it.
    Https,
}

/// Who posts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Poster {
    /// The box's own page.
    OwnPage(Scheme),
    /// A program, which has yet to show the password.
    Program,
}

/// Who posts, by the request's `Origin` headers, its host, whether it has an `Authorization`, and its content type;
/// `None`: somebody who may not.
pub fn poster<'a>(
    mut origins: impl Iterator<Item = &'a [u8]>,
    host: &str,
    has_authorization: bool,
    content_type: Option<&str>,
) -> Option<Poster> {
    let Some(origin) = origins.next() else {
        return (has_authorization && content_type.is_some_and(is_json)).then_some(Poster::Program);
    };
    let scheme = own_page(std::str::from_utf8(origin).ok()?, host)?;
    origins.next().is_none().then_some(Poster::OwnPage(scheme))
}

/// Whether the media type is this one, whatever its parameters.
pub fn is_media_type(content_type: &str, wanted: &str) -> bool {
    content_type.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case(wanted))
}

fn is_json(content_type: &str) -> bool {
    is_media_type(content_type, "application/json")
}

/// The scheme of an origin that is this host's. `null`, as of a page in a sandbox, is nobody's.
fn own_page(origin: &str, host: &str) -> Option<Scheme> {
    let (scheme, origin) = origin.split_once("://")?;
    let (scheme, port) = match scheme {
        "http" => (Scheme::Http, "80"),
        "https" => (Scheme::Https, "443"),
        _ => return None,
    };
    let whole = |authority: &str| -> String {
        let bare = authority.strip_suffix(port).and_then(|name| name.strip_suffix(':'));
        bare.unwrap_or(authority).to_ascii_lowercase()
    };
    (whole(origin) == whole(host)).then_some(scheme)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: Option<&str> = Some("application/json; charset=utf-8");
    const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

    fn from(origins: &[&str], host: &str) -> Option<Poster> {
        poster(origins.iter().map(|origin| origin.as_bytes()), host, false, FORM)
    }

    #[test]
    fn the_boxes_own_page_may_post_by_every_name_the_box_has() {
        for (origin, host, scheme) in [
            ("http://192.168.1.20:8080", "192.168.1.20:8080", Scheme::Http),
            ("http://Box.local", "box.local:80", Scheme::Http),
            ("https://status.example.co.il", "status.example.co.il", Scheme::Https),
            ("https://status.example.co.il", "status.example.co.il:443", Scheme::Https),
            ("http://[fe80::1]:8080", "[fe80::1]:8080", Scheme::Http),
            ("http://[fe80::1]", "[fe80::1]:80", Scheme::Http),
        ] {
            assert_eq!(from(&[origin], host), Some(Poster::OwnPage(scheme)), "{origin} {host}");
        }
    }

    #[test]
    fn another_sites_page_may_not_not_even_with_the_password() {
        let host = "192.168.1.20:8080";
        for origin in [
            "http://evil.example",
            "http://192.168.1.20",
            "http://192.168.1.20:8081",
            "https://192.168.1.20:80800",
            "http://192.168.1.20:8080.evil.example",
            "http://192.168.1.20:8080/",
            "http://user@192.168.1.20:8080",
            "ftp://192.168.1.20:8080",
            "192.168.1.20:8080",
            "null",
            "",
        ] {
            assert_eq!(from(&[origin], host), None, "{origin}");
            assert_eq!(poster([origin.as_bytes()].into_iter(), host, true, JSON), None, "{origin}");
        }
        assert_eq!(from(&["http://192.168.1.20:8080", "http://evil.example"], host), None, "two origins");
        assert_eq!(from(&["https://box:80"], "box"), None, "another scheme's port");
        assert_eq!(poster([&b"\xff"[..]].into_iter(), host, true, JSON), None);
    }

    #[test]
    fn a_program_needs_both_the_password_and_json() {
        let program = |has_authorization, kind| poster(std::iter::empty(), "box", has_authorization, kind);
        assert_eq!(program(true, JSON), Some(Poster::Program));
        assert_eq!(program(true, Some("APPLICATION/JSON")), Some(Poster::Program));
        assert_eq!(program(false, JSON), None);
        for kind in [FORM, Some("text/plain"), Some("text/plain; application/json"), None] {
            assert_eq!(program(true, kind), None, "{kind:?}");
        }
    }
}
