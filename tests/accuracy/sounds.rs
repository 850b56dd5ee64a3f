//! Sounds whose words are known.

use std::{error::Error, fs, path::Path};

use kolbox::speech::{
    audio::{SAMPLE_RATE_HZ, decode as decode_ulaw, encode as encode_ulaw},
    decode::decode,
    recognizer::Pcm,
};

use super::words::words;

/// One of them, as a telephone carries it.
#[derive(Debug, Clone)]
pub struct Sound {
    pub name: String,
    pub language: String,
    pub pcm: Pcm,
    pub said: Vec<String>,
}

/// All of a folder that are named `NAME_LANGUAGE` and have their words beside them; what is named otherwise is said to be
/// skipped.
pub fn in_folder(folder: &Path) -> Result<Vec<Sound>, Box<dyn Error>> {
    let mut sounds = Vec::new();
    let failed = |error| format!("{}: {error}", folder.display());
    for entry in fs::read_dir(folder).map_err(failed)? {
        let path = entry?.path();
        let (Some(name), Some(extension)) = (text(path.file_stem()), text(path.extension())) else { continue };
        if !matches!(extension, "wav" | "mp3") {
            continue;
        }
        let language = name.rsplit_once('_').map(|(_, language)| language).filter(|language| language.len() == 2);
        let Some(language) = language else {
            println!("SKIPPED {name}: no language in its name (NAME_he.wav)");
            continue;
        };
        let Ok(said) = fs::read_to_string(path.with_extension("txt")) else {
            println!("SKIPPED {name}: its words are not beside it ({name}.txt)");
            continue;
        };
        let wide = decode(&fs::read(&path)?, extension).map_err(|error| format!("{}: {error}", path.display()))?;
        let pcm = Pcm { samples: through_telephone(&wide.pcm8k).into(), rate_hz: SAMPLE_RATE_HZ };
        let (name, language) = (name.to_owned(), language.to_owned());
        sounds.push(Sound { name, language, pcm, said: words(&said) });
    }
    Ok(sounds)
}

fn text(part: Option<&std::ffi::OsStr>) -> Option<&str> {
    part.and_then(std::ffi::OsStr::to_str)
}

fn through_telephone(pcm: &[i16]) -> Vec<i16> {
    let mut heard = vec![0; pcm.len()];
    decode_ulaw(&encode_ulaw(pcm), &mut heard);
    heard
}
