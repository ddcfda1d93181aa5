//! Bad definitions: each is refused with its place and the way out. Numbers are those of the test catalogue (C01 …).

use super::*;

/// Good tables around the one that a case spoils.
const AROUND: &str =
    "[repository.r]\nurl = '/srv/r'\n[instance.i]\ninclude = ['/srv/i']\n[module.m]\ninclude = ['/srv/m']\n";

/// One text (put into a file of its own, beside [`AROUND`]), and what must be said of it: place, message, way out.
pub(crate) type Case = (&'static str, &'static str, &'static str, &'static str);

pub(crate) fn assert_said(cases: &[Case]) {
    for (text, place, message, help) in cases {
        let etc = Etc::with(AROUND);
        etc.write("etc/conf.d/x.toml", text);
        let loaded = etc.load();
        let found = findings(&loaded, &etc.path("etc/conf.d/x.toml"));
        let hit = found
            .iter()
            .any(|f| f.starts_with(&format!("{place} ")) && f.contains(message) && f.contains(help));
        assert!(hit, "{text}\nwanted {place} {message} ({help})\nsaid {found:#?}");
        assert!(loaded.diagnostics.iter().all(|d| d.help.is_some()), "no way out: {found:#?}");
        let rendered = said(&loaded);
        assert!(rendered.contains(&format!("x.toml:{place}")) && rendered.contains('^'), "{rendered}");
        let others = ["r"].iter().all(|r| loaded.definitions.repositories.contains_key(*r));
        assert!(
            others && loaded.definitions.instances.contains_key("i"),
            "the other file was hindered: {rendered}"
        );
    }
}

#[test]
fn c02_broken_toml_is_said_with_line_and_column() {
    assert_said(&[
        ("[backup.x\n", "1:10", "unclosed table", "toml.io"),
        ("[backup.x]\nschedule = daily\n", "2:12", "must be quoted", "toml.io"),
        ("[backup.x]\nschedule = \"daily\n", "2:18", "invalid basic string", "toml.io"),
        ("[backup.x]\nä = 1\n", "2:1", "", "toml.io"),
        ("[repository.q]\nurl = '/a'\nurl = '/b'\n", "3:1", "`url` is defined twice", "x.toml:2:1"),
        (
            "[repository.q]\nurl = '/a'\n[repository.q]\nurl = '/b'\n",
            "3:13",
            "`q` is defined twice",
            "x.toml:1:13",
        ),
    ]);
}

#[test]
fn c03_unknown_keys_are_refused_with_what_was_probably_meant() {
    assert_said(&[
        ("[backup.x]\nschedul = 'daily'\n", "2:1", "unknown key `schedul`", "did you mean `schedule`?"),
        ("[backup.x]\ncolour = 1\n", "2:1", "unknown key `colour`", "known here: repositories, schedule"),
        ("[backups.x]\n", "1:2", "unknown key `backups`", "did you mean `backup`?"),
        ("[instance.x]\nexclud = []\n", "2:1", "unknown key `exclud`", "`exclude`"),
        ("[instance.x]\nmodul = 'm'\n", "2:1", "unknown key `modul`", "`module`"),
        ("[module.x.restore]\nstep = 'a'\n", "2:1", "unknown key `step`", "`steps`"),
        (
            "[repository.x]\nurl = '/x'\nprune = { schedul = 'daily' }\n",
            "3:11",
            "unknown key `schedul`",
            "`schedule`",
        ),
        ("schedule = 'daily'\n", "1:1", "unknown key `schedule`", "known here: daemon"),
    ]);
}

