//! JSON as Go's encoding/json indents it: characters that mean something in HTML are escaped.

use std::fmt::Write as _;

use serde_json::Value;

/// A value as JSON, each level indented by `indent`; without a newline at the end.
pub(super) fn text(value: &Value, indent: &str) -> String {
    let mut writer = Writer { text: String::new(), indent, depth: 0 };
    writer.value(value);
    writer.text
}

struct Writer<'a> {
    text: String,
    indent: &'a str,
    depth: usize,
}

impl Writer<'_> {
    fn value(&mut self, value: &Value) {
        match value {
            Value::Number(number) => self.text.push_str(&super::number::json(number)),
            Value::String(text) => self.string(text),
            Value::Array(list) if list.is_empty() => self.text.push_str("[]"),
            Value::Array(list) => {
                self.open('[');
                for (index, item) in list.iter().enumerate() {
                    self.line(index);
                    self.value(item);
                }
                self.close(']');
            }
            Value::Object(map) if map.is_empty() => self.text.push_str("{}"),
            Value::Object(map) => {
                self.open('{');
                for (index, (key, value)) in map.iter().enumerate() {
                    self.line(index);
                    self.string(key);
                    self.text.push_str(": ");
                    self.value(value);
                }
                self.close('}');
            }
            scalar => self.text.push_str(&scalar.to_string()),
        }
    }

    fn open(&mut self, bracket: char) {
        self.text.push(bracket);
        self.depth += 1;
    }

    fn close(&mut self, bracket: char) {
        self.depth -= 1;
        self.new_line();
        self.text.push(bracket);
    }

    fn line(&mut self, index: usize) {
        if index > 0 {
            self.text.push(',');
        }
        self.new_line();
    }

    fn new_line(&mut self) {
        self.text.push('\n');
        self.text.push_str(&self.indent.repeat(self.depth));
    }

    fn string(&mut self, text: &str) {
        self.text.push('"');
        for c in text.chars() {
            match c {
                '"' | '\\' => self.text.extend(['\\', c]),
                '\n' => self.text.push_str("\\n"),
                '\r' => self.text.push_str("\\r"),
                '\t' => self.text.push_str("\\t"),
                '\u{8}' => self.text.push_str("\\b"),
                '\u{c}' => self.text.push_str("\\f"),
                '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\0'..='\u{1f}' => {
                    // writing into a String cannot fail
                    let _ = write!(self.text, "\\u{:04x}", u32::from(c));
                }
                c => self.text.push(c),
            }
        }
        self.text.push('"');
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn json_as_go_prints_it() {
        let value = json!({"a": [1, 2.0, null, true], "b": {}, "c": [], "d": "<&>\u{2028}\u{1}\"\\\n é"});
        let expected = "{\n  \"a\": [\n    1,\n    2,\n    null,\n    true\n  ],\n  \"b\": {},\n  \"c\": [],\n  \
                        \"d\": \"\\u003c\\u0026\\u003e\\u2028\\u0001\\\"\\\\\\n é\"\n}";
        assert_eq!(super::text(&value, "  "), expected);
    }
}
