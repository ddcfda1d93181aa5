//! Users and groups as the machine knows them: through NSS, so that LDAP and systemd-homed users count too.

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
pub(super) fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}

/// The name of a group, if there is one with this id.
pub(super) fn group_name(gid: u32) -> Option<String> {
    Group::from_gid(Gid::from_raw(gid)).ok().flatten().map(|group| group.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_user_the_daemons_own_account_is_meant() {
        assert_eq!(account(None).unwrap().uid, Uid::effective().as_raw());
    }

    #[test]
    fn an_unknown_user_is_named_with_the_key_to_correct() {
        let error = format!("{:#}", account(Some("no-such-user-here")).unwrap_err());
        assert!(error.contains("no-such-user-here") && error.contains("`user`"), "{error}");
    }
}
