"""Speed and memory beside peers, both sides in one run; `results/` keeps what was measured, with the machine."""
