//! Where a build takes files from: a directory, opened once and held.

use std::fs::File as FsFile;
use std::io::Read as _;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use umiak_dockerfile::ignore::Patterns;
use umiak_images::cache::{Cache, ContentCache};
use umiak_images::digest::Digest;

use super::Loaded;
use super::ignored::Ignored;
use super::options::{File, Options, Source};
use super::tree::{Contents, Tree, in_root, is, reopen};
use crate::failure::WithHint as _;
use crate::ui::build::Display;

/// Of a Dockerfile or an ignore file nobody writes more.
const LONGEST: u64 = 16 << 20;

/// A directory to copy from.
pub struct Context {
    root: OwnedFd,
    ignored: Ignored,
    contents: Known,
    /// Bytes of its ignore file.
    ignore_size: usize,
    /// Somebody has looked for files in it.
    looked: AtomicBool,
}

/// Digests of a context's files, kept from build to build.
struct Known {
    cache: ContentCache,
    /// Bytes of the files that were looked at.
    bytes: AtomicU64,
}

impl Known {
    fn count(&self, stat: &Stat) {
        self.bytes.fetch_add(u64::try_from(stat.st_size).unwrap_or(0), Ordering::Relaxed);
    }
}

impl Contents for Known {
    fn known(&self, path: &[u8], stat: &Stat) -> Option<Digest> {
        let known = self.cache.get(path, stat)?;
        self.count(stat);
        Some(known)
    }

    fn learnt(&self, path: &[u8], stat: &Stat, digest: &Digest) {
        self.count(stat);
        self.cache.put(path, stat, digest);
    }
}

impl Drop for Known {
    fn drop(&mut self) {
        // What is not remembered is read again.
        let _ = self.cache.save();
    }
}

impl Context {
    /// The build's own context.
    pub fn open(cache: &Cache, source: &Source, loaded: &Loaded) -> Result<Self> {
        let Source::Directory(path) = source else { bail!("this context cannot be opened as a directory") };
        let root = open(path)?;
        let ignore = match &loaded.ignore {
            Some(text) => Some((".dockerignore of the Dockerfile", text.clone())),
            None => read(root.as_fd(), ".dockerignore")?.map(|text| (".dockerignore", text)),
        };
        Self::new(root, ignore, cache.contents(path))
    }

    /// A context given by name.
    pub fn open_named(cache: &Cache, name: &str, source: &Source) -> Result<Self> {
        let Source::Directory(path) = source else { bail!("the context {name} is no directory") };
        let root = open(path).with_context(|| format!("open the context {name}"))?;
        let ignore = read(root.as_fd(), ".dockerignore")?.map(|text| (".dockerignore", text));
        Self::new(root, ignore, cache.contents(path))
    }

    fn new(root: OwnedFd, ignore: Option<(&str, String)>, contents: ContentCache) -> Result<Self> {
        let ignore_size = ignore.as_ref().map_or(0, |(_, text)| text.len());
        let ignored = match ignore {
            Some((name, text)) => Ignored::new(Patterns::of_file(&text).with_context(|| format!("read {name}"))?),
            None => Ignored::default(),
        };
        let contents = Known { cache: contents, bytes: AtomicU64::new(0) };
        Ok(Self { root, ignored, contents, ignore_size, looked: AtomicBool::new(false) })
    }

    /// Bytes of its ignore file.
    pub fn ignore_size(&self) -> usize {
        self.ignore_size
    }

    /// Looks for files in it; the first time that is a step of its own.
    pub fn look<T>(&self, display: &Display, look: impl FnOnce(&Tree<'_>) -> Result<T>) -> Result<T> {
        let first = !self.looked.swap(true, Ordering::Relaxed);
        let step = first.then(|| display.step("[internal] load build context"));
        let found = look(&self.tree())?;
        if let Some(step) = step {
            let bytes = crate::ui::human::size3(self.contents.bytes.load(Ordering::Relaxed));
            step.note(&format!("transferring context: {bytes} done"));
            step.done();
        }
        Ok(found)
    }

    /// What can be copied from it.
    pub fn tree(&self) -> Tree<'_> {
        Tree { root: self.root.as_fd(), ignored: Some(&self.ignored), contents: &self.contents, owners: false }
    }
}

