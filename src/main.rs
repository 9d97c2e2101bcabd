//! Parse, wire up, render, exit: nothing else. The verbs on masters are here, those on the library in `shelf`.

mod shelf;

use std::path::PathBuf;
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
use tanker::model::id::HostName;
use tanker::model::inventory::{Inventory, parse_inventory};
use tanker::model::pattern::select;
use tanker::model::report::Severity;
use tanker::model::restore_plan::RestoreOptions;
use tanker::remote::ssh::{Asker, Keyring, Verdict, complete};
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
        Command::Export(args) => start.export(&args),
        Command::Import(args) => start.import(&args),
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
        let asker = Asker { user: user(), workstation: workstation(), home: self.home.clone() };
        complete(&mut inventory, &asker).map_err(Report::msg)?;
        if let Some(library) = &self.library {
            inventory.library.clone_from(library);
            inventory.hosts.iter_mut().for_each(|host| host.library.clone_from(library));
        }
        Ok(inventory)
    }

    fn state(&self) -> PathBuf {
        std::env::var_os("XDG_STATE_HOME").map_or_else(|| self.home.join(".local/state"), PathBuf::from).join("tanker")
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
    async fn context(&self, patterns: &[String]) -> Result<(Context, Vec<HostName>), Report> {
        let inventory = self.inventory()?;
        let hosts = select(&inventory, patterns)?;
        let context = self.context_for(inventory, &hosts).await?;
        Ok((context, hosts))
    }

    async fn context_for(&self, inventory: Inventory, hosts: &[HostName]) -> Result<Context, Report> {
        let chosen = inventory.hosts.iter().filter(|host| hosts.contains(&host.name));
        let keyring = Keyring::load(chosen, &self.home, &mut ui::ask_passphrase).await?;
        let (canceller, cancel) = cancellation();
        tokio::spawn(async move {
            while interrupted().await.is_ok() {
                ui::err("\ntanker: stopping cleanly: thawing and cleaning up on the masters; please wait\n");
                canceller.cancel();
            }
        });
        Ok(Context {
            inventory: Arc::new(inventory),
            keyring: Arc::new(keyring),
            home: self.home.clone(),
            state: self.state(),
            owner: owner(),
            cancel,
            monitor: ui::monitor(hosts, self.quiet),
            clock: Utc::now,
        })
    }

    async fn check(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let (ctx, hosts) = self.context(&args.pattern).await?;
        let (report, found) = check::check(&ctx, &hosts, forks(&ctx, args.forks)).await;
        for (host, checked) in &found {
            ui::out(&ui::checked(host, checked));
        }
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn backup(&self, args: cli::Backup) -> Result<Severity, Report> {
        let (ctx, hosts) = self.context(&args.fleet.pattern).await?;
        let options = backup::Options {
            forks: forks(&ctx, args.fleet.forks),
            dry_run: args.dry_run,
            ignore_tasks: args.ignore_tasks,
            freeze: args.freeze.map(cli::FreezeArg::method),
            freeze_timeout: args.freeze_timeout.map(Duration::from_secs),
            light: args.light,
            no_spool: args.no_spool,
        };
        let report = backup::backup(&ctx, &hosts, options).await;
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn status(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let (ctx, hosts) = self.context(&args.pattern).await?;
        let (report, found) = status::status(&ctx, &hosts, forks(&ctx, args.forks)).await;
        for (host, jobs) in &found {
            ui::out(&ui::jobs(host, jobs));
        }
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn thaw(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let (ctx, hosts) = self.context(&args.pattern).await?;
        let report = status::thaw(&ctx, &hosts, forks(&ctx, args.forks)).await;
        ui::out(&ui::recap(&report));
        Ok(report.worst())
    }

    async fn restore(&self, args: cli::Restore) -> Result<Severity, Report> {
        let (ctx, _) = self.context(&[args.to.to_string()]).await?;
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
        let ctx = self.context_for(inventory, std::slice::from_ref(&args.host)).await?;
        let refuse = |why: &str| {
            ui::err(&format!("tanker: {why}; nothing was changed\n"));
            Ok(Severity::Refused)
        };
        // A jump host's key comes first: nothing behind it can be seen before it is known.
        loop {
            let shown = match trust::look_at_key(&ctx, &args.host).await {
                Ok(shown) => shown,
                Err(reason) => {
                    ui::err(&format!("tanker: {}: {reason}\n", args.host));
                    return Ok(Severity::Unreachable);
                }
            };
            ui::out(&ui::shown_key(&shown));
            match shown.verdict() {
                Verdict::Known => return Ok(Severity::Ok),
                Verdict::Revoked => return refuse("a revoked key is never trusted"),
                Verdict::BadCertificate(reason) => return refuse(&format!("its certificate can't be taken: {reason}")),
                Verdict::Changed(_) if !args.rebuilt => {
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
            if shown.is_the_host {
                ui::out(&format!("trusted {}\n", args.host));
                return Ok(Severity::Ok);
            }
            ui::out(&format!("trusted the jump host {}\n", shown.address));
        }
    }
}

/// Who this is, for locks.
fn owner() -> String {
    format!("{}@{} process {}", user(), workstation(), std::process::id())
}

fn user() -> String {
    std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into())
}

fn workstation() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

fn forks(ctx: &Context, asked: Option<u16>) -> usize {
    asked.map_or(ctx.inventory.forks, usize::from)
}
