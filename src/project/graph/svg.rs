//! The graph drawn: services in columns, what they depend on to the left of
//! them, an arrow to each with its condition.

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

/// Draws a graph.
pub fn svg(graph: &Graph) -> String {
    let layers = layers(&graph.nodes);
    let tallest = layers.iter().map(Vec::len).max().unwrap_or(0);
    let (columns, rows) = (count(layers.len()), count(tallest));
    let places = places(graph, &layers, rows);
    let mut body = format!("<text class=\"head\" x=\"{EDGE}\" y=\"32\">{}</text>\n", svg::escape(&graph.name));
    body.push_str(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"7\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" orient=\"auto-start-reverse\"><path class=\"tip\" d=\"M0 0L8 4L0 8z\"/></marker></defs>\n",
    );
    let mut labels = String::new();
    for (place, node) in graph.nodes.iter().enumerate() {
        for (other, condition) in &node.depends_on {
            if let (Some(from), Some(to)) = (places.get(place), places.get(*other)) {
                arrow(&mut body, &mut labels, *from, *to, condition);
            }
        }
    }
    for (node, (x, y)) in graph.nodes.iter().zip(&places) {
        card(&mut body, node, *x, *y);
    }
    // Above all arrows.
    body.push_str(&labels);
    let width = EDGE * 2 + columns * WIDTH + columns.saturating_sub(1) * GAP;
    let height = TOP + rows * (HEIGHT + SPACE) + EDGE;
    svg::document(width.max(260), height, &graph.name, &style(), DARK, &body)
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

/// Services by column: each right of all that it depends on.
fn layers(nodes: &[Node]) -> Vec<Vec<usize>> {
    let mut column = vec![0_usize; nodes.len()];
    // A cycle, which only labels of others could hold, ends here all the same.
    for _ in 0..nodes.len() {
        for (place, node) in nodes.iter().enumerate() {
            let needed = node.depends_on.iter().filter(|(other, _)| *other != place);
            let least = needed.filter_map(|(other, _)| column.get(*other)).map(|it| it + 1).max().unwrap_or(0);
            if let Some(its) = column.get_mut(place) {
                *its = least.min(nodes.len() - 1);
            }
        }
    }
    let mut layers = vec![Vec::new(); column.iter().max().map_or(0, |last| last + 1)];
    for (place, column) in column.into_iter().enumerate() {
        if let Some(layer) = layers.get_mut(column) {
            layer.push(place);
        }
    }
    // Columns that a cycle has left empty.
    layers.retain(|layer: &Vec<usize>| !layer.is_empty());
    layers
}

/// Where each service stands: in its column, near what it depends on.
fn places(graph: &Graph, layers: &[Vec<usize>], rows: u32) -> Vec<(u32, u32)> {
    let mut places = vec![(0, 0); graph.nodes.len()];
    for (column, layer) in layers.iter().enumerate() {
        let middle = |place: &usize| -> u32 {
            let needed = graph.nodes.get(*place).map(|node| node.depends_on.as_slice()).unwrap_or_default();
            let heights = needed.iter().filter_map(|(other, _)| places.get(*other)).map(|(_, y)| *y);
            heights.sum::<u32>() / count(needed.len()).max(1)
        };
        let mut layer = layer.clone();
        layer.sort_by_key(|place| (middle(place), *place));
        let x = EDGE + count(column) * (WIDTH + GAP);
        let free = rows.saturating_sub(count(layer.len())) * (HEIGHT + SPACE) / 2;
        for (row, place) in layer.into_iter().enumerate() {
            if let Some(its) = places.get_mut(place) {
                *its = (x, TOP + free + count(row) * (HEIGHT + SPACE));
            }
        }
    }
    places
}

fn arrow(body: &mut String, labels: &mut String, from: (u32, u32), to: (u32, u32), condition: &str) {
    let (x1, y1) = (from.0, from.1 + HEIGHT / 2);
    let (x2, y2) = (to.0 + WIDTH, to.1 + HEIGHT / 2);
    let bend = x1.abs_diff(x2) / 2;
    let _ = writeln!(
        body,
        "<path class=\"arrow\" marker-end=\"url(#tip)\" d=\"M{x1} {y1}C{} {y1} {} {y2} {} {y2}\"/>",
        x1.saturating_sub(bend),
        x2 + bend,
        x2 + 2
    );
    // Near its beginning, where arrows to the same service are still apart.
    let (x, y) = (x1.saturating_sub(12), (y1 * 3 + y2) / 4);
    let words = condition.strip_prefix("service_").unwrap_or(condition).replace('_', " ");
    let _ = writeln!(
        labels,
        "<text class=\"dim on\" x=\"{x}\" y=\"{}\" text-anchor=\"end\">{words}</text>",
        y.saturating_sub(4)
    );
}

fn card(body: &mut String, node: &Node, x: u32, y: u32) {
    let short = |text: &str| match text.chars().count() > 26 {
        true => text.chars().take(25).chain(['…']).collect(),
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
        let layers = layers(&graph.nodes);
        assert_eq!(layers, [vec![1], vec![2], vec![0]]);
        let places = places(&graph, &layers, 1);
        assert!(places[1].0 < places[2].0 && places[2].0 < places[0].0, "{places:?}");
    }

    #[test]
    fn a_cycle_is_drawn_all_the_same() {
        let mut graph = graph();
        graph.nodes[1].depends_on.push((0, "service_started"));
        assert_eq!(layers(&graph.nodes).iter().map(Vec::len).sum::<usize>(), 3);
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
