//! Looks whether the files and directories that the configuration names are there, and of the kind that is meant.
//!
//! What is inside them is looked at by those who use them; so is whether they may be read, which depends on the user
//! that the gateway runs as.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{Config, TlsMode, reader::Given, reader::Reader, refusal::Refusal, spelling};
use crate::limits::DIRECTORY_ENTRIES_MAX;

/// What the usual tools call a certificate with its chain, and its key.
const CHAIN_NAMES: [&str; 2] = ["fullchain.pem", "chain.pem"];
const KEY_NAMES: [&str; 2] = ["privkey.pem", "key.pem"];

/// What a path leads to.
enum Found {
    File,
    Directory,
    Nothing,
    /// It cannot be known by this user.
    Unknown,
}

/// Notes each that is not as it should be.
pub(super) fn check(config: &Config, reader: &mut Reader) {
    if let Some(prompts) = &config.calls.prompts {
        check_prompts(prompts, reader);
    }
    let tls = &config.public.tls;
    if tls.mode == TlsMode::Files {
        check_pem("public.tls.certificate", &tls.certificate, &CHAIN_NAMES, reader);
        check_pem("public.tls.key", &tls.key, &KEY_NAMES, reader);
    }
    if let Found::File = look(&config.store.path) {
        reader
            .refuse("store.path", "is a file; expected a directory of the box's own, which is made if it is not there");
    }
}

fn check_prompts(path: &Path, reader: &mut Reader) {
    match look(path) {
        Found::Nothing => {
            let reason = "there is no such directory; make it, or write \"\" for the built-in prompts";
            reader.refuse("calls.prompts", Refusal::new(reason).perhaps(similar_beside(path).map(text)));
        }
        Found::File => {
            let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty()).map(Path::to_owned);
            let reason = "is a file; expected the directory that the prompts are in";
            reader.refuse("calls.prompts", Refusal::new(reason).perhaps(directory.map(text)));
        }
        Found::Directory | Found::Unknown => {}
    }
}

fn check_pem(key: &str, path: &Path, usual_names: &[&str], reader: &mut Reader) {
    if path.as_os_str().is_empty() {
        return;
    }
    match look(path) {
        Found::Nothing => {
            let reason = "there is no such file; expected the path of a PEM file";
            reader.refuse(key, Refusal::new(reason).perhaps(similar_beside(path).map(text)));
        }
        Found::Directory => {
            let usual = usual_names.iter().map(|name| path.join(name)).find(|path| path.is_file());
            let reason =
                format!("is a directory; expected the path of a PEM file in it, such as \"{}\"", usual_names[0]);
            reader.refuse(key, Refusal::new(reason).perhaps(usual.map(text)));
        }
        Found::File | Found::Unknown => {}
    }
}

fn look(path: &Path) -> Found {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => Found::Directory,
        Ok(_) => Found::File,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Found::Nothing,
        Err(_) => Found::Unknown,
    }
}

fn text(path: PathBuf) -> Given {
    Given::Text(path.display().to_string())
}

/// What stands in the same directory under a name that is nearly this one, or begins with it (`kolbox.toml.txt`).
pub(super) fn similar_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let directory = path.parent()?;
    let listed = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    let entries = fs::read_dir(listed).ok()?.take(DIRECTORY_ENTRIES_MAX);
    let names: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let longer = names.iter().find(|other| other.starts_with(name)).map(String::as_str);
    let found = longer.or_else(|| spelling::nearest(name, names.iter().map(String::as_str)))?;
    Some(directory.join(found))
}
