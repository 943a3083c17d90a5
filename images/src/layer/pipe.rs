//! A bounded pipe of byte chunks between two threads, which hands the buffers
//! back: allocating fresh ones would cost a page fault for each page.

use std::io::{self, BufRead, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// Bytes in a chunk.
const CHUNK: usize = 256 << 10;
/// Chunks on their way at most: what one pipe holds stays at 2 MiB.
const DEPTH: usize = 6;

/// A buffer, and how much of it is filled. An empty one marks the end.
type Chunk = (Box<[u8]>, usize);

/// The writing end. The reader sees an error unless [`Feed::end`] was called.
#[derive(Debug)]
pub(super) struct Feed {
    full: SyncSender<Chunk>,
    empty: Receiver<Box<[u8]>>,
    buffer: Box<[u8]>,
    filled: usize,
}

/// The reading end.
#[derive(Debug)]
pub(super) struct Drain {
    full: Receiver<Chunk>,
    empty: Sender<Box<[u8]>>,
    chunk: Chunk,
    at: usize,
    ended: bool,
    taken: Arc<AtomicU64>,
}

/// The reader has gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Closed;

/// Makes a pipe.
pub(super) fn pipe() -> (Feed, Drain) {
    let (full_in, full_out) = sync_channel(DEPTH);
    let (empty_in, empty_out) = channel();
    let feed = Feed { full: full_in, empty: empty_out, buffer: Box::default(), filled: 0 };
    let drain = Drain {
        full: full_out,
        empty: empty_in,
        chunk: (Box::default(), 0),
        at: 0,
        ended: false,
        taken: Arc::default(),
    };
    (feed, drain)
}

impl Feed {
    /// Adds bytes, waiting for the reader when the pipe is full.
    pub(super) fn write(&mut self, mut bytes: &[u8]) -> Result<(), Closed> {
        while !bytes.is_empty() {
            let room = self.room();
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            self.fill(count)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Lets `source` fill the free part of the chunk; how many bytes it gave, 0 at its end.
    pub(super) fn read_from(&mut self, source: &mut impl Read) -> io::Result<Result<usize, Closed>> {
        let count = loop {
            match source.read(self.room()) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        Ok(self.fill(count).map(|()| count))
    }

    /// Sends what is left and marks the end.
    pub(super) fn end(mut self) -> Result<(), Closed> {
        if self.filled > 0 {
            self.send()?;
        }
        self.full.send((Box::default(), 0)).map_err(|_| Closed)
    }

    /// The free part of the chunk, never empty.
    fn room(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = self.empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK].into_boxed_slice());
            self.filled = 0;
        }
        &mut self.buffer[self.filled..]
    }

    fn fill(&mut self, count: usize) -> Result<(), Closed> {
        self.filled += count;
        if self.filled == self.buffer.len() { self.send() } else { Ok(()) }
    }

    fn send(&mut self) -> Result<(), Closed> {
        let chunk = (std::mem::take(&mut self.buffer), std::mem::take(&mut self.filled));
        self.full.send(chunk).map_err(|_| Closed)
    }
}

impl Drain {
    /// Counts the bytes that were taken out, for who watches from another thread.
    pub(super) fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }
}

impl BufRead for Drain {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.1 && !self.ended {
            let used = std::mem::take(&mut self.chunk.0);
            if !used.is_empty() {
                // The writer may have ended already.
                let _ = self.empty.send(used);
            }
            (self.chunk, self.at) = ((Box::default(), 0), 0);
            // Without an end mark the writer has failed: never take that for the end of the data.
            self.chunk = self.full.recv().map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
            self.ended = self.chunk.1 == 0;
        }
        Ok(&self.chunk.0[self.at..self.chunk.1])
    }

    fn consume(&mut self, count: usize) {
        self.at = self.chunk.1.min(self.at + count);
        self.taken.fetch_add(count as u64, Ordering::Relaxed);
    }
}

impl Read for Drain {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(into.len());
        into[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_arrive_in_order() {
        let data: Vec<u8> = (0..3_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 4]).collect();
        let (mut feed, mut drain) = pipe();
        let mut out = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (first, second) = data.split_at(1_000_001);
                first.chunks(7777).for_each(|part| feed.write(part).unwrap());
                let mut second = second;
                while feed.read_from(&mut second).unwrap() != Ok(0) {}
                feed.end().unwrap();
            });
            drain.read_to_end(&mut out).unwrap();
        });
        assert!(out == data);
        assert_eq!(drain.taken().load(Ordering::Relaxed), data.len() as u64);
    }

    #[test]
    fn a_writer_that_fails_is_no_end() {
        let (mut feed, mut drain) = pipe();
        feed.write(b"abc").unwrap();
        drop(feed);
        assert_eq!(drain.read_to_end(&mut Vec::new()).unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }

    #[test]
    fn a_reader_that_goes_stops_the_writer() {
        let (mut feed, drain) = pipe();
        drop(drain);
        assert_eq!(feed.write(&vec![0; 1 << 20]), Err(Closed));
    }
}
