//! What a terminal shows of builds at one moment: lines that fit into it. Pure.

use super::{End, Entry, Shown, text};

/// Lines of output below a step that runs.
const OUTPUT: usize = 6;

/// How a line looks, where colours are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// As it is.
    Usual,
    /// Of a step that has ended.
    Ended,
    /// Of one that has failed.
    Failed,
    /// Output.
    Output,
    /// A warning.
    Warning,
}

/// A terminal's size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Lines.
    pub rows: usize,
    /// Characters in a line.
    pub columns: usize,
}

/// A line.
pub type Line = (Look, String);

/// What is shown now, or (`last`) in the end, when all steps are shown, however many.
pub fn frame(shown: &Shown, seconds: f64, size: Size, last: bool) -> Vec<Line> {
    // The last column stays empty: some terminals go to the next line when it is written.
    let columns = size.columns.saturating_sub(1).max(1);
    let ended = shown.steps.iter().filter(|entry| entry.ended.is_some()).count();
    let all = (shown.announced + shown.internal).max(shown.steps.len());
    let all = if last { shown.steps.len() } else { all };
    let finished = if last { " FINISHED" } else { "" };
    let head = text::fit(&format!("[+] Building {seconds:.1}s ({ended}/{all}){finished}"), columns);
    let room = if last { usize::MAX } else { size.rows.saturating_sub(2) };
    let mut lines = vec![(Look::Usual, head)];
    for output in (0..=OUTPUT).rev() {
        let blocks: Vec<(bool, Vec<Line>)> = shown
            .steps
            .iter()
            .map(|entry| (entry.ended.is_some(), block(entry, columns, if last { 0 } else { output })))
            .collect();
        let fits = choose(&blocks, room);
        if let Some(chosen) = fits {
            lines.extend(blocks.into_iter().zip(chosen).filter(|(_, keep)| *keep).flat_map(|((_, block), _)| block));
            return lines;
        }
    }
    // More steps run than there are lines: the latest are shown.
    let running = shown.steps.iter().filter(|entry| entry.ended.is_none());
    let titles: Vec<Line> = running.filter_map(|entry| block(entry, columns, 0).into_iter().next()).collect();
    lines.extend(titles.iter().skip(titles.len().saturating_sub(room)).cloned());
    lines
}

/// Which blocks there is room for: those that run, and of those that have ended the latest.
fn choose(blocks: &[(bool, Vec<Line>)], room: usize) -> Option<Vec<bool>> {
    let running: usize = blocks.iter().filter(|(ended, _)| !ended).map(|(_, lines)| lines.len()).sum();
    let mut left = room.checked_sub(running)?;
    let mut full = false;
    let mut chosen: Vec<bool> = blocks
        .iter()
        .rev()
        .map(|(ended, lines)| {
            if !ended {
                return true;
            }
            full |= lines.len() > left;
            if full {
                return false;
            }
            left -= lines.len();
            true
        })
        .collect();
    chosen.reverse();
    Some(chosen)
}

/// The lines of a step.
fn block(entry: &Entry, columns: usize, output: usize) -> Vec<Line> {
    let (look, word) = match entry.ended.as_ref().map(|(_, end)| end) {
        None => (Look::Usual, ""),
        Some(End::Done) => (Look::Ended, ""),
        Some(End::Cached) => (Look::Ended, "CACHED "),
        Some(End::Cancelled) => (Look::Usual, "CANCELED "),
        Some(End::Failed(_)) => (Look::Failed, "ERROR "),
    };
    let mut lines = vec![(look, timed(&format!(" => {word}{}", entry.title), entry.seconds(), columns))];
    for part in &entry.parts {
        let look = match (part.warning, part.ended.is_some()) {
            (true, _) => Look::Warning,
            (false, true) => Look::Ended,
            (false, false) => Look::Usual,
        };
        let sign = if part.warning { " => " } else { " => => " };
        lines.push((look, timed(&format!("{sign}{}", part.label()), part.seconds(), columns)));
    }
    if entry.ended.is_none() {
        let partial = text::of_line(&entry.log.partial);
        let said = entry.log.kept.iter().map(|(_, line)| line.as_str()).chain([partial.as_str()]);
        let said: Vec<&str> = said.filter(|line| !line.is_empty()).collect();
        for line in said.iter().skip(said.len().saturating_sub(output)) {
            lines.push((Look::Output, text::fit(&format!(" => => # {line}"), columns)));
        }
    }
    lines
}

