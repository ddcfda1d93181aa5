//! Files of database servers, which a restore makes in a directory of ours there and exchanges while the server is stopped.

use super::needs::Rule;
use super::spots::{ANY, ONE, OURS, Place, Spot, place, rule};
use super::{argv, over};
use crate::definition::{Dump, Openldap, Remote, Source};
use crate::job::{MADE_ABOVE, openldap_directories};

/// What SQLite puts beside a file: it goes with that.
const BESIDE: &str = "-wal|-shm|-journal";
/// What RabbitMQ puts beside a node's directory.
const FLAGS: &str = "-feature_flags";

/// The rules of restores of a dump.
///
/// # Errors
/// A path that no rule can name; OpenLDAP does not tell where its databases lie.
pub(super) async fn restored(dump: &Dump) -> Result<Vec<Rule>, String> {
    let own = place(dump.name.as_str())?;
    let yard = Place::new(
        &format!("{MADE_ABOVE}/{OURS}_{}_made", own.pattern),
        &format!("{MADE_ABOVE}/{ONE}_{}_made", own.sample),
    );
    let mut rules = vec![rule(&["rm", "-rf", "--", &yard.sample], format!("-rf -- {}", yard.pattern))];
    for (spot, made) in spots(dump).await? {
        let spot = spot.of_dump(&own);
        rules.extend(spot.exchanged());
        rules.extend(spot.made(&yard.join(&made)));
    }
    Ok(rules)
}

/// What changes places, and what is made for it.
async fn spots(dump: &Dump) -> Result<Vec<(Spot, Place)>, String> {
    let of = |path: &std::path::Path| {
        let text = path.to_str().ok_or_else(|| format!("{} is no UTF-8", path.display()))?;
        Spot::of(text)
    };
    Ok(match &dump.source {
        Source::Sqlite(files) => {
            let made = Place::new(r"[0-9]+\.db", "0.db");
            let all = files.iter().map(|file| Ok((Spot::of(file)?.with_ends(BESIDE), made.clone())));
            all.collect::<Result<_, String>>()?
        }
        Source::Etcd(etcd) => vec![(of(&etcd.data_dir)?, place("data")?)],
        Source::Rabbitmq(rabbit) => {
            let Some(dir) = &rabbit.data_dir else { return Ok(Vec::new()) };
            vec![(of(dir)?.with_ends(FLAGS), Place::new("made", "made").join(&Place::new(ANY, "x")))]
        }
        Source::Openldap(ldap) => {
            let mut all = vec![(of(&ldap.config_dir)?, place("config")?)];
            for dir in directories(dump, ldap).await? {
                all.push((of(&dir)?, Place::new("db-[0-9]+", "db-1")));
            }
            all
        }
        _ => Vec::new(),
    })
}

/// Where the databases of an OpenLDAP lie: its configuration says so.
async fn directories(dump: &Dump, ldap: &Openldap) -> Result<Vec<std::path::PathBuf>, String> {
    let Some(remote) = &dump.remote else { return Ok(Vec::new()) };
    let dir = ldap.config_dir.display().to_string();
    let words = ["slapcat", "-o", "ldif-wrap=no", "-n", "0", "-F", &dir];
    let said = asked(remote, dump.run_as.as_deref(), &words).await;
    let said = said.map_err(|why| format!("slapcat does not tell where databases lie: {why}"))?;
    openldap_directories(&said).map_err(|failure| format!("{failure:#}"))
}

async fn asked(remote: &Remote, user: Option<&str>, words: &[&str]) -> Result<String, String> {
    let mut command: Vec<String> =
        user.map_or_else(Vec::new, |user| argv(["sudo", "-n", "-u", user, "--", "env"]));
    command.extend(words.iter().map(|word| (*word).to_owned()));
    match over(remote, &command).await {
        Ok(said) => said,
        Err(failure) => Err(failure.message),
    }
}
