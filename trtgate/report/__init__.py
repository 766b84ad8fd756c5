"""Terminal, markdown and HTML reports: they print verdicts and decide nothing."""
