//! What the fuzz targets in `fuzz/` call, and the tests with what they found. Nothing here touches the disk.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::disk::Disk;
use super::load::{LoadOptions, load, load_tree};
use super::{dotenv, template};

/// Begins the line that gives the name of the file that follows.
const NEXT_FILE: &str = "#### ";

fn variable(name: &str) -> Option<String> {
    match name {
        "HOME" => Some("/root".to_owned()),
        "SET" => Some("value".to_owned()),
        "NUMBER" => Some("2".to_owned()),
        "EMPTY" => Some(String::new()),
        _ => None,
    }
}

/// Loads a project: `compose.yaml`, and after lines of `#### NAME` other files. Whatever it is, it can be printed.
pub fn project(input: &str) {
    let mut files = BTreeMap::new();
    let (mut name, mut text) = ("compose.yaml", String::new());
    for line in input.split_inclusive('\n') {
        match line.strip_prefix(NEXT_FILE) {
            Some(next) => {
                files.insert(PathBuf::from("/p").join(name), std::mem::take(&mut text));
                name = next.trim();
            }
            None => text.push_str(line),
        }
    }
    files.insert(PathBuf::from("/p").join(name), text);
    let names = ["HOME", "SET", "NUMBER", "EMPTY"];
    let options = LoadOptions {
        disk: Disk::Memory(files),
        current_dir: PathBuf::from("/p"),
        environment: names.iter().filter_map(|name| Some(((*name).to_owned(), variable(name)?))).collect(),
        profiles: vec!["*".to_owned()],
        ..LoadOptions::default()
    };
    match load(&options) {
        Ok(project) => {
            let _ = serde_json::to_value(&project);
            let all: Vec<_> = project.services.values().collect();
            let _ = project.levels(&all);
            project.warnings.iter().for_each(|warning| drop(warning.render().to_string()));
        }
        Err(error) => {
            assert!(!error.0.is_empty(), "an error that says nothing");
            error.0.iter().for_each(|error| drop(error.render().to_string()));
        }
    }
    let _ = load_tree(&options);
}

/// Replaces the variables of a text.
pub fn template(input: &str) {
    let _ = template::substitute(input, &variable, &mut |_| {});
    let _ = template::uses(input);
}

/// Reads an environment file, in both formats.
pub fn dotenv(input: &str) {
    let _ = dotenv::parse(input, &mut BTreeMap::new(), &variable, &mut |_| {});
    let _ = dotenv::parse_raw(input, &mut BTreeMap::new(), &variable);
}
