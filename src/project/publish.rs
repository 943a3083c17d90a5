//! A project as it is published: its Compose files as they were written, and beside them what they extend and their
//! services' environment files, under names of their own. The form is Docker Compose's.

pub mod checks;
mod secrets;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use umiak_compose::{Needed, Project, Standalone};
use umiak_images::digest::Digest;
use umiak_images::registry::artifact::Part;

use super::labels;
use super::remote::published::{COMPOSE_FILE, ENV_FILE, ENV_FILE_NAME, EXTENDS, FILE, MAX_ALL, MAX_FILE};
use crate::failure::WithHint as _;

/// Layers of a manifest at most, as they are read again.
const MAX_PARTS: usize = umiak_images::manifest::MAX_LAYERS;

/// The files of a project, as they will be published.
#[derive(Debug)]
pub struct Files {
    /// The project's own, in order.
    main: Vec<Copy>,
    /// Those that services extend.
    extended: Vec<Copy>,
    /// Environment files, and their names.
    env_files: BTreeMap<PathBuf, String>,
}

/// A Compose file as it will be published.
#[derive(Debug)]
struct Copy {
    /// Where it lies here.
    path: PathBuf,
    name: String,
    text: String,
}

impl Files {
    /// Reads the project's files, and those they extend.
    pub fn of(project: &Project) -> Result<Self> {
        let mut files = Self { main: Vec::new(), extended: Vec::new(), env_files: BTreeMap::new() };
        let mut waiting = Vec::new();
        for path in &project.files {
            if path.as_os_str() == "-" {
                bail!("a Compose file from standard input cannot be published");
            }
            let copy = files.copy(project, path, &project.working_dir, &mut waiting)?;
            if copy.includes {
                return Err(anyhow::anyhow!("cannot publish compose file with local includes"))
                    .hint(|| format!("{} includes files of this machine: name them with -f instead", path.display()));
            }
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            files.main.push(Copy { path: path.clone(), name, text: copy.text });
        }
        let mut seen = BTreeSet::new();
        while let Some(path) = waiting.pop() {
            if !seen.insert(path.clone()) {
                continue;
            }
            let dir = path.parent().unwrap_or(&path).to_path_buf();
            let copy = files.copy(project, &path, &dir, &mut waiting)?;
            files.extended.push(Copy { name: name_of(Needed::Extended, &path), path, text: copy.text });
        }
        files.extended.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(files)
    }

    fn copy(&mut self, project: &Project, path: &Path, dir: &Path, extended: &mut Vec<PathBuf>) -> Result<Standalone> {
        let copy = umiak_compose::standalone(path, dir, &project.environment, &mut |what, path| {
            let name = name_of(what, path);
            match what {
                Needed::Extended => extended.push(path.to_owned()),
                Needed::EnvFile => drop(self.env_files.insert(path.to_owned(), name.clone())),
            }
            name
        });
        Ok(copy?)
    }

    /// The environment files of services, where they lie here.
    pub fn env_files(&self) -> impl Iterator<Item = &Path> {
        self.env_files.keys().map(PathBuf::as_path)
    }

    /// The layers of the artifact. `pins` is an override file that pins images.
    pub fn parts(&self, with_env: bool, pins: Option<String>) -> Result<Vec<Part>> {
        let mut parts: Vec<Part> =
            self.main.iter().map(|copy| part(COMPOSE_FILE, FILE, &copy.name, copy.text.clone().into_bytes())).collect();
        for copy in &self.extended {
            let mut part = part(COMPOSE_FILE, FILE, &copy.name, copy.text.clone().into_bytes());
            part.annotations.insert(EXTENDS.to_owned(), "true".to_owned());
            parts.push(part);
        }
        if with_env {
            for (path, name) in &self.env_files {
                match std::fs::read(path) {
                    Ok(bytes) => parts.push(part(ENV_FILE, ENV_FILE_NAME, name, bytes)),
                    // One that is required was missed before.
                    Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                    Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
                }
            }
        }
        if let Some(pins) = pins {
            parts.push(part(COMPOSE_FILE, FILE, "image-digests.yaml", pins.into_bytes()));
        }
        if parts.len() > MAX_PARTS {
            bail!("the project has {} files, more than the {MAX_PARTS} that can be published", parts.len());
        }
        let large = |part: &&Part| u64::try_from(part.bytes.len()).is_ok_and(|size| size > MAX_FILE);
        if let Some(part) = parts.iter().find(large) {
            let name = part.annotations.values().next().map_or("", String::as_str);
            bail!("{name} has {} bytes, more than the {MAX_FILE} that can be published", part.bytes.len());
        }
        let all: usize = parts.iter().map(|part| part.bytes.len()).sum();
        if u64::try_from(all).is_ok_and(|all| all > MAX_ALL) {
            bail!("the project's files have {all} bytes together, more than the {MAX_ALL} that can be published");
        }
        Ok(parts)
    }
}

fn part(media_type: &str, key: &str, name: &str, bytes: Vec<u8>) -> Part {
    let annotations = BTreeMap::from([
        (key.to_owned(), name.to_owned()),
        (labels::VERSION.to_owned(), env!("CARGO_PKG_VERSION").to_owned()),
    ]);
    Part { media_type: media_type.to_owned(), annotations, bytes }
}

/// What a file is called in the artifact, where all files lie in one directory: by its path here, as Docker Compose does.
fn name_of(what: Needed, path: &Path) -> String {
    let ending = match what {
        Needed::Extended => "yaml",
        Needed::EnvFile => "env",
    };
    format!("{}.{ending}", Digest::of(path.as_os_str().as_encoded_bytes()).hex())
}
