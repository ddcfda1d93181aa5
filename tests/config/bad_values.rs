//! Values that are well written and make no sense: each is refused with its place and the way out. Numbers as in `bad`.

use super::bad::assert_said;

#[test]
fn c19_a_source_that_holds_its_repository_is_refused() {
    assert_said(&[
        (
            "[instance.x]\ninclude = ['/srv']\n[backup.x]\nrepositories = ['r']\ninstances = ['x']\n",
            "4:16",
            "instance `x` includes \"/srv\", which holds the repository `r` in /srv/r",
            "exclude",
        ),
        (
            "[instance.x]\ninclude = ['/srv/r/data']\n[backup.x]\nrepositories = ['r']\ninstances = ['*']\n",
            "4:16",
            "holds the repository `r`",
            "store it elsewhere",
        ),
        (
            "[instance.x]\ninclude = ['/var/cache/holdfast/x']\n",
            "2:12",
            "the daemon's own directory",
            "something else",
        ),
        (
            "[instance.x]\ninclude = ['/var/lib/holdfast']\n",
            "2:12",
            "the daemon's own directory",
            "something else",
        ),
    ]);
}

#[test]
fn c22_to_c24_retention_that_keeps_nothing_or_makes_no_sense_is_refused() {
    assert_said(&[
        ("[backup.x]\nretention = 0\n", "2:13", "would keep nothing", "leave `retention` out"),
        (
            "[backup.x]\nretention = { last = 0, daily = 0 }\n",
            "2:13",
            "would keep nothing",
            "leave `retention` out",
        ),
        ("[backup.x]\nretention = {}\n", "2:13", "would keep nothing", "leave `retention` out"),
        ("[backup.x]\nretention = -1\n", "2:13", "negative", "0 or more"),
        ("[backup.x]\nretention = { daily = -3 }\n", "2:23", "`daily` is negative", "0 or more"),
        ("[backup.x]\nretention = { within = 'a while' }\n", "2:24", "\"a while\" is not a duration", "30d"),
        ("[backup.x]\nretention = { within = '0d' }\n", "2:24", "may not be zero", "15m"),
        ("[backup.x]\nretention = 99999999999999999999\n", "2:13", "", ""),
        ("[backup.x]\nretention = 4000000000\n", "2:13", "too large", "the most"),
    ]);
}

#[test]
fn c28_names_that_nobody_defines_are_said_with_the_nearest_that_someone_does() {
    assert_said(&[
        (
            "[backup.x]\nrepositories = ['rr']\ninstances = ['i']\n",
            "2:17",
            "repository `rr` is not defined",
            "did you mean `r`?",
        ),
        (
            "[backup.x]\nrepositories = ['r']\ninstances = ['nothing']\n",
            "3:14",
            "instance `nothing` is not defined",
            "define it",
        ),
        (
            "[backup.x]\nrepositories = ['r']\ninstances = ['module:n']\n",
            "3:14",
            "module `n` is not defined",
            "did you mean `m`?",
        ),
        ("[instance.x]\nmodule = 'mm'\n", "2:10", "module `mm` is not defined", "did you mean `m`?"),
        ("[backup.x]\nrepositories = ['r', 'r']\ninstances = ['i']\n", "2:22", "listed twice", "once"),
        ("[backup.x]\ninstances = ['i']\n", "1:9", "the backup `x` needs `repositories`", "repositories ="),
        ("[backup.x]\nrepositories = ['r']\n", "1:9", "the backup `x` needs `instances`", "[\"*\"]"),
        ("[backup.x]\nrepositories = []\ninstances = ['i']\n", "2:16", "the list is empty", "at least one"),
        ("[repository.x]\n", "1:13", "the repository `x` needs `url`", "url ="),
        ("[instance.x]\nuser = 'x'\n", "1:11", "nothing to back up", "include"),
    ]);
}

#[test]
fn c29_times_that_are_zero_negative_or_endless_are_refused() {
    assert_said(&[
        ("[instance.x]\nhook_timeout = '0s'\n", "2:16", "may not be zero", "15m"),
        ("[instance.x]\nhook_timeout = '-1h'\n", "2:16", "negative", "1h30m"),
        ("[instance.x]\nhook_timeout = '1000000000000000000s'\n", "2:16", "too long", "30d"),
        ("[backup.x]\nmax_duration = '5'\n", "2:16", "\"5\" has no unit", "90s"),
        ("[backup.x]\nrandom_delay = '1 fortnight'\n", "2:16", "not a duration", "30d"),
        ("[daemon]\nmax_parallel = 0\n", "2:16", "may not be 0", "1 or more"),
        ("[backup.x]\nretry = { attempts = -1 }\n", "2:22", "negative", "0 or more"),
    ]);
}

