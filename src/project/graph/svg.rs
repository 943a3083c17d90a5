//! The graph drawn: services in columns, what they depend on to the left of
//! them, an arrow to each with its condition.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::{Graph, Node, Tone};
use crate::ui::svg;

const WIDTH: u32 = 190;
const HEIGHT: u32 = 62;
/// Between columns: room for the words of a condition.
const GAP: u32 = 230;
/// Between the boxes of a column.
const SPACE: u32 = 26;
const TOP: u32 = 56;
const EDGE: u32 = 24;

/// A dependency: the place of the service, and of what it depends on.
type Edge = (usize, usize);

/// Where everything stands.
#[derive(Debug, Default)]
struct Layout {
    /// The upper left corner of each service's box.
    boxes: Vec<(u32, u32)>,
    /// Where an arrow passes columns on its way, from its tip on: the left end of a line as wide as the column.
    passes: BTreeMap<Edge, Vec<(u32, u32)>>,
    /// The lower end.
    bottom: u32,
}

/// What takes up room in a column.
#[derive(Clone, Copy)]
enum Slot {
    Service(usize),
    Pass(Edge),
}

/// Draws a graph.
pub fn svg(graph: &Graph) -> String {
    let columns = columns(&graph.nodes);
    let layout = layout(graph, &columns);
    let mut body = format!("<text class=\"head\" x=\"{EDGE}\" y=\"32\">{}</text>\n", svg::escape(&graph.name));
    body.push_str(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0L8 4L0 8z\"/></marker></defs>\n",
    );
    let mut labels = String::new();
    for (place, node) in graph.nodes.iter().enumerate() {
        for (other, condition) in &node.depends_on {
            arrow(&mut body, &mut labels, graph, &layout, (place, *other), condition);
        }
    }
    for (node, (x, y)) in graph.nodes.iter().zip(&layout.boxes) {
        card(&mut body, node, *x, *y);
    }
    // Above all arrows.
    body.push_str(&labels);
    let last = columns.iter().max().map_or(0, |last| count(*last));
    let width = EDGE * 2 + WIDTH + last * (WIDTH + GAP);
    svg::document(width.max(260), layout.bottom + EDGE, &graph.name, &style(), DARK, &body)
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX / 1024)
}

fn style() -> String {
    let mut style = String::from(
        ".arrow{fill:none;stroke:#80838d;stroke-width:1.5}.tip{fill:#80838d}.on{paint-order:stroke;stroke:#ffffff;stroke-width:4px}.box{stroke-width:1.5}.name{font-weight:600}",
    );
    for tone in Tone::ALL {
        let (fill, line) = tone.colours();
        let _ = write!(style, ".{}{{fill:{fill};stroke:{line}}}", tone.name());
    }
    style
}

const DARK: &str = ".on{stroke:#18191b}.absent{fill:#212225}.over{fill:#272a2d}.good{fill:#132d21;stroke:#3dd68c}.coming{fill:#302008;stroke:#ffca16}.bad{fill:#3b1219;stroke:#ff9592}.arrow{stroke:#9b9ea6}.tip{fill:#9b9ea6}";

/// The column of each service: right of all that it depends on.
fn columns(nodes: &[Node]) -> Vec<usize> {
    let mut columns = vec![0_usize; nodes.len()];
    // A cycle, which only labels of others could hold, ends here all the same.
    for _ in 0..nodes.len() {
        for (place, node) in nodes.iter().enumerate() {
            let needed = node.depends_on.iter().filter(|(other, _)| *other != place);
            let least = needed.filter_map(|(other, _)| columns.get(*other)).map(|it| it + 1).max().unwrap_or(0);
            if let Some(its) = columns.get_mut(place) {
                *its = least.min(nodes.len() - 1);
            }
        }
    }
    columns
}

