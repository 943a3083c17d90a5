//! Progress as JSON, a line per change, in the form of BuildKit's `--progress=rawjson`.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use umiak_images::digest::Digest;

use super::{End, Shown};

/// The wall clock at a moment, RFC 3339.
fn time(moment: Instant) -> String {
    let ago = jiff::SignedDuration::try_from(moment.elapsed()).unwrap_or_default();
    jiff::Timestamp::now().checked_sub(ago).unwrap_or_else(|_| jiff::Timestamp::now()).to_string()
}

/// What a step is known by.
fn digest(shown: &Shown, index: usize) -> String {
    let title = shown.steps.get(index).map(|entry| entry.title.as_str()).unwrap_or_default();
    Digest::of(format!("{index} {title}").as_bytes()).to_string()
}

fn put(shown: &mut Shown, value: &Value) {
    let line = format!("{value}\n");
    match &mut shown.held {
        Some(held) => held.push_str(&line),
        None => super::print(&line),
    }
}

/// A step has begun or ended.
pub fn vertex(shown: &mut Shown, index: usize) {
    let Some(entry) = shown.steps.get(index) else { return };
    let mut vertex = json!({
        "digest": digest(shown, index),
        "name": entry.title,
        "started": time(entry.began),
    });
    if let Some((at, end)) = &entry.ended {
        vertex["completed"] = time(*at).into();
        match end {
            End::Done => {}
            End::Cached => vertex["cached"] = true.into(),
            End::Cancelled => vertex["error"] = "context canceled".into(),
            End::Failed(error) => vertex["error"] = error.as_str().into(),
        }
    }
    put(shown, &json!({ "vertexes": [vertex] }));
}

/// A part of a step has begun, gone on or ended.
pub fn status(shown: &mut Shown, index: usize, part: usize) {
    let digest = digest(shown, index);
    let Some(part) = shown.steps.get(index).and_then(|entry| entry.parts.get(part)) else { return };
    if part.warning {
        let short = STANDARD.encode(part.name.trim_start_matches("WARN: ").as_bytes());
        put(shown, &json!({ "warnings": [{ "vertex": digest, "level": 1, "short": short }] }));
        return;
    }
    let (now, total) = part.bytes.unwrap_or_default();
    let mut status = json!({ "id": part.name, "vertex": digest, "current": now });
    if total > 0 {
        status["total"] = total.into();
    }
    status["timestamp"] = time(Instant::now()).into();
    status["started"] = time(part.began).into();
    if let Some(ended) = part.ended {
        status["completed"] = time(ended).into();
    }
    put(shown, &json!({ "statuses": [status] }));
}

/// A step says something.
pub fn logs(shown: &mut Shown, index: usize, lines: &[(f64, String)]) {
    let digest = digest(shown, index);
    let now = time(Instant::now());
    let log = |(_, line): &(f64, String)| {
        let data = STANDARD.encode(format!("{line}\n"));
        json!({ "vertex": digest, "stream": 1, "data": data, "timestamp": now })
    };
    let logs: Vec<Value> = lines.iter().map(log).collect();
    put(shown, &json!({ "logs": logs }));
}
