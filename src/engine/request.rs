//! What is asked of a new container, by `container run` and by a service of a
//! Compose file alike, and how it is joined with what its image says.

use std::collections::BTreeMap;

use indexmap::IndexMap;
use umiak_images::config::RunConfig as ImageDefaults;
use umiak_netns::publish::PortSpec;
use umiak_runtime::config::{Mount, MountKind, Volume};

use super::container::{Asked, DnsConfig, Hooks, LogConfig};
use super::health::Healthcheck;
use super::restart::RestartPolicy;

/// Labels with this prefix say who owns a container. They are never taken from an image
/// (CVE-2026-53488: an image's label became control input).
pub const OWNERSHIP_PREFIX: &str = "com.docker.compose.";

/// A new container.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// Its name; made up if none.
    pub name: Option<String>,
    /// The image's name or id.
    pub image: String,
    /// Replaces the image's entrypoint, and drops its command.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's command.
    pub command: Option<Vec<String>>,
    /// Added to the image's environment; `None` takes a variable of the image away.
    pub env: Vec<(String, Option<String>)>,
    /// Added to the image's labels.
    pub labels: IndexMap<String, String>,
    /// OCI annotations, shown by `inspect`.
    pub annotations: IndexMap<String, String>,
    /// Replaces the image's.
    pub working_dir: Option<String>,
    /// Replaces the image's.
    pub user: Option<String>,
    /// The short id if none.
    pub hostname: Option<String>,
    /// Ports to publish.
    pub ports: Vec<PortSpec>,
    /// Publish all exposed ports on ports that are free.
    pub publish_all: bool,
    /// `80/tcp`: declared besides the image's.
    pub expose: Vec<String>,
    /// How it is joined to networks.
    pub network: NetworkRequest,
    /// `extra_hosts`: name and address or `host-gateway`.
    pub extra_hosts: Vec<(String, String)>,
    /// Its own DNS settings.
    pub dns: DnsConfig,
    /// Its log driver.
    pub log: LogConfig,
    /// Replaces the image's.
    pub stop_signal: Option<String>,
    /// Seconds.
    pub stop_timeout: Option<u64>,
    /// Remove it when it ends.
    pub auto_remove: bool,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Replaces the image's, field by field.
    pub healthcheck: Option<Healthcheck>,
    /// Once unhealthy, it is ended and started again.
    pub restart_unhealthy: bool,
    /// Namespaces of other containers to join: kind (`pid`, `ipc`) and container.
    pub join: Vec<(&'static str, String)>,
    /// Anonymous volumes of the container that this one replaces: they are its own from now on.
    pub inherited_volumes: Vec<String>,
    /// Containers whose volumes it mounts, too.
    pub volumes_from: Vec<VolumesFrom>,
    /// Digests of what it is made from, by key.
    pub fingerprint: BTreeMap<String, String>,
    /// Files made for it, read-only inside: secrets and configs.
    pub files: Vec<File>,
    /// The cgroup that its own is made in, from the root of every hierarchy; `/umiak` if none.
    pub cgroup_parent: Option<String>,
    /// Commands run in it after it starts and before it stops.
    pub hooks: Hooks,
    /// What `inspect` tells of how it was asked for.
    pub asked: Asked,
    /// The command that it belongs to, and ends with: it runs a step of a build.
    pub owner: Option<umiak_base::ProcessRef>,
    /// Its root file system is made of these layers (topmost first) instead of the image's.
    pub layers: Option<Vec<std::path::PathBuf>>,
    /// Everything that goes to the runtime as it is: limits, mounts, capabilities …
    pub runtime: umiak_runtime::Config,
}

/// Another container, all of whose volumes and binds are mounted too.
#[derive(Debug, Clone)]
pub struct VolumesFrom {
    /// Its name or id.
    pub container: String,
    /// Read-only or writable, whatever they are there.
    pub read_only: Option<bool>,
}

/// What a file made for a container holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// What this file of the host holds at each start.
    Host(std::path::PathBuf),
}

/// A file made for a container.
#[derive(Debug, Clone)]
pub struct File {
    /// Path inside.
    pub target: String,
    /// What it holds.
    pub content: Content,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Permissions.
    pub mode: u32,
}

/// How a new container is joined to networks.
#[derive(Debug, Clone)]
pub enum NetworkRequest {
    /// Nothing but `lo`.
    None,
    /// The host's namespace.
    Host,
    /// Another container's namespace, by name or id.
    Container(String),
    /// Networks by name, in the order of their interfaces.
    Networks(Vec<Join>),
}

impl Default for NetworkRequest {
    fn default() -> Self {
        Self::Networks(vec![Join { network: super::network::DEFAULT.into(), ..Join::default() }])
    }
}

/// One network to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Join {
    /// The network's name.
    pub network: String,
    /// Names there.
    pub aliases: Vec<String>,
    /// A fixed address.
    pub ipv4: Option<std::net::Ipv4Addr>,
    /// A fixed address.
    pub ipv6: Option<std::net::Ipv6Addr>,
    /// A fixed hardware address.
    pub mac: Option<String>,
    /// The interface's name, instead of eth0 and so on.
    pub ifname: Option<String>,
    /// The highest has the default route.
    pub gateway_priority: i32,
    /// More addresses of the interface.
    pub link_local: Vec<std::net::IpAddr>,
    /// `com.docker.network.endpoint.…`
    pub driver_opts: Vec<(String, String)>,
}

