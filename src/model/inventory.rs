//! The inventory: which masters there are and how to reach them. `inventory.example.toml` documents every key.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::id::HostName;
use super::manifest::FreezeMethod;
use super::pattern::closest;
use super::text::printable;

/// Why an inventory was not accepted: what is wrong, in which file and line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct BadInventory {
    /// The file's path as it was given.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// One sentence.
    pub reason: String,
}

/// A whole inventory: hosts in the file's order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inventory {
    /// The hosts.
    pub hosts: Vec<Host>,
    /// The groups: name, members.
    pub groups: BTreeMap<String, Vec<HostName>>,
    /// Where archives are kept.
    pub library: PathBuf,
    /// How many masters are worked on at once.
    pub forks: usize,
}

/// One master and how to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name here and in the library.
    pub name: HostName,
    /// Where it is.
    pub endpoint: Endpoint,
    /// Hosts to go through, first one first.
    pub jump: Vec<Endpoint>,
    /// Key files to try, in order.
    pub identity: Vec<PathBuf>,
    /// Whether keys of the SSH agent are tried.
    pub agent: bool,
    /// The file of known host keys.
    pub known_hosts: PathBuf,
    /// Whether SHA-1 key exchange and MACs may be used with a server that has nothing better.
    pub legacy: bool,
    /// Whether the scripts run under `sudo -n`.
    pub sudo: bool,
    /// How containers are frozen; none = tanker chooses.
    pub freeze: Option<FreezeMethod>,
    /// Whether archives are packed on it; where it has no room for that, they are packed here.
    pub spool: bool,
    /// The master thaws by itself after this; none = what suits the way it is frozen.
    pub freeze_timeout: Option<Duration>,
    /// The master thaws by itself when tanker has not been heard of for this long.
    pub lease: Duration,
    /// How long the services have to become ready after a restore.
    pub ready_timeout: Duration,
    /// How long a connection may take to be made.
    pub connect_timeout: Duration,
    /// Where this host's archives are kept.
    pub library: PathBuf,
}

/// A user at an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Host name or address.
    pub address: String,
    /// TCP port.
    pub port: u16,
    /// User to log in as.
    pub user: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    hosts: BTreeMap<Spanned<String>, HostTable>,
    #[serde(default)]
    groups: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields)]
struct Defaults {
    forks: Option<Spanned<usize>>,
    port: Option<u16>,
    user: Option<String>,
    identity: Option<Vec<PathBuf>>,
    agent: Option<bool>,
    known_hosts: Option<PathBuf>,
    jump: Option<Vec<Spanned<String>>>,
    legacy: Option<bool>,
    sudo: Option<bool>,
    freeze: Option<Spanned<String>>,
    spool: Option<bool>,
    freeze_timeout: Option<Spanned<u64>>,
    lease: Option<Spanned<u64>>,
    ready_timeout: Option<Spanned<u64>>,
    connect_timeout: Option<Spanned<u64>>,
    library: Option<PathBuf>,
}

// The same keys as in `Defaults`: serde can't flatten a struct into one that denies unknown fields.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct HostTable {
    address: Spanned<String>,
    port: Option<u16>,
    user: Option<String>,
    identity: Option<Vec<PathBuf>>,
    agent: Option<bool>,
    known_hosts: Option<PathBuf>,
    jump: Option<Vec<Spanned<String>>>,
    legacy: Option<bool>,
    sudo: Option<bool>,
    freeze: Option<Spanned<String>>,
    spool: Option<bool>,
    freeze_timeout: Option<Spanned<u64>>,
    lease: Option<Spanned<u64>>,
    ready_timeout: Option<Spanned<u64>>,
    connect_timeout: Option<Spanned<u64>>,
    library: Option<PathBuf>,
}

struct Reader<'a> {
    file: &'a str,
    text: &'a str,
}

impl Reader<'_> {
    fn bad(&self, offset: usize, reason: impl Into<String>) -> BadInventory {
        let line = self.text.get(..offset).map_or(1, |before| before.matches('\n').count() + 1);
        BadInventory { file: self.file.to_owned(), line, reason: reason.into() }
    }
}

