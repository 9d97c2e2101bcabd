//! SSH with russh, and nothing else that names it.
//!
//! Owns connections: algorithms, host keys (I7), login, jump hosts, running a script with its streams.
//! Must never: accept a key that isn't known, put a secret into an argument, wait without a limit.

mod algorithms;
mod exec;
mod keyring;
mod known_hosts;
mod login;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{self, ChannelOpenHandle, Handle, Msg, Session as RusshSession};
use russh::keys::PublicKeyOrCertificate;
use russh::{Channel, ChannelOpenFailure};

use super::RemoteError;
use crate::model::inventory::{Endpoint, Host};
use crate::model::text::printable;

pub use keyring::{Keyring, KeyringError};
pub use known_hosts::{KnownKeys, Learned, Verdict, learn};

/// A logged-in connection to a master.
pub struct Session {
    handle: Handle<Client>,
    sudo: bool,
    /// Base64 of the public key that opened the door; none where it was no key.
    pub key: Option<String>,
    /// What was negotiated: key exchange, cipher, MAC.
    pub negotiated: String,
    /// Jump hosts stay open as long as what runs through them.
    _hops: Vec<Handle<Client>>,
}

/// What the far side showed and what came of it; filled in by the handler, read when connecting has ended.
#[derive(Default)]
struct Seen {
    refusal: Option<RemoteError>,
    negotiated: String,
    server: String,
}

struct Client {
    endpoint: Endpoint,
    known: KnownKeys,
    seen: Arc<Mutex<Seen>>,
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let PublicKeyOrCertificate::PublicKey { key, .. } = shown else { return Ok(false) };
        let refusal = self.known.judge(&self.endpoint, key).into_refusal(&self.endpoint, key);
        let accepted = refusal.is_none();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refusal = refusal;
        Ok(accepted)
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, names: &russh::Names, session: &mut RusshSession) -> Result<(), Self::Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.negotiated = format!("{} {} {}", names.kex.as_ref(), names.cipher.as_ref(), names.client_mac.as_ref());
        seen.server = String::from_utf8_lossy(session.remote_sshid()).into_owned();
        Ok(())
    }

    // russh accepts channels that a server opens; nothing on a master has a reason to.
    async fn server_channel_open_session(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
    async fn server_channel_open_forwarded_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
    async fn server_channel_open_direct_tcpip(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
        Ok(())
    }
}

/// Connects and logs in, through the host's jump hosts where it has any.
///
/// # Errors
/// See [`RemoteError`]: unreachable, the key, the login, or no algorithm in common.
pub async fn connect(host: &Host, keyring: &Keyring, home: &Path) -> Result<Session, RemoteError> {
    let known = KnownKeys::read(&expand(&host.known_hosts, home)).map_err(RemoteError::Answer)?;
    let config = Arc::new(algorithms::config(host.legacy)?);
    let hops = open_hops(host, &known, &config, keyring).await?;
    let (handle, key, negotiated) = open(host, &host.endpoint, hops.last(), &known, &config, keyring).await?;
    Ok(Session { handle, sudo: host.sudo, key, negotiated, _hops: hops })
}

/// The key that a host shows, without logging in: what `trust` asks about.
///
/// # Errors
/// When it can't be reached.
pub async fn shown_key(host: &Host, keyring: &Keyring, home: &Path) -> Result<Option<russh::keys::PublicKey>, RemoteError> {
    let collected = Arc::new(Mutex::new(None));
    let known = KnownKeys::read(&expand(&host.known_hosts, home)).map_err(RemoteError::Answer)?;
    let config = Arc::new(algorithms::config(host.legacy)?);
    let hops = open_hops(host, &known, &config, keyring).await?;
    let address = address_of(&host.endpoint);
    let probe = Probe { collected: Arc::clone(&collected) };
    let outcome = with_limit(host.connect_timeout, &address, async {
        match hops.last() {
            None => client::connect(config, (host.endpoint.address.as_str(), host.endpoint.port), probe).await.map(drop),
            Some(hop) => client::connect_stream(config, tunnel(hop, &host.endpoint).await?, probe).await.map(drop),
        }
    })
    .await;
    let key = collected.lock().unwrap_or_else(PoisonError::into_inner).take();
    // Refusing the key is how the probe ends.
    if key.is_none() {
        outcome?;
    }
    Ok(key)
}

