//! The shape of the file: every table and key, each value with its place. A key that is added here is read, described in
//! the schema, and does not compile until `valid` handles it.

use std::sync::Arc;

use serde_json::{Map, Value as Json};
use toml::Spanned;

use super::diagnostic::Source;
use super::value::{
    AbsolutePath, Argv, Before, ContainerName, Count, Database, Delay, Exclude, FilePath, HostName, Include,
    Limit, ManagerWord, MaxUnused, Part, Percent, Port, Priority, ReadData, SourceWord, SshAddress, Steps,
    Stop, Switch, UnitName, Url, UserName, Zone, table,
};
use crate::calendar::{Schedule, Window};
use crate::definition::{
    Layout, Name, Owners, Retention, Selector, StopUntil, Version, VersionMatch, Volumes,
};

/// A named table with the file it stands in.
#[derive(Debug)]
pub(super) struct Entry<T> {
    pub(super) name: Name,
    /// Where the name stands.
    pub(super) span: std::ops::Range<usize>,
    pub(super) source: Arc<Source>,
    pub(super) raw: T,
    /// Whether every key of it could be read; when not, the file is refused, and what seems to be missing may only be wrong.
    pub(super) sound: bool,
    /// Its keys and values as they stand there; only of instances and modules.
    pub(super) written: Map<String, Json>,
}

table! {
    /// Settings of the daemon itself.
    RawDaemon {
        /// Where dumps and trees are staged, mode 0700. Default: `staging` in the state directory.
        staging_dir: AbsolutePath,
        /// The zone that schedules are read in. Default: the machine's.
        timezone: Zone,
        /// restic processes at once. Default: the number of CPUs.
        max_parallel: Count,
        /// The host name in snapshots; fixed, so that retention survives a rename. Default: the machine's.
        host: HostName,
        /// The restic program: an absolute path, or a name to be found on PATH. Default: restic.
        restic: String,
        /// Where a Prometheus text file is written. Default: nowhere.
        metrics_file: AbsolutePath,
    }
}

table! {
    /// What is found by itself.
    RawDiscovery {
        /// true: each compose project of Docker with a container labelled backup.enable=true is an instance. Default: false.
        docker: bool,
    }
}

table! {
    /// A place that holds snapshots.
    RawRepository {
        /// Everything restic accepts: an absolute path, sftp:, rest:, s3:, b2:, azure:, gs:, swift:, rclone:
        url: Url,
        /// A file with the password, mode 0600; a relative path is relative to this file.
        password_file: FilePath,
        /// The name of a systemd credential that holds the password.
        password_credential: UserName,
        /// A program that prints the password.
        password_command: Argv,
        /// A file of NAME=value lines with credentials of the storage; a relative path is relative to this file.
        environment_file: FilePath,
        /// per-instance: a restic repository for each instance, below the url; shared: one for all, told apart by tags.
        layout: Layout,
        /// The storage refuses deletes: forget and prune are never tried.
        append_only: bool,
        /// When unused data is removed; false: never by itself. Default: weekly, max_unused 10%.
        prune: Switch<RawPrune>,
        /// When the repository is checked; false: never by itself. Default: monthly.
        check: Switch<RawCheck>,
        /// From which age, at least 30m, a lock that another host left is removed when it is in the way. Default: never.
        unlock_foreign_after: Limit,
    }
}

table! {
    /// When and how unused data is removed.
    RawPrune {
        /// When. Default: weekly.
        schedule: Schedule,
        /// How much unused data may stay: a percentage, a size, or unlimited. Default: 10%.
        max_unused: MaxUnused,
    }
}

table! {
    /// When and how a repository is checked.
    RawCheck {
        /// When. Default: monthly.
        schedule: Schedule,
        /// How much data is read back: "1/12" rotates through all twelve parts, a percentage, or all. Default: none.
        read_data: ReadData,
    }
}

