//! Patterns that choose hosts: names, groups, `all`, globs, joined by `,` or `:`; `!x` takes out, `&x` keeps only.

use std::collections::BTreeSet;

use super::id::HostName;
use super::inventory::Inventory;
use super::text::printable;

/// Why a pattern chose nothing: one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadPattern(pub String);

/// What is chosen from: the inventory, and the hosts that failed in the last run, where one is known.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// The hosts and groups.
    pub inventory: &'a Inventory,
    /// What `@failed` stands for.
    pub failed: Option<&'a [HostName]>,
}

/// The hosts that the patterns choose, in the inventory's order; all hosts for no pattern.
///
/// # Errors
/// When a pattern that has no wildcard names nothing in the inventory, or nothing is chosen at all.
pub fn select(inventory: &Inventory, patterns: &[String]) -> Result<Vec<HostName>, BadPattern> {
    Choice { inventory, failed: None }.select(patterns, &[])
}

impl Choice<'_> {
    /// The hosts that the patterns choose and the limits leave, in the inventory's order.
    ///
    /// # Errors
    /// As [`select`].
    pub fn select(&self, patterns: &[String], limits: &[String]) -> Result<Vec<HostName>, BadPattern> {
        let hosts = || self.inventory.hosts.iter().map(|host| &host.name);
        if hosts().next().is_none() {
            return Err(BadPattern("the inventory names no host: a [hosts.NAME] for each master belongs into it".into()));
        }
        let mut chosen = self.chosen(patterns)?;
        if !limits.is_empty() {
            let left = self.chosen(limits)?;
            chosen.retain(|host| left.contains(host));
        }
        let names: Vec<HostName> = hosts().filter(|name| chosen.contains(name)).cloned().collect();
        if names.is_empty() {
            let limited = if limits.is_empty() { String::new() } else { format!(" limited to '{}'", printable(&limits.join(" "))) };
            return Err(BadPattern(format!("no host of the inventory fits '{}'{limited}", printable(&patterns.join(" ")))));
        }
        Ok(names)
    }

    fn chosen(&self, patterns: &[String]) -> Result<BTreeSet<&HostName>, BadPattern> {
        // A variable that was not set must not mean every host.
        if patterns.iter().any(|pattern| terms_of(pattern).next().is_none()) {
            return Err(BadPattern("a pattern is empty: say 'all' if all hosts are meant".into()));
        }
        let terms: Vec<&str> = patterns.iter().flat_map(|pattern| terms_of(pattern)).collect();
        let plain = |t: &&str| !t.starts_with(['!', '&']);
        let mut chosen = BTreeSet::new();
        if terms.iter().any(plain) {
            for term in terms.iter().copied().filter(|t| plain(t)) {
                chosen.extend(some_of(term, self.matching(term)?)?);
            }
        } else {
            chosen.extend(self.inventory.hosts.iter().map(|host| &host.name));
        }
        for term in &terms {
            if let Some(kept) = term.strip_prefix('&') {
                let kept: BTreeSet<_> = some_of(kept, self.matching(kept)?)?.into_iter().collect();
                chosen.retain(|host| kept.contains(host));
            }
        }
        for term in &terms {
            if let Some(out) = term.strip_prefix('!') {
                for host in self.matching(out)? {
                    chosen.remove(host);
                }
            }
        }
        Ok(chosen)
    }

    fn matching(&self, term: &str) -> Result<Vec<&HostName>, BadPattern> {
        if let Some(list) = term.strip_prefix('@') {
            return self.failed_of(list);
        }
        let Some((head, inside)) = ranged(term) else { return self.named(term) };
        // A part of what stands before the brackets, as Ansible takes it; where nothing is called that, names with numbers in them.
        if !head.is_empty()
            && let Ok(list) = self.named(head)
            && !list.is_empty()
        {
            let mut seen = BTreeSet::new();
            let list: Vec<&HostName> = list.into_iter().filter(|name| seen.insert(*name)).collect();
            return Ok(part_of(&list, inside).to_vec());
        }
        if !inside.contains(':') {
            return self.named(term);
        }
        let mut found = Vec::new();
        for name in numbered(term)
            .ok_or_else(|| BadPattern(format!("'{}' is no range: say for example web[01:20] or prod[0:2]", printable(term))))?
        {
            found.extend(self.named(&name)?);
        }
        Ok(found)
    }

    fn failed_of(&self, list: &str) -> Result<Vec<&HostName>, BadPattern> {
        if list != "failed" {
            return Err(BadPattern(format!("'@{}' is no list of hosts: there is only @failed", printable(list))));
        }
        let failed =
            self.failed.ok_or_else(|| BadPattern("'@failed' means the hosts that failed in the last run, and none is known".into()))?;
        Ok(self.inventory.hosts.iter().map(|host| &host.name).filter(|name| failed.contains(name)).collect())
    }

    /// Groups come first and in their own order, which places in them are counted by.
    fn named(&self, term: &str) -> Result<Vec<&HostName>, BadPattern> {
        let hosts = || self.inventory.hosts.iter().map(|host| &host.name);
        if term == "all" || term == "*" {
            return Ok(hosts().collect());
        }
        let groups = self.inventory.groups.iter().filter(|(group, _)| glob(term, group));
        let mut found: Vec<&HostName> = groups.flat_map(|(_, members)| members).collect();
        found.extend(hosts().filter(|name| glob(term, name.as_str())));
        if found.is_empty() && !term.contains(['*', '?', '[']) {
            let names = hosts().map(HostName::as_str).chain(self.inventory.groups.keys().map(String::as_str));
            let hint = closest(term, names).map(|near| format!(" (did you mean '{near}'?)")).unwrap_or_default();
            return Err(BadPattern(format!("the inventory has no host or group '{}'{hint}", printable(term))));
        }
        Ok(found)
    }
}

