//! A server in between: append-only storage, refused credentials, a server that goes away.

use std::net::TcpListener;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use holdfast::restic::{Error, Terms};

use crate::each_restic;
use crate::lab::{Lab, deps, until};

/// restic's REST server on a port of its own.
struct Server {
    child: Child,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Server {
    #[expect(clippy::disallowed_methods, reason = "stands for another machine")]
    async fn start(flags: &[&str], htpasswd: Option<&str>) -> Self {
        let names = ["rest-server", "restic-rest-server"];
        let found =
            names.map(|n| deps().join("rest-server/usr/bin").join(n)).into_iter().find(|p| p.is_file());
        let program = found.expect("the REST server is missing: run `make deps`");
        let dir = tempfile::tempdir().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = std::process::Command::new(program);
        command.arg("--path").arg(dir.path()).args(["--listen", &format!("127.0.0.1:{port}")]).args(flags);
        match htpasswd {
            Some(line) => std::fs::write(dir.path().join(".htpasswd"), line).unwrap(),
            None => _ = command.arg("--no-auth"),
        }
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        until("the REST server", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
        Self { child, port, _dir: dir }
    }

    fn url(&self) -> String {
        format!("rest:http://127.0.0.1:{}/repo", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

each_restic!(append_only_storage_refuses_forget_at_once_and_takes_backups, |lab| {
    let server = Server::start(&["--append-only"], None).await;
    let lab = Lab::with(lab.restic.clone(), Some(&server.url()));
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(error, Error::NoRepository), "{error:?}");
    let lab = lab.initialised().await;
    let made = lab.backup(&["hello"]).await.unwrap();
    let began = Instant::now();
    let error = lab.restic.forget(&lab.access, &[&made.snapshot_id], &lab.terms).await.unwrap_err();
    assert!(matches!(error, Error::RefusedDelete) && !error.retryable(), "{error:?}");
    assert!(began.elapsed() < Duration::from_secs(20), "0.14 alone would try for 15 minutes");
    assert_eq!(lab.restic.snapshots(&lab.access, &[], &lab.terms).await.unwrap().list.len(), 1);
    assert!(lab.restic.locks(&lab.access, &lab.terms).await.unwrap().is_empty());
    lab.backup(&["hello"]).await.unwrap();
});

each_restic!(refused_credentials_are_told_apart_from_a_dead_server, |lab| {
    // user:right, as htpasswd -s writes it.
    let server = Server::start(&[], Some("user:{SHA}0nofEXcSAJSXFLGvmfBIpBb11vQ=\n")).await;
    let url = format!("rest:http://user:wrong-canary@127.0.0.1:{}/repo", server.port);
    let lab = Lab::with(lab.restic.clone(), Some(&url));
    let terms = Terms { timeout: Some(Duration::from_secs(8)), ..lab.terms.clone() };
    let error = lab.restic.config_id(&lab.access, &terms).await.unwrap_err();
    assert!(matches!(error, Error::Denied(_)) && !error.retryable(), "{error:?}");
    assert!(!error.to_string().contains("canary"), "{error}");
});

each_restic!(a_server_that_goes_away_is_unreachable, |lab| {
    let server = Server::start(&[], None).await;
    let lab = Lab::with(lab.restic.clone(), Some(&server.url())).initialised().await;
    drop(server);
    let terms = Terms { timeout: Some(Duration::from_secs(8)), ..lab.terms.clone() };
    let error = lab.restic.backup(&lab.access, &lab.request(&["hello"]), &terms, |_| ()).await.unwrap_err();
    assert!(matches!(error, Error::Unreachable(_)) && error.retryable(), "{error:?}");
});
