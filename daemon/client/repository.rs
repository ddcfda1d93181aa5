//! `holdfast repository`: lists, shows and defines repositories.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::daemon::RepositoryProxy;
use super::failure::{Done, Exit, Failure};
use super::format::{Here, size};
use super::key;
use super::keys::{self, Keys};
use super::output::{Grid, Text, Tone};
use super::wire::{Row, json_rows, object_path};

/// `holdfast repository`
#[derive(Debug, Subcommand)]
pub(super) enum Verb {
    /// List the repositories
    List,
    /// Show one repository
    Show(Named),
    /// Define a new repository; without --password-file a password is generated
    Add(Box<AddArgs>),
    /// Remove a repository's definition; its data is kept
    Remove(Named),
    /// Try whether a repository can be opened
    Test(Named),
    /// List the instances whose snapshots a repository holds
    Contents(Named),
    /// Print a repository's password, to be kept elsewhere (root only, without a daemon)
    Key(Named),
}

/// A repository by name.
#[derive(Debug, Args)]
pub(super) struct Named {
    /// The repository's name
    name: String,
}

/// Keys of a new repository.
#[derive(Debug, Args)]
pub(super) struct AddArgs {
    /// The repository's name
    name: String,
    /// Where it is: /path, sftp:, rest:, s3:, b2:, azure:, gs:, swift:, rclone:
    #[arg(long)]
    url: String,
    /// Read its password from the first line of this file, or from standard input (-)
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// Read the storage's credentials from this file of NAME=value lines
    #[arg(long, value_name = "FILE")]
    environment_file: Option<PathBuf>,
    /// per-instance: one restic repository for each instance; shared: one for all
    #[arg(long, value_parser = ["per-instance", "shared"])]
    layout: Option<String>,
    /// The storage refuses deletes: never try to forget or prune there
    #[arg(long)]
    append_only: bool,
}

pub(super) async fn repository(context: &Context, verb: Verb) -> Done {
    match verb {
        Verb::List => list(context).await,
        Verb::Show(args) => show(context, &args.name).await,
        Verb::Add(args) => add(context, *args).await,
        Verb::Remove(args) => remove(context, &args.name).await,
        Verb::Test(args) => test(context, &args.name).await,
        Verb::Contents(args) => contents(context, &args.name).await,
        Verb::Key(args) => key::key(context, &args.name),
    }
}

async fn list(context: &Context) -> Done {
    let repositories = context.daemon().await?.objects().await?.repositories;
    if context.out.json {
        context.out.value(&json_rows(&repositories));
    } else {
        context.out.grid(&table(&repositories, &context.here));
    }
    Ok(Exit::Done)
}

fn table(rows: &[Row], here: &Here) -> Grid {
    let mut grid = Grid::new(&["REPOSITORY", "URL", "LAYOUT", "LAST CHECK", "LAST PRUNE", "STATE"]);
    for row in rows {
        grid.row([
            Text(row.text("Name").to_owned(), Tone::Strong),
            row.text("Url").into(),
            row.text("Layout").into(),
            here.age(row.time("LastCheck")).into(),
            here.age(row.time("LastPrune")).into(),
            state(row),
        ]);
    }
    grid
}

fn state(row: &Row) -> Text {
    if row.flag("Damaged") {
        Text("damaged".to_owned(), Tone::Bad)
    } else {
        Text("ok".to_owned(), Tone::Good)
    }
}

async fn show(context: &Context, name: &str) -> Done {
    let row = context.daemon().await?.named("repository", "Repository", name).await?;
    if context.out.json {
        context.out.value(&row.json());
        return Ok(Exit::Done);
    }
    let line = |label: &str, text: &str| context.out.line(format!("{label:<12}{text}"));
    line("repository", row.text("Name"));
    line("url", row.text("Url"));
    line("layout", row.text("Layout"));
    line("last check", &context.here.moment(row.time("LastCheck")));
    line("last prune", &context.here.moment(row.time("LastPrune")));
    line("state", &state(&row).0);
    Ok(Exit::Done)
}

async fn add(context: &Context, args: AddArgs) -> Done {
    let keys = keys(&args)?;
    let daemon = context.daemon().await?;
    daemon.manager.add_repository(&args.name, keys::options(&keys)?).await.map_err(|e| daemon.failure(e))?;
    if context.out.json {
        context.out.value(&daemon.named("repository", "Repository", &args.name).await?.json());
        return Ok(Exit::Done);
    }
    context.out.line(format!("{} is defined; `holdfast repository test {0}` tries it", args.name));
    if args.password_file.is_none() {
        context.out.note(format!(
            "its password was generated: without it no snapshot can be read. Keep a copy elsewhere:\n  holdfast repository key {}",
            args.name
        ));
    }
    Ok(Exit::Done)
}

