"""The run report: one self-contained HTML page for people."""
