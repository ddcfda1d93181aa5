//! Repositories that are missing, locked away, unreachable or broken: each told apart, in every version.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use holdfast::restic::{Access, Error, Terms, write_private};

use crate::each_restic;
use crate::lab::{Lab, PASSWORD};

each_restic!(a_missing_repository_is_the_only_reason_to_make_one, |lab| {
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(error, Error::NoRepository) && !error.retryable(), "{error:?}");
    let error = lab.restic.config_id(&lab.access, &lab.terms).await.unwrap_err();
    assert!(matches!(error, Error::NoRepository), "{error:?}");
    assert!(!lab.path("repo").exists(), "nothing was made on the way");
    let lab = lab.initialised().await;
    let id = lab.restic.config_id(&lab.access, &lab.terms).await.unwrap();
    assert_eq!(id.len(), 64);
    let error = lab.restic.init(&lab.access, &lab.terms).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists), "{error:?}");
});

each_restic!(a_wrong_password_is_permanent_and_makes_nothing, |lab| {
    let lab = lab.initialised().await;
    write_private(&lab.path("password"), b"another one").unwrap();
    for error in [
        lab.backup(&["hello"]).await.unwrap_err(),
        lab.restic.snapshots(&lab.access, &[], &lab.terms).await.unwrap_err(),
        lab.restic.prune(&lab.access, "0", &lab.terms).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::WrongPassword) && !error.retryable(), "{error:?}");
    }
    let error = lab.restic.init(&lab.access, &lab.terms).await.unwrap_err();
    assert!(matches!(error, Error::AlreadyExists), "{error:?}");
    assert_eq!(fs::read_dir(lab.path("repo/keys")).unwrap().count(), 1);
});

each_restic!(other_languages_change_nothing, |lab| {
    let mut lab = lab;
    for name in ["LC_ALL", "LANG", "LANGUAGE"] {
        lab.access.environment.push((name.into(), "de_DE.UTF-8".into()));
    }
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(error, Error::NoRepository), "{error:?}");
    let lab = lab.initialised().await;
    write_private(&lab.path("password"), b"another one").unwrap();
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(error, Error::WrongPassword), "{error:?}");
});

each_restic!(a_missing_password_file_is_named, |lab| {
    fs::remove_file(lab.path("password")).unwrap();
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(error, Error::NoPassword(_)) && error.to_string().contains("password"), "{error:?}");
});

each_restic!(a_network_error_is_never_a_missing_repository, |lab| {
    for url in
        ["rest:http://127.0.0.1:1/x", "rest:http://no-such-host.invalid/x", "s3:http://127.0.0.1:1/bucket"]
    {
        let mut remote = Lab::with(lab.restic.clone(), Some(url));
        let keys = ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"];
        remote.access.environment.extend(keys.map(|k| (k.into(), "0123456789".into())));
        // Newer ones try again for 15 minutes; what they complain of meanwhile counts.
        let terms = Terms { timeout: Some(Duration::from_secs(8)), ..remote.terms.clone() };
        let began = Instant::now();
        let error = remote.restic.config_id(&remote.access, &terms).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable(_)) && error.retryable(), "{url}: {error:?}");
        assert!(began.elapsed() < Duration::from_secs(20));
    }
});

each_restic!(a_lost_config_is_damage_and_init_does_not_hide_it, |lab| {
    let lab = lab.initialised().await;
    lab.backup(&["hello"]).await.unwrap();
    fs::remove_file(lab.path("repo/config")).unwrap();
    for error in [
        lab.backup(&["hello"]).await.unwrap_err(),
        lab.restic.init(&lab.access, &lab.terms).await.unwrap_err(),
    ] {
        assert!(matches!(error, Error::Damaged(_)) && !error.retryable(), "{error:?}");
    }
    assert!(!lab.path("repo/config").exists());
});

