//! `up --timeline`: how the start of a project went, drawn: what was done to
//! each container and image, on a common axis of time, and the path that made
//! it take as long as it did. From the progress that is shown, by pure functions.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use umiak_compose::Project;

use super::{names, service};
use crate::ui::progress::Mark;
use crate::ui::svg;

/// What is done in one span of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// An image is pulled.
    Pull,
    /// A container or network is created, or made anew.
    Create,
    /// A container is started.
    Start,
    /// It becomes healthy, or ends, as others need it.
    Healthy,
    /// A container is stopped or removed.
    Stop,
    /// Anything else.
    Other,
}

impl Phase {
    const ALL: [Self; 6] = [Self::Pull, Self::Create, Self::Start, Self::Healthy, Self::Stop, Self::Other];

    /// Of a word that progress lines use.
    fn of(status: &str) -> Self {
        match status.split(' ').next().unwrap_or_default() {
            "Pulling" => Self::Pull,
            "Creating" | "Recreating" | "Updating" => Self::Create,
            "Starting" => Self::Start,
            "Waiting" => Self::Healthy,
            "Stopping" | "Removing" => Self::Stop,
            _ => Self::Other,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Create => "create",
            Self::Start => "start",
            Self::Healthy => "healthy",
            Self::Stop => "stop",
            Self::Other => "other",
        }
    }
}

/// How a span ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// As it should.
    Well,
    /// With an error.
    Failed,
    /// Not: the command ended before.
    Cut,
}

/// Something that took time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// `Container demo-web-1`.
    pub what: String,
    /// What was done.
    pub phase: Phase,
    /// When it began.
    pub from: Duration,
    /// When it ended.
    pub to: Duration,
    /// How.
    pub ended: Ended,
}

/// Makes spans of what was shown until `end`.
pub fn spans(marks: &[Mark], end: Duration) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    // By what is worked on: the places of its spans that are open.
    let mut open: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for mark in marks {
        let places = open.entry(&mark.what).or_default();
        let Some(good) = mark.end else {
            let phase = Phase::of(&mark.status);
            let again = |place: &usize| spans.get(*place).is_some_and(|span| span.phase == phase);
            // Several may wait for the same thing.
            if !places.iter().any(again) && (phase != Phase::Healthy || !was(&spans, &mark.what, phase)) {
                places.push(spans.len());
                spans.push(Span { what: mark.what.clone(), phase, from: mark.at, to: end, ended: Ended::Cut });
            }
            continue;
        };
        let ended = if good { Ended::Well } else { Ended::Failed };
        for place in std::mem::take(places) {
            if let Some(span) = spans.get_mut(place) {
                (span.to, span.ended) = (mark.at, ended);
            }
        }
    }
    // A container becomes healthy from its start on, whenever somebody began to wait for it.
    let starts: Vec<(String, Duration)> =
        spans.iter().filter(|span| span.phase == Phase::Start).map(|span| (span.what.clone(), span.to)).collect();
    for span in spans.iter_mut().filter(|span| span.phase == Phase::Healthy) {
        let started = starts.iter().filter(|(what, to)| *what == span.what && *to <= span.to).map(|(_, to)| *to).max();
        span.from = started.unwrap_or(span.from);
    }
    spans
}

fn was(spans: &[Span], what: &str, phase: Phase) -> bool {
    spans.iter().any(|span| span.what == what && span.phase == phase && span.ended == Ended::Well)
}

/// One line of the chart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// What stands before it.
    pub label: String,
    /// In the order of time.
    pub spans: Vec<Span>,
    /// The rows that had to come first, by their places.
    pub after: Vec<usize>,
}

