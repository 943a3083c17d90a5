//! The client's side of being attached to a container: our own streams against
//! the monitor's frames, the terminal in raw mode, signals passed on.

use std::io::IsTerminal as _;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::net::{AddressFamily, SocketFlags, SocketType};
use rustix::termios::{LocalModes, OptionalActions, Termios};

use super::container::{Container, EXIT_UNKNOWN, Status};
use super::detach::{self, Keys};
use super::{Engine, wait};
use crate::failure::Plain;
use crate::monitor::protocol::{Attach, Kind, put_frame, take_frame};

/// A stream socket pair: one end for the monitor, one for us.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .context("make a socket pair")
}

/// What is said of a container that one cannot be joined to any more.
pub const STOPPED: &str = "You cannot attach to a stopped container, start it first";

/// Signals that a command in the foreground passes on to its container.
const PASSED_ON: [Signal; 7] = [
    Signal::SIGINT,
    Signal::SIGTERM,
    Signal::SIGQUIT,
    Signal::SIGHUP,
    Signal::SIGUSR1,
    Signal::SIGUSR2,
    Signal::SIGCONT,
];

/// Takes signals out of their default course, to be read from a descriptor. Children are not affected: they start
/// with a clean mask.
pub fn signals(which: &[Signal]) -> Result<SignalFd> {
    let mask: SigSet = which.iter().copied().collect();
    mask.thread_block().context("block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("make a signalfd")
}

/// Puts the terminal into raw mode for as long as it lives.
#[derive(Debug)]
pub struct RawTerminal {
    before: Termios,
}

impl RawTerminal {
    /// `None` where stdin is no terminal.
    pub fn enter() -> Result<Option<Self>> {
        Self::changed(Termios::make_raw)
    }

    /// The same for single keys that are not shown; output is as before, and so is Ctrl-C.
    pub fn enter_keys() -> Result<Option<Self>> {
        Self::changed(|modes| modes.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO))
    }

    /// The same for what is typed and not to be seen; Ctrl-C is a byte like others.
    pub fn enter_secret() -> Result<Option<Self>> {
        Self::changed(|modes| modes.local_modes &= !(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    fn changed(change: impl FnOnce(&mut Termios)) -> Result<Option<Self>> {
        if !std::io::stdin().is_terminal() {
            return Ok(None);
        }
        let before = rustix::termios::tcgetattr(rustix::stdio::stdin()).context("read the terminal's settings")?;
        let mut raw = before.clone();
        change(&mut raw);
        rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &raw)
            .context("change the terminal's settings")?;
        Ok(Some(Self { before }))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = rustix::termios::tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.before);
    }
}

/// The size of our own terminal, as a resize frame's text.
pub fn terminal_size() -> Option<(u16, u16)> {
    let size = rustix::termios::tcgetwinsize(rustix::stdio::stdout()).ok()?;
    (size.ws_row > 0).then_some((size.ws_row, size.ws_col))
}

/// How a command in the foreground behaves.
#[derive(Debug, Clone)]
pub struct How {
    /// The keys that leave a container that has a terminal.
    pub detach_keys: Vec<u8>,
    /// Signals that we get go to the container.
    pub pass_signals: bool,
}

impl Default for How {
    fn default() -> Self {
        Self { detach_keys: detach::DEFAULT.to_vec(), pass_signals: true }
    }
}

/// How a session with a container came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Left {
    /// The container has ended, with this exit code.
    Ended(i32),
    /// The user left it with the keys; it runs on.
    Detached,
}

impl Left {
    /// For commands that were joined to something that ran: leaving it is reported, and the exit code is 1.
    pub fn exit_code(self) -> Result<std::process::ExitCode> {
        match self {
            Self::Ended(code) => Ok(crate::failure::code(code)),
            Self::Detached => anyhow::bail!("read escape sequence"),
        }
    }
}

