//! The keeper: the process that a command starts as a monitor, which goes on as
//! two. The keeper does next to nothing, so that next to nothing can happen to
//! it: it holds copies of the descriptors that cannot be opened again, and when
//! the monitor is killed, it goes on as another one with them. Orphans of the
//! dead one, the container's first process above all, become its children
//! (`PR_SET_CHILD_SUBREAPER`), so that no exit code is lost.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
};
use umiak_base::ProcessRef;

use super::fate::Exit;
use crate::ipc;

/// So many monitors of one container that are killed within [`LOOP`] are taken for a fault that will not go away.
const DEATHS: usize = 5;
const LOOP: Duration = Duration::from_secs(10);
/// Before another attempt, where the kernel had no room for a process.
const PAUSE: Duration = Duration::from_millis(200);

/// What a monitor gives into keeping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Thing {
    /// The socket to the command that waits for the start.
    Orders,
    /// The container's lock, for as long as the start takes.
    Lock,
    /// The socket to a `create` child at work.
    Create,
    /// The writing end of the container's input.
    Stdin,
    /// The reading end of its output.
    Stdout,
    /// The reading end of its error output.
    Stderr,
    /// The master side of its terminal.
    Terminal,
    /// A socket that holds a port of the host; there may be many.
    Port,
    /// The resolver's socket for datagrams.
    DnsUdp,
    /// The resolver's socket for connections.
    DnsTcp,
    /// The control socket.
    Control,
}

impl Thing {
    const ALL: [Self; 11] = [
        Self::Orders,
        Self::Lock,
        Self::Create,
        Self::Stdin,
        Self::Stdout,
        Self::Stderr,
        Self::Terminal,
        Self::Port,
        Self::DnsUdp,
        Self::DnsTcp,
        Self::Control,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|thing| *thing as u8 == byte)
    }
}

/// What belongs to one run of the container, and is given up with it.
pub const OF_ONE_RUN: [Thing; 4] = [Thing::Stdin, Thing::Stdout, Thing::Stderr, Thing::Terminal];

/// What is kept for the monitor, and for the one after it.
#[derive(Debug, Default)]
pub struct Kept {
    things: Vec<(Thing, OwnedFd)>,
    note: Vec<u8>,
    init: u32,
    exit: Option<Exit>,
    /// Another monitor was there before.
    inherited: bool,
}

impl Kept {
    /// Whether it is from a monitor that was killed.
    pub fn is_inherited(&self) -> bool {
        self.inherited
    }

    /// Of a monitor that becomes the keeper of another: what it wrote down, and how far the container's first process
    /// is.
    pub fn of_monitor(note: Vec<u8>, init: u32, exit: Option<Exit>) -> Self {
        Self { things: Vec::new(), note, init, exit, inherited: true }
    }

    /// Puts a thing in.
    pub fn put(&mut self, thing: Thing, fd: OwnedFd) {
        self.things.push((thing, fd));
    }

    /// Takes out a thing.
    pub fn take(&mut self, wanted: Thing) -> Option<OwnedFd> {
        let place = self.things.iter().position(|(thing, _)| *thing == wanted)?;
        Some(self.things.remove(place).1)
    }

    /// What the last monitor wrote down for the next; nothing for the first.
    pub fn note(&self) -> &[u8] {
        &self.note
    }

    /// How the container's first process ended, where it has already.
    pub fn exit_of(&self, init: u32) -> Option<Exit> {
        self.exit.filter(|_| self.init == init)
    }

    fn take_in(&mut self, message: &[u8], fd: Option<OwnedFd>) {
        match (message.split_first(), fd) {
            (Some((b'k', [thing])), Some(fd)) => self.things.extend(Thing::from_byte(*thing).map(|thing| (thing, fd))),
            (Some((b'f', [forgotten])), None) => self.things.retain(|(thing, _)| *thing as u8 != *forgotten),
            (Some((b'n', note)), None) => note.clone_into(&mut self.note),
            (Some((b'i', _)), None) => (self.init, self.exit) = (number(message, 1).unwrap_or(0), None),
            (Some((b'e', _)), None) => self.exit = exit(message),
            _ => {}
        }
    }
}

fn number(message: &[u8], at: usize) -> Option<u32> {
    message.get(at..at + 4)?.try_into().ok().map(u32::from_le_bytes)
}

/// `what` happened to the container's first process: it began, or it ended so.
fn about(what: u8, init: u32, exit: Exit) -> Vec<u8> {
    let signal = exit.1.unwrap_or(0);
    [&[what][..], &init.to_le_bytes(), &exit.0.to_le_bytes(), &signal.to_le_bytes()].concat()
}

