//! `org.holdfast.Backup1.Instance`: one defined instance.

use zbus::interface;

use super::answer::{Shown, Shows};
use super::rows;
use crate::control::InstanceView;

pub(super) struct Instance {
    shown: Shown<InstanceView>,
}

impl Instance {
    pub(super) const fn new(view: InstanceView) -> Self {
        Self { shown: Shown::new(view) }
    }
}

impl Shows for Instance {
    type View = InstanceView;
    fn shown(&self) -> &Shown<InstanceView> {
        &self.shown
    }
}

#[interface(name = "org.holdfast.Backup1.Instance")]
impl Instance {
    #[zbus(property(emits_changed_signal = "const"))]
    fn name(&self) -> String {
        self.shown.get().name.clone()
    }

    /// Or empty.
    #[zbus(property)]
    fn module(&self) -> String {
        self.shown.get().module.clone()
    }

    /// When its newest committed set was made; 0: never.
    #[zbus(property)]
    fn last_success(&self) -> u64 {
        rows::time(self.shown.get().last_success)
    }

    /// The snapshot of that set, or empty.
    #[zbus(property)]
    fn last_snapshot(&self) -> String {
        rows::text(&self.shown.get().last_snapshot)
    }

    /// When a set of it was last proven by a restore drill; 0: never.
    #[zbus(property)]
    fn last_proven(&self) -> u64 {
        rows::time(self.shown.get().last_proven)
    }
}
