//! What a build made, as text that two builders can be compared by: read out of an archive as `docker save` writes it,
//! without what the image has from its base.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use flate2::read::GzDecoder;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use tar::{Archive, EntryType};

/// Files that were last changed before 2023 have kept their time from somewhere; all others are new.
const KEPT: u64 = 1_672_531_200;
/// Texts up to this length are shown.
const SHOWN: usize = 400;
/// Keys of the configuration that are compared.
const KEYS: &[&str] = &[
    "User",
    "ExposedPorts",
    "Env",
    "Entrypoint",
    "Cmd",
    "Volumes",
    "WorkingDir",
    "Labels",
    "StopSignal",
    "OnBuild",
    "Healthcheck",
    "Shell",
];
/// What the runtime puts into a container, not the build.
const RUNTIME: &[&str] = &["/dev", "/proc", "/sys", "/etc/hosts", "/etc/hostname", "/etc/resolv.conf", "/.dockerenv"];

/// An image, read from an archive.
#[derive(Debug)]
pub struct Image {
    config: Value,
    layers: Vec<Vec<u8>>,
}

/// A file tree by path.
type Tree = BTreeMap<String, Node>;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Node {
    /// Which file it is: names of one file share it.
    inode: usize,
    kind: Kind,
    mode: u32,
    owner: (u64, u64),
    time: u64,
    attributes: BTreeMap<String, Vec<u8>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    Directory,
    File(Vec<u8>),
    Link(String),
    Device(char, u32, u32),
    Fifo,
}

impl Image {
    /// Reads the one image of an archive.
    pub fn read(archive: &[u8]) -> Self {
        let mut files = BTreeMap::new();
        for entry in Archive::new(archive).entries().unwrap() {
            let mut entry = entry.unwrap();
            let name = entry.path().unwrap().to_str().unwrap().to_owned();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            files.insert(name, bytes);
        }
        let list: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        let name = |value: &Value| value.as_str().unwrap().to_owned();
        let config = serde_json::from_slice(&files[&name(&list[0]["Config"])]).unwrap();
        let layers = list[0]["Layers"].as_array().unwrap();
        Self { config, layers: layers.iter().map(|layer| plain(files[&name(layer)].clone())).collect() }
    }

    /// An image that has no layers.
    pub fn from_config(config: Value) -> Self {
        Self { config, layers: Vec::new() }
    }

    fn diff_ids(&self) -> &[Value] {
        self.config["rootfs"]["diff_ids"].as_array().map_or(&[], Vec::as_slice)
    }

    fn history(&self) -> &[Value] {
        self.config["history"].as_array().map_or(&[], Vec::as_slice)
    }

    /// Whether this image was built from `base`.
    fn is_from(&self, base: &Self) -> bool {
        self.diff_ids().starts_with(base.diff_ids()) && self.history().starts_with(base.history())
    }

    /// What was added to the one of `bases` that it was built from; to nothing, when it is none of them.
    pub fn describe(&self, bases: &[Self]) -> Value {
        let base = bases.iter().filter(|base| self.is_from(base)).max_by_key(|base| base.history().len());
        let (layers, history) = base.map_or((0, 0), |base| (base.layers.len(), base.history().len()));
        let mut inodes = 0;
        let mut tree = Tree::new();
        let (lower, upper) = self.layers.split_at(layers);
        lower.iter().for_each(|layer| apply(&mut tree, layer, &mut inodes));
        let before = tree.clone();
        upper.iter().for_each(|layer| apply(&mut tree, layer, &mut inodes));
        let mut config = Map::new();
        for key in KEYS {
            let value = &self.config["config"][key];
            let empty = match value {
                Value::Null | Value::Bool(false) => true,
                // The root is where a program begins that is told nothing.
                Value::String(text) => text.is_empty() || (*key == "WorkingDir" && text == "/"),
                Value::Array(items) => items.is_empty(),
                Value::Object(items) => items.is_empty(),
                _ => false,
            };
            if !empty {
                config.insert((*key).to_owned(), value.clone());
            }
        }
        let mut platform = format!("{}/{}", text(&self.config["os"]), text(&self.config["architecture"]));
        if let Some(variant) = self.config["variant"].as_str().filter(|variant| !variant.is_empty()) {
            platform = format!("{platform}/{variant}");
        }
        let mut said = json!({ "platform": platform, "config": config });
        let created = text(&self.config["created"]);
        if !created.is_empty() && created.as_str() < "2023" {
            said["created"] = created.into();
        }
        said["history"] = self.history()[history..].iter().map(step).collect();
        let (added, removed) = difference(&before, &tree);
        said["tree"] = json!(added);
        if !removed.is_empty() {
            said["removed"] = json!(removed);
        }
        said
    }
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

/// A step of the history: what was done, with a mark where it made no layer. Docker leaves out some flags of COPY.
fn step(entry: &Value) -> Value {
    let by = text(&entry["created_by"]);
    let by = by.strip_suffix(" # buildkit").unwrap_or(&by);
    let unsaid = |word: &&str| *word != "--link" && !word.starts_with("--exclude=");
    let copies = by.starts_with("COPY ") || by.starts_with("ADD ");
    let by = if copies { by.split(' ').filter(unsaid).collect::<Vec<_>>().join(" ") } else { by.to_owned() };
    let mark = if entry["empty_layer"] == true { "(no layer) " } else { "" };
    // As `docker history` shows it, where there is nothing else to ask.
    format!("{mark}{by}").replace('\t', " ").into()
}

fn plain(bytes: Vec<u8>) -> Vec<u8> {
    if !bytes.starts_with(&[0x1f, 0x8b]) {
        return bytes;
    }
    let mut plain = Vec::new();
    GzDecoder::new(Cursor::new(bytes)).read_to_end(&mut plain).unwrap();
    plain
}

/// Puts a layer on top of a tree.
fn apply(tree: &mut Tree, layer: &[u8], inodes: &mut usize) {
    let below: Vec<String> = tree.keys().cloned().collect();
    let mut archive = Archive::new(layer);
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        let raw = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = format!("/{}", raw.trim_start_matches("./").trim_matches('/'));
        if path == "/" || path == "/." {
            continue;
        }
        let (parent, name) = path.rsplit_once('/').unwrap();
        if name == ".wh..wh..opq" {
            let inside = format!("{parent}/");
            below.iter().filter(|path| path.starts_with(&inside)).for_each(|path| drop(tree.remove(path)));
            continue;
        }
        if let Some(name) = name.strip_prefix(".wh.") {
            remove(tree, &format!("{parent}/{name}"));
            continue;
        }
        let node = node(tree, &mut entry, inodes);
        if node.kind != Kind::Directory || tree.get(&path).is_some_and(|old| old.kind != Kind::Directory) {
            remove(tree, &path);
        }
        tree.insert(path, node);
    }
}

