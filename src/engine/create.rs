//! Making a container: from a request and its image to `config.json`, with its
//! name, volumes, addresses and files. Undone as a whole when any part fails.

use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use jiff::Timestamp;
use umiak_base::state;
use umiak_images::store::Image;
use umiak_runtime::config::{EtcFiles, FileCopy, Mount, MountKind, NetNs, Rootfs};
use umiak_runtime::mounts::clean;
use umiak_runtime::rootfs::MAX_LAYERS;

use super::container::{Asked, Config, Container, NetworkMode};
use super::health::Healthcheck;
use super::request::{
    Content, File, NetworkRequest, Process, Request, VolumesFrom, anonymous_targets, join_labels, volume_mount,
};
use super::roots::make_dir;
use super::{Engine, events, names, network, ports, volume};

impl Engine {
    /// Makes a container from an image that is in the store.
    pub fn create(&self, request: Request, image: &Image) -> Result<Container> {
        let id = umiak_base::id::new_id().context("random bytes")?;
        let name = match &request.name {
            Some(name) => name.clone(),
            None => names::invent(&self.roots)?,
        };
        check(&request)?;
        // While this is held, no other command takes the unfinished container for rubbish.
        let _lock = self.lock(&id)?;
        names::take(&self.roots, &name, &id)?;
        let mut made = Made { volumes: Vec::new() };
        match self.make(&id, &name, request, image, &mut made) {
            Ok(container) => {
                events::container(&self.roots, &container.config, "create");
                Ok(container)
            }
            Err(error) => {
                self.unmake(&id, &name, &made);
                Err(error)
            }
        }
    }

    fn make(&self, id: &str, name: &str, request: Request, image: &Image, made: &mut Made) -> Result<Container> {
        let dir = self.roots.container(id);
        make_dir(&dir)?;
        let mut config = self.plan(id, name, &request, image)?;
        for file in &request.files {
            config.runtime.mounts.push(self.write_file(id, file)?);
        }
        self.volumes_from(&mut config.runtime.mounts, &request.volumes_from)?;
        self.image_mounts(&mut config.runtime.mounts)?;
        self.volumes(&mut config, image, made)?;
        // Refuses targets that would hide what isolation rests on, and two mounts at one place, before anything runs.
        umiak_runtime::mounts::plan(&config.runtime, Vec::new())?;
        config.network = self.join(id, &request)?;
        config.runtime.netns = match &config.network {
            NetworkMode::Host => NetNs::Host,
            NetworkMode::Container(other) => NetNs::Path(self.roots.netns(other)),
            NetworkMode::None | NetworkMode::Networks(_) => NetNs::Path(self.roots.netns(id)),
        };
        state::write(&dir.join("config.json"), &config)?;
        Ok(Container { config, state: super::container::State::default(), health: None, lost: false })
    }

