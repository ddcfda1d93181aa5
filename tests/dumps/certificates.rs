//! An authority of the tests' own, and a certificate by it for this machine's loopback: for servers, and for clients.
#![expect(clippy::disallowed_methods, reason = "tests start real programs themselves")]

use std::path::{Path, PathBuf};
use std::process::Command;

use super::servers::good;

/// `ca.pem`, `own.pem` with `own.key`, and `other.pem`, an authority that signed nothing.
pub(crate) struct Certificates {
    dir: PathBuf,
}

impl Certificates {
    pub(crate) fn make(dir: &Path) -> Self {
        std::fs::create_dir_all(dir).unwrap();
        let openssl = |words: &str| {
            let mut openssl = Command::new("openssl");
            good(
                openssl
                    .args(words.split(' '))
                    .current_dir(dir)
                    .output()
                    .expect("openssl runs (package openssl)"),
            );
        };
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        for name in ["ca", "other"] {
            openssl(&format!("req -x509 {key} -keyout {name}.key -out {name}.pem -days 2 -subj /CN={name}"));
        }
        openssl(&format!("req {key} -keyout own.key -out own.csr -subj /CN=root"));
        let usage = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
        std::fs::write(dir.join("usage"), usage).unwrap();
        openssl(
            "x509 -req -in own.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile usage -out own.pem",
        );
        Self { dir: dir.to_owned() }
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.join(name).display().to_string()
    }

    /// The keys of a dump that is reached with them; `ca` is the authority that the server is checked against.
    pub(crate) fn keys(&self, ca: &str) -> String {
        format!(
            "ca_file = \"{}\"\ncert_file = \"{}\"\nkey_file = \"{}\"\n",
            self.path(ca),
            self.path("own.pem"),
            self.path("own.key")
        )
    }
}
