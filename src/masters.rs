//! The verbs that work on masters.

use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use color_eyre::eyre::Report;

use tanker::cli;
use tanker::commands::{Context, Vault, backup, check, clean, drill, hooks, hosts, restore, status, trust};
use tanker::fleet::{Pace, Share};
use tanker::library::Keys;
use tanker::model::id::HostName;
use tanker::model::inventory::{EncryptTo, Inventory, Password};
use tanker::model::pattern::select;
use tanker::model::report::{Outcome, RunReport, Severity};
use tanker::model::restore_plan::RestoreOptions;
use tanker::model::secret::SecretSource;
use tanker::monitor::Event;
use tanker::remote::ssh::Verdict;
use tanker::ui;

use crate::Start;
use crate::awake::Awake;

/// A verb at work on some hosts.
struct Run {
    ctx: Context,
    hosts: Vec<HostName>,
    pace: Pace,
    log: ui::RunLog,
    json: bool,
    /// Whether `notify` is told of it.
    tells: bool,
    _awake: Option<Awake>,
}

/// Gives the recap to the operator's command.
async fn notify_with(command: &str, recap: &str) -> Result<(), String> {
    let file = tempfile::NamedTempFile::new().map_err(|e| format!("can't be told: {e}"))?;
    std::fs::write(file.path(), recap).map_err(|e| format!("can't be told: {e}"))?;
    let path = file.path().display().to_string();
    hooks::run(&format!("{{ {command}\n}} < \"$TANKER_RECAP\""), Duration::from_secs(60), &[("TANKER_RECAP", &path)]).await
}

impl Run {
    /// Shows what it came to, and keeps that.
    async fn end(self, report: &RunReport) -> Severity {
        let (json, recap) = (self.log.end(report), self.log.recap(report));
        // Bars are gone before the recap stands in their place.
        let notify = self.ctx.inventory.notify.clone().filter(|_| self.tells);
        drop(self.ctx);
        ui::out(&if self.json { ui::recap_event(&json) } else { recap });
        if let Some(command) = notify
            && let Err(why) = notify_with(&command, &json).await
        {
            ui::err(&format!("tanker: the command that the inventory names as 'notify' {why}\n"));
        }
        report.worst()
    }

    /// The same where it ended before its work on the one host began.
    async fn end_with(self, host: &HostName, severity: Severity, summary: impl Into<String>) -> Severity {
        let outcome = Outcome { host: host.clone(), severity, summary: summary.into(), hint: None, took: Duration::ZERO };
        self.ctx.monitor.event(host, Event::Finished);
        self.end(&RunReport { outcomes: vec![outcome] }).await
    }
}

impl Start {
    async fn begin(&self, verb: &'static str, fleet: &cli::Fleet) -> Result<Run, Report> {
        self.begin_with(verb, fleet, cli::Bandwidth::default(), false).await
    }

    async fn begin_with(&self, verb: &'static str, fleet: &cli::Fleet, bandwidth: cli::Bandwidth, dry: bool) -> Result<Run, Report> {
        let mut inventory = self.inventory()?;
        let hosts = self.choose(&inventory, &fleet.hosts)?;
        override_hosts(&mut inventory, &hosts, fleet.login, bandwidth.bwlimit);
        let pace = Pace {
            forks: fleet.forks.map_or(inventory.forks, usize::from),
            serial: fleet.serial,
            max_fail: if fleet.fail_fast { Some(Share::Hosts(0)) } else { fleet.max_fail },
        };
        let mut vault = Vault::default();
        if verb == "backup" {
            for (host, recipients) in self.recipients_of_each(&inventory, &hosts) {
                match recipients {
                    Ok(recipients) => drop(vault.recipients.insert(host, recipients)),
                    // Who types two passphrases that differ types them again.
                    Err(why) if asks_for_a_passphrase(&inventory, &host) => return Err(Report::msg(format!("{host}: {why}"))),
                    Err(why) => drop(vault.sealless.insert(host, why)),
                }
            }
            if let (Some((host, why)), true) = (vault.sealless.first_key_value(), vault.sealless.len() == hosts.len()) {
                return Err(Report::msg(format!("{host}: {why}")));
            }
        }
        let (mut ctx, log) = (
            self.context_for(inventory, &hosts, vault, bandwidth.bwlimit_all, fleet.json).await?,
            ui::RunLog::begin(&self.state(), verb, !dry && !["status", "clean"].contains(&verb), Utc::now),
        );
        ctx.monitor = log.monitor(Arc::clone(&ctx.monitor));
        let tells = verb == "backup" && !dry;
        Ok(Run { ctx, hosts, pace, log, json: fleet.json, tells, _awake: tells.then(|| Awake::hold(verb)) })
    }

