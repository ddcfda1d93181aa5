//! Who logs in to a server: what the definition says, else what the container was started with.

use std::path::PathBuf;

use anyhow::{Context, Result};
use secrecy::SecretString;

use super::run;
use super::site::Site;
use crate::definition::Source;
use crate::target::read_secret;

/// Who logs in.
#[derive(Debug, Clone, Default)]
pub(super) struct Login {
    /// The server's user; none: whoever the client program takes.
    pub(super) user: Option<String>,
    /// That user's password.
    pub(super) password: Option<SecretString>,
    /// What an API takes in place of a user.
    pub(super) api_key: Option<SecretString>,
}

/// A user and the variable that holds that user's password.
type Pair = (Who, &'static str);

/// Whose password it is.
enum Who {
    Named(&'static str),
    Variable(&'static str),
}

const POSTGRES: &[Pair] =
    &[(Who::Variable("POSTGRES_USER"), "POSTGRES_PASSWORD"), (Who::Named("postgres"), "POSTGRES_PASSWORD")];

/// A password belongs to one user: root's never goes with another one.
const MARIADB: &[Pair] = &[
    (Who::Named("root"), "MARIADB_ROOT_PASSWORD"),
    (Who::Named("root"), "MYSQL_ROOT_PASSWORD"),
    (Who::Variable("MARIADB_USER"), "MARIADB_PASSWORD"),
    (Who::Variable("MYSQL_USER"), "MYSQL_PASSWORD"),
];

const MONGODB: &[Pair] = &[(Who::Variable("MONGO_INITDB_ROOT_USERNAME"), "MONGO_INITDB_ROOT_PASSWORD")];

/// Finds the login.
///
/// # Errors
/// The password file cannot be read, or holds what is no password.
pub(super) async fn find(site: &Site) -> Result<Login> {
    let Some(server) = site.dump.source.server() else { return Ok(Login::default()) };
    let mut login = Login { user: server.user.clone(), ..Login::default() };
    if let Some(path) = server.password_file.clone() {
        login.password = Some(secret(path).await.context("`password_file`")?);
        return Ok(login);
    }
    if let Source::Opensearch(search) | Source::Elasticsearch(search) = &site.dump.source {
        if let Some(path) = search.api_key_file.clone() {
            login.api_key = Some(secret(path).await.context("`api_key_file`")?);
        }
        return Ok(login);
    }
    let pairs = match &site.dump.source {
        Source::Postgresql(_) => POSTGRES,
        Source::Mariadb(_) | Source::Mysql(_) => MARIADB,
        Source::Mongodb(_) => MONGODB,
        _ => return Ok(login),
    };
    for (who, key) in pairs {
        let user = match who {
            Who::Named(name) => Some((*name).to_owned()),
            Who::Variable(key) => variable(site, key).await?,
        };
        let Some(user) = user.filter(|user| login.user.as_ref().is_none_or(|wanted| wanted == user)) else {
            continue;
        };
        if let Some(password) = variable(site, key).await? {
            let password = Some(SecretString::from(password));
            return Ok(Login { user: Some(user), password, ..login });
        }
    }
    let container = site.contained.is_some() && matches!(site.dump.source, Source::Postgresql(_));
    if login.user.is_none() && container {
        login.user = Some(variable(site, "POSTGRES_USER").await?.unwrap_or_else(|| "postgres".into()));
    }
    Ok(login)
}

async fn secret(path: PathBuf) -> Result<SecretString> {
    let text = tokio::task::spawn_blocking(move || read_secret(&path)).await??;
    Ok(SecretString::from(text.trim_end_matches(['\r', '\n'])))
}

/// A variable of the container, or the content of the file that `NAME_FILE` names inside it.
async fn variable(site: &Site, name: &str) -> Result<Option<String>> {
    let Some(contained) = &site.contained else { return Ok(None) };
    if let Some(value) = contained.variable(name).filter(|value| !value.is_empty()) {
        return Ok(Some(value.to_owned()));
    }
    let file = format!("{name}_FILE");
    let Some(path) = contained.variable(&file).filter(|path| !path.is_empty()) else { return Ok(None) };
    let text = run::ask(site.question(["cat", "--", path], &[]), &site.cancel).await;
    let text = text.with_context(|| format!("reading the file that {file} of the container names"))?;
    Ok(Some(text.trim_end_matches(['\r', '\n']).to_owned()))
}
