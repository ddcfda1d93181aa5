//! No secret where others can read it.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::each_restic;
use crate::lab::{Lab, PASSWORD, until};
use crate::locks::restics;

each_restic!(no_secret_is_in_arguments_or_files_of_others, |lab| {
    let lab = lab.initialised().await;
    lab.write_noise("tree/data/big", 30);
    let request = lab.request(&["data"]);
    let watch = async {
        until("a lock", || !lab.locks().is_empty()).await;
        let running = restics(&lab);
        assert!(!running.is_empty());
        for pid in running {
            for file in ["cmdline", "environ"] {
                let bytes = fs::read(format!("/proc/{pid}/{file}")).unwrap();
                let text = String::from_utf8_lossy(&bytes);
                assert!(!text.contains(PASSWORD) && !text.contains("RESTIC_PASSWORD="), "{file}: {text}");
            }
        }
    };
    let (result, ()) = tokio::join!(lab.restic.backup(&lab.access, &request, &lab.terms, |_| ()), watch);
    result.unwrap();
    let mode = |p: &std::path::Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&lab.access.repository_file), mode(&lab.access.password_file)), (0o600, 0o600));
    assert_eq!((mode(&lab.path("run")), mode(&lab.path("cache"))), (0o700, 0o700));
});

each_restic!(a_password_in_the_url_is_not_in_arguments, |lab| {
    let url = format!("rest:http://u:{PASSWORD}@127.0.0.1:1/x");
    let remote = Lab::with(lab.restic.clone(), Some(&url));
    let terms =
        holdfast::restic::Terms { timeout: Some(std::time::Duration::from_secs(3)), ..remote.terms.clone() };
    let watch = async {
        until("a restic or its end", || {
            restics(&remote).iter().any(|pid| {
                let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                assert!(!String::from_utf8_lossy(&bytes).contains(PASSWORD));
                !bytes.is_empty()
            })
        })
        .await;
    };
    let (result, ()) = tokio::join!(remote.restic.config_id(&remote.access, &terms), watch);
    assert!(!format!("{:?}", result.unwrap_err()).contains(PASSWORD));
});