    pub(crate) async fn hosts(&self, args: cli::HostsCommand) -> Result<Severity, Report> {
        match args.verb {
            cli::HostsVerb::List(args) => {
                let inventory = self.inventory()?;
                let names = self.choose(&inventory, &args.hosts)?;
                ui::out(&if args.json { ui::hosts_json(&inventory, &names) } else { ui::hosts_table(&inventory, &names) });
                Ok(Severity::Ok)
            }
            cli::HostsVerb::Check(args) => {
                let run = self.begin("hosts-check", &args).await?;
                let report = hosts::check(&run.ctx, &run.hosts, run.pace).await;
                Ok(run.end(&report).await)
            }
        }
    }

    pub(crate) async fn check(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let run = self.begin("check", &args).await?;
        let (report, found) = check::check(&run.ctx, &run.hosts, run.pace).await;
        for (host, checked) in &found {
            ui::out(&if run.json { ui::checked_event(Utc::now(), host, checked) } else { ui::checked(host, checked) });
        }
        Ok(run.end(&report).await)
    }

    pub(crate) async fn backup(&self, args: cli::Backup) -> Result<Severity, Report> {
        let run = self.begin_with("backup", &args.fleet, args.bandwidth, args.dry_run).await?;
        if args.resume {
            let report = backup::resume(&run.ctx, &run.hosts, run.pace).await;
            return Ok(run.end(&report).await);
        }
        let options = backup::Options {
            pace: run.pace,
            dry_run: args.dry_run,
            ignore_tasks: args.ignore_tasks,
            freeze: args.freeze.map(cli::FreezeArg::method),
            freeze_timeout: args.freeze_timeout.map(Duration::from_secs),
            light: args.light,
            no_spool: args.no_spool,
        };
        let report = backup::backup(&run.ctx, &run.hosts, options).await;
        Ok(run.end(&report).await)
    }

    pub(crate) async fn status(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let run = self.begin("status", &args).await?;
        let (report, found) = status::status(&run.ctx, &run.hosts, run.pace).await;
        for (host, jobs) in &found {
            ui::out(&if run.json { ui::jobs_event(Utc::now(), host, jobs) } else { ui::jobs(host, jobs) });
        }
        Ok(run.end(&report).await)
    }

    pub(crate) async fn thaw(&self, args: cli::Fleet) -> Result<Severity, Report> {
        let run = self.begin("thaw", &args).await?;
        let report = status::thaw(&run.ctx, &run.hosts, run.pace).await;
        Ok(run.end(&report).await)
    }

    pub(crate) async fn clean(&self, args: cli::Clean) -> Result<Severity, Report> {
        let depth = match (args.yes, args.running) {
            (false, _) => clean::Depth::Plan,
            (true, false) => clean::Depth::Ended,
            (true, true) => clean::Depth::Running,
        };
        let run = self.begin("clean", &args.fleet).await?;
        let (report, found) = clean::clean(&run.ctx, &run.hosts, run.pace, depth).await;
        for (host, jobs) in &found {
            ui::out(&if run.json { ui::jobs_event(Utc::now(), host, jobs) } else { ui::jobs(host, jobs) });
        }
        Ok(run.end(&report).await)
    }

    /// A host by its own name: a group is none, whatever is in it.
    fn the_one(&self, inventory: &Inventory, name: &HostName) -> Result<Vec<HostName>, Report> {
        if inventory.groups.contains_key(name.as_str()) {
            return Err(Report::msg(format!("'{name}' is a group: name one host")));
        }
        match name.as_str() {
            "all" => Err(Report::msg("'all' is every host: name one")),
            name => Ok(select(inventory, &[name.to_owned()])?),
        }
    }

