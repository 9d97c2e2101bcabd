//! A long or slow line, for benchmarks and tests: forwards TCP connections, each byte a while later, no more than so many a second each way for all
//! of them together. A connection takes a round trip to be made, as TCP's own does.
//!
//! What is on its way lies in pipes of the kernel's, which takes it from one socket and gives it to the other without a copy: a real line takes
//! nothing of either end's processor, and what is measured over this one should be theirs.
//!
//! usage: line LISTEN TARGET DELAY_MS [BYTES_PER_SECOND]     (half of DELAY_MS each way; 0 bytes a second: as fast as it goes)
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[cfg(target_os = "linux")]
fn main() {
    splicing::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {}

#[cfg(target_os = "linux")]
mod splicing {
    use std::net::{Shutdown, TcpListener, TcpStream};
    use std::os::fd::OwnedFd;
    use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};
    use std::sync::{Arc, Mutex};
    use std::thread;
    use std::time::{Duration, Instant};

    use rustix::io::Errno;
    use rustix::pipe::{SpliceFlags, fcntl_setpipe_size, pipe, splice};
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

    /// What one pipe carries.
    const MOST: usize = 256 << 10;
    /// How many of them may be on their way at once: more than any line here carries in its delay.
    const IN_FLIGHT: usize = 1024;
    /// What comes so close together travels together.
    const GATHERING: Duration = Duration::from_micros(500);

    pub fn main() {
        let args: Vec<String> = std::env::args().skip(1).collect();
        let [listen, target, delay, rest @ ..] = args.as_slice() else { panic!("usage: line LISTEN TARGET DELAY_MS [BYTES_PER_SECOND]") };
        let delay = Duration::from_millis(delay.parse::<u64>().unwrap()) / 2;
        let rate: u64 = rest.first().map_or(0, |rate| rate.parse().unwrap());
        // Each pipe is two files.
        let most = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).unwrap();
        let listener = TcpListener::bind(listen).unwrap();
        println!("{}", listener.local_addr().unwrap());
        let (there, back) = (Way::new(delay, rate), Way::new(delay, rate));
        for near in listener.incoming().flatten() {
            let (target, there, back) = (target.clone(), there.clone(), back.clone());
            thread::spawn(move || {
                thread::sleep(2 * delay);
                let Ok(far) = TcpStream::connect(target) else { return };
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                carry(near.try_clone().unwrap(), far.try_clone().unwrap(), there);
                carry(far, near, back);
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

    struct Pipe {
        out: OwnedFd,
        into: OwnedFd,
    }

    impl Pipe {
        fn new() -> Self {
            let (out, into) = pipe().unwrap();
            // Who may not have so much in pipes has smaller ones, which carry less each.
            let _ = fcntl_setpipe_size(&into, MOST);
            Self { out, into }
        }
    }

    /// Bytes on their way, and when they are there.
    struct Packet {
        pipe: Pipe,
        bytes: usize,
        due: Instant,
    }

    fn carry(from: TcpStream, to: TcpStream, way: Way) {
        let (send, packets) = sync_channel(IN_FLIGHT);
        let (give_back, empty) = channel();
        thread::spawn(move || take(&from, &way, &send, &empty));
        thread::spawn(move || hand_over(&to, &packets, &give_back));
    }

    fn take(from: &TcpStream, way: &Way, send: &SyncSender<Packet>, empty: &Receiver<Pipe>) {
        let most = if way.rate > 0 { 64 << 10 } else { MOST };
        loop {
            let pipe = empty.try_recv().unwrap_or_else(|_| Pipe::new());
            let bytes = match splice(from, None, &pipe.into, None, most, SpliceFlags::MOVE) {
                Ok(bytes) if bytes > 0 => bytes,
                Err(Errno::INTR) => continue,
                _ => return,
            };
            let sent = way.sent(bytes);
            if way.rate > 0 {
                thread::sleep(sent.saturating_duration_since(Instant::now()));
            }
            if send.send(Packet { pipe, bytes, due: sent + way.delay }).is_err() {
                // Whoever sends hears that nobody takes it.
                let _ = from.shutdown(Shutdown::Both);
                return;
            }
            if bytes < most {
                thread::sleep(GATHERING);
            }
        }
    }

    fn hand_over(to: &TcpStream, packets: &Receiver<Packet>, give_back: &Sender<Pipe>) {
        while let Ok(Packet { pipe, mut bytes, due }) = packets.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            while bytes > 0 {
                match splice(&pipe.out, None, to, None, bytes, SpliceFlags::MOVE) {
                    Ok(sent) if sent > 0 => bytes -= sent,
                    Err(Errno::INTR) => {}
                    _ => return,
                }
            }
            // Whoever took it may have ended.
            let _ = give_back.send(pipe);
        }
        // The other end is told when nothing more will come; whether it still listens is its own affair.
        let _ = to.shutdown(Shutdown::Write);
    }
}
