//! The file that `-o` names, or stdout, for archives: written aside, never over
//! a device, never to a terminal.

use std::fs::File;
use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

/// Nobody wants to read an archive.
pub fn refuse_terminal() -> Result<()> {
    if std::io::stdout().is_terminal() {
        anyhow::bail!("refusing to write an archive to a terminal: use -o, or redirect the output");
    }
    Ok(())
}

/// The end of what writes an archive to stdout: one who does not read all of it ends the program quietly.
pub fn piped(result: Result<()>) -> Result<()> {
    let gone = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
    };
    match result {
        Err(error) if error.chain().any(gone) => Err(crate::failure::Exit(141).into()),
        result => result,
    }
}

/// Hands `write` the file that `-o` names, or stdout. The file is written aside: a failure leaves no half archive under
/// the name that was asked for.
pub fn archive_output(path: Option<&Path>, write: impl FnOnce(&mut File) -> Result<()>) -> Result<()> {
    let Some(path) = path else {
        refuse_terminal()?;
        let stdout = rustix::io::dup(rustix::stdio::stdout()).context("open the standard output")?;
        return piped(write(&mut stdout.into()));
    };
    let is_device = std::fs::metadata(path).is_ok_and(|meta| !meta.is_file());
    let partial = if is_device { path.to_owned() } else { partial_name(path) };
    let result = File::create(&partial)
        .with_context(|| format!("write {}", partial.display()))
        .and_then(|mut file| write(&mut file))
        .and_then(|()| match is_device {
            true => Ok(()),
            false => std::fs::rename(&partial, path).with_context(|| format!("write {}", path.display())),
        });
    if result.is_err() && !is_device {
        let _ = std::fs::remove_file(&partial);
    }
    result
}

/// `NAME.partial` beside a file.
fn partial_name(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".partial");
    name.into()
}
