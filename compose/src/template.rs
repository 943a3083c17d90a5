//! `${…}` in one text: all forms of Compose, nested, evaluated only where used.

/// What can go wrong with a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TemplateError {
    /// Not a form of substitution.
    Invalid,
    /// `${NAME?reason}` without a value.
    Missing { name: String, reason: String },
}

/// Nesting of substitutions at most.
const MAX_DEPTH: usize = 100;

/// Replaces what `template` refers to. `lookup` gives a variable's value; `unset` is told of each variable that was
/// used without a value and without a default.
pub(crate) fn substitute(
    template: &str,
    lookup: &dyn Fn(&str) -> Option<String>,
    unset: &mut dyn FnMut(&str),
) -> Result<String, TemplateError> {
    Evaluation { lookup, unset }.text(template, 0)
}

/// Whether a text has anything to replace or to unescape.
pub(crate) fn is_template(text: &str) -> bool {
    text.contains('$')
}

struct Evaluation<'a> {
    lookup: &'a dyn Fn(&str) -> Option<String>,
    unset: &'a mut dyn FnMut(&str),
}

impl Evaluation<'_> {
    fn text(&mut self, template: &str, depth: usize) -> Result<String, TemplateError> {
        if depth > MAX_DEPTH {
            return Err(TemplateError::Invalid);
        }
        let mut result = String::with_capacity(template.len());
        let mut rest = template;
        while let Some(dollar) = rest.find('$') {
            result.push_str(&rest[..dollar]);
            let after = &rest[dollar + 1..];
            rest = match after.as_bytes().first() {
                Some(b'$') => {
                    result.push('$');
                    &after[1..]
                }
                Some(b'{') => {
                    let (inner, end) = braced(after).ok_or(TemplateError::Invalid)?;
                    result.push_str(&self.expression(inner, depth)?);
                    &after[end..]
                }
                _ => {
                    let (name, left) = after.split_at(name_length(after));
                    match name {
                        "" => result.push('$'),
                        name => result.push_str(&self.variable(name)),
                    }
                    left
                }
            };
        }
        result.push_str(rest);
        Ok(result)
    }

    fn variable(&mut self, name: &str) -> String {
        (self.lookup)(name).unwrap_or_else(|| {
            (self.unset)(name);
            String::new()
        })
    }

    /// Evaluates what stands between the braces.
    fn expression(&mut self, inner: &str, depth: usize) -> Result<String, TemplateError> {
        let (name, operation) = inner.split_at(name_length(inner));
        if name.is_empty() {
            return Err(TemplateError::Invalid);
        }
        if operation.is_empty() {
            return Ok(self.variable(name));
        }
        // with a colon, an empty value counts as none
        let (colon, operation) = operation.strip_prefix(':').map_or((false, operation), |rest| (true, rest));
        let value = (self.lookup)(name);
        let present = value.as_ref().is_some_and(|value| !(colon && value.is_empty()));
        let Some(operand) = operation.get(1..) else { return Err(TemplateError::Invalid) };
        match operation.as_bytes()[0] {
            b'-' if present => Ok(value.unwrap_or_default()),
            b'-' => self.text(operand, depth + 1),
            b'+' if present => self.text(operand, depth + 1),
            b'+' => Ok(value.unwrap_or_default()),
            b'?' if present => Ok(value.unwrap_or_default()),
            b'?' => {
                let reason = self.text(operand, depth + 1)?;
                Err(TemplateError::Missing { name: name.to_owned(), reason })
            }
            _ => Err(TemplateError::Invalid),
        }
    }
}

/// One use of a variable: its name, and the operator with what stands behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Use<'a> {
    /// Name.
    pub name: &'a str,
    /// `-`, `+` or `?`, with or without a colon before it.
    pub operator: Option<char>,
    /// What stands behind the operator.
    pub operand: &'a str,
}

/// Every variable that a text uses, those in defaults and alternatives too.
pub(crate) fn uses(template: &str) -> Vec<Use<'_>> {
    let mut found = Vec::new();
    let mut texts = vec![template];
    while let Some(mut rest) = texts.pop() {
        while let Some(dollar) = rest.find('$') {
            let after = &rest[dollar + 1..];
            rest = match after.as_bytes().first() {
                Some(b'$') => &after[1..],
                Some(b'{') => {
                    let Some((inner, end)) = braced(after) else { break };
                    let (name, operation) = inner.split_at(name_length(inner));
                    let operation = operation.strip_prefix(':').unwrap_or(operation);
                    let operator = operation.chars().next().filter(|c| "-+?".contains(*c));
                    let operand = operator.map_or("", |_| &operation[1..]);
                    if !name.is_empty() {
                        found.push(Use { name, operator, operand });
                        texts.push(operand);
                    }
                    &after[end..]
                }
                _ => {
                    let (name, left) = after.split_at(name_length(after));
                    if !name.is_empty() {
                        found.push(Use { name, operator: None, operand: "" });
                    }
                    left
                }
            };
        }
    }
    found
}

