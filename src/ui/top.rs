//! The full-screen view of a project: what is shown, and what keys do to it.
//! Pure; `draw` puts it on any of ratatui's terminals, also one in memory.

mod draw;

use std::collections::VecDeque;

use crate::engine::usage::Reading;

pub use draw::draw;

/// How many readings a sparkline shows.
const HISTORY: usize = 16;
/// How many lines of the log are kept.
const LOG: usize = 1000;
/// A line of the log is not kept beyond this many bytes, which no screen shows.
const LINE: usize = 4 << 10;

/// One container, as it is now.
#[derive(Debug, Clone, Default)]
pub struct Row {
    /// `web-1`.
    pub name: String,
    /// Its service.
    pub service: String,
    /// `running`, `exited (1)` …
    pub state: String,
    /// `healthy`, `starting`, `unhealthy`, or nothing.
    pub health: String,
    /// What it uses.
    pub reading: Reading,
    /// What it used before.
    pub history: History,
}

/// Readings of one container, the newest last.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// CPU usage in percent.
    cpu: VecDeque<f64>,
    /// Memory in percent of the limit.
    memory: VecDeque<f64>,
}

/// Everything on the screen.
#[derive(Debug, Clone, Default)]
pub struct Model {
    /// The project's name.
    pub project: String,
    /// Its containers.
    pub rows: Vec<Row>,
    /// With colours.
    pub colour: bool,
    /// What was done last, and how it ended.
    pub notice: String,
    selected: usize,
    hide_logs: bool,
    help: bool,
    log: VecDeque<String>,
    /// The log's last line goes on.
    unfinished: bool,
    /// It is written over by what comes next.
    returned: bool,
}

/// A key, as far as any has a meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// The arrow, or `k`.
    Up,
    /// The arrow, or `j`.
    Down,
    /// A letter.
    Letter(char),
    /// Leaves the help, or the view.
    Escape,
}

/// What a key asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// The view ends.
    Quit,
    /// A command for a service: `restart`, `stop` or `start`.
    Run(&'static str, String),
}

impl Model {
    /// Of a project, with nothing seen of it yet.
    pub fn new(project: &str, colour: bool) -> Self {
        Self { project: project.to_owned(), colour, ..Self::default() }
    }

    /// Takes what is there now; selection and histories stay with their containers.
    pub fn update(&mut self, fresh: Vec<Row>) {
        let selected = self.selected_row().map(|row| row.name.clone());
        let mut old = std::mem::take(&mut self.rows);
        self.rows = fresh;
        for row in &mut self.rows {
            if let Some(known) = old.iter_mut().find(|known| known.name == row.name) {
                row.history = std::mem::take(&mut known.history);
            }
            remember(&mut row.history.cpu, row.reading.cpu);
            remember(&mut row.history.memory, row.reading.memory_share());
        }
        let place = self.rows.iter().position(|row| Some(&row.name) == selected.as_ref());
        self.select(place.unwrap_or(self.selected));
    }

    fn select(&mut self, index: usize) {
        self.selected = index.min(self.rows.len().saturating_sub(1));
    }

    /// The container that is marked.
    pub fn selected_row(&self) -> Option<&Row> {
        self.rows.get(self.selected)
    }

    /// What a key does.
    pub fn key(&mut self, key: Key) -> Option<Action> {
        if std::mem::take(&mut self.help) && key != Key::Letter('q') {
            return None;
        }
        match key {
            Key::Up | Key::Letter('k') => self.select(self.selected.saturating_sub(1)),
            Key::Down | Key::Letter('j') => self.select(self.selected + 1),
            Key::Letter('l') => self.hide_logs = !self.hide_logs,
            Key::Letter('?' | 'h') => self.help = true,
            Key::Letter('q') | Key::Escape => return Some(Action::Quit),
            Key::Letter('r') => return self.run("restart"),
            Key::Letter('s') => return self.run("stop"),
            Key::Letter('u') => return self.run("start"),
            Key::Letter(_) => {}
        }
        None
    }

    fn run(&self, verb: &'static str) -> Option<Action> {
        Some(Action::Run(verb, self.selected_row()?.service.clone()))
    }

    /// Another container's log begins.
    pub fn clear_log(&mut self) {
        self.log.clear();
        self.unfinished = false;
    }

    /// Takes a record of the log.
    pub fn log(&mut self, text: &str) {
        if !self.unfinished {
            self.log.push_back(String::new());
            self.returned = false;
        }
        let Some(line) = self.log.back_mut() else { return };
        for (index, piece) in text.strip_suffix('\n').unwrap_or(text).split('\r').enumerate() {
            self.returned |= index > 0;
            // A progress bar writes over what was there; the return before a newline writes over nothing.
            if !piece.is_empty() && std::mem::take(&mut self.returned) {
                line.clear();
            }
            if line.len() < LINE {
                line.push_str(&printable(piece));
            }
        }
        self.unfinished = !text.ends_with('\n');
        if self.log.len() > LOG {
            self.log.pop_front();
        }
    }
}

fn remember(history: &mut VecDeque<f64>, value: f64) {
    history.push_back(value);
    if history.len() > HISTORY {
        history.pop_front();
    }
}

/// A column of blocks for each value, the highest for `most`.
fn sparkline(history: &VecDeque<f64>, most: f64) -> String {
    const BLOCKS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and 7")]
    let block = |value: &f64| BLOCKS[(value / most.max(f64::EPSILON) * 7.0).round().clamp(0.0, 7.0) as usize];
    let line: String = history.iter().map(block).collect();
    format!("{line:>HISTORY$}")
}

/// What a container wrote, without what moves cursors or changes colours: the screen is not its own.
fn printable(text: &str) -> String {
    let mut clean = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '\u{1b}' => match chars.next() {
                // A control sequence ends with a letter or one of few signs (ECMA-48, 5.4).
                Some('[') => while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {},
                // A string ends with BEL or ESC \.
                Some(']' | 'P' | '_' | '^') => {
                    while chars.next_if(|c| !matches!(c, '\u{7}' | '\u{1b}')).is_some() {}
                    if chars.next() == Some('\u{1b}') {
                        chars.next();
                    }
                }
                _ => {}
            },
            '\t' => clean.push_str("    "),
            c if c.is_control() => {}
            c => clean.push(c),
        }
    }
    clean
}

#[cfg(test)]
mod tests;
