//! Files made to take forever, or all memory, or the stack, are refused soon; what is only large is read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use crate::{Disk, LoadOptions, load};

fn load_files(files: &[(&str, String)]) -> Result<crate::Project, String> {
    let files = files.iter().map(|(name, text)| (PathBuf::from("/p").join(name), text.clone()));
    let options = LoadOptions {
        disk: Disk::Memory(BTreeMap::from_iter(files)),
        current_dir: PathBuf::from("/p"),
        ..LoadOptions::default()
    };
    load(&options).map_err(|error| error.to_string())
}

fn refused(text: String) -> String {
    load_files(&[("compose.yaml", text)]).unwrap_err()
}

#[test]
fn bombs_are_refused() {
    let mut bomb = "x-0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..30 {
        let below = vec![format!("*a{}", level - 1); 10].join(", ");
        writeln!(bomb, "x-{level}: &a{level} [{below}]").unwrap();
    }
    assert!(refused(bomb).contains("more than 100000 values, aliases counted each time"));
    let nested: String = (0..90).map(|level| format!("{{a: &b{level} ")).collect();
    let wide = "[".to_owned() + &"x, ".repeat(90_000) + "]";
    assert!(refused(format!("x-a: {nested}{wide}{}", "}".repeat(90))).contains("values have anchors"));
    let deep = refused(format!("x-a: {}", "[".repeat(100_000)));
    assert!(deep.contains("compose.yaml:1:"), "{deep}");
    let deep = refused(format!("x-a:\n  {}x", "- ".repeat(100_000)));
    assert!(deep.contains("compose.yaml:2:"), "{deep}");
    assert!(refused("#".repeat(17 << 20)).contains("empty compose file"));
    let ports = ["\"1-65535:1-65535\""; 4].join(", ");
    assert!(refused(format!("services: {{a: {{image: x, ports: [{ports}]}}}}")).contains("more than 200000 ports"));
}

#[test]
fn chains_and_cycles_are_refused() {
    let chain: String = (0..20_000).map(|n| format!("  s{n}: {{extends: s{}}}\n", n + 1)).collect();
    let message = refused(format!("services:\n{chain}  s20000: {{image: x}}\n"));
    assert!(message.contains("more than 100 services extend each other"), "{message}");
    let levels: Vec<String> = (0..30).map(|n| format!("f{n}.yaml")).collect();
    let mut files = vec![("compose.yaml", "include: [f0.yaml]\n".to_owned())];
    for (n, name) in levels.iter().enumerate() {
        // each file twice, so that a file at the end would be read 2^30 times
        files.push((name, format!("include: [f{0}.yaml, {{path: f{0}.yaml}}]\n", n + 1)));
    }
    files.push(("f30.yaml", "services: {a: {image: x}}".to_owned()));
    assert!(load_files(&files).unwrap_err().contains("more than 1000 files are included"));
    let cycle =
        [("compose.yaml", "include: [b.yaml]"), ("b.yaml", "include: [c.yaml]"), ("c.yaml", "include: [b.yaml]")];
    assert!(load_files(&cycle.map(|(name, text)| (name, text.to_owned()))).unwrap_err().contains("include cycle"));
}

#[test]
fn many_errors_are_cut_off() {
    let keys: String = (0..5_000).map(|n| format!("    k{n}: x\n")).collect();
    let files = [(PathBuf::from("/p/compose.yaml"), format!("services:\n  a:\n    image: x\n{keys}"))];
    let options = LoadOptions {
        disk: Disk::Memory(BTreeMap::from(files)),
        current_dir: PathBuf::from("/p"),
        ..LoadOptions::default()
    };
    assert_eq!(load(&options).unwrap_err().0.len(), 1000);
}

#[test]
fn large_files_are_read() {
    let services: String =
        (0..1000).map(|n| format!("  s{n}: {{image: x, environment: {{A: \"${{B:-{n}}}\"}}}}\n")).collect();
    assert_eq!(load_files(&[("compose.yaml", format!("services:\n{services}"))]).unwrap().services.len(), 1000);
    let all = "services: {a: {image: x, ports: [\"1-20000:1-20000\"]}}".to_owned();
    assert_eq!(load_files(&[("compose.yaml", all)]).unwrap().services["a"].ports.len(), 20_000);
    let text = "${A:-x}".repeat(50_000);
    let project =
        load_files(&[("compose.yaml", format!("services: {{a: {{image: x, command: [\"{text}\"]}}}}"))]).unwrap();
    assert_eq!(project.services["a"].command.as_ref().unwrap()[0].len(), 50_000);
}