    pub(crate) async fn restore(&self, args: cli::Restore) -> Result<Severity, Report> {
        let mut inventory = self.inventory()?;
        let hosts = self.the_one(&inventory, &args.to)?;
        override_hosts(&mut inventory, &hosts, args.login, args.bwlimit);
        let mut args = args;
        let away = match (&args.backup, &args.from) {
            (Some(backup), Some(remote)) => match self.look_for_restore(backup, remote).await? {
                Ok(away) => Some(away),
                Err(severity) => return Ok(severity),
            },
            _ => None,
        };
        let keys = match (&away, &args.backup) {
            (Some((_, away)), _) => self.keys_of_away(&away.manifest)?,
            // What isn't there is said by the restore itself.
            (None, Some(backup)) => self.keys(&self.find(backup)?.ok())?,
            (None, None) => Keys::default(),
        };
        let vault = Vault { keys, ..Vault::default() };
        let mut ctx = self.context_for(inventory, &hosts, vault, None, args.json).await?;
        let log = ui::RunLog::begin(&self.state(), "restore", !args.dry_run, Utc::now);
        ctx.monitor = log.monitor(Arc::clone(&ctx.monitor));
        let awake = Some(Awake::hold("restore"));
        let run = Run { ctx: ctx.clone(), hosts, pace: Pace::of(1), log, json: args.json, tells: !args.dry_run, _awake: awake };
        if let Some((offsite, away)) = &away {
            match self.fetch_for_restore(offsite, away).await? {
                Ok(named) => args.backup = Some(named),
                Err(e) => return Ok(run.end_with(&args.to, e.severity(), e.to_string()).await),
            }
        }
        let found = args.backup.as_ref().map(|backup| self.find(backup)).transpose()?;
        let _brought = match self.bring_here(found.iter().flatten()).await {
            Ok(brought) => brought,
            Err(e) => return Ok(run.end_with(&args.to, e.severity(), e.to_string()).await),
        };
        let Some(found) = found else {
            return self.finish_restore(run, &args).await;
        };
        let only: Vec<_> = args.only.iter().copied().map(Into::into).collect();
        let options = RestoreOptions { ignore_tasks: args.ignore_tasks, only: &only };
        let prepared = match restore::prepare(&ctx, found, &args.to, options, args.yes && !args.dry_run).await {
            Ok(prepared) => prepared,
            Err(report) => {
                return Ok(run.end(&report).await);
            }
        };
        let plan = ui::plan(&prepared.name, &args.to, &prepared.plan);
        if args.json {
            ui::out(&ui::plan_event(Utc::now(), &args.to, &prepared.name, &prepared.plan));
            ui::err(&plan)
        } else {
            ui::out(&plan)
        }
        if let Some((severity, why)) = held_back(&args) {
            prepared.leave().await;
            return Ok(run.end_with(&args.to, severity, why).await);
        }
        let report = restore::execute(&ctx, prepared).await;
        Ok(run.end(&report).await)
    }

    /// Ends a restore that came to no end.
    async fn finish_restore(&self, run: Run, args: &cli::Restore) -> Result<Severity, Report> {
        let way = if args.rollback { restore::Way::Rollback } else { restore::Way::Resume };
        let half = match restore::find_half(&run.ctx, &args.to).await {
            Ok(half) => half,
            Err(report) => return Ok(run.end(&report).await),
        };
        let plan = ui::half_plan(&args.to, &half.about, way);
        if args.json {
            ui::err(&plan)
        } else {
            ui::out(&plan)
        }
        if let Some((severity, why)) = held_back(args) {
            half.leave().await;
            return Ok(run.end_with(&args.to, severity, why).await);
        }
        let report = restore::finish(&run.ctx, half, way).await;
        Ok(run.end(&report).await)
    }

    pub(crate) async fn drill(&self, args: &cli::Drill) -> Result<Severity, Report> {
        let mut inventory = self.inventory()?;
        let usual = inventory.host(&args.backup.host).and_then(|host| host.upkeep.drill_on.as_ref());
        let on = args.on.as_ref().or(usual).cloned().ok_or_else(|| {
            Report::msg(format!(
                "say where to drill it: '--on HOST', or 'drill_on' of {} in the inventory; a spare machine is better than a master at work",
                args.backup.host
            ))
        })?;
        let hosts = self.the_one(&inventory, &on)?;
        override_hosts(&mut inventory, &hosts, args.login, args.bwlimit);
        let found = self.find(&args.backup)?;
        let vault = Vault { keys: self.keys(&found)?, ..Vault::default() };
        let mut ctx = self.context_for(inventory, &hosts, vault, None, args.json).await?;
        // What failed on a machine that only tries backups out is no master to back up again.
        let log = ui::RunLog::begin(&self.state(), "drill", false, Utc::now);
        ctx.monitor = log.monitor(Arc::clone(&ctx.monitor));
        let awake = Some(Awake::hold("drill"));
        let run = Run { ctx: ctx.clone(), hosts, pace: Pace::of(1), log, json: args.json, tells: true, _awake: awake };
        let _brought = match self.bring_here(&found).await {
            Ok(brought) => brought,
            Err(e) => return Ok(run.end_with(&on, e.severity(), e.to_string()).await),
        };
        let report = drill::drill(&ctx, found, &on).await;
        Ok(run.end(&report).await)
    }

