//! Reading the journal: what is in it, then what comes, chosen by time and by
//! Docker's filters.

use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::fs::inotify;

use super::{Event, Kind, journal, previous};
use crate::engine::{Roots, wait};

/// The span of time whose events are wanted, in nanoseconds since the epoch.
#[derive(Debug, Clone, Copy, Default)]
pub struct Window {
    /// From then on; only what comes from now on, if none.
    pub since: Option<i64>,
    /// Until then; without end, if none.
    pub until: Option<i64>,
}

impl Window {
    /// From the flags `--since` and `--until`: a date, seconds since the epoch, or a span before now.
    pub fn parse(since: Option<&str>, until: Option<&str>) -> Result<Self> {
        use umiak_runtime::logs::{Time, parse_time};
        let parse = |text: &str| Ok::<_, anyhow::Error>(parse_time(text, Time::now())?.nanoseconds());
        Ok(Self { since: since.map(parse).transpose()?, until: until.map(parse).transpose()? })
    }
}

/// The journal's files, read from a place on.
#[derive(Debug)]
pub struct Journal<'a> {
    roots: &'a Roots,
    inotify: OwnedFd,
    /// Put aside; writers that had opened it may still add to it.
    old: Option<Source>,
    current: Option<Source>,
}

#[derive(Debug)]
struct Source {
    file: File,
    inode: u64,
    /// The beginning of a line whose end has not come.
    begun: Vec<u8>,
}

impl Source {
    fn open(path: &std::path::Path) -> Option<Self> {
        let file = File::open(path).ok()?;
        let inode = file.metadata().ok()?.ino();
        Some(Self { file, inode, begun: Vec::new() })
    }

    fn read(&mut self, events: &mut Vec<Event>) -> Result<()> {
        self.file.read_to_end(&mut self.begun).context("read the journal of events")?;
        let Some(end) = self.begun.iter().rposition(|byte| *byte == b'\n') else { return Ok(()) };
        let rest = self.begun.split_off(end + 1);
        let lines = std::mem::replace(&mut self.begun, rest);
        // A line that a full disk cut short is none.
        events.extend(lines.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()));
        Ok(())
    }
}

impl<'a> Journal<'a> {
    /// Opens the journal at its beginning, or at its end.
    pub fn open(roots: &'a Roots, at_end: bool) -> Result<Self> {
        let flags = inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK;
        let inotify = inotify::init(flags).context("make an inotify descriptor")?;
        let events = inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
        inotify::add_watch(&inotify, &roots.run, events).with_context(|| format!("watch {}", roots.run.display()))?;
        let mut this =
            Self { roots, inotify, old: Source::open(&previous(roots)), current: Source::open(&journal(roots)) };
        if at_end {
            for source in [&mut this.old, &mut this.current].into_iter().flatten() {
                source.file.seek(SeekFrom::End(0)).context("read the journal of events")?;
            }
        }
        Ok(this)
    }

    /// What has come since the last call, in the order of its time.
    pub fn next(&mut self) -> Result<Vec<Event>> {
        let mut buffer = [0_u8; 4096];
        while rustix::io::read(&self.inotify, &mut buffer).is_ok_and(|count| count > 0) {}
        let mut events = Vec::new();
        if let Some(old) = &mut self.old {
            old.read(&mut events)?;
        }
        if let Some(current) = &mut self.current {
            current.read(&mut events)?;
        }
        let inode = std::fs::metadata(journal(self.roots)).ok().map(|meta| meta.ino());
        if inode.is_some() && inode != self.current.as_ref().map(|source| source.inode) {
            let new = Source::open(&journal(self.roots));
            if let Some(full) = std::mem::replace(&mut self.current, new) {
                self.old = Some(full);
            }
            if let Some(current) = &mut self.current {
                current.read(&mut events)?;
            }
        }
        events.sort_by_key(|event| event.time);
        Ok(events)
    }
}

impl AsFd for Journal<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

/// Shows each event of the window to `see`, until the window's end.
pub fn follow(roots: &Roots, window: Window, see: &mut dyn FnMut(&Event) -> Result<()>) -> Result<()> {
    let mut journal = Journal::open(roots, window.since.is_none())?;
    let now = || i64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let mut since = window.since;
    loop {
        // The clock first: what is written after this look is not in the window.
        let moment = now();
        for event in journal.next()? {
            let early = since.is_some_and(|since| event.time < since);
            let late = window.until.is_some_and(|until| event.time > until);
            if !early && !late {
                see(&event)?;
            }
        }
        // What comes now is new, whatever time the clock was set to meanwhile.
        since = None;
        let left = window.until.map(|until| until.saturating_sub(moment));
        if left.is_some_and(|left| left <= 0) {
            return Ok(());
        }
        let left = left.map(|left| Duration::from_nanos(u64::try_from(left).unwrap_or(0)));
        wait::readable(&[journal.as_fd()], left.map(|left| Instant::now() + left))?;
    }
}

/// The names of Docker's filters of events, but for `label`.
const KEYS: [&str; 9] = ["container", "daemon", "event", "image", "network", "plugin", "scope", "type", "volume"];

/// Docker's filters: values of one key are alternatives, keys go together.
#[derive(Debug, Clone, Default)]
pub struct Filters(Vec<(String, String)>);

impl Filters {
    /// Whether it is the name of a filter.
    pub fn knows(key: &str) -> bool {
        key == "label" || KEYS.contains(&key)
    }

    /// From names and values; a name that no event has is an error.
    pub fn new(pairs: &[(String, String)]) -> Result<Self> {
        match pairs.iter().find(|(key, _)| !Self::knows(key)) {
            Some((key, _)) => bail!("invalid filter '{key}'"),
            None => Ok(Self(pairs.to_vec())),
        }
    }

