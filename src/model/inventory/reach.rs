//! What the SSH configuration adds to a host of the inventory, and the jump hosts on the way to it.

use std::path::PathBuf;
use std::time::Duration;

use super::{Agent, Endpoint, Host, Target};
use crate::model::ssh_config::Answer;
use crate::model::text::printable;

/// A chain of jump hosts is no longer than this.
const LONGEST_CHAIN: usize = 8;
/// Holds no key.
pub(super) const NO_IDENTITY: &str = "/dev/null";

/// Answers for an alias, the user and port that were said with it, and the user where nobody says otherwise.
pub type AskConfig<'a> = dyn Fn(&str, Option<&str>, Option<u16>, &str) -> Answer + 'a;

/// Why a jump host was not accepted: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadJump(pub String);

/// A jump host as it is written: `[user@]address[:port]`, also as `ssh://…`, an IPv6 address in brackets.
///
/// # Errors
/// When it is none.
pub fn parse_jump(text: &str) -> Result<(Option<String>, String, Option<u16>), BadJump> {
    let bad = || BadJump(format!("'{}' is no jump host: [user@]address[:port]", printable(text)));
    let rest = text.strip_prefix("ssh://").unwrap_or(text).trim_end_matches('/');
    let (user, rest) = rest.rsplit_once('@').map_or((None, rest), |(user, rest)| (Some(user), rest));
    let (address, port) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, "")) => (address, None),
        Some((address, port)) => (address, Some(port.strip_prefix(':').ok_or_else(bad)?)),
        None => match rest.rsplit_once(':') {
            Some((address, port)) if !address.contains(':') => (address, Some(port)),
            _ => (rest, None),
        },
    };
    let port = port.map(|port| port.parse().ok().filter(|port| *port > 0).ok_or_else(bad)).transpose()?;
    let plain =
        |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c.is_control()) && !text.starts_with(['-', '[']);
    if !plain(address) || user.is_some_and(|user| !plain(user)) {
        return Err(bad());
    }
    Ok((user.map(str::to_owned), address.to_owned(), port))
}

impl Host {
    /// Fills in what the inventory leaves open from the SSH configuration.
    pub fn complete(&mut self, local_user: &str, ask: &AskConfig<'_>) {
        let alias = self.target.endpoint.address.clone();
        let said_user = self.given.user.then(|| self.target.endpoint.user.clone());
        let answer = ask(&alias, said_user.as_deref(), self.given.port.then_some(self.target.endpoint.port), "root");
        self.notes.extend(answer.notes.iter().cloned());
        // A way that the inventory names outranks one that can't be taken.
        self.refusal = answer.refusal.clone().or_else(|| answer.no_way.clone().filter(|_| !self.given.jump));
        let given = self.given;
        let own = self.target.clone();
        if let (Some(seconds), false) = (answer.connect_timeout.filter(|seconds| *seconds > 0), given.connect_timeout) {
            self.connect_timeout = Duration::from_secs(seconds);
        }
        let jump = answer.proxy_jump.clone();
        // tanker logs in as root where nobody says otherwise; OpenSSH as the local user, which for a master is of no use.
        complete_target(&mut self.target, answer, "root");
        if given.identity {
            self.target.identity.clone_from(&own.identity);
        }
        if given.agent {
            self.target.agent = own.agent.clone();
        }
        if given.known_hosts {
            self.target.known_hosts.clone_from(&own.known_hosts);
        }
        let written: Vec<Target> = std::mem::take(&mut self.jump);
        let (chain, otherwise) =
            if given.jump { (Ok(written), own.endpoint.user.as_str()) } else { (parse_chain(jump.as_deref(), &own), local_user) };
        match chain.and_then(|chain| self.complete_chain(chain, &own, otherwise, ask)) {
            Ok(chain) => self.jump = chain,
            Err(BadJump(why)) => drop(self.refusal.get_or_insert(why)),
        }
    }