fn remove(tree: &mut Tree, path: &str) {
    let inside = format!("{path}/");
    tree.retain(|other, _| other != path && !other.starts_with(&inside));
}

fn node<R: Read>(tree: &Tree, entry: &mut tar::Entry<'_, R>, inodes: &mut usize) -> Node {
    let mut attributes = BTreeMap::new();
    for extension in entry.pax_extensions().unwrap().into_iter().flatten().flatten() {
        if let Some(name) = extension.key().unwrap().strip_prefix("SCHILY.xattr.") {
            attributes.insert(name.to_owned(), extension.value_bytes().to_vec());
        }
    }
    let link = entry.link_name_bytes().map(|name| String::from_utf8_lossy(&name).into_owned()).unwrap_or_default();
    let header = entry.header().clone();
    if header.entry_type() == EntryType::Link {
        let target = format!("/{}", link.trim_start_matches("./").trim_start_matches('/'));
        return tree.get(&target).unwrap_or_else(|| panic!("a hard link to {target}, which is not there")).clone();
    }
    *inodes += 1;
    let device = |letter| {
        Kind::Device(letter, header.device_major().unwrap().unwrap_or(0), header.device_minor().unwrap().unwrap_or(0))
    };
    let kind = match header.entry_type() {
        EntryType::Directory => Kind::Directory,
        EntryType::Symlink => Kind::Link(link),
        EntryType::Char => device('c'),
        EntryType::Block => device('b'),
        EntryType::Fifo => Kind::Fifo,
        _ => {
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes).unwrap();
            Kind::File(bytes)
        }
    };
    Node {
        inode: *inodes,
        kind,
        mode: header.mode().unwrap() & 0o7777,
        owner: (header.uid().unwrap(), header.gid().unwrap()),
        time: header.mtime().unwrap(),
        attributes,
    }
}

/// Lines for what is new or other than before, and the paths that are gone (the topmost of each).
fn difference(before: &Tree, after: &Tree) -> (BTreeMap<String, String>, Vec<String>) {
    let own = |path: &str| !RUNTIME.iter().any(|at| path == *at || path.starts_with(&format!("{at}/")));
    let same = |old: &Node, new: &Node| {
        let mut old = Node { inode: new.inode, ..old.clone() };
        // Names come and go in a directory, which changes its time.
        if old.kind == Kind::Directory {
            old.time = new.time;
        }
        old == *new
    };
    let mut added = BTreeMap::new();
    let mut first = BTreeMap::<usize, &str>::new();
    for (path, node) in after.iter().filter(|(path, _)| own(path)) {
        if before.get(path).is_some_and(|old| same(old, node)) {
            continue;
        }
        let line = match first.get(&node.inode) {
            Some(other) => format!("same file as {other}"),
            None => line(node),
        };
        first.entry(node.inode).or_insert(path);
        added.insert(path.clone(), line);
    }
    let mut removed: Vec<String> = Vec::new();
    for path in before.keys().filter(|path| own(path) && !after.contains_key(*path)) {
        if !removed.last().is_some_and(|above| path.starts_with(&format!("{above}/"))) {
            removed.push(path.clone());
        }
    }
    (added, removed)
}

fn line(node: &Node) -> String {
    let (uid, gid) = node.owner;
    let about = format!("{:04o} {uid}:{gid}", node.mode);
    let mut line = match &node.kind {
        Kind::Directory => format!("directory {about}"),
        Kind::File(bytes) => format!("file {about} {}", content(bytes)),
        Kind::Link(target) => format!("link {uid}:{gid} -> {target}"),
        Kind::Device(letter, major, minor) => format!("device {about} {letter} {major}:{minor}"),
        Kind::Fifo => format!("fifo {about}"),
    };
    for (name, value) in &node.attributes {
        line.push_str(&format!(" {name}={}", hex(value)));
    }
    if node.time < KEPT {
        line.push_str(&format!(" at {}", node.time));
    }
    line
}

fn content(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) if bytes.len() <= SHOWN => format!("{text:?}"),
        _ => format!("{} bytes sha256:{}", bytes.len(), hex(&Sha256::digest(bytes))),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
