//! Servers in containers of a real Docker, two of each with different data: OpenLDAP, etcd and RabbitMQ, dumped and restored
//! by their own programs.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use zbus::wire::{OwnedObjectPath, Variant};

use crate::engine::Engine;
use crate::lab::{Lab, Setup, names};
use crate::support::{stdout, until};

/// etcd's; searched for where it must not be.
const PASSWORD: &str = "canary-in-etcd-5519";

/// slapd with one database below its volume and one in the root of a volume, as a user of its own.
const SLAPD: &str = "
if [ ! -e /srv/conf ]; then
    mkdir -p /srv/conf /srv/db-one
    slapadd -n 0 -F /srv/conf -l /srv/config.ldif
    for n in 1 2; do slapadd -n $n -F /srv/conf -l /srv/$n.ldif; done
    chown -R openldap: /srv/conf /srv/db-one /two
fi
exec slapd -d 0 -u openldap -g openldap -F /srv/conf -h ldapi://%2frun%2fsocket";

/// etcd in the root of its volume, as a user of its own.
const ETCD: &str = "chown 1000 /data; exec setpriv --reuid 1000 --regid 1000 --clear-groups \
    etcd --name one --data-dir /data --unsafe-no-fsync --logger zap --log-level error";

const RABBITMQ: &str = "chown rabbitmq: /var/lib/rabbitmq; exec rabbitmq-server";

/// A Docker with these servers, each twice.
struct Servers {
    engine: Engine,
}

impl Servers {
    fn start() -> Self {
        let servers = Self { engine: Engine::docker() };
        servers.engine.import_servers();
        for number in ["1", "2"] {
            let rabbit = format!("rabbit{number}:/var/lib/rabbitmq");
            let node = ["--env", "RABBITMQ_NODENAME=one@localhost", "--volume", &rabbit];
            servers.run(&format!("rabbit{number}"), &node, RABBITMQ);
            let (volume, label) = (format!("etcd{number}:/data"), format!("org.example.keys={number}"));
            servers.run(&format!("etcd{number}"), &["--volume", &volume, "--label", &label], ETCD);
            servers.slapd(number);
        }
        for number in ["1", "2"] {
            let (etcd, rabbit) = (format!("etcd{number}"), format!("rabbit{number}"));
            until("etcd answers", || servers.etcdctl(&etcd, "", &["put", "/app/a", &etcd]).is_some());
            servers.wait(number);
            let awaits = ["exec", &rabbit, "rabbitmqctl", "await_startup", "--timeout", "200"];
            until("RabbitMQ has begun", || servers.engine.call(&awaits).status.success());
        }
        for words in [
            vec!["user", "add", &format!("root:{PASSWORD}")],
            vec!["user", "grant-role", "root", "root"],
            vec!["auth", "enable"],
        ] {
            servers.etcdctl("etcd1", "", &words).unwrap();
        }
        servers
    }

    fn run(&self, name: &str, options: &[&str], script: &str) {
        let mut arguments = vec!["run", "--detach", "--network", "none", "--name", name];
        arguments.extend(options);
        arguments.extend(["servers:1", "sh", "-ec", script]);
        self.engine.good(&arguments);
    }

    fn slapd(&self, number: &str) {
        let (first, second) = (format!("ldap{number}"), format!("two{number}"));
        for volume in [&first, &second] {
            self.engine.good(&["volume", "create", volume]);
        }
        write_ldif(&self.volume(&first), &first);
        let volumes = ["--volume", &format!("{first}:/srv"), "--volume", &format!("{second}:/two")];
        self.run(&first, &volumes, SLAPD);
    }

    fn volume(&self, name: &str) -> PathBuf {
        self.engine.good(&["volume", "inspect", "--format", "{{.Mountpoint}}", name]).into()
    }

    /// Until slapd and etcd answer, which restores stop.
    fn wait(&self, number: &str) {
        until("slapd answers", || self.search(number, "dc=two").is_some());
        until("etcd answers", || self.keys(number).is_some());
    }

    fn search(&self, number: &str, base: &str) -> Option<String> {
        let search = [
            "ldapsearch",
            "-LLL",
            "-x",
            "-o",
            "ldif-wrap=no",
            "-H",
            "ldapi://%2frun%2fsocket",
            "-b",
            base,
            "o",
        ];
        let said = self.engine.call(&[&["exec", &format!("ldap{number}")], &search[..]].concat());
        said.status.success().then(|| stdout(&said))
    }

