//! The verbs around the daily work: report, init, config check, completions, man pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use chrono::Utc;
use clap::CommandFactory;
use color_eyre::eyre::{Report, WrapErr};

use tanker::cli::{self, Cli};
use tanker::model::id::HostName;
use tanker::model::inventory::{EncryptTo, is_remote, parse_inventory, parse_jump};
use tanker::model::outlook::{Limits, Outlook, Seen, Weight, outlook};
use tanker::model::report::Severity;
use tanker::model::secret::SecretSource;
use tanker::remote::ssh::{expand, of_user};
use tanker::ui;

use crate::Start;
use crate::shelf::Chosen;

impl Start {
    pub(crate) fn report(&self, args: &cli::ReportArgs) -> Result<Severity, Report> {
        let Chosen { entries, problems, hosts: chosen } = self.chosen(&args.pattern)?;
        // Without it hosts that have no backup are not missed; one that can't be read must not hide them.
        let inventory = self.inventory_if_any()?;
        let mut hosts: BTreeSet<HostName> = entries.iter().map(|entry| entry.manifest.description.host.clone()).collect();
        hosts.extend(inventory.iter().flat_map(|inventory| inventory.hosts.iter().map(|host| host.name.clone())));
        hosts.extend(problems.iter().filter_map(tanker::library::Problem::host));
        if let Some(chosen) = chosen {
            hosts.retain(|host| chosen.contains(host));
        }
        let mut backups: BTreeMap<&HostName, Vec<Seen<'_>>> = BTreeMap::new();
        for entry in &entries {
            let seen = Seen { manifest: &entry.manifest, record: &entry.record };
            backups.entry(&entry.manifest.description.host).or_default().push(seen);
        }
        let mut broken: BTreeMap<HostName, Vec<String>> = BTreeMap::new();
        for problem in &problems {
            match problem.host().filter(|_| !problem.is_newer()) {
                Some(host) => broken.entry(host).or_default().push(format!("{}: {}", problem.name(), problem.reason)),
                None => ui::err(&format!("tanker: {}: {}\n", problem.name(), problem.reason)),
            }
        }
        let limits = Limits { backup: args.max_age, drill: args.max_drill_age };
        let now = Utc::now();
        let outlooks: Vec<Outlook<'_>> = hosts
            .iter()
            .map(|host| {
                let broken = broken.get(host).map(Vec::as_slice).unwrap_or_default();
                outlook(host.clone(), backups.remove(host).unwrap_or_default(), broken, limits, now)
            })
            .collect();
        ui::out(&if args.json { ui::report_json(&outlooks, now) } else { ui::report(&outlooks, now) });
        if let Some(file) = &args.html {
            replace(file, &ui::page(&outlooks, now))?;
        }
        if let Some(file) = &args.prometheus {
            replace(file, &ui::prometheus(&outlooks, now))?;
        }
        let at_risk = outlooks.iter().any(|outlook| outlook.worst() == Some(Weight::Risk));
        Ok(tanker::library::Problem::severity_of(&problems).max(if at_risk { Severity::Failed } else { Severity::Ok }))
    }

    pub(crate) fn init(&self, args: &cli::Init) -> Result<Severity, Report> {
        let file = args.to.clone().or_else(|| self.inventory.clone()).unwrap_or_else(|| self.usual_inventory());
        if file.exists() {
            return Err(Report::msg(format!("{} is there already: tanker doesn't write over it", file.display())));
        }
        let hosts = if args.hosts.is_empty() { self.hosts_of_ssh_config() } else { args.hosts.clone() };
        let as_it_is = |library: &Path| is_remote(library) || library.starts_with("~");
        let absolute = |library: &PathBuf| std::path::absolute(library).unwrap_or_else(|_| library.clone());
        let library = self.library.as_ref().map(|library| if as_it_is(library) { library.clone() } else { absolute(library) });
        let text = inventory_text(&hosts, library.as_deref())?;
        parse_inventory(&file.display().to_string(), &text)?;
        if let Some(folder) = file.parent() {
            fs::create_dir_all(folder).wrap_err_with(|| format!("the folder {} can't be made", folder.display()))?;
        }
        replace(&file, &text)?;
        let next = match hosts.is_empty() {
            true => "next: put your Fuel masters into it, a [hosts.NAME] each".to_owned(),
            false => format!(
                "it names {}: take out what is no Fuel master\nnext: tanker trust HOST shows a host's key and asks; tanker check looks at every master and changes nothing",
                hosts.join(", ")
            ),
        };
        let read = self.inventory_path().ok().filter(|read| std::path::absolute(read).ok() != std::path::absolute(&file).ok());
        let other =
            read.map_or_else(String::new, |read| format!("here {} is read instead of it: say '-i {}'\n", read.display(), file.display()));
        ui::out(&format!("written: {}\n{other}{next}\n", file.display()));
        Ok(Severity::Ok)
    }

