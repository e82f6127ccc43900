//! The network of one replica: a proxy that cuts, loses, delays and resets.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What a network does at the moment, to connections that there are and to new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Passes,
    /// Connections are reset, and new ones as soon as they are made.
    Cut,
    /// Requests vanish.
    LosesRequests,
    /// Requests arrive, replies vanish.
    LosesReplies,
    /// Both vanish, and connections stay open.
    HalfOpen,
    /// Each piece is late, each way; or arrives a few bytes at a time besides.
    Slow {
        delay: Duration,
        trickles: bool,
    },
    /// Each connection is reset within 300 ms.
    ResetStorm,
    /// Each connection is reset in the middle of a request, or after it and before its reply.
    ResetsRequests,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Request,
    Reply,
}

/// Both ends are to see a reset.
struct Reset;

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    mode: watch::Sender<Mode>,
}

impl Proxy {
    pub(crate) async fn start(upstream: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, seen) = watch::channel(Mode::Passes);
        tokio::spawn(async move {
            loop {
                // A client that is gone before it is accepted is no failure.
                let Ok((client, _)) = listener.accept().await else { continue };
                tokio::spawn(connect(client, upstream, seen.clone()));
            }
        });
        Self { address, mode }
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

async fn connect(mut client: TcpStream, upstream: SocketAddr, mut mode: watch::Receiver<Mode>) {
    let now = *mode.borrow();
    let server = if now == Mode::Cut { None } else { TcpStream::connect(upstream).await.ok() };
    let Some(mut server) = server else {
        let _ = client.set_zero_linger();
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let reset = {
        let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
        let requests = pump(from_client, to_server, Way::Request, mode.clone());
        let replies = pump(from_server, to_client, Way::Reply, mode.clone());
        let mut cuts = mode.clone();
        tokio::select! {
            ends = async { tokio::try_join!(requests, replies) } => ends.is_err(),
            _ = cuts.wait_for(|mode| *mode == Mode::Cut) => true,
            () = storm(&mut mode) => true,
        }
    };
    if reset {
        let _ = (client.set_zero_linger(), server.set_zero_linger());
    }
}

/// Ends some moment after a storm began, unless it was over before.
async fn storm(mode: &mut watch::Receiver<Mode>) {
    loop {
        if mode.wait_for(|mode| *mode == Mode::ResetStorm).await.is_err() {
            return std::future::pending().await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..300))).await;
        if *mode.borrow() == Mode::ResetStorm {
            return;
        }
    }
}

/// One way of one connection. What is under way when its sender goes away still arrives: late, and after its sender gave up.
async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: Way,
    mode: watch::Receiver<Mode>,
) -> Result<(), Reset> {
    let mut buffer = vec![0; 16 * 1024];
    let mut loses = false;
    loop {
        let Ok(count @ 1..) = from.read(&mut buffer).await else {
            let _ = to.shutdown().await;
            return Ok(());
        };
        let (piece, mode) = (&buffer[..count], *mode.borrow());
        loses |= match mode {
            Mode::LosesRequests => way == Way::Request,
            Mode::LosesReplies => way == Way::Reply,
            Mode::HalfOpen => true,
            _ => false,
        };
        // Once something is missing, nothing that comes later means anything to the other end.
        if loses {
            continue;
        }
        let sent = match mode {
            Mode::ResetsRequests if way == Way::Reply => return Err(Reset),
            Mode::ResetsRequests if fastrand::bool() => {
                let _ = to.write_all(&piece[..count / 2]).await;
                return Err(Reset);
            }
            Mode::Slow { delay, trickles } => slowly(&mut to, piece, delay, trickles).await,
            _ => to.write_all(piece).await,
        };
        if sent.is_err() {
            return Ok(());
        }
    }
}

async fn slowly(
    to: &mut (impl AsyncWrite + Unpin),
    piece: &[u8],
    delay: Duration,
    trickles: bool,
) -> std::io::Result<()> {
    tokio::time::sleep(delay).await;
    if !trickles {
        return to.write_all(piece).await;
    }
    for drops in piece.chunks(100) {
        to.write_all(drops).await?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Ok(())
}
