//! `tanker check`: what a master is and what a backup of it would do. Changes nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::{Context, look, look_ending, refused};
use crate::fleet::{self, Ending, Pace};
use crate::model::backup_plan::{BackupOptions, BackupPlan, plan_backup};
use crate::model::facts::Facts;
use crate::model::id::HostName;
use crate::model::report::RunReport;
use crate::monitor::{Event, Step};

/// What was found on one master.
#[derive(Clone)]
pub struct Checked {
    /// Its facts.
    pub facts: Facts,
    /// How many tasks it has and which are unfinished, or why they can't be read.
    pub tasks: Result<(usize, Vec<String>), String>,
    /// What a backup would do, or why it would refuse.
    pub plan: Result<BackupPlan, Vec<String>>,
    /// The connection's algorithms.
    pub negotiated: String,
}

/// Looks at each host; the report's severities are those that a backup would end with.
pub async fn check(ctx: &Context, hosts: &[HostName], pace: Pace) -> (RunReport, BTreeMap<HostName, Checked>) {
    let found = Arc::new(Mutex::new(BTreeMap::new()));
    let report = fleet::run(hosts, pace, &ctx.cancel, |name| {
        let (ctx, found) = (ctx.clone(), Arc::clone(&found));
        async move {
            let result = ctx.cancel.ends(check_host(&ctx, &name)).await;
            ctx.monitor.event(&name, Event::Finished);
            match result {
                Ok(checked) => {
                    let ending = match &checked.plan {
                        Ok(_) => Ending::ok("ready for a backup"),
                        Err(reasons) => refused(reasons, None),
                    };
                    found.lock().unwrap_or_else(PoisonError::into_inner).insert(name, checked);
                    ending
                }
                Err(ending) => ending,
            }
        }
    })
    .await;
    let found = std::mem::take(&mut *found.lock().unwrap_or_else(PoisonError::into_inner));
    (report, found)
}

async fn check_host(ctx: &Context, name: &HostName) -> Result<Checked, Ending> {
    let host = ctx.host(name)?;
    let mut link = ctx.open(&host).await?;
    ctx.step(&host, Step::Preflight);
    let (facts, tasks) = look(&mut link).await.map_err(|e| look_ending(&host, &e))?;
    let negotiated = link.session().await.map(|session| session.negotiated.clone()).unwrap_or_default();
    link.close().await;
    let summary = match &tasks {
        Ok(list) => Ok((list.0.len(), list.unfinished().iter().map(|task| task.describe()).collect())),
        Err(e) => Err(e.to_string()),
    };
    let plan = plan_backup(&facts, tasks, BackupOptions { ignore_tasks: false, freeze: host.freeze, light: false, no_spool: !host.spool });
    Ok(Checked { facts, tasks: summary, plan, negotiated })
}
