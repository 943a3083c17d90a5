//! `WWW-Authenticate` (RFC 9110 §11.6.1): how a registry asks for credentials.

/// One way to authenticate that a registry offers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// User and password with every request.
    Basic,
    /// A token from a token server.
    Bearer {
        /// The token server's URL.
        realm: String,
        /// What to tell it the token is for.
        service: Option<String>,
        /// What the token must allow.
        scope: Option<String>,
    },
}

/// The best offer in the values of a `WWW-Authenticate` header: Bearer before Basic.
pub(super) fn choose<'a>(headers: impl Iterator<Item = &'a str>) -> Option<Challenge> {
    let offers: Vec<Challenge> = headers.flat_map(parse).collect();
    let bearer = offers.iter().find(|offer| matches!(offer, Challenge::Bearer { .. }));
    bearer.or_else(|| offers.first()).cloned()
}

/// All known challenges in one header value. What does not parse is left out.
fn parse(header: &str) -> Vec<Challenge> {
    let mut offers: Vec<(String, Vec<(String, String)>)> = Vec::new();
    let mut rest = header.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let (name, after) = token(rest);
        if name.is_empty() {
            break;
        }
        let after = after.trim_start();
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = value_of(value.trim_start());
            if let Some((_, parameters)) = offers.last_mut() {
                parameters.push((name.to_ascii_lowercase(), value));
            }
            rest = after;
        } else {
            offers.push((name.to_ascii_lowercase(), Vec::new()));
            rest = after;
        }
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
    offers.into_iter().filter_map(|(scheme, parameters)| known(&scheme, &parameters)).collect()
}

fn known(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |name: &str| parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    match scheme {
        "basic" => Some(Challenge::Basic),
        "bearer" => Some(Challenge::Bearer { realm: get("realm")?, service: get("service"), scope: get("scope") }),
        _ => None,
    }
}

fn token(text: &str) -> (&str, &str) {
    let end = text.find([' ', '\t', '=', ',', '"']).unwrap_or(text.len());
    text.split_at(end)
}

/// A token or a quoted string, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = token(text);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, character)) = characters.next() {
        match character {
            '"' => return (value, quoted.get(index + 1..).unwrap_or_default()),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            other => value.push(other),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Option<Challenge> {
        Some(Challenge::Bearer { realm: realm.into(), service: service.map(Into::into), scope: scope.map(Into::into) })
    }

    #[test]
    fn challenges_parse() {
        let hub = r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/redis:pull""#;
        for (headers, expected) in [
            (
                vec![hub],
                bearer(
                    "https://auth.docker.io/token",
                    Some("registry.docker.io"),
                    Some("repository:library/redis:pull"),
                ),
            ),
            (vec![r#"Basic realm="x""#], Some(Challenge::Basic)),
            (vec!["basic"], Some(Challenge::Basic)),
            (vec![r#"Basic realm="x, y", Bearer realm="https://a/t""#], bearer("https://a/t", None, None)),
            (
                vec![r#"Basic realm="x""#, r#"bearer realm = "https://a/t" , scope=a:b:c"#],
                bearer("https://a/t", None, Some("a:b:c")),
            ),
            (vec![r#"Bearer realm="a\"b\\c""#], bearer("a\"b\\c", None, None)),
            (vec![r#"Bearer realm="unterminated"#], bearer("unterminated", None, None)),
            (vec![r#"Negotiate, Digest realm="x", Basic realm="y""#], Some(Challenge::Basic)),
            (vec!["Bearer"], None),
            (vec!["Negotiate"], None),
            (vec![""], None),
            (vec!["=,=\"\\"], None),
            (vec![], None),
        ] {
            assert_eq!(choose(headers.iter().copied()), expected, "{headers:?}");
        }
    }
}