/// Length of the variable name that `text` begins with.
fn name_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.first() {
        Some(byte) if byte.is_ascii_alphabetic() || *byte == b'_' => {
            bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count()
        }
        _ => 0,
    }
}

/// What stands between the braces that `text` begins with, and where the text goes on after them. Without an operator
/// the brace must close at once; with one it is the matching brace of the same line, or its last one.
fn braced(text: &str) -> Option<(&str, usize)> {
    let inner = &text[1..];
    let name = name_length(inner);
    if inner[name..].starts_with('}') {
        return Some((&inner[..name], name + 2));
    }
    let (mut depth, mut last) = (1_usize, None);
    for (index, byte) in inner.bytes().enumerate().take_while(|(_, byte)| *byte != b'\n') {
        match byte {
            b'{' => depth += 1,
            b'}' => (depth, last) = (depth - 1, Some(index)),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    let end = last?;
    Some((&inner[..end], end + 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(name: &str) -> Option<String> {
        match name {
            "FOO" => Some("first".to_owned()),
            "BAR" => Some(String::new()),
            "Num" => Some("1".to_owned()),
            _ => None,
        }
    }

    fn run(template: &str) -> (Result<String, TemplateError>, Vec<String>) {
        let mut unset = Vec::new();
        let result = substitute(template, &lookup, &mut |name| unset.push(name.to_owned()));
        (result, unset)
    }

    #[test]
    fn uses_are_found_at_any_depth() {
        let found: Vec<String> = uses("$A $$B ${C:-x} ${D?why} ${E+${F-$G}} $1 ${H")
            .iter()
            .map(|found| format!("{}{}{}", found.name, found.operator.unwrap_or(' '), found.operand))
            .collect();
        assert_eq!(found, ["A ", "C-x", "D?why", "E+${F-$G}", "F-$G", "G "]);
    }

    #[test]
    fn forms() {
        for (template, expected) in [
            ("$FOO", "first"),
            ("${FOO}", "first"),
            ("a $FOO-bar", "a first-bar"),
            ("${FOO}${Num}", "first1"),
            ("${UNSET:-x}", "x"),
            ("${BAR:-x}", "x"),
            ("${BAR-x}", ""),
            ("${UNSET-x}", "x"),
            ("${FOO:+x}", "x"),
            ("${BAR:+x}", ""),
            ("${BAR+x}", "x"),
            ("${UNSET+x}", ""),
            ("${FOO:?no}", "first"),
            ("${BAR?no}", ""),
            ("$$FOO $${FOO}", "$FOO ${FOO}"),
            ("$1 $( $", "$1 $( $"),
            ("cost: 5$", "cost: 5$"),
            ("${UNSET:-${FOO}}", "first"),
            ("${UNSET:-${BAR:-${Num}}} }", "1 }"),
            ("${UNSET:-a{b}c}d", "a{b}cd"),
            ("${UNSET:-{x}", "{x"),
            ("${UNSET:-}", ""),
            ("${UNSET-:-a?b}", ":-a?b"),
            ("${UNSET:-a:b-c}", "a:b-c"),
            ("${UNSET:-/data/$$x}", "/data/$x"),
            ("${UNSET:-ü}ö", "üö"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(run(template), (Ok(expected.to_owned()), vec![]), "{template}");
        }
    }

    #[test]
    fn unset_is_reported_only_where_it_is_used() {
        assert_eq!(run("${NONE}$NONE2"), (Ok(String::new()), vec!["NONE".to_owned(), "NONE2".to_owned()]));
        assert_eq!(run("${FOO:-$NONE}"), (Ok("first".to_owned()), vec![]));
        assert_eq!(run("${NONE:-$NONE2}"), (Ok(String::new()), vec!["NONE2".to_owned()]));
    }

    #[test]
    fn errors() {
        for template in
            ["${}", "${ FOO}", "${FOO!}", "${FOO/a/b}", "${FOO", "${1}", "${UNSET:-x\n}", "${FOO:}", "${", "${FOO:x}"]
        {
            assert_eq!(run(template).0, Err(TemplateError::Invalid), "{template}");
        }
        for (template, reason) in [("${UNSET?}", ""), ("${BAR:?not $FOO}", "not first"), ("${UNSET:?a: b}", "a: b")] {
            let Err(TemplateError::Missing { reason: found, .. }) = run(template).0 else { panic!("{template}") };
            assert_eq!(found, reason);
        }
        let deep = format!("{}{}", "${A:-".repeat(5000), "}".repeat(5000));
        assert_eq!(run(&deep).0, Err(TemplateError::Invalid));
    }
}
