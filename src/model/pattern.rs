//! Patterns that choose hosts: names, groups, `all`, globs, joined by `,`; `!x` takes out, `&x` keeps only.

use std::collections::BTreeSet;

use super::id::HostName;
use super::inventory::Inventory;

/// Why a pattern chose nothing: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(pub String);

/// The hosts that the patterns choose, in the inventory's order; all hosts for no pattern.
///
/// # Errors
/// When a pattern that has no wildcard names nothing in the inventory, or nothing is chosen at all.
pub fn select(inventory: &Inventory, patterns: &[String]) -> Result<Vec<HostName>, BadPattern> {
    let terms: Vec<&str> = patterns.iter().flat_map(|p| p.split(',')).map(str::trim).filter(|t| !t.is_empty()).collect();
    let plain = |t: &&str| !t.starts_with(['!', '&']);
    let all: BTreeSet<&HostName> = inventory.hosts.iter().map(|host| &host.name).collect();
    let mut chosen = BTreeSet::new();
    if terms.iter().any(plain) {
        for term in terms.iter().copied().filter(|t| plain(t)) {
            chosen.extend(matching(inventory, term)?);
        }
    } else {
        chosen.clone_from(&all);
    }
    for term in &terms {
        if let Some(kept) = term.strip_prefix('&') {
            let kept: BTreeSet<_> = matching(inventory, kept)?.into_iter().collect();
            chosen.retain(|host| kept.contains(host));
        }
    }
    for term in &terms {
        if let Some(out) = term.strip_prefix('!') {
            for host in matching(inventory, out)? {
                chosen.remove(host);
            }
        }
    }
    let hosts: Vec<HostName> = inventory.hosts.iter().map(|host| &host.name).filter(|name| chosen.contains(name)).cloned().collect();
    if all.is_empty() {
        return Err(BadPattern("the inventory names no host".into()));
    }
    if hosts.is_empty() {
        return Err(BadPattern(format!("no host of the inventory fits '{}'", super::text::printable(&patterns.join(" ")))));
    }
    Ok(hosts)
}

fn matching<'a>(inventory: &'a Inventory, term: &str) -> Result<Vec<&'a HostName>, BadPattern> {
    let hosts = || inventory.hosts.iter().map(|host| &host.name);
    if term == "all" || term == "*" {
        return Ok(hosts().collect());
    }
    let mut found: Vec<&HostName> = hosts().filter(|name| glob(term, name.as_str())).collect();
    for (group, members) in &inventory.groups {
        if glob(term, group) {
            found.extend(members);
        }
    }
    if found.is_empty() && !term.contains(['*', '?', '[']) {
        let names = hosts().map(HostName::as_str).chain(inventory.groups.keys().map(String::as_str));
        let hint = closest(term, names).map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
        return Err(BadPattern(format!("the inventory has no host or group '{}'{hint}", super::text::printable(term))));
    }
    Ok(found)
}

/// `*` any run, `?` one character, `[abc]` or `[a-c]` one of these.
fn glob(pattern: &str, text: &str) -> bool {
    fn go(p: &[u8], t: &[u8]) -> bool {
        match p {
            [] => t.is_empty(),
            [b'*', rest @ ..] => (0..=t.len()).any(|n| go(rest, &t[n..])),
            [b'?', rest @ ..] => !t.is_empty() && go(rest, &t[1..]),
            [b'[', rest @ ..] => match rest.iter().position(|b| *b == b']') {
                Some(end) => t.first().is_some_and(|c| one_of(&rest[..end], *c)) && go(&rest[end + 1..], &t[1..]),
                None => false,
            },
            [c, rest @ ..] => t.first() == Some(c) && go(rest, &t[1..]),
        }
    }
    // More stars than this make matching slow and mean nothing.
    pattern.bytes().filter(|b| *b == b'*').count() <= 8 && go(pattern.as_bytes(), text.as_bytes())
}

fn one_of(set: &[u8], c: u8) -> bool {
    match set {
        [from, b'-', to, rest @ ..] => (*from..=*to).contains(&c) || one_of(rest, c),
        [one, rest @ ..] => *one == c || one_of(rest, c),
        [] => false,
    }
}

/// `*` any run, `?` one character: what OpenSSH's files know. Takes time in proportion to both lengths at most.
#[must_use]
pub fn wildcard(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, t));
                p += 1;
            }
            Some(c) if *c == b'?' || *c == text[t] => (p, t) = (p + 1, t + 1),
            // The last star takes one more.
            _ => match star {
                Some((at, from)) => {
                    star = Some((at, from + 1));
                    (p, t) = (at + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|c| *c == b'*')
}

/// The name that differs least from a misspelt one, if it is near enough to be meant.
#[must_use]
pub fn closest<'a>(word: &str, names: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    names.map(|name| (distance(word, name), name)).filter(|(d, name)| *d <= 2 && *d < name.len()).min().map(|(_, name)| name)
}

fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut last = row[0];
        row[0] = i + 1;
        for (j, cb) in b.iter().enumerate() {
            let cost = last + usize::from(ca != *cb);
            last = row[j + 1];
            row[j + 1] = cost.min(last + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::inventory::parse_inventory;

    fn chosen(patterns: &[&str]) -> Result<Vec<String>, BadPattern> {
        let text = "[hosts.east]\naddress='a'\n[hosts.east-2]\naddress='b'\n[hosts.west]\naddress='c'\n[groups]\nprod=['east','west']\n";
        let inventory = parse_inventory("x.toml", text).unwrap();
        let patterns: Vec<String> = patterns.iter().map(|p| (*p).to_owned()).collect();
        select(&inventory, &patterns).map(|hosts| hosts.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn patterns_choose_as_ansibles_do() {
        assert_eq!(chosen(&[]).unwrap(), ["east", "east-2", "west"]);
        assert_eq!(chosen(&["prod"]).unwrap(), ["east", "west"]);
        assert_eq!(chosen(&["east*"]).unwrap(), ["east", "east-2"]);
        assert_eq!(chosen(&["all,!prod"]).unwrap(), ["east-2"]);
        assert_eq!(chosen(&["east*", "&prod"]).unwrap(), ["east"]);
        assert_eq!(chosen(&["e[a-z]st"]).unwrap(), ["east"]);
        assert_eq!(chosen(&["!west"]).unwrap(), ["east", "east-2"]);
    }

    #[test]
    fn a_misspelt_host_is_named_with_what_was_probably_meant() {
        assert_eq!(chosen(&["wets"]).unwrap_err().0, "the inventory has no host or group 'wets' (did you mean 'west'?)");
        assert!(chosen(&["nothing*"]).is_err());
    }
}
