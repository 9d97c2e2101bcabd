//! The signals that ask tanker to stop: Ctrl-C, SIGTERM, and the terminal going away.

/// Waits until the operator or the system asks this process to stop.
///
/// # Errors
/// When signals can't be listened to.
pub async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut term, mut hangup) = (signal(SignalKind::terminate())?, signal(SignalKind::hangup())?);
    tokio::select! {
        result = tokio::signal::ctrl_c() => result,
        _ = term.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    }
}
