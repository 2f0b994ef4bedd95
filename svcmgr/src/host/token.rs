//! What an epoll event speaks of, as the 64 bits that the kernel keeps for us.

use rustix::event::epoll::EventData;

use crate::graph::UnitId;
use crate::machine::Role;

/// What an epoll event speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum Token {
    Urgent,
    Init,
    Signals,
    Notify,
    Listener,
    Client(u32),
    Output(UnitId),
    Process(UnitId, Role),
    Start(UnitId, Role),
    Population(UnitId),
    Memory(UnitId),
    PidFile(UnitId),
    Bus(UnitId),
    Kmsg,
    Syslog,
    Journal,
    Streams,
    Stream(u32),
    Kept(u32),
    Ready(UnitId),
    Incoming(UnitId),
    Former(u32),
}

impl Token {
    /// Whether what has happened may bring lines into a log, or asks for those that there are.
    pub fn brings_lines(self) -> bool {
        match self {
            Token::Output(_)
            | Token::Process(..)
            | Token::Former(_)
            | Token::Syslog
            | Token::Journal
            | Token::Streams
            | Token::Stream(_)
            | Token::Client(_) => true,
            Token::Urgent
            | Token::Init
            | Token::Signals
            | Token::Notify
            | Token::Listener
            | Token::Start(..)
            | Token::Population(_)
            | Token::Memory(_)
            | Token::PidFile(_)
            | Token::Bus(_)
            | Token::Kmsg
            | Token::Kept(_)
            | Token::Ready(_)
            | Token::Incoming(_) => false,
        }
    }

    /// Whether it is heard before all that happens to services, however much that is: PID 1, and people.
    pub fn is_urgent(self) -> bool {
        matches!(self, Token::Init | Token::Signals | Token::Listener | Token::Client(_))
    }

    /// As the kernel keeps it: the kind in the upper half, the number in the lower.
    pub fn data(self) -> EventData {
        let (kind, number) = match self {
            Token::Init => (0, 0),
            Token::Signals => (1, 0),
            Token::Notify => (2, 0),
            Token::Listener => (3, 0),
            Token::Client(n) => (4, n),
            Token::Output(id) => (5, id.0),
            Token::Process(id, Role::Main) => (6, id.0),
            Token::Process(id, Role::Control) => (7, id.0),
            Token::Start(id, Role::Main) => (8, id.0),
            Token::Start(id, Role::Control) => (9, id.0),
            Token::Population(id) => (10, id.0),
            Token::Memory(id) => (11, id.0),
            Token::PidFile(id) => (12, id.0),
            Token::Bus(id) => (13, id.0),
            Token::Kmsg => (14, 0),
            Token::Syslog => (15, 0),
            Token::Journal => (16, 0),
            Token::Streams => (17, 0),
            Token::Stream(n) => (18, n),
            Token::Kept(n) => (19, n),
            Token::Ready(id) => (20, id.0),
            Token::Incoming(id) => (21, id.0),
            Token::Urgent => (22, 0),
            Token::Former(n) => (23, n),
        };
        EventData::new_u64(u64::from(number) | (kind << 32))
    }

    /// Back from what the kernel kept.
    pub fn from_data(data: EventData) -> Option<Token> {
        let data = data.u64();
        let number = u32::try_from(data & u64::from(u32::MAX)).ok()?;
        let id = UnitId(number);
        Some(match data >> 32 {
            0 => Token::Init,
            1 => Token::Signals,
            2 => Token::Notify,
            3 => Token::Listener,
            4 => Token::Client(number),
            5 => Token::Output(id),
            6 => Token::Process(id, Role::Main),
            7 => Token::Process(id, Role::Control),
            8 => Token::Start(id, Role::Main),
            9 => Token::Start(id, Role::Control),
            10 => Token::Population(id),
            11 => Token::Memory(id),
            12 => Token::PidFile(id),
            13 => Token::Bus(id),
            14 => Token::Kmsg,
            15 => Token::Syslog,
            16 => Token::Journal,
            17 => Token::Streams,
            18 => Token::Stream(number),
            19 => Token::Kept(number),
            20 => Token::Ready(id),
            21 => Token::Incoming(id),
            22 => Token::Urgent,
            23 => Token::Former(number),
            _ => return None,
        })
    }
}
