//! The monitor's loop: output into the log and to clients, input to the
//! container, DNS, and the end.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use jiff::Timestamp;
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use umiak_base::state;

use super::clients::{Client, Request};
use super::fate::{self, Exit};
use super::keeper::{OF_ONE_RUN, Thing};
use super::protocol::Kind;
use super::start::{self, Running, publish_names, resolver_settings, withdraw_names};
use crate::engine::container::{Config, End, Status, Want};
use crate::engine::events::{self, Event};
use crate::engine::restart::{self, Backoff};
use crate::engine::{Roots, cgroup, ports};
use crate::failpoint::reach;

/// How much is read from one stream per turn.
const CHUNK: usize = 64 * 1024;
/// How long output of a container that has ended is waited for, should something else hold its pipe.
const DRAIN: Duration = Duration::from_secs(1);

/// After the last that happened, what is not needed for waiting is kept for so long.
const CALM: Duration = Duration::from_secs(1);

/// Where supervision begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// In a run.
    Run,
    /// Between two runs.
    Rest,
}

/// Why supervision is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Over {
    /// The container has ended for good.
    Ended,
    /// The keeper has gone, and nothing is in hand that could not be handed over.
    Alone,
}

/// Supervises until the container has ended for good and everything of it is cleared away.
pub fn run(running: &mut Running, stage: Stage) -> Result<Over> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    mask.thread_block().context("block SIGCHLD")?;
    let signals =
        SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("make a signalfd")?;
    let mut room = Room::default();
    let mut backoff = Backoff::after_retries(running.state.restart_count);
    let mut pause = None;
    if stage == Stage::Rest {
        backoff = Backoff::after_retries(running.state.restart_count.saturating_sub(1));
        reread(running);
        // That it is to be started again was decided before; for how long it waits begins anew.
        pause = backoff.after(&running.config.restart, how_it_ended(running, 0, true));
        if pause.is_none() {
            running.state.end.by_hand = running.stay_down;
            return finish(running, Vec::new()).map(|()| Over::Ended);
        }
    }
    loop {
        let pause = match pause.take() {
            Some(pause) => pause,
            None => {
                let Some((code, signal)) = one_run(running, &signals, &mut room)? else { return Ok(Over::Alone) };
                let told = end_run(running, code, signal);
                reread(running);
                running.state.end.by_hand = running.stay_down;
                let ended = how_it_ended(running, code, running.gave_up);
                let Some(pause) = backoff.after(&running.config.restart, ended) else {
                    return finish(running, told).map(|()| Over::Ended);
                };
                announce_restart(running, told, pause)?;
                pause
            }
        };
        reach("monitor: rests");
        if !rest(running, &signals, pause, &mut room)? {
            running.state.end.by_hand = true;
            return finish(running, Vec::new()).map(|()| Over::Ended);
        }
        if let Err(error) = start::again(running) {
            running.state.failed_to_start(crate::failure::one_line(&error), start::exit_code(&error));
            let withdrawn = withdraw_names(&running.roots, &running.config);
            finish(running, Vec::new())?;
            return withdrawn.map(|()| Over::Ended);
        }
    }
}

fn how_it_ended(running: &Running, code: i32, unhealthy: bool) -> restart::Ended {
    restart::Ended { code, lasted: running.since.elapsed(), by_hand: running.stay_down, unhealthy }
}

/// What is needed only while something happens.
#[derive(Debug, Default)]
struct Room {
    buffer: Vec<u8>,
    /// When it is given back.
    until: Option<Instant>,
}

impl Room {
    fn buffer(&mut self) -> &mut [u8] {
        self.buffer.resize(CHUNK, 0);
        &mut self.buffer
    }
}