/// The terms of a pattern: what stands between commas, and colons outside brackets, where they are part of a range.
fn terms_of(pattern: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    let separates = move |c: char| {
        inside = (inside || c == '[') && c != ']' && c != ',';
        c == ',' || (c == ':' && !inside)
    };
    pattern.split(separates).map(str::trim).filter(|term| !term.is_empty())
}

/// A term that ends in `[2]`, `[-1]`, `[0:2]`, `[3:]`: what stands before, and inside. A set of a glob (`[abc]`, `[a-c]`) is none.
fn ranged(term: &str) -> Option<(&str, &str)> {
    let open = term.find('[')?;
    let close = open + term[open..].find(']')?;
    let inside = &term[open + 1..close];
    let number = |text: &str| text.is_empty() || text.strip_prefix('-').unwrap_or(text).bytes().all(|b| b.is_ascii_digit());
    let fits = match inside.split_once(':') {
        Some((from, to)) => number(from) && number(to),
        // `web[12]` is a set of a glob unless something is called `web`.
        None => !inside.is_empty() && number(inside) && close + 1 == term.len(),
    };
    fits.then_some((if close + 1 == term.len() { &term[..open] } else { "" }, inside))
}

/// Places count from 0, from the end when negative; both ends belong to it, as in Ansible.
fn part_of<'a, 'b>(list: &'a [&'b HostName], inside: &str) -> &'a [&'b HostName] {
    // One that lies before the first is no place at all.
    let place = |text: &str, otherwise: i64| -> i64 {
        match text.parse::<i64>() {
            Ok(n) if n < 0 => n.saturating_add(i64::try_from(list.len()).unwrap_or(i64::MAX)),
            Ok(n) => n,
            Err(_) => otherwise,
        }
    };
    let (from, to) = match inside.split_once(':') {
        Some((from, to)) => (place(from, 0).max(0), place(to, i64::MAX)),
        None => (place(inside, -1), place(inside, -1)),
    };
    let (Ok(from), Ok(to)) = (usize::try_from(from), usize::try_from(to)) else { return &[] };
    let end = to.saturating_add(1).min(list.len());
    list.get(from.min(end)..end).unwrap_or_default()
}

/// `web[01:20].example` as the names it stands for, with as many digits as the first number has.
fn numbered(term: &str) -> Option<Vec<String>> {
    let (head, rest) = term.split_once('[')?;
    let (inside, tail) = rest.split_once(']')?;
    let (from, to) = inside.split_once(':').unwrap_or((inside, inside));
    let (first, last): (u32, u32) = (from.parse().ok()?, to.parse().ok()?);
    if first > last || last - first > 10_000 {
        return None;
    }
    Some((first..=last).map(|n| format!("{head}{n:0width$}{tail}", width = from.len())).collect())
}

