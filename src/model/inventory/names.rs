//! What may stand where an inventory names something.

use crate::model::id::HostName;
use crate::model::text::printable;

pub(super) fn is_user(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control()) && !text.starts_with('-')
}

pub(super) fn is_address(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') && !text.starts_with('-')
}

/// Why this can't be the name of a group; none where it can. `of_a_host`: whether a host bears it.
pub(super) fn no_group(name: &str, of_a_host: bool) -> Option<&'static str> {
    match name {
        "all" => Some("it stands for every host"),
        _ if of_a_host => Some("a host bears it"),
        _ if name.parse::<HostName>().is_err() => Some("small and capital letters, digits, '.', '_' and '-' make one"),
        _ => None,
    }
}

/// The two keys that say what an address with a port behind it was meant to say.
pub(super) fn with_a_port(address: &str) -> Option<String> {
    let (before, port) = address.split_once(':').filter(|(_, port)| port.parse::<u16>().is_ok())?;
    Some(format!("address = \"{}\" and port = {port}", printable(before)))
}