fn exit(message: &[u8]) -> Option<Exit> {
    let [code, signal] = [number(message, 5)?, number(message, 9)?].map(u32::cast_signed);
    Some((code, (signal != 0).then_some(signal)))
}

fn say(line: &OwnedFd, message: &[u8], fd: Option<BorrowedFd<'_>>) -> rustix::io::Result<()> {
    let fds: Vec<BorrowedFd<'_>> = fd.into_iter().collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(&fds));
    }
    let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
    rustix::io::retry_on_intr(|| rustix::net::sendmsg(line, &[IoSlice::new(message)], &mut control, flags)).map(drop)
}

/// What came over a line.
enum Heard {
    Message(Vec<u8>, Option<OwnedFd>),
    Nothing,
    End,
}

fn hear(line: &OwnedFd) -> Heard {
    let peek = RecvFlags::PEEK | RecvFlags::TRUNC | RecvFlags::DONTWAIT;
    // With TRUNC, the length is that of the message and not of what fits.
    let look = || rustix::io::retry_on_intr(|| rustix::net::recv(line, &mut [0_u8; 0], peek));
    let length = match look() {
        // The other side ended without having read everything: told once, before what it said itself.
        Err(Errno::CONNRESET) => look(),
        result => result,
    };
    let length = match length {
        Ok((_, 0)) => return Heard::End,
        Ok((_, length)) => length,
        Err(Errno::AGAIN) => return Heard::Nothing,
        Err(_) => return Heard::End,
    };
    let mut message = vec![0_u8; length];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(line, &mut [IoSliceMut::new(&mut message)], &mut control, flags)
    });
    if received.is_err() {
        return Heard::End;
    }
    let fd = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut rights) => rights.next(),
        _ => None,
    });
    Heard::Message(message, fd)
}

/// The monitor's side: the line to its keeper, which may be there no more.
#[derive(Debug, Default)]
pub struct Keeper {
    line: Option<OwnedFd>,
    /// The process at its other end.
    pub process: Option<ProcessRef>,
    /// A bit for each thing that is kept.
    given: u16,
}

impl Keeper {
    /// Gives a copy of a descriptor into keeping.
    pub fn keep(&mut self, thing: Thing, fd: BorrowedFd<'_>) {
        self.given |= 1 << thing as u8;
        self.say(&[b'k', thing as u8], Some(fd));
    }

    /// Whatever is kept under this name is not needed any more.
    pub fn forget(&mut self, thing: Thing) {
        if self.given & (1 << thing as u8) != 0 {
            self.given &= !(1 << thing as u8);
            self.say(&[b'f', thing as u8], None);
        }
    }

    /// Writes something down for the next monitor.
    pub fn note(&mut self, text: &[u8]) {
        self.say(&[b"n", text].concat(), None);
    }

    /// A run has begun, with this first process.
    pub fn began(&mut self, init: u32) {
        self.say(&about(b'i', init, (0, None)), None);
    }

    /// It has ended, as its parent knows, which is this monitor.
    pub fn ended(&mut self, init: u32, exit: Exit) {
        self.say(&about(b'e', init, exit), None);
    }

    /// Readable when there is something to [`Keeper::hear`], or the keeper has gone.
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.line.as_ref().map(|line| line.as_fd())
    }

    /// How this process ended, where its parent is the keeper and has seen that.
    pub fn hear(&mut self, init: u32) -> Option<Exit> {
        loop {
            match hear(self.line.as_ref()?) {
                Heard::Message(message, _) if message.first() == Some(&b'e') && number(&message, 1) == Some(init) => {
                    return exit(&message);
                }
                Heard::Message(..) => {}
                Heard::Nothing => return None,
                Heard::End => (self.line, self.process) = (None, None),
            }
        }
    }

    fn say(&mut self, message: &[u8], fd: Option<BorrowedFd<'_>>) {
        // One that is gone is seen by the loop; a descriptor that it does not get is lost with this monitor, as without it.
        if let Some(line) = &self.line {
            let _ = say(line, message, fd);
        }
    }
}

