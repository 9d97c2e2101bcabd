//! Logins at a server of the test's own.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use russh::server::{Auth, ChannelOpenHandle, Config, Handler, Msg, Session, VerifiedPublicKey};
use russh::{Channel, ChannelId};
use tanker::model::inventory::parse_inventory;
use tanker::remote::link::Link;
use tanker::remote::ssh::{Keyring, connect};
use tanker::remote::{RemoteError, Script};

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

/// A server of one's own: its port, and a host of an inventory that leads to it.
async fn serve<H>(folder: &Path, user_key: &[&str], version: &'static str, server: H, lines: &str) -> String
where
    H: Handler<Error = russh::Error> + Clone + Send + 'static,
{
    let at = |name: &str| folder.join(name);
    key(&at("host"), &["ed25519"]);
    key(&at("user"), user_key);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let public = std::fs::read_to_string(at("host.pub")).unwrap();
    std::fs::write(at("known_hosts"), format!("[127.0.0.1]:{port} {public}")).unwrap();
    let config = Arc::new(Config {
        server_id: russh::SshId::Standard(version.into()),
        keys: vec![russh::keys::load_secret_key(at("host"), None).unwrap()],
        ..Config::default()
    });
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
    let (identity, known) = (at("user"), at("known_hosts"));
    format!(
        "[hosts.m]\naddress='127.0.0.1'\nport={port}\nagent=false\nidentity=['{}']\nknown_hosts='{}'\n{lines}",
        identity.display(),
        known.display()
    )
}

#[tokio::test]
async fn an_rsa_key_makes_no_sha_1_signature_where_legacy_is_off() {
    let folder = tempfile::tempdir().unwrap();
    // Before OpenSSH 7.2 a server takes RSA keys with SHA-1 only, and doesn't say so.
    let signed = Arc::new(AtomicUsize::new(0));
    let inventory = serve(folder.path(), &["rsa", "-b", "2048"], "SSH-2.0-OpenSSH_5.3", Open(Arc::clone(&signed)), "").await;
    let login = async |legacy: bool| {
        let text = format!("{inventory}legacy={legacy}\n");
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

/// Opens channels to whoever runs something, of every kind, and then answers; what `read.sh` asks for never ends.
#[derive(Clone, Default)]
struct Forward(Arc<AtomicUsize>, Arc<AtomicUsize>);

impl Handler for Forward {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: VerifiedPublicKey<'_>) -> Result<Auth, Self::Error> {
        Ok(Auth::Accept)
    }

    async fn channel_open_session(&mut self, _: Channel<Msg>, reply: ChannelOpenHandle, _: &mut Session) -> Result<(), Self::Error> {
        reply.accept().await;
        Ok(())
    }

    async fn exec_request(&mut self, id: ChannelId, command: &[u8], session: &mut Session) -> Result<(), Self::Error> {
        session.channel_success(id)?;
        let (handle, refused, opened) = (session.handle(), Arc::clone(&self.0), Arc::clone(&self.1));
        let endless = String::from_utf8_lossy(command).contains("tanker-read");
        tokio::spawn(async move {
            while endless && handle.data(id, vec![0; 32768]).await.is_ok() {}
            let attempts = [
                handle.channel_open_session().await.is_ok(),
                handle.channel_open_agent().await.is_ok(),
                handle.channel_open_direct_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_ok(),
                handle.channel_open_direct_streamlocal("/run/x").await.is_ok(),
                handle.channel_open_forwarded_tcpip("127.0.0.1", 22, "127.0.0.1", 1).await.is_ok(),
                handle.channel_open_forwarded_streamlocal("/run/x").await.is_ok(),
                handle.channel_open_x11("127.0.0.1", 1).await.is_ok(),
            ];
            for done in attempts {
                if done { &opened } else { &refused }.fetch_add(1, Ordering::SeqCst);
            }
            let _ = handle.data(id, b"answered".to_vec()).await;
            let _ = handle.exit_status_request(id, 0).await;
            let _ = handle.eof(id).await;
            let _ = handle.close(id).await;
        });
        Ok(())
    }
}

#[tokio::test]
async fn i8_a_server_opens_nothing_here_and_a_stream_that_nobody_takes_holds_no_other_line() {
    let folder = tempfile::tempdir().unwrap();
    let server = Forward::default();
    let text = serve(folder.path(), &["ed25519"], "SSH-2.0-OpenSSH_6.6.1", server.clone(), "").await;
    let host = parse_inventory("i", &text).unwrap().hosts.remove(0);
    let keyring = Arc::new(Keyring::load([&host], folder.path(), None, &mut |_| None).await.unwrap());
    let mut link = Link::open(&host, &keyring, folder.path().to_owned()).await.unwrap();
    let limit = Duration::from_secs(20);
    assert_eq!(link.run_once(&Script::root([""; 0]), b"", limit).await.unwrap(), b"answered");
    assert_eq!((server.0.load(Ordering::SeqCst), server.1.load(Ordering::SeqCst)), (7, 0));

    // A disk that takes nothing any more, while the other line is asked.
    let (sink, mut stalled) = tokio::sync::mpsc::channel(1);
    let mut bulk = link.another();
    let (file, whole) = (Script::read(["file", "0"]), async { link.run_once(&Script::root([""; 0]), b"", limit).await });
    let pulled = async { bulk.session().await.unwrap().pull(&file, sink).await };
    tokio::select! {
        ended = pulled => panic!("it never ends: {ended:?}"),
        answer = async {
            stalled.recv().await.unwrap();
            tokio::time::sleep(Duration::from_secs(2)).await;
            whole.await
        } => assert_eq!(answer.unwrap(), b"answered"),
    }
}
