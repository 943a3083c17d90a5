//! Starting a container: DNS and published ports first, then the pipes, then
//! the `create` child. Whatever fails, everything done before is undone.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use rustix::fs::FileType;
use rustix::pipe::PipeFlags;
use serde::{Deserialize, Serialize};
use umiak_base::{ProcessRef, state};
use umiak_netns::dns;
use umiak_runtime::logs;
use umiak_runtime::program::OwnProgram;

use super::clients::Client;
use super::create;
use super::fate::Fate;
use super::firewall::Guard;
use super::health::Checks;
use super::keeper::{Keeper, OF_ONE_RUN, Thing};
use super::protocol::{Kind, Outcome, Start};
use super::streams::{Input, Output};
use crate::engine::container::{Config, PublishedPort, State, Status};
use crate::engine::{Roots, cgroup, events, ports};
use crate::failpoint::reach;
use crate::failure::Coded;
use crate::ipc;

/// A container under supervision.
#[derive(Debug)]
pub struct Running {
    /// Where state lies.
    pub roots: Roots,
    /// What the container is.
    pub config: Config,
    /// What was seen of it.
    pub state: State,
    /// Who takes over when this monitor is killed.
    pub keeper: Keeper,
    /// The container's first process.
    pub init: ProcessRef,
    /// How that ended.
    pub fate: Fate,
    /// Its outputs.
    pub outputs: Vec<Output>,
    /// Its input.
    pub input: Input,
    /// The terminal's master side, for its size.
    pub terminal: Option<OwnedFd>,
    /// Its log, unless the driver is `none`.
    pub log: Option<logs::Writer>,
    /// Its resolver.
    pub dns: Option<dns::Server>,
    /// The control socket.
    pub control: UnixListener,
    /// Attached clients.
    pub clients: Vec<Client>,
    /// Sockets that hold the host's ports.
    pub held: Vec<OwnedFd>,
    /// The health checks of this run.
    pub checks: Option<Checks>,
    /// Hears of what is deleted of the firewall.
    pub guard: Guard,
    /// This run is being ended because it is unhealthy.
    pub gave_up: bool,
    /// When what has been asked to end is killed.
    pub kill_at: Option<Instant>,
    /// When this run began.
    pub since: Instant,
    /// Somebody wants it to stay down once it has ended.
    pub stay_down: bool,
}

/// The exit code that `run` gives for a failed start.
pub fn exit_code(error: &anyhow::Error) -> i32 {
    error.downcast_ref::<Coded>().map_or(125, |coded| coded.code)
}

/// What a monitor that takes over must know, besides what lies on disk.
#[derive(Debug, Serialize, Deserialize)]
pub struct Note {
    /// Where state lies.
    pub roots: Roots,
    /// The container.
    pub id: String,
    /// Host ports, as they are to be published.
    pub ports: Vec<PublishedPort>,
}

/// Starts the container that `order` names, and tells the other side of `socket`.
pub fn start(socket: &OwnedFd, order: Start, mut fds: Vec<OwnedFd>, mut keeper: Keeper) -> Result<Running> {
    let lock = fds.pop();
    let dir = order.roots.container(&order.id);
    let config: Config = state::read(&dir.join("config.json"))?.context("the container has no config.json")?;
    let attached = order.attach.and_then(|attach| Some(Client::new(fds.pop()?, Some(attach))));
    let note = Note { roots: order.roots.clone(), id: order.id.clone(), ports: order.ports.clone() };
    keeper.note(&serde_json::to_vec(&note).context("encode a message")?);
    keeper.keep(Thing::Orders, socket.as_fd());
    lock.iter().for_each(|lock| keeper.keep(Thing::Lock, lock.as_fd()));
    fds.iter().for_each(|port| keeper.keep(Thing::Port, port.as_fd()));
    reach("monitor: has its orders");
    let undo = Undo { roots: &order.roots, config: &config, ports: &order.ports };
    let result = begin(&order, &config, keeper);
    let mut running = match result {
        Ok(running) => running,
        Err(error) => {
            undo.run(&error);
            return Err(error);
        }
    };
    running.clients.extend(attached);
    running.held = fds;
    let pid = running.init.pid;
    reach("monitor: before the start is settled");
    // From here on, a monitor that takes over goes on with this run; before, it undoes the start.
    for thing in [Thing::Create, Thing::Lock, Thing::Orders] {
        running.keeper.forget(thing);
    }
    reach("monitor: the start is settled");
    announce(&running);
    drop(lock);
    // The command may have been killed meanwhile: the container runs all the same.
    let _ = ipc::send(socket, &Outcome::Started { pid }, &[]);
    Ok(running)
}

