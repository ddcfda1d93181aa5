//! Which services are held stopped, and by whom: two jobs that need the same one stop it once, and the last starts it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::futures::Notified;
use tokio::sync::{Mutex as Gate, Notify};

use crate::definition::Ran;

/// All of this process. Copies are the same.
#[derive(Clone, Default)]
pub struct Holds(Arc<Inner>);

#[derive(Default)]
struct Inner {
    held: Mutex<BTreeMap<String, Hold>>,
    /// One at a time looks what runs and writes it down: so nobody takes for stopped what another has just stopped.
    taking: Gate<()>,
    changed: Notify,
}

/// A part of a service that somebody stopped, or is about to.
struct Hold {
    owners: BTreeSet<String>,
    was: Ran,
    /// Its owner starts it in between: nobody else may rely on it being stopped.
    alone: bool,
    /// Whether it is stopped; who starts or stops it has this.
    stopped: Arc<Gate<bool>>,
}

impl Holds {
    pub(super) fn taking(&self) -> &Gate<()> {
        &self.0.taking
    }

    fn held(&self) -> MutexGuard<'_, BTreeMap<String, Hold>> {
        self.0.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How a part was before somebody stopped it, or owes its start; none: nobody did.
    pub(super) fn was(&self, key: &str) -> Option<Ran> {
        self.held().get(key).map(|hold| hold.was.clone())
    }

    /// Who else has it, if that excludes us.
    pub(super) fn hindered(&self, key: &str, owner: &str, alone: bool) -> Option<String> {
        let held = self.held();
        let hold = held.get(key)?;
        let other = hold.owners.iter().find(|other| *other != owner)?;
        (alone || hold.alone).then(|| other.clone())
    }

    /// Whether anybody wants it stopped.
    pub(super) fn wanted(&self, key: &str) -> bool {
        self.held().get(key).is_some_and(|hold| !hold.owners.is_empty())
    }

    /// Wakes when somebody gave something back.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.0.changed.notified()
    }

    /// Takes part in a hold.
    pub(super) fn take(&self, key: &str, owner: &str, was: &Ran, alone: bool) {
        let mut held = self.held();
        let hold = held.entry(key.to_owned()).or_insert_with(|| Hold {
            owners: BTreeSet::new(),
            was: was.clone(),
            alone: false,
            stopped: Arc::default(),
        });
        hold.owners.insert(owner.to_owned());
        hold.alone |= alone;
    }

    /// A start is owed from before: who comes is told how it was.
    pub(super) fn owe(&self, key: &str, was: &Ran) {
        let hold = Hold {
            owners: BTreeSet::new(),
            was: was.clone(),
            alone: false,
            stopped: Arc::new(Gate::new(true)),
        };
        self.held().entry(key.to_owned()).or_insert(hold);
    }

    /// Whether it is stopped, locked; for who starts or stops it.
    pub(super) fn gate(&self, key: &str) -> Arc<Gate<bool>> {
        self.held().get(key).map(|hold| Arc::clone(&hold.stopped)).unwrap_or_default()
    }

    /// Gives it back; true when nobody else wants it stopped.
    pub(super) fn give_back(&self, key: &str, owner: &str) -> bool {
        let free = {
            let mut held = self.held();
            match held.get_mut(key) {
                Some(hold) => {
                    hold.owners.remove(owner);
                    hold.alone &= !hold.owners.is_empty();
                    hold.owners.is_empty()
                }
                None => true,
            }
        };
        self.0.changed.notify_waiters();
        free
    }

    /// Forgets it, unless somebody wants it stopped again.
    pub(super) fn settle(&self, key: &str) {
        let mut held = self.held();
        if held.get(key).is_some_and(|hold| hold.owners.is_empty()) {
            held.remove(key);
        }
    }
}
