//! A project as a graph: its services and what they depend on, their networks,
//! and how they are. Made from the model or, without one, from what containers
//! carry; written as DOT, Mermaid or SVG by pure functions.

mod svg;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use umiak_compose::{Condition, Project};

use super::observe::Member;
use super::wait;
use crate::engine::Container;
use crate::engine::container::Status;
use crate::engine::health::HealthStatus;

pub use svg::svg;

/// How well something is; the worst of its containers counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tone {
    /// There is no container.
    Absent,
    /// It has done what it was to do, or was stopped.
    Over,
    /// It runs, and is healthy where that is checked.
    Good,
    /// It is about to be.
    Coming,
    /// It is unhealthy, or has failed.
    Bad,
}

impl Tone {
    const ALL: [Self; 5] = [Self::Absent, Self::Over, Self::Good, Self::Coming, Self::Bad];

    const fn name(self) -> &'static str {
        match self {
            Self::Absent => "absent",
            Self::Over => "over",
            Self::Good => "good",
            Self::Coming => "coming",
            Self::Bad => "bad",
        }
    }

    /// Background and border, on light paper.
    const fn colours(self) -> (&'static str, &'static str) {
        match self {
            Self::Absent => ("#f9f9fb", "#8b8d98"),
            Self::Over => ("#eff0f3", "#60646c"),
            Self::Good => ("#e6f6eb", "#2b9a66"),
            Self::Coming => ("#fff7c2", "#ab6400"),
            Self::Bad => ("#feebec", "#ce2c31"),
        }
    }
}

/// One service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name.
    pub name: String,
    /// How it is, in words.
    pub state: String,
    /// How well.
    pub tone: Tone,
    /// The networks that it is on.
    pub networks: Vec<String>,
    /// What it depends on: the places of other services, and the condition.
    pub depends_on: Vec<(usize, &'static str)>,
}

/// A project.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Graph {
    /// Its name.
    pub name: String,
    /// Its services.
    pub nodes: Vec<Node>,
}

/// Makes the graph of what a model says and of what is there.
pub fn of_project(name: &str, model: Option<&Project>, members: &[Member]) -> Graph {
    let mut services: Vec<&str> = Vec::new();
    let modelled = model.iter().flat_map(|model| model.services.keys()).map(String::as_str);
    for service in modelled.chain(members.iter().map(|member| member.service.as_str())) {
        if !services.contains(&service) {
            services.push(service);
        }
    }
    let node = |service: &&str| {
        let containers: Vec<&Container> = members
            .iter()
            .filter(|member| member.service == **service && !member.is_one_off())
            .map(|member| &member.container)
            .collect();
        let defined = model.and_then(|model| model.services.get(*service));
        let networks: BTreeSet<String> = match defined {
            Some(service) => service.networks.keys().cloned().collect(),
            None => {
                let attached = containers.iter().flat_map(|container| container.config.network.attachments());
                let prefix = format!("{name}_");
                attached.map(|it| it.network.strip_prefix(&prefix).unwrap_or(&it.network).to_owned()).collect()
            }
        };
        let depends = match (defined, containers.first()) {
            (Some(service), _) => wait::of_service(service),
            (None, Some(container)) => wait::of_label(container),
            (None, None) => Vec::new(),
        };
        let place = |other: &str| services.iter().position(|service| *service == other);
        let depends_on =
            depends.iter().filter_map(|(other, on)| Some((place(other)?, condition(on.condition)))).collect();
        let (state, tone) = match defined.is_some_and(|service| service.provider.is_some()) {
            true => ("external provider".to_owned(), Tone::Over),
            false => state(&containers),
        };
        Node { name: (*service).to_owned(), state, tone, networks: networks.into_iter().collect(), depends_on }
    };
    Graph { name: name.to_owned(), nodes: services.iter().map(node).collect() }
}

const fn condition(condition: Condition) -> &'static str {
    match condition {
        Condition::Started => "service_started",
        Condition::Healthy => "service_healthy",
        Condition::CompletedSuccessfully => "service_completed_successfully",
    }
}

/// How the containers of a service are: `healthy`, `2 running, 1 exited (3)`.
fn state(containers: &[&Container]) -> (String, Tone) {
    let mut counted: BTreeMap<String, usize> = BTreeMap::new();
    let mut tone = Tone::Absent;
    for container in containers {
        let (word, its_tone) = word(container);
        *counted.entry(word).or_default() += 1;
        tone = tone.max(its_tone);
    }
    let several = containers.len() > 1;
    let said = |(word, count): (&String, &usize)| if several { format!("{count} {word}") } else { word.clone() };
    let words: Vec<String> = counted.iter().map(said).collect();
    (if words.is_empty() { "no container".to_owned() } else { words.join(", ") }, tone)
}

fn word(container: &Container) -> (String, Tone) {
    let state = &container.state;
    let code = state.exit_code.unwrap_or(0);
    match state.status {
        Status::Created => ("created".into(), Tone::Coming),
        Status::Paused => ("paused".into(), Tone::Coming),
        Status::Restarting => (format!("restarting ({code})"), Tone::Bad),
        Status::Exited if state.oom_killed => ("out of memory".into(), Tone::Bad),
        Status::Exited if code == 0 || state.end.by_hand => (format!("exited ({code})"), Tone::Over),
        Status::Exited => (format!("exited ({code})"), Tone::Bad),
        Status::Running => match container.health.as_ref().map(|health| health.status) {
            None => ("running".into(), Tone::Good),
            Some(HealthStatus::Healthy) => ("healthy".into(), Tone::Good),
            Some(HealthStatus::Starting) => ("starting".into(), Tone::Coming),
            Some(HealthStatus::Unhealthy) => ("unhealthy".into(), Tone::Bad),
        },
    }
}

