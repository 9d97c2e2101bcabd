//! SSH with russh, and nothing else that names it.
//!
//! Owns connections: algorithms, host keys (I7), login, jump hosts, running a script with its streams.
//! Must never: accept a key that isn't known, put a secret into an argument, wait without a limit.

mod agent;
mod algorithms;
mod client;
mod config;
mod exec;
mod gate;
mod identity;
mod keyring;
mod known_hosts;
mod learn;
mod login;
mod signer;
mod sudo;
mod throttle;

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use russh::client::{Config, Handle, Handler};
use tokio::io::BufReader;
use tokio::net::TcpStream;

use super::RemoteError;
use crate::model::inventory::{Endpoint, Host, Target};
use crate::model::text::printable;
use client::{Client, Probe, Seen};
use login::{Entered, Login};
use sudo::Sudo;
use throttle::Limits;

pub(super) use algorithms::{WINDOW, window_for};
pub use config::{Asker, complete, of_user};
pub use identity::look_at_identity;
pub use keyring::{Keyring, KeyringError, read_secret};
use known_hosts::is_rsa;
pub use known_hosts::{KnownKeys, Verdict};
pub use learn::{Learned, Others, fresh_salt, learn};
pub use russh::keys::{Certificate, HashAlg, PublicKey};

/// The least that a login is given.
const LOGIN: Duration = Duration::from_secs(30);

/// So much of what has arrived is taken from the system at once.
const READ_AHEAD: usize = 256 << 10;

/// A logged-in connection to a master.
pub struct Session {
    handle: Handle<Client>,
    sudo: Sudo,
    /// Base64 of the public key that opened the door; none where it was no key.
    pub key: Option<String>,
    /// What was negotiated: key exchange, cipher, MAC.
    pub negotiated: String,
    /// What of it is SHA-1, which the server has nothing better than.
    pub sha1: Vec<String>,
    limits: Limits,
    /// The shortest that a channel took to be opened, in microseconds.
    nearest: AtomicU64,
    /// Jump hosts stay open as long as what runs through them.
    _hops: Vec<Handle<Client>>,
}

/// An opened door.
struct Opened {
    handle: Handle<Client>,
    entered: Entered,
    negotiated: String,
    sha1: Vec<String>,
}

/// What connecting needs beside the target.
struct Way<'a> {
    host: &'a Host,
    keyring: &'a Keyring,
    home: &'a Path,
    config: Config,
}

impl<'a> Way<'a> {
    fn of(host: &'a Host, keyring: &'a Keyring, home: &'a Path, window: u32) -> Result<Self, RemoteError> {
        if let Some(why) = &host.refusal {
            return Err(RemoteError::Configuration(why.clone()));
        }
        Ok(Self { host, keyring, home, config: algorithms::config(host, keyring.is_limited(host), window)? })
    }

    fn known(&self, target: &Target) -> Result<KnownKeys, RemoteError> {
        let known = KnownKeys::of_target(target, self.home).map_err(RemoteError::KnownHosts)?;
        Ok(if self.host.legacy { known } else { known.without_sha1() })
    }

    /// Connects and logs in to each jump host through the one before it, each with its own key check.
    async fn hops(&self) -> Result<(Vec<Handle<Client>>, Vec<String>), RemoteError> {
        let (mut hops, mut sha1): (Vec<Handle<Client>>, Vec<String>) = (Vec::new(), Vec::new());
        for hop in &self.host.jump {
            let opened = self.open(hop, hops.last()).await?;
            sha1.extend(opened.sha1.iter().map(|what| format!("{what} of the jump host {}", address_of(&hop.endpoint))));
            hops.push(opened.handle);
        }
        Ok((hops, sha1))
    }

    /// Connects and logs in. A server that drops the connection before anything was said has too many at once: it is asked again.
    async fn open(&self, target: &Target, through: Option<&Handle<Client>>) -> Result<Opened, RemoteError> {
        let (server, mut patience) = (self.way_to(target), Patience::default());
        loop {
            let turn = self.keyring.gates.enter(&server).await;
            let error = match self.try_open(target, through).await {
                Ok(Ok(opened)) => {
                    turn.let_in();
                    return Ok(opened);
                }
                Ok(Err(e)) => return Err(e),
                Err(Dropped(e)) => e,
            };
            if !patience.waits(turn, through, self.host.name.as_str()).await {
                return Err(error);
            }
        }
    }

    /// A server and the way to it, which are behind one gate.
    fn way_to(&self, target: &Target) -> String {
        let before = self.host.jump.iter().take_while(|hop| !std::ptr::eq(*hop, target));
        before.chain([target]).map(|hop| address_of(&hop.endpoint) + " ").collect()
    }

