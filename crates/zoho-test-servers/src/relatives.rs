//! The processes that a process has started.
//!
//! Servers start others: PostgreSQL one for each connection, each leader of a session of its own;
//! Galera the scripts that copy a node's data. Who kills the first alone leaves the others with the
//! data folder open.

use std::fs;

use rustix::process::{Pid, Signal, kill_process};

/// Stops `leader` and all below it where they are, and returns them, `leader` first.
pub(crate) fn freeze(leader: Pid) -> Vec<Pid> {
    let mut family = vec![leader];
    let mut frozen = 0;
    // A process may start another until its own stop arrives: look again until none is new.
    while frozen < family.len() {
        for &pid in &family[frozen..] {
            // It may have ended meanwhile.
            let _ = kill_process(pid, Signal::STOP);
        }
        frozen = family.len();
        for child in below(&family) {
            if !family.contains(&child) {
                family.push(child);
            }
        }
    }
    family
}

/// `leader` and all below it, `leader` first.
pub(crate) fn family(leader: Pid) -> Vec<Pid> {
    let mut family = vec![leader];
    family.extend(below(&[leader]));
    family
}

/// All processes whose parent, or parent's parent, …, is one of `ancestors`.
fn below(ancestors: &[Pid]) -> Vec<Pid> {
    let all: Vec<_> = all().collect();
    let mut found = ancestors.to_vec();
    let mut looked_at = 0;
    while let Some(&parent) = found.get(looked_at) {
        looked_at += 1;
        found.extend(
            all.iter()
                .filter(|process| process.parent == parent.as_raw_nonzero().get())
                .filter_map(|process| Pid::from_raw(process.pid)),
        );
    }
    found.split_off(ancestors.len())
}

/// Whether `pid` is a process that still does something: not gone, and not merely unreaped.
pub(crate) fn is_alive(pid: Pid) -> bool {
    read(pid.as_raw_nonzero().get()).is_some_and(|process| !matches!(process.state, 'Z' | 'X'))
}

/// Whether no thread of `pid` runs any more. A stop that was sent arrives when one is scheduled.
pub(crate) fn is_stopped(pid: Pid) -> bool {
    let threads = format!("/proc/{}/task", pid.as_raw_nonzero());
    let mut threads = fs::read_dir(threads).into_iter().flatten().flatten();
    threads.all(|thread| {
        let stat = fs::read_to_string(thread.path().join("stat"));
        let state = stat.ok().and_then(|stat| Some(parse(&stat)?.state));
        state.is_none_or(|state| matches!(state, 'T' | 't' | 'Z' | 'X'))
    })
}

#[derive(Debug, PartialEq)]
struct Process {
    pid: i32,
    parent: i32,
    state: char,
}

/// What `/proc` lists: Linux. Elsewhere there is no such list, and only the first is known.
fn all() -> impl Iterator<Item = Process> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| read(entry.file_name().to_str()?.parse().ok()?))
}

fn read(pid: i32) -> Option<Process> {
    parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `pid (name) state parent …`; the name may hold anything, parentheses included.
fn parse(stat: &str) -> Option<Process> {
    let (pid, rest) = stat.split_once(" (")?;
    let (_, rest) = rest.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some(Process {
        pid: pid.parse().ok()?,
        state: fields.next()?.chars().next()?,
        parent: fields.next()?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_hides_nothing() {
        let process = parse("812 (a) S (b) R 7 812 812 0 -1 4194304").unwrap();
        let expected = Process {
            pid: 812,
            parent: 7,
            state: 'R',
        };
        assert_eq!(process, expected);
    }
}
