//! Logins at a server of the test's own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use russh::server::{Auth, Config, Handler, VerifiedPublicKey};
use tanker::model::inventory::parse_inventory;
use tanker::remote::RemoteError;
use tanker::remote::ssh::{Keyring, connect};

fn key(path: &Path, kind: &[&str]) {
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-C", "", "-f"]).arg(path).arg("-t").args(kind).status();
    assert!(made.unwrap().success());
}

/// Lets everybody in, and counts signatures.
#[derive(Clone)]
struct Open(Arc<AtomicUsize>);

impl Handler for Open {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(Auth::Accept)
    }
}

#[tokio::test]
async fn an_rsa_key_makes_no_sha_1_signature_where_legacy_is_off() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    key(&at("host"), &["ed25519"]);
    key(&at("user"), &["rsa", "-b", "2048"]);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let public = std::fs::read_to_string(at("host.pub")).unwrap();
    std::fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {public}")).unwrap();
    // Before OpenSSH 7.2 a server takes RSA keys with SHA-1 only, and doesn't say so.
    let config = Arc::new(Config {
        server_id: russh::SshId::Standard("SSH-2.0-OpenSSH_5.3".into()),
        keys: vec![russh::keys::load_secret_key(at("host"), None).unwrap()],
        ..Config::default()
    });
    let signed = Arc::new(AtomicUsize::new(0));
    let server = Open(Arc::clone(&signed));
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (config, server) = (Arc::clone(&config), server.clone());
            tokio::spawn(async move {
                if let Ok(session) = russh::server::run_stream(config, stream, server).await {
                    let _ = session.await;
                }
            });
        }
    });
    let login = async |legacy: bool| {
        let text = format!(
            "[hosts.m]\naddress='127.0.0.1'\nport={port}\nlegacy={legacy}\nagent=false\nidentity=['{}']\nknown_hosts='{}'\n",
            at("user").display(),
            at("known_hosts").display()
        );
        let host = parse_inventory("i", &text).unwrap().hosts.remove(0);
        let keyring = Keyring::load([&host], folder.path(), None, &mut |_| None).await.unwrap();
        connect(&host, &keyring, folder.path()).await.map(|session| session.sha1)
    };
    let Err(RemoteError::Login { tried, .. }) = login(false).await else { panic!("it was let in") };
    assert_eq!(tried, "an RSA key, which it takes only with SHA-1 ('legacy = true' allows that)");
    assert_eq!(signed.load(Ordering::SeqCst), 0);
    assert_eq!(login(true).await.unwrap(), ["ssh-rsa user key"]);
    assert_eq!(signed.load(Ordering::SeqCst), 1);
}