    /// What a server shows before anybody logs in, asked for as [`Self::open`] does. Nothing where it shows no key.
    async fn look(&self, target: &Target, through: Option<&Handle<Client>>) -> Result<Option<(Verdict, PublicKey)>, RemoteError> {
        let (server, mut patience) = (self.way_to(target), Patience::default());
        loop {
            let turn = self.keyring.gates.enter(&server).await;
            let shown = Arc::new(Mutex::new(None));
            let known = self.known(target)?;
            let config = algorithms::prefer_known(&self.config, &known.algorithms(target), known.has_authority(target));
            let probe = Probe { shown: Arc::clone(&shown), target: target.clone(), known };
            let outcome = self.connect(target, through, config, probe).await;
            let found = shown.lock().unwrap_or_else(PoisonError::into_inner).take();
            // Refusing the key is how the probe ends; without one the reason is another.
            let error = match (found, outcome) {
                (Some(found), _) => {
                    turn.let_in();
                    return Ok(Some(found));
                }
                (None, Ok(_)) => return Ok(None),
                (None, Err(Failure::Other(e))) => return Err(e),
                (None, Err(Failure::Dropped(e))) => e,
            };
            if !patience.waits(turn, through, self.host.name.as_str()).await {
                return Err(error);
            }
        }
    }

    async fn try_open(&self, target: &Target, through: Option<&Handle<Client>>) -> Result<Result<Opened, RemoteError>, Dropped> {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let known = match self.known(target) {
            Ok(known) => known,
            Err(e) => return Ok(Err(e)),
        };
        // The types of the known keys are asked for first, or a server with several keys would show one that isn't known.
        let config = algorithms::prefer_known(&self.config, &known.algorithms(target), known.has_authority(target));
        let handler = Client { target: target.clone(), known, seen: Arc::clone(&seen) };
        let connected = self.connect(target, through, config, handler).await;
        let (refusal, negotiated, server, sha1) = {
            let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
            (seen.refusal.take(), seen.negotiated.clone(), seen.server.clone(), seen.sha1.clone())
        };
        if let Some(refusal) = refusal {
            return Ok(Err(if std::ptr::eq(target, &self.host.target) { refusal } else { refusal.of_a_jump_host() }));
        }
        let mut handle = match connected {
            Ok(handle) => handle,
            Err(Failure::Dropped(e)) => return Err(Dropped(e)),
            Err(Failure::Other(e)) => return Ok(Err(e)),
        };
        let ours = std::ptr::eq(target, &self.host.target);
        let login = Login {
            handle: &mut handle,
            target,
            server: &server,
            keyring: self.keyring,
            // A password is the master's, not a jump host's.
            password: if ours { self.keyring.password_of(&self.host.name) } else { None },
            legacy: self.host.legacy,
            old: !sha1.is_empty(),
            home: self.home,
        };
        // An agent may ask its user, a key may want to be touched.
        let limit = self.host.connect_timeout.max(LOGIN);
        let unreachable = |reason: String| RemoteError::Unreachable { address: address_of(&target.endpoint), reason };
        match tokio::time::timeout(limit, login.run()).await {
            Ok(Ok(entered)) => Ok(Ok(Opened { handle, entered, negotiated, sha1 })),
            // OpenSSH may drop a connection as late as this.
            Ok(Err(RemoteError::Lost(reason))) => Err(Dropped(unreachable(reason))),
            Ok(Err(e)) => Ok(Err(e)),
            Err(_) => Ok(Err(unreachable(format!("the login did not end within {} s", limit.as_secs())))),
        }
    }

    async fn connect<H>(&self, target: &Target, through: Option<&Handle<Client>>, config: Config, handler: H) -> Result<Handle<H>, Failure>
    where
        H: Handler<Error = russh::Error> + 'static,
    {
        let (limit, config) = (self.host.connect_timeout, Arc::new(config));
        let endpoint = &target.endpoint;
        let work = async {
            match through {
                None => {
                    let stream = TcpStream::connect((endpoint.address.as_str(), endpoint.port)).await?;
                    stream.set_nodelay(true)?;
                    // russh reads each packet by two calls of the system.
                    russh::client::connect_stream(config, BufReader::with_capacity(READ_AHEAD, stream), handler).await
                }
                Some(hop) => {
                    let channel =
                        hop.channel_open_direct_tcpip(endpoint.address.as_str(), u32::from(endpoint.port), "127.0.0.1", 0).await?;
                    russh::client::connect_stream(config, channel.into_stream(), handler).await
                }
            }
        };
        let unreachable = |reason: String| RemoteError::Unreachable { address: address_of(endpoint), reason };
        match tokio::time::timeout(limit, work).await {
            Ok(Ok(handle)) => Ok(handle),
            Ok(Err(e)) if algorithms::was_dropped(&e) => Err(Failure::Dropped(unreachable(algorithms::reason(&e)))),
            Ok(Err(e)) => Err(Failure::Other(unreachable(algorithms::reason(&e)))),
            Err(_) => Err(Failure::Other(unreachable(format!("no answer within {} s", limit.as_secs())))),
        }
    }
}

