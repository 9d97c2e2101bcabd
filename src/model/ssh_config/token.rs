//! `%h` and its kin, `~`, `${NAME}`.

/// What the tokens of a host stand for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tokens {
    /// `%h`: where the host really is.
    pub host: String,
    /// `%n`: the name that was given.
    pub original: String,
    /// `%k`: the name its key is known by.
    pub key_alias: String,
    /// `%p`
    pub port: u16,
    /// `%r`: the user there.
    pub user: String,
    /// `%u`: the user here.
    pub local_user: String,
    /// `%l`: this workstation.
    pub workstation: String,
    /// `%d`: the home folder here.
    pub home: String,
    /// `%j`: the jump hosts, as they are written.
    pub jump: String,
}

/// Puts tokens and environment variables in. `%C`, a hash of others, and `%i`, the number of the user, are not known.
///
/// # Errors
/// With a sentence, when a token or a variable is not known.
pub fn expand_tokens(text: &str, tokens: &Tokens, variable: &dyn Fn(&str) -> Option<String>) -> Result<String, String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(['%', '$']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(named) = rest.strip_prefix("${") {
            let (name, behind) = named.split_once('}').ok_or_else(|| format!("'{text}' has a '${{' without its '}}'"))?;
            out.push_str(&variable(name).ok_or_else(|| format!("'{text}' needs the variable {name}, which is not set"))?);
            rest = behind;
        } else if let Some(behind) = rest.strip_prefix('$') {
            out.push('$');
            rest = behind;
        } else {
            let token = rest[1..].chars().next();
            match token {
                Some('%') => out.push('%'),
                Some('h') => out.push_str(&tokens.host),
                Some('n') => out.push_str(&tokens.original),
                Some('k') => out.push_str(&tokens.key_alias),
                Some('p') => out.push_str(&tokens.port.to_string()),
                Some('r') => out.push_str(&tokens.user),
                Some('u') => out.push_str(&tokens.local_user),
                Some('l') => out.push_str(&tokens.workstation),
                Some('L') => out.push_str(tokens.workstation.split('.').next().unwrap_or_default()),
                Some('d') => out.push_str(&tokens.home),
                Some('j') => out.push_str(&tokens.jump),
                other => {
                    return Err(format!("'{text}' has the token '%{}', which is not known", other.map(String::from).unwrap_or_default()));
                }
            }
            rest = &rest[1 + token.map_or(0, char::len_utf8)..];
        }
    }
    out.push_str(rest);
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_stand_for_what_openssh_says_and_others_are_said() {
        let tokens = Tokens { host: "10.0.0.1".into(), original: "east".into(), user: "root".into(), port: 2222, ..Tokens::default() };
        let expand = |text: &str| expand_tokens(text, &tokens, &|name| (name == "KEYS").then(|| "/keys".to_owned()));
        assert_eq!(expand("${KEYS}/%n-%h:%p/%r%%$").unwrap(), "/keys/east-10.0.0.1:2222/root%$");
        assert!(expand("%C").unwrap_err().contains("'%C'"));
        assert!(expand("${NO}").unwrap_err().contains("NO"));
        assert!(expand("%").is_err() && expand("${").is_err());
    }
}
