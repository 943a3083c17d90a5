//! A case of `tests/dockerfiles`: one text file that holds a build context and the command lines that build it.
//!
//! ```text
//! # What the case shows.
//! build: --target one .
//! -- Dockerfile --
//! FROM scratch AS one
//! -- bin/tool 755 --
//! #!/bin/sh
//! ```
//!
//! First come lines `key: value`:
//! - `build`: arguments of one build; several are run one after another, and the last one's image is looked at. Without
//!   any it is `.`, the directory that holds the case's files.
//! - `env`: `NAME=value` for the command's environment.
//! - `stdin`: `FILE`, or `tar DIRECTORY` for an archive of it.
//! - `says`: the build fails, and its message has these words (whatever their case).
//!
//! Then each file behind a line `-- PATH [OPTION…] --`: an octal mode, `-> TARGET` for a symbolic link, `= PATH` for a
//! hard link, `fifo`, `base64` for what is no text, `raw` for a text whose last line has no end. `PATH/` is a directory.
//! `@DIR@` in a value is where the files lie, `@PORT@` the port of a web server that serves them on 127.0.0.1.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustix::fs::{CWD, FileType, Mode, mknodat};

/// When all files of a context were last changed, in seconds since 1970: a build keeps the time of what it copies.
pub const TIME: u64 = 1_609_556_645;

/// What a case says.
#[derive(Debug, Default)]
pub struct Case {
    pub name: String,
    pub builds: Vec<Vec<String>>,
    pub env: Vec<(String, String)>,
    pub stdin: Option<String>,
    pub says: Option<Vec<String>>,
    files: Vec<Entry>,
}

#[derive(Debug)]
struct Entry {
    path: String,
    mode: Option<u32>,
    what: What,
}

#[derive(Debug)]
enum What {
    Directory,
    File(Vec<u8>),
    Link(String),
    Hard(String),
    Fifo,
}

/// Where cases and what was recorded of them lie.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/dockerfiles")
}

/// Names of all cases, sorted.
pub fn names() -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(directory())
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.strip_suffix(".case").map(str::to_owned))
        .collect();
    names.sort();
    names
}

