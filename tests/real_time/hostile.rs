//! A store that answers with anything but an answer, over TCP: what is read of it, where requests go, when the leader stops.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use dynamo_elector::{Elector, Embedded, EndReason, ErrorKind, Leadership, LockClient, Timing};
use tokio::runtime::Runtime;

use crate::{ShortLived, clock, sdk};

/// What the server does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// What DynamoDB does.
    Answer,
    /// Bytes that are no HTTP.
    Noise,
    /// A body without an end, as fast as it is read.
    Endless,
    /// The same with a length that says so.
    Announced,
    /// A byte at a time, for ever.
    Trickle,
    /// Headers at a time, for ever.
    Headers,
    /// More headers than anybody has.
    ManyHeaders,
    /// Half of what was announced, and the end.
    Short,
    /// To another server, with a status that keeps the method and the body.
    Redirect(SocketAddr),
    /// What is packed a thousandfold.
    Bomb,
    /// The end, without a word.
    HangUp,
}

#[derive(Clone)]
struct Server {
    address: SocketAddr,
    mode: Arc<Mutex<Mode>>,
    /// The most bytes that were sent over one connection in hostility.
    longest: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

impl Server {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = Self {
            address: listener.local_addr().unwrap(),
            mode: Arc::new(Mutex::new(Mode::Answer)),
            longest: Arc::default(),
            requests: Arc::default(),
        };
        let (accepting, engine) = (server.clone(), Embedded::in_memory().unwrap());
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (server, engine) = (accepting.clone(), engine.clone());
                // A client that goes away is no failure.
                std::thread::spawn(move || server.serve(&engine, stream.unwrap()).ok());
            }
        });
        server
    }

    fn turn(&self, mode: Mode) {
        *self.mode.lock().unwrap() = mode;
    }

    fn serve(&self, engine: &Embedded, stream: TcpStream) -> std::io::Result<()> {
        let (mut requests, mut answers) = (BufReader::new(stream.try_clone()?), stream);
        while let Some((target, body)) = request(&mut requests)? {
            self.requests.fetch_add(1, Ordering::SeqCst);
            let mode = *self.mode.lock().unwrap();
            if mode != Mode::Answer {
                return self.harm(mode, &mut answers);
            }
            let (status, body) = futures::executor::block_on(engine.dispatch(&target, body));
            write!(answers, "HTTP/1.1 {status} -\r\ncontent-length: {}\r\n\r\n", body.len())?;
            answers.write_all(&body)?;
        }
        Ok(())
    }

    /// Ends with the connection.
    fn harm(&self, mode: Mode, to: &mut TcpStream) -> std::io::Result<()> {
        let mut taken = 0;
        let mut send = |bytes: &[u8]| {
            to.write_all(bytes)?;
            taken += bytes.len() as u64;
            self.longest.fetch_max(taken, Ordering::SeqCst);
            Ok(())
        };
        let chunk = vec![b' '; 64 * 1024];
        match mode {
            Mode::Answer | Mode::HangUp => Ok(()),
            Mode::Noise => send(&chunk),
            Mode::Endless => {
                send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                loop {
                    send(b"10000\r\n")?;
                    send(&chunk)?;
                    send(b"\r\n")?;
                }
            }
            Mode::Announced => {
                send(b"HTTP/1.1 200 OK\r\ncontent-length: 1099511627776\r\n\r\n")?;
                loop {
                    send(&chunk)?;
                }
            }
            Mode::Trickle => {
                send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")?;
                loop {
                    send(b"1\r\n \r\n")?;
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
            Mode::Headers => {
                send(b"HTTP/1.1 200 OK\r\n")?;
                loop {
                    send(b"x-more: and more\r\n")?;
                    std::thread::sleep(Duration::from_millis(5));
                }
            }
            Mode::ManyHeaders => {
                send(b"HTTP/1.1 200 OK\r\n")?;
                loop {
                    send(b"x-more: and more, as fast as they are read, until nobody reads any more\r\n")?;
                }
            }
            Mode::Short => send(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n{\"ConsumedCapacity\":"),
            Mode::Redirect(elsewhere) => {
                let location = format!("HTTP/1.1 307 -\r\nlocation: http://{elsewhere}/\r\ncontent-length: 0\r\n\r\n");
                send(location.as_bytes())
            }
            Mode::Bomb => {
                // What gzip makes of zeros: a block that is copied over and over.
                let bomb = [b"\x1f\x8b\x08\0\0\0\0\0\0\x03".as_slice(), &[0xed, 0xc1, 0x01], &[0; 32 * 1024]].concat();
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n", bomb.len());
                send(head.as_bytes())?;
                send(&bomb)
            }
        }
    }
}

/// The operation and the body of the next request, `None` at the end of the connection.
fn request(from: &mut BufReader<TcpStream>) -> std::io::Result<Option<(String, Vec<u8>)>> {
    let (mut target, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if from.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        match line.trim_end().split_once(": ") {
            None if line.trim_end().is_empty() => break,
            Some((name, value)) if name.eq_ignore_ascii_case("x-amz-target") => target = value.to_owned(),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => length = value.parse().unwrap(),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body)?;
    Ok(Some((target, body)))
}

async fn lead(server: &Server) -> (Elector, Leadership) {
    let client = sdk(&format!("http://{}", server.address), &ShortLived::default());
    let locks =
        LockClient::builder(&client, "locks").create_table().timing(Timing::aggressive()).build().await.unwrap();
    let elector = Elector::builder(&locks, "e").build().unwrap();
    let leadership = elector.campaign().await.unwrap();
    (elector, leadership)
}

/// Resident memory of this process, in bytes.
fn memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    status.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).unwrap_or(0) * 4_096
}

/// What it took to survive: bytes that the server could send over one connection, and memory of this process at the most.
struct Took {
    longest: u64,
    memory: u64,
}

/// A leader whose store turns like this stops in time, says why, and leads again when the store is itself again.
fn survives(mode: Mode) -> Took {
    let server = Server::start();
    Runtime::new().unwrap().block_on(async {
        let timing = Timing::aggressive();
        let (elector, leadership) = lead(&server).await;
        let before = memory();
        server.turn(mode);
        let turned = clock();
        let mut most = 0;
        while futures::FutureExt::now_or_never(leadership.cancelled()).is_none() {
            most = memory().saturating_sub(before).max(most);
            // The token may be late on a machine that is busy with other tests; validity is read off the clock.
            assert!(turned.elapsed() < timing.validity() * 3, "{mode:?}: it never stops");
            // The time is taken before the look: a slow machine can only make it look earlier than it was.
            let at = turned.elapsed();
            assert!(!leadership.is_valid() || at <= timing.validity(), "{mode:?}: valid after {at:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        assert_eq!(leadership.end_reason(), Some(EndReason::Deadline), "{mode:?}");
        let trouble = elector.status().borrow().trouble.clone().unwrap();
        assert_eq!(trouble.kind, ErrorKind::Unavailable, "{mode:?}: {trouble:?}");
        assert!(trouble.message.len() < 300, "{mode:?}: {trouble:?}");
        drop(leadership);
        server.turn(Mode::Answer);
        let again =
            tokio::time::timeout(Duration::from_secs(30), elector.campaign()).await.expect("no recovery").unwrap();
        assert!(again.is_valid() && again.fencing_token() >= 2, "{mode:?}");
        Took { longest: server.longest.load(Ordering::SeqCst), memory: most }
    })
}

const BOUND: u64 = 16 * 1024 * 1024;
/// What the sockets of one connection hold on both sides, at the most.
const SOCKETS: u64 = 16 * 1024 * 1024;
/// An answer is copied once when it is whole, and is asked for again; the other tests of this process are in it, too.
const MEMORY: u64 = 16 * BOUND;

#[test]
fn a_body_without_an_end_takes_bounded_memory() {
    let Took { longest, memory } = survives(Mode::Endless);
    assert!(longest > BOUND / 2, "{longest} bytes were sent: it never came near the bound");
    assert!(longest <= BOUND + SOCKETS, "{longest} bytes of one answer were read");
    assert!(memory < MEMORY, "{memory} bytes of memory");
}

#[test]
fn a_body_that_announces_a_terabyte_is_not_read() {
    let Took { longest, memory } = survives(Mode::Announced);
    assert!(longest <= SOCKETS && memory < MEMORY, "{longest} bytes of one answer were read, {memory} bytes of memory");
}

#[test]
fn a_body_that_trickles_and_headers_without_an_end_are_given_up_in_time() {
    survives(Mode::Trickle);
    survives(Mode::Headers);
}

#[test]
fn a_flood_of_headers_takes_bounded_memory() {
    let Took { longest, memory } = survives(Mode::ManyHeaders);
    assert!(longest <= SOCKETS && memory < MEMORY, "{longest} bytes of one answer were read, {memory} bytes of memory");
}

#[test]
fn noise_short_bodies_bombs_and_closed_connections_are_no_answers() {
    for mode in [Mode::Noise, Mode::Short, Mode::Bomb, Mode::HangUp] {
        survives(mode);
    }
}

/// A request carries a signature and the key of a lock: it goes where it was sent, and nowhere else.
#[test]
fn a_redirect_is_not_followed() {
    let elsewhere = Server::start();
    survives(Mode::Redirect(elsewhere.address));
    assert_eq!(elsewhere.requests.load(Ordering::SeqCst), 0, "a request was sent elsewhere");
}

/// The user's runtime goes while an acquisition of its own is under way and the store is silent: nothing panics, and nobody
/// is kept out by what was half done.
#[test]
fn a_runtime_dropped_in_the_middle_of_a_request_leaves_nothing_behind() {
    let server = Server::start();
    let other = Runtime::new().unwrap();
    let client = |server: &Server| sdk(&format!("http://{}", server.address), &ShortLived::default());
    let locks = other.block_on(async {
        let builder = LockClient::builder(&client(&server), "locks").create_table().timing(Timing::aggressive());
        builder.build().await.unwrap()
    });
    let runtime = Runtime::new().unwrap();
    let first = runtime.block_on(async {
        LockClient::builder(&client(&server), "locks").timing(Timing::aggressive()).build().await.unwrap()
    });
    server.turn(Mode::Trickle);
    let asked = server.requests.load(Ordering::SeqCst);
    let acquiring = first.clone();
    let pending = runtime.spawn(async move { acquiring.acquire("job").await.map(|lock| lock.is_valid()) });
    while server.requests.load(Ordering::SeqCst) == asked {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(runtime);
    assert!(futures::executor::block_on(pending).unwrap_err().is_cancelled());
    server.turn(Mode::Answer);
    let lock = other.block_on(async {
        tokio::time::timeout(Duration::from_secs(20), locks.acquire("job")).await.expect("it is blocked").unwrap()
    });
    assert!(lock.is_valid());
    // The client that lost its runtime has a keeper of its own, and goes on.
    let found = other.block_on(first.get("job")).unwrap().unwrap();
    assert_eq!(found.owner(), locks.owner());
}
