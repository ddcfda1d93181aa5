//! Files that are right, and the defaults.

use std::path::PathBuf;
use std::time::Duration;

use holdfast::definition::{Layout, Password, Retention, Selector, Version, Volumes};

use super::*;

/// The sample of the design, without what belongs to later versions.
const SAMPLE: &str = r#"
[daemon]
staging_dir = "/var/lib/holdfast/staging"
timezone = "Europe/Rome"
max_parallel = 2
host = "srv1"
restic = "/usr/bin/restic"

[repository.b2]
url = "b2:backupns8"
password_file = "secrets/b2.password"
environment_file = "secrets/b2.env"
layout = "shared"
append_only = false
prune = { schedule = "Sun 03:00", max_unused = "500MiB" }
check = { schedule = "monthly", read_data = "1/12" }

[backup.mybackup]
repositories = ["b2"]
schedule = "daily"
retention = { last = 3, hourly = 2, daily = 7, weekly = 4, monthly = 12, yearly = 3, within = "30d" }
instances = ["dokuwiki1", "module:dokuwiki"]
enabled = true
catch_up = true
random_delay = "30m"
max_duration = "6h"
retry = { attempts = 4, delay = "1m" }

[instance.dokuwiki1]
module = "dokuwiki"
user = "dokuwiki1"
install_dir = "/home/dokuwiki1/.config"
volumes = "podman"
exclude_add = ["*.tmp"]

[module.dokuwiki]
include = ["volumes/dokuwiki-data", "state/secrets.env", "~/notes", "/srv/wiki"]
exclude = ["volumes/dokuwiki-data/**/cache/*", "!volumes/dokuwiki-data/**/cache/keep"]
dump_state = ["bin/module-dump-state"]
cleanup_state = ["bin/module-cleanup-state"]
hook_timeout = "2h"

[module.dokuwiki.restore]
steps = "actions/restore-module"

[module.dokuwiki.version]
command = ["cat", "/usr/share/dokuwiki/VERSION"]
"#;

#[test]
fn the_sample_of_the_design_becomes_what_it_says() {
    let etc = Etc::with(SAMPLE);
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    let daemon = &loaded.definitions.daemon;
    assert_eq!((daemon.host.as_str(), daemon.max_parallel), ("srv1", 2));
    assert_eq!(daemon.timezone.iana_name(), Some("Europe/Rome"));
    let b2 = repository(&loaded, "b2");
    assert_eq!(b2.password, Password::File(etc.path("etc/secrets/b2.password")));
    assert_eq!(b2.environment_file, Some(etc.path("etc/secrets/b2.env")));
    assert_eq!(b2.layout, Layout::Shared);
    let prune = b2.prune.as_ref().unwrap();
    assert_eq!((prune.schedule.text(), prune.max_unused.as_str()), ("Sun 03:00", "524288000"));
    assert_eq!(b2.check.as_ref().unwrap().read_data.as_deref(), Some("1/12"));
    let mine = backup(&loaded, "mybackup");
    let within = Some(Duration::from_secs(30 * 86_400));
    let kept =
        Retention { last: 3, hourly: 2, daily: 7, weekly: 4, monthly: 12, yearly: 3, within, versions: 0 };
    assert_eq!(mine.retention, Some(kept));
    assert_eq!((mine.retry.attempts, mine.retry.delay), (4, Duration::from_secs(60)));
    assert_eq!(
        (mine.random_delay, mine.max_duration),
        (Duration::from_secs(1800), Some(Duration::from_secs(21_600)))
    );
    let wiki = instance(&loaded, "dokuwiki1");
    assert_eq!(wiki.volumes, Volumes::Podman);
    assert_eq!(wiki.exclude.last().map(String::as_str), Some("*.tmp"));
    assert_eq!(wiki.exclude.len(), 3);
    assert_eq!(wiki.hook_timeout, Duration::from_secs(7200));
    assert_eq!(wiki.restore.steps, Some("actions/restore-module".into()));
    let version = Version::Command(vec!["cat".into(), "/usr/share/dokuwiki/VERSION".into()]);
    assert_eq!(wiki.version, Some(version));
    assert_eq!(loaded.definitions.instances_of(mine).len(), 1);
}

#[test]
fn without_any_file_there_is_a_local_repository_and_no_backup() {
    let etc = Etc::new();
    std::fs::remove_dir_all(etc.path("etc")).unwrap();
    let loaded = etc.load();
    assert!(loaded.is_good() && loaded.definitions.backups.is_empty(), "{}", said(&loaded));
    let local = repository(&loaded, "local");
    assert_eq!(local.url, "/var/lib/holdfast/repository");
    assert_eq!(local.password, Password::Generated("/var/lib/holdfast/secrets/local.password".into()));
    assert_eq!(loaded.definitions.daemon.host, "thishost");
    assert_eq!(loaded.definitions.daemon.max_parallel, 3);
    assert_eq!(loaded.definitions.daemon.staging_dir, PathBuf::from("/var/lib/holdfast/staging"));
}

