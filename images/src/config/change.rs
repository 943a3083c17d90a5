//! Changes of an image's config in the words of a Dockerfile, as `commit
//! --change` and `import --change` take them.

use super::RunConfig;

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// No instruction, or one that changes no config.
    #[error(
        "{instruction:?} is not a valid change: it is one of CMD, ENTRYPOINT, ENV, EXPOSE, LABEL, ONBUILD, STOPSIGNAL, \
         USER, VOLUME, WORKDIR"
    )]
    Instruction {
        /// What was given.
        instruction: String,
    },
    /// An instruction without its argument, or with a wrong one.
    #[error("{instruction} {text:?}: {reason}")]
    Argument {
        /// The instruction.
        instruction: &'static str,
        /// Its argument.
        text: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

impl RunConfig {
    /// Applies one instruction: `CMD ["x"]`, `ENV A=1 B="2 3"`, `EXPOSE 80/tcp` …
    ///
    /// # Errors
    /// When it is none of those, or its argument does not parse.
    pub fn change(&mut self, text: &str) -> Result<(), ChangeError> {
        let text = text.trim();
        let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        match word.to_ascii_uppercase().as_str() {
            "CMD" => self.cmd = Some(command("CMD", rest)?),
            "ENTRYPOINT" => {
                self.entrypoint = Some(command("ENTRYPOINT", rest)?);
            }
            "ENV" => {
                for (key, value) in pairs("ENV", rest)? {
                    let prefix = format!("{key}=");
                    let entry = format!("{key}={value}");
                    match self.env.iter_mut().find(|entry| entry.starts_with(&prefix)) {
                        Some(there) => *there = entry,
                        None => self.env.push(entry),
                    }
                }
            }
            "EXPOSE" => {
                for port in words("EXPOSE", rest)? {
                    add(&mut self.exposed_ports, exposed(&port)?);
                }
                self.exposed_ports.sort();
            }
            "LABEL" => self.labels.extend(pairs("LABEL", rest)?),
            "ONBUILD" => self.on_build.push(given("ONBUILD", rest)?.to_owned()),
            "STOPSIGNAL" => self.stop_signal = Some(given("STOPSIGNAL", rest)?.to_owned()),
            "USER" => given("USER", rest)?.clone_into(&mut self.user),
            "VOLUME" => {
                let paths = match rest.starts_with('[') {
                    true => json("VOLUME", rest)?,
                    false => words("VOLUME", rest)?,
                };
                paths.into_iter().for_each(|path| add(&mut self.volumes, path));
                self.volumes.sort();
            }
            "WORKDIR" => {
                let path = given("WORKDIR", rest)?;
                self.working_dir = match path.starts_with('/') {
                    true => path.to_owned(),
                    false => format!("{}/{path}", self.working_dir.trim_end_matches('/')),
                };
                if !self.working_dir.starts_with('/') {
                    self.working_dir.insert(0, '/');
                }
            }
            _ => return Err(ChangeError::Instruction { instruction: word.to_owned() }),
        }
        Ok(())
    }
}

fn add(list: &mut Vec<String>, new: String) {
    if !list.contains(&new) {
        list.push(new);
    }
}

fn given<'t>(instruction: &'static str, text: &'t str) -> Result<&'t str, ChangeError> {
    match text {
        "" => Err(wrong(instruction, text, "it has no argument")),
        text => Ok(text),
    }
}

fn wrong(instruction: &'static str, text: &str, reason: &'static str) -> ChangeError {
    ChangeError::Argument { instruction, text: text.to_owned(), reason }
}

/// A list in JSON as it is; anything else is for the shell.
fn command(instruction: &'static str, text: &str) -> Result<Vec<String>, ChangeError> {
    match serde_json::from_str(text) {
        Ok(list) => Ok(list),
        Err(_) if text.is_empty() => Ok(Vec::new()),
        Err(_) => Ok(vec!["/bin/sh".to_owned(), "-c".to_owned(), given(instruction, text)?.to_owned()]),
    }
}

fn json(instruction: &'static str, text: &str) -> Result<Vec<String>, ChangeError> {
    serde_json::from_str(text).map_err(|_| wrong(instruction, text, "it is not a list of strings in JSON"))
}

/// `PORT[/PROTOCOL]`, tcp where it is not said.
fn exposed(text: &str) -> Result<String, ChangeError> {
    let (port, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let protocol = protocol.to_ascii_lowercase();
    let number = |text: &str| text.parse::<u16>().is_ok_and(|port| port != 0);
    let good = match port.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(port),
    };
    match good && matches!(protocol.as_str(), "tcp" | "udp" | "sctp") {
        true => Ok(format!("{port}/{protocol}")),
        false => Err(wrong("EXPOSE", text, "it is no port")),
    }
}

/// `K=V …`, or the old form `K V` with one pair.
fn pairs(instruction: &'static str, text: &str) -> Result<Vec<(String, String)>, ChangeError> {
    let list = words(instruction, text)?;
    if !list[0].contains('=') {
        let (key, value) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        if value.is_empty() {
            return Err(wrong(instruction, text, "it must have two arguments"));
        }
        return Ok(vec![(key.to_owned(), value.trim().to_owned())]);
    }
    let pair = |word: &String| match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err(wrong(instruction, word, "it is not of the form name=value")),
    };
    list.iter().map(pair).collect()
}