/// The first monitor was killed while it started the container: nothing is left of that, and the command is told.
pub fn abandon(note: &Note, orders: &OwnedFd) -> Result<()> {
    let error = anyhow::anyhow!("the monitor was killed while it started the container");
    let config: Option<Config> = state::read(&note.roots.container(&note.id).join("config.json"))?;
    if let Some(config) = &config {
        Undo { roots: &note.roots, config, ports: &note.ports }.run(&error);
    }
    let _ = ipc::send(orders, &Outcome::Failed { chain: vec![error.to_string()], exit_code: exit_code(&error) }, &[]);
    Ok(())
}

/// The monitor must not be what the kernel kills when the host runs out of memory; and what it starts
/// must become its child. Both are best effort: without the right it runs unprotected. A monitor has all of it from
/// its keeper, but for what [`adopt_orphans`] does.
pub fn protect() {
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
    // Each question that is passed on to a resolver holds descriptors. The container's own limit is set by its config.
    let resource = nix::sys::resource::Resource::RLIMIT_NOFILE;
    if let Ok((_, hard)) = nix::sys::resource::getrlimit(resource) {
        let _ = nix::sys::resource::setrlimit(resource, hard.min(8192), hard);
    }
    adopt_orphans();
}

/// Children of children become ours when their parents end.
pub fn adopt_orphans() {
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
}

/// What others are told of the start.
fn announce(running: &Running) {
    let (roots, config) = (&running.roots, &running.config);
    events::volumes(roots, config, "mount");
    for attachment in config.network.attachments() {
        events::membership(roots, "connect", &attachment.network, &attachment.network_id, &config.id);
    }
    events::container(roots, config, "start");
}

struct Undo<'a> {
    roots: &'a Roots,
    config: &'a Config,
    ports: &'a [PublishedPort],
}

impl Undo<'_> {
    fn run(&self, error: &anyhow::Error) {
        // The first error is what is told; what fails here is repaired by `rm`.
        let _ = cgroup::clear(&self.config.runtime.cgroup_path);
        let _ = ports::withdraw(self.config, self.ports);
        let _ = withdraw_names(self.roots, self.config);
        self.roots.forget_run(&self.config.id);
        let path = self.roots.container(&self.config.id).join("state.json");
        let mut seen: State = state::read(&path).ok().flatten().unwrap_or_default();
        seen.status = if seen.started_at.is_some() { Status::Exited } else { Status::Created };
        seen.failed_to_start(crate::failure::one_line(error), exit_code(error));
        (seen.init, seen.monitor, seen.keeper, seen.ports) = (None, None, None, Vec::new());
        let _ = state::write(&path, &seen);
    }
}

fn begin(order: &Start, config: &Config, mut keeper: Keeper) -> Result<Running> {
    let roots = &order.roots;
    let run_dir = roots.container_run(&config.id);
    crate::engine::roots::make_dir(&run_dir)?;
    let control = listen(roots, &config.id)?;
    keeper.keep(Thing::Control, control.as_fd());
    let log = open_log(roots, config, true)?;
    let dns = resolver(roots, config, &mut keeper, None)?;
    reach("monitor: listens");
    publish_names(roots, config, None)?;
    ports::publish(config, &order.ports)?;
    reach("monitor: published");
    let launched = launch(roots, config, &order.namespaces, &mut keeper)?;
    let mut guard = Guard::default();
    guard.follow(config);
    let running = Running {
        roots: roots.clone(),
        config: config.clone(),
        state: State {
            status: Status::Running,
            boot_id: umiak_base::process::boot_id().context("read the boot id")?,
            monitor: ProcessRef::of(std::process::id()),
            keeper: keeper.process,
            init: Some(launched.init),
            pipes: launched.pipes,
            started_at: Some(Timestamp::now()),
            ports: order.ports.clone(),
            ..State::default()
        },
        keeper,
        init: launched.init,
        fate: Fate::of_child(launched.init),
        outputs: launched.outputs,
        input: launched.input,
        terminal: launched.terminal,
        log,
        dns,
        control,
        clients: Vec::new(),
        held: Vec::new(),
        checks: Checks::new(roots, config, launched.init, None),
        guard,
        gave_up: false,
        kill_at: None,
        since: Instant::now(),
        stay_down: false,
    };
    state::write(&roots.container(&config.id).join("state.json"), &running.state)?;
    Ok(running)
}

