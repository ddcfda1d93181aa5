use super::*;
use crate::definition::Password;

#[test]
fn an_instance_lies_below_the_url_in_each_backends_own_way() {
    for (url, whole) in [
        ("/srv/r/", "/srv/r/wiki/u"),
        ("sftp:u@h:/srv/r", "sftp:u@h:/srv/r/wiki/u"),
        ("rest:https://h:8000/", "rest:https://h:8000/wiki/u"),
        ("s3:https://h/bucket", "s3:https://h/bucket/wiki/u"),
        ("b2:backupns8", "b2:backupns8:/wiki/u"),
        ("b2:backupns8:daily", "b2:backupns8:daily/wiki/u"),
        ("gs:bucket:/", "gs:bucket:wiki/u"),
        ("rclone:remote:path", "rclone:remote:path/wiki/u"),
    ] {
        let repository = Repository {
            name: Name::parse("r").unwrap(),
            url: url.into(),
            password: Password::Generated("/x".into()),
            environment_file: None,
            layout: Layout::PerInstance,
            append_only: false,
            prune: None,
            check: None,
            unlock_foreign_after: None,
        };
        assert_eq!(Location::named(&repository, "wiki", "u").url(&repository), whole);
        let shared = Repository { layout: Layout::Shared, ..repository };
        assert_eq!(Location::named(&shared, "wiki", "u").url(&shared), url);
    }
}
