//! Lists as Docker prints them: a table, JSON, or a template for each row.

use anyhow::{Context as _, Result};
use serde_json::{Map, Value};

use super::table::tabulate;
use crate::out;
use crate::template::Template;

/// A kind of list.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    /// What errors in templates call a row.
    pub type_name: &'static str,
    /// The header of each field; fields without one are shown by templates alone.
    pub headers: &'static [(&'static str, &'static str)],
}

/// One row: its fields, and the labels that `.Label "key"` looks up.
#[derive(Debug, Clone, Default)]
pub struct Row {
    fields: Map<String, Value>,
    labels: Map<String, Value>,
}

impl Row {
    /// A row of these fields.
    pub fn new<'a>(fields: impl IntoIterator<Item = (&'a str, Value)>) -> Self {
        let mut fields: Vec<(String, Value)> = fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        // As Docker's encoder has them.
        fields.sort_by(|a, b| a.0.cmp(&b.0));
        Self { fields: fields.into_iter().collect(), labels: Map::new() }
    }

    /// With labels, also as a field of all of them.
    pub fn with_labels<'a>(mut self, labels: impl IntoIterator<Item = (&'a String, &'a String)>) -> Self {
        let mut all: Vec<(&String, &String)> = labels.into_iter().collect();
        all.sort();
        let text: Vec<String> = all.iter().map(|(key, value)| format!("{key}={value}")).collect();
        self.labels = all.iter().map(|(key, value)| ((*key).clone(), Value::from(value.as_str()))).collect();
        self.fields.insert("Labels".into(), text.join(",").into());
        self.fields.sort_keys();
        self
    }

    /// With another value of a field.
    pub fn with(mut self, field: &str, value: Value) -> Self {
        self.fields.insert(field.to_owned(), value);
        self.fields.sort_keys();
        self
    }

    /// All fields.
    pub fn value(&self) -> Value {
        Value::Object(self.fields.clone())
    }

    fn cell(&self, field: &str) -> String {
        match self.fields.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    fn json(&self) -> String {
        html_safe(&self.value())
    }
}

/// JSON in one line; Docker's encoder writes three characters so that the text can stand in HTML.
pub fn html_safe(value: &Value) -> String {
    value.to_string().replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}

impl Listing {
    /// Prints rows as `format` says; a table of `columns` if it says nothing.
    pub fn print(&self, format: Option<&str>, columns: &[&str], rows: &[Row]) -> Result<()> {
        let text = self.render(format, columns, rows)?;
        crate::ui::write_raw(text.as_bytes());
        Ok(())
    }

    /// Prints one field of each row.
    pub fn print_field(field: &str, rows: &[Row]) {
        rows.iter().for_each(|row| out!("{}", row.cell(field)));
    }

    /// What [`Listing::print`] prints.
    pub fn render(&self, format: Option<&str>, columns: &[&str], rows: &[Row]) -> Result<String> {
        let format = format.unwrap_or("table").trim();
        if matches!(format, "json" | "{{json .}}") {
            return Ok(rows.iter().map(|row| row.json() + "\n").collect());
        }
        if format == "table" || format.is_empty() {
            let header = columns.iter().map(|field| self.title(field)).collect::<Vec<_>>().join("\t");
            let line = |row: &Row| columns.iter().map(|field| row.cell(field)).collect::<Vec<_>>().join("\t");
            let lines: Vec<String> = std::iter::once(header).chain(rows.iter().map(line)).collect();
            return Ok(tabulate(&lines));
        }
        let table = format.strip_prefix("table").filter(|rest| rest.starts_with([' ', '\t', '\\']));
        let body = table.unwrap_or(format).trim().replace("\\t", "\t").replace("\\n", "\n");
        // Docker looks at the templates of `ps` once more, before it asks for containers.
        let (parse, wrong) = match self.type_name {
            "*formatter.ContainerContext" => ("failed to parse template", "failed to execute template"),
            _ => ("template parsing error", "template parsing error"),
        };
        let template = Template::parse(&body).context(parse)?;
        let mut lines = Vec::new();
        if rows.is_empty() {
            // A field that no row has is told also where there is no row.
            let blank = self.headers.iter().map(|(field, _)| ((*field).to_owned(), Value::from(""))).collect();
            template.row(&Value::Object(blank), self.type_name, &Value::Null).context(wrong)?;
        }
        for row in rows {
            let (fields, labels) = (Value::Object(row.fields.clone()), Value::Object(row.labels.clone()));
            lines.push(template.row(&fields, self.type_name, &labels).context(wrong)?);
        }
        if table.is_none() {
            return Ok(lines.into_iter().map(|line| line + "\n").collect());
        }
        let titles = self.headers.iter().map(|(field, title)| ((*field).to_owned(), Value::from(*title))).collect();
        lines.insert(0, template.header(&Value::Object(titles)).context(wrong)?);
        Ok(tabulate(&lines.join("\n").lines().map(str::to_owned).collect::<Vec<_>>()))
    }

    fn title<'a>(&self, field: &'a str) -> &'a str {
        self.headers.iter().find(|(known, _)| *known == field).map_or(field, |(_, title)| title)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::template::cases;

    const LISTING: Listing =
        Listing { type_name: "*formatter.ContainerContext", headers: &crate::commands::container::ls::HEADERS };

    #[test]
    fn templates_of_lists_are_as_dockers() {
        let row: Value = serde_json::from_str(include_str!("../../tests/templates/ps.data.json")).unwrap();
        let row = Row {
            fields: row.as_object().unwrap().clone(),
            labels: Map::from_iter([("com.example.role".to_owned(), "web".into()), ("z".to_owned(), "1".into())]),
        };
        let mut wrong = Vec::new();
        for case in cases(include_str!("../../tests/templates/ps.recorded.jsonl")) {
            let skipped = [
                // Go prints what its structs are made of.
                "{{$}}",
                // The words depend on the time.
                "table",
                // Docker counts from the word `table` on, and tells less of what cannot be ranged over.
                "table {{.Nosuch}}",
                "{{range .Names}}x{{end}}",
                "{{.Names.Foo}}",
            ];
            if skipped.contains(&case.template.as_str()) {
                continue;
            }
            let id_is_short = case.template.contains("ID | len");
            let (out, err) = match LISTING.render(Some(&case.template), &["ID"], std::slice::from_ref(&row)) {
                Ok(out) => (out, String::new()),
                Err(error) => (String::new(), format!("{error:#}\n")),
            };
            if (&out, &err) != (&case.out, &case.err) && !id_is_short {
                wrong.push(format!(
                    "{}\n  ours   {out:?} {err:?}\n  docker {:?} {:?}",
                    case.template, case.out, case.err
                ));
            }
        }
        assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
    }
}
