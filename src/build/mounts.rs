//! `RUN --mount`: what each kind comes to in a container.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use umiak_dockerfile::{MountKind as Kind, MountSpec};
use umiak_images::cache::CacheMount;
use umiak_images::digest::Digest;
use umiak_images::pack::Scratch;

use super::agent::Agent;
use super::copy::{self, From};
use super::options::SecretSource;
use super::run;
use super::stage::Running;
use super::state::State;
use crate::engine::request::{Content, File, Request};

/// What mounts hold until their RUN has ended.
#[derive(Default)]
pub struct Held {
    /// Sources of bind mounts, by target: layers (bottom first) and the path in them.
    sources: Vec<(String, Vec<Digest>, String)>,
    caches: Vec<CacheMount>,
    scratches: Vec<Scratch>,
    agents: Vec<Agent>,
}

/// Where something is mounted.
fn target(spec: &MountSpec, state: &State) -> Result<String> {
    let default = match spec.kind {
        Kind::Secret => Some(format!("/run/secrets/{}", id(spec))),
        _ => None,
    };
    match spec.target.clone().filter(|target| !target.is_empty()).or(default) {
        Some(target) => Ok(format!("/{}", super::tree::clean(&state.absolute(&target)).join("/"))),
        None => bail!("mount of type {} needs a target", spec.kind.name()),
    }
}

/// The id of a secret, a cache or an agent.
fn id(spec: &MountSpec) -> String {
    let last = |path: &String| path.rsplit('/').next().unwrap_or_default().to_owned();
    let given = spec.id.clone().filter(|id| !id.is_empty());
    match spec.kind {
        Kind::Secret => given.or_else(|| spec.source.clone()).or_else(|| spec.target.as_ref().map(last)),
        Kind::Ssh => given.or_else(|| spec.source.clone()).or_else(|| Some("default".to_owned())),
        _ => given,
    }
    .unwrap_or_default()
}

/// What of a mount counts for the key of its RUN. Contents of caches, secrets and agents do not.
pub fn identity(running: &Running<'_>, state: &State, spec: &MountSpec, held: &mut Held) -> Result<String> {
    if spec.kind != Kind::Bind {
        return Ok(format!("{spec:?}"));
    }
    let target = target(spec, state)?;
    let wanted = spec.source.clone().unwrap_or_default();
    let (layers, path) = match run::source(running, spec)? {
        From::Layers(layers) => (layers, wanted),
        From::Own => copy::snapshot(running, running.build.context(running.loaded)?, &wanted)?,
        From::Context(context) => copy::snapshot(running, &context, &wanted)?,
    };
    let stack: Vec<&str> = layers.iter().map(Digest::hex).collect();
    let text = format!("bind {target} {path} {} {stack:?}", spec.readonly);
    held.sources.push((target, layers, path));
    Ok(text)
}

/// Adds a mount to what is asked of the container.
pub fn attach(
    running: &Running<'_>,
    state: &State,
    spec: &MountSpec,
    held: &mut Held,
    request: &mut Request,
) -> Result<()> {
    match spec.kind {
        Kind::Bind => bind(running, state, spec, held, request),
        Kind::Cache => cache(running, state, spec, held, request),
        Kind::Tmpfs => {
            request.runtime.mounts.push(run::mount(target(spec, state)?, run::tmpfs(spec.size), spec.readonly));
            Ok(())
        }
        Kind::Secret => secret(running, state, spec, request),
        Kind::Ssh => ssh(running, spec, held, request),
    }
}

/// Adds a program that stands in the Dockerfile.
pub fn script(running: &Running<'_>, path: &str, text: &str, held: &mut Held, request: &mut Request) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let scratch = running.build.building.scratch()?;
    let file = scratch.path().join("script");
    let mut options = std::fs::OpenOptions::new();
    let made = options.write(true).create_new(true).mode(0o755).open(&file);
    let wrong = || format!("write {}", file.display());
    std::io::Write::write_all(&mut made.with_context(wrong)?, text.as_bytes()).with_context(wrong)?;
    request.runtime.mounts.push(run::mount(path.to_owned(), run::bind(file), true));
    held.scratches.push(scratch);
    Ok(())
}

fn bind(running: &Running<'_>, state: &State, spec: &MountSpec, held: &mut Held, request: &mut Request) -> Result<()> {
    let target = target(spec, state)?;
    let source = held.sources.iter().find(|(other, _, _)| *other == target).cloned();
    let (_, layers, path) = source.context("the source of a mount was not looked up")?;
    let build = running.build;
    let mut stack = build.engine.store()?.stack(&layers)?;
    if stack.is_empty() {
        let empty = build.building.scratch()?;
        stack.push(empty.upper());
        held.scratches.push(empty);
    }
    let mut mount = run::layers(spec.from.as_deref().unwrap_or("context"), stack, &path);
    if !spec.readonly {
        let scratch = build.building.scratch()?;
        mount.scratch = Some(scratch.path().to_owned());
        held.scratches.push(scratch);
    }
    request.runtime.mounts.push(run::mount(target, umiak_runtime::config::MountKind::Image(mount), spec.readonly));
    Ok(())
}

