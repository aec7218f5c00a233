//! The wall clock of one process, stepped: what `settimeofday` would do to it, and to it alone.
//!
//! The engine reads the clock through the vDSO, so nothing that is preloaded or traced would see it ask. The
//! page of code that the kernel gives each process for that is the process's own copy as soon as somebody
//! writes to it, as debuggers do for breakpoints: [`WallClock::of`] puts a few instructions into its unused
//! end, which ask the kernel and add an offset to the wall clock alone, and has `clock_gettime` begin with a
//! jump to them. The monotonic clock stays what it was. For x86-64; the process must be a child of this one.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt as _;
use std::time::{Duration, Instant};

use crate::harness::Engine;

/// `mov eax, 228 (clock_gettime); syscall; test edi, edi (CLOCK_REALTIME); jne +7; add qword [rsi], 0; ret`.
const CODE: [u8; 19] = [
    0xb8, 0xe4, 0x00, 0x00, 0x00, 0x0f, 0x05, 0x85, 0xff, 0x75, 0x07, 0x48, 0x81, 0x06, 0x00, 0x00, 0x00,
    0x00, 0xc3,
];
/// Where in it the seconds are.
const SECONDS_AT: u64 = 14;
/// A jump.
const JUMP_BYTES: u64 = 5;

/// See the module head.
pub(crate) struct WallClock {
    memory: File,
    pid: u32,
    /// Address of the seconds.
    seconds: u64,
}

impl WallClock {
    /// Of a running engine, not stepped yet.
    pub(crate) fn of(engine: &Engine) -> WallClock {
        const { assert!(cfg!(target_arch = "x86_64"), "this test writes machine code of x86-64") };
        let pid = engine.pid();
        let (base, length) = vdso(pid);
        let memory = OpenOptions::new().read(true).write(true).open(format!("/proc/{pid}/mem")).unwrap();
        let mut image = vec![0; usize::try_from(length).unwrap()];
        memory.read_exact_at(&mut image, base).unwrap();
        let entry = base + symbol(&image, b"__vdso_clock_gettime");
        // Behind the last byte of the image; the seconds aligned.
        let used = u64::try_from(image.iter().rposition(|byte| *byte != 0).unwrap()).unwrap() + 16;
        let code = base + used.next_multiple_of(16) + 2;
        assert!(code + CODE.len() as u64 <= base + length, "no room behind the code of the kernel's page");
        memory.write_all_at(&CODE, code).unwrap();
        let clock = WallClock { memory, pid, seconds: code + SECONDS_AT };
        let distance = i32::try_from(code.cast_signed() - (entry + JUMP_BYTES).cast_signed()).unwrap();
        let jump = [&[0xe9][..], &distance.to_le_bytes()].concat();
        clock.while_stopped_outside(entry..entry + JUMP_BYTES, || {
            clock.memory.write_all_at(&jump, entry).unwrap();
        });
        clock
    }

    /// Seconds that the process's wall clock is ahead from now on.
    pub(crate) fn step_to(&self, ahead: i32) {
        self.while_stopped_outside(0..0, || {
            self.memory.write_all_at(&ahead.to_le_bytes(), self.seconds).unwrap();
        });
    }

    /// Does it while the process stands still and no thread is about to run what lies there.
    fn while_stopped_outside(&self, code: std::ops::Range<u64>, change: impl FnOnce()) {
        let pid = rustix::process::Pid::from_raw(self.pid.cast_signed()).unwrap();
        let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
        let threads = || std::fs::read_dir(format!("/proc/{}/task", self.pid)).unwrap();
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            assert!(Instant::now() < until, "the process does not stand still");
            signal(rustix::process::Signal::STOP);
            let places: Option<Vec<u64>> = threads().map(|task| place(&task.unwrap().path())).collect();
            match places {
                Some(places) if !places.iter().any(|place| code.contains(place)) => break,
                // Stopped right there, or not yet: once more.
                Some(_) => signal(rustix::process::Signal::CONT),
                None => {}
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        change();
        signal(rustix::process::Signal::CONT);
    }
}

/// The next instruction of a thread that stands still.
fn place(task: &std::path::Path) -> Option<u64> {
    let text = std::fs::read_to_string(task.join("syscall")).ok()?;
    let last = text.split_whitespace().last()?.strip_prefix("0x")?;
    u64::from_str_radix(last, 16).ok()
}

/// Where the kernel's code lies in a process, and how long it is.
fn vdso(pid: u32) -> (u64, u64) {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let line = maps.lines().find(|line| line.ends_with("[vdso]")).expect("a vDSO");
    let (from, to) = line.split(' ').next().unwrap().split_once('-').unwrap();
    let [from, to] = [from, to].map(|text| u64::from_str_radix(text, 16).unwrap());
    (from, to - from)
}

/// Offset of a function of an ELF image.
fn symbol(image: &[u8], name: &[u8]) -> u64 {
    let number = |at: usize, bytes: usize| {
        image[at..at + bytes].iter().rev().fold(0_usize, |all, byte| all << 8 | usize::from(*byte))
    };
    let (sections, size, count) = (number(0x28, 8), number(0x3a, 2), number(0x3c, 2));
    let section = |index: usize| sections + index * size;
    const DYNAMIC_SYMBOLS: usize = 11;
    let symbols = (0..count).map(section).find(|at| number(at + 4, 4) == DYNAMIC_SYMBOLS).unwrap();
    let names = number(section(number(symbols + 0x28, 4)) + 0x18, 8);
    let (from, length) = (number(symbols + 0x18, 8), number(symbols + 0x20, 8));
    let is_it = |at: &usize| {
        let text = &image[names + number(*at, 4)..];
        text.starts_with(name) && text[name.len()] == 0
    };
    let at = (from..from + length).step_by(24).find(is_it).expect("the function");
    number(at + 8, 8) as u64
}
