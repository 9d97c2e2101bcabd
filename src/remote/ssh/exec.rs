//! Running a script on a master: its text and input go to stdin, its output comes back, under a time limit.

use std::io::Read;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use russh::client::Msg;
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf};
use tokio::sync::mpsc;

use super::sudo::Sudo;
use super::throttle::Limits;
use super::{RemoteError, Session, algorithms};
use crate::model::text::printable;
use crate::remote::script::Form;
use crate::remote::{LONGEST_OUTPUT, Script, Stdout};

/// What is kept of stderr.
const LONGEST_STDERR: usize = 16 << 10;
/// What is kept of a signal's name, which a server may invent.
const LONGEST_SIGNAL: usize = 64;
/// Read from an input at once.
const CHUNK: usize = 256 << 10;
/// The same where there is a limit to what may be sent.
const SMALL_CHUNK: usize = 16 << 10;

/// So many packets are handed over together, of at most 32 KiB each: whoever stores them is woken for each handful, which costs more than what
/// it does with one packet.
const GATHERED: usize = 64;
/// So long they are waited for: nobody sees a moment like this in a progress.
const GATHERING: Duration = Duration::from_millis(10);
/// A server that answers at all opens a channel in less than this.
const OPENING: Duration = Duration::from_secs(60);
/// As fast as the line allows.
static NO_LIMITS: Limits = Limits::NONE;

struct Ended {
    code: u32,
    stderr: Vec<u8>,
}

impl Session {
    /// Runs a script that answers little, within the time it has.
    ///
    /// # Errors
    /// When it ends with another code than 0, prints too much, takes too long, or the line is lost.
    pub async fn run(&self, script: &Script, input: &[u8], limit: Duration) -> Result<Stdout, RemoteError> {
        self.collect(script, input, limit, &NO_LIMITS).await
    }

    /// The same for an answer that is a piece of an archive: it comes no faster than the host's limits let it.
    ///
    /// # Errors
    /// As [`Self::run`].
    pub async fn run_limited(&self, script: &Script, limit: Duration) -> Result<Stdout, RemoteError> {
        self.collect(script, b"", limit, &self.limits).await
    }

    async fn collect(&self, script: &Script, input: &[u8], limit: Duration, limits: &Limits) -> Result<Stdout, RemoteError> {
        let (sink, mut source) = mpsc::channel::<Bytes>(64);
        let collect = async {
            let mut all = Vec::new();
            while let Some(data) = source.recv().await {
                if all.len() + data.len() > script.longest_output() {
                    return Err(RemoteError::Answer(format!("{} printed more than {} bytes", script.name, script.longest_output())));
                }
                limits.take(data.len()).await;
                all.extend_from_slice(&data);
            }
            Ok(all)
        };
        let both = async { tokio::try_join!(self.stream(script, input, sink, &NO_LIMITS), collect) };
        let (ended, stdout) = tokio::time::timeout(limit, both)
            .await
            .map_err(|_| RemoteError::TimedOut { what: script.name.to_owned(), seconds: limit.as_secs() })??;
        finish(script, ended, stdout)
    }

    /// Runs a script whose output goes to `sink` as it comes; a sink that is slow throttles the line.
    ///
    /// # Errors
    /// As [`Self::run`], but without a limit on the whole: a line that is silent is found by keepalives.
    pub async fn pull(&self, script: &Script, sink: mpsc::Sender<Bytes>) -> Result<(), RemoteError> {
        let (limited, mut source) = mpsc::channel::<Bytes>(if self.limits.any() { 4 } else { GATHERED });
        // Where there is a limit what is gathered would be a burst beyond it.
        let most = if self.limits.any() { 1 } else { GATHERED.min(sink.max_capacity()) };
        let gather = async {
            let gone = |_| RemoteError::Answer("what came from the master could not be taken any more".into());
            while let Some(first) = source.recv().await {
                let mut gathered = vec![first];
                let until = tokio::time::Instant::now() + GATHERING;
                while gathered.len() < most
                    && let Ok(Some(next)) = tokio::time::timeout_at(until, source.recv()).await
                {
                    gathered.push(next);
                }
                self.limits.take(gathered.iter().map(Bytes::len).sum()).await;
                let places = sink.reserve_many(gathered.len()).await.map_err(gone)?;
                places.zip(gathered).for_each(|(place, data)| place.send(data));
            }
            Ok(())
        };
        let (ended, ()) = tokio::try_join!(self.stream(script, &b""[..], limited, &NO_LIMITS), gather)?;
        finish(script, ended, Vec::new()).map(drop)
    }

