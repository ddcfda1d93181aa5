//! Accounts: who may log in, and what they may do. Those that the server has stay as they are.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use tracing::{info, warn};

use super::scan::scan;
use super::{ACCOUNTS, ask, client};
use crate::dump::record::{self, Record};
use crate::dump::run::{self, Call};
use crate::dump::site::words;
use crate::dump::{Change, Site};
use crate::process::Stdin;

/// What the server itself or whoever installed it made: never made anew, whatever a dump says.
const OWN: [&str; 6] = ["root", "mysql", "mariadb.sys", "mysql.sys", "mysql.session", "mysql.infoschema"];

/// MySQL's hashes hold any bytes, which its client would print as they are; so it is told to write digits. Older servers and
/// MariaDB take the comment for one.
const HEX: &str = "set @holdfast = 1 /*!80017 , print_identified_with_as_hex = on */";

/// An account as `name@host`, a role as its name; quotes taken off.
type Account = String;

/// Whether we may see who logs in. Whoever may read just some databases need not.
pub(super) async fn readable(site: &Site) -> bool {
    let seen = ask(site, "select count(*) from mysql.user").await;
    seen.inspect_err(|failure| info!("the accounts are not in the dump: {failure:#}")).is_ok()
}

/// All accounts as statements, by the server's own words, from a program that prints them as a dump's does.
pub(super) async fn printed(site: &Site) -> Result<Call> {
    let list = ask(
        site,
        "select concat(quote(user), '@', quote(host)) from mysql.user where user <> '' and host <> ''",
    );
    let mut text = String::from("-- Accounts\n");
    for account in list.await.context("asking for the accounts")?.lines() {
        for question in [format!("{HEX}; show create user {account}"), format!("show grants for {account}")] {
            for line in ask(site, &question).await.with_context(|| format!("asking about {account}"))?.lines()
            {
                text.push_str(line);
                text.push_str(";\n");
            }
        }
    }
    text.push_str("-- Dump completed\n");
    let mut call = site.ours(words(["cat"]));
    call.program.stdin = Stdin::Bytes(text.into_bytes());
    Ok(call)
}

/// The accounts of a dump that the server has not, and the statements that make them.
async fn missing(site: &Site, tree: &Path, records: &[Record]) -> Result<(BTreeSet<Account>, Vec<String>)> {
    let Some(saved) = records.iter().find(|record| record.file.ends_with(&format!("/{ACCOUNTS}"))) else {
        return Ok((BTreeSet::new(), Vec::new()));
    };
    let path = saved.path(tree);
    let read = move || {
        let mut all = Vec::new();
        scan(std::io::BufReader::new(record::open(&path)?), |statement| {
            all.push(statement.head);
            Ok(())
        })?;
        anyhow::Ok(all)
    };
    let all = tokio::task::spawn_blocking(read).await?.context("reading the saved accounts")?;
    let there = ask(site, "select concat(user, if(host = '', '', concat('@', host))) from mysql.user").await;
    let there: BTreeSet<String> =
        there.context("asking for the accounts")?.lines().map(|line| line.to_ascii_lowercase()).collect();
    let made: BTreeSet<Account> = all.iter().filter_map(|text| makes(text)).collect();
    let made: BTreeSet<Account> = made
        .into_iter()
        .filter(|name| !there.contains(&name.to_ascii_lowercase()) && !is_own(name))
        .collect();
    let kept = all.into_iter().filter(|text| about(text).is_some_and(|name| made.contains(&name))).map(bare);
    // A role is made twice in a dump: once in the words of each kind of server.
    let mut seen = BTreeSet::new();
    let kept: Vec<String> = kept.filter(|text| seen.insert(text.clone())).collect();
    Ok((made.clone(), kept))
}

fn is_own(account: &str) -> bool {
    OWN.contains(&account.split('@').next().unwrap_or_default())
}

/// The account that a statement makes.
fn makes(text: &str) -> Option<Account> {
    let rest = ["CREATE USER ", "CREATE ROLE "].iter().find_map(|head| text.strip_prefix(head))?;
    let (name, _) = account(rest.trim_start_matches("IF NOT EXISTS "))?;
    (name != "mariadb_dump_import_role").then_some(name)
}

/// The account that a statement is about.
fn about(text: &str) -> Option<Account> {
    if let Some(name) = makes(text) {
        return Some(name);
    }
    let at = |word: &str| outside_quotes(text, word).map(|at| &text[at + word.len()..]);
    let rest = match text {
        _ if text.starts_with("GRANT ") => at(" TO ")?,
        _ if text.starts_with("SET DEFAULT ROLE ") => at(" FOR ").or_else(|| at(" TO "))?,
        _ => return None,
    };
    account(rest).map(|(name, _)| name)
}

