//! Reading an inventory file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use toml::Spanned;

use super::names::{is_address, is_user, no_group, with_a_port};
use super::reach::{jump_target, parse_jump};
use super::remotes::{Remote, RemoteTable, is_remote, remote};
use super::upkeep::{EncryptTo, KeepTable, Upkeep, Wrong, encryption, policy};
use super::wrong::{key_before, reason};
use super::{Agent, Endpoint, Given, Hooks, Host, Inventory, Password, Target};
use crate::model::id::HostName;
use crate::model::manifest::FreezeMethod;
use crate::model::pattern::closest;
use crate::model::secret::parse_secret_source;
use crate::model::text::{parse_rate, printable};

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    defaults: Defaults,
    #[serde(default)]
    hosts: BTreeMap<Spanned<String>, HostTable>,
    #[serde(default)]
    groups: BTreeMap<Spanned<String>, Vec<Spanned<String>>>,
    #[serde(default)]
    remotes: BTreeMap<Spanned<String>, RemoteTable>,
}

/// Keys that can stand under a host and in the defaults: serde can't flatten a struct into one that denies unknown fields.
macro_rules! settings {
    ($($key:ident: $type:ty,)*) => {
        #[derive(Deserialize, Default)]
        #[serde(deny_unknown_fields)]
        struct Defaults {
            forks: Option<Spanned<usize>>,
            ssh_config: Option<PathBuf>,
            decrypt_with: Option<Vec<PathBuf>>,
            notify: Option<String>,
            $($key: Option<$type>,)*
        }

        #[derive(Default, Deserialize)]
        #[serde(deny_unknown_fields)]
        struct HostTable {
            address: Option<Spanned<String>>,
            $($key: Option<$type>,)*
        }

        /// What counts for a host: its own setting, else the default one.
        #[allow(dead_code)] // encryption is judged as a pair, from the tables themselves
        struct Settings<'a> {
            $($key: Option<&'a $type>,)*
        }

        impl<'a> Settings<'a> {
            fn of(table: &'a HostTable, defaults: &'a Defaults) -> Self {
                Self { $($key: table.$key.as_ref().or(defaults.$key.as_ref()),)* }
            }
        }
    };
}

