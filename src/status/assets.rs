//! The page's style sheet, script and pictures, compiled in: nothing comes from other hosts.

use std::sync::LazyLock;

/// A file below `/static/status/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asset {
    pub name: &'static str,
    pub content_type: &'static str,
    pub bytes: &'static [u8],
}

macro_rules! asset {
    ($name:literal, $content_type:literal) => {
        Asset {
            name: $name,
            content_type: $content_type,
            bytes: include_bytes!(concat!("../../static/status/", $name)),
        }
    };
}

const ASSETS: [Asset; 6] = [
    asset!("page.css", "text/css; charset=utf-8"),
    asset!("page.js", "text/javascript; charset=utf-8"),
    asset!("ok.svg", "image/svg+xml"),
    asset!("streaming.svg", "image/svg+xml"),
    asset!("fallback.svg", "image/svg+xml"),
    asset!("trouble.svg", "image/svg+xml"),
];

/// Changes with any asset. It stands in their links (`?v=`), so that a browser may keep them for good.
pub static EDITION: LazyLock<String> = LazyLock::new(|| {
    let mut digest = crc32fast::Hasher::new();
    ASSETS.iter().for_each(|asset| digest.update(asset.bytes));
    format!("{:08x}", digest.finalize())
});

/// The asset of that name.
pub fn find(name: &str) -> Option<Asset> {
    ASSETS.into_iter().find(|asset| asset.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::snapshot::State;

    #[test]
    fn every_state_has_its_picture() {
        for state in State::ALL {
            assert!(find(&format!("{}.svg", state.as_str())).is_some());
        }
        assert_eq!(find("../page.css"), None);
    }

    #[test]
    fn nothing_is_fetched_from_another_host() {
        for asset in ASSETS {
            let text = std::str::from_utf8(asset.bytes).unwrap().replace("http://www.w3.org/2000/svg", "");
            let text: String = text.lines().filter(|line| !line.trim_start().starts_with("// ")).collect();
            assert!(!text.contains("//") && !text.contains("@import") && !text.contains("url("), "{}", asset.name);
        }
    }
}
