use ratatui::Terminal;
use ratatui::backend::TestBackend;

use super::*;

fn row(name: &str, state: &str, health: &str, cpu: f64) -> Row {
    let runs = state == "running";
    let reading = Reading {
        runs,
        cpu,
        memory: 64 << 20,
        memory_limit: 128 << 20,
        net: (1_500, 2_000_000),
        pids: 3,
        ..Reading::default()
    };
    let service = name.rsplit_once('-').map_or(name, |(service, _)| service).to_owned();
    Row { name: name.into(), service, state: state.into(), health: health.into(), reading, ..Row::default() }
}

fn model() -> Model {
    let mut model = Model::new("demo", false);
    for cpu in [0.0, 50.0, 100.0] {
        model.update(vec![
            row("db-1", "running", "healthy", cpu),
            row("web-1", "running", "", 1.0),
            row("web-2", "exited (1)", "", 0.0),
        ]);
    }
    model
}

fn screen(model: &Model, width: u16, height: u16) -> Vec<String> {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model)).unwrap();
    let buffer = terminal.backend().buffer();
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
    (0..height).map(line).collect()
}

#[test]
fn everything_is_on_the_screen() {
    let mut model = model();
    for number in 0..50 {
        model.log(&format!("line {number}\n"));
    }
    let screen = screen(&model, 140, 14);
    assert_eq!(screen[0], "demo   2 of 3 running   cpu 101.0%   memory 192MiB");
    for (index, words) in [
        (1, vec!["NAME", "STATE", "HEALTH", "CPU %", "MEM / LIMIT", "NET I/O", "PIDS"]),
        (2, vec!["db-1", "running", "healthy", "100.0", "▁▅█", "64MiB / 128MiB", "▅▅▅", "1.5kB / 2MB", "3"]),
        (3, vec!["web-1", "running", "1.0", "▁▁▁"]),
        (4, vec!["web-2", "exited (1)"]),
        (5, vec!["log of db-1"]),
    ] {
        let mut from = 0;
        for word in words {
            let line = &screen[index];
            from += line[from..].find(word).unwrap_or_else(|| panic!("{word} in {line}")) + word.len();
        }
    }
    assert_eq!(screen[6..13], (43..50).map(|number| format!("line {number}")).collect::<Vec<_>>());
    assert!(screen[13].contains("? help  q quit"), "{}", screen[13]);
}

#[test]
fn small_screens_show_what_is_selected() {
    let mut model = model();
    for (width, height) in [(1, 1), (10, 3), (20, 5), (500, 2)] {
        screen(&model, width, height);
    }
    model.key(Key::Letter('l'));
    let lines = screen(&model, 100, 4);
    assert!(lines[2].starts_with("db-1") && !lines.iter().any(|line| line.contains("log of")), "{lines:?}");
    model.key(Key::Down);
    model.key(Key::Down);
    model.key(Key::Down);
    let lines = screen(&model, 100, 4);
    assert!(lines[2].starts_with("web-2"), "{lines:?}");
}

#[test]
fn keys_choose_and_ask() {
    let mut model = model();
    assert_eq!(model.key(Key::Letter('r')), Some(Action::Run("restart", "db".into())));
    model.key(Key::Letter('j'));
    assert_eq!(model.key(Key::Letter('s')), Some(Action::Run("stop", "web".into())));
    assert_eq!(model.key(Key::Letter('u')), Some(Action::Run("start", "web".into())));
    // The selection stays with its container.
    model.update(vec![
        row("a-1", "running", "", 0.0),
        row("db-1", "running", "", 0.0),
        row("web-1", "running", "", 0.0),
    ]);
    assert_eq!(model.selected_row().unwrap().name, "web-1");
    model.key(Key::Up);
    model.key(Key::Letter('k'));
    model.key(Key::Up);
    assert_eq!(model.selected_row().unwrap().name, "a-1");
    model.key(Key::Letter('?'));
    assert!(screen(&model, 80, 20).iter().any(|line| line.contains("restart its service")));
    assert_eq!(model.key(Key::Escape), None, "leaves the help");
    assert!(!screen(&model, 80, 20).iter().any(|line| line.contains("restart its service")));
    assert_eq!(model.key(Key::Letter('x')), None);
    assert_eq!(model.key(Key::Escape), Some(Action::Quit));
    assert_eq!(Model::default().key(Key::Letter('r')), None);
}

#[test]
fn logs_cannot_touch_the_screen() {
    let mut model = Model::default();
    model.log("\u{1b}[31mred\u{1b}[0m\u{1b}]0;title\u{7}\tx");
    model.log("\u{1b}]8;;http://h\u{1b}\\y\u{8}\u{1b}(B\n");
    model.log("next");
    assert_eq!(model.log, ["red    xyB", "next"]);
    model.clear_log();
    model.log("other\n");
    assert_eq!(model.log, ["other"]);
    for number in 0..3000 {
        model.log(&format!("{number}\n"));
    }
    assert_eq!((model.log.len(), model.log.back().unwrap().as_str()), (LOG, "2999"));
}

#[test]
fn histories_are_bounded() {
    let mut history = VecDeque::new();
    for value in 0..100 {
        remember(&mut history, f64::from(value));
    }
    assert_eq!(history.len(), HISTORY);
    assert_eq!(sparkline(&VecDeque::from([0.0, 50.0, 100.0, 300.0]), 100.0).trim_start(), "▁▅██");
    assert_eq!(sparkline(&VecDeque::new(), 0.0).len(), HISTORY);
}

#[test]
fn a_progress_bar_is_one_line() {
    let mut model = model();
    for text in ["10%\r", "20%\r30", "%\r", "done\r\n", "next\n", "long", &"x".repeat(100_000), "y\n", "end"] {
        model.log(text);
    }
    let lines: Vec<&str> = model.log.iter().map(|line| line.get(..4).unwrap_or(line)).collect();
    assert_eq!(lines, ["done", "next", "long", "end"]);
}

#[test]
fn a_narrow_screen_has_names_and_states_before_all_else() {
    let model = model();
    for (width, words) in [
        (80, &["db-1", "running", "healthy", "100.0", "64MiB / 128MiB", "3"][..]),
        (66, &["db-1", "running", "healthy", "100.0", "64MiB", "3"]),
        (50, &["db-1", "running", "100.0", "64MiB"]),
        (30, &["db-1", "running"]),
    ] {
        let screen = screen(&model, width, 8);
        let shown: Vec<&str> = screen[2].split_whitespace().collect();
        assert_eq!(shown.join(" "), words.join(" "), "{width}");
        assert_eq!(screen[1].contains("MEM / LIMIT"), width >= 78, "{}", screen[1]);
        assert!(screen.iter().any(|line| line.starts_with("web-1")), "{screen:?}");
    }
}
