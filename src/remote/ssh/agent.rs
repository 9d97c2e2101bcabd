//! The SSH agent: which keys it holds. No agent, or one that doesn't answer, is an ordinary state of a workstation.

use std::path::{Path, PathBuf};
use std::time::Duration;

use russh::keys::PublicKey;
use russh::keys::agent::AgentIdentity;
use russh::keys::agent::client::{AgentClient, AgentStream};

use super::expand;
use crate::model::inventory::Agent;

/// Telling what it holds takes an agent no time.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) type Client = AgentClient<Box<dyn AgentStream + Send + Unpin>>;

pub(super) async fn connect(agent: &Agent, home: &Path) -> Option<Client> {
    match agent {
        Agent::Off => None,
        Agent::Environment => at(std::env::var_os("SSH_AUTH_SOCK").map(PathBuf::from)).await,
        Agent::Socket(path) => {
            // `IdentityAgent $NAME` names a variable that holds the path.
            let named = path.to_str().and_then(|text| text.strip_prefix('$')).and_then(std::env::var_os);
            at(Some(named.map_or_else(|| expand(path, home), Into::into))).await
        }
    }
}

#[cfg(unix)]
async fn at(socket: Option<PathBuf>) -> Option<Client> {
    Some(AgentClient::connect_uds(socket?).await.ok()?.dynamic())
}

/// The agent of Windows' own OpenSSH listens at a pipe of this name.
#[cfg(windows)]
async fn at(pipe: Option<PathBuf>) -> Option<Client> {
    let pipe = pipe.unwrap_or_else(|| PathBuf::from(r"\\.\pipe\openssh-ssh-agent"));
    Some(AgentClient::connect_named_pipe(pipe).await.ok()?.dynamic())
}

/// Everything that an agent can sign with.
pub(super) async fn held(client: &mut Client) -> Vec<AgentIdentity> {
    match tokio::time::timeout(PATIENCE, client.request_identities()).await {
        Ok(Ok(identities)) => identities,
        Ok(Err(_)) | Err(_) => Vec::new(),
    }
}

/// The plain keys that an agent holds.
pub(super) async fn identities(agent: &Agent, home: &Path) -> Vec<PublicKey> {
    let Some(mut client) = connect(agent, home).await else { return Vec::new() };
    let plain = |identity| match identity {
        AgentIdentity::PublicKey { key, .. } => Some(key),
        AgentIdentity::Certificate { .. } => None,
    };
    held(&mut client).await.into_iter().filter_map(plain).collect()
}