/// From a start to the end of the container's first process; how that ended. Nothing where the keeper has gone.
fn one_run(running: &mut Running, signals: &SignalFd, room: &mut Room) -> Result<Option<Exit>> {
    let mut ended: Option<(Exit, Instant)> = None;
    // What the start has used is given back, too.
    room.until = Some(Instant::now() + CALM);
    loop {
        // Before the first wait, too: the container may have ended before the signalfd was there.
        while signals.read_signal().context("read the signalfd")?.is_some() {}
        if ended.is_none() {
            ended = running.fate.look(&mut running.keeper).map(|code| (code, Instant::now() + DRAIN));
        }
        if let Some((code, deadline)) = ended {
            let quiet = running.outputs.iter().all(|output| output.fd().is_none());
            if quiet || Instant::now() >= deadline {
                return Ok(Some(code));
            }
        } else if running.keeper.fd().is_none() && running.clients.is_empty() && running.input.waiting() == 0 {
            return Ok(None);
        }
        turn(running, signals, ended.map(|(_, deadline)| deadline), room)?;
    }
}

/// The pause between two runs; whether another shall follow.
fn rest(running: &mut Running, signals: &SignalFd, pause: Duration, room: &mut Room) -> Result<bool> {
    let deadline = Instant::now() + pause;
    loop {
        while signals.read_signal().context("read the signalfd")?.is_some() {}
        // What the last run left, if anything.
        fate::reap_all();
        let _ = running.keeper.hear(0);
        if running.stay_down {
            return Ok(false);
        }
        if Instant::now() >= deadline {
            return Ok(true);
        }
        turn(running, signals, Some(deadline), room)?;
    }
}

/// What may have changed since the last run began: the config, and what the user wants.
fn reread(running: &mut Running) {
    let dir = running.roots.container(&running.config.id);
    if let Ok(Some(config)) = state::read::<Config>(&dir.join("config.json")) {
        running.config = config;
    }
    running.stay_down |= matches!(state::read(&dir.join("want.json")), Ok(Some(Want { running: false, .. })));
}

/// The run is over, another follows.
fn announce_restart(running: &mut Running, told: Vec<Event>, pause: Duration) -> Result<()> {
    running.state.status = Status::Restarting;
    running.state.end.next_start = Timestamp::now().checked_add(pause).ok();
    running.state.restart_count = running.state.restart_count.saturating_add(1);
    let written = state::write(&running.roots.container(&running.config.id).join("state.json"), &running.state);
    told.into_iter().for_each(|event| event.emit(&running.roots));
    tell_end(running);
    Ok(written?)
}

/// What a descriptor of the poll set is.
enum Source {
    /// What the loop looks at in each turn anyway.
    Told,
    Control,
    Output(usize),
    Input,
    Client(usize),
    Ruleset,
}

