//! Commands and flags that Docker Compose has and this version does not: not
//! listed, and said plainly when they are used.

use clap::error::{ContextKind, ContextValue, ErrorKind};

use crate::failure::Coded;

const COMMANDS: &[&str] = &["alpha", "bridge"];

const FLAGS: &[&str] = &["--app"];

/// What to say instead of "unrecognized", if it is one of these.
pub fn explain(error: &clap::Error) -> Option<anyhow::Error> {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        _ => None,
    };
    let (what, name) = match error.kind() {
        ErrorKind::InvalidSubcommand => ("command", text(ContextKind::InvalidSubcommand)?),
        ErrorKind::UnknownArgument => ("option", text(ContextKind::InvalidArg)?),
        _ => return None,
    };
    let bare = name.split('=').next().unwrap_or(name);
    let known = if what == "command" { COMMANDS.contains(&bare) } else { FLAGS.contains(&bare) };
    known.then(|| {
        let text = format!("the {what} `{bare}` of Docker Compose is not supported yet by this version of umiak");
        Coded { text, code: 1 }.into()
    })
}

#[cfg(test)]
mod tests {

    #[test]
    fn what_is_said_to_come_later_is_not_there() {
        let mut command = super::super::tree();
        command.build();
        for name in super::COMMANDS {
            assert!(command.find_subcommand(name).is_none(), "{name}");
            let error = command.clone().try_get_matches_from(["umiak", name]).unwrap_err();
            assert!(super::explain(&error).is_some_and(|error| error.to_string().contains(name)), "{name}");
        }
        for flag in super::FLAGS {
            let error = command.clone().try_get_matches_from(["umiak", "up", flag]).unwrap_err();
            assert!(super::explain(&error).is_some_and(|error| error.to_string().contains(flag)), "{flag}");
        }
    }
}