/// Goes on as a keeper and a monitor. Returns in each monitor with the line to the keeper and with what was kept by
/// then, and in the keeper, with `None`, when it has nothing more to do.
pub fn part(mut kept: Kept) -> Result<Option<(Keeper, Kept)>> {
    // It is started through /proc/self/exe, and would be called `exe`.
    let _ = rustix::thread::set_name(c"umiak-keeper");
    SigSet::all().thread_block().context("block signals")?;
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGCHLD);
    let signals =
        SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).context("make a signalfd")?;
    let (mut deaths, mut first) = (Vec::new(), true);
    loop {
        let (ours, theirs) = ipc::pair()?;
        let ended = match crate::sys::fork() {
            Ok(None) => {
                let _ = rustix::thread::set_name(c"umiak-monitor");
                let process =
                    ProcessRef::of(rustix::process::getppid().map_or(0, |pid| pid.as_raw_pid().cast_unsigned()));
                let given = kept.things.iter().fold(0, |given, (thing, _)| given | 1 << *thing as u8);
                return Ok(Some((Keeper { line: Some(theirs), process, given }, kept)));
            }
            Ok(Some(monitor)) => {
                drop(theirs);
                if first {
                    // The orders are the monitor's: the command is to see when that has gone.
                    let null = std::fs::File::open("/dev/null").context("open /dev/null")?;
                    rustix::stdio::dup2_stdin(&null).context("replace descriptor 0")?;
                }
                tend(&ours, monitor, &signals, &mut kept)?
            }
            Err(error) if !kept.inherited => return Err(error).context("make a process for the monitor"),
            Err(_) => {
                // The container does not end because the host has no room for a process now.
                std::thread::sleep(PAUSE);
                continue;
            }
        };
        (first, kept.inherited) = (false, true);
        let now = Instant::now();
        deaths.retain(|death| now.saturating_duration_since(*death) < LOOP);
        deaths.push(now);
        if ended == Ended::ByItself {
            return Ok(None);
        }
        if deaths.len() >= DEATHS {
            anyhow::bail!("the monitor was killed {DEATHS} times within {} s: it is left at that", LOOP.as_secs());
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Ended {
    /// It has nothing more to do.
    ByItself,
    /// By a signal, or a fault.
    Killed,
}

/// Keeps what the monitor gives until it ends.
fn tend(line: &OwnedFd, monitor: i32, signals: &SignalFd, kept: &mut Kept) -> Result<Ended> {
    let mut hung_up = false;
    loop {
        while signals.read_signal().context("read the signalfd")?.is_some() {}
        let ended = reap(line, monitor, kept);
        // After its end, too: what it said last was said before.
        while !hung_up {
            match hear(line) {
                Heard::Message(message, fd) => kept.take_in(&message, fd),
                Heard::Nothing => break,
                Heard::End => hung_up = true,
            }
        }
        if let Some(ended) = ended {
            return Ok(ended);
        }
        crate::sys::drop_unused_stack();
        let mut fds = vec![PollFd::new(signals, PollFlags::IN)];
        if !hung_up {
            fds.push(PollFd::new(line, PollFlags::IN));
        }
        match crate::sys::wait_lightly(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error).context("poll"),
        }
    }
}

/// Collects every child that has ended; how the monitor did, once it is among them.
fn reap(line: &OwnedFd, monitor: i32, kept: &mut Kept) -> Option<Ended> {
    let mut ended = None;
    loop {
        let (pid, exit) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid.as_raw(), (code, None)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid.as_raw(), super::fate::killed(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(_) => return ended,
            Ok(_) => continue,
        };
        if pid == monitor {
            // Any other code is that of a fault.
            ended = Some(if exit.0 <= 1 { Ended::ByItself } else { Ended::Killed });
        } else if u32::try_from(pid) == Ok(kept.init) {
            kept.exit = Some(exit);
            let _ = say(line, &about(b'e', kept.init, exit), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_forgotten_does_not() {
        let (ours, theirs) = ipc::pair().unwrap();
        let mut keeper = Keeper { line: Some(theirs), ..Keeper::default() };
        let (read, write) = rustix::pipe::pipe().unwrap();
        keeper.note(b"first");
        keeper.note(b"second");
        keeper.keep(Thing::Port, read.as_fd());
        keeper.keep(Thing::Stdin, write.as_fd());
        keeper.forget(Thing::Stdin);
        keeper.began(77);
        keeper.ended(77, (137, Some(9)));
        drop(write);
        let mut kept = Kept::default();
        while let Heard::Message(message, fd) = hear(&ours) {
            kept.take_in(&message, fd);
        }
        assert_eq!((kept.note(), kept.exit_of(77), kept.exit_of(78)), (&b"second"[..], Some((137, Some(9))), None));
        assert!(kept.take(Thing::Stdin).is_none() && kept.take(Thing::Stdout).is_none());
        let port = kept.take(Thing::Port).unwrap();
        // Nobody else holds the writing end any more.
        assert_eq!(rustix::io::read(&port, &mut [0_u8; 4]), Ok(0));
        say(&ours, &about(b'e', 77, (3, None)), None).unwrap();
        assert_eq!((keeper.hear(78), keeper.hear(77)), (None, None));
        say(&ours, &about(b'e', 77, (3, None)), None).unwrap();
        assert_eq!(keeper.hear(77), Some((3, None)));
        drop(ours);
        assert_eq!((keeper.hear(77), keeper.fd().is_none()), (None, true));
    }
}
