//! Finds the configuration on this machine: which file, which environment, which credentials. All that is not pure.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Config, ConfigError, Mistake, Place, Speech, keys,
    load::{Sources, is_ours, load_beside, speech_beside, store_path_beside},
    named_files,
};
use crate::limits::CONFIG_BYTES_MAX;

/// Read when neither `--config` nor `KOLBOX_CONFIG` names a file, and only if it exists.
pub const USUAL_FILE: &str = "/etc/kolbox/kolbox.toml";

/// What was found.
#[derive(Debug, Default)]
pub struct World {
    file: Option<(PathBuf, String)>,
    environment: BTreeMap<String, String>,
    credentials: BTreeMap<String, String>,
    mistakes: Vec<Mistake>,
}

impl World {
    /// Looks around. `option` is the file that the command line names; it wins over `KOLBOX_CONFIG`.
    pub fn find(option: Option<&Path>) -> Self {
        let mut world = Self::default();
        world.find_environment();
        let named = option.map(Path::to_owned).or_else(|| {
            let name = world.environment.get("KOLBOX_CONFIG").filter(|name| !name.is_empty());
            name.map(PathBuf::from)
        });
        world.find_file(named, Path::new(USUAL_FILE));
        if let Some(directory) = env::var_os("CREDENTIALS_DIRECTORY").filter(|directory| !directory.is_empty()) {
            world.find_credentials(Path::new(&directory));
        }
        world
    }

    /// Joins and checks what was found.
    ///
    /// # Errors
    /// All mistakes, those of reading included.
    pub fn load(&self) -> Result<Config, ConfigError> {
        self.read(|sources, found| load_beside(sources, found, named_files::check))
    }

    /// The same without a look at the files that the configuration names: for whoever needs its values alone, perhaps
    /// on another machine.
    ///
    /// # Errors
    /// All mistakes but those of such files.
    pub fn load_values(&self) -> Result<Config, ConfigError> {
        self.read(|sources, found| load_beside(sources, found, |_, _| {}))
    }

    /// Where the store is, whatever the rest of the configuration is worth.
    ///
    /// # Errors
    /// What keeps it from being known.
    pub fn store_path(&self) -> Result<PathBuf, ConfigError> {
        self.read(store_path_beside)
    }

    /// Who turns voice into text, and where the store is; what the other sections say is not looked at.
    ///
    /// # Errors
    /// What is wrong with these two, and with the layers themselves.
    pub fn speech(&self) -> Result<(Speech, PathBuf), ConfigError> {
        self.read(speech_beside)
    }

    fn read<T>(
        &self,
        read: impl FnOnce(Sources<'_>, Vec<Mistake>) -> Result<T, ConfigError>,
    ) -> Result<T, ConfigError> {
        let path = self.file.as_ref().map(|(path, _)| path.display().to_string());
        let text = self.file.as_ref().map(|(_, text)| text.as_str());
        let file = path.as_deref().zip(text);
        let sources = Sources { file, environment: &self.environment, credentials: &self.credentials };
        read(sources, self.mistakes.clone())
    }

    /// The file that was read; `None` where built-in defaults stand in its place.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_ref().map(|(path, _)| path.as_path())
    }

    fn find_environment(&mut self) {
        for (name, value) in env::vars_os() {
            let Some(name) = name.to_str().filter(|name| is_ours(name)) else { continue };
            match value.into_string() {
                Ok(value) => {
                    self.environment.insert(name.to_owned(), value);
                }
                Err(_) => self.mistakes.push(Mistake {
                    place: Place::Environment { name: name.to_owned() },
                    value: None,
                    remedy: "expected UTF-8 text".to_owned(),
                }),
            }
        }
    }

    fn find_file(&mut self, named: Option<PathBuf>, usual: &Path) {
        let must_exist = named.is_some();
        let path = named.unwrap_or_else(|| usual.into());
        match read_text(&path) {
            Ok(text) => self.file = Some((path, text)),
            Err(Unreadable::Io(error)) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
            Err(error) => self.unreadable(&path, &error),
        }
    }

