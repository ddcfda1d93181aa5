//! `holdfast repository key`: the password of a repository, to be kept elsewhere. Asks no daemon: a secret never goes
//! over the bus.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::failure::{Done, Exit, Failure};
use super::{Context, local};
use crate::definition::Password;

pub(super) fn key(context: &Context, name: &str) -> Done {
    let loaded = local::definitions(context)?;
    let Some(repository) = loaded.definitions.repositories.get(name) else {
        let known: Vec<&str> = loaded.definitions.repositories.keys().map(|name| name.as_str()).collect();
        let why = format!("no repository `{name}` is defined in {}", context.config.display());
        return Err(Failure::failed(why).hint(format!("there are: {}", known.join(", "))));
    };
    let file = file(&repository.password)?;
    let password = read(&file)?;
    if context.out.json {
        context.out.value(&json!({ "Name": name, "Url": repository.shown_url(), "password": password }));
    } else {
        context.out.line(&password);
        context.out.note(format!(
            "(from {}; whoever has it and {} can read every snapshot)",
            file.display(),
            repository.shown_url()
        ));
    }
    Ok(Exit::Done)
}

/// Where the password is, if it is in a file.
pub(super) fn file(password: &Password) -> Result<PathBuf, Failure> {
    match password {
        Password::File(file) | Password::Generated(file) => Ok(file.clone()),
        Password::Credential(name) => Err(Failure::failed(format!(
            "the password is the systemd credential `{name}` of the service, which only the service can read"
        ))
        .hint("look where the credential comes from: `systemctl cat holdfastd`")),
        Password::Command(argv) => {
            Err(Failure::failed("the password is printed by a program, not kept in a file")
                .hint(format!("run it: {}", argv.join(" "))))
        }
    }
}

fn read(file: &Path) -> Result<String, Failure> {
    let shown = file.display();
    let text = std::fs::read_to_string(file).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => Failure::failed(format!("there is no password in {shown} yet"))
            .hint("the daemon makes it with the first backup; --config and --state say where it looks"),
        std::io::ErrorKind::PermissionDenied => {
            Failure::new(Exit::NotAuthorized, format!("{shown} may not be read"))
                .hint("only root (the daemon's user) may see passwords: use sudo")
        }
        _ => Failure::failed(format!("reading {shown}: {error}")),
    })?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_line_is_the_password() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "hunter2\nrest\n").unwrap();
        assert_eq!(read(file.path()).unwrap(), "hunter2");
    }

    #[test]
    fn a_password_that_is_not_there_says_who_makes_it() {
        let error = read(Path::new("/nowhere/pw")).unwrap_err();
        assert!(error.hint.unwrap().contains("first backup"));
    }

    #[test]
    fn passwords_that_are_in_no_file_say_where_they_are() {
        let error = file(&Password::Command(vec!["pass".into(), "b2".into()])).unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("run it: pass b2"));
    }
}
