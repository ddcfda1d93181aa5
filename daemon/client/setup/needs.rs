//! What backups and restores of an instance run on other machines: which programs must be there, and what root is asked for.

use crate::definition::{Dump, Instance, Manager, Remote, Service, Source};
use crate::job::unit_calls;

/// A machine that an instance needs.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Site {
    pub(super) remote: Remote,
    /// Programs that must be there, and what for.
    pub(super) programs: Vec<(String, &'static str)>,
    /// What is run as another user.
    pub(super) rules: Vec<Rule>,
    /// monits whose services are not all named: they are asked.
    pub(super) monits: Vec<String>,
    /// Units of its systemd: what is stopped along with them is asked.
    pub(super) units: Vec<String>,
    /// Questions that change nothing: they are asked, and must be answered.
    pub(super) questions: Vec<Question>,
    /// Files are mirrored from there.
    pub(super) mirrored: bool,
    /// What rsync runs there to read files.
    pub(super) words: Vec<String>,
    /// The instance, whose volumes are asked for: rules name the places where they lie.
    pub(super) volumes_of: Option<Box<Instance>>,
    /// Engines and labels of containers that dumps are made in.
    pub(super) labels: Vec<(&'static str, String)>,
    /// Dumps whose files change places there.
    pub(super) files: Vec<Dump>,
    /// What the name of its sudoers file ends with.
    pub(super) file: &'static str,
}

/// A command that sudo is to let through.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rule {
    /// As whom.
    pub(super) user: String,
    /// The program and its arguments.
    pub(super) argv: Vec<String>,
    /// Any program: only for those that do not run as root.
    pub(super) any: bool,
    /// What its arguments are to fit, where they are not the same each time: then `argv` is one that does.
    pub(super) pattern: Option<String>,
}

impl Rule {
    /// As root, with exactly these arguments.
    pub(super) fn root(argv: &[String]) -> Self {
        Self { user: "root".into(), argv: argv.to_vec(), any: false, pattern: None }
    }

    /// Any program as another user: client programs of databases are run by `env` and `sh`, and run shells themselves.
    fn of_user(user: &str) -> Self {
        Self { user: user.into(), argv: vec!["env".into()], any: true, pattern: None }
    }
}

/// A question that changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Question {
    pub(super) argv: Vec<String>,
    /// How it may end.
    pub(super) codes: &'static [i32],
    /// It is asked as root, where the definition says `sudo`.
    pub(super) root: bool,
}

/// The exit codes of a program that answers, and of a `status` (0 runs, 1 to 3 does not).
pub(super) const ANSWERS: &[i32] = &[0];
const STANDS: &[i32] = &[0, 1, 2, 3];

/// The machines of an instance: its own, then those of its dumps.
pub(super) fn sites(instance: &Instance) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    if let Some(remote) = &instance.remote {
        let mut site = Site::of(remote);
        site.mirrored = instance.include.iter().any(|include| !include.starts_with("local:"));
        if site.mirrored {
            site.program("rsync", "files are mirrored with it");
        }
        if instance.include.iter().any(|include| include.starts_with("volumes/")) {
            site.volumes(instance);
            site.volumes_of = Some(Box::new(instance.clone()));
        }
        instance.services.iter().for_each(|service| site.service(service));
        sites.push(site);
    }
    for dump in &instance.dumps {
        let Some(remote) = &dump.remote else { continue };
        let same =
            |site: &&mut Site| (&site.remote.login(), site.remote.port) == (&remote.login(), remote.port);
        match sites.iter_mut().find(same) {
            Some(site) => site.dump(dump),
            None => {
                let mut site = Site::of(remote);
                site.dump(dump);
                sites.push(site);
            }
        }
    }
    sites
}

impl Site {
    fn of(remote: &Remote) -> Self {
        let remote = remote.clone();
        let (programs, rules, monits) = (Vec::new(), Vec::new(), Vec::new());
        let (units, questions, words, files) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let (mirrored, volumes_of, labels, file) = (false, None, Vec::new(), "");
        Self {
            remote,
            programs,
            rules,
            monits,
            units,
            questions,
            mirrored,
            words,
            volumes_of,
            labels,
            files,
            file,
        }
    }

    /// The same machine with these rules, for a sudoers file of their own, and nothing else.
    pub(super) fn with_rules_alone(&self, rules: Vec<Rule>, file: &'static str) -> Self {
        Self { rules, file, mirrored: self.mirrored, ..Self::of(&self.remote) }
    }

    pub(super) fn program(&mut self, name: &str, why: &'static str) {
        if !self.programs.iter().any(|(known, _)| known == name) {
            self.programs.push((name.to_owned(), why));
        }
    }

    /// What rsync runs there to read files: of all that there are, where some are named by their paths.
    pub(super) fn rsync(&mut self, words: &[String], paths: bool) {
        self.words = words.to_vec();
        if paths {
            self.rule(words.to_vec());
        }
    }

    /// Something that root is asked for, where the definition says `sudo`.
    fn rule(&mut self, argv: Vec<String>) {
        let rule = Rule { user: "root".into(), argv, any: false, pattern: None };
        self.add(rule);
    }

    pub(super) fn add(&mut self, rule: Rule) {
        if self.remote.sudo && !self.rules.contains(&rule) {
            self.rules.push(rule);
        }
    }

    /// The same with arguments that fit a pattern, of which `argv` is an example.
    fn open_rule(&mut self, argv: Vec<String>, pattern: String) {
        let rule = Rule { user: "root".into(), argv, any: false, pattern: Some(format!("^{pattern}$")) };
        self.add(rule);
    }

