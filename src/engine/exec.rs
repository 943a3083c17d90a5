//! A command in a running container: joined by a short-lived child of our own,
//! with one thread, that ends with the command. No monitor is needed.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use rustix::event::{PollFd, PollFlags, poll};
use serde::{Deserialize, Serialize};
use umiak_base::{ProcessRef, state};
use umiak_runtime::create::Paths;
use umiak_runtime::exec::{Exec, Parent, exec, wait};
use umiak_runtime::program::OwnProgram;

use super::attach::Left;
use super::container::{Config, Container, Status};
use super::detach::{self, Keys};
use super::events::Event;
use super::{Engine, Roots, attach, wait as waiting};
use crate::failure::Coded;
use crate::ipc;
use crate::monitor::create::{clean_signal_mask, take_streams};

/// What is to be run.
#[derive(Debug, Clone, Default)]
#[allow(clippy::struct_excessive_bools, reason = "one per flag")]
pub struct Request {
    /// The command line.
    pub args: Vec<String>,
    /// Added to the container's environment.
    pub env: Vec<(String, Option<String>)>,
    /// Instead of the container's user.
    pub user: Option<String>,
    /// Instead of the container's working directory.
    pub cwd: Option<String>,
    /// With a terminal.
    pub tty: bool,
    /// With our own input.
    pub stdin: bool,
    /// With all capabilities.
    pub privileged: bool,
    /// Not waited for.
    pub detach: bool,
    /// The keys that leave the command when it has a terminal; Docker's if empty.
    pub detach_keys: Vec<u8>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    roots: Roots,
    id: String,
    init: ProcessRef,
    /// For events: 64 hex digits.
    exec_id: String,
    spec: Exec,
}

/// The user has left the command; it runs on without anybody.
#[derive(Debug, Serialize, Deserialize)]
struct Detach {}

#[derive(Debug, Serialize, Deserialize)]
enum Answer {
    /// The command runs. With a terminal, its master side comes along.
    Started { pid: u32 },
    /// It has ended.
    Ended { code: i32 },
    /// It was never started.
    Failed { text: String, code: i32 },
}

impl Engine {
    /// Runs a command in a container. One that is not waited for counts as ended with 0.
    pub fn exec(&self, container: &Container, request: Request) -> Result<Left> {
        let (tty, stdin, detach) = (request.tty, request.stdin, request.detach);
        let keys = if request.detach_keys.is_empty() { detach::DEFAULT.to_vec() } else { request.detach_keys.clone() };
        let nothing = null()?;
        let mut streams = [nothing.as_fd(), nothing.as_fd(), nothing.as_fd()];
        if !tty && !detach {
            streams[1] = rustix::stdio::stdout();
            streams[2] = rustix::stdio::stderr();
            if stdin {
                streams[0] = rustix::stdio::stdin();
            }
        }
        let mut begun = self.begin(container, request, &streams)?;
        if detach {
            return Ok(Left::Ended(0));
        }
        let left = converse(&begun.socket, begun.console.as_ref(), begun.pid, stdin, Keys::new(keys))?;
        match left {
            Left::Ended(_) => drop(begun.child.wait()),
            Left::Detached => {
                let event = Event::of_container(&container.config, "exec_detach").with("execID", begun.exec_id);
                event.emit(&self.roots);
                ipc::send(&begun.socket, &Detach {}, &[])?;
            }
        }
        Ok(left)
    }

    /// As [`Engine::exec`] without input or terminal, for any thread: what the command says goes to `output`.
    pub fn exec_into(&self, container: &Container, request: Request, output: OwnedFd) -> Result<i32> {
        let nothing = null()?;
        let mut begun = self.begin(container, request, &[nothing.as_fd(), output.as_fd(), output.as_fd()])?;
        drop(output);
        let answer = ipc::receive::<Answer>(&begun.socket)?;
        let _ = begun.child.wait();
        match answer {
            Some((Answer::Ended { code }, _)) => Ok(code),
            _ => bail!("the exec process was killed"),
        }
    }

