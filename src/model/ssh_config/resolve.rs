//! What a configuration says of one host.

use super::keywords::{IRRELEVANT, OWN_WAY};
use super::token::{Tokens, expand_tokens};
use super::{Directive, SshConfig};
use crate::model::pattern::wildcard;
use crate::model::text::printable;

/// What is asked: as `ssh [-l USER] [-p PORT] ALIAS` would.
#[derive(Clone, Copy)]
pub struct Question<'a> {
    /// The name that was given.
    pub alias: &'a str,
    /// The user there, where somebody has said so already.
    pub user: Option<&'a str>,
    /// The port, where somebody has said so already.
    pub port: Option<u16>,
    /// The user there where nobody says otherwise.
    pub default_user: &'a str,
    /// The user here.
    pub local_user: &'a str,
    /// This workstation's name.
    pub workstation: &'a str,
    /// The home folder here.
    pub home: &'a str,
    /// The environment here.
    pub variable: &'a dyn Fn(&str) -> Option<String>,
}

/// What the configuration says; none where it says nothing. Paths may begin with `~`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    /// `HostName`, tokens put in.
    pub host_name: Option<String>,
    /// `User`.
    pub user: Option<String>,
    /// `Port`.
    pub port: Option<u16>,
    /// `IdentityFile`, all of them.
    pub identity: Vec<String>,
    /// `CertificateFile`, all of them.
    pub certificates: Vec<String>,
    /// `IdentitiesOnly`.
    pub identities_only: Option<bool>,
    /// `IdentityAgent`: a path, `none`, `SSH_AUTH_SOCK`.
    pub identity_agent: Option<String>,
    /// `ProxyJump`, as it is written; `none` where it says so.
    pub proxy_jump: Option<String>,
    /// `UserKnownHostsFile`.
    pub known_hosts: Option<Vec<String>>,
    /// `GlobalKnownHostsFile`.
    pub global_known_hosts: Option<Vec<String>>,
    /// `HostKeyAlias`.
    pub host_key_alias: Option<String>,
    /// `HashKnownHosts`.
    pub hash_known_hosts: Option<bool>,
    /// `ConnectTimeout`, in seconds.
    pub connect_timeout: Option<u64>,
    /// What was passed over and might matter, a sentence each.
    pub notes: Vec<String>,
    /// Why this host must not be reached by what the configuration says.
    pub refusal: Option<String>,
    /// The same, for a way that tanker can't take; it falls where somebody names another way.
    pub no_way: Option<String>,
}

struct Pass<'a> {
    question: &'a Question<'a>,
    answer: Answer,
    last: bool,
    wants_last: bool,
}

/// Asks configurations, the more important one first, for a host.
#[must_use]
pub fn resolve(files: &[SshConfig], question: &Question<'_>) -> Answer {
    let answer = Answer { user: question.user.map(str::to_owned), port: question.port, ..Answer::default() };
    let mut pass = Pass { question, answer, last: false, wants_last: false };
    files.iter().for_each(|file| pass.read(file, true));
    if pass.wants_last {
        // `Match final` asks for a second reading. What the first one found stays, as in OpenSSH: a `Host` that fitted the alias may not fit
        // the resolved name.
        pass.last = true;
        files.iter().for_each(|file| pass.read(file, true));
    }
    let mut answer = pass.answer;
    put_tokens_in(&mut answer, question);
    answer
}

