//! Which set a recovery uses: pure, time is a parameter.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::definition::Recovery;
use crate::state::{Outcome, SetRecord};

/// What is remembered of the recoveries of an instance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Past {
    /// Recoveries that began, oldest first.
    pub attempts: Vec<Attempt>,
    /// Sets that were made while the unit had failed.
    pub sick: Vec<String>,
}

/// A recovery that began to restore a set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// When.
    pub at: Timestamp,
    /// The snapshot that it restored.
    pub snapshot: String,
    /// Whether it came to its end: one that was cut off says nothing of its set.
    pub over: bool,
    /// Whether it counts no more against the bound.
    #[serde(default)]
    pub acknowledged: bool,
    /// Whether the application was well after it.
    #[serde(default)]
    pub well: bool,
    /// Whether nothing was to be started after it.
    #[serde(default)]
    pub no_start: bool,
}

/// How a set stands towards a recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// It may be restored.
    Fit,
    /// A recovery restored it before.
    Restored,
    /// It is of another version.
    OtherVersion,
    /// It was made while the unit had failed.
    Sick,
    /// It was made with a warning, and those are not allowed.
    Warning,
    /// Another host made it.
    Foreign,
}

impl Standing {
    /// The word for it in lists.
    pub fn word(self) -> &'static str {
        match self {
            Self::Fit => "candidate",
            Self::Restored => "restored",
            Self::OtherVersion => "other version",
            Self::Sick => "taken while unhealthy",
            Self::Warning => "warning",
            Self::Foreign => "other host",
        }
    }
}

/// What sets are judged by.
#[derive(Debug, Clone, Copy)]
pub struct Measure<'a> {
    /// What the definition says.
    pub terms: &'a Recovery,
    /// The version as it is now; empty where the definition does not say how to find it.
    pub version: &'a str,
    /// The host name in our snapshots.
    pub host: &'a str,
    /// What was done before.
    pub past: &'a Past,
}

impl Measure<'_> {
    /// How a set stands.
    pub fn standing(&self, set: &SetRecord) -> Standing {
        let tried = |attempt: &Attempt| {
            // One that was imported as restored is known by its set, for it had no snapshot yet.
            attempt.over && (attempt.snapshot == set.snapshot || attempt.snapshot == set.set)
        };
        if set.host != self.host {
            Standing::Foreign
        } else if set.version != self.version {
            Standing::OtherVersion
        } else if self.past.attempts.iter().any(tried) {
            Standing::Restored
        } else if self.past.sick.contains(&set.set) {
            Standing::Sick
        } else if set.outcome == Some(Outcome::Warning) && !self.terms.allow_warning {
            Standing::Warning
        } else {
            Standing::Fit
        }
    }

    /// The newest fit set; those whose outcome is not known come last.
    pub fn candidate<'s>(&self, sets: &'s [SetRecord]) -> Option<&'s SetRecord> {
        let fit = sets.iter().filter(|set| self.standing(set) == Standing::Fit);
        fit.max_by(|a, b| rank(a).cmp(&rank(b)))
    }

    /// Why there is no candidate: how many sets there are, and how they stand.
    pub fn none_because(&self, sets: &[SetRecord]) -> String {
        if sets.is_empty() {
            return "there is no set of it".into();
        }
        let mut counts = std::collections::BTreeMap::<&str, usize>::new();
        sets.iter().for_each(|set| *counts.entry(self.standing(set).word()).or_default() += 1);
        let counts: Vec<String> = counts.iter().map(|(word, count)| format!("{count} {word}")).collect();
        let version = match self.version {
            "" => String::new(),
            version => format!(" of version {version}"),
        };
        format!("no set{version} is left to restore: {}", counts.join(", "))
    }
}

fn rank(set: &SetRecord) -> (bool, Timestamp, &str) {
    (set.outcome.is_some(), set.time, &set.snapshot)
}

/// Whether a recovery may begin now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bound {
    /// It may.
    Free,
    /// Not before this instant.
    CoolDown(Timestamp),
    /// So many have begun within the window: only an alarm.
    Exhausted(usize),
}

/// Whether the bounds allow a recovery. Attempts that seem to lie in the future count: the clock was set back.
pub fn bound(terms: &Recovery, past: &Past, now: Timestamp) -> Bound {
    let long = |duration| SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX);
    let since = now.checked_sub(long(terms.window)).unwrap_or(Timestamp::MIN);
    let counted = past.attempts.iter().filter(|attempt| !attempt.acknowledged && attempt.at > since);
    let count = counted.clone().count();
    if count >= terms.attempts as usize {
        return Bound::Exhausted(count);
    }
    let cool = long(terms.cool_down);
    let ends = counted.filter(|attempt| attempt.at <= now).filter_map(|a| a.at.checked_add(cool).ok()).max();
    match ends {
        Some(end) if end > now => Bound::CoolDown(end),
        _ => Bound::Free,
    }
}

/// How many attempts and marks are remembered.
const REMEMBERED: usize = 1_000;

impl Past {
    /// Forgets the oldest of what is too much.
    pub fn trim(&mut self) {
        self.attempts.drain(..self.attempts.len().saturating_sub(REMEMBERED));
        self.sick.drain(..self.sick.len().saturating_sub(REMEMBERED));
    }
}

#[cfg(test)]
mod tests;
