//! The progress of a build: its steps with their output and times. Lines in a
//! pipe, in the form that people know from BuildKit.

use std::collections::VecDeque;
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

/// The last lines of a step that are kept for an error.
const KEPT: usize = 40;

/// Shows a build; threads share it.
#[derive(Debug)]
pub struct Display {
    quiet: bool,
    began: Instant,
    next: AtomicUsize,
    /// The step whose lines were printed last: others begin with an empty line.
    last: Mutex<usize>,
}

/// One step.
#[derive(Debug)]
pub struct Step<'d> {
    display: &'d Display,
    number: usize,
    title: String,
    began: Instant,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    /// A line that has not ended.
    partial: Vec<u8>,
    kept: VecDeque<String>,
    ended: bool,
}

impl Display {
    /// A display on stderr; `quiet` shows nothing but errors.
    pub fn new(quiet: bool) -> Self {
        Self { quiet, began: Instant::now(), next: AtomicUsize::new(1), last: Mutex::new(0) }
    }

    /// Seconds since the build began.
    pub fn elapsed(&self) -> f64 {
        self.began.elapsed().as_secs_f64()
    }

    /// Begins a step.
    pub fn step(&self, title: &str) -> Step<'_> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let step =
            Step { display: self, number, title: title.to_owned(), began: Instant::now(), log: Mutex::default() };
        self.print(number, &[title.to_owned()]);
        step
    }

    fn print(&self, number: usize, lines: &[String]) {
        if self.quiet {
            return;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        if *last != number && *last != 0 {
            text.push('\n');
        }
        *last = number;
        for line in lines {
            text += &format!("#{number} {line}\n");
        }
        // A terminal that has gone does not end a build.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

impl Step<'_> {
    /// Something about it.
    pub fn note(&self, text: &str) {
        self.display.print(self.number, &[text.to_owned()]);
    }

    /// What its command says.
    pub fn output(&self, bytes: &[u8]) {
        let mut lines = Vec::new();
        let time = self.began.elapsed().as_secs_f64();
        {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            log.partial.extend_from_slice(bytes);
            while let Some(end) = log.partial.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = log.partial.drain(..=end).collect();
                lines.push(log.keep(&line, time));
            }
            // A line without an end is not waited for for ever.
            if log.partial.len() > 16 << 10 {
                let line = std::mem::take(&mut log.partial);
                lines.push(log.keep(&line, time));
            }
        }
        if !lines.is_empty() {
            self.display.print(self.number, &lines);
        }
    }

    /// It has ended well.
    pub fn done(self) {
        self.flush();
        self.end(&format!("DONE {:.1}s", self.began.elapsed().as_secs_f64()));
    }

    /// Its result was there.
    pub fn cached(self) {
        self.end("CACHED");
    }

    /// It was given up because another one failed.
    pub fn cancelled(self) {
        self.flush();
        self.end("CANCELED");
    }

    /// It has failed; its last lines are shown once more, with its title.
    pub fn failed(self, error: &str) {
        self.flush();
        self.end(&format!("ERROR: {error}"));
        let log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
        let lines: Vec<&str> = log.kept.iter().map(String::as_str).collect();
        let mut text = format!("------\n > {}:\n", self.title);
        for line in lines {
            text += line;
            text.push('\n');
        }
        text += "------\n";
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    fn end(&self, text: &str) {
        self.log.lock().unwrap_or_else(PoisonError::into_inner).ended = true;
        self.display.print(self.number, &[text.to_owned()]);
    }

    fn flush(&self) {
        let time = self.began.elapsed().as_secs_f64();
        let line = {
            let mut log = self.log.lock().unwrap_or_else(PoisonError::into_inner);
            let partial = std::mem::take(&mut log.partial);
            if partial.is_empty() { None } else { Some(log.keep(&partial, time)) }
        };
        if let Some(line) = line {
            self.display.print(self.number, &[line]);
        }
    }
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        let ended = self.log.lock().unwrap_or_else(PoisonError::into_inner).ended;
        if !ended {
            self.end("CANCELED");
        }
    }
}

impl Log {
    fn keep(&mut self, line: &[u8], time: f64) -> String {
        let text = String::from_utf8_lossy(line);
        // What a carriage return has overwritten is not shown again.
        let text = text.trim_end_matches(['\n', '\r']).rsplit('\r').next().unwrap_or_default().to_owned();
        let text = format!("{time:.3} {text}");
        if self.kept.len() == KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(text.clone());
        text
    }
}