table! {
    /// Which instances go where, when, and how long they are kept.
    RawBackup {
        /// Where the snapshots go; several: dumped once, stored in each.
        repositories: Vec<Spanned<Name>>,
        /// When it runs by itself: daily, "Mon..Fri 02:30", "30 2 * * *", "every 6h". Default: only when asked.
        schedule: Schedule,
        /// Runs after each run of this backup that made sets, instead of by a schedule. Default: none.
        after: Name,
        /// "new-version": runs when the daemon starts and an instance's version is not its last set's. Default: no.
        before: Before,
        /// What is kept: a number of sets, or a table. Default: everything.
        retention: Retention,
        /// Names of instances, "*" for all, "module:NAME" for all of a module, "compose:*" for all compose projects; evaluated at each run.
        instances: Vec<Spanned<Selector>>,
        /// false: runs neither by schedule nor when asked. Default: true.
        enabled: bool,
        /// One run after downtime when a slot was missed. Default: true.
        catch_up: bool,
        /// Slots are delayed by up to this much, by an amount that is stable per host and name. Default: 0s.
        random_delay: Delay,
        /// No slot runs in these weekly windows; it waits until they end: ["Mon..Fri 08:00-18:00"]. Default: none.
        blackout: Vec<Spanned<Window>>,
        /// Who goes first where several backups wait: -10 to 10, higher first. Default: 0.
        priority: Priority,
        /// After this long a run is ended and fails. Default: no limit.
        max_duration: Limit,
        /// How a failed unit is tried again. Default: 2 attempts, after 15m.
        retry: RawRetry,
        /// Users who may see, run and cancel it without polkit; they must be in the group holdfast. Default: none.
        allow_users: Vec<Spanned<UserName>>,
        /// Groups whose members may, likewise. Default: none.
        allow_groups: Vec<Spanned<UserName>>,
    }
}

table! {
    /// How a failed unit is tried again.
    RawRetry {
        /// How often at most after the first try; 0: never. Default: 2.
        attempts: u32,
        /// The pause before the first retry; it doubles each time. Default: 15m.
        delay: Delay,
    }
}

table! {
    /// What a kind of application needs; every key may also stand in an instance, which wins.
    RawModule {
        /// The machine that it is on, reached over ssh: `host`, `user@host` or `user@host:port`. Default: this one.
        ssh: SshAddress,
        /// The private key for it, mode 0600; a relative path is relative to this file. Default: ssh/INSTANCE in the state directory.
        ssh_key: FilePath,
        /// With ssh: whether services and files there take root, by `sudo -n`. Default: false.
        sudo: bool,
        /// The user that hooks run as. Default: root, or the daemon's own user.
        user: UserName,
        /// The directory of the NS8 layout: bin/, etc/, actions/, state/.
        install_dir: AbsolutePath,
        /// Who knows where volumes/NAME lies: podman, docker, or a table { NAME = "/path" or "docker:VOLUME" }; with ssh, of that machine. Default: podman with an install_dir, else nobody.
        volumes: Volumes,
        /// What is backed up: state/…, volumes/NAME, ~/…, absolute paths; globs allowed.
        include: Vec<Spanned<Include>>,
        /// What is left out: restic patterns state/…, volumes/NAME/…, /absolute/path, or a name at any depth; "!" takes back in.
        exclude: Vec<Spanned<Exclude>>,
        /// Appended to include instead of replacing the module's.
        include_add: Vec<Spanned<Include>>,
        /// Appended to exclude instead of replacing the module's.
        exclude_add: Vec<Spanned<Exclude>>,
        /// A literal include that is missing fails the backup instead of a warning. Default: false.
        strict: bool,
        /// The program that prepares data; a relative path lies in install_dir. Default: bin/module-dump-state there, if present.
        dump_state: Argv,
        /// The program that clears up after it; always run. Default: bin/module-cleanup-state in install_dir, if present.
        cleanup_state: Argv,
        /// A data source, dumped before each snapshot and loaded by a restore; written [[instance.NAME.dump]].
        dump: Vec<Spanned<RawDump>>,
        /// How long one hook may run. Default: 1h.
        hook_timeout: Limit,
        /// How long restic or a hook may go without any progress. Default: 30m.
        stall_timeout: Limit,
        /// How it is restored.
        restore: RawRestore,
        /// How its version is found; stored with every set.
        version: RawVersion,
        /// What is stopped while it is backed up and restored, in stop order; started in reverse. Default: nothing.
        service: Vec<Spanned<RawService>>,
        /// How it comes back by itself when its unit fails. Default: it does not.
        recovery: RawRecovery,
        /// Users who may see it and cancel its jobs without polkit; they must be in the group holdfast. Default: none.
        allow_users: Vec<Spanned<UserName>>,
        /// Groups whose members may, likewise. Default: none.
        allow_groups: Vec<Spanned<UserName>>,
    }
}

