//! What tests of the store and of unpacking need: layers made in memory, image
//! layouts, and a real registry on a free port of the loopback.

#![allow(dead_code, missing_docs, reason = "each test program uses its part of it")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use umiak_images::auth::Credentials;
use umiak_images::config::ImageConfig;
use umiak_images::digest::Digest;
use umiak_images::manifest::{Descriptor, Manifest, OCI_CONFIG, OCI_LAYER_GZIP, OCI_LAYER_ZSTD, OCI_MANIFEST};
use umiak_images::platform::Platform;
use umiak_images::reference::Reference;
use umiak_images::registries::Registries;
use umiak_images::registry::Client;

/// One entry of a tar stream, header and all, byte for byte as asked for.
pub struct Entry {
    pub name: Vec<u8>,
    pub kind: u8,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub mtime: u64,
    pub device: (u32, u32),
    pub data: Vec<u8>,
    /// PAX records that precede it.
    pub pax: Vec<(String, Vec<u8>)>,
}

impl Entry {
    pub fn new(kind: u8, name: impl AsRef<[u8]>) -> Self {
        Self {
            name: name.as_ref().to_vec(),
            kind,
            link: Vec::new(),
            mode: if kind == b'5' { 0o755 } else { 0o644 },
            uid: 0,
            gid: 0,
            mtime: 1_700_000_000,
            device: (0, 0),
            data: Vec::new(),
            pax: Vec::new(),
        }
    }

    pub fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub fn mtime(mut self, mtime: u64) -> Self {
        self.mtime = mtime;
        self
    }

    pub fn pax(mut self, key: &str, value: impl AsRef<[u8]>) -> Self {
        self.pax.push((key.to_owned(), value.as_ref().to_vec()));
        self
    }

    pub fn write(&self, out: &mut Vec<u8>) {
        if !self.pax.is_empty() {
            let records: Vec<u8> = self.pax.iter().flat_map(|(key, value)| pax_record(key, value)).collect();
            raw(out, b"pax", b'x', b"", &records, |_| {});
        }
        if self.name.len() > 100 {
            raw(out, b"././@LongLink", b'L', b"", &[&self.name[..], b"\0"].concat(), |_| {});
        }
        if self.link.len() > 100 {
            raw(out, b"././@LongLink", b'K', b"", &[&self.link[..], b"\0"].concat(), |_| {});
        }
        raw(out, &self.name, self.kind, &self.link, &self.data, |header| {
            header.set_mode(self.mode);
            header.set_uid(self.uid);
            header.set_gid(self.gid);
            header.set_mtime(self.mtime);
            header.set_device_major(self.device.0).unwrap();
            header.set_device_minor(self.device.1).unwrap();
        });
    }
}

pub fn file(name: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
    Entry { data: data.as_ref().to_vec(), ..Entry::new(b'0', name) }
}

pub fn dir(name: impl AsRef<[u8]>) -> Entry {
    Entry::new(b'5', name)
}

pub fn symlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..Entry::new(b'2', name) }
}

pub fn hardlink(name: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry { link: target.as_ref().to_vec(), ..Entry::new(b'1', name) }
}

pub fn char_device(name: impl AsRef<[u8]>, major: u32, minor: u32) -> Entry {
    Entry { device: (major, minor), ..Entry::new(b'3', name) }
}

/// One header block and its data.
pub fn raw(out: &mut Vec<u8>, name: &[u8], kind: u8, link: &[u8], data: &[u8], more: impl FnOnce(&mut tar::Header)) {
    let mut header = tar::Header::new_gnu();
    {
        let old = header.as_old_mut();
        let length = name.len().min(100);
        old.name[..length].copy_from_slice(&name[..length]);
        let length = link.len().min(100);
        old.linkname[..length].copy_from_slice(&link[..length]);
        old.linkflag = [kind];
    }
    header.set_size(data.len() as u64);
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    more(&mut header);
    header.set_cksum();
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(data);
    out.resize(out.len().next_multiple_of(512), 0);
}

pub fn pax_record(key: &str, value: &[u8]) -> Vec<u8> {
    let body = key.len() + value.len() + 3;
    let mut length = body + 1;
    while length != body + length.to_string().len() {
        length += 1;
    }
    [length.to_string().as_bytes(), b" ", key.as_bytes(), b"=", value, b"\n"].concat()
}