impl Pass<'_> {
    /// Where the block around an `Include` doesn't apply, nothing in the included file does.
    fn read(&mut self, config: &SshConfig, outer: bool) {
        let mut active = outer;
        for line in &config.directives {
            match line.keyword.as_str() {
                "host" => {
                    // The second reading knows where the host really is.
                    let resolved = self.answer.host_name.as_deref().filter(|_| self.last);
                    active = outer && hosts_match(&line.args, resolved.unwrap_or(self.question.alias));
                }
                "match" => active = self.matches(line, outer) && outer,
                "include" => line.included.iter().for_each(|file| self.read(file, active)),
                _ if active => self.set(line),
                _ => {}
            }
        }
    }

    fn set(&mut self, line: &Directive) {
        let first = line.args.first().map_or("", String::as_str);
        let answer = &mut self.answer;
        let once = |place: &mut Option<String>| {
            place.get_or_insert_with(|| first.to_owned());
        };
        let yes = |place: &mut Option<bool>| {
            place.get_or_insert_with(|| matches!(first.to_ascii_lowercase().as_str(), "yes" | "true"));
        };
        match line.keyword.as_str() {
            "hostname" => {
                let tokens = Tokens { host: self.question.alias.to_owned(), ..Tokens::default() };
                match expand_tokens(first, &tokens, &|_| None) {
                    Ok(name) => drop(answer.host_name.get_or_insert(name)),
                    Err(why) => drop(answer.refusal.get_or_insert(format!("{}:{}: {}", line.file, line.line, printable(&why)))),
                }
            }
            "user" => once(&mut answer.user),
            "port" => match first.parse() {
                Ok(port) => answer.port = answer.port.or(Some(port)),
                Err(_) if answer.port.is_none() => {
                    answer.refusal = Some(format!("{}:{}: '{}' is no port", line.file, line.line, printable(first)));
                }
                Err(_) => {}
            },
            "identityfile" => push_once(&mut answer.identity, first.to_owned()),
            "certificatefile" => push_once(&mut answer.certificates, first.to_owned()),
            "identitiesonly" => yes(&mut answer.identities_only),
            "identityagent" => once(&mut answer.identity_agent),
            "proxyjump" => once(&mut answer.proxy_jump),
            "userknownhostsfile" => drop(answer.known_hosts.get_or_insert_with(|| line.args.clone())),
            "globalknownhostsfile" => drop(answer.global_known_hosts.get_or_insert_with(|| line.args.clone())),
            // It becomes a name in known_hosts: one that can't stand there would never be found again.
            "hostkeyalias" if first.contains(|c: char| c.is_whitespace() || c.is_control() || ",*?!|@#".contains(c)) => {
                answer.refusal = Some(format!("{}:{}: '{}' is no name for a host key", line.file, line.line, printable(first)));
            }
            "hostkeyalias" => once(&mut answer.host_key_alias),
            // A key that OpenSSH would refuse must not be taken here.
            "revokedhostkeys" if first.eq_ignore_ascii_case("none") => {}
            "revokedhostkeys" => {
                let why = "RevokedHostKeys, which tanker doesn't read: put '@revoked' lines into known_hosts instead";
                answer.refusal.get_or_insert(format!("{}:{} says {why}", line.file, line.line));
            }
            "hashknownhosts" => yes(&mut answer.hash_known_hosts),
            "connecttimeout" => answer.connect_timeout = answer.connect_timeout.or(first.parse().ok()),
            // As in OpenSSH, whichever of the two comes first disables the other.
            "proxycommand" if answer.proxy_jump.is_some() => {}
            "proxycommand" if first.eq_ignore_ascii_case("none") => answer.proxy_jump = Some("none".to_owned()),
            "proxycommand" => {
                let why = format!(
                    "{}:{} says ProxyCommand, which tanker can't run: name the way with ProxyJump, or with 'jump' in the inventory",
                    line.file, line.line
                );
                answer.no_way.get_or_insert(why);
            }
            other if IRRELEVANT.contains(&other) => {}
            other => {
                let why = OWN_WAY.iter().find(|(keyword, _)| *keyword == other).map_or("tanker doesn't know it", |(_, why)| why);
                push_once(&mut answer.notes, format!("{}:{}: {} is passed over: {why}", line.file, line.line, printable(other)));
            }
        }
    }

    fn matches(&mut self, line: &Directive, outer: bool) -> bool {
        let mut all = true;
        let mut words = line.args.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let (negated, name) = word.strip_prefix('!').map_or((false, word), |name| (true, name));
            let (name, inline) = name.split_once('=').map_or((name, None), |(name, value)| (name, Some(value)));
            let name = name.to_ascii_lowercase();
            let result = match name.as_str() {
                "all" => Some(true),
                "canonical" => Some(self.last),
                "final" => {
                    self.wants_last = true;
                    Some(self.last)
                }
                _ => {
                    let value = inline.or_else(|| words.next()).unwrap_or_default();
                    self.criterion(&name, value)
                }
            };
            match result {
                Some(result) => all &= result != negated,
                None => {
                    if outer && all {
                        let what =
                            format!("{}:{}: 'Match {}' is passed over: tanker doesn't evaluate it", line.file, line.line, printable(&name));
                        push_once(&mut self.answer.notes, what);
                    }
                    return false;
                }
            }
        }
        all
    }

    fn criterion(&self, name: &str, value: &str) -> Option<bool> {
        let host = self.answer.host_name.as_deref().unwrap_or(self.question.alias);
        let list: Vec<String> = value.split(',').map(str::to_owned).collect();
        match name {
            "host" => Some(hosts_match(&list, host)),
            "originalhost" => Some(hosts_match(&list, self.question.alias)),
            "user" => Some(hosts_match(&list, self.answer.user.as_deref().unwrap_or(self.question.default_user))),
            "localuser" => Some(hosts_match(&list, self.question.local_user)),
            _ => None,
        }
    }
}

