//! The messages of systemd, journald and systemd-coredump that have an id.

/// What an id says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Message {
    /// The event's kind.
    pub kind: &'static str,
    /// Syslog priority at least (0 is worst).
    pub priority: i64,
    /// The field with the number the event is about, and its unit.
    pub value: Option<(&'static str, &'static str)>,
}

const fn message(id: u128, kind: &'static str, priority: i64) -> (u128, Message) {
    (id, Message { kind, priority, value: None })
}

const fn counting(
    id: u128,
    kind: &'static str,
    priority: i64,
    value: (&'static str, &'static str),
) -> (u128, Message) {
    (id, Message { kind, priority, value: Some(value) })
}

/// Ids from systemd's `sd-messages.h` (v252), which keeps them for ever.
///
/// A start that fails has two messages: `unit.start_failed` for the job, `unit.failed` for the unit.
const MESSAGES: [(u128, Message); 20] = [
    // SD_MESSAGE_UNIT_STARTING, _STARTED, _FAILED
    message(0x7d49_58e8_42da_4a75_8f6c_1cdc_7b36_dcc5, "unit.starting", 6),
    message(0x39f5_3479_d3a0_45ac_8e11_7862_4823_1fbf, "unit.start", 6),
    message(0xbe02_cf68_55d2_428b_a40d_f7e9_d022_f03d, "unit.start_failed", 3),
    // SD_MESSAGE_UNIT_STOPPING, _STOPPED, _RELOADED
    message(0xde5b_426a_63be_47a7_b6ac_3eaa_c82e_2f6f, "unit.stopping", 6),
    message(0x9d1a_aa27_d601_40bd_9636_5438_aad2_0286, "unit.stop", 6),
    message(0x7b05_ebc6_6838_4222_baa8_8811_79cf_da54, "unit.reload", 6),
    // SD_MESSAGE_UNIT_RESTART_SCHEDULED
    counting(
        0x5eb0_3494_b658_4870_a536_b337_2908_09b3,
        "unit.restarted",
        4,
        ("N_RESTARTS", "{restart}"),
    ),
    // SD_MESSAGE_UNIT_SUCCESS, _FAILURE_RESULT, _PROCESS_EXIT
    message(0x7ad2_d189_f7e9_4e70_a38c_7813_5491_2448, "unit.succeeded", 6),
    message(0xd9b3_73ed_55a6_4feb_8242_e02d_be79_a49c, "unit.failed", 3),
    message(0x98e3_2220_3f7a_4ed2_90d0_9fe0_3c09_fe15, "unit.process_exit", 6),
    // SD_MESSAGE_UNIT_OUT_OF_MEMORY, _OOMD_KILL
    message(0xfe6f_aa94_e777_4663_a0da_5271_7891_d8ef, "unit.oom_killed", 3),
    message(0xd989_611b_15e4_4c9d_bf31_e3c8_1256_e4ed, "unit.oomd_killed", 3),
    // SD_MESSAGE_SPAWN_FAILED
    message(0x6412_5765_1c1b_4ec9_a862_4d7a_40a9_e1e7, "unit.exec_failed", 3),
    // SD_MESSAGE_COREDUMP
    message(0xfc2e_22bc_6ee6_47b6_b907_29ab_34a2_50b1, "process.core_dumped", 3),
    // SD_MESSAGE_JOURNAL_DROPPED: journald refused lines of a service that sent too many.
    counting(0xa596_d6fe_7bfa_4994_828e_7230_9e95_d61e, SUPPRESSED, 4, ("N_DROPPED", "{line}")),
    // SD_MESSAGE_JOURNAL_MISSED: the kernel's ring buffer was overwritten before journald read it.
    message(0xe9bf_28e6_e834_481b_b6f4_8f54_8ad1_3606, "log.missed", 4),
    // SD_MESSAGE_JOURNAL_START
    message(0xf773_79a8_490b_408b_be5f_6940_505a_777b, "journal.start", 6),
    // SD_MESSAGE_TIME_CHANGE
    message(0xc7a7_8707_9b35_4eaa_a9e7_7b37_1893_cd27, "node.clock_changed", 5),
    // SD_MESSAGE_STARTUP_FINISHED, SD_MESSAGE_SHUTDOWN
    message(0xb07a_249c_d024_414a_82dd_00cd_1813_78ff, "node.started", 6),
    message(0x9826_8866_d1d5_4a49_9c4e_9892_1d93_bc40, "node.shutdown", 5),
];

/// Lines that journald refused.
pub(crate) const SUPPRESSED: &str = "log.suppressed";

/// The message with that id (32 hexadecimal digits, dashes allowed).
pub(crate) fn lookup(id: &str) -> Option<&'static Message> {
    let plain: String = id.chars().filter(|c| *c != '-').collect();
    let id = u128::from_str_radix(&plain, 16).ok().filter(|_| plain.len() == 32)?;
    MESSAGES.iter().find(|(known, _)| *known == id).map(|(_, m)| m)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_found_in_both_forms() {
        assert_eq!(lookup("d9b373ed55a64feb8242e02dbe79a49c").unwrap().kind, "unit.failed");
        assert_eq!(lookup("5EB03494-b658-4870-a536-b337290809b3").unwrap().kind, "unit.restarted");
        for none in ["", "d9b373ed", "zz", "ec387f577b844b8fa948f33cad9a75e6"] {
            assert_eq!(lookup(none), None, "{none}");
        }
    }

    #[test]
    fn ids_and_kinds_are_told_once() {
        assert_eq!(MESSAGES.iter().map(|m| m.0).collect::<BTreeSet<_>>().len(), MESSAGES.len());
        assert_eq!(
            MESSAGES.iter().map(|m| m.1.kind).collect::<BTreeSet<_>>().len(),
            MESSAGES.len()
        );
    }
}