/// Sorts spans into rows: a container with the pull of its image, then what belongs to no container.
pub fn rows(project: &Project, spans: Vec<Span>) -> Vec<Row> {
    let mut rows: BTreeMap<String, (Option<String>, Vec<Span>)> = BTreeMap::new();
    let mut pulls = Vec::new();
    for span in spans {
        match span.what.split_once(' ') {
            Some(("Image", image)) => pulls.push((image.to_owned(), span)),
            Some(("Container", name)) => {
                let service = service_of(project, name);
                let label = names::in_logs(&project.name, name).to_owned();
                rows.entry(label).or_insert((service, Vec::new())).1.push(span);
            }
            Some(("Network" | "Volume" | "Service", _)) => {
                rows.entry(span.what.clone()).or_default().1.push(span);
            }
            // The layers of images.
            _ => {}
        }
    }
    for (image, span) in pulls {
        let uses = |service: &str| project.services.get(service).is_some_and(|it| service::image(project, it) == image);
        let mut users: Vec<_> = rows.values_mut().filter(|(service, _)| service.as_deref().is_some_and(uses)).collect();
        users.iter_mut().for_each(|(_, spans)| spans.push(span.clone()));
        if users.is_empty() {
            rows.entry(span.what.clone()).or_default().1.push(span);
        }
    }
    let mut rows: Vec<(String, Option<String>, Vec<Span>)> =
        rows.into_iter().map(|(label, (service, spans))| (label, service, spans)).collect();
    rows.iter_mut().for_each(|(.., spans)| spans.sort_by_key(|span| (span.from, span.to)));
    let begun = |spans: &[Span]| spans.first().map(|span| span.from).unwrap_or_default();
    let last = |spans: &[Span]| spans.last().map(|span| span.to).unwrap_or_default();
    rows.sort_by_key(|(label, _, spans)| (begun(spans), last(spans), label.clone()));
    let after = |service: &Option<String>| -> Vec<usize> {
        let depends = service.as_ref().and_then(|name| project.services.get(name)).map(|it| &it.depends_on);
        let needed = |(_, (_, other, _)): &(usize, &(String, Option<String>, Vec<Span>))| {
            other.as_ref().zip(depends).is_some_and(|(name, depends)| depends.contains_key(name))
        };
        rows.iter().enumerate().filter(needed).map(|(index, _)| index).collect()
    };
    let all_after: Vec<Vec<usize>> = rows.iter().map(|(_, service, _)| after(service)).collect();
    rows.into_iter().zip(all_after).map(|((label, _, spans), after)| Row { label, spans, after }).collect()
}

/// The service that a container of this name is of.
fn service_of(project: &Project, name: &str) -> Option<String> {
    let of = |service: &&umiak_compose::Service| {
        service.container_name.as_deref() == Some(name)
            || names::in_logs(&project.name, name)
                .strip_prefix(service.name.as_str())
                .and_then(|rest| rest.strip_prefix(['-', '_']))
                .is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
    };
    project.services.values().find(of).map(|service| service.name.clone())
}

/// Why it took as long as it did: from the last end backwards, each time what ended last of what had to come before.
/// Places of rows and spans, the first first.
pub fn critical(rows: &[Row]) -> Vec<(usize, usize)> {
    let all = || rows.iter().enumerate().flat_map(|(row, it)| (0..it.spans.len()).map(move |span| (row, span)));
    let at = |(row, span): (usize, usize)| rows.get(row).and_then(|row| row.spans.get(span));
    let to = |place: &(usize, usize)| at(*place).map(|span| span.to);
    let mut path: Vec<(usize, usize)> = all().max_by_key(to).into_iter().collect();
    while let Some(&current) = path.last() {
        let Some(from) = at(current).map(|span| span.from) else { break };
        let near = |place: &(usize, usize)| {
            place.0 == current.0 || rows.get(current.0).is_some_and(|row| row.after.contains(&place.0))
        };
        // All images are there before anything is made.
        let near = |place: &(usize, usize)| near(place) || at(*place).is_some_and(|span| span.phase == Phase::Pull);
        let before = |place: &(usize, usize)| to(place).is_some_and(|to| to <= from) && !path.contains(place);
        match all().filter(|place| near(place) && before(place)).max_by_key(to) {
            Some(place) => path.push(place),
            None => break,
        }
    }
    path.reverse();
    path
}