/// What adds up must not add up twice where it is read twice.
fn push_once(list: &mut Vec<String>, item: String) {
    if !list.contains(&item) {
        list.push(item);
    }
}

/// Any positive pattern, and no negated one.
fn hosts_match(patterns: &[String], name: &str) -> bool {
    let name = name.to_lowercase();
    let hit = |pattern: &str| wildcard(pattern.to_lowercase().as_bytes(), name.as_bytes());
    !patterns.iter().any(|p| p.strip_prefix('!').is_some_and(hit)) && patterns.iter().any(|p| !p.starts_with('!') && hit(p))
}

fn put_tokens_in(answer: &mut Answer, question: &Question<'_>) {
    let mut tokens = Tokens {
        host: question.alias.to_owned(),
        original: question.alias.to_owned(),
        key_alias: answer.host_key_alias.clone().unwrap_or_else(|| question.alias.to_owned()),
        port: answer.port.unwrap_or(22),
        user: answer.user.clone().unwrap_or_else(|| question.default_user.to_owned()),
        local_user: question.local_user.to_owned(),
        workstation: question.workstation.to_owned(),
        home: question.home.to_owned(),
        jump: answer.proxy_jump.clone().unwrap_or_default(),
    };
    let mut refusal = None;
    let mut expand = |text: &mut String, tokens: &Tokens, with_variables: bool| {
        let variable = |name: &str| if with_variables { (question.variable)(name) } else { None };
        match expand_tokens(text, tokens, &variable) {
            Ok(expanded) => *text = expanded,
            Err(why) => drop(refusal.get_or_insert(format!("the SSH configuration can't be used for it: {}", printable(&why)))),
        }
    };
    if let Some(name) = &answer.host_name {
        tokens.host.clone_from(name);
    }
    if let Some(jump) = &mut answer.proxy_jump {
        expand(jump, &tokens, false);
    }
    let lists =
        [&mut answer.identity, &mut answer.certificates].into_iter().chain(&mut answer.known_hosts).chain(&mut answer.global_known_hosts);
    lists.flatten().chain(&mut answer.identity_agent).for_each(|path| expand(path, &tokens, true));
    answer.refusal = answer.refusal.take().or(refusal);
}

#[cfg(test)]
mod tests {
    use super::super::parse_ssh_config;
    use super::*;

