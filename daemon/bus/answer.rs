//! What every interface needs to answer a call, and the way each call takes.

use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use zbus::message::Header;
use zbus::object_server::Interface;
use zbus::wire::OwnedObjectPath;

use super::argument;
use super::authorise::{Action, Authority, Caller, Thing};
use super::error::{Error, Result};
use super::objects::Objects;
use super::path;
use crate::control::{self, Control};
use crate::definition::Name;

/// How long a request may take before its caller is told that it is not done: nobody waits for ever.
const ANSWER: Duration = Duration::from_secs(300);

/// How many jobs of one caller other than root may run or wait.
const OPEN_JOBS: usize = 20;

/// What an interface needs to answer calls. Cheap to clone.
#[derive(Clone)]
pub(super) struct Desk {
    pub(super) control: Control,
    pub(super) authority: Authority,
    pub(super) objects: Objects,
}

impl Desk {
    /// Lets a call in: what it is about is not too long, and its caller may do this.
    pub(super) async fn admit(
        &self,
        header: &Header<'_>,
        action: Action,
        thing: Thing,
        name: &str,
    ) -> Result<Caller> {
        argument::limit("name", name)?;
        self.authority.authorise(header, action, thing, name).await
    }

    /// Lets root in, and nobody else: to an instance by its name.
    pub(super) async fn admit_root(
        &self,
        header: &Header<'_>,
        what: &str,
        name: &str,
    ) -> Result<(Caller, Name)> {
        argument::limit("name", name)?;
        let caller = self.authority.only_root(header, what).await?;
        Ok((caller, argument::name(Thing::Instance.word(), name)?))
    }

    /// Whether root asks; only where a call needs it.
    pub(super) async fn admit_files(&self, header: &Header<'_>, given: &super::options::Given) -> Result<()> {
        if given.contains_key("dump") {
            self.authority.only_root(header, "give a dump").await?;
        }
        Ok(())
    }

    /// As [`Desk::admit`], to something by its name, which is one.
    pub(super) async fn admit_to(
        &self,
        header: &Header<'_>,
        action: Action,
        thing: Thing,
        name: &str,
    ) -> Result<(Caller, Name)> {
        let caller = self.admit(header, action, thing, name).await?;
        Ok((caller, argument::name(thing.word(), name)?))
    }

    /// Runs a request in a task of its own: a panic there becomes an error reply instead of silence.
    pub(super) async fn run<T, F>(&self, request: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = std::result::Result<T, control::Error>> + Send + 'static,
    {
        answered(request, ANSWER).await
    }

    /// Starts a job: its object stands before the caller learns of it.
    pub(super) async fn start<F>(&self, caller: Caller, request: F) -> Result<OwnedObjectPath>
    where
        F: Future<Output = std::result::Result<String, control::Error>> + Send + 'static,
    {
        self.has_room(caller)?;
        let id = self.run(request).await?;
        self.objects.job_stands(&id).await;
        Ok(path::job(&id))
    }

    /// Refuses a caller other than root whose jobs fill the queue.
    fn has_room(&self, caller: Caller) -> Result<()> {
        let cause = caller.cause();
        let jobs = self.control.jobs();
        let open =
            jobs.iter().filter(|job| job.record.outcome.is_none() && job.record.cause == cause).count();
        if caller.uid == 0 || open < OPEN_JOBS {
            return Ok(());
        }
        Err(Error::Busy(format!(
            "{cause} has {open} jobs that have not ended, {OPEN_JOBS} is the most: wait for their ends or cancel some"
        )))
    }

    /// Changes definitions or the pause: the objects show it before the caller gets its answer.
    pub(super) async fn define<T, F>(&self, request: F) -> Result<T>
    where
        T: Send + 'static,
        F: Future<Output = std::result::Result<T, control::Error>> + Send + 'static,
    {
        let answer = self.run(request).await?;
        self.objects.are_told().await;
        Ok(answer)
    }
}

/// The answer of a request that may die, or take too long.
async fn answered<T, F>(request: F, limit: Duration) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = std::result::Result<T, control::Error>> + Send + 'static,
{
    match tokio::time::timeout(limit, tokio::spawn(request)).await {
        Err(_) => Err(Error::Busy(format!(
            "holdfastd is not done with this after {} s, and goes on: its log and the history tell the end",
            limit.as_secs()
        ))),
        Ok(Ok(answer)) => Ok(answer?),
        Ok(Err(died)) => {
            tracing::error!(error = %died, "a request died");
            Err(Error::Failed("the request died inside holdfastd: a bug; its log says where".into()))
        }
    }
}

/// What an object shows: replaced as a whole, read by its property getters.
pub(super) struct Shown<V>(Mutex<V>);

impl<V> Shown<V> {
    pub(super) const fn new(view: V) -> Self {
        Self(Mutex::new(view))
    }

    /// The view; never held across an await.
    pub(super) fn get(&self) -> MutexGuard<'_, V> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An interface that shows a view.
pub(super) trait Shows: Interface {
    /// What is shown.
    type View: PartialEq + Send + 'static;

    /// Where it is kept.
    fn shown(&self) -> &Shown<Self::View>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_that_dies_is_answered() {
        async fn dies() -> std::result::Result<(), control::Error> {
            panic!("canary")
        }
        let Err(Error::Failed(text)) = answered(dies(), ANSWER).await else { panic!("no error") };
        assert!(text.contains("a bug") && !text.contains("canary"), "{text}");
    }

    #[tokio::test]
    async fn a_request_that_takes_for_ever_is_answered() {
        let endless = std::future::pending::<std::result::Result<(), _>>();
        let Err(Error::Busy(text)) = answered(endless, Duration::ZERO).await else { panic!("no error") };
        assert!(text.contains("not done with this"), "{text}");
    }

    #[tokio::test]
    async fn a_refused_request_keeps_its_kind() {
        let refused = control::Error::new(control::ErrorKind::Busy, "at work");
        let answer = answered(async { Err::<(), _>(refused) }, ANSWER).await;
        assert_eq!(answer, Err(Error::Busy("at work".into())));
    }
}