/// A session with an attached container.
#[derive(Debug)]
struct Session {
    socket: OwnedFd,
    outgoing: Vec<u8>,
    incoming: Vec<u8>,
    stdin_open: bool,
    keys: Option<Keys>,
    detached: bool,
}

impl Session {
    fn put(&mut self, kind: Kind, payload: &[u8]) {
        put_frame(&mut self.outgoing, kind, payload);
    }

    fn resize(&mut self) {
        if let Some((rows, columns)) = terminal_size() {
            self.put(Kind::Resize, format!("{rows} {columns}").as_bytes());
        }
    }

    fn go_on_with(&mut self, socket: OwnedFd, tty: bool, feeds: bool) {
        self.socket = socket;
        // What the last monitor has not taken in is lost, and half a frame of it with it.
        self.outgoing.clear();
        self.incoming.clear();
        if tty {
            self.resize();
        }
        if feeds && !self.stdin_open {
            self.put(Kind::StdinEnd, b"");
        }
    }

    fn flush(&mut self) -> Result<()> {
        while !self.outgoing.is_empty() {
            match rustix::net::send(&self.socket, &self.outgoing, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(rustix::io::Errno::INTR) => {}
                // The container has ended; what it said last is still to be read.
                Err(rustix::io::Errno::PIPE | rustix::io::Errno::CONNRESET) => self.outgoing.clear(),
                Err(error) => return Err(error).context("write to the container"),
            }
        }
        Ok(())
    }

    fn read_stdin(&mut self, buffer: &mut [u8]) {
        match rustix::io::read(rustix::stdio::stdin(), &mut *buffer) {
            Ok(0) | Err(rustix::io::Errno::IO) => {
                self.stdin_open = false;
                self.put(Kind::StdinEnd, b"");
            }
            Ok(count) => {
                let (bytes, detached) = match &mut self.keys {
                    Some(keys) => keys.filter(&buffer[..count]),
                    None => (buffer[..count].to_vec(), false),
                };
                self.detached = detached;
                self.put(Kind::Stdin, &bytes);
            }
            Err(_) => {}
        }
    }

    /// The exit code, once it has come; `Some(None)` when the monitor has gone without one.
    fn read_frames(&mut self, buffer: &mut [u8]) -> Result<Option<Option<i32>>> {
        match rustix::io::read(&self.socket, &mut *buffer) {
            Ok(0) | Err(rustix::io::Errno::CONNRESET) => return Ok(Some(None)),
            Ok(count) => self.incoming.extend_from_slice(&buffer[..count]),
            Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("read from the container"),
        }
        while let Some((kind, payload)) = take_frame(&mut self.incoming)? {
            match kind {
                Kind::Stdout => crate::ui::write_raw(&payload),
                Kind::Stderr => {
                    let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), &payload);
                }
                Kind::Exit => return Ok(Some(String::from_utf8_lossy(&payload).parse().ok())),
                _ => {}
            }
        }
        Ok(None)
    }
}

impl Engine {
    /// Becomes a client of a running container's monitor.
    pub fn attach(&self, container: &Container, attach: Attach) -> Result<OwnedFd> {
        let socket = self.reach(container, attach)?;
        super::events::container(&self.roots, &container.config, "attach");
        Ok(socket)
    }

    fn reach(&self, container: &Container, attach: Attach) -> Result<OwnedFd> {
        let config = &container.config;
        let path = self.roots.control_socket(&config.id);
        let mut frame = Vec::new();
        put_frame(&mut frame, Kind::Attach, &serde_json::to_vec(&attach).context("encode a message")?);
        let joined = super::roots::with_short_path(&path, |path| UnixStream::connect(path)).and_then(|stream| {
            std::io::Write::write_all(&mut &stream, &frame)?;
            Ok(stream)
        });
        let stream = match joined {
            Ok(stream) => stream,
            // It may have ended since it was looked at: that is what has to be told.
            Err(_) if Container::load(&self.roots, &config.id)?.is_none_or(|now| !now.state.status.is_up()) => {
                return Err(Plain(STOPPED.into()).into());
            }
            Err(error) => {
                let what = format!("attach to container {}: its monitor does not answer", config.name);
                return Err(anyhow::Error::new(error).context(what));
            }
        };
        Ok(stream.into())
    }

