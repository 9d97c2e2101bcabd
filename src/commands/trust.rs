//! `tanker trust`: makes a host's key known, and those of the jump hosts before it, when the operator says so (I7).

use std::io::Write;
use std::path::PathBuf;

use super::Context;
use crate::model::id::HostName;
use crate::model::text::printable;
use crate::platform;
use crate::remote::RemoteError;
use crate::remote::ssh::{self, HashAlg, KnownKeys, Learned, Others, Verdict, expand, fresh_salt, learn, shown_key};

/// What a server on the way to a host shows and what is known of it.
pub struct Shown {
    server: ssh::Shown,
    name: HostName,
    /// Whether it is the host itself, not a jump host before it.
    pub is_the_host: bool,
    /// `address:port`.
    pub address: String,
    /// `ssh-ed25519`.
    pub algorithm: String,
    /// `SHA256:…`.
    pub fingerprint: String,
}

impl Shown {
    /// What known_hosts says of it.
    #[must_use]
    pub fn verdict(&self) -> &Verdict {
        &self.server.verdict
    }
}

/// Asks for the first key on the way to a host that isn't known, or for the host's own; nothing is accepted by this.
///
/// # Errors
/// When it isn't in the inventory or can't be reached: one sentence.
pub async fn look_at_key(ctx: &Context, name: &HostName) -> Result<Shown, String> {
    let host = ctx.host(name).map_err(|ending| ending.summary)?;
    let shown = tokio::select! {
        shown = shown_key(&host, &ctx.keyring, &ctx.home) => shown.map_err(|e: RemoteError| match e.hint(name.as_str()) {
            Some(hint) => format!("{e}: {hint}"),
            None => e.to_string(),
        })?,
        () = ctx.cancel.cancelled() => return Err("stopped as told to".into()),
    };
    let server = shown.ok_or("it showed no key that tanker understands")?;
    Ok(Shown {
        address: printable(&format!("{}:{}", server.target.endpoint.address, server.target.endpoint.port)),
        algorithm: server.key.algorithm().to_string(),
        fingerprint: server.key.fingerprint(HashAlg::Sha256).to_string(),
        is_the_host: server.target == host.target,
        name: name.clone(),
        server,
    })
}

/// Makes the key known; with `rebuilt` in the place of the host's old ones, which stay in the host's record. One of another type than the RSA key
/// that SHA-1 kept from being shown stands beside that.
///
/// # Errors
/// When known_hosts or the record can't be written.
pub fn accept(ctx: &Context, shown: &Shown, rebuilt: bool) -> Result<Learned, String> {
    let target = &shown.server.target;
    let path = target.known_hosts.first().ok_or("it has no known_hosts file")?;
    let old = KnownKeys::of_target(target, &ctx.home)?.others(target, &shown.server.key);
    // Where SHA-1 is allowed the known key was shown too, a moment before: it stays known.
    let legacy = ctx.host(&shown.name).is_ok_and(|host| host.legacy);
    let others = match shown.server.verdict {
        Verdict::OtherType(_) if legacy || !rebuilt => Others::Keep,
        _ if rebuilt => Others::Replace,
        _ => Others::Refuse,
    };
    if others == Others::Replace && matches!(shown.server.verdict, Verdict::Changed(_) | Verdict::OtherType(_)) {
        record(ctx, shown, &old)?;
    }
    let learned = learn(&expand(path, &ctx.home), target, &shown.server.key, others, fresh_salt()?)?;
    if let Learned::Refused(others) = &learned {
        return Err(format!("other keys are known for it by now: {}", others.join(", ")));
    }
    // It may stand in another file, or under a pattern that covers others too.
    let left = KnownKeys::of_target(target, &ctx.home)?.others(target, &shown.server.key);
    if others == Others::Replace && !left.is_empty() {
        let files: Vec<String> = target.known_hosts.iter().map(|file| expand(file, &ctx.home).display().to_string()).collect();
        return Err(format!("the new key is known now, but an old one is too: {} still stands in {}", left.join(", "), files.join(" or ")));
    }
    Ok(learned)
}

/// Where the keys are written down that a host had before.
#[must_use]
pub fn key_record(ctx: &Context, name: &HostName) -> PathBuf {
    ctx.state.join("hosts").join(name.as_str()).join("host-keys.log")
}

fn record(ctx: &Context, shown: &Shown, old: &[String]) -> Result<(), String> {
    let path = key_record(ctx, &shown.name);
    let fault = |e: std::io::Error| format!("the record {} can't be written: {e}", path.display());
    if let Some(folder) = path.parent() {
        platform::make_folders(folder).map_err(fault)?;
    }
    let mut file = platform::private().append(true).create(true).open(&path).map_err(fault)?;
    let (time, now) = ((ctx.clock)().to_rfc3339(), format!("{} {}", shown.algorithm, shown.fingerprint));
    let line = format!("{time} {} rebuilt: {} instead of {}, said by {}\n", shown.address, now, old.join(", "), ctx.owner);
    file.write_all(line.as_bytes()).map_err(fault)
}