struct Probe {
    collected: Arc<Mutex<Option<russh::keys::PublicKey>>>,
}

impl client::Handler for Probe {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        if let PublicKeyOrCertificate::PublicKey { key, .. } = shown {
            *self.collected.lock().unwrap_or_else(PoisonError::into_inner) = Some(key.clone());
        }
        Ok(false)
    }
}

/// Connects and logs in to each jump host through the one before it, each with its own key check.
async fn open_hops(
    host: &Host,
    known: &KnownKeys,
    config: &Arc<client::Config>,
    keyring: &Keyring,
) -> Result<Vec<Handle<Client>>, RemoteError> {
    let mut hops: Vec<Handle<Client>> = Vec::new();
    for hop in &host.jump {
        let (handle, _, _) = open(host, hop, hops.last(), known, config, keyring).await?;
        hops.push(handle);
    }
    Ok(hops)
}

async fn open(
    host: &Host,
    endpoint: &Endpoint,
    through: Option<&Handle<Client>>,
    known: &KnownKeys,
    config: &Arc<client::Config>,
    keyring: &Keyring,
) -> Result<(Handle<Client>, Option<String>, String), RemoteError> {
    let seen = Arc::new(Mutex::new(Seen::default()));
    let handler = Client { endpoint: endpoint.clone(), known: known.clone(), seen: Arc::clone(&seen) };
    // The types of the known keys are asked for first, or a server with several keys would show one that isn't known.
    let config = Arc::new(algorithms::prefer_known(config, &known.algorithms(endpoint)));
    let address = address_of(endpoint);
    let connected = with_limit(host.connect_timeout, &address, async {
        match through {
            None => client::connect(config, (endpoint.address.as_str(), endpoint.port), handler).await,
            Some(hop) => client::connect_stream(config, tunnel(hop, endpoint).await?, handler).await,
        }
    })
    .await;
    let (refusal, negotiated, server) = {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        (seen.refusal.take(), seen.negotiated.clone(), seen.server.clone())
    };
    if let Some(refusal) = refusal {
        return Err(refusal);
    }
    let mut handle = connected?;
    let key = tokio::time::timeout(host.connect_timeout, login::log_in(&mut handle, host, endpoint, &server, keyring))
        .await
        .map_err(|_| RemoteError::TimedOut { what: format!("the login at {address}"), seconds: host.connect_timeout.as_secs() })??;
    Ok((handle, key, negotiated))
}

async fn tunnel(hop: &Handle<Client>, to: &Endpoint) -> Result<russh::ChannelStream<Msg>, russh::Error> {
    let channel = hop.channel_open_direct_tcpip(to.address.as_str(), u32::from(to.port), "127.0.0.1", 0).await?;
    Ok(channel.into_stream())
}

async fn with_limit<T>(limit: Duration, address: &str, work: impl Future<Output = Result<T, russh::Error>>) -> Result<T, RemoteError> {
    match tokio::time::timeout(limit, work).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(e)) => Err(RemoteError::Unreachable { address: address.to_owned(), reason: algorithms::reason(&e) }),
        Err(_) => Err(RemoteError::Unreachable { address: address.to_owned(), reason: format!("no answer within {} s", limit.as_secs()) }),
    }
}

/// `address:port`, printable.
fn address_of(endpoint: &Endpoint) -> String {
    printable(&format!("{}:{}", endpoint.address, endpoint.port))
}

/// A path with its `~` put in.
#[must_use]
pub fn expand(path: &Path, home: &Path) -> PathBuf {
    path.strip_prefix("~").map_or_else(|_| path.to_owned(), |rest| home.join(rest))
}