fn turn(running: &mut Running, signals: &SignalFd, deadline: Option<Instant>, room: &mut Room) -> Result<()> {
    let now = Instant::now();
    let calm_down = room.until.is_some_and(|until| until <= now);
    if calm_down {
        calm(running, room);
    }
    let dns_deadline = running.dns.as_ref().and_then(umiak_netns::dns::Server::next_deadline);
    let log_deadline = running.log.as_ref().and_then(umiak_runtime::logs::Writer::deadline);
    let check_deadline = running.checks.as_ref().map(super::health::Checks::deadline);
    let guard_deadline = running.guard.deadline();
    let all = [deadline, dns_deadline, log_deadline, check_deadline, guard_deadline, running.kill_at, room.until];
    let timeout = all.into_iter().flatten().min();
    let timeout = timeout.map(|deadline| timespec(deadline.saturating_duration_since(now)));
    let ready: Vec<(Source, PollFlags)> = {
        let (sources, mut fds) = poll_set(running, signals);
        let wait = if calm_down { crate::sys::wait_lightly } else { poll };
        match wait(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        sources.into_iter().zip(fds.iter().map(PollFd::revents)).filter(|(_, events)| !events.is_empty()).collect()
    };
    if !ready.is_empty() {
        room.until = Some(Instant::now() + CALM);
    }
    for (source, events) in ready {
        match source {
            Source::Told => {}
            Source::Control => accept(running),
            Source::Output(index) => read_outputs(running, index, room.buffer()),
            Source::Input => running.input.flush(),
            Source::Ruleset => running.guard.hear(),
            Source::Client(index) => serve(running, index, events),
        }
    }
    super::health::turn(running);
    if running.kill_at.is_some_and(|at| at <= Instant::now()) {
        running.kill_at = None;
        let _ = cgroup::kill(&running.config.runtime.cgroup_path);
    }
    running.guard.turn(&running.roots, &running.config);
    if let Some(dns) = &mut running.dns {
        // A question that could not be answered is asked again by its client.
        let _ = dns.turn();
    }
    if let Some(log) = &mut running.log {
        // A full disk must not take the container down: what cannot be written is lost, the rest goes on.
        let _ = log.flush();
        if log.deadline().is_some_and(|deadline| deadline <= Instant::now()) {
            let _ = log.tick(Instant::now());
        }
    }
    if running.terminal.is_none() && running.clients.iter().any(|client| client.gone() && client.feeds()) {
        // Killed, perhaps, before it could say so.
        running.input.end();
    }
    running.clients.retain(|client| !client.gone());
    if running.config.owner.is_some_and(|owner| !owner.alive()) && !running.clients.iter().any(Client::is_starter) {
        // The build that it is a step of was killed: nobody waits for it.
        running.stay_down = true;
        let _ = cgroup::kill(&running.config.runtime.cgroup_path);
    }
    if running.input.fd().is_none() {
        // The container sees the end of its input when nobody holds it any more.
        running.keeper.forget(Thing::Stdin);
    }
    Ok(())
}

/// Nothing has happened for a while: what is not needed for waiting is given back.
fn calm(running: &mut Running, room: &mut Room) {
    *room = Room::default();
    if let Some(dns) = &mut running.dns {
        dns.rest();
    }
    crate::sys::drop_unused_stack();
}

fn poll_set<'a>(running: &'a Running, signals: &'a SignalFd) -> (Vec<Source>, Vec<PollFd<'a>>) {
    let mut sources = vec![Source::Told, Source::Control];
    let mut fds = vec![entry(signals.as_fd(), PollFlags::IN), entry(running.control.as_fd(), PollFlags::IN)];
    let log_behind = running.log.as_ref().is_some_and(umiak_runtime::logs::Writer::behind);
    let held_back = log_behind || running.clients.iter().any(Client::behind);
    for (index, output) in running.outputs.iter().enumerate().filter(|_| !held_back) {
        if let Some(fd) = output.fd() {
            sources.push(Source::Output(index));
            fds.push(entry(fd, PollFlags::IN));
        }
    }
    if let Some(fd) = running.input.wants_write() {
        sources.push(Source::Input);
        fds.push(entry(fd, PollFlags::OUT));
    }
    let input_full = running.input.waiting() > CHUNK;
    for (index, client) in running.clients.iter().enumerate() {
        let mut events = PollFlags::empty();
        events.set(PollFlags::IN, client.wants_read() && !input_full);
        events.set(PollFlags::OUT, client.wants_write());
        sources.push(Source::Client(index));
        fds.push(entry(client.fd(), events));
    }
    if let Some((log, events)) = running.log.as_ref().and_then(umiak_runtime::logs::Writer::waits_for) {
        sources.push(Source::Told);
        fds.push(entry(log, events));
    }
    let check = running.checks.as_ref().and_then(super::health::Checks::fd);
    let dns = running.dns.as_ref().map(AsFd::as_fd);
    for fd in [check, dns, running.keeper.fd(), running.fate.fd()].into_iter().flatten() {
        sources.push(Source::Told);
        fds.push(entry(fd, PollFlags::IN));
    }
    if let Some(fd) = running.guard.fd() {
        sources.push(Source::Ruleset);
        fds.push(entry(fd, PollFlags::IN));
    }
    (sources, fds)
}

