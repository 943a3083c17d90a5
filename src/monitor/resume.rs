//! Going on from a monitor that was killed: with what its keeper holds, and
//! with what lies on disk. Everything that a monitor writes down before it acts
//! can be done once more, so it does not matter where the last one was.

use std::os::fd::{AsFd as _, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use rustix::fs::{Mode, OFlags};
use umiak_base::{ProcessRef, state};

use super::fate::Fate;
use super::firewall::Guard;
use super::health::Checks;
use super::keeper::{Keeper, Kept, OF_ONE_RUN, Thing};
use super::protocol::{Kind, Outcome, Start};
use super::start::{self, Note, Running};
use super::streams::{Input, Output};
use super::supervise::{self, Stage};
use crate::engine::container::{Config, State, Status};
use crate::engine::health::Health;
use crate::engine::{cgroup, wait};
use crate::ipc;

/// For a `create` child to be gone that was killed with its monitor.
const DYING: Duration = Duration::from_secs(10);

/// Takes over. `None` where there is nothing to supervise (any more).
pub fn take_over(mut keeper: Keeper, mut kept: Kept) -> Result<Option<(Running, Stage)>> {
    crate::failpoint::disarm();
    if kept.note().is_empty() {
        // Killed before it had its orders: the command sees that.
        return Ok(None);
    }
    let note: Note = serde_json::from_slice(kept.note()).context("read what the last monitor wrote down")?;
    let half_made = kept.take(Thing::Create);
    if let Some(create) = &half_made {
        // Its processes hold the other end until they are gone, or run the container's program.
        let _ = wait::readable(&[create.as_fd()], Some(Instant::now() + DYING));
        keeper.forget(Thing::Create);
    }
    if let Some(orders) = kept.take(Thing::Orders) {
        start::abandon(&note, &orders)?;
        return Ok(None);
    }
    let dir = note.roots.container(&note.id);
    let Some(config) = state::read::<Config>(&dir.join("config.json"))? else { return Ok(None) };
    let stored: State = state::read(&dir.join("state.json"))?.context("the container has no state.json")?;
    let stage = match stored.status {
        Status::Running if half_made.is_none() => Stage::Run,
        status if status.is_up() => Stage::Rest,
        _ => {
            if config.auto_remove {
                supervise::remove_itself(&note.roots, &note.id);
            }
            return Ok(None);
        }
    };
    if half_made.is_some() {
        let _ = cgroup::clear(&config.runtime.cgroup_path);
    }
    if stage == Stage::Rest {
        for thing in OF_ONE_RUN {
            keeper.forget(thing);
            drop(kept.take(thing));
        }
    }
    go_on(note, config, stored, stage, keeper, kept).map(|running| Some((running, stage)))
}

/// Takes over a container that runs, but has neither monitor nor keeper any more. Tells the other side of `socket`.
pub fn adopt(socket: &OwnedFd, order: Start, held: Vec<OwnedFd>, mut keeper: Keeper) -> Result<Running> {
    let dir = order.roots.container(&order.id);
    let config: Config = state::read(&dir.join("config.json"))?.context("the container has no config.json")?;
    let stored: State = state::read(&dir.join("state.json"))?.context("the container has no state.json")?;
    let init = stored.init.context("the container does not run")?;
    let note = Note { roots: order.roots, id: order.id, ports: order.ports };
    keeper.note(&serde_json::to_vec(&note).context("encode a message")?);
    let mut kept = Kept::default();
    let ports = held.into_iter().map(|fd| (Thing::Port, fd));
    for (thing, fd) in ports.chain(reopened(init, stored.pipes)) {
        keeper.keep(thing, fd.as_fd());
        kept.put(thing, fd);
    }
    let running = go_on(note, config, stored, Stage::Run, keeper, kept)?;
    let heard = !running.outputs.is_empty();
    // The command may have been killed meanwhile.
    let _ = ipc::send(socket, &Outcome::Adopted { heard }, &[]);
    Ok(running)
}

/// Our ends of the container's pipes, opened anew through the other ends, as far as its first process still has them.
fn reopened(init: ProcessRef, pipes: [u64; 3]) -> Vec<(Thing, OwnedFd)> {
    let Some(_same) = wait::pidfd(init) else { return Vec::new() };
    let Ok((any_pipe, _)) = rustix::pipe::pipe() else { return Vec::new() };
    let of_pipes = rustix::fs::fstat(&any_pipe).map(|stat| stat.st_dev);
    let open = |number: usize, flags: OFlags| {
        let path = format!("/proc/{}/fd/{number}", init.pid);
        // Looked at before it is opened: it may be anything by now.
        let found = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
        let stat = rustix::fs::fstat(&found).ok()?;
        let ours =
            pipes.get(number).is_some_and(|inode| *inode != 0 && *inode == stat.st_ino) && of_pipes == Ok(stat.st_dev);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&found));
        ours.then(|| rustix::fs::open(path, flags | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()).ok())?
    };
    let all = [(Thing::Stdin, OFlags::WRONLY), (Thing::Stdout, OFlags::RDONLY), (Thing::Stderr, OFlags::RDONLY)];
    let numbered = all.into_iter().enumerate();
    numbered.filter_map(|(number, (thing, flags))| Some((thing, open(number, flags)?))).collect()
}

