//! An instance's own user that this machine lacks: made where that is asked for, taken away again when the restore fails.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::Work;
use super::anew::Made;
use crate::job::remove_tree;
use crate::process::{self, Limits, Program, Sign};
use crate::state::undo::Step;
use crate::target::{Manifest, group_number, user_comment, user_name, user_number};

/// Numbers below are for the system.
const FIRST: u32 = 1000;
/// How long `useradd` and `userdel` may take: they wait for others that change the users.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// A user that is to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// Its name.
    pub name: String,
    /// The number that it had there, where nobody has it here; none: the next free one.
    pub uid: Option<u32>,
}

impl NewUser {
    /// The user that an instance needs and this machine lacks. `saved` is what the set says.
    pub fn missing(user: Option<&str>, saved: &Manifest) -> Option<Self> {
        let name = user.filter(|name| user_number(name).is_none())?.to_owned();
        let of_roots =
            saved.roots.iter().filter(|root| root.user.as_ref() == Some(&name)).map(|root| root.uid);
        let there = saved.users.iter().filter(|(_, known)| **known == name).map(|(uid, _)| *uid);
        let uid = there.chain(of_roots).next().filter(|uid| *uid != 0 && user_name(*uid).is_none());
        Some(Self { name, uid })
    }

    fn home(&self) -> PathBuf {
        Path::new("/home").join(&self.name)
    }

    fn system(&self) -> bool {
        self.uid.is_some_and(|uid| uid < FIRST)
    }

    fn argv(&self, comment: &str) -> Vec<String> {
        let mut argv: Vec<String> =
            ["useradd", "--comment", comment, "--home-dir"].map(str::to_owned).to_vec();
        argv.push(self.home().display().to_string());
        let home = if self.system() { "--no-create-home" } else { "--create-home" };
        argv.push(home.to_owned());
        if self.system() {
            argv.push("--system".to_owned());
        }
        match group_number(&self.name) {
            Some(_) => argv.extend(["--gid".to_owned(), self.name.clone()]),
            None => argv.push("--user-group".to_owned()),
        }
        argv.extend(self.uid.iter().flat_map(|uid| ["--uid".to_owned(), uid.to_string()]));
        argv.extend(["--".to_owned(), self.name.clone()]);
        argv
    }
}

/// A user that this job made: by its comment it is known again.
#[derive(Debug)]
pub(super) struct MadeUser {
    name: String,
    comment: String,
    /// A home that was not there before.
    home: Option<PathBuf>,
}

/// Makes the user; what is made is written down first.
pub(super) async fn make(work: &Work, made: &mut Made) -> Result<()> {
    let Some(new) = &work.request.new_user else { return Ok(()) };
    if user_number(&new.name).is_some() {
        return Ok(());
    }
    let comment = format!("Made by Holdfast in job {}", work.live.id());
    let home = Some(new.home()).filter(|home| home.symlink_metadata().is_err());
    if let Some(path) = home.clone() {
        work.undo.push(Step::RemoveDir { path }).await?;
    }
    work.undo.push(Step::RemoveUser { name: new.name.clone(), comment: comment.clone() }).await?;
    info!("creating the user {}", new.name);
    let argv = new.argv(&comment);
    made.user = Some(MadeUser { name: new.name.clone(), comment, home });
    run(argv, work.live.cancelled()).await
}

async fn run(argv: Vec<String>, cancel: &CancellationToken) -> Result<()> {
    let name = argv[0].clone();
    let program = Program { limits: Limits::within(PATIENCE), ..Program::new(argv) };
    let ended = process::run(program, cancel, |_, _| Sign::Life).await?;
    ensure!(ended.ok(), "{name} failed: {}", ended.stderr_tail.trim());
    Ok(())
}

/// Takes it away again.
pub(super) async fn undo(made: &MadeUser) -> Result<()> {
    remove(&made.name, &made.comment).await?;
    match &made.home {
        Some(home) => remove_tree(home).await,
        None => Ok(()),
    }
}

/// Removes a user that has this comment still: then a restore made it, and nobody took it over since.
pub(in crate::job) async fn remove(name: &str, comment: &str) -> Result<()> {
    if user_comment(name).as_deref() != Some(comment) {
        return Ok(());
    }
    info!("removing the user {name}, which a restore made");
    let argv = ["userdel", "--", name].map(str::to_owned).to_vec();
    run(argv, &CancellationToken::new()).await.with_context(|| format!("removing the user {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_of_the_system_has_no_home_of_its_own_and_keeps_its_number() {
        let new = NewUser { name: "no-such-user-1".into(), uid: Some(312) };
        let argv = new.argv("x").join(" ");
        assert!(
            argv.contains("--system") && argv.contains("--uid 312") && argv.contains("--no-create-home"),
            "{argv}"
        );
        let new = NewUser { name: "no-such-user-1".into(), uid: None };
        let argv = new.argv("x").join(" ");
        assert!(argv.contains("--create-home") && !argv.contains("--uid"), "{argv}");
        assert!(argv.ends_with("-- no-such-user-1"), "{argv}");
    }
}
