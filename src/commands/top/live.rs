//! The live view: looks at the project every second, follows one log, and
//! passes keys on. What is shown and what keys mean is `ui::top`'s.

use std::io::Read as _;
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use umiak_runtime::logs::{Query, Reader, Status};

use crate::commands::Context;
use crate::engine::usage::Sampler;
use crate::engine::{Container, container, inspect, logs};
use crate::project::{labels, names, observe};
use crate::ui::top::{Action, Key, Model, Row, draw};

/// How often the containers are looked at.
const EVERY: Duration = Duration::from_secs(1);
/// How often the log is, and what was asked for.
const TICK: Duration = Duration::from_millis(100);
/// How often a log is read in one turn: a container that writes without end must not keep keys from being heard.
const MOST: usize = 32;
/// How much of a log is shown at first.
const TAIL: usize = 200;

/// Shows the project until it is left.
pub fn run(context: &Context, project: &str) -> Result<ExitCode> {
    let mut view = View {
        context,
        model: Model::new(project, context.global.ansi.stdout()),
        sampler: Sampler::default(),
        members: Vec::new(),
        tail: None,
        running: None,
    };
    view.look()?;
    let signals = ends().context("make a signalfd")?;
    let mut terminal = ratatui::try_init().context("take over the terminal")?;
    let restore = Restore;
    let result = view.run(&mut terminal, &signals);
    drop(restore);
    result.map(|()| ExitCode::SUCCESS)
}

/// What asks a program to end: the terminal is given back before it does.
fn ends() -> nix::Result<SignalFd> {
    let mut mask = SigSet::empty();
    mask.add(Signal::SIGTERM);
    mask.add(Signal::SIGHUP);
    mask.thread_block()?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
}

/// Gives the terminal back as it was, also after an error.
struct Restore;

impl Drop for Restore {
    fn drop(&mut self) {
        let _ = ratatui::try_restore();
    }
}

struct View<'a> {
    context: &'a Context,
    model: Model,
    sampler: Sampler,
    members: Vec<observe::Member>,
    tail: Option<Tail>,
    running: Option<Running>,
}

/// The log that is followed.
struct Tail {
    id: String,
    reader: Option<Reader>,
}

/// A command that a key has started.
struct Running {
    what: String,
    child: Child,
}

impl View<'_> {
    fn run(&mut self, terminal: &mut ratatui::DefaultTerminal, signals: &SignalFd) -> Result<()> {
        let mut next = Instant::now() + EVERY;
        loop {
            self.follow()?;
            self.finish();
            terminal.draw(|frame| draw(frame, &self.model)).context("draw")?;
            if event::poll(TICK).context("wait for a key")?
                && let Event::Key(key) = event::read().context("read a key")?
                && self.key(key)?
            {
                return Ok(());
            }
            if signals.read_signal().context("read the signalfd")?.is_some() {
                return Ok(());
            }
            if Instant::now() >= next {
                self.look()?;
                next = Instant::now() + EVERY;
            }
        }
    }

    /// What there is, and what it uses.
    fn look(&mut self) -> Result<()> {
        self.members = observe::members(&self.context.engine, &self.model.project)?;
        self.members.retain(|member| !member.is_one_off());
        let (project, sampler) = (&self.model.project, &mut self.sampler);
        let row = |member: &observe::Member| {
            let container = &member.container;
            let up = container.state.status.is_up();
            Row {
                name: names::in_logs(project, &container.config.name).to_owned(),
                service: member.service.clone(),
                state: state(container),
                health: Some(inspect::health(container)).filter(|word| up && *word != "none").unwrap_or("").to_owned(),
                reading: sampler.look(container),
                ..Row::default()
            }
        };
        let rows = self.members.iter().map(row).collect();
        self.model.update(rows);
        Ok(())
    }

    /// The selected container's log, from its last lines on.
    fn follow(&mut self) -> Result<()> {
        let selected = self.model.selected_row().map(|row| row.name.clone());
        let project = &self.model.project;
        let is_selected = |member: &&observe::Member| {
            Some(names::in_logs(project, &member.container.config.name)) == selected.as_deref()
        };
        let Some(member) = self.members.iter().find(is_selected) else { return Ok(()) };
        let config = &member.container.config;
        if self.tail.as_ref().is_none_or(|tail| tail.id != config.id) {
            let query = Query { tail: Some(TAIL), follow: true, ..Query::default() };
            let reader = logs::reader(&self.context.engine.roots, config, &query)?;
            self.model.clear_log();
            if reader.is_none() {
                self.model.log(logs::UNREADABLE);
            }
            self.tail = Some(Tail { id: config.id.clone(), reader });
        }
        let Some(reader) = self.tail.as_mut().and_then(|tail| tail.reader.as_mut()) else { return Ok(()) };
        let mut lines = Vec::new();
        for _ in 0..MOST {
            let status = reader.next_lines(&mut lines)?;
            lines.drain(..).for_each(|line| self.model.log(&line.text));
            if status != Status::More {
                break;
            }
        }
        Ok(())
    }

    /// Whether the view is to end.
    fn key(&mut self, key: KeyEvent) -> Result<bool> {
        if key.kind == KeyEventKind::Release {
            return Ok(false);
        }
        let interrupt = key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd'));
        let key = match key.code {
            _ if interrupt => return Ok(true),
            KeyCode::Up => Key::Up,
            KeyCode::Down => Key::Down,
            KeyCode::Esc => Key::Escape,
            KeyCode::Char(letter) => Key::Letter(letter),
            _ => return Ok(false),
        };
        match self.model.key(key) {
            Some(Action::Quit) => return Ok(true),
            Some(Action::Run(verb, service)) => self.start(verb, &service)?,
            None => {}
        }
        Ok(false)
    }

    /// A command of its own does it, so that the view lives meanwhile.
    fn start(&mut self, verb: &str, service: &str) -> Result<()> {
        if let Some(running) = &self.running {
            self.model.notice = format!("{} is not done yet", running.what);
            return Ok(());
        }
        let Some(member) = self.members.iter().find(|member| member.service == service) else { return Ok(()) };
        let roots = &self.context.engine.roots;
        let mut command = Command::new("/proc/self/exe");
        command.arg("--root").arg(&roots.data).arg("--run-root").arg(&roots.run).args(["--progress", "quiet"]);
        for file in member.container.label(labels::CONFIG_FILES).into_iter().flat_map(|files| files.split(',')) {
            if file != "-" {
                command.arg("-f").arg(file);
            }
        }
        command.args(["-p", &self.model.project, verb, service]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let what = format!("{verb} {service}");
        let child = command.spawn().with_context(|| what.clone())?;
        self.model.notice = format!("{what} …");
        self.running = Some(Running { what, child });
        Ok(())
    }

    fn finish(&mut self) {
        let Some(running) = &mut self.running else { return };
        let Ok(Some(status)) = running.child.try_wait() else { return };
        let mut said = String::new();
        if let Some(mut stderr) = running.child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        let last = said.lines().find(|line| line.starts_with("Error")).or_else(|| said.lines().last());
        self.model.notice = match (status.success(), last) {
            (true, _) => format!("{}: done", running.what),
            (false, Some(why)) => format!("{}: {why}", running.what),
            (false, None) => format!("{}: failed", running.what),
        };
        self.running = None;
    }
}

/// The state, and how it ended.
fn state(container: &Container) -> String {
    match container.state.status {
        container::Status::Exited => format!("exited ({})", container.state.exit_code.unwrap_or(0)),
        status => status.as_str().to_owned(),
    }
}
