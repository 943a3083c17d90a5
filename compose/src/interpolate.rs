//! Substitution of variables in every text value of a tree; keys are left alone.

use std::collections::{BTreeMap, HashSet};

use super::node::{Node, Problems, Value};
use super::template::{TemplateError, is_template, substitute};

/// Variables by name.
pub(crate) type Environment = BTreeMap<String, String>;

/// Replaces variables in all texts below `node`. Each variable without a value is warned about once.
pub(crate) fn interpolate(
    node: &mut Node,
    environment: &Environment,
    warned: &mut HashSet<String>,
    problems: &mut Problems,
) {
    Interpolation { environment, warned, problems }.node(node, "");
}

struct Interpolation<'a> {
    environment: &'a Environment,
    warned: &'a mut HashSet<String>,
    problems: &'a mut Problems,
}

impl Interpolation<'_> {
    fn node(&mut self, node: &mut Node, path: &str) {
        match &mut node.value {
            Value::Text(text) if is_template(text) => {
                let replaced = self.text(text, node.span, path);
                *text = replaced;
            }
            Value::List(list) => {
                for (index, node) in list.iter_mut().enumerate() {
                    self.node(node, &format!("{path}[{index}]"));
                }
            }
            Value::Map(map) => {
                for (key, entry) in map.iter_mut() {
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    self.node(&mut entry.node, &path);
                }
            }
            _ => {}
        }
    }

    fn text(&mut self, text: &str, span: super::diagnostic::Span, path: &str) -> String {
        let mut unset = Vec::new();
        let lookup = |name: &str| self.environment.get(name).cloned();
        let result = substitute(text, &lookup, &mut |name| unset.push(name.to_owned()));
        for name in unset {
            if self.warned.insert(name.clone()) {
                let message = format!("The \"{name}\" variable is not set. Defaulting to a blank string.");
                self.problems.warning(span, message);
            }
        }
        match result {
            Ok(text) => return text,
            Err(TemplateError::Invalid) => {
                let message = format!("invalid interpolation format for {path}");
                self.problems.error(span, message).help =
                    Some("you may need to escape any $ with another $".to_owned());
            }
            Err(error @ TemplateError::Missing { .. }) => {
                self.problems.error(span, format!("error while interpolating {path}: {error}"));
            }
        }
        String::new()
    }
}

impl std::fmt::Display for TemplateError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Invalid => f.write_str("invalid interpolation format"),
            Self::Missing { name, reason } => {
                write!(f, "required variable {name} is missing a value")?;
                if reason.is_empty() { Ok(()) } else { write!(f, ": {reason}") }
            }
        }
    }
}