/// A whole archive.
pub fn archive(entries: impl IntoIterator<Item = Entry>) -> Vec<u8> {
    let mut out = Vec::new();
    for entry in entries {
        entry.write(&mut out);
    }
    out.resize(out.len() + 1024, 0);
    out
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A layer as it lies in a registry.
#[derive(Debug, Clone)]
pub struct Blob {
    pub bytes: Vec<u8>,
    pub media_type: &'static str,
    pub diff_id: Digest,
}

impl Blob {
    pub fn gzip(archive: &[u8]) -> Self {
        Self { bytes: gzip(archive), media_type: OCI_LAYER_GZIP, diff_id: Digest::of(archive) }
    }

    pub fn zstd(archive: &[u8]) -> Self {
        let bytes = zstd::encode_all(archive, 3).unwrap();
        Self { bytes, media_type: OCI_LAYER_ZSTD, diff_id: Digest::of(archive) }
    }

    pub fn descriptor(&self) -> Descriptor {
        Descriptor::new(self.media_type, Digest::of(&self.bytes), self.bytes.len() as u64)
    }
}

/// An image by all its blobs.
#[derive(Debug, Clone)]
pub struct TestImage {
    pub manifest: Vec<u8>,
    pub config: Vec<u8>,
    pub layers: Vec<Blob>,
}

impl TestImage {
    pub fn new(layers: Vec<Blob>) -> Self {
        Self::with(layers, |_, _| {})
    }

    pub fn with(layers: Vec<Blob>, change: impl FnOnce(&mut ImageConfig, &mut Manifest)) -> Self {
        let mut config = ImageConfig { os: "linux".into(), architecture: "amd64".into(), ..ImageConfig::default() };
        config.created = Some("2026-01-02T03:04:05Z".into());
        config.rootfs.kind = "layers".into();
        config.rootfs.diff_ids = layers.iter().map(|layer| layer.diff_id.clone()).collect();
        config.config.cmd = Some(vec!["/bin/true".into()]);
        let mut manifest = Manifest {
            schema_version: 2,
            media_type: Some(OCI_MANIFEST.into()),
            config: Descriptor::new(OCI_CONFIG, Digest::of(b""), 0),
            layers: layers.iter().map(Blob::descriptor).collect(),
            annotations: None,
        };
        change(&mut config, &mut manifest);
        let config = serde_json::to_vec(&config).unwrap();
        manifest.config = Descriptor::new(OCI_CONFIG, Digest::of(&config), config.len() as u64);
        Self { manifest: serde_json::to_vec(&manifest).unwrap(), config, layers }
    }

    pub fn id(&self) -> Digest {
        Digest::of(&self.config)
    }

    pub fn digest(&self) -> Digest {
        Digest::of(&self.manifest)
    }

    /// Writes it as an OCI image layout with the name `test`.
    pub fn layout(&self, at: &Path) {
        let blobs = at.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        std::fs::write(at.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        let all = self.layers.iter().map(|layer| &layer.bytes).chain([&self.manifest, &self.config]);
        for bytes in all {
            std::fs::write(blobs.join(Digest::of(bytes).hex()), bytes).unwrap();
        }
        let index = format!(
            r#"{{"schemaVersion":2,"manifests":[{{"mediaType":"{OCI_MANIFEST}","digest":"{}","size":{},
                "annotations":{{"org.opencontainers.image.ref.name":"test"}}}}]}}"#,
            self.digest(),
            self.manifest.len()
        );
        std::fs::write(at.join("index.json"), index).unwrap();
    }
}

/// Debian's docker-registry, killed when dropped.
pub struct Registry {
    child: Child,
    host: String,
    _dir: tempfile::TempDir,
}

impl Registry {
    pub fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("config.yml");
        let root = dir.path().join("data");
        let text = format!(
            "version: 0.1\nlog: {{level: info, formatter: json}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  delete: {{enabled: true}}\nhttp: {{addr: \"127.0.0.1:0\"}}\n",
            root.display()
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker-registry (Debian's package of that name) starts");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let host = lines
            .by_ref()
            .map_while(Result::ok)
            .find_map(|line| Some(line.split("listening on ").nth(1)?.split(['"', ' ']).next()?.to_owned()))
            .expect("docker-registry says where it listens");
        // Its log must be read, or it stops when the pipe is full.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, host, _dir: dir }
    }

    pub fn host(&self) -> &str {
        &self.host
    }

    /// A reference in this registry.
    pub fn reference(&self, name: &str) -> Reference {
        format!("{}/{name}", self.host).parse().unwrap()
    }

    pub fn client(&self) -> Client {
        let text = format!("[registry.\"{}\"]\ninsecure_http = true\n", self.host);
        let registries = Registries::parse(&text, Path::new("registries.toml")).unwrap();
        Client::new(registries, Credentials::none(), "umiak-test").unwrap()
    }

    /// Pushes an image with skopeo.
    pub fn push(&self, image: &TestImage, name: &str) {
        let layout = tempfile::tempdir().unwrap();
        image.layout(layout.path());
        run(Command::new("skopeo")
            .args(["copy", "-q", "--dest-tls-verify=false"])
            .args([format!("oci:{}:test", layout.path().display()), format!("docker://{}/{name}", self.host)]));
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn platform() -> Platform {
    Platform::new("linux", "amd64", None)
}

/// Runs a program to its success; its output.
pub fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// All that is in a directory: kind, mode, owner, size, time and content, by name.
pub fn snapshot(root: &Path) -> BTreeMap<Vec<u8>, String> {
    let mut found = BTreeMap::new();
    let mut left: Vec<PathBuf> = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = std::fs::symlink_metadata(&path).unwrap();
        let kind = meta.file_type();
        let content = if kind.is_symlink() {
            format!("{:?}", std::fs::read_link(&path).unwrap())
        } else if kind.is_file() {
            Digest::of(&std::fs::read(&path).unwrap()).to_string()
        } else if kind.is_char_device() || kind.is_block_device() {
            format!("device {}", meta.rdev())
        } else {
            String::new()
        };
        let line = format!(
            "{:o} {}:{} {} {}.{} {} {content}",
            meta.mode(),
            meta.uid(),
            meta.gid(),
            if kind.is_dir() { 0 } else { meta.size() },
            meta.mtime(),
            meta.mtime_nsec(),
            meta.ino()
        );
        found.insert(path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec(), line);
        if kind.is_dir() {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    found
}