    /// The monitor has gone without a word: joins the next one, if there is one and the container runs.
    fn rejoin(&self, container: &Container, attach: Attach) -> Result<Option<OwnedFd>> {
        let now = Container::load(&self.roots, &container.config.id)?;
        let runs = now.is_some_and(|now| {
            matches!(now.state.status, Status::Running | Status::Paused) && wait::supervisor(&now.state).is_some()
        });
        Ok(if runs { self.reach(container, attach).ok() } else { None })
    }

    /// Passes streams and signals until the container ends, or the user leaves it.
    pub fn converse(&self, container: &Container, socket: &OwnedFd, attach: Attach, how: How) -> Result<Left> {
        let tty = container.config.runtime.tty;
        let mut watched = if how.pass_signals { PASSED_ON.to_vec() } else { Vec::new() };
        watched.push(Signal::SIGWINCH);
        let signals = signals(&watched)?;
        let _raw = if tty && attach.stdin { RawTerminal::enter()? } else { None };
        let mut session = Session {
            socket: socket.try_clone().context("duplicate a socket")?,
            outgoing: Vec::new(),
            incoming: Vec::new(),
            stdin_open: attach.stdin,
            // As in Docker, only a terminal has keys; a pipe's bytes are all meant for the container.
            keys: (tty && attach.stdin).then(|| Keys::new(how.detach_keys)),
            detached: false,
        };
        if tty {
            session.resize();
        }
        let mut buffer = vec![0_u8; 64 * 1024];
        loop {
            session.flush()?;
            let stdin = rustix::stdio::stdin();
            let mut fds = vec![
                PollFd::from_borrowed_fd(session.socket.as_fd(), PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            if session.stdin_open {
                fds.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
            }
            match poll(&mut fds, None) {
                Ok(_) => {}
                Err(rustix::io::Errno::INTR) => continue,
                Err(error) => return Err(error).context("poll"),
            }
            let ready: Vec<bool> = fds.iter().map(|fd| !fd.revents().is_empty()).collect();
            drop(fds);
            if ready[1] {
                while let Some(signal) = signals.read_signal().context("read the signalfd")? {
                    self.pass_on(container, signal.ssi_signo, &mut session, tty);
                }
            }
            if ready[0]
                && let Some(code) = session.read_frames(&mut buffer)?
            {
                if let Some(code) = code {
                    return Ok(Left::Ended(code));
                }
                let Some(socket) = self.rejoin(container, attach)? else {
                    return Ok(Left::Ended(self.wait(&container.config.id, None)?.unwrap_or(EXIT_UNKNOWN)));
                };
                session.go_on_with(socket, tty, attach.stdin);
            }
            // Last: what is read is for the monitor that is there now.
            if ready.get(2) == Some(&true) {
                session.read_stdin(&mut buffer);
            }
            if session.detached {
                session.flush()?;
                return Ok(Left::Detached);
            }
        }
    }

    fn pass_on(&self, container: &Container, number: u32, session: &mut Session, tty: bool) {
        let number = i32::try_from(number).unwrap_or(0);
        if number == Signal::SIGWINCH as i32 {
            if tty {
                session.resize();
            }
            return;
        }
        // Only a started container knows its PID 1: read afresh.
        let current = Container::load(&self.roots, &container.config.id).ok().flatten();
        let init = current.and_then(|container| container.state.init).and_then(wait::pidfd);
        if let (Some(pidfd), Some(signal)) = (init, rustix::process::Signal::from_named_raw(number)) {
            let _ = rustix::process::pidfd_send_signal(pidfd, signal);
        }
    }
}