const LABEL: u32 = 190;
const PLOT: u32 = 520;
const NOTE: u32 = 380;
const LINE: u32 = 28;
const TOP: u32 = 84;

/// Draws rows until `end`.
pub fn draw(title: &str, rows: &[Row], end: Duration) -> String {
    let critical = critical(rows);
    let end = end.max(rows.iter().flat_map(|row| &row.spans).map(|span| span.to).max().unwrap_or_default());
    let scale = |moment: Duration| {
        let share = moment.as_secs_f64() / end.as_secs_f64().max(1e-6);
        f64::from(LABEL) + share * f64::from(PLOT)
    };
    let count = u32::try_from(rows.len()).unwrap_or(u32::MAX);
    let bottom = TOP.saturating_add(count.saturating_mul(LINE));
    let mut body = format!("<text class=\"head\" x=\"16\" y=\"28\">{}</text>\n", svg::escape(title));
    legend(&mut body, rows);
    for tick in ticks(end) {
        let x = scale(tick);
        let _ = writeln!(body, "<line class=\"rule\" x1=\"{x:.1}\" y1=\"{}\" x2=\"{x:.1}\" y2=\"{bottom}\"/>", TOP - 6);
        let _ = writeln!(
            body,
            "<text class=\"dim\" x=\"{x:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
            TOP - 12,
            seconds(tick)
        );
    }
    for (place, row) in rows.iter().enumerate() {
        let y = TOP + u32::try_from(place).unwrap_or(0).saturating_mul(LINE);
        let on_path = critical.iter().any(|(critical, _)| *critical == place);
        let weight = if on_path { " class=\"name\"" } else { "" };
        let label = svg::escape(&shortened(&row.label, 22));
        let _ = writeln!(body, "<text x=\"16\" y=\"{}\"{weight}>{label}</text>", y + 18);
        let mut after = f64::from(LABEL);
        for (index, span) in row.spans.iter().enumerate() {
            let is_critical = critical.contains(&(place, index));
            let (x, width) = (scale(span.from), (scale(span.to) - scale(span.from)).max(1.5));
            after = after.max(x + width);
            let _ = writeln!(
                body,
                "<rect class=\"{}{}{}\" x=\"{x:.1}\" y=\"{}\" width=\"{width:.1}\" height=\"16\" rx=\"2\"><title>{}</title></rect>",
                span.phase.name(),
                if is_critical { " critical" } else { "" },
                if span.ended == Ended::Well { "" } else { " failed" },
                y + 6,
                svg::escape(&format!("{}: {}", span.what, told(span)))
            );
        }
        let notes: Vec<String> = row.spans.iter().map(told).collect();
        let _ = writeln!(
            body,
            "<text class=\"dim\" x=\"{:.1}\" y=\"{}\">{}</text>",
            after + 8.0,
            y + 18,
            svg::escape(&notes.join(" · "))
        );
    }
    let width = LABEL + PLOT + NOTE;
    let mut y = bottom + 26;
    for line in path_in_words(rows, &critical, width - 32) {
        let _ = writeln!(body, "<text class=\"dim\" x=\"16\" y=\"{y}\">{}</text>", svg::escape(&line));
        y = y.saturating_add(18);
    }
    svg::document(width, y, title, STYLE, DARK, &body)
}

const STYLE: &str = ".name{font-weight:600}.pull{fill:#8e8c99}.create{fill:#3e63dd}.start{fill:#0d9b8a}.healthy{fill:#46a758}.stop{fill:#b07d48}.other{fill:#8b8d98}.critical{stroke:#d6409f;stroke-width:2}.failed{stroke:#e5484d;stroke-width:2;stroke-dasharray:4 2}";
const DARK: &str =
    ".pull{fill:#9c9aa7}.create{fill:#6e8cff}.start{fill:#12b8a3}.healthy{fill:#5bc26e}.stop{fill:#c99a66}";

