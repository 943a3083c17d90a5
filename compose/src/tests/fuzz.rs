//! What the fuzz targets know (`fuzz/corpus`) is survived in every test run.

use std::path::Path;

use crate::fuzzing;

type Target = fn(&str);

#[test]
fn known_inputs_are_survived() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus");
    let targets: [Target; 3] = [fuzzing::dotenv, fuzzing::project, fuzzing::template];
    for (name, target) in ["dotenv", "project", "template"].into_iter().zip(targets) {
        let mut count = 0;
        for entry in std::fs::read_dir(corpus.join(name)).unwrap() {
            // as libfuzzer's own conversion does it: what is no text is no input
            if let Ok(text) = String::from_utf8(std::fs::read(entry.unwrap().path()).unwrap()) {
                target(&text);
            }
            count += 1;
        }
        assert!((1..=200).contains(&count), "{count} files for {name}");
    }
}
