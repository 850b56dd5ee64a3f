//! Notes the git revision that the program is built from, for `--version`; `unknown` where there is no git.

use std::{path::Path, process::Command};

fn main() {
    println!("cargo:rerun-if-changed=src/build.rs");
    println!("cargo:rustc-env=KOLBOX_REVISION={}", revision().unwrap_or_else(|| "unknown".to_owned()));
}

fn revision() -> Option<String> {
    // Unpacked inside another project's repository, that one's revision would say nothing about us.
    if !git(&["rev-parse", "--show-prefix"])?.is_empty() {
        return None;
    }
    // Both change with a commit or a checkout; a path that does not exist would build everything anew each time.
    for name in ["HEAD", "logs/HEAD"] {
        let path = git(&["rev-parse", "--git-path", name])?;
        if Path::new(&path).exists() {
            println!("cargo:rerun-if-changed={path}");
        }
    }
    git(&["rev-parse", "--short=12", "HEAD"]).filter(|revision| !revision.is_empty())
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|output| output.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