#[test]
fn keys_of_later_versions_are_refused_not_ignored() {
    assert_said(&[
        ("[module.x]\ninclude = ['/x']\nstream = true\n", "3:1", "unknown key `stream`", "known here"),
        (
            "[[module.x.dump]]\nsource = 'etcd'\ncert_file = 'own.pem'\n",
            "2:10",
            "`cert_file` and `key_file` belong together",
            "write both",
        ),
        (
            "[[module.x.dump]]\nsource = 'opensearch'\n",
            "2:10",
            "source = \"opensearch\" needs `snapshot_dir`",
            "path.repo",
        ),
        (
            "[[module.x.dump]]\nsource = 'elasticsearch'\nsnapshot_dir = '/x'\nuser = 'u'\napi_key_file = 'k'\n",
            "2:10",
            "both `api_key_file` and `user`",
            "leave one",
        ),
        (
            "[[module.x.dump]]\nsource = 'mongodb'\noplog = true\ndatabases = ['shop']\n",
            "2:10",
            "`oplog` is of the whole server",
            "leave out",
        ),
        (
            "[[module.x.dump]]\nsource = 'mongodb'\ncontainer = 'db'\nca_file = 'ca.pem'\n",
            "4:11",
            "`ca_file` means nothing to source = \"mongodb\" in a container",
            "it is a file of this machine",
        ),
        (
            "[[module.x.dump]]\nsource = 'redis'\ncontainer = 'docker:label:x'\n",
            "3:13",
            "is not the name of a container",
            "label:KEY=VALUE",
        ),
        (
            "[[module.x.dump]]\nsource = 'rabbitmq'\ncontainer = 'mq'\nuser = 'guest'\n",
            "4:8",
            "`user` means nothing to source = \"rabbitmq\" in a container",
            "needs no login",
        ),
        (
            "[[module.x.dump]]\nsource = 'opensearch'\ncontainer = 'db'\n",
            "3:13",
            "`container` means nothing to source = \"opensearch\"",
            "leave it out",
        ),
        ("[backup.x]\ninstances = ['compose:_']\n", "2:14", "the name begins with", "compose:PROJECT"),
        ("[discovery]\ndocker = 'yes'\n", "2:10", "takes `true` or `false`", "write `true`"),
        (
            "[module.x.version]\nbuiltin = 'ostree:x'\n",
            "2:11",
            "\"ostree:x\" is not a built-in version",
            "bootc",
        ),
    ]);
}

/// What every backup needs, in place of `KEYS`.
fn backups(text: &str) -> &'static str {
    text.replace("KEYS\n", "repositories = ['r']\ninstances = ['i']\n").leak()
}

#[test]
fn c27_backups_that_follow_each_other_in_a_circle_are_named() {
    assert_said(&[
        (
            backups(
                "[backup.a]\nafter = 'b'\nKEYS\n[backup.b]\nafter = 'c'\nKEYS\n[backup.c]\nafter = 'a'\nKEYS\n",
            ),
            "2:9",
            "backups wait for each other: a after b after c after a",
            "give one of them a schedule",
        ),
        (
            backups("[backup.a]\nafter = 'a'\nKEYS\n"),
            "2:9",
            "backups wait for each other: a after a",
            "give one of them a schedule",
        ),
    ]);
}

#[test]
fn c28_a_backup_that_follows_an_unknown_one_is_refused() {
    assert_said(&[(
        backups("[backup.a]\nafter = 'nighly'\nKEYS\n[backup.nightly]\nKEYS\n"),
        "2:9",
        "the backup `nighly` is not defined",
        "did you mean `nightly`?",
    )]);
}

#[test]
fn when_a_backup_runs_cannot_contradict_itself() {
    assert_said(&[
        (
            backups("[backup.a]\nafter = 'b'\nschedule = 'daily'\nKEYS\n[backup.b]\nKEYS\n"),
            "2:9",
            "`after` and `schedule` exclude each other",
            "leave one of the two out",
        ),
        (
            backups("[backup.a]\nblackout = ['08:00-20:00', '20:00-08:00']\nKEYS\n"),
            "2:12",
            "`blackout` leaves no time to run",
            "leave some time",
        ),
        (
            backups("[backup.a]\nblackout = ['Mon..Fry 08:00-18:00']\nKEYS\n"),
            "2:19",
            "`Fry` is neither a keyword nor a weekday",
            "",
        ),
        (
            backups("[backup.a]\nblackout = ['Mon 08:00-25:00']\nKEYS\n"),
            "2:24",
            "no such time of a day",
            "24:00",
        ),
        (backups("[backup.a]\npriority = 11\nKEYS\n"), "2:12", "`priority` is out of range", "-10 to 10"),
        (backups("[backup.a]\npriority = 'high'\nKEYS\n"), "2:12", "`priority` takes a whole number", ""),
    ]);
}

