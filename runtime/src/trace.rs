//! libcontainer logs the cause of a failure with `tracing` and returns less:
//! its init process sends one line, without the sources below it. This
//! subscriber writes what is logged as an error to the report pipe, from
//! whichever of libcontainer's processes it happens in.

use std::fmt::Write as _;
use std::sync::{Arc, Weak};

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span;
use tracing::{Event, Level, Metadata, Subscriber};

use crate::report::{Failure, Pipe};

/// Installs the subscriber for this process and those it forks; a second call changes nothing.
pub fn install(pipe: &Arc<Pipe>) {
    let _ = tracing::subscriber::set_global_default(Errors(Arc::downgrade(pipe)));
}

/// Weak: the pipe must close in this process for its reader to see the end.
struct Errors(Weak<Pipe>);

impl Subscriber for Errors {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() == Level::ERROR && metadata.target().starts_with("lib")
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::ERROR)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        if let Some(pipe) = self.0.upgrade() {
            pipe.failure(&Failure::Logged { text: text.join() });
        }
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}
    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}
    fn enter(&self, _: &span::Id) {}
    fn exit(&self, _: &span::Id) {}
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Text {
    fn join(self) -> String {
        if self.fields.is_empty() { self.message } else { format!("{} ({})", self.message, self.fields) }
    }
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        if field.name() == "message" {
            let _ = write!(self.message, "{value:?}");
        } else {
            let separator = if self.fields.is_empty() { "" } else { ", " };
            let _ = write!(self.fields, "{separator}{}: {value:?}", field.name());
        }
    }
}
