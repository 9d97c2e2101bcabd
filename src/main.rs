//! Parse, wire up, render, exit: nothing else. The verbs on masters are in `masters`, those on the library in `shelf`, `upkeep` and `offsite`.

mod around;
mod awake;
mod away;
mod emptying;
mod homes;
mod masters;
mod offsite;
mod proof;
mod shelf;
mod upkeep;
mod vault;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};

use chrono::Utc;
use clap::Parser;
use color_eyre::eyre::{Report, WrapErr};

use tanker::cli::{self, Cli, Command};
use tanker::commands::{Context, Vault};
use tanker::exit::{USAGE, exit_code};
use tanker::fleet::cancellation;
use tanker::model::id::HostName;
use tanker::model::inventory::{EncryptTo, Host, Inventory, Password, parse_inventory};
use tanker::model::pattern::Choice;
use tanker::model::report::Severity;
use tanker::model::secret::SecretSource;
use tanker::platform::{Stop, host_name, interrupted, is_ours};
use tanker::remote::ssh::{Asker, Keyring, complete};
use tanker::ui;

use crate::homes::{Home, concerns_libraries};

fn main() -> ExitCode {
    // Its panic hook shows a short report instead of a raw backtrace; that it is installed already would be no fault.
    let _ = color_eyre::config::HookBuilder::default().display_env_section(false).install();
    let cli = Cli::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let result = runtime.map_err(Report::from).and_then(|runtime| runtime.block_on(run(cli)));
    match result {
        Ok(severity) if ui::output_was_lost() => exit_code(severity.max(Severity::Failed)),
        Ok(severity) => exit_code(severity),
        Err(report) => {
            ui::err(&format!("tanker: {report:#}\n"));
            ExitCode::from(USAGE)
        }
    }
}

async fn run(cli: Cli) -> Result<Severity, Report> {
    // A service need not have been told: then the system knows. Where nobody does, what needs one says that it isn't there.
    let home = std::env::home_dir().filter(|home| home.is_absolute()).unwrap_or_else(|| PathBuf::from("/nonexistent"));
    if cli.quiet {
        ui::be_quiet();
    }
    if cli.verbose > 0 {
        ui::be_verbose();
    }
    let start = Start {
        inventory: cli.inventory,
        library: cli.library,
        key: cli.key,
        quiet: cli.quiet,
        verbose: cli.verbose,
        home,
        homes: OnceLock::new(),
    };
    if !concerns_libraries(&cli.command) {
        return start.run(cli.command).await;
    }
    start.open_homes().await?;
    let result = start.run(cli.command).await;
    // Also where the verb failed: what it did change is brought home.
    let settled = start.settle().await;
    Ok(result?.max(settled))
}

/// What every verb starts from.
struct Start {
    inventory: Option<PathBuf>,
    library: Option<PathBuf>,
    key: Vec<PathBuf>,
    quiet: bool,
    verbose: u8,
    home: PathBuf,
    homes: OnceLock<Vec<Home>>,
}

impl Start {
    async fn run(&self, command: Command) -> Result<Severity, Report> {
        match command {
            Command::Check(args) => self.check(args).await,
            Command::Backup(args) => self.backup(args).await,
            Command::Status(args) => self.status(args).await,
            Command::Thaw(args) => self.thaw(args).await,
            Command::Clean(args) => self.clean(args).await,
            Command::Restore(args) => self.restore(args).await,
            Command::Hosts(args) => self.hosts(args).await,
            Command::Trust(args) => self.trust(args).await,
            Command::List(args) => self.list(&args).await,
            Command::Show(args) => self.show(&args),
            Command::Verify(args) => self.verify(&args).await,
            Command::Stats(args) => self.stats(&args),
            Command::Diff(args) => self.diff(&args).await,
            Command::Tag(args) => self.tag(&args),
            Command::Protect(args) => match self.may_renew(&args)? {
                Severity::Ok => self.protect(&args),
                refused => Ok(refused),
            },
            Command::Unprotect(args) => self.unprotect(&args),
            Command::Note(args) => self.note(&args),
            Command::Forget(args) => self.forget(&args).await,
            Command::Undelete(args) => self.undelete(&args),
            Command::Rekey(args) => self.rekey(&args).await,
            Command::Copy(args) => self.copy(&args).await,
            Command::Sync(args) => self.sync(&args).await,
            Command::Report(args) => self.report(&args),
            Command::Init(args) => self.init(&args),
            Command::Config(cli::Config { verb: cli::ConfigVerb::Check }) => self.config_check(),
            Command::Completions(args) => self.completions(&args),
            Command::Man(args) => self.man(&args),
            Command::Drill(args) => self.drill(&args).await,
            Command::Files(args) => self.files(&args.backup).await,
            Command::Extract(args) => self.extract(&args).await,
            Command::Export(args) => self.export(&args).await,
            Command::Import(args) => self.import(&args),
        }
    }

    fn asker(&self) -> Asker {
        Asker { user: user(), workstation: host_name(), home: self.home.clone() }
    }

