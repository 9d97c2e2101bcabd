//! The scripts that run on a master: real files under src/scripts, embedded here.

/// Shared by all of them.
const BASE: &str = include_str!("../scripts/base.sh");
/// Shared by those that do more than look at a file of a job's.
const LIB: &str = concat!(include_str!("../scripts/lib.sh"), "\n", include_str!("../scripts/services.sh"));
/// What is asked for again and again needs no more than the base.
const LIGHT: [&str; 7] = ["poll", "read", "stripe", "files", "keep", "prove", "root"];
/// Shared by the long jobs.
const JOB: &str = include_str!("../scripts/job.sh");

/// A script with its arguments, ready to be sent.
#[derive(Debug, Clone)]
pub struct Script {
    /// Its file's name: what `ps` shows on the master.
    pub name: &'static str,
    text: String,
    args: Vec<String>,
}

macro_rules! scripts {
    ($($(#[$doc:meta])* $function:ident => $file:literal;)*) => {
        impl Script {
            $($(#[$doc])*
            #[must_use]
            pub fn $function<S: Into<String>>(args: impl IntoIterator<Item = S>) -> Self {
                Self::new($file, include_str!(concat!("../scripts/", $file, ".sh")), args.into_iter().map(Into::into).collect())
            })*
        }
    };
}

scripts! {
    /// `facts.sh TASKS DIRECTORY...`
    facts => "facts";
    /// `root.sh`
    root => "root";
    /// `start.sh JOB OWNER ARGUMENT...`, files on stdin.
    start => "start";
    /// `poll.sh JOB OFFSET`
    poll => "poll";
    /// `clean.sh JOB`
    clean => "clean";
    /// `thaw.sh`
    thaw => "thaw";
    /// `read.sh FILE OFFSET`
    read => "read";
    /// `stripe.sh FILE FROM TO STEP [reader]`
    stripe => "stripe";
    /// `files.sh FILE...`
    files => "files";
    /// `keep.sh JOB NAME LENGTH`, the bytes on stdin.
    keep => "keep";
    /// `pull.sh JOB`
    pull => "pull";
    /// `prove.sh FILE`
    prove => "prove";
    /// `offer.sh JOB NAME LENGTH`
    offer => "offer";
    /// `take.sh JOB NAME`, blocks on stdin.
    take => "take";
    /// `seal.sh JOB NAME LENGTH SHA256`, of the digests of its blocks
    seal => "seal";
}

/// The whole text of a long job: `backup`, `prepare`, `cutover` or `drill`.
#[must_use]
pub fn job_script(name: &str) -> Option<String> {
    let body = match name {
        "backup" => concat!(
            include_str!("../scripts/freeze.sh"),
            "\n",
            include_str!("../scripts/pack.sh"),
            "\n",
            include_str!("../scripts/backup.sh")
        ),
        "prepare" => concat!(
            include_str!("../scripts/ready.sh"),
            "\n",
            include_str!("../scripts/unpack.sh"),
            "\n",
            include_str!("../scripts/prepare.sh")
        ),
        "drill" => concat!(include_str!("../scripts/unpack.sh"), "\n", include_str!("../scripts/drill.sh")),
        "cutover" => concat!(
            include_str!("../scripts/ready.sh"),
            "\n",
            include_str!("../scripts/unpack.sh"),
            "\n",
            include_str!("../scripts/cutover.sh")
        ),
        _ => return None,
    };
    Some(format!("{BASE}\n{LIB}\n{JOB}\n{body}"))
}

impl Script {
    fn new(name: &'static str, body: &str, args: Vec<String>) -> Self {
        let shared = if LIGHT.contains(&name) { BASE.to_owned() } else { format!("{BASE}\n{LIB}") };
        Self { name, text: format!("{shared}\n{body}").trim_end().to_owned(), args }
    }

    /// The command for the far shell. The script's text doesn't stand in it: it comes first on stdin, and runs only when it
    /// has arrived whole. Whatever stdin holds behind it is the script's to read.
    #[must_use]
    pub fn command(&self, form: Form) -> String {
        // sudo may or may not have read the password that stands before the mark.
        let skip = if form == Form::SudoWithPassword {
            format!("while IFS= read -r s; do [ \"$s\" != {MARK} ] || break; done; ")
        } else {
            String::new()
        };
        let load = format!(
            "LC_ALL=C; export LC_ALL; {skip}s=$(head -c {0}); [ ${{#s}} -eq {0} ] || {{ echo 'the script did not arrive whole' >&2; exit 1; }}; eval \"$s\"",
            self.text.len()
        );
        let title = format!("tanker-{}", self.name);
        let mut words = match form {
            Form::Plain => vec![],
            // -k: what sudo remembers it would ask for at some times and not at others. Its words are read, so they are English.
            Form::Sudo => vec!["env", "LC_ALL=C", "sudo", "-k", "-n", "--"],
            Form::SudoWithPassword => SUDO_WITH_PASSWORD.to_vec(),
        };
        words.extend(["bash", "-c", load.as_str(), title.as_str()]);
        words.extend(self.args.iter().map(String::as_str));
        words.into_iter().map(quote).collect::<Vec<_>>().join(" ")
    }

    /// How many bytes it may print where its output is held in memory (I8).
    #[must_use]
    pub fn longest_output(&self) -> usize {
        // Many masters are looked at at once, and none has that much to tell.
        if self.name == "facts" { 8 << 20 } else { LONGEST_OUTPUT }
    }

    /// What goes to stdin before anything else.
    #[must_use]
    pub fn input(&self, form: Form, password: Option<&str>) -> Vec<u8> {
        match (form, password) {
            (Form::SudoWithPassword, Some(password)) => format!("{password}\n{MARK}\n{}", self.text).into_bytes(),
            _ => self.text.clone().into_bytes(),
        }
    }
}

/// What a script may print, and complain of.
pub const LONGEST_OUTPUT: usize = 32 << 20;

/// Ends what is meant for sudo.
const MARK: &str = "tanker-begins-here";

/// sudo that reads a password from stdin.
pub const SUDO_WITH_PASSWORD: [&str; 8] = ["env", "LC_ALL=C", "sudo", "-k", "-S", "-p", "", "--"];

/// How a script is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As the user who logged in.
    Plain,
    /// Under sudo, which asks for nothing.
    Sudo,
    /// Under sudo, with a password on stdin.
    SudoWithPassword,
}

/// Quotes one word for a POSIX shell: the only way in which parameters reach a master.
#[must_use]
pub fn quote(word: &str) -> String {
    let plain = !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-=:@%+,".contains(&b));
    if plain { word.to_owned() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn words_reach_the_far_shell_as_they_are() {
        for word in ["plain", "", "two words", "it's", "$(reboot)", "`id`", "a\nb", "\\", "*", "ünïcode", "-n", "'"] {
            let out = Command::new("sh").arg("-c").arg(format!("printf %s {}", quote(word))).output().unwrap();
            assert_eq!(String::from_utf8_lossy(&out.stdout), word, "{word:?}");
        }
    }

    #[test]
    fn a_script_that_arrives_cut_short_does_not_run_at_all() {
        let script = Script::new("probe", "printf '%s|' \"$@\"; cat", vec!["a b".into(), "$x".into()]);
        let run = |input: &[u8]| {
            let mut child =
                Command::new("sh").arg("-c").arg(script.command(Form::Plain)).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
            child.stdin.take().unwrap().write_all(input).unwrap();
            child.wait_with_output().unwrap()
        };
        let whole = [script.input(Form::Plain, None), b"rest of stdin".to_vec()].concat();
        assert_eq!(String::from_utf8_lossy(&run(&whole).stdout), "a b|$x|rest of stdin");
        let cut = run(&whole[..script.input(Form::Plain, None).len() - 1]);
        assert!(!cut.status.success() && cut.stdout.is_empty());
    }
}