    fn ask(text: &str, alias: &str) -> Answer {
        let mut include =
            |name: &str| if name == "more" { vec![("more".to_owned(), "User included\nHost other\nPort 1\n".to_owned())] } else { vec![] };
        let config = parse_ssh_config("config", text, &mut include).unwrap();
        resolve(
            &[config],
            &Question {
                alias,
                user: None,
                port: None,
                default_user: "root",
                local_user: "me",
                workstation: "here",
                home: "/home/me",
                variable: &|_| None,
            },
        )
    }

    #[test]
    fn the_first_value_wins_and_identities_add_up() {
        let text = "IdentityFile ~/.ssh/first\nHost prod-* !prod-x\n  HostName %h.example.net\n  User fuel\n  Port 2222\n  IdentityFile ~/.ssh/%r@%h\nHost *\n  User nobody\n  ProxyJump bastion,me@second:22\n";
        let answer = ask(text, "prod-east");
        assert_eq!(answer.host_name.as_deref(), Some("prod-east.example.net"));
        assert_eq!((answer.user.as_deref(), answer.port), (Some("fuel"), Some(2222)));
        assert_eq!(answer.identity, ["~/.ssh/first", "~/.ssh/fuel@prod-east.example.net"]);
        assert_eq!(answer.proxy_jump.as_deref(), Some("bastion,me@second:22"));
        assert_eq!(ask(text, "prod-x").user.as_deref(), Some("nobody"));
    }

    #[test]
    fn match_and_include_apply_where_openssh_applies_them() {
        let text = "Host a\n  HostName 10.0.0.1\n  Include more\nMatch host 10.0.0.* !user root\n  Port 2200\nMatch originalhost b exec \"reboot\"\n  Port 1\nMatch final\n  User late\n";
        let answer = ask(text, "a");
        assert_eq!((answer.user.as_deref(), answer.port), (Some("included"), Some(2200)));
        let other = ask(text, "b");
        assert_eq!((other.user.as_deref(), other.port), (Some("late"), None), "a command is never run, and that is said");
        assert!(other.notes[0].contains("'Match exec' is passed over"), "{:?}", other.notes);
    }

    #[test]
    fn a_second_reading_adds_to_the_first_and_takes_nothing_away() {
        let text = "Ciphers x\nHost east\n HostName 10.0.0.1\n IdentityFile ~/.ssh/east\n CertificateFile ~/.ssh/cert\n Macs y\nMatch final all\n IdentityFile ~/.ssh/late\nHost 10.0.0.1\n IdentityFile ~/.ssh/address\n";
        let answer = ask(text, "east");
        assert_eq!(answer.identity, ["~/.ssh/east", "~/.ssh/late", "~/.ssh/address"]);
        assert_eq!(answer.certificates, ["~/.ssh/cert"]);
        assert_eq!(answer.notes.len(), 2, "{:?}", answer.notes);
    }

    #[test]
    fn what_would_lead_elsewhere_is_refused_and_the_rest_is_said() {
        let answer = ask("ProxyCommand nc %h %p\nCiphers none\nForwardAgent yes\nFancyNewThing on\n", "a");
        assert!(answer.no_way.unwrap().starts_with("config:1 says ProxyCommand"));
        assert_eq!(answer.notes.len(), 2, "{:?}", answer.notes);
        assert_eq!(ask("ProxyJump none\nProxyCommand nc\n", "a").no_way, None);
        assert!(ask("RevokedHostKeys /etc/revoked\n", "a").refusal.unwrap().contains("@revoked"));
        assert!(ask("HostKeyAlias \"a b\"\n", "a").refusal.unwrap().contains("no name for a host key"));
        assert!(ask("Port x\n", "a").refusal.unwrap().contains("no port"));
    }

    #[test]
    fn match_sees_what_hostname_and_user_have_become() {
        let text = "Host web1\n HostName %h.example.com\nMatch host web1.example.com user root\n Port 2222\n";
        assert_eq!(ask(text, "web1").port, Some(2222));
    }
}
