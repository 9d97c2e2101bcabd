//! A long or slow line, for benchmarks and tests: forwards TCP connections, each byte a while later, no more than so many a second.
//!
//! usage: line LISTEN TARGET DELAY_MS [BYTES_PER_SECOND]     (half of DELAY_MS each way; 0 bytes a second: as fast as it goes)
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

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
    while let Ok((near, _)) = listener.accept().await {
        let target = target.clone();
        tokio::spawn(async move {
            let Ok(far) = TcpStream::connect(target).await else { return };
            near.set_nodelay(true).unwrap();
            far.set_nodelay(true).unwrap();
            let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
            tokio::spawn(carry(near_in, far_out, delay, rate));
            carry(far_in, near_out, delay, rate).await;
        });
    }
}

async fn carry(mut from: impl AsyncRead + Unpin + Send + 'static, mut to: impl AsyncWrite + Unpin, delay: Duration, rate: u64) {
    let (send, mut receive) = mpsc::unbounded_channel::<(Instant, Vec<u8>, tokio::sync::OwnedSemaphorePermit)>();
    let room = std::sync::Arc::new(Semaphore::new(IN_FLIGHT));
    tokio::spawn(async move {
        let mut free = Instant::now();
        loop {
            let mut buffer = vec![0; 64 << 10];
            match from.read(&mut buffer).await {
                Ok(read) if read > 0 => {
                    buffer.truncate(read);
                    let Ok(permit) = std::sync::Arc::clone(&room).acquire_many_owned(u32::try_from(read).unwrap()).await else { return };
                    free = free.max(Instant::now());
                    if let Some(nanos) = (read as u64 * 1_000_000_000).checked_div(rate) {
                        free += Duration::from_nanos(nanos);
                        sleep_until(free).await;
                    }
                    if send.send((free + delay, buffer, permit)).is_err() {
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