    /// Each jump host has a configuration of its own; that of the first may lead through others. `otherwise` is the user where
    /// nothing names one.
    fn complete_chain(
        &mut self,
        mut chain: Vec<Target>,
        own: &Target,
        otherwise: &str,
        ask: &AskConfig<'_>,
    ) -> Result<Vec<Target>, BadJump> {
        let mut done: Vec<Target> = Vec::new();
        while let Some(mut hop) = chain.pop() {
            if done.len() + chain.len() >= LONGEST_CHAIN {
                return Err(BadJump(format!("its jump hosts lead through more than {LONGEST_CHAIN} others")));
            }
            let said = hop.endpoint.clone();
            let answer = ask(
                &said.address,
                Some(said.user.as_str()).filter(|user| !user.is_empty()),
                Some(said.port).filter(|port| *port > 0),
                otherwise,
            );
            let first = chain.is_empty() && !self.given.jump;
            if let Some(why) = answer.refusal.as_ref().or(answer.no_way.as_ref().filter(|_| first)) {
                return Err(BadJump(format!("its jump host {}: {why}", printable(&said.address))));
            }
            // What stands there for every host is said once.
            for note in &answer.notes {
                if !self.notes.iter().any(|known| known.ends_with(note.as_str())) {
                    self.notes.push(format!("jump host {}: {note}", printable(&said.address)));
                }
            }
            let own_way = answer.proxy_jump.clone();
            let (known_hosts, identity) = (hop.known_hosts.clone(), hop.identity.clone());
            complete_target(&mut hop, answer, otherwise);
            if self.given.known_hosts {
                hop.known_hosts = known_hosts;
            }
            if self.given.agent {
                hop.agent = own.agent.clone();
            }
            // The inventory's keys open jump hosts too.
            for path in identity {
                if !hop.identity.contains(&path) {
                    hop.identity.push(path);
                }
            }
            if first {
                // Like the inventory's host, not like the jump host behind it.
                chain = parse_chain(own_way.as_deref(), own)?;
            }
            done.push(hop);
        }
        done.reverse();
        Ok(done)
    }
}

/// `a,b,c` or `none`. User and port are left open where they are not written.
fn parse_chain(text: Option<&str>, like: &Target) -> Result<Vec<Target>, BadJump> {
    let Some(text) = text.filter(|text| !text.eq_ignore_ascii_case("none")) else { return Ok(Vec::new()) };
    text.split(',').map(|hop| parse_jump(hop.trim()).map(|(user, address, port)| jump_target(user, address, port, like))).collect()
}

/// A jump host that has the keys and files of the host behind it until its own configuration says otherwise.
pub(super) fn jump_target(user: Option<String>, address: String, port: Option<u16>, like: &Target) -> Target {
    let endpoint = Endpoint { address, port: port.unwrap_or(0), user: user.unwrap_or_default() };
    Target { endpoint, key_name: None, certificates: Vec::new(), ..like.clone() }
}

fn complete_target(target: &mut Target, answer: Answer, otherwise: &str) {
    let paths = |list: Vec<String>| list.into_iter().filter(|path| path != "none").map(PathBuf::from).collect::<Vec<_>>();
    if let Some(name) = answer.host_name {
        target.endpoint.address = name;
    }
    target.endpoint.user = answer.user.unwrap_or_else(|| otherwise.to_owned());
    target.endpoint.port = answer.port.unwrap_or(22);
    if !answer.identity.is_empty() {
        target.identity = paths(answer.identity);
        // `IdentityFile none`: not even the usual ones.
        if target.identity.is_empty() {
            target.identity.push(NO_IDENTITY.into());
        }
    }
    target.certificates.extend(paths(answer.certificates));
    target.identities_only = answer.identities_only.unwrap_or(target.identities_only);
    target.key_name = answer.host_key_alias;
    target.hash_names = answer.hash_known_hosts.unwrap_or(false);
    match answer.identity_agent.as_deref() {
        None | Some("SSH_AUTH_SOCK") => {}
        Some("none") => target.agent = Agent::Off,
        Some(socket) => target.agent = Agent::Socket(socket.into()),
    }
    // `none` takes the place of a file, or the system's would be the one that is written.
    let named =
        |list: Vec<String>| list.into_iter().map(|path| if path == "none" { "/dev/null".into() } else { PathBuf::from(path) }).collect();
    let users: Vec<PathBuf> = answer.known_hosts.map_or_else(|| target.known_hosts.iter().take(1).cloned().collect(), named);
    let global = answer.global_known_hosts.map_or_else(|| target.known_hosts.iter().skip(1).cloned().collect(), paths);
    target.known_hosts = users.into_iter().chain(global).collect();
}