/// The networks that any service is on, with the places of their services.
fn networks(graph: &Graph) -> BTreeMap<&str, Vec<usize>> {
    let mut all: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for (place, node) in graph.nodes.iter().enumerate() {
        node.networks.iter().for_each(|network| all.entry(network).or_default().push(place));
    }
    all
}

/// In Graphviz' language.
pub fn dot(graph: &Graph) -> String {
    let quoted = |text: &str| format!("\"{}\"", text.replace('\\', r"\\").replace('"', "\\\""));
    let mut out = String::new();
    let _ = writeln!(out, "digraph {} {{", quoted(&graph.name));
    out.push_str("  rankdir=RL;\n  node [shape=box, style=\"rounded,filled\", fontname=\"sans-serif\"];\n");
    out.push_str("  edge [fontname=\"sans-serif\", fontsize=10];\n");
    for (place, node) in graph.nodes.iter().enumerate() {
        let (fill, line) = node.tone.colours();
        let name = quoted(&node.name);
        let label = format!("{}\\n{}\"", &name[..name.len() - 1], node.state);
        let _ = writeln!(out, "  s{place} [label={label}, fillcolor=\"{fill}\", color=\"{line}\"];");
    }
    for (number, (network, members)) in networks(graph).into_iter().enumerate() {
        let label = quoted(&format!("network {network}"));
        let _ = writeln!(out, "  n{number} [label={label}, shape=ellipse, style=dashed];");
        for member in members {
            let _ = writeln!(out, "  s{member} -> n{number} [dir=none, style=dotted];");
        }
    }
    for (place, node) in graph.nodes.iter().enumerate() {
        for (other, condition) in &node.depends_on {
            let _ = writeln!(out, "  s{place} -> s{other} [label=\"{condition}\"];");
        }
    }
    out.push_str("}\n");
    out
}

/// In Mermaid's language.
pub fn mermaid(graph: &Graph) -> String {
    let text = |text: &str| {
        let entity = |char: char| match char {
            '"' | '#' | '<' | '>' | '&' | ';' | '`' => format!("#{};", u32::from(char)),
            char if char.is_control() => " ".to_owned(),
            char => char.to_string(),
        };
        text.chars().map(entity).collect::<String>()
    };
    let mut out = String::from("flowchart RL\n");
    for (place, node) in graph.nodes.iter().enumerate() {
        let (name, state) = (text(&node.name), text(&node.state));
        let _ = writeln!(out, "  s{place}[\"{name}<br/>{state}\"]:::{}", node.tone.name());
    }
    for (number, (network, members)) in networks(graph).into_iter().enumerate() {
        let _ = writeln!(out, "  n{number}([\"network {}\"])", text(network));
        for member in members {
            let _ = writeln!(out, "  s{member} -.- n{number}");
        }
    }
    for (place, node) in graph.nodes.iter().enumerate() {
        for (other, condition) in &node.depends_on {
            let _ = writeln!(out, "  s{place} -->|{condition}| s{other}");
        }
    }
    for tone in Tone::ALL.into_iter().filter(|tone| graph.nodes.iter().any(|node| node.tone == *tone)) {
        let (fill, line) = tone.colours();
        let _ = writeln!(out, "  classDef {} fill:{fill},stroke:{line},color:#1c2024", tone.name());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn graph() -> Graph {
        let node = |name: &str, state: &str, tone, networks: &[&str], depends_on: Vec<(usize, &'static str)>| Node {
            name: name.into(),
            state: state.into(),
            tone,
            networks: networks.iter().map(|name| (*name).to_owned()).collect(),
            depends_on,
        };
        Graph {
            name: "de\"mo".into(),
            nodes: vec![
                node(
                    "web",
                    "2 healthy",
                    Tone::Good,
                    &["front", "back"],
                    vec![(1, "service_healthy"), (2, "service_started")],
                ),
                node("db", "unhealthy", Tone::Bad, &["back"], vec![]),
                node("a<b>&c", "no container", Tone::Absent, &[], vec![(1, "service_completed_successfully")]),
            ],
        }
    }

    #[test]
    fn dot_has_every_service_network_and_condition() {
        let dot = dot(&graph());
        for line in [
            "digraph \"de\\\"mo\" {",
            "  s0 [label=\"web\\n2 healthy\", fillcolor=\"#e6f6eb\", color=\"#2b9a66\"];",
            "  n0 [label=\"network back\", shape=ellipse, style=dashed];",
            "  s1 -> n0 [dir=none, style=dotted];",
            "  s0 -> s1 [label=\"service_healthy\"];",
            "  s2 -> s1 [label=\"service_completed_successfully\"];",
        ] {
            assert!(dot.lines().any(|found| found == line), "{line}\n{dot}");
        }
        assert_eq!(dot.matches('{').count(), dot.matches('}').count());
    }

    #[test]
    fn mermaid_has_every_service_network_and_condition() {
        let mermaid = mermaid(&graph());
        for line in [
            "flowchart RL",
            "  s0[\"web<br/>2 healthy\"]:::good",
            "  s2[\"a#60;b#62;#38;c<br/>no container\"]:::absent",
            "  n1([\"network front\"])",
            "  s0 -.- n1",
            "  s0 -->|service_healthy| s1",
            "  classDef bad fill:#feebec,stroke:#ce2c31,color:#1c2024",
        ] {
            assert!(mermaid.lines().any(|found| found == line), "{line}\n{mermaid}");
        }
        assert!(!mermaid.contains("classDef over"));
    }
}
