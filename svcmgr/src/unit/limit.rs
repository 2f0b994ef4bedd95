//! Resource limits as unit files write them: `LimitNOFILE=1024:infinity` and its like. Which there are, what their
//! numbers mean: systemd.exec(5), "Process Properties", and getrlimit(2).

use super::time::Span;

/// What is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each is the limit of its own name, LimitAS= and so on")]
pub enum Resource {
    As,
    Core,
    Cpu,
    Data,
    Fsize,
    Locks,
    Memlock,
    Msgqueue,
    Nice,
    Nofile,
    Nproc,
    Rss,
    Rtprio,
    Rttime,
    Sigpending,
    Stack,
}

/// One limit of a service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Of what.
    pub resource: Resource,
    /// What holds; in bytes, seconds, microseconds, or just how many.
    pub soft: u64,
    /// Up to where the service may raise it.
    pub hard: u64,
}

/// Why a text is not a limit.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// Not of the right form.
    #[error("{0:?} is not a limit, such as \"4096\", \"1G\", \"1024:infinity\"")]
    NotALimit(String),
    /// The wrong way round.
    #[error("the soft limit {soft} is above the hard one, {hard}")]
    SoftAboveHard {
        /// The first.
        soft: u64,
        /// The second.
        hard: u64,
    },
}

impl Resource {
    /// The kernel's number for it; setrlimit(2).
    pub fn number(self) -> libc::__rlimit_resource_t {
        match self {
            Resource::As => libc::RLIMIT_AS,
            Resource::Core => libc::RLIMIT_CORE,
            Resource::Cpu => libc::RLIMIT_CPU,
            Resource::Data => libc::RLIMIT_DATA,
            Resource::Fsize => libc::RLIMIT_FSIZE,
            Resource::Locks => libc::RLIMIT_LOCKS,
            Resource::Memlock => libc::RLIMIT_MEMLOCK,
            Resource::Msgqueue => libc::RLIMIT_MSGQUEUE,
            Resource::Nice => libc::RLIMIT_NICE,
            Resource::Nofile => libc::RLIMIT_NOFILE,
            Resource::Nproc => libc::RLIMIT_NPROC,
            Resource::Rss => libc::RLIMIT_RSS,
            Resource::Rtprio => libc::RLIMIT_RTPRIO,
            Resource::Rttime => libc::RLIMIT_RTTIME,
            Resource::Sigpending => libc::RLIMIT_SIGPENDING,
            Resource::Stack => libc::RLIMIT_STACK,
        }
    }

    fn value(self, text: &str) -> Option<u64> {
        use Resource::{As, Core, Cpu, Data, Fsize, Memlock, Msgqueue, Nice, Rss, Rttime, Stack};
        let text = text.trim();
        if text == "infinity" {
            return Some(libc::RLIM_INFINITY);
        }
        match self {
            As | Core | Data | Fsize | Memlock | Msgqueue | Rss | Stack => bytes(text),
            // Seconds, begun ones counted whole; a number without a unit is one of seconds.
            Cpu => Span::parse(text).ok().map(|span| span.0.div_ceil(1_000_000)),
            // A number without a unit is one of microseconds.
            Rttime => text.parse().ok().or_else(|| Span::parse(text).ok().map(|span| span.0)),
            // With a sign it is a nice level; the kernel counts 20 minus that. Without, it is the kernel's own count.
            Nice if text.starts_with(['+', '-']) => {
                let level = text.parse::<i64>().ok().filter(|level| (-20..=19).contains(level))?;
                u64::try_from(20_i64.checked_sub(level)?).ok()
            }
            _ => text.parse().ok(),
        }
    }
}

impl Limit {
    /// Reads `soft:hard`, or one value for both.
    pub fn parse(resource: Resource, text: &str) -> Result<Limit, LimitError> {
        let bad = || LimitError::NotALimit(text.to_owned());
        let (soft, hard) = text.split_once(':').unwrap_or((text, text));
        let soft = resource.value(soft).ok_or_else(bad)?;
        let hard = resource.value(hard).ok_or_else(bad)?;
        if soft > hard {
            return Err(LimitError::SoftAboveHard { soft, hard });
        }
        Ok(Limit { resource, soft, hard })
    }
}

/// A number of bytes: with K, M, G, T, P or E, to the base 1024.
pub fn bytes(text: &str) -> Option<u64> {
    let power = text.chars().last().and_then(|last| "KMGTPE".find(last));
    let (number, shift) = match power {
        Some(at) => (text.get(..text.len().checked_sub(1)?)?, u32::try_from(at).ok()?.checked_add(1)?.checked_mul(10)?),
        None => (text, 0),
    };
    number.trim().parse::<u64>().ok()?.checked_mul(1_u64.checked_shl(shift)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_those_of_systemd_exec() {
        let limit = |resource, text: &str| Limit::parse(resource, text).map(|limit| (limit.soft, limit.hard));
        assert_eq!(limit(Resource::Nofile, "1024"), Ok((1024, 1024)));
        assert_eq!(limit(Resource::Nofile, "1024:infinity"), Ok((1024, u64::MAX)));
        assert_eq!(limit(Resource::As, "4G:8G"), Ok((4 << 30, 8 << 30)));
        assert_eq!(limit(Resource::Cpu, "1min 1ms"), Ok((61, 61)));
        assert_eq!(limit(Resource::Rttime, "500"), Ok((500, 500)));
        assert_eq!(limit(Resource::Rttime, "2ms"), Ok((2000, 2000)));
        assert_eq!(limit(Resource::Nice, "-10"), Ok((30, 30)));
        assert_eq!(limit(Resource::Nice, "5"), Ok((5, 5)));
    }

    #[test]
    fn what_is_no_limit_says_why() {
        for text in ["", "many", "1024:", "4X", "K", "99999999999999999999", "17000000T"] {
            assert!(matches!(Limit::parse(Resource::As, text), Err(LimitError::NotALimit(_))), "{text}");
        }
        assert!(matches!(Limit::parse(Resource::Nice, "-21"), Err(LimitError::NotALimit(_))));
        assert_eq!(Limit::parse(Resource::Nproc, "2:1"), Err(LimitError::SoftAboveHard { soft: 2, hard: 1 }));
    }
}
