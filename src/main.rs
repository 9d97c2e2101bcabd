//! Parse, wire up, render, exit: nothing else.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use clap::Parser;
use color_eyre::eyre::{Report, WrapErr};

use tanker::cli::{self, Cli, Command};
use tanker::commands::{Context, backup, check, restore, status, trust};
use tanker::exit::{USAGE, exit_code};
use tanker::fleet::cancellation;
use tanker::interrupt::interrupted;
use tanker::library::{Entry, Library, LibraryError, Problem, extract, list_files, verify};
use tanker::model::id::{BackupRef, HostName};
use tanker::model::inventory::{Inventory, parse_inventory};
use tanker::model::pattern::select;
use tanker::model::report::Severity;
use tanker::model::restore_plan::RestoreOptions;
use tanker::remote::ssh::{Keyring, expand};
use tanker::ui;

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
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let start = Start { inventory: cli.inventory, library: cli.library, quiet: cli.quiet, home };
    match cli.command {
        Command::Check(args) => start.check(args).await,
        Command::Backup(args) => start.backup(args).await,
        Command::Status(args) => start.status(args).await,
        Command::Thaw(args) => start.thaw(args).await,
        Command::Restore(args) => start.restore(args).await,
        Command::Trust(args) => start.trust(args).await,
        Command::List(args) => start.list(&args),
        Command::Show(args) => start.show(&args),
        Command::Verify(args) => start.verify(&args),
        Command::Files(args) => start.files(&args.backup),
        Command::Extract(args) => start.extract(&args),
    }
}

/// What every verb starts from.
struct Start {
    inventory: Option<PathBuf>,
    library: Option<PathBuf>,
    quiet: bool,
    home: PathBuf,
}

impl Start {
    fn inventory(&self) -> Result<Inventory, Report> {
        let path = self.inventory_path()?;
        let text = std::fs::read_to_string(&path).wrap_err_with(|| format!("the inventory {} can't be read", path.display()))?;
        let mut inventory = parse_inventory(&path.display().to_string(), &text)?;
        if let Some(library) = &self.library {
            inventory.library.clone_from(library);
            inventory.hosts.iter_mut().for_each(|host| host.library.clone_from(library));
        }
        Ok(inventory)
    }

    fn inventory_path(&self) -> Result<PathBuf, Report> {
        if let Some(path) = &self.inventory {
            return Ok(path.clone());
        }
        let config =
            std::env::var_os("XDG_CONFIG_HOME").map_or_else(|| self.home.join(".config"), PathBuf::from).join("tanker/inventory.toml");
        let places = [PathBuf::from("inventory.toml"), config];
        places.iter().find(|path| path.exists()).cloned().ok_or_else(|| {
            Report::msg(format!(
                "there is no inventory: neither {} nor {} is there; name one with -i",
                places[0].display(),
                places[1].display()
            ))
        })
    }

    /// The inventory, the hosts that the patterns choose, and what a verb on them works with.
    fn context(&self, patterns: &[String]) -> Result<(Context, Vec<HostName>), Report> {
        let inventory = self.inventory()?;
        let hosts = select(&inventory, patterns)?;
        let context = self.context_for(inventory, &hosts)?;
        Ok((context, hosts))
    }

