//! What happens to containers, images, networks and volumes: an append-only
//! journal of JSON lines in the run root, written by whoever causes the event.
//!
//! Nobody depends on it: a line that cannot be written is lost, and no command
//! fails for it. Readers follow the file with inotify, see [`read`].

pub mod read;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::PathBuf;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use umiak_base::FileLock;

use super::Roots;
use super::container::Config;

/// Above this many bytes the journal is put aside, and a new one is begun.
const FULL: u64 = 1 << 20;

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A container.
    Container,
    /// An image.
    Image,
    /// A network.
    Network,
    /// A volume.
    Volume,
}

impl Kind {
    /// The word that Docker uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Container => "container",
            Self::Image => "image",
            Self::Network => "network",
            Self::Volume => "volume",
        }
    }
}

/// One thing that happened; its JSON is that of Docker's API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// What it is about.
    #[serde(rename = "Type")]
    pub kind: Kind,
    /// `start`, `die`, `exec_create: sh -c true` …
    #[serde(rename = "Action")]
    pub action: String,
    /// Whom it happened to.
    #[serde(rename = "Actor")]
    pub actor: Actor,
    /// When, in nanoseconds since the epoch.
    #[serde(rename = "timeNano")]
    pub time: i64,
    /// It is of nobody's concern, and not written down.
    #[serde(skip)]
    pub silent: bool,
}

/// Whom something happened to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Actor {
    /// A container's or network's id, a volume's name, an image's name or id.
    #[serde(rename = "ID")]
    pub id: String,
    /// Labels, name, image, and what the action adds to them.
    #[serde(rename = "Attributes")]
    pub attributes: BTreeMap<String, String>,
}

impl Event {
    /// Something that happens now.
    pub fn now(kind: Kind, action: &str, id: &str) -> Self {
        let time = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
        let actor = Actor { id: id.to_owned(), attributes: BTreeMap::new() };
        Self { kind, action: action.to_owned(), actor, time, silent: false }
    }

    /// The same with one more attribute.
    #[must_use]
    pub fn with(mut self, key: &str, value: impl Into<String>) -> Self {
        self.actor.attributes.insert(key.to_owned(), value.into());
        self
    }

    /// Something that happens to a container now, with its labels, name and image.
    pub fn of_container(config: &Config, action: &str) -> Self {
        let mut event = Self::now(Kind::Container, action, &config.id);
        event.silent = config.owner.is_some();
        event.actor.attributes.extend(config.labels.iter().map(|(key, value)| (key.clone(), value.clone())));
        event.with("image", &config.image).with("name", &config.name)
    }

    /// An attribute's value.
    pub fn attribute(&self, key: &str) -> Option<&str> {
        self.actor.attributes.get(key).map(String::as_str)
    }

    /// The moment, in the time zone of this host.
    pub fn zoned(&self) -> jiff::Zoned {
        let moment = Timestamp::from_nanosecond(i128::from(self.time)).unwrap_or(Timestamp::UNIX_EPOCH);
        moment.to_zoned(TimeZone::system())
    }

    /// As `docker events --format json` shows it.
    pub fn docker_json(&self) -> Value {
        let mut all = serde_json::Map::new();
        // The fields of the API's first versions, which are still given for these two kinds.
        if matches!(self.kind, Kind::Container | Kind::Image) {
            all.insert("status".into(), json!(self.action));
            all.insert("id".into(), json!(self.actor.id));
        }
        if let (Kind::Container, Some(image)) = (self.kind, self.attribute("image")) {
            all.insert("from".into(), json!(image));
        }
        all.insert("Type".into(), json!(self.kind));
        all.insert("Action".into(), json!(self.action));
        all.insert("Actor".into(), json!(self.actor));
        all.insert("scope".into(), json!("local"));
        all.insert("time".into(), json!(self.time.div_euclid(1_000_000_000)));
        all.insert("timeNano".into(), json!(self.time));
        Value::Object(all)
    }

    /// Writes it into the journal.
    pub fn emit(self, roots: &Roots) {
        if self.silent {
            return;
        }
        let Ok(mut line) = serde_json::to_vec(&self) else { return };
        line.push(b'\n');
        let path = journal(roots);
        let Ok(mut file) = File::options().create(true).append(true).mode(0o600).open(&path) else { return };
        // One write per line: the kernel appends it as a whole.
        let Ok(written) = file.write(&line) else { return };
        if written < line.len() {
            // The disk is full: what comes next must not be joined to half a line.
            let _ = file.write(b"\n");
        }
        if file.metadata().is_ok_and(|meta| meta.len() > FULL) {
            rotate(roots, &file);
        }
    }
}

/// Something that happened to a container.
pub fn container(roots: &Roots, config: &Config, action: &str) {
    Event::of_container(config, action).emit(roots);
}

/// A container joins a network's bridge (`connect`) or leaves it (`disconnect`).
pub fn membership(roots: &Roots, action: &str, network: &str, network_id: &str, container: &str) {
    Event::now(Kind::Network, action, network_id)
        .with("container", container)
        .with("name", network)
        .with("type", "bridge")
        .emit(roots);
}

/// A network was made (`create`) or removed (`destroy`).
pub fn network(roots: &Roots, action: &str, name: &str, id: &str) {
    Event::now(Kind::Network, action, id).with("name", name).with("type", "bridge").emit(roots);
}

/// A volume was made (`create`) or removed (`destroy`).
pub fn volume(roots: &Roots, action: &str, name: &str) {
    Event::now(Kind::Volume, action, name).with("driver", "local").emit(roots);
}

/// An image was pulled, tagged, untagged, deleted, loaded or saved; `id` is what Docker puts there: the name for `pull`,
/// else the image's id.
pub fn image(roots: &Roots, action: &str, id: &str, name: &str) {
    Event::now(Kind::Image, action, id).with("name", name).emit(roots);
}

/// A container's volumes are `mount`ed at its start, `unmount`ed at its end.
pub fn volumes(roots: &Roots, config: &Config, action: &str) {
    for mount in &config.runtime.mounts {
        let umiak_runtime::config::MountKind::Volume(volume) = &mount.kind else { continue };
        let event =
            Event::now(Kind::Volume, action, &volume.name).with("container", &config.id).with("driver", "local");
        let event = match action {
            "mount" => event
                .with("destination", &mount.target)
                .with("propagation", "")
                .with("read/write", (!mount.read_only).to_string()),
            _ => event,
        };
        event.emit(roots);
    }
}

fn journal(roots: &Roots) -> PathBuf {
    roots.run.join("events")
}

fn previous(roots: &Roots) -> PathBuf {
    roots.run.join("events.1")
}

/// Puts the full journal aside; whoever holds the lock does it, once.
fn rotate(roots: &Roots, full: &File) {
    let Ok(Some(_lock)) = FileLock::try_exclusive(&roots.lock("events")) else { return };
    let same = || Some(std::fs::metadata(journal(roots)).ok()?.ino() == full.metadata().ok()?.ino());
    if same() == Some(true) {
        let _ = std::fs::rename(journal(roots), previous(roots));
    }
}