    /// The hosts that ~/.ssh/config names one by one; patterns are none.
    fn hosts_of_ssh_config(&self) -> Vec<String> {
        let Some(config) = of_user(&self.asker()) else { return Vec::new() };
        config.hosts().into_iter().filter(|name| name.parse::<HostName>().is_ok()).map(str::to_owned).collect()
    }

    pub(crate) fn config_check(&self) -> Result<Severity, Report> {
        let path = self.inventory_path()?;
        let inventory = self.inventory()?;
        let mut text = format!("{}\n", path.display());
        let mut bad = Vec::new();
        let mut addresses: BTreeMap<(&str, u16), &HostName> = BTreeMap::new();
        for host in &inventory.hosts {
            let endpoint = &host.target.endpoint;
            // The inventory refuses what it says itself; what ~/.ssh/config makes of two names comes out only here. Behind jump hosts one
            // address can be two masters.
            if host.jump.is_empty()
                && let Some(other) = addresses.insert((endpoint.address.as_str(), endpoint.port), &host.name)
            {
                bad.push(format!(
                    "{}: it is {other} by another name, for both are {}:{}: what works on all hosts would go there twice; take one of them out",
                    host.name, endpoint.address, endpoint.port
                ));
            }
            for note in &host.notes {
                let _ = writeln!(text, "  {}: {note}", host.name);
            }
            bad.extend(host.refusal.iter().map(|why| format!("{}: no verb reaches it: {why}", host.name)));
            if !host.spool && host.upkeep.encryption.is_some() {
                bad.push(format!(
                    "{}: every backup of it would be refused: with 'spool = false' an archive is packed on this disk before it can be encrypted; make room on the master, or say 'encrypt_to = []' for this host",
                    host.name
                ));
            }
            for identity in host.target.identity.iter().filter(|_| host.given.identity) {
                let identity = expand(identity, &self.home);
                if !identity.exists() {
                    bad.push(format!("{}: the identity {} is not there", host.name, identity.display()));
                } else if let Err(e) = tanker::remote::ssh::look_at_identity(&identity) {
                    bad.push(format!("{}: {e}", host.name));
                }
            }
            for known in &host.target.known_hosts {
                let known = expand(known, &self.home);
                if let Some(e) = fs::read(&known).err().filter(|e| e.kind() != std::io::ErrorKind::NotFound) {
                    bad.push(format!("{}: the known hosts in {} can't be read: {e}", host.name, known.display()));
                }
            }
            let library = expand(&host.library, &self.home);
            if library.exists() && !library.is_dir() {
                bad.push(format!("{}: the library {} is no folder", host.name, library.display()));
            } else if !library.exists() {
                let _ = writeln!(text, "  {}: the library {} is not there yet: the first backup makes it", host.name, library.display());
            }
        }
        for key in &inventory.decrypt_with {
            let key = expand(key, &self.home);
            if !key.exists() {
                bad.push(format!("the key {} is not there", key.display()));
            }
        }
        let names: Vec<HostName> = inventory.hosts.iter().map(|host| host.name.clone()).collect();
        // A passphrase that would be asked for needs no terminal here.
        let asks = |host: &&tanker::model::inventory::Host| !matches!(host.upkeep.encryption, Some(EncryptTo::Passphrase(_)));
        let plain: Vec<HostName> = inventory.hosts.iter().filter(asks).map(|host| host.name.clone()).collect();
        for (host, recipients) in self.recipients_of_each(&inventory, &plain) {
            bad.extend(recipients.err().map(|why| format!("{host}: {why}")));
        }
        let encrypted = inventory.hosts.iter().filter(|host| host.upkeep.encryption.is_some()).count();
        let kept = inventory.hosts.iter().filter(|host| host.upkeep.keep.is_some()).count();
        let _ = writeln!(
            text,
            "  {} hosts, {} groups, {} remotes; {encrypted} hosts with encryption, {kept} with a retention policy",
            names.len(),
            inventory.groups.len(),
            inventory.remotes.len()
        );
        for remote in &inventory.remotes {
            let Some(identity) = remote.options.get("identity").map(|path| expand(Path::new(path), &self.home)) else { continue };
            if !identity.exists() {
                bad.push(format!("the identity {} of the remote {} is not there", identity.display(), remote.name));
            }
        }
        let remotes = inventory
            .remotes
            .iter()
            .flat_map(|remote| remote.secrets.iter().map(|(key, from)| (format!("{} of the remote {}", key, remote.name), from)));
        let passwords = inventory.hosts.iter().flat_map(|host| {
            let ssh = host.password.as_ref().map(|password| (format!("password of {}", host.name), &password.source));
            let sudo = host.sudo_password.as_ref().map(|password| (format!("sudo_password of {}", host.name), &password.source));
            let passphrase = match &host.upkeep.encryption {
                Some(EncryptTo::Passphrase(source)) => Some((format!("encrypt_passphrase of {}", host.name), source)),
                _ => None,
            };
            ssh.into_iter().chain(sudo).chain(passphrase)
        });
        for (what, source) in passwords.chain(remotes) {
            match source {
                SecretSource::File(path) if !expand(path, &self.home).exists() => {
                    bad.push(format!("{what}: the file {} is not there", path.display()))
                }
                SecretSource::Env(name) if std::env::var_os(name).is_none() => bad.push(format!("{what}: the environment has no {name}")),
                _ => {}
            }
        }
        bad.dedup();
        if bad.is_empty() {
            text.push_str("  ok\n");
        }
        ui::out(&text);
        if bad.is_empty() { Ok(Severity::Ok) } else { Err(Report::msg(bad.join("\ntanker: "))) }
    }