impl Case {
    /// Reads the case `name`.
    pub fn read(name: &str) -> Self {
        let path = directory().join(name).with_extension("case");
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self::parse(name, &text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    fn parse(name: &str, text: &str) -> Result<Self, String> {
        let mut case = Self { name: name.to_owned(), ..Self::default() };
        let mut sections = Vec::<(&str, String)>::new();
        for line in text.split_inclusive('\n') {
            let plain = line.trim_end();
            match (plain.strip_prefix("-- ").and_then(|rest| rest.strip_suffix(" --")), sections.last_mut()) {
                (Some(header), _) => sections.push((header, String::new())),
                (None, Some((_, body))) => body.push_str(line),
                (None, None) => case.directive(plain)?,
            }
        }
        if case.builds.is_empty() {
            case.builds.push(vec![".".to_owned()]);
        }
        for (header, body) in sections {
            case.files.push(Entry::parse(header, body)?);
        }
        Ok(case)
    }

    fn directive(&mut self, line: &str) -> Result<(), String> {
        if line.is_empty() || line.starts_with('#') {
            return Ok(());
        }
        let (key, value) = line.split_once(':').ok_or_else(|| format!("no `key: value`: {line}"))?;
        let value = value.trim();
        match key {
            "build" => self.builds.push(words(value)?),
            "env" => {
                let (name, value) = value.split_once('=').ok_or_else(|| format!("no NAME=value: {line}"))?;
                self.env.push((name.to_owned(), value.to_owned()));
            }
            "stdin" => self.stdin = Some(value.to_owned()),
            "says" => self.says = Some(words(value)?),
            _ => return Err(format!("no key of a case: {key}")),
        }
        Ok(())
    }

    /// Writes the case's files to `dir`.
    pub fn write(&self, dir: &Path) {
        for entry in &self.files {
            entry.write(dir);
        }
        // Directories last: what is made in them changes their times.
        for entry in &self.files {
            let mut path = dir.join(&entry.path);
            while path.starts_with(dir) {
                if path.is_dir() && !path.is_symlink() {
                    settle(&path, None);
                }
                path.pop();
            }
        }
    }

    /// Bytes for the command's standard input.
    pub fn input(&self, dir: &Path) -> Vec<u8> {
        let Some(what) = &self.stdin else { return Vec::new() };
        let Some(sub) = what.strip_prefix("tar ") else { return fs::read(dir.join(what)).unwrap() };
        let mut tar = tar::Builder::new(Vec::new());
        tar.append_dir_all(".", dir.join(sub)).unwrap();
        tar.into_inner().unwrap()
    }

    /// The arguments of each build, with the places of this run.
    pub fn arguments(&self, dir: &Path, port: u16) -> Vec<Vec<String>> {
        let fill = |word: &String| fill(word, dir, port);
        self.builds.iter().map(|words| words.iter().map(fill).collect()).collect()
    }

    /// The command's environment, with the places of this run.
    pub fn environment(&self, dir: &Path, port: u16) -> Vec<(String, String)> {
        self.env.iter().map(|(name, value)| (name.clone(), fill(value, dir, port))).collect()
    }
}

fn fill(word: &str, dir: &Path, port: u16) -> String {
    word.replace("@DIR@", dir.to_str().unwrap()).replace("@PORT@", &port.to_string())
}

impl Entry {
    fn parse(header: &str, body: String) -> Result<Self, String> {
        let mut words = words(header)?.into_iter();
        let path = words.next().ok_or("a file without a name")?;
        let (mut mode, mut what) = (None, None);
        let mut bytes = body.into_bytes();
        while let Some(word) = words.next() {
            match word.as_str() {
                "->" => what = Some(What::Link(words.next().ok_or("a link to nothing")?)),
                "=" => what = Some(What::Hard(words.next().ok_or("a link to nothing")?)),
                "fifo" => what = Some(What::Fifo),
                "raw" => drop(bytes.pop()),
                "base64" => {
                    bytes.retain(|byte| !byte.is_ascii_whitespace());
                    bytes = STANDARD.decode(&bytes).map_err(|error| format!("{path}: {error}"))?;
                }
                octal => mode = Some(u32::from_str_radix(octal, 8).map_err(|error| format!("{octal}: {error}"))?),
            }
        }
        let what = what.unwrap_or(if path.ends_with('/') { What::Directory } else { What::File(bytes) });
        Ok(Self { path: path.trim_end_matches('/').to_owned(), mode, what })
    }

    fn write(&self, dir: &Path) {
        let path = dir.join(&self.path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        match &self.what {
            What::Directory => fs::create_dir_all(&path).unwrap(),
            What::File(bytes) => fs::write(&path, bytes).unwrap(),
            What::Link(target) => symlink(target, &path).unwrap(),
            What::Hard(other) => fs::hard_link(dir.join(other), &path).unwrap(),
            What::Fifo => mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o644), 0).unwrap(),
        }
        match &self.what {
            What::Directory => settle(&path, Some(self.mode.unwrap_or(0o755))),
            What::File(_) => settle(&path, Some(self.mode.unwrap_or(0o644))),
            What::Link(_) | What::Hard(_) | What::Fifo => {}
        }
    }
}

/// Gives a file or directory its mode and the time of all.
fn settle(path: &Path, mode: Option<u32>) {
    if let Some(mode) = mode {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }
    let time = UNIX_EPOCH + Duration::from_secs(TIME);
    File::open(path).unwrap().set_times(FileTimes::new().set_modified(time).set_accessed(time)).unwrap();
}

/// Words as a shell splits them, with both kinds of quotes and nothing else.
fn words(line: &str) -> Result<Vec<String>, String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, ' ') => words.extend(word.take()),
            _ => word.get_or_insert_default().push(c),
        }
    }
    if quote.is_some() {
        return Err(format!("an open quote: {line}"));
    }
    words.extend(word);
    Ok(words)
}