/// A monitor without a keeper becomes one itself: what the monitor after it needs.
pub fn hand_over(mut running: Running) -> Kept {
    if let Some(mut log) = running.log.take() {
        let _ = log.end(umiak_runtime::logs::Stream::Stdout);
        let _ = log.end(umiak_runtime::logs::Stream::Stderr);
        log.finish();
    }
    let note = Note { roots: running.roots, id: running.config.id, ports: running.state.ports };
    let note = serde_json::to_vec(&note).unwrap_or_default();
    let mut kept = Kept::of_monitor(note, running.init.pid, running.fate.exit());
    match running.terminal {
        Some(terminal) => kept.put(Thing::Terminal, terminal),
        None => {
            for output in running.outputs {
                let thing = if output.kind == Kind::Stderr { Thing::Stderr } else { Thing::Stdout };
                output.into_fd().into_iter().for_each(|fd| kept.put(thing, fd));
            }
            running.input.into_fd().into_iter().for_each(|fd| kept.put(Thing::Stdin, fd));
        }
    }
    if let Some((udp, tcp)) = running.dns.map(umiak_netns::dns::Server::into_sockets) {
        kept.put(Thing::DnsUdp, udp);
        kept.put(Thing::DnsTcp, tcp);
    }
    kept.put(Thing::Control, running.control.into());
    running.held.into_iter().for_each(|fd| kept.put(Thing::Port, fd));
    kept
}

fn go_on(
    note: Note,
    config: Config,
    stored: State,
    stage: Stage,
    mut keeper: Keeper,
    mut kept: Kept,
) -> Result<Running> {
    let roots = note.roots;
    let init = stored.init.unwrap_or(ProcessRef { pid: 0, start_time: 0 });
    let fate = Fate::inherited(init, &keeper, &kept);
    let control = match kept.take(Thing::Control) {
        Some(fd) => UnixListener::from(fd),
        None => {
            crate::engine::roots::make_dir(&roots.container_run(&config.id))?;
            let control = start::listen(&roots, &config.id)?;
            keeper.keep(Thing::Control, control.as_fd());
            control
        }
    };
    let sockets = kept.take(Thing::DnsUdp).zip(kept.take(Thing::DnsTcp));
    // Better one that answers no names, or keeps no log, than none.
    let dns = start::resolver(&roots, &config, &mut keeper, sockets).unwrap_or_else(complain);
    let log = start::open_log(&roots, &config, false).unwrap_or_else(complain);
    let checks = match stage {
        Stage::Run => {
            let found = state::read::<Health>(&Health::path(&roots, &config.id)).ok().flatten();
            Checks::new(&roots, &config, init, found.filter(|found| found.run == Some(init)))
        }
        Stage::Rest => None,
    };
    let (outputs, input, terminal) = streams(&mut kept)?;
    let held: Vec<OwnedFd> = std::iter::from_fn(|| kept.take(Thing::Port)).collect();
    let state = State { monitor: ProcessRef::of(std::process::id()), keeper: keeper.process, ..stored };
    let mut guard = Guard::default();
    guard.follow(&config);
    let running = Running {
        state,
        keeper,
        init,
        fate,
        outputs,
        input,
        terminal,
        log,
        dns,
        control,
        clients: Vec::new(),
        held,
        checks,
        guard,
        gave_up: false,
        kill_at: None,
        since: Instant::now(),
        stay_down: false,
        roots,
        config,
    };
    let path = running.roots.container(&running.config.id).join("state.json");
    state::write(&path, &running.state).map_err(anyhow::Error::from).unwrap_or_else(complain);
    Ok(running)
}

fn complain<T: Default>(error: anyhow::Error) -> T {
    super::tell(&error.context("take over from a monitor that was killed"));
    T::default()
}

fn streams(kept: &mut Kept) -> Result<(Vec<Output>, Input, Option<OwnedFd>)> {
    if let Some(terminal) = kept.take(Thing::Terminal) {
        let (input, outputs) = start::of_terminal(&terminal)?;
        return Ok((outputs, input.unwrap_or_default(), Some(terminal)));
    }
    let mut outputs = Vec::new();
    for (thing, kind) in [(Thing::Stdout, Kind::Stdout), (Thing::Stderr, Kind::Stderr)] {
        outputs.extend(kept.take(thing).map(|fd| Output::new(kind, fd)));
    }
    Ok((outputs, kept.take(Thing::Stdin).map(Input::new).unwrap_or_default(), None))
}