#[test]
fn c30_c31_names_that_are_unsafe_somewhere_are_refused_with_the_rule() {
    assert_said(&[
        ("[backup.\"a,b\"]\n", "1:9", "',' may not stand in a name", "rename"),
        ("[backup.\"a/b\"]\n", "1:9", "'/' may not stand in a name", "rename"),
        ("[backup.\"a b\"]\n", "1:9", "' ' may not stand in a name", "rename"),
        ("[backup.\"\u{1F600}\"]\n", "1:9", "may not stand in a name", "rename"),
        ("[backup.\"\"]\n", "1:9", "the name is empty", "rename"),
        ("[backup.x]\ninstances = ['a,b']\n", "2:14", "',' may not stand in a name", "module:NAME"),
        ("[daemon]\nhost = 'a,b'\n", "2:8", "not a host name", "letters"),
        ("[instance.x]\nuser = '-u'\n", "2:8", "is not a name", "without spaces"),
    ]);
}

#[test]
fn c34_backends_and_paths_that_restic_does_not_know_are_refused() {
    assert_said(&[
        ("[repository.x]\nurl = 'b3:bucket'\n", "2:7", "\"b3\" is not a backend", "did you mean"),
        ("[repository.x]\nurl = 'ftp:host/x'\n", "2:7", "\"ftp\" is not a backend", "sftp:"),
        ("[repository.x]\nurl = 'backup/here'\n", "2:7", "relative path", "from the root"),
        ("[repository.x]\nurl = 'https://h/'\n", "2:7", "not a backend", "rest:https:"),
        ("[repository.x]\nurl = '/x'\nlayout = 'flat'\n", "3:10", "layout \"flat\"", "per-instance"),
        ("[repository.x]\nurl = '/x'\ncheck = { read_data = '5/3' }\n", "3:23", "how much to read", "1/12"),
        ("[repository.x]\nurl = '/x'\nprune = { max_unused = '100%' }\n", "3:24", "no percentage", "10%"),
        (
            "[repository.x]\nurl = '/x'\nappend_only = true\nprune = { schedule = 'weekly' }\n",
            "4:9",
            "contradict",
            "remove `prune`",
        ),
        (
            "[repository.x]\nurl = '/x'\npassword_file = 'a'\npassword_command = ['b']\n",
            "4:20",
            "in two ways",
            "keep one",
        ),
    ]);
}

#[test]
fn c39_zones_that_do_not_exist_are_refused() {
    assert_said(&[
        (
            "[daemon]\ntimezone = 'Europe/Roma'\n",
            "2:12",
            "\"Europe/Roma\" is not known",
            "did you mean \"Europe/Rome\"?",
        ),
        ("[daemon]\ntimezone = 'Middle-earth/Shire'\n", "2:12", "is not known", "Europe/Rome"),
    ]);
}

#[test]
fn includes_that_cannot_be_found_are_refused() {
    assert_said(&[
        ("[instance.x]\ninclude = ['data']\n", "2:12", "not a path that can be included", "absolute path"),
        ("[instance.x]\ninclude = ['/srv/../etc']\n", "2:12", "\"..\"", "the path itself"),
        (
            "[instance.x]\ninclude = ['state/x']\n",
            "2:12",
            "`install_dir`, which is not given",
            "absolute path",
        ),
        ("[instance.x]\ninclude = ['volumes/v']\n", "2:12", "nobody knows where volumes lie", "podman"),
        (
            "[instance.x]\ninclude = ['volumes/v']\nvolumes = { w = '/w' }\n",
            "2:12",
            "`v` is not in the table",
            "add it",
        ),
        ("[instance.x]\ninclude = ['/x[a']\n", "2:12", "without \"]\"", "close it"),
        ("[instance.x]\ninclude = ['/x']\nexclude = ['']\n", "3:12", "is empty", "leave the key out"),
        ("[daemon]\nstaging_dir = '//'\n", "2:15", "the root directory", "of its own"),
        ("[instance.x]\ninstall_dir = 'home/x'\n", "2:15", "relative path", "from the root"),
        ("[module.v.version]\n", "1:1", "one of `command` and `builtin`", "dpkg:NAME"),
    ]);
}
