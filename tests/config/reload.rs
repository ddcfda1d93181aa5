//! One bad file hinders only itself, and what was good stays.

use super::*;

const REPOSITORY: &str = "[repository.r]\nurl = '/srv/r'\n";
const INSTANCES: &str = "[instance.i]\ninclude = ['/srv/i']\n[instance.j]\ninclude = ['/srv/j']\n";

fn etc() -> Etc {
    let etc = Etc::with(REPOSITORY);
    etc.write("etc/conf.d/i.toml", INSTANCES);
    etc.write(
        "etc/conf.d/a.toml",
        "[backup.a]\nrepositories = ['r']\ninstances = ['i']\nschedule = 'daily'\n",
    );
    etc.write("etc/conf.d/b.toml", "[backup.b]\nrepositories = ['r']\ninstances = ['j']\n[backup.c]\nrepositories = ['r']\ninstances = ['j']\n");
    etc
}

#[test]
fn a_bad_file_makes_its_definitions_unusable_and_no_others() {
    let etc = etc();
    etc.write("etc/conf.d/b.toml", "[backup.b]\nrepositories = ['r']\ninstances = ['j']\nenabled = \n[backup.c]\nrepositories = ['r']\ninstances = ['j']\n");
    let loaded = etc.load();
    backup(&loaded, "a");
    assert!(!loaded.definitions.backups.contains_key("b") && !loaded.definitions.backups.contains_key("c"));
    for id in ["backup/b", "backup/c"] {
        assert!(loaded.unusable[id].contains("b.toml:4:"), "{:?}", loaded.unusable);
    }
}

#[test]
fn the_previous_good_version_of_a_bad_files_definitions_stays_active() {
    let etc = etc();
    let first = etc.load();
    assert_eq!(said(&first), "");
    for bad in [
        "[backup.a\n",
        "[backup.a]\nrepositories = ['r']\ninstances = ['i']\nschedul = 'weekly'\n",
        "\u{0}",
        "",
    ] {
        etc.write("etc/conf.d/a.toml", bad);
        let second = etc.reload(&first);
        if bad.is_empty() {
            assert!(second.is_good() && !second.definitions.backups.contains_key("a"));
            continue;
        }
        assert_eq!(backup(&second, "a").schedule.as_ref().unwrap().text(), "daily", "{bad:?}");
        assert!(second.outdated.contains_key("backup/a") && !second.is_good(), "{bad:?}: {}", said(&second));
        assert_eq!(second.origins["backup/a/schedule"].line, 4, "{bad:?}");
        backup(&second, "b");
        let third = etc.reload(&second);
        assert_eq!(backup(&third, "a").schedule.as_ref().unwrap().text(), "daily", "{bad:?}");
    }
}

#[test]
fn a_file_that_others_can_write_is_refused_and_its_previous_version_stays() {
    let etc = etc();
    let first = etc.load();
    etc.mode("etc/conf.d/a.toml", 0o666);
    let second = etc.reload(&first);
    backup(&second, "a");
    assert!(second.outdated["backup/a"].contains("0666"), "{:?}", second.outdated);
    etc.mode("etc/conf.d", 0o777);
    let third = etc.reload(&second);
    assert_eq!(third.definitions.backups.len(), 3, "{}", said(&third));
    etc.mode("etc", 0o777);
    let fourth = etc.reload(&third);
    assert_eq!(
        (fourth.definitions.backups.len(), fourth.definitions.repositories.len()),
        (3, 1),
        "{}",
        said(&fourth)
    );
    let fresh = etc.load();
    assert!(fresh.definitions.backups.is_empty() && !fresh.is_good());
}

#[test]
fn a_backup_whose_repository_is_unusable_is_unusable_with_the_reason() {
    let etc = etc();
    etc.write("etc/holdfast.toml", "[repository.r]\nurl = 'nosuch:x'\n");
    let loaded = etc.load();
    assert!(loaded.definitions.backups.is_empty());
    assert!(loaded.unusable["backup/a"].contains("nosuch"), "{:?}", loaded.unusable);
    assert_eq!(loaded.diagnostics.len(), 1, "one cause is said once: {}", said(&loaded));
}

#[test]
fn a_backup_runs_without_an_unusable_instance_but_knows_of_it() {
    let etc = etc();
    etc.write("etc/conf.d/i.toml", "[instance.i]\ninclude = ['/srv/i']\n");
    etc.write("etc/conf.d/j.toml", "[instance.j]\ninclude = ['../x']\n");
    let loaded = etc.load();
    let b = backup(&loaded, "b");
    let missing = loaded.unusable_instances_of(b);
    assert_eq!(missing.len(), 1);
    assert!(missing[0].1.contains("j.toml:2:"), "{missing:?}");
}

#[test]
fn of_two_definitions_with_one_name_the_first_lives_and_both_are_named() {
    let etc = etc();
    etc.write(
        "etc/conf.d/z.toml",
        "[repository.z]\nurl = '/srv/z'\n[backup.a]\nrepositories = ['z']\ninstances = ['*']\n",
    );
    let loaded = etc.load();
    assert_eq!(&*backup(&loaded, "a").repositories[0], "r");
    repository(&loaded, "z");
    let found = findings(&loaded, &etc.path("etc/conf.d/z.toml"));
    let first =
        format!("3:9 `backup.a` is defined twice; first at {}:1:9", etc.path("etc/conf.d/a.toml").display());
    assert!(found.len() == 1 && found[0].starts_with(&first), "{found:?}");
}

#[test]
fn a_dangling_name_after_a_reload_keeps_the_previous_backup() {
    let etc = etc();
    let first = etc.load();
    etc.write("etc/conf.d/a.toml", "[backup.a]\nrepositories = ['rr']\ninstances = ['i']\n");
    let second = etc.reload(&first);
    assert_eq!(&*backup(&second, "a").repositories[0], "r");
    assert!(said(&second).contains("did you mean `r`?"), "{}", said(&second));
}

#[test]
fn settings_of_the_daemon_stay_when_their_file_turns_bad() {
    let etc = etc();
    etc.write("etc/holdfast.toml", "[daemon]\nhost = 'fixed'\n[repository.r]\nurl = '/srv/r'\n");
    let first = etc.load();
    assert_eq!(first.definitions.daemon.host, "fixed");
    for bad in ["[daemon]\nhots = 'x'\n", "[daemon\n", "\u{1}"] {
        etc.write("etc/holdfast.toml", bad);
        let second = etc.reload(&first);
        assert_eq!(second.definitions.daemon.host, "fixed", "{bad:?}");
        assert!(second.outdated.contains_key("daemon"), "{bad:?}: {:?}", second.outdated);
        assert_eq!(etc.reload(&second).definitions.daemon.host, "fixed", "{bad:?}, again");
    }
}