    /// Whether an event passes.
    pub fn pass(&self, event: &Event) -> bool {
        let values =
            |wanted: &'static str| self.0.iter().filter(move |(key, _)| key == wanted).map(|(_, value)| value.as_str());
        // Each label must be there.
        values("label").all(|value| matches(event, "label", value))
            && KEYS
                .into_iter()
                .all(|key| values(key).next().is_none() || values(key).any(|value| matches(event, key, value)))
    }
}

fn matches(event: &Event, key: &str, value: &str) -> bool {
    let actor = |kind: Kind| {
        let named = event.attribute("name") == Some(value);
        event.kind == kind && (named || !value.is_empty() && event.actor.id.starts_with(value))
    };
    match key {
        "type" => event.kind.as_str() == value,
        // `exec_create: sh` is an `exec_create`.
        "event" => event.action == value || event.action.split(':').next() == Some(value),
        "container" => {
            actor(Kind::Container)
                || event.attribute("container").is_some_and(|id| !value.is_empty() && id.starts_with(value))
        }
        "network" => actor(Kind::Network),
        "volume" => actor(Kind::Volume),
        "image" => {
            let bare = |name: &str| name.rsplit_once(':').map_or(name, |(bare, _)| bare).to_owned();
            let is = |name: &str| name == value || bare(name) == value;
            match event.kind {
                Kind::Image => is(&event.actor.id) || event.attribute("name").is_some_and(is),
                _ => event.attribute("image").is_some_and(is),
            }
        }
        "label" => match value.split_once('=') {
            Some((key, value)) => event.attribute(key) == Some(value),
            None => event.attribute(value).is_some(),
        },
        "scope" => value == "local",
        // There is neither a daemon nor a plugin that an event could come from.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roots() -> (tempfile::TempDir, Roots) {
        let temp = tempfile::tempdir().unwrap();
        let roots = Roots { data: temp.path().join("data"), run: temp.path().join("run") };
        roots.prepare().unwrap();
        (temp, roots)
    }

    #[test]
    fn nothing_is_lost_when_the_journal_is_put_aside_between_two_looks() {
        let (_temp, roots) = roots();
        let long = "x".repeat(100_000);
        let emit = |number: usize| Event::now(Kind::Volume, &format!("n{number}"), "v").with("l", &long).emit(&roots);
        emit(0);
        let mut journal = Journal::open(&roots, true).unwrap();
        let mut seen = Vec::new();
        for number in 1..30 {
            emit(number);
            if number % 7 == 0 {
                seen.extend(journal.next().unwrap());
            }
        }
        seen.extend(journal.next().unwrap());
        let numbers: Vec<String> = seen.into_iter().map(|event| event.action).collect();
        assert_eq!(numbers, (1..30).map(|number| format!("n{number}")).collect::<Vec<_>>());
        assert!(previous(&roots).exists(), "it was put aside");
        let kept = Journal::open(&roots, false).unwrap().next().unwrap();
        assert!((10..30).contains(&kept.len()), "{} are kept", kept.len());
    }

    #[test]
    fn half_a_line_is_passed_over() {
        let (_temp, roots) = roots();
        std::fs::write(journal(&roots), "{\"Type\":\"vol\n").unwrap();
        Event::now(Kind::Volume, "create", "v").emit(&roots);
        let mut seen = Vec::new();
        let window = Window { since: Some(0), until: Some(i64::MAX - 1) };
        let error = follow(&roots, window, &mut |event| {
            seen.push(event.action.clone());
            anyhow::bail!("enough")
        });
        assert!(error.is_err());
        assert_eq!(seen, ["create"]);
    }

    #[test]
    fn what_comes_is_shown_also_when_the_clock_was_set_back() {
        const HOUR: i64 = 3600 * 1_000_000_000;
        let (_temp, roots) = roots();
        let emit = |action: &str, ago: i64| {
            let mut event = Event::now(Kind::Volume, action, "v");
            event.time -= ago;
            event.emit(&roots);
        };
        emit("long ago", 24 * HOUR);
        emit("just now", 0);
        let window = Window { since: Some(Event::now(Kind::Volume, "", "").time - HOUR), until: None };
        let mut seen = Vec::new();
        let enough = follow(&roots, window, &mut |event| {
            seen.push(event.action.clone());
            if seen.len() == 2 {
                anyhow::bail!("enough");
            }
            emit("set back", 24 * HOUR);
            Ok(())
        });
        assert!(enough.is_err());
        assert_eq!(seen, ["just now", "set back"]);
    }

    #[test]
    fn filters_of_one_key_are_alternatives_but_all_labels_must_be_there() {
        let event = Event::now(Kind::Container, "exec_create: sh -c true", "abcdef")
            .with("name", "web")
            .with("image", "nginx:1.27")
            .with("tier", "front");
        let pair = |word: &str| word.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned())).unwrap();
        let pass = |words: &[&str]| {
            Filters::new(&words.iter().map(|word| pair(word)).collect::<Vec<_>>()).unwrap().pass(&event)
        };
        assert!(pass(&[]) && pass(&["type=image", "type=container"]) && pass(&["event=exec_create", "container=web"]));
        assert!(pass(&["container=abc", "image=nginx", "label=tier", "label=tier=front"]));
        assert!(!pass(&["label=tier", "label=other"]) && !pass(&["event=start"]) && !pass(&["network=web"]));
        assert!(!pass(&["type=container", "image=other"]));
        assert!(Filters::new(&[pair("colour=red")]).is_err());
    }
}