    fn inventory(&self) -> Result<Inventory, Report> {
        let path = self.inventory_path()?;
        let unreadable = || format!("the inventory {} can't be read", path.display());
        let mut file = std::fs::File::open(&path).wrap_err_with(unreadable)?;
        let mut text = String::new();
        file.read_to_string(&mut text).wrap_err_with(unreadable)?;
        let mut inventory = parse_inventory(&path.display().to_string(), &text)?;
        let runs_commands = |password: &Option<Password>| matches!(password, Some(Password { source: SecretSource::Command(_), .. }));
        let has_hooks = |host: &Host| host.hooks.before.is_some() || host.hooks.after.is_some();
        let commands = |host: &Host| runs_commands(&host.password) || runs_commands(&host.sudo_password) || has_hooks(host);
        let secrets = || inventory.remotes.iter().flat_map(|remote| remote.secrets.values());
        let passphrase = |host: &Host| matches!(host.upkeep.encryption, Some(EncryptTo::Passphrase(SecretSource::Command(_))));
        if inventory.notify.is_some()
            || inventory.hosts.iter().any(|host| commands(host) || passphrase(host))
            || secrets().any(|source| matches!(source, SecretSource::Command(_)))
        {
            nobody_elses(&path, &file)?;
        }
        let asker = self.asker();
        complete(&mut inventory, &asker).map_err(Report::msg)?;
        if let Some(library) = &self.library {
            inventory.library.clone_from(library);
            inventory.hosts.iter_mut().for_each(|host| host.library.clone_from(library));
        }
        for library in inventory.hosts.iter_mut().map(|host| &mut host.library).chain([&mut inventory.library]) {
            *library = self.root_of(library);
        }
        Ok(inventory)
    }

    /// The inventory; none where there is none. One that can't be read may say what matters, so that is no none.
    fn inventory_if_any(&self) -> Result<Option<Inventory>, Report> {
        self.inventory_path().is_ok().then(|| self.inventory()).transpose()
    }

    /// The same for what only adds to an answer: that it can't be read is said.
    fn inventory_or_note(&self) -> Option<Inventory> {
        self.inventory_if_any().unwrap_or_else(|e| {
            ui::err_once(&format!("tanker: {e:#}; going on without it\n"));
            None
        })
    }

    fn state(&self) -> PathBuf {
        folder_of("XDG_STATE_HOME").unwrap_or_else(|| self.home.join(".local/state")).join("tanker")
    }

    fn inventory_path(&self) -> Result<PathBuf, Report> {
        if let Some(path) = &self.inventory {
            return Ok(path.clone());
        }
        let places = [PathBuf::from("inventory.toml"), self.usual_inventory()];
        places.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
            Report::msg(format!(
                "there is no inventory: neither {} nor {} is there; name one with -i, or 'tanker init' writes one to begin with",
                places[0].display(),
                places[1].display()
            ))
        })
    }

    fn usual_inventory(&self) -> PathBuf {
        folder_of("XDG_CONFIG_HOME").unwrap_or_else(|| self.home.join(".config")).join("tanker/inventory.toml")
    }

    /// The hosts that patterns and limits choose.
    fn choose(&self, inventory: &Inventory, hosts: &cli::Hosts) -> Result<Vec<HostName>, Report> {
        let failed = ui::failed_last_time(&self.state());
        Ok(Choice { inventory, failed: failed.as_deref() }.select(&hosts.pattern, &hosts.limit)?)
    }

    async fn context_for(
        &self,
        inventory: Inventory,
        hosts: &[HostName],
        vault: Vault,
        bwlimit: Option<u64>,
        json: bool,
    ) -> Result<Context, Report> {
        let chosen = inventory.hosts.iter().filter(|host| hosts.contains(&host.name));
        let keyring = Keyring::load(chosen, &self.home, bwlimit, &mut ui::ask_passphrase).await?;
        for note in &keyring.notes {
            ui::err(&format!("tanker: {note}\n"));
        }
        let (canceller, cancel) = cancellation();
        tokio::spawn(async move {
            while let Ok(why) = interrupted().await {
                // What a question is about has not been begun.
                if ui::is_asking() {
                    ui::err("\ntanker: stopped at a question: what it asks about was not done\n");
                    leave();
                }
                // First: what reads the output may have stopped, and a word could wait for it.
                canceller.cancel(why == Stop::GoingDown);
                let under_way = match why {
                    Stop::Told => "backups under way are given up and cleaned up",
                    Stop::GoingDown => {
                        "what the master packs or has been sent by now is left for a later run to go on with, other backups under way are given up and cleaned up"
                    }
                };
                ui::err(&format!(
                    "\ntanker: stopping: no further host is begun; {under_way}; a cutover that has begun goes on to its end; please wait\n"
                ));
            }
        });
        Ok(Context {
            inventory: Arc::new(inventory),
            keyring: Arc::new(keyring),
            vault: Arc::new(vault),
            home: self.home.clone(),
            state: self.state(),
            owner: owner(),
            cancel,
            monitor: ui::monitor(
                hosts,
                match (json, self.quiet) {
                    (true, _) => ui::Show::Stream(Utc::now),
                    (false, true) => ui::Show::Nothing,
                    (false, false) => ui::Show::Progress(self.verbose),
                },
            ),
            proving: Arc::new(tokio::sync::Semaphore::new(1)),
            clock: Utc::now,
        })
    }
}

/// A folder that the environment names; as its specification has it, what is empty or depends on where one stands names none.
fn folder_of(variable: &str) -> Option<PathBuf> {
    std::env::var_os(variable).map(PathBuf::from).filter(|folder| folder.is_absolute())
}

/// A question can't be ended otherwise: the thread that asks waits for a line.
#[allow(clippy::exit)]
fn leave() -> ! {
    std::process::exit(i32::from(tanker::exit::code(Severity::Interrupted)))
}

/// An inventory that names commands is one to be sure of: it may lie in whatever folder one stands in.
fn nobody_elses(path: &Path, file: &std::fs::File) -> Result<(), Report> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // The file that was read, not the one that has its name by now.
    if is_ours(&file.metadata()?) && is_ours(&std::fs::metadata(folder)?) {
        return Ok(());
    }
    Err(Report::msg(format!(
        "the inventory {} names a command, and others own it or can write it or its folder: 'chmod go-w', or name no command",
        path.display()
    )))
}

/// Who this is, for locks.
fn owner() -> String {
    format!("{}@{} process {}", user(), host_name(), std::process::id())
}

fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into())
}
