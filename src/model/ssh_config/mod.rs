//! OpenSSH's client configuration, as far as it bears on reaching a host: `Host`, `Match`, `Include`, and what they set. Pure: who
//! reads files gives them as text. As in OpenSSH the first value wins, but for identity files and certificates, which add up.
//!
//! What is not understood, and would matter, is said: [`Answer::notes`]. What would change where a connection goes and can't be done
//! is refused: [`Answer::refusal`].

mod keywords;
mod parse;
mod resolve;
mod token;

pub use parse::{BadSshConfig, Directive, parse_ssh_config};
pub use resolve::{Answer, Question, resolve};
pub use token::{Tokens, expand_tokens};

/// A whole configuration, its includes inside.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SshConfig {
    /// The lines, in order.
    pub directives: Vec<Directive>,
}

impl SshConfig {
    /// The hosts that it names one by one, includes too, each once; patterns are none.
    #[must_use]
    pub fn hosts(&self) -> Vec<&str> {
        let mut found = Vec::new();
        for directive in &self.directives {
            let named =
                directive.args.iter().map(String::as_str).filter(|name| directive.keyword == "host" && !name.contains(['*', '?', '!']));
            for name in named.chain(directive.included.iter().flat_map(Self::hosts)) {
                if !found.contains(&name) {
                    found.push(name);
                }
            }
        }
        found
    }
}