    fn etcdctl(&self, container: &str, password: &str, words: &[&str]) -> Option<String> {
        let login = format!("ETCDCTL_PASSWORD={password}");
        let mut arguments = vec!["exec", "-e", "ETCDCTL_API=3"];
        if !password.is_empty() {
            arguments.extend(["-e", "ETCDCTL_USER=root", "-e", &login]);
        }
        let said = self.engine.call(&[&arguments[..], &[container, "etcdctl"], words].concat());
        said.status.success().then(|| stdout(&said))
    }

    fn keys(&self, number: &str) -> Option<String> {
        let password = if number == "1" { PASSWORD } else { "" };
        let word = self.etcdctl(&format!("etcd{number}"), password, &["get", "--prefix", "/app/"]);
        word.or_else(|| self.etcdctl(&format!("etcd{number}"), "", &["get", "--prefix", "/app/"]))
    }

    fn definitions(&self, number: &str) -> Value {
        let text = ["exec", &format!("rabbit{number}"), "rabbitmqctl", "--silent", "export_definitions", "-"];
        serde_json::from_str(&self.engine.good(&text)).unwrap()
    }

    /// What all of one number hold.
    fn state(&self, number: &str) -> [String; 4] {
        self.wait(number);
        [
            self.search(number, "dc=one").unwrap(),
            self.search(number, "dc=two").unwrap(),
            self.keys(number).unwrap(),
            sorted(&self.definitions(number)),
        ]
    }

    /// Feeds a program in a container.
    fn feed(&self, container: &str, words: &[&str], text: &str) {
        let script = format!("printf '%s' \"$1\" | {}", words.join(" "));
        self.engine.good(&["exec", container, "sh", "-ec", &script, "sh", text]);
    }

    fn define(&self, definitions: &Value) {
        self.feed("rabbit1", &["rabbitmqctl", "import_definitions"], &definitions.to_string());
    }

    /// Changes what the first of each holds.
    fn change(&self) {
        self.etcdctl("etcd1", PASSWORD, &["put", "/app/a", "changed"]).unwrap();
        self.etcdctl("etcd1", PASSWORD, &["put", "/app/late", "x"]).unwrap();
        for (suffix, change) in [
            ("dc=one", "dn: o=late,dc=one\nchangetype: add\nobjectClass: organization\no: late\n"),
            ("dc=two", "dn: dc=two\nchangetype: modify\nreplace: o\no: changed\n"),
        ] {
            let admin = format!("cn=admin,{suffix}");
            let modify = ["ldapmodify", "-x", "-H", "ldapi://%2frun%2fsocket", "-D", &admin, "-w", "secret"];
            self.feed("ldap1", &modify, change);
        }
        for words in
            [vec!["delete_vhost", "shop/;"], vec!["delete_user", "app"], vec!["add_user", "late", "x"]]
        {
            self.engine.good(&[&["exec", "rabbit1", "rabbitmqctl"], &words[..]].concat());
        }
        let gone = json!({"exchanges": [], "bindings": [], "queues": [kept("plain")]});
        let term = "rabbit_exchange:delete(rabbit_misc:r(<<\"/\">>, exchange, <<\"events\">>), false, <<\"test\">>).";
        self.engine.good(&["exec", "rabbit1", "rabbitmqctl", "eval", term]);
        self.define(&gone);
    }

    fn running(&self) -> Vec<String> {
        ["ldap1", "etcd1", "rabbit1"].map(|name| self.engine.state(name)).to_vec()
    }

    /// When the servers were started.
    fn started(&self) -> String {
        self.engine.good(&["inspect", "--format", "{{.State.StartedAt}}", "ldap1", "etcd1", "rabbit1"])
    }
}

/// A configuration with two databases, and what they hold, for a volume that is seen at `/srv`.
pub(crate) fn write_ldif(at: &Path, organization: &str) {
    let database = |name: &str, dir: &str| {
        format!(
            "dn: olcDatabase=mdb,cn=config\nobjectClass: olcMdbConfig\nolcDatabase: mdb\nolcSuffix: dc={name}\n\
             olcDbDirectory: {dir}\nolcRootDN: cn=admin,dc={name}\nolcRootPW: secret\n\n"
        )
    };
    let config = format!(
        "dn: cn=config\nobjectClass: olcGlobal\ncn: config\n\n\
         dn: cn=module,cn=config\nobjectClass: olcModuleList\ncn: module\nolcModulePath: /usr/lib/ldap\nolcModuleLoad: back_mdb\n\n\
         dn: cn=schema,cn=config\nobjectClass: olcSchemaConfig\ncn: schema\n\n\
         include: file:///etc/ldap/schema/core.ldif\n\n{}{}",
        database("one", "/srv/db-one"),
        database("two", "/two")
    );
    fs::write(at.join("config.ldif"), config).unwrap();
    for (file, name) in [("1.ldif", "one"), ("2.ldif", "two")] {
        let text = format!(
            "dn: dc={name}\nobjectClass: dcObject\nobjectClass: organization\ndc: {name}\no: {organization}\n\n"
        );
        fs::write(at.join(file), text).unwrap();
    }
}