/// Column by column, each service and each arrow that passes near the height of where it leads.
fn layout(graph: &Graph, columns: &[usize]) -> Layout {
    let mut layout = Layout { boxes: vec![(0, 0); graph.nodes.len()], bottom: TOP, ..Layout::default() };
    let column = |place: usize| columns.get(place).copied().unwrap_or(0);
    let edges: Vec<Edge> = graph
        .nodes
        .iter()
        .enumerate()
        .flat_map(|(place, node)| node.depends_on.iter().map(move |(other, _)| (place, *other)))
        .collect();
    for now in 0..=columns.iter().max().copied().unwrap_or(0) {
        let services = (0..graph.nodes.len()).filter(|place| column(*place) == now).map(Slot::Service);
        let passing = edges.iter().filter(|(from, to)| column(*to) < now && now < column(*from));
        let mut slots: Vec<(u32, Slot)> = services
            .chain(passing.map(|edge| Slot::Pass(*edge)))
            .map(|slot| (aim(slot, &edges, &layout), slot))
            .collect();
        // The order of the file where nothing else tells.
        slots.sort_by_key(|(aim, _)| *aim);
        let x = EDGE + count(now) * (WIDTH + GAP);
        let mut y = TOP;
        for (_, slot) in slots {
            match slot {
                Slot::Service(place) => {
                    if let Some(its) = layout.boxes.get_mut(place) {
                        *its = (x, y);
                    }
                    y += HEIGHT + SPACE;
                }
                Slot::Pass(edge) => {
                    layout.passes.entry(edge).or_default().push((x, y));
                    y += SPACE;
                }
            }
        }
        layout.bottom = layout.bottom.max(y);
    }
    layout
}

/// The height that something leads to.
fn aim(slot: Slot, edges: &[Edge], layout: &Layout) -> u32 {
    match slot {
        Slot::Pass(edge) => before(edge, layout),
        Slot::Service(place) => {
            let own: Vec<u32> =
                edges.iter().filter(|(from, _)| *from == place).map(|edge| before(*edge, layout)).collect();
            own.iter().sum::<u32>() / count(own.len()).max(1)
        }
    }
}

/// The height at which an arrow comes to the column after those that are laid out.
fn before((from, to): Edge, layout: &Layout) -> u32 {
    let pass = layout.passes.get(&(from, to)).and_then(|passes| passes.last());
    pass.map_or_else(|| layout.boxes.get(to).map_or(TOP, |(_, y)| y + HEIGHT / 2), |(_, y)| *y)
}

/// The height of one of the points where arrows meet a box, in the order of where they come from or lead to.
fn port(top: u32, mut heights: Vec<(u32, Edge)>, edge: Edge) -> u32 {
    heights.sort_unstable();
    let place = heights.iter().position(|(_, other)| *other == edge).unwrap_or(0);
    top + HEIGHT * (count(place) + 1) / (count(heights.len()) + 1)
}