table! {
    /// A data source: what is dumped, and how it is reached.
    RawDump {
        /// postgresql, mariadb, mysql, redis, openldap, etcd, rabbitmq, opensearch, elasticsearch, mongodb, sqlite, or command.
        source: SourceWord,
        /// Its name: the dump lies at dumps/NAME in the snapshot. Default: the source's word.
        name: Name,
        /// The databases; openldap: their suffixes; opensearch, elasticsearch: indices, * stands for anything; sqlite: its files, state/…, volumes/NAME/…, absolute. Default: all there are.
        databases: Vec<Spanned<Database>>,
        /// Databases that are left out of all. Default: none.
        exclude: Vec<Spanned<Database>>,
        /// The server's host. Default: a socket of this machine.
        host: HostName,
        /// The server's port. Default: the usual one.
        port: Port,
        /// The server's socket: for postgresql its directory, else the file. Default: the usual one.
        socket: AbsolutePath,
        /// The user that logs in to the server. Default: the client program's, in a container what its environment says.
        user: Database,
        /// A file with that user's password, mode 0600; a relative path is relative to this file.
        password_file: FilePath,
        /// For opensearch, elasticsearch: a file with a key for the API in place of a user, mode 0600.
        api_key_file: FilePath,
        /// For mongodb: the database that knows the user. Default: admin.
        auth_database: Database,
        /// For etcd, rabbitmq, opensearch, elasticsearch, mongodb: the certificates that the server's is checked against; it is then spoken to over TLS. With ssh, an absolute path there.
        ca_file: FilePath,
        /// Likewise: our own certificate, for a server that asks for one.
        cert_file: FilePath,
        /// The key of that certificate.
        key_file: FilePath,
        /// For source = "openldap": where its configuration lies. Default: /etc/ldap/slapd.d.
        config_dir: AbsolutePath,
        /// For source = "rabbitmq": save a node with its messages, while it is stopped, in place of its definitions. Default: false.
        messages: bool,
        /// For source = "etcd", or "rabbitmq" with messages: where its data lies, in a container as it is named there. Default for etcd: /var/lib/etcd/default.
        data_dir: AbsolutePath,
        /// For opensearch, elasticsearch: a directory of its path.repo, where it writes snapshots and we read them.
        snapshot_dir: AbsolutePath,
        /// For opensearch, elasticsearch: the same directory as the server sees it. Default: the same path.
        server_dir: AbsolutePath,
        /// For opensearch, elasticsearch: save and restore settings and templates of the whole cluster too. Default: false.
        global_state: bool,
        /// For mongodb: all databases as they were at one moment; only members of a replica set can. Default: false.
        oplog: bool,
        /// The container that the server runs in, whose own programs are used: NAME or label:KEY=VALUE, behind docker: or podman: where it is not the one of volumes; with ssh, of that machine. Default: none.
        container: ContainerName,
        /// The machine that client programs run on, by the instance's key: `host`, `user@host` or `user@host:port`. Default: the instance's.
        ssh: SshAddress,
        /// For postgresql, mariadb, mysql, rabbitmq with messages: the directory of the client programs. Default: found on PATH.
        client: AbsolutePath,
        /// The user of the machine that client programs run as; over ssh by `sudo -n -u`. Default: the instance's user.
        run_as: UserName,
        /// For source = "command": the program that prints the dump, as the instance's user.
        command: Argv,
        /// For source = "command": the program that reads the dump from standard input in a restore. Default: it is not loaded.
        restore: Argv,
        /// For postgresql, mariadb, mysql and command: the dump goes into the repositories while it comes, and needs no room in staging_dir. Default: false.
        stream: bool,
        /// Warn when a dump has less than this part of the last good one's size; "0%": never. Default: 50%.
        shrink_limit: Percent,
    }
}

