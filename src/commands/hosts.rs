//! `tanker hosts check`: can every host be reached, and do the scripts run as root there? Looks at nothing else.

use std::time::Duration;

use super::{Context, remote_ending};
use crate::fleet::{self, Ending, Pace};
use crate::model::id::HostName;
use crate::model::report::{RunReport, Severity};
use crate::monitor::{Event, Step};
use crate::remote::{RemoteError, Script};

/// A script that only says who it is.
const ASKING: Duration = Duration::from_secs(30);

/// Connects to each host and logs in.
pub async fn check(ctx: &Context, hosts: &[HostName], pace: Pace) -> RunReport {
    fleet::run(hosts, pace, &ctx.cancel, |name| {
        let ctx = ctx.clone();
        async move {
            let ending = ctx.cancel.ends(check_host(&ctx, &name)).await.unwrap_or_else(|ending| ending);
            ctx.monitor.event(&name, Event::Finished);
            ending
        }
    })
    .await
}

async fn check_host(ctx: &Context, name: &HostName) -> Result<Ending, Ending> {
    let host = ctx.host(name)?;
    let mut link = ctx.open(&host).await?;
    ctx.step(&host, Step::Preflight);
    let answered = link.run_once(&Script::root([""; 0]), b"", ASKING).await;
    let negotiated = link.session().await.map(|session| session.negotiated.clone()).unwrap_or_default();
    link.close().await;
    match answered {
        Ok(_) => Ok(Ending::ok(format!(
            "reached as {}{}: {negotiated}",
            host.target.endpoint.user,
            if host.sudo { ", root by sudo" } else { "" }
        ))),
        Err(RemoteError::Script { code: 1, reason, .. }) => {
            Err(Ending::bad(Severity::Refused, reason, Some("log in as root, or set 'sudo = true' for this host".into())))
        }
        Err(e) => Err(remote_ending(&host, &e)),
    }
}
