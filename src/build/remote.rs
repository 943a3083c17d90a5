//! What is not a directory of this host yet: files behind URLs, repositories,
//! archives. Each is brought into a directory of the build's own.

use std::fs::File;
use std::io::{BufReader, Seek as _};
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use umiak_images::decompress::{decompress, is_archive};
use umiak_images::digest::Digest;
use umiak_images::download::{Downloaded, download};
use umiak_images::pack::{Building, Scratch};
use umiak_images::unpack::{Into as Place, Limits, extract};

use super::git;
use super::options::{self, Options, Source};
use crate::ui::build::Display;

/// Larger files are not fetched.
const LARGEST: u64 = 64 << 30;

/// A file that was fetched, in a directory of its own.
#[derive(Debug)]
pub struct Fetched {
    /// Holds the directory.
    pub scratch: Scratch,
    /// The file's name in `scratch.upper()`.
    pub name: String,
    /// Digest of its content.
    pub digest: Digest,
}

/// Fetches the file behind a URL, whose mode is 600 and whose time is the server's, or the beginning of time.
pub fn file(building: &Building<'_>, url: &str, checksum: Option<&str>) -> Result<Fetched> {
    let scratch = building.scratch()?;
    let path = scratch.path().join("download");
    let mut hashed = Hashed { file: File::create(&path)?, hasher: umiak_images::digest::Hasher::new() };
    let done = download(url, &mut hashed, LARGEST)?;
    let digest = hashed.hasher.finish();
    if let Some(wanted) = checksum {
        let wanted: Digest = wanted.parse().with_context(|| format!("invalid checksum {wanted:?}"))?;
        if wanted != digest {
            bail!("digest mismatch {digest}: {wanted} was expected of {url}");
        }
    }
    let name = name(url, &done);
    let target = scratch.upper().join(&name);
    std::fs::rename(&path, &target)?;
    std::fs::set_permissions(&target, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let file = File::options().write(true).open(&target)?;
    file.set_modified(done.modified.unwrap_or(std::time::SystemTime::UNIX_EPOCH))?;
    Ok(Fetched { scratch, name, digest })
}

struct Hashed {
    file: File,
    hasher: umiak_images::digest::Hasher,
}

impl std::io::Write for Hashed {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.file.flush()
    }
}

/// The name of a file: the server's, or the last of its URL.
fn name(url: &str, done: &Downloaded) -> String {
    let path = url.split(['?', '#']).next().unwrap_or_default();
    let path = path.split_once("://").map_or(path, |(_, rest)| rest);
    let path = path.trim_end_matches('/');
    let last = path.split_once('/').and_then(|(_, path)| path.rsplit('/').next()).unwrap_or_default();
    let last = Some(last.to_owned()).filter(|name| !matches!(name.as_str(), "" | "." | ".."));
    last.or_else(|| done.name.clone()).unwrap_or_else(|| "download".to_owned())
}

/// Whether `text` is a URL of a file.
pub fn is_url(text: &str) -> bool {
    text.starts_with("http://") || text.starts_with("https://")
}

/// Extracts an archive, compressed or not, into `root` below `base`.
pub fn unpack(archive: OwnedFd, root: &OwnedFd, base: &str, owner: Option<(u32, u32)>) -> Result<()> {
    let input = BufReader::with_capacity(256 << 10, File::from(archive));
    let plain = BufReader::with_capacity(256 << 10, decompress(input).context("read the archive")?);
    let into = Place { root, base: base.as_bytes(), follow: true, keep_owner: true, owner, devices: true };
    extract(plain, &into, &Limits::default()).context("unpack the archive")?;
    Ok(())
}

/// A build whose contexts are directories from now on, and what holds them.
pub struct Local {
    /// The options with those directories in them.
    pub options: Options,
    _held: Vec<Scratch>,
}

/// Brings the contexts of a build here, where they are elsewhere.
pub fn context(options: &Options, building: &Building<'_>, display: &Display) -> Result<Local> {
    let mut options = options.clone();
    let mut held = Vec::new();
    let own = options.context.clone();
    if let Some((path, scratch)) = bring(&own, building, display)? {
        let only_text = path.is_file();
        if only_text && options.dockerfile != options::File::InContext(None) {
            bail!("the context is no archive, and the Dockerfile is said to be elsewhere");
        }
        if only_text {
            let text = std::fs::read(&path).context("read the Dockerfile")?;
            options.dockerfile = options::File::Text(String::from_utf8_lossy(&text).into_owned());
        }
        options.context = Source::Directory(if only_text { scratch.work() } else { path });
        held.push(scratch);
    }
    for (name, source) in &mut options.contexts {
        let brought = bring(source, building, display).with_context(|| format!("the context {name}"))?;
        if let Some((path, scratch)) = brought {
            if path.is_file() {
                bail!("the context {name} is no archive");
            }
            *source = Source::Directory(path);
            held.push(scratch);
        }
    }
    Ok(Local { options, _held: held })
}

/// A directory with what is elsewhere; or a file, if that is no archive.
fn bring(source: &Source, building: &Building<'_>, display: &Display) -> Result<Option<(PathBuf, Scratch)>> {
    let title = match source {
        Source::Git(url) => format!("[internal] load git source {url}"),
        Source::Url(url) => format!("[internal] load remote build context {url}"),
        Source::Stdin => "[internal] load remote build context".to_owned(),
        _ => return Ok(None),
    };
    let step = display.step(&title);
    let result = match source {
        Source::Git(url) => repository(url, building, &|text| step.note(text)),
        Source::Url(url) => file(building, url, None).and_then(|fetched| {
            let path = fetched.scratch.upper().join(&fetched.name);
            archive(path, fetched.scratch, building)
        }),
        _ => stdin(building, &|text| step.note(text)),
    };
    match result {
        Ok((scratch, path)) => {
            step.done();
            Ok(Some((path, scratch)))
        }
        Err(error) => {
            step.failed(&crate::failure::one_line(&error));
            Err(error)
        }
    }
}

fn stdin(building: &Building<'_>, note: &dyn Fn(&str)) -> Result<(Scratch, PathBuf)> {
    let scratch = building.scratch()?;
    let path = scratch.upper().join("stdin");
    let copied = File::create(&path).and_then(|mut file| std::io::copy(&mut std::io::stdin().lock(), &mut file));
    note(&format!("transferring context: {}B done", copied.context("read the context from stdin")?));
    archive(path, scratch, building)
}

/// A repository in a directory of its own.
pub fn repository(url: &str, building: &Building<'_>, note: &dyn Fn(&str)) -> Result<(Scratch, PathBuf)> {
    let repository = git::parse(url).with_context(|| format!("{url} is no git repository"))?;
    let scratch = building.scratch()?;
    let checkout = git::checkout(&repository, git::NamedBy::User, &scratch.upper(), false, note)?;
    note(&checkout.commit);
    Ok((scratch, checkout.path))
}

/// An archive is unpacked into a directory of its own; anything else stays the file that it is.
fn archive(path: PathBuf, scratch: Scratch, building: &Building<'_>) -> Result<(Scratch, PathBuf)> {
    let named = || format!("read {}", path.display());
    let mut file = File::open(&path).with_context(named)?;
    if !is_archive(BufReader::new(&file)).with_context(named)? {
        return Ok((scratch, path));
    }
    file.rewind()?;
    let unpacked = building.scratch()?;
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC;
    let root = rustix::fs::open(unpacked.upper(), flags, rustix::fs::Mode::empty())?;
    unpack(OwnedFd::from(file), &root, "", None).with_context(named)?;
    let path = unpacked.upper();
    Ok((unpacked, path))
}