#[test]
fn defaults_are_those_of_the_design() {
    let etc = Etc::with(
        "[repository.r]\nurl='/srv/r'\n[repository.w]\nurl='/srv/w'\nappend_only=true\n[repository.n]\nurl='/srv/n'\nprune=false\ncheck=false\n\
         [instance.i]\ninclude=['/srv/x']\n[backup.b]\nrepositories=['r']\ninstances=['*']\n",
    );
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    let r = repository(&loaded, "r");
    let prune = r.prune.as_ref().unwrap();
    assert_eq!((prune.schedule.text(), prune.max_unused.as_str()), ("weekly", "10%"));
    assert_eq!((r.layout, r.check.as_ref().unwrap().schedule.text()), (Layout::PerInstance, "monthly"));
    assert_eq!(repository(&loaded, "w").prune, None);
    let n = repository(&loaded, "n");
    assert_eq!((&n.prune, &n.check), (&None, &None));
    let i = instance(&loaded, "i");
    assert_eq!((i.hook_timeout, i.stall_timeout), (Duration::from_secs(3600), Duration::from_secs(1800)));
    assert_eq!((&i.volumes, i.strict, &i.dump_state), (&Volumes::None, false, &None));
    let b = backup(&loaded, "b");
    assert_eq!((b.enabled, b.catch_up, &b.schedule, &b.retention), (true, true, &None, &None));
    assert_eq!(b.instances, [Selector::All]);
    assert!(!loaded.definitions.repositories.contains_key("local"));
}

#[test]
fn an_instance_wins_over_its_module_and_appends_to_it() {
    let etc = Etc::with(
        "[module.m]\ninclude=['/a']\nexclude=['x']\nstrict=true\nhook_timeout='5m'\ninclude_add=['/m']\n\
         [instance.own]\nmodule='m'\ninclude=['/b']\nexclude_add=['y']\nhook_timeout='6m'\n\
         [instance.add]\nmodule='m'\ninclude_add=['/c']\nstrict=false\n",
    );
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    let own = instance(&loaded, "own");
    assert_eq!((own.include.join(" "), own.exclude.join(" ")), ("/b /m".into(), "x y".into()));
    assert_eq!((own.strict, own.hook_timeout), (true, Duration::from_secs(360)));
    let add = instance(&loaded, "add");
    assert_eq!((add.include.join(" "), add.strict), ("/a /m /c".into(), false));
}

#[test]
fn byte_order_mark_and_dos_line_ends_are_taken() {
    let etc = Etc::with(
        "\u{feff}[repository.r]\r\nurl = \"/srv/r\"\r\n[backup.b]\r\nrepositories = [\"r\"]\r\ninstances = [\"*\"]\r\n",
    );
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    backup(&loaded, "b");
}

#[test]
fn tables_may_stand_in_any_file_and_the_module_library_comes_last() {
    let etc = Etc::with("[backup.b]\nrepositories=['r']\ninstances=['i']\n");
    etc.write("etc/conf.d/20-i.toml", "[instance.i]\nmodule='m'\n");
    etc.write("etc/conf.d/10-r.toml", "[repository.r]\nurl='/srv/r'\npassword_file='../secrets/r'\n");
    etc.write("modules/m.toml", "[module.m]\ninclude=['/lib']\n");
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    assert_eq!(instance(&loaded, "i").include, ["/lib"]);
    assert_eq!(repository(&loaded, "r").password, Password::File(etc.path("etc/secrets/r")));
    let place = &loaded.origins["instance/i"];
    assert_eq!((place.file.clone(), place.line), (etc.path("etc/conf.d/20-i.toml"), 1));
    assert_eq!(loaded.origins["repository/r/url"].line, 2);
}

#[test]
fn the_administrators_module_goes_before_the_librarys() {
    let etc = Etc::with("[module.m]\ninclude=['/mine']\n[instance.i]\nmodule='m'\n");
    etc.write("modules/m.toml", "[module.m]\ninclude=['/lib']\n");
    let loaded = etc.load();
    assert!(loaded.is_good(), "{}", said(&loaded));
    assert!(said(&loaded).contains("first at"), "{}", said(&loaded));
    assert_eq!(instance(&loaded, "i").include, ["/mine"]);
}

#[test]
fn the_daemons_own_directories_are_left_out_of_an_include_that_holds_them() {
    let etc = Etc::with(
        "[repository.r]\nurl='/var/lib/holdfast/repository'\n[instance.i]\ninclude=['/var']\n[backup.b]\nrepositories=['r']\ninstances=['i']\n",
    );
    let loaded = etc.load();
    assert_eq!(said(&loaded), "");
    assert_eq!(instance(&loaded, "i").exclude, ["/var/cache/holdfast", "/var/lib/holdfast"]);
}

#[test]
fn a_repository_inside_an_include_is_fine_when_it_is_excluded() {
    let text = "[repository.r]\nurl='/srv/backup/r'\n[instance.i]\ninclude=['/srv']\nexclude=['EXCLUDE']\n[backup.b]\nrepositories=['r']\ninstances=['i']\n";
    for exclude in ["/srv/backup", "files/srv/backup", "/srv/backup/r", "/srv/*"] {
        let loaded = Etc::with(&text.replace("EXCLUDE", exclude)).load();
        assert_eq!(said(&loaded), "", "{exclude}");
    }
    for exclude in ["/srv/other", "!/srv/backup", "/srv/backup/r/index"] {
        let loaded = Etc::with(&text.replace("EXCLUDE", exclude)).load();
        assert!(said(&loaded).contains("holds the repository"), "{exclude}: {}", said(&loaded));
    }
}