    fn service(&mut self, service: &Service) {
        match &service.manager {
            Manager::Systemd { units } => self.systemd(units),
            Manager::Monit { services, binary } => self.monit(binary, services),
            Manager::Command { start, stop, status } => {
                for argv in [start, stop, status] {
                    self.own_words(argv);
                }
                self.question(status.clone(), STANDS, true);
            }
            Manager::Docker { containers } => self.engine("docker", containers),
            Manager::Podman { containers } => self.engine("podman", containers),
            Manager::Compose { project, .. } => self.project(project),
        }
    }

    pub(super) fn question(&mut self, argv: Vec<String>, codes: &'static [i32], root: bool) {
        self.questions.push(Question { argv, codes, root });
    }

    /// How units stand everybody may ask.
    fn systemd(&mut self, units: &[String]) {
        self.program("systemctl", "services are stopped and started with it");
        let mut there = words(&["systemctl", "cat", "--"]);
        there.extend(units.iter().cloned());
        self.question(there, ANSWERS, false);
        self.unit_rules(units);
        self.units.extend(units.iter().cloned());
    }

    /// Containers are told of by ids, which are others when they were made anew.
    fn engine(&mut self, program: &'static str, containers: &[String]) {
        self.program(program, "containers are stopped and started with it");
        let name = "[0-9A-Za-z][0-9A-Za-z_.-]*";
        for (sample, pattern) in [
            (vec![program, "container", "inspect", "x"], format!("container inspect {name}")),
            (vec![program, "stop", "-t", "30", "x"], format!("stop -t [0-9]+ {name}")),
            (vec![program, "start", "x"], format!("(start|pause|unpause) {name}")),
        ] {
            self.open_rule(words(&sample), pattern);
        }
        for name in containers {
            self.question(words(&[program, "container", "inspect", name]), ANSWERS, true);
        }
    }

    /// Compose itself is not needed.
    fn project(&mut self, project: &str) {
        self.engine("docker", &[]);
        let label = format!("label=com.docker.compose.project={project}");
        let list = words(&["docker", "ps", "--all", "--no-trunc", "--quiet", "--filter", &label]);
        self.rule(list.clone());
        self.question(list, ANSWERS, true);
    }

    /// The units that systemd may be told to stop and start.
    pub(super) fn unit_rules(&mut self, units: &[String]) {
        units.iter().flat_map(|name| unit_calls(name)).for_each(|argv| self.rule(argv));
    }

    /// Told of by name only: a pattern for names would let arguments through, and monit has dangerous ones.
    fn monit(&mut self, binary: &str, services: &[String]) {
        self.program(binary, "services are stopped and started with it");
        self.rule(words(&[binary, "status"]));
        self.question(words(&[binary, "status"]), ANSWERS, true);
        self.monit_services(binary, services);
        if services.is_empty() {
            self.monits.push(binary.to_owned());
        }
    }

    /// The services that a monit may be told to stop and start.
    pub(super) fn monit_services(&mut self, binary: &str, services: &[String]) {
        for name in services {
            self.rule(words(&[binary, "stop", name]));
            self.rule(words(&[binary, "start", name]));
        }
    }

    /// A program of the definition.
    fn own_words(&mut self, argv: &[String]) {
        if let Some(program) = argv.first() {
            self.program(program, "the definition of a service names it");
        }
        self.rule(argv.to_vec());
    }

    fn dump(&mut self, dump: &Dump) {
        if dump.source.is_files() && dump.container.is_none() {
            self.files.push(dump.clone());
        }
        if let Some(container) = &dump.container {
            let rule = dump.run_as.as_deref().map(Rule::of_user);
            self.rules.extend(rule.filter(|rule| !self.rules.contains(rule)));
            return self.contained(dump, container);
        }
        let (mut names, server): (Vec<String>, _) = match &dump.source {
            Source::Postgresql(server) => {
                (words(&["pg_dump", "pg_dumpall", "pg_restore", "psql"]), Some(server))
            }
            Source::Mariadb(server) => (words(&["mariadb-dump", "mariadb"]), Some(server)),
            Source::Mysql(server) => (words(&["mysqldump", "mysql"]), Some(server)),
            Source::Command(command) => {
                let both = [Some(&command.dump), command.restore.as_ref()];
                (both.into_iter().flatten().filter_map(|argv| argv.first().cloned()).collect(), None)
            }
            Source::Redis(_) => (words(&["redis-cli"]), None),
            Source::Sqlite(_) => (words(&["sqlite3"]), None),
            Source::Etcd(_) => (words(&["etcdctl"]), None),
            Source::Openldap(_) => (words(&["slapcat", "slapadd"]), None),
            Source::Mongodb(_) => (words(&["mongodump", "mongorestore", "mongosh"]), None),
            Source::Opensearch(_) | Source::Elasticsearch(_) => (words(&["curl", "tar"]), None),
            Source::Rabbitmq(rabbit) if rabbit.data_dir.is_some() => {
                (words(&["rabbitmqctl"]), Some(&rabbit.server))
            }
            Source::Rabbitmq(_) => (words(&["curl"]), None),
        };
        if let Some(dir) = server.and_then(|server| server.client.as_ref()) {
            names = names.iter().map(|name| dir.join(name).display().to_string()).collect();
        }
        let rule = dump.run_as.as_deref().map(Rule::of_user);
        self.rules.extend(rule.filter(|rule| !self.rules.contains(rule)));
        for name in names {
            self.program(&name, "a dump is made or loaded with it");
        }
    }
}

fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
