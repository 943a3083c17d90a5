//! RUN: a container of the engine on the layers of the stage, whose writable
//! layer becomes the next one.

use anyhow::{Context as _, Result, bail};
use umiak_dockerfile::{Instruction, MountSpec, Run, RunForm};
use umiak_images::config::{ImageConfig, RunConfig};
use umiak_images::digest::Digest;
use umiak_images::manifest::{Descriptor, Manifest, OCI_CONFIG};
use umiak_images::pack::Adopted;
use umiak_images::store::Image;
use umiak_runtime::config::{Bind, ImageMount, Mount, MountKind, Tmpfs};

use super::copy::{self, From};
use super::failed::Cancelled;
use super::key;
use super::mounts::{self, Held};
use super::options::Network;
use super::stage::Running;
use super::state::State;
use super::{shell, tidy};
use crate::engine::request::{Join, NetworkRequest, Request};
use crate::failure::Hint;
use crate::ui::build::Step;

/// What a start makes in a root file system that does not have it.
const OWN: [&str; 10] = [
    "/dev/console",
    "/dev/mqueue",
    "/dev/pipes",
    "/dev/pts",
    "/dev/shm",
    "/etc/hostname",
    "/etc/hosts",
    "/etc/resolv.conf",
    "/proc",
    "/sys/fs/cgroup",
];

/// The host name of RUN, as in BuildKit: the same everywhere, so that results are.
const HOSTNAME: &str = "buildkitsandbox";

/// Variables that RUN sees without an ARG, and that no key knows of.
pub const PROXIES: [&str; 10] = [
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
    "ALL_PROXY",
    "all_proxy",
];

/// A command with all that it needs.
struct Job {
    args: Vec<String>,
    env: Vec<(String, String)>,
    mounts: Vec<MountSpec>,
    /// Heredocs that are run as files: name and content.
    files: Vec<(String, String)>,
    network: Network,
    insecure: bool,
}

/// RUN.
pub fn run(running: &mut Running<'_>, state: &mut State, run: &Run, instruction: &Instruction) -> Result<()> {
    let title = running.title(instruction);
    let job = job(running, state, run)?;
    let mut held = Held::default();
    let mut identities = Vec::new();
    for spec in &job.mounts {
        identities.push(mounts::identity(running, state, spec, &mut held)?);
    }
    let options = running.build.options;
    if !options.extra_hosts.is_empty() {
        identities.push(format!("hosts {:?}", options.extra_hosts));
    }
    if !options.ulimits.is_empty() {
        identities.push(format!("ulimits {:?}", options.ulimits));
    }
    let key = {
        let pairs = |(name, value): &'_ (String, String)| -> (String, String) { (name.clone(), value.clone()) };
        let env: Vec<(String, String)> = job.env.iter().filter(|(name, _)| !is_proxy(name, state)).map(pairs).collect();
        let step = key::Step::Run {
            args: &job.args,
            env: env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
            cwd: &state.image.config.working_dir,
            user: &state.image.config.user,
            mounts: identities,
            network: &format!("{:?}", job.network),
            insecure: job.insecure,
            files: job.files.iter().map(|(name, text)| (name.as_str(), text.as_str())).collect(),
        };
        running.key(&step, &state.layers)
    };
    let history = state.run_history(&job.args);
    running.layered(state, &title, &key, |running, state, step| execute(running, state, &job, &mut held, step))?;
    state.history(history, true);
    Ok(())
}

/// A proxy that no ARG made a part of the build.
fn is_proxy(name: &str, state: &State) -> bool {
    PROXIES.contains(&name) && !state.args.contains_key(name) && !state.env.contains_key(name)
}

