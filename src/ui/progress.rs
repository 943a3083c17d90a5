//! Progress of long work: on a terminal one line per thing that is rewritten,
//! in a pipe one plain line per change, as Compose prints them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use owo_colors::OwoColorize as _;

/// How progress is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    /// A terminal gets `tty`, anything else `plain`.
    #[default]
    Auto,
    /// Lines that are rewritten.
    Tty,
    /// A line per change.
    Plain,
    /// A JSON object per change.
    Json,
    /// Nothing.
    Quiet,
}

/// Shows what is being done; can be shared by threads.
#[derive(Debug)]
pub struct Progress {
    mode: Mode,
    colour: bool,
    /// Stands before every line.
    prefix: &'static str,
    /// Plain lines go to stdout (`COMPOSE_STATUS_STDOUT`).
    on_stdout: bool,
    bars: MultiProgress,
    lines: Mutex<HashMap<String, Line>>,
    /// Writes down what is shown, and when.
    recorder: Option<Arc<Recorder>>,
}

/// What was shown, with its times.
#[derive(Debug)]
pub struct Recorder {
    began: Instant,
    marks: Mutex<Vec<Mark>>,
}

/// One change that was shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// Since the beginning.
    pub at: Duration,
    /// `Container demo-web-1`.
    pub what: String,
    /// `Creating`, `Created`.
    pub status: String,
    /// It is the end of work: done, or failed.
    pub end: Option<bool>,
}

impl Recorder {
    /// Begins now.
    pub fn new() -> Arc<Self> {
        Arc::new(Self { began: Instant::now(), marks: Mutex::default() })
    }

    /// What was written down so far, and the time that has passed.
    pub fn marks(&self) -> (Vec<Mark>, Duration) {
        let marks = self.marks.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        (marks.clone(), self.began.elapsed())
    }

    fn put(&self, what: &str, status: &str, end: Option<bool>) {
        let mark = Mark { at: self.began.elapsed(), what: what.to_owned(), status: status.to_owned(), end };
        self.marks.lock().unwrap_or_else(std::sync::PoisonError::into_inner).push(mark);
    }
}

#[derive(Debug)]
struct Line {
    bar: ProgressBar,
    started: Instant,
}

impl Progress {
    /// Progress on stderr.
    pub fn new(mode: Mode, ansi: super::Ansi) -> Self {
        let colour = ansi.stderr();
        let mode = match mode {
            Mode::Auto if colour => Mode::Tty,
            Mode::Auto => Mode::Plain,
            chosen => chosen,
        };
        Self {
            mode,
            colour,
            prefix: "",
            on_stdout: std::env::var("COMPOSE_STATUS_STDOUT")
                .is_ok_and(|value| matches!(value.as_str(), "1" | "t" | "T" | "true" | "True" | "TRUE")),
            bars: MultiProgress::with_draw_target(ProgressDrawTarget::stderr()),
            lines: Mutex::default(),
            recorder: None,
        }
    }

    /// The same, and what is shown is written down, too.
    pub fn recorded_by(self, recorder: Option<Arc<Recorder>>) -> Self {
        Self { recorder, ..self }
    }

    /// Shows nothing; what would be shown is written down by whoever writes this down.
    pub fn quietly(&self) -> Self {
        Self::quiet().recorded_by(self.recorder.clone())
    }

    /// The same, where nothing is done but shown.
    pub fn of_dry_run(self) -> Self {
        // Everything is over at once: there is nothing to redraw.
        let mode = if self.mode == Mode::Tty { Mode::Plain } else { self.mode };
        Self { mode, prefix: " DRY-RUN MODE - ", ..self }
    }

    /// Shows nothing.
    pub fn quiet() -> Self {
        Self::new(Mode::Quiet, super::Ansi::Never)
    }

    /// Work on `what` goes on: `Creating`, `Pulling`.
    pub fn working(&self, what: &str, status: &str) {
        self.show(what, status, None);
    }

    /// Work on `what` has come to an end: `Created`, `Started`.
    pub fn done(&self, what: &str, status: &str) {
        self.show(what, status, Some(true));
    }

    /// Work on `what` has failed.
    pub fn failed(&self, what: &str, status: &str) {
        self.show(what, status, Some(false));
    }

    /// Bytes of `what` so far. Only a terminal shows them.
    pub fn bytes(&self, what: &str, status: &str, now: u64, total: u64) {
        if self.mode == Mode::Tty
            && let Ok(mut lines) = self.lines.lock()
        {
            let line = lines.entry(what.to_owned()).or_insert_with(|| self.line());
            line.bar.set_length(total);
            line.bar.set_position(now);
            let (now, total) = (super::human::size(now), super::human::size(total));
            line.bar.set_message(format!("{what}  {status} {now}/{total}"));
        }
    }

    /// A message above the moving lines.
    pub fn note(&self, text: &str) {
        match self.mode {
            Mode::Tty => drop(self.bars.println(text)),
            Mode::Json => crate::note!("{}", serde_json::json!({ "text": text })),
            _ => crate::note!("{text}"),
        }
    }

    /// Ends the moving lines.
    pub fn finish(&self) {
        if let Ok(mut lines) = self.lines.lock() {
            for (_, line) in lines.drain() {
                if !line.bar.is_finished() {
                    line.bar.finish_and_clear();
                }
            }
        }
    }

    fn line(&self) -> Line {
        let bar = self.bars.add(ProgressBar::new_spinner());
        bar.set_style(
            ProgressStyle::with_template(" {spinner} {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        bar.enable_steady_tick(Duration::from_millis(100));
        Line { bar, started: Instant::now() }
    }

    fn show(&self, what: &str, status: &str, end: Option<bool>) {
        if let Some(recorder) = &self.recorder {
            recorder.put(what, status, end);
        }
        match self.mode {
            Mode::Quiet => {}
            Mode::Json => {
                let state = match end {
                    None => "Working",
                    Some(true) => "Done",
                    Some(false) => "Error",
                };
                crate::note!("{}", serde_json::json!({ "id": what, "status": state, "text": status }));
            }
            Mode::Tty => self.show_on_terminal(what, status, end),
            _ if self.on_stdout => crate::out!("{} {what}  {status}", self.prefix),
            _ => crate::note!("{} {what}  {status}", self.prefix),
        }
    }

    fn show_on_terminal(&self, what: &str, status: &str, end: Option<bool>) {
        let Ok(mut lines) = self.lines.lock() else { return };
        let line = lines.entry(what.to_owned()).or_insert_with(|| self.line());
        let text = format!("{what}  {status}");
        let Some(good) = end else {
            line.bar.set_message(text);
            return;
        };
        let mark = match (good, self.colour) {
            (true, true) => "✔".green().to_string(),
            (true, false) => "✔".into(),
            (false, true) => "✘".red().to_string(),
            (false, false) => "✘".into(),
        };
        let seconds = line.started.elapsed().as_secs_f64();
        line.bar.set_style(
            ProgressStyle::with_template(" {wide_msg}").unwrap_or_else(|_| ProgressStyle::default_spinner()),
        );
        line.bar.finish_with_message(format!("{mark} {text}  {seconds:.1}s"));
        // The same thing may come again (stop, then remove): it gets a line of its own.
        lines.remove(what);
    }
}
