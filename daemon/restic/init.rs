//! `init`, and the cheapest question that there is: what is this repository's id?

use serde::Deserialize;

use super::call::Call;
use super::{Access, Error, Restic, Terms};

#[derive(Deserialize)]
struct Config {
    id: String,
}

impl Restic {
    /// Makes a repository. Only after [`Error::NoRepository`]: any other error may hide one that is there.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`], [`Error::Damaged`] when the rest of a repository is there, or as any call.
    pub async fn init(&self, access: &Access, terms: &Terms) -> Result<(), Error> {
        if let Some(path) = &access.local_path {
            refuse_rest(path)?;
        }
        self.text(access, terms, &Call::new(["init"])).await.map(|_| ())
    }

    /// The id of the repository, the same wherever it is reached from. Takes no lock and writes nothing.
    ///
    /// # Errors
    /// [`Error::NoRepository`] when there is definitely none, or as any call.
    pub async fn config_id(&self, access: &Access, terms: &Terms) -> Result<String, Error> {
        let text = self.text(access, terms, &Call::unlocked(["cat", "config"])).await?;
        serde_json::from_str::<Config>(&text).map(|c| c.id).map_err(|_| Error::NoSummary)
    }
}

/// restic 0.14 adds a new key and config to a repository that lost its config (measured): all data would be lost.
fn refuse_rest(path: &std::path::Path) -> Result<(), Error> {
    let rest = |name: &str| std::fs::read_dir(path.join(name)).is_ok_and(|mut d| d.next().is_some());
    match ["keys", "snapshots", "index"].into_iter().find(|name| rest(name)) {
        Some(name) if !path.join("config").exists() => {
            Err(Error::Damaged(format!("{} has no config, but {name} is not empty", path.display())))
        }
        _ => Ok(()),
    }
}