    pub(crate) async fn trust(&self, args: cli::Trust) -> Result<Severity, Report> {
        let mut inventory = self.inventory()?;
        self.the_one(&inventory, &args.host)?;
        // Nobody logs in to the host itself, but to the jump hosts before it, which take no password.
        for host in &mut inventory.hosts {
            (host.password, host.sudo_password) = (None, None);
            host.given.identity = false;
            host.target.take_keys();
        }
        let ctx = self.context_for(inventory, std::slice::from_ref(&args.host), Vault::default(), None, false).await?;
        let mut learnt = Vec::new();
        // A jump host's key comes first: nothing behind it can be seen before it is known.
        loop {
            let refuse = |why: &str| {
                let changed = match learnt.as_slice() {
                    [] => "nothing was changed".to_owned(),
                    jumps => format!("the key of {} is known from now on, and nothing else was changed", jumps.join(" and of ")),
                };
                ui::err(&format!("tanker: {why}; {changed}\n"));
                Ok(Severity::Refused)
            };
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
                // Nobody looks where --yes is said: a key that comes beside a known one is worth a look.
                Verdict::OtherType(_) if args.yes && !args.rebuilt => {
                    let why = "a key beside the known one is made known only where somebody has compared it: answer at a terminal, or say --rebuilt too";
                    if ctx.inventory.host(&args.host).is_some_and(|host| !host.legacy) {
                        return refuse(why);
                    }
                    ui::out(&format!("{} stays known by the key that it has shown before; {why}\n", args.host));
                    return Ok(Severity::Ok);
                }
                Verdict::Changed(_) if !shown.is_the_host => {
                    return refuse(
                        "this jump host's key has changed, and --rebuilt speaks of the host behind it: if the jump host was rebuilt, forget its old key with 'ssh-keygen -R'",
                    );
                }
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
            trust::accept(&ctx, &shown, args.rebuilt && shown.is_the_host).map_err(Report::msg)?;
            if shown.is_the_host {
                ui::out(&format!("trusted {}\n", args.host));
                return Ok(Severity::Ok);
            }
            ui::out(&format!("trusted the jump host {}\n", shown.address));
            learnt.push(format!("the jump host {}", shown.address));
        }
    }
}

/// What the command line says of hosts outranks the inventory.
fn override_hosts(inventory: &mut Inventory, hosts: &[HostName], login: cli::Login, bwlimit: Option<u64>) {
    let asked = || Some(Password { source: SecretSource::Ask, shared: true });
    for host in inventory.hosts.iter_mut().filter(|host| hosts.contains(&host.name)) {
        host.password = if login.ask_pass { asked() } else { host.password.take() };
        host.sudo |= login.ask_sudo_pass;
        host.sudo_password = if login.ask_sudo_pass { asked() } else { host.sudo_password.take() };
        host.bwlimit = bwlimit.or(host.bwlimit);
    }
}

/// How a restore ends that was only to be shown or was not confirmed; none where it is to be carried out.
fn held_back(args: &cli::Restore) -> Option<(Severity, &'static str)> {
    if args.dry_run {
        return Some((Severity::Ok, "nothing was changed: that is what would happen"));
    }
    if args.yes {
        return None;
    }
    match tokio::task::block_in_place(|| ui::confirm_name(args.to.as_str())) {
        Some(true) => None,
        Some(false) => Some((Severity::Refused, "that is not its name; nothing was changed")),
        None => Some((Severity::Refused, "there is no terminal to ask on: say --yes if you mean it; nothing was changed")),
    }
}

fn asks_for_a_passphrase(inventory: &Inventory, host: &HostName) -> bool {
    matches!(inventory.upkeep(host).encryption, Some(EncryptTo::Passphrase(SecretSource::Ask)))
}
