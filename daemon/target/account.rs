//! Users and groups as the machine knows them: through NSS, so that LDAP and systemd-homed users count too.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use nix::unistd::{Gid, Group, Uid, User};

use crate::process::Account;

/// The account that an instance's programs run as: the user named, else the daemon's own.
///
/// # Errors
/// The user is unknown here, or this daemon may not become that user. The caller adds the instance's name.
pub fn account(user: Option<&str>) -> Result<Account> {
    let own = Uid::effective();
    let Some(name) = user else { return own_account(own) };
    let found = User::from_name(name).with_context(|| format!("looking up user {name:?}"))?;
    let found = found.ok_or_else(|| {
        anyhow!(
            "user {name:?} does not exist on this machine; create it (`useradd --create-home {name}`), or correct the key \
             `user`"
        )
    })?;
    if !own.is_root() && found.uid != own {
        bail!("user {name:?} is not ours and the daemon is not root; run it as root or as {name}");
    }
    Ok(from(found))
}

fn own_account(own: Uid) -> Result<Account> {
    let found = User::from_uid(own).with_context(|| format!("looking up our own user {own}"))?;
    let unknown = || Account {
        name: own.to_string(),
        uid: own.as_raw(),
        gid: Gid::effective().as_raw(),
        home: "/".into(),
    };
    Ok(found.map_or_else(unknown, from))
}

fn from(user: User) -> Account {
    Account { name: user.name, uid: user.uid.as_raw(), gid: user.gid.as_raw(), home: user.dir }
}

/// The name of a user, if there is one with this id.
pub fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// The name of a group, if there is one with this id.
pub(super) fn group_name(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}

/// What the machine says of a user besides: the comment, which whoever makes it chooses.
pub fn user_comment(name: &str) -> Option<String> {
    let user = User::from_name(name).ok().flatten()?;
    Some(user.gecos.to_string_lossy().into_owned())
}

/// The number of a user of this name.
pub fn user_number(name: &str) -> Option<u32> {
    User::from_name(name).ok().flatten().map(|user| user.uid.as_raw())
}

/// The number of a group of this name.
pub fn group_number(name: &str) -> Option<u32> {
    Group::from_name(name).ok().flatten().map(|group| group.gid.as_raw())
}

/// Users and groups of this machine's own files, by number: what a restore elsewhere can tell owners by.
pub fn local_names() -> (BTreeMap<u32, String>, BTreeMap<u32, String>) {
    let read = |file: &str| named(&std::fs::read(file).unwrap_or_default());
    (read("/etc/passwd"), read("/etc/group"))
}

/// `NAME:PASSWORD:NUMBER:…` a line; the first of one number counts, as for everybody who asks.
fn named(text: &[u8]) -> BTreeMap<u32, String> {
    let mut names = BTreeMap::new();
    for line in String::from_utf8_lossy(text).lines() {
        let mut fields = line.split(':');
        let (name, number) = (fields.next().unwrap_or_default(), fields.nth(1).and_then(|n| n.parse().ok()));
        if let Some(number) = number.filter(|_| !name.is_empty()) {
            names.entry(number).or_insert_with(|| name.to_owned());
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_user_the_daemons_own_account_is_meant() {
        assert_eq!(account(None).unwrap().uid, Uid::effective().as_raw());
    }

    #[test]
    fn names_are_read_from_lines_and_what_is_none_is_left_out() {
        let names = named(b"root:x:0:0:root:/root:/bin/sh\ntoor:x:0::::\n\xff\n+::::\nwww:x:33:33\n");
        assert_eq!(names.into_iter().collect::<Vec<_>>(), [(0, "root".to_owned()), (33, "www".to_owned())]);
        assert_eq!(local_names().0.get(&0).map(String::as_str), Some("root"));
        assert_eq!((user_number("root"), group_number("no such group")), (Some(0), None));
    }

    #[test]
    fn an_unknown_user_is_named_with_the_key_to_correct() {
        let error = format!("{:#}", account(Some("no-such-user-here")).unwrap_err());
        assert!(error.contains("no-such-user-here") && error.contains("`user`"), "{error}");
    }
}