fn cache(running: &Running<'_>, state: &State, spec: &MountSpec, held: &mut Held, request: &mut Request) -> Result<()> {
    let target = target(spec, state)?;
    let id = spec.id.clone().filter(|id| !id.is_empty()).unwrap_or_else(|| target.clone());
    let sharing = match spec.sharing {
        umiak_dockerfile::Sharing::Shared => umiak_images::cache::Sharing::Shared,
        umiak_dockerfile::Sharing::Private => umiak_images::cache::Sharing::Private,
        umiak_dockerfile::Sharing::Locked => umiak_images::cache::Sharing::Locked,
    };
    let build = running.build;
    let mut mount = build.cache.mount(&id, sharing)?;
    if mount.is_new() {
        fill(running, spec, &mount)?;
        mount.ready(&running.now())?;
    }
    request.runtime.mounts.push(run::mount(target, run::bind(mount.path()), spec.readonly));
    held.caches.push(mount);
    Ok(())
}

/// A cache that was just made gets its owner and mode, and what `from` has for it.
fn fill(running: &Running<'_>, spec: &MountSpec, mount: &CacheMount) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let path: PathBuf = mount.path();
    if spec.from.is_some() {
        let layers = match run::source(running, spec)? {
            From::Layers(layers) => layers,
            From::Own => Vec::new(),
            From::Context(context) => copy::snapshot(running, &context, "")?.0,
        };
        copy::out(running, &layers, spec.source.as_deref().unwrap_or_default(), &path)?;
    }
    let failed = || format!("prepare the cache {}", path.display());
    std::os::unix::fs::chown(&path, Some(spec.uid.unwrap_or(0)), Some(spec.gid.unwrap_or(0))).with_context(failed)?;
    let mode = std::fs::Permissions::from_mode(spec.mode.unwrap_or(0o755));
    std::fs::set_permissions(&path, mode).with_context(failed)
}

fn secret(running: &Running<'_>, state: &State, spec: &MountSpec, request: &mut Request) -> Result<()> {
    let id = id(spec);
    let secret = running.build.options.secrets.iter().find(|secret| secret.id == id);
    let Some(secret) = secret else {
        return if spec.required { run::missing("secret", &id) } else { Ok(()) };
    };
    let bytes = match &secret.from {
        SecretSource::Bytes(bytes) => bytes.clone(),
        SecretSource::File(path) => {
            std::fs::read(path).with_context(|| format!("read the secret {id} from {}", path.display()))?
        }
        SecretSource::Variable(name) => match std::env::var_os(name) {
            Some(value) => std::os::unix::ffi::OsStringExt::into_vec(value),
            None if spec.required => return run::missing("the variable of the secret", name),
            None => return Ok(()),
        },
    };
    if let Some(name) = &spec.env {
        let name = if name.is_empty() { &id } else { name };
        run::set_env(request, name, String::from_utf8_lossy(&bytes).into_owned());
        if spec.target.is_none() {
            return Ok(());
        }
    }
    request.files.push(File {
        target: target(spec, state)?,
        content: Content::Bytes(bytes),
        uid: spec.uid.unwrap_or(0),
        gid: spec.gid.unwrap_or(0),
        mode: spec.mode.unwrap_or(0o400),
    });
    Ok(())
}

fn ssh(running: &Running<'_>, spec: &MountSpec, held: &mut Held, request: &mut Request) -> Result<()> {
    let id = id(spec);
    let Some(ssh) = running.build.options.ssh.iter().find(|ssh| ssh.id == id) else {
        return if spec.required { run::missing("unset ssh forward key", &id) } else { Ok(()) };
    };
    let number = held.agents.len();
    let scratch = running.build.building.scratch()?;
    let owner = (spec.uid.unwrap_or(0), spec.gid.unwrap_or(0));
    let agent = Agent::start(ssh, scratch.path(), owner, spec.mode.unwrap_or(0o600))?;
    let target = match &spec.target {
        Some(target) => target.clone(),
        None => format!("/run/buildkit/ssh_agent.{number}"),
    };
    request.runtime.mounts.push(run::mount(target.clone(), run::bind(agent.socket().to_owned()), false));
    if number == 0 {
        run::set_env(request, "SSH_AUTH_SOCK", target);
    }
    held.agents.push(agent);
    held.scratches.push(scratch);
    Ok(())
}