    fn context_for(&self, inventory: Inventory, hosts: &[HostName]) -> Result<Context, Report> {
        let chosen = inventory.hosts.iter().filter(|host| hosts.contains(&host.name));
        let keyring = Keyring::load(chosen, &self.home, &mut ui::ask_passphrase)?;
        let (canceller, cancel) = cancellation();
        tokio::spawn(async move {
            while interrupted().await.is_ok() {
                ui::err("\ntanker: stopping cleanly: thawing and cleaning up on the masters; please wait\n");
                canceller.cancel();
            }
        });
        let user = std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into());
        let workstation = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Ok(Context {
            inventory: Arc::new(inventory),
            keyring: Arc::new(keyring),
            home: self.home.clone(),
            owner: format!("{user}@{workstation} process {}", std::process::id()),
            cancel,
            monitor: ui::monitor(hosts, self.quiet),
            clock: Utc::now,
        })
    }

    async fn check(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let (ctx, hosts) = self.context(&args.pattern)?;
        let (report, found) = check::check(&ctx, &hosts, forks(&ctx, args.forks)).await;
        for (host, checked) in &found {
            ui::out(&ui::checked(host, checked));
        }
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn backup(&self, args: cli::Backup) -> Result<Severity, Report> {
        let (ctx, hosts) = self.context(&args.fleet.pattern)?;
        let options = backup::Options {
            forks: forks(&ctx, args.fleet.forks),
            dry_run: args.dry_run,
            ignore_tasks: args.ignore_tasks,
            freeze: args.freeze.map(Into::into),
            freeze_timeout: args.freeze_timeout.map(Duration::from_secs),
            light: args.light,
        };
        let report = backup::backup(&ctx, &hosts, options).await;
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn status(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let (ctx, hosts) = self.context(&args.pattern)?;
        let (report, found) = status::status(&ctx, &hosts, forks(&ctx, args.forks)).await;
        for (host, jobs) in &found {
            ui::out(&ui::jobs(host, jobs));
        }
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn thaw(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let (ctx, hosts) = self.context(&args.pattern)?;
        let report = status::thaw(&ctx, &hosts, forks(&ctx, args.forks)).await;
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn restore(&self, args: cli::Restore) -> Result<Severity, Report> {
        let (ctx, _) = self.context(&[args.to.to_string()])?;
        let way = if args.rollback { restore::Way::Rollback } else { restore::Way::Resume };
        let Some(backup) = &args.backup else {
            let report = restore::finish(&ctx, &args.to, way).await;
            ui::out(&ui::recap(&report));
            return Ok(report.worst());
        };
        let only: Vec<_> = args.only.into_iter().map(Into::into).collect();
        let options = RestoreOptions { ignore_tasks: args.ignore_tasks, only: &only };
        let prepared = match restore::prepare(&ctx, backup, &args.to, options).await {
            Ok(prepared) => prepared,
            Err(report) => {
                ui::out(&ui::recap(&report));
                return Ok(report.worst());
            }
        };
        ui::out(&ui::plan(&prepared.name, &args.to, &prepared.plan));
        if args.dry_run {
            prepared.leave().await;
            return Ok(Severity::Ok);
        }
        if !args.yes {
            let answer = tokio::task::block_in_place(|| ui::confirm_name(args.to.as_str()));
            if answer != Some(true) {
                prepared.leave().await;
                let why =
                    if answer.is_none() { "there is no terminal to ask on: say --yes if you mean it" } else { "that is not its name" };
                ui::err(&format!("tanker: {why}; nothing was changed\n"));
                return Ok(Severity::Refused);
            }
        }
        let report = restore::execute(&ctx, prepared).await;
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn trust(&self, args: cli::Trust) -> Result<Severity, Report> {
        let inventory = self.inventory()?;
        select(&inventory, &[args.host.to_string()])?;
        let ctx = self.context_for(inventory, std::slice::from_ref(&args.host))?;
        let shown = match trust::look_at_key(&ctx, &args.host).await {
            Ok(shown) => shown,
            Err(reason) => {
                ui::err(&format!("tanker: {}: {reason}\n", args.host));
                return Ok(Severity::Unreachable);
            }
        };
        ui::out(&ui::shown_key(&shown));
        let refuse = |why: &str| {
            ui::err(&format!("tanker: {why}; nothing was changed\n"));
            Ok(Severity::Refused)
        };
        match &shown.verdict {
            tanker::remote::ssh::Verdict::Known => return Ok(Severity::Ok),
            tanker::remote::ssh::Verdict::Revoked => return refuse("a revoked key is never trusted"),
            tanker::remote::ssh::Verdict::Changed(_) if !args.rebuilt => {
                return refuse("the key has changed: say --rebuilt if the host was rebuilt");
            }
            _ => {}
        }
        if !args.yes {
            match tokio::task::block_in_place(|| ui::confirm_yes("Trust this key?")) {
                Some(true) => {}
                Some(false) => return refuse("not trusted"),
                None => return refuse("there is no terminal to ask on: say --yes if you have compared the fingerprint"),
            }
        }
        trust::accept(&ctx, &shown, args.rebuilt).map_err(Report::msg)?;
        ui::out(&format!("trusted {}\n", args.host));
        Ok(Severity::Ok)
    }

    /// Every library that the inventory names; with `--library` only that one, and no inventory is needed.
    fn libraries(&self) -> Result<Vec<Library>, Report> {
        if let Some(library) = &self.library {
            if !library.is_dir() {
                return Err(Report::msg(format!("there is no library at {}", library.display())));
            }
            return Ok(vec![Library::at(library.clone())]);
        }
        let inventory = self.inventory()?;
        let mut roots: Vec<PathBuf> = vec![expand(&inventory.library, &self.home)];
        for host in &inventory.hosts {
            let root = expand(&host.library, &self.home);
            if !roots.contains(&root) {
                roots.push(root);
            }
        }
        Ok(roots.into_iter().map(Library::at).collect())
    }

    fn everything(&self) -> Result<(Vec<Entry>, Vec<Problem>), Report> {
        let mut entries = Vec::new();
        let mut problems = Vec::new();
        for library in self.libraries()? {
            let (some, bad) = library.list(None)?;
            entries.extend(some);
            problems.extend(bad);
        }
        entries.sort_by_key(|entry: &Entry| entry.manifest.description.started);
        Ok((entries, problems))
    }

    fn find(&self, backup: &BackupRef) -> Result<Result<Entry, LibraryError>, Report> {
        let mut missing = None;
        for library in self.libraries()? {
            match library.find(backup) {
                Err(e @ LibraryError::NoSuchBackup { .. }) => missing = missing.or(Some(e)),
                found => return Ok(found),
            }
        }
        Ok(Err(missing.unwrap_or_else(|| LibraryError::Missing("there is no library".into()))))
    }

    fn list(&self, args: &cli::List) -> Result<Severity, Report> {
        let (mut entries, problems) = self.everything()?;
        if !args.pattern.is_empty() {
            let hosts = chosen_in_library(&entries, self.inventory().ok(), &args.pattern)?;
            entries.retain(|entry| hosts.contains(&entry.manifest.description.host));
        }
        if args.json {
            ui::out(&ui::list_json(&entries, &problems));
        } else {
            ui::out(&ui::list_table(&entries, Utc::now()));
            for problem in &problems {
                ui::err(&format!("tanker: {}: {}\n", problem.name(), problem.reason));
            }
        }
        Ok(if problems.is_empty() { Severity::Ok } else { Severity::Damaged })
    }

    fn show(&self, args: &cli::Show) -> Result<Severity, Report> {
        let entry = match self.find(&args.backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        if args.json {
            ui::out(&format!("{}\n", serde_json::to_string_pretty(&entry.manifest)?));
        } else {
            ui::out(&ui::show(&entry, Utc::now()));
        }
        Ok(Severity::Ok)
    }

    fn verify(&self, args: &cli::Verify) -> Result<Severity, Report> {
        let mut worst = Severity::Ok;
        let mut entries = Vec::new();
        if args.all {
            let (all, problems) = self.everything()?;
            entries = all;
            if entries.is_empty() && problems.is_empty() {
                ui::err("tanker: there is no backup to verify\n");
                return Ok(Severity::Refused);
            }
            for problem in problems {
                ui::out(&format!("{}  DAMAGED  {}\n", problem.name(), problem.reason));
                worst = Severity::Damaged;
            }
        }
        for backup in &args.backups {
            match self.find(backup)? {
                Ok(entry) => entries.push(entry),
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        for entry in entries {
            match verify(&entry) {
                Ok(tanker::library::Depth::Decompressed) => {
                    ui::out(&format!("{}  ok  SHA-256, decompressed, every member\n", entry.name()))
                }
                Ok(tanker::library::Depth::Hashed) => {
                    ui::out(&format!("{}  ok  SHA-256 only: lrzip is not installed here\n", entry.name()))
                }
                Err(LibraryError::Damaged { name, reason }) => {
                    ui::out(&format!("{name}  DAMAGED  {reason}\n"));
                    worst = Severity::Damaged;
                }
                Err(e) => worst = worst.max(complain(&e)),
            }
        }
        Ok(worst)
    }

    fn files(&self, backup: &BackupRef) -> Result<Severity, Report> {
        let entry = match self.find(backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        match list_files(&entry.archive(), &entry.manifest.description) {
            Ok(files) => {
                ui::out(&files.iter().map(|(path, file)| ui::file_line(path, file)).collect::<String>());
                Ok(Severity::Ok)
            }
            Err(reason) => Ok(complain(&LibraryError::Damaged { name: entry.name(), reason })),
        }
    }

    fn extract(&self, args: &cli::Extract) -> Result<Severity, Report> {
        let entry = match self.find(&args.backup)? {
            Ok(entry) => entry,
            Err(e) => return Ok(complain(&e)),
        };
        std::fs::create_dir_all(&args.to).wrap_err_with(|| format!("the folder {} can't be made", args.to.display()))?;
        match extract(&entry.archive(), &entry.manifest.description, &args.path, Path::new(&args.to)) {
            Ok(()) => Ok(Severity::Ok),
            Err(reason) => Ok(complain(&LibraryError::Missing(reason))),
        }
    }
}

fn forks(ctx: &Context, asked: Option<u16>) -> usize {
    asked.map_or(ctx.inventory.forks, usize::from)
}

fn complain(error: &LibraryError) -> Severity {
    ui::err(&format!("tanker: {error}\n"));
    match error {
        LibraryError::Damaged { .. } => Severity::Damaged,
        LibraryError::File { .. } => Severity::Failed,
        _ => Severity::Refused,
    }
}

/// Patterns over the hosts of the library, which may hold more than the inventory knows.
fn chosen_in_library(entries: &[Entry], inventory: Option<Inventory>, patterns: &[String]) -> Result<Vec<HostName>, Report> {
    let text: String = entries
        .iter()
        .map(|entry| format!("[hosts.'{0}']\naddress='{0}'\n", entry.manifest.description.host))
        .collect::<std::collections::BTreeSet<_>>()
        .into_iter()
        .collect();
    let mut known = parse_inventory("library", &text)?;
    if let Some(inventory) = inventory {
        known.groups = inventory.groups;
        for host in inventory.hosts {
            if known.host(&host.name).is_none() {
                known.hosts.push(host);
            }
        }
    }
    Ok(select(&known, patterns)?)
}
