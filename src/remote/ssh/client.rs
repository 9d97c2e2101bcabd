//! What russh asks while a connection is made: is this key the host's (I7)? And what a server must not do: open channels to us.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use russh::client::{self, ChannelOpenHandle, Msg, Session as RusshSession};
use russh::keys::{PublicKey, PublicKeyOrCertificate};
use russh::{Channel, ChannelOpenFailure};

use super::RemoteError;
use super::known_hosts::{KnownKeys, Verdict};
use crate::model::inventory::Target;

/// What the far side showed and what came of it; filled in by the handler, read when connecting has ended.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) refusal: Option<RemoteError>,
    pub(super) negotiated: String,
    pub(super) server: String,
    pub(super) sha1: Vec<String>,
}

pub(super) struct Client {
    pub(super) target: Target,
    pub(super) known: KnownKeys,
    pub(super) seen: Arc<Mutex<Seen>>,
}

/// What is known of what a server showed.
pub(super) fn judge(known: &KnownKeys, target: &Target, shown: &PublicKeyOrCertificate) -> (Verdict, PublicKey) {
    let key = shown.public_key();
    let verdict = match shown.certificate() {
        Some(certificate) => {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
            known.judge_certificate(target, certificate, now)
        }
        None => known.judge(target, &key),
    };
    (verdict, key)
}

impl client::Handler for Client {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        let (verdict, key) = judge(&self.known, &self.target, shown);
        let refusal = verdict.into_refusal(&self.target, &key);
        let accepted = refusal.is_none();
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).refusal = refusal;
        Ok(accepted)
    }

    async fn kex_done(&mut self, _: Option<&[u8]>, names: &russh::Names, session: &mut RusshSession) -> Result<(), Self::Error> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let chosen = [names.kex.as_ref().to_owned(), names.key.to_string(), names.client_mac.as_ref().to_owned()];
        seen.negotiated = format!("{} {} {}", chosen[0], names.cipher.as_ref(), chosen[2]);
        seen.sha1 =
            chosen.into_iter().filter(|name| name.ends_with("sha1") || name == "ssh-rsa" || name.starts_with("hmac-sha1")).collect();
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
        refuse(reply).await
    }
    async fn server_channel_open_agent_forward(
        &mut self,
        _: Channel<Msg>,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
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
        refuse(reply).await
    }
    async fn server_channel_open_forwarded_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
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
        refuse(reply).await
    }
    async fn server_channel_open_direct_streamlocal(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }
    async fn server_channel_open_x11(
        &mut self,
        _: Channel<Msg>,
        _: &str,
        _: u32,
        reply: ChannelOpenHandle,
        _: &mut RusshSession,
    ) -> Result<(), Self::Error> {
        refuse(reply).await
    }
}

async fn refuse(reply: ChannelOpenHandle) -> Result<(), russh::Error> {
    reply.reject(ChannelOpenFailure::AdministrativelyProhibited).await;
    Ok(())
}

/// Looks at what a server shows and takes nothing of it: what `trust` asks about.
pub(super) struct Probe {
    pub(super) shown: Arc<Mutex<Option<(Verdict, PublicKey)>>>,
    pub(super) target: Target,
    pub(super) known: KnownKeys,
}

impl client::Handler for Probe {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, Self::Error> {
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = Some(judge(&self.known, &self.target, shown));
        Ok(false)
    }
}
