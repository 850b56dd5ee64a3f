//! Finds the configuration on this machine: which file, which environment, which credentials. All that is not pure.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Read},
    path::{Path, PathBuf},
};

use super::{
    Config, ConfigError, Mistake, Place, keys,
    load::{Sources, is_ours, load_beside, store_path_beside},
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
        world.find_file(named);
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
        self.read(load_beside)
    }

    /// Where the store is, whatever the rest of the configuration is worth.
    ///
    /// # Errors
    /// What keeps it from being known.
    pub fn store_path(&self) -> Result<PathBuf, ConfigError> {
        self.read(store_path_beside)
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

    fn find_file(&mut self, named: Option<PathBuf>) {
        let must_exist = named.is_some();
        let path = named.unwrap_or_else(|| USUAL_FILE.into());
        match read_text(&path) {
            Ok(text) => self.file = Some((path, text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound && !must_exist => {}
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
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => self.unreadable(&path, &error),
            }
        }
    }

    fn unreadable(&mut self, path: &Path, error: &io::Error) {
        let remedy = match error.kind() {
            io::ErrorKind::NotFound => "there is no such file".to_owned(),
            io::ErrorKind::InvalidData => "expected a text file in UTF-8".to_owned(),
            _ => format!("cannot be read: {error}"),
        };
        self.mistakes.push(Mistake {
            place: Place::Unreadable { path: path.display().to_string() },
            value: None,
            remedy,
        });
    }
}

/// A small file of text.
fn read_text(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    fs::File::open(path)?.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text)?;
    if text.len() as u64 > CONFIG_BYTES_MAX {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is too large for a configuration"));
    }
    Ok(text)
}