    fn find_credentials(&mut self, directory: &Path) {
        for name in keys::all().iter().filter_map(|key| key.credential_name()) {
            let path = directory.join(&name);
            match read_text(&path) {
                Ok(text) => {
                    self.credentials.insert(name, text);
                }
                Err(Unreadable::Io(error)) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.unreadable(&path, &error),
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &Unreadable) {
        let place = Place::Unreadable { path: path.display().to_string() };
        self.mistakes.push(Mistake { place, value: None, remedy: error.remedy(path) });
    }
}

/// Why a small file of text cannot be read.
#[derive(Debug)]
enum Unreadable {
    Io(io::Error),
    Directory,
    TooLarge,
    Utf16,
    /// The first line that is no UTF-8, counted from 1.
    NotUtf8(usize),
}

impl Unreadable {
    fn remedy(&self, path: &Path) -> String {
        let did_you_mean =
            |path: Option<PathBuf>| path.map_or(String::new(), |path| format!("; did you mean {}?", path.display()));
        match self {
            Self::Io(error) if error.kind() == io::ErrorKind::NotFound => {
                format!("there is no such file{}", did_you_mean(named_files::similar_beside(path)))
            }
            Self::Io(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                "cannot be read by this user; the service reads it as a member of the group kolbox-config: give it that \
                 group and the mode 640"
                    .to_owned()
            }
            Self::Io(error) => format!("cannot be read: {error}"),
            Self::Directory => {
                let inside = Some(path.join("kolbox.toml")).filter(|inside| inside.is_file());
                format!("is a directory; expected a file, such as kolbox.toml in it{}", did_you_mean(inside))
            }
            Self::TooLarge => format!("is too large: a configuration has at most {} KiB", CONFIG_BYTES_MAX >> 10),
            Self::Utf16 => "is UTF-16, which Windows calls Unicode; save it again as UTF-8".to_owned(),
            Self::NotUtf8(line) => format!("line {line} is not UTF-8; save the file again as UTF-8"),
        }
    }
}

/// A small file of text.
fn read_text(path: &Path) -> Result<String, Unreadable> {
    let file = fs::File::open(path).map_err(Unreadable::Io)?;
    if file.metadata().is_ok_and(|metadata| metadata.is_dir()) {
        return Err(Unreadable::Directory);
    }
    let mut bytes = Vec::new();
    file.take(CONFIG_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(Unreadable::Io)?;
    if bytes.len() as u64 > CONFIG_BYTES_MAX {
        return Err(Unreadable::TooLarge);
    }
    // With its byte order mark, or without one where it begins with a letter or bracket.
    if matches!(bytes[..], [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, _, ..] | [_, 0, ..]) {
        return Err(Unreadable::Utf16);
    }
    String::from_utf8(bytes).map_err(|error| {
        let sound = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        Unreadable::NotUtf8(1 + sound.iter().filter(|byte| **byte == b'\n').count())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(named: Option<&Path>, usual: &Path) -> World {
        let mut world = World::default();
        world.find_file(named.map(Path::to_owned), usual);
        world
    }

    #[test]
    fn the_usual_file_is_read_if_it_is_there_and_a_named_one_must_be() {
        let folder = tempfile::tempdir().unwrap();
        let (usual, named) = (folder.path().join("kolbox.toml"), folder.path().join("mine.toml"));
        assert!(found(None, &usual).file().is_none() && found(None, &usual).mistakes.is_empty());
        fs::write(&usual, "").unwrap();
        assert_eq!(found(None, &usual).file(), Some(&*usual));
        let missing = found(Some(&named), &usual);
        assert!(missing.file().is_none() && missing.mistakes[0].to_string().ends_with("there is no such file"));
        fs::write(&named, "").unwrap();
        assert_eq!(found(Some(&named), &usual).file(), Some(&*named));
    }

    #[test]
    fn a_file_that_may_not_be_read_is_told_with_what_to_do() {
        let denied = Unreadable::Io(io::Error::from(io::ErrorKind::PermissionDenied));
        let said = denied.remedy(Path::new("/etc/kolbox/kolbox.toml"));
        assert!(said.contains("group kolbox-config") && said.contains("640"), "{said}");
    }
}
