//! The table `[daemon]`, of which there is one.

use super::super::diagnostic::Diagnostic;
use super::super::raw::RawDaemon;
use super::super::{Environment, Loaded};
use super::LocalFile;
use super::link::{Linked, refusal};
use crate::definition::Daemon;

/// Settings of the daemon: what was written, the rest by default.
fn daemon(raw: RawDaemon, env: &Environment) -> Daemon {
    let RawDaemon { staging_dir, timezone, max_parallel, host, restic, metrics_file } = raw;
    Daemon {
        staging_dir: staging_dir.map_or_else(|| env.state_dir.join("staging"), |dir| dir.into_inner().0),
        timezone: timezone.map_or_else(|| env.zone.clone(), |zone| zone.into_inner().0),
        max_parallel: max_parallel.map_or(env.cpus.max(1), |count| count.into_inner().0 as usize),
        host: host.map_or_else(|| env.host.clone(), |host| host.into_inner().0),
        restic: restic.map_or_else(|| "restic".into(), |restic| restic.into_inner().into()),
        metrics_file: metrics_file.map(|file| file.into_inner().0),
    }
}

impl Linked {
    /// The `[daemon]` table: the first one; of a refused file only when there is no previous one.
    pub(super) fn daemon(
        &mut self,
        files: &mut [LocalFile],
        env: &Environment,
        previous: Option<&Loaded>,
        found: &mut Vec<Diagnostic>,
    ) -> Daemon {
        let holders: Vec<usize> = (0..files.len()).filter(|at| files[*at].daemon.is_some()).collect();
        let place = |file: &LocalFile| {
            let given = file.given.iter().find(|(key, _)| key.starts_with("daemon/"));
            given.map_or(0..0, |(_, offset)| *offset..*offset + 1)
        };
        if let [first, second, ..] = holders.as_slice() {
            let first = files[*first].source.place(place(&files[*first]).start);
            let message = format!("`daemon` is defined twice; first at {first}");
            let help = "the first one is used; put all of it there".to_owned();
            found.push(files[*second].source.error(&place(&files[*second]), message, Some(help)));
        }
        let refused = self.refused.clone();
        let raw =
            holders.first().and_then(|at| Some((files[*at].refused.clone(), files[*at].daemon.take()?)));
        let before = previous.map(|previous| (&previous.definitions.daemon, previous.origins_of("daemon")));
        match (raw, before) {
            (Some((None, raw)), _) => daemon(raw, env),
            (Some((Some(reason), _)), Some((before, _))) => {
                self.outdated.insert("daemon".into(), reason);
                self.kept.insert("daemon".into());
                before.clone()
            }
            (Some((Some(reason), raw)), None) => {
                self.unusable.insert("daemon".into(), reason);
                daemon(raw, env)
            }
            (None, Some((before, Some(file)))) if refusal(&refused, &file).is_some() => {
                self.outdated.extend(refusal(&refused, &file).map(|reason| ("daemon".to_owned(), reason)));
                self.kept.insert("daemon".into());
                before.clone()
            }
            (None, _) => daemon(RawDaemon::default(), env),
        }
    }
}