    pub(crate) fn completions(&self, args: &cli::Completions) -> Result<Severity, Report> {
        let mut bytes = Vec::new();
        clap_complete::generate(args.shell, &mut Cli::command(), "tanker", &mut bytes);
        ui::out(&String::from_utf8_lossy(&bytes));
        Ok(Severity::Ok)
    }

    pub(crate) fn man(&self, args: &cli::Man) -> Result<Severity, Report> {
        let Some(folder) = &args.to else {
            let mut bytes = Vec::new();
            clap_mangen::Man::new(Cli::command()).render(&mut bytes)?;
            ui::out(&String::from_utf8_lossy(&bytes));
            return Ok(Severity::Ok);
        };
        fs::create_dir_all(folder).wrap_err_with(|| format!("the folder {} can't be made", folder.display()))?;
        clap_mangen::generate_to(Cli::command(), folder).wrap_err_with(|| format!("{} can't be written", folder.display()))?;
        Ok(Severity::Ok)
    }
}

/// A commented inventory with these hosts.
fn inventory_text(hosts: &[String], library: Option<&Path>) -> Result<String, Report> {
    let library = library.map_or_else(|| "~/tanker".to_owned(), |library| library.display().to_string());
    let library = format!("\"{}\"", library.replace('\\', "\\\\").replace('"', "\\\""));
    let mut text = String::from(
        "# tanker's inventory. Every key with its default: `inventory.example.toml` of the project.\n\n[defaults]\n# Where archives are kept: <library>/<host>/<id>/.\nlibrary = {LIBRARY}\n\
         # What `tanker forget` keeps.\nkeep = { last = 3, daily = 7, weekly = 4, monthly = 6 }\n\
         # Archives hold keys and databases: age recipients that may read them (age-keygen makes a key). Without any they lie here as they are.\n# encrypt_to = [\"age1…\"]\n# decrypt_with = [\"~/.config/tanker/key.txt\"]\n",
    );
    text = text.replace("{LIBRARY}", &library);
    let mut named: BTreeSet<String> = BTreeSet::new();
    if hosts.is_empty() {
        text.push_str("\n# One table for each Fuel master.\n# [hosts.prod-east]\n# address = \"10.20.0.2\"\n");
    }
    for host in hosts {
        let (user, address, port) = parse_jump(host).map_err(|e| Report::msg(e.to_string().replace("jump host", "host")))?;
        let name: String = address.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
        let name = if host.parse::<HostName>().is_ok() { host.clone() } else { name.trim_matches('-').to_owned() };
        if let Some(odd) = host.chars().find(|c| "'\"\\".contains(*c)) {
            return Err(Report::msg(format!("'{host}' is no host: {odd} can't stand in [user@]address[:port]")));
        }
        if !named.insert(name.clone()) {
            return Err(Report::msg(format!("'{name}' is named twice")));
        }
        if host.parse::<HostName>().is_ok() {
            // Looked up in ~/.ssh/config by its name.
            let _ = write!(text, "\n[hosts.'{host}']\n");
            continue;
        }
        let _ = write!(text, "\n[hosts.'{name}']\naddress = \"{address}\"\n");
        if let Some(user) = user {
            let _ = writeln!(text, "user = \"{user}\"");
            if user != "root" {
                text.push_str("sudo = true\n");
            }
        }
        if let Some(port) = port {
            let _ = writeln!(text, "port = {port}");
        }
    }
    text.push_str(
        "\n# A second place for copies: `tanker sync --to vault`.\n# [remotes.vault]\n# url = \"sftp://backup@vault.example.net/tanker\"\n",
    );
    Ok(text)
}

/// Whole or not at all: who reads it meanwhile finds the old one.
fn replace(file: &Path, text: &str) -> Result<(), Report> {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut new = match tempfile::NamedTempFile::new_in(folder) {
        Ok(new) => new,
        Err(_) if !folder.is_dir() => {
            return Err(Report::msg(format!("{} can't be written: the folder {} is not there", file.display(), folder.display())));
        }
        Err(e) => return Err(Report::msg(format!("{} can't be written: {}", file.display(), e.kind()))),
    };
    new.write_all(text.as_bytes()).wrap_err_with(|| format!("{} can't be written", file.display()))?;
    // Readable for a web server and for node_exporter: it holds no secret.
    tanker::platform::let_others_read(new.as_file()).wrap_err_with(|| format!("{} can't be written", file.display()))?;
    new.persist(file).wrap_err_with(|| format!("{} can't be written", file.display()))?;
    Ok(())
}
