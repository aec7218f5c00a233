//! Tests in namespaces of their own: the test runs itself again inside, where it may break the machine.

use std::process::Command;

/// Set in the process that runs inside.
const INSIDE: &str = "TOCSIN_TEST_INSIDE";

/// What is a test's own.
#[derive(Clone, Copy, Debug)]
pub enum Own {
    /// Its network: nothing but a loopback interface, which is up.
    Network,
    /// Its mounts: what it mounts nobody else sees.
    Mounts,
}

impl Own {
    fn flag(self) -> &'static str {
        match self {
            Own::Network => "-n",
            Own::Mounts => "-m",
        }
    }
}

/// Runs `test`, by its full name, in a namespace of its own after the shell commands `setup`. True in the
/// process inside, which goes on with the test; false in the one outside once the other has passed.
pub fn enter(test: &str, own: Own, setup: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let works = |flags: &Vec<&str>| {
        Command::new("unshare").args(flags).arg("true").output().is_ok_and(|o| o.status.success())
    };
    let Some(flags) = [vec![own.flag()], vec![own.flag(), "-r"]].into_iter().find(works) else {
        panic!("this test needs namespaces ({own:?}): run it as root, or allow unprivileged user namespaces")
    };
    let ip = Command::new("ip").arg("-V").output();
    assert!(ip.is_ok_and(|o| o.status.success()), "this test needs `ip`: install the package iproute2");
    let up = if matches!(own, Own::Network) { "ip link set lo up;" } else { "" };
    let output = Command::new("unshare")
        .args(flags)
        .args(["sh", "-c", &format!("set -e; {up} {setup} exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{out}");
    assert!(output.status.success(), "in the namespace: {err}");
    assert!(out.contains("1 passed"), "no test named {test} ran in the namespace");
    false
}

/// Runs shell commands that must succeed.
pub fn sh(commands: &str) -> String {
    let output = Command::new("sh").args(["-ec", commands]).output().unwrap();
    assert!(output.status.success(), "{commands}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}
