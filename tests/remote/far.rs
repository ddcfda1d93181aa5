//! A daemon that backs a director up over ssh, and one that only has files there.

use std::collections::BTreeMap;
use std::path::Path;

use crate::director::Director;
use crate::host::Host;
use crate::lab::{Lab, Setup};

/// How many daemons, each with a host of its own, go through the moments of one test at once: most of a recovery is waiting.
const LANES: usize = 4;

/// Shares things out among [`LANES`] and waits for all.
pub(crate) async fn in_lanes<T, F>(all: Vec<T>, work: impl Fn(Vec<T>) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let mut lanes: Vec<Vec<T>> = (0..LANES.min(all.len())).map(|_| Vec::new()).collect();
    let count = lanes.len();
    all.into_iter().enumerate().for_each(|(at, one)| lanes[at % count].push(one));
    let tasks: Vec<_> = lanes.into_iter().map(|lane| tokio::spawn(work(lane))).collect();
    for task in tasks {
        task.await.unwrap();
    }
}

/// Whether the slow proofs are wanted.
pub(crate) fn soak() -> bool {
    std::env::var_os("HOLDFAST_SOAK").is_some()
}

/// Which of the calls of a good run are led astray: of each kind the first and the last, or all where the slow proofs are
/// wanted. The numbers in them say nothing.
pub(crate) fn chosen(calls: &[String]) -> Vec<usize> {
    if soak() {
        return (0..calls.len()).collect();
    }
    let mut kinds = BTreeMap::<String, (usize, usize)>::new();
    for (at, call) in calls.iter().enumerate() {
        let kind = call.chars().filter(|c| !c.is_ascii_digit()).collect();
        kinds.entry(kind).and_modify(|(_, last)| *last = at).or_insert((at, at));
    }
    let mut all: Vec<usize> = kinds.into_values().flat_map(|(first, last)| [first, last]).collect();
    all.sort_unstable();
    all.dedup();
    all
}

/// Makes a setup know the host: our key, and whose host key is trusted.
pub(crate) fn known(setup: Setup, host: &Host) -> Setup {
    let key = std::fs::read_to_string(host.identity()).unwrap();
    setup.write("state/ssh/app", &key, 0o600);
    setup.write("state/ssh/known_hosts", &host.known_hosts(), 0o644);
    setup
}

/// An instance `app` of files of another machine, `store` there, and of one here; a backup `b` of it.
pub(crate) fn files(host: &Host) -> Setup {
    host.write("store/one", "one\n", 0o640);
    host.write("store/deep/two", "two\n", 0o600);
    host.write("store/tmp/scratch", "nothing\n", 0o644);
    let setup = known(Setup::new(), host);
    setup.write("yml/micro_bosh.yml", "name: micro\n", 0o600);
    setup.config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = {{ attempts = 0 }}\n\
         [instance.app]\nssh = \"{}:{}\"\ninclude = [\"{store}\", \"local:@DIR@/yml/*.yml\"]\nexclude = [\"{store}/tmp\"]\n",
        host.login(),
        host.port,
        store = host.path("store").display()
    ))
}

/// As [`files`], with two services that are files there, `running-web` and `running-db`, and a dump that a program prints.
pub(crate) fn served(host: &Host) -> Setup {
    let program = "#!/bin/sh\ncd '@DIR@'\necho \"$*\" >>did\ncase $1 in\nstart) : >\"running-$2\" ;;\n\
        stop) rm -f \"running-$2\" ;;\nstatus) [ -e \"running-$2\" ] || exit 3 ;;\ndump) echo 'the data' ;;\nesac\n";
    let program = host.write("bin/service", program, 0o755).display().to_string();
    let mut setup = files(host);
    for name in ["web", "db"] {
        host.write(&format!("running-{name}"), "", 0o644);
        setup = setup.config(&format!(
            "[[instance.app.service]]\nmanager = \"command\"\nname = \"{name}\"\nstart = [\"{program}\", \"start\", \"{name}\"]\n\
             stop = [\"{program}\", \"stop\", \"{name}\"]\nstatus = [\"{program}\", \"status\", \"{name}\"]\n"
        ));
    }
    setup.config(&format!(
        "[[instance.app.dump]]\nsource = \"command\"\ncommand = [\"{program}\", \"dump\", \"it's; $all\"]\n"
    ))
}

/// An instance `app` that is a director: monit and then the agent, PostgreSQL, its store; a backup `b` of it.
pub(crate) fn director(director: &Director) -> Setup {
    let host = &director.host;
    let dir = host.dir.path().display();
    let client = crate::servers::postgres_program("pg_dump");
    let client = Path::new(&client).parent().unwrap().display().to_string();
    let (monit, agent) = (director.monit_path(), director.agent_path());
    let setup = known(Setup::new(), host);
    setup.write("yml/micro_bosh.yml", "name: micro\n", 0o600);
    setup.config(&format!(
        r#"
[backup.b]
repositories = ["local"]
instances = ["app"]
retry = {{ attempts = 0 }}

[instance.app]
ssh = "{login}:{port}"
include = ["{dir}/store/blobstore", "{dir}/store/director", "local:@DIR@/yml/*.yml"]
exclude = ["{dir}/store/director/tmp"]

[[instance.app.service]]
manager = "monit"
binary = "{monit}"
stop_timeout = "60s"
start_for_dump = ["postgres"]

[[instance.app.service]]
manager = "command"
name = "agent"
start = ["{agent}", "start"]
stop = ["{agent}", "stop"]
status = ["{agent}", "status"]

[[instance.app.dump]]
source = "postgresql"
databases = ["bosh"]
socket = "{dir}/run"
user = "postgres"
client = "{client}"
"#,
        login = host.login(),
        port = host.port,
    ))
}

/// The latest set of `app`, as files: what `restic dump` says of one of them.
pub(crate) fn saved(lab: &Lab, path: &str) -> String {
    crate::servers::good(lab.restic("repo", &["dump", "latest", path]))
}