/// The process of a container: what the request and the image say together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Process {
    /// For `inspect`.
    pub entrypoint: Vec<String>,
    /// For `inspect`.
    pub command: Vec<String>,
    /// `K=V`, the image's first.
    pub env: Vec<String>,
}

impl Process {
    /// Joins a request with its image: a new entrypoint drops the image's command.
    pub fn plan(request: &Request, image: &ImageDefaults) -> Self {
        let image_entrypoint = image.entrypoint.clone().unwrap_or_default();
        let image_command = image.cmd.clone().unwrap_or_default();
        let (entrypoint, default_command) = match &request.entrypoint {
            Some(entrypoint) => (entrypoint.clone(), Vec::new()),
            None => (image_entrypoint, image_command),
        };
        let command = request.command.clone().unwrap_or(default_command);
        Self { entrypoint, command, env: join_env(&image.env, &request.env) }
    }

    /// The whole command line.
    pub fn args(&self) -> Vec<String> {
        self.entrypoint.iter().chain(&self.command).cloned().collect()
    }
}

fn join_env(image: &[String], request: &[(String, Option<String>)]) -> Vec<String> {
    let mut env: IndexMap<&str, Option<&str>> = IndexMap::new();
    for entry in image {
        match entry.split_once('=') {
            Some((key, value)) => env.insert(key, Some(value)),
            None => env.insert(entry, Some("")),
        };
    }
    for (key, value) in request {
        env.insert(key, value.as_deref());
    }
    env.into_iter().filter_map(|(key, value)| Some(format!("{key}={}", value?))).collect()
}

/// Labels of the image that are not about ownership, then the request's.
pub fn join_labels(image: &BTreeMap<String, String>, request: &IndexMap<String, String>) -> IndexMap<String, String> {
    let mut labels: IndexMap<String, String> = image
        .iter()
        .filter(|(key, _)| !key.starts_with(OWNERSHIP_PREFIX))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    labels.extend(request.iter().map(|(key, value)| (key.clone(), value.clone())));
    labels
}

/// Targets of the image's `VOLUME`s that the request mounts nothing on: each gets an anonymous volume.
pub fn anonymous_targets(image: &[String], mounts: &[Mount]) -> Vec<String> {
    let clean = |path: &str| {
        let parts = path.split('/').filter(|part| !part.is_empty() && *part != ".");
        parts.fold(String::new(), |joined, part| format!("{joined}/{part}"))
    };
    let taken: Vec<String> = mounts.iter().map(|mount| clean(&mount.target)).collect();
    let mut targets: Vec<String> = Vec::new();
    for target in image.iter().map(|target| clean(target)) {
        if !target.is_empty() && !taken.contains(&target) && !targets.contains(&target) {
            targets.push(target);
        }
    }
    targets
}

/// A mount of a volume.
pub fn volume_mount(target: String, name: String) -> Mount {
    Mount { target, kind: MountKind::Volume(Volume { name, ..Volume::default() }), read_only: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_new_entrypoint_drops_the_images_command() {
        let image = ImageDefaults {
            entrypoint: Some(words("/entry")),
            cmd: Some(words("serve now")),
            ..ImageDefaults::default()
        };
        let plan = |entrypoint: Option<&str>, command: Option<&str>| {
            let request =
                Request { entrypoint: entrypoint.map(words), command: command.map(words), ..Request::default() };
            Process::plan(&request, &image).args().join(" ")
        };
        assert_eq!(plan(None, None), "/entry serve now");
        assert_eq!(plan(None, Some("sh")), "/entry sh");
        assert_eq!(plan(Some("x"), None), "x");
        assert_eq!(plan(Some("x"), Some("y")), "x y");
        assert_eq!(plan(Some(""), Some("y")), "y");
    }

    #[test]
    fn environment_is_replaced_added_and_taken_away() {
        let request =
            [("A".to_owned(), Some("2".to_owned())), ("B".to_owned(), None), ("C".to_owned(), Some(String::new()))];
        assert_eq!(join_env(&words("A=1 B=1 P=/bin"), &request), ["A=2", "P=/bin", "C="]);
    }

    #[test]
    fn ownership_is_never_taken_from_an_image() {
        let image = BTreeMap::from([
            ("com.docker.compose.project".to_owned(), "victim".to_owned()),
            ("maintainer".to_owned(), "x".to_owned()),
        ]);
        assert_eq!(join_labels(&image, &IndexMap::new()).keys().collect::<Vec<_>>(), ["maintainer"]);
    }

    #[test]
    fn image_volumes_yield_to_mounts_of_the_user() {
        let mounts = [volume_mount("/data/".into(), "v".into())];
        assert_eq!(anonymous_targets(&words("/data /var//log /var/log/"), &mounts), ["/var/log"]);
    }
}
