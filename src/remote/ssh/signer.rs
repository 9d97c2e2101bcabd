//! Who signs for a key: a file's, or the agent for a certificate that it knows nothing of.

use std::sync::Arc;

use russh::AgentAuthError;
use russh::keys::agent::AgentIdentity;
use russh::keys::signature::Signer;
use russh::keys::ssh_key::Signature;
use russh::keys::ssh_key::private::KeypairData;
use russh::keys::{HashAlg, PrivateKey, PublicKey};

use super::agent;

/// Signs for a certificate with the plain key that an agent holds: it knows nothing of the certificate.
pub(super) struct AgentSigner<'a> {
    pub(super) client: &'a mut agent::Client,
    pub(super) key: PublicKey,
}

impl russh::Signer for AgentSigner<'_> {
    type Error = AgentAuthError;

    async fn auth_sign(&mut self, _: &AgentIdentity, hash: Option<HashAlg>, to_sign: Vec<u8>) -> Result<Vec<u8>, Self::Error> {
        let identity = AgentIdentity::PublicKey { key: self.key.clone(), comment: String::new() };
        Ok(self.client.sign_request(&identity, hash, to_sign).await?)
    }
}

/// Signs with a key from a file.
pub(super) struct FileSigner(pub(super) Arc<PrivateKey>);

impl russh::Signer for FileSigner {
    type Error = AgentAuthError;

    async fn auth_sign(&mut self, _: &AgentIdentity, hash: Option<HashAlg>, to_sign: Vec<u8>) -> Result<Vec<u8>, Self::Error> {
        let signature: Result<Signature, _> = match self.0.key_data() {
            KeypairData::Rsa(pair) => (pair, hash).try_sign(&to_sign),
            _ => self.0.try_sign(&to_sign),
        };
        let unable = |e: russh::keys::ssh_key::Error| AgentAuthError::Key(e.into());
        let signature = Vec::try_from(signature.map_err(|e| unable(e.into()))?).map_err(unable)?;
        // What the server gets is what was signed, and the signature as a string behind it.
        let length = u32::try_from(signature.len()).unwrap_or(u32::MAX);
        Ok([to_sign, length.to_be_bytes().to_vec(), signature].concat())
    }
}
