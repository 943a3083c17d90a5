//! Finds what looks like a secret in a text. It asks rather too often than too seldom: the answer is a person's.

use std::sync::LazyLock;

use regex::Regex;

/// Something that looks like a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// What it looks like.
    pub kind: &'static str,
    /// File and line.
    pub place: String,
    /// Its beginning, enough to know it again.
    pub shown: String,
}

/// Secrets that are known by their own form.
const FORMS: [(&str, &str); 9] = [
    ("AWS Client ID", r"\b(?:A3T[A-Z0-9]|AKIA|AGPA|AIDA|AROA|AIPA|ANPA|ANVA|ASIA)[A-Z0-9]{16}\b"),
    ("Github authentication", r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{22,})"),
    ("JSON Web Token", r"\beyJ[A-Za-z0-9_-]{6,}\.eyJ[A-Za-z0-9_-]{4,}\.[A-Za-z0-9_-]+"),
    ("Private Key", r"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"),
    ("Slack Token", r"\bxox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("Stripe Access Key", r"\b[rs]k_live_[A-Za-z0-9]{20,}"),
    ("NPM Token", r"\bnpm_[A-Za-z0-9]{36}\b"),
    ("SendGrid Token", r"\bSG\.[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    ("URL with password", r"\b[a-z][a-z0-9+.-]*://[^\s:/@?#]*:[^\s/@$]{3,}@[^\s/]"),
];

/// A key that says what its value is, and the value, up to a blank.
const NAMED: &str = r#"(?i)([a-z0-9_.-]*(?:passw(?:or)?d|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?)[a-z0-9_.-]*)["']?\s*[:=]\s*["']?([^\s"'$\[{&*!|>#,/?][^\s"'}]{2,})"#;

/// Both as expressions; `None` only if one of them above is none, which a test refuses.
struct Expressions {
    forms: Vec<(&'static str, Regex)>,
    named: Regex,
}

static ALL: LazyLock<Option<Expressions>> = LazyLock::new(|| {
    let forms = FORMS.iter().map(|(kind, form)| Some((*kind, Regex::new(form).ok()?))).collect::<Option<_>>()?;
    Some(Expressions { forms, named: Regex::new(NAMED).ok()? })
});

/// What looks like a secret in a text, one for each line at most.
pub(super) fn find(name: &str, text: &str) -> Vec<Finding> {
    let Some(Expressions { forms, named }) = &*ALL else { return Vec::new() };
    let look = |line: &str| {
        let form = forms.iter().find_map(|(kind, form)| Some((*kind, form.find(line)?.as_str().to_owned())));
        form.or_else(|| {
            let found = named.captures(line)?;
            let (key, value) = (found.get(1)?.as_str(), found.get(2)?.as_str());
            // The file with a secret is none, nor is a switch.
            let harmless = key.to_lowercase().ends_with("_file") || matches!(value, "true" | "false" | "null");
            (!harmless).then(|| ("Secret Keyword", value.to_owned()))
        })
    };
    let found = |(index, line): (usize, &str)| {
        let (kind, found) = look(line)?;
        Some(Finding { kind, place: format!("{name}:{}", index + 1), shown: shortened(&found) })
    };
    text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#')).filter_map(found).collect()
}

fn shortened(secret: &str) -> String {
    let shown: String = secret.chars().take(4).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    format!("{shown}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_known_by_form_or_name() {
        assert!(ALL.is_some());
        let key = format!("-----BEGIN {} KEY-----", "RSA PRIVATE");
        let token = format!("ghp_{}", "a1".repeat(18));
        for (line, kind) in [
            ("AWS_ACCESS_KEY_ID: AKIA1234567890ABCDEF", Some("AWS Client ID")),
            (&format!("x: {token}"), Some("Github authentication")),
            (&key, Some("Private Key")),
            ("DATABASE_URL=postgres://app:hunter2@db/app", Some("URL with password")),
            ("    POSTGRES_PASSWORD: hunter2", Some("Secret Keyword")),
            ("- MYSQL_ROOT_PASSWORD=\"hunter2\"", Some("Secret Keyword")),
            ("api_key=abcdef", Some("Secret Keyword")),
            ("POSTGRES_PASSWORD: ${PASSWORD:-postgres}", Some("Secret Keyword")),
            ("POSTGRES_PASSWORD: ${PASSWORD:?say it}", None),
            ("POSTGRES_PASSWORD: ${PASSWORD}", None),
            ("DATABASE_URL=postgres://app:${PASSWORD}@db/app", None),
            ("POSTGRES_PASSWORD_FILE: run-secrets", None),
            ("PASSWORD: /run/secrets/db", None),
            ("secrets: [db]", None),
            ("secrets:", None),
            ("# PASSWORD=hunter2", None),
            ("image: redis:7", None),
            ("REQUIRE_TOKEN=false", None),
        ] {
            let found = find("f", line);
            assert_eq!(found.first().map(|finding| finding.kind), kind, "{line}");
        }
        let found = find("f", "a: b\nPASSWORD=hunter2\n");
        assert_eq!(found, [Finding { kind: "Secret Keyword", place: "f:2".into(), shown: "hunt…".into() }]);
    }
}