/// Starts the container once more: its namespace, addresses, ports, log and resolver are there still.
pub fn again(running: &mut Running) -> Result<()> {
    let (roots, config) = (&running.roots, &running.config);
    // What libcontainer knows of the last run.
    let _ = std::fs::remove_dir_all(roots.runtime_state().join(&config.id));
    let namespaces = crate::engine::start::shared_namespaces(roots, config)?;
    publish_names(roots, config, None)?;
    let launched = launch(roots, config, &namespaces, &mut running.keeper)?;
    running.checks = Checks::new(roots, config, launched.init, None);
    running.fate = Fate::of_child(launched.init);
    (running.gave_up, running.kill_at) = (false, None);
    running.since = Instant::now();
    (running.init, running.outputs) = (launched.init, launched.outputs);
    (running.input, running.terminal) = (launched.input, launched.terminal);
    let state = &mut running.state;
    (state.status, state.init, state.pipes) = (Status::Running, Some(launched.init), launched.pipes);
    (state.started_at, state.oom_killed, state.error) = (Some(Timestamp::now()), false, None);
    state.end.next_start = None;
    state::write(&roots.container(&config.id).join("state.json"), state)?;
    reach("monitor: before the restart is settled");
    running.keeper.forget(Thing::Create);
    reach("monitor: the restart is settled");
    announce(running);
    Ok(())
}

/// What belongs to one run.
struct Launched {
    init: ProcessRef,
    pipes: [u64; 3],
    outputs: Vec<Output>,
    input: Input,
    terminal: Option<OwnedFd>,
}

fn launch(roots: &Roots, config: &Config, namespaces: &[(String, PathBuf)], keeper: &mut Keeper) -> Result<Launched> {
    let plumbing = Plumbing::new(config)?;
    plumbing.keep(keeper);
    let created = spawn_create(roots, config, namespaces, &plumbing, keeper);
    if created.is_err() {
        OF_ONE_RUN.into_iter().chain([Thing::Create]).for_each(|thing| keeper.forget(thing));
    }
    let created = created?;
    keeper.began(created.pid);
    let pipes = plumbing.inodes();
    let Plumbing { mut input, mut outputs, .. } = plumbing;
    if let Some(console) = &created.console {
        keeper.keep(Thing::Terminal, console.as_fd());
        (input, outputs) = of_terminal(console)?;
    }
    reach("monitor: the program runs");
    let init = ProcessRef::of(created.pid).unwrap_or(ProcessRef { pid: created.pid, start_time: 0 });
    Ok(Launched { init, pipes, outputs, input: input.unwrap_or_default(), terminal: created.console })
}

/// Both streams of a terminal.
pub fn of_terminal(console: &OwnedFd) -> Result<(Option<Input>, Vec<Output>)> {
    let again = || console.try_clone().context("duplicate the terminal");
    Ok((Some(Input::new(again()?)), vec![Output::new(Kind::Stdout, again()?)]))
}

pub fn listen(roots: &Roots, id: &str) -> Result<UnixListener> {
    let path = roots.control_socket(id);
    let _ = std::fs::remove_file(&path);
    // 0600 from the first moment on: the directory is 0700 and the mask covers the rest.
    let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let listener = crate::engine::roots::with_short_path(&path, |path| UnixListener::bind(path))
        .with_context(|| format!("listen on {}", path.display()));
    rustix::process::umask(mask);
    let listener = listener?;
    listener.set_nonblocking(true).context("make the control socket non-blocking")?;
    Ok(listener)
}

