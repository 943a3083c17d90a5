//! What Docker has printed for templates.

use serde_json::Value;

/// A template and what came of it.
pub struct Case {
    pub template: String,
    pub out: String,
    pub err: String,
    pub code: i64,
}

/// The cases of a file.
pub fn cases(recorded: &str) -> Vec<Case> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let case = |line: &str| {
        let value: Value = serde_json::from_str(line).unwrap();
        let [template, out, err] = ["template", "out", "err"].map(|key| text(&value[key]));
        Case { template, out, err, code: value["code"].as_i64().unwrap() }
    };
    recorded.lines().map(case).collect()
}