    /// Runs a script that reads `input` on stdin and whose answers are heard as they come.
    ///
    /// # Errors
    /// As [`Self::pull`]. An input that fails is a lost upload: the script sees too few bytes and says so.
    pub async fn push(&self, script: &Script, input: impl Read + Send, mut hear: impl FnMut(&[u8])) -> Result<(), RemoteError> {
        let (sink, mut source) = mpsc::channel::<Bytes>(64);
        let answers = async {
            while let Some(data) = source.recv().await {
                hear(&data);
            }
            Ok(())
        };
        let (ended, ()) = tokio::try_join!(self.stream(script, input, sink, &self.limits), answers)?;
        finish(script, ended, Vec::new()).map(drop)
    }

    async fn stream(
        &self,
        script: &Script,
        input: impl Read + Send,
        sink: mpsc::Sender<Bytes>,
        limits: &Limits,
    ) -> Result<Ended, RemoteError> {
        let lost = |e: russh::Error| RemoteError::Lost(algorithms::reason(&e));
        let channel = self.open_channel().await?;
        let form = match &self.sudo {
            Sudo::No => Form::Plain,
            Sudo::Free => Form::Sudo,
            Sudo::Password(_) => Form::SudoWithPassword,
        };
        channel.exec(true, script.command(form)).await.map_err(lost)?;
        let (mut read, write) = channel.split();
        let writing = feed(&write, script.input(form, self.sudo.password()), input, limits);
        let reading = drain(&mut read, sink);
        tokio::pin!(writing, reading);
        // A write hangs for ever once the far side has ended: reading decides when it is over.
        let ended = tokio::select! {
            ended = &mut reading => ended,
            fed = &mut writing => match fed {
                Ok(()) => reading.await,
                Err(e) => Err(e),
            },
        };
        // Dropping a channel doesn't close it; that the line is gone is no news here.
        let _ = write.close().await;
        ended
    }

    /// Runs a command with this on stdin and no more; what it said where it failed.
    pub(super) async fn offer(&self, command: &str, input: Vec<u8>, limit: Duration) -> Result<Option<String>, RemoteError> {
        let lost = |e: russh::Error| RemoteError::Lost(algorithms::reason(&e));
        let work = async {
            let channel = self.open_channel().await?;
            channel.exec(true, command).await.map_err(lost)?;
            let (mut read, write) = channel.split();
            let (sink, mut source) = mpsc::channel::<Bytes>(16);
            let answers = async {
                while source.recv().await.is_some() {}
                Ok(())
            };
            let writing = async {
                // It may end without having read this.
                let _ = feed(&write, input, &b""[..], &NO_LIMITS).await;
                Ok(())
            };
            let (ended, (), ()) = tokio::try_join!(drain(&mut read, sink), answers, writing)?;
            let said = printable(&String::from_utf8_lossy(&ended.stderr));
            Ok((ended.code != 0).then(|| if said.is_empty() { format!("it ended with code {}", ended.code) } else { said }))
        };
        let late = |_| RemoteError::TimedOut { what: "sudo".into(), seconds: limit.as_secs() };
        tokio::time::timeout(limit, work).await.map_err(late)?
    }

