//! Names and ports of machines: this one's, and SLURM's lists of them.

use std::net::TcpListener;

/// What the first machine of a list of SLURM's is called: `gpu[07-09,12],cpu1` begins with `gpu07`.
pub fn first_host(list: &str) -> Option<String> {
    let (mut name, mut rest) = (String::new(), list.trim());
    loop {
        let Some(at) = rest.find(['[', ',']) else {
            name += rest;
            break;
        };
        name += &rest[..at];
        if rest[at..].starts_with(',') {
            break;
        }
        let (numbers, behind) = rest[at + 1..].split_once(']')?;
        name += numbers.split(['-', ',']).next().unwrap_or_default();
        rest = behind;
    }
    (!name.is_empty()).then_some(name)
}

/// What this machine calls itself, which others of a network need not know.
pub fn this_host() -> String {
    sysinfo::System::host_name().unwrap_or_default()
}

/// A port of this machine that nobody listens at now, 0 where there is none.
pub fn free_port(host: &str) -> u16 {
    let bound = TcpListener::bind((host, 0)).or_else(|_| TcpListener::bind(("0.0.0.0", 0)));
    bound.and_then(|listener| listener.local_addr()).map_or(0, |address| address.port())
}

#[cfg(test)]
mod tests {
    use super::first_host;

    #[test]
    fn the_first_machine_of_a_list() {
        for (list, first) in [
            ("gpu[07-09,12],cpu1", Some("gpu07")),
            ("node3", Some("node3")),
            ("a,b", Some("a")),
            ("rack[1-2]n[03-04]-ib", Some("rack1n03-ib")),
            ("", None),
            ("gpu[07", None),
        ] {
            assert_eq!(first_host(list).as_deref(), first, "{list}");
        }
    }
}