/// A text with a time at the right edge; only the time gives way where there is no room.
fn timed(line: &str, seconds: f64, columns: usize) -> String {
    let time = format!(" {seconds:.1}s");
    let Some(room) = columns.checked_sub(time.len()).filter(|room| *room >= 12) else {
        return text::fit(line, columns);
    };
    let mut line = text::fit(line, room);
    let blank = room - text::width(&line);
    line.extend(std::iter::repeat_n(' ', blank));
    line + &time
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::super::{Log, Part};
    use super::*;

    fn entry(title: &str, end: Option<End>, output: &[&str]) -> Entry {
        let began = Instant::now();
        let mut log = Log::default();
        log.add(output.join("\n").as_bytes(), began);
        let ended =
            Some((began + Duration::from_millis(1200), end.clone().unwrap_or(End::Done))).filter(|_| end.is_some());
        Entry { title: title.to_owned(), began, ended, parts: Vec::new(), log }
    }

    fn text(shown: &Shown, rows: usize, columns: usize, last: bool) -> String {
        let lines = frame(shown, 3.21, Size { rows, columns }, last);
        for (_, line) in &lines {
            assert!(text::width(line) < columns.max(2), "{line:?} in {columns}");
        }
        lines.into_iter().map(|(_, line)| line + "\n").collect()
    }

    fn example() -> Shown {
        let lines = ["one", "two", "three", "four", "five", "six", "seven"];
        let mut done = entry("[1/4] FROM alpine", Some(End::Done), &[]);
        let now = Instant::now();
        done.parts.push(Part {
            name: "sha256:1234".into(),
            bytes: Some((1_500_000, 3_000_000)),
            began: now,
            ended: Some(now + Duration::from_millis(300)),
            told: now,
            warning: false,
        });
        Shown {
            steps: vec![
                done,
                entry("[2/4] RUN true", Some(End::Cached), &[]),
                entry("[3/4] RUN make all of it with a very long command line", None, &lines),
            ],
            announced: 4,
            internal: 1,
            ..Shown::default()
        }
    }

    #[test]
    fn steps_have_times_and_the_last_lines_of_what_runs() {
        assert_eq!(
            text(&example(), 24, 50, false),
            "[+] Building 3.2s (2/5)\n \
             => [1/4] FROM alpine                        1.2s\n \
             => => sha256:1234 1.5MB / 3MB               0.3s\n \
             => CACHED [2/4] RUN true                    1.2s\n \
             => [3/4] RUN make all of it with a very lon 0.0s\n \
             => => # two\n => => # three\n => => # four\n => => # five\n => => # six\n => => # seven\n"
        );
    }

    #[test]
    fn what_has_ended_gives_way_to_what_runs() {
        let small = text(&example(), 8, 40, false);
        assert!(!small.contains("FROM") && !small.contains("CACHED"), "{small}");
        assert!(small.contains("[3/4] RUN make") && small.contains("# seven"), "{small}");
        assert!(small.lines().count() <= 8, "{small}");
        for (rows, columns) in [(1, 1), (2, 10), (3, 20), (4, 3), (0, 0)] {
            assert!(text(&example(), rows, columns, false).lines().count() <= rows.max(1), "{rows} {columns}");
        }
        let many =
            Shown { steps: (0..9).map(|n| entry(&format!("[{n}]"), None, &["x"])).collect(), ..Shown::default() };
        let many = text(&many, 6, 40, false);
        assert!(many.contains("[8]") && !many.contains("[3]"), "{many}");
    }

    #[test]
    fn in_the_end_all_steps_are_there() {
        let mut shown = example();
        shown.steps[2].ended = Some((Instant::now(), End::Failed("x".into())));
        let last = text(&shown, 3, 60, true);
        assert!(last.starts_with("[+] Building 3.2s (3/3) FINISHED\n"), "{last}");
        assert!(last.contains(" => ERROR [3/4] RUN make") && last.contains("FROM") && !last.contains('#'), "{last}");
    }
}
