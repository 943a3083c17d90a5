//! The project as a Compose file again: what `config` prints.

use serde_json::Value;

use super::model::Project;

/// The resolved project; loading what is printed gives the same project, so each `$` is doubled.
///
/// # Errors
/// When a value has no JSON form, which the model does not allow.
pub fn config(project: &Project) -> serde_json::Result<Value> {
    let mut value = serde_json::to_value(project)?;
    escape(&mut value);
    Ok(value)
}

fn escape(value: &mut Value) {
    match value {
        Value::String(text) if text.contains('$') => *text = text.replace('$', "$$"),
        Value::Array(list) => list.iter_mut().for_each(escape),
        Value::Object(map) => map.values_mut().for_each(escape),
        _ => {}
    }
}