table! {
    /// How an instance is restored.
    RawRestore {
        /// The directory of NNname programs, relative to install_dir or absolute. Default: actions/restore-module, if present.
        steps: Steps,
        /// How long the data that a restore replaced is kept for a rollback; "0s": not at all. Default: 24h.
        keep_previous: Delay,
        /// What must answer well after a restore, else it is undone. Default: nothing is asked.
        health: RawHealth,
        /// Whose the files are that come back: name (whoever has the saved name here; in volumes the numbers) or number. Default: name.
        owners: Owners,
        /// Whether set-user-id and set-group-id bits of files come back. Default: false, they are taken off with a warning.
        setuid: bool,
        /// Whether device files come back. Default: false, they are left out with a warning.
        devices: bool,
    }
}

table! {
    /// A question about an application's health.
    RawHealth {
        /// A program that exits with 0 when all is well; it is run again until then.
        command: Argv,
        /// How long it may take until all is well. Default: 2m.
        timeout: Limit,
    }
}

table! {
    /// How an instance comes back by itself when its unit fails: the newest set of the same version is restored.
    RawRecovery {
        /// The unit of systemd that is watched.
        unit: UnitName,
        /// A program that is asked first: with 0 the recovery goes on, with 75 it is asked again later. Default: none.
        guard: Argv,
        /// How many recoveries may begin within the window; then there is only an alarm. Default: 3.
        attempts: Count,
        /// The time that attempts are counted in. Default: 1d.
        window: Limit,
        /// The least time between two recoveries. Default: 0s.
        cool_down: Delay,
        /// How long a repository that does not answer is waited for, before its sets are given up. Default: 5m.
        patience: Delay,
        /// Whether the data that failed is kept. Default: true.
        save_failed: bool,
        /// How long it is kept; at most 3 times and 32 GiB. Default: 7d.
        keep_failed: Limit,
        /// Whether sets may be used that were made with a warning. Default: false.
        allow_warning: bool,
    }
}

table! {
    /// How a version is found: one of the two.
    RawVersion {
        /// A program that prints it.
        command: Argv,
        /// dpkg:NAME or rpm:NAME.
        builtin: Version,
        /// Which saved versions may be restored over the present one: any, exact, minor (first two numbers agree), major, not-newer. Default: any.
        r#match: VersionMatch,
    }
}

table! {
    /// What is stopped while an instance is backed up and restored.
    RawService {
        /// Who starts and stops it: systemd, monit, docker, podman, compose or command.
        manager: ManagerWord,
        /// What `depends_on` of others calls it. Default: its first unit, container or service, the project, or the program.
        name: Name,
        /// systemd: the units, in stop order; without a suffix .service is meant.
        units: Vec<Spanned<UnitName>>,
        /// docker, podman: the containers' names, in stop order.
        containers: Vec<Spanned<Part>>,
        /// compose: the project's exact name.
        project: Part,
        /// monit, compose: only these of its services, in stop order. Default: all that it has.
        services: Vec<Spanned<Part>>,
        /// monit: the program. Default: the one on PATH.
        binary: AbsolutePath,
        /// command: the program that starts it.
        start: Argv,
        /// never, dump or snapshot: until when a backup keeps it stopped; restore: only restores stop it. Default: snapshot. command: the program that stops it.
        stop: Stop,
        /// command: the program that exits with 0 when it runs, with 1, 2 or 3 when it does not.
        status: Argv,
        /// command: never, restore, dump or snapshot, as `stop` says elsewhere. Default: snapshot.
        until: StopUntil,
        /// Parts of it that run while dumps are made, though it is stopped. Default: none.
        start_for_dump: Vec<Spanned<Part>>,
        /// Refuses to back up unless it runs and is healthy. Default: false.
        require_healthy: bool,
        /// How long one part of it may take to stop. Default: 30s.
        stop_timeout: Limit,
        /// Names of services here that must run before it; it is stopped before them. Default: none.
        depends_on: Vec<Spanned<Name>>,
    }
}

/// An instance: its module, and every key of a module.
#[derive(Debug, Default)]
pub(super) struct RawInstance {
    pub(super) module: Option<Spanned<Name>>,
    pub(super) own: RawModule,
}

/// What the schema says of [`RawInstance::module`].
pub(super) const MODULE_KEY: &str = "The module that it is one of. Default: none; its own keys are all.";