settings! {
    port: Spanned<u16>,
    user: Spanned<String>,
    identity: Vec<PathBuf>,
    agent: bool,
    known_hosts: PathBuf,
    jump: Vec<Spanned<String>>,
    legacy: bool,
    password: Spanned<String>,
    sudo: bool,
    sudo_password: Spanned<String>,
    freeze: Spanned<String>,
    spool: bool,
    freeze_timeout: Spanned<u64>,
    lease: Spanned<u64>,
    ready_timeout: Spanned<u64>,
    connect_timeout: Spanned<u64>,
    silence_timeout: Spanned<u64>,
    step_timeout: Spanned<u64>,
    job_days: Spanned<u64>,
    bwlimit: Spanned<String>,
    library: Spanned<PathBuf>,
    keep: KeepTable,
    trash_days: Spanned<u64>,
    encrypt_to: Vec<Spanned<String>>,
    encrypt_passphrase: Spanned<String>,
    before: String,
    after: String,
    hook_timeout: Spanned<u64>,
    drill_on: Spanned<String>,
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
    let parsed: File = toml::from_str(text).map_err(|e| reader.bad(e.span().map_or(0, |s| s.start), reason(&e, text)))?;
    let library = parsed.defaults.library.as_ref().map_or_else(|| PathBuf::from("~/tanker"), |library| library.get_ref().clone());
    let mut hosts: Vec<(usize, Host)> = Vec::new();
    let mut addresses: BTreeMap<(String, u16), String> = BTreeMap::new();
    for (name, table) in &parsed.hosts {
        let host = reader.host(name, table, &parsed.defaults, &library)?;
        let at = (host.target.endpoint.address.clone(), host.target.endpoint.port);
        // The same address behind two jump hosts can be two masters.
        if host.jump.is_empty()
            && let Some(other) = addresses.insert(at, host.name.to_string())
        {
            let reason = format!("'{}' has the same address as '{other}'", host.name);
            return Err(reader.bad(table.address.as_ref().unwrap_or(name).span().start, reason));
        }
        hosts.push((name.span().start, host));
    }
    hosts.sort_by_key(|(offset, _)| *offset);
    let hosts: Vec<Host> = hosts.into_iter().map(|(_, host)| host).collect();
    let groups = reader.groups(&parsed.groups, &hosts)?;
    for name in parsed.hosts.values().map(|host| &host.drill_on).chain([&parsed.defaults.drill_on]).flatten() {
        if !hosts.iter().any(|host| host.name.as_str() == name.get_ref()) {
            let hint =
                closest(name.get_ref(), hosts.iter().map(|host| host.name.as_str())).map(|near| format!(" (did you mean '{near}'?)"));
            let reason = format!("drill_on names '{}', which is no host{}", printable(name.get_ref()), hint.unwrap_or_default());
            return Err(reader.bad(name.span().start, reason));
        }
    }
    let forks = match &parsed.defaults.forks {
        Some(forks) if *forks.get_ref() == 0 => return Err(reader.bad(forks.span().start, "forks must be at least 1")),
        Some(forks) => *forks.get_ref(),
        None => 5,
    };
    let ssh_config = parsed.defaults.ssh_config.clone().unwrap_or_else(|| "~/.ssh/config".into());
    let ssh_config = Some(ssh_config).filter(|path| path.as_os_str() != "none");
    let remotes = parsed.remotes.iter().map(|(name, table)| remote(name, table).map_err(|(at, why)| reader.bad(at, why)));
    let mut remotes = remotes.collect::<Result<Vec<_>, _>>()?;
    for library in parsed.hosts.values().map(|host| &host.library).chain([&parsed.defaults.library]).flatten() {
        let (path, url) = (library.get_ref(), library.get_ref().to_string_lossy());
        if !is_remote(path) && !path.is_absolute() && !path.starts_with("~") {
            let why = format!("the library '{}' depends on where one stands: begin it with '/' or '~/'", printable(&url));
            return Err(reader.bad(library.span().start, why));
        }
        if is_remote(path) && !remotes.iter().any(|remote| remote.url == url) {
            remotes.push(Remote::of_url(&url).map_err(|why| reader.bad(library.span().start, why))?);
        }
    }
    let decrypt_with = parsed.defaults.decrypt_with.clone().unwrap_or_default();
    let upkeep = reader.upkeep(&HostTable::default(), &parsed.defaults)?;
    Ok(Inventory { hosts, groups, library, forks, ssh_config, decrypt_with, remotes, notify: parsed.defaults.notify.clone(), upkeep })
}