each_restic!(an_empty_config_is_damage_in_few_words, |lab| {
    let lab = lab.initialised().await;
    let config = lab.path("repo/config");
    fs::set_permissions(&config, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(config, b"").unwrap();
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
    assert!(error.to_string().len() < 200 && !error.to_string().contains("github.com"), "{error}");
});

each_restic!(lost_keys_are_damage_not_a_wrong_password, |lab| {
    let lab = lab.initialised().await;
    fs::remove_dir_all(lab.path("repo/keys")).unwrap();
    fs::create_dir(lab.path("repo/keys")).unwrap();
    let error = lab.backup(&["hello"]).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)) && error.to_string().contains("key"), "{error:?}");
});

/// The packs of a repository.
fn packs(lab: &Lab) -> Vec<PathBuf> {
    let dirs = fs::read_dir(lab.path("repo/data")).unwrap();
    dirs.flat_map(|d| fs::read_dir(d.unwrap().path()).unwrap().map(|f| f.unwrap().path())).collect()
}

each_restic!(a_check_finds_a_flipped_bit_when_it_reads_the_data, |lab| {
    let lab = lab.initialised().await;
    lab.write_noise("tree/data/big", 1);
    lab.backup(&["data"]).await.unwrap();
    let pack = packs(&lab).into_iter().max_by_key(|p| fs::metadata(p).unwrap().len()).unwrap();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[1000] ^= 1;
    fs::set_permissions(&pack, fs::Permissions::from_mode(0o600)).unwrap();
    fs::write(&pack, bytes).unwrap();
    lab.restic.check(&lab.access, None, &lab.terms).await.unwrap();
    for part in ["all", "1/1", "100%"] {
        let error = lab.restic.check(&lab.access, Some(part), &lab.terms).await.unwrap_err();
        assert!(matches!(error, Error::Damaged(_)), "{part}: {error:?}");
    }
});

each_restic!(a_check_finds_a_lost_pack, |lab| {
    let lab = lab.initialised().await;
    lab.backup(&["hello"]).await.unwrap();
    for pack in packs(&lab) {
        fs::remove_file(pack).unwrap();
    }
    let error = lab.restic.check(&lab.access, None, &lab.terms).await.unwrap_err();
    assert!(matches!(error, Error::Damaged(_)), "{error:?}");
});

each_restic!(system_a_full_disk_is_told_and_leaves_no_lock, |lab| {
    let disk = Mount::tmpfs(lab.path("disk"), "12m");
    let full = Lab {
        access: Access::prepare(
            &lab.path("run"),
            disk.0.join("repo").to_str().unwrap(),
            &lab.path("password"),
            vec![],
            &lab.path("cache"),
        )
        .unwrap(),
        ..lab
    }
    .initialised()
    .await;
    full.write_noise("tree/data/big", 30);
    let error = full.backup(&["data"]).await.unwrap_err();
    assert!(matches!(error, Error::NoSpace(_)) && error.retryable(), "{error:?}");
    assert_eq!(fs::read_dir(disk.0.join("repo/locks")).unwrap().count(), 0);
    full.restic.check(&full.access, None, &full.terms).await.unwrap();
});

/// A mount that goes with the test.
struct Mount(PathBuf);

impl Mount {
    #[expect(clippy::disallowed_methods, reason = "prepares the machine, is no part of the daemon")]
    fn tmpfs(path: PathBuf, size: &str) -> Self {
        fs::create_dir_all(&path).unwrap();
        let size = format!("size={size}");
        let status = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", &size, "tmpfs"])
            .arg(&path)
            .status();
        assert!(status.unwrap().success(), "mounting needs root");
        Self(path)
    }
}

impl Drop for Mount {
    #[expect(clippy::disallowed_methods, reason = "as above")]
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

each_restic!(no_message_holds_a_secret, |lab| {
    let url = format!("rest:http://user:{PASSWORD}@127.0.0.1:1/x");
    let mut remote = Lab::with(lab.restic.clone(), Some(&url));
    remote.access.environment.push(("AWS_SECRET_ACCESS_KEY".into(), "canary-environment-55".into()));
    let terms = Terms { timeout: Some(Duration::from_secs(5)), ..remote.terms.clone() };
    let error = remote.restic.config_id(&remote.access, &terms).await.unwrap_err();
    let shown = format!("{error} {error:?} {}", error.advice());
    assert!(!shown.contains("canary") && shown.contains("127.0.0.1"), "{shown}");
});