#[cfg(test)]
mod tests {
    use super::super::parse_inventory;
    use super::*;
    use crate::model::ssh_config::{Question, parse_ssh_config, resolve};

    const CONFIG: &str = "Host east\n HostName 10.0.0.1\n User fuel\n Port 2200\n IdentityFile ~/.ssh/east\n ProxyJump gate\nHost gate\n HostName gate.example.net\n ProxyJump ops@outer:2222\nHost loop\n ProxyJump loop\nHost outer\n Macs hmac-md5\nHost *\n Ciphers x\n UserKnownHostsFile ~/.ssh/mine\n";

    fn completed(inventory: &str) -> Host {
        let mut host = parse_inventory("i", inventory).unwrap().hosts.remove(0);
        let config = [parse_ssh_config("config", CONFIG, &mut |_| Vec::new()).unwrap()];
        let ask = |alias: &str, user: Option<&str>, port: Option<u16>, default_user: &str| {
            resolve(
                &config,
                &Question { alias, user, port, default_user, local_user: "me", workstation: "here", home: "/home/me", variable: &|_| None },
            )
        };
        host.complete("me", &ask);
        host
    }
    fn at(target: &Target) -> String {
        format!("{}@{}:{}", target.endpoint.user, target.endpoint.address, target.endpoint.port)
    }

    #[test]
    fn the_ssh_configuration_fills_in_what_the_inventory_leaves_open() {
        let host = completed("[hosts.east]\n");
        assert_eq!(at(&host.target), "fuel@10.0.0.1:2200");
        assert_eq!(host.target.identity, [PathBuf::from("~/.ssh/east")]);
        assert_eq!(host.target.known_hosts[0], PathBuf::from("~/.ssh/mine"));
        assert_eq!(host.jump.iter().map(at).collect::<Vec<_>>(), ["ops@outer:2222", "me@gate.example.net:22"], "jump hosts of jump hosts");
        let notes: Vec<&str> = host.notes.iter().map(|note| note.split(" is passed").next().unwrap()).collect();
        assert_eq!(notes, ["config:15: ciphers", "jump host outer: config:13: macs"], "each is said once");
    }

    #[test]
    fn the_inventory_outranks_the_ssh_configuration() {
        let host =
            completed("[hosts.x]\naddress='east'\nuser='root'\nport=22\nidentity=['~/k']\nknown_hosts='~/kh'\njump=['a', 'b@c:1']\n");
        assert_eq!(at(&host.target), "root@10.0.0.1:22");
        assert_eq!(host.target.identity, [PathBuf::from("~/k")]);
        assert_eq!(host.target.known_hosts[0], PathBuf::from("~/kh"));
        assert_eq!(host.jump.iter().map(at).collect::<Vec<_>>(), ["root@a:22", "b@c:1"]);
        assert_eq!(completed("[hosts.x]\naddress='plain'\n").target.endpoint.user, "root");
    }

    #[test]
    fn a_way_that_can_not_be_taken_falls_where_the_inventory_names_another() {
        let with = |inventory: &str| {
            let mut host = parse_inventory("i", inventory).unwrap().hosts.remove(0);
            host.complete("me", &|_, _, _, _| Answer { no_way: Some("no".into()), ..Answer::default() });
            host
        };
        assert_eq!(with("[hosts.a]\n").refusal.as_deref(), Some("no"));
        assert_eq!(with("[hosts.a]\njump=['b']\n").refusal, None);
    }

    #[test]
    fn jump_hosts_that_lead_in_a_circle_are_refused() {
        assert!(completed("[hosts.loop]\n").refusal.unwrap().contains("more than 8"));
    }

    #[test]
    fn jump_hosts_are_read_in_all_their_forms() {
        let read = |text: &str| parse_jump(text).map(|(u, a, p)| (u.unwrap_or_default(), a, p.unwrap_or(0)));
        assert_eq!(read("me@b:2222"), Ok(("me".into(), "b".into(), 2222)));
        assert_eq!(read("ssh://[fe80::1]:22/"), Ok((String::new(), "fe80::1".into(), 22)));
        assert_eq!(read("fe80::1"), Ok((String::new(), "fe80::1".into(), 0)));
        for bad in ["", "@b", "a b", "-oProxyCommand=x", "b:x", "[b", "a@:22"] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}