impl Reader<'_> {
    fn upkeep(&self, table: &HostTable, defaults: &Defaults) -> Result<Upkeep, BadInventory> {
        let set = Settings::of(table, defaults);
        let host = |name: &Spanned<String>| name.get_ref().parse().map_err(|e| self.bad(name.span().start, format!("{e}")));
        Ok(Upkeep {
            keep: set.keep.map(policy).transpose().map_err(|(at, why)| self.bad(at, why))?,
            trash: self.days("trash_days", set.trash_days, 7)?,
            encryption: own_encryption(table, defaults).map_err(|(at, why)| self.bad(at, why))?,
            drill_on: set.drill_on.map(host).transpose()?,
        })
    }

    fn host(
        &self,
        name: &Spanned<String>,
        table: &HostTable,
        defaults: &Defaults,
        library: &std::path::Path,
    ) -> Result<Host, BadInventory> {
        let host_name: HostName = name.get_ref().parse().map_err(|e| self.bad(name.span().start, format!("{e}")))?;
        if host_name.as_str() == "all" {
            return Err(self.bad(name.span().start, "'all' can't be the name of a host: it stands for every one of them"));
        }
        let set = Settings::of(table, defaults);
        if let Some(user) = set.user.filter(|user| !is_user(user.get_ref())) {
            return Err(self.bad(user.span().start, format!("'{}' is no user", printable(user.get_ref()))));
        }
        if let Some(port) = set.port.filter(|port| *port.get_ref() == 0) {
            return Err(self.bad(port.span().start, "0 is no port: 1 to 65535"));
        }
        let address = table.address.as_ref().unwrap_or(name);
        if let Some(apart) = with_a_port(address.get_ref()) {
            return Err(self.bad(address.span().start, format!("'{}' is no address: say {apart}", printable(address.get_ref()))));
        }
        if !is_address(address.get_ref()) {
            return Err(self.bad(address.span().start, format!("'{}' is no address", printable(address.get_ref()))));
        }
        let known_hosts = set.known_hosts.cloned().unwrap_or_else(|| "~/.ssh/known_hosts".into());
        let target = Target {
            endpoint: Endpoint {
                address: address.get_ref().clone(),
                port: set.port.map_or(22, |port| *port.get_ref()),
                user: set.user.map_or_else(|| "root".into(), |user| user.get_ref().clone()),
            },
            identity: set.identity.cloned().unwrap_or_default(),
            certificates: Vec::new(),
            identities_only: false,
            agent: if set.agent.copied().unwrap_or(true) { Agent::Environment } else { Agent::Off },
            known_hosts: vec![known_hosts, "/etc/ssh/ssh_known_hosts".into()],
            key_name: None,
            hash_names: false,
        };
        let jump = set.jump.map_or(Ok(Vec::new()), |hops| hops.iter().map(|hop| self.hop(hop, &target)).collect())?;
        Ok(Host {
            jump,
            legacy: set.legacy.copied().unwrap_or(true),
            password: self.password(set.password, table.password.is_none())?,
            sudo: set.sudo.copied().unwrap_or(false),
            sudo_password: self.password(set.sudo_password, table.sudo_password.is_none())?,
            freeze: self.freeze(set.freeze)?,
            spool: set.spool.copied().unwrap_or(true),
            freeze_timeout: set.freeze_timeout.map(|given| self.seconds(Some(given), 120, 5)).transpose()?,
            lease: self.seconds(set.lease, 20, 5)?,
            ready_timeout: self.seconds(set.ready_timeout, 1800, 10)?,
            connect_timeout: self.seconds(set.connect_timeout, 15, 1)?,
            silence_timeout: self.seconds(set.silence_timeout, 20, 3)?,
            step_timeout: self.seconds(set.step_timeout, 21_600, 10)?,
            keep_jobs: self.days("job_days", set.job_days, 3)?,
            upkeep: self.upkeep(table, defaults)?,
            bwlimit: set.bwlimit.map(|text| parse_rate(text.get_ref()).map_err(|why| self.bad(text.span().start, why))).transpose()?,
            library: set.library.map_or_else(|| library.to_owned(), |library| library.get_ref().clone()),
            hooks: Hooks { before: set.before.cloned(), after: set.after.cloned(), limit: self.seconds(set.hook_timeout, 300, 1)? },
            given: Given {
                user: set.user.is_some(),
                port: set.port.is_some(),
                identity: set.identity.is_some_and(|list| !list.is_empty()),
                agent: set.agent.is_some(),
                known_hosts: set.known_hosts.is_some(),
                jump: set.jump.is_some(),
                connect_timeout: set.connect_timeout.is_some(),
            },
            notes: Vec::new(),
            refusal: None,
            target,
            name: host_name,
        })
    }

    fn seconds(&self, given: Option<&Spanned<u64>>, otherwise: u64, least: u64) -> Result<Duration, BadInventory> {
        match given {
            Some(given) if !(least..=86_400).contains(given.get_ref()) => Err(self.bad(
                given.span().start,
                format!("{} s is out of range: {}{least} to 86400", given.get_ref(), self.key_at(given.span().start)),
            )),
            Some(given) => Ok(Duration::from_secs(*given.get_ref())),
            None => Ok(Duration::from_secs(otherwise)),
        }
    }

    /// ` 'KEY' is from `, where the key stands before this value.
    fn key_at(&self, offset: usize) -> String {
        let key = self.text.get(..offset).and_then(key_before);
        key.map(|key| format!("'{}' is from ", printable(&key))).unwrap_or_default()
    }

    fn days(&self, key: &str, given: Option<&Spanned<u64>>, otherwise: u64) -> Result<Duration, BadInventory> {
        match given {
            Some(days) if *days.get_ref() > 365 => Err(self.bad(days.span().start, format!("{key} is out of range: 0 to 365"))),
            days => Ok(Duration::from_secs(days.map_or(otherwise, |days| *days.get_ref()) * 86_400)),
        }
    }

    fn password(&self, given: Option<&Spanned<String>>, shared: bool) -> Result<Option<Password>, BadInventory> {
        let Some(text) = given else { return Ok(None) };
        let source = parse_secret_source(text.get_ref()).map_err(|why| self.bad(text.span().start, why))?;
        Ok(Some(Password { source, shared }))
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

    fn hop(&self, hop: &Spanned<String>, like: &Target) -> Result<Target, BadInventory> {
        let (user, address, port) = parse_jump(hop.get_ref()).map_err(|e| self.bad(hop.span().start, e.to_string()))?;
        Ok(jump_target(user, address, port, like))
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
            if let Some(why) = no_group(name, names.contains(name.as_str())) {
                return Err(self.bad(group.span().start, format!("'{}' can't be the name of a group: {why}", printable(name))));
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

/// A host that says anything of its encryption doesn't take the other half of it from the defaults.
fn own_encryption(table: &HostTable, defaults: &Defaults) -> Result<Option<EncryptTo>, Wrong> {
    match (&table.encrypt_to, &table.encrypt_passphrase) {
        (None, None) => encryption(defaults.encrypt_to.as_ref(), defaults.encrypt_passphrase.as_ref()),
        (to, passphrase) => encryption(to.as_ref(), passphrase.as_ref()),
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
        assert_eq!(inventory.hosts[0].target.endpoint.user, "root");
        assert_eq!(inventory.hosts[1].target.endpoint.user, "admin");
        assert_eq!(inventory.hosts[1].jump[0].endpoint, Endpoint { address: "bastion".into(), port: 2222, user: "me".into() });
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
        assert_eq!(
            reason("[hosts.a]\npassword='hunter2'\n"),
            "inv.toml:2: a password itself never stands here: say 'ask', 'env:NAME', 'file:PATH' or 'command:COMMAND'"
        );
        assert_eq!(reason("[hosts.a]\njump=['a b']\n"), "inv.toml:2: 'a b' is no jump host: [user@]address[:port]");
        assert_eq!(reason("[hosts.a]\nkeep = {daily = 7, within = '3'}\n"), "inv.toml:2: '3' is no time span: 36h, 14d, 8w, 6m or 2y");
        assert!(reason("[defaults]\nencrypt_to = ['AGE-SECRET-KEY-1X']\n[hosts.a]\n").contains("inv.toml:2: that is a secret key"));
        assert!(reason("[remotes.x]\nurl = 'swift://c/a%20b'\n").contains("inv.toml:2: the folder 'a%20b' by swift://"));
        assert!(reason("[remotes.x]\nurl = 's3:/x'\n").contains("inv.toml:2: 's3:/x' is no remote"));
        assert!(reason("[remotes.x]\nurl = 'sftp://me:pw@h/x'\n").contains("a password never stands"));
        assert!(reason("[remotes.x]\nurl = 'file:///a/../b'\n").contains("is no remote"));
        assert!(reason("[hosts.'a/b']\naddress='x'\n").contains("no name for a host"));
        assert!(reason("what\n").starts_with("inv.toml:1:"));
    }
}