    async fn open_channel(&self) -> Result<Channel<Msg>, RemoteError> {
        let began = Instant::now();
        let channel = self.handle.channel_open_session().await.map_err(|e| RemoteError::Lost(algorithms::reason(&e)))?;
        self.nearest.fetch_min(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
        Ok(channel)
    }

    /// How long a question takes to the server and back: the shortest that one has taken, and one is asked where none was.
    ///
    /// # Errors
    /// When the line is lost.
    pub async fn round_trip(&self) -> Result<Duration, RemoteError> {
        if self.nearest.load(Ordering::Relaxed) == u64::MAX {
            let late = |_| RemoteError::TimedOut { what: "opening a channel".into(), seconds: OPENING.as_secs() };
            let channel = tokio::time::timeout(OPENING, self.open_channel()).await.map_err(late)??;
            channel.close().await.map_err(|e| RemoteError::Lost(algorithms::reason(&e)))?;
        }
        Ok(Duration::from_micros(self.nearest.load(Ordering::Relaxed)))
    }

    /// Says goodbye. A line that is lost already is none of this function's business.
    pub async fn close(self) {
        let _ = tokio::time::timeout(Duration::from_secs(2), self.handle.disconnect(russh::Disconnect::ByApplication, "", "en")).await;
    }
}

async fn feed(write: &ChannelWriteHalf<Msg>, text: Vec<u8>, mut input: impl Read + Send, limits: &Limits) -> Result<(), RemoteError> {
    let lost = |e: russh::Error| RemoteError::Lost(algorithms::reason(&e));
    write.data_bytes(text).await.map_err(lost)?;
    loop {
        let mut buffer = vec![0; if limits.any() { SMALL_CHUNK } else { CHUNK }];
        let read = input.read(&mut buffer).map_err(|e| RemoteError::Answer(format!("the file to send can't be read: {e}")))?;
        if read == 0 {
            return write.eof().await.map_err(lost);
        }
        buffer.truncate(read);
        limits.take(read).await;
        write.data_bytes(buffer).await.map_err(lost)?;
    }
}

/// Reads until the channel is gone: the exit status can come before the last data.
async fn drain(read: &mut ChannelReadHalf, sink: mpsc::Sender<Bytes>) -> Result<Ended, RemoteError> {
    let (mut code, mut signal) = (None, None);
    let (mut stderr, mut complaints) = (Vec::new(), 0);
    while let Some(message) = read.wait().await {
        match message {
            ChannelMsg::Data { data } => {
                let taken = sink.send(data).await;
                if taken.is_err() {
                    return Err(RemoteError::Answer("what came from the master could not be taken any more".into()));
                }
            }
            ChannelMsg::ExtendedData { data, .. } => {
                let room = LONGEST_STDERR.saturating_sub(stderr.len());
                stderr.extend_from_slice(&data[..data.len().min(room)]);
                complaints += data.len();
                if complaints > LONGEST_OUTPUT {
                    return Err(RemoteError::Answer(format!(
                        "it complains without end: {}",
                        printable(&String::from_utf8_lossy(&stderr[..200]))
                    )));
                }
            }
            ChannelMsg::ExitStatus { exit_status } => code = Some(exit_status),
            // One process ends once: what a server says of more is not kept.
            ChannelMsg::ExitSignal { signal_name, .. } => {
                signal.get_or_insert_with(|| format!("{signal_name:?}").chars().take(LONGEST_SIGNAL).collect::<String>());
            }
            ChannelMsg::Failure => return Err(RemoteError::Answer("the server refuses to run commands".into())),
            _ => {}
        }
    }
    match (code, signal) {
        (Some(code), _) => Ok(Ended { code, stderr }),
        // So ends what nobody wants any more, or what there was no memory for: doing it again would change nothing.
        (None, Some(signal)) if signal == "KILL" => Ok(Ended { code: 255, stderr: killed(&signal, &stderr).into_bytes() }),
        // The master goes down.
        (None, Some(signal)) => Err(RemoteError::Lost(killed(&signal, &stderr))),
        (None, None) => Err(RemoteError::Lost("it ended without an exit status".into())),
    }
}

/// The signal comes first: what was said before it may be longer than what is shown.
fn killed(signal: &str, said: &[u8]) -> String {
    let said = printable(&String::from_utf8_lossy(said));
    format!("on the master it was killed by {signal}{}{said}", if said.is_empty() { "" } else { ": " })
}

fn finish(script: &Script, ended: Ended, stdout: Stdout) -> Result<Stdout, RemoteError> {
    if ended.code == 0 {
        return Ok(stdout);
    }
    let said = printable(&String::from_utf8_lossy(&ended.stderr));
    let reason = match (said.is_empty(), ended.code) {
        (false, _) => said,
        (true, 127) => "bash is not there".to_owned(),
        (true, code) => format!("{} ended with code {code} and said nothing", script.name),
    };
    Err(RemoteError::Script { name: script.name, code: ended.code, reason, stdout })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_by_a_signal_says_so_before_all_else() {
        let script = Script::root([""; 0]);
        let said = killed("TERM", "x".repeat(2000).as_bytes());
        assert!(said.starts_with("on the master it was killed by TERM: xxx"), "{said}");
        assert_eq!(killed("KILL", b""), "on the master it was killed by KILL");
        assert!(Script::facts([""; 0]).longest_output() < script.longest_output());
    }
}
