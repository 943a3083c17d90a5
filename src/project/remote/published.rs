//! Those that were published to registries, as OCI artifacts in the form that Docker Compose gives them: kept by digest.
//!
//! What a registry sends is anybody's: every digest is checked, sizes are bounded, and a file is only ever a new one
//! directly in the artifact's own directory.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use umiak_images::digest::Digest;
use umiak_images::manifest::Descriptor;
use umiak_images::reference::Reference;
use umiak_images::registry::Client;
use umiak_images::registry::artifact::Kind;

use super::{Aside, cache, refuse_switched_off};
use crate::engine::image;

/// What names of published projects begin with.
pub(super) const SCHEME: &str = "oci://";
const SWITCH: &str = "COMPOSE_EXPERIMENTAL_OCI_REMOTE";

/// A published project.
pub const KIND: Kind = Kind {
    artifact_type: "application/vnd.docker.compose.project",
    config_type: "application/vnd.docker.compose.config.empty.v1+json",
};
/// A Compose file, or one that services of another extend.
pub const COMPOSE_FILE: &str = "application/vnd.docker.compose.file+yaml";
/// An environment file of a service.
pub const ENV_FILE: &str = "application/vnd.docker.compose.envfile";
/// The name of a Compose file.
pub const FILE: &str = "com.docker.compose.file";
/// Marks a file that services extend.
pub const EXTENDS: &str = "com.docker.compose.extends";
/// The name of an environment file.
pub const ENV_FILE_NAME: &str = "com.docker.compose.envfile";

/// The name of the file that all Compose files of a project become.
const MAIN: &str = "compose.yaml";
/// Largest file of a project, in bytes.
pub const MAX_FILE: u64 = 4 << 20;
/// Largest size of all together, in bytes.
pub const MAX_ALL: u64 = 32 << 20;

/// Where the Compose file of an artifact lies, fetched if it is not there.
pub(super) fn find(registries: &Path, name: &str) -> Result<PathBuf> {
    refuse_switched_off("OCI", SWITCH)?;
    let reference: Reference = name.parse()?;
    let cache = cache()?;
    // What a digest names does not change; what a tag names is asked for each time.
    if let Some(place) = reference.digest().map(|digest| place(&cache, digest)).filter(|place| place.is_dir()) {
        return Ok(place.join(MAIN));
    }
    let client = image::client(registries)?;
    let artifact = client.artifact(&reference, &KIND)?;
    let place = place(&cache, &artifact.digest);
    if !place.is_dir() {
        let files = files(&client, &reference, &artifact.layers)?;
        let aside = Aside::beside(&place)?;
        for (name, content) in &files {
            write(&aside.0.join(name), content)?;
        }
        umiak_base::state::sync_dir(&aside.0).with_context(|| format!("sync {}", aside.0.display()))?;
        aside.done(&place)?;
    }
    Ok(place.join(MAIN))
}

fn place(cache: &Path, digest: &Digest) -> PathBuf {
    cache.join(digest.hex())
}

/// The files of an artifact by name. All Compose files are one, document after document.
fn files(client: &Client, reference: &Reference, layers: &[Descriptor]) -> Result<BTreeMap<String, Vec<u8>>> {
    let parts: Vec<(Part, &Descriptor)> =
        layers.iter().map(part).collect::<Result<Vec<_>>>()?.into_iter().flatten().collect();
    let all = parts.iter().fold(0_u64, |sum, (_, layer)| sum.saturating_add(layer.size));
    if all > MAX_ALL {
        bail!("its files have {all} bytes together, more than the {MAX_ALL} allowed");
    }
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for (part, layer) in parts {
        let content = client.part(reference, layer, MAX_FILE)?;
        match part {
            Part::Main => {
                let main = files.entry(MAIN.to_owned()).or_default();
                if !main.is_empty() {
                    main.extend_from_slice(b"\n---\n");
                }
                main.extend_from_slice(&content);
            }
            // Docker Compose may publish a file twice, but never two of one name.
            Part::Named(name) if files.get(&name).is_some_and(|there| *there != content) => {
                bail!("invalid OCI artifact: two files are named {name:?}");
            }
            Part::Named(name) => drop(files.insert(name, content)),
        }
    }
    if !files.contains_key(MAIN) {
        bail!("invalid OCI artifact: there is no Compose file in it");
    }
    Ok(files)
}

