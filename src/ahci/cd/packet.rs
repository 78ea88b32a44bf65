//! Packet commands (MMC-6, chapter 6; SPC-4, chapter 6).

use super::pages;
use super::sense::Sense;
use super::{Cd, State};

/// What a command gives to the host.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Bytes.
    Bytes(Vec<u8>),
    /// From a block on, so many blocks of the disc.
    Blocks(u32, u32),
}

const NOTHING: Answer = Answer::Bytes(Vec::new());

// Events of the medium.
const NEW_MEDIUM: u8 = 2;
const MEDIUM_REMOVED: u8 = 3;

/// Commands that are served even when there is something that others are told first.
const ALWAYS: [u8; 4] = [INQUIRY, REQUEST_SENSE, GET_CONFIGURATION, GET_EVENT];
const INQUIRY: u8 = 0x12;
pub(super) const REQUEST_SENSE: u8 = 0x03;
const GET_CONFIGURATION: u8 = 0x46;
const GET_EVENT: u8 = 0x4a;

impl Cd {
    /// Does what a packet says.
    pub(super) fn packet(&self, packet: &[u8; 16]) -> Result<Answer, Sense> {
        let state = &mut *self.state();
        let code = packet[0];
        if !ALWAYS.contains(&code)
            && let Some(attention) = state.attention.take()
        {
            return Err(attention);
        }
        let half = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let most = usize::from(half(7));
        match code {
            0x00 => self.disc(state).map(|_| NOTHING),
            REQUEST_SENSE => cut(Ok(state.take_sense().data()), packet[4].into()),
            INQUIRY => cut(self.inquire(packet), half(3).into()),
            0x1b => self.start_stop(packet[4], state),
            0x1e => {
                state.locked = packet[4] & 1 != 0;
                Ok(NOTHING)
            }
            0x25 => cut(self.disc(state).map(pages::capacity), 8),
            0x28 => self.blocks(state, packet, half(7).into()),
            0x2b => self.blocks(state, packet, 0),
            0x43 => cut(self.contents(state, packet), most),
            GET_CONFIGURATION => {
                let disc = self.disc(state).ok();
                cut(pages::configuration(packet[1] & 3, half(2), disc), most)
            }
            GET_EVENT => cut(self.event(state, packet), most),
            0x51 => {
                self.disc(state)?;
                valid(packet[1] & 7 == 0)?;
                cut(Ok(pages::disc_information()), most)
            }
            0x5a => {
                let (control, page) = (packet[2] >> 6, packet[2] & 0x3f);
                cut(pages::mode(control, page, state.locked), most)
            }
            0xa8 => {
                let count = [packet[6], packet[7], packet[8], packet[9]];
                self.blocks(state, packet, u32::from_be_bytes(count))
            }
            // SET CD SPEED: there is one speed.
            0xbb => Ok(NOTHING),
            0xbd => cut(Ok(pages::mechanism(state.open)), half(8).into()),
            _ => Err(Sense::UNKNOWN_COMMAND),
        }
    }

    /// How many blocks the disc has, if one is in the closed drive.
    fn disc(&self, state: &State) -> Result<u32, Sense> {
        match self.blocks {
            _ if state.open => Err(Sense::TRAY_OPEN),
            0 => Err(Sense::NO_MEDIUM),
            blocks => Ok(blocks),
        }
    }

    fn inquire(&self, packet: &[u8; 16]) -> Result<Vec<u8>, Sense> {
        match (packet[1] & 1, packet[2]) {
            (0, 0) => Ok(pages::inquiry()),
            (0, _) => Err(Sense::INVALID_FIELD),
            (_, page) => pages::vital(page, &self.serial),
        }
    }

    /// READ and SEEK: blocks that must be on the disc, even if none is read.
    fn blocks(&self, state: &State, packet: &[u8; 16], count: u32) -> Result<Answer, Sense> {
        let disc = self.disc(state)?;
        let first = u32::from_be_bytes([packet[2], packet[3], packet[4], packet[5]]);
        match first.checked_add(count) {
            Some(end) if end <= disc && first < disc => Ok(Answer::Blocks(first, count)),
            _ => Err(Sense::OUT_OF_RANGE),
        }
    }

    fn contents(&self, state: &State, packet: &[u8; 16]) -> Result<Vec<u8>, Sense> {
        let disc = self.disc(state)?;
        // Before MMC-2 the format stood in the last byte.
        let format = match packet[2] & 0xf {
            0 => packet[9] >> 6,
            format => format,
        };
        pages::contents(format, packet[6], packet[1] & 2 != 0, disc)
    }

    /// START STOP UNIT (MMC-6): the tray opens, where nobody prevents it, and closes.
    fn start_stop(&self, what: u8, state: &mut State) -> Result<Answer, Sense> {
        const START: u8 = 1;
        const EJECT: u8 = 2;
        let power_condition = what >> 4;
        if power_condition != 0 || what & EJECT == 0 {
            return Ok(NOTHING);
        }
        let open = what & START == 0;
        if open && state.locked {
            return Err(Sense::REMOVAL_PREVENTED);
        }
        if state.open != open && self.blocks > 0 {
            state.event = if open { MEDIUM_REMOVED } else { NEW_MEDIUM };
            state.attention = (!open).then_some(Sense::MEDIUM_CHANGED);
        }
        state.open = open;
        Ok(NOTHING)
    }

    /// An event is told once. Only polling is offered.
    fn event(&self, state: &mut State, packet: &[u8; 16]) -> Result<Vec<u8>, Sense> {
        const MEDIA: u8 = 1 << 4;
        valid(packet[1] & 1 != 0)?;
        let disc = self.disc(state).is_ok();
        let code = match packet[4] & MEDIA {
            0 => 0,
            _ => std::mem::take(&mut state.event),
        };
        Ok(pages::event(packet[4], code, state.open, disc))
    }
}

impl State {
    /// What REQUEST SENSE tells, once: the last error, or else what the next command would be told first.
    fn take_sense(&mut self) -> Sense {
        let sense = std::mem::take(&mut self.sense);
        if sense == Sense::default() {
            return self.attention.take().unwrap_or_default();
        }
        sense
    }
}

/// No more bytes than the host has room for.
fn cut(bytes: Result<Vec<u8>, Sense>, most: usize) -> Result<Answer, Sense> {
    let mut bytes = bytes?;
    bytes.truncate(most);
    Ok(Answer::Bytes(bytes))
}

fn valid(field: bool) -> Result<(), Sense> {
    field.then_some(()).ok_or(Sense::INVALID_FIELD)
}
