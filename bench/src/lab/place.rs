//! Which core does what.
//!
//! Contract: pure but for [`Cores::choose`], which asks the kernel once. The writer gets the last
//! usable core (interrupts and everybody's threads gather on the first ones), the second writer one
//! that shares no physical core with it, the clients one of those that are left. Nothing fails: with
//! too few cores, roles share or stay unpinned, and [`Cores::notes`] says so.

use std::fs;

use tocsin::os::cores;

/// Cores by role. `None`: not pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cores {
    /// The writer's.
    pub writer: Option<usize>,
    /// The second writer's, where there are two.
    pub second: Option<usize>,
    /// The clients'.
    pub clients: Option<usize>,
}

impl Cores {
    /// For this process, on this machine.
    #[must_use]
    pub fn choose() -> Cores {
        Cores::of(&cores::available(), &siblings)
    }

    fn of(usable: &[usize], siblings: &dyn Fn(usize) -> Vec<usize>) -> Cores {
        let Some((&writer, others)) = usable.split_last() else {
            return Cores { writer: None, second: None, clients: None };
        };
        if others.is_empty() {
            // One core for all: pinned or not is the same.
            return Cores { writer: None, second: None, clients: None };
        }
        let apart =
            |from: &[usize], core: usize| !from.iter().any(|f| *f == core || siblings(*f).contains(&core));
        let second =
            others.iter().rev().copied().find(|core| apart(&[writer], *core)).or(others.last().copied());
        let taken: Vec<usize> = [Some(writer), second].into_iter().flatten().collect();
        let free = || others.iter().copied().filter(|core| !taken.contains(core));
        let clients = free().find(|core| apart(&taken, *core)).or_else(|| free().next()).or(second);
        Cores { writer: Some(writer), second, clients }
    }

    /// What a reader should know of the choice.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let shown =
            |core: Option<usize>| core.map_or_else(|| "not pinned".to_owned(), |c| format!("core {c}"));
        let mut notes = vec![format!(
            "Writer: {}; second writer: {}; clients: {}.",
            shown(self.writer),
            shown(self.second),
            shown(self.clients)
        )];
        if self.writer.is_none() {
            notes.push(
                "One usable core: writer and clients share it, nothing here is a fan-out time.".to_owned(),
            );
        } else if self.clients == self.second {
            notes.push(
                "Two usable cores: with two writers, the clients share a core with the second one; it looks \
                 slower than it is."
                    .to_owned(),
            );
        }
        notes
    }
}

/// Cores on the same physical core, itself included where the kernel tells.
fn siblings(core: usize) -> Vec<usize> {
    let path = format!("/sys/devices/system/cpu/cpu{core}/topology/thread_siblings_list");
    fs::read_to_string(path).map(|text| list(&text)).unwrap_or_default()
}

/// The kernel's lists of numbers: `0-2,8`. What is not one is left out, and so are long ranges.
fn list(text: &str) -> Vec<usize> {
    let numbers = |part: &str| -> Option<Vec<usize>> {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        let (from, to) = (from.parse().ok()?, to.parse().ok()?);
        Some((from..=to).take(1_024).collect())
    };
    text.trim().split(',').filter_map(numbers).flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_are_spread_over_physical_cores() {
        let none = |_: usize| Vec::new();
        let cores = |writer, second, clients| Cores { writer, second, clients };
        assert_eq!(Cores::of(&[], &none), cores(None, None, None));
        assert_eq!(Cores::of(&[3], &none), cores(None, None, None));
        assert_eq!(Cores::of(&[0, 1], &none), cores(Some(1), Some(0), Some(0)));
        assert_eq!(Cores::of(&[0, 1, 2], &none), cores(Some(2), Some(1), Some(0)));
        // 0 and 1 are one core's threads, so are 2 and 3, 4 and 5.
        let pairs = |core: usize| vec![core & !1, core | 1];
        assert_eq!(Cores::of(&[0, 1, 2, 3, 4, 5], &pairs), cores(Some(5), Some(3), Some(0)));
        assert_eq!(Cores::of(&[0, 1, 2, 3], &pairs), cores(Some(3), Some(1), Some(0)));
        assert_eq!(Cores::of(&[0, 1], &pairs), cores(Some(1), Some(0), Some(0)));
    }

    #[test]
    fn lists_and_notes() {
        assert_eq!(list("0-2,8\n"), [0, 1, 2, 8]);
        assert_eq!(list("x,3"), [3]);
        assert_eq!(Cores { writer: Some(2), second: Some(1), clients: Some(0) }.notes().len(), 1);
        assert!(Cores { writer: Some(1), second: Some(0), clients: Some(0) }.notes()[1].contains("share"));
        assert!(!Cores::choose().notes().is_empty());
    }
}
