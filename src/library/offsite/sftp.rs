//! A remote by sftp: OpenSSH's own program, which knows the operator's keys, known hosts and jump hosts.

use std::path::Path;

use opendal::Operator;

use super::LibraryError;
use crate::model::inventory::Remote;

#[cfg(not(unix))]
pub(super) fn open(remote: &Remote, _: &str, _: &Path) -> Result<Operator, LibraryError> {
    Err(LibraryError::Missing(format!("the remote {} is one by sftp, which needs OpenSSH on Linux or macOS", remote.name)))
}

#[cfg(unix)]
pub(super) fn open(remote: &Remote, root: &str, home: &Path) -> Result<Operator, LibraryError> {
    use opendal::layers::CapabilityOverrideLayer;
    use opendal::services;
    let option = |key: &str| remote.options.get(key).cloned();
    let (user, place) = remote.place.split_once('@').unwrap_or(("", &remote.place));
    let user = option("user").unwrap_or_else(|| user.to_owned());
    let mut sftp = services::Sftp::default().endpoint(&format!("ssh://{place}")).root(root).known_hosts_strategy("strict");
    if !user.is_empty() {
        sftp = sftp.user(&user);
    }
    if let Some(key) = option("identity") {
        let path = key.strip_prefix("~/").map_or_else(|| key.clone().into(), |rest| home.join(rest));
        sftp = sftp.key(&path.display().to_string());
    }
    // It can append, and doesn't say so.
    let appends = CapabilityOverrideLayer::new(|mut capability| {
        capability.write_can_append = true;
        capability
    });
    let operator = Operator::new(sftp).map_err(|e| super::wrong(&remote.name, "can't be used", &e))?;
    Ok(operator.finish().layer(appends))
}