    fn begin(&self, container: &Container, request: Request, streams: &[BorrowedFd<'_>]) -> Result<Begun> {
        if container.state.status == Status::Paused {
            bail!("container {} is paused: unpause it before exec", container.config.name);
        }
        let init = container.state.init.filter(|_| container.state.status.is_up());
        if container.state.status == Status::Restarting {
            bail!("Container {} is restarting, wait until the container is running", container.config.id);
        }
        let Some(init) = init else { bail!("container {} is not running", container.config.name) };
        let env = request.env.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?))).collect();
        let spec = Exec {
            args: request.args,
            env,
            user: request.user.unwrap_or_default(),
            cwd: request.cwd.unwrap_or_default(),
            tty: request.tty,
            privileged: request.privileged,
        };
        let exec_id = umiak_base::id::new_id().context("random bytes")?;
        let (command, rest) = spec.args.split_first().context("no command given")?;
        for action in ["exec_create", "exec_start"] {
            let action = format!("{action}: {command} {}", rest.join(" "));
            Event::of_container(&container.config, &action).with("execID", &exec_id).emit(&self.roots);
        }
        let (ours, theirs) = ipc::pair()?;
        // Kept until the child runs: what the container could ever reach of it is read-only (CVE-2019-5736).
        let program = OwnProgram::open().context("open our own program")?;
        let mut child = Command::new(program.path())
            .arg("__exec")
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::from(theirs))
            .spawn()
            .context("start the exec process")?;
        let order =
            Order { roots: self.roots.clone(), id: container.config.id.clone(), init, exec_id: exec_id.clone(), spec };
        ipc::send(&ours, &order, streams)?;
        let (pid, console) = match ipc::receive_from::<Answer>(&ours, &child)? {
            Some((Answer::Started { pid }, mut fds)) => (pid, fds.pop()),
            Some((Answer::Failed { text, code }, _)) => {
                let _ = child.wait();
                // A process that has ended is in no namespace: then that is what has to be told.
                if std::fs::read_link(format!("/proc/{}/ns/pid", init.pid)).is_err() {
                    bail!("container {} is not running", container.config.name);
                }
                return Err(Coded { text, code }.into());
            }
            _ => bail!("the exec process ended without a word"),
        };
        Ok(Begun { child, socket: ours, exec_id, pid, console })
    }
}

/// A command that runs.
struct Begun {
    child: std::process::Child,
    socket: OwnedFd,
    exec_id: String,
    pid: u32,
    console: Option<OwnedFd>,
}

fn null() -> Result<OwnedFd> {
    let file = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null");
    file.map(OwnedFd::from).context("open /dev/null")
}

/// Passes the terminal's bytes and our signals until the command has ended, or the user leaves it.
fn converse(socket: &OwnedFd, console: Option<&OwnedFd>, pid: u32, stdin: bool, mut keys: Keys) -> Result<Left> {
    let signals =
        attach::signals(&[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGWINCH])?;
    let _raw = if console.is_some() && stdin { attach::RawTerminal::enter()? } else { None };
    let resize = |console: &OwnedFd| {
        if let Some((rows, columns)) = attach::terminal_size() {
            let size = rustix::termios::Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
            let _ = rustix::termios::tcsetwinsize(console, size);
        }
    };
    console.inspect(|console| resize(console));
    let (mut reading, mut writing, mut code) = (stdin && console.is_some(), console.is_some(), None);
    let mut buffer = vec![0_u8; 16 * 1024];
    loop {
        if let (Some(code), false) = (code, writing) {
            return Ok(Left::Ended(code));
        }
        let none = PollFlags::empty();
        let when = |wanted: bool| if wanted { PollFlags::IN } else { none };
        let terminal = console.map_or(socket.as_fd(), AsFd::as_fd);
        let mut fds = [
            PollFd::from_borrowed_fd(socket.as_fd(), when(code.is_none())),
            PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(terminal, when(writing)),
            PollFd::from_borrowed_fd(rustix::stdio::stdin(), when(reading)),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
        let ready = fds.map(|fd| !fd.revents().is_empty());
        if ready[2]
            && writing
            && let Some(console) = console
        {
            match rustix::io::read(console, &mut buffer) {
                Ok(count) if count > 0 => crate::ui::write_raw(&buffer[..count]),
                Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => {}
                // EIO: nobody has the other side open any more (pty(7)).
                _ => writing = false,
            }
        }
        if ready[3]
            && reading
            && let Some(console) = console
        {
            match rustix::io::read(rustix::stdio::stdin(), &mut buffer) {
                Ok(count) if count > 0 => {
                    let (typed, detached) = keys.filter(&buffer[..count]);
                    write_all(console, &typed)?;
                    if detached {
                        return Ok(Left::Detached);
                    }
                }
                _ => reading = false,
            }
        }
        if ready[1] {
            while let Some(signal) = signals.read_signal().context("read the signalfd")? {
                pass_on(signal.ssi_signo, pid, console, &resize);
            }
        }
        if ready[0] && code.is_none() {
            code = match ipc::receive::<Answer>(socket)? {
                Some((Answer::Ended { code }, _)) => Some(code),
                _ => bail!("the exec process was killed"),
            };
        }
    }
}

fn pass_on(number: u32, pid: u32, console: Option<&OwnedFd>, resize: &dyn Fn(&OwnedFd)) {
    let Ok(signal) = Signal::try_from(i32::try_from(number).unwrap_or(0)) else { return };
    match (signal, console) {
        (Signal::SIGWINCH, Some(console)) => resize(console),
        (Signal::SIGWINCH, None) => {}
        _ => drop(nix::sys::signal::kill(nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(0)), signal)),
    }
}

