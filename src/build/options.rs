//! What is asked of a build, by the command line and by a Compose file alike.

use std::path::PathBuf;

use indexmap::IndexMap;
use umiak_images::pack::Compression;
use umiak_images::platform::Platform;

/// A build.
#[derive(Debug, Clone)]
pub struct Options {
    /// What COPY and ADD take from.
    pub context: Source,
    /// Where the Dockerfile is.
    pub dockerfile: File,
    /// Further contexts, by the name that `--from` has for them.
    pub contexts: IndexMap<String, Source>,
    /// Values of `ARG`s.
    pub args: IndexMap<String, String>,
    /// The stage to build; the last if none.
    pub target: Option<String>,
    /// Names of the image.
    pub names: Vec<String>,
    /// Labels added to the image.
    pub labels: IndexMap<String, String>,
    /// What RUN may mount as a secret.
    pub secrets: Vec<Secret>,
    /// SSH agents and keys that RUN may use.
    pub ssh: Vec<Ssh>,
    /// The network of RUN.
    pub network: Network,
    /// Lines of `/etc/hosts`: name and address or `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    /// Bytes of `/dev/shm`; 0 for the default.
    pub shm_size: u64,
    /// rlimits of RUN.
    pub ulimits: Vec<umiak_runtime::config::Ulimit>,
    /// Limits of RUN.
    pub limits: umiak_runtime::config::Limits,
    /// The cgroup that those of RUN are made in.
    pub cgroup_parent: Option<String>,
    /// What the image is for; the host's if none.
    pub platforms: Vec<Platform>,
    /// Nothing is taken from the cache.
    pub no_cache: bool,
    /// Stages of which nothing is taken from the cache.
    pub no_cache_filter: Vec<String>,
    /// Base images are looked up in their registries.
    pub pull: bool,
    /// What RUN may ask for besides.
    pub allow: Allow,
    /// How new layers are compressed.
    pub compression: Compression,
    /// Every time in the image is at most this (SOURCE_DATE_EPOCH), in seconds.
    pub epoch: Option<i64>,
    /// Where steps are looked for besides the own cache.
    pub cache_from: Vec<super::caches::CacheFrom>,
    /// Where the cache is left besides.
    pub cache_to: Vec<super::caches::CacheTo>,
    /// A shell in the state before the RUN that fails.
    pub debug_shell: bool,
}

impl Options {
    /// A build of this Dockerfile, in which nothing else is asked for.
    pub fn new(context: Source, dockerfile: File) -> Self {
        Self {
            context,
            dockerfile,
            contexts: IndexMap::new(),
            args: IndexMap::new(),
            target: None,
            names: Vec::new(),
            labels: IndexMap::new(),
            secrets: Vec::new(),
            ssh: Vec::new(),
            network: Network::default(),
            extra_hosts: Vec::new(),
            shm_size: 0,
            ulimits: Vec::new(),
            limits: umiak_runtime::config::Limits::default(),
            cgroup_parent: None,
            platforms: Vec::new(),
            cache_from: Vec::new(),
            cache_to: Vec::new(),
            no_cache: false,
            no_cache_filter: Vec::new(),
            pull: false,
            allow: Allow::default(),
            compression: Compression::default(),
            epoch: None,
            debug_shell: false,
        }
    }
}

/// Entitlements.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Allow {
    /// `security.insecure`: RUN with all capabilities.
    pub insecure: bool,
    /// `network.host`: RUN with the host's network.
    pub host_network: bool,
}

/// What a context is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// A directory.
    Directory(PathBuf),
    /// A git repository: URL, with a fragment of reference and directory.
    Git(String),
    /// A file to download: a Dockerfile, or an archive.
    Url(String),
    /// An archive, or a Dockerfile, on stdin.
    Stdin,
    /// An image by name; of other services, too.
    Image(String),
    /// An OCI layout: its directory, and the name or digest in it.
    Layout(PathBuf, String),
}

/// Where the Dockerfile is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum File {
    /// A file in the context; `Dockerfile` (or `dockerfile`) if none.
    InContext(Option<String>),
    /// A file of the host.
    At(PathBuf),
    /// This text.
    Text(String),
}

/// A secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Secret {
    /// Its id.
    pub id: String,
    /// Where it comes from.
    pub from: SecretSource,
}

/// Where a secret comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// A file of the host.
    File(PathBuf),
    /// A variable of the environment.
    Variable(String),
    /// These bytes.
    Bytes(Vec<u8>),
}

/// An SSH agent, or keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ssh {
    /// Its id; `default` if RUN names none.
    pub id: String,
    /// Sockets or private keys; the agent of the environment if none.
    pub paths: Vec<PathBuf>,
}

/// The network of RUN.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Network {
    /// A bridge.
    #[default]
    Default,
    /// None but loopback.
    None,
    /// The host's.
    Host,
    /// A network of the engine's, by name.
    Named(String),
}

impl std::str::FromStr for Network {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "" | "default" | "bridge" => Self::Default,
            "none" => Self::None,
            "host" => Self::Host,
            name => Self::Named(name.to_owned()),
        })
    }
}

/// Where the result of a build goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Into the image store, under the build's names.
    Store,
    /// The same, and to the registries of the names.
    Push,
    /// The files, into a directory.
    Directory(PathBuf),
    /// The files, as a tar archive in a file; on stdout if none.
    Tar(Option<PathBuf>),
    /// The image, as an archive in a file; on stdout if none.
    Archive(Option<PathBuf>),
    /// Nowhere: only the cache has it.
    Nothing,
}

impl Output {
    /// Whether the store has the image afterwards.
    pub fn keeps_image(&self) -> bool {
        matches!(self, Self::Store | Self::Push)
    }

    /// Whether the result is wanted as an image.
    pub fn wants_image(&self) -> bool {
        matches!(self, Self::Store | Self::Push | Self::Archive(_))
    }
}
