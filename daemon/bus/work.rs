//! What the keeper has to do: events and wishes gathered until it gets to them, so that a burst is one piece of work.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use super::objects::Wish;
use crate::control::Event;
use crate::state::Outcome;

/// What may have changed since the last look. Nothing here says what is now: the keeper asks `control`.
#[derive(Debug, Default)]
pub(super) struct Work {
    /// Everything may have: events were lost.
    pub(super) everything: bool,
    /// The definitions were read anew.
    pub(super) reloaded: bool,
    /// Jobs, with the outcome where the end was told.
    pub(super) jobs: BTreeMap<String, Option<Outcome>>,
    /// Backups.
    pub(super) backups: BTreeSet<String>,
    /// Repositories.
    pub(super) repositories: BTreeSet<String>,
    /// Instances.
    pub(super) instances: BTreeSet<String>,
    /// Whether and until when it is paused.
    pub(super) paused: bool,
    /// Who waits until this is done.
    pub(super) waiting: Vec<oneshot::Sender<()>>,
}

impl Work {
    /// Adds what an event says.
    pub(super) fn note(&mut self, event: Event) {
        match event {
            Event::JobNew(id) | Event::JobChanged(id) | Event::JobGone(id) => {
                self.jobs.entry(id).or_default();
            }
            Event::JobRemoved(id, outcome) => {
                self.jobs.insert(id, Some(outcome));
            }
            Event::BackupChanged(name) => {
                self.backups.insert(name);
            }
            Event::RepositoryChanged(name) => {
                self.repositories.insert(name);
            }
            Event::InstanceChanged(name) => {
                self.instances.insert(name);
            }
            Event::DefinitionsChanged => self.reloaded = true,
            Event::PausedChanged => self.paused = true,
        }
    }

    /// Adds what a method wishes.
    pub(super) fn wish(&mut self, wish: Wish) {
        match wish {
            Wish::Job(id, done) => {
                self.jobs.entry(id).or_default();
                self.waiting.push(done);
            }
            // Events that were told before are gathered with it.
            Wish::Told(done) => self.waiting.push(done),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_one_job_is_one_look_and_keeps_its_outcome() {
        let mut work = Work::default();
        for event in [
            Event::JobNew("a".into()),
            Event::JobChanged("a".into()),
            Event::JobRemoved("a".into(), Outcome::Failed),
            Event::JobChanged("a".into()),
        ] {
            work.note(event);
        }
        assert_eq!(work.jobs, [("a".to_owned(), Some(Outcome::Failed))].into());
    }

    #[test]
    fn reloads_in_a_burst_are_one() {
        let mut work = Work::default();
        (0..1000).for_each(|_| work.note(Event::DefinitionsChanged));
        assert!(work.reloaded && !work.everything && work.jobs.is_empty());
    }
}