/// What the colours mean, of those that are there.
fn legend(body: &mut String, rows: &[Row]) {
    let mut x = 16;
    let mut entry = |class: &str, text: &str| {
        let _ = writeln!(body, "<rect class=\"{class}\" x=\"{x}\" y=\"40\" width=\"14\" height=\"12\" rx=\"2\"/>");
        let _ = writeln!(body, "<text class=\"dim\" x=\"{}\" y=\"51\">{text}</text>", x + 20);
        x += 40 + svg::width(text);
    };
    let spans = || rows.iter().flat_map(|row| &row.spans);
    for phase in Phase::ALL.into_iter().filter(|phase| spans().any(|span| span.phase == *phase)) {
        entry(phase.name(), phase.name());
    }
    entry("paper critical", "critical path");
    if spans().any(|span| span.ended != Ended::Well) {
        entry("paper failed", "failed, or cut short");
    }
}

fn told(span: &Span) -> String {
    let time = seconds(span.to.saturating_sub(span.from));
    match span.ended {
        Ended::Well => format!("{} {time}", span.phase.name()),
        Ended::Failed => format!("{} failed after {time}", span.phase.name()),
        Ended::Cut => format!("{} cut short after {time}", span.phase.name()),
    }
}

/// In lines of at most this width.
fn path_in_words(rows: &[Row], critical: &[(usize, usize)], width: u32) -> Vec<String> {
    let step = |(row, span): &(usize, usize)| {
        let row = rows.get(*row)?;
        Some(format!("{} {}", row.label, told(row.spans.get(*span)?)))
    };
    let mut lines = Vec::new();
    let mut line = String::new();
    for step in critical.iter().filter_map(step) {
        let longer = match line.is_empty() {
            true => format!("critical path: {step}"),
            false => format!("{line} → {step}"),
        };
        line = match svg::width(&longer) > width && !line.is_empty() {
            true => {
                lines.push(line);
                format!("→ {step}")
            }
            false => longer,
        };
    }
    lines.push(if line.is_empty() { "nothing had to be done".to_owned() } else { line });
    lines
}

/// Moments of the axis: steps of 1, 2 or 5, at most eight of them.
fn ticks(end: Duration) -> Vec<Duration> {
    let nanos = end.as_nanos().max(1_000_000);
    let mut step: u128 = 1_000_000;
    while nanos / step > 8 {
        let decade = 10_u128.pow(step.ilog10());
        step = match step / decade {
            1 => decade * 2,
            2 => decade * 5,
            _ => decade * 10,
        };
    }
    (0..=nanos / step).map(|count| Duration::from_nanos(u64::try_from(count * step).unwrap_or(u64::MAX))).collect()
}

/// `0.25 s`, `12.3 s`.
fn seconds(time: Duration) -> String {
    if time.is_zero() {
        return "0".to_owned();
    }
    match time.as_secs_f64() {
        time if time < 0.1 => format!("{:.0} ms", (time * 1000.0).max(1.0)),
        time if time < 10.0 => format!("{time:.2} s"),
        time => format!("{time:.1} s"),
    }
}

fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most.saturating_sub(1)).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