#[test]
fn keys_of_a_recovery_say_what_they_take() {
    assert_said(&[
        ("[module.x]\nrecovery = { attempts = 2 }\n", "2:12", "`recovery` has no `unit`", "unit = "),
        ("[module.x]\nrecovery = { unit = 'a b' }\n", "2:21", "is not the name of a unit", "systemctl shows"),
        (
            "[module.x.recovery]\nunit = 'a.service'\nguard = ['bin/ok']\n",
            "3:9",
            "`guard` is a relative path",
            "absolute",
        ),
        ("[module.x.recovery]\nunit = 'a.service'\nattempts = 0\n", "3:12", "attempts", ""),
        (
            "[module.x.recovery]\nunit = 'a.service'\nwindow = '0s'\n",
            "3:10",
            "`window` may not be zero",
            "15m",
        ),
        (
            "[module.x.recovery]\nunit = 'a.service'\ncooldown = '1s'\n",
            "3:1",
            "unknown key `cooldown`",
            "`cool_down`",
        ),
    ]);
}

#[test]
fn keys_of_a_restore_say_what_they_take() {
    assert_said(&[
        ("[module.x.restore]\nkeep_previous = 24\n", "2:17", "not an integer", "\"24s\""),
        ("[module.x.restore]\nhealth = ['x']\n", "2:10", "`health` takes a table, not an array", ""),
        ("[module.x.restore]\nhealth = { timeout = '0s' }\n", "2:22", "may not be zero", ""),
        ("[instance.x]\ninclude = ['/x']\nrestore = { health = {} }\n", "3:22", "no `command`", "command ="),
        ("[module.x.version]\nmatch = 'mayor'\n", "2:9", "`match` does not know \"mayor\"", "\"major\""),
    ]);
}

#[test]
fn c04_wrong_types_say_what_is_wanted() {
    assert_said(&[
        ("[backup.x]\nenabled = 'yes'\n", "2:11", "`enabled` takes `true` or `false`, not a string", ""),
        (
            "[backup.x]\nrepositories = 'r'\n",
            "2:16",
            "`repositories` takes an array, not a string",
            "brackets",
        ),
        ("[backup.x]\nrepositories = ['r', 3]\n", "2:22", "takes a name, not an integer", ""),
        ("[backup.x]\nmax_duration = 90\n", "2:16", "not an integer", "\"90s\""),
        ("[backup.x]\nretention = 'all'\n", "2:13", "not a string", "{ daily = 7 }"),
        ("[backup.x]\nretry = 3\n", "2:9", "`retry` takes a table, not an integer", ""),
        ("[daemon]\nmax_parallel = 2.5\n", "2:16", "not a float", ""),
        ("[repository.x]\nprune = true\n", "2:9", "`false` to switch it off", ""),
        ("backup = 3\n", "1:10", "`backup` takes named tables", "[backup.NAME]"),
        ("[backup]\nx = 3\n", "2:1", "`backup.x` is not a table", "[backup.NAME]"),
        ("[instance.x]\nvolumes = { a = 'rel' }\n", "2:17", "relative path", "from the root"),
        ("[instance.x]\nvolumes = 'lxc'\n", "2:11", "does not know volumes", "podman"),
    ]);
}

#[test]
fn c18_a_hook_as_a_string_is_refused_for_no_shell_reads_it() {
    assert_said(&[
        ("[instance.x]\ndump_state = 'a; rm -rf /'\n", "2:14", "an array of a program", "no shell reads it"),
        ("[instance.x]\ndump_state = []\n", "2:14", "names no program", "[\"program\""),
        (
            "[instance.x]\ninclude = ['/x']\ndump_state = ['bin/x']\n",
            "3:14",
            "`install_dir`, which is not given",
            "absolute",
        ),
        (
            "[repository.x]\nurl = '/x'\npassword_command = 'pass b2'\n",
            "3:20",
            "an array of a program",
            "no shell",
        ),
    ]);
}