    fn plan(&self, id: &str, name: &str, request: &Request, image: &Image) -> Result<Config> {
        let defaults = &image.config.config;
        let process = Process::plan(request, defaults);
        let mut exposed: Vec<String> = defaults.exposed_ports.iter().map(|port| ports::exposed(port)).collect();
        exposed.extend(request.expose.iter().map(|port| ports::exposed(port)));
        exposed.extend(request.ports.iter().map(ports::target));
        exposed.sort();
        exposed.dedup();
        let mut published = request.ports.clone();
        if request.publish_all {
            published.extend(exposed.iter().filter_map(|port| ports::ephemeral(port)));
        }
        let dir = self.roots.container(id);
        let mut runtime = request.runtime.clone();
        let own_uts = runtime.uts_ns == umiak_runtime::config::Namespace::Private;
        let host_network = matches!(request.network, NetworkRequest::Host);
        runtime.id = id.to_owned();
        runtime.hostname = match (&request.hostname, own_uts) {
            (_, false) => String::new(),
            (Some(hostname), _) => hostname.clone(),
            (None, _) if host_network => super::host_name(),
            (None, _) => umiak_base::id::short(id).to_owned(),
        };
        runtime.args = process.args();
        if runtime.args.is_empty() {
            bail!("no command specified: the image {} has none", request.image);
        }
        runtime.env.clone_from(&process.env);
        if request.owner.is_some() {
            // A build's step: what it makes does not depend on where, so it is not told.
            runtime.env.insert(0, "HOSTNAME".to_owned());
        }
        runtime.cwd = request.working_dir.clone().unwrap_or_else(|| defaults.working_dir.clone());
        runtime.user = request.user.clone().unwrap_or_else(|| defaults.user.clone());
        runtime.stop_signal = request.stop_signal.clone().or_else(|| defaults.stop_signal.clone()).unwrap_or_default();
        runtime.cgroup_path = match request.cgroup_parent.as_deref().map(|parent| parent.trim_matches('/')) {
            None | Some("") => format!("/umiak/{id}"),
            Some(parent) => format!("/{parent}/{id}"),
        };
        umiak_runtime::cgroup::Cgroup::new(&runtime.cgroup_path)?;
        runtime.rootfs = Rootfs {
            layers: match &request.layers {
                Some(layers) => layers.clone(),
                None => self.layers(image)?,
            },
            upper: dir.join("upper"),
            work: dir.join("work"),
            merged: dir.join("bundle/rootfs"),
            read_only: request.runtime.rootfs.read_only,
        };
        runtime.files =
            EtcFiles { hosts: dir.join("hosts"), resolv_conf: dir.join("resolv.conf"), hostname: dir.join("hostname") };
        Ok(Config {
            id: id.to_owned(),
            name: name.to_owned(),
            created: Timestamp::now(),
            image: request.image.clone(),
            image_id: image.id.to_string(),
            labels: join_labels(&defaults.labels, &request.labels),
            annotations: request.annotations.clone(),
            entrypoint: process.entrypoint,
            command: process.command,
            network: NetworkMode::None,
            ports: published,
            exposed,
            log: request.log.clone(),
            stop_signal: Some(runtime.stop_signal.clone()).filter(|signal| !signal.is_empty()),
            stop_timeout: request.stop_timeout,
            auto_remove: request.auto_remove,
            restart: request.restart.clone(),
            restart_unhealthy: request.restart_unhealthy,
            healthcheck: Healthcheck::join(request.healthcheck.as_ref(), defaults),
            anonymous_volumes: request.inherited_volumes.clone(),
            extra_hosts: request.extra_hosts.clone(),
            dns: request.dns.clone(),
            join: self.joined(request)?,
            hooks: request.hooks.clone(),
            fingerprint: request.fingerprint.clone(),
            owner: request.owner,
            asked: Asked { publish_all: request.publish_all, ..request.asked.clone() },
            runtime,
        })
    }

    /// The layers of an image, top first, on the one of all containers where there is room for it.
    fn layers(&self, image: &Image) -> Result<Vec<PathBuf>> {
        let mut layers = self.store()?.layer_dirs(image)?;
        if layers.len() < MAX_LAYERS {
            layers.push(self.roots.base_layer());
        }
        Ok(layers)
    }

    /// Containers whose namespaces are joined, as ids.
    fn joined(&self, request: &Request) -> Result<Vec<(String, String)>> {
        let find = |(kind, key): &(&'static str, String)| {
            Ok(((*kind).to_owned(), Container::find(&self.roots, key)?.config.id))
        };
        request.join.iter().map(find).collect()
    }

    /// Named volumes are made where they are missing; the image's `VOLUME`s and mounts without a source get
    /// anonymous ones.
    fn volumes(&self, config: &mut Config, image: &Image, made: &mut Made) -> Result<()> {
        for target in anonymous_targets(&image.config.config.volumes, &config.runtime.mounts) {
            config.runtime.mounts.push(volume_mount(target, String::new()));
        }
        for mount in &mut config.runtime.mounts {
            let MountKind::Volume(volume) = &mut mount.kind else { continue };
            if volume.name.is_empty() {
                volume.name = umiak_base::id::new_id().context("random bytes")?;
                config.anonymous_volumes.push(volume.name.clone());
            }
            let anonymous = config.anonymous_volumes.contains(&volume.name);
            let (source, new) = volume::ensure(&self.roots, &volume.name, &volume.labels, anonymous)?;
            volume.source = source;
            if new {
                made.volumes.push(volume.name.clone());
            }
        }
        Ok(())
    }