/// The drawing of what was shown for a project.
pub fn of_project(project: &Project, marks: &[Mark], end: Duration) -> String {
    let rows = rows(project, spans(marks, end));
    draw(&format!("Start of {} in {}", project.name, seconds(end)), &rows, end)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(millis: u64, what: &str, status: &str, end: Option<bool>) -> Mark {
        Mark { at: Duration::from_millis(millis), what: what.into(), status: status.into(), end }
    }

    fn span(what: &str, phase: Phase, from: u64, to: u64) -> Span {
        let (from, to) = (Duration::from_millis(from), Duration::from_millis(to));
        Span { what: what.into(), phase, from, to, ended: Ended::Well }
    }

    #[test]
    fn work_becomes_spans_also_when_it_fails_or_is_waited_for_twice() {
        let (db, web) = ("Container demo-db-1", "Container demo-web-1");
        let marks = [
            mark(0, db, "Creating", None),
            mark(10, db, "Created", Some(true)),
            mark(10, db, "Starting", None),
            mark(30, db, "Started", Some(true)),
            mark(35, db, "Waiting", None),
            mark(36, db, "Waiting", None),
            mark(90, db, "Healthy", Some(true)),
            mark(91, db, "Healthy", Some(true)),
            mark(92, web, "Starting", None),
            mark(95, web, "Error", Some(false)),
            mark(96, "Container demo-other-1", "Creating", None),
        ];
        let found = spans(&marks, Duration::from_millis(100));
        let expected = [
            span(db, Phase::Create, 0, 10),
            span(db, Phase::Start, 10, 30),
            span(db, Phase::Healthy, 30, 90),
            Span { ended: Ended::Failed, ..span(web, Phase::Start, 92, 95) },
            Span { ended: Ended::Cut, ..span("Container demo-other-1", Phase::Create, 96, 100) },
        ];
        assert_eq!(found, expected);
    }

    fn chart() -> Vec<Row> {
        let row =
            |label: &str, spans: Vec<Span>, after: &[usize]| Row { label: label.into(), spans, after: after.into() };
        vec![
            row(
                "db-1",
                vec![
                    span("db", Phase::Create, 0, 10),
                    span("db", Phase::Start, 12, 30),
                    span("db", Phase::Healthy, 30, 90),
                ],
                &[],
            ),
            row("idle-1", vec![span("idle", Phase::Create, 0, 60)], &[]),
            row("<web>&", vec![span("web", Phase::Create, 0, 20), span("web", Phase::Start, 91, 120)], &[0]),
        ]
    }

    #[test]
    fn the_critical_path_goes_back_from_the_last_end() {
        assert_eq!(critical(&chart()), [(0, 0), (0, 1), (0, 2), (2, 1)]);
        assert!(critical(&[]).is_empty());
    }

    #[test]
    fn a_drawing_is_well_formed_and_names_are_text() {
        let drawn = draw("Start of demo", &chart(), Duration::from_millis(120));
        assert!(drawn.contains("&lt;web&gt;&amp;") && !drawn.contains("<web>"));
        assert_eq!(drawn.matches("<rect class=\"").count(), 6 + 1 + 4, "{drawn}");
        assert_eq!(drawn.matches(" critical\"").count(), 4 + 1);
        assert!(drawn.contains("create 10 ms · start 18 ms · healthy 60 ms"));
        assert!(drawn.contains("critical path: db-1 create 10 ms → db-1 start 18 ms → db-1 healthy 60 ms → "));
        assert!(drawn.contains("prefers-color-scheme:dark"));
        assert!(draw("nothing", &[], Duration::ZERO).contains("nothing had to be done"));
    }

    #[test]
    fn a_long_path_is_told_in_several_lines() {
        let row = |label: &str, from, to| Row {
            label: label.into(),
            spans: vec![span(label, Phase::Start, from, to)],
            after: vec![],
        };
        let rows = vec![row("a-service-1", 0, 10), row("b-service-1", 10, 20), row("c-service-1", 20, 30)];
        let path = [(0, 0), (1, 0), (2, 0)];
        assert_eq!(path_in_words(&rows, &path, 10_000).len(), 1);
        let lines = path_in_words(&rows, &path, 400);
        assert_eq!(
            lines,
            ["critical path: a-service-1 start 10 ms", "→ b-service-1 start 10 ms → c-service-1 start 10 ms"]
        );
        assert!(path_in_words(&rows, &path, 0).len() == 3);
    }

    #[test]
    fn the_axis_has_round_steps() {
        let all = |millis| ticks(Duration::from_millis(millis)).iter().map(|tick| seconds(*tick)).collect::<Vec<_>>();
        assert_eq!(all(120), ["0", "20 ms", "40 ms", "60 ms", "80 ms", "0.10 s", "0.12 s"]);
        assert_eq!(all(7300), ["0", "1.00 s", "2.00 s", "3.00 s", "4.00 s", "5.00 s", "6.00 s", "7.00 s"]);
    }
}
