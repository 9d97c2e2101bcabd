//! The SSH agent: which keys it holds. No agent, or one that doesn't answer, is an ordinary state of a workstation.

use std::path::Path;
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
        Agent::Environment => Some(AgentClient::connect_env().await.ok()?.dynamic()),
        Agent::Socket(path) => {
            // `IdentityAgent $NAME` names a variable that holds the path.
            let named = path.to_str().and_then(|text| text.strip_prefix('$')).and_then(std::env::var_os);
            let path = named.map_or_else(|| expand(path, home), Into::into);
            Some(AgentClient::connect_uds(path).await.ok()?.dynamic())
        }
    }
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
