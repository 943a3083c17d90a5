//! The diagnostics of `errors/NAME.yaml`, word for word as in `errors/NAME.txt`. `UPDATE=1` writes them anew.

use std::collections::BTreeMap;
use std::path::Path;

use crate::{LoadOptions, load};

#[test]
fn diagnostics() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/errors");
    let mut files: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    assert!(!files.is_empty());
    let mut failed = Vec::new();
    for file in files {
        let options = LoadOptions {
            files: vec![file.clone()],
            current_dir: directory.clone(),
            project_name: Some("case".to_owned()),
            environment: BTreeMap::from([("HOME".to_owned(), "/root".to_owned())]),
            for_running: true,
            ..LoadOptions::default()
        };
        let found = match load(&options) {
            Ok(project) => project.warnings,
            Err(error) => error.0,
        };
        let text: String = found.iter().map(|diagnostic| format!("{}\n", diagnostic.render())).collect();
        let expected = file.with_extension("txt");
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&expected, &text).unwrap();
        }
        if std::fs::read_to_string(&expected).unwrap_or_default() != text {
            failed.push(format!("== {}\n{text}", file.display()));
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}
