//! Clients attached to a container's streams. A client that reads slowly holds
//! the container back rather than losing bytes, as a pipe would; logs are
//! written first and never wait for a client.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

use super::protocol::{Attach, Kind, put_frame, take_frame};

/// Above this many unsent bytes a client holds the container's output back.
const HIGH_WATER: usize = 256 * 1024;

/// What a client asked for.
#[derive(Debug)]
pub enum Request {
    /// Bytes for the container's input.
    Input(Vec<u8>),
    /// The container's input should end.
    EndInput,
    /// The terminal's new size: rows, columns.
    Resize(u16, u16),
    /// The container's config has changed.
    Reload,
    /// The container is not to be started again.
    StayDown,
}

/// One attached client.
#[derive(Debug)]
pub struct Client {
    socket: OwnedFd,
    attach: Option<Attach>,
    outgoing: VecDeque<u8>,
    incoming: Vec<u8>,
    gone: bool,
    finishing: bool,
    sends_nothing_more: bool,
    /// The command that started the container.
    starter: bool,
}

impl Client {
    /// A client on a stream socket. Without `attach` it must say first what it wants.
    pub fn new(socket: OwnedFd, attach: Option<Attach>) -> Self {
        let _ = rustix::io::ioctl_fionbio(&socket, true);
        Self {
            socket,
            attach,
            outgoing: VecDeque::new(),
            incoming: Vec::new(),
            gone: false,
            finishing: false,
            sends_nothing_more: false,
            starter: attach.is_some(),
        }
    }

    /// To be dropped.
    pub fn gone(&self) -> bool {
        self.gone || (self.finishing && self.outgoing.is_empty())
    }

    /// The run that it was attached to is over: it gets the rest of what was said, and nothing of another run.
    pub fn finish(&mut self) {
        self.finishing = true;
    }

    /// Whether it has not said yet what it wants.
    pub fn is_silent(&self) -> bool {
        self.attach.is_none() && !self.gone && !self.finishing
    }

    /// Whether it is the command that started the container, and still there.
    pub fn is_starter(&self) -> bool {
        self.starter && !self.gone
    }

    /// Whether the container's input ends with it.
    pub fn feeds(&self) -> bool {
        !self.finishing && self.attach.is_some_and(|attach| attach.stdin && attach.close_stdin)
    }

    /// Its socket.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether there is something to send.
    pub fn wants_write(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether something may still come from it.
    pub fn wants_read(&self) -> bool {
        !self.sends_nothing_more
    }

    /// Whether it is so far behind that no more output should be read.
    pub fn behind(&self) -> bool {
        !self.finishing && self.outgoing.len() > HIGH_WATER
    }

    /// Passes output on, if it asked for it.
    pub fn output(&mut self, kind: Kind, bytes: &[u8]) {
        let wanted = match (kind, self.attach) {
            (_, None) => false,
            (Kind::Stdout, Some(attach)) => attach.stdout,
            (Kind::Stderr, Some(attach)) => attach.stderr,
            _ => true,
        };
        if wanted && !self.gone && !self.finishing {
            put_frame(&mut self.outgoing, kind, bytes);
            self.send();
        }
    }

    /// Sends what the socket takes now.
    pub fn send(&mut self) {
        while !self.outgoing.is_empty() && !self.gone {
            let (front, _) = self.outgoing.as_slices();
            match rustix::net::send(&self.socket, front, rustix::net::SendFlags::NOSIGNAL) {
                Ok(sent) => drop(self.outgoing.drain(..sent)),
                Err(Errno::AGAIN) => return,
                Err(Errno::INTR) => {}
                Err(_) => self.gone = true,
            }
        }
    }

    /// Both halves of the connection are closed: nothing can be sent any more.
    pub fn hung_up(&mut self, yes: bool) {
        self.gone |= yes && self.sends_nothing_more;
    }

    /// Reads what has come, as requests.
    pub fn receive(&mut self, requests: &mut Vec<Request>) {
        let mut chunk = [0_u8; 16 * 1024];
        loop {
            match rustix::io::read(&self.socket, &mut chunk) {
                Ok(0) => {
                    self.sends_nothing_more = true;
                    self.decode(requests);
                    self.end_input(requests);
                    // A client that only closed its sending half may still read; one that is gone fails to be sent to.
                    self.gone |= self.attach.is_none();
                    break;
                }
                Ok(count) => self.incoming.extend_from_slice(&chunk[..count]),
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => break,
                Err(_) => {
                    self.gone = true;
                    break;
                }
            }
            self.decode(requests);
        }
        self.decode(requests);
    }

    fn end_input(&self, requests: &mut Vec<Request>) {
        if self.feeds() {
            requests.push(Request::EndInput);
        }
    }

    fn decode(&mut self, requests: &mut Vec<Request>) {
        loop {
            match take_frame(&mut self.incoming) {
                Ok(None) => return,
                Ok(Some((kind, payload))) => self.request(kind, payload, requests),
                Err(_) => {
                    self.gone = true;
                    return;
                }
            }
        }
    }

    fn request(&mut self, kind: Kind, payload: Vec<u8>, requests: &mut Vec<Request>) {
        if self.finishing {
            return;
        }
        let may_write = self.attach.is_some_and(|attach| attach.stdin);
        match kind {
            Kind::Attach if self.attach.is_none() => match serde_json::from_slice(&payload) {
                Ok(attach) => self.attach = Some(attach),
                Err(_) => self.gone = true,
            },
            Kind::Stdin if may_write => requests.push(Request::Input(payload)),
            Kind::StdinEnd => self.end_input(requests),
            Kind::Reload | Kind::StayDown if self.attach.is_none() => {
                requests.push(if kind == Kind::Reload { Request::Reload } else { Request::StayDown });
                // Hanging up is the answer.
                self.gone = true;
            }
            Kind::Resize => {
                let text = String::from_utf8_lossy(&payload);
                let mut numbers = text.split_ascii_whitespace().filter_map(|word| word.parse().ok());
                if let (Some(rows), Some(columns)) = (numbers.next(), numbers.next()) {
                    requests.push(Request::Resize(rows, columns));
                }
            }
            _ => self.gone = true,
        }
    }
}