#[test]
fn all_errors_of_all_files_are_said_at_once_in_order() {
    let etc = Etc::with("[backup.x]\nschedul = 1\nenabled = 3\nretention = 0\n[repository.q]\nurl = 'x'\n");
    etc.write("etc/conf.d/a.toml", "[instance.x]\nstrict = 1\n[daemon\n");
    etc.write("etc/conf.d/b.toml", "[instance.y]\nstrict = 1\n");
    let loaded = etc.load();
    let places: Vec<_> =
        loaded.diagnostics.iter().map(|d| (d.file.file_name().unwrap().to_owned(), d.line)).collect();
    let expected = [
        ("holdfast.toml", 2),
        ("holdfast.toml", 3),
        ("holdfast.toml", 4),
        ("holdfast.toml", 6),
        ("a.toml", 2),
        ("a.toml", 3),
        ("b.toml", 2),
    ];
    let expected: Vec<_> = expected.iter().map(|(file, line)| ((*file).into(), *line)).collect();
    assert_eq!(places, expected, "{}", said(&loaded));
}

#[test]
fn dangling_names_are_said_beside_other_errors_of_the_file_and_nothing_twice() {
    let etc = Etc::with(
        "[backup.x]\nrepositories = ['rr']\ninstances = ['j']\nschedul = 1\n[instance.i]\ninclude = 3\nmodule = 'n'\n\
         [instance.k]\ninclude = ['state/x']\n[repository.r]\nurl = 3\n[backup.y]\nrepositories = 3\ninstances = ['i']\n",
    );
    let loaded = etc.load();
    let found = findings(&loaded, &etc.path("etc/holdfast.toml"));
    let wanted = [
        "2:17 the repository `rr`",
        "3:14 the instance `j`",
        "4:1 ",
        "6:11 ",
        "7:10 the module `n`",
        "9:12 ",
        "11:7 ",
        "13:16 ",
    ];
    assert_eq!(found.len(), wanted.len(), "{found:#?}");
    assert!(found.iter().zip(wanted).all(|(found, wanted)| found.starts_with(wanted)), "{found:#?}");
}

#[test]
fn a_name_that_may_stand_in_a_broken_file_is_said_but_does_not_stop_the_backup() {
    let etc =
        Etc::with(&format!("{AROUND}[backup.x]\nrepositories = ['r']\ninstances = ['i', 'elsewhere']\n"));
    etc.write("etc/conf.d/broken.toml", "\u{0}");
    let loaded = etc.load();
    let unusable = loaded.unusable_instances_of(backup(&loaded, "x"));
    assert_eq!(&*unusable[0].0, "elsewhere");
    assert!(
        said(&loaded).contains("`elsewhere` is not defined in any file that could be read"),
        "{}",
        said(&loaded)
    );
}

#[test]
fn bad_schedules_are_underlined_where_they_are_wrong() {
    assert_said(&[
        ("[backup.x]\nschedule = \"dayly\"\n", "2:13", "`schedule`: ", ""),
        ("[backup.x]\nschedule = \"Mon..Fri 25:00\"\n", "2:22", "`schedule`: ", ""),
        ("[backup.x]\nschedule = \"*-02-30\"\n", "2:13", "`schedule`: ", ""),
        ("[backup.x]\nschedule = \"02:30 Nowhere/Town\"\n", "2:19", "`schedule`: ", ""),
        ("[backup.x]\nschedule = \"every 0h\"\n", "2:19", "`schedule`: ", ""),
        ("[backup.x]\nschedule = \"Mon\\u002E.Fri 25:00\"\n", "2:12", "`schedule`: ", ""),
        ("[backup.x]\nschedule = \"\"\n", "2:13", "`schedule`: ", ""),
        ("[repository.x]\nurl = '/x'\nprune = { schedule = 'sundays' }\n", "3:23", "`schedule`: ", ""),
    ]);
}
