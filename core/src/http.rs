//! GET /metrics and health on a socket; knows only a closure that yields bytes.
//!
//! hyper on a current-thread tokio runtime, made in the aggregator's own process after the fork, so no
//! forked child can trip over it. A listener on a server's machine meets port scanners, half-open
//! connections and scrapers that never read: connections are bounded in number and time, and when the
//! bound is reached the oldest one that has not even sent its head makes room.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Body, Bytes, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::{Method, Request, Response, StatusCode, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::sync::Notify;
use tokio::task::{spawn_local, AbortHandle, LocalSet};
use tokio::time::Instant;

use crate::error::Error;

/// What peers may use up.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Connections at a time.
    pub connections: usize,
    /// Bytes of a request's head.
    pub head_bytes: usize,
    /// Time to send the head.
    pub head_time: Duration,
    /// Time of a whole connection: head, render, and the rest for the reader.
    pub connection_time: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 256,
            head_bytes: 8 * 1024,
            head_time: Duration::from_secs(5),
            connection_time: Duration::from_secs(15),
        }
    }
}

/// What a request for the metrics says about the answer it wants.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Its `Accept` headers, joined.
    pub accept: String,
    /// Its `Accept-Encoding` headers, joined.
    pub accept_encoding: String,
}

/// What the closure answers to a scrape.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Its `Content-Type`.
    pub content_type: &'static str,
    /// Its `Content-Encoding`, if it has one.
    pub content_encoding: Option<&'static str>,
    /// Its body.
    pub body: Bytes,
}

/// A bound socket.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Binds `host:port`, `:port` (loopback) or `port` (loopback).
    ///
    /// # Errors
    /// [`Error::Listen`]; a taken port's holder is named where /proc tells.
    pub fn bind(address: &str) -> Result<Listener, Error> {
        let refuse = |cause: String| Error::Listen { address: address.to_string(), cause };
        let full = match address.rsplit_once(':') {
            None => format!("127.0.0.1:{address}"),
            Some(("", port)) => format!("127.0.0.1:{port}"),
            Some(_) => address.to_string(),
        };
        let candidates: Vec<SocketAddr> =
            full.to_socket_addrs().map_err(|error| refuse(error.to_string()))?.collect();
        // std sets SO_REUSEADDR on Unix: a restarted aggregator need not wait for old connections.
        let socket = TcpListener::bind(&*candidates).map_err(|error| {
            let port = candidates.first().map_or(0, SocketAddr::port);
            match (error.kind(), port_holder(port)) {
                (io::ErrorKind::AddrInUse, Some(holder)) => {
                    refuse(format!("the port is held by {holder}"))
                }
                _ => refuse(error.to_string()),
            }
        })?;
        let address = socket.local_addr().map_err(|error| refuse(error.to_string()))?;
        Ok(Listener { socket, address })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }
}

/// The process that listens on a TCP port, as far as this user may see it: `pid 123 (puma)`.
fn port_holder(port: u16) -> Option<String> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (_, hex) = fields.get(1)?.rsplit_once(':')?;
            let listening = fields.get(3) == Some(&"0A");
            let ours = u16::from_str_radix(hex, 16) == Ok(port);
            (listening && ours).then(|| fields.get(9).map(ToString::to_string))?
        })
    })?;
    let wanted = format!("socket:[{inode}]");
    std::fs::read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid: u32 = process.file_name().to_str()?.parse().ok()?;
        let descriptors = std::fs::read_dir(process.path().join("fd")).ok()?;
        let holds = |entry: std::fs::DirEntry| {
            std::fs::read_link(entry.path())
                .is_ok_and(|target| target.as_os_str() == wanted.as_str())
        };
        if !descriptors.flatten().any(holds) {
            return None;
        }
        let name = std::fs::read_to_string(process.path().join("comm")).unwrap_or_default();
        Some(format!("pid {pid} ({})", name.trim()))
    })
}

/// Answers until SIGTERM comes or `round`, called at each interval, says so.
///
/// `metrics` answers a scrape; it is called on this thread, by one request at a time.
///
/// # Errors
/// When the runtime or the socket cannot be set up.
pub fn serve(
    listener: Listener,
    limits: Limits,
    metrics: impl Fn(&Asked) -> Answer + 'static,
    interval: Duration,
    mut round: impl FnMut() -> ControlFlow<()>,
) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async move {
        listener.socket.set_nonblocking(true)?;
        let socket = tokio::net::TcpListener::from_std(listener.socket)?;
        let stop = Rc::new(Notify::new());
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let stopped = Rc::clone(&stop);
        spawn_local(async move {
            terminate.recv().await;
            stopped.notify_one();
        });
        spawn_local(accept(socket, limits, Rc::new(metrics)));
        loop {
            if round().is_break() || tokio::time::timeout(interval, stop.notified()).await.is_ok() {
                return Ok(());
            }
        }
    })
}