/// Reads an inventory. Paths keep their `~`: whoever opens them knows the home folder.
///
/// # Errors
/// With file and line when a key is unknown, a value can't be, an address stands twice or a group names nobody.
pub fn parse_inventory(file: &str, text: &str) -> Result<Inventory, BadInventory> {
    let reader = Reader { file, text };
    let parsed: File = toml::from_str(text).map_err(|e| reader.bad(e.span().map_or(0, |s| s.start), toml_reason(&e)))?;
    let library = parsed.defaults.library.clone().unwrap_or_else(|| PathBuf::from("~/tanker"));
    let mut hosts: Vec<(usize, Host)> = Vec::new();
    let mut addresses: BTreeMap<(String, u16), String> = BTreeMap::new();
    for (name, table) in &parsed.hosts {
        let host = reader.host(name, table, &parsed.defaults, &library)?;
        let at = (host.endpoint.address.clone(), host.endpoint.port);
        // The same address behind two jump hosts can be two masters.
        if host.jump.is_empty()
            && let Some(other) = addresses.insert(at, host.name.to_string())
        {
            let reason = format!("'{}' has the same address as '{other}'", host.name);
            return Err(reader.bad(table.address.span().start, reason));
        }
        hosts.push((name.span().start, host));
    }
    hosts.sort_by_key(|(offset, _)| *offset);
    let hosts: Vec<Host> = hosts.into_iter().map(|(_, host)| host).collect();
    let groups = reader.groups(&parsed.groups, &hosts)?;
    let forks = match &parsed.defaults.forks {
        Some(forks) if *forks.get_ref() == 0 => return Err(reader.bad(forks.span().start, "forks must be at least 1")),
        Some(forks) => *forks.get_ref(),
        None => 5,
    };
    Ok(Inventory { hosts, groups, library, forks })
}

/// toml's own message without its excerpt, with a guess at what an unknown key was meant to be.
fn toml_reason(error: &toml::de::Error) -> String {
    let message = printable(error.message());
    let expected = message.split_once("unknown field `").and_then(|(_, rest)| rest.split_once('`'));
    match expected {
        Some((key, known)) => match closest(key, known.split('`').skip(1).step_by(2)) {
            Some(near) => format!("unknown key '{key}' (did you mean '{near}'?)"),
            None => format!("unknown key '{key}'"),
        },
        None => message,
    }
}

impl Reader<'_> {
    fn host(
        &self,
        name: &Spanned<String>,
        table: &HostTable,
        defaults: &Defaults,
        library: &std::path::Path,
    ) -> Result<Host, BadInventory> {
        let host_name: HostName = name.get_ref().parse().map_err(|e| self.bad(name.span().start, format!("{e}")))?;
        let address = table.address.get_ref();
        if address.is_empty() || address.contains(|c: char| c.is_whitespace() || c.is_control() || c == '@') || address.starts_with('-') {
            return Err(self.bad(table.address.span().start, format!("'{}' is no address", printable(address))));
        }
        let user = table.user.clone().or_else(|| defaults.user.clone()).unwrap_or_else(|| "root".into());
        let jump = table.jump.as_ref().or(defaults.jump.as_ref());
        let jump = jump.map_or(Ok(Vec::new()), |hops| hops.iter().map(|hop| self.hop(hop, &user)).collect())?;
        let seconds = |own: &Option<Spanned<u64>>, default: &Option<Spanned<u64>>, otherwise: u64, least: u64| match own
            .as_ref()
            .or(default.as_ref())
        {
            Some(given) if !(least..=86_400).contains(given.get_ref()) => {
                Err(self.bad(given.span().start, format!("{} s is out of range: {least} to 86400", given.get_ref())))
            }
            Some(given) => Ok(Duration::from_secs(*given.get_ref())),
            None => Ok(Duration::from_secs(otherwise)),
        };
        Ok(Host {
            endpoint: Endpoint { address: address.clone(), port: table.port.or(defaults.port).unwrap_or(22), user },
            jump,
            identity: table.identity.clone().or_else(|| defaults.identity.clone()).unwrap_or_default(),
            agent: table.agent.or(defaults.agent).unwrap_or(true),
            known_hosts: table.known_hosts.clone().or_else(|| defaults.known_hosts.clone()).unwrap_or_else(|| "~/.ssh/known_hosts".into()),
            legacy: table.legacy.or(defaults.legacy).unwrap_or(true),
            sudo: table.sudo.or(defaults.sudo).unwrap_or(false),
            freeze: self.freeze(table.freeze.as_ref().or(defaults.freeze.as_ref()))?,
            spool: table.spool.or(defaults.spool).unwrap_or(true),
            freeze_timeout: match table.freeze_timeout.as_ref().or(defaults.freeze_timeout.as_ref()) {
                Some(_) => Some(seconds(&table.freeze_timeout, &defaults.freeze_timeout, 120, 5)?),
                None => None,
            },
            lease: seconds(&table.lease, &defaults.lease, 20, 5)?,
            ready_timeout: seconds(&table.ready_timeout, &defaults.ready_timeout, 1800, 10)?,
            connect_timeout: seconds(&table.connect_timeout, &defaults.connect_timeout, 15, 1)?,
            library: table.library.clone().unwrap_or_else(|| library.to_owned()),
            name: host_name,
        })
    }

    fn freeze(&self, word: Option<&Spanned<String>>) -> Result<Option<FreezeMethod>, BadInventory> {
        match word.map(|word| (word, word.get_ref().as_str())) {
            None | Some((_, "auto")) => Ok(None),
            Some((_, "pause")) => Ok(Some(FreezeMethod::Pause)),
            Some((_, "cgroup")) => Ok(Some(FreezeMethod::Cgroup)),
            Some((_, "stop")) => Ok(Some(FreezeMethod::Stop)),
            Some((_, "none")) => Ok(Some(FreezeMethod::None)),
            Some((word, other)) => {
                Err(self.bad(word.span().start, format!("'{}' is no way to freeze: auto, pause, cgroup, stop or none", printable(other))))
            }
        }
    }

    /// `[user@]address[:port]`.
    fn hop(&self, hop: &Spanned<String>, user: &str) -> Result<Endpoint, BadInventory> {
        let text = hop.get_ref().as_str();
        let (user, rest) = text.split_once('@').unwrap_or((user, text));
        let (address, port) = match rest.rsplit_once(':') {
            Some((address, port)) if !address.contains(':') => (address, port.parse().ok()),
            _ => (rest, Some(22)),
        };
        match port {
            Some(port) if !address.is_empty() && !user.is_empty() && !address.contains(char::is_whitespace) => {
                Ok(Endpoint { address: address.to_owned(), port, user: user.to_owned() })
            }
            _ => Err(self.bad(hop.span().start, format!("'{}' is no jump host: [user@]address[:port]", printable(text)))),
        }
    }

    fn groups(
        &self,
        groups: &BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
        hosts: &[Host],
    ) -> Result<BTreeMap<String, Vec<HostName>>, BadInventory> {
        let names: BTreeSet<&str> = hosts.iter().map(|host| host.name.as_str()).collect();
        let mut result = BTreeMap::new();
        for (group, members) in groups {
            let name = group.get_ref();
            if name == "all" || names.contains(name.as_str()) || name.parse::<HostName>().is_err() {
                return Err(self.bad(group.span().start, format!("'{}' can't be the name of a group", printable(name))));
            }
            let mut list = Vec::new();
            for member in members {
                let host = hosts.iter().find(|host| host.name.as_str() == member.get_ref());
                let host = host.ok_or_else(|| {
                    let hint =
                        closest(member.get_ref(), names.iter().copied()).map(|n| format!(" (did you mean '{n}'?)")).unwrap_or_default();
                    self.bad(
                        member.span().start,
                        format!("the group '{name}' names '{}', which is no host{hint}", printable(member.get_ref())),
                    )
                })?;
                list.push(host.name.clone());
            }
            result.insert(name.clone(), list);
        }
        Ok(result)
    }
}

