//! `backup --stdin`: a snapshot of one file, which comes through a feed.
//!
//! The file lies at the top of its snapshot. In a directory of its own restic 0.18.0 does not find it again (restic#5324),
//! and restic 0.14 that loses its input keeps the empty directory; so it keeps nothing.
//!
//! Measured with 0.14, 0.18 and 0.19: SIGINT before the input is closed makes no snapshot and leaves no lock; 0.18 and
//! 0.19 end only when their input moves. An input that is reset makes no snapshot (0.14), or one without the file.

use super::backup::{BackupSummary, Progress, Said, check_tags};
use super::call::Call;
use super::lock::Patience;
use super::{Access, Error, Restic, Terms};
use crate::process::{Hunger, Lines, Sign, Stdin};

/// What to save.
#[derive(Debug, Clone)]
pub struct StreamRequest {
    /// The file's name; no slash.
    pub name: String,
    /// Tags; no commas.
    pub tags: Vec<String>,
    /// The host name in the snapshot.
    pub host: String,
    /// Whether restic waits for its input: then it is not stalled.
    pub hunger: Hunger,
}

impl Restic {
    /// Makes a snapshot of what comes through `input`, the other side of a feed. Never tried again: what came is gone.
    /// After a lock of somebody else's it returns when that is worth another try.
    ///
    /// # Errors
    /// As `backup`.
    pub async fn backup_stream(
        &self,
        access: &Access,
        request: &StreamRequest,
        input: Stdin,
        terms: &Terms,
        mut progress: impl FnMut(Progress) + Send,
    ) -> Result<BackupSummary, Error> {
        let (mut said, mut lines) = (Said::default(), Lines::default());
        let mut hear = |piece: &[u8]| {
            let mut sign = if request.hunger.waits() { Sign::Life } else { Sign::Nothing };
            lines.feed(piece, |line| sign = sign.or(said.hear(line, &mut progress)));
            sign
        };
        let done = self.attempt_with(access, terms, &request.call()?, input, &mut hear).await;
        lines.end(|line| _ = said.hear(line, &mut progress));
        match done {
            Ok(done) => said.result(access, done),
            Err(Error::Locked { holder }) => {
                Patience::new(terms.wait_for_lock).consider(self, access, terms, holder).await?;
                Err(Error::Locked { holder: None })
            }
            Err(other) => Err(other),
        }
    }
}

impl StreamRequest {
    fn call(&self) -> Result<Call, Error> {
        check_tags(&self.tags)?;
        if self.name.is_empty() || self.name.contains('/') {
            return Err(Error::Unusable(format!("{:?} is no name of a file", self.name)));
        }
        let mut call = Call::new(["backup", "--json", "--stdin", "--host", &self.host]);
        call.args.extend(["--stdin-filename".into(), self.name.clone().into()]);
        for tag in &self.tags {
            call.args.extend(["--tag".into(), tag.into()]);
        }
        call.also_good = &[3];
        Ok(call)
    }
}