/// What a layer is.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// A Compose file of the project.
    Main,
    /// A file beside it, with its name.
    Named(String),
}

/// What becomes of a layer; `None` where it is no file.
fn part(layer: &Descriptor) -> Result<Option<(Part, &Descriptor)>> {
    let annotation = |key: &str| layer.annotations.as_ref().and_then(|all| all.get(key)).map(String::as_str);
    let part = match layer.media_type.as_str() {
        COMPOSE_FILE if annotation(EXTENDS).is_some() => Part::Named(safe_name(annotation(FILE))?),
        COMPOSE_FILE => Part::Main,
        ENV_FILE => Part::Named(safe_name(annotation(ENV_FILE_NAME))?),
        _ => return Ok(None),
    };
    Ok(Some((part, layer)))
}

/// The name of a file directly in the artifact's directory, and of none that is made otherwise.
fn safe_name(name: Option<&str>) -> Result<String> {
    let Some(name) = name else { bail!("invalid OCI artifact: a file has no name") };
    let bad = name.is_empty()
        || name.len() > 255
        || matches!(name, "." | ".." | MAIN)
        || name.contains(['/', '\\'])
        || name.chars().any(char::is_control);
    if bad {
        let shown: String = name.chars().take(100).collect();
        bail!("invalid OCI artifact: {shown:?} cannot be the name of a file in it");
    }
    Ok(name.to_owned())
}

fn write(path: &Path, content: &[u8]) -> Result<()> {
    let written = || {
        let mut file = std::fs::File::options().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(content)?;
        file.sync_all()
    };
    written().with_context(|| format!("write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stays_in_the_directory_of_its_artifact() {
        for bad in [
            "",
            ".",
            "..",
            "/",
            "../x",
            "../../x",
            "/etc/passwd",
            "a/b",
            "a\\b",
            "..\\x",
            "x/",
            "x\0",
            "x\n",
            "compose.yaml",
        ] {
            assert!(safe_name(Some(bad)).is_err(), "{bad:?}");
        }
        assert!(safe_name(None).is_err());
        assert!(safe_name(Some(&"x".repeat(256))).is_err());
        for good in ["base.yaml", "web.env", ".env", "..x", "Compose.yaml", "é.env"] {
            assert_eq!(safe_name(Some(good)).unwrap(), good);
        }
    }

    #[test]
    fn media_types_and_annotations_say_what_a_layer_is() {
        let layer = |media_type: &str, annotations: &[(&str, &str)]| Descriptor {
            annotations: Some(annotations.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()),
            ..Descriptor::new(media_type, Digest::of(b""), 0)
        };
        let named = |name: &str| Some(Part::Named(name.to_owned()));
        for (layer, expected) in [
            // The name of the project's own file leads nowhere.
            (layer(COMPOSE_FILE, &[(FILE, "../../etc/x.yaml")]), Some(Part::Main)),
            (layer(COMPOSE_FILE, &[(FILE, "b.yaml"), (EXTENDS, "true")]), named("b.yaml")),
            (layer(ENV_FILE, &[(ENV_FILE_NAME, "a.env")]), named("a.env")),
            (layer(KIND.config_type, &[]), None),
            (layer("text/plain", &[(FILE, "x")]), None),
        ] {
            assert_eq!(part(&layer).unwrap().map(|(part, _)| part), expected, "{layer:?}");
        }
        assert!(part(&layer(ENV_FILE, &[])).is_err());
        assert!(part(&layer(ENV_FILE, &[(ENV_FILE_NAME, "../x")])).is_err());
        assert!(part(&layer(COMPOSE_FILE, &[(FILE, "../x"), (EXTENDS, "true")])).is_err());
    }
}
