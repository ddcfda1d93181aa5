//! Where lines go: to the journal when there is one, otherwise to standard error.

use std::io::IsTerminal;

use tracing::Level;
use tracing_journald::{Priority, PriorityMappings};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// tokio-cron-scheduler's own lines say nothing to an administrator.
const DEFAULT_FILTER: &str = "info,tokio_cron_scheduler=error,zbus=warn";

/// Starts logging. `HOLDFAST_LOG` sets the filter, in the syntax of `RUST_LOG`.
pub(super) fn start() {
    let filter = EnvFilter::try_from_env("HOLDFAST_LOG").unwrap_or_else(|_| EnvFilter::new(DEFAULT_FILTER));
    let registry = tracing_subscriber::registry().with(filter);
    match journal() {
        Some(journal) => registry.with(journal).init(),
        None => registry.with(stderr()).init(),
    }
}

/// The journal, when systemd connected our standard error to it (`JOURNAL_STREAM`, systemd.exec(5)).
fn journal() -> Option<tracing_journald::Layer> {
    std::env::var_os("JOURNAL_STREAM")?;
    let priorities = PriorityMappings {
        error: Priority::Error,
        warn: Priority::Warning,
        info: Priority::Informational,
        debug: Priority::Debug,
        trace: Priority::Debug,
    };
    let layer = tracing_journald::layer().ok()?;
    let layer = layer.with_field_prefix(None).with_syslog_identifier("holdfastd".into());
    Some(layer.with_priority_mappings(priorities))
}

fn stderr<S>() -> impl tracing_subscriber::Layer<S>
where
    S: tracing::Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
{
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(colour)
        .with_target(tracing::enabled!(Level::DEBUG))
}