fn kept(name: &str) -> Value {
    json!({"name": name, "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}})
}

/// A virtual host of its own, and in the common one an exchange that is bound to a queue by arguments.
fn defined() -> Value {
    json!({
        "vhosts": [{"name": "shop/;"}],
        "users": [{"name": "app", "password": "x", "tags": "monitoring"}],
        "permissions": [{"user": "app", "vhost": "shop/;", "configure": "^a", "write": ".*", "read": ".*"}],
        "queues": [
            {"name": "orders", "vhost": "shop/;", "durable": true, "auto_delete": false, "arguments": {"x-max-length": 9}},
            kept("plain"),
        ],
        "exchanges": [
            {"name": "events", "vhost": "/", "type": "headers", "durable": true, "auto_delete": false, "internal": false, "arguments": {}},
        ],
        "bindings": [
            {"source": "events", "vhost": "/", "destination": "plain", "destination_type": "queue", "routing_key": "a.#",
             "arguments": {"x-match": "all", "n": 3}},
            {"source": "amq.topic", "vhost": "/", "destination": "plain", "destination_type": "queue", "routing_key": "\"b",
             "arguments": {"k": "v\"\\"}},
        ],
        "policies": [{"vhost": "/", "name": "-limit", "pattern": "^o", "definition": {"max-length": 5}, "priority": 0, "apply-to": "all"}],
    })
}

/// The server gives lists in no order.
fn sorted(definitions: &Value) -> String {
    let mut all: Vec<String> = Vec::new();
    for (key, list) in definitions.as_object().unwrap() {
        all.extend(list.as_array().into_iter().flatten().map(|thing| format!("{key} {thing}")));
    }
    all.sort();
    all.join("\n")
}

/// An instance `app` of the first of each. Docker's calls read `on-docker`, a piece of shell.
fn setup(engine: &Engine) -> Setup {
    let mut setup = Setup::new();
    engine.lend(&mut setup);
    let real = fs::read_to_string(setup.path("fake/docker")).unwrap();
    setup.write("fake/real-docker", &real, 0o755);
    let hooked = "#!/bin/bash\nD='@DIR@'\nreal=\"$D/fake/real-docker\"\necho \"$*\" >>\"$D/docker-calls\"\n\
                  [ ! -e \"$D/on-docker\" ] || . \"$D/on-docker\"\nexec \"$real\" \"$@\"\n";
    setup.write("fake/docker", hooked, 0o755);
    setup.write("health", "0\n", 0o644);
    setup.write("config/db.password", &format!("{PASSWORD}\n"), 0o600);
    let health = "[ ! -e @DIR@/wait ] || { : >@DIR@/at-health; exec sleep 60; }; exit $(cat @DIR@/health)";
    setup.config(&format!(
        "[backup.b]\nrepositories = [\"local\"]\ninstances = [\"app\"]\nretry = {{ attempts = 0 }}\n\
         [instance.app]\nrestore = {{ health = {{ command = [\"sh\", \"-c\", \"{health}\"], timeout = \"5s\" }} }}\n\
         [[instance.app.dump]]\nsource = \"openldap\"\ncontainer = \"docker:ldap1\"\nconfig_dir = \"/srv/conf\"\n\
         [[instance.app.dump]]\nsource = \"etcd\"\ncontainer = \"label:org.example.keys=1\"\ndata_dir = \"/data\"\n\
         user = \"root\"\npassword_file = \"db.password\"\n\
         [[instance.app.dump]]\nsource = \"rabbitmq\"\ncontainer = \"rabbit1\"\n\
         [[instance.app.service]]\nmanager = \"docker\"\ncontainers = [\"ldap1\", \"etcd1\"]\nstop = \"restore\"\n"
    ))
}

async fn failed(lab: &Lab, options: &[(&str, Variant<'_>)], word: &str) {
    let ended = lab.restore("app", "", options).await;
    let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
    assert_eq!(ended.outcome, "failed", "{word}: {ended:#?}\n{}", lab.daemon.log());
    assert!(said.contains(word), "{word} is not in {said}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root: runs a Docker engine"]
async fn system_servers_in_containers_are_dumped_and_restored_by_their_own_programs() {
    let servers = Servers::start();
    servers.define(&defined());
    let (before, other) = (servers.state("1"), servers.state("2"));
    let mut lab = setup(&servers.engine).start().await;
    half_a_dump_is_none(&lab).await;
    let started = servers.started();
    lab.good_backup("b").await;
    assert_eq!(servers.started(), started, "a backup leaves them running");
    servers.change();
    let late = servers.state("1");
    assert_ne!(late, before);
    nothing_is_changed(&servers, &lab, &late).await;

    lab.good_restore("app").await;
    let now = servers.state("1");
    assert_eq!(now[..3], before[..3], "{}", lab.daemon.log());
    for line in before[3].lines() {
        assert!(now[3].contains(line), "{line} is not in {}", now[3]);
    }
    assert!(now[3].contains("\"late\""), "what came since stays: {}", now[3]);
    let job: OwnedObjectPath = lab.daemon.call("Rollback", &("app",)).await.unwrap();
    let ended = lab.ended(&job).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    assert_eq!(servers.state("1"), late, "rolled back");

    // Killed when the restored data lives already.
    lab.write("wait", "", 0o644);
    lab.start_restore("app", "", &[]).await;
    lab.reached("health").await;
    assert_eq!(servers.state("1")[..3], before[..3], "the restored data lives already");
    lab.daemon.restart_after_kill().await;
    lab.assert_settled().await;
    assert_eq!(servers.state("1"), late, "{}", lab.daemon.log());
    lab.remove("wait");
    assert_eq!(servers.state("2"), other, "the other servers were touched");

    from_nothing(&servers, &lab, &before).await;
    assert!(!lab.daemon.log().contains(PASSWORD) && !lab.text("docker-calls").contains(PASSWORD));
    assert!(!servers.engine.good(&["ps", "--all"]).contains("holdfast-"), "a container of ours is left");
    lab.assert_settled().await;
}

/// Whatever the programs in the containers do that is not the whole dump, there is no set.
async fn half_a_dump_is_none(lab: &Lab) {
    for (when, shell, word) in [
        ("*slapcat*'-n 1'*", "\"$real\" \"$@\" | head -n -1; exit 0", "cut off"),
        ("*slapcat*'-n 2'*", "exit 137", "exited with 137"),
        ("*snapshot*save*", "exit 0", "opening"),
        ("*export_definitions*", "\"$real\" \"$@\" | head -c 300; exit 0", "no whole list"),
    ] {
        lab.on("docker", &format!("case \"$*\" in {when}) {shell};; esac"));
        let ended = lab.backup("b").await;
        let said: String = ended.units.iter().map(|unit| unit.error.clone()).collect();
        assert!(ended.outcome == "failed" && said.contains(word), "{word}: {ended:#?}");
        assert_eq!(lab.snapshots_in("repo"), 0, "{word}");
    }
    lab.remove("on-docker");
}

/// What cannot be loaded is noticed before anything stops; what is not well afterwards is put back.
async fn nothing_is_changed(servers: &Servers, lab: &Lab, late: &[String; 4]) {
    let started = servers.started();
    let only = |dump: &str| Variant::from(vec![format!("dumps/{dump}")]);
    for (when, dump) in
        [("*slapadd*'-n 2'*", "openldap"), ("*snapshot*restore*", "etcd"), ("'exec -i'*eval*", "rabbitmq")]
    {
        lab.on("docker", &format!("case \"$*\" in {when}) echo no room >&2; exit 1;; esac"));
        failed(lab, &[("include", only(dump))], "no room").await;
    }
    lab.remove("on-docker");
    failed(lab, &[("stop", false.into()), ("include", only("openldap"))], "a server has").await;
    assert_eq!(servers.started(), started, "nothing was stopped for what could not be loaded");
    lab.write("health", "1\n", 0o644);
    failed(lab, &[], "the old data is back").await;
    lab.write("health", "0\n", 0o644);
    assert_eq!(servers.running(), ["running"; 3]);
    assert_eq!(&servers.state("1"), late, "{}", lab.daemon.log());
}

/// The data is gone and the server does not even run.
async fn from_nothing(servers: &Servers, lab: &Lab, before: &[String; 4]) {
    servers.engine.good(&["stop", "--time", "5", "etcd1", "ldap1"]);
    fs::remove_dir_all(servers.volume("etcd1").join("member")).unwrap();
    fs::remove_dir_all(servers.volume("ldap1").join("conf")).unwrap();
    for file in ["data.mdb", "lock.mdb"] {
        fs::remove_file(servers.volume("two1").join(file)).unwrap();
    }
    let include = Variant::from(vec!["dumps/etcd", "dumps/openldap"]);
    let ended = lab.restore("app", "", &[("include", include)]).await;
    assert_eq!(ended.outcome, "succeeded", "{ended:#?}\n{}", lab.daemon.log());
    servers.engine.good(&["start", "etcd1", "ldap1"]);
    assert_eq!(servers.state("1")[..3], before[..3], "{}", lab.daemon.log());
    assert!(names(&servers.volume("etcd1")).contains(&"member".to_owned()));
}
