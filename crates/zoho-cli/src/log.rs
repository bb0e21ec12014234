//! What the libraries log, on standard error, one line for each event.
//!
//! Only our own crates are heard: no level of theirs prints a secret. Drivers log as they like.

use std::fmt;
use std::io;

use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::{self, FormatEvent, FormatFields};
use tracing_subscriber::fmt::{FmtContext, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// Starts to show events of `level` and worse. Each of `more` is one level more.
pub(crate) fn start(level: Level, more: u8) {
    let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG];
    let wanted = levels.iter().position(|known| *known == level);
    let wanted = wanted.unwrap_or_default() + usize::from(more);
    let level = levels.get(wanted).unwrap_or(&Level::TRACE);
    let filter = EnvFilter::new(format!("zoho_oauth={level},zohocrm={level}"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(false)
        .event_format(Lines)
        .init();
}

/// `warning: what happened field=value`, without a time: a person looks at it now.
struct Lines;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: format::Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let label = match *event.metadata().level() {
            Level::ERROR => "error",
            Level::WARN => "warning",
            Level::INFO => "info",
            Level::DEBUG => "debug",
            Level::TRACE => "trace",
        };
        let mut line = String::new();
        context.format_fields(format::Writer::new(&mut line), event)?;
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>()
                && !fields.is_empty()
            {
                line += " ";
                line += fields;
            }
        }
        writeln!(writer, "{label}: {}", line.replace('\n', "\n  "))
    }
}
