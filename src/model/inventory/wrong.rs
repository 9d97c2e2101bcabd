//! What toml and serde say of an inventory that they don't take, in the words of who wrote it: keys and values, no Rust.

use crate::model::pattern::closest;
use crate::model::text::printable;

/// What serde calls a number.
const NUMBERS: [&str; 4] = ["u16", "u32", "u64", "usize"];

/// One sentence for an error: the key, what stands there, what belongs there.
pub(super) fn reason(error: &toml::de::Error, text: &str) -> String {
    let message = printable(error.message());
    let key = error.span().and_then(|span| key_before(text.get(..span.start)?));
    if let Some((_, rest)) = message.split_once("unknown field `") {
        return unknown_key(rest);
    }
    if let Some((_, rest)) = message.split_once("missing field `") {
        return format!("the key '{}' is missing here", rest.split('`').next().unwrap_or_default());
    }
    let there = error.span().and_then(|span| text.get(span));
    if message.starts_with("duplicate key") {
        let name = there.map(|there| printable(there.trim_matches(['[', ']', '"', '\'']))).filter(|name| !name.is_empty());
        return name.map_or(message, |name| format!("'{name}' stands here a second time"));
    }
    // `address = 10.20.0.2`
    let is_no_number = ["invalid float", "invalid integer", "invalid mantissa"].iter().any(|start| message.starts_with(start));
    let line = error.span().and_then(|span| text.get(..span.start)?.rsplit('\n').next());
    if let (true, Some((key, _))) = (is_no_number, line.and_then(|line| line.split_once('='))) {
        let key = printable(key.trim());
        return format!("what stands behind '{key}' is no number: a text stands in quotes, {key} = \"…\"");
    }
    // `invalid type: string "x", expected struct HostTable`
    let Some((found, expected)) = message.strip_prefix("invalid ").and_then(|rest| rest.split_once(": ")?.1.split_once(", expected "))
    else {
        return message;
    };
    let (found, wanted) = (found_there(found, NUMBERS.contains(&expected)), wanted(expected, key.as_deref()));
    match key {
        Some(key) => format!("'{}' is {found}, and must be {wanted}", printable(&key)),
        None => format!("here stands {found}, and there must be {wanted}"),
    }
}

/// From the name of the key on, with everything that is known there.
fn unknown_key(rest: &str) -> String {
    let (key, known) = rest.split_once('`').unwrap_or((rest, ""));
    let known: Vec<&str> = known.split('`').skip(1).step_by(2).collect();
    match closest(key, known.iter().copied()) {
        Some(near) => format!("unknown key '{key}' (did you mean '{near}'?)"),
        None if known.is_empty() => format!("unknown key '{key}'"),
        None => format!("unknown key '{key}'; there are: {}", known.join(", ")),
    }
}

/// The key whose value begins behind this text, where it stands in the same line.
pub(super) fn key_before(text: &str) -> Option<String> {
    let line = text.rsplit('\n').next()?;
    let (before, value) = line.rsplit_once('=')?;
    // Inside a list it is the list's key all the same.
    if !value.trim_start_matches([' ', '\t', '[', '"', '\'']).is_empty() && !value.trim_start().starts_with('[') {
        return None;
    }
    let key = before.trim_end().rsplit(|c: char| c.is_whitespace() || "{,[".contains(c)).next()?;
    Some(key.trim_matches(['"', '\'']).to_owned()).filter(|key| !key.is_empty())
}

/// Its kind; the value itself only where a number belongs, for elsewhere it may be a secret that stands in the wrong place.
fn found_there(found: &str, number_belongs: bool) -> &str {
    match found.split([' ', '`', '"']).next().unwrap_or_default() {
        "integer" | "floating" if number_belongs => found.split('`').nth(1).unwrap_or(found),
        "integer" | "floating" => "a number",
        "string" => "a text",
        "boolean" => "true or false",
        "sequence" => "a list",
        "map" => "a table",
        _ => "something else",
    }
}

