//! What people see: tables, times and sizes, progress, log colours. Data goes
//! to stdout, the rest to stderr; colour never carries meaning alone.

pub mod build;
pub mod human;
pub mod listing;
pub mod logs;
pub mod progress;
pub mod svg;
pub mod table;
pub mod top;

use std::io::{IsTerminal as _, Write as _};

/// Prints data to stdout; a closed pipe ends the program quietly, as `cat` would.
#[macro_export]
macro_rules! out {
    ($($arg:tt)*) => {
        $crate::ui::write_out(format_args!($($arg)*))
    };
}

/// Prints a message for a person to stderr.
#[macro_export]
macro_rules! note {
    ($($arg:tt)*) => {
        $crate::ui::write_note(format_args!($($arg)*))
    };
}

/// See [`out!`].
pub fn write_out(arguments: std::fmt::Arguments<'_>) {
    let mut text = arguments.to_string();
    text.push('\n');
    write_raw(text.as_bytes());
}

/// Bytes to stdout, as they are.
#[allow(clippy::exit, reason = "the reader has gone; there is nobody to tell")]
pub fn write_raw(bytes: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    if let Err(error) = stdout.write_all(bytes).and_then(|()| stdout.flush())
        && error.kind() == std::io::ErrorKind::BrokenPipe
    {
        std::process::exit(141);
    }
}

/// See [`note!`].
pub fn write_note(arguments: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr().lock(), "{arguments}");
}

/// When escape sequences may be used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum Ansi {
    /// Never.
    Never,
    /// Also into pipes.
    Always,
    /// On a terminal, unless NO_COLOR is set.
    #[default]
    Auto,
}

impl Ansi {
    fn allows(self, terminal: bool) -> bool {
        let no_color = || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        match self {
            Self::Never => false,
            Self::Always => true,
            Self::Auto => terminal && !no_color(),
        }
    }

    /// On stdout.
    pub fn stdout(self) -> bool {
        self.allows(std::io::stdout().is_terminal())
    }

    /// On stderr.
    pub fn stderr(self) -> bool {
        self.allows(std::io::stderr().is_terminal())
    }
}