/// `*` any run, `?` one character, `[abc]` or `[a-c]` one of these, `[!abc]` none of them.
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
        [b'!', rest @ ..] if !rest.is_empty() => !is_in(rest, c),
        _ => is_in(set, c),
    }
}

fn is_in(set: &[u8], c: u8) -> bool {
    match set {
        [from, b'-', to, rest @ ..] => (*from..=*to).contains(&c) || is_in(rest, c),
        [one, rest @ ..] => *one == c || is_in(rest, c),
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

/// Nobody failed: that is nobody to work on, but nobody to leave out either.
fn some_of<'a>(term: &str, found: Vec<&'a HostName>) -> Result<Vec<&'a HostName>, BadPattern> {
    if found.is_empty() && term == "@failed" {
        Err(BadPattern("no host failed in the last run, of those that are known here".into()))
    } else {
        Ok(found)
    }
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
        assert_eq!(chosen(&["[!w]est"]).unwrap_err().0, "no host of the inventory fits '[!w]est'");
        assert_eq!(chosen(&["[!e]est"]).unwrap(), ["west"]);
        assert_eq!(chosen(&["[!a-d]ast"]).unwrap(), ["east"]);
        for (pattern, hosts) in [("east:west", "east west"), ("all:!prod", "east-2"), ("east*:&prod", "east"), (":west:", "west")] {
            assert_eq!(chosen(&[pattern]).unwrap().join(" "), hosts, "{pattern}");
        }
        assert!(chosen(&[":"]).unwrap_err().0.contains("say 'all'"));
    }

    #[test]
    fn a_misspelt_host_is_named_with_what_was_probably_meant() {
        assert_eq!(chosen(&["wets"]).unwrap_err().0, "the inventory has no host or group 'wets' (did you mean 'west'?)");
        assert!(chosen(&["nothing*"]).is_err());
    }

    #[test]
    fn ranges_choose_places_of_a_group_or_numbers_in_names() {
        let mut text: String = (1..=12).map(|n| format!("[hosts.web{n:02}]\naddress='w{n}'\n")).collect();
        text.push_str("[hosts.db]\naddress='db'\n[groups]\nfront=['web03', 'web01', 'web02']\n");
        let inventory = parse_inventory("x.toml", &text).unwrap();
        let failed: Vec<HostName> = vec!["web05".parse().unwrap(), "gone".parse().unwrap()];
        let choice = Choice { inventory: &inventory, failed: Some(&failed) };
        let chosen = |pattern: &str, limit: &[&str]| {
            let limits: Vec<String> = limit.iter().map(|l| (*l).to_owned()).collect();
            choice.select(&[pattern.to_owned()], &limits).map(|hosts| hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
        };
        assert_eq!(chosen("web[02:04]", &[]).unwrap(), "web02 web03 web04");
        assert_eq!(chosen("front[0:1]", &[]).unwrap(), "web01 web03", "the group's order, not the inventory's");
        assert_eq!(chosen("front[-1]", &[]).unwrap(), "web02");
        assert_eq!(chosen("web[02:03]:db,web[07:08]", &[]).unwrap(), "web02 web03 web07 web08 db");
        assert_eq!(chosen("all[11:]", &[]).unwrap(), "web12 db");
        assert_eq!(chosen("web*[0]", &[]).unwrap(), "web01");
        assert_eq!(chosen("web0[12]", &[]).unwrap(), "web01 web02", "a set of a glob is no range");
        assert_eq!(chosen("all", &["front", "!web02"]).unwrap(), "web01 web03");
        assert_eq!(chosen("all", &["@failed"]).unwrap(), "web05");
        assert!(chosen("front[7]", &[]).unwrap_err().0.contains("no host"));
        for none in ["front[-4]", "front[0:-9]"] {
            assert!(chosen(none, &[]).unwrap_err().0.contains("no host"), "{none}");
        }
        assert_eq!(chosen("front[-9:0]", &[]).unwrap(), "web03");
        assert!(chosen("", &[]).unwrap_err().0.contains("say 'all'") && chosen("all", &[" ,"]).is_err());
        assert!(chosen("web[11:14]", &[]).unwrap_err().0.contains("'web13'"));
        assert!(chosen("db", &["front"]).unwrap_err().0.contains("limited to 'front'"));
        assert!(chosen("@others", &[]).unwrap_err().0.contains("only @failed"));
    }
}