    fn join(&self, id: &str, request: &Request) -> Result<NetworkMode> {
        Ok(match &request.network {
            NetworkRequest::None => NetworkMode::None,
            NetworkRequest::Host => NetworkMode::Host,
            NetworkRequest::Container(key) => {
                let other = Container::find(&self.roots, key)?;
                match other.config.network {
                    NetworkMode::Host => NetworkMode::Host,
                    // A chain of shared namespaces ends where the namespace really is.
                    NetworkMode::Container(owner) => NetworkMode::Container(owner),
                    _ => NetworkMode::Container(other.config.id),
                }
            }
            NetworkRequest::Networks(joins) => NetworkMode::Networks(network::attachments(&self.roots, id, joins)?),
        })
    }

    /// A secret or config: its content is kept beside the container, and copied to memory at each start.
    fn write_file(&self, id: &str, file: &File) -> Result<Mount> {
        let source = match &file.content {
            Content::Host(path) => path.clone(),
            Content::Bytes(bytes) => {
                let dir = self.roots.container(id).join("files");
                make_dir(&dir)?;
                let path = dir.join(umiak_base::id::random_hex(8).context("random bytes")?);
                let wrong = || format!("write {}", path.display());
                let mut options = std::fs::OpenOptions::new();
                let mut handle = options.write(true).create_new(true).mode(0o600).open(&path).with_context(wrong)?;
                std::io::Write::write_all(&mut handle, bytes).with_context(wrong)?;
                path
            }
        };
        let kind = MountKind::File(FileCopy { source, uid: file.uid, gid: file.gid, mode: file.mode });
        Ok(Mount { target: file.target.clone(), kind, read_only: true })
    }

    /// Mounts what other containers have mounted, but where something of its own goes.
    fn volumes_from(&self, mounts: &mut Vec<Mount>, from: &[VolumesFrom]) -> Result<()> {
        for from in from {
            let other = Container::find(&self.roots, &from.container)?;
            for mount in other.config.runtime.mounts {
                let is_data = matches!(mount.kind, MountKind::Bind(_) | MountKind::Volume(_));
                let taken = mounts.iter().any(|own| clean(&own.target) == clean(&mount.target));
                if is_data && !taken {
                    let read_only = from.read_only.unwrap_or(false) || mount.read_only;
                    mounts.push(Mount { read_only, ..mount });
                }
            }
        }
        Ok(())
    }

    /// Finds the images that are mounted.
    fn image_mounts(&self, mounts: &mut [Mount]) -> Result<()> {
        for mount in mounts {
            let MountKind::Image(wanted) = &mut mount.kind else { continue };
            // Those of a build are no image.
            if !wanted.layers.is_empty() {
                continue;
            }
            let store = self.store()?;
            let exact = self.exact_name(&wanted.image, None)?;
            let image = store.resolve(&exact).with_context(|| format!("mount image {}", wanted.image))?;
            wanted.image_id = image.id.to_string();
            wanted.layers = store.layer_dirs(&image)?;
        }
        Ok(())
    }

    fn unmake(&self, id: &str, name: &str, made: &Made) {
        // The error that led here is what is told; what stays is found and removed by the next command.
        let _ = network::release(&self.roots, id);
        let _ = network::default::remove_idle(&self.roots);
        for volume in &made.volumes {
            let _ = volume::remove_empty(&self.roots, volume);
        }
        let _ = std::fs::remove_dir_all(self.roots.container(id));
        let _ = names::release(&self.roots, name, id);
    }
}

/// What was made for a container besides itself.
struct Made {
    volumes: Vec<String>,
}

/// What can be refused before anything is made.
fn check(request: &Request) -> Result<()> {
    for mount in &request.runtime.mounts {
        if let MountKind::Bind(bind) = &mount.kind
            && !bind.source.exists()
        {
            if super::mounts::is_docker_socket(&bind.source) {
                // A directory of this name would keep a daemon that comes later from listening there.
                bail!(
                    "{} cannot be mounted: Docker's daemon, whose API it is, does not run here",
                    bind.source.display()
                );
            }
            if bind.create_missing {
                continue;
            }
            bail!("invalid mount config for type \"bind\": bind source path does not exist: {}", bind.source.display());
        }
    }
    super::logs::check(&request.log)?;
    if let Some(signal) = &request.stop_signal {
        super::stop::signal(signal)?;
    }
    Ok(())
}