/// Secrets are read from files, so that they never stand in an argument list.
fn keys(args: &AddArgs) -> Result<Keys, Failure> {
    let mut keys = Keys::new();
    keys.insert("url".into(), args.url.clone().into());
    if let Some(file) = &args.password_file {
        keys.insert("password".into(), password(file)?.into());
    }
    if let Some(file) = &args.environment_file {
        keys.insert("environment".into(), json!(environment(&read(file)?, file)?));
    }
    if let Some(layout) = &args.layout {
        keys.insert("layout".into(), layout.clone().into());
    }
    if args.append_only {
        keys.insert("append_only".into(), true.into());
    }
    Ok(keys)
}

fn password(file: &Path) -> Result<String, Failure> {
    let text = read(file)?;
    match text.lines().next() {
        Some(line) if !line.is_empty() => Ok(line.to_owned()),
        _ => Err(Failure::failed(format!("{}: the first line, the password, is empty", file.display()))),
    }
}

pub(super) fn read(file: &Path) -> Result<String, Failure> {
    let mut text = String::new();
    let read = if file == Path::new("-") {
        std::io::stdin().lock().read_to_string(&mut text)
    } else {
        std::fs::File::open(file).and_then(|mut file| file.read_to_string(&mut text))
    };
    read.map_err(|error| Failure::failed(format!("reading {}: {error}", file.display())))?;
    Ok(text)
}

/// `NAME=value` lines; blank lines and comments are left out. Errors name the line, never its text.
pub(super) fn environment(text: &str, file: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let mut variables = BTreeMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) =
            line.split_once('=').filter(|(name, _)| !name.trim().is_empty()).ok_or_else(|| {
                Failure::failed(format!("{}:{}: this line is not NAME=value", file.display(), number + 1))
            })?;
        variables.insert(name.trim().to_owned(), unquoted(value.trim()).to_owned());
    }
    Ok(variables)
}

fn unquoted(value: &str) -> &str {
    let inner = |quote| value.strip_prefix(quote).and_then(|rest: &str| rest.strip_suffix(quote));
    inner('"').or_else(|| inner('\'')).unwrap_or(value)
}

async fn remove(context: &Context, name: &str) -> Done {
    let daemon = context.daemon().await?;
    daemon.manager.remove_repository(name).await.map_err(|e| daemon.failure(e))?;
    if context.out.json {
        context.out.value(&json!({ "Name": name }));
    } else {
        context.out.line(format!("{name} is no longer defined; its data and its password file are kept"));
    }
    Ok(Exit::Done)
}

async fn test(context: &Context, name: &str) -> Done {
    let daemon = context.daemon().await?;
    let proxy = RepositoryProxy::new(&daemon.connection, object_path("repository", name)).await;
    let proxy = proxy.map_err(|error| daemon.failure(error))?;
    proxy.test().await.map_err(|error| daemon.failure_of(error, "repository", name))?;
    if context.out.json {
        context.out.value(&json!({ "Name": name }));
    } else {
        context.out.line(format!("{name} can be opened"));
    }
    Ok(Exit::Done)
}

async fn contents(context: &Context, name: &str) -> Done {
    let daemon = context.daemon().await?;
    let rows = daemon.manager.list_contents(name).await.map_err(|e| daemon.failure(e))?;
    let rows: Vec<Row> = rows.into_iter().map(Row::from).collect();
    if context.out.json {
        context.out.value(&json_rows(&rows));
    } else if rows.is_empty() {
        context.out.note(format!("{name} holds no snapshot yet"));
    } else {
        context.out.grid(&contents_table(&rows, &context.here));
        context
            .out
            .note(format!("`holdfast restore {name}:MODULE/UUID` brings back what is not defined here"));
    }
    Ok(Exit::Done)
}

fn contents_table(rows: &[Row], here: &Here) -> Grid {
    let mut grid = Grid::new(&["INSTANCE", "MODULE", "UUID", "HOST", "NEWEST", "SIZE", "DEFINED HERE"]);
    for row in rows {
        grid.row([
            Text(row.text("name").to_owned(), Tone::Strong),
            row.text("module").into(),
            row.text("uuid").into(),
            row.text("host").into(),
            here.moment(row.time("last_set")).into(),
            size(row.number("size")).into(),
            if row.flag("defined_here") { "yes" } else { "no" }.into(),
        ]);
    }
    grid
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_read_line_by_line_and_never_repeated_in_errors() {
        let file = Path::new("b2.env");
        let read = environment("# b2\n\nB2_ACCOUNT_ID=abc\nB2_ACCOUNT_KEY=\"x=y\"\n", file).unwrap();
        assert_eq!((read["B2_ACCOUNT_ID"].as_str(), read["B2_ACCOUNT_KEY"].as_str()), ("abc", "x=y"));
        let error = environment("A=1\nhunter2\n", file).unwrap_err();
        assert!(
            error.message.contains("b2.env:2") && !error.message.contains("hunter2"),
            "{}",
            error.message
        );
    }

    #[test]
    fn a_missing_password_file_is_named() {
        let error = password(Path::new("/nowhere/pw")).unwrap_err();
        assert!(error.message.contains("/nowhere/pw"), "{}", error.message);
    }
}
