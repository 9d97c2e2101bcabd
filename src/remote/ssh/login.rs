//! Logging in: identity files first, then what the SSH agent holds.

use std::sync::Arc;

use russh::client::Handle;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::AgentClient;
use russh::keys::{HashAlg, PrivateKeyWithHashAlg, PublicKey, PublicKeyBase64};

use super::{Client, Keyring, RemoteError, address_of};
use crate::model::inventory::{Endpoint, Host};

/// Logs in and tells which public key opened the door, in base64.
pub(super) async fn log_in(
    handle: &mut Handle<Client>,
    host: &Host,
    endpoint: &Endpoint,
    server: &str,
    keyring: &Keyring,
) -> Result<Option<String>, RemoteError> {
    let lost = |e: russh::Error| RemoteError::Lost(super::algorithms::reason(&e));
    let mut tried = Vec::new();
    let mut rsa_hash: Option<Option<HashAlg>> = None;
    for key in keyring.of(host) {
        let hash = if key.algorithm().is_rsa() { rsa_hash_for(handle, server, &mut rsa_hash).await.map_err(lost)? } else { None };
        let with_hash = PrivateKeyWithHashAlg::new(Arc::clone(&key), hash);
        if handle.authenticate_publickey(endpoint.user.as_str(), with_hash).await.map_err(lost)?.success() {
            return Ok(Some(key.public_key().public_key_base64()));
        }
        tried.push(super::known_hosts::describe(key.public_key()));
    }
    if host.agent
        && let Some(key) = log_in_with_agent(handle, endpoint, server, &mut rsa_hash, &mut tried).await?
    {
        return Ok(Some(key));
    }
    let tried = if tried.is_empty() { "it has no key at all".to_owned() } else { tried.join(", ") };
    Err(RemoteError::Login { user: endpoint.user.clone(), address: address_of(endpoint), tried })
}

async fn log_in_with_agent(
    handle: &mut Handle<Client>,
    endpoint: &Endpoint,
    server: &str,
    rsa_hash: &mut Option<Option<HashAlg>>,
    tried: &mut Vec<String>,
) -> Result<Option<String>, RemoteError> {
    // No agent, or one that doesn't answer, is an ordinary state of a workstation: what was tried is said in the end.
    let Ok(mut agent) = AgentClient::connect_env().await else { return Ok(None) };
    let Ok(identities) = agent.request_identities().await else { return Ok(None) };
    for identity in identities {
        let AgentIdentity::PublicKey { key, .. } = identity else { continue };
        let hash = if key.algorithm().is_rsa() {
            rsa_hash_for(handle, server, rsa_hash).await.map_err(|e| RemoteError::Lost(super::algorithms::reason(&e)))?
        } else {
            None
        };
        match handle.authenticate_publickey_with(endpoint.user.as_str(), key.clone(), hash, &mut agent).await {
            Ok(result) if result.success() => return Ok(Some(base64_of(&key))),
            Ok(_) => tried.push(format!("{} (agent)", super::known_hosts::describe(&key))),
            Err(e) => tried.push(format!("{} (agent: {e})", super::known_hosts::describe(&key))),
        }
    }
    Ok(None)
}

fn base64_of(key: &PublicKey) -> String {
    key.public_key_base64()
}

/// Which hash RSA signatures need: SHA-1 before OpenSSH 7.2, which rejects the others and would make us wait a second to
/// find out; else what the server says.
async fn rsa_hash_for(handle: &Handle<Client>, server: &str, known: &mut Option<Option<HashAlg>>) -> Result<Option<HashAlg>, russh::Error> {
    if let Some(hash) = *known {
        return Ok(hash);
    }
    let hash = if openssh_before(server, (7, 2)) { None } else { handle.best_supported_rsa_hash().await?.flatten() };
    *known = Some(hash);
    Ok(hash)
}

fn openssh_before(server: &str, version: (u32, u32)) -> bool {
    let Some((_, rest)) = server.split_once("OpenSSH_") else { return false };
    let mut numbers = rest.split(|c: char| !c.is_ascii_digit()).filter_map(|n| n.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) => (major, minor) < version,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_servers_are_told_by_their_banner() {
        assert!(openssh_before("SSH-2.0-OpenSSH_5.3", (7, 2)));
        assert!(openssh_before("SSH-2.0-OpenSSH_6.6.1p1", (7, 2)));
        assert!(!openssh_before("SSH-2.0-OpenSSH_9.2p1 Debian-2", (7, 2)));
        assert!(!openssh_before("SSH-2.0-dropbear_2022.83", (7, 2)));
    }
}
