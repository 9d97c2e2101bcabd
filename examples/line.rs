//! A long or slow line, for benchmarks and tests: forwards TCP connections, each byte a while later, no more than so many a second each way for all
//! of them together. A connection takes a round trip to be made, as TCP's own does.
//!
//! usage: line LISTEN TARGET DELAY_MS [BYTES_PER_SECOND]     (half of DELAY_MS each way; 0 bytes a second: as fast as it goes)
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

/// What may be on its way at once: more than any line here carries in its delay.
const IN_FLIGHT: usize = 256 << 20;

#[tokio::main]
async fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [listen, target, delay, rest @ ..] = args.as_slice() else { panic!("usage: line LISTEN TARGET DELAY_MS [BYTES_PER_SECOND]") };
    let delay = Duration::from_millis(delay.parse::<u64>().unwrap()) / 2;
    let rate: u64 = rest.first().map_or(0, |rate| rate.parse().unwrap());
    let listener = TcpListener::bind(listen).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    let (there, back) = (Way::new(delay, rate), Way::new(delay, rate));
    while let Ok((near, _)) = listener.accept().await {
        let (target, there, back) = (target.clone(), there.clone(), back.clone());
        tokio::spawn(async move {
            tokio::time::sleep(2 * delay).await;
            let Ok(far) = TcpStream::connect(target).await else { return };
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_in, far_out, there));
            carry(far_in, near_out, back).await;
        });
    }
}

/// One direction of the line.
#[derive(Clone)]
struct Way {
    delay: Duration,
    rate: u64,
    /// When it has sent what it was given.
    free: Arc<Mutex<Instant>>,
}

impl Way {
    fn new(delay: Duration, rate: u64) -> Self {
        Self { delay, rate, free: Arc::new(Mutex::new(Instant::now())) }
    }

    /// When so many bytes more are sent.
    fn sent(&self, bytes: usize) -> Instant {
        let Some(nanos) = (bytes as u64 * 1_000_000_000).checked_div(self.rate) else { return Instant::now() };
        let mut free = self.free.lock().unwrap();
        *free = (*free).max(Instant::now()) + Duration::from_nanos(nanos);
        *free
    }
}

async fn carry(mut from: impl AsyncRead + Unpin + Send + 'static, mut to: impl AsyncWrite + Unpin, way: Way) {
    let (send, mut receive) = mpsc::unbounded_channel::<(Instant, Vec<u8>, tokio::sync::OwnedSemaphorePermit)>();
    let room = Arc::new(Semaphore::new(IN_FLIGHT));
    tokio::spawn(async move {
        loop {
            // Not filled with zeros first, and many packets at once: the line's own work would be taken for slowness of what is measured.
            let mut buffer = Vec::with_capacity(256 << 10);
            match from.read_buf(&mut buffer).await {
                Ok(read) if read > 0 => {
                    let Ok(permit) = Arc::clone(&room).acquire_many_owned(u32::try_from(read).unwrap()).await else { return };
                    let sent = way.sent(read);
                    if way.rate > 0 {
                        sleep_until(sent).await;
                    }
                    if send.send((sent + way.delay, buffer, permit)).is_err() {
                        return;
                    }
                }
                _ => return,
            }
        }
    });
    while let Some((due, bytes, permit)) = receive.recv().await {
        sleep_until(due).await;
        if to.write_all(&bytes).await.is_err() {
            return;
        }
        drop(permit);
    }
    // The other end is told when nothing more will come; whether it still listens is its own affair.
    let _ = to.shutdown().await;
}
