"""Pure: model, desired state, planner, role machine, keepalived text. No I/O, no clock."""