/// Where a word stands outside of quotes.
fn outside_quotes(text: &str, word: &str) -> Option<usize> {
    let mut quote = None;
    for (at, c) in text.char_indices() {
        match quote {
            None if text[at..].starts_with(word) => return Some(at),
            None if matches!(c, '\'' | '"' | '`') => quote = Some(c),
            Some(open) if open == c => quote = None,
            _ => {}
        }
    }
    None
}

/// A role is made for the one who restores, not for the role that a dump made for that.
fn bare(text: String) -> String {
    text.split(" WITH ADMIN mariadb_dump_import_role").next().unwrap_or(&text).to_owned()
}

/// `` `shop`@`%` ``, `'shop'@'%'` or `` `reader` `` at the beginning of a text, and what follows it.
fn account(text: &str) -> Option<(Account, &str)> {
    let (user, rest) = quoted(text)?;
    match rest.strip_prefix('@') {
        Some(rest) => {
            let (host, rest) = quoted(rest)?;
            Some((if host.is_empty() { user } else { format!("{user}@{host}") }, rest))
        }
        None => Some((user, rest)),
    }
}

fn quoted(text: &str) -> Option<(String, &str)> {
    let quote = text.chars().next().filter(|c| matches!(c, '\'' | '"' | '`'));
    let Some(quote) = quote else {
        let end = text.find(|c: char| !(c.is_alphanumeric() || "_.-%".contains(c))).unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut found = String::new();
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if quote != '`' => found.extend(chars.next().map(|(_, c)| c)),
            c if c == quote && chars.peek().is_some_and(|(_, next)| *next == quote) => {
                found.push(quote);
                chars.next();
            }
            c if c == quote => return Some((found, &text[at + c.len_utf8()..])),
            c => found.push(c),
        }
    }
    None
}

/// Which accounts a restore will make.
pub(in crate::dump) async fn plan(site: &Site, tree: &Path, records: &[Record]) -> Result<Vec<Change>> {
    let (made, _) = missing(site, tree, records).await?;
    let roles: Vec<String> = made.into_iter().collect();
    Ok(if roles.is_empty() { Vec::new() } else { vec![Change::DropRoles { roles }] })
}

/// Makes those that are missing; by standard input, for there are passwords in it.
pub(in crate::dump) async fn make(site: &Site, tree: &Path, records: &[Record]) -> Result<()> {
    let (_, statements) = missing(site, tree, records).await?;
    if statements.is_empty() {
        return Ok(());
    }
    // Accounts first: grants may name each other.
    let (first, then): (Vec<_>, Vec<_>) = statements.into_iter().partition(|text| makes(text).is_some());
    let text: String = first.iter().chain(&then).map(|statement| format!("{statement};\n")).collect();
    let call = client(site, "client", vec!["--default-character-set=utf8mb4".into()], false).await?;
    run::ask(call.told(&text), &site.cancel).await.context("making the accounts that are missing").map(drop)
}

/// Removes those that a restore made.
pub(in crate::dump) async fn remove(site: &Site, accounts: &[Account]) -> Result<()> {
    let quote = |text: &str| format!("'{}'", text.replace('\\', "\\\\").replace('\'', "''"));
    for name in accounts {
        let sql = match name.rsplit_once('@') {
            Some((user, host)) => format!("drop user if exists {}@{}", quote(user), quote(host)),
            None => format!("drop role if exists {}", quote(name)),
        };
        if let Err(failure) = ask(site, &sql).await {
            warn!("the account {name:?}, which a restore made, was left: {failure:#}");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_about_the_account_that_it_makes_or_gives_rights_to() {
        for (text, name) in [
            ("CREATE USER `shop`@`%` IDENTIFIED BY PASSWORD '*A TO `x`@`y`'", "shop@%"),
            (
                "GRANT ALL PRIVILEGES ON `a TO b`.* TO `o``dd`@`local host` WITH GRANT OPTION",
                "o`dd@local host",
            ),
            ("GRANT `reader` TO 'ann'@'localhost'", "ann@localhost"),
            ("CREATE ROLE 'reader' WITH ADMIN mariadb_dump_import_role", "reader"),
            ("SET DEFAULT ROLE `reader` FOR `ann`@`localhost`", "ann@localhost"),
        ] {
            assert_eq!(about(text).as_deref(), Some(name), "{text}");
        }
        for text in ["SET ROLE NONE", "DROP USER x", "CREATE ROLE IF NOT EXISTS mariadb_dump_import_role"] {
            assert_eq!(about(text), None, "{text}");
        }
        assert!(is_own("root@localhost") && !is_own("rooted@x"));
    }
}