fn job(running: &Running<'_>, state: &State, run: &Run) -> Result<Job> {
    let options = running.build.options;
    let words = running.words(state);
    let mut files = Vec::new();
    let args = match run.form() {
        RunForm::Exec(args) => args.to_vec(),
        RunForm::Shell(text) => state.command_line(&umiak_dockerfile::Command::Shell(text)),
        RunForm::Script(heredoc) if heredoc.content.starts_with("#!") => {
            files.push((format!("/dev/pipes/{}", heredoc.name), heredoc.content.clone()));
            state.command_line(&umiak_dockerfile::Command::Shell(format!("/dev/pipes/{}", heredoc.name)))
        }
        RunForm::Script(heredoc) => state.command_line(&umiak_dockerfile::Command::Shell(heredoc.content.clone())),
    };
    if args.is_empty() {
        bail!("RUN has no command");
    }
    let mut env: Vec<(String, String)> = Vec::new();
    for pair in PROXIES.chunks_exact(2) {
        // Programs look for one of the two.
        let Some(value) = pair.iter().rev().find_map(|name| options.args.get(*name)) else { continue };
        for name in pair.iter().filter(|name| !state.env.contains_key(**name)) {
            env.push(((*name).to_owned(), value.clone()));
        }
    }
    env.extend(state.env.iter().map(|(name, value)| (name.clone(), value.clone())));
    let mut mounts = Vec::new();
    for mount in &run.mounts {
        let expanded = mount.resolve(&mut |text| {
            umiak_dockerfile::expand(&text.raw, words.escape, &|name| state.env.get(name).cloned())
                .map(|expanded| expanded.text)
        });
        mounts.push(expanded.map_err(|error| anyhow::anyhow!("{}", error.fault))?);
    }
    let network = match run.network.as_ref().map(|text| words.one(text)).transpose()?.as_deref() {
        None | Some("" | "default") => options.network.clone(),
        Some("none") => Network::None,
        Some("host") if options.allow.host_network || options.network == Network::Host => Network::Host,
        Some("host") => bail!("network.host is not allowed: RUN --network=host needs `--allow network.host`"),
        Some(other) => bail!("unsupported network mode {other:?}: it is default, none or host"),
    };
    let insecure = match run.security.as_ref().map(|text| words.one(text)).transpose()?.as_deref() {
        None | Some("" | "sandbox") => false,
        Some("insecure") if options.allow.insecure => true,
        Some("insecure") => {
            bail!("security.insecure is not allowed: RUN --security=insecure needs `--allow security.insecure`")
        }
        Some(other) => bail!("security {other:?} is not valid: it is sandbox or insecure"),
    };
    if !run.devices.is_empty() {
        bail!("RUN --device is not supported: devices of a build come with CDI, which builds do not have here");
    }
    Ok(Job { args, env, mounts, files, network, insecure })
}

fn execute(
    running: &Running<'_>,
    state: &State,
    job: &Job,
    held: &mut Held,
    step: &Step<'_>,
) -> Result<Option<Adopted>> {
    let build = running.build;
    let engine = build.engine;
    let layers = engine.store()?.stack(&state.layers)?;
    let mut request = request(running, state, job)?;
    request.layers = Some(layers.clone());
    for spec in &job.mounts {
        mounts::attach(running, state, spec, held, &mut request)?;
    }
    for (path, text) in &job.files {
        mounts::script(running, path, text, held, &mut request)?;
    }
    let mut targets: Vec<String> = OWN.map(str::to_owned).to_vec();
    targets.extend(request.runtime.mounts.iter().map(|mount| mount.target.clone()));
    targets.extend(request.files.iter().map(|file| file.target.clone()));
    if job.network == Network::Default {
        build.hold_network(&image(state), &layers);
    }
    let asked = shell::is_wanted(build).then(|| request.clone());
    let container = engine.create_build_step(request, &image(state))?;
    let id = container.config.id.clone();
    let upper = container.config.runtime.rootfs.upper.clone();
    build.begun(&id);
    let ended = build.check_cancelled().map_err(anyhow::Error::from).and_then(|()| {
        let started = engine.start_build_step(container.clone())?;
        if build.check_cancelled().is_err() {
            // Whoever gave the build up may have looked before it ran.
            engine.end_build_step(&id)?;
        }
        let code = engine.follow_build_step(&started, &mut |bytes| step.output(bytes))?;
        Ok(code)
    });
    build.ended(&id);
    let result = ended.and_then(|code| {
        build.check_cancelled()?;
        if code != 0 {
            return Err(failure(job, code, state, build));
        }
        tidy::mount_points(&upper, &layers, &targets)?;
        Ok(Some(build.building.adopt(&upper, build.options.epoch)?))
    });
    let removed = engine.remove(&container, true, true);
    if let (Some(asked), Err(error)) = (asked, &result)
        && !error.is::<Cancelled>()
    {
        step.failed(&crate::failure::one_line(error));
        build.cancel();
        if let Err(error) = shell::open(build, asked, &image(state), &state.shell()) {
            crate::note!("the shell could not be opened: {}", crate::failure::one_line(&error));
        }
    }
    let adopted = result?;
    removed?;
    Ok(adopted)
}

