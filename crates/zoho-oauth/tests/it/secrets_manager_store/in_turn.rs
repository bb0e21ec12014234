//! moto works on several requests at once and locks nothing: of two that make one secret at the same
//! moment both succeed now and then, and one value is lost. AWS excludes that, and the store relies
//! on it. So where several processes write, their requests go to moto one after the other.

use std::fs::File;
use std::io::{Read, Result, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;

/// Starts a server in this process that hands each request on to `target` while it holds the lock
/// of the file in `folder`, which all processes of a test share. Answers its URL.
pub(super) fn in_turn(target: &str, folder: &Path) -> Result<String> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let url = format!("http://{}", listener.local_addr()?);
    let target = target.trim_start_matches("http://").to_owned();
    let lock = folder.join("moto.lock");
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let (target, lock) = (target.clone(), lock.clone());
            // A client that goes away half-way is its own concern.
            thread::spawn(move || drop(hand_on(stream, &target, lock)));
        }
    });
    Ok(url)
}

fn hand_on(mut client: TcpStream, target: &str, lock: PathBuf) -> Result<()> {
    const CLOSE: &[u8] = b"\r\nConnection: close";
    let (mut request, end) = read_message(&mut client)?;
    request.splice(end..end, CLOSE.iter().copied());
    let lock = File::create(lock)?;
    lock.lock()?;
    let mut server = TcpStream::connect(target)?;
    server.write_all(&request)?;
    // Not to the end of the connection: that moto tells much later.
    let (answer, _) = read_message(&mut server)?;
    lock.unlock()?;
    client.write_all(&answer)
}

/// Reads a whole request or answer, and says where its head ends.
fn read_message(stream: &mut TcpStream) -> Result<(Vec<u8>, usize)> {
    const END: &[u8] = b"\r\n\r\n";
    let mut message = Vec::new();
    let mut buffer = [0; 8192];
    loop {
        let count = stream.read(&mut buffer)?;
        if count == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        message.extend_from_slice(&buffer[..count]);
        let Some(end) = message.windows(END.len()).position(|four| four == END) else {
            continue;
        };
        let head = String::from_utf8_lossy(&message[..end]).to_lowercase();
        let length = head.split("content-length:").nth(1);
        let length = length.and_then(|rest| rest.lines().next()?.trim().parse().ok());
        let length: usize = length.unwrap_or(0);
        if message.len() >= end + END.len() + length {
            return Ok((message, end));
        }
    }
}