fn entry(fd: BorrowedFd<'_>, events: PollFlags) -> PollFd<'_> {
    PollFd::from_borrowed_fd(fd, events)
}

fn timespec(duration: Duration) -> Timespec {
    let tv_sec = i64::try_from(duration.as_secs()).unwrap_or(i64::MAX);
    // One more millisecond: a deadline that is rounded down would be polled for in vain.
    Timespec { tv_sec, tv_nsec: i64::from(duration.subsec_nanos()) }
}

fn accept(running: &mut Running) {
    while let Ok((stream, _)) = running.control.accept() {
        let root = rustix::net::sockopt::socket_peercred(&stream).is_ok_and(|peer| peer.uid.is_root());
        if root {
            running.clients.push(Client::new(stream.into(), None));
        }
    }
}

/// How often one stream is read in one turn where its container must not wait for its log.
const GREED: usize = 16;

fn read_outputs(running: &mut Running, index: usize, buffer: &mut [u8]) {
    let greedy = running.log.as_ref().is_some_and(umiak_runtime::logs::Writer::non_blocking);
    for _ in 0..if greedy { GREED } else { 1 } {
        if !read_output(running, index, buffer) || running.clients.iter().any(Client::behind) {
            return;
        }
    }
}

/// Whether there was something.
fn read_output(running: &mut Running, index: usize, buffer: &mut [u8]) -> bool {
    let Some(output) = running.outputs.get_mut(index) else { return false };
    let kind = output.kind;
    let Some(bytes) = output.read(buffer) else { return false };
    if let Some(log) = &mut running.log {
        let stream = if kind == Kind::Stderr {
            umiak_runtime::logs::Stream::Stderr
        } else {
            umiak_runtime::logs::Stream::Stdout
        };
        let _ = log.write(stream, bytes);
    }
    for client in &mut running.clients {
        client.output(kind, bytes);
    }
    true
}

fn serve(running: &mut Running, index: usize, events: PollFlags) {
    let Some(client) = running.clients.get_mut(index) else { return };
    let mut requests = Vec::new();
    if events.intersects(PollFlags::OUT) {
        client.send();
    }
    if events.intersects(PollFlags::IN | PollFlags::HUP | PollFlags::ERR) {
        client.receive(&mut requests);
        client.hung_up(events.intersects(PollFlags::HUP | PollFlags::ERR));
    }
    for request in requests {
        match request {
            Request::Input(bytes) => running.input.put(&bytes),
            // A terminal goes on: another client may take it over.
            Request::EndInput if running.terminal.is_some() => {}
            Request::EndInput => running.input.end(),
            Request::Reload => reload(running),
            Request::StayDown => running.stay_down = true,
            Request::Resize(rows, columns) => {
                if let Some(terminal) = &running.terminal {
                    let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
                    let _ = rustix::termios::tcsetwinsize(terminal, size);
                }
            }
        }
    }
}

/// Networks were joined or left, or the container was renamed or updated: the names there and the resolver follow.
fn reload(running: &mut Running) {
    let path = running.roots.container(&running.config.id).join("config.json");
    let Ok(Some(config)) = state::read::<Config>(&path) else { return };
    (running.config.name, running.config.network) = (config.name, config.network);
    (running.config.dns, running.config.restart) = (config.dns, config.restart);
    // What fails here is seen by whoever asks for a name; the container goes on.
    let healthy = running.checks.as_ref().and_then(super::health::Checks::healthy);
    let _ = publish_names(&running.roots, &running.config, healthy);
    if let (Some(dns), Ok(settings)) = (&mut running.dns, resolver_settings(&running.roots, &running.config)) {
        dns.reconfigure(&settings);
    }
    running.guard.follow(&running.config);
}

/// Clears away what belongs to one run. What is to be told of it, once its state can be read.
fn end_run(running: &mut Running, code: i32, signal: Option<i32>) -> Vec<Event> {
    let config = &running.config;
    // Before the cgroup goes: its counters go with it.
    let path = &config.runtime.cgroup_path;
    running.checks = None;
    running.state.oom_killed = cgroup::oom_killed(path);
    let (memory_peak, memory_limit) = cgroup::memory(path);
    let unhealthy = running.gave_up;
    let out_of_memory = running.state.oom_killed;
    running.state.end = End { signal, out_of_memory, unhealthy, memory_peak, memory_limit, ..End::default() };
    let cleared = cgroup::clear(path);
    running.outputs.iter_mut().for_each(super::streams::Output::close);
    (running.input, running.terminal) = (super::streams::Input::default(), None);
    OF_ONE_RUN.into_iter().for_each(|thing| running.keeper.forget(thing));
    if let Some(log) = &mut running.log {
        let _ = log.end(umiak_runtime::logs::Stream::Stdout);
        let _ = log.end(umiak_runtime::logs::Stream::Stderr);
    }
    let withdrawn = withdraw_names(&running.roots, config);
    running.state.exit_code = Some(code);
    running.state.finished_at = Some(Timestamp::now());
    running.state.init = None;
    running.state.error = cleared.and(withdrawn).err().map(|error| crate::failure::one_line(&error));
    // Their time is that of the end.
    last_events(running)
}

/// No run follows: gives back what was kept between runs, writes how the last ended, and tells the clients.
fn finish(running: &mut Running, told: Vec<Event>) -> Result<()> {
    let config = &running.config;
    if let Some(log) = running.log.take() {
        log.finish();
    }
    let withdrawn = ports::withdraw(config, &running.state.ports);
    running.held.clear();
    // The keeper has them, too, and ends a little later than the state says that they are free.
    running.keeper.forget(Thing::Port);
    running.state.status = Status::Exited;
    (running.state.monitor, running.state.keeper) = (None, None);
    running.state.end.next_start = None;
    running.state.ports.clear();
    if let Err(error) = withdrawn {
        running.state.error.get_or_insert_with(|| crate::failure::one_line(&error));
    }
    running.roots.forget_run(&config.id);
    let written = state::write(&running.roots.container(&config.id).join("state.json"), &running.state);
    told.into_iter().for_each(|event| event.emit(&running.roots));
    tell_end(running);
    // The command that started it removes it with `--rm`, unless that command has gone or was not waiting.
    let left_alone = !running.clients.iter().any(Client::is_starter);
    part(&mut running.clients);
    if running.config.auto_remove && left_alone {
        remove_itself(&running.roots, &running.config.id);
    }
    Ok(written?)
}

/// What others are told of the end of a run.
fn last_events(running: &Running) -> Vec<Event> {
    let config = &running.config;
    for attachment in config.network.attachments() {
        let (name, id) = (&attachment.network, &attachment.network_id);
        events::membership(&running.roots, "disconnect", name, id, &config.id);
    }
    events::volumes(&running.roots, config, "unmount");
    let span = running.state.started_at.map(|started| started.duration_until(Timestamp::now()).as_secs().max(0));
    let died = Event::of_container(config, "die")
        .with("execDuration", span.unwrap_or(0).to_string())
        .with("exitCode", running.state.exit_code.unwrap_or(0).to_string());
    let oom = running.state.oom_killed.then(|| Event::of_container(config, "oom"));
    oom.into_iter().chain([died]).collect()
}

/// Those attached to a run see its end, and nothing of the next.
fn tell_end(running: &mut Running) {
    // Those that came while it ended, too.
    accept(running);
    for index in 0..running.clients.len() {
        if running.clients.get(index).is_some_and(Client::is_silent) {
            serve(running, index, PollFlags::IN);
        }
    }
    let code = running.state.exit_code.unwrap_or(0);
    for client in &mut running.clients {
        client.output(Kind::Exit, code.to_string().as_bytes());
        client.finish();
    }
}

/// Sends attached clients the rest, for as long as they read.
fn part(clients: &mut Vec<Client>) {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        clients.retain(|client| !client.gone() && client.wants_write());
        let left = deadline.saturating_duration_since(Instant::now());
        if clients.is_empty() || left.is_zero() {
            return;
        }
        let mut fds: Vec<PollFd<'_>> = clients.iter().map(|client| entry(client.fd(), PollFlags::OUT)).collect();
        let _ = poll(&mut fds, Some(&timespec(left)));
        clients.iter_mut().for_each(Client::send);
    }
}

/// `--rm`: a last command of its own, because removal needs what a monitor does not have.
pub fn remove_itself(roots: &Roots, id: &str) {
    let _ = std::process::Command::new("/proc/self/exe")
        .arg("--root")
        .arg(&roots.data)
        .arg("--run-root")
        .arg(&roots.run)
        .args(["container", "rm", "--volumes", "--force", id])
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn();
}
