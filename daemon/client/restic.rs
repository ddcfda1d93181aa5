//! `holdfast restic`: any restic command on an instance's repository, its secrets prepared. Asks no daemon.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;

use super::failure::{Done, Exit, Failure};
use super::{Context, key, local, repository};
use crate::config::Loaded;
use crate::definition::{Instance, Layout, Name, Password, Repository};
use crate::job::Location;
use crate::restic::{Access, Restic, Terms, write_private};
use crate::{process, state};

/// `holdfast restic`
#[derive(Debug, Args)]
pub(super) struct ResticArgs {
    /// The instance's name
    instance: String,
    /// The repository; default: the first that the instance is backed up to
    #[arg(long)]
    repository: Option<String>,
    /// restic's own arguments, such as: snapshots, ls latest, mount /mnt
    #[arg(last = true, required = true, value_name = "ARGS")]
    args: Vec<OsString>,
}

/// restic with a repository, its secrets prepared for as long as this lives.
pub(super) struct Ready {
    pub(super) restic: Restic,
    pub(super) access: Access,
    pub(super) instance: Name,
    _place: tempfile::TempDir,
}

pub(super) async fn restic(context: &Context, args: ResticArgs) -> Done {
    let ready = ready(context, &args.instance, args.repository.as_deref()).await?;
    let terms = Terms::new(&CancellationToken::new());
    let code = ready.restic.raw(&ready.access, args.args, &terms).await;
    Ok(Exit::of_program(code.map_err(|e| Failure::failed(e.to_string()))?))
}

/// Makes the repository of an instance ready; without a name the first that it is backed up to.
pub(super) async fn ready(
    context: &Context,
    instance: &str,
    repository: Option<&str>,
) -> Result<Ready, Failure> {
    let loaded = local::definitions(context)?;
    let instance = known(&loaded, instance)?;
    let repository = chosen(&loaded, instance, repository)?;
    let location = location(context, repository, instance)?;
    let place = tempfile::Builder::new().prefix("holdfast-restic.").tempdir();
    let place = place.map_err(|error| Failure::failed(format!("making a private directory: {error}")))?;
    let password = password(&repository.password, place.path()).await?;
    let cache = context.cache.join("restic").join(repository.name.as_str());
    let access =
        Access::prepare(place.path(), &location.url(repository), &password, environment(repository)?, &cache);
    let access = access.map_err(|error| refused(&format!("making {} ready", repository.name), &error))?;
    let restic =
        Restic::probe(&loaded.definitions.daemon.restic).await.map_err(|e| Failure::failed(e.to_string()))?;
    Ok(Ready { restic, access, instance: instance.name.clone(), _place: place })
}

fn known<'a>(loaded: &'a Loaded, name: &str) -> Result<&'a Instance, Failure> {
    let instances = &loaded.definitions.instances;
    let found = instances.get(name).map(AsRef::as_ref);
    found.ok_or_else(|| {
        let known: Vec<&str> = instances.keys().map(Name::as_str).collect();
        Failure::failed(format!("no instance `{name}` is defined"))
            .hint(format!("there are: {}", known.join(", ")))
    })
}

/// The repository that was named, or the first that a backup of the instance goes to.
fn chosen<'a>(
    loaded: &'a Loaded,
    instance: &Instance,
    name: Option<&str>,
) -> Result<&'a Repository, Failure> {
    let definitions = &loaded.definitions;
    let covering = definitions.backups.values().filter(|b| b.instances.iter().any(|s| s.matches(instance)));
    let first = covering.flat_map(|backup| &backup.repositories).next().map(Name::as_str);
    let Some(name) = name.or(first) else {
        return Err(Failure::failed(format!("no backup covers {}", instance.name))
            .hint("name a repository with --repository"));
    };
    let found = definitions.repositories.get(name).map(AsRef::as_ref);
    found.ok_or_else(|| Failure::failed(format!("no repository `{name}` is defined")))
}

fn location(context: &Context, repository: &Repository, instance: &Instance) -> Result<Location, Failure> {
    if repository.layout == Layout::Shared {
        return Ok(Location::named(repository, "", ""));
    }
    let file = context.state.join("instances").join(instance.name.as_str());
    match file.try_exists() {
        Ok(true) => {}
        Ok(false) => {
            let why = format!("{} was never backed up: there is no {}", instance.name, file.display());
            return Err(Failure::failed(why).hint("--state says where the daemon keeps its state"));
        }
        Err(error) => return Err(refused(&format!("reading {}", file.display()), &error)),
    }
    let uuid = state::identity(&context.state, &instance.name, None)?;
    Ok(Location::of(repository, instance, uuid))
}

/// The file that holds the password; a program's output goes into `place`.
async fn password(password: &Password, place: &Path) -> Result<PathBuf, Failure> {
    let Password::Command(argv) = password else { return key::file(password) };
    let output = process::capture(process::Program::new(argv), &CancellationToken::new(), 1 << 16).await;
    let output = output.map_err(|error| Failure::failed(format!("running the password command: {error}")))?;
    if !output.ended.ok() {
        return Err(Failure::failed(format!("the password command failed: {}", output.ended.stderr_tail)));
    }
    let file = place.join("password");
    write_private(&file, &output.stdout).map_err(|error| refused("keeping the password", &error))?;
    Ok(file)
}

fn environment(definition: &Repository) -> Result<Vec<(String, SecretString)>, Failure> {
    let Some(file) = &definition.environment_file else { return Ok(Vec::new()) };
    let variables = repository::environment(&repository::read(file)?, file)?;
    Ok(variables.into_iter().map(|(name, value)| (name, SecretString::from(value))).collect())
}

fn refused(doing: &str, error: &std::io::Error) -> Failure {
    let exit = match error.kind() {
        std::io::ErrorKind::PermissionDenied => Exit::NotAuthorized,
        _ => Exit::Failed,
    };
    let failure = Failure::new(exit, format!("{doing}: {error}"));
    if exit == Exit::NotAuthorized {
        failure.hint("this needs the daemon's secrets: use sudo")
    } else {
        failure
    }
}