fn wanted(expected: &str, key: Option<&str>) -> String {
    let name = key.map_or_else(|| "NAME".to_owned(), printable);
    match expected {
        "struct HostTable" => format!("a table: [hosts.{name}], and below it address = \"…\""),
        "struct RemoteTable" => format!("a table: [remotes.{name}], and below it url = \"…\""),
        "struct KeepTable" => format!("a table: {name} = {{ last = 3, daily = 7 }}"),
        "a sequence" => format!("a list: {name} = [\"…\"]"),
        "a boolean" => "true or false".to_owned(),
        "u16" => "a number from 0 to 65535".to_owned(),
        "u32" => "a whole number from 0 to 4294967295".to_owned(),
        number if NUMBERS.contains(&number) => "a whole number, 0 or more".to_owned(),
        "a string" | "path string" => format!("a text in quotes: {name} = \"…\""),
        other if other == "a map" || other.starts_with("struct ") => format!("a table: [{name}]"),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::parse_inventory;

    fn reason(text: &str) -> String {
        parse_inventory("i", text).unwrap_err().to_string()
    }

    #[test]
    fn a_value_of_another_kind_is_said_with_its_key_its_line_and_what_belongs_there() {
        let cases = [
            ("[hosts]\neast = \"10.20.0.2\"\n", "i:2: 'east' is a text, and must be a table: [hosts.east], and below it address = \"…\""),
            ("[hosts.a]\nkeep = 7\n", "i:2: 'keep' is a number, and must be a table: keep = { last = 3, daily = 7 }"),
            ("[hosts.a]\nidentity = \"~/.ssh/k\"\n", "i:2: 'identity' is a text, and must be a list: identity = [\"…\"]"),
            ("[hosts.a]\njump = \"gate\"\n", "i:2: 'jump' is a text, and must be a list: jump = [\"…\"]"),
            ("[hosts.a]\nencrypt_to = \"age1\"\n", "i:2: 'encrypt_to' is a text, and must be a list: encrypt_to = [\"…\"]"),
            ("[groups]\nprod = \"a\"\n", "i:2: 'prod' is a text, and must be a list: prod = [\"…\"]"),
            ("[hosts.a]\nidentity = [7]\n", "i:2: 'identity' is a number, and must be a text in quotes: identity = \"…\""),
            ("[defaults]\nsudo = \"yes\"\n", "i:2: 'sudo' is a text, and must be true or false"),
            ("[defaults]\nuser = true\n", "i:2: 'user' is true or false, and must be a text in quotes: user = \"…\""),
            ("[defaults]\nforks = 2.5\n", "i:2: 'forks' is 2.5, and must be a whole number, 0 or more"),
            ("[hosts.a]\nport = 70000\n", "i:2: 'port' is 70000, and must be a number from 0 to 65535"),
            ("[hosts.a]\nkeep = { daily = '7' }\n", "i:2: 'daily' is a text, and must be a whole number from 0 to 4294967295"),
            ("[remotes]\nvault = 's3://b/x'\n", "i:2: 'vault' is a text, and must be a table: [remotes.vault], and below it url = \"…\""),
            (
                "[hosts.a]\naddress = 10.20.0.2\n",
                "i:2: what stands behind 'address' is no number: a text stands in quotes, address = \"…\"",
            ),
            ("[hosts.a]\nport = 1\nport = 2\n", "i:3: 'port' stands here a second time"),
            ("[hosts.a]\nlease = 0\n", "i:2: 0 s is out of range: 'lease' is from 5 to 86400"),
            ("[hosts.a]\naddress = '10.0.0.1:2222'\n", "i:2: '10.0.0.1:2222' is no address: say address = \"10.0.0.1\" and port = 2222"),
            ("[defaults]\nport = 0\n[hosts.a]\n", "i:2: 0 is no port: 1 to 65535"),
            ("[defaults]\nlibrary = 'backups'\n", "i:2: the library 'backups' depends on where one stands: begin it with '/' or '~/'"),
            ("[hosts.all]\n", "i:1: 'all' can't be the name of a host: it stands for every one of them"),
            ("hosts = 5\n", "i:1: 'hosts' is a number, and must be a table: [hosts]"),
        ];
        for (text, said) in cases {
            assert_eq!(reason(text), said);
        }
        assert_eq!(reason("[remotes.x]\nregion = 'eu'\n"), "i:1: the key 'url' is missing here");
    }

    #[test]
    fn i6_a_value_that_is_not_taken_is_not_repeated() {
        for text in [
            "[hosts.a]\npassword = 48151623\n",
            "[hosts.a]\npassword = ['48151623']\n",
            "[hosts.a]\nsudo = '48151623'\n",
            "[hosts.a]\nidentity = '48151623'\n",
        ] {
            assert!(!reason(text).contains("48151623"), "{}", reason(text));
        }
    }

    #[test]
    fn a_key_that_resembles_none_is_answered_with_those_that_there_are() {
        let said = reason("[remotes.x]\nurl = 's3://b/x'\nqqqqqqqq = 1\n");
        assert!(said.starts_with("i:3: unknown key 'qqqqqqqq'; there are: url, endpoint, region"), "{said}");
        assert!(reason("[hosts.a]\nprot = 22\n").ends_with("unknown key 'prot' (did you mean 'port'?)"));
    }
}
