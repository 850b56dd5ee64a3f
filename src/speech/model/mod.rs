//! Whisper's models as ggml files: which are published, where they lie on the box, what is in one.

use std::path::{Path, PathBuf};

pub mod fetch;
pub mod file;

/// Where whisper.cpp's makers publish models: one revision, so that a name always means the same bytes.
pub const SOURCE: &str =
    "https://huggingface.co/ggerganov/whisper.cpp/resolve/5359861c739e955e79d9a303bcbc70fb988958b1";

/// A model that can be downloaded by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Published {
    pub name: &'static str,
    pub bytes: u64,
    /// Of the whole file, in hexadecimal.
    pub sha256: &'static str,
    /// What it is good for.
    pub purpose: &'static str,
}

/// Those whose size and hash several independent projects pin alike; all know Hebrew and 98 other languages.
pub const PUBLISHED: [Published; 6] = [
    Published {
        name: "base-q5_1",
        bytes: 59_707_625,
        sha256: "422f1ae452ade6f30a004d7e5c6a43195e4433bc370bf23fac9cc591f01a8898",
        purpose: "for a Raspberry Pi; of Hebrew a hint of the topic",
    },
    Published {
        name: "base",
        bytes: 147_951_465,
        sha256: "60ed5bc3dd14eea856493d334349b405782ddcaf0028d4b5df4088345fba2efe",
        purpose: "the same, not shortened",
    },
    Published {
        name: "small-q5_1",
        bytes: 190_085_487,
        sha256: "ae85e4a935d7a567bd102fe55afc16bb595bdb618e11b2fc7591bc08120411bb",
        purpose: "better, and three times the work",
    },
    Published {
        name: "small",
        bytes: 487_601_967,
        sha256: "1be3a9b2063867b937e64e2ec7483364a79917e157fa98c5d94b5c1fffea987b",
        purpose: "the same, not shortened",
    },
    Published {
        name: "medium-q5_0",
        bytes: 539_212_467,
        sha256: "19fea4b380c3a618ec4723c3eef2eb785ffba0d0538cf43f8f235e7b3b34220f",
        purpose: "for a PC",
    },
    Published {
        name: "large-v3-turbo-q5_0",
        bytes: 574_041_195,
        sha256: "394221709cd5ad1f40c46e6031ca61bce88931e6e088c188294c6d5a55ffa7e2",
        purpose: "for a PC; the best of these for Hebrew",
    },
];

impl Published {
    /// By its name, or by the name of its file.
    pub fn named(name: &str) -> Option<&'static Self> {
        PUBLISHED.iter().find(|model| model.name == name || model.file_name() == name)
    }

    /// `ggml-base-q5_1.bin`, as it is published.
    pub fn file_name(&self) -> String {
        format!("ggml-{}.bin", self.name)
    }
}

/// Where models lie: below the store, the only place that the box writes to.
pub fn directory(store: &Path) -> PathBuf {
    store.join("models")
}

/// The file that `speech.model` means: a path as it stands; a name alone lies in the [`directory`], and may be a
/// published model's.
pub fn path(store: &Path, model: &str) -> PathBuf {
    if model.contains('/') {
        return model.into();
    }
    let published = Published::named(model).map(Published::file_name);
    directory(store).join(published.as_deref().unwrap_or(model))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_lies_in_the_store_and_a_path_is_a_path() {
        let path = |model| path(Path::new("/var/lib/kolbox"), model).display().to_string();
        assert_eq!(path("base-q5_1"), "/var/lib/kolbox/models/ggml-base-q5_1.bin");
        assert_eq!(path("ggml-base-q5_1.bin"), "/var/lib/kolbox/models/ggml-base-q5_1.bin");
        assert_eq!(path("ours.bin"), "/var/lib/kolbox/models/ours.bin");
        assert_eq!(path("/srv/ours.bin"), "/srv/ours.bin");
        assert_eq!(path("./ours.bin"), "./ours.bin");
    }

    #[test]
    fn every_published_model_has_a_name_of_its_own_and_a_whole_hash() {
        for (index, model) in PUBLISHED.iter().enumerate() {
            assert!(model.sha256.len() == 64 && model.sha256.bytes().all(|b| b"0123456789abcdef".contains(&b)));
            assert_eq!(PUBLISHED.iter().position(|other| other.name == model.name), Some(index));
            assert_eq!(Published::named(&model.file_name()), Some(model));
        }
    }
}
