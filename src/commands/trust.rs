//! `tanker trust`: makes a host's key known, when the operator says so (I7).

use russh::keys::{HashAlg, PublicKey};

use super::Context;
use crate::model::id::HostName;
use crate::model::inventory::Host;
use crate::remote::RemoteError;
use crate::remote::ssh::{KnownKeys, Learned, Verdict, expand, learn, shown_key};

/// What a host shows and what is known of it.
pub struct Shown {
    host: Host,
    key: PublicKey,
    /// `address:port`.
    pub address: String,
    /// `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:…`.
    pub fingerprint: String,
    /// What known_hosts says of it.
    pub verdict: Verdict,
}

/// Asks the host for its key; nothing is accepted by this.
///
/// # Errors
/// When it isn't in the inventory or can't be reached: one sentence.
pub async fn look_at_key(ctx: &Context, name: &HostName) -> Result<Shown, String> {
    let host = ctx.host(name).map_err(|ending| ending.summary)?;
    let known = KnownKeys::read(&expand(&host.known_hosts, &ctx.home))?;
    let key = shown_key(&host, &ctx.keyring, &ctx.home).await.map_err(|e: RemoteError| e.to_string())?;
    let key = key.ok_or("it showed no key that tanker understands")?;
    Ok(Shown {
        address: format!("{}:{}", host.endpoint.address, host.endpoint.port),
        algorithm: key.algorithm().to_string(),
        fingerprint: key.fingerprint(HashAlg::Sha256).to_string(),
        verdict: known.judge(&host.endpoint, &key),
        host,
        key,
    })
}

/// Makes the key known; with `rebuilt` in the place of the host's old ones.
///
/// # Errors
/// When known_hosts can't be written.
pub fn accept(ctx: &Context, shown: &Shown, rebuilt: bool) -> Result<Learned, String> {
    learn(&expand(&shown.host.known_hosts, &ctx.home), &shown.host.endpoint, &shown.key, rebuilt)
}
