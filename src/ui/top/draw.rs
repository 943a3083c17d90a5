//! The view on a terminal.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::{Block, Borders, Cell, Clear, Paragraph, Row as TableRow, Table};

use super::{HISTORY, Model, Row, sparkline};
use crate::ui::human::{binary_size, size};

const KEYS: [(&str, &str); 7] = [
    ("↑ ↓  k j", "select a container"),
    ("r", "restart its service"),
    ("s", "stop its service"),
    ("u", "start its service"),
    ("l", "show or hide its log"),
    ("?", "this help"),
    ("q", "quit"),
];

/// Draws all of it.
pub fn draw(frame: &mut Frame<'_>, model: &Model) {
    let rows = u16::try_from(model.rows.len()).unwrap_or(u16::MAX).saturating_add(1);
    let parts = if model.hide_logs {
        Layout::vertical([Constraint::Length(1), Constraint::Min(1), Constraint::Length(0), Constraint::Length(1)])
    } else {
        // The containers get what they need, but half of the screen stays for the log.
        let most = frame.area().height.saturating_sub(2) / 2;
        let table = Constraint::Length(rows.min(most.max(2)));
        Layout::vertical([Constraint::Length(1), table, Constraint::Min(3), Constraint::Length(1)])
    };
    let [head, table, log, foot] = parts.areas(frame.area());
    frame.render_widget(Paragraph::new(heading(model)), head);
    frame.render_widget(containers(model, table), table);
    if !model.hide_logs {
        frame.render_widget(logs(model, log), log);
    }
    frame.render_widget(Paragraph::new(footer(model)), foot);
    if model.help {
        help(frame);
    }
}

fn heading(model: &Model) -> Line<'static> {
    let up = model.rows.iter().filter(|row| row.reading.runs).count();
    let cpu: f64 = model.rows.iter().map(|row| row.reading.cpu).sum();
    let memory: u64 = model.rows.iter().map(|row| row.reading.memory).sum();
    Line::from(vec![
        Span::styled(model.project.clone(), Style::new().add_modifier(Modifier::BOLD)),
        Span::raw(format!("   {up} of {} running   cpu {cpu:.1}%   memory {}", model.rows.len(), binary_size(memory))),
    ])
}

fn footer(model: &Model) -> Line<'static> {
    if !model.notice.is_empty() {
        return Line::raw(model.notice.clone());
    }
    Line::styled(
        "↑↓ select  r restart  s stop  u start  l log  ? help  q quit",
        Style::new().add_modifier(Modifier::DIM),
    )
}

fn containers(model: &Model, area: Rect) -> Table<'static> {
    let limits = area.width >= 78;
    let memory = if limits { "MEM / LIMIT" } else { "MEM" };
    let header = ["NAME", "STATE", "HEALTH", "CPU %", "", memory, "", "NET I/O", "PIDS"];
    // Scrolled so that the selected one is to be seen.
    let visible = usize::from(area.height.saturating_sub(1)).max(1);
    let first = (model.selected + 1).saturating_sub(visible);
    let rows = model.rows.iter().enumerate().skip(first).map(|(index, row)| line(model, index, row, limits));
    // What is left out first on a narrow screen; the name is the last to go.
    let from = |least: u16, width: u16| Constraint::Length(if area.width >= least { width } else { 0 });
    let history = from(125, u16::try_from(HISTORY).unwrap_or(16));
    let widths = [
        Constraint::Min(8),
        Constraint::Length(if area.width >= 44 { 14 } else { 10 }),
        from(58, 9),
        from(34, 6),
        history,
        if limits { Constraint::Length(21) } else { from(48, 10) },
        history,
        from(92, 17),
        from(64, 5),
    ];
    Table::new(rows, widths).header(TableRow::new(header).style(Style::new().add_modifier(Modifier::BOLD)))
}

/// With the memory's limit where there is room for it.
fn line(model: &Model, index: usize, row: &Row, limits: bool) -> TableRow<'static> {
    let reading = &row.reading;
    // A hundred percent fill a sparkline of the CPU, or whatever was more.
    let most = row.history.cpu.iter().copied().fold(100.0, f64::max);
    let paint = |colour: Color| if model.colour { Style::new().fg(colour) } else { Style::new() };
    let state = match row.state.as_str() {
        "running" => paint(Color::Green),
        state if state.starts_with("exited (0") => Style::new(),
        state if state.starts_with("exited") => paint(Color::Red),
        _ => paint(Color::Yellow),
    };
    let health = match row.health.as_str() {
        "healthy" => paint(Color::Green),
        "unhealthy" => paint(Color::Red),
        _ => paint(Color::Yellow),
    };
    let used = |text: String| if reading.runs { text } else { String::new() };
    let memory = match limits {
        true => format!("{} / {}", binary_size(reading.memory), binary_size(reading.memory_limit)),
        false => binary_size(reading.memory),
    };
    let cells = [
        Cell::new(row.name.clone()),
        Cell::new(row.state.clone()).style(state),
        Cell::new(row.health.clone()).style(health),
        Cell::new(used(format!("{:.1}", reading.cpu))),
        Cell::new(used(sparkline(&row.history.cpu, most))).style(paint(Color::Cyan)),
        Cell::new(used(memory)),
        Cell::new(used(sparkline(&row.history.memory, 100.0))).style(paint(Color::Magenta)),
        Cell::new(used(format!("{} / {}", size(reading.net.0), size(reading.net.1)))),
        Cell::new(used(reading.pids.to_string())),
    ];
    let style = if index == model.selected { Style::new().add_modifier(Modifier::REVERSED) } else { Style::new() };
    TableRow::new(cells).style(style)
}

fn logs(model: &Model, area: Rect) -> Paragraph<'static> {
    let height = usize::from(area.height.saturating_sub(1));
    let first = model.log.len().saturating_sub(height);
    let lines: Vec<Line<'static>> = model.log.iter().skip(first).map(|line| Line::raw(line.clone())).collect();
    let title = model.selected_row().map(|row| format!(" log of {} ", row.name)).unwrap_or_default();
    Paragraph::new(lines).block(Block::new().borders(Borders::TOP).title(title))
}

fn help(frame: &mut Frame<'_>) {
    let area = frame.area();
    let (width, height) = (40.min(area.width), 9.min(area.height));
    let place = Rect::new((area.width - width) / 2, (area.height - height) / 2, width, height);
    let lines: Vec<Line<'static>> = KEYS.iter().map(|(key, what)| Line::raw(format!(" {key:<10} {what}"))).collect();
    frame.render_widget(Clear, place);
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(" keys ")), place);
}
