//! What is said between a command, a monitor and its `create` child: JSON
//! messages over a socket pair at start, byte frames on the control socket.

use serde::{Deserialize, Serialize};

use crate::engine::Roots;
use crate::engine::container::PublishedPort;

/// A command's order to a fresh monitor. With it come, in this order, one bound socket per entry of
/// `ports`, with `attach` a stream socket that is the first attached client, and the container's lock, held until it
/// has started.
#[derive(Debug, Serialize, Deserialize)]
pub struct Start {
    /// Where state lies.
    pub roots: Roots,
    /// The container.
    pub id: String,
    /// Host ports, each held by a socket that comes along.
    pub ports: Vec<PublishedPort>,
    /// How many sockets come along for `ports`.
    pub held: usize,
    /// Namespaces of other containers to join: kind and namespace file.
    pub namespaces: Vec<(String, std::path::PathBuf)>,
    /// A client is attached from the first byte on.
    pub attach: Option<Attach>,
    /// The container runs already, and has lost the monitor that it had.
    #[serde(default)]
    pub adopt: bool,
}

/// How a start ended.
#[derive(Debug, Serialize, Deserialize)]
pub enum Outcome {
    /// PID 1 runs.
    Started {
        /// In the host's pid namespace.
        pid: u32,
    },
    /// The container has a monitor again.
    Adopted {
        /// What it writes is heard.
        heard: bool,
    },
    /// Nothing runs, and nothing was left.
    Failed {
        /// The error and its causes, outermost first.
        chain: Vec<String>,
        /// 125, 126 or 127, as `docker run` exits.
        exit_code: i32,
    },
}

/// What a client wants of a container's streams.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[allow(clippy::struct_excessive_bools, reason = "one flag per stream, as on the wire")]
pub struct Attach {
    /// Its input goes to the container.
    pub stdin: bool,
    /// It gets the output.
    pub stdout: bool,
    /// It gets the error output.
    pub stderr: bool,
    /// When its input ends, the container's input ends.
    pub close_stdin: bool,
}

/// A frame's kind; the frame is kind, length (u32, big endian), payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Client to monitor: bytes for the container's input.
    Stdin = 0,
    /// Monitor to client: output.
    Stdout = 1,
    /// Monitor to client: error output.
    Stderr = 2,
    /// Monitor to client: the exit code as text; the last frame.
    Exit = 3,
    /// Client to monitor: `ROWS COLUMNS` as text.
    Resize = 4,
    /// Client to monitor: its input has ended.
    StdinEnd = 5,
    /// Client to monitor: an [`Attach`] as JSON; the first frame on the control socket.
    Attach = 6,
    /// Command to monitor: the networks in config.json have changed.
    Reload = 7,
    /// Command to monitor: whatever the restart policy, do not start it again.
    StayDown = 8,
}

impl Kind {
    fn from_byte(byte: u8) -> Option<Self> {
        use Kind::{Attach, Exit, Reload, Resize, StayDown, Stderr, Stdin, StdinEnd, Stdout};
        let all = [Stdin, Stdout, Stderr, Exit, Resize, StdinEnd, Attach, Reload, StayDown];
        all.into_iter().find(|kind| *kind as u8 == byte)
    }
}

/// The longest payload that is accepted.
pub const MAX_FRAME: usize = 1 << 20;

/// Appends a frame.
pub fn put_frame(out: &mut impl Extend<u8>, kind: Kind, payload: &[u8]) {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX);
    out.extend([kind as u8]);
    out.extend(length.to_be_bytes());
    out.extend(payload.iter().copied());
}

/// The peer sent what is not a frame.
#[derive(Debug, thiserror::Error)]
#[error("the peer sent a malformed frame")]
pub struct BadFrame;

/// Takes the first complete frame off `buffer`.
///
/// # Errors
/// When the bytes cannot be a frame.
pub fn take_frame(buffer: &mut Vec<u8>) -> Result<Option<(Kind, Vec<u8>)>, BadFrame> {
    let Some((head, rest)) = buffer.split_first_chunk::<5>() else { return Ok(None) };
    let kind = Kind::from_byte(head[0]).ok_or(BadFrame)?;
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
    if length > MAX_FRAME {
        return Err(BadFrame);
    }
    if rest.len() < length {
        return Ok(None);
    }
    let payload = rest[..length].to_vec();
    buffer.drain(..5 + length);
    Ok(Some((kind, payload)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_come_back_as_they_were_put_also_byte_by_byte() {
        let mut wire = Vec::new();
        put_frame(&mut wire, Kind::Stdout, b"hello");
        put_frame(&mut wire, Kind::Exit, b"7");
        let (mut buffer, mut seen) = (Vec::new(), Vec::new());
        for byte in wire {
            buffer.push(byte);
            while let Some(frame) = take_frame(&mut buffer).unwrap() {
                seen.push(frame);
            }
        }
        assert_eq!(seen, [(Kind::Stdout, b"hello".to_vec()), (Kind::Exit, b"7".to_vec())]);
        assert!(take_frame(&mut vec![99, 0, 0, 0, 0]).is_err());
        assert!(take_frame(&mut vec![0, 0xff, 0, 0, 0]).is_err());
    }
}
