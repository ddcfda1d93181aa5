//! Many backups in one slot.

use std::fmt::Write as _;

use super::{House, backup_of};

/// How many.
const CROWD: usize = 200;

/// Each has an instance of its own, whose dump writes down that it runs, and fails: restic is left out of it.
fn crowd() -> String {
    let mut config = String::new();
    for n in 0..CROWD {
        let keys = format!("schedule = '02:00'\npriority = {}", n % 3);
        config += &backup_of(&format!("b{n:03}"), &format!("i{n:03}"), &keys);
        write!(
            config,
            "\n[instance.i{n:03}]\ninclude = [\"@DIR@/data\"]\ninstall_dir = \"@DIR@\"\n\
             dump_state = [\"@DIR@/dump\", \"{n:03}\"]\n"
        )
        .unwrap();
    }
    config
}

/// The most that were at work at once, by a list of `+` and `-`.
fn most_at_once(list: &str) -> usize {
    let mut now = 0_usize;
    let steps = list.lines().map(|line| {
        now = if line.starts_with('+') { now + 1 } else { now - 1 };
        now
    });
    steps.max().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn t18_two_hundred_backups_of_one_slot_all_run_once_within_the_cap() {
    let mut house = House::at("2026-06-01 10:00:00", "").await;
    use std::os::unix::fs::PermissionsExt;
    let dump = house.daemon.write(
        "dump",
        &format!(
            "#!/bin/sh\necho \"+$1\" >>{dir}/list\necho \"-$1\" >>{dir}/list\nexit 1\n",
            dir = house.daemon.dir.path().display()
        ),
    );
    std::fs::set_permissions(&dump, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::create_dir(house.daemon.dir.path().join("state-of-all")).unwrap();
    house.daemon.write("state/.keep", "");
    let crowd = crowd().replace("@DIR@", &house.daemon.dir.path().display().to_string());
    house.daemon.write("config/conf.d/crowd.toml", &crowd);
    house.restart_at("2026-06-01 23:59:50").await;
    house.runs_at("b000", "2026-06-02T00:00:00Z").await;
    let list = || std::fs::read_to_string(house.daemon.dir.path().join("list")).unwrap_or_default();
    super::support::until("all of them", || list().lines().count() >= 2 * CROWD);
    let list = list();
    assert_eq!(most_at_once(&list), 1, "max_parallel = 1");
    let mut begun: Vec<&str> = list.lines().filter_map(|line| line.strip_prefix('+')).collect();
    assert_eq!(begun.len(), CROWD, "each once");
    begun.sort_unstable();
    begun.dedup();
    assert_eq!(begun.len(), CROWD, "each once");
    for name in ["b000", "b100", "b199"] {
        let history = house.ended(name, 1).await;
        assert_eq!((history.len(), history[0].cause.as_str()), (1, "schedule"), "{name}");
    }
}