fn arrow(body: &mut String, labels: &mut String, graph: &Graph, layout: &Layout, edge: Edge, condition: &str) {
    let (Some(&from), Some(&to)) = (layout.boxes.get(edge.0), layout.boxes.get(edge.1)) else { return };
    let own = |place: usize| {
        let needed = graph.nodes.get(place).map(|node| node.depends_on.as_slice()).unwrap_or_default();
        needed.iter().map(move |(other, _)| (place, *other))
    };
    let leaving = own(edge.0).map(|edge| (before(edge, layout), edge)).collect();
    let arriving = (0..graph.nodes.len()).flat_map(own).filter(|(_, to)| *to == edge.1).map(|edge| {
        let first = layout.passes.get(&edge).and_then(|passes| passes.first()).map(|(_, y)| *y);
        (first.or_else(|| layout.boxes.get(edge.0).map(|(_, y)| y + HEIGHT / 2)).unwrap_or(0), edge)
    });
    let (x1, y1) = (from.0, port(from.1, leaving, edge));
    let (x2, y2) = (to.0 + WIDTH + 2, port(to.1, arriving.collect(), edge));
    let mut path = format!("M{x1} {y1}");
    let mut at = (x1, y1);
    let passes = layout.passes.get(&edge).map(Vec::as_slice).unwrap_or_default();
    let points = passes.iter().rev().map(|(x, y)| ((x + WIDTH, *y), Some(*x))).chain([((x2, y2), None)]);
    for ((x, y), along) in points {
        let bend = at.0.abs_diff(x) / 2;
        let _ = write!(path, "C{} {} {} {y} {x} {y}", at.0.saturating_sub(bend), at.1, x + bend);
        at = (along.unwrap_or(x), y);
        if let Some(along) = along {
            let _ = write!(path, "H{along}");
        }
    }
    let _ = writeln!(body, "<path class=\"arrow\" marker-end=\"url(#tip)\" d=\"{path}\"/>");
    // Near its beginning, where arrows to the same service are still apart.
    let words = condition.strip_prefix("service_").unwrap_or(condition).replace('_', " ");
    let (x, y) = (x1.saturating_sub(10), y1.saturating_sub(3));
    let _ = writeln!(labels, "<text class=\"dim on\" x=\"{x}\" y=\"{y}\" text-anchor=\"end\">{words}</text>");
}

fn card(body: &mut String, node: &Node, x: u32, y: u32) {
    let short = |text: &str| match text.chars().count() > 25 {
        true => text.chars().take(24).chain(['…']).collect(),
        false => text.to_owned(),
    };
    let title = format!("{}: {}; networks: {}", node.name, node.state, node.networks.join(", "));
    let _ = writeln!(body, "<g><title>{}</title>", svg::escape(&title));
    let tone = node.tone.name();
    let _ = writeln!(
        body,
        "<rect class=\"box {tone}\" x=\"{x}\" y=\"{y}\" width=\"{WIDTH}\" height=\"{HEIGHT}\" rx=\"6\"/>"
    );
    let lines = [("name", short(&node.name)), ("", short(&node.state)), ("dim", short(&node.networks.join(" · ")))];
    for (row, (class, text)) in lines.iter().enumerate().filter(|(_, (_, text))| !text.is_empty()) {
        let (x, y) = (x + 12, y + 19 + count(row) * 18);
        let _ = writeln!(body, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", svg::escape(text));
    }
    body.push_str("</g>\n");
}

#[cfg(test)]
mod tests {
    use super::super::tests::graph;
    use super::*;

    #[test]
    fn each_service_stands_right_of_what_it_depends_on() {
        let graph = graph();
        let columns = columns(&graph.nodes);
        assert_eq!(columns, [2, 0, 1]);
        let layout = layout(&graph, &columns);
        assert!(layout.boxes[1].0 < layout.boxes[2].0 && layout.boxes[2].0 < layout.boxes[0].0, "{layout:?}");
        // The arrow from the last column to the first has a way of its own past the one between.
        let (x, y) = layout.passes[&(0, 1)][0];
        let (left, top) = layout.boxes[2];
        assert!(x == left && (y < top || y > top + HEIGHT), "{layout:?}");
    }

    #[test]
    fn a_cycle_is_drawn_all_the_same() {
        let mut graph = graph();
        graph.nodes[1].depends_on.push((0, "service_started"));
        assert_eq!(svg(&graph).matches("class=\"arrow\"").count(), 4);
    }

    #[test]
    fn the_drawing_has_every_name_state_network_and_condition_as_text() {
        let drawn = svg(&graph());
        for text in [
            ">web<",
            ">2 healthy<",
            ">front · back<",
            ">unhealthy<",
            ">healthy<",
            ">completed successfully<",
            "a&lt;b&gt;&amp;c",
            "de&quot;mo",
        ] {
            assert!(drawn.contains(text), "{text}\n{drawn}");
        }
        assert_eq!(drawn.matches("class=\"arrow\"").count(), 3);
        assert!(drawn.starts_with("<svg xmlns") && drawn.ends_with("</svg>\n"));
    }
}
