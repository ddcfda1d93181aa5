//! Patience with another machine, and records of what was exchanged there.

use std::time::Duration;

use anyhow::Result;
use serde::Deserialize;
use tracing::error;

use super::{Far, passes};

/// The first and the longest pause between two tries of what must be done.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// Reads what was exchanged: records of before have one at most.
pub(in crate::job) fn one_or_all<'d, D: serde::Deserializer<'d>>(
    reader: D,
) -> std::result::Result<Vec<Far>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Told {
        One(Box<Far>),
        All(Vec<Far>),
    }
    Ok(match Told::deserialize(reader)? {
        Told::One(far) => vec![*far],
        Told::All(all) => all,
    })
}

/// How often something was tried that another machine did not answer to.
pub(in crate::job) struct Tries {
    pause: Duration,
}

impl Tries {
    pub(in crate::job) fn new() -> Self {
        Self { pause: PAUSES.0 }
    }

    /// Waits, loudly and each time longer, where the machine may answer later.
    ///
    /// # Errors
    /// The failure, where it answers and cannot do it.
    pub(in crate::job) async fn again(
        &mut self,
        instance: &str,
        waits: &(impl Fn(Option<String>) + Sync),
        failure: anyhow::Error,
    ) -> Result<()> {
        if !passes(&failure) {
            return Err(failure);
        }
        let pause = self.pause;
        error!(
            MESSAGE_ID = crate::job::message::SERVICE_DOWN,
            holdfast_instance = %instance,
            "{instance} may be without its data, and stays stopped, until its other machine answers: {failure:#}. It is \
             tried again in {pause:?}"
        );
        waits(Some(format!("tries again in {pause:?} to put the old data back: {failure:#}")));
        tokio::time::sleep(pause).await;
        waits(None);
        self.pause = (pause * 2).min(PAUSES.1);
        Ok(())
    }
}
