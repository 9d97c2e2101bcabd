//! The file's grammar: a keyword, blanks or `=`, arguments that may be quoted; `#` begins a comment line.

use super::SshConfig;
use crate::model::text::printable;

/// How deep files may include each other, as in OpenSSH.
const DEEPEST_INCLUDE: usize = 16;
/// More lines than this are no configuration.
const MOST_LINES: usize = 100_000;

/// A line that sets something.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directive {
    /// The file it stands in.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// In small letters.
    pub keyword: String,
    /// Its arguments, quotes taken off.
    pub args: Vec<String>,
    /// What an `Include` brought, a file each.
    pub included: Vec<SshConfig>,
}

/// Why a configuration was not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{file}:{line}: {reason}")]
pub struct BadSshConfig {
    /// The file.
    pub file: String,
    /// From 1.
    pub line: usize,
    /// One sentence.
    pub reason: String,
}

/// Reads a configuration. `include` gives the files, with their names, that an argument of `Include` stands for.
///
/// # Errors
/// With file and line where a line has no argument or a quote is open, and where files include each other without end.
pub fn parse_ssh_config(file: &str, text: &str, include: &mut dyn FnMut(&str) -> Vec<(String, String)>) -> Result<SshConfig, BadSshConfig> {
    parse_at(file, text, include, 0)
}

fn parse_at(
    file: &str,
    text: &str,
    include: &mut dyn FnMut(&str) -> Vec<(String, String)>,
    depth: usize,
) -> Result<SshConfig, BadSshConfig> {
    let mut config = SshConfig::default();
    for (n, line) in text.lines().enumerate() {
        let bad = |reason: String| BadSshConfig { file: file.to_owned(), line: n + 1, reason };
        if n >= MOST_LINES {
            return Err(bad("the file has too many lines".into()));
        }
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (keyword, rest) = split_keyword(line);
        let args = words(rest).ok_or_else(|| bad("a quote is not closed".into()))?;
        if args.is_empty() {
            return Err(bad(format!("'{}' has no argument", printable(keyword))));
        }
        let keyword = keyword.to_ascii_lowercase();
        let mut included = Vec::new();
        if keyword == "include" {
            if depth >= DEEPEST_INCLUDE {
                return Err(bad("files include each other too deeply".into()));
            }
            for arg in &args {
                for (name, text) in include(arg) {
                    included.push(parse_at(&name, &text, include, depth + 1)?);
                }
            }
        }
        config.directives.push(Directive { file: file.to_owned(), line: n + 1, keyword, args, included });
    }
    Ok(config)
}

/// `Keyword value`, `Keyword=value`, `Keyword = value`.
fn split_keyword(line: &str) -> (&str, &str) {
    let end = line.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(line.len());
    let rest = line[end..].trim_start();
    (&line[..end], rest.strip_prefix('=').unwrap_or(rest).trim_start())
}

/// Words, with `"..."` as one; what stands behind a blank and `#` is a comment.
fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        match chars.peek() {
            None | Some('#') => return Some(words),
            Some(_) => {}
        }
        let mut word = String::new();
        let mut quote: Option<char> = None;
        while let Some(c) = chars.peek().copied() {
            if quote.is_none() && c.is_whitespace() {
                break;
            }
            chars.next();
            match (quote, c) {
                (None, '"' | '\'') => quote = Some(c),
                (Some(open), c) if c == open => quote = None,
                (_, '\\') if matches!(chars.peek(), Some('"' | '\'' | '\\')) => word.extend(chars.next()),
                (_, c) => word.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_as_openssh_reads_them() {
        let text = "# comment\n  Host  a \"b c\" # more\nUser=me\nPort = 22\n";
        let config = parse_ssh_config("config", text, &mut |_| Vec::new()).unwrap();
        let lines: Vec<_> = config.directives.iter().map(|d| (d.line, d.keyword.as_str(), d.args.join("|"))).collect();
        assert_eq!(lines, [(2, "host", "a|b c".to_owned()), (3, "user", "me".to_owned()), (4, "port", "22".to_owned())]);
    }

    #[test]
    fn what_can_not_be_read_is_told_with_file_and_line() {
        let bad =
            |text: &str| parse_ssh_config("c", text, &mut |_| vec![("c".to_owned(), "Include c\n".to_owned())]).unwrap_err().to_string();
        assert_eq!(bad("\nUser\n"), "c:2: 'User' has no argument");
        assert_eq!(bad("User \"me\n"), "c:1: a quote is not closed");
        assert_eq!(bad("Include c\n"), "c:1: files include each other too deeply");
    }
}
