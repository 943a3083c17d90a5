//! One JSON message with file descriptors over a unix socket: how a command
//! hands a monitor its sockets, and a monitor hands `create` its pipes.
//! Descriptors travel by `SCM_RIGHTS` (unix(7)), so none leaks into a child
//! that happens to be started at the same moment.

use std::io::{IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::Child;

use anyhow::{Context as _, Result, bail};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, SocketFlags, SocketType,
};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The most descriptors that one message carries (the kernel's SCM_MAX_FD is 253).
pub const MAX_FDS: usize = 128;
const MAX_MESSAGE: usize = 128 * 1024;

/// A connected pair that keeps message boundaries.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    rustix::net::socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
        .context("make a socket pair")
}

/// Sends one message.
pub fn send<T: Serialize>(socket: impl AsFd, message: &T, fds: &[BorrowedFd<'_>]) -> Result<()> {
    let bytes = serde_json::to_vec(message).context("encode a message")?;
    if bytes.len() > MAX_MESSAGE || fds.len() > MAX_FDS {
        bail!("a message of {} bytes with {} descriptors is too large", bytes.len(), fds.len());
    }
    let mut space = vec![MaybeUninit::uninit(); SendAncillaryMessage::ScmRights(fds).size()];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() {
        control.push(SendAncillaryMessage::ScmRights(fds));
    }
    rustix::io::retry_on_intr(|| {
        rustix::net::sendmsg(socket.as_fd(), &[IoSlice::new(&bytes)], &mut control, SendFlags::NOSIGNAL)
    })
    .context("send a message")?;
    Ok(())
}

/// Receives one message; `None` when the other side closed.
pub fn receive<T: DeserializeOwned>(socket: impl AsFd) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let mut bytes = vec![0_u8; MAX_MESSAGE];
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        rustix::net::recvmsg(socket.as_fd(), &mut [IoSliceMut::new(&mut bytes)], &mut control, RecvFlags::CMSG_CLOEXEC)
    })
    .context("receive a message")?;
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            fds.extend(rights);
        }
    }
    if received.bytes == 0 {
        return Ok(None);
    }
    if received.flags.contains(ReturnFlags::TRUNC) || received.flags.contains(ReturnFlags::CTRUNC) {
        bail!("a message was cut short");
    }
    let message = serde_json::from_slice(&bytes[..received.bytes]).context("decode a message")?;
    Ok(Some((message, fds)))
}

/// As [`receive`], from a child; `None` also when that has ended without a message. What it has started may hold the other
/// side as well, so nothing would be seen there of a child that was killed.
pub fn receive_from<T: DeserializeOwned>(socket: impl AsFd, child: &Child) -> Result<Option<(T, Vec<OwnedFd>)>> {
    let ended = pidfd_open(Pid::from_child(child), PidfdFlags::empty()).context("watch a child")?;
    let mut fds = [
        PollFd::from_borrowed_fd(socket.as_fd(), PollFlags::IN),
        PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN),
    ];
    rustix::io::retry_on_intr(|| poll(&mut fds, None)).context("poll")?;
    if fds[0].revents().is_empty() {
        // It may have said something at the last moment.
        rustix::io::retry_on_intr(|| poll(&mut fds[..1], Some(&Timespec::default()))).context("poll")?;
    }
    if fds[0].revents().is_empty() { Ok(None) } else { receive(socket) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_was_killed_is_seen_while_its_own_child_holds_the_socket() {
        let (ours, theirs) = pair().unwrap();
        // It ends with the socket.
        let script = "exec 3<&0; cat <&3 >/dev/null & kill -9 $$";
        let mut child = std::process::Command::new("sh").args(["-c", script]).stdin(theirs).spawn().unwrap();
        assert!(receive_from::<String>(&ours, &child).unwrap().is_none());
        child.wait().unwrap();
    }

    #[test]
    fn a_message_arrives_with_its_descriptors_and_a_closed_peer_is_seen() {
        let (a, b) = pair().unwrap();
        let (read, write) = rustix::pipe::pipe().unwrap();
        send(&a, &"hello", &[write.as_fd()]).unwrap();
        drop((a, write));
        let (text, fds): (String, _) = receive(&b).unwrap().unwrap();
        assert_eq!((text.as_str(), fds.len()), ("hello", 1));
        rustix::io::write(&fds[0], b"x").unwrap();
        let mut buffer = [0; 4];
        assert_eq!(rustix::io::read(&read, &mut buffer).unwrap(), 1);
        assert!(receive::<String>(&b).unwrap().is_none());
    }
}