fn open(path: &Path) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty())
        .with_context(|| format!("unable to prepare context: open the directory {}", path.display()))
}

/// What a build's own context leaves out, where that is known without bringing it here.
pub fn patterns(options: &Options, loaded: &Loaded) -> Option<Patterns> {
    let text = match (&loaded.ignore, &options.context) {
        (Some(text), _) => Some(text.clone()),
        (None, Source::Directory(path)) => read(open(path).ok()?.as_fd(), ".dockerignore").ok()?,
        _ => None,
    };
    Patterns::of_file(&text?).ok()
}

/// The Dockerfile that is asked for.
pub fn dockerfile(options: &Options, display: &Display) -> Result<Loaded> {
    let name = match &options.dockerfile {
        File::At(path) => path.file_name().map(|name| name.to_string_lossy().into_owned()),
        File::InContext(name) => name.clone(),
        File::Text(_) => None,
    };
    let name = name.unwrap_or_else(|| "Dockerfile".to_owned());
    let step = display.step(&format!("[internal] load build definition from {name}"));
    let loaded = load(options);
    match loaded {
        Ok(loaded) => {
            step.note(&format!("transferring dockerfile: {}B done", loaded.text.len()));
            // What cannot be read at all is told by whoever reads it next.
            for warning in umiak_dockerfile::parse(&loaded.text).map(|file| file.warnings).unwrap_or_default() {
                step.warn(&super::check::short(&warning));
            }
            step.done();
            Ok(loaded)
        }
        Err(error) => {
            step.failed(&crate::failure::one_line(&error));
            Err(error)
        }
    }
}

fn load(options: &Options) -> Result<Loaded> {
    match (&options.dockerfile, &options.context) {
        (File::Text(text), _) => Ok(Loaded { name: "Dockerfile".to_owned(), text: text.clone(), ignore: None }),
        (File::At(path), _) => of_host(path),
        (File::InContext(name), Source::Directory(dir)) => in_directory(dir, name.as_deref()),
        (File::InContext(_), _) => bail!("this context has no Dockerfile"),
    }
}

fn of_host(path: &Path) -> Result<Loaded> {
    let named = || format!("failed to read dockerfile: open {}", path.display());
    let text = text(FsFile::open(path).with_context(named)?).with_context(named)?;
    let mut own = path.as_os_str().to_owned();
    own.push(".dockerignore");
    let ignore = match FsFile::open(PathBuf::from(own)) {
        Ok(file) => Some(self::text(file)?),
        Err(_) => None,
    };
    let name = path.file_name().map_or_else(|| path.display().to_string(), |name| name.to_string_lossy().into_owned());
    Ok(Loaded { name, text, ignore })
}

fn in_directory(dir: &Path, name: Option<&str>) -> Result<Loaded> {
    let root = open(dir)?;
    let names = match name {
        Some(name) => vec![name],
        None => vec!["Dockerfile", "dockerfile"],
    };
    for name in &names {
        if let Some(text) = read(root.as_fd(), name)? {
            let ignore = read(root.as_fd(), &format!("{name}.dockerignore"))?;
            return Ok(Loaded { name: (*name).to_owned(), text, ignore });
        }
    }
    let name = names.first().copied().unwrap_or("Dockerfile");
    Err(anyhow::anyhow!("failed to read dockerfile: open {name}: no such file or directory"))
        .hint(|| format!("the build's context is {}: another file in it is named with -f", dir.display()))
}

/// A small file of a context; symlinks stay within it.
fn read(root: BorrowedFd<'_>, name: &str) -> Result<Option<String>> {
    let place = match in_root(root, name.as_bytes(), OFlags::PATH) {
        Ok(place) => place,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("open {name}")),
    };
    if !is(&rustix::fs::fstat(&place)?, FileType::RegularFile) {
        bail!("{name} is not a regular file");
    }
    Ok(Some(text(FsFile::from(reopen(&place)?)).with_context(|| format!("read {name}"))?))
}

fn text(file: FsFile) -> Result<String> {
    let mut bytes = Vec::new();
    file.take(LONGEST + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > LONGEST {
        bail!("it has more than {LONGEST} bytes");
    }
    // Comments in other encodings do no harm.
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