impl Inventory {
    /// The host of this name.
    #[must_use]
    pub fn host(&self, name: &HostName) -> Option<&Host> {
        self.hosts.iter().find(|host| host.name == *name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(text: &str) -> String {
        parse_inventory("inv.toml", text).unwrap_err().to_string()
    }

    #[test]
    fn a_hosts_own_settings_outrank_the_defaults() {
        let text = "[defaults]\nuser='admin'\nsudo=true\nforks=3\n[hosts.b]\naddress='10.0.0.2'\nuser='root'\n[hosts.a]\naddress='10.0.0.1'\njump=['me@bastion:2222']\nfreeze='none'\n";
        let inventory = parse_inventory("inv.toml", text).unwrap();
        assert_eq!(inventory.forks, 3);
        assert_eq!(inventory.hosts[0].name.as_str(), "b", "hosts keep the file's order");
        assert_eq!(inventory.hosts[0].endpoint.user, "root");
        assert_eq!(inventory.hosts[1].endpoint.user, "admin");
        assert_eq!(inventory.hosts[1].jump, [Endpoint { address: "bastion".into(), port: 2222, user: "me".into() }]);
        assert_eq!(inventory.hosts[1].freeze, Some(FreezeMethod::None));
    }

    #[test]
    fn bad_input_gets_one_sentence_with_file_and_line() {
        assert_eq!(reason("[hosts.a]\naddres='x'\naddress='y'\n"), "inv.toml:2: unknown key 'addres' (did you mean 'address'?)");
        assert_eq!(reason("[hosts.a]\naddress='x'\n[hosts.b]\naddress='x'\n"), "inv.toml:4: 'b' has the same address as 'a'");
        assert_eq!(reason("[hosts.a]\naddress='x'\n[groups]\ng=['c']\n"), "inv.toml:4: the group 'g' names 'c', which is no host");
        assert_eq!(
            reason("[hosts.a]\naddress='x'\nfreeze='melt'\n"),
            "inv.toml:3: 'melt' is no way to freeze: auto, pause, cgroup, stop or none"
        );
        assert!(reason("[hosts.a]\nport=22\n").starts_with("inv.toml:1: missing field `address`"));
        assert!(reason("[hosts.'a/b']\naddress='x'\n").contains("no name for a host"));
        assert!(reason("what\n").starts_with("inv.toml:1:"));
    }
}
