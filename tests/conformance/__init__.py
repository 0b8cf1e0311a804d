"""What every op must do, on every backend, instruction set and device: see op_case.py."""