fn failure(job: &Job, code: i32, _: &State, build: &super::Build<'_>) -> anyhow::Error {
    if build.check_cancelled().is_err() {
        return Cancelled.into();
    }
    let why = match code {
        137 => " (killed: out of memory, or by hand)",
        126 => " (the command cannot be executed)",
        127 => " (the command was not found)",
        _ => "",
    };
    let command = crate::ui::build::shortened(&job.args.join(" "));
    let error = anyhow::anyhow!("process {command:?} did not complete successfully: exit code: {code}{why}");
    match build.options.debug_shell {
        true => error,
        false => error.context(Hint(
            "`umiak build --debug-shell`, or `image build`, opens a shell in the state before the step that failed"
                .to_owned(),
        )),
    }
}

fn request(running: &Running<'_>, state: &State, job: &Job) -> Result<Request> {
    let options = running.build.options;
    let mut request = Request {
        image: "build".to_owned(),
        entrypoint: Some(Vec::new()),
        command: Some(job.args.clone()),
        env: job.env.iter().map(|(name, value)| (name.clone(), Some(value.clone()))).collect(),
        working_dir: Some(state.image.config.working_dir.clone()),
        user: Some(state.image.config.user.clone()),
        hostname: Some(HOSTNAME.to_owned()),
        extra_hosts: options.extra_hosts.clone(),
        cgroup_parent: options.cgroup_parent.clone(),
        network: match &job.network {
            Network::Default => NetworkRequest::default(),
            Network::None => NetworkRequest::None,
            Network::Host => NetworkRequest::Host,
            Network::Named(name) => NetworkRequest::Networks(vec![Join { network: name.clone(), ..Join::default() }]),
        },
        ..Request::default()
    };
    request.runtime.shm_size = options.shm_size;
    request.runtime.ulimits.clone_from(&options.ulimits);
    request.runtime.limits = options.limits.clone();
    request.runtime.privileged = job.insecure;
    Ok(request)
}

/// The stage as an image, with nothing in it that RUN does not take from the request.
fn image(state: &State) -> Image {
    Image {
        id: Digest::of(b""),
        manifest_digest: Digest::of(b""),
        repo_digests: Vec::new(),
        names: Vec::new(),
        config: ImageConfig { config: RunConfig::default(), ..ImageConfig::default() },
        layers: state.layers.clone(),
        size: 0,
        created: None,
        platform: state.image.platform(),
        manifest: Manifest {
            schema_version: 2,
            media_type: None,
            config: Descriptor::new(OCI_CONFIG, Digest::of(b""), 0),
            layers: Vec::new(),
            annotations: None,
        },
    }
}

/// A mount of the runtime's.
pub fn mount(target: String, kind: MountKind, read_only: bool) -> Mount {
    Mount { target, kind, read_only }
}

/// A directory of the host.
pub fn bind(source: std::path::PathBuf) -> MountKind {
    MountKind::Bind(Bind { source, ..Bind::default() })
}

/// Memory.
pub fn tmpfs(size: Option<u64>) -> MountKind {
    MountKind::Tmpfs(Tmpfs { size: size.unwrap_or(0), ..Tmpfs::default() })
}

/// Layers, topmost first, or a part of them.
pub fn layers(name: &str, layers: Vec<std::path::PathBuf>, subpath: &str) -> ImageMount {
    let subpath = super::tree::clean(subpath).join("/");
    ImageMount { image: name.to_owned(), layers, subpath, ..ImageMount::default() }
}

/// Where a bind mount's files come from.
pub fn source(running: &Running<'_>, spec: &MountSpec) -> Result<From> {
    match &spec.from {
        Some(from) => copy::from_where(running, from),
        None => Ok(From::Own),
    }
}

/// An environment variable of a secret.
pub fn set_env(request: &mut Request, name: &str, value: String) {
    request.env.retain(|(there, _)| there != name);
    request.env.push((name.to_owned(), Some(value)));
}

/// Says what is missing.
pub fn missing<T>(what: &str, id: &str) -> Result<T> {
    Err(anyhow::anyhow!("{what} {id}: not found")).context("failed to mount")
}
