//! What happens to jobs, passed on; and what follows from it for backups, repositories and instances.

use std::sync::Arc;

use tokio::sync::broadcast::error::RecvError;
use tracing::error;

use super::{Control, Event};
use crate::job::{self, Live};
use crate::state::Kind;

/// Passes events of jobs on until the daemon ends.
pub(super) async fn forward(control: Control) {
    let mut events = control.0.jobs.subscribe();
    loop {
        match events.recv().await {
            Ok(event) => pass(&control, event),
            Err(RecvError::Lagged(_)) => lagged(&control),
            Err(RecvError::Closed) => return,
        }
    }
}

fn pass(control: &Control, event: job::Event) {
    match event {
        job::Event::New(id) => {
            let live = control.0.jobs.get(&id);
            control.tell(Event::JobNew(id));
            live.iter().for_each(|live| subjects(control, live));
        }
        job::Event::Changed(id) => control.tell(Event::JobChanged(id)),
        job::Event::Removed(id, outcome) => {
            let live = control.0.jobs.get(&id);
            control.tell(Event::JobRemoved(id, outcome));
            live.iter().for_each(|live| subjects(control, live));
            live.into_iter().for_each(|live| follow(control, &live));
        }
        job::Event::Gone(id) => control.tell(Event::JobGone(id)),
    }
}

/// Some events are lost: everything must be looked at anew.
fn lagged(control: &Control) {
    control.tell(Event::DefinitionsChanged);
    let control = control.clone();
    tokio::spawn(async move {
        if let Err(failure) = control.follow_missed().await {
            error!("what follows other backups could not be looked up: {failure:#}");
        }
    });
}

/// Begins what runs after a backup.
fn follow(control: &Control, ended: &Live) {
    let record = ended.record();
    if record.kind == Kind::Backup {
        let control = control.clone();
        tokio::spawn(async move { control.follow(&record).await });
    }
}

/// Tells that what a job was about has changed.
fn subjects(control: &Control, live: &Arc<Live>) {
    let record = live.record();
    if record.kind == Kind::Backup {
        control.tell(Event::BackupChanged(record.subject.clone()));
    }
    for unit in &record.units {
        control.tell(Event::RepositoryChanged(unit.repository.clone()));
        if !unit.instance.is_empty() {
            control.tell(Event::InstanceChanged(unit.instance.clone()));
        }
    }
}