/// How often a server that drops connections has been asked.
#[derive(Default)]
struct Patience {
    attempt: u32,
    in_vain: u32,
    let_in: Option<u64>,
}

impl Patience {
    /// Gives the turn back and waits, if it is worth asking again.
    async fn waits(&mut self, turn: gate::Turn, through: Option<&Handle<Client>>, host: &str) -> bool {
        // One that lets others in is only busy: it is asked for as long as it does.
        let by_now = Some(turn.dropped());
        self.in_vain = if by_now == self.let_in { self.in_vain + 1 } else { 0 };
        self.let_in = by_now;
        // A jump host that is gone won't come back by asking again.
        if self.in_vain >= gate::RETRIES || self.attempt >= gate::MOST_TRIES || through.is_some_and(Handle::is_closed) {
            return false;
        }
        tokio::time::sleep(gate::pause(self.attempt, host)).await;
        self.attempt += 1;
        true
    }
}

/// The server closed the connection before it came to anything: the same may work in a moment.
struct Dropped(RemoteError);

enum Failure {
    Dropped(RemoteError),
    Other(RemoteError),
}

/// Connects and logs in, through the host's jump hosts where it has any.
///
/// # Errors
/// See [`RemoteError`]: unreachable, the key, the login, sudo, or no algorithm in common.
pub async fn connect(host: &Host, keyring: &Keyring, home: &Path) -> Result<Session, RemoteError> {
    connect_with(host, keyring, home, WINDOW).await
}

/// The same, with so many bytes that may be on their way to us unasked.
pub(super) async fn connect_with(host: &Host, keyring: &Keyring, home: &Path, window: u32) -> Result<Session, RemoteError> {
    let way = Way::of(host, keyring, home, window)?;
    let (hops, of_hops) = way.hops().await?;
    let Opened { handle, entered, negotiated, mut sha1 } = way.open(&host.target, hops.last()).await?;
    sha1.extend(of_hops);
    if entered.sha1 {
        sha1.push("ssh-rsa user key".to_owned());
    }
    let mut session = Session {
        handle,
        sudo: Sudo::No,
        key: entered.key,
        negotiated,
        sha1,
        limits: keyring.throttle.limits(host),
        nearest: AtomicU64::new(u64::MAX),
        _hops: hops,
    };
    if host.sudo {
        sudo::find_out(&mut session, &host.target.endpoint, keyring.sudo_password_of(&host.name)).await?;
    }
    Ok(session)
}

/// What a server on the way to a host shows.
pub struct Shown {
    /// The server: the host itself, or a jump host before it.
    pub target: Target,
    /// Its key; of a certificate, the key in it.
    pub key: PublicKey,
    /// What is known of it.
    pub verdict: Verdict,
}

/// The first key on the way to a host that isn't known, or the host's own: what `trust` asks about. Nobody logs in to the host. Of a host whose
/// RSA key is known and which can show that with SHA-1 only, the better one that it has too.
///
/// # Errors
/// When it can't be reached.
pub async fn shown_key(host: &Host, keyring: &Keyring, home: &Path) -> Result<Option<Shown>, RemoteError> {
    let way = Way::of(host, keyring, home, WINDOW)?;
    let mut hops: Vec<Handle<Client>> = Vec::new();
    for target in host.jump.iter().chain([&host.target]) {
        let Some((verdict, key)) = way.look(target, hops.last()).await? else { return Ok(None) };
        let shown = |(verdict, key)| Some(Shown { target: target.clone(), key, verdict });
        if verdict != Verdict::Known {
            return Ok(shown((verdict, key)));
        }
        if std::ptr::eq(target, &host.target) {
            let better = if host.legacy && is_rsa(&key) { better_key(host, keyring, home, hops.last()).await } else { None };
            return Ok(shown(better.unwrap_or((verdict, key))));
        }
        hops.push(way.open(target, hops.last()).await?.handle);
    }
    Ok(None)
}

/// What a host shows instead of its known RSA key where SHA-1 is forbidden. Nothing where it has nothing else: it was asked for its known key before.
async fn better_key(host: &Host, keyring: &Keyring, home: &Path, through: Option<&Handle<Client>>) -> Option<(Verdict, PublicKey)> {
    let strict = Host { legacy: false, ..host.clone() };
    let way = Way::of(&strict, keyring, home, WINDOW).ok()?;
    let shown = way.look(&strict.target, through).await.ok()??;
    matches!(shown.0, Verdict::OtherType(_)).then_some(shown)
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