/// Words between blanks; quotes and backslashes keep blanks. Never empty.
fn words(instruction: &'static str, text: &str) -> Result<Vec<String>, ChangeError> {
    let (mut list, mut word, mut open, mut quote) = (Vec::new(), String::new(), false, None);
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match (character, quote) {
            ('\\', Some('"') | None) => {
                open = true;
                word.extend(characters.next());
            }
            ('"' | '\'', None) => (open, quote) = (true, Some(character)),
            (character, Some(end)) if character == end => quote = None,
            (character, None) if character.is_whitespace() => {
                if std::mem::take(&mut open) {
                    list.push(std::mem::take(&mut word));
                }
            }
            (character, _) => {
                open = true;
                word.push(character);
            }
        }
    }
    if quote.is_some() {
        return Err(wrong(instruction, text, "a quote is not closed"));
    }
    if open {
        list.push(word);
    }
    if list.is_empty() {
        return Err(wrong(instruction, text, "it has no argument"));
    }
    Ok(list)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(changes: &[&str]) -> RunConfig {
        let mut config = RunConfig { env: vec!["PATH=/bin".into()], ..RunConfig::default() };
        changes.iter().for_each(|change| config.change(change).unwrap());
        config
    }

    #[test]
    fn instructions_change_what_they_name() {
        let config = changed(&[
            r#"CMD ["a", "b c"]"#,
            "entrypoint echo hi",
            r#"ENV A=1 B="2 3" C=x\ y"#,
            "ENV D old form",
            "ENV PATH=/usr/bin",
            "EXPOSE 80 53/UDP 80/tcp",
            r#"LABEL a=b "c d"='e f'"#,
            "ONBUILD RUN true",
            "STOPSIGNAL SIGQUIT",
            "USER app:app",
            r#"VOLUME ["/data"]"#,
            "VOLUME /a /b",
            "WORKDIR /srv",
            "WORKDIR sub",
        ]);
        assert_eq!(config.cmd.unwrap(), ["a", "b c"]);
        assert_eq!(config.entrypoint.unwrap(), ["/bin/sh", "-c", "echo hi"]);
        assert_eq!(config.env, ["PATH=/usr/bin", "A=1", "B=2 3", "C=x y", "D=old form"]);
        assert_eq!(config.exposed_ports, ["53/udp", "80/tcp"]);
        assert_eq!(config.labels.get("c d").map(String::as_str), Some("e f"));
        assert_eq!(config.volumes, ["/a", "/b", "/data"]);
        assert_eq!((config.user.as_str(), config.working_dir.as_str()), ("app:app", "/srv/sub"));
        assert_eq!((config.on_build.len(), config.stop_signal.as_deref()), (1, Some("SIGQUIT")));
    }

    #[test]
    fn others_are_refused() {
        for bad in ["", "RUN true", "FROM x", "ENV", "ENV A", "EXPOSE x", "LABEL 'a", "USER", "VOLUME [1]", "ENV =1"] {
            assert!(RunConfig::default().change(bad).is_err(), "{bad}");
        }
    }
}
