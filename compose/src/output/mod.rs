//! A project as text, byte for byte as `docker compose config` prints it: YAML by the rules of Go's yaml package, JSON
//! by those of Go's encoding/json.

mod json;
mod number;
mod order;
mod yaml;

use serde_json::Value;

use super::model::Project;

/// The form of a printed project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// YAML.
    #[default]
    Yaml,
    /// JSON.
    Json,
}

/// A project as `config` prints it: keys in the order of Docker Compose, every `$` doubled so that the text can be loaded
/// again.
pub fn project(project: &Project, format: Format) -> Result<String, serde_json::Error> {
    let value = order::ordered(serde_json::to_value(project)?, format);
    Ok(text(&value, format).replace('$', "$$"))
}

/// A value as text: mappings keep their order in YAML and in JSON.
pub fn text(value: &Value, format: Format) -> String {
    match format {
        Format::Yaml => yaml::text(value, 2),
        Format::Json => json::text(value, "  "),
    }
}

/// A value whose mappings are all sorted by key, in the way of the format.
pub fn sorted(value: Value, format: Format) -> Value {
    order::sorted(value, format)
}

/// Named values, sorted by name, as Go's yaml package indents them when nobody asks for two spaces.
pub fn yaml_wide(values: serde_json::Map<String, Value>) -> String {
    yaml::text(&Value::Object(order::sort(values, Format::Yaml)), 4)
}

/// JSON indented by four spaces.
pub fn json_wide(value: &Value) -> String {
    json::text(value, "    ")
}