/// The container's log. `strict`: its driver's receiver has to be there.
pub fn open_log(roots: &Roots, config: &Config, strict: bool) -> Result<Option<logs::Writer>> {
    crate::engine::logs::writer(roots, config, strict)
}

/// The container's resolver; on the sockets of the last monitor, if there are any.
pub fn resolver(
    roots: &Roots,
    config: &Config,
    keeper: &mut Keeper,
    sockets: Option<(OwnedFd, OwnedFd)>,
) -> Result<Option<dns::Server>> {
    if config.network.attachments().is_empty() {
        return Ok(None);
    }
    let settings = resolver_settings(roots, config)?;
    let taken_over = sockets.is_some();
    let sockets = in_namespace(&roots.netns(&config.id), || match sockets {
        Some((udp, tcp)) => dns::Sockets::take_over(udp, tcp),
        None => dns::Sockets::bind(None),
    })?;
    if !taken_over {
        let (udp, tcp) = sockets.fds();
        keeper.keep(Thing::DnsUdp, udp);
        keeper.keep(Thing::DnsTcp, tcp);
    }
    dns::Server::new(&settings, sockets).context("start the resolver").map(Some)
}

/// What the container's resolver must know.
pub fn resolver_settings(roots: &Roots, config: &Config) -> Result<dns::Config> {
    let attachments = config.network.attachments();
    let networks = attachments
        .iter()
        .map(|a| dns::Network { id: a.network_id.clone(), name: a.network.clone(), internal: a.internal })
        .collect();
    let links = config.dns.links.iter().cloned().map(|(alias, target)| dns::Link { alias, target }).collect();
    let listed: Vec<SocketAddr> = config
        .dns
        .servers
        .iter()
        .map(|text| text.parse().map(|ip: std::net::IpAddr| SocketAddr::new(ip, 53)))
        .collect::<Result<_, _>>()
        .with_context(|| format!("a DNS server is not an IP address: {}", config.dns.servers.join(", ")))?;
    let upstreams = match listed.is_empty() {
        true => dns::Upstreams::Host("/etc/resolv.conf".into()),
        false => dns::Upstreams::Listed(listed),
    };
    Ok(dns::Config {
        records: roots.run.join("dns"),
        networks,
        links,
        project: config.labels.get(crate::project::labels::PROJECT).cloned(),
        upstreams,
    })
}

/// Runs `work` with this thread in the namespace pinned at `path`. The monitor has one thread, so
/// the whole process goes there and comes back.
fn in_namespace<T, E>(path: &std::path::Path, work: impl FnOnce() -> Result<T, E>) -> Result<T>
where
    E: std::error::Error + Send + Sync + 'static,
{
    let flags = rustix::thread::LinkNameSpaceType::Network;
    let open = |path: &std::path::Path| {
        std::fs::File::open(path).with_context(|| format!("open the network namespace {}", path.display()))
    };
    let (home, target) = (open(std::path::Path::new("/proc/self/ns/net"))?, open(path)?);
    rustix::thread::move_into_link_name_space(target.as_fd(), Some(flags))
        .with_context(|| format!("enter the network namespace {}", path.display()))?;
    let result = work();
    rustix::thread::move_into_link_name_space(home.as_fd(), Some(flags))
        .context("return from the network namespace")?;
    result.context("set up the resolver")
}

/// Makes the container's names known on its networks, with what is known of its health.
pub fn publish_names(roots: &Roots, config: &Config, healthy: Option<bool>) -> Result<()> {
    for attachment in config.network.attachments() {
        let mut names = attachment.aliases.clone();
        names.push(umiak_base::id::short(&config.id).to_owned());
        if !config.runtime.hostname.is_empty() {
            names.push(config.runtime.hostname.clone());
        }
        names.dedup();
        let label = |key: &str| config.labels.get(key).cloned();
        let record = dns::Record {
            container: config.id.clone(),
            container_name: config.name.clone(),
            names,
            ipv4: attachment.ipv4.map(|(address, _)| address),
            ipv6: attachment.ipv6.map(|(address, _)| address),
            network_name: attachment.network.clone(),
            project: label(crate::project::labels::PROJECT),
            service: label(crate::project::labels::SERVICE),
            healthy,
        };
        dns::publish(&roots.run.join("dns"), &attachment.network_id, &record)?;
    }
    Ok(())
}

