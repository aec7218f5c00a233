//! Push sources that are switched on: their keys, their names, and whether their signatures can hold.

use super::Found;
use super::host::Host;
use super::measure::Key;

const NONE: &str = "no push source is switched on";

pub(super) fn credentials(host: &Host) -> Found {
    let keyed: Vec<_> =
        host.wants.streams.iter().filter(|stream| stream.credentials_file.is_some()).collect();
    if keyed.is_empty() {
        return Found::ok("no push source that is switched on takes a key");
    }
    let Some(measured) = &host.measured.streams else {
        return Found::unknown("the files of keys were not looked at", None);
    };
    let mut usable = Vec::new();
    let mut hidden = Vec::new();
    for stream in keyed {
        let file =
            stream.credentials_file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        match measured.iter().find(|seen| seen.name == stream.name).and_then(|seen| seen.key.as_ref()) {
            Some(Key::Usable) => usable.push(stream.name.clone()),
            Some(Key::Unusable(problem)) => {
                let fix = format!("two lines in {file}, the key and the secret; chmod 600 {file}");
                return Found::bad(format!("{}: {problem}", stream.name), fix);
            }
            Some(Key::Hidden) | None => hidden.push(file),
        }
    }
    if hidden.is_empty() {
        return Found::ok(format!("{}: two lines that nobody else may read", usable.join(", ")));
    }
    let look = "run this as the service's user: sudo -u tocsin tocsin doctor";
    Found::unknown(format!("this user may not read {}", hidden.join(", ")), Some(look))
}

pub(super) fn address(host: &Host) -> Found {
    if host.wants.streams.is_empty() {
        return Found::ok(NONE);
    }
    let Some(measured) = &host.measured.streams else {
        return Found::unknown("no name was looked up", None);
    };
    let mut found = Vec::new();
    for stream in &host.wants.streams {
        let addresses =
            measured.iter().find(|seen| seen.name == stream.name).map_or(0, |seen| seen.addresses);
        if addresses == 0 {
            return Found::bad(
                format!("{}: {} has no address", stream.name, stream.host),
                format!(
                    "getent ahosts {}; name servers in /etc/resolv.conf, or streams.{}.base_url",
                    stream.host, stream.name
                ),
            );
        }
        found.push(format!("{} {addresses}", stream.host));
    }
    Found::ok(format!("addresses: {}", found.join(", ")))
}

pub(super) fn clock(host: &Host) -> Found {
    let signed = host.wants.streams.iter().filter_map(|stream| Some((stream, stream.clock_within?)));
    let Some((stream, within)) = signed.min_by_key(|(_, within)| *within) else {
        return Found::ok("no push source that is switched on signs the time");
    };
    let name = &stream.name;
    let Some(clock) = &host.measured.clock else {
        return Found::unknown("the kernel's clock state was not read", Some("chronyc tracking"));
    };
    let bound = i64::try_from(within.as_micros()).unwrap_or(i64::MAX);
    let install = "apt install chrony, then chronyc tracking";
    if clock.synchronised && clock.max_error_us < bound {
        return Found::ok(format!("{name} takes signatures within {}", humantime::format_duration(within)));
    }
    let saw = match clock.synchronised {
        false => format!(
            "nobody sets this clock; {name} refuses signatures that are {} off",
            humantime::format_duration(within)
        ),
        true => format!("it may be wrong by {} µs; {name} refuses signatures so far off", clock.max_error_us),
    };
    if clock.synchronised { Found::bad(saw, install) } else { Found::warn(saw, install) }
}