/// Takes connections for ever.
async fn accept(
    socket: tokio::net::TcpListener,
    limits: Limits,
    metrics: Rc<impl Fn(&Asked) -> Answer + 'static>,
) {
    let crowd = Rc::new(Crowd::default());
    loop {
        match socket.accept().await {
            Ok((stream, _)) => {
                crowd.make_room(limits.connections).await;
                let seat = crowd.seat();
                let answered = converse(stream, limits, Rc::clone(&metrics), seat.clone());
                let crowd_of_task = Rc::clone(&crowd);
                let task = spawn_local(async move {
                    // Errors and time-outs are the peer's affair: the connection just ends.
                    let _ = tokio::time::timeout(limits.connection_time, answered).await;
                    crowd_of_task.leave(&seat);
                });
                crowd.sit_down(task.abort_handle());
            }
            // Out of descriptors, or the peer is gone already: go on when there may be some again.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
}

/// How long a connection has its seat for certain: who asks at once has been answered by then. A flood of
/// others waits in the kernel's queue meanwhile.
const GRACE: Duration = Duration::from_millis(20);

/// The open connections, oldest first.
#[derive(Default)]
struct Crowd {
    seats: RefCell<VecDeque<Seated>>,
}

struct Seated {
    seat: Seat,
    since: Instant,
    task: Option<AbortHandle>,
}

/// One connection; true when its head has arrived.
type Seat = Rc<Cell<bool>>;

impl Crowd {
    fn seat(&self) -> Seat {
        let seat = Rc::new(Cell::new(false));
        let seated = Seated { seat: Rc::clone(&seat), since: Instant::now(), task: None };
        self.seats.borrow_mut().push_back(seated);
        seat
    }

    /// Notes how to end the connection that was seated last.
    fn sit_down(&self, task: AbortHandle) {
        if let Some(seated) = self.seats.borrow_mut().back_mut() {
            seated.task = Some(task);
        }
    }

    fn leave(&self, seat: &Seat) {
        self.seats.borrow_mut().retain(|other| !Rc::ptr_eq(&other.seat, seat));
    }

    /// Ends the oldest connection without a complete head, else the oldest of all, once its grace is over.
    async fn make_room(&self, most: usize) {
        while let Some(wait) = self.try_make_room(most) {
            tokio::time::sleep(wait).await;
        }
    }

    /// How long to wait before there can be room; None when there is.
    fn try_make_room(&self, most: usize) -> Option<Duration> {
        let mut seats = self.seats.borrow_mut();
        while seats.len() >= most {
            let victim = seats.iter().position(|seated| !seated.seat.get()).unwrap_or(0);
            let left = GRACE.saturating_sub(seats[victim].since.elapsed());
            if !left.is_zero() {
                return Some(left);
            }
            if let Some(task) = seats.remove(victim).and_then(|seated| seated.task) {
                task.abort();
            }
        }
        None
    }
}

/// One request, one response, `Connection: close`.
fn converse(
    stream: tokio::net::TcpStream,
    limits: Limits,
    metrics: Rc<impl Fn(&Asked) -> Answer + 'static>,
    seat: Seat,
) -> impl Future<Output = hyper::Result<()>> {
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        seat.set(true);
        let response = respond(&request, &*metrics);
        async move { Ok::<_, Infallible>(response) }
    });
    hyper::server::conn::http1::Builder::new()
        .keep_alive(false)
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head_time)
        .max_buf_size(limits.head_bytes)
        .serve_connection(TokioIo::new(stream), service)
}

fn respond(
    request: &Request<Incoming>,
    metrics: &dyn Fn(&Asked) -> Answer,
) -> Response<Full<Bytes>> {
    let announces_body = request.headers().contains_key(header::TRANSFER_ENCODING)
        || request.body().size_hint().upper() != Some(0);
    let readable = matches!(*request.method(), Method::GET | Method::HEAD);
    let hosts = request.headers().get_all(header::HOST).iter().count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return plain(StatusCode::BAD_REQUEST, "send one Host header\n");
    }
    match request.uri().path() {
        "/metrics" | "/-/healthy" | "/-/ready" if !readable => {
            let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD here\n");
            response.headers_mut().insert(header::ALLOW, HeaderValue::from_static("GET, HEAD"));
            response
        }
        "/metrics" | "/-/healthy" | "/-/ready" if announces_body => {
            plain(StatusCode::BAD_REQUEST, "send no request body\n")
        }
        "/metrics" => {
            let accept = joined(request, header::ACCEPT);
            let accept_encoding = joined(request, header::ACCEPT_ENCODING);
            let answer = metrics(&Asked { accept, accept_encoding });
            let mut response = page(StatusCode::OK, answer.content_type, answer.body);
            let headers = response.headers_mut();
            headers.insert(header::VARY, HeaderValue::from_static("Accept, Accept-Encoding"));
            if let Some(encoding) = answer.content_encoding {
                headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(encoding));
            }
            response
        }
        "/-/healthy" | "/-/ready" => plain(StatusCode::OK, "promring is up\n"),
        _ => plain(StatusCode::NOT_FOUND, "not found; the metrics are at /metrics\n"),
    }
}

/// A header that may be given several times, as the one it stands for; what is no text is left out.
fn joined(request: &Request<Incoming>, name: HeaderName) -> String {
    let values = request.headers().get_all(name);
    values.iter().filter_map(|value| value.to_str().ok()).collect::<Vec<_>>().join(",")
}

fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    page(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

fn page(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}