/// Takes the container's names off its networks.
pub fn withdraw_names(roots: &Roots, config: &Config) -> Result<()> {
    for attachment in config.network.attachments() {
        dns::withdraw(&roots.run.join("dns"), &attachment.network_id, &config.id)?;
    }
    Ok(())
}

/// Both ends of the container's streams.
struct Plumbing {
    inside: Option<[OwnedFd; 3]>,
    input: Option<Input>,
    outputs: Vec<Output>,
}

impl Plumbing {
    fn new(config: &Config) -> Result<Self> {
        if config.runtime.tty {
            return Ok(Self { inside: None, input: None, outputs: Vec::new() });
        }
        let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).context("make a pipe");
        let (out_read, out_write) = pipe()?;
        let (err_read, err_write) = pipe()?;
        let (stdin, input) = match config.runtime.stdin_open {
            true => {
                let (read, write) = pipe()?;
                (read, Some(Input::new(write)))
            }
            false => (std::fs::File::open("/dev/null").context("open /dev/null")?.into(), None),
        };
        Ok(Self {
            inside: Some([stdin, out_write, err_write]),
            input,
            outputs: vec![Output::new(Kind::Stdout, out_read), Output::new(Kind::Stderr, err_read)],
        })
    }

    /// What the pipes are known by, to whom may have to open them again.
    fn inodes(&self) -> [u64; 3] {
        let mut all = [0; 3];
        for (inode, fd) in all.iter_mut().zip(self.inside.iter().flatten()) {
            let pipe =
                rustix::fs::fstat(fd).ok().filter(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::Fifo);
            *inode = pipe.map_or(0, |stat| stat.st_ino);
        }
        all
    }

    /// Gives copies of our ends into keeping.
    fn keep(&self, keeper: &mut Keeper) {
        for output in &self.outputs {
            let thing = if output.kind == Kind::Stderr { Thing::Stderr } else { Thing::Stdout };
            output.fd().iter().for_each(|fd| keeper.keep(thing, *fd));
        }
        self.input.iter().filter_map(Input::fd).for_each(|fd| keeper.keep(Thing::Stdin, fd));
    }
}

struct Created {
    pid: u32,
    console: Option<OwnedFd>,
}

fn spawn_create(
    roots: &Roots,
    config: &Config,
    namespaces: &[(String, PathBuf)],
    plumbing: &Plumbing,
    keeper: &mut Keeper,
) -> Result<Created> {
    let (ours, theirs) = ipc::pair()?;
    keeper.keep(Thing::Create, ours.as_fd());
    // Kept until the child runs: what the container could ever reach of it is read-only (CVE-2019-5736).
    let program = OwnProgram::open().context("open our own program")?;
    let mut child = Command::new(program.path())
        .arg("__create")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::from(theirs))
        .stdout(Stdio::null())
        .stderr(Stdio::inherit())
        .spawn()
        .context("start the create process")?;
    let fds: Vec<BorrowedFd<'_>> = plumbing.inside.iter().flatten().map(AsFd::as_fd).collect();
    let order = create::Order {
        roots: roots.clone(),
        id: config.id.clone(),
        monitor: std::process::id(),
        namespaces: namespaces.to_vec(),
    };
    reach("monitor: before its child has its orders");
    let answer = ipc::send(&ours, &order, &fds).and_then(|()| {
        reach("monitor: its child is at work");
        ipc::receive_from::<create::Answer>(&ours, &child)
    });
    // Its exit is reaped by the loop: the kernel takes its time to tear down the child's mount namespace, and the
    // container runs already.
    match answer? {
        Some((create::Answer::Created { pid }, mut fds)) => Ok(Created { pid, console: fds.pop() }),
        Some((create::Answer::Failed { chain, exit_code }, _)) => {
            let _ = child.wait();
            Err(Coded { text: chain.join(": "), code: exit_code }.into())
        }
        None => {
            let _ = child.wait();
            // What it had begun waits for it.
            let _ = cgroup::clear(&config.runtime.cgroup_path);
            anyhow::bail!("the create process ended without a word; see the monitor's log")
        }
    }
}
