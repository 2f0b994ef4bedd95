//! The supervisor: units, graph, state machine.
