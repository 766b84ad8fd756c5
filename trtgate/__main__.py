"""``python -m trtgate``."""

from trtgate.cli import main

raise SystemExit(main())