fn write_all(fd: &OwnedFd, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(fd, bytes) {
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::IO) => return Ok(()),
            Err(error) => return Err(error).context("write to the terminal"),
        }
    }
    Ok(())
}

/// Runs an `exec` child; its orders come over descriptor 0.
pub fn child_main() -> ExitCode {
    let Ok(socket) = crate::monitor::take_stdin() else { return ExitCode::FAILURE };
    let answered = match child(&socket) {
        Ok(code) => ipc::send(&socket, &Answer::Ended { code }, &[]),
        Err(error) => {
            let code = error.downcast_ref::<Coded>().map_or(126, |coded| coded.code);
            ipc::send(&socket, &Answer::Failed { text: crate::failure::one_line(&error), code }, &[])
        }
    };
    // Nobody listens for the end of a detached command.
    if answered.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn child(socket: &OwnedFd) -> Result<i32> {
    clean_signal_mask()?;
    let (order, streams) = ipc::receive::<Order>(socket)?.context("the command that started this process has gone")?;
    let dir = order.roots.container(&order.id);
    let config: Config = state::read(&dir.join("config.json"))?.context("the container has no config.json")?;
    take_streams(&streams)?;
    drop(streams);
    if order.spec.tty {
        // The user may leave it, and the user's own terminal may close then.
        let _ = rustix::process::setsid();
    }
    let paths = Paths { bundle: dir.join("bundle"), state: order.roots.runtime_state() };
    let executed = exec(&config.runtime, &paths, order.init, &order.spec, Parent::Caller).map_err(|error| {
        let code = error.exec_exit_code();
        let chain = anyhow::Error::new(error);
        Coded { text: crate::failure::one_line(&chain), code }
    })?;
    let console: Vec<BorrowedFd<'_>> = executed.console.iter().map(AsFd::as_fd).collect();
    ipc::send(socket, &Answer::Started { pid: executed.pid }, &console)?;
    if let Some(console) = executed.console {
        attend(socket, console, executed.pid)?;
    }
    let code = wait(executed.pid).context("wait for the command")?;
    Event::of_container(&config, "exec_die")
        .with("execID", order.exec_id)
        .with("exitCode", code.to_string())
        .emit(&order.roots);
    Ok(code)
}

/// Holds the terminal for a command whose user may leave it. Without the user, what it prints is thrown away; when the
/// command that started it is killed instead, the terminal closes and the kernel says so to it (SIGHUP).
fn attend(socket: &OwnedFd, console: OwnedFd, pid: u32) -> Result<()> {
    let Some(process) = ProcessRef::of(pid).and_then(waiting::pidfd) else { return Ok(()) };
    if !still_runs(&process, socket)? || ipc::receive::<Detach>(socket)?.is_none() {
        return Ok(());
    }
    let mut buffer = vec![0_u8; 16 * 1024];
    while still_runs(&process, &console)? {
        match rustix::io::read(&console, &mut buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => return Ok(()),
            _ => {}
        }
    }
    Ok(())
}

/// Waits for the process to end or `fd` to be readable; whether it is not the process.
fn still_runs(process: &OwnedFd, fd: &OwnedFd) -> Result<bool> {
    let mut fds =
        [PollFd::from_borrowed_fd(process.as_fd(), PollFlags::IN), PollFd::from_borrowed_fd(fd.as_fd(), PollFlags::IN)];
    rustix::io::retry_on_intr(|| poll(&mut fds, None)).context("poll")?;
    Ok(fds[0].revents().is_empty())
}
